//! The event engine: one thread, one mio Poll, a slab of sessions. It knows no HTTP.
//!
//! A connection is a client's socket, and while its exchange needs one an upstream's (`links`). Even tokens
//! are clients, odd ones upstreams.
//!
//! A turn of the loop has three phases:
//! 1. poll; fold events into ready bits, accept until there is no more, queue keys;
//! 2. expire timers, queue keys;
//! 3. drive the queued keys: those that move little once each, until the turn's budget is spent, then those that move
//!    much, until one slice is spent. `Yield` queues a key again, `Close` removes it. Keys that the budget did not
//!    reach are the first of the next turn.
//!
//! Thus a small request waits for one slice of one large transfer, however many there are of them; and a turn, before
//! whose end no signal and no new client is seen, has a bounded length, however many clients ask for however much.
//!
//! Nothing is removed before phase 3, so a stale token reaches no new connection. A socket is registered
//! once, edge-triggered, for reading and writing; its ready bits say what is worth a system call. A bit
//! is cleared by `WouldBlock` or by a short read or write: the next edge sets it again.

use crate::app::App;
use crate::cost;
use crate::driver::{self, Turn};
use crate::engine::evented::Evented;
use crate::engine::idle::{self, LEAST_IDLE, Search, Seen};
use crate::engine::latch::await_any;
use crate::engine::links::Links;
use crate::engine::signals::Unread;
use crate::engine::timers::Timers;
use crate::engine::{AcceptFailure, Ending, PAUSE, READABLE, WRITABLE, ready_bits, tell_cut, tell_ending};
use crate::http::date::Now;
use crate::http::request::Ends;
use crate::session::{AHEAD, Scratch, Session};
use crate::wsgi::inbox::DEPTH;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;
use slab::Slab;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant, SystemTime};

/// Tokens from here up are listeners; below, keys of the slab.
const FIRST_LISTENER: usize = usize::MAX / 2;
const SIGNALS: Token = Token(usize::MAX - 1);
/// What the supervisor of the workers watches.
const WORKERS: Token = Token(usize::MAX - 2);
/// Events taken at once; more wait for the next poll.
const EVENTS: usize = 1024;
/// Who has moved so much at once is likely to go on so.
const BULKY: usize = 128 * 1024;
/// Connections accepted in a turn, of all listeners together: they cost less than half of its budget.
const ACCEPTS: usize = 128;
/// How long a turn drives connections that move little; those that were read ahead by then are driven all the same.
const TURN_TIME: Duration = Duration::from_millis(4);
/// Idle connections looked into in a turn, to be closed for new ones: each costs some 20 us with what is accepted for it.
const EVICTIONS: usize = 32;

struct Client {
    stream: TcpStream,
    session: Session,
    ready: u8,
    queued: bool,
    /// It moved much when it was last driven.
    bulky: bool,
    /// The upstream's socket that its exchange has.
    link: Option<u32>,
    /// A worker may be free for it, for which it has waited.
    woken: bool,
}

struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    ready: bool,
}

/// How much of a turn's share has been used up by connections that move little.
struct TurnBudget {
    began: Instant,
    spent: usize,
}

impl TurnBudget {
    /// By what the work is known to cost, and by the clock, for a machine that is slower than the one the costs were
    /// measured on.
    fn is_spent(&self, now: Instant) -> bool {
        self.spent >= cost::TURN || now.saturating_duration_since(self.began) >= TURN_TIME
    }
}

/// The loop and all it owns.
pub struct EventEngine<'a> {
    app: &'a App,
    poll: Poll,
    signals: Signals,
    unread: Unread,
    listeners: Vec<Listener>,
    clients: Slab<Client>,
    links: Links,
    /// The supervisor of the workers has something to look at.
    worker_news: bool,
    timers: Timers,
    /// Keys to be driven in this turn, and those that are driven behind them as far as there is time.
    queue: Vec<usize>,
    bulk: VecDeque<usize>,
    turn: TurnBudget,
    scratch: Scratch,
    now: Now,
    accept_paused: Option<Instant>,
    /// For idle connections, while there may be no more of them.
    idle: Search,
    /// When the grace period ends, once the server is shutting down.
    shutdown: Option<Instant>,
    signalled: u32,
}

impl<'a> EventEngine<'a> {
    /// Registers listeners and signals; nothing is accepted before `run`.
    pub fn new(app: &'a App, listeners: Vec<std::net::TcpListener>) -> io::Result<EventEngine<'a>> {
        let poll = Poll::new()?;
        let unread = Unread::watch()?;
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        if let Some(wsgi) = &app.wsgi {
            signals.add_signal(SIGHUP)?;
            poll.registry().register(
                &mut SourceFd(&wsgi.supervisor.lock().as_fd().as_raw_fd()),
                WORKERS,
                Interest::READABLE,
            )?;
        }
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
        let listeners = listeners.into_iter().enumerate().map(|(index, listener)| {
            listener.set_nonblocking(true)?;
            let mut socket = TcpListener::from_std(listener);
            poll.registry().register(&mut socket, Token(FIRST_LISTENER + index), Interest::READABLE)?;
            let address = socket.local_addr()?;
            Ok(Listener { socket, address, ready: true })
        });
        let listeners = listeners.collect::<io::Result<_>>()?;
        let now = Now::new(Instant::now(), SystemTime::now());
        Ok(EventEngine {
            app,
            poll,
            signals,
            unread,
            listeners,
            clients: Slab::new(),
            links: Links::default(),
            worker_news: true,
            timers: Timers::default(),
            queue: Vec::new(),
            bulk: VecDeque::new(),
            turn: TurnBudget { began: now.instant, spent: 0 },
            scratch: Scratch::default(),
            now,
            accept_paused: None,
            idle: Search::new(LEAST_IDLE),
            shutdown: None,
            signalled: 0,
        })
    }

    /// Serves until a signal ends it.
    pub fn run(mut self) -> io::Result<Ending> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            match self.poll.poll(&mut events, self.timeout()) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            self.now.update(Instant::now(), SystemTime::now());
            self.turn = TurnBudget { began: self.now.instant, spent: 0 };
            for event in &events {
                self.on_event(event);
            }
            self.accept();
            self.expire();
            self.supervise();
            self.drive(0);
            self.pass_workers_on();
            self.drive_bulk();
            // Those whom these have freed a worker for have their turn next.
            self.wake();
            self.app.do_chores(&mut self.scratch.log, self.now.instant);
            if self.is_over() {
                return Ok(if self.clients.is_empty() { Ending::Drained } else { Ending::Cut });
            }
        }
    }

    /// How long the poll may wait: not at all while work is queued.
    fn timeout(&self) -> Option<Duration> {
        let waited_for = self.accept_paused.is_none() && self.listeners.iter().any(|listener| listener.ready);
        // At the limit: when an idle connection can be looked for.
        let place = if waited_for && !self.can_accept() { self.idle.next() } else { None };
        let is_idle = self.queue.is_empty() && self.bulk.is_empty();
        if !is_idle || (waited_for && place.is_none()) {
            return Some(Duration::ZERO);
        }
        let workers = self.app.wsgi.as_ref().and_then(|wsgi| wsgi.supervisor.lock().next_turn(self.now.instant));
        let chore = self.app.next_chore(self.now.instant);
        let next =
            [workers, self.timers.next(), self.links.next_expiry(), self.accept_paused, place, self.shutdown, chore]
                .into_iter()
                .flatten()
                .min()?;
        // Poll counts in milliseconds; rounding down would spin through the last of them.
        Some(next.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }

    // ---- phase 1: events and accepting

    fn on_event(&mut self, event: &Event) {
        match event.token() {
            SIGNALS => self.on_signals(),
            WORKERS => self.worker_news = true,
            Token(token) if token >= FIRST_LISTENER => {
                if let Some(listener) = self.listeners.get_mut(token - FIRST_LISTENER) {
                    listener.ready = true;
                }
            }
            Token(token) if token % 2 == 1 => {
                let supervisor = self.app.wsgi.as_ref().map(|wsgi| &wsgi.supervisor);
                let (registry, now) = (self.poll.registry(), self.now.instant);
                if let Some(client) = self.links.on_event(token / 2, event, registry, supervisor, now) {
                    self.enqueue(client);
                }
            }
            Token(token) => {
                let Some(client) = self.clients.get_mut(token / 2) else { return };
                client.ready |= ready_bits(event);
                self.enqueue(token / 2);
            }
        }
    }

    fn on_signals(&mut self) {
        for signal in self.signals.pending() {
            match (signal, &self.app.wsgi) {
                (SIGHUP, Some(wsgi)) => wsgi.supervisor.lock().reload(self.now.instant),
                _ => self.signalled += 1,
            }
        }
        self.unread.clear();
        if self.shutdown.is_some() || self.signalled == 0 {
            return;
        }
        tell_ending();
        self.listeners.clear();
        self.shutdown = Some(self.now.instant + self.app.timeouts.grace);
        for key in 0..self.clients.capacity() {
            if self.clients.contains(key) {
                self.enqueue(key);
            }
        }
    }

    fn is_over(&self) -> bool {
        let Some(deadline) = self.shutdown else { return false };
        let expired = deadline <= self.now.instant;
        if expired && !self.clients.is_empty() {
            tell_cut(self.clients.len());
        }
        self.clients.is_empty() || expired || self.signalled > 1
    }

    fn can_accept(&self) -> bool {
        self.clients.len() < self.app.limits.connections
    }

    /// Accepts until no listener has more, the limit is reached and nobody gives way, or the others have waited long
    /// enough.
    fn accept(&mut self) {
        if self.accept_paused.is_some_and(|until| until > self.now.instant) {
            return;
        }
        self.accept_paused = None;
        let mut evictions = EVICTIONS;
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS / self.listeners.len() {
                if !self.listeners[index].ready || self.accept_paused.is_some() {
                    break;
                }
                if !self.can_accept() && !self.make_way(index, &mut evictions) {
                    break;
                }
                self.turn.spent += cost::ACCEPT;
                match self.listeners[index].socket.accept() {
                    Ok((stream, peer)) => self.add(stream, peer, self.listeners[index].address),
                    Err(error) => self.on_accept_failed(index, &error),
                }
            }
        }
    }

    /// Closes an idle connection for a client that waits at this listener; whether there is room for it now.
    fn make_way(&mut self, index: usize, evictions: &mut usize) -> bool {
        let (now, listener) = (self.now.instant, &mut self.listeners[index]);
        if *evictions == 0 || self.idle.next().is_some_and(|next| next > now) {
            return false;
        }
        listener.ready = await_any(&[listener.socket.as_fd()], Some(now)).is_ok_and(|readable| readable[0]);
        while listener.ready && *evictions > 0 {
            let clients = &self.clients;
            // One that is queued has been sent something. All events of this turn are folded: no token is stale later.
            let look = |key| {
                let client: &Client = clients.get(key)?;
                let idle_since = client.session.idle_since().filter(|_| !client.queued && client.ready & READABLE == 0);
                Some(Seen { peer: client.session.peer(), idle_since })
            };
            let Some(key) = self.idle.find(now, clients.capacity(), look) else { return false };
            *evictions -= 1;
            if idle::is_silent(&self.clients[key].stream) {
                log::debug!("{}: closed while idle, for a new client", self.clients[key].session.peer());
                self.clients.remove(key);
                return true;
            }
        }
        false
    }

    fn on_accept_failed(&mut self, index: usize, error: &io::Error) {
        match AcceptFailure::of(error) {
            AcceptFailure::Empty => self.listeners[index].ready = false,
            AcceptFailure::Gone => {}
            AcceptFailure::Exhausted => {
                self.listeners[index].ready = true;
                self.accept_paused = Some(self.now.instant + PAUSE);
            }
        }
    }

    fn add(&mut self, stream: TcpStream, peer: SocketAddr, local: SocketAddr) {
        let ends = Ends { peer_port: peer.port(), local };
        let session = Session::new(peer.ip(), self.now.instant).between(ends);
        let key = self.clients.insert(Client {
            stream,
            session,
            ready: WRITABLE,
            queued: false,
            bulky: false,
            link: None,
            woken: false,
        });
        let stream = &mut self.clients[key].stream;
        // Registering reports what has already arrived.
        if let Err(error) =
            self.poll.registry().register(stream, Token(key * 2), Interest::READABLE | Interest::WRITABLE)
        {
            log::warn!("cannot watch a connection: {error}");
            self.clients.remove(key);
            return;
        }
        let deadline = self.clients[key].session.deadline(self.app);
        if let Some(deadline) = deadline {
            self.timers.arm(key, deadline);
        }
    }

    // ---- phase 2: timers

    fn expire(&mut self) {
        self.links.expire(self.poll.registry(), self.now.instant);
        while let Some(key) = self.timers.expire(self.now.instant) {
            let Some(client) = self.clients.get(key) else { continue };
            match client.session.deadline(self.app) {
                Some(deadline) if deadline > self.now.instant => self.timers.arm(key, deadline),
                Some(_) => self.enqueue(key),
                None => {}
            }
        }
    }

    // ---- phase 3: driving

    fn enqueue(&mut self, key: usize) {
        let client = &mut self.clients[key];
        if !client.queued {
            client.queued = true;
            match client.bulky {
                false => self.queue.push(key),
                true => self.bulk.push_back(key),
            }
        }
    }

    /// Drives those that move little and are queued from `first` on, some at a time: first their requests are read, then
    /// the clock, then they are answered, so that what one of them finds out is true for all. What yields is queued anew;
    /// what the budget of the turn does not reach stays at its place in the queue.
    fn drive(&mut self, first: usize) {
        let queued_now = self.queue.len();
        let mut next = first;
        while next < queued_now {
            let end = queued_now.min(next + AHEAD);
            for index in next..end {
                let (session, mut io, scratch) = self.session(self.queue[index]);
                driver::read_ahead(session, &mut io, scratch);
            }
            self.now.instant = Instant::now();
            while next < end && self.turn.spent < cost::TURN {
                self.drive_one(self.queue[next]);
                self.turn.spent += self.scratch.spent;
                next += 1;
            }
            if self.turn.is_spent(self.now.instant) {
                break;
            }
        }
        self.queue.drain(first..next);
    }

    fn drive_bulk(&mut self) {
        let mut spent = 0;
        while spent < cost::SLICE
            && let Some(key) = self.bulk.pop_front()
        {
            self.drive_one(key);
            spent += self.scratch.spent;
        }
    }

    fn drive_one(&mut self, key: usize) {
        self.clients[key].queued = false;
        let app = self.app;
        let (session, mut io, scratch) = self.session(key);
        let turn = driver::drive(session, &mut io, app, scratch);
        let client = &mut self.clients[key];
        client.bulky = self.scratch.spent >= BULKY && !client.session.awaits_request();
        match turn {
            Turn::Wait(Some(deadline)) => self.timers.arm(key, deadline),
            Turn::Wait(None) => {}
            Turn::Yield => self.enqueue(key),
            // Dropping the stream closes it, and with it its registration.
            Turn::Close => {
                // A session gives its upstream's socket back before it closes.
                debug_assert!(self.clients[key].link.is_none());
                self.clients.remove(key);
            }
        }
    }

    /// A client's session, its transport, and what all sessions work with.
    fn session(&mut self, key: usize) -> (&mut Session, Evented<'_>, &mut Scratch) {
        let Client { stream, session, ready, link, woken, .. } = &mut self.clients[key];
        let io = Evented {
            stream,
            ready,
            now: &mut self.now,
            ending: self.shutdown.is_some(),
            key,
            link,
            links: &mut self.links,
            registry: self.poll.registry(),
            supervisor: self.app.wsgi.as_ref().map(|wsgi| &wsgi.supervisor),
            woken,
        };
        (session, io, &mut self.scratch)
    }

    /// Lets the supervisor of the workers look at what has happened.
    fn supervise(&mut self) {
        let Some(wsgi) = &self.app.wsgi else { return };
        let mut supervisor = wsgi.supervisor.lock();
        let now = self.now.instant;
        if std::mem::take(&mut self.worker_news) || supervisor.next_turn(now).is_some_and(|due| due <= now) {
            supervisor.turn(now);
        }
    }

    /// Drives those to whom others have given way at a worker, and those whom these give way to: what it has said may hold
    /// the answers of several, and nobody waits again before it has its next requests.
    fn pass_workers_on(&mut self) {
        for _ in 0..=DEPTH {
            let rest = self.queue.len();
            self.wake();
            if self.queue.len() == rest {
                break;
            }
            self.drive(rest);
        }
    }

    /// Queues those for whom a worker may have become free.
    fn wake(&mut self) {
        let Some(wsgi) = &self.app.wsgi else { return };
        let woken = wsgi.supervisor.lock().take_woken();
        for key in woken {
            if let Some(client) = self.clients.get_mut(key) {
                client.woken = true;
                self.enqueue(key);
            }
        }
    }
}
