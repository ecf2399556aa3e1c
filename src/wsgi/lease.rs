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
    pub(super) worker: usize,
    pub(super) thread: usize,
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

/// How a request left its thread.
#[derive(Debug)]
pub enum Left {
    /// It has given its answer.
    Free(Received),
    /// The client has left before a byte of the request was sent.
    Unasked,
    /// The client has left first: what of the request is unsent, what the thread has said of its answer.
    Busy { unsent: Vec<u8>, received: Received, reader: Reader },
    /// It ended before it began with the request, which is to have another.
    Untaken,
    /// It ended, or said what is no frame.
    Broken,
    /// It has been silent for too long.
    Stuck,
}
