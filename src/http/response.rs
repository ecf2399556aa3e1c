//! The head of a response from an upstream (RFC 9112, section 4): status line and field section. It is parsed as
//! strictly as the head of a request, and by the same functions. A client may tolerate a malformed head. A proxy must
//! not, because it would pass on bytes that the next recipient may understand differently.

use crate::http::head::{Field, HeadLimits, Name, Span, next_line, parse_field, parse_version};
use crate::http::violation::Violation;
use memchr::{memchr, memmem, memrchr};

/// A parsed head, as spans over its bytes.
#[derive(Debug, Default)]
pub struct ResponseHead {
    pub status: u16,
    pub reason: Span,
    /// The y of HTTP/1.y.
    pub minor: u8,
    pub fields: Vec<Field>,
    /// The length of the head, including CRLFCRLF.
    pub len: usize,
}

impl ResponseHead {
    /// Parses the head at the start of `bytes`. `None` if its end has not arrived and the lines so far are valid: a
    /// server that does not speak HTTP is noticed at its first invalid line, not at a timeout. `scanned` is where the
    /// search for the end continues. The caller keeps it between calls.
    pub fn parse(bytes: &[u8], limits: &HeadLimits, scanned: &mut usize) -> Result<Option<ResponseHead>, Violation> {
        let start = &b"HTTP/1."[..bytes.len().min(7)];
        if !bytes.starts_with(start) {
            return Err(Violation::NotHttp);
        }
        let from = scanned.saturating_sub(3);
        let Some(end) = memmem::find(&bytes[from..], b"\r\n\r\n").map(|at| from + at + 4) else {
            let news = memchr(b'\n', &bytes[*scanned..]).is_some();
            *scanned = bytes.len();
            if let Some(last) = memrchr(b'\n', bytes).filter(|_| news) {
                ResponseHead::parse_lines(&bytes[..last + 1], limits)?;
            }
            return if bytes.len() >= limits.size { Err(Violation::HeadTooLarge) } else { Ok(None) };
        };
        *scanned = 0;
        ResponseHead::parse_lines(&bytes[..end], limits).map(Some)
    }

    /// Parses complete lines, each ending in LF. The empty line that ends the head may be the last of them.
    fn parse_lines(bytes: &[u8], limits: &HeadLimits) -> Result<ResponseHead, Violation> {
        let mut head = ResponseHead { len: bytes.len(), ..ResponseHead::default() };
        let line = next_line(bytes, 0, limits)?;
        let mut at = line.end + 2;
        head.parse_status_line(&bytes[line])?;
        while at < bytes.len() {
            let line = next_line(bytes, at, limits)?;
            at = line.end + 2;
            if line.is_empty() {
                break;
            }
            if head.fields.len() == limits.fields {
                return Err(Violation::TooManyFields);
            }
            let (name, value) = parse_field(bytes, line, head.fields.is_empty())?;
            head.fields.push(Field { known: Name::of(name.of(bytes)), name, value });
        }
        Ok(head)
    }

    /// The values of all fields with this name, in order.
    pub fn values<'a>(&'a self, bytes: &'a [u8], name: Name) -> impl Iterator<Item = &'a [u8]> + Clone {
        self.fields.iter().filter(move |field| field.known == name).map(|field| field.value.of(bytes))
    }

    /// Parses version, space, three digits, space and reason. Many servers leave out the reason together with its
    /// space.
    fn parse_status_line(&mut self, line: &[u8]) -> Result<(), Violation> {
        let version_end = memchr(b' ', line).ok_or(Violation::Version)?;
        self.minor = parse_version(&line[..version_end])?;
        let rest = &line[version_end + 1..];
        let (digits, reason) = rest.split_at(rest.len().min(3));
        if digits.len() < 3 || !digits.iter().all(u8::is_ascii_digit) || !matches!(digits[0], b'1'..=b'5') {
            return Err(Violation::StatusLine);
        }
        self.status = digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
        let readable = |&byte: &u8| crate::http::chars::is_field_value_byte(byte);
        match reason {
            [] => {}
            [b' ', reason @ ..] if reason.iter().all(readable) => {
                self.reason = Span::new(version_end + 5..version_end + 5 + reason.len());
            }
            _ => return Err(Violation::StatusLine),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { size: 512, target: 64, fields: 8 };

    /// Parses the bytes in one piece. Checks that the result is the same byte by byte, and with bytes behind the head.
    fn parse(text: &str) -> Result<Option<ResponseHead>, Violation> {
        let bytes = text.as_bytes();
        let mut scanned = 0;
        let cut = (1..=bytes.len()).find_map(|end| {
            ResponseHead::parse(&bytes[..end], &LIMITS, &mut scanned).map(|head| head.map(|head| head.len)).transpose()
        });
        let behind = [bytes, b"HTTP/1.1 200 OK\r\n"].concat();
        let whole = ResponseHead::parse(bytes, &LIMITS, &mut 0);
        let len = whole.as_ref().map(|head| head.as_ref().map(|head| head.len)).map_err(|violation| *violation);
        assert_eq!(cut.transpose(), len, "{text:?}");
        if len != Ok(None) {
            let trailing = ResponseHead::parse(&behind, &LIMITS, &mut 0).map(|head| head.map(|head| head.len));
            assert_eq!(trailing, len, "{text:?}");
        }
        whole
    }

    #[test]
    fn heads_are_parsed() {
        let text = "HTTP/1.1 404 Not  Found\r\nA: b\r\nConnection:  close \r\n\r\n";
        let head = parse(text).unwrap().unwrap();
        assert_eq!((head.status, head.minor, head.len), (404, 1, text.len()));
        assert_eq!(head.reason.of(text.as_bytes()), b"Not  Found");
        assert_eq!(head.values(text.as_bytes(), Name::Connection).collect::<Vec<_>>(), [b"close"]);
        for text in ["HTTP/1.0 200\r\n\r\n", "HTTP/1.1 200 \r\n\r\n", "HTTP/1.1 200 \u{e9}\r\n\r\n"] {
            assert_eq!(parse(text).unwrap().unwrap().status, 200, "{text:?}");
        }
        assert!(parse("HTTP/1.1 200 OK\r\nA: b\r\n").unwrap().is_none());
    }

    #[test]
    fn broken_heads_name_their_rule() {
        for (text, violation) in [
            ("ICY 200 OK\r\n\r\n", Violation::NotHttp),
            ("HTTP/2 200\r\n\r\n", Violation::NotHttp),
            ("\r\nHTTP/1.1 200 OK\r\n\r\n", Violation::NotHttp),
            ("HTTP/1.x 200 OK\r\n\r\n", Violation::Version),
            ("HTTP/1.1 20 OK\r\n\r\n", Violation::StatusLine),
            ("HTTP/1.1 2000 OK\r\n\r\n", Violation::StatusLine),
            ("HTTP/1.1 +20 OK\r\n\r\n", Violation::StatusLine),
            ("HTTP/1.1 099 OK\r\n\r\n", Violation::StatusLine),
            ("HTTP/1.1 600 OK\r\n\r\n", Violation::StatusLine),
            ("HTTP/1.1  200 OK\r\n\r\n", Violation::StatusLine),
            ("HTTP/1.1 200 O\0K\r\n\r\n", Violation::StatusLine),
            ("HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n", Violation::ObsFold),
            ("HTTP/1.1 200 OK\r\na : b\r\n\r\n", Violation::SpaceBeforeColon),
            ("HTTP/1.1 200 OK\r\na: b\nc: d\r\n\r\n", Violation::BareLf),
            ("HTTP/1.1 200 OK\r\na: b\rc\r\n\r\n", Violation::BareCr),
            ("HTTP/1.1 200 OK\r\na: \x01\r\n\r\n", Violation::FieldValue),
        ] {
            assert_eq!(parse(text).err(), Some(violation), "{text:?}");
        }
        for (text, violation) in [
            ("HTTP/1.1 200 OK\n", Violation::BareLf),
            ("HTTP/1.1 200 OK\r\na: b\n", Violation::BareLf),
            ("HTTP/1.1 20 OK\r\n", Violation::StatusLine),
            ("HTTP/1.1 200 OK\r\na\r\n", Violation::FieldName),
        ] {
            assert_eq!(parse(text).err(), Some(violation), "before its end: {text:?}");
        }
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(9));
        assert_eq!(parse(&many).err(), Some(Violation::TooManyFields));
        assert_eq!(parse(&format!("HTTP/1.1 200 {}", "a".repeat(600))).err(), Some(Violation::HeadTooLarge));
    }
}
