//! The threaded engines: blocking sockets, and one thread for each open connection. They know no HTTP.
//!
//! ```text
//!  main      poll(signals) ─► ending ─► poll(signals, ended, grace) ─► cut ─► exit
//!  acceptor  poll(listeners, ending) ─► accept ─┬─► serve it here             pool: N of them, iterative: one
//!                                               └─► a thread that serves it   threads: one acceptor
//!  serve     idle: recv, nothing lent  ─► drive: read, write, sendfile wait   blocking.rs
//! ```
//!
//! A connection keeps its thread until it closes. If no thread is free, a client waits in the backlog, until a
//! connection ends or an idle connection is closed. At the limit of connections, the acceptor closes an idle one. In a
//! pool, main checks at intervals (`LOOK`) whether all threads are busy and a client waits. If so, it closes an idle
//! one.
//!
//! **Shutdown.** A thread in a system call does not see a flag, and a signal may reach any thread. So only main reads
//! signals, and it ends each kind of wait in its own way:
//! - A thread that polls (to accept, or during a delay) polls a latch too.
//! - A thread that waits in recv for a request sets `Waiting::idle`. Main swaps it to 0 and shuts the socket down for
//!   reading, so that recv returns. An idle connection is closed for a new client in the same way. The thread swaps
//!   `idle` to 0 too when recv returns. Only the first swap finds it set: so a request that arrives at that moment is
//!   either answered or never read.
//! - A thread that waits in recv for other bytes, from a client that is owed no answer, sets `Waiting::dispensable`.
//!   Main ends that wait in the same way when `LAST_WAIT` is over.
//! - A thread that serves a request finishes it. After its next system call it learns that this request is the
//!   connection's last.
//! - When the grace period is over, main shuts all sockets down for reading and writing, which ends every call. Then it
//!   waits for the threads to end, so that they delete their unfinished uploads.
//!
//! The alternative, to poll each socket together with the latch, costs every request a third system call.
//! This way a request on an open connection costs two: recv and send.

use crate::app::App;
use crate::descriptors;
use crate::driver::{self, Transport, Turn};
use crate::engine::accept::{AcceptFailure, Listeners, PAUSE, Shortage};
use crate::engine::blocking::{Blocking, Inherited};
use crate::engine::connection::{self, Connection, Open, Waiting};
use crate::engine::idle::{IdleSearch, LEAST_IDLE};
use crate::engine::latch::{Latch, await_any};
use crate::engine::python::Workers;
use crate::engine::shutdown::{self, Ended};
use crate::engine::signals::{Hangup, Order, Signals};
use crate::engine::turn::EVICTIONS;
use crate::engine::upstream::shared_pool::SharedPool;
use crate::http::request::Ends;
use crate::session::{LAST_WAIT, Op, Phase, Ready, Scratch, Session};
use crate::sync::{self, lock};
use slab::Slab;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// The stack of a thread that serves. A walk through every route, method and error used 16 KiB of it in a
/// release build and 68 KiB in a debug build, thread-local storage included; this is four times the latter.
/// It is address space: of memory it costs only the pages that were used.
const STACK: usize = 256 * 1024;
/// Most unused scratches kept: about as many as there can be busy threads. Each takes some 32 KiB. Buffers that grew
/// beyond their usual size are not kept.
const SPARE: usize = 16;
/// How often the main thread looks for chores: work that belongs to no request.
const CHORES: Duration = Duration::from_secs(1);
/// How long threads may take to end once their sockets are shut down: they only close files and delete temporary ones.
const LEAVE: Duration = Duration::from_secs(1);

/// In a pool, a connection that has been idle for this long is closed when another client waits for a thread.
const THREAD_IDLE: Duration = Duration::from_secs(1);
/// How often main checks whether clients wait for a thread.
const LOOK: Duration = Duration::from_millis(500);
/// How soon main checks again after it has freed a thread.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Which threads serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// One thread for each connection, up to the limit of connections.
    PerConnection,
    /// This number of threads. Each serves one connection at a time.
    Pool(usize),
}

pub struct ThreadedEngine {
    shared: Arc<Shared>,
    signals: Signals,
    /// How many times SIGINT or SIGTERM has come.
    signalled: u32,
}

/// What the threads share.
struct Shared {
    app: Arc<App>,
    /// The thread that holds the lock accepts. The others wait for the lock, so that a client wakes only one of them.
    listeners: Mutex<Listeners>,
    inherited: Inherited,
    connections: Mutex<Slab<Arc<Connection>>>,
    /// Used with `connections`. Notified when there may be room for another connection.
    room: Condvar,
    /// How many sockets of connections are open.
    open: Arc<AtomicUsize>,
    shortage: Mutex<Shortage>,
    /// The shortage's `is_scarce`, to be read without the lock.
    is_scarce: AtomicBool,
    /// Finds idle connections to close for new ones.
    search: Mutex<IdleSearch>,
    /// Finds idle connections to close for descriptors. In a pool, they need not be idle for as long.
    scarce_search: Mutex<IdleSearch>,
    /// A thread has been freed, and no thread has accepted since.
    freed: AtomicBool,
    /// The start of the times in `Waiting::idle`.
    began: Instant,
    spare: Mutex<Vec<Scratch>>,
    upstreams: SharedPool,
    /// The server is shutting down.
    ending: Latch,
    /// The grace period is over.
    cut: Latch,
    /// The server is shutting down and the last connection has gone.
    ended: Latch,
}

/// A connection's entry in `connections`. Drop removes it.
struct Slot {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    key: usize,
}

impl ThreadedEngine {
    /// Takes signals over; nothing is accepted before `run`.
    pub fn new(
        app: Arc<App>,
        listeners: Vec<TcpListener>,
        threads: Threads,
        hangup: Hangup,
    ) -> io::Result<ThreadedEngine> {
        let signals = Signals::take_over(hangup)?;
        // The same values that the module `listener` has set; `blocking` says how other timeouts are set.
        let inherited = Inherited { receive: app.timeouts.header, send: app.timeouts.write };
        for listener in &listeners {
            listener.set_nonblocking(true)?;
        }
        let least_idle = if threads == Threads::PerConnection { LEAST_IDLE } else { THREAD_IDLE };
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?;
        let shared = Shared {
            app,
            listeners: Mutex::new(Listeners { sockets: listeners, addresses, next: 0 }),
            inherited,
            connections: Mutex::default(),
            room: Condvar::new(),
            open: Arc::default(),
            shortage: Mutex::new(Shortage::of_process()),
            is_scarce: AtomicBool::new(false),
            search: Mutex::new(IdleSearch::new(least_idle)),
            scarce_search: Mutex::new(IdleSearch::new(LEAST_IDLE)),
            freed: AtomicBool::new(false),
            began: Instant::now(),
            spare: Mutex::default(),
            upstreams: SharedPool::default(),
            ending: Latch::new()?,
            cut: Latch::new()?,
            ended: Latch::new()?,
        };
        Ok(ThreadedEngine { shared: Arc::new(shared), signals, signalled: 0 })
    }

    /// Serves until a signal ends it.
    pub fn run(mut self, threads: Threads) -> io::Result<Ended> {
        let serve: fn(Slot) = if threads == Threads::PerConnection { serve_apart } else { serve };
        let acceptors = match threads {
            Threads::PerConnection => 1,
            Threads::Pool(count) => count.min(self.shared.app.limits.connections),
        };
        for _ in 0..acceptors {
            let shared = self.shared.clone();
            let accepting = move || {
                while let Some(place) = accept(&shared) {
                    serve(place);
                }
            };
            // This is an error: a pool with fewer threads than were asked for would look healthy.
            let started = thread::Builder::new().stack_size(STACK).spawn(accepting);
            started.map_err(|error| io::Error::other(format!("not all of {acceptors} threads can start: {error}")))?;
        }
        let app = self.shared.app.clone();
        while self.signals_to_end() == 0 {
            let now = Instant::now();
            // Any thread may leave a chore for later, so the main thread looks for one every second.
            let chore = app.next_chore(now).unwrap_or(now + CHORES);
            let look = if threads == Threads::PerConnection { None } else { Some(self.shared.look_for_waiting()) };
            let regain = self.shared.regain_if_scarce();
            await_any(&[self.signals.as_fd()], look.into_iter().chain([chore]).chain(regain).min())?;
            app.do_chores(&mut Vec::new(), Instant::now());
        }
        shutdown::log_begun();
        self.shared.end();
        let began = Instant::now();
        let deadline = began + self.shared.app.timeouts.grace;
        let mut last_wait = Some(began + LAST_WAIT);
        while !self.shared.ended.is_set() && self.signals_to_end() < 2 {
            let now = Instant::now();
            if deadline <= now {
                shutdown::log_cut(lock(&self.shared.connections).len());
                break;
            }
            if last_wait.take_if(|until| *until <= now).is_some() {
                self.shared.end_dispensable();
            }
            let wake = last_wait.into_iter().chain([deadline]).min();
            await_any(&[self.signals.as_fd(), self.shared.ended.as_fd()], wake)?;
        }
        let ended = if self.shared.ended.is_set() { Ended::Drained } else { Ended::Cut };
        self.shared.cut();
        Ok(ended)
    }

    /// Reads the signals. Returns how many times SIGINT or SIGTERM has come; a SIGHUP reloads the workers at once.
    fn signals_to_end(&mut self) -> u32 {
        for order in self.signals.read() {
            match order {
                Order::End => self.signalled += 1,
                Order::Reload => Workers::of(&self.shared.app).reload(Instant::now()),
            }
        }
        self.signalled
    }
}

impl Shared {
    fn end(&self) {
        self.ending.set();
        // The lock is free only once the accepting thread has seen the latch: no thread accepts any more.
        lock(&self.listeners).sockets.clear();
        let connections = lock(&self.connections);
        for (_, connection) in connections.iter() {
            connection.end_idle();
        }
        if connections.is_empty() {
            self.ended.set();
        }
        self.room.notify_all();
    }

    fn end_dispensable(&self) {
        for (_, connection) in lock(&self.connections).iter() {
            connection.end_dispensable();
        }
    }

    fn cut(&self) {
        self.cut.set();
        for (_, connection) in lock(&self.connections).iter() {
            let _ = connection.socket.shutdown(Shutdown::Both);
        }
        self.ended.wait(Some(Instant::now() + LEAVE));
    }

    fn is_full(&self) -> bool {
        lock(&self.connections).len() >= self.app.limits.connections
    }

    /// Call this when a client waits at the limit of connections. Closes an idle one, and waits `PAUSE` at most for room.
    fn await_room(&self) {
        self.make_way(&self.search);
        let limit = self.app.limits.connections;
        let full = |connections: &mut Slab<_>| connections.len() >= limit && !self.ending.is_set();
        drop(sync::wait_while(&self.room, lock(&self.connections), PAUSE, full));
    }

    /// Call this when a client waits and no descriptor is free. Closes an idle connection and gives its thread time to
    /// free the descriptor. If that cannot help, waits for `PAUSE`.
    fn await_descriptor(&self, error: &io::Error) {
        let may_help = lock(&self.shortage).on_exhausted(error, self.open(), Instant::now());
        let is_freed = may_help && (self.regain() || self.make_way(&self.scarce_search));
        self.ending.wait(Some(Instant::now() + if is_freed { LOOK_AGAIN } else { PAUSE }));
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Closes the idle connections that have descriptors which files and upstreams need. Returns when to call this
    /// again; `None` if enough descriptors are free.
    fn regain_if_scarce(&self) -> Option<Instant> {
        if self.is_scarce.load(Ordering::SeqCst) || descriptors::is_lacked() {
            self.regain();
        }
        self.is_scarce.load(Ordering::SeqCst).then(|| Instant::now() + PAUSE)
    }

    /// Closes as many idle connections as are owed. Then waits until their threads have dropped them, for `LOOK_AGAIN`
    /// at most. Returns whether any was closed.
    fn regain(&self) -> bool {
        let mut shortage = lock(&self.shortage);
        if descriptors::take_lacked() {
            shortage.on_lacked(self.open(), Instant::now());
        }
        let (before, owed) = (lock(&self.connections).len(), shortage.owed(self.open()));
        self.is_scarce.store(shortage.is_scarce(), Ordering::SeqCst);
        let closed = (0..owed.min(EVICTIONS)).take_while(|_| self.make_way(&self.scarce_search)).count();
        if closed > 0 {
            let waits = |connections: &mut Slab<_>| connections.len() + closed > before && !self.ending.is_set();
            drop(sync::wait_while(&self.room, lock(&self.connections), LOOK_AGAIN, waits));
        }
        closed > 0
    }

    /// A connection was accepted. `open` counts it.
    fn on_accepted(&self, socket: &TcpStream) {
        lock(&self.shortage).on_accepted(socket, self.open());
        if lock(&self.shortage).is_scarce() {
            self.regain();
        }
    }

    /// Closes an idle connection. Returns whether there was one.
    fn make_way(&self, search: &Mutex<IdleSearch>) -> bool {
        let mut search = lock(search);
        connection::end_an_idle(&lock(&self.connections), &mut search, self.began)
    }

    /// If all threads are busy and a client waits, frees a thread. Main calls this. Returns when to call it again.
    fn look_for_waiting(&self) -> Instant {
        // A thread that waits for clients holds the lock. If the lock is taken, that thread is free.
        let after = match self.listeners.try_lock() {
            Ok(listeners) if listeners.has_client() => match self.free_a_thread() {
                true => LOOK_AGAIN,
                // No connection was idle for long enough.
                false => PAUSE,
            },
            _ => LOOK,
        };
        Instant::now() + after
    }

    /// Closes an idle connection for a client that waits. Returns whether a thread will accept that client.
    fn free_a_thread(&self) -> bool {
        // Set first: the freed thread may accept, and clear the flag, before `make_way` returns.
        let is_free = self.freed.swap(true, Ordering::SeqCst) || self.make_way(&self.search);
        if !is_free {
            self.freed.store(false, Ordering::SeqCst);
        }
        is_free
    }

    /// A scratch that no thread uses. A thread gives its scratch back while it waits for a client, so that an idle
    /// connection holds none.
    fn take_scratch(&self) -> Scratch {
        lock(&self.spare).pop().unwrap_or_default()
    }

    fn give_back(&self, scratch: Option<Scratch>) {
        let Some(mut scratch) = scratch else { return };
        scratch.rest();
        let mut spare = lock(&self.spare);
        if spare.len() < SPARE {
            spare.push(scratch);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut connections = lock(&self.shared.connections);
        connections.remove(self.key);
        let was_full = connections.len() + 1 == self.shared.app.limits.connections;
        if was_full || self.shared.is_scarce.load(Ordering::SeqCst) {
            self.shared.room.notify_all();
        }
        if connections.is_empty() && self.shared.ending.is_set() {
            self.shared.ended.set();
        }
    }
}

// ---- accepting

/// Waits for room and for the next connection. `None`: the server is shutting down.
fn accept(shared: &Arc<Shared>) -> Option<Slot> {
    loop {
        let mut listeners = lock(&shared.listeners);
        if shared.ending.is_set() {
            return None;
        }
        let until = shared.regain_if_scarce();
        let accepted = match listeners.await_client(&shared.ending, until) {
            Ok(_) if shared.is_full() => {
                drop(listeners);
                shared.await_room();
                continue;
            }
            Ok(index) => listeners.accept(index),
            Err(error) => Err(error),
        };
        match accepted {
            Ok((socket, peer, local)) => {
                let open = Open::count(&shared.open);
                shared.on_accepted(&socket);
                // While clients wait, each freed thread frees another one.
                if shared.freed.swap(false, Ordering::SeqCst) && listeners.has_client() {
                    shared.free_a_thread();
                }
                let connection = Arc::new(Connection { socket, peer, local, waiting: Waiting::default(), open });
                let key = lock(&shared.connections).insert(connection.clone());
                return Some(Slot { shared: shared.clone(), connection, key });
            }
            Err(error) if AcceptFailure::of(&error) == AcceptFailure::Exhausted => {
                shared.await_descriptor(&error);
            }
            Err(_) => {}
        }
    }
}

// ---- serving

/// Serves a connection in a new thread. If no thread can be started, it tries again after a pause. Meanwhile other
/// clients wait in the backlog.
fn serve_apart(place: Slot) {
    let place = Arc::new(place);
    while !place.shared.ending.is_set() {
        let own = place.clone();
        match thread::Builder::new().stack_size(STACK).spawn(move || serve_place(&own)) {
            Ok(_) => return,
            Err(error) => log::warn!("cannot start a thread for the moment: {error}"),
        }
        place.shared.ending.wait(Some(Instant::now() + PAUSE));
    }
}

fn serve(place: Slot) {
    serve_place(&place);
}

fn serve_place(place: &Slot) {
    let Slot { shared, connection, .. } = place;
    let workers = (Workers::of(&shared.app), place.key);
    let mut io = Blocking::new(
        (&connection.socket, &connection.waiting),
        shared.inherited,
        &shared.ending,
        &shared.cut,
        &shared.upstreams,
        workers,
    );
    let ends = Ends { peer_port: connection.peer.port(), local: connection.local };
    let mut session = Session::new(connection.peer.ip(), Instant::now()).between(ends);
    let mut scratch = None;
    let mut turn = Turn::Wait(session.deadline(&shared.app));
    while turn != Turn::Close && !shared.cut.is_set() {
        let idle = session.phase() == Phase::Idle;
        match turn {
            Turn::Wait(deadline) if idle => {
                shared.give_back(scratch.take());
                let since = session.idle_since().map_or(0, |since| (since - shared.began).as_nanos() as u64);
                connection.waiting.idle.store(since.max(1), Ordering::SeqCst);
                if !await_request(shared, connection, &mut io, deadline) {
                    return;
                }
            }
            Turn::Wait(deadline) if io.has_upstream() => io.await_ready(session.wants(), deadline),
            Turn::Wait(deadline) if session.next_op(Ready::ALL) == Op::Wait => {
                shared.give_back(scratch.take());
                shared.cut.wait(deadline);
            }
            // The next call waits by itself.
            _ => {}
        }
        io.begin_turn(!idle);
        let scratch = scratch.get_or_insert_with(|| shared.take_scratch());
        turn = driver::drive(&mut session, &mut io, &shared.app, scratch);
        shared.app.access_log.flush(&mut scratch.log, io.now().instant);
        free_discarded(shared);
        if descriptors::is_lacked() {
            shared.regain();
        }
    }
    shared.give_back(scratch);
    drop(session);
    free_discarded(shared);
}

/// Frees the temporary files that sessions have left. This may take long, but delays only this thread's client.
fn free_discarded(shared: &Shared) {
    while shared.app.spool.free_some() {}
}

/// Waits for a request, for the client's close, or for the deadline. False: the server is shutting down, or another
/// thread has closed the connection for a new client.
fn await_request(shared: &Shared, connection: &Connection, io: &mut Blocking, deadline: Option<Instant>) -> bool {
    // Main sets the latch first and ends idle connections later. So either main finds this one idle, or this thread
    // sees the latch.
    if shared.ending.is_set() {
        return false;
    }
    io.await_first(deadline);
    connection.waiting.idle.swap(0, Ordering::SeqCst) != 0
}
