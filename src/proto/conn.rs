//! The server's side of one connection as a pair of state machines, one for the request that is read and one for the
//! response that is written (RFC 9112). It knows the framing only, not what the content means.
//!
//! ```text
//!  Reading:  Head ──head──► Body(Decoder) ──last byte──► Done ─┐
//!              │└────────────── no content ────────────► Done ─┤
//!              └── refused, broken ─► Closed                   │   both Done and persist:
//!  Writing:  Idle ──fields──► Body(Encoder) ──last──► Done ────┤   back to (Head, Idle)
//!              └──────── small or no content ───────► Done ────┘
//! ```

use crate::http::chunked::{self, ChunkedDecoder, Decoded};
use crate::http::framing::{self, ContentLength};
use crate::http::head::{Head, Name};
use crate::http::method::Method;
use crate::http::violation::Violation;
use crate::proto::buffer::Buffer;
use crate::proto::transfer::{self, Decoder};

/// Unwanted content up to this size is read and dropped, so that the connection can be used again. If there is more,
/// closing is cheaper.
pub const DRAIN_LIMIT: u64 = 256 * 1024;
/// The high-water mark of an output buffer: content is added only while fewer bytes wait to be written. Twice as
/// much costs memory that the allocator keeps: 8 MB after 200 clients that did not read.
pub const HIGH_WATER: usize = 32 * 1024;

#[derive(Debug)]
pub enum Reading {
    Head,
    Body(Decoder),
    Done,
    /// Bytes that still arrive are not read as a request.
    Closed,
}

#[derive(Debug)]
pub enum Writing {
    Idle,
    Body(Encoder),
    Done,
}

/// How the response's content is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoder {
    /// Bytes still to be sent.
    Length(u64),
    Chunked,
    /// By closing: to an HTTP/1.0 client, when the length is unknown.
    UntilClose,
}

#[derive(Debug)]
pub struct Conn {
    pub reading: Reading,
    pub writing: Writing,
    /// Whether the connection persists after this exchange.
    pub persist: bool,
    /// The y of the request's HTTP/1.y.
    pub minor: u8,
    /// Whether the request may have changed something (RFC 9110, section 9.2.1).
    pub is_unsafe: bool,
    /// Whether the response has no content because the request was HEAD.
    pub head_only: bool,
    /// Whether the client still waits for 100 (Continue).
    pub wants_continue: bool,
    /// The status sent, for the log.
    pub status: u16,
    /// Bytes of content received.
    pub received: u64,
    /// Bytes of content received, with their framing.
    pub taken: u64,
    /// Bytes of content sent, for the log.
    pub sent: u64,
    /// What answering has cost since `take_work` was last called, in the units of `cost`.
    pub work: usize,
}

impl Default for Conn {
    fn default() -> Conn {
        Conn {
            reading: Reading::Head,
            writing: Writing::Idle,
            persist: true,
            minor: 1,
            is_unsafe: false,
            head_only: false,
            wants_continue: false,
            status: 0,
            received: 0,
            taken: 0,
            sent: 0,
            work: 0,
        }
    }
}

impl Conn {
    /// Takes a complete head, and from it the framing of the request's content.
    pub fn on_head(&mut self, head: &Head, bytes: &[u8]) -> Result<(), Violation> {
        self.minor = head.minor;
        self.head_only = head.method == Method::Head;
        self.is_unsafe = !head.method.is_safe();
        let length = framing::content_length(head, bytes)?;
        framing::check_host(head, bytes)?;
        self.persist =
            framing::persists(head.minor, head.values(bytes, Name::Connection)) && head.method != Method::Connect;
        self.reading = match length {
            ContentLength::Bytes(0) => Reading::Done,
            ContentLength::Bytes(length) => Reading::Body(Decoder::Length(length)),
            ContentLength::Chunked => Reading::Body(Decoder::Chunked(ChunkedDecoder::default())),
        };
        let expected = framing::expects_continue(head, bytes)?;
        self.wants_continue = expected && matches!(self.reading, Reading::Body(_));
        Ok(())
    }

    /// What answering has cost since the last call.
    pub fn take_work(&mut self) -> usize {
        std::mem::take(&mut self.work)
    }

    /// Decodes the next piece of the request's content; at its end `reading` is Done.
    pub fn decode(&mut self, input: &[u8]) -> Result<Decoded, Violation> {
        let Reading::Body(decoder) = &mut self.reading else {
            return Ok(Decoded { consumed: 0, data: 0..0, end: true });
        };
        let decoded = decoder.decode(input)?;
        self.received += decoded.data.len() as u64;
        self.taken += decoded.consumed as u64;
        if decoded.end {
            self.reading = Reading::Done;
        }
        Ok(decoded)
    }

    /// Bytes of content that are announced and not yet read; `None` while the length is unknown.
    pub fn unread(&self) -> Option<u64> {
        match &self.reading {
            Reading::Body(Decoder::Length(left)) => Some(*left),
            Reading::Body(Decoder::Chunked(_)) => None,
            _ => Some(0),
        }
    }

    /// Bytes of content received, and those that are announced. The limit is applied to this sum, so that a chunk that
    /// is too large is refused at its size line and not at its end.
    pub fn received_and_announced(&self) -> u64 {
        let announced = match &self.reading {
            Reading::Body(decoder) => decoder.announced(),
            _ => 0,
        };
        self.received.saturating_add(announced)
    }

    /// Ends the reading for good: the message cannot be trusted, so that no later byte may be read as a request.
    pub fn refuse(&mut self) {
        self.reading = Reading::Closed;
        self.persist = false;
        self.wants_continue = false;
    }

    /// Frames a piece of the response's content. More than was announced is not sent.
    pub fn encode(&mut self, data: &[u8], out: &mut Buffer) {
        let Writing::Body(encoder) = &mut self.writing else { return };
        match encoder {
            Encoder::Length(left) => {
                let len = data.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                debug_assert_eq!(len, data.len(), "a body is longer than its Content-Length");
                out.push(&data[..len]);
                *left -= len as u64;
            }
            Encoder::Chunked => transfer::push_chunk(data, out),
            Encoder::UntilClose => out.push(data),
        }
        self.sent += data.len() as u64;
    }

    /// Counts content that went to the socket past the output buffer.
    pub fn on_sent_directly(&mut self, count: u64) {
        if let Writing::Body(Encoder::Length(left)) = &mut self.writing {
            *left = left.saturating_sub(count);
        }
        self.sent += count;
    }

    /// Ends the response's content. `false` if it was shorter than announced: only closing the connection can tell the
    /// client.
    pub fn finish(&mut self, out: &mut Buffer) -> bool {
        let complete = match self.writing {
            Writing::Body(Encoder::Length(left)) => left == 0,
            Writing::Body(Encoder::Chunked) => {
                out.push(chunked::LAST_CHUNK);
                true
            }
            _ => true,
        };
        self.writing = Writing::Done;
        complete
    }

    /// Both machines done and the connection persists: ready for the next request.
    pub fn recycle(&mut self) {
        debug_assert!(matches!((&self.reading, &self.writing), (Reading::Done, Writing::Done)));
        *self = Conn::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_framed_as_announced() {
        let mut out = Buffer::default();
        let mut conn = Conn { writing: Writing::Body(Encoder::Chunked), ..Conn::default() };
        conn.encode(b"hello", &mut out);
        conn.encode(b"", &mut out);
        assert!(conn.finish(&mut out));
        assert_eq!(out.filled(), b"5\r\nhello\r\n0\r\n\r\n");

        let mut conn = Conn { writing: Writing::Body(Encoder::Length(6)), ..Conn::default() };
        conn.encode(b"hello", &mut out);
        assert!(!conn.finish(&mut out), "one byte is missing");
    }

    #[test]
    fn a_body_of_known_length_ends_at_its_last_byte() {
        let mut conn = Conn { reading: Reading::Body(Decoder::Length(5)), ..Conn::default() };
        let decoded = conn.decode(b"helloGET /").unwrap();
        assert_eq!(decoded, Decoded { consumed: 5, data: 0..5, end: true });
        assert!(matches!(conn.reading, Reading::Done));
    }
}
