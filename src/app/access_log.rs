//! The access log: a line a request in the Combined Log Format, formatted into a buffer that the engine
//! flushes at the end of each turn.
//!
//! ```text
//! 127.0.0.1 - - [10/Oct/2000:13:55:36 +0000] "GET / HTTP/1.1" 200 2326 "http://referer/" "agent/1"
//! ```
//! Bytes that a client sent are escaped, so that a line is always one line.

use crate::config;
use crate::http::date::Now;
use crate::http::escape;
use crate::http::head::Name;
use crate::http::request::Request;
use crate::proto::responder::decimal;
use crate::start_error::StartError;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is kept of a request line that is no HTTP.
const GARBAGE: usize = 256;

/// Where the lines go.
#[derive(Debug)]
pub struct AccessLog {
    sink: Option<Sink>,
    /// Whether a failure to write has been reported; once is enough.
    failed: AtomicBool,
    /// Held while lines are written: a pipe takes much at once in pieces, and those of two threads would mix.
    turn: Mutex<()>,
}

#[derive(Debug)]
enum Sink {
    Stdout,
    File(File),
}

/// A line without its end, empty where nothing is logged: what is known when the request has come, kept until its response has gone.
#[derive(Debug, Default)]
pub struct Line {
    /// Up to the request line, and the rest: status and size go between them.
    bytes: Vec<u8>,
    split: usize,
}

impl AccessLog {
    pub fn open(to: &config::AccessLog) -> Result<AccessLog, StartError> {
        let sink = match to {
            config::AccessLog::Off => None,
            config::AccessLog::Stdout => Some(Sink::Stdout),
            config::AccessLog::File(path) => match OpenOptions::new().append(true).create(true).open(path) {
                Ok(file) => Some(Sink::File(file)),
                Err(error) => {
                    let path = path.display();
                    return Err(StartError::new(format!(
                        "cannot open the access log {path}: {error}; choose another file with --access-log, or off"
                    )));
                }
            },
        };
        Ok(AccessLog { sink, failed: AtomicBool::new(false), turn: Mutex::default() })
    }

    pub fn is_on(&self) -> bool {
        self.sink.is_some()
    }

    /// Writes the lines gathered in `lines` and empties it.
    pub fn flush(&self, lines: &mut Vec<u8>) {
        if lines.is_empty() {
            return;
        }
        let turn = self.turn.lock();
        let result = match &self.sink {
            None => Ok(()),
            Some(Sink::File(file)) => (&*file).write_all(lines),
            Some(Sink::Stdout) => write_stdout(lines),
        };
        drop(turn);
        lines.clear();
        if let Err(error) = result
            && !self.failed.swap(true, Ordering::Relaxed)
        {
            log::error!("the access log cannot be written: {error}");
        }
    }
}

/// Past the line buffer of `std`, which would split what came as one piece.
fn write_stdout(lines: &[u8]) -> io::Result<()> {
    let stdout = io::stdout();
    let mut rest = lines;
    while !rest.is_empty() {
        match rustix::io::write(&stdout, rest) {
            Ok(count) => rest = &rest[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Adds the line of a request that is answered already: nothing is kept and nothing allocated.
pub fn write_line(request: &Request, now: &Now, status: u16, sent: u64, lines: &mut Vec<u8>) {
    write_start(request.peer, now, request.line(), lines);
    write_outcome(status, sent, lines);
    write_end(request.field(Name::Referer), request.field(Name::UserAgent), lines);
}

fn write_start(peer: IpAddr, now: &Now, request_line: &[u8], out: &mut Vec<u8>) {
    write_address(peer, out);
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
        write_start(request.peer, now, request.line(), &mut self.bytes);
        self.split = self.bytes.len();
        write_end(request.field(Name::Referer), request.field(Name::UserAgent), &mut self.bytes);
    }

    /// The line of what is no request, from its first bytes.
    pub fn of_garbage(garbage: &[u8], peer: IpAddr, now: &Now) -> Line {
        let end = garbage.iter().position(|b| matches!(b, b'\r' | b'\n')).unwrap_or(garbage.len());
        let start = &garbage[..end.min(GARBAGE)];
        let mut bytes = Vec::new();
        write_start(peer, now, if start.is_empty() { b"-" } else { start }, &mut bytes);
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
    use std::time::{Instant, SystemTime};

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
