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
/// Connections that take of these close as soon as they are idle.
const LEAST_SPARE: usize = 8;
const MOST_SPARE: usize = 64;
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

/// How many connections must close so that files and sockets to upstreams have their descriptors.
///
/// Nothing tells how many descriptors are free. But the kernel returns the lowest free one. So when a connection gets
/// descriptor n, all below n are in use, and when a call fails for lack of one, all are. What is not a connection is
/// something else: this is a lower bound for the others. The highest bound is kept until connections have become few.
#[derive(Debug)]
pub struct Shortage {
    /// RLIMIT_NOFILE.
    limit: usize,
    /// The highest known number of descriptors that were not connections.
    others: usize,
    /// How many connections there were when `others` was learned.
    learned_at: usize,
    is_scarce: bool,
    /// The last accept failed, and the caller was told to close an idle connection.
    has_failed: bool,
    accept_logged: Option<Instant>,
    lack_logged: Option<Instant>,
}

impl Shortage {
    /// From the current limit of open files (RLIMIT_NOFILE).
    pub fn of_process() -> Shortage {
        Shortage::within(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
    }

    fn within(limit: u64) -> Shortage {
        Shortage {
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            others: 0,
            learned_at: 0,
            is_scarce: false,
            has_failed: false,
            accept_logged: None,
            lack_logged: None,
        }
    }

    /// A connection was accepted. `connections` counts it too.
    pub fn on_accepted(&mut self, socket: &impl AsRawFd, connections: usize) {
        self.has_failed = false;
        let used = usize::try_from(socket.as_raw_fd()).unwrap_or(0) + 1;
        self.learn(used.saturating_sub(connections), connections);
    }

    /// A file or a socket to an upstream could not be opened because no descriptor was left.
    pub fn on_lacked(&mut self, connections: usize, now: Instant) {
        self.learn(self.limit.saturating_sub(connections), connections);
        if is_due(&mut self.lack_logged, now) {
            log::warn!(
                "no descriptor is left for a file or an upstream: the request gets 503, and idle connections are \
                 closed (raise the limit of open files with ulimit -n)"
            );
        }
    }

    fn learn(&mut self, others: usize, connections: usize) {
        if others >= self.others || connections <= (self.learned_at / 2).max(1) {
            (self.others, self.learned_at) = (others, connections);
        }
        self.owed(connections);
    }

    /// How many of the connections must close, as soon as they are idle.
    pub fn owed(&mut self, connections: usize) -> usize {
        // If others leave little, connections may use half of that.
        let room = self.limit.saturating_sub(self.others);
        let spare = (self.limit / 8).clamp(LEAST_SPARE, MOST_SPARE).min(room / 2);
        let owed = connections.saturating_sub(room - spare);
        self.is_scarce = owed > 0;
        owed
    }

    /// Whether connections had to close when `owed` was last called. Then the next connection takes the place of an
    /// idle one.
    pub fn is_scarce(&self) -> bool {
        self.is_scarce
    }

    /// Call this when accept fails because descriptors or memory have run out. Returns whether closing an idle
    /// connection may help. If accept fails again after that, it did not help: something else takes what becomes free.
    /// Then pause.
    pub fn on_exhausted(&mut self, error: &io::Error, connections: usize, now: Instant) -> bool {
        if Errno::from_io_error(error) == Some(Errno::MFILE) {
            self.learn(self.limit.saturating_sub(connections), connections);
        }
        if is_due(&mut self.accept_logged, now) {
            log::warn!(
                "cannot accept connections for the moment: {error}; idle connections are closed for waiting clients \
                 (raise the limit of open files with ulimit -n)"
            );
        }
        self.has_failed = !self.has_failed;
        self.has_failed
    }
}

/// Whether a line may be logged again.
fn is_due(logged: &mut Option<Instant>, now: Instant) -> bool {
    let is_due = logged.is_none_or(|logged| logged + LOG_AGAIN <= now);
    if is_due {
        *logged = Some(now);
    }
    is_due
}

/// The listeners of a threaded engine.
pub struct Listeners {
    pub sockets: Vec<TcpListener>,
    pub addresses: Vec<SocketAddr>,
    /// If clients wait at several listeners, the index of the one to accept from first.
    pub next: usize,
}

impl Listeners {
    /// Waits for a client. Returns the index of its listener; `WouldBlock` if `ending` is set or the deadline passes.
    pub fn await_client(&mut self, ending: &Latch, deadline: Option<Instant>) -> io::Result<usize> {
        let count = self.sockets.len();
        let fds: Vec<_> = self.sockets.iter().map(AsFd::as_fd).chain([ending.as_fd()]).collect();
        let ready = await_any(&fds, deadline)?;
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
    fn connections_that_take_the_spare_are_owed_until_they_close() {
        for (limit, most) in [(64, 46), (1024, 950), (1 << 20, (1 << 20) - 64 - 10)] {
            let mut shortage = Shortage::within(limit);
            for connections in 1..=most {
                shortage.on_accepted(&Socket(9 + connections as i32), connections);
            }
            assert!(!shortage.is_scarce(), "{limit}");
            shortage.on_accepted(&Socket(10 + most as i32), most + 1);
            assert!(shortage.is_scarce(), "{limit}");
            assert_eq!(shortage.owed(most + 1), 1, "{limit}");
            assert_eq!(shortage.owed(most), 0, "{limit}");
            // A low descriptor that was freed does not show that the shortage is over.
            shortage.on_accepted(&Socket(20), most + 3);
            assert_eq!(shortage.owed(most + 3), 3, "{limit}");
        }
        let mut shortage = Shortage::within(u64::MAX);
        shortage.on_accepted(&Socket(i32::MAX), 1);
        assert!(!shortage.is_scarce());
    }

    #[test]
    fn a_failed_call_shows_how_many_descriptors_others_have() {
        let (mut shortage, now) = (Shortage::within(64), Instant::now());
        shortage.on_accepted(&Socket(10), 1);
        assert_eq!(shortage.owed(30), 0);
        shortage.on_lacked(30, now);
        assert_eq!(shortage.owed(30), 8);
        shortage.on_accepted(&Socket(40), 23);
        assert_eq!(shortage.owed(23), 1, "others may take as many again");
        shortage.on_accepted(&Socket(25), 15);
        assert_eq!(shortage.owed(45), 0, "connections had become few");
        // A limit that leaves less than the spare: others get half of it.
        let mut shortage = Shortage::within(20);
        shortage.on_accepted(&Socket(12), 1);
        assert_eq!([1, 4, 5, 8].map(|connections| shortage.owed(connections)), [0, 0, 1, 4]);
    }

    #[test]
    fn a_connection_is_closed_at_most_once_a_pause_while_that_does_not_help() {
        let (mut shortage, now) = (Shortage::within(64), Instant::now());
        let error = io::Error::from(Errno::NFILE);
        assert_eq!([(); 4].map(|()| shortage.on_exhausted(&error, 9, now)), [true, false, true, false]);
        assert!(shortage.on_exhausted(&error, 9, now));
        shortage.on_accepted(&Socket(63), 10);
        assert!(shortage.on_exhausted(&error, 9, now), "closing a connection has helped");
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
