//! The environ of a request as it is sent to a worker: the variables of CGI (RFC 3875) and PEP 3333, as
//! `NAME\0VALUE\0...`. The bytes are those that the client sent. The worker decodes them as Latin-1, as PEP 3333 says.

use crate::http::escape;
use crate::http::forwarded::{Told, speaks_for_a_client};
use crate::http::head::Name;
use crate::http::number;
use crate::http::request::Request;
use crate::proto::responder::{SERVER, decimal};
use std::io::Write;

/// What the environ needs beside the request.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Where the application is mounted: empty, or a path that begins with a slash and does not end in one.
    pub mount: &'a [u8],
    /// CONTENT_LENGTH, if it is known now: `Some(0)` for `Content-Length: 0`. `None`: the request has no Content-Length, or
    /// its content is still to come (`WsgiExchange::begin` then adds the length).
    pub content: Option<u64>,
    /// Whether a trusted proxy sent the request. Then its X-Forwarded-* fields decide the scheme, host, port and
    /// prefix.
    pub trusted: bool,
}

/// Whether the request has two different Content-Type fields. CONTENT_TYPE can hold only one of them, and a filter in
/// front of this server may have checked the other (RFC 9110, section 8.3).
pub fn contradicts_itself(request: &Request) -> bool {
    let mut types = request.values(Name::ContentType);
    types.next().is_some_and(|first| types.any(|other| other != first))
}

/// Appends the environ to `out`, without the last NUL, so that `\0NAME\0VALUE` can follow.
pub fn write(request: &Request, around: &Surroundings, out: &mut Vec<u8>) {
    let told = if around.trusted { Told::of(request.head, request.bytes) } else { Told::default() };
    let below_mount = request.path().strip_prefix(around.mount).unwrap_or(request.path());
    let path_info = &escape::decode_lenient(below_mount)[..];
    pair(out, b"REQUEST_METHOD", request.head.method_token.of(request.bytes));
    out.extend_from_slice(b"SCRIPT_NAME\0");
    out.extend_from_slice(told.prefix.as_deref().unwrap_or_default());
    out.extend_from_slice(around.mount);
    out.push(0);
    pair(out, b"PATH_INFO", path_info);
    pair(out, b"QUERY_STRING", request.target.query().unwrap_or_default());
    out.extend_from_slice(b"REQUEST_URI\0");
    escape::high_bytes(request.head.target.of(request.bytes), out);
    out.push(0);
    pair(out, b"SERVER_PROTOCOL", if request.head.minor == 0 { b"HTTP/1.0" } else { b"HTTP/1.1" });
    pair(out, b"SERVER_SOFTWARE", SERVER.as_bytes());
    pair(out, b"wsgi.url_scheme", told.scheme.unwrap_or("http").as_bytes());
    let has_host = authority(request, &told, out);
    out.extend_from_slice(b"REMOTE_ADDR\0");
    shown(out, request.client().to_canonical());
    out.push(0);
    // Behind a proxy, the client's port is not known.
    if request.behind.is_none() {
        out.extend_from_slice(b"REMOTE_PORT\0");
        shown(out, request.ends.peer_port);
        out.push(0);
    }
    if let Some(content) = around.content {
        pair(out, b"CONTENT_LENGTH", decimal(content).digits());
    }
    fields(request, around.trusted, has_host, out);
    // A NUL at the end would begin another name.
    out.pop();
}

/// Writes SERVER_NAME, SERVER_PORT and, if the Host field does not count, HTTP_HOST. Returns whether HTTP_HOST is
/// written.
///
/// The name is the one that the client used, so that the application's links lead to it. The port is that of the
/// connection, unless a trusted proxy has sent a host, a port or a scheme. Then it is the first of: the port in
/// X-Forwarded-Host, X-Forwarded-Port, the port in Host (only without X-Forwarded-Host), the scheme's default. The port
/// is added to HTTP_HOST only if X-Forwarded-Host has none and the port is not the scheme's default.
fn authority(request: &Request, told: &Told, out: &mut Vec<u8>) -> bool {
    let host = told.host.unwrap_or(request.host());
    let (name, own_port) = split_port(host);
    out.extend_from_slice(b"SERVER_NAME\0");
    match name {
        b"" => shown(out, request.ends.local.ip()),
        name => out.extend_from_slice(name),
    }
    let default = if told.scheme == Some("https") { 443 } else { 80 };
    let port = match told {
        Told { host: None, port: None, scheme: None, .. } => request.ends.local.port(),
        Told { host: Some(_), .. } => own_port.or(told.port).unwrap_or(default),
        _ => told.port.or(own_port).unwrap_or(default),
    };
    out.extend_from_slice(b"\0SERVER_PORT\0");
    shown(out, port);
    out.push(0);
    // The authority of an absolute-form target replaces the Host field (RFC 9112, section 3.2.2).
    let Some(replaced) = told.host.or(request.target.authority) else { return false };
    out.extend_from_slice(b"HTTP_HOST\0");
    out.extend_from_slice(replaced);
    if told.host.is_some() && own_port.is_none() && port != default {
        out.push(b':');
        shown(out, port);
    }
    out.push(0);
    true
}

/// Writes the fields, each name once. Repeated fields are joined (RFC 9110, section 5.3; Cookie: RFC 9113, section
/// 8.2.3).
fn fields(request: &Request, trusted: bool, has_host: bool, out: &mut Vec<u8>) {
    let all = &request.head.fields;
    for (index, field) in all.iter().enumerate() {
        let name = field.name.of(request.bytes);
        let replaced = field.known == Name::Host && has_host;
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
        // Repeated Content-Type fields are equal (`contradicts_itself`), so one is enough.
        let repeated = all[index + 1..].iter().filter(|other| field.known != Name::ContentType && same(other));
        for other in repeated {
            out.extend_from_slice(if field.known == Name::Cookie { b"; " } else { b"," });
            out.extend_from_slice(other.value.of(request.bytes));
        }
        out.push(0);
    }
}

/// Whether a field is not passed to the application.
fn is_left_out(known: Name, name: &[u8]) -> bool {
    match known {
        // CONTENT_LENGTH is the length of the content that has arrived, not the announced one.
        Name::ContentLength | Name::TransferEncoding => true,
        // `X_Auth` would become the same variable as `X-Auth`, which a proxy in front of us may have checked.
        // `Proxy` would become HTTP_PROXY, which many programs read as the address of a proxy to use ("httpoxy").
        _ => memchr::memchr(b'_', name).is_some() || name.eq_ignore_ascii_case(b"proxy"),
    }
}

/// Splits a host from its port, if it has one. An IPv6 address keeps its brackets.
fn split_port(host: &[u8]) -> (&[u8], Option<u16>) {
    match memchr::memrchr(b':', host) {
        Some(colon) if !host[colon..].contains(&b']') => {
            let port = number::parse(&host[colon + 1..]).and_then(|port| u16::try_from(port).ok());
            (&host[..colon], port)
        }
        _ => (host, None),
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
        environ_of(text, &Surroundings { mount: mount.as_bytes(), content, trusted: false })
    }

    fn environ_of(text: &str, around: &Surroundings) -> Vec<(String, String)> {
        let limits = HeadLimits { size: 4096, target: 1024, fields: 32 };
        let (bytes, mut head) = (text.as_bytes(), Head::default());
        assert!(head.parse(bytes, &limits, &mut 0).unwrap());
        let target = Target::parse(head.method, head.target.of(bytes)).unwrap();
        let peer: SocketAddr = "10.1.2.3:4567".parse().unwrap();
        let behind = around.trusted.then(|| "2001:db8::7".parse().unwrap());
        let ends = Ends { peer_port: peer.port(), local: "127.0.0.1:80".parse().unwrap() };
        let request = Request {
            bytes,
            head: &head,
            target,
            peer: peer.ip(),
            behind,
            ends,
            has_content: around.content.is_some(),
        };
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
        assert_eq!(values.next(), None, "{name} appears twice");
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
            let around = Surroundings { mount: b"", content: None, trusted };
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
    fn a_trusted_proxy_tells_how_the_client_asked() {
        let around = Surroundings { mount: b"/app", content: None, trusted: true };
        // The X-Forwarded-* fields, then the scheme, SCRIPT_NAME, SERVER_NAME, SERVER_PORT and HTTP_HOST.
        for (fields, expected) in [
            ("", "http /app in.example 80 in.example:8000"),
            ("Proto: https", "https /app in.example 8000 in.example:8000"),
            ("Port: 8443", "http /app in.example 8443 in.example:8000"),
            ("Prefix: /outer/", "http /outer/app in.example 80 in.example:8000"),
            ("Host: out.example", "http /app out.example 80 out.example"),
            ("Host: out.example|Proto: https", "https /app out.example 443 out.example"),
            ("Host: out.example|Proto: https|Port: 443", "https /app out.example 443 out.example"),
            ("Host: out.example|Proto: https|Port: 8443", "https /app out.example 8443 out.example:8443"),
            ("Host: out.example|Port: 443", "http /app out.example 443 out.example:443"),
            ("Host: out.example:81|Port: 8443", "http /app out.example 81 out.example:81"),
            ("Host: [2001:db8::1]|Port: 81", "http /app [2001:db8::1] 81 [2001:db8::1]:81"),
            ("Host: u@h|Proto: ftp|Port: x|Prefix: //evil", "http /app in.example 80 in.example:8000"),
        ] {
            let told: String = fields
                .split('|')
                .filter(|field| !field.is_empty())
                .map(|field| format!("X-Forwarded-{field}\r\n"))
                .collect();
            let text = format!("GET /app/x HTTP/1.1\r\nHost: in.example:8000\r\n{told}\r\n");
            let names = ["wsgi.url_scheme", "SCRIPT_NAME", "SERVER_NAME", "SERVER_PORT", "HTTP_HOST"];
            let shown =
                |environ: &[(String, String)]| names.map(|name| value(environ, name).unwrap_or_default()).join(" ");
            let environ = environ_of(&text, &around);
            assert_eq!(shown(&environ), expected, "{fields}");
            assert_eq!(value(&environ, "PATH_INFO").as_deref(), Some("/x"));
            assert_eq!(value(&environ, "REMOTE_ADDR").as_deref(), Some("2001:db8::7"));
            assert_eq!(value(&environ, "REMOTE_PORT"), None, "the port is the proxy's, not the client's");
            let strange = environ_of(&text, &Surroundings { trusted: false, ..around });
            assert_eq!(shown(&strange), "http /app in.example 80 in.example:8000", "{fields}");
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
        for (host, name, port) in [
            ("a", "a", None),
            ("a:1", "a", Some(1)),
            ("a:", "a", None),
            ("[::1]", "[::1]", None),
            ("[::1]:80", "[::1]", Some(80)),
            ("", "", None),
        ] {
            assert_eq!(split_port(host.as_bytes()), (name.as_bytes(), port));
        }
    }
}
