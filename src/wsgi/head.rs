//! Turns the head of a response as a worker sends it, `STATUS\0NAME\0VALUE\0...`, into field lines. worker.py has
//! already refused what PEP 3333 forbids. The fields of the framing are removed here.

use crate::http::field::{self, HOP_BY_HOP};
use crate::http::number;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct WorkerHead {
    pub status: u16,
    pub reason: Vec<u8>,
    /// Whole field lines, without Content-Length and the hop-by-hop fields.
    pub lines: Vec<u8>,
    pub content_length: Option<u64>,
    pub has_date: bool,
    pub has_server: bool,
}

/// Why a head cannot be sent to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadFault {
    /// worker.py never sends this.
    Malformed,
    /// A status below 200: only the server sends interim responses.
    Interim,
    ContentLength,
}

impl HeadFault {
    pub fn sentence(self) -> &'static str {
        match self {
            HeadFault::Malformed => "its worker sent a malformed head",
            HeadFault::Interim => "its status is below 200",
            HeadFault::ContentLength => "its Content-Length is not one number",
        }
    }
}

impl WorkerHead {
    pub fn parse(bytes: &[u8]) -> Result<WorkerHead, HeadFault> {
        let mut parts = bytes.strip_suffix(b"\0").ok_or(HeadFault::Malformed)?.split(|byte| *byte == 0);
        let status = parts.next().ok_or(HeadFault::Malformed)?;
        let code = status.get(..3).and_then(number::parse).ok_or(HeadFault::Malformed)?;
        if code < 200 {
            return Err(HeadFault::Interim);
        }
        let mut head = WorkerHead { status: code as u16, ..WorkerHead::default() };
        head.reason.extend_from_slice(status.get(4..).unwrap_or_default());
        while let Some(name) = parts.next() {
            let value = parts.next().ok_or(HeadFault::Malformed)?.trim_ascii();
            if name.is_empty() || value.iter().chain(name).any(|byte| matches!(byte, b'\r' | b'\n')) {
                return Err(HeadFault::Malformed);
            }
            head.add(name, value)?;
        }
        Ok(head)
    }

    fn add(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeadFault> {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        if is("content-length") {
            let length = number::parse(value).ok_or(HeadFault::ContentLength)?;
            if self.content_length.is_some_and(|other| other != length) {
                return Err(HeadFault::ContentLength);
            }
            self.content_length = Some(length);
            return Ok(());
        }
        // Hop-by-hop fields are for the connection, which the server manages.
        if HOP_BY_HOP.iter().any(|hop| is(hop)) {
            return Ok(());
        }
        self.has_date |= is("date");
        self.has_server |= is("server");
        field::push_line(&mut self.lines, name, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_becomes_lines() {
        let head =
            WorkerHead::parse(b"201 Well done\0Content-Length\x005\0X-A\0 b \0connection\0close\0Date\0now\0").unwrap();
        assert_eq!((head.status, &head.reason[..]), (201, &b"Well done"[..]));
        assert_eq!(head.lines, b"X-A: b\r\nDate: now\r\n");
        assert_eq!((head.content_length, head.has_date, head.has_server), (Some(5), true, false));
        assert_eq!(WorkerHead::parse(b"200\0").unwrap().reason, b"");
    }

    #[test]
    fn what_would_break_the_framing_is_refused() {
        for (bytes, fault) in [
            (&b""[..], HeadFault::Malformed),
            (b"\0", HeadFault::Malformed),
            (b"abc\0", HeadFault::Malformed),
            (b"200 OK\0X-A\0", HeadFault::Malformed),
            (b"200 OK\0X-A\0b\r\nc\0", HeadFault::Malformed),
            (b"101 Switching\0", HeadFault::Interim),
            (b"200 OK\0Content-Length\0-1\0", HeadFault::ContentLength),
            (b"200 OK\0Content-Length\0\0", HeadFault::ContentLength),
            (b"200 OK\0Content-Length\x001\0content-length\x002\0", HeadFault::ContentLength),
        ] {
            assert_eq!(WorkerHead::parse(bytes), Err(fault), "{}", bytes.escape_ascii());
        }
    }
}
