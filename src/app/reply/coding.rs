//! Content codings that are made on the fly: which name stands for which compressor.

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

/// The compressor of a coding; `None` where there is none, identity above all.
pub fn compressor(coding: Coding) -> Option<Compressor> {
    match coding {
        Coding::Gzip => Some(Compressor::Gzip),
        Coding::Deflate => Some(Compressor::Deflate),
        Coding::Identity | Coding::Br | Coding::Zstd => None,
    }
}

/// Small content in a coding.
pub fn code<'a>(coding: Coding, content: &'a [u8], coders: &Coders) -> io::Result<Cow<'a, [u8]>> {
    match compressor(coding) {
        Some(compressor) => coders.compress(compressor, content).map(Cow::Owned),
        None => Ok(Cow::Borrowed(content)),
    }
}

/// The client excludes every coding there is, identity too.
pub fn not_acceptable(request: &Request, responder: Responder) -> Reply {
    let mut fields = responder.start(Status::NOT_ACCEPTABLE);
    fields.vary(Vary::ACCEPT_ENCODING);
    let sentence =
        "This can be sent as it is or as gzip or deflate; the request's Accept-Encoding allows none of these.";
    page::finish_error(Format::of(request), fields, Status::NOT_ACCEPTABLE, sentence)
}

/// The client excludes what is not compressed, and as much is being compressed as may be.
pub fn no_coder(format: Format, responder: Responder) -> Reply {
    let mut fields = responder.start(Status::SERVICE_UNAVAILABLE);
    fields.field("Retry-After", "1");
    fields.vary(Vary::ACCEPT_ENCODING);
    let sentence = "The server compresses as much as it may at the moment, and the request's Accept-Encoding excludes what \
                    is not compressed; try again soon, or accept identity.";
    page::finish_error(format, fields, Status::SERVICE_UNAVAILABLE, sentence)
}
