//! `GET /user-agent`: what the client calls itself.

use crate::app::App;
use crate::app::exchange::Next;
use crate::app::generated::{self, Compress};
use crate::app::pages::{self, Format};
use crate::http::date::Now;
use crate::http::head::Name;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::http::vary::Vary;
use crate::proto::responder::Responder;

pub fn answer(app: &App, request: &Request, responder: Responder, now: &Now) -> Next {
    let Some(agent) = request.field(Name::UserAgent) else {
        let sentence = "The request has no User-Agent field to show.";
        return pages::error(Format::of(request), responder, Status::BAD_REQUEST, sentence);
    };
    generated::answer(request, responder, now, "text/plain", Vary::USER_AGENT, Compress::WhenNeeded(&app.coders), agent)
}
