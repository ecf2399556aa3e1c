//! The listeners of the threaded engines; for all engines, what a failed accept means and when descriptors are scarce.

use crate::engine::latch::{Latch, await_any};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

/// How long accepting pauses when descriptors or threads have run out. Long enough not to spin, and short enough that
/// no client notices.
pub const PAUSE: Duration = Duration::from_millis(100);
/// How many descriptors are reserved for files and for sockets to upstreams: an eighth of all, within these bounds.
/// While only these are left, an idle connection is closed for each new one.
const LEAST_SPARE: u64 = 8;
const MOST_SPARE: u64 = 64;
/// A shortage is logged at most once in this time: if it lasts, a line for each client would fill the disk.
const LOG_AGAIN: Duration = Duration::from_secs(60);

/// What to do after a failed accept.
#[derive(Debug, PartialEq, Eq)]
pub enum AcceptFailure {
    /// No client is waiting: poll.
    Empty,
    /// The client left before it was accepted: accept the next.
    Gone,
    /// Descriptors or memory have run out: close an idle connection or pause, and try again. Clients wait in the
    /// backlog.
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

/// Whether descriptors are running out, as seen when accepting.
#[derive(Debug)]
pub struct Shortage {
    /// If a new connection gets this descriptor or a higher one, too few are left: the kernel returns the lowest free
    /// one.
    scarce_from: u64,
    is_scarce: bool,
    /// An idle connection was closed for the next one, which may get its low descriptor. So a low descriptor does not
    /// show that the shortage is over.
    made_way: bool,
    /// The last accept failed, and the caller was told to close an idle connection.
    has_failed: bool,
    logged: Option<Instant>,
}

impl Shortage {
    /// From the current limit of open files (RLIMIT_NOFILE).
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

    /// Call this when accept fails because descriptors or memory have run out. Returns whether closing an idle
    /// connection may help. If accept fails again after that, it did not help: something else takes what becomes free.
    /// Then pause.
    pub fn on_exhausted(&mut self, error: &io::Error, now: Instant) -> bool {
        if self.logged.is_none_or(|logged| logged + LOG_AGAIN <= now) {
            self.logged = Some(now);
            log::warn!(
                "cannot accept connections for the moment: {error}; idle connections are closed for waiting clients \
                 (raise the limit of open files with ulimit -n)"
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
    /// If clients wait at several listeners, the index of the one to accept from first.
    pub next: usize,
}

impl Listeners {
    /// Waits for a client. Returns the index of its listener; `WouldBlock` if `ending` is set.
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

    /// Whether a client waits to be accepted. Returns at once.
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
            // An idle connection is closed for each new one, and the new one gets its descriptor.
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
        assert!(shortage.on_exhausted(&error, now), "closing a connection has helped");
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
