//! The supervisor as engines share it: behind a lock, with a bell for threads that wait for a worker.
//!
//! The event engine has the lock to itself and never waits. In the threaded engines one thread waits for what the
//! supervisor watches, and the others for the bell.

use crate::start_error::StartError;
use crate::wsgi::Spec;
use crate::wsgi::supervisor::{Lease, Leased, Left, Supervisor, Ticket};
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub struct Host {
    supervisor: Mutex<Supervisor>,
    /// A worker may have become free.
    bell: Condvar,
}

impl Host {
    pub fn new(specs: Vec<Spec>) -> io::Result<Host> {
        Ok(Host { supervisor: Mutex::new(Supervisor::new(specs)?), bell: Condvar::new() })
    }

    /// Starts the workers and waits for all.
    ///
    /// # Errors
    /// An application cannot be imported: exit code 3.
    pub fn start(&self, clock: impl Fn() -> Instant) -> Result<(), StartError> {
        self.lock().start(clock)
    }

    /// The supervisor itself. A thread that panicked has left nothing half done in it.
    pub fn lock(&self) -> MutexGuard<'_, Supervisor> {
        self.supervisor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the supervisor look at what has happened, and rings for those who wait.
    pub fn turn(&self, now: Instant) {
        let mut supervisor = self.lock();
        supervisor.turn(now);
        self.ring(supervisor);
    }

    pub fn give_back(&self, lease: Lease, left: Left, now: Instant) {
        let mut supervisor = self.lock();
        supervisor.give_back(lease, left, now);
        self.ring(supervisor);
    }

    /// Waits for a free worker, for as long as `left` at most; `None` when there was none, and the ticket keeps its
    /// place in the queue.
    pub fn lease_within(&self, pool: usize, ticket: Ticket, left: Duration) -> io::Result<Option<Lease>> {
        let mut supervisor = self.lock();
        let wanted = |supervisor: &mut Supervisor| match supervisor.lease(pool, ticket) {
            Leased::Now(lease) => Some(Ok(lease)),
            Leased::Queued => None,
            Leased::Full => Some(Err(io::ErrorKind::QuotaExceeded.into())),
        };
        let mut answer = wanted(&mut supervisor);
        if answer.is_none() {
            let waits = |supervisor: &mut Supervisor| {
                answer = wanted(supervisor);
                answer.is_none()
            };
            let waited = self.bell.wait_timeout_while(supervisor, left, waits);
            supervisor = waited.unwrap_or_else(PoisonError::into_inner).0;
            self.ring(supervisor);
        }
        answer.transpose()
    }

    /// Tells those who wait that it may be their turn. Tickets are for an engine that takes them itself.
    fn ring(&self, mut supervisor: MutexGuard<'_, Supervisor>) {
        if !supervisor.take_woken().is_empty() {
            drop(supervisor);
            self.bell.notify_all();
        }
    }
}
