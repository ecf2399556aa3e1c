//! Connections without sockets, for tests: the one [`Transport`] in memory, and a client at its other end.
//!
//! A [`Connection`] holds both ends of a connection, and a clock that only the test moves. So a test of a timeout of
//! one minute takes no time, and the load of the machine changes no result. Only tests use this module.
//!
//! ```
//! use dustdevil::app::App;
//! use dustdevil::config::Config;
//! use dustdevil::session::testing::Connection;
//!
//! let config = Config::from_args(["dustdevil", "--keep-alive-timeout", "5s"]).unwrap();
//! let mut client = Connection::new(App::new(&config).unwrap());
//! client.send("GET /echo/hello HTTP/1.1\r\nHost: x\r\n\r\n");
//! assert!(client.received().ends_with("\r\n\r\nhello"));
//! client.pass(4_999);
//! assert!(!client.is_closed());
//! client.pass(1);
//! assert!(client.is_closed());
//! ```

use crate::app::App;
use crate::app::upstreams::{ConnectError, Reuse, Upstream};
use crate::driver::{self, Connected, Transport, Turn, UpstreamTransport};
use crate::http::date::Now;
use crate::session::{Ready, Scratch, Session};
use crate::wsgi::supervisor::Handback;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant, SystemTime};

/// The connection between a session and its peers: bytes in transit, and what each side has done to the connection.
///
/// It is ready for a call exactly if the call would not return `WouldBlock`, like the sockets of the event engine.
#[derive(Debug)]
pub struct Wire {
    /// The time that the session gets.
    pub now: Now,
    /// The bytes that the client has sent.
    pub request: Vec<u8>,
    /// How many bytes at the end of `request` the session has not read yet.
    pub unread: usize,
    /// The bytes that the client has received and the test has not taken yet.
    pub answer: Vec<u8>,
    /// How many more bytes the client accepts. At 0 the connection is full.
    pub window: usize,
    /// The client has shut the connection down for writing.
    pub ended: bool,
    /// The client or the session has reset the connection: every call on the client's socket fails.
    pub broken: bool,
    /// The session has shut the connection down for writing.
    pub shut_down: bool,
    /// The bytes that the upstream has sent and the session has not read yet. `None`: every upstream refuses
    /// connections.
    pub upstream: Option<Vec<u8>>,
    /// When the server began to shut down.
    pub ending_since: Option<Instant>,
    /// The bytes that the session has sent to the upstream.
    pub forwarded: Vec<u8>,
    /// Whether the session gave the upstream's connection back to be used again. `None` before it is given back.
    pub kept: Option<bool>,
}

impl Wire {
    /// A client that has connected, has sent nothing, and accepts all bytes. Every upstream refuses connections.
    pub fn new(now: Now) -> Wire {
        Wire {
            now,
            request: Vec::new(),
            unread: 0,
            answer: Vec::new(),
            window: usize::MAX,
            ended: false,
            broken: false,
            shut_down: false,
            upstream: None,
            ending_since: None,
            forwarded: Vec::new(),
            kept: None,
        }
    }

    /// The client sends these bytes. The session gets them when it is driven.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        if self.unread == 0 {
            self.request.clear();
        }
        self.request.extend_from_slice(bytes.as_ref());
        self.unread += bytes.as_ref().len();
    }

    /// How many of `len` bytes the client accepts now.
    fn taken(&mut self, len: usize) -> io::Result<usize> {
        assert!(!self.shut_down, "the session writes after it has shut the connection down for writing");
        assert!(len > 0, "the session writes no bytes");
        match len.min(self.window) {
            _ if self.broken => Err(io::ErrorKind::BrokenPipe.into()),
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => {
                self.window -= count;
                Ok(count)
            }
        }
    }
}

impl Transport for Wire {
    fn now(&mut self) -> &Now {
        &self.now
    }

    fn ending_since(&self) -> Option<Instant> {
        self.ending_since
    }

    fn ready(&self) -> Ready {
        Ready::NONE
            .with_if(self.unread > 0 || self.ended || self.broken, Ready::CLIENT_READ)
            .with_if(self.window > 0 || self.broken, Ready::CLIENT_WRITE)
            .with_if(self.ended, Ready::CLIENT_EOF)
            .with_if(self.broken, Ready::CLIENT_GONE)
    }

    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self.unread.min(room.len()) {
            _ if self.broken => Err(io::ErrorKind::ConnectionReset.into()),
            0 if !self.ended => Err(io::ErrorKind::WouldBlock.into()),
            count => {
                let from = self.request.len() - self.unread;
                room[..count].copy_from_slice(&self.request[from..from + count]);
                self.unread -= count;
                Ok(count)
            }
        }
    }

    fn write(&mut self, parts: [&[u8]; 2], _more: bool) -> io::Result<usize> {
        let count = self.taken(parts[0].len() + parts[1].len())?;
        let first = count.min(parts[0].len());
        self.answer.extend_from_slice(&parts[0][..first]);
        self.answer.extend_from_slice(&parts[1][..count - first]);
        Ok(count)
    }

    fn send_file(&mut self, file: &File, at: u64, len: usize) -> io::Result<usize> {
        let from = self.answer.len();
        // If the file has become shorter, nothing is sent: the response ends.
        let there = usize::try_from(file.metadata()?.len().saturating_sub(at)).unwrap_or(usize::MAX).min(len);
        if there == 0 {
            return Ok(0);
        }
        let count = self.taken(there)?;
        self.answer.resize(from + count, 0);
        file.read_exact_at(&mut self.answer[from..], at)?;
        Ok(count)
    }

    fn shut_down_write(&mut self) -> io::Result<()> {
        self.shut_down = true;
        Ok(())
    }

    fn reset_on_close(&mut self) {
        self.broken = true;
    }
}

impl UpstreamTransport for Wire {
    fn upstream_ready(&self) -> Ready {
        let has_bytes = self.upstream.as_ref().is_some_and(|bytes| !bytes.is_empty());
        Ready::NONE.with_if(has_bytes, Ready::UPSTREAM_READ).with_if(self.upstream.is_some(), Ready::UPSTREAM_WRITE)
    }

    fn connect(&mut self, _to: &Upstream, _reuse: Reuse, _request: Option<&[u8]>) -> Result<Connected, ConnectError> {
        match self.upstream {
            Some(_) => Ok(Connected::New),
            None => Err(io::Error::from(io::ErrorKind::ConnectionRefused).into()),
        }
    }

    fn read_upstream(&mut self, room: &mut [u8], _files: &mut Vec<OwnedFd>) -> io::Result<usize> {
        let bytes = self.upstream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        match bytes.len().min(room.len()) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => {
                room[..count].copy_from_slice(&bytes[..count]);
                bytes.drain(..count);
                Ok(count)
            }
        }
    }

    fn write_upstream(&mut self, bytes: &[u8], _file: Option<BorrowedFd<'_>>) -> io::Result<usize> {
        self.forwarded.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn shut_down_upstream(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn release(&mut self, keep: bool, _handback: Option<Handback>) {
        self.kept = Some(keep);
    }
}

/// Both ends of a connection. Every method that acts for the client drives the session afterwards, as an engine does.
#[derive(Debug)]
pub struct Connection {
    pub app: App,
    pub session: Session,
    pub scratch: Scratch,
    pub wire: Wire,
    /// The result of the last drive.
    pub turn: Turn,
    /// The cost of each turn of `drive`, until the test takes them.
    pub costs: Vec<usize>,
    start: Instant,
    start_time: SystemTime,
}

impl Connection {
    /// A connection that has just been accepted, on 1 January 1970. Every file is younger than that, so no file is old
    /// enough to be kept in the cache.
    pub fn new(app: App) -> Connection {
        Connection::at(app, SystemTime::UNIX_EPOCH)
    }

    /// A connection that has just been accepted, at the given time.
    pub fn at(app: App, time: SystemTime) -> Connection {
        let start = Instant::now();
        let session = Session::new(Ipv4Addr::LOCALHOST.into(), start);
        let wire = Wire::new(Now::new(start, time));
        let (scratch, turn) = (Scratch::default(), Turn::Yield);
        let mut connection =
            Connection { app, session, scratch, wire, turn, costs: Vec::new(), start, start_time: time };
        connection.drive();
        connection
    }

    /// Drives the session once, as one turn of an event loop does.
    pub fn drive_once(&mut self) {
        self.turn = driver::drive(&mut self.session, &mut self.wire, &self.app, &mut self.scratch);
    }

    /// Drives until the session waits or ends.
    pub fn drive(&mut self) {
        for _ in 0..100_000 {
            self.drive_once();
            self.costs.push(self.scratch.spent);
            if self.turn != Turn::Yield {
                return;
            }
        }
        panic!("the session never waits");
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.send(bytes);
        self.drive();
    }

    /// Sends a GET request for the path.
    pub fn get(&mut self, path: &str) {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    }

    /// The client shuts the connection down for writing: it sends no more, but still reads.
    pub fn finish_sending(&mut self) {
        self.wire.ended = true;
        self.drive();
    }

    /// The server begins to shut down.
    pub fn shut_down(&mut self) {
        self.wire.ending_since = Some(self.wire.now.instant);
        self.drive();
    }

    /// The client accepts `window` more bytes.
    pub fn take(&mut self, window: usize) {
        self.wire.window = window;
        self.drive();
    }

    /// Moves the clock. The session is driven at its deadlines and at no other time.
    pub fn pass(&mut self, millis: u64) {
        let end = self.wire.now.instant + Duration::from_millis(millis);
        while let Turn::Wait(Some(deadline)) = self.turn
            && deadline <= end
        {
            self.set_clock(deadline);
            self.drive();
            let moved = !matches!(self.turn, Turn::Wait(Some(next)) if next <= deadline);
            assert!(moved, "an engine would spin: the deadline has passed and the session waits for it again");
        }
        self.set_clock(end);
    }

    /// Sets the clock without driving the session, like an engine that is late.
    pub fn set_clock(&mut self, instant: Instant) {
        self.wire.now.update(instant, self.start_time + (instant - self.start));
    }

    /// When the connection was accepted.
    pub fn start(&self) -> Instant {
        self.start
    }

    /// The bytes that the client has received since the last call. They must be UTF-8.
    pub fn received(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.wire.answer)).unwrap()
    }

    /// The statuses of the responses that the client has received since the last call of this or of `received`.
    pub fn statuses(&mut self) -> Vec<u16> {
        let text = self.received();
        let lines = text.split("HTTP/1.1 ").skip(1);
        lines.filter_map(|rest| rest.get(..3)?.parse().ok()).collect()
    }

    pub fn is_closed(&self) -> bool {
        self.turn == Turn::Close
    }

    /// Milliseconds from now to the deadline. `None` if there is no deadline.
    pub fn deadline(&self) -> Option<u128> {
        match self.turn {
            Turn::Wait(Some(deadline)) => Some(deadline.saturating_duration_since(self.wire.now.instant).as_millis()),
            _ => None,
        }
    }

    /// The lines of the access log so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.scratch.log).into_owned()
    }
}
