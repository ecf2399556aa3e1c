//! The server's side of one connection as two state machines: `Reading` for the request and `Writing` for the response
//! (RFC 9112). They know the framing of messages only, not what the content means.
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
/// the connection is closed, which is cheaper.
pub const DRAIN_LIMIT: u64 = 256 * 1024;
/// The high-water mark of an output buffer: content is added only while fewer bytes wait to be written. With a mark
/// twice as high, the allocator kept 8 MB more after 200 clients that did not read.
pub const HIGH_WATER: usize = 32 * 1024;

#[derive(Debug)]
pub enum Reading {
    Head,
    Body(Decoder),
    Done,
    /// Later bytes are not parsed as a request.
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
    /// Closing the connection ends the content: for HTTP/1.0 clients, if the length is unknown.
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
    /// Whether the method is unsafe: the request may have changed something (RFC 9110, section 9.2.1).
    pub is_unsafe: bool,
    /// Whether the response has no content because the request was HEAD.
    pub head_only: bool,
    /// Whether the client still waits for 100 (Continue).
    pub wants_continue: bool,
    /// The status of the response, for the log.
    pub status: u16,
    /// Bytes of the request's content received so far, without framing.
    pub received: u64,
    /// Bytes of the request's content received so far, with framing.
    pub taken: u64,
    /// Bytes of the response's content sent so far, for the log.
    pub sent: u64,
    /// The cost of answering since the last `take_work`, in the units of `cost`.
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
    /// Begins a request with its complete head, which decides how the content is framed.
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

    /// Returns the cost of answering since the last call, and resets it.
    pub fn take_work(&mut self) -> usize {
        std::mem::take(&mut self.work)
    }

    /// Decodes the next piece of the request's content. At the end of the content `reading` becomes Done.
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

    /// Bytes of the request's content that are not read yet. `None` for chunked content, whose length is unknown.
    pub fn unread(&self) -> Option<u64> {
        match &self.reading {
            Reading::Body(Decoder::Length(left)) => Some(*left),
            Reading::Body(Decoder::Chunked(_)) => None,
            _ => Some(0),
        }
    }

    /// The sum of the bytes of content received and announced. The size limit applies to this sum, so that a chunk that
    /// is too large is refused at its size line and not at its end.
    pub fn received_and_announced(&self) -> u64 {
        let announced = match &self.reading {
            Reading::Body(decoder) => decoder.announced(),
            _ => 0,
        };
        self.received.saturating_add(announced)
    }

    /// Stops reading from this connection for good. After an invalid message no later byte may be parsed as a request.
    pub fn refuse(&mut self) {
        self.reading = Reading::Closed;
        self.persist = false;
        self.wants_continue = false;
    }

    /// Frames a piece of the response's content. Bytes beyond the announced length are dropped.
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

    /// Counts content that was sent to the socket without the output buffer.
    pub fn on_sent_directly(&mut self, count: u64) {
        if let Writing::Body(Encoder::Length(left)) = &mut self.writing {
            *left = left.saturating_sub(count);
        }
        self.sent += count;
    }

    /// Ends the response's content. Returns false if it was shorter than announced: the connection must be closed then,
    /// because nothing else tells the client.
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

    /// Prepares for the next request. Call it when both machines are Done and the connection persists.
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
