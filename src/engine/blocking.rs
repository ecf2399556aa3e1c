//! The `Transport` of the threaded engines: a client's blocking socket. A call waits until the session's deadline at
//! most.
//!
//! The deadline becomes a socket timeout (SO_RCVTIMEO, SO_SNDTIMEO). The timeout holds for one call, and setting it is
//! a system call. So it is set again only if it would end after the deadline, or if it ended too early: a timeout may
//! be too early, never too late. A connection that is served in time never sets one: it inherits both from its
//! listener. The session decides whether the deadline has passed. So the clock is read after every call that may have
//! waited.
//!
//! Two rules:
//! - **An idle session holds no buffers.** `await_first` receives into a small buffer on the thread's stack, before the
//!   driver is called. The driver's first read copies the bytes from there.
//! - **A read does not wait after a write.** It returns `WouldBlock`, so that the engine writes the access log before
//!   it waits.
//!
//! **While an exchange has a socket to an upstream**, the thread may have to wait for the client or for the upstream.
//! Then no call waits, and `await_ready` polls both sockets for what the session wants.

use crate::app::forward::CutByShutdown;
use crate::app::upstreams::{Address, ConnectError, Reuse, Upstream};
use crate::driver::{Connected, Handback, Transport, UpstreamTransport};
use crate::engine::accept::PAUSE;
use crate::engine::connection::Waiting;
use crate::engine::latch::Latch;
use crate::engine::python::{WorkerSocket, Workers};
use crate::engine::socket::{send, send_file};
use crate::engine::upstream::shared_pool::SharedPool;
use crate::engine::upstream::socket::UpstreamSocket;
use crate::http::date::Now;
use crate::poll;
use crate::session::Ready;
use rustix::event::{PollFd, PollFlags};
use std::fs::File;
use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

/// How late a timeout may end. Each request moves the deadline by a little. Setting the timeout each time would add one
/// system call to the two (recv, send) that a request needs.
const SLACK: Duration = Duration::from_millis(10);
/// Room for the bytes that end an idle wait. Most request heads fit, even those of browsers with cookies. A larger head
/// costs a second read. The buffer is small because it is on the stack of every thread.
const FIRST: usize = 2048;

pub struct Blocking<'a> {
    socket: &'a TcpStream,
    waiting: &'a Waiting,
    /// Once it is set, the current exchange is the connection's last.
    ending: &'a Latch,
    /// Once it is set, calls that may wait fail.
    cut: &'a Latch,
    now: Now,
    /// When a call has to give up.
    deadline: Option<Instant>,
    /// The client is owed no answer: a shutdown may end the next wait for it before the deadline.
    dispensable: bool,
    receiving: Timeout,
    sending: Timeout,
    /// The result of the recv that ended the last idle wait, until the driver reads it. The bytes are in `buffer`.
    first: Option<io::Result<usize>>,
    buffer: [u8; FIRST],
    /// Whether a read may wait in this turn.
    may_wait: bool,
    upstreams: &'a SharedPool,
    workers: Workers<'a>,
    /// The client's key: workers are leased for it.
    key: usize,
    /// The exchange's socket to its upstream.
    upstream: Option<UpstreamSocket<'a>>,
    /// Which system calls are worth making. Without an upstream it is always `ALL`: then the calls themselves wait.
    ready: Ready,
}

/// The socket timeouts that a new connection inherits. Linux copies them from the listener when the handshake ends
/// (`sk_clone`), so the module `listener` sets them before it listens.
#[derive(Clone, Copy, Debug)]
pub struct Inherited {
    pub receive: Duration,
    pub send: Duration,
}

impl<'a> Blocking<'a> {
    pub fn new(
        (socket, waiting): (&'a TcpStream, &'a Waiting),
        inherited: Inherited,
        ending: &'a Latch,
        cut: &'a Latch,
        upstreams: &'a SharedPool,
        (workers, key): (Workers<'a>, usize),
    ) -> Blocking<'a> {
        Blocking {
            socket,
            waiting,
            ending,
            cut,
            now: Now::new(Instant::now(), SystemTime::now()),
            deadline: None,
            dispensable: false,
            receiving: Timeout { set: inherited.receive },
            sending: Timeout { set: inherited.send },
            first: None,
            buffer: [0; FIRST],
            may_wait: false,
            upstreams,
            workers,
            key,
            upstream: None,
            ready: Ready::ALL,
        }
    }

    /// Leases a Python worker, and waits for one until the deadline or the end of the grace period.
    ///
    /// # Errors
    /// `Queued`: the deadline or the grace period is over; or the client has closed its side, and keeps its place in
    /// the queue. Others as in `Workers::lease`.
    fn lease(&mut self, pool: usize, request: Option<&[u8]>) -> Result<(WorkerSocket<'a>, Connected), ConnectError> {
        loop {
            let left = self.deadline.map_or(PAUSE, |deadline| deadline.saturating_duration_since(Instant::now()));
            // Waits for PAUSE at most, so that the end of the grace period is noticed.
            if let Some(leased) = self.workers.lease_within(pool, self.key, request, left.min(PAUSE))? {
                return Ok(leased);
            }
            if self.client_has_ended() {
                return Err(ConnectError::Queued);
            }
            if self.cut.is_set() || left.is_zero() {
                self.workers.leave_and_wake(self.key, Instant::now());
                return Err(ConnectError::Queued);
            }
        }
    }

    /// Whether the client has closed its side or reset the connection. Does not wait.
    fn client_has_ended(&mut self) -> bool {
        let mut polled = [PollFd::new(self.socket, PollFlags::RDHUP)];
        if poll::wait(&mut polled, Some(Duration::ZERO)).is_err() {
            return false;
        }
        let found = polled[0].revents();
        let gone = found.intersects(PollFlags::ERR | PollFlags::HUP);
        self.ready = self.ready.with_if(gone, Ready::CLIENT_GONE).with_if(!found.is_empty(), Ready::CLIENT_EOF);
        !found.is_empty()
    }

    /// While the exchange has a socket to an upstream: waits until something `wanted` is ready, or until the deadline.
    pub fn await_ready(&mut self, wanted: Ready, deadline: Option<Instant>) {
        let Some(upstream) = &self.upstream else { return };
        if wanted != wanted.without(self.ready) {
            return;
        }
        let flag = |what, flag| if wanted.has(what) { flag } else { PollFlags::empty() };
        let flags = |read, write| flag(read, PollFlags::IN) | flag(write, PollFlags::OUT);
        let mut polled = vec![PollFd::from_borrowed_fd(self.cut.as_fd(), PollFlags::IN)];
        // If nothing is wanted from a socket, it is not polled: its hang-up would end every wait at once.
        let client = flags(Ready::CLIENT_READ, Ready::CLIENT_WRITE) | flag(Ready::CLIENT_EOF, PollFlags::RDHUP);
        let client = Some(client).filter(|flags| !flags.is_empty() || wanted.has(Ready::CLIENT_GONE));
        let flags = flags(Ready::UPSTREAM_READ, Ready::UPSTREAM_WRITE);
        let (socket, upstream) = (upstream.as_fd(), Some(flags).filter(|flags| !flags.is_empty()));
        let sides = [(self.socket.as_fd(), client), (socket, upstream)];
        polled.extend(sides.iter().filter_map(|(fd, flags)| Some(PollFd::from_borrowed_fd(*fd, (*flags)?))));
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // An error (no memory) is temporary: the next turn finds nothing ready and waits again.
        if poll::wait(&mut polled, left).is_err() {
            return;
        }
        let mut found = polled[1..].iter().map(PollFd::revents);
        let (client, upstream) = (client.and_then(|_| found.next()), upstream.and_then(|_| found.next()));
        let failed = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
        let news = [
            (client, PollFlags::IN, Ready::CLIENT_READ),
            (client, PollFlags::OUT, Ready::CLIENT_WRITE),
            (client, PollFlags::RDHUP, Ready::CLIENT_EOF),
            (client, PollFlags::empty(), Ready::CLIENT_GONE),
            (upstream, PollFlags::IN, Ready::UPSTREAM_READ),
            (upstream, PollFlags::OUT, Ready::UPSTREAM_WRITE),
        ];
        for (found, flag, what) in news {
            self.ready = self.ready.with_if(found.is_some_and(|found| found.intersects(flag | failed)), what);
        }
    }

    pub fn has_upstream(&self) -> bool {
        self.upstream.is_some()
    }

    /// Clears the ready bit `side` if the call would have had to wait.
    fn noted(&mut self, side: Ready, result: io::Result<usize>) -> io::Result<usize> {
        if matches!(&result, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            self.ready = self.ready.without(side);
        }
        result
    }

    /// In an idle session: waits for the next request's first bytes, for the client's close, or for the deadline.
    pub fn await_first(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
        let (left, socket) = (self.left(), self.socket);
        let result =
            self.receiving.within(left, |left| socket.set_read_timeout(left), || read(socket, &mut self.buffer));
        self.first = Some(self.waited(result));
    }

    /// Call this before each turn of the driver. `may_wait`: whether reads in this turn may wait.
    pub fn begin_turn(&mut self, may_wait: bool) {
        self.may_wait = may_wait;
        if self.upstream.is_none() {
            self.ready = Ready::ALL;
        }
        self.now.update(Instant::now(), SystemTime::now());
    }

    fn left(&self) -> Duration {
        self.deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(self.now.instant))
    }

    /// After every call that may have waited: reads the clock, and fails if the grace period is over.
    fn waited(&mut self, result: io::Result<usize>) -> io::Result<usize> {
        self.now.update(Instant::now(), SystemTime::now());
        if self.cut.is_set() {
            return Err(CutByShutdown.into());
        }
        result
    }

    fn read_waiting(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let (left, socket) = (self.left(), self.socket);
        self.receiving.within(left, |left| socket.set_read_timeout(left), || read(socket, room))
    }

    /// Reads from a client that is owed no answer. If a shutdown ends the wait, this is `WouldBlock` too: the session
    /// learns of the shutdown in its next turn, and gives the client the rest of its time.
    fn read_dispensable(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.waiting.dispensable.store(true, Ordering::SeqCst);
        // The main thread sets the latch first and checks the flag later. So either it sees the flag, or this thread
        // sees the latch.
        let result = match self.ending.is_set() {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => self.read_waiting(room),
        };
        let is_dismissed = !self.waiting.dispensable.swap(false, Ordering::SeqCst);
        match result {
            Ok(0) if is_dismissed => Err(io::ErrorKind::WouldBlock.into()),
            result => result,
        }
    }

    fn send_with(&mut self, call: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        self.may_wait = false;
        let (left, socket) = (self.left(), self.socket);
        let result = match self.upstream {
            Some(_) => call(),
            None => self.sending.within(left, |left| socket.set_write_timeout(left), call),
        };
        let result = self.noted(Ready::CLIENT_WRITE, result);
        self.waited(result)
    }
}

impl Transport for Blocking<'_> {
    const WAITS: bool = true;

    fn now(&mut self) -> &Now {
        &self.now
    }

    fn tick(&mut self) {
        self.now.update(Instant::now(), SystemTime::now());
    }

    /// Bytes that ended an idle wait belong to a request. The session must read them before it learns of the shutdown.
    fn ending_since(&self) -> Option<Instant> {
        if self.first.is_none() { self.ending.since() } else { None }
    }

    fn block_until(&mut self, deadline: Option<Instant>, dispensable: bool) {
        (self.deadline, self.dispensable) = (deadline, dispensable);
    }

    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if let Some(first) = self.first.take() {
            let count = first?;
            debug_assert!(count <= room.len());
            room[..count].copy_from_slice(&self.buffer[..count]);
            return Ok(count);
        }
        let socket = self.socket;
        let result = match (&self.upstream, self.may_wait) {
            (Some(_), _) => read(socket, room),
            (None, true) if self.dispensable => self.read_dispensable(room),
            (None, true) => self.read_waiting(room),
            (None, false) => Err(io::ErrorKind::WouldBlock.into()),
        };
        let result = self.noted(Ready::CLIENT_READ, result);
        if self.may_wait { self.waited(result) } else { result }
    }

    fn write(&mut self, parts: [&[u8]; 2], more: bool) -> io::Result<usize> {
        let socket = self.socket;
        self.send_with(|| send(socket, parts, more))
    }

    fn send_file(&mut self, file: &File, at: u64, len: usize) -> io::Result<usize> {
        let socket = self.socket;
        self.send_with(|| send_file(socket, file, at, len))
    }

    fn ready(&self) -> Ready {
        self.ready
    }

    fn shut_down_write(&mut self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }

    fn reset_on_close(&mut self) {
        // Fails only if the connection is closed already.
        let _ = socket2::SockRef::from(self.socket).set_linger(Some(Duration::ZERO));
    }
}

impl UpstreamTransport for Blocking<'_> {
    fn upstream_ready(&self) -> Ready {
        self.ready
    }

    fn connect(&mut self, to: &Upstream, reuse: Reuse, request: Option<&[u8]>) -> Result<Connected, ConnectError> {
        let result = match to.address {
            Address::Worker(pool) => {
                self.lease(pool, request).map(|(socket, connected)| (UpstreamSocket::Leased(socket), connected))
            }
            _ => {
                let opened = self.upstreams.connect(to, reuse, self.now.instant);
                opened
                    .map(|(connection, connected)| (UpstreamSocket::Opened(connection), connected))
                    .map_err(ConnectError::Io)
            }
        };
        self.now.update(Instant::now(), SystemTime::now());
        let (socket, connected) = match result {
            Ok(connected) => connected,
            Err(error) => {
                self.ready = self.ready.without(Ready::UPSTREAM_WRITE);
                return Err(error);
            }
        };
        self.upstream = Some(socket);
        self.socket.set_nonblocking(true)?;
        // An upstream sends nothing before it gets a request.
        self.ready = Ready::ALL.without(Ready::UPSTREAM_READ);
        Ok(connected)
    }

    fn read_upstream(&mut self, room: &mut [u8], files: &mut Vec<OwnedFd>) -> io::Result<usize> {
        let Some(upstream) = &self.upstream else { return Err(io::ErrorKind::NotConnected.into()) };
        let result = upstream.read(room, files);
        let result = self.noted(Ready::UPSTREAM_READ, result);
        self.waited(result)
    }

    fn write_upstream(&mut self, bytes: &[u8], file: Option<BorrowedFd<'_>>) -> io::Result<usize> {
        let Some(upstream) = &self.upstream else { return Err(io::ErrorKind::NotConnected.into()) };
        let result = upstream.write(bytes, file);
        self.noted(Ready::UPSTREAM_WRITE, result)
    }

    fn shut_down_upstream(&mut self) -> io::Result<()> {
        self.upstream.as_ref().map_or(Ok(()), UpstreamSocket::shut_down_write)
    }

    fn release(&mut self, keep: bool, handback: Option<Handback>) {
        match self.upstream.take() {
            None => {
                // The client may have been waiting for a worker.
                if handback.is_some() {
                    self.workers.leave_and_wake(self.key, self.now.instant);
                }
                return;
            }
            Some(UpstreamSocket::Leased(socket)) => socket.give_back_and_wake(handback, self.now.instant),
            Some(UpstreamSocket::Opened(connection)) if keep && connection.is_fit() => {
                self.upstreams.put(connection, self.now.instant);
            }
            Some(UpstreamSocket::Opened(_)) => {}
        }
        // Fails only if the connection is closed. Then the next call reports it.
        let _ = self.socket.set_nonblocking(false);
        self.ready = Ready::ALL;
    }
}

fn read(mut socket: &TcpStream, room: &mut [u8]) -> io::Result<usize> {
    socket.read(room)
}

/// A socket timeout. `set` is the kernel's value, or `MAX` if it must be set before the next wait.
#[derive(Debug)]
struct Timeout {
    set: Duration,
}

impl Timeout {
    /// Makes a call that may wait until the time `left` is over. Then the result is `WouldBlock`.
    fn within(
        &mut self,
        left: Duration,
        set: impl FnOnce(Option<Duration>) -> io::Result<()>,
        call: impl FnOnce() -> io::Result<usize>,
    ) -> io::Result<usize> {
        if left.is_zero() {
            // The kernel takes a timeout of zero as unlimited.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.set > left.saturating_add(SLACK) {
            set(Some(left))?;
            self.set = left;
        }
        let result = call();
        if matches!(&result, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            // The deadline has passed, or the timeout was too early. In both cases the next wait needs a new timeout.
            self.set = Duration::MAX;
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_timeout_is_set_only_when_it_would_end_too_late_or_did_end_too_early() {
        let mut timeout = Timeout { set: 10 * SECOND };
        let mut changes = |left, result: io::Result<usize>| {
            let mut change = None;
            let set = |left| {
                change = left;
                Ok(())
            };
            let _ = timeout.within(left, set, || result);
            change
        };
        let early = || Err(io::ErrorKind::WouldBlock.into());
        assert_eq!(changes(10 * SECOND, Ok(1)), None);
        assert_eq!(changes(10 * SECOND - SLACK / 2, Ok(1)), None, "a little late is no matter");
        assert_eq!(changes(75 * SECOND, early()), None, "too early: it is tried again");
        assert_eq!(changes(65 * SECOND, Ok(1)), Some(65 * SECOND));
        assert_eq!(changes(64 * SECOND, Ok(1)), Some(64 * SECOND));
        assert_eq!(changes(75 * SECOND, Ok(1)), None);
    }

    #[test]
    fn no_time_left_is_no_call() {
        let mut timeout = Timeout { set: SECOND };
        let result = timeout.within(Duration::ZERO, |_| panic!("set"), || panic!("called"));
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
