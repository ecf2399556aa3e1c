//! `request` shows a request as JSON, as the server parsed it. `POST /` sends the request's content back.
//!
//! In fields and in the target, each sequence of bytes that are not UTF-8 is shown as U+FFFD. Content that is not UTF-8
//! is shown as base64.

use crate::app::body::Reply;
use crate::app::exchange::Next;
use crate::app::handlers::debug::arguments::DebugData;
use crate::app::receive::Receive;
use crate::app::receive::gather::{self, Gather, Purpose};
use crate::cost;
use crate::http::escape;
use crate::http::head::Name;
use crate::http::request::Request;
use crate::proto::responder::Responder;
use std::io::Write;

pub fn request(tools: &DebugData, request: &Request, mut responder: Responder) -> Next {
    responder.spend(cost::DECODED_BYTE * request.head.len);
    received(gather::begin(Purpose::Inspect { json: open(request) }, &tools.spool, request, responder))
}

pub fn echo(tools: &DebugData, request: &Request, responder: Responder) -> Next {
    // RFC 9110, section 8.3: a recipient may guess the type of content that has none, so a type is always sent.
    let named = request.field(Name::ContentType).filter(|value| !value.is_empty());
    let content_type = named.unwrap_or(b"application/octet-stream").to_vec();
    received(gather::begin(Purpose::Echo { content_type }, &tools.spool, request, responder))
}

fn received(begun: Result<Box<Gather>, Reply>) -> Next {
    begun.map_or_else(Next::Reply, |gather| Next::Receive(Receive::Gather(gather)))
}

/// The JSON before the content: it is left open.
fn open(request: &Request) -> Vec<u8> {
    let bytes = request.bytes;
    let mut json = b"{".to_vec();
    member("method", request.head.method_token.of(bytes), &mut json);
    member("target", request.head.target.of(bytes), &mut json);
    member("path", request.path(), &mut json);
    pairs("query", escape::query_pairs(request.target.query().unwrap_or_default()), &mut json);
    member("version", format!("HTTP/1.{}", request.head.minor).as_bytes(), &mut json);
    member("peer", request.peer.to_string().as_bytes(), &mut json);
    pairs("fields", request.fields(), &mut json);
    json
}

fn member(name: &str, value: &[u8], json: &mut Vec<u8>) {
    let _ = write!(json, "\n  \"{name}\": ");
    escape::json_string(value, json);
    json.push(b',');
}

/// Writes pairs as a list of lists, because a name may occur twice and the order matters.
fn pairs<T: AsRef<[u8]>>(name: &str, pairs: impl Iterator<Item = (T, T)>, json: &mut Vec<u8>) {
    let _ = write!(json, "\n  \"{name}\": [");
    for (index, (key, value)) in pairs.enumerate() {
        json.extend_from_slice(if index == 0 { b"\n    [" } else { b",\n    [" });
        escape::json_string(key.as_ref(), json);
        json.extend_from_slice(b", ");
        escape::json_string(value.as_ref(), json);
        json.push(b']');
    }
    json.extend_from_slice(b"],");
}
