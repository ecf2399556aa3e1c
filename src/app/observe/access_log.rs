//! The access log: a line a request in the Combined Log Format, formatted into a buffer that the engine
//! flushes at the end of each turn.
//!
//! ```text
//! 127.0.0.1 - - [10/Oct/2000:13:55:36 +0000] "GET / HTTP/1.1" 200 2326 "http://referer/" "agent/1"
//! ```
//! Bytes that a client sent are escaped, so that a line is always one line. Behind a trusted proxy the address is that of
//! the client which the proxy names.

use crate::app::observe::sink::{RETRY, Sink, SinkEvent};
use crate::config;
use crate::http::date::Now;
use crate::http::escape;
use crate::http::head::Name;
use crate::http::request::Request;
use crate::proto::responder::decimal;
use crate::start_error::StartError;
use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Instant;

/// Bytes that wait for a slow reader: a tenth of a second of 100,000 requests a second.
const ROOM: usize = 1024 * 1024;
/// What is kept of a request line that is no HTTP.
const GARBAGE: usize = 256;

/// Where the lines go, if they go anywhere.
#[derive(Debug)]
pub struct AccessLog {
    sink: Option<Sink>,
}

/// A line without its end, empty where nothing is logged: what is known when the request has come, kept until its response has gone.
#[derive(Debug, Default)]
pub struct Line {
    /// Up to the request line, and the rest: status and size go between them.
    bytes: Vec<u8>,
    split: usize,
}

impl AccessLog {
    /// Opens it. A FIFO that nobody reads does not keep the server from starting.
    ///
    /// # Errors
    /// The file cannot be opened; the sentence names it and a remedy.
    pub fn open(to: &config::LogTarget) -> Result<AccessLog, StartError> {
        let sink = match to {
            config::LogTarget::Off => None,
            config::LogTarget::Stdout => {
                let failed =
                    |error| StartError::new(format!("cannot write the access log to standard output: {error}"));
                Some(Sink::inherited(io::stdout(), ROOM).map_err(failed)?)
            }
            config::LogTarget::File(path) => {
                let sink = Sink::open(path, ROOM).map_err(|error| {
                    let path = path.display();
                    StartError::new(format!(
                        "cannot open the access log {path}: {error}; choose another file with --access-log, or off"
                    ))
                })?;
                if let Some(cause) = sink.stopped() {
                    log::warn!("the access log {} waits: {cause}; it is tried again every second", path.display());
                }
                Some(sink)
            }
        };
        Ok(AccessLog { sink })
    }

    pub fn is_on(&self) -> bool {
        self.sink.is_some()
    }

    /// When `flush` is to be called even if there are no new lines: some wait for their reader.
    pub fn next_flush(&self, now: Instant) -> Option<Instant> {
        self.sink.as_ref().filter(|sink| sink.is_unsettled()).map(|_| now + RETRY)
    }

    /// Writes the lines gathered in `lines` and empties it. What is not taken at once waits for the next call.
    pub fn flush(&self, lines: &mut Vec<u8>, now: Instant) {
        let Some(sink) = &self.sink else { return };
        if lines.is_empty() && !sink.is_unsettled() {
            return;
        }
        let news = sink.write(lines, now);
        lines.clear();
        if let Some(news) = news {
            tell(&news);
        }
    }

    /// Writes what waits, if it is taken at once, and tells how many lines were lost.
    pub fn close(&self) {
        if let Some(news) = self.sink.as_ref().and_then(Sink::close) {
            tell(&news);
        }
    }
}

fn tell(news: &SinkEvent) {
    match news {
        SinkEvent::Stopped(cause) => log::error!(
            "the access log cannot be written for now: {cause}; {} KiB of lines wait, further ones are lost",
            ROOM / 1024
        ),
        SinkEvent::Resumed { lost } => log::warn!("the access log is written again; lines lost: {lost}"),
        SinkEvent::Closed { lost, cause } => {
            log::warn!("the access log was not written to its end: {cause}; lines lost: {lost}")
        }
    }
}

/// Adds the line of a request that is answered already: nothing is kept and nothing allocated.
pub fn write_line(request: &Request, now: &Now, status: u16, sent: u64, lines: &mut Vec<u8>) {
    write_start(request.client(), now, request.line(), lines);
    write_outcome(status, sent, lines);
    write_end(request.field(Name::Referer), request.field(Name::UserAgent), lines);
}

fn write_start(client: IpAddr, now: &Now, request_line: &[u8], out: &mut Vec<u8>) {
    write_address(client, out);
    out.extend_from_slice(b" - - [");
    out.extend_from_slice(now.clf());
    out.extend_from_slice(b"] \"");
    escape::log(request_line, out);
    out.extend_from_slice(b"\" ");
}

fn write_address(address: IpAddr, out: &mut Vec<u8>) {
    let IpAddr::V4(address) = address else {
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{address}");
        return;
    };
    // By hand, because formatting costs as much as the rest of the line.
    for (place, octet) in address.octets().into_iter().enumerate() {
        if place > 0 {
            out.push(b'.');
        }
        out.extend_from_slice(decimal(u64::from(octet)).digits());
    }
}

fn write_outcome(status: u16, sent: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(decimal(u64::from(status)).digits());
    out.push(b' ');
    match sent {
        0 => out.push(b'-'),
        _ => out.extend_from_slice(decimal(sent).digits()),
    }
}

fn write_end(referer: Option<&[u8]>, agent: Option<&[u8]>, out: &mut Vec<u8>) {
    out.extend_from_slice(b" \"");
    escape::log(referer.unwrap_or(b"-"), out);
    out.extend_from_slice(b"\" \"");
    escape::log(agent.unwrap_or(b"-"), out);
    out.extend_from_slice(b"\"\n");
}

impl Line {
    /// Begins the line of a request.
    pub fn begin(&mut self, request: &Request, now: &Now) {
        self.bytes.clear();
        write_start(request.client(), now, request.line(), &mut self.bytes);
        self.split = self.bytes.len();
        write_end(request.field(Name::Referer), request.field(Name::UserAgent), &mut self.bytes);
    }

    /// The line of what is no request, from its first bytes.
    pub fn of_garbage(garbage: &[u8], client: IpAddr, now: &Now) -> Line {
        let end = garbage.iter().position(|b| matches!(b, b'\r' | b'\n')).unwrap_or(garbage.len());
        let start = &garbage[..end.min(GARBAGE)];
        let mut bytes = Vec::new();
        write_start(client, now, if start.is_empty() { b"-" } else { start }, &mut bytes);
        let split = bytes.len();
        write_end(None, None, &mut bytes);
        Line { bytes, split }
    }

    /// Completes the line, if it was begun, and adds it to `lines`; once.
    pub fn end(&mut self, status: u16, sent: u64, lines: &mut Vec<u8>) {
        if self.bytes.is_empty() {
            return;
        }
        lines.extend_from_slice(&self.bytes[..self.split]);
        write_outcome(status, sent, lines);
        lines.extend_from_slice(&self.bytes[self.split..]);
        self.bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::time::SystemTime;

    #[test]
    fn a_line_is_one_line_whatever_was_sent() {
        let now = Now::new(Instant::now(), SystemTime::UNIX_EPOCH);
        let mut lines = Vec::new();
        Line::of_garbage(b"\x16\"\x01\r\nmore", Ipv4Addr::LOCALHOST.into(), &now).end(400, 12, &mut lines);
        Line::of_garbage(b"", Ipv4Addr::LOCALHOST.into(), &now).end(408, 0, &mut lines);
        let expected = "127.0.0.1 - - [01/Jan/1970:00:00:00 +0000] \"\\x16\\x22\\x01\" 400 12 \"-\" \"-\"\n\
                        127.0.0.1 - - [01/Jan/1970:00:00:00 +0000] \"-\" 408 - \"-\" \"-\"\n";
        assert_eq!(String::from_utf8_lossy(&lines), expected);
    }
}
