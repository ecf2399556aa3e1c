//! Which fields a proxy passes on, and which it writes itself (RFC 9110, section 7.6). Fields about one connection are
//! not passed on. Fields about the servers in between (`Via`, `Forwarded`) are written here.

use crate::app::forward::protocol::ResponseSink;
use crate::app::forward::rewrite::Rewriting;
use crate::http::field::{HOP_BY_HOP, push_line};
use crate::http::forwarded::{self, is_one_of, speaks_for_a_client};
use crate::http::head::{Field, Name};
use crate::http::list;
use crate::http::method::Method;
use crate::http::number;
use crate::http::request::Request;
use crate::http::response::ResponseHead;
use crate::http::status::Status;
use crate::proto::buffer::Buffer;
use crate::proto::client::ResponseContent;
use std::io::Write;
use std::net::IpAddr;

/// More fields that are not passed on: the framing and `Via` are written anew, and `HTTP2-Settings` belongs to an
/// upgrade that is never passed on.
const NOT_PASSED: [&str; 3] = ["content-length", "http2-settings", "via"];
/// Request fields that are written anew. `Proxy` is dropped: no client needs it, and a CGI script would take it for its
/// HTTP_PROXY.
const OURS: [&str; 9] = [
    "expect",
    "forwarded",
    "host",
    "max-forwards",
    "proxy",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-prefix",
    "x-forwarded-proto",
];
/// The name under which this server appears in `Via`.
const PSEUDONYM: &str = "dustdevil";

/// The fields that are passed on: neither hop-by-hop fields, nor those that `Connection` names.
fn passing<'a>(fields: &'a [Field], bytes: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    let listed = |name: &[u8]| {
        let connections = fields.iter().filter(|field| field.known == Name::Connection);
        connections.flat_map(|field| list::elements(field.value.of(bytes))).any(|one| one.eq_ignore_ascii_case(name))
    };
    let all = fields.iter().map(|field| (field.name.of(bytes), field.value.of(bytes)));
    all.filter(move |(name, _)| !is_one_of(&HOP_BY_HOP, name) && !is_one_of(&NOT_PASSED, name) && !listed(name))
}

/// The values of a field that the server has no `Name` for, as one list.
fn joined<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>, name: &str) -> Vec<u8> {
    let values: Vec<&[u8]> =
        fields.filter(|(key, _)| key.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value).collect();
    values.join(&b", "[..])
}

/// A list with one more element.
fn append(mut list: Vec<u8>, element: &[u8]) -> Vec<u8> {
    if !list.is_empty() {
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(element);
    list
}

// ---- the request

/// What the fields of a request depend on besides the request.
#[derive(Clone, Copy, Debug)]
pub struct Passing<'a> {
    /// The protocols that the client asks to upgrade to.
    pub upgrade: Option<&'a [u8]>,
    /// The client is a trusted proxy.
    pub trusted: bool,
    /// The value of X-Forwarded-Prefix; empty if the field is not sent.
    pub prefix: &'a [u8],
}

/// Writes the request's fields, without those that frame its content.
pub fn write_request(request: &Request, passing_on: Passing, out: &mut Vec<u8>) {
    let Passing { upgrade, trusted, prefix } = passing_on;
    push_line(out, b"Host", request.host());
    for (name, value) in passing(&request.head.fields, request.bytes) {
        if !is_one_of(&OURS, name) && (trusted || !speaks_for_a_client(name)) {
            push_line(out, name, value);
        }
    }
    if let Some(hops) = max_forwards(request) {
        let counts = matches!(request.method(), Method::Options | Method::Trace);
        let hops = if counts { hops.saturating_sub(1) } else { hops };
        push_line(out, b"Max-Forwards", hops.to_string().as_bytes());
    }
    let before = |name| if trusted { joined(request.fields(), name) } else { Vec::new() };
    let or = |value: Vec<u8>, own: &[u8]| if value.is_empty() { own.to_vec() } else { value };
    let peer = request.peer.to_canonical();
    push_line(out, b"X-Forwarded-For", &append(before("x-forwarded-for"), peer.to_string().as_bytes()));
    push_line(out, b"X-Forwarded-Proto", &or(before("x-forwarded-proto"), b"http"));
    let host = forwarded_host(request, trusted);
    if !host.is_empty() {
        push_line(out, b"X-Forwarded-Host", &host);
    }
    if !prefix.is_empty() {
        push_line(out, b"X-Forwarded-Prefix", prefix);
    }
    push_line(out, b"Forwarded", &append(before("forwarded"), &forwarded(peer, request.host())));
    push_line(out, b"Via", &append(joined(request.fields(), "via"), &via(request.head.minor)));
    if let Some(protocol) = upgrade {
        push_line(out, b"Connection", b"Upgrade");
        push_line(out, b"Upgrade", protocol);
    }
}

/// The value of X-Forwarded-Host: from the request if a trusted proxy sent it, otherwise the request's host.
pub fn forwarded_host(request: &Request, trusted: bool) -> Vec<u8> {
    let said = if trusted { joined(request.fields(), "x-forwarded-host") } else { Vec::new() };
    if said.is_empty() { request.host().to_vec() } else { said }
}

/// The value of X-Forwarded-Prefix: the prefix that trusted proxies before this server have removed from the path, and
/// `own`, which this server removes. They are joined to one path, because applications read it as one. An invalid
/// prefix counts as absent, as it does for applications of this server.
pub fn forwarded_prefix(request: &Request, trusted: bool, own: &str) -> Vec<u8> {
    let said = if trusted { forwarded::prefix(request.head, request.bytes) } else { None };
    [said.unwrap_or_default(), own.as_bytes()].concat()
}

/// How many servers of this name a request has passed (RFC 9110, section 7.6.3). Many mean a loop.
pub fn times_passed_here(request: &Request) -> usize {
    let via = request.fields().filter(|(name, _)| name.eq_ignore_ascii_case(b"via"));
    via.flat_map(|(_, value)| list::elements(value)).filter(|hop| hop.ends_with(PSEUDONYM.as_bytes())).count()
}

/// How many more servers a request may pass (RFC 9110, section 7.6.2).
pub fn max_forwards(request: &Request) -> Option<u64> {
    let (_, value) = request.fields().find(|(name, _)| name.eq_ignore_ascii_case(b"max-forwards"))?;
    number::parse(value)
}

/// The element of Forwarded (RFC 7239, section 4). An IPv6 address and a host with a port need quotes.
fn forwarded(peer: IpAddr, host: &[u8]) -> Vec<u8> {
    let mut element = Vec::new();
    // Writing to a Vec cannot fail.
    let _ = match peer {
        IpAddr::V4(address) => write!(element, "for={address}"),
        IpAddr::V6(address) => write!(element, "for=\"[{address}]\""),
    };
    // The host has been checked: it contains no quote and no backslash.
    if !host.is_empty() {
        element.extend_from_slice(b";host=\"");
        element.extend_from_slice(host);
        element.push(b'"');
    }
    element.extend_from_slice(b";proto=http");
    element
}

fn via(minor: u8) -> Vec<u8> {
    format!("1.{minor} {PSEUDONYM}").into_bytes()
}

// ---- the response

/// Writes the head of the final response, framed for the client. `Date`, `Server` and all fields about the content
/// (codings, validators, ranges) are the upstream's. `rewriting`: how the upstream's places are named for the client.
pub fn relay(
    head: &ResponseHead,
    bytes: &[u8],
    content: &ResponseContent,
    rewriting: Option<&Rewriting>,
    sink: &mut ResponseSink,
) {
    let mut lines = Vec::with_capacity(head.len);
    let mut has_date = false;
    let common = sink.common;
    for (name, value) in passing(&head.fields, bytes).filter(|(name, _)| !common.replaces(name)) {
        has_date |= name.eq_ignore_ascii_case(b"date");
        match rewriting {
            Some(rewriting) => push_line(&mut lines, name, &rewriting.value(name, value)),
            None => push_line(&mut lines, name, value),
        }
    }
    if !has_date {
        push_line(&mut lines, b"Date", sink.now.imf());
    }
    write_via(head, bytes, &mut lines);
    // For HEAD and 304, Content-Length is the length that a 200 to GET would have.
    let told = head.values(bytes, Name::ContentLength).next().and_then(number::parse);
    let mut fields = sink.responder().relay(Status(head.status), head.reason.of(bytes), false);
    fields.lines(&lines);
    match content {
        ResponseContent::Nothing => fields.without_content(told),
        content => fields.stream(content.length()),
    }
}

/// Writes an interim response (RFC 9110, section 15.2).
pub fn write_interim(head: &ResponseHead, bytes: &[u8], out: &mut Buffer) {
    let mut lines = Vec::new();
    write_status_line(head, bytes, &mut lines);
    for (name, value) in passing(&head.fields, bytes) {
        push_line(&mut lines, name, value);
    }
    lines.extend_from_slice(b"\r\n");
    out.push(&lines);
}

/// Writes 101. From then on the connection speaks the protocol that `Upgrade` names.
pub fn write_switch(head: &ResponseHead, bytes: &[u8], out: &mut Buffer) {
    let mut lines = Vec::new();
    write_status_line(head, bytes, &mut lines);
    for (name, value) in passing(&head.fields, bytes) {
        push_line(&mut lines, name, value);
    }
    write_via(head, bytes, &mut lines);
    push_line(&mut lines, b"Connection", b"Upgrade");
    for value in head.values(bytes, Name::Upgrade) {
        push_line(&mut lines, b"Upgrade", value);
    }
    lines.extend_from_slice(b"\r\n");
    out.push(&lines);
}

fn write_status_line(head: &ResponseHead, bytes: &[u8], out: &mut Vec<u8>) {
    let _ = write!(out, "HTTP/1.1 {} ", head.status);
    out.extend_from_slice(head.reason.of(bytes));
    out.extend_from_slice(b"\r\n");
}

fn write_via(head: &ResponseHead, bytes: &[u8], out: &mut Vec<u8>) {
    let fields = head.fields.iter().map(|field| (field.name.of(bytes), field.value.of(bytes)));
    push_line(out, b"Via", &append(joined(fields, "via"), &via(head.minor)));
}
