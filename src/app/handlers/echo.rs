//! `GET /echo/{text}`: the text, percent-decoded; compressed when the client accepts it, however short.

use crate::app::App;
use crate::app::body::Reply;
use crate::app::reply::text::{self, Compress};
use crate::http::date::Now;
use crate::http::escape;
use crate::http::request::Request;
use crate::http::vary::Vary;
use crate::proto::responder::Responder;

pub fn answer(app: &App, request: &Request, responder: Responder, now: &Now) -> Reply {
    let text = escape::decode_lenient(request.path().strip_prefix(b"/echo/").unwrap_or_default());
    text::answer(request, responder, now, "text/plain", Vary::NOTHING, Compress::Gladly(&app.coders), &text)
}
