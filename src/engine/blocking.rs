//! A client's blocking socket as a `Transport`: each call waits, until the session's deadline at most.
//!
//! The deadline becomes a socket timeout (SO_RCVTIMEO, SO_SNDTIMEO). Such a timeout is per call and
//! setting it is a system call, so it is treated as `timers` treats a wake-up: it may come too early,
//! never too late. It is set anew only when it would end after the deadline, or when it did end before.
//! A connection that is answered in time never sets one: it has the two it inherits from its listener.
//! The deadline itself is the session's to judge; the clock is read after every call that may have
//! waited.
//!
//! Two rules keep waiting cheap and the log prompt:
//! - **While the session is idle nothing is lent to it.** `await_first` receives into a small buffer of
//!   the thread's own, before the driver is called; the first read then finds it there.
//! - **A read never waits behind a write.** It says `WouldBlock`, so that the engine has its turn.

use crate::driver::Transport;
use crate::engine::latch::Latch;
use crate::engine::{send, send_file};
use crate::http::date::Now;
use std::fs::File;
use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant, SystemTime};

/// How late a timeout may end. A connection's deadline moves on by the time that its last answer took;
/// setting the timeout each time for that would cost a request half as many calls again.
const SLACK: Duration = Duration::from_millis(10);
/// Room for what ends an idle wait. Most heads are smaller, browsers' with cookies too; a larger one
/// costs a second read. It lives on the stack of every thread: a page would be felt.
const FIRST: usize = 2048;

pub struct Blocking<'a> {
    socket: &'a TcpStream,
    /// Set when what is under way is the last, and when nothing more may be done.
    ending: &'a Latch,
    cut: &'a Latch,
    now: Now,
    /// When a call has to give up.
    deadline: Option<Instant>,
    receiving: Timeout,
    sending: Timeout,
    /// What ended the last idle wait, until the driver asks for it.
    first: Option<io::Result<usize>>,
    buffer: [u8; FIRST],
    /// Whether a read may wait in this turn.
    patient: bool,
}

/// What the sockets of a listener's connections begin with: `sk_clone` of Linux copies them on accept.
#[derive(Clone, Copy, Debug)]
pub struct Inherited {
    pub receive: Duration,
    pub send: Duration,
}

impl<'a> Blocking<'a> {
    pub fn new(socket: &'a TcpStream, inherited: Inherited, ending: &'a Latch, cut: &'a Latch) -> Blocking<'a> {
        Blocking {
            socket,
            ending,
            cut,
            now: Now::new(Instant::now(), SystemTime::now()),
            deadline: None,
            receiving: Timeout { set: inherited.receive },
            sending: Timeout { set: inherited.send },
            first: None,
            buffer: [0; FIRST],
            patient: false,
        }
    }

    /// Waits for the first bytes after an idle time, for the client's leaving, or for the deadline.
    pub fn await_first(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
        let (left, socket) = (self.left(), self.socket);
        let result =
            self.receiving.within(left, |left| socket.set_read_timeout(left), || read(socket, &mut self.buffer));
        self.first = Some(self.waited(result));
    }

    /// Before each turn of the driver. `patient`: its reads may wait.
    pub fn begin_turn(&mut self, patient: bool) {
        self.patient = patient;
        self.now.update(Instant::now(), SystemTime::now());
    }

    fn left(&self) -> Duration {
        self.deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(self.now.instant))
    }

    /// After every call that may have waited: what time it is, and whether anything may still be done.
    fn waited(&mut self, result: io::Result<usize>) -> io::Result<usize> {
        self.now.update(Instant::now(), SystemTime::now());
        if self.cut.is_set() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut by the shutdown"));
        }
        result
    }

    fn send_with(&mut self, call: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        self.patient = false;
        let (left, socket) = (self.left(), self.socket);
        let result = self.sending.within(left, |left| socket.set_write_timeout(left), call);
        self.waited(result)
    }
}

impl Transport for Blocking<'_> {
    fn now(&mut self) -> &Now {
        &self.now
    }

    /// Bytes that ended an idle wait are a request under way: it is first heard, then told.
    fn is_ending(&self) -> bool {
        self.ending.is_set() && self.first.is_none()
    }

    fn block_until(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if let Some(first) = self.first.take() {
            let count = first?;
            debug_assert!(count <= room.len());
            room[..count].copy_from_slice(&self.buffer[..count]);
            return Ok(count);
        }
        if !self.patient {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let (left, socket) = (self.left(), self.socket);
        let result = self.receiving.within(left, |left| socket.set_read_timeout(left), || read(socket, room));
        self.waited(result)
    }

    fn write(&mut self, bytes: &[u8], more: bool) -> io::Result<usize> {
        let socket = self.socket;
        self.send_with(|| send(socket, bytes, more))
    }

    fn send_file(&mut self, file: &File, at: u64, len: usize) -> io::Result<usize> {
        let socket = self.socket;
        self.send_with(|| send_file(socket, file, at, len))
    }

    fn shut_down_write(&mut self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }
}

fn read(mut socket: &TcpStream, room: &mut [u8]) -> io::Result<usize> {
    socket.read(room)
}

/// A socket timeout as the kernel knows it: `set` never ends later than the deadline it was last used for.
#[derive(Debug)]
struct Timeout {
    set: Duration,
}

impl Timeout {
    /// Makes a call that may wait for as long as is `left`; `WouldBlock` when the time is over.
    fn within(
        &mut self,
        left: Duration,
        set: impl FnOnce(Option<Duration>) -> io::Result<()>,
        call: impl FnOnce() -> io::Result<usize>,
    ) -> io::Result<usize> {
        if left.is_zero() {
            // To the kernel no time means for ever.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.set > left.saturating_add(SLACK) {
            set(Some(left))?;
            self.set = left;
        }
        let result = call();
        if matches!(&result, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            // Over, or too early: either way the next wait needs another.
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
