//! `GET /user-agent`: the value of the request's User-Agent field.

use crate::app::body::Reply;
use crate::app::compress::Coders;
use crate::app::reply::page::{self, Format};
use crate::app::reply::text::{self, Compress};
use crate::http::date::Now;
use crate::http::head::Name;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::http::vary::Vary;
use crate::proto::responder::Responder;
use std::sync::Arc;

#[derive(Debug)]
pub struct UserAgent {
    pub coders: Arc<Coders>,
}

impl UserAgent {
    pub fn answer(&self, request: &Request, responder: Responder, now: &Now) -> Reply {
        let Some(agent) = request.field(Name::UserAgent) else {
            let sentence = "The request has no User-Agent field to show.";
            return page::error(Format::of(request), responder, Status::BAD_REQUEST, sentence);
        };
        text::answer(
            request,
            responder,
            now,
            "text/plain",
            Vary::USER_AGENT,
            Compress::OnlyIfRequired(&self.coders),
            agent,
        )
    }
}
