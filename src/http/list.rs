//! Comma separated lists, the `#rule` of RFC 9110, section 5.6.1, and the semicolon separated parameters in their
//! elements (section 5.6.6).
//!
//! A separator inside a quoted-string does not separate. The caller checks whether an element is well formed. Do not
//! use this for entity tags: they look like quoted-strings, but have no quoted-pairs (see `etag`).

use crate::http::chars::trim_ows;

/// The elements of a list, without white space around them. Empty elements are skipped, as section 5.6.1.2 requires of
/// a recipient.
///
/// Several field lines of one name are one list (section 5.3): `lines.flat_map(list::elements)`.
pub fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    Split { rest: Some(value), separator: b',' }.map(trim_ows).filter(|element| !element.is_empty())
}

/// An element's name and then its parameters: `text/html; q=0.5` gives `text/html`, `q=0.5`. White space around a part
/// is removed. Empty parts are skipped, because section 5.6.6 allows `;;`.
pub fn parameters(element: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    Split { rest: Some(element), separator: b';' }.map(trim_ows).filter(|part| !part.is_empty())
}

#[derive(Clone)]
struct Split<'a> {
    rest: Option<&'a [u8]>,
    separator: u8,
}

impl<'a> Iterator for Split<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let bytes = self.rest.take()?;
        let end = next_separator(bytes, self.separator);
        // If `end` is the end of the value, no separator is there: the iterator ends.
        self.rest = bytes.get(end + 1..);
        Some(&bytes[..end])
    }
}

/// The position of the first `separator` outside a quoted-string, or the length. If a quote is not closed, everything
/// behind it is one malformed element: split at its commas, it could be read as several valid ones.
fn next_separator(bytes: &[u8], separator: u8) -> usize {
    let mut quoted = false;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted => at += 1,
            _ if byte == separator && !quoted => return at,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(value: &str) -> Vec<&[u8]> {
        elements(value.as_bytes()).collect()
    }

    #[test]
    fn the_rfc_examples_are_lists() {
        // RFC 9110, section 5.6.1.2.
        assert_eq!(list("foo,bar"), [b"foo", b"bar"]);
        assert_eq!(list("foo ,bar,"), [b"foo", b"bar"]);
        assert_eq!(list("foo , ,bar,charlie"), [&b"foo"[..], b"bar", b"charlie"]);
        for empty in ["", ",", ",   ,", " \t"] {
            assert_eq!(list(empty), Vec::<&[u8]>::new());
        }
    }

    #[test]
    fn a_quoted_comma_does_not_separate() {
        assert_eq!(list(r#"a="x, y" , b"#), [&br#"a="x, y""#[..], b"b"]);
        assert_eq!(list(r#""a\",b",c"#), [&br#""a\",b""#[..], b"c"]);
    }

    #[test]
    fn an_unclosed_quote_keeps_the_rest_together() {
        assert_eq!(list(r#"a, "b, c"#), [&b"a"[..], br#""b, c"#]);
        assert_eq!(list("\"a\\"), [b"\"a\\"]);
    }

    #[test]
    fn parameters_come_after_the_name() {
        let parts: Vec<_> = parameters(br#"text/html ; a="x;y" ;; q=0.5"#).collect();
        assert_eq!(parts, [&b"text/html"[..], br#"a="x;y""#, b"q=0.5"]);
    }
}
