//! The path of a request as a file path: percent-decoded, with several slashes in a row merged into one. And the rest
//! of a request's path behind a route's own path, which the handler gets.

use crate::http::escape;
use crate::http::target::Target;
use std::borrow::Cow;

/// The rest of a request's path behind the route's own path.
#[derive(Debug)]
pub struct Rest<'a> {
    /// Percent-encoded, as in `Target::path`.
    pub encoded: &'a [u8],
    /// Decoded. `None` if a segment holds an encoded slash, because no file name holds a slash, or if the route is a
    /// proxy or an application.
    pub decoded: Option<Cow<'a, [u8]>>,
    /// As received, for a route that passes requests on. Equal to `encoded` if the request has the route's own path in
    /// another spelling.
    pub raw: &'a [u8],
}

impl<'a> Rest<'a> {
    /// `path`: the whole path, as `decoded` returns it. `at`: the length of the route's own path.
    pub fn new(target: &'a Target, path: Option<Cow<'a, [u8]>>, at: usize) -> Rest<'a> {
        let decoded = path.map(|path| match path {
            Cow::Borrowed(path) => Cow::Borrowed(&path[at..]),
            Cow::Owned(mut path) => {
                path.drain(..at);
                Cow::Owned(path)
            }
        });
        let encoded = &target.path[at..];
        Rest { encoded, decoded, raw: encoded }
    }

    /// The rest for a route that passes requests on. `is_raw`: the path as received also begins with the route's own
    /// path.
    pub fn passed_on(target: &'a Target, at: usize, is_raw: bool) -> Rest<'a> {
        let encoded = &target.path[at..];
        Rest { encoded, decoded: None, raw: if is_raw { &target.raw_path()[at..] } else { encoded } }
    }
}

/// The path of a target, decoded, with single slashes. `None` if a segment holds an encoded slash.
pub fn decoded<'a>(target: &'a Target) -> Option<Cow<'a, [u8]>> {
    let encoded = &*target.path;
    if target.plain {
        return Some(Cow::Borrowed(encoded));
    }
    if encoded.windows(3).any(|three| three == b"%2F") {
        return None;
    }
    let path = escape::decode(encoded).ok()?;
    if !path.windows(2).any(|two| two == b"//") {
        return Some(path);
    }
    let mut merged = Vec::with_capacity(path.len());
    for &byte in path.iter() {
        if byte != b'/' || merged.last() != Some(&b'/') {
            merged.push(byte);
        }
    }
    Some(Cow::Owned(merged))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::method::Method;

    #[test]
    fn the_rest_is_decoded_and_has_single_slashes() {
        for (path, encoded, expected) in [
            ("/files/a/b.txt", "a/b.txt", Some("a/b.txt")),
            ("/files/", "", Some("")),
            ("/files//a//b/", "/a//b/", Some("a/b/")),
            ("/files/a%20%62?q", "a%20b", Some("a b")),
            ("/files/.a/./b", ".a/b", Some(".a/b")),
            ("/files/%25", "%25", Some("%")),
            ("/files/a%2fb", "a%2Fb", None),
        ] {
            let target = Target::parse(Method::Get, path.as_bytes()).unwrap();
            let rest = Rest::new(&target, decoded(&target), "/files/".len());
            assert_eq!(rest.encoded, encoded.as_bytes(), "{path}");
            assert_eq!(rest.decoded.as_deref(), expected.map(str::as_bytes), "{path}");
        }
    }
}
