//! Content codings that this server makes itself: which coding has which compressor.

use crate::app::body::Reply;
use crate::app::compress::{Coders, Compressor};
use crate::app::reply::page::{self, Format};
use crate::http::accept::Coding;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::http::vary::Vary;
use crate::proto::responder::Responder;
use std::borrow::Cow;
use std::io;

/// The compressor of a coding. `None` for identity, and for the codings that this server cannot make.
pub fn compressor(coding: Coding) -> Option<Compressor> {
    match coding {
        Coding::Gzip => Some(Compressor::Gzip),
        Coding::Deflate => Some(Compressor::Deflate),
        Coding::Identity | Coding::Br | Coding::Zstd => None,
    }
}

/// Puts small content into a coding. With `Identity` the content is returned as it is.
pub fn code<'a>(coding: Coding, content: &'a [u8], coders: &Coders) -> io::Result<Cow<'a, [u8]>> {
    match compressor(coding) {
        Some(compressor) => coders.compress(compressor, content).map(Cow::Owned),
        None => Ok(Cow::Borrowed(content)),
    }
}

/// Answers 406: the client's Accept-Encoding excludes every coding that can be offered, identity too.
pub fn not_acceptable(request: &Request, responder: Responder) -> Reply {
    let mut fields = responder.start(Status::NOT_ACCEPTABLE);
    fields.vary(Vary::ACCEPT_ENCODING);
    let sentence =
        "This can be sent uncompressed, as gzip or as deflate; the request's Accept-Encoding allows none of these.";
    page::finish_error(Format::of(request), fields, Status::NOT_ACCEPTABLE, sentence)
}

/// Answers 503: the client's Accept-Encoding excludes identity, and all coders are in use.
pub fn no_coder(format: Format, responder: Responder) -> Reply {
    let mut fields = responder.start(Status::SERVICE_UNAVAILABLE);
    fields.field("Retry-After", "1");
    fields.vary(Vary::ACCEPT_ENCODING);
    let sentence = "All compressors of this server are in use, and the request's Accept-Encoding excludes uncompressed \
                    content; try again soon, or accept identity.";
    page::finish_error(format, fields, Status::SERVICE_UNAVAILABLE, sentence)
}
