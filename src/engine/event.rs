//! The event engine: one thread, one mio Poll, a slab of sessions. It knows no HTTP.
//!
//! Each client has one socket. While its exchange needs an upstream, the client also has a socket to that upstream
//! (`upstream::links`). Even tokens are clients, odd tokens are sockets to upstreams.
//!
//! A turn of the loop has three phases:
//! 1. poll; fold events into ready bits, queue the keys of those clients; accept connections;
//! 2. expire timers, queue the keys of those clients;
//! 3. drive the queued keys: first small requests, once each, until the turn's budget is spent; then bulk transfers,
//!    until one slice is spent. `Yield` queues a key again, `Close` removes it. Keys that the budget did not reach are
//!    the first of the next turn.
//!
//! So a small request waits for about one slice of bulk transfers, however many transfers there are. Signals and new
//! clients are seen only between two turns. So the length of a turn is bounded, for any number of clients and requests.
//!
//! No client is removed while events are folded, so an event cannot reach a newer connection with the same token.
//! A socket is registered once, edge-triggered, for reading and writing. Its ready bits say which system calls are
//! worth making. `WouldBlock` or a short read or write clears a bit; the next edge sets it again.

use crate::app::App;
use crate::cost;
use crate::descriptors;
use crate::driver::{self, Turn};
use crate::engine::accept::{AcceptFailure, PAUSE, Shortage};
use crate::engine::evented::Evented;
use crate::engine::idle::{self, IdleSearch, LEAST_IDLE, Seen};
use crate::engine::latch::await_any;
use crate::engine::python::{self, Source};
use crate::engine::shutdown::{self, Ended};
use crate::engine::signals::{Hangup, Order, Signals};
use crate::engine::socket::{READABLE, WRITABLE, ready_bits};
use crate::engine::timers::Timers;
use crate::engine::turn::TurnBudget;
use crate::engine::upstream::links::Links;
use crate::http::date::Now;
use crate::http::request::Ends;
use crate::session::{AHEAD, Scratch, Session};
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant, SystemTime};

/// Tokens from here up are listeners; below, keys of the slab.
const FIRST_LISTENER: usize = usize::MAX / 2;
const SIGNALS: Token = Token(usize::MAX - 1);
const PYTHON: Token = Token(usize::MAX - 2);
/// Most events taken in one poll. The others wait for the next poll.
const EVENTS: usize = 1024;
/// A session that moved this many bytes in one turn, and is not finished, is treated as a bulk transfer.
const BULKY: usize = 128 * 1024;
/// Most connections accepted in a turn, on all listeners together. They cost less than half of the turn's budget.
const ACCEPTS: usize = 128;

struct Client {
    stream: TcpStream,
    session: Session,
    ready: u8,
    queued: bool,
    /// The session is treated as a bulk transfer.
    bulky: bool,
    /// The key of the exchange's socket to an upstream (`upstream::links`).
    link: Option<u32>,
    /// The client waited for a Python worker, and one may be free now.
    woken: bool,
}

struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    ready: bool,
}

/// The loop and all it owns.
pub struct EventEngine<'a> {
    app: &'a App,
    poll: Poll,
    signals: Signals,
    listeners: Vec<Listener>,
    clients: Slab<Client>,
    links: Links<'a>,
    python: Source<'a>,
    timers: Timers,
    /// Keys of the clients to drive: small requests.
    queue: Vec<usize>,
    /// Keys of the clients to drive after those in `queue`: bulk transfers.
    bulk: VecDeque<usize>,
    turn: TurnBudget,
    scratch: Scratch,
    now: Now,
    accept_paused: Option<Instant>,
    shortage: Shortage,
    /// Finds idle connections to close while the limit of connections is reached or descriptors run out.
    idle: IdleSearch,
    /// When the shutdown began.
    shutdown: Option<Instant>,
    /// How many times SIGINT or SIGTERM has come.
    signalled: u32,
}

impl<'a> EventEngine<'a> {
    /// Registers listeners and signals; nothing is accepted before `run`.
    pub fn new(app: &'a App, listeners: Vec<std::net::TcpListener>, hangup: Hangup) -> io::Result<EventEngine<'a>> {
        let poll = Poll::new()?;
        let signals = Signals::take_over(hangup)?;
        let python = Source::of(app);
        python.register(poll.registry(), PYTHON)?;
        poll.registry().register(&mut SourceFd(&signals.as_fd().as_raw_fd()), SIGNALS, Interest::READABLE)?;
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
            listeners,
            clients: Slab::new(),
            links: Links::default(),
            python,
            timers: Timers::default(),
            queue: Vec::new(),
            bulk: VecDeque::new(),
            turn: TurnBudget::at(now.instant),
            scratch: Scratch::default(),
            now,
            accept_paused: None,
            shortage: Shortage::of_process(),
            idle: IdleSearch::new(LEAST_IDLE),
            shutdown: None,
            signalled: 0,
        })
    }

    /// Serves until a signal ends it.
    pub fn run(mut self) -> io::Result<Ended> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            match self.poll.poll(&mut events, self.timeout()) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            self.now.update(Instant::now(), SystemTime::now());
            self.turn = TurnBudget::at(self.now.instant);
            for event in &events {
                self.on_event(event);
            }
            self.accept();
            self.expire();
            self.python.turn(self.now.instant);
            self.drive(0);
            self.drive_woken();
            self.drive_bulk();
            // Clients that may get a Python worker now are driven in the next turn.
            self.wake();
            if self.shortage.is_scarce() || descriptors::is_lacked() {
                self.regain_descriptors();
            }
            self.app.do_chores(&mut self.scratch.log, self.now.instant);
            if self.is_over() {
                return Ok(if self.clients.is_empty() { Ended::Drained } else { Ended::Cut });
            }
        }
    }

    /// How long the poll may wait: zero if a session is queued or a connection can be accepted, else until the next deadline.
    fn timeout(&self) -> Option<Duration> {
        let has_waiting = self.accept_paused.is_none() && self.listeners.iter().any(|listener| listener.ready);
        // When the next search for an idle connection may begin. `None`: at once, or no search is needed.
        let searches = (has_waiting && !self.can_accept()) || self.shortage.is_scarce();
        let search = if searches { self.idle.next() } else { None };
        let has_queued = !self.queue.is_empty() || !self.bulk.is_empty();
        if has_queued || (has_waiting && self.can_accept()) || (searches && search.is_none()) {
            return Some(Duration::ZERO);
        }
        let python = self.python.deadline(self.now.instant);
        let chore = self.app.next_chore(self.now.instant);
        let next =
            [python, self.timers.next(), self.links.next_expiry(), self.accept_paused, search, self.grace_end(), chore]
                .into_iter()
                .flatten()
                .min()?;
        // epoll counts in whole milliseconds. Rounded down, it would spin during the last one.
        Some(next.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }

    // ---- phase 1: events and accepting

    fn on_event(&mut self, event: &Event) {
        match event.token() {
            SIGNALS => self.on_signals(),
            PYTHON => self.python.on_event(),
            Token(token) if token >= FIRST_LISTENER => {
                if let Some(listener) = self.listeners.get_mut(token - FIRST_LISTENER) {
                    listener.ready = true;
                }
            }
            Token(token) if token % 2 == 1 => {
                let (registry, now) = (self.poll.registry(), self.now.instant);
                if let Some(client) = self.links.on_event(token / 2, event, registry, now) {
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
        for order in self.signals.read() {
            match order {
                Order::End => self.signalled += 1,
                Order::Reload => self.python.workers().reload(self.now.instant),
            }
        }
        if self.shutdown.is_some() || self.signalled == 0 {
            return;
        }
        shutdown::log_begun();
        self.listeners.clear();
        self.shutdown = Some(self.now.instant);
        for key in 0..self.clients.capacity() {
            if self.clients.contains(key) {
                self.enqueue(key);
            }
        }
    }

    /// When the grace period ends, once the server is shutting down.
    fn grace_end(&self) -> Option<Instant> {
        self.shutdown.map(|began| began + self.app.timeouts.grace)
    }

    fn is_over(&self) -> bool {
        let Some(deadline) = self.grace_end() else { return false };
        let expired = deadline <= self.now.instant;
        if expired && !self.clients.is_empty() {
            shutdown::log_cut(self.clients.len());
        }
        self.clients.is_empty() || expired || self.signalled > 1
    }

    fn can_accept(&self) -> bool {
        self.clients.len() < self.app.limits.connections
    }

    /// Accepts until no client waits, or each listener has had its share of `ACCEPTS`, or the limit of connections is
    /// reached and no idle connection can be closed. While descriptors are scarce, an idle connection, if there is one,
    /// is closed for each new one.
    fn accept(&mut self) {
        if self.accept_paused.is_some_and(|until| until > self.now.instant) {
            return;
        }
        self.accept_paused = None;
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS / self.listeners.len() {
                if !self.listeners[index].ready || self.accept_paused.is_some() {
                    break;
                }
                let is_full = !self.can_accept();
                let needs_way = is_full || self.shortage.is_scarce();
                let has_way = needs_way && self.make_way(index);
                if is_full && !has_way {
                    break;
                }
                self.turn.spent += cost::ACCEPT;
                match self.listeners[index].socket.accept() {
                    Ok((stream, peer)) => {
                        self.shortage.on_accepted(&stream, self.clients.len() + 1);
                        self.add(stream, peer, self.listeners[index].address);
                    }
                    Err(error) => self.on_accept_failed(index, &error),
                }
            }
        }
    }

    /// If a client waits at this listener, closes an idle connection for it. Returns whether one was closed.
    fn make_way(&mut self, index: usize) -> bool {
        let (now, listener) = (self.now.instant, &mut self.listeners[index]);
        if self.turn.evictions == 0 || self.idle.next().is_some_and(|next| next > now) {
            return false;
        }
        listener.ready = await_any(&[listener.socket.as_fd()], Some(now)).is_ok_and(|readable| readable[0]);
        listener.ready && self.close_idle()
    }

    /// Closes the idle connections that have descriptors which files and upstreams need.
    fn regain_descriptors(&mut self) {
        if descriptors::take_lacked() {
            self.shortage.on_lacked(self.clients.len(), self.now.instant);
        }
        while self.shortage.owed(self.clients.len()) > 0 && self.close_idle() {}
    }

    /// Closes an idle connection. Returns whether there was one. Not to be called while events are folded.
    fn close_idle(&mut self) -> bool {
        let now = self.now.instant;
        while self.turn.evictions > 0 {
            let clients = &self.clients;
            // A queued client is about to be driven, so it is not idle. A client can be removed here: all events of
            // this turn are folded, so none of them can reach a new connection with the same key.
            let look = |key| {
                let client: &Client = clients.get(key)?;
                let idle_since = client.session.idle_since().filter(|_| !client.queued && client.ready & READABLE == 0);
                Some(Seen { peer: client.session.peer(), idle_since })
            };
            let Some(key) = self.idle.find(now, clients.capacity(), look) else { return false };
            self.turn.evictions -= 1;
            if idle::is_silent(&self.clients[key].stream) {
                log::debug!("{}: closed while idle, to make room", self.clients[key].session.peer());
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
                let now = self.now.instant;
                // accept fails this way even when no client waits: `make_way` checks.
                if !(self.shortage.on_exhausted(error, self.clients.len(), now) && self.make_way(index)) {
                    self.accept_paused = Some(now + PAUSE);
                }
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
        // If bytes have already arrived, registering reports them as an event.
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

    /// Drives the small requests in the queue from index `first` on, in groups of `AHEAD`. All requests of a group are
    /// read, then the clock is read, then the requests are answered. So a fact that one request looks up (about a file,
    /// for example) is fresh enough for the whole group. A session that yields is queued again. A session that the
    /// budget does not reach keeps its place in the queue.
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
            // A request among those that were read before may have changed files.
            self.now.instant = Instant::now();
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
            // Dropping the stream closes the socket and ends its registration.
            Turn::Close => {
                // A session gives its upstream's socket back before it closes.
                debug_assert!(self.clients[key].link.is_none());
                self.clients.remove(key);
            }
        }
    }

    /// A client's session, its transport, and the scratch that all sessions share.
    fn session(&mut self, key: usize) -> (&mut Session, Evented<'_, 'a>, &mut Scratch) {
        let Client { stream, session, ready, link, woken, .. } = &mut self.clients[key];
        let io = Evented {
            stream,
            ready,
            now: &mut self.now,
            ending_since: self.shutdown,
            key,
            link,
            links: &mut self.links,
            registry: self.poll.registry(),
            workers: self.python.workers(),
            woken,
        };
        (session, io, &mut self.scratch)
    }

    /// Drives the clients that may get a Python worker now. A client that gives a worker's thread back may wake others:
    /// the bytes that the thread sent may hold the answers to several requests. This repeats until all those answers
    /// are passed on and waiting requests are in the thread's inbox. Only then may the loop wait for events.
    fn drive_woken(&mut self) {
        for _ in 0..python::ROUNDS {
            let rest = self.queue.len();
            self.wake();
            if self.queue.len() == rest {
                break;
            }
            self.drive(rest);
        }
    }

    /// Queues the clients that may get a Python worker now.
    fn wake(&mut self) {
        for key in self.python.take_woken() {
            if let Some(client) = self.clients.get_mut(key) {
                client.woken = true;
                self.enqueue(key);
            }
        }
    }
}
