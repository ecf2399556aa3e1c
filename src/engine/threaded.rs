//! The threaded engines: blocking sockets, and a thread that waits on each. They know no HTTP.
//!
//! ```text
//!  main      poll(signals) ─► ending ─► poll(signals, ended, grace) ─► cut ─► exit
//!  acceptor  poll(listeners, ending) ─► accept ─┬─► serve it here             pool: N of them, iterative: one
//!                                               └─► a thread that serves it   threads: one acceptor
//!  serve     idle: recv, nothing lent  ─► drive: read, write, sendfile wait   blocking.rs
//! ```
//!
//! A connection holds its thread for as long as it lives. Who finds no thread free waits in the backlog, unless an idle
//! connection can be closed for it: at the limit of connections the acceptor sees to that; where workers are few, main
//! looks now and then whether all of them are busy and a client waits.
//!
//! **Shutdown.** A thread in a system call hears nothing, and a signal reaches any one of them. So only main
//! takes signals, and passes them on by what each wait can see:
//! - those who poll (accept, a delay) see a latch;
//! - those who wait idle in recv have said so in their `Link`. Main takes the word back and shuts the socket
//!   down for reading, and recv returns (so does whoever closes one for a new client). Thread and main both swap the word, so that one of them has it: a
//!   request that comes in that moment is either in flight and finished, or was never read;
//! - those in flight go on, and find at the next call's end that they are the last of their connection;
//! - when the grace period is over, sockets are shut down both ways, which ends every call. Main waits for
//!   the threads to leave, so that their uploads are tidied away.
//!
//! The alternative, to poll each socket together with the latch, costs every request a third system call.
//! This way a request on a connection that stays is recv and send, and nothing else.

use crate::app::App;
use crate::driver::{self, Transport, Turn};
use crate::engine::blocking::{Blocking, Inherited};
use crate::engine::idle::{self, LEAST_IDLE, Search, Seen};
use crate::engine::latch::{Latch, await_any};
use crate::engine::shared_pool::SharedPool;
use crate::engine::signals::Unread;
use crate::engine::{AcceptFailure, Ending, PAUSE, tell_cut, tell_ending};
use crate::http::request::Ends;
use crate::session::{Op, Phase, Ready, Scratch, Session};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use slab::Slab;
use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The stack of a thread that serves. A walk through every route, method and error used 16 KiB of it in a
/// release build and 68 KiB in a debug build, thread-local storage included; this is four times the latter.
/// It is address space: of memory it costs only the pages that were used.
const STACK: usize = 256 * 1024;
/// Scratches kept for the next to wake; about as many as can be busy at once. Each holds some 32 KiB, and no buffer that
/// grew beyond its usual size.
const SPARE: usize = 16;
/// How often the main thread looks for what is to be done without a request.
const CHORES: Duration = Duration::from_secs(1);
/// How long threads may take to leave once their sockets are cut: they only have to close and unlink.
const LEAVE: Duration = Duration::from_secs(1);

/// How long a connection of a worker may be idle while other clients wait for one.
const WORKER_IDLE: Duration = Duration::from_secs(1);
/// How often main looks whether clients wait for a worker, and how soon again after one has been freed.
const LOOK: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Which threads serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// One for each connection, up to the limit of connections.
    PerConnection,
    /// So many, each with one connection at a time.
    Workers(usize),
}

pub struct ThreadedEngine {
    shared: Arc<Shared>,
    /// A byte for every signal.
    signals: UnixStream,
    unread: Unread,
}

/// What the threads share.
struct Shared {
    app: Arc<App>,
    /// Who holds the lock accepts; the others wait for the lock, so that a client wakes one of them.
    listeners: Mutex<Listeners>,
    inherited: Inherited,
    links: Mutex<Slab<Arc<Link>>>,
    /// With `links`: there may be room for another.
    room: Condvar,
    /// For connections that are closed for new ones.
    search: Mutex<Search>,
    /// A worker has been freed and nobody has accepted since.
    freed: AtomicBool,
    /// What the times in `links` count from.
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

struct Listeners {
    sockets: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    /// Whose turn it is when several are ready.
    next: usize,
}

/// What main knows of a connection.
struct Link {
    socket: TcpStream,
    peer: SocketAddr,
    /// The listener's address.
    local: SocketAddr,
    /// While its thread waits for a request since when, in nanoseconds from `began` and at least 1; else 0. Who swaps it
    /// to 0 decides: the thread, that a request is under way; another, that none will be.
    idle: AtomicU64,
}

/// A connection's place among `links`, given up in Drop.
struct Seat {
    shared: Arc<Shared>,
    link: Arc<Link>,
    key: usize,
}

impl ThreadedEngine {
    /// Takes signals over; nothing is accepted before `run`.
    pub fn new(app: Arc<App>, listeners: Vec<TcpListener>, threads: Threads) -> io::Result<ThreadedEngine> {
        let unread = Unread::watch()?;
        let (signals, end) = UnixStream::pair()?;
        pipe::register(SIGINT, end.try_clone()?)?;
        pipe::register(SIGTERM, end)?;
        signals.set_nonblocking(true)?;
        // As `listener` has set them; `blocking` says how the rest is waited for.
        let inherited = Inherited { receive: app.timeouts.header, send: app.timeouts.write };
        for listener in &listeners {
            listener.set_nonblocking(true)?;
        }
        let least_idle = if threads == Threads::PerConnection { LEAST_IDLE } else { WORKER_IDLE };
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?;
        let shared = Shared {
            app,
            listeners: Mutex::new(Listeners { sockets: listeners, addresses, next: 0 }),
            inherited,
            links: Mutex::default(),
            room: Condvar::new(),
            search: Mutex::new(Search::new(least_idle)),
            freed: AtomicBool::new(false),
            began: Instant::now(),
            spare: Mutex::default(),
            upstreams: SharedPool::default(),
            ending: Latch::new()?,
            cut: Latch::new()?,
            ended: Latch::new()?,
        };
        Ok(ThreadedEngine { shared: Arc::new(shared), signals, unread })
    }

    /// Serves until a signal ends it.
    pub fn run(self, threads: Threads) -> io::Result<Ending> {
        let serve: fn(Seat) = if threads == Threads::PerConnection { serve_apart } else { serve };
        let acceptors = match threads {
            Threads::PerConnection => 1,
            Threads::Workers(count) => count.min(self.shared.app.limits.connections),
        };
        for _ in 0..acceptors {
            let shared = self.shared.clone();
            let accepting = move || {
                while let Some(seat) = accept(&shared) {
                    serve(seat);
                }
            };
            // A pool smaller than was asked for would look healthy.
            let started = thread::Builder::new().stack_size(STACK).spawn(accepting);
            started.map_err(|error| io::Error::other(format!("not all of {acceptors} threads can start: {error}")))?;
        }
        let app = &self.shared.app;
        while !self.signalled() {
            let now = Instant::now();
            // Any thread may leave something to be done later. This one looks for it every second.
            let chore = app.next_chore(now).unwrap_or(now + CHORES);
            let look = if threads == Threads::PerConnection { None } else { Some(self.shared.free_a_worker()) };
            await_any(&[self.signals.as_fd()], look.into_iter().chain([chore]).min())?;
            app.do_chores(&mut Vec::new(), Instant::now());
        }
        tell_ending();
        self.shared.end();
        let deadline = Instant::now() + self.shared.app.timeouts.grace;
        while !self.shared.ended.is_set() && !self.signalled() {
            if deadline <= Instant::now() {
                tell_cut(lock(&self.shared.links).len());
                break;
            }
            await_any(&[self.signals.as_fd(), self.shared.ended.as_fd()], Some(deadline))?;
        }
        let ending = if self.shared.ended.is_set() { Ending::Drained } else { Ending::Cut };
        self.shared.cut();
        Ok(ending)
    }

    /// Whether a signal has come since the last time it was asked.
    fn signalled(&self) -> bool {
        let signalled = matches!((&self.signals).read(&mut [0]), Ok(1));
        if signalled {
            self.unread.clear();
        }
        signalled
    }
}

impl Shared {
    fn end(&self) {
        self.ending.set();
        // Nobody accepts from here on: who held the lock saw the latch.
        lock(&self.listeners).sockets.clear();
        let links = lock(&self.links);
        for (_, link) in links.iter() {
            link.end_idle();
        }
        if links.is_empty() {
            self.ended.set();
        }
        self.room.notify_all();
    }

    fn cut(&self) {
        self.cut.set();
        for (_, link) in lock(&self.links).iter() {
            let _ = link.socket.shutdown(Shutdown::Both);
        }
        self.ended.wait(Some(Instant::now() + LEAVE));
    }

    fn is_full(&self) -> bool {
        lock(&self.links).len() >= self.app.limits.connections
    }

    /// A client waits and there is no room: closes an idle connection for it, and waits for one to leave, a moment at most.
    fn await_room(&self) {
        self.make_way();
        let limit = self.app.limits.connections;
        let full = |links: &mut Slab<_>| links.len() >= limit && !self.ending.is_set();
        let links = lock(&self.links);
        drop(self.room.wait_timeout_while(links, PAUSE, full).unwrap_or_else(PoisonError::into_inner));
    }

    /// Closes the idle connection that is to give way to a new one; whether there was one.
    fn make_way(&self) -> bool {
        let mut search = lock(&self.search);
        let (links, now) = (lock(&self.links), Instant::now());
        let look = |key| links.get(key).map(|link: &Arc<Link>| self.look(link));
        while let Some(link) = search.find(now, links.capacity(), look).and_then(|key| links.get(key)) {
            if idle::is_silent(&link.socket) && link.end_idle() {
                log::debug!("{}: closed while idle, for a new client", link.peer.ip());
                return true;
            }
        }
        false
    }

    fn look(&self, link: &Link) -> Seen {
        let idle_since = match link.idle.load(Ordering::Relaxed) {
            0 => None,
            since => Some(self.began + Duration::from_nanos(since)),
        };
        Seen { peer: link.peer.ip(), idle_since }
    }

    /// Closes an idle connection when all workers are busy and a client waits; says when to look again.
    fn free_a_worker(&self) -> Instant {
        // Whoever accepts holds the lock: then there is a worker for who comes.
        let waited_for = self.listeners.try_lock().is_ok_and(|listeners| listeners.has_client());
        if waited_for && !self.freed.load(Ordering::SeqCst) {
            // First: the worker may accept before `make_way` returns.
            self.freed.store(true, Ordering::SeqCst);
            if !self.make_way() {
                self.freed.store(false, Ordering::SeqCst);
            }
        }
        let is_soon = waited_for && self.freed.load(Ordering::SeqCst);
        Instant::now() + if is_soon { LOOK_AGAIN } else { LOOK }
    }

    /// A scratch that nobody uses. It comes back when its thread waits for a client, so that an idle
    /// connection costs none.
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

impl Drop for Seat {
    fn drop(&mut self) {
        let mut links = lock(&self.shared.links);
        links.remove(self.key);
        if links.len() + 1 == self.shared.app.limits.connections {
            self.shared.room.notify_one();
        }
        if links.is_empty() && self.shared.ending.is_set() {
            self.shared.ended.set();
        }
    }
}

// ---- accepting

impl Link {
    /// Ends an idle wait: its thread leaves. `false`: there is none, or a request has ended it.
    fn end_idle(&self) -> bool {
        let was_idle = self.idle.swap(0, Ordering::SeqCst) != 0;
        if was_idle {
            // It fails when the client has gone, and then recv has returned.
            let _ = self.socket.shutdown(Shutdown::Read);
        }
        was_idle
    }
}

/// The next connection, once there is room for it; `None` when the server is shutting down.
fn accept(shared: &Arc<Shared>) -> Option<Seat> {
    loop {
        let mut listeners = lock(&shared.listeners);
        if shared.ending.is_set() {
            return None;
        }
        let accepted = match listeners.await_client(&shared.ending) {
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
                shared.freed.store(false, Ordering::SeqCst);
                let link = Arc::new(Link { socket, peer, local, idle: AtomicU64::new(0) });
                let key = lock(&shared.links).insert(link.clone());
                return Some(Seat { shared: shared.clone(), link, key });
            }
            Err(error) if AcceptFailure::of(&error) == AcceptFailure::Exhausted => {
                shared.ending.wait(Some(Instant::now() + PAUSE));
            }
            Err(_) => {}
        }
    }
}

impl Listeners {
    /// Waits for a client; at which listener it is. `WouldBlock` when `ending` was set.
    fn await_client(&mut self, ending: &Latch) -> io::Result<usize> {
        let count = self.sockets.len();
        let fds: Vec<_> = self.sockets.iter().map(AsFd::as_fd).chain([ending.as_fd()]).collect();
        let ready = await_any(&fds, None)?;
        let first = (0..count).map(|offset| (self.next + offset) % count).find(|&index| ready[index]);
        first.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    fn accept(&mut self, index: usize) -> io::Result<(TcpStream, SocketAddr, SocketAddr)> {
        self.next = index + 1;
        let (socket, peer) = self.sockets[index].accept()?;
        Ok((socket, peer, self.addresses[index]))
    }

    /// Whether a client waits, without waiting for one.
    fn has_client(&self) -> bool {
        let fds: Vec<_> = self.sockets.iter().map(AsFd::as_fd).collect();
        await_any(&fds, Some(Instant::now())).is_ok_and(|ready| ready.contains(&true))
    }
}

// ---- serving

/// Serves a connection in a thread of its own. When there can be no more threads, it waits for one to end,
/// and the clients behind it wait in the backlog.
fn serve_apart(seat: Seat) {
    let seat = Arc::new(seat);
    while !seat.shared.ending.is_set() {
        let own = seat.clone();
        match thread::Builder::new().stack_size(STACK).spawn(move || serve_seat(&own)) {
            Ok(_) => return,
            Err(error) => log::warn!("cannot start a thread for the moment: {error}"),
        }
        seat.shared.ending.wait(Some(Instant::now() + PAUSE));
    }
}

fn serve(seat: Seat) {
    serve_seat(&seat);
}

fn serve_seat(seat: &Seat) {
    let Seat { shared, link, .. } = seat;
    let workers = shared.app.wsgi.as_ref().map(|wsgi| (&wsgi.supervisor, seat.key));
    let mut io = Blocking::new(&link.socket, shared.inherited, &shared.ending, &shared.cut, &shared.upstreams, workers);
    let ends = Ends { peer_port: link.peer.port(), local: link.local };
    let mut session = Session::new(link.peer.ip(), Instant::now()).between(ends);
    let mut scratch = None;
    let mut turn = Turn::Wait(session.deadline(&shared.app));
    while turn != Turn::Close && !shared.cut.is_set() {
        let idle = session.phase() == Phase::Idle;
        match turn {
            Turn::Wait(deadline) if idle => {
                shared.give_back(scratch.take());
                let since = session.idle_since().map_or(0, |since| (since - shared.began).as_nanos() as u64);
                link.idle.store(since.max(1), Ordering::SeqCst);
                if !await_request(shared, link, &mut io, deadline) {
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
    }
    shared.give_back(scratch);
    drop(session);
    free_discarded(shared);
}

/// Frees what sessions have left in temporary files. Here a thread has the time: it holds up one client at most.
fn free_discarded(shared: &Shared) {
    while shared.app.spool.free_some() {}
}

/// Waits for a request, or for what else ends an idle time; `false` when that is the shutdown, or another client's turn.
fn await_request(shared: &Shared, link: &Link, io: &mut Blocking, deadline: Option<Instant>) -> bool {
    // Main sets the latch and then looks for the idle: either it finds this one or this one finds the latch.
    if shared.ending.is_set() {
        return false;
    }
    io.await_first(deadline);
    link.idle.swap(0, Ordering::SeqCst) != 0
}

/// A thread that panicked has left nothing half done in what is shared.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
