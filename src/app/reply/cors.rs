//! Cross-origin resource sharing (the Fetch standard, section 3.2): the scripts of which other sites may read the
//! responses of this server. It protects the users of browsers, not the server.

use crate::app::body::Reply;
use crate::config::responses::AllowedOrigin;
use crate::http::chars::is_token;
use crate::http::head::Name;
use crate::http::list;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::http::vary::Vary;
use crate::proto::responder::{Common, Responder};

/// How long a browser may cache the answer to a preflight, in seconds. Chromium caches no longer than this.
const MAX_AGE: &str = "7200";

/// Adds the fields to every response, errors included, so that a script can read why a request failed.
pub fn add_fields(origin: &AllowedOrigin, common: &mut Common) {
    let AllowedOrigin(origin) = origin;
    common.add("Access-Control-Allow-Origin", origin);
    if origin != "*" {
        common.vary = common.vary.and(Vary::ORIGIN);
    }
}

/// Whether an OPTIONS request is a preflight: a browser asks whether a script may send the actual request.
pub fn is_preflight(request: &Request) -> bool {
    request.head.has(Name::AccessControlRequestMethod)
}

/// Answers a preflight: allows these methods, and every field that the script wants to send.
pub fn preflight(allow: &[u8], request: &Request, responder: Responder) -> Reply {
    let mut fields = responder.start(Status::NO_CONTENT);
    fields.field("Allow", allow);
    fields.field("Access-Control-Allow-Methods", allow);
    fields.field("Access-Control-Allow-Headers", allowed_fields(request));
    fields.field("Access-Control-Max-Age", MAX_AGE);
    fields.empty();
    Reply::Done
}

/// The value of Access-Control-Allow-Headers: the field names that the preflight asks for. `*` if there is none, or if one
/// is not a token, which would be invalid in the response. Names are preferred, because `*` does not include Authorization.
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
