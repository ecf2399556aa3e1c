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
use std::sync::atomic::{AtomicBool, Ordering};

/// What is kept of a request line that is no HTTP.
const GARBAGE: usize = 256;

/// Where the lines go.
#[derive(Debug)]
pub struct AccessLog {
    sink: Option<Sink>,
    /// Whether a failure to write has been reported; once is enough.
    failed: AtomicBool,
}

#[derive(Debug)]
enum Sink {
    Stdout,
    File(File),
}

/// A line without its end: what is known when the request has come, kept until its response has gone.
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
        Ok(AccessLog { sink, failed: AtomicBool::new(false) })
    }

    pub fn is_on(&self) -> bool {
        self.sink.is_some()
    }

    /// Writes the lines gathered in `lines` and empties it.
    pub fn flush(&self, lines: &mut Vec<u8>) {
        if lines.is_empty() {
            return;
        }
        let result = match &self.sink {
            None => Ok(()),
            Some(Sink::File(file)) => (&*file).write_all(lines),
            Some(Sink::Stdout) => write_stdout(lines),
        };
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

impl Line {
    /// The line of a request.
    pub fn of(request: &Request, now: &Now) -> Line {
        let field = |name| request.field(name).unwrap_or(b"-");
        let mut line = Line::default();
        line.write(request.peer, now, request.line(), field(Name::Referer), field(Name::UserAgent));
        line
    }

    /// The line of what is no request, from its first bytes.
    pub fn of_garbage(bytes: &[u8], peer: IpAddr, now: &Now) -> Line {
        let end = bytes.iter().position(|b| matches!(b, b'\r' | b'\n')).unwrap_or(bytes.len());
        let start = &bytes[..end.min(GARBAGE)];
        let mut line = Line::default();
        line.write(peer, now, if start.is_empty() { b"-" } else { start }, b"-", b"-");
        line
    }

    fn write(&mut self, peer: IpAddr, now: &Now, request_line: &[u8], referer: &[u8], agent: &[u8]) {
        let out = &mut self.bytes;
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{peer} - - [");
        out.extend_from_slice(now.clf());
        out.extend_from_slice(b"] \"");
        escape::log(request_line, out);
        out.extend_from_slice(b"\" ");
        self.split = out.len();
        out.extend_from_slice(b" \"");
        escape::log(referer, out);
        out.extend_from_slice(b"\" \"");
        escape::log(agent, out);
        out.extend_from_slice(b"\"\n");
    }

    /// Completes the line and adds it to `lines`.
    pub fn finish(&self, status: u16, sent: u64, lines: &mut Vec<u8>) {
        lines.extend_from_slice(&self.bytes[..self.split]);
        lines.extend_from_slice(decimal(u64::from(status)).digits());
        lines.push(b' ');
        match sent {
            0 => lines.push(b'-'),
            _ => lines.extend_from_slice(decimal(sent).digits()),
        }
        lines.extend_from_slice(&self.bytes[self.split..]);
    }
}
