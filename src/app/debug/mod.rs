//! Endpoints for people who write or test clients: they show a request as the server saw it and answer in
//! every way a server can. Off unless asked for: they reflect what they are sent.

pub mod delay;

use crate::app::App;
use crate::app::exchange::Next;
use crate::app::pages::{self, Format};
use crate::app::routes::Route;
use crate::http::method::Methods;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::proto::responder::Responder;

/// The routes below a prefix.
pub fn routes(prefix: &str) -> Vec<Route> {
    let below = |path: &str| format!("{prefix}{path}");
    vec![
        Route::below(below("delay/"), "{seconds}", Methods::READ, delay::delay, "waits, then answers"),
        Route::at(below("drip"), "?bytes=&duration=&delay=", Methods::READ, delay::drip, "content bit by bit"),
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

/// An argument that makes no sense, and the sentence that says which one would.
struct Bad(&'static str);

impl Bad {
    fn answer(&self, request: &Request, responder: Responder) -> Next {
        pages::error(Format::of(request), responder, Status::BAD_REQUEST, self.0)
    }
}
