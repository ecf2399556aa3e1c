//! The client's side of one exchange with an upstream: how the upstream's response is framed (RFC 9112, section 6.3),
//! and the framing of the request's content. It does no i/o. The server's side is `conn`.
//!
//! ```text
//!  response:  head ─► Nothing ───────────────────────► end     HEAD, 1xx, 204, 304
//!               ├───► Length ──last byte─────────────► end
//!               ├───► Chunked ──last chunk, trailers─► end
//!               └───► UntilClose ──orderly close─────► end     a close in any other state means: truncated
//! ```

use crate::http::chunked::{self, ChunkedDecoder, Decoded};
use crate::http::framing;
use crate::http::head::Name;
use crate::http::list;
use crate::http::number;
use crate::http::response::ResponseHead;
use crate::http::status::Status;
use crate::http::violation::Violation;
use crate::proto::buffer::Buffer;
use crate::proto::transfer::{self, Decoder};

/// How the end of the response's content is found.
#[derive(Debug)]
pub enum ResponseContent {
    Nothing,
    Framed(Decoder),
    UntilClose,
}

impl ResponseContent {
    /// The framing that a response's head announces. A head that can be read in two ways is refused. `to_head`: the
    /// request was HEAD.
    pub fn of(head: &ResponseHead, bytes: &[u8], to_head: bool) -> Result<ResponseContent, Violation> {
        let codings: Vec<&[u8]> = head.values(bytes, Name::TransferEncoding).flat_map(list::elements).collect();
        let coded = head.values(bytes, Name::TransferEncoding).next().is_some();
        let mut lengths = head.values(bytes, Name::ContentLength);
        let length = lengths.next();
        if lengths.next().is_some() {
            return Err(Violation::LengthTwice);
        }
        let length = length.map(|value| number::parse(value).ok_or(Violation::LengthInvalid)).transpose()?;
        if coded && length.is_some() {
            return Err(Violation::LengthWithCoding);
        }
        if to_head || Status(head.status).is_bodiless() {
            return Ok(ResponseContent::Nothing);
        }
        match (&codings[..], length) {
            ([], None) if !coded => Ok(ResponseContent::UntilClose),
            (_, Some(length)) => Ok(ResponseContent::Framed(Decoder::Length(length))),
            _ if head.minor == 0 => Err(Violation::CodingInOldVersion),
            ([only], None) if only.eq_ignore_ascii_case(b"chunked") => {
                Ok(ResponseContent::Framed(Decoder::Chunked(ChunkedDecoder::of_response())))
            }
            _ => Err(Violation::CodingUnknown),
        }
    }

    /// The length that the head announced, if any.
    pub fn length(&self) -> Option<u64> {
        match self {
            ResponseContent::Framed(Decoder::Length(length)) => Some(*length),
            _ => None,
        }
    }

    /// Checks the beginning of the content, as far as it has arrived, and consumes nothing: the size line of the first
    /// chunk. While the head has not been passed on, an error can still be told to the client.
    ///
    /// # Errors
    /// The framing is invalid.
    pub fn check_start(&self, input: &[u8]) -> Result<(), Violation> {
        match self {
            ResponseContent::Framed(Decoder::Chunked(decoder)) => decoder.clone().decode(input).map(drop),
            _ => Ok(()),
        }
    }

    /// Decodes the next piece. `closed`: the upstream has closed, so that nothing follows `input`.
    ///
    /// # Errors
    /// The framing is invalid, or the upstream closed before the end of the content (`Truncated`).
    pub fn decode(&mut self, input: &[u8], closed: bool) -> Result<Decoded, Violation> {
        let decoded = match self {
            ResponseContent::Nothing => Decoded { consumed: 0, data: 0..0, end: true },
            ResponseContent::Framed(decoder) => decoder.decode(input)?,
            ResponseContent::UntilClose => Decoded { consumed: input.len(), data: 0..input.len(), end: closed },
        };
        if closed && !decoded.end && decoded.consumed == input.len() {
            return Err(Violation::Truncated);
        }
        Ok(decoded)
    }
}

/// Whether the upstream keeps the connection open after this response.
pub fn persists(head: &ResponseHead, bytes: &[u8]) -> bool {
    framing::persists(head.minor, head.values(bytes, Name::Connection))
}

/// How the request's content is framed for the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Nothing,
    /// By the length that the client announced. The session checks that the client keeps to it.
    Length(u64),
    Chunked,
}

impl Framing {
    pub fn encode(self, data: &[u8], out: &mut Buffer) {
        match self {
            Framing::Chunked => transfer::push_chunk(data, out),
            Framing::Nothing | Framing::Length(_) => out.push(data),
        }
    }

    pub fn finish(self, out: &mut Buffer) {
        if self == Framing::Chunked {
            out.push(chunked::LAST_CHUNK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::HeadLimits;

    fn content(status: &str, fields: &str, to_head: bool) -> Result<String, Violation> {
        let bytes = format!("HTTP/1.{status} X\r\n{fields}\r\n").into_bytes();
        let limits = HeadLimits { size: 4096, target: 100, fields: 20 };
        let head = ResponseHead::parse(&bytes, &limits, &mut 0).unwrap().unwrap();
        ResponseContent::of(&head, &bytes, to_head).map(|content| match content {
            ResponseContent::Nothing => "nothing".into(),
            ResponseContent::Framed(Decoder::Length(length)) => length.to_string(),
            ResponseContent::Framed(Decoder::Chunked(_)) => "chunked".into(),
            ResponseContent::UntilClose => "close".into(),
        })
    }

    #[test]
    fn a_response_is_framed_one_way_or_refused() {
        for (status, fields, expected) in [
            ("1 200", "", Ok("close")),
            ("1 200", "Content-Length: 5\r\n", Ok("5")),
            ("1 200", "Transfer-Encoding: Chunked\r\n", Ok("chunked")),
            ("1 204", "Content-Length: 5\r\n", Ok("nothing")),
            ("1 304", "Content-Length: 5\r\n", Ok("nothing")),
            ("1 200", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(Violation::LengthWithCoding)),
            ("1 200", "Content-Length: 5\r\nContent-Length: 5\r\n", Err(Violation::LengthTwice)),
            ("1 200", "Content-Length: +5\r\n", Err(Violation::LengthInvalid)),
            ("1 200", "Content-Length: 5, 5\r\n", Err(Violation::LengthInvalid)),
            ("1 200", "Transfer-Encoding: gzip, chunked\r\n", Err(Violation::CodingUnknown)),
            ("1 200", "Transfer-Encoding:\r\n", Err(Violation::CodingUnknown)),
            ("0 200", "Transfer-Encoding: chunked\r\n", Err(Violation::CodingInOldVersion)),
        ] {
            assert_eq!(content(status, fields, false), expected.map(String::from), "{status} {fields:?}");
        }
        assert_eq!(content("1 200", "Content-Length: 5\r\n", true), Ok("nothing".into()));
    }

    #[test]
    fn a_cut_is_told_from_an_end() {
        let end =
            |content: &mut ResponseContent, input: &[u8], closed| content.decode(input, closed).map(|piece| piece.end);
        assert_eq!(end(&mut ResponseContent::UntilClose, b"a", false), Ok(false));
        assert_eq!(end(&mut ResponseContent::UntilClose, b"a", true), Ok(true));
        assert_eq!(end(&mut ResponseContent::Framed(Decoder::Length(2)), b"a", true), Err(Violation::Truncated));
        assert_eq!(end(&mut ResponseContent::Framed(Decoder::Length(1)), b"ab", true), Ok(true));
        assert_eq!(
            end(&mut ResponseContent::Framed(Decoder::Chunked(ChunkedDecoder::default())), b"1\r\n", true),
            Err(Violation::Truncated)
        );
    }

    #[test]
    fn the_first_size_line_is_checked_ahead_and_not_consumed() {
        let mut content = ResponseContent::Framed(Decoder::Chunked(ChunkedDecoder::of_response()));
        for (input, is_valid) in [("", true), ("2", true), ("2\r\nok", true), ("2\r\nokzz", true), ("2\n", false)] {
            assert_eq!(content.check_start(input.as_bytes()).is_ok(), is_valid, "{input:?}");
        }
        assert_eq!(content.decode(b"2\r\nok", false).map(|piece| piece.data), Ok(3..5));
        assert_eq!(ResponseContent::UntilClose.check_start(b"2\n"), Ok(()));
    }

    #[test]
    fn persistence_follows_version_and_connection() {
        for (minor, fields, expected) in [
            (1, "", true),
            (1, "Connection: x, Close\r\n", false),
            (0, "", false),
            (0, "Connection: keep-alive\r\n", true),
        ] {
            let bytes = format!("HTTP/1.{minor} 200 OK\r\n{fields}\r\n").into_bytes();
            let limits = HeadLimits { size: 4096, target: 100, fields: 20 };
            let head = ResponseHead::parse(&bytes, &limits, &mut 0).unwrap().unwrap();
            assert_eq!(persists(&head, &bytes), expected, "{fields:?}");
        }
    }
}
