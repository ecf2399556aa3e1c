//! Cross-origin resource sharing (the Fetch standard, section 3.2): which other sites' scripts may read what
//! this server says. It guards people's browsers, not the server.

use crate::app::body::Reply;
use crate::config::responses::Origin;
use crate::http::chars::is_token;
use crate::http::head::Name;
use crate::http::list;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::http::vary::Vary;
use crate::proto::responder::{Common, Responder};

/// How long a browser remembers a preflight, in seconds: the longest that Chromium does.
const MAX_AGE: &str = "7200";

/// Makes every response say it, errors too: a script may read why it failed.
pub fn join(origin: &Origin, common: &mut Common) {
    let Origin(origin) = origin;
    common.add("Access-Control-Allow-Origin", origin);
    if origin != "*" {
        common.vary = common.vary.and(Vary::ORIGIN);
    }
}

/// Whether a browser asks on a script's behalf before it sends the request itself.
pub fn is_preflight(request: &Request) -> bool {
    request.head.has(Name::AccessControlRequestMethod)
}

/// Answers a preflight: these methods, and every field the script wants to send.
pub fn preflight(allow: &[u8], request: &Request, responder: Responder) -> Reply {
    let mut fields = responder.start(Status::NO_CONTENT);
    fields.field("Allow", allow);
    fields.field("Access-Control-Allow-Methods", allow);
    fields.field("Access-Control-Allow-Headers", allowed_fields(request));
    fields.field("Access-Control-Max-Age", MAX_AGE);
    fields.empty();
    Reply::Done
}

/// The names that were asked for, written anew; `*` where there are none or one of them is no name. The
/// names are better where there are some: `*` leaves Authorization out.
fn allowed_fields(request: &Request) -> Vec<u8> {
    let names = request.values(Name::AccessControlRequestHeaders).flat_map(list::elements);
    let mut value = Vec::new();
    for name in names {
        if !is_token(name) {
            return b"*".to_vec();
        }
        if !value.is_empty() {
            value.extend_from_slice(b", ");
        }
        value.extend_from_slice(name);
    }
    if value.is_empty() { b"*".to_vec() } else { value }
}
