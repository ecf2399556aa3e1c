//! `cookies` shows the cookies of a request. `cookies/set` and `cookies/delete` change the cookies of the client.
//! The endpoints are served below the prefix, and at `/cookies` as well.

use crate::app::body::Reply;
use crate::app::handlers::debug::arguments::{self, BadArgument, DebugData};
use crate::app::reply::page::Format;
use crate::app::reply::text::{self, Compress};
use crate::http::cookie::{self, BadCookie, SameSite, SetCookie};
use crate::http::date::Now;
use crate::http::escape;
use crate::http::head::Name;
use crate::http::request::Request;
use crate::http::vary::Vary;
use crate::proto::responder::Responder;
use std::collections::HashSet;

/// Most cookies that one request can set. Browsers keep at least 50 cookies per host (RFC 6265, section 6.1).
const MOST: usize = 50;

pub fn show(tools: &DebugData, request: &Request, responder: Responder, now: &Now) -> Reply {
    let content_type = Format::Json.content_type();
    text::answer(
        request,
        responder,
        now,
        content_type,
        Vary::COOKIE,
        Compress::OnlyIfRequired(&tools.coders),
        &to_json(request),
    )
}

pub fn set(request: &Request, responder: Responder) -> Reply {
    change(request, responder, |name, value| SetCookie::new(name, value))
}

pub fn delete(request: &Request, responder: Responder) -> Reply {
    change(request, responder, |name, _| {
        let mut cookie = SetCookie::new(name, b"")?;
        cookie.max_age = Some(0);
        Ok(cookie)
    })
}

/// The cookies as a JSON object. If several have the same name, the first one is shown: it has the longest path (RFC
/// 6265, section 5.4).
fn to_json(request: &Request) -> Vec<u8> {
    let mut json = b"{".to_vec();
    let mut seen = HashSet::new();
    for (name, value) in request.values(Name::Cookie).flat_map(cookie::parse) {
        // Compares the names as they are shown: two names may differ only in bytes that both become U+FFFD.
        if !seen.insert(String::from_utf8_lossy(name)) {
            continue;
        }
        json.extend_from_slice(if seen.len() == 1 { b"\n  " } else { b",\n  " });
        escape::json_string(name, &mut json);
        json.extend_from_slice(b": ");
        escape::json_string(value, &mut json);
    }
    json.extend_from_slice(b"\n}\n");
    json
}

/// Sets a cookie for each pair of the query, and redirects to the endpoint that shows the cookies.
fn change(
    request: &Request,
    responder: Responder,
    cookie: impl for<'a> Fn(&'a [u8], &'a [u8]) -> Result<SetCookie<'a>, BadCookie>,
) -> Reply {
    let mut lines = Vec::new();
    for (index, (name, value)) in escape::query_pairs(request.target.query().unwrap_or_default()).enumerate() {
        if index == MOST {
            return BadArgument("The query names 50 cookies at most.").answer(request, responder);
        }
        match cookie(&name, &value).and_then(|cookie| cookie.with_path(b"/")) {
            Ok(mut cookie) => {
                cookie.http_only = true;
                cookie.same_site = Some(SameSite::Lax);
                lines.extend_from_slice(b"Set-Cookie: ");
                cookie.write(&mut lines);
                lines.extend_from_slice(b"\r\n");
            }
            Err(bad) => return BadArgument(sentence(bad)).answer(request, responder),
        }
    }
    if lines.is_empty() {
        return BadArgument("The query names the cookies, as in ?name=value.").answer(request, responder);
    }
    // `/debug/cookies/set` and `/debug/cookies/delete` redirect to `/debug/cookies`.
    let path = request.path();
    let above = path.iter().rposition(|&byte| byte == b'/').unwrap_or_default();
    arguments::redirect(&path[..above], &lines, responder)
}

fn sentence(bad: BadCookie) -> &'static str {
    match bad {
        BadCookie::Name => "A cookie's name is a token: letters, digits and !#$%&'*+-.^_`|~.",
        BadCookie::Value | BadCookie::Path => {
            "A cookie's value has no control byte, space, quote, comma, semicolon or backslash, and is ASCII."
        }
    }
}
