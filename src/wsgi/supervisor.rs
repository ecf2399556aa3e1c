//! Starts the workers, gives their threads to requests, and ends workers. It never waits: an engine waits for the
//! supervisor's descriptor and deadline, and then calls `turn`.
//!
//! ```text
//!             READY of each thread          worn out, or a newer generation is ready
//!  Starting ────────────────────► Serving ─────────────────────────────► Retiring ── idle ──► its sockets close
//!     │ FAILED, or it ends          │ stuck                                  │                       │
//!     ▼                             ▼                                        ▼                       ▼
//!  tried again, later             Stuck ── idle ──► Ending ──► killed      Ending               it ends by itself
//! ```
//! If a worker's socket breaks, or a worker sends something that is not a frame, the worker is `Crashed`: it is killed
//! soon if it does not end by itself.
//!
//! A `Lease` is the right to a thread's stream for one request. While a thread works on one request, others may be in
//! its inbox. The thread takes them up one after another, and each gets its own lease when the thread has taken it up.

mod ending;
mod requests;

use crate::start_error::StartError;
use crate::wsgi::Spec;
pub use crate::wsgi::lease::{Granted, Handback, Lease, LeaseError, Leased, Received, Seat, Ticket};
use crate::wsgi::pool::{Pool, UNSTARTED};
use crate::wsgi::process::Process;
use crate::wsgi::watch::{self, unwatch, watch};
use crate::wsgi::worker::{Duty, Greeting, State, Thread, Worker};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags};
use rustix::process::Signal;
use slab::Slab;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many epoll tokens belong to one worker: one for each thread's socket, and `PROCESS` for its other descriptors.
const STRIDE: usize = 1024;
const PROCESS: usize = STRIDE - 1;
/// How long a stuck worker may take to print its stacks before it is killed.
const DUMP: Duration = Duration::from_millis(250);
/// How long a worker may take to end once its sockets are closed.
const LEAVE: Duration = Duration::from_secs(10);

/// Most events taken in one epoll_wait.
const EVENTS: usize = 64;
const NO_TIME: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

#[derive(Debug)]
pub struct Supervisor {
    poll: OwnedFd,
    pools: Vec<Pool>,
    workers: Slab<Worker>,
    /// Tickets that may get a thread now. `take_woken` returns them.
    woken: Vec<Ticket>,
    /// Tickets of requests that a worker had taken up before it ended. `lease` answers `Lost` for them.
    lost: Vec<Ticket>,
    /// Something has changed: the next turn is due at once.
    changed: bool,
    stopping: bool,
}

impl Supervisor {
    pub fn new(specs: Vec<Spec>) -> io::Result<Supervisor> {
        Ok(Supervisor {
            poll: epoll::create(CreateFlags::CLOEXEC)?,
            pools: specs.into_iter().map(Pool::new).collect(),
            workers: Slab::new(),
            woken: Vec::new(),
            lost: Vec::new(),
            changed: true,
            stopping: false,
        })
    }

    /// Starts every worker and waits until all are ready. It may wait: no client is served yet.
    ///
    /// # Errors
    /// An application cannot be imported, or an interpreter cannot be started: exit code 3.
    pub fn start(&mut self, clock: impl Fn() -> Instant) -> Result<(), StartError> {
        loop {
            self.turn(clock());
            let failed = self.pools.iter_mut().find_map(|pool| Some((pool.failure.take()?, &pool.spec)));
            if let Some((failure, spec)) = failed {
                let message = format!("the application {} does not start: {failure}", spec.app);
                self.kill_all();
                return Err(StartError { message, code: 3 });
            }
            if self.pools.iter().all(|pool| pool.proven == pool.generation) {
                return Ok(());
            }
            let left = self.next_turn(clock()).map(|deadline| deadline.saturating_duration_since(clock()));
            let _ = self.wait(left);
        }
    }

    /// Waits until `turn` has something to do, `left` at most.
    pub fn wait(&self, left: Option<Duration>) -> io::Result<()> {
        watch::wait(self.poll.as_fd(), left)
    }

    // ---- events and deadlines of workers

    /// When the next turn is due, even if the descriptor is not readable.
    pub fn deadline(&self) -> Option<Instant> {
        let pauses = self.pools.iter().filter_map(|pool| pool.pause);
        let workers = self.workers.iter().filter_map(|(_, worker)| worker.deadline());
        pauses.chain(workers).min()
    }

    /// As `deadline`, but `now` if there is output to read or something has changed.
    pub fn next_turn(&self, now: Instant) -> Option<Instant> {
        let has_output = self.workers.iter().any(|(_, worker)| worker.has_output);
        if has_output || self.changed { Some(now) } else { self.deadline() }
    }

    /// Handles all events, then every deadline.
    pub fn turn(&mut self, now: Instant) {
        self.changed = false;
        loop {
            let mut events = Vec::with_capacity(EVENTS);
            let polled = epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), Some(&NO_TIME));
            for event in &events {
                let token = event.data.u64() as usize;
                self.on_event(Seat { worker: token / STRIDE, thread: token % STRIDE }, now);
            }
            if polled.is_err() || events.len() < EVENTS {
                break;
            }
        }
        let keys: Vec<usize> = self.workers.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.check_worker(key, now);
        }
        for pool in 0..self.pools.len() {
            self.start_missing(pool, now);
        }
    }

    /// Imports every application again. The old workers serve until the new ones are ready. If an earlier reload is not
    /// finished, it is given up: its import may hang, and it may have read sources that have changed since.
    pub fn reload(&mut self, now: Instant) {
        self.changed = true;
        for index in 0..self.pools.len() {
            let pool = &mut self.pools[index];
            pool.reload_asked = true;
            // While the first workers start, there are no older workers to go back to.
            if pool.proven == 0 {
                continue;
            }
            let given_up = std::mem::replace(&mut pool.generation, pool.proven);
            let is_new = pool.generation != given_up;
            pool.begin_reload_if_asked();
            if is_new {
                self.retire_all(now, |worker| worker.pool == index && worker.generation == given_up);
            }
        }
    }

    /// Ends every worker as soon as it is idle. No more workers are started.
    pub fn stop(&mut self, now: Instant) {
        self.stopping = true;
        self.retire_all(now, |_| true);
        // No session will read the answers to requests that threads have taken up from their inboxes.
        for next in self.workers.iter_mut().flat_map(|(_, worker)| &mut worker.threads).flat_map(|at| &mut at.next) {
            *next = None;
        }
    }

    pub fn has_ended(&self) -> bool {
        self.workers.is_empty()
    }

    /// Kills every process that still runs.
    pub fn kill_all(&mut self) {
        for (_, worker) in self.workers.iter().filter(|(_, worker)| worker.ended.is_none()) {
            worker.process.signal(Signal::KILL);
        }
    }

    fn thread(&mut self, seat: Seat) -> &mut Thread {
        &mut self.workers[seat.worker].threads[seat.thread]
    }

    fn on_event(&mut self, seat: Seat, now: Instant) {
        let Some(worker) = self.workers.get_mut(seat.worker) else { return };
        if seat.thread == PROCESS {
            worker.has_output = true;
            return;
        }
        match worker.threads.get(seat.thread).map(|thread| &thread.duty) {
            Some(Duty::Starting(_)) => self.read_greeting(seat, now),
            Some(Duty::Finishing { .. }) => self.finish(seat, now),
            _ => {}
        }
    }

    /// The deadlines, output and end of one worker.
    fn check_worker(&mut self, key: usize, now: Instant) {
        let worker = &mut self.workers[key];
        if worker.ended.is_some() {
            worker.has_output = false;
            return self.remove_if_done(key, now);
        }
        worker.process.flush_output(now);
        if worker.overdue.is_some_and(|overdue| overdue <= now) {
            worker.overdue = None;
            let pool = &self.pools[worker.pool];
            if worker.state == State::Starting && !pool.show_import(&worker.process) {
                worker.overdue = Some(now + pool.spec.timeout);
            }
        }
        if let State::Stuck { kill_at } = worker.state
            && kill_at <= now
        {
            self.cut_stuck(key, "because its other requests take too long", now);
        }
        let worker = &mut self.workers[key];
        if let State::Ending { kill_at } | State::Crashed { kill_at } = &mut worker.state
            && *kill_at <= now
        {
            worker.process.signal(Signal::KILL);
            // A process in an uninterruptible system call ends only after the call. Send the signal again later.
            *kill_at = now + LEAVE;
        }
        if worker.has_output {
            worker.has_output = worker.process.read_output(now);
            worker.ended = worker.process.ended();
            if worker.ended.is_some() {
                return self.on_ended(key, now);
            }
        }
        for thread in 0..self.workers[key].threads.len() {
            self.finish(Seat { worker: key, thread }, now);
        }
        let late = self.workers[key].threads.iter().position(|thread| match thread.duty {
            Duty::Finishing { until, .. } => until <= now,
            _ => false,
        });
        if let Some(thread) = late {
            self.on_stuck(Seat { worker: key, thread }, now);
        }
    }

    /// Starts workers until the pool has as many as it should have.
    fn start_missing(&mut self, index: usize, now: Instant) {
        let pool = &mut self.pools[index];
        if self.stopping || pool.pause.is_some_and(|until| until > now) {
            return;
        }
        pool.pause = None;
        let generation = pool.generation;
        let current = || self.workers.iter().filter(|(_, worker)| worker.counts_for(index, generation));
        let (count, watched) = (current().count(), current().any(|(_, worker)| worker.watches));
        for number in count..pool.spec.workers {
            // One worker that watches the sources is enough.
            let watches = pool.spec.watch && !watched && number == count;
            match Process::spawn(&pool.spec, watches) {
                Ok((process, lines)) => {
                    let left = pool.share(process.pid());
                    let key = self.workers.vacant_key();
                    for fd in process.sources() {
                        watch(&self.poll, fd, key * STRIDE + PROCESS);
                    }
                    let threads = lines.into_iter().enumerate().map(|(number, (stream, inbox))| {
                        watch(&self.poll, &stream, key * STRIDE + number);
                        let (socket, duty) = (Arc::new(OwnedFd::from(stream)), Duty::Starting(Vec::new()));
                        Thread { socket, inbox, duty, next: VecDeque::new() }
                    });
                    self.workers.insert(Worker {
                        process,
                        pool: index,
                        generation,
                        state: State::Starting,
                        threads: threads.collect(),
                        left,
                        watches,
                        has_output: true,
                        overdue: Some(now + pool.spec.timeout),
                        ended: None,
                    });
                }
                Err(error) => {
                    let failure = format!("{} cannot be started: {error}", pool.spec.python.display());
                    return self.on_failure(index, failure, now);
                }
            }
        }
    }

    /// A worker could not be started.
    fn on_failure(&mut self, index: usize, failure: String, now: Instant) {
        let pool = &mut self.pools[index];
        // At start, `start` returns the failure as its error.
        if pool.proven > 0 {
            log::error!(target: "wsgi", "{}: {failure}", pool.spec.app);
        }
        let reloading = pool.proven > 0 && pool.generation != pool.proven;
        pool.failure = Some(failure);
        if reloading {
            log::error!(target: "wsgi", "{}: the reload failed; the old workers stay", pool.spec.app);
            let generation = std::mem::replace(&mut pool.generation, pool.proven);
            pool.begin_reload_if_asked();
            self.changed = true;
            // Workers of the failed generation that are ready may have a request already.
            self.retire_all(now, |worker| worker.pool == index && worker.generation == generation);
            return;
        }
        pool.count_failure(UNSTARTED, now);
    }

    /// Reads the first frame of a thread that is starting.
    fn read_greeting(&mut self, seat: Seat, now: Instant) {
        let worker = &mut self.workers[seat.worker];
        // The worker has failed already. The end of its stream must not count as another failure: the pool may have
        // begun a newer generation since.
        if worker.state != State::Starting {
            unwatch(&self.poll, &*worker.threads[seat.thread].socket);
            return;
        }
        let failure = match worker.threads[seat.thread].greeting() {
            Greeting::None => return,
            Greeting::Ready => {
                unwatch(&self.poll, &*worker.threads[seat.thread].socket);
                worker.threads[seat.thread].duty = Duty::Idle;
                if worker.threads.iter().all(|thread| matches!(thread.duty, Duty::Idle)) {
                    self.on_ready(seat.worker, now);
                }
                return;
            }
            Greeting::Failed(failure) => failure,
        };
        let pool = worker.pool;
        worker.state = State::Ending { kill_at: now + DUMP };
        self.on_failure(pool, failure, now);
    }

    fn on_ready(&mut self, key: usize, now: Instant) {
        let Worker { pool: index, threads, state, process, overdue, .. } = &mut self.workers[key];
        let (index, count) = (*index, threads.len());
        *state = State::Serving;
        *overdue = None;
        log::debug!(target: "wsgi", "worker {} is ready", process.pid());
        let pool = &mut self.pools[index];
        pool.idle.extend((0..count).map(|thread| Seat { worker: key, thread }));
        let serving = |worker: &Worker| worker.pool == index && worker.state == State::Serving;
        let current = self.workers.iter().filter(|(_, worker)| serving(worker) && worker.generation == pool.generation);
        let complete = current.count() >= pool.spec.workers;
        if complete {
            if pool.proven != 0 && pool.proven != pool.generation {
                log::info!(target: "wsgi", "{}: reloaded", pool.spec.app);
            }
            pool.proven = pool.generation;
        }
        if complete {
            let generation = pool.generation;
            pool.begin_reload_if_asked();
            self.retire_all(now, |worker| {
                let is_older = serving(worker) && worker.generation != generation;
                worker.pool == index && (worker.state == State::Worn || is_older)
            });
        } else {
            // One new worker replaces one worn worker. Each other worn worker waits for another new one.
            let mut worn =
                self.workers.iter().filter(|(_, worker)| worker.pool == index && worker.state == State::Worn);
            if let Some((key, _)) = worn.next() {
                self.retire(key, now);
            }
        }
        for _ in 0..count {
            self.wake(index);
        }
    }
}

impl AsFd for Supervisor {
    /// Readable when `turn` has something to do.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.as_fd()
    }
}
