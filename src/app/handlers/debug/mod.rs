//! Endpoints for people who write or test clients: they show a request as the server saw it and answer in
//! every way a server can. Off unless asked for: they reflect what they are sent.

pub mod answers;
pub mod cookies;
pub mod delay;
pub mod inspect;
pub mod stream;

use crate::app::App;
use crate::app::body::Reply;
use crate::app::reply::page::{self, Format};
use crate::app::routes::Route;
use crate::http::method::{Method, Methods};
use crate::http::request::Request;
use crate::http::status::Status;
use crate::proto::responder::Responder;

/// The routes below a prefix.
pub fn routes(prefix: &str) -> Vec<Route> {
    let below = |path: &str| format!("{prefix}{path}");
    // What a client may send anywhere, to see what becomes of it.
    let any = Methods::READ.with(Method::Post).with(Method::Put).with(Method::Patch).with(Method::Delete);
    let read = Methods::READ;
    let post = Methods::NONE.with(Method::Post);
    let shown = "the request's cookies";
    let (set, deleted) = ("sets cookies", "deletes cookies");
    vec![
        Route::at(below("request"), "", any, inspect::request, "the request as it was seen"),
        Route::below(
            below("status/"),
            "{code}",
            any,
            |app, request, responder, now| answers::status(app, request, responder, now).into(),
            "a response of this status",
        ),
        Route::below(
            below("redirect/"),
            "{n}",
            read,
            |app, request, responder, now| answers::redirect(app, request, responder, now).into(),
            "a chain of redirections",
        ),
        Route::below(below("delay/"), "{seconds}", read, delay::delay, "waits, then answers"),
        Route::at(below("drip"), "?bytes=&duration=&delay=", read, delay::drip, "content bit by bit"),
        Route::below(
            below("bytes/"),
            "{n}?seed=",
            read,
            |app, request, responder, now| stream::bytes(app, request, responder, now).into(),
            "so many bytes",
        ),
        Route::below(
            below("stream/"),
            "{n}",
            read,
            |app, request, responder, now| stream::lines(app, request, responder, now).into(),
            "so many lines of JSON",
        ),
        Route::at(
            below("cookies"),
            "",
            read,
            |app, request, responder, now| cookies::show(app, request, responder, now).into(),
            shown,
        ),
        Route::at(
            below("cookies/set"),
            "?name=value",
            read,
            |app, request, responder, now| cookies::set(app, request, responder, now).into(),
            set,
        ),
        Route::at(
            below("cookies/delete"),
            "?name",
            read,
            |app, request, responder, now| cookies::delete(app, request, responder, now).into(),
            deleted,
        ),
        Route::at(
            "/cookies",
            "",
            read,
            |app, request, responder, now| cookies::show(app, request, responder, now).into(),
            shown,
        ),
        Route::at(
            "/cookies/set",
            "?name=value",
            read,
            |app, request, responder, now| cookies::set(app, request, responder, now).into(),
            set,
        ),
        Route::at(
            "/cookies/delete",
            "?name",
            read,
            |app, request, responder, now| cookies::delete(app, request, responder, now).into(),
            deleted,
        ),
        Route::at("/", "", post, inspect::echo, "the request's content"),
    ]
}

/// What stands behind the route's own path: `5` of `/debug/delay/5`.
fn argument<'a>(app: &App, request: &'a Request, route: &str) -> &'a [u8] {
    let prefix = app.debug_prefix.as_deref().unwrap_or_default();
    let rest = request.path().strip_prefix(prefix.as_bytes());
    rest.and_then(|rest| rest.strip_prefix(route.as_bytes())).unwrap_or_default()
}

/// Digits only, up to `most`.
fn number(text: &[u8], most: u64) -> Option<u64> {
    let number = crate::units::number(std::str::from_utf8(text).ok()?).ok()?;
    (number <= most).then_some(number)
}

/// Leads to another path of this server, with these field lines.
fn redirect(location: &[u8], lines: &[u8], responder: Responder) -> Reply {
    let mut fields = responder.start(Status::FOUND);
    fields.field("Location", location);
    fields.lines(lines);
    fields.empty();
    Reply::Done
}

/// An argument that makes no sense, and the sentence that says which one would.
struct Bad(&'static str);

impl Bad {
    fn answer(&self, request: &Request, responder: Responder) -> Reply {
        page::error(Format::of(request), responder, Status::BAD_REQUEST, self.0)
    }
}
