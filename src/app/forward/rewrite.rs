//! Rewrites fields in which an upstream names its own places, so that they are right for the client. Otherwise a
//! redirect or a cookie of an upstream below a replaced prefix would lead to a path that belongs to another route.
//!
//! | field | what is rewritten |
//! |---|---|
//! | `Location`, `Content-Location`, `Refresh` | the path of a bare reference, or of a URL under the request's host; a URL under the upstream's own host and port becomes a bare path |
//! | `Set-Cookie` | the attribute `Path`; not of a cookie `__Host-`, which browsers take with `Path=/` only |
//!
//! These are the fields that `proxy_redirect` and `proxy_cookie_path` of nginx and `ProxyPassReverse` of Apache
//! rewrite. All else is passed on unchanged: paths that are not below the upstreams' path, relative references, other
//! hosts, `Domain`.

use crate::app::forward::paths::Paths;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// How the places of a prefix here correspond to those of its upstreams.
#[derive(Debug)]
pub struct Mapping {
    pub paths: Paths,
    /// The hosts of the upstreams' URLs, each with its port.
    pub upstreams: Vec<String>,
    /// `--proxy-rewrite`
    pub rewrites: bool,
}

/// The mapping, and what one request adds to it: the names under which this server was addressed.
#[derive(Debug)]
pub struct Rewriting {
    pub mapping: Arc<Mapping>,
    /// The hosts under which the client addressed this server, as the upstream was told.
    pub hosts: Vec<Vec<u8>>,
    /// The prefix that the upstream was told in X-Forwarded-Prefix.
    pub told: Vec<u8>,
}

impl Rewriting {
    /// The value of a response's field for the client.
    pub fn value<'a>(&self, name: &[u8], value: &'a [u8]) -> Cow<'a, [u8]> {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        if !self.mapping.rewrites {
            return Cow::Borrowed(value);
        }
        if is("location") || is("content-location") {
            return self.replaced(value, 0..value.len(), Rewriting::reference);
        }
        if is("refresh") {
            return self.replaced(value, refresh_target(value), Rewriting::reference);
        }
        if is("set-cookie") && !value.get(..7).is_some_and(|start| start.eq_ignore_ascii_case(b"__Host-")) {
            return match cookie_path(value) {
                Some(path) => self.replaced(value, path, Rewriting::cookie),
                None => Cow::Borrowed(value),
            };
        }
        Cow::Borrowed(value)
    }

    /// The value with `part` rewritten, if that is a reference that has to be.
    fn replaced<'a>(
        &self,
        value: &'a [u8],
        part: Range<usize>,
        rewrite: fn(&Rewriting, &[u8]) -> Option<Vec<u8>>,
    ) -> Cow<'a, [u8]> {
        match rewrite(self, &value[part.clone()]) {
            Some(new) => Cow::Owned([&value[..part.start], &new, &value[part.end..]].concat()),
            None => Cow::Borrowed(value),
        }
    }

    /// Rewrites a URI reference. `None`: it is passed on unchanged.
    fn reference(&self, reference: &[u8]) -> Option<Vec<u8>> {
        // Browsers remove tabs from a URL, and so could see another URL than this function.
        if reference.iter().any(u8::is_ascii_control) {
            return None;
        }
        let here = |path| self.mapping.paths.here(path, &self.told);
        if reference.starts_with(b"/") && !matches!(reference, [b'/', b'/' | b'\\', ..]) {
            return here(reference).map(Cow::into_owned);
        }
        let (scheme, rest) = scheme(reference)?;
        let end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let is_same = |other: &[u8]| with_port(authority, scheme).eq_ignore_ascii_case(&with_port(other, scheme));
        if self.hosts.iter().any(|host| is_same(host)) {
            let start = &reference[..reference.len() - path.len()];
            return here(path).map(|path| [start, &path].concat());
        }
        if scheme == Scheme::Http && self.mapping.upstreams.iter().any(|upstream| is_same(upstream.as_bytes())) {
            let path = here(path)?;
            // A bare reference needs a path, and its first slash must not be read as the beginning of a host.
            return match path[..] {
                [b'/', b'/' | b'\\', ..] => None,
                [b'/', ..] => Some(path.into_owned()),
                _ => Some([b"/", &path[..]].concat()),
            };
        }
        None
    }

    fn cookie(&self, path: &[u8]) -> Option<Vec<u8>> {
        path.starts_with(b"/")
            .then(|| self.mapping.paths.here_for_cookie(path, &self.told))
            .flatten()
            .map(Cow::into_owned)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

/// The scheme of an absolute URL or of a reference that begins with `//`, and what follows the slashes.
fn scheme(reference: &[u8]) -> Option<(Scheme, &[u8])> {
    for (start, scheme) in [("http://", Scheme::Http), ("https://", Scheme::Https), ("//", Scheme::Http)] {
        if reference.get(..start.len()).is_some_and(|own| own.eq_ignore_ascii_case(start.as_bytes())) {
            return Some((scheme, &reference[start.len()..]));
        }
    }
    None
}

/// A host with its port, the default one included.
fn with_port(authority: &[u8], scheme: Scheme) -> Vec<u8> {
    let has_port = memchr::memrchr(b':', authority).is_some_and(|colon| !authority[colon..].contains(&b']'));
    let port: &[u8] = match scheme {
        _ if has_port => b"",
        Scheme::Http => b":80",
        Scheme::Https => b":443",
    };
    [authority, port].concat()
}

/// The position of the URL in a `Refresh`: `5; url=/x`, `5, '/x'` (HTML, section 4.2.5.3).
fn refresh_target(value: &[u8]) -> Range<usize> {
    let none = value.len()..value.len();
    let skip_space = |from: usize| from + value[from..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let Some(separator) = value.iter().position(|byte| b";,".contains(byte)) else { return none };
    let mut start = skip_space(separator + 1);
    if value[start..].get(..3).is_some_and(|name| name.eq_ignore_ascii_case(b"url")) {
        let equals = skip_space(start + 3);
        if value.get(equals) == Some(&b'=') {
            start = skip_space(equals + 1);
        }
    }
    match value.get(start) {
        Some(quote @ (b'"' | b'\'')) => {
            let end = memchr::memchr(*quote, &value[start + 1..]).map_or(value.len(), |found| start + 1 + found);
            start + 1..end
        }
        _ => start..value.len(),
    }
}

/// The position of the value of the last `Path` of a Set-Cookie: browsers use the last one (RFC 6265, section 5.2).
fn cookie_path(value: &[u8]) -> Option<Range<usize>> {
    let mut found = None;
    let mut at = memchr::memchr(b';', value)? + 1;
    for attribute in value[at..].split(|&byte| byte == b';') {
        if let Some(equals) = memchr::memchr(b'=', attribute)
            && attribute[..equals].trim_ascii().eq_ignore_ascii_case(b"path")
        {
            let path = &attribute[equals + 1..];
            let start = at + equals + 1 + (path.len() - path.trim_ascii_start().len());
            found = Some(start..start + path.trim_ascii().len());
        }
        at += attribute.len() + 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewriting(prefix: &str, replacement: &str) -> Rewriting {
        let paths = Paths::new(prefix, replacement);
        let told = paths.taken_off().as_bytes().to_vec();
        let upstreams = vec!["app.internal:8000".to_owned(), "127.0.0.1:80".to_owned()];
        let mapping = Arc::new(Mapping { paths, upstreams, rewrites: true });
        Rewriting { mapping, hosts: vec![b"site.example".to_vec()], told }
    }

    fn check(rewriting: &Rewriting, name: &str, value: &str, expected: &str) {
        let found = rewriting.value(name.as_bytes(), value.as_bytes());
        assert_eq!(String::from_utf8_lossy(&found), expected, "{name}: {value}");
    }

    #[test]
    fn references_to_the_upstream_are_references_to_this_server() {
        let rewriting = rewriting("/api", "/v1");
        for (value, expected) in [
            ("/v1/x?q#f", "/api/x?q#f"),
            ("/v1", "/api"),
            ("http://app.internal:8000/v1/x", "/api/x"),
            ("HTTP://App.Internal:8000/v1", "/api"),
            ("http://127.0.0.1/v1/x", "/api/x"),
            ("//app.internal:8000/v1/x", "/api/x"),
            ("http://site.example/v1/x", "http://site.example/api/x"),
            ("https://SITE.example:443/v1/x", "https://SITE.example:443/api/x"),
            ("//site.example:80/v1?q", "//site.example:80/api?q"),
        ] {
            check(&rewriting, "Location", value, expected);
            check(&rewriting, "content-location", value, expected);
        }
        for left in [
            "",
            "x",
            "../v1/x",
            "?q",
            "#f",
            "/",
            "/v10",
            "/other",
            "//v1/x",
            "/\\v1/x",
            "/v1/\tx",
            "http://app.internal/v1/x",
            "https://app.internal:8000/v1/x",
            "http://app.internal:8000/other",
            "http://app.internal:8000",
            "http://app.internal:8000@evil.example/v1/x",
            "http://evil.example/v1/x",
            "https://site.example:80/v1/x",
            "http://site.example.evil.example/v1/x",
            "ftp://site.example/v1/x",
            "mailto:a@site.example",
        ] {
            check(&rewriting, "Location", left, left);
        }
        check(&rewriting, "Link", "/v1/x", "/v1/x");
    }

    #[test]
    fn no_rewritten_reference_names_another_host() {
        for (prefix, replacement) in [("/", "/v1"), ("/", "/"), ("/api", "/"), ("/api/", "/v1/"), ("/api", "/api")] {
            let rewriting = rewriting(prefix, replacement);
            for path in
                ["//evil.example", "/\\evil.example", "/v1//evil.example", "/v1/\\evil.example", "/v1/\t/evil.example"]
            {
                for start in ["", "http://app.internal:8000"] {
                    let value = format!("{start}{path}");
                    let found = rewriting.value(b"Location", value.as_bytes());
                    let is_other = matches!(found[..], [b'/', b'/' | b'\\', ..]) || found.contains(&b'\t');
                    assert!(!is_other || found == value.as_bytes(), "{value} {}", found.escape_ascii());
                }
            }
        }
    }

    #[test]
    fn the_root_of_an_upstream_is_the_prefix() {
        for (prefix, value, expected) in [
            ("/api", "http://app.internal:8000", "/api"),
            ("/api", "http://app.internal:8000/", "/api/"),
            ("/api", "http://app.internal:8000?q", "/api?q"),
            ("/api", "http://site.example", "http://site.example/api"),
            ("/", "http://app.internal:8000", "/"),
            ("/", "http://app.internal:8000?q", "/?q"),
            ("/", "http://app.internal:8000/x", "/x"),
        ] {
            check(&rewriting(prefix, "/"), "Location", value, expected);
        }
        // The prefix is not replaced: only the upstream's own host is wrong.
        for (value, expected) in [
            ("http://app.internal:8000/api/x", "/api/x"),
            ("http://app.internal:8000/x", "http://app.internal:8000/x"),
            ("http://site.example/api/x", "http://site.example/api/x"),
            ("/api/x", "/api/x"),
        ] {
            check(&rewriting("/api", "/api"), "Location", value, expected);
        }
    }

    #[test]
    fn the_url_of_a_refresh_is_rewritten() {
        for (value, expected) in [
            ("5; url=/v1/x", "5; url=/api/x"),
            ("0;URL = '/v1/x' y", "0;URL = '/api/x' y"),
            ("0, \"http://app.internal:8000/v1/x", "0, \"/api/x"),
            ("1;/v1", "1;/api"),
            ("5", "5"),
            ("5;", "5;"),
            ("5; url=", "5; url="),
            ("5; url=http://evil.example/v1/x", "5; url=http://evil.example/v1/x"),
        ] {
            check(&rewriting("/api", "/v1"), "Refresh", value, expected);
        }
    }

    #[test]
    fn the_path_of_a_cookie_is_rewritten_and_nothing_else() {
        for (value, expected) in [
            ("a=1; Path=/v1; HttpOnly", "a=1; Path=/api; HttpOnly"),
            ("a=1;path = /v1/x ;Domain=app.internal", "a=1;path = /api/x ;Domain=app.internal"),
            ("a=/v1; Path=/v1/", "a=/v1; Path=/api"),
            ("a=1; Path=/v1/x; PATH=/v1/y", "a=1; Path=/v1/x; PATH=/api/y"),
            ("a=1; Path=/", "a=1; Path=/"),
            ("a=1; Path=/v10", "a=1; Path=/v10"),
            ("a=1; Path", "a=1; Path"),
            ("a=1; Path=", "a=1; Path="),
            ("a=1; Path=\"/v1\"", "a=1; Path=\"/v1\""),
            ("a=1; XPath=/v1; Secure", "a=1; XPath=/v1; Secure"),
            ("Path=/v1", "Path=/v1"),
            ("a=\"x; Path=/v1\"", "a=\"x; Path=/v1\""),
            ("", ""),
            ("a=1;;; Path=/v1;", "a=1;;; Path=/api;"),
        ] {
            check(&rewriting("/api", "/v1"), "set-cookie", value, expected);
        }
        check(&rewriting("/api", "/"), "Set-Cookie", "a=1; Path=/; Secure", "a=1; Path=/api; Secure");
        check(&rewriting("/api", "/"), "Set-Cookie", "__host-a=1; Path=/; Secure", "__host-a=1; Path=/; Secure");
        check(&rewriting("/api", "/api"), "Set-Cookie", "a=1; Path=/api/", "a=1; Path=/api/");
    }
}
