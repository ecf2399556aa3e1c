//! Cookies (RFC 6265, sections 4 and 5): the Cookie field is read leniently, Set-Cookie is written strictly.
//!
//! The caller decides what a cookie means and whether to trust it: any client can send any value.

use std::io::Write;

use crate::http::chars::{is_token, trim_ows};

/// The name and value pairs of a Cookie value, in the order sent. A name may occur twice.
///
/// User agents store nearly every cookie (section 5.2) and send it back. So only a part without `=` or without a name
/// is skipped. Quotes around a value are dropped. A `;` always separates, even inside quotes.
pub fn parse(value: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
    value.split(|&byte| byte == b';').filter_map(|pair| {
        let equals = memchr::memchr(b'=', pair)?;
        let name = trim_ows(&pair[..equals]);
        let value = trim_ows(&pair[equals + 1..]);
        (!name.is_empty()).then_some((name, unquote(value)))
    })
}

fn unquote(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    }
}

/// The part of a cookie that holds a forbidden byte, with which it could break out of its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadCookie {
    Name,
    Value,
    Path,
}

impl std::fmt::Display for BadCookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            BadCookie::Name => "a cookie's name is a token",
            BadCookie::Value => "a cookie's value has no control byte, space, quote, comma, semicolon or backslash",
            BadCookie::Path => "a cookie's path begins with a slash and has no control byte or semicolon",
        })
    }
}

impl std::error::Error for BadCookie {}

/// RFC 6265bis, section 5.6.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    Strict,
    Lax,
    /// User agents accept this for secure cookies only, so `Secure` is written with it.
    None,
}

/// A cookie to set. Its name, value and path are checked when given, so that writing cannot fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetCookie<'a> {
    name: &'a [u8],
    value: &'a [u8],
    path: Option<&'a [u8]>,
    /// Seconds to live; 0 deletes the cookie, None keeps it for the user agent's session.
    pub max_age: Option<u64>,
    pub http_only: bool,
    pub secure: bool,
    pub same_site: Option<SameSite>,
}

impl<'a> SetCookie<'a> {
    pub fn new(name: &'a [u8], value: &'a [u8]) -> Result<SetCookie<'a>, BadCookie> {
        if !is_token(name) {
            return Err(BadCookie::Name);
        }
        if !value.iter().all(|&byte| is_cookie_octet(byte)) {
            return Err(BadCookie::Value);
        }
        Ok(SetCookie { name, value, path: None, max_age: None, http_only: false, secure: false, same_site: None })
    }

    /// Limits the cookie to this path and the paths below it. A path that does not begin with a slash is refused,
    /// because user agents ignore it (section 5.2.4).
    pub fn with_path(mut self, path: &'a [u8]) -> Result<SetCookie<'a>, BadCookie> {
        let is_path_byte = |&byte: &u8| matches!(byte, 0x20..=0x7e) && byte != b';';
        if !path.starts_with(b"/") || !path.iter().all(is_path_byte) {
            return Err(BadCookie::Path);
        }
        self.path = Some(path);
        Ok(self)
    }

    /// Writes the value of a Set-Cookie field. Several cookies need several fields: they cannot be joined into a list.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.name);
        out.push(b'=');
        out.extend_from_slice(self.value);
        if let Some(seconds) = self.max_age {
            // Writing to a Vec cannot fail.
            let _ = write!(out, "; Max-Age={seconds}");
        }
        if let Some(path) = self.path {
            out.extend_from_slice(b"; Path=");
            out.extend_from_slice(path);
        }
        if self.http_only {
            out.extend_from_slice(b"; HttpOnly");
        }
        if self.secure || self.same_site == Some(SameSite::None) {
            out.extend_from_slice(b"; Secure");
        }
        match self.same_site {
            Some(SameSite::Strict) => out.extend_from_slice(b"; SameSite=Strict"),
            Some(SameSite::Lax) => out.extend_from_slice(b"; SameSite=Lax"),
            Some(SameSite::None) => out.extend_from_slice(b"; SameSite=None"),
            None => {}
        }
    }
}

/// Section 4.1.1: US-ASCII without control bytes, white space, double quote, comma, semicolon and backslash.
const fn is_cookie_octet(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(value: &str) -> Vec<(&str, &str)> {
        let text = |bytes| str::from_utf8(bytes).unwrap_or("not UTF-8");
        parse(value.as_bytes()).map(|(name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn pairs_are_read_leniently() {
        assert_eq!(pairs("SID=31d4d96e407aad42; lang=en-US"), [("SID", "31d4d96e407aad42"), ("lang", "en-US")]);
        assert_eq!(pairs("a=1;b=2 ;\tc = 3 "), [("a", "1"), ("b", "2"), ("c", "3")]);
        assert_eq!(pairs("a=b=c; a=; a=\"q\"; a=\""), [("a", "b=c"), ("a", ""), ("a", "q"), ("a", "\"")]);
        assert_eq!(pairs("nameless; =x; ;; a=\"x;y\""), [("a", "\"x")]);
        assert_eq!(pairs(""), []);
    }

    fn written(cookie: Result<SetCookie, BadCookie>) -> String {
        let mut out = Vec::new();
        match cookie {
            Ok(cookie) => cookie.write(&mut out),
            Err(bad) => out.extend_from_slice(bad.to_string().as_bytes()),
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn attributes_are_written_when_set() {
        assert_eq!(written(SetCookie::new(b"a", b"")), "a=");
        let cookie = SetCookie::new(b"a", b"b").and_then(|cookie| cookie.with_path(b"/x"));
        let cookie = cookie.map(|cookie| SetCookie {
            max_age: Some(0),
            http_only: true,
            same_site: Some(SameSite::Lax),
            ..cookie
        });
        assert_eq!(written(cookie.clone()), "a=b; Max-Age=0; Path=/x; HttpOnly; SameSite=Lax");
        let cookie = cookie.map(|cookie| SetCookie { same_site: Some(SameSite::None), ..cookie });
        assert_eq!(written(cookie), "a=b; Max-Age=0; Path=/x; HttpOnly; Secure; SameSite=None");
    }

    #[test]
    fn nothing_breaks_out_of_a_cookie() {
        for name in [&b""[..], b"a b", b"a=b", b"a;b", b"a\r\n", b"\xe9"] {
            assert_eq!(SetCookie::new(name, b""), Err(BadCookie::Name), "{name:?}");
        }
        for value in [&b"a b"[..], b"a;b", b"a,b", b"\"", b"a\\b", b"\r\nSet-Cookie: x=y", b"\xe9", b"\x7f"] {
            assert_eq!(SetCookie::new(b"a", value), Err(BadCookie::Value), "{value:?}");
        }
        for path in [&b""[..], b"x", b"/;Secure", b"/\n", b"/\xe9"] {
            let cookie = SetCookie::new(b"a", b"").and_then(|cookie| cookie.with_path(path));
            assert_eq!(cookie, Err(BadCookie::Path), "{path:?}");
        }
    }
}
