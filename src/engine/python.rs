//! The Python side of an engine: the only file here that knows `crate::wsgi`.
//!
//! | type | what an engine does with it |
//! |---|---|
//! | [`Source`] | the event loop watches its descriptor and its deadline, and asks it for the clients to drive. |
//! | [`Workers`] | leases a worker's socket for a client, or puts the client into the queue. |
//! | [`WorkerSocket`] | the leased socket: read, write, and give back. |
//!
//! The threaded engines have no `Source`: `supervise` starts a thread that does the same work. `end` ends the workers
//! when the engine has ended.

use crate::app::App;
use crate::app::upstreams::ConnectError;
use crate::driver::{Connected, Handback};
use crate::engine::shutdown::Ended;
use crate::wsgi::frames::Reader;
use crate::wsgi::inbox::DEPTH;
use crate::wsgi::process::send_with;
use crate::wsgi::shared_supervisor::SharedSupervisor;
use crate::wsgi::supervisor::{Granted, Lease};
use crate::wsgi::watch;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::net::SendFlags;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// How many times the event loop drives woken clients in one turn. The bytes that a worker's thread has sent may hold
/// the answers to its request and to all requests in its inbox. The clients get them one after another: each gives the
/// thread back, which wakes the next client.
pub const ROUNDS: usize = DEPTH + 1;
/// How long workers may take to end when the server ends.
const LEAVE: Duration = Duration::from_secs(2);
/// How long workers may take to end if requests have been cut off: time for the applications to clean up.
const LEAVE_CUT: Duration = Duration::from_millis(500);
/// The longest wait of the supervisor's thread. Another thread may have moved the deadline to an earlier time.
const SLICE: Duration = Duration::from_millis(100);

// ---- the event loop

/// The event loop's part in supervising the workers. Without applications, every call does nothing.
pub struct Source<'a> {
    supervisor: Option<&'a SharedSupervisor>,
    /// The supervisor's descriptor has been readable since the last turn.
    is_ready: bool,
}

impl<'a> Source<'a> {
    pub fn of(app: &'a App) -> Source<'a> {
        Source { supervisor: Workers::of(app).supervisor, is_ready: true }
    }

    /// Registers the supervisor's descriptor with this token.
    pub fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        let Some(supervisor) = self.supervisor else { return Ok(()) };
        registry.register(&mut SourceFd(&supervisor.lock().as_fd().as_raw_fd()), token, Interest::READABLE)
    }

    /// Call this when the descriptor is readable.
    pub fn on_event(&mut self) {
        self.is_ready = true;
    }

    /// When to call `turn`, even without an event.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        self.supervisor?.lock().next_turn(now)
    }

    /// If the descriptor was readable or the deadline has passed: handles the events and deadlines of the workers.
    pub fn turn(&mut self, now: Instant) {
        let Some(supervisor) = self.supervisor else { return };
        let mut supervisor = supervisor.lock();
        if std::mem::take(&mut self.is_ready) || supervisor.next_turn(now).is_some_and(|due| due <= now) {
            supervisor.turn(now);
        }
    }

    /// Takes the keys of the clients that may get a worker now.
    pub fn take_woken(&self) -> Vec<usize> {
        self.supervisor.map_or(Vec::new(), |supervisor| supervisor.lock().take_woken())
    }

    pub fn workers(&self) -> Workers<'a> {
        Workers { supervisor: self.supervisor }
    }
}

// ---- leasing

/// The workers of all applications, if there are any. Each worker has threads, and each thread has a socket.
#[derive(Clone, Copy)]
pub struct Workers<'a> {
    supervisor: Option<&'a SharedSupervisor>,
}

impl<'a> Workers<'a> {
    pub fn of(app: &'a App) -> Workers<'a> {
        Workers { supervisor: app.wsgi.as_ref().map(|wsgi| &wsgi.supervisor) }
    }

    /// Imports the applications again.
    pub fn reload(self, now: Instant) {
        if let Some(supervisor) = self.supervisor {
            supervisor.lock().reload(now);
        }
    }

    /// Leases a thread's socket for a client. `request`: the whole request, if it is known.
    ///
    /// # Errors
    /// `Queued`: the client waits in the queue. Others as in `Leased::granted`.
    pub fn lease(
        self,
        pool: usize,
        client: usize,
        request: Option<&[u8]>,
    ) -> Result<(WorkerSocket<'a>, Connected), ConnectError> {
        let supervisor = self.supervisor.ok_or(ConnectError::Queued)?;
        let leased = supervisor.lock().lease(pool, client, request).granted()?;
        Ok(WorkerSocket::of(supervisor, leased.ok_or(ConnectError::Queued)?))
    }

    /// As `lease`, but waits in the queue for `left` at most. `None`: that time is over.
    pub fn lease_within(
        self,
        pool: usize,
        client: usize,
        request: Option<&[u8]>,
        left: Duration,
    ) -> Result<Option<(WorkerSocket<'a>, Connected)>, ConnectError> {
        let supervisor = self.supervisor.ok_or(ConnectError::Queued)?;
        let leased = supervisor.lease_within(pool, client, request, left)?;
        Ok(leased.map(|granted| WorkerSocket::of(supervisor, granted)))
    }

    /// Takes a client out of the queue.
    pub fn leave(self, client: usize, now: Instant) {
        if let Some(supervisor) = self.supervisor {
            supervisor.lock().leave(client, now);
        }
    }

    /// As `leave`, and wakes the threads that wait in `lease_within`.
    pub fn leave_and_wake(self, client: usize, now: Instant) {
        if let Some(supervisor) = self.supervisor {
            supervisor.leave(client, now);
        }
    }
}

/// The socket of a worker's thread, leased for one request. The supervisor keeps it open between two leases.
#[derive(Clone, Debug)]
pub struct WorkerSocket<'a> {
    supervisor: &'a SharedSupervisor,
    lease: Lease,
}

/// The state of a worker's socket after a client has given it back.
#[derive(Debug)]
pub enum GivenBack {
    /// The thread has already taken up the request of this client: read its answer from the same socket.
    Next(usize),
    /// The thread is idle: it sends nothing until the socket is leased again.
    Idle,
    /// The supervisor reads the rest of the answer, or ends the worker.
    Closed,
}

impl<'a> WorkerSocket<'a> {
    fn of(supervisor: &'a SharedSupervisor, (lease, received): Granted) -> (WorkerSocket<'a>, Connected) {
        (WorkerSocket { supervisor, lease }, received.map_or(Connected::Reused, Connected::Sent))
    }

    /// Whether both are leases of the same socket.
    pub fn is_same(&self, other: &WorkerSocket<'_>) -> bool {
        Arc::ptr_eq(&self.lease.socket, &other.lease.socket)
    }

    /// Reads. Descriptors that arrive with the bytes are added to `files`.
    ///
    /// # Errors
    /// `ConnectionReset`: the worker ended before it took up the request, so that the request has not begun.
    pub fn read(&self, room: &mut [u8], files: &mut Vec<OwnedFd>) -> io::Result<usize> {
        self.supervisor.read(&self.lease, room, files)
    }

    /// Writes. The descriptor is passed with the first byte.
    pub fn write_with(&self, bytes: &[u8], file: BorrowedFd<'_>) -> io::Result<usize> {
        send_with(self, bytes, &[file], SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
    }

    /// Ends the lease. Without a `handback` the worker counts as broken.
    pub fn give_back(&self, handback: Option<Handback>, now: Instant) -> GivenBack {
        let handback = handback.unwrap_or(Handback::Broken);
        let is_free = matches!(handback, Handback::Free(_) | Handback::Unsent);
        match self.supervisor.lock().give_back(&self.lease, handback, now) {
            Some(client) => GivenBack::Next(client),
            None if is_free => GivenBack::Idle,
            None => GivenBack::Closed,
        }
    }

    /// As `give_back`, and wakes the threads that wait in `lease_within`.
    pub fn give_back_and_wake(&self, handback: Option<Handback>, now: Instant) {
        self.supervisor.give_back(&self.lease, handback.unwrap_or(Handback::Broken), now);
    }

    /// Ends the lease of a socket that the engine cannot use after all.
    pub fn give_back_unused(&self, connected: Connected, now: Instant) {
        let handback = match connected {
            Connected::Sent(received) => Handback::Busy { unsent: Vec::new(), received, reader: Reader::default() },
            Connected::New | Connected::Reused => Handback::Unsent,
        };
        self.supervisor.lock().give_back(&self.lease, handback, now);
    }

    /// Call this when the socket becomes readable while no client has it: the worker has ended or is broken.
    pub fn on_unasked(&self, now: Instant) {
        self.supervisor.lock().on_unasked(&self.lease, now);
    }
}

impl AsFd for WorkerSocket<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lease.socket.as_fd()
    }
}

// ---- the threaded engines, and the end of all engines

/// Starts the thread that supervises the workers, if there are any.
pub fn supervise(app: &Arc<App>) -> io::Result<()> {
    let Some(wsgi) = &app.wsgi else { return Ok(()) };
    let descriptor = wsgi.supervisor.lock().as_fd().try_clone_to_owned()?;
    let app = app.clone();
    thread::Builder::new().spawn(move || {
        let Some(wsgi) = &app.wsgi else { return };
        loop {
            let due = wsgi.supervisor.lock().next_turn(Instant::now());
            let left = due.map_or(SLICE, |due| due.saturating_duration_since(Instant::now()));
            if watch::wait(descriptor.as_fd(), Some(left.min(SLICE))).is_err() {
                thread::sleep(SLICE);
            }
            wsgi.supervisor.turn(Instant::now());
        }
    })?;
    Ok(())
}

/// Tells the workers to end, and kills those that do not.
pub fn end(app: &App, ended: Ended) {
    let Some(wsgi) = &app.wsgi else { return };
    let leave = match ended {
        Ended::Drained => LEAVE,
        Ended::Cut => LEAVE_CUT,
    };
    let until = Instant::now() + leave;
    let mut supervisor = wsgi.supervisor.lock();
    supervisor.stop(Instant::now());
    while !supervisor.has_ended() {
        let now = Instant::now();
        if until <= now {
            return supervisor.kill_all();
        }
        // An error here is temporary: the next round tries again.
        let _ = supervisor.wait(Some((until - now).min(SLICE)));
        supervisor.turn(Instant::now());
    }
}
