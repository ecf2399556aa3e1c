//! The types between `Forward` and a protocol spoken with an upstream: the input, the sink for the response, and the
//! result of a step.

use crate::app::body::Body;
use crate::app::body::spool::Spool;
use crate::app::body::temporary::NoRoom;
use crate::app::upstreams::ConnectError;
use crate::descriptors;
use crate::http::date::Now;
use crate::http::status::Status;
use crate::proto::buffer::Buffer;
use crate::proto::conn::Conn;
use crate::proto::responder::{Common, Responder};
use crate::wsgi::supervisor::LeaseError;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

/// Bytes of a read from the upstream.
pub const ROOM: usize = 64 * 1024;

/// Where the content of this step goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// To the client's output.
    Output,
    /// To the spool, which has reserved room for the whole input.
    Spool,
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
pub struct UpstreamInput<'a> {
    pub input: &'a mut Buffer,
    /// Descriptors that came with the bytes.
    pub files: &'a mut Vec<OwnedFd>,
    /// The upstream has closed the connection in order: nothing follows the input.
    pub closed: bool,
}

/// Where a protocol writes the response.
pub struct ResponseSink<'a> {
    pub conn: &'a mut Conn,
    pub output: &'a mut Buffer,
    pub room: Room,
    pub spool: &'a mut Spool,
    pub common: &'a Common,
    pub now: &'a Now,
}

impl ResponseSink<'_> {
    pub fn responder(&mut self) -> Responder<'_> {
        Responder::new(self.conn, self.output, self.now.imf(), self.common)
    }

    /// Writes a piece of content to the client's output or to the spool.
    pub fn content(&mut self, data: &[u8]) -> Result<(), Failure> {
        match self.room {
            Room::Output => self.conn.encode(data, self.output),
            Room::Spool => self.spool.push(data).map_err(Failure::of_disk)?,
        }
        Ok(())
    }
}

/// The cause in the `io::Error` of a call that did not wait because the server's shutdown cuts all exchanges.
#[derive(Debug)]
pub struct CutByShutdown;

impl CutByShutdown {
    pub fn is_cause_of(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|cause| cause.is::<CutByShutdown>())
    }
}

impl fmt::Display for CutByShutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cut by the shutdown")
    }
}

impl std::error::Error for CutByShutdown {}

impl From<CutByShutdown> for io::Error {
    fn from(cut: CutByShutdown) -> io::Error {
        io::Error::other(cut)
    }
}

impl Failure {
    pub fn bad_gateway(reason: impl Into<String>) -> Failure {
        Failure { status: Status::BAD_GATEWAY, reason: reason.into() }
    }

    /// There is no socket to the upstream. 503 if too many requests wait, or this machine lacks something; else 502.
    pub(super) fn of_connect(error: &ConnectError) -> Failure {
        match error {
            ConnectError::Queued | ConnectError::Lease(LeaseError::QueueFull) => {
                let reason = "too many requests wait for a worker".into();
                Failure { status: Status::SERVICE_UNAVAILABLE, reason }
            }
            ConnectError::Lease(LeaseError::WorkerLost) => Failure::bad_gateway("its worker ended with the request"),
            ConnectError::Io(error) => Failure::of_refusal(error),
        }
    }

    /// A connection cannot be made. 503 if this machine lacks something (descriptors, memory, ports), 502 if the
    /// upstream refuses.
    pub(super) fn of_refusal(error: &io::Error) -> Failure {
        use rustix::io::Errno;
        let lacking = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
        let lacks = Errno::from_io_error(error).is_some_and(|errno| lacking.contains(&errno));
        Failure::note_lack(error);
        let status = if lacks { Status::SERVICE_UNAVAILABLE } else { Status::BAD_GATEWAY };
        Failure { status, reason: format!("cannot connect: {error}") }
    }

    /// A temporary file cannot be made, written or read.
    pub fn of_disk(error: io::Error) -> Failure {
        if NoRoom::is_cause_of(&error) {
            return Failure { status: Status::SERVICE_UNAVAILABLE, reason: error.to_string() };
        }
        let reason = format!("no temporary file can be written: {error}");
        let lacks = Failure::note_lack(&error);
        let status = if lacks { Status::SERVICE_UNAVAILABLE } else { Status::INTERNAL_SERVER_ERROR };
        Failure { status, reason }
    }

    /// Whether no descriptor was left. If so, the engine will free some.
    fn note_lack(error: &io::Error) -> bool {
        let lacks = rustix::io::Errno::from_io_error(error).is_some_and(descriptors::is_lack);
        if lacks {
            descriptors::on_lacked();
        }
        lacks
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
