//! The environ of a request as a worker takes it: the variables of CGI (RFC 3875) and PEP 3333, `NAME\0VALUE\0...`.
//! The bytes are what the client sent; the worker reads them as Latin-1, as PEP 3333 wants.

use crate::http::escape;
use crate::http::forwarded::speaks_for_a_client;
use crate::http::head::Name;
use crate::http::request::Request;
use crate::proto::responder::{SERVER, decimal};
use std::io::Write;

/// What a request does not say itself.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Where the application is mounted: empty, or a path that begins with a slash and does not end in one.
    pub mount: &'a [u8],
    /// Bytes of content, once they are all here; `None` when the request has none.
    pub content: Option<u64>,
    /// `http`, or what a trusted proxy says.
    pub scheme: &'a str,
    /// Whether the client is a trusted proxy.
    pub trusted: bool,
}

/// Appends the environ to `out`.
pub fn write(request: &Request, around: &Surroundings, out: &mut Vec<u8>) {
    let below = request.path().strip_prefix(around.mount).unwrap_or(request.path());
    let path_info = &escape::decode_lenient(below)[..];
    pair(out, b"REQUEST_METHOD", request.head.method_token.of(request.bytes));
    pair(out, b"SCRIPT_NAME", around.mount);
    pair(out, b"PATH_INFO", path_info);
    pair(out, b"QUERY_STRING", request.target.query().unwrap_or_default());
    out.extend_from_slice(b"REQUEST_URI\0");
    escape::high_bytes(request.head.target.of(request.bytes), out);
    out.push(0);
    pair(out, b"SERVER_PROTOCOL", if request.head.minor == 0 { b"HTTP/1.0" } else { b"HTTP/1.1" });
    pair(out, b"SERVER_SOFTWARE", SERVER.as_bytes());
    pair(out, b"wsgi.url_scheme", around.scheme.as_bytes());
    // The name that the client used is the one that links should have.
    let name = without_port(request.host());
    out.extend_from_slice(b"SERVER_NAME\0");
    match name {
        b"" => shown(out, request.ends.local.ip()),
        name => out.extend_from_slice(name),
    }
    out.extend_from_slice(b"\0SERVER_PORT\0");
    shown(out, request.ends.local.port());
    out.extend_from_slice(b"\0REMOTE_ADDR\0");
    shown(out, request.peer.to_canonical());
    out.extend_from_slice(b"\0REMOTE_PORT\0");
    shown(out, request.ends.peer_port);
    out.push(0);
    if let Some(content) = around.content {
        pair(out, b"CONTENT_LENGTH", decimal(content).digits());
    }
    // Of an absolute-form target; the field, if there is one, does not count (RFC 9112, section 3.2.2).
    if let Some(authority) = request.target.authority {
        pair(out, b"HTTP_HOST", authority);
    }
    fields(request, around.trusted, out);
    // Without the last NUL, which would begin another name.
    out.pop();
}

/// The fields, each name once: repeated ones joined (RFC 9110, section 5.3; Cookie by RFC 9113, section 8.2.3).
fn fields(request: &Request, trusted: bool, out: &mut Vec<u8>) {
    let all = &request.head.fields;
    for (index, field) in all.iter().enumerate() {
        let name = field.name.of(request.bytes);
        let replaced = field.known == Name::Host && request.target.authority.is_some();
        if replaced || is_left_out(field.known, name) || (!trusted && speaks_for_a_client(name)) {
            continue;
        }
        let same = |other: &crate::http::head::Field| {
            other.known == field.known && other.name.of(request.bytes).eq_ignore_ascii_case(name)
        };
        if all[..index].iter().any(same) {
            continue;
        }
        if field.known != Name::ContentType {
            out.extend_from_slice(b"HTTP_");
        }
        out.extend(name.iter().map(|byte| if *byte == b'-' { b'_' } else { byte.to_ascii_uppercase() }));
        out.push(0);
        out.extend_from_slice(field.value.of(request.bytes));
        // A client says its type once; a second is somebody else's.
        let repeated = all[index + 1..].iter().filter(|other| field.known != Name::ContentType && same(other));
        for other in repeated {
            out.extend_from_slice(if field.known == Name::Cookie { b"; " } else { b"," });
            out.extend_from_slice(other.value.of(request.bytes));
        }
        out.push(0);
    }
}

/// Fields that say nothing to the application, or something else than they seem to.
fn is_left_out(known: Name, name: &[u8]) -> bool {
    match known {
        // Told by what arrived, not by what was announced.
        Name::ContentLength | Name::TransferEncoding => true,
        // `X_Auth` would become the same variable as `X-Auth`, which a proxy before us may have checked.
        // HTTP_PROXY is what programs take for the address of a proxy ("httpoxy").
        _ => memchr::memchr(b'_', name).is_some() || name.eq_ignore_ascii_case(b"proxy"),
    }
}

/// A host without its port; an IPv6 address keeps its brackets.
fn without_port(host: &[u8]) -> &[u8] {
    match memchr::memrchr(b':', host) {
        Some(colon) if !host[colon..].contains(&b']') => &host[..colon],
        _ => host,
    }
}

fn pair(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.push(0);
    out.extend_from_slice(value);
    out.push(0);
}

fn shown(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{value}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{Head, HeadLimits};
    use crate::http::request::Ends;
    use crate::http::target::Target;
    use std::net::SocketAddr;

    fn environ(text: &str, mount: &str, content: Option<u64>) -> Vec<(String, String)> {
        let (mount, scheme) = (mount.as_bytes(), "http");
        environ_of(text, &Surroundings { mount, content, scheme, trusted: false })
    }

    fn environ_of(text: &str, around: &Surroundings) -> Vec<(String, String)> {
        let limits = HeadLimits { size: 4096, target: 1024, fields: 32 };
        let (bytes, mut head) = (text.as_bytes(), Head::default());
        assert!(head.parse(bytes, &limits, &mut 0).unwrap());
        let target = Target::parse(head.method, head.target.of(bytes)).unwrap();
        let peer: SocketAddr = "10.1.2.3:4567".parse().unwrap();
        let ends = Ends { peer_port: peer.port(), local: "127.0.0.1:80".parse().unwrap() };
        let request =
            Request { bytes, head: &head, target, peer: peer.ip(), ends, has_content: around.content.is_some() };
        let mut out = Vec::new();
        write(&request, around, &mut out);
        let text: String = out.iter().map(|byte| char::from(*byte)).collect();
        let parts: Vec<&str> = text.split('\0').collect();
        assert!(parts.len().is_multiple_of(2), "{text:?}");
        parts.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect()
    }

    fn value(environ: &[(String, String)], name: &str) -> Option<String> {
        let mut values = environ.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone());
        let value = values.next();
        assert_eq!(values.next(), None, "{name} stands twice");
        value
    }

    #[test]
    fn a_request_becomes_variables() {
        let environ = environ(
            "POST /app/caf%C3%A9%2Fx?a=%20b HTTP/1.1\r\nHost: example.org:8080\r\nContent-Type: text/plain\r\n\
             Content-Length: 9\r\nX-Empty:\r\n\r\n",
            "/app",
            Some(9),
        );
        for (name, expected) in [
            ("REQUEST_METHOD", "POST"),
            ("SCRIPT_NAME", "/app"),
            ("PATH_INFO", "/caf\u{c3}\u{a9}/x"),
            ("QUERY_STRING", "a=%20b"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("SERVER_NAME", "example.org"),
            ("SERVER_PORT", "80"),
            ("REMOTE_ADDR", "10.1.2.3"),
            ("REMOTE_PORT", "4567"),
            ("CONTENT_TYPE", "text/plain"),
            ("CONTENT_LENGTH", "9"),
            ("HTTP_HOST", "example.org:8080"),
            ("HTTP_X_EMPTY", ""),
        ] {
            assert_eq!(value(&environ, name).as_deref(), Some(expected), "{name}");
        }
        for absent in ["HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"] {
            assert_eq!(value(&environ, absent), None);
        }
    }

    #[test]
    fn repeated_fields_are_joined_and_underscores_shadow_nothing() {
        let environ = environ(
            "GET / HTTP/1.1\r\nHost: h\r\nCookie: a=1\r\nX-Auth: real\r\nX_Auth: forged\r\ncookie: b=2\r\nProxy: p\r\n\
             Accept: x\r\naccept: y\r\n\r\n",
            "",
            None,
        );
        assert_eq!(value(&environ, "HTTP_COOKIE").as_deref(), Some("a=1; b=2"));
        assert_eq!(value(&environ, "HTTP_ACCEPT").as_deref(), Some("x,y"));
        assert_eq!(value(&environ, "HTTP_X_AUTH").as_deref(), Some("real"));
        assert_eq!(value(&environ, "HTTP_PROXY"), None);
        assert_eq!(value(&environ, "CONTENT_LENGTH"), None);
        assert_eq!(value(&environ, "SCRIPT_NAME").as_deref(), Some(""));
        assert_eq!(value(&environ, "PATH_INFO").as_deref(), Some("/"));
    }

    #[test]
    fn only_a_trusted_proxy_speaks_for_a_client() {
        let text = "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n\
             X-Forwarded-Anything: x\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nFront-End-Https: on\r\n\
             X-Original-URL: /admin\r\nVia: 1.1 a\r\n\r\n";
        for trusted in [false, true] {
            let around = Surroundings { mount: b"", content: None, scheme: "http", trusted };
            let environ = environ_of(text, &around);
            for (name, expected) in [
                ("HTTP_X_FORWARDED_FOR", "6.6.6.6"),
                ("HTTP_X_FORWARDED_PROTO", "https"),
                ("HTTP_X_FORWARDED_ANYTHING", "x"),
                ("HTTP_FORWARDED", "for=6.6.6.6"),
                ("HTTP_X_REAL_IP", "6.6.6.6"),
                ("HTTP_FRONT_END_HTTPS", "on"),
                ("HTTP_X_ORIGINAL_URL", "/admin"),
            ] {
                assert_eq!(value(&environ, name).as_deref(), trusted.then_some(expected), "{name}");
            }
            assert_eq!(value(&environ, "HTTP_VIA").as_deref(), Some("1.1 a"));
        }
    }

    #[test]
    fn the_host_of_an_absolute_target_is_the_host() {
        for field in ["Host: h\r\n", ""] {
            let environ = environ(&format!("GET http://other:99/x HTTP/1.0\r\n{field}\r\n"), "", None);
            assert_eq!(value(&environ, "HTTP_HOST").as_deref(), Some("other:99"));
            assert_eq!(value(&environ, "SERVER_NAME").as_deref(), Some("other"));
            assert_eq!(value(&environ, "PATH_INFO").as_deref(), Some("/x"));
        }
    }

    #[test]
    fn bytes_above_0x7f_arrive_as_their_escapes() {
        let text = "GET /caf\u{e9}?n=\u{e9} HTTP/1.1\r\nHost: h\r\n\r\n";
        for text in [text, &text.replace('\u{e9}', "%C3%A9")] {
            let environ = environ(text, "", None);
            assert_eq!(value(&environ, "PATH_INFO").as_deref(), Some("/caf\u{c3}\u{a9}"));
            assert_eq!(value(&environ, "QUERY_STRING").as_deref(), Some("n=%C3%A9"));
            assert_eq!(value(&environ, "REQUEST_URI").as_deref(), Some("/caf%C3%A9?n=%C3%A9"));
        }
    }

    #[test]
    fn hosts_lose_their_port() {
        for (host, name) in [("a", "a"), ("a:1", "a"), ("[::1]", "[::1]"), ("[::1]:80", "[::1]"), ("", "")] {
            assert_eq!(without_port(host.as_bytes()), name.as_bytes());
        }
    }
}
