//! How the paths of a prefix here correspond to the paths of the upstreams behind it.
//!
//! | `--proxy` | `/api` | `/api/` | `/api/x` | `/api//x` |
//! |---|---|---|---|---|
//! | `/api=http://host` | `/api` | `/api/` | `/api/x` | `/api//x` |
//! | `/api=http://host/` | `/` | `/` | `/x` | `//x` |
//! | `/api=http://host/v1` | `/v1` | `/v1/` | `/v1/x` | `/v1//x` |
//! | `/api=http://host/v1/` | `/v1/` | `/v1/` | `/v1/x` | `/v1//x` |
//! | `/api/=http://host/v1`, or `/v1/` | not below the prefix | `/v1/` | `/v1/x` | `/v1//x` |
//!
//! So a final slash of the prefix or of the URL never joins two segments into one, as it does with nginx, and never
//! removes a slash.

use std::borrow::Cow;

/// A prefix, and what replaces it.
#[derive(Debug, PartialEq, Eq)]
pub struct Paths {
    /// As the user wrote it.
    prefix: String,
    /// The prefix without a final slash: empty for `/`.
    outer: String,
    /// What replaces it, without a final slash.
    inner: String,
    /// The upstream's path if the request's path is exactly the prefix.
    whole: String,
    /// What replaces the prefix if more of the path follows.
    start: String,
}

impl Paths {
    /// `replacement`: the path of the upstreams' URLs; the prefix itself, if they have none.
    pub fn new(prefix: &str, replacement: &str) -> Paths {
        let bare = |path: &str| path.strip_suffix('/').unwrap_or(path).to_owned();
        let (outer, inner) = (bare(prefix), bare(replacement));
        let (whole, start) = match prefix.ends_with('/') {
            // The prefix ends in a slash, so the replacement does too.
            true => (format!("{inner}/"), format!("{inner}/")),
            false => (replacement.to_owned(), inner.clone()),
        };
        Paths { prefix: prefix.to_owned(), outer, inner, whole, start }
    }

    /// The part of a request's path that the upstreams do not see; empty if the path is passed on unchanged.
    pub fn taken_off(&self) -> &str {
        if self.outer == self.inner { "" } else { &self.outer }
    }

    /// Writes the path for the upstream. `rest`: what follows the prefix; its bytes are not changed.
    pub fn write(&self, rest: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(if rest.is_empty() { self.whole.as_bytes() } else { self.start.as_bytes() });
        out.extend_from_slice(rest);
    }

    /// Maps a path of an upstream, which may end in a query and a fragment, to the path of a client. `None`: clients cannot
    /// reach it, or the result could be read as another host's name (`//`). `told`: the prefix that the upstream was told in
    /// X-Forwarded-Prefix. A path below it is left unchanged: an upstream that heeds the field has added it.
    pub fn here<'a>(&self, path: &'a [u8], told: &[u8]) -> Option<Cow<'a, [u8]>> {
        let behind = below(path, &self.inner)?;
        if self.outer == self.inner || self.is_here(path, told) {
            return Some(Cow::Borrowed(path));
        }
        let start = if behind.starts_with(b"/") { &self.outer } else { &self.prefix };
        let here = [start.as_bytes(), behind].concat();
        (!matches!(here[..], [b'/', b'/' | b'\\', ..])).then_some(Cow::Owned(here))
    }

    /// The path here for a cookie's `Path`. A cookie for all paths of the upstream is for the whole prefix, with and
    /// without a slash behind it.
    pub fn here_for_cookie<'a>(&self, path: &'a [u8], told: &[u8]) -> Option<Cow<'a, [u8]>> {
        let is_all = matches!(below(path, &self.inner)?, b"" | b"/");
        match is_all && self.outer != self.inner && !self.is_here(path, told) {
            true => Some(Cow::Owned(self.prefix.clone().into_bytes())),
            false => self.here(path, told),
        }
    }

    /// Whether a path is below the prefix `told`, if that prefix could itself be a path of the upstreams. If it could
    /// not, `here` never rewrites a path below it.
    fn is_here(&self, path: &[u8], told: &[u8]) -> bool {
        let told = std::str::from_utf8(told).unwrap_or_default();
        !told.is_empty() && below(told.as_bytes(), &self.inner).is_some() && below(path, told).is_some()
    }
}

/// What follows `start`, if the path ends there or continues with a slash, a query or a fragment.
fn below<'a>(path: &'a [u8], start: &str) -> Option<&'a [u8]> {
    path.strip_prefix(start.as_bytes()).filter(|behind| matches!(behind, [] | [b'/' | b'?' | b'#', ..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_is_neither_lost_nor_missing() {
        for (prefix, replacement, cases) in [
            ("/api", "/api", [("", "/api"), ("/", "/api/"), ("/x", "/api/x"), ("//x", "/api//x")]),
            ("/api", "/", [("", "/"), ("/", "/"), ("/x", "/x"), ("//x", "//x")]),
            ("/api", "/v1", [("", "/v1"), ("/", "/v1/"), ("/x", "/v1/x"), ("//x", "/v1//x")]),
            ("/api", "/v1/", [("", "/v1/"), ("/", "/v1/"), ("/x", "/v1/x"), ("//x", "/v1//x")]),
            ("/api/", "/api/", [("", "/api/"), ("/", "/api//"), ("x", "/api/x"), ("/x", "/api//x")]),
            ("/api/", "/", [("", "/"), ("/", "//"), ("x", "/x"), ("/x", "//x")]),
            ("/api/", "/v1", [("", "/v1/"), ("/", "/v1//"), ("x", "/v1/x"), ("/x", "/v1//x")]),
            ("/api/", "/v1/", [("", "/v1/"), ("/", "/v1//"), ("x", "/v1/x"), ("/x", "/v1//x")]),
            ("/", "/", [("", "/"), ("/", "//"), ("x", "/x"), ("/x", "//x")]),
            ("/", "/v1", [("", "/v1/"), ("/", "/v1//"), ("x", "/v1/x"), ("/x", "/v1//x")]),
            ("/", "/v1/", [("", "/v1/"), ("/", "/v1//"), ("x", "/v1/x"), ("/x", "/v1//x")]),
        ] {
            let paths = Paths::new(prefix, replacement);
            for (rest, expected) in cases {
                let mut out = Vec::new();
                paths.write(rest.as_bytes(), &mut out);
                assert_eq!(String::from_utf8(out).unwrap(), expected, "{prefix} {replacement} {rest:?}");
            }
        }
    }

    #[test]
    fn a_path_of_an_upstream_is_found_here() {
        for (prefix, replacement, told, path, expected) in [
            ("/api", "/", "/api", "/x?q#f", Some("/api/x?q#f")),
            ("/api", "/", "/api", "/", Some("/api/")),
            ("/api", "/", "/api", "", Some("/api")),
            ("/api", "/", "/api", "?q", Some("/api?q")),
            ("/api", "/", "/api", "/api/x", Some("/api/x")),
            ("/api", "/", "/api", "/api", Some("/api")),
            ("/api", "/", "/api", "/apix", Some("/api/apix")),
            ("/api", "/", "/outer/api", "/outer/api/x", Some("/outer/api/x")),
            ("/api", "/", "/api", "//x", Some("/api//x")),
            ("/api", "/v1", "/api", "/v1", Some("/api")),
            ("/api", "/v1", "/api", "/v1?q", Some("/api?q")),
            ("/api", "/v1", "/api", "/v1/", Some("/api/")),
            ("/api", "/v1/", "/api", "/v1/x", Some("/api/x")),
            ("/api", "/v1", "/api", "/v10", None),
            ("/api", "/v1", "/api", "/api/x", None),
            ("/api", "/v1", "/api", "/", None),
            ("/api", "/api/v1", "/api", "/api/v1/x", Some("/api/x")),
            ("/api/", "/v1", "/api", "/v1", Some("/api/")),
            ("/api/", "/v1", "/api", "/v1/x", Some("/api/x")),
            ("/", "/v1", "", "/v1", Some("/")),
            ("/", "/v1", "", "/v1?q", Some("/?q")),
            ("/", "/v1", "", "/v1/x", Some("/x")),
            ("/", "/v1", "", "/v1//evil.example", None),
            ("/", "/v1", "", "/v1/\\evil.example", None),
            ("/", "/v1", "", "/x", None),
            ("/api", "/api", "", "/api/x", Some("/api/x")),
            ("/api", "/api", "", "/x", None),
            ("/", "/", "", "/x", Some("/x")),
        ] {
            let paths = Paths::new(prefix, replacement);
            let here = paths.here(path.as_bytes(), told.as_bytes());
            assert_eq!(here.as_deref(), expected.map(str::as_bytes), "{prefix} {replacement} {path}");
        }
        for (prefix, replacement, path, expected) in [
            ("/api", "/", "/", Some("/api")),
            ("/api", "/", "/x", Some("/api/x")),
            ("/api", "/", "/api/", Some("/api/")),
            ("/api", "/v1", "/v1", Some("/api")),
            ("/api", "/v1", "/v1/", Some("/api")),
            ("/api", "/v1", "/v1/x/", Some("/api/x/")),
            ("/api", "/v1", "/", None),
            ("/api/", "/v1", "/v1/", Some("/api/")),
            ("/", "/v1", "/v1/", Some("/")),
            ("/api", "/api/", "/api/", Some("/api/")),
        ] {
            let paths = Paths::new(prefix, replacement);
            let here = paths.here_for_cookie(path.as_bytes(), paths.taken_off().as_bytes());
            assert_eq!(here.as_deref(), expected.map(str::as_bytes), "{prefix} {replacement} {path}");
        }
    }
}
