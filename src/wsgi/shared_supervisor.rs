//! The supervisor as engines share it: behind a lock, with a bell for threads that wait for a worker.
//!
//! The event engine has the lock to itself and never waits. In the threaded engines one thread waits for what the
//! supervisor watches, and the others for the bell.

use crate::start_error::StartError;
use crate::wsgi::Spec;
use crate::wsgi::supervisor::{Granted, Handback, Lease, Supervisor, Ticket};
use crate::wsgi::watch::read_with_files;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub struct SharedSupervisor {
    supervisor: Mutex<Supervisor>,
    /// A worker may have become free.
    bell: Condvar,
}

impl SharedSupervisor {
    pub fn new(specs: Vec<Spec>) -> io::Result<SharedSupervisor> {
        Ok(SharedSupervisor { supervisor: Mutex::new(Supervisor::new(specs)?), bell: Condvar::new() })
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

    /// Whose turn it is now at the thread, if it has another request already.
    pub fn give_back(&self, lease: &Lease, handback: Handback, now: Instant) -> Option<Ticket> {
        let mut supervisor = self.lock();
        let next = supervisor.give_back(lease, handback, now);
        self.ring(supervisor);
        next
    }

    /// Waits for a free worker, for as long as `left` at most.
    ///
    /// # Errors
    /// As `Leased::granted` has them.
    pub fn lease_within(
        &self,
        pool: usize,
        ticket: Ticket,
        request: Option<&[u8]>,
        left: Duration,
    ) -> io::Result<Option<Granted>> {
        let mut answer = Ok(None);
        let waits = |supervisor: &mut Supervisor| {
            answer = supervisor.lease(pool, ticket, request).granted();
            matches!(answer, Ok(None))
        };
        let waited = self.bell.wait_timeout_while(self.lock(), left, waits);
        self.ring(waited.unwrap_or_else(PoisonError::into_inner).0);
        answer
    }

    /// The ticket waits no longer.
    pub fn leave(&self, ticket: Ticket, now: Instant) {
        let mut supervisor = self.lock();
        supervisor.leave(ticket, now);
        self.ring(supervisor);
    }

    /// Reads what a thread says. One that has gone without taking its request up is like a connection that was reset: the
    /// request has not begun.
    pub fn read(&self, lease: &Lease, room: &mut [u8], files: &mut Vec<OwnedFd>) -> io::Result<usize> {
        match read_with_files(&lease.socket, room, files)? {
            0 if self.lock().is_untaken(lease) => Err(io::ErrorKind::ConnectionReset.into()),
            count => Ok(count),
        }
    }

    /// Tells those who wait that it may be their turn. Tickets are for an engine that takes them itself.
    fn ring(&self, mut supervisor: MutexGuard<'_, Supervisor>) {
        if !supervisor.take_woken().is_empty() {
            drop(supervisor);
            self.bell.notify_all();
        }
    }
}
