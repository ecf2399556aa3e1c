//! `GET /` where no site is served: a short text page of the routes.

use crate::app::App;
use crate::app::body::Reply;
use crate::app::reply::page::Format;
use crate::app::reply::text::{self, Compress};
use crate::app::routes::Route;
use crate::http::date::Now;
use crate::http::request::Request;
use crate::http::vary::Vary;
use crate::proto::responder::Responder;

pub fn answer(app: &App, request: &Request, responder: Responder, now: &Now) -> Reply {
    let mut text = format!("{} serves\n\n", crate::app::SERVER);
    for line in lines(app) {
        text.push_str(&line);
        text.push('\n');
    }
    let content_type = Format::Plain.content_type();
    text::answer(
        request,
        responder,
        now,
        content_type,
        Vary::NOTHING,
        Compress::WhenNeeded(&app.coders),
        text.as_bytes(),
    )
}

/// A line a route: its methods, its path, what it is.
pub fn lines(app: &App) -> Vec<String> {
    let width = |text: fn(&Route) -> &str| app.routes.iter().map(|route| text(route).len()).max().unwrap_or_default();
    let (shown, about) = (width(|route| &route.shown), width(|route| route.about));
    let lines = app.routes.iter().map(|route| {
        let mut allow = Vec::new();
        route.allow.write(&mut allow);
        format!("{:<shown$}  {:<about$}  {}", route.shown, route.about, String::from_utf8_lossy(&allow))
    });
    lines.collect()
}
