//! `GET /echo/{text}`: the text, percent-decoded. It is compressed whenever the client accepts that, however short it
//! is.

use crate::app::body::Reply;
use crate::app::compress::Coders;
use crate::app::reply::text::{self, Compress};
use crate::http::date::Now;
use crate::http::escape;
use crate::http::request::Request;
use crate::http::rest::Rest;
use crate::http::vary::Vary;
use crate::proto::responder::Responder;
use std::sync::Arc;

#[derive(Debug)]
pub struct Echo {
    pub coders: Arc<Coders>,
}

impl Echo {
    /// The text is the encoded rest of the path, so that several slashes in a row are kept.
    pub fn answer(&self, request: &Request, rest: &Rest, responder: Responder, now: &Now) -> Reply {
        let text = escape::decode_lenient(rest.encoded);
        text::answer(request, responder, now, "text/plain", Vary::NOTHING, Compress::Preferred(&self.coders), &text)
    }
}
