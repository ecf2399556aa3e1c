//! The request target (RFC 9112, section 3.2): its form, its normalised path, its query, its authority; and the `Host`
//! field, which shares the authority's grammar.
//!
//! The path stays percent-encoded here, normalised by RFC 3986, section 6.2.2: escapes of unreserved bytes are decoded,
//! the others are in upper case, `.` segments (plain and encoded) are removed. A client resolves `..` before it sends
//! (section 5.2.4). A path that still has a `..` segment tries to leave a directory, and the routes answer it with 404.
//! The routes decide what else a path means. A path that needs no change, as nearly every one, is borrowed.
//!
//! A byte above 0x7F in path or query, which is not valid in a URI, is read as its escape: clients send names in UTF-8
//! as they are typed (curl, Go, links in pages without a charset), and nginx, Apache and Go accept them. From here on
//! it is an escape, for routes, upstreams and applications alike. In an authority such a byte is refused.

use crate::http::escape;
use crate::http::method::Method;
use crate::http::violation::Violation;
use memchr::memchr;
use std::borrow::Cow;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `/path?query`
    Origin,
    /// `http://host/path?query`: its authority replaces `Host`.
    Absolute,
    /// `*`, only with OPTIONS: the server as a whole.
    Asterisk,
    /// `host:port`, only with CONNECT.
    Authority,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    pub form: Form,
    /// Begins with `/`; still percent-encoded. `*` in asterisk-form, empty in authority-form.
    pub path: Cow<'a, [u8]>,
    /// Path and query as received, except that bytes above 0x7F are escaped.
    raw: Cow<'a, [u8]>,
    /// The position of the query's `?` in `raw`, or the end of `raw`.
    path_end: usize,
    pub authority: Option<&'a [u8]>,
    /// Whether the path has a `..` segment: such a path leads to no resource.
    pub has_dot_dot: bool,
    /// Whether the path has no escape, no empty segment, and none that begins with a dot: then it needs no decoding.
    pub plain: bool,
}

impl<'a> Target<'a> {
    pub fn parse(method: Method, raw: &'a [u8]) -> Result<Target<'a>, Violation> {
        let has_high = check_bytes(raw)?;
        if method == Method::Connect {
            // Authority-form always has a port (RFC 9110, section 9.3.6).
            let valid =
                is_host_and_port(raw) && raw.iter().rposition(|&b| b == b':').is_some_and(|at| at + 1 < raw.len());
            return match valid {
                true => Ok(Target::bare(Form::Authority, b"", Some(raw))),
                false => Err(Violation::TargetForm),
            };
        }
        if raw == b"*" {
            return match method {
                Method::Options => Ok(Target::bare(Form::Asterisk, b"*", None)),
                _ => Err(Violation::TargetForm),
            };
        }
        if raw[0] == b'/' {
            return Target::with_path(Form::Origin, None, raw, has_high);
        }
        let rest = match (strip_scheme(raw, b"http://"), strip_scheme(raw, b"https://")) {
            (Some(rest), _) => rest,
            // RFC 9110, section 7.4: an https resource must not be served over a connection without TLS.
            (None, Some(_)) => return Err(Violation::Misdirected),
            (None, None) => return Err(Violation::TargetForm),
        };
        let end = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        // RFC 9110, section 4.2.1: an http URI without a host is invalid.
        if authority.is_empty() || !is_host_and_port(authority) {
            return Err(Violation::HostInvalid);
        }
        if path.is_empty() && method == Method::Options {
            // RFC 9112, section 3.2.4: an absolute-form OPTIONS without a path means `*`.
            return Ok(Target::bare(Form::Asterisk, b"*", Some(authority)));
        }
        Target::with_path(Form::Absolute, Some(authority), path, has_high)
    }

    /// The path as received, for an upstream.
    pub fn raw_path(&self) -> &[u8] {
        let path = &self.raw[..self.path_end];
        if path.is_empty() { b"/" } else { path }
    }

    /// The query as received, without its `?`.
    pub fn query(&self) -> Option<&[u8]> {
        self.raw.get(self.path_end + 1..)
    }

    fn bare(form: Form, path: &'a [u8], authority: Option<&'a [u8]>) -> Target<'a> {
        let (raw, path_end) = (Cow::Borrowed(path), path.len());
        Target { form, path: Cow::Borrowed(path), raw, path_end, authority, has_dot_dot: false, plain: false }
    }

    fn with_path(
        form: Form,
        authority: Option<&'a [u8]>,
        raw: &'a [u8],
        has_high: bool,
    ) -> Result<Target<'a>, Violation> {
        if has_high {
            return Target::with_high_bytes(form, authority, raw);
        }
        let path_end = memchr(b'?', raw).unwrap_or(raw.len());
        let path = if path_end == 0 { b"/" } else { &raw[..path_end] };
        let plain = is_plain(path);
        let (path, has_dot_dot) = if plain { (Cow::Borrowed(path), false) } else { normalise(path)? };
        Ok(Target { form, path, raw: Cow::Borrowed(raw), path_end, authority, has_dot_dot, plain })
    }

    /// Reads bytes above 0x7F as their escapes.
    #[cold]
    fn with_high_bytes(form: Form, authority: Option<&'a [u8]>, raw: &[u8]) -> Result<Target<'a>, Violation> {
        let mut escaped = Vec::with_capacity(raw.len() * 3);
        escape::high_bytes(raw, &mut escaped);
        let Target { path, path_end, has_dot_dot, plain, .. } = Target::with_path(form, None, &escaped, false)?;
        let path = Cow::Owned(path.into_owned());
        Ok(Target { form, path, raw: Cow::Owned(escaped), path_end, authority, has_dot_dot, plain })
    }
}

/// Checks that the target has only visible ASCII without `#`, and bytes above 0x7F. Returns whether there are any of
/// the latter. These are more bytes than a URI allows (RFC 3986, section 2): what browsers send unencoded nevertheless
/// (`|`, `{`, `"`, `^`) is harmless and passes.
fn check_bytes(raw: &[u8]) -> Result<bool, Violation> {
    // Nearly every target is visible ASCII.
    match raw.iter().find(|&&byte| byte == b'#' || !byte.is_ascii_graphic()) {
        Some(_) => check_unusual_bytes(raw),
        None if raw.is_empty() => Err(Violation::RequestLine),
        None => Ok(false),
    }
}

#[cold]
fn check_unusual_bytes(raw: &[u8]) -> Result<bool, Violation> {
    match raw.iter().find(|&&byte| byte == b'#' || byte.is_ascii() && !byte.is_ascii_graphic()) {
        Some(b'#') => Err(Violation::TargetFragment),
        Some(_) => Err(Violation::Target),
        None => Ok(true),
    }
}

/// Whether the path needs no decoding: no escape, no empty segment, no segment that begins with a dot.
fn is_plain(path: &[u8]) -> bool {
    let mut before = 0;
    path.iter().all(|&byte| {
        let plain = byte != b'%' && !(before == b'/' && matches!(byte, b'/' | b'.'));
        before = byte;
        plain
    })
}

fn strip_scheme<'a>(raw: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = raw.split_at_checked(scheme.len())?;
    (!rest.is_empty() && start.eq_ignore_ascii_case(scheme)).then_some(rest)
}

/// The normalised path, and whether it has a `..` segment.
fn normalise(raw: &[u8]) -> Result<(Cow<'_, [u8]>, bool), Violation> {
    let path = match memchr(b'%', raw) {
        Some(_) => Cow::Owned(normalise_escapes(raw)?),
        None => Cow::Borrowed(raw),
    };
    let segments = path.split(|&b| b == b'/');
    if segments.clone().any(|segment| segment == b"..") {
        return Ok((path, true));
    }
    if !segments.clone().any(|segment| segment == b".") {
        return Ok((path, false));
    }
    let ends_in_dot = path.ends_with(b"/.");
    let mut kept = segments.filter(|&segment| segment != b".").collect::<Vec<_>>().join(&b'/');
    if ends_in_dot {
        kept.push(b'/');
    }
    Ok((Cow::Owned(kept), false))
}

fn normalise_escapes(raw: &[u8]) -> Result<Vec<u8>, Violation> {
    let mut path = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            path.push(byte);
            continue;
        }
        let escape = rest.get(..2).and_then(|two| Some((hex(two[0])?, hex(two[1])?)));
        let (high, low) = escape.ok_or(Violation::TargetEscape)?;
        match high << 4 | low {
            0 => return Err(Violation::TargetNul),
            decoded if is_unreserved(decoded) => path.push(decoded),
            _ => path.extend([b'%', rest[0].to_ascii_uppercase(), rest[1].to_ascii_uppercase()]),
        }
        rest = &rest[2..];
    }
    Ok(path)
}

/// The value of a hexadecimal digit.
pub fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Whether `value` is `uri-host [ ":" port ]` (RFC 9110, section 7.2). Empty is valid: a client sends an empty Host if
/// its target has no authority (RFC 9112, section 3.2). A port without a host is invalid, because no http URI has one.
pub fn is_host_and_port(value: &[u8]) -> bool {
    // Nearly every host is letters, digits, dots, and a port.
    let plain = value.iter().position(|&byte| !REG_NAME[byte as usize]).unwrap_or(value.len());
    match &value[plain..] {
        [] => return true,
        port @ [b':', ..] if plain > 0 => return is_port(port),
        _ => {}
    }
    let (host, port) = match value.first() {
        Some(b'[') => match memchr(b']', value) {
            Some(end) => {
                let literal = &value[1..end];
                if !is_ip_literal(literal) {
                    return false;
                }
                (&b""[..], &value[end + 1..])
            }
            None => return false,
        },
        _ => value.split_at(memchr(b':', value).unwrap_or(value.len())),
    };
    let is_port_alone = value.first() == Some(&b':');
    is_reg_name(host) && is_port(port) && !is_port_alone
}

/// Empty, or a colon with at most five digits that stay below 65,536.
fn is_port(port: &[u8]) -> bool {
    let Some((colon, digits)) = port.split_first() else { return true };
    *colon == b':'
        && digits.len() <= 5
        && digits.iter().all(u8::is_ascii_digit)
        && digits.iter().fold(0u32, |sum, d| sum * 10 + u32::from(d - b'0')) <= 65_535
}

/// IPv6address, which may name a zone, or IPvFuture (RFC 3986, section 3.2.2).
fn is_ip_literal(literal: &[u8]) -> bool {
    if let [b'v' | b'V', future @ ..] = literal {
        let Some(dot) = memchr(b'.', future) else { return false };
        let (version, address) = (&future[..dot], &future[dot + 1..]);
        let is_version = !version.is_empty() && version.iter().all(u8::is_ascii_hexdigit);
        let is_address =
            !address.is_empty() && address.iter().all(|&b| is_unreserved(b) || is_sub_delim(b) || b == b':');
        return is_version && is_address;
    }
    let (address, zone) = match memchr(b'%', literal) {
        Some(at) => (&literal[..at], Some(&literal[at + 1..])),
        None => (literal, None),
    };
    let text = std::str::from_utf8(address).unwrap_or("");
    text.parse::<std::net::Ipv6Addr>().is_ok() && zone.is_none_or(is_zone)
}

/// The zone of a link-local address, behind its `%`. In a URI it is `%25` and a ZoneID: unreserved bytes and escapes,
/// at least one (RFC 6874, section 2). Clients also send the bare `%`, as the user typed it. A zone has a meaning only
/// on the client's machine, so it is not used here.
fn is_zone(zone: &[u8]) -> bool {
    let mut rest = zone.strip_prefix(b"25").unwrap_or(zone);
    if rest.is_empty() {
        return false;
    }
    while let Some((&byte, tail)) = rest.split_first() {
        rest = match (byte, tail) {
            (b'%', [high, low, tail @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => tail,
            _ if is_unreserved(byte) => tail,
            _ => return false,
        };
    }
    true
}

const fn is_sub_delim(byte: u8) -> bool {
    matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
}

/// The bytes of a reg-name that need no escape, without the comma.
const REG_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = is_unreserved(byte as u8) || (is_sub_delim(byte as u8) && byte as u8 != b',');
        byte += 1;
    }
    table
};

/// A reg-name (RFC 3986, section 3.2.2), but without a comma: no host name has one, and a comma appears if a server in
/// front has joined two Host fields into one.
fn is_reg_name(name: &[u8]) -> bool {
    let mut rest = name;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = match (byte, tail) {
            (b'%', [high, low, tail @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => tail,
            _ if REG_NAME[byte as usize] => tail,
            _ => return false,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(raw: &str) -> String {
        let target = Target::parse(Method::Get, raw.as_bytes()).unwrap();
        String::from_utf8(target.path.into_owned()).unwrap()
    }

    #[test]
    fn paths_are_normalised_by_rfc_3986() {
        for (raw, normal) in [
            ("/", "/"),
            ("/a/b?c/../d", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/%2e/b", "/a/b"),
            ("/a/.", "/a/"),
            ("/.", "/"),
            ("/./", "/"),
            ("/a//./b", "/a//b"),
            ("/%61%7e%2f%3a", "/a~%2F%3A"),
            ("/...", "/..."),
            ("http://host", "/"),
            ("http://host?q", "/"),
            ("HTTP://host:80/x", "/x"),
        ] {
            assert_eq!(path(raw), normal, "{raw}");
        }
    }

    #[test]
    fn bytes_above_0x7f_are_read_as_their_escapes() {
        for (raw, escaped) in [
            (&b"/caf\xc3\xa9"[..], "/caf%C3%A9"),
            (b"/\xff\x80", "/%FF%80"),
            (b"/x?n=\xe3\x81\x82&\x80", "/x?n=%E3%81%82&%80"),
            (b"/\xc3%a9/./%61?\xc3", "/%C3%a9/./%61?%C3"),
            (b"/\xc3\xa9/../a?", "/%C3%A9/../a?"),
            (b"http://h?\xc3\xa9", "http://h?%C3%A9"),
            (b"http://h:80/\xc3\xa9", "http://h:80/%C3%A9"),
        ] {
            let as_it_came = Target::parse(Method::Get, raw).unwrap();
            let expected = Target::parse(Method::Get, escaped.as_bytes()).unwrap();
            assert_eq!(as_it_came, expected, "{escaped}");
        }
        let none = Target::parse(Method::Options, b"http://h\xc3:1");
        assert_eq!(none, Err(Violation::HostInvalid));
        assert_eq!(Target::parse(Method::Connect, b"h\xc3:1"), Err(Violation::TargetForm));
    }

    #[test]
    fn a_path_that_climbs_says_so() {
        for raw in ["/..", "/../a", "/a/..", "/a/../b", "/%2e%2e/etc/passwd", "/a/.%2E", "/./.."] {
            assert!(Target::parse(Method::Get, raw.as_bytes()).unwrap().has_dot_dot, "{raw}");
        }
        for raw in ["/..a", "/...", "/a/.", "/a?/../b", "/a../b"] {
            assert!(!Target::parse(Method::Get, raw.as_bytes()).unwrap().has_dot_dot, "{raw}");
        }
    }

    #[test]
    fn broken_targets_name_their_rule() {
        for (raw, violation) in [
            ("/%", Violation::TargetEscape),
            ("/%4", Violation::TargetEscape),
            ("/%zz", Violation::TargetEscape),
            ("/%+1", Violation::TargetEscape),
            ("/%00", Violation::TargetNul),
            ("/a#b", Violation::TargetFragment),
            ("/a\x7f", Violation::Target),
            ("/\u{e9}\u{1}", Violation::Target),
            ("/\u{1}\u{e9}", Violation::Target),
            ("/\u{e9}#", Violation::TargetFragment),
            ("/\u{e9}%zz", Violation::TargetEscape),
            ("\u{e9}", Violation::TargetForm),
            ("http://\u{e9}/", Violation::HostInvalid),
            ("*", Violation::TargetForm),
            ("host:80", Violation::TargetForm),
            ("ftp://host/", Violation::TargetForm),
            ("http://", Violation::TargetForm),
            ("https://host/", Violation::Misdirected),
            ("HTTPS://host", Violation::Misdirected),
            ("http:///x", Violation::HostInvalid),
            ("http://:80/x", Violation::HostInvalid),
            ("http://user@host/", Violation::HostInvalid),
            ("http://host:x/", Violation::HostInvalid),
        ] {
            assert_eq!(Target::parse(Method::Get, raw.as_bytes()), Err(violation), "{raw}");
        }
    }

    #[test]
    fn forms_go_with_methods() {
        let form = |method, raw: &'static str| Target::parse(method, raw.as_bytes()).map(|target| target.form);
        assert_eq!(form(Method::Options, "*"), Ok(Form::Asterisk));
        assert_eq!(form(Method::Options, "http://a:1"), Ok(Form::Asterisk));
        assert_eq!(form(Method::Options, "/x"), Ok(Form::Origin));
        assert_eq!(form(Method::Connect, "a:443"), Ok(Form::Authority));
        for raw in ["a", "a:", "/x", "*", "http://a/"] {
            assert_eq!(form(Method::Connect, raw), Err(Violation::TargetForm), "{raw}");
        }
    }

    const HOSTS: &[&str] = &[
        "",
        "a",
        "a.b:80",
        "a:",
        "[::1]",
        "[::1]:80",
        "127.0.0.1:65535",
        "a_b",
        "%41",
        "[v1.a:b]",
        "a!",
        "[fe80::1%eth0]",
        "[fe80::1%eth0]:80",
        "[fe80::1%25eth0]",
        "[fe80::1%25en%2D1]:80",
        "[fe80::1%5]",
        "[fe80::1%br-1.2_~]",
    ];

    const NO_HOSTS: &[&str] = &[
        "a b",
        "a:b",
        "a:65536",
        "a:1:2",
        "[::1",
        "::1",
        "[x]",
        "a/b",
        "a@b",
        "a?b",
        "%4",
        "[::1]x",
        "a\t",
        "é",
        "a,b",
        "[v1]",
        "[v.a]",
        "[vg.a]",
        "[v1.]",
        "[fe80::1%]",
        "[fe80::1%25]",
        "[fe80::1%a b]",
        "[fe80::1%a/b]",
        "[fe80::1%a@b]",
        "[fe80::1%a:b]",
        "[fe80::1%a%4]",
        "[fe80::1%é]",
        "[fe80::1%lo",
        "[%lo]",
        "[x%lo]",
        "[127.0.0.1%lo]",
        "127.0.0.1%lo",
        "[v1.a%lo]",
        "[]",
        "[[::1]]",
    ];

    #[test]
    fn hosts() {
        for good in HOSTS {
            assert!(is_host_and_port(good.as_bytes()), "{good}");
        }
        for bad in NO_HOSTS {
            assert!(!is_host_and_port(bad.as_bytes()), "{bad}");
        }
    }
}
