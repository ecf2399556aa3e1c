//! Endpoints for writing and testing clients: they show a request as the server parsed it, and answer in many ways.
//! They are off by default, because they send back bytes that a client sent.

pub mod answers;
pub mod arguments;
pub mod cookies;
pub mod inspect;
pub mod slow;
pub mod stream;

use crate::app::exchange::Next;
use crate::app::handlers::debug::arguments::DebugData;
use crate::http::date::Now;
use crate::http::method::{Method, Methods};
use crate::http::request::Request;
use crate::http::rest::Rest;
use crate::proto::responder::Responder;
use std::sync::Arc;

/// One of the endpoints.
#[derive(Debug)]
pub struct Debug {
    endpoint: Endpoint,
    tools: Arc<DebugData>,
}

#[derive(Clone, Copy, Debug)]
enum Endpoint {
    Request,
    Status,
    Redirect,
    Delay,
    Drip,
    Bytes,
    Lines,
    Cookies,
    SetCookies,
    DeleteCookies,
    Echo,
}

/// The path of an endpoint, and what the list of routes shows about it.
#[derive(Debug)]
pub struct EndpointPath {
    pub path: String,
    /// Whether the endpoint answers every path that begins with `path`, or `path` only.
    pub is_prefix: bool,
    /// The argument in the path or the query, as it is shown to people.
    pub hint: &'static str,
    pub allow: Methods,
    pub about: &'static str,
}

/// All endpoints.
pub fn all(tools: DebugData) -> Vec<(EndpointPath, Debug)> {
    let tools = Arc::new(tools);
    // Methods with content too, so that a client's own requests can be tested.
    let any = Methods::READ.with(Method::Post).with(Method::Put).with(Method::Patch).with(Method::Delete);
    let read = Methods::READ;
    let post = Methods::NONE.with(Method::Post);
    let below = [
        ("request", "", any, Endpoint::Request, "the request as JSON"),
        ("status/", "{code}", any, Endpoint::Status, "a response of this status"),
        ("redirect/", "{n}", read, Endpoint::Redirect, "a chain of redirections"),
        ("delay/", "{seconds}", read, Endpoint::Delay, "waits, then answers"),
        ("drip", "?bytes=&duration=&delay=", read, Endpoint::Drip, "content bit by bit"),
        ("bytes/", "{n}?seed=", read, Endpoint::Bytes, "n random bytes"),
        ("stream/", "{n}", read, Endpoint::Lines, "n lines of JSON"),
    ];
    let cookies = [
        ("cookies", "", read, Endpoint::Cookies, "the request's cookies"),
        ("cookies/set", "?name=value", read, Endpoint::SetCookies, "sets cookies"),
        ("cookies/delete", "?name", read, Endpoint::DeleteCookies, "deletes cookies"),
    ];
    let echo = [("", "", post, Endpoint::Echo, "the request's content")];
    let here = below.into_iter().chain(cookies).map(|endpoint| (tools.prefix.as_str(), endpoint));
    let all = here.chain(cookies.into_iter().chain(echo).map(|endpoint| ("/", endpoint)));
    let all = all.map(|(prefix, (path, hint, allow, endpoint, about))| {
        let place =
            EndpointPath { path: format!("{prefix}{path}"), is_prefix: path.ends_with('/'), hint, allow, about };
        (place, Debug { endpoint, tools: Arc::clone(&tools) })
    });
    all.collect()
}

impl Debug {
    pub fn answer(&self, request: &Request, rest: &Rest, responder: Responder, now: &Now) -> Next {
        let (tools, argument) = (&*self.tools, rest.encoded);
        match self.endpoint {
            Endpoint::Request => inspect::request(tools, request, responder),
            Endpoint::Status => answers::status(tools, argument, request, responder).into(),
            Endpoint::Redirect => answers::redirect(tools, argument, request, responder, now).into(),
            Endpoint::Delay => slow::delay(argument, request, responder, now),
            Endpoint::Drip => slow::drip(request, responder, now),
            Endpoint::Bytes => stream::bytes(argument, request, responder).into(),
            Endpoint::Lines => stream::lines(argument, request, responder).into(),
            Endpoint::Cookies => cookies::show(tools, request, responder, now).into(),
            Endpoint::SetCookies => cookies::set(request, responder).into(),
            Endpoint::DeleteCookies => cookies::delete(request, responder).into(),
            Endpoint::Echo => inspect::echo(tools, request, responder),
        }
    }
}
