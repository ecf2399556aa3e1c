//! What passes between the supervisor and who needs a worker.

use crate::wsgi::frames::Reader;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Who waits for a worker, as the engine names it.
pub type Ticket = usize;

/// The right to one thread of one worker, for one request.
#[derive(Clone, Debug)]
pub struct Lease {
    pub socket: Arc<OwnedFd>,
    pub pool: usize,
    pub pid: u32,
    pub(super) seat: Seat,
}

/// One thread of one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seat {
    /// The worker's key in the supervisor.
    pub worker: usize,
    /// The thread's place among the worker's threads.
    pub thread: usize,
}

/// What a wish for a worker led to.
#[derive(Debug)]
pub enum Leased {
    /// The request is still to be sent, over the stream.
    Now(Lease),
    /// The worker has it already.
    Sent(Lease, Received),
    /// The ticket is in the queue, and is told by `take_woken`.
    Queued,
    /// The queue is as long as it may be.
    Full,
    /// A worker had it, and has gone with it.
    Lost,
}

/// A lease; and with it what the thread says already, when it has the request.
pub type Granted = (Lease, Option<Received>);

impl Leased {
    /// `None` for who is in the queue.
    ///
    /// # Errors
    /// `QuotaExceeded`: too many wait. `ConnectionAborted`: a worker has ended with the request.
    pub fn granted(self) -> io::Result<Option<Granted>> {
        match self {
            Leased::Now(lease) => Ok(Some((lease, None))),
            Leased::Sent(lease, received) => Ok(Some((lease, Some(received)))),
            Leased::Queued => Ok(None),
            Leased::Full => Err(io::ErrorKind::QuotaExceeded.into()),
            Leased::Lost => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

/// What a thread has said behind the end of an answer: the beginning of the next.
#[derive(Debug, Default)]
pub struct Received {
    pub bytes: Vec<u8>,
    pub files: Vec<OwnedFd>,
}

/// In which state a session gives a thread back to the supervisor.
#[derive(Debug)]
pub enum Handback {
    /// The thread has sent the whole answer, and perhaps the beginning of the next.
    Free(Received),
    /// The client has left, and no byte of the request has been sent to the thread.
    Unsent,
    /// The client has left during the exchange: the bytes of the request that are still to be sent, what was received of
    /// the answer and is not parsed yet, and where in the frames the answer is.
    Busy { unsent: Vec<u8>, received: Received, reader: Reader },
    /// The worker ended before it began with the request: the request needs another worker.
    NotBegun,
    /// The worker ended, or sent something that is not a frame.
    Broken,
    /// The application has made no progress within the timeout.
    Stuck,
}
