//! `GET /echo/{text}`: the text, percent-decoded; compressed when the client accepts it, however short.

use crate::app::App;
use crate::app::coding;
use crate::app::exchange::Next;
use crate::app::pages::{self, Format};
use crate::http::accept::{self, Choice, Coding};
use crate::http::date::Now;
use crate::http::escape;
use crate::http::head::Name;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::proto::responder::Responder;

pub fn answer(_app: &App, request: &Request, responder: Responder, _now: &Now) -> Next {
    let text = escape::decode_lenient(request.path().strip_prefix(b"/echo/").unwrap_or_default());
    let offered = [Coding::Gzip, Coding::Deflate, Coding::Identity];
    let Choice::Use(coding) = accept::negotiate(request.values(Name::AcceptEncoding), &offered) else {
        return coding::not_acceptable(request, responder);
    };
    let Ok(content) = coding::code(coding, &text) else {
        let sentence = "The text could not be compressed.";
        return pages::error(Format::of(request), responder, Status::INTERNAL_SERVER_ERROR, sentence);
    };
    let mut fields = responder.start(Status::OK);
    fields.field("Content-Type", "text/plain");
    if coding != Coding::Identity {
        fields.field("Content-Encoding", coding.name());
    }
    fields.field("Vary", "Accept-Encoding");
    fields.content(&content);
    Next::Done
}
