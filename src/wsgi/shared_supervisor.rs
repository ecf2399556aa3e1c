//! Lets the threads of an engine share the supervisor: a lock, and a condition variable for threads that wait for a
//! worker.
//!
//! The event engine has one thread, so it never waits for the lock. In the threaded engines one thread waits for the
//! supervisor's descriptor, and the threads that serve clients wait for the condition variable.

use crate::start_error::StartError;
use crate::sync;
use crate::wsgi::Spec;
use crate::wsgi::supervisor::{Granted, Handback, Lease, LeaseError, Supervisor, Ticket};
use crate::wsgi::watch::read_with_files;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub struct SharedSupervisor {
    supervisor: Mutex<Supervisor>,
    /// Notified when a worker may have become free.
    worker_free: Condvar,
}

impl SharedSupervisor {
    pub fn new(specs: Vec<Spec>) -> io::Result<SharedSupervisor> {
        Ok(SharedSupervisor { supervisor: Mutex::new(Supervisor::new(specs)?), worker_free: Condvar::new() })
    }

    /// Starts the workers and waits until all are ready.
    ///
    /// # Errors
    /// An application cannot be imported: exit code 3.
    pub fn start(&self, clock: impl Fn() -> Instant) -> Result<(), StartError> {
        self.lock().start(clock)
    }

    /// The supervisor itself.
    pub fn lock(&self) -> MutexGuard<'_, Supervisor> {
        sync::lock(&self.supervisor)
    }

    /// As `Supervisor::turn`, and wakes threads that wait for a worker.
    pub fn turn(&self, now: Instant) {
        let mut supervisor = self.lock();
        supervisor.turn(now);
        self.notify(supervisor);
    }

    /// Gives the thread back. Returns the ticket of the next request that the thread has taken up already, if any.
    pub fn give_back(&self, lease: &Lease, handback: Handback, now: Instant) -> Option<Ticket> {
        let mut supervisor = self.lock();
        let next = supervisor.give_back(lease, handback, now);
        self.notify(supervisor);
        next
    }

    /// Waits for a free worker, for `left` at most. `None`: that time is over.
    pub fn lease_within(
        &self,
        pool: usize,
        ticket: Ticket,
        request: Option<&[u8]>,
        left: Duration,
    ) -> Result<Option<Granted>, LeaseError> {
        let mut answer = Ok(None);
        let waits = |supervisor: &mut Supervisor| {
            answer = supervisor.lease(pool, ticket, request).granted();
            matches!(answer, Ok(None))
        };
        self.notify(sync::wait_while(&self.worker_free, self.lock(), left, waits));
        answer
    }

    /// Takes a ticket out of the queue: its client has left, or has waited for long enough.
    pub fn leave(&self, ticket: Ticket, now: Instant) {
        let mut supervisor = self.lock();
        supervisor.leave(ticket, now);
        self.notify(supervisor);
    }

    /// Reads from the stream of a thread.
    ///
    /// # Errors
    /// `ConnectionReset`: the worker ended before it took up the request. The kernel returns this if the request is
    /// still in the socket (unix(7)); here the request was still in the worker's inbox.
    pub fn read(&self, lease: &Lease, room: &mut [u8], files: &mut Vec<OwnedFd>) -> io::Result<usize> {
        match read_with_files(&lease.socket, room, files)? {
            0 if self.lock().has_not_begun(lease) => Err(io::ErrorKind::ConnectionReset.into()),
            count => Ok(count),
        }
    }

    /// If a ticket was woken, wakes all threads that wait for a worker: each checks whether it was its own.
    fn notify(&self, mut supervisor: MutexGuard<'_, Supervisor>) {
        if !supervisor.take_woken().is_empty() {
            drop(supervisor);
            self.worker_free.notify_all();
        }
    }
}
