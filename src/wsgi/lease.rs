//! The values that pass between the supervisor and a session that needs a worker.

use crate::wsgi::frames::Reader;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Names a request that needs a worker: the key of its client in the engine.
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

/// The result of asking the supervisor for a worker.
#[derive(Debug)]
pub enum Leased {
    /// A thread is reserved. The session has to send the request over the stream.
    Now(Lease),
    /// A thread has the request already. `Received` is the beginning of its answer.
    Sent(Lease, Received),
    /// The ticket waits in the queue. Call `lease` again when `take_woken` returns the ticket.
    Queued,
    /// The queue is full.
    Full,
    /// The worker that had taken the request has ended.
    Lost,
}

/// A lease. If the thread has the request already, also the beginning of its answer.
pub type Granted = (Lease, Option<Received>);

/// Why a request gets no worker, even if it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseError {
    /// Too many requests wait already.
    QueueFull,
    /// The worker that had taken the request has ended. The request may have begun, so it is not sent again.
    WorkerLost,
}

impl Leased {
    /// `None` while the ticket waits in the queue.
    pub fn granted(self) -> Result<Option<Granted>, LeaseError> {
        match self {
            Leased::Now(lease) => Ok(Some((lease, None))),
            Leased::Sent(lease, received) => Ok(Some((lease, Some(received)))),
            Leased::Queued => Ok(None),
            Leased::Full => Err(LeaseError::QueueFull),
            Leased::Lost => Err(LeaseError::WorkerLost),
        }
    }
}

/// Bytes and descriptors from a thread that belong to its next answer: they arrived with the end of the previous one.
#[derive(Debug, Default)]
pub struct Received {
    pub bytes: Vec<u8>,
    pub files: Vec<OwnedFd>,
}

/// The state of a thread when a session gives it back to the supervisor.
#[derive(Debug)]
pub enum Handback {
    /// The thread has sent the whole answer, and perhaps the beginning of the next.
    Free(Received),
    /// The client has left, and no byte of the request has been sent to the thread.
    Unsent,
    /// The client has left during the exchange. `unsent`: bytes of the request that are still to be sent. `received`:
    /// bytes of the answer that are not parsed yet. `reader`: the state of parsing the answer's frames.
    Busy { unsent: Vec<u8>, received: Received, reader: Reader },
    /// The worker ended before it began with the request: the request needs another worker.
    NotBegun,
    /// The worker ended, or sent something that is not a frame.
    Broken,
    /// The application has made no progress within the timeout.
    Stuck,
}
