//! One request to a Python worker and its response, as a protocol of `forward`. The protocol uses frames, not HTTP.
//! This decides the framing of the response to the client, checks the application's Content-Length, and adds `Date` and
//! `Server` if the application did not send them.
//!
//! ```text
//!  Waiting ──DATA, FULL, FILE: a head──► Held ──content, or the end──► Begun { left } ──END──► over
//!     └──ERROR: 500                       └──ABORT: 500                  └──ABORT, END too early: cut
//! ```
//! A head is held until the first content: until then an application may replace it (`exc_info` of PEP 3333).

use crate::app::body::buffered::Buffered;
use crate::app::body::{Body, FileRange};
use crate::app::forward::protocol::{Failure, ResponseSink, Step, UpstreamInput};
use crate::http::status::Status;
use crate::proto::buffer::Buffer;
use crate::proto::conn::Writing;
use crate::proto::responder::decimal;
use crate::wsgi::frames::{self, FromWorker, Piece, Reader, ToWorker};
use crate::wsgi::head::WorkerHead;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

const TOO_SHORT: &str = "it gave less content than its Content-Length says";

#[derive(Debug)]
pub struct WsgiExchange {
    /// The environ, without the length of content that is still being received.
    environ: Vec<u8>,
    serial: u32,
    is_head: bool,
    reader: Reader,
    state: State,
    /// The file that is the content. It is sent when the worker has finished the request.
    file: Option<FileRange>,
    /// The worker has sent something that is not a frame.
    broken: bool,
}

#[derive(Debug)]
enum State {
    Waiting,
    Held(WorkerHead),
    /// The head has been written.
    Begun {
        /// Bytes of content still to come, if the length is known.
        left: Option<u64>,
        /// The response has no content (HEAD, 204, 304).
        bodiless: bool,
    },
}

impl WsgiExchange {
    pub fn new(environ: Vec<u8>, serial: u32, is_head: bool) -> WsgiExchange {
        let (reader, state) = (Reader::of(serial), State::Waiting);
        WsgiExchange { environ, serial, is_head, reader, state, file: None, broken: false }
    }

    /// Writes the request frame up to its content. Content in memory is appended by `Forward`.
    pub fn begin(&mut self, gathered: Option<&Buffered>, output: &mut Buffer) {
        let mut length = Vec::new();
        if let Some(gathered) = gathered {
            length.extend_from_slice(b"\0CONTENT_LENGTH\0");
            length.extend_from_slice(decimal(gathered.len()).digits());
        }
        let (kind, b) = match gathered {
            Some(gathered) if gathered.file().is_some() => (ToWorker::Spooled, 0),
            Some(gathered) => (ToWorker::Request, gathered.len()),
            None => (ToWorker::Request, 0),
        };
        output.push(&frames::header(kind, self.serial, self.environ.len() + length.len(), b));
        output.push(&self.environ);
        output.push(&length);
    }

    /// Whether the thread has sent the whole answer.
    pub fn is_free(&self) -> bool {
        self.reader.is_free()
    }

    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Takes the reader, for the supervisor, which reads the rest of the answer.
    pub fn take_reader(&mut self) -> Reader {
        std::mem::take(&mut self.reader)
    }

    pub fn step(&mut self, source: &mut UpstreamInput, sink: &mut ResponseSink) -> Result<Step, Failure> {
        let next = self.reader.next(source.input.filled());
        self.broken = next.is_err();
        let not_a_frame = |_| {
            Failure::bad_gateway(
                "its worker sent something that is not a frame; does the application write to its socket?",
            )
        };
        let Some((taken, piece)) = next.map_err(not_a_frame)? else {
            return match source.closed {
                true => Err(Failure::bad_gateway("its worker ended during the request")),
                false => Ok(Step::Wait),
            };
        };
        let result = match piece {
            Piece::Content(data) => self.take_content(data, sink),
            Piece::Frame { kind, a, b } => self.take_frame(kind, a, b, source.files, sink),
        };
        source.input.consume(taken);
        match result {
            // The last byte of a FULL frame ends the response.
            Ok(Step::Moved) if self.reader.is_free() => self.end(sink),
            result => result,
        }
    }

    fn take_frame(
        &mut self,
        kind: FromWorker,
        a: &[u8],
        b: u64,
        files: &mut Vec<OwnedFd>,
        sink: &mut ResponseSink,
    ) -> Result<Step, Failure> {
        // Each FILE frame takes one descriptor. Those behind it belong to the next answer.
        let file = match kind {
            FromWorker::File => files.drain(..files.len().min(1)).next(),
            _ => None,
        };
        if !a.is_empty() && matches!(kind, FromWorker::Full | FromWorker::Data | FromWorker::File) {
            let head = WorkerHead::parse(a).map_err(|fault| of_application(fault.sentence()))?;
            self.state = State::Held(head);
        }
        match kind {
            FromWorker::Full => self.begin_whole(b, sink)?,
            FromWorker::File => {
                let file = file.ok_or_else(|| of_application("its file did not arrive"))?;
                self.begin_file(File::from(file), b, sink)?;
            }
            FromWorker::Data => {}
            FromWorker::Last | FromWorker::End => return self.end(sink),
            FromWorker::Error => return Err(of_application("it failed; the log says where")),
            FromWorker::Abort => return Err(of_application("it failed in the middle of its response")),
            FromWorker::Ready | FromWorker::Failed => {
                return Err(Failure::bad_gateway("its worker sent a frame that is not allowed during a request"));
            }
        }
        Ok(Step::Moved)
    }

    /// Writes the head of a response whose length is known, whether or not the application sent Content-Length.
    fn begin_whole(&mut self, length: u64, sink: &mut ResponseSink) -> Result<(), Failure> {
        if let State::Held(head) = &self.state
            && head.content_length.is_some_and(|announced| announced > length)
            && !self.is_head
            && !Status(head.status).is_bodiless()
        {
            return Err(of_application(TOO_SHORT));
        }
        self.begin_answer(Some(length), sink);
        Ok(())
    }

    fn begin_file(&mut self, file: File, at: u64, sink: &mut ResponseSink) -> Result<(), Failure> {
        let size = file.metadata().map_err(|error| of_application(&format!("its file cannot be used: {error}")))?.len();
        self.begin_whole(size.saturating_sub(at), sink)?;
        if let State::Begun { left: Some(left), bodiless: false } = &mut self.state {
            self.file = Some(FileRange { file: Arc::new(file), at, end: at + *left });
            *left = 0;
        }
        Ok(())
    }

    /// Takes a piece of content. Content that is not sent (to HEAD, or beyond Content-Length) ends the response, so
    /// that the application stops (PEP 3333, on Content-Length).
    fn take_content(&mut self, data: &[u8], sink: &mut ResponseSink) -> Result<Step, Failure> {
        if let State::Held(_) = self.state {
            self.begin_answer(None, sink);
        }
        let State::Begun { left, bodiless: false } = &mut self.state else { return self.end(sink) };
        let len = data.len().min(left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX)));
        if let Some(left) = left {
            *left -= len as u64;
        }
        if len > 0 {
            sink.content(&data[..len])?;
        }
        if len < data.len() {
            log::warn!("an application gave more content than its Content-Length says; the rest is dropped");
            return self.end(sink);
        }
        Ok(Step::Moved)
    }

    fn end(&mut self, sink: &mut ResponseSink) -> Result<Step, Failure> {
        match &self.state {
            State::Waiting => return Err(of_application("it ended without a response")),
            State::Held(head) if self.is_head => {
                let announced = head.content_length;
                self.begin_answer(announced, sink);
            }
            State::Held(_) => self.begin_answer(Some(0), sink),
            State::Begun { .. } => {}
        }
        match self.state {
            State::Begun { left: Some(left), bodiless: false } if left > 0 => Err(of_application(TOO_SHORT)),
            _ => Ok(Step::End { keep: true, rest: self.file.take().map(Body::File) }),
        }
    }

    /// Writes the head that is held. `length`: of the whole content, if known.
    fn begin_answer(&mut self, length: Option<u64>, sink: &mut ResponseSink) {
        let State::Held(head) = std::mem::replace(&mut self.state, State::Waiting) else { return };
        let status = Status(head.status);
        // RFC 9110, section 15.3.6: 205 has no content. Content-Length: 0 says so.
        let announced = if status.0 == 205 { Some(0) } else { head.content_length };
        let date = sink.now.imf().to_vec();
        let common = sink.common;
        let reason = if head.reason.is_empty() { status.reason().as_bytes() } else { &head.reason };
        let mut fields = sink.responder().relay(status, reason, !head.has_server);
        if !head.has_date {
            fields.field("Date", date);
        }
        for line in head.lines.split_inclusive(|&byte| byte == b'\n') {
            let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
            if !common.replaces(name) {
                fields.lines(line);
            }
        }
        if self.is_head || status.is_bodiless() {
            // HEAD gets the length that GET would have, if the application sent it or made the content.
            fields.without_content(announced.or(length.filter(|length| self.is_head && *length > 0)));
        } else {
            fields.stream(announced.or(length));
        }
        let bodiless = !matches!(sink.conn.writing, Writing::Body(_));
        let left = if bodiless { None } else { announced.or(length) };
        self.state = State::Begun { left, bodiless };
    }
}

/// A failure of the application: 500.
fn of_application(reason: &str) -> Failure {
    Failure { status: Status::INTERNAL_SERVER_ERROR, reason: reason.into() }
}
