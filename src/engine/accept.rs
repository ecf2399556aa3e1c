//! Listeners, what a failed accept means, and when descriptors run out. A listener's next client may be accepted at once, after a
//! pause, or when an idle connection has been closed for it.

use crate::engine::latch::{Latch, await_any};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

/// How long accepting pauses when descriptors or threads have run out: long enough not to spin, short
/// enough that no client notices.
pub const PAUSE: Duration = Duration::from_millis(100);
/// How many descriptors connections leave to files and to sockets of upstreams, while there are idle ones to close: an
/// eighth of all, within these bounds.
const LEAST_SPARE: u64 = 8;
const MOST_SPARE: u64 = 64;
/// A shortage is logged at most once in this time: it may last, and a line for each client would fill the disk.
const LOG_AGAIN: Duration = Duration::from_secs(60);

/// What to do after a failed accept.
#[derive(Debug, PartialEq, Eq)]
pub enum AcceptFailure {
    /// No client is waiting: poll.
    Empty,
    /// The client left before it was accepted: accept the next.
    Gone,
    /// Descriptors or memory have run out: close an idle connection or pause, and try again. Clients wait in the backlog.
    Exhausted,
}

impl AcceptFailure {
    pub fn of(error: &io::Error) -> AcceptFailure {
        match Errno::from_io_error(error) {
            _ if error.kind() == io::ErrorKind::WouldBlock => AcceptFailure::Empty,
            Some(Errno::CONNABORTED | Errno::INTR | Errno::PROTO) => AcceptFailure::Gone,
            _ => AcceptFailure::Exhausted,
        }
    }
}

/// Whether descriptors run out, as accepting shows it.
#[derive(Debug)]
pub struct Shortage {
    /// A connection with this descriptor or a higher one leaves too few: the system gives out the lowest that is free.
    scarce_from: u64,
    is_scarce: bool,
    /// An idle connection was closed for the next one: that its descriptor is a low one says nothing of the others.
    made_way: bool,
    /// The last accept failed, and an idle connection was to be closed for the next.
    has_failed: bool,
    logged: Option<Instant>,
}

impl Shortage {
    /// By the limit of open files (RLIMIT_NOFILE) as it is now.
    pub fn of_process() -> Shortage {
        Shortage::within(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
    }

    fn within(descriptors: u64) -> Shortage {
        let spare = (descriptors / 8).clamp(LEAST_SPARE, MOST_SPARE);
        Shortage {
            scarce_from: descriptors.saturating_sub(spare),
            is_scarce: false,
            made_way: false,
            has_failed: false,
            logged: None,
        }
    }

    pub fn on_accepted(&mut self, socket: &impl AsRawFd) {
        let is_high = socket.as_raw_fd() as u64 >= self.scarce_from;
        self.is_scarce = is_high || self.is_scarce && self.made_way;
        (self.made_way, self.has_failed) = (false, false);
    }

    pub fn on_made_way(&mut self) {
        self.made_way = true;
    }

    /// Whether the next connection should take the place of an idle one.
    pub fn is_scarce(&self) -> bool {
        self.is_scarce
    }

    /// To be called when an accept finds descriptors or memory exhausted. Returns whether closing an idle connection may
    /// help. It did not help when accepting fails a second time: then others take what becomes free, and a pause is due.
    pub fn on_exhausted(&mut self, error: &io::Error, now: Instant) -> bool {
        if self.logged.is_none_or(|logged| logged + LOG_AGAIN <= now) {
            self.logged = Some(now);
            log::warn!(
                "cannot accept connections for the moment: {error}; idle ones are closed for those that wait (raise the \
                 limit of open files with ulimit -n)"
            );
        }
        self.has_failed = !self.has_failed;
        self.has_failed
    }
}

/// The listeners of a threaded engine.
pub struct Listeners {
    pub sockets: Vec<TcpListener>,
    pub addresses: Vec<SocketAddr>,
    /// The listener that is first when several have clients.
    pub next: usize,
}

impl Listeners {
    /// Waits for a client; at which listener it is. `WouldBlock` when `ending` was set.
    pub fn await_client(&mut self, ending: &Latch) -> io::Result<usize> {
        let count = self.sockets.len();
        let fds: Vec<_> = self.sockets.iter().map(AsFd::as_fd).chain([ending.as_fd()]).collect();
        let ready = await_any(&fds, None)?;
        let first = (0..count).map(|offset| (self.next + offset) % count).find(|&index| ready[index]);
        first.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    pub fn accept(&mut self, index: usize) -> io::Result<(TcpStream, SocketAddr, SocketAddr)> {
        self.next = index + 1;
        let (socket, peer) = self.sockets[index].accept()?;
        Ok((socket, peer, self.addresses[index]))
    }

    /// Whether a client waits, without waiting for one.
    pub fn has_client(&self) -> bool {
        let fds: Vec<_> = self.sockets.iter().map(AsFd::as_fd).collect();
        await_any(&fds, Some(Instant::now())).is_ok_and(|ready| ready.contains(&true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Socket(i32);

    impl AsRawFd for Socket {
        fn as_raw_fd(&self) -> i32 {
            self.0
        }
    }

    #[test]
    fn descriptors_are_scarce_when_the_last_of_them_are_given_out() {
        for (limit, first) in [(64, 56), (1024, 960), (20, 12), (1 << 20, (1 << 20) - 64)] {
            let mut shortage = Shortage::within(limit);
            shortage.on_accepted(&Socket(first - 1));
            assert!(!shortage.is_scarce(), "{limit}");
            shortage.on_accepted(&Socket(first));
            assert!(shortage.is_scarce(), "{limit}");
            // One is closed for each that comes, and each that comes has the descriptor of that one.
            for _ in 0..3 {
                shortage.on_made_way();
                shortage.on_accepted(&Socket(first - 1));
                assert!(shortage.is_scarce(), "{limit}");
            }
            shortage.on_accepted(&Socket(first - 1));
            assert!(!shortage.is_scarce(), "{limit}");
        }
        let mut shortage = Shortage::within(u64::MAX);
        shortage.on_accepted(&Socket(i32::MAX));
        assert!(!shortage.is_scarce());
    }

    #[test]
    fn a_connection_is_closed_at_most_once_a_pause_while_that_does_not_help() {
        let (mut shortage, now) = (Shortage::within(64), Instant::now());
        let error = io::Error::from(Errno::NFILE);
        assert_eq!([(); 4].map(|()| shortage.on_exhausted(&error, now)), [true, false, true, false]);
        assert!(shortage.on_exhausted(&error, now));
        shortage.on_accepted(&Socket(63));
        assert!(shortage.on_exhausted(&error, now), "it has helped");
    }

    #[test]
    fn every_error_that_passes_with_time_is_exhaustion() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            assert_eq!(AcceptFailure::of(&errno.into()), AcceptFailure::Exhausted);
        }
        for errno in [Errno::CONNABORTED, Errno::INTR, Errno::PROTO] {
            assert_eq!(AcceptFailure::of(&errno.into()), AcceptFailure::Gone);
        }
        assert_eq!(AcceptFailure::of(&Errno::AGAIN.into()), AcceptFailure::Empty);
    }
}
