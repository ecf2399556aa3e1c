//! What passes between the supervisor and who needs a worker.

use crate::wsgi::frames::Reader;
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
    Now(Lease),
    /// The ticket is in the queue, and is told by `take_woken`.
    Queued,
    /// The queue is as long as it may be.
    Full,
}

/// How a request left its thread.
#[derive(Debug)]
pub enum Left {
    Free,
    /// The client has left first: what of the request is unsent, what the thread has said of its answer.
    Busy {
        unsent: Vec<u8>,
        unread: Vec<u8>,
        reader: Reader,
    },
    /// It ended, or said what is no frame.
    Broken,
    /// It has been silent for too long.
    Stuck,
}
