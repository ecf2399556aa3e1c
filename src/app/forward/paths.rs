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
//! So a final slash of the prefix or of the URL never joins two segments into one, as it does with nginx, and never takes a
//! slash away.

/// A prefix, and what replaces it.
#[derive(Debug, PartialEq, Eq)]
pub struct Paths {
    /// What the path becomes that is the prefix and nothing more.
    whole: String,
    /// What the prefix becomes where more of the path follows.
    start: String,
}

impl Paths {
    /// `replacement`: the path of the upstreams' URLs; the prefix itself, if they have none.
    pub fn new(prefix: &str, replacement: &str) -> Paths {
        let start = replacement.strip_suffix('/').unwrap_or(replacement).to_owned();
        match prefix.ends_with('/') {
            // Its own path has a slash at the end: it keeps it.
            true => Paths { whole: format!("{start}/"), start: format!("{start}/") },
            false => Paths { whole: replacement.to_owned(), start },
        }
    }

    /// Writes the path for the upstream. `rest`: what follows the prefix. It is passed on to the byte.
    pub fn write(&self, rest: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(if rest.is_empty() { self.whole.as_bytes() } else { self.start.as_bytes() });
        out.extend_from_slice(rest);
    }
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
}
