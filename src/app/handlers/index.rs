//! `GET /` if no site is served: a text page with the list of routes.

use crate::app::body::Reply;
use crate::app::compress::Coders;
use crate::app::reply::page::Format;
use crate::app::reply::text::{self, Compress};
use crate::http::date::Now;
use crate::http::request::Request;
use crate::http::vary::Vary;
use crate::proto::responder::{Responder, SERVER};
use std::sync::Arc;

#[derive(Debug)]
pub struct Index {
    pub coders: Arc<Coders>,
    /// One line per route, this one included. Filled in when all routes are known.
    pub lines: Vec<String>,
}

impl Index {
    pub fn answer(&self, request: &Request, responder: Responder, now: &Now) -> Reply {
        let text = format!("{SERVER} serves\n\n{}\n", self.lines.join("\n"));
        let (content_type, compress) = (Format::Plain.content_type(), Compress::OnlyIfRequired(&self.coders));
        text::answer(request, responder, now, content_type, Vary::NOTHING, compress, text.as_bytes())
    }
}
