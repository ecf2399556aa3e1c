//! The protocol spoken with an upstream: write a request, read a response. `Protocol` hides every difference between an
//! HTTP server and a worker of our own.

use crate::app::body::Body;
use crate::app::body::buffered::Buffered;
use crate::app::body::spool::Spool;
use crate::app::body::temporary::NoRoom;
use crate::app::forward::http::HttpExchange;
use crate::app::forward::wsgi::WsgiExchange;
use crate::app::forward::{ROOM, Room};
use crate::http::date::Now;
use crate::http::status::Status;
use crate::proto::buffer::Buffer;
use crate::proto::conn::Conn;
use crate::proto::responder::{Common, Responder};
use crate::wsgi::frames;
use std::io;
use std::os::fd::OwnedFd;

/// The protocol spoken with the upstream.
#[derive(Debug)]
pub enum Protocol {
    Http(Box<HttpExchange>),
    Wsgi(Box<WsgiExchange>),
}

/// The result of a step of the protocol.
#[derive(Debug)]
pub enum Step {
    /// More input is needed.
    Wait,
    /// Input was taken.
    Moved,
    /// The response is complete. `keep`: the connection can carry another exchange. `rest`: the content, if it does not
    /// come from the input.
    End { keep: bool, rest: Option<Body> },
    /// From now on bytes are passed both ways unchanged.
    Tunnel,
}

/// Why an upstream's answer is not passed on: the status for the client, and the reason for the log.
#[derive(Debug)]
pub struct Failure {
    pub status: Status,
    pub reason: String,
}

/// The input of a protocol.
pub struct Source<'a> {
    pub input: &'a mut Buffer,
    /// Descriptors that came with the bytes.
    pub files: &'a mut Vec<OwnedFd>,
    /// The upstream has closed the connection in order: nothing follows the input.
    pub closed: bool,
}

/// Where a protocol writes the response.
pub struct Sink<'a> {
    pub conn: &'a mut Conn,
    pub output: &'a mut Buffer,
    pub room: Room,
    pub spool: &'a mut Spool,
    pub common: &'a Common,
    pub now: &'a Now,
}

impl Sink<'_> {
    pub fn responder(&mut self) -> Responder<'_> {
        Responder::new(self.conn, self.output, self.now.imf(), self.common)
    }

    /// Takes a piece of content, for the client at once or through the spool.
    pub fn content(&mut self, data: &[u8]) -> Result<(), Failure> {
        match self.room {
            Room::Output => self.conn.encode(data, self.output),
            Room::Spool => self.spool.push(data).map_err(Failure::of_disk)?,
        }
        Ok(())
    }
}

impl Failure {
    pub fn bad_gateway(reason: impl Into<String>) -> Failure {
        Failure { status: Status::BAD_GATEWAY, reason: reason.into() }
    }

    /// 503 if this machine lacks something (descriptors, memory, ports) or too many requests wait; 502 if the upstream
    /// refuses.
    pub fn of_connect(error: &io::Error) -> Failure {
        use rustix::io::Errno;
        if error.kind() == io::ErrorKind::QuotaExceeded {
            let reason = "too many requests wait for a worker".into();
            return Failure { status: Status::SERVICE_UNAVAILABLE, reason };
        }
        if error.kind() == io::ErrorKind::ConnectionAborted {
            return Failure::bad_gateway("its worker ended with the request");
        }
        let lacking = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
        let lacks = Errno::from_io_error(error).is_some_and(|errno| lacking.contains(&errno));
        let status = if lacks { Status::SERVICE_UNAVAILABLE } else { Status::BAD_GATEWAY };
        Failure { status, reason: format!("cannot connect: {error}") }
    }

    /// A temporary file cannot be had, or not be written or read.
    pub fn of_disk(error: io::Error) -> Failure {
        if NoRoom::is_cause_of(&error) {
            return Failure { status: Status::SERVICE_UNAVAILABLE, reason: error.to_string() };
        }
        let reason = format!("no temporary file can be written: {error}");
        Failure { status: Status::INTERNAL_SERVER_ERROR, reason }
    }

    /// The sentence for the client.
    pub fn sentence(&self) -> &'static str {
        match self.status {
            Status::BAD_GATEWAY => "The server behind this one could not be reached or gave no valid answer.",
            Status::SERVICE_UNAVAILABLE => "The server behind this one has no room for the request at the moment.",
            Status::GATEWAY_TIMEOUT => "The server behind this one did not answer in time.",
            _ => "The server could not answer the request.",
        }
    }
}

/// What a protocol must do: each method answers for all protocols.
impl Protocol {
    /// Writes the request up to its content. `gathered`: the content, if it was received in full.
    pub(super) fn begin(&mut self, gathered: Option<&Buffered>, output: &mut Buffer) {
        match self {
            Protocol::Http(http) => http.begin(gathered.map(Buffered::len), output),
            Protocol::Wsgi(wsgi) => wsgi.begin(gathered, output),
        }
    }

    /// Frames a piece of content that is not gathered.
    pub(super) fn push(&mut self, data: &[u8], output: &mut Buffer) {
        match self {
            Protocol::Http(http) => http.push(data, output),
            // A worker's content is always gathered.
            Protocol::Wsgi(_) => {}
        }
    }

    /// Frames the end of content that is not gathered.
    pub(super) fn push_end(&mut self, output: &mut Buffer) {
        match self {
            Protocol::Http(http) => http.push_end(output),
            Protocol::Wsgi(_) => {}
        }
    }

    /// Whether gathered content in a file is passed as a descriptor, with the first byte of the request.
    pub(super) fn passes_files(&self) -> bool {
        match self {
            Protocol::Http(_) => false,
            Protocol::Wsgi(_) => true,
        }
    }

    /// How many bytes may wait to be decoded: a whole head must fit.
    pub(super) fn largest_head(&self) -> usize {
        match self {
            Protocol::Http(_) => ROOM,
            Protocol::Wsgi(_) => frames::LARGEST_HEAD,
        }
    }

    /// Whether the upstream begins only when it has read the whole request, and is connected by a Unix socket. Such a
    /// socket is reset, not just closed, when the other end closes it with unread bytes (unix(7)): then the request has
    /// not begun.
    pub(super) fn is_taken_whole(&self) -> bool {
        match self {
            Protocol::Http(_) => false,
            Protocol::Wsgi(_) => true,
        }
    }

    /// Whether the request may be sent again after some or all of it was sent.
    pub(super) fn may_repeat(&self) -> bool {
        match self {
            Protocol::Http(http) => http.may_repeat(),
            Protocol::Wsgi(_) => false,
        }
    }

    /// Takes the next piece of input and writes the response.
    pub(super) fn step(&mut self, source: &mut Source, sink: &mut Sink) -> Result<Step, Failure> {
        match self {
            Protocol::Http(http) => http.step(source, sink),
            Protocol::Wsgi(wsgi) => wsgi.step(source, sink),
        }
    }
}
