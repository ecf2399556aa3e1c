//! The event engine: one thread, one mio Poll, a slab of sessions. It knows no HTTP.
//!
//! A turn of the loop has three phases:
//! 1. poll; fold events into ready bits, accept until there is no more, queue keys;
//! 2. expire timers, queue keys;
//! 3. drive each queued key once. `Yield` queues it again, `Close` removes it.
//!
//! Nothing is removed before phase 3, so a stale token reaches no new connection. A socket is registered
//! once, edge-triggered, for reading and writing; its ready bits say what is worth a system call. A bit
//! is cleared by `WouldBlock` or by a short read or write: the next edge sets it again.

use crate::app::App;
use crate::driver::{self, Transport, Turn};
use crate::engine::timers::Timers;
use crate::engine::{AcceptFailure, PAUSE, send, send_file, tell_cut, tell_ending};
use crate::http::date::Now;
use crate::session::{Scratch, Session};
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;
use slab::Slab;
use std::fs::File;
use std::io::{self, Read};
use std::net::Shutdown;
use std::time::{Duration, Instant, SystemTime};

/// Tokens from here up are listeners; below, keys of the slab.
const FIRST_LISTENER: usize = usize::MAX / 2;
const SIGNALS: Token = Token(usize::MAX - 1);
/// Events taken at once; more wait for the next poll.
const EVENTS: usize = 1024;
/// A client that connects and asks for nothing holds no more than this many accepts before others are served.
const ACCEPTS: usize = 256;

const READABLE: u8 = 1;
const WRITABLE: u8 = 2;
/// The peer has closed its side: a short read is not the last one.
const READ_CLOSED: u8 = 4;

struct Client {
    stream: TcpStream,
    session: Session,
    ready: u8,
    queued: bool,
}

struct Listener {
    socket: TcpListener,
    ready: bool,
}

/// The loop and all it owns.
pub struct EventEngine<'a> {
    app: &'a App,
    poll: Poll,
    signals: Signals,
    listeners: Vec<Listener>,
    clients: Slab<Client>,
    timers: Timers,
    /// Keys to be driven in this turn.
    queue: Vec<usize>,
    scratch: Scratch,
    now: Now,
    accept_paused: Option<Instant>,
    /// When the grace period ends, once the server is shutting down.
    shutdown: Option<Instant>,
    signalled: u32,
}

impl<'a> EventEngine<'a> {
    /// Registers listeners and signals; nothing is accepted before `run`.
    pub fn new(app: &'a App, listeners: Vec<std::net::TcpListener>) -> io::Result<EventEngine<'a>> {
        let poll = Poll::new()?;
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
        let listeners = listeners.into_iter().enumerate().map(|(index, listener)| {
            listener.set_nonblocking(true)?;
            let mut socket = TcpListener::from_std(listener);
            poll.registry().register(&mut socket, Token(FIRST_LISTENER + index), Interest::READABLE)?;
            Ok(Listener { socket, ready: true })
        });
        let listeners = listeners.collect::<io::Result<_>>()?;
        Ok(EventEngine {
            app,
            poll,
            signals,
            listeners,
            clients: Slab::new(),
            timers: Timers::default(),
            queue: Vec::new(),
            scratch: Scratch::default(),
            now: Now::new(Instant::now(), SystemTime::now()),
            accept_paused: None,
            shutdown: None,
            signalled: 0,
        })
    }

    /// Serves until a signal ends it.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            match self.poll.poll(&mut events, self.timeout()) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            self.now.update(Instant::now(), SystemTime::now());
            for event in &events {
                self.on_event(event);
            }
            self.accept();
            self.expire();
            self.drive();
            self.app.access_log.flush(&mut self.scratch.log);
            if self.is_over() {
                return Ok(());
            }
        }
    }

    /// How long the poll may wait: not at all while work is queued.
    fn timeout(&self) -> Option<Duration> {
        let can_accept = self.can_accept() && self.accept_paused.is_none();
        if !self.queue.is_empty() || (can_accept && self.listeners.iter().any(|listener| listener.ready)) {
            return Some(Duration::ZERO);
        }
        let next = [self.timers.next(), self.accept_paused, self.shutdown].into_iter().flatten().min()?;
        // Poll counts in milliseconds; rounding down would spin through the last of them.
        Some(next.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }

    // ---- phase 1: events and accepting

    fn on_event(&mut self, event: &Event) {
        match event.token() {
            SIGNALS => self.on_signals(),
            Token(token) if token >= FIRST_LISTENER => {
                if let Some(listener) = self.listeners.get_mut(token - FIRST_LISTENER) {
                    listener.ready = true;
                }
            }
            Token(key) => {
                let Some(client) = self.clients.get_mut(key) else { return };
                if event.is_readable() {
                    client.ready |= READABLE;
                }
                if event.is_writable() {
                    client.ready |= WRITABLE;
                }
                if event.is_read_closed() || event.is_error() {
                    client.ready |= READABLE | READ_CLOSED;
                }
                self.enqueue(key);
            }
        }
    }

    fn on_signals(&mut self) {
        self.signalled += self.signals.pending().count() as u32;
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

    /// Accepts until no listener has more, the limit is reached, or the others have waited long enough.
    fn accept(&mut self) {
        if self.accept_paused.is_some_and(|until| until > self.now.instant) {
            return;
        }
        self.accept_paused = None;
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS {
                if !self.listeners[index].ready || !self.can_accept() || self.accept_paused.is_some() {
                    break;
                }
                match self.listeners[index].socket.accept() {
                    Ok((stream, peer)) => self.add(stream, peer.ip()),
                    Err(error) => self.on_accept_failed(index, &error),
                }
            }
        }
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

    fn add(&mut self, stream: TcpStream, peer: std::net::IpAddr) {
        let session = Session::new(peer, self.now.instant);
        let key = self.clients.insert(Client { stream, session, ready: WRITABLE, queued: false });
        let stream = &mut self.clients[key].stream;
        // Registering reports what has already arrived.
        if let Err(error) = self.poll.registry().register(stream, Token(key), Interest::READABLE | Interest::WRITABLE) {
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
            self.queue.push(key);
        }
    }

    /// Drives every queued session once. What yields is queued behind them, for the next turn.
    fn drive(&mut self) {
        let queued_now = self.queue.len();
        for index in 0..queued_now {
            let key = self.queue[index];
            let Client { stream, session, ready, queued } = &mut self.clients[key];
            *queued = false;
            let mut io = Evented { stream, ready, now: &self.now, ending: self.shutdown.is_some() };
            match driver::drive(session, &mut io, self.app, &mut self.scratch) {
                Turn::Wait(Some(deadline)) => self.timers.arm(key, deadline),
                Turn::Wait(None) => {}
                Turn::Yield => {
                    *queued = true;
                    self.queue.push(key);
                }
                // Dropping the stream closes it, and with it its registration.
                Turn::Close => drop(self.clients.remove(key)),
            }
        }
        self.queue.drain(..queued_now);
    }
}

/// A client's nonblocking socket with what is known of its readiness.
struct Evented<'a> {
    stream: &'a mut TcpStream,
    ready: &'a mut u8,
    now: &'a Now,
    ending: bool,
}

impl Evented<'_> {
    fn check(&self, bit: u8) -> io::Result<()> {
        if *self.ready & bit == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }

    /// Clears the bit when the call shows that the socket is drained or full.
    fn note(&mut self, bit: u8, asked: usize, result: io::Result<usize>) -> io::Result<usize> {
        match &result {
            Ok(count) if *count < asked && (bit == WRITABLE || *self.ready & READ_CLOSED == 0) => *self.ready &= !bit,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => *self.ready &= !bit,
            _ => {}
        }
        result
    }
}

impl Transport for Evented<'_> {
    fn now(&mut self) -> &Now {
        self.now
    }

    fn is_ending(&self) -> bool {
        self.ending
    }

    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.check(READABLE)?;
        let result = self.stream.read(room);
        self.note(READABLE, room.len(), result)
    }

    fn write(&mut self, bytes: &[u8], more: bool) -> io::Result<usize> {
        self.check(WRITABLE)?;
        let result = send(&*self.stream, bytes, more);
        self.note(WRITABLE, bytes.len(), result)
    }

    fn send_file(&mut self, file: &File, at: u64, len: usize) -> io::Result<usize> {
        self.check(WRITABLE)?;
        let result = send_file(&*self.stream, file, at, len);
        match &result {
            // A short sendfile may also be the file's end: only a full socket says WouldBlock.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => *self.ready &= !WRITABLE,
            _ => {}
        }
        result
    }

    fn shut_down_write(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }
}
