//! `TRACE`: the request's head is sent back as message/http, so that a client sees what arrived (RFC 9110, section
//! 9.3.8).
//!
//! An origin server is always the final recipient. Max-Forwards limits forwarding only (section 7.6.2), and is sent
//! back like any other field.

use crate::app::body::Reply;
use crate::app::reply::page::{self, Format};
use crate::http::field;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::proto::responder::Responder;

/// "The final recipient of the request SHOULD exclude any request fields that are likely to contain sensitive data": a
/// script of another site could make a browser send these fields, and read them in the response.
const CREDENTIALS: [&[u8]; 3] = [b"authorization", b"cookie", b"proxy-authorization"];

pub fn answer(request: &Request, responder: Responder) -> Reply {
    if request.has_content {
        let sentence = "A TRACE request has no content.";
        return page::error(Format::of(request), responder, Status::BAD_REQUEST, sentence);
    }
    let mut message = request.line().to_vec();
    message.extend_from_slice(b"\r\n");
    for (name, value) in request.fields() {
        if CREDENTIALS.iter().any(|credentials| name.eq_ignore_ascii_case(credentials)) {
            continue;
        }
        field::push_line(&mut message, name, value);
    }
    message.extend_from_slice(b"\r\n");
    let mut fields = responder.start(Status::OK);
    fields.field("Content-Type", "message/http");
    fields.field("X-Content-Type-Options", "nosniff");
    fields.content(&message);
    Reply::Done
}
