//! `GET /` where no site is served: a short text page of the routes.

use crate::app::App;
use crate::app::exchange::Next;
use crate::app::pages::Format;
use crate::http::date::Now;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::proto::responder::Responder;

pub fn answer(app: &App, _request: &Request, responder: Responder, _now: &Now) -> Next {
    let mut text = format!("{} serves\n\n", crate::app::SERVER);
    for line in lines(app) {
        text.push_str(&line);
        text.push('\n');
    }
    let mut fields = responder.start(Status::OK);
    fields.field("Content-Type", Format::Plain.content_type());
    fields.content(text.as_bytes());
    Next::Done
}

/// A line a route: its methods, its path, what it is.
pub fn lines(app: &App) -> Vec<String> {
    let lines = app.routes.iter().map(|route| {
        let mut allow = Vec::new();
        route.allow.write(&mut allow);
        format!("{:<14} {:<24} {}", route.shown, route.about, String::from_utf8_lossy(&allow))
    });
    lines.collect()
}
