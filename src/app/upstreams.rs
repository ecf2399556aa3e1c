//! The upstreams that requests can be forwarded to: groups of equal upstreams, and which one of a group is next. No
//! socket is here: an engine opens those, and knows an upstream by its `id`.
//!
//! Next is the healthy upstream with the fewest requests in flight; among several such, each in turn. Health is
//! passive: an upstream that could not be reached, or gave no answer, is avoided for `PENALTY`, unless the others are
//! no better. Then one request tries it, and the others avoid it until that request is answered.
//!
//! ```text
//!  well ──no connection, no answer──► ailing ──PENALTY over: picked──► ailing, with one request on its way
//!    ▲                                  ▲└──────────────────────────────────────────────────┤
//!    └────────────an answer─────────────┴──────────no answer────────────────────────────────┘
//! ```

use crate::app::body::temporary::SpoolAccount;
use crate::sync;
use crate::wsgi::supervisor::LeaseError;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How long a failed upstream is avoided: long enough that it delays few requests, short enough that a restart is soon
/// noticed.
const PENALTY: Duration = Duration::from_secs(5);

/// Where an upstream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// A worker process of this pool, started by the server: its sockets are leased from the supervisor, not opened.
    Worker(usize),
}

/// Which idle connections are acceptable for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    Any,
    /// Only those that have been idle for a short time. Servers that close idle connections wait longer, so that the
    /// connection is not closed while the request is on its way. For requests that must not be repeated.
    Recent,
    /// None, since an idle connection has just turned out to be closed.
    Nothing,
}

#[derive(Debug)]
pub struct Upstream {
    /// Different for every upstream of the server, from 0.
    pub id: usize,
    /// Its name in the log: as the user wrote it.
    pub name: String,
    pub address: Address,
    /// Whether it is used only while the others are ailing.
    pub is_spare: bool,
    in_flight: AtomicUsize,
    ailing_until: Mutex<Option<Instant>>,
}

impl Upstream {
    pub fn new(id: usize, name: String, address: Address) -> Upstream {
        Upstream { id, name, address, is_spare: false, in_flight: AtomicUsize::new(0), ailing_until: Mutex::new(None) }
    }

    /// Call this when it could not be reached, or gave no answer.
    pub fn on_failed(&self, now: Instant) {
        *self.ailing_until() = Some(now + PENALTY);
    }

    /// Call this when it has begun to answer.
    pub fn on_answer(&self) {
        if self.ailing_until().take().is_some() {
            log::info!("upstream {}: answers again", self.name);
        }
    }

    fn is_ailing(&self, now: Instant) -> bool {
        self.ailing_until().is_some_and(|until| until > now)
    }

    /// Call this when it is given a request.
    fn on_picked(&self, now: Instant) {
        let mut until = self.ailing_until();
        if until.is_some() {
            // This request finds out whether it is well. The others avoid it until then.
            *until = Some(now + PENALTY);
        }
    }

    fn ailing_until(&self) -> MutexGuard<'_, Option<Instant>> {
        sync::lock(&self.ailing_until)
    }
}

/// Why an exchange has no socket to its upstream.
#[derive(Debug)]
pub enum ConnectError {
    /// No worker is free: the request waits in the queue.
    Queued,
    Lease(LeaseError),
    Io(io::Error),
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> ConnectError {
        ConnectError::Io(error)
    }
}

impl From<LeaseError> for ConnectError {
    fn from(error: LeaseError) -> ConnectError {
        ConnectError::Lease(error)
    }
}

/// Equal upstreams, and how long a request waits for them.
#[derive(Debug)]
pub struct Group {
    pub upstreams: Vec<Arc<Upstream>>,
    /// How long getting a connection may take.
    pub connect_timeout: Duration,
    /// How long an upstream may be silent.
    pub timeout: Duration,
    /// Counts the temporary files of requests and answers that are under way.
    pub spool: Arc<SpoolAccount>,
    /// Counts requests: the search begins at another upstream each time.
    turn: AtomicUsize,
}

impl Group {
    pub fn new(
        upstreams: Vec<Arc<Upstream>>,
        connect_timeout: Duration,
        timeout: Duration,
        spool: &Arc<SpoolAccount>,
    ) -> Group {
        Group { upstreams, connect_timeout, timeout, spool: spool.clone(), turn: AtomicUsize::new(0) }
    }

    /// The next upstream that is not in `tried`; `None` when all have been tried.
    pub fn pick(&self, now: Instant, tried: &[usize]) -> Option<Lease> {
        let count = self.upstreams.len();
        let turn = if count > 1 { self.turn.fetch_add(1, Ordering::Relaxed) } else { 0 };
        // Begin at another one each time: `min_by_key` takes the first of equals.
        let in_turn = (0..count).map(|offset| &self.upstreams[(turn + offset) % count]);
        let untried = in_turn.filter(|upstream| !tried.contains(&upstream.id));
        let load = |upstream: &Upstream| upstream.in_flight.load(Ordering::Relaxed);
        let next = untried.min_by_key(|upstream| (upstream.is_ailing(now), upstream.is_spare, load(upstream)))?;
        next.in_flight.fetch_add(1, Ordering::Relaxed);
        next.on_picked(now);
        Some(Lease(next.clone()))
    }
}

/// An exchange with an upstream, counted as in flight until it is dropped.
#[derive(Debug)]
pub struct Lease(Arc<Upstream>);

impl std::ops::Deref for Lease {
    type Target = Upstream;

    fn deref(&self) -> &Upstream {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_busy_of_the_healthy_is_next() {
        let upstream = |id| Arc::new(Upstream::new(id, id.to_string(), Address::Worker(id)));
        let second = Duration::from_secs(1);
        let group = Group::new((0..3).map(upstream).collect(), second, second, &SpoolAccount::new(0));
        let now = Instant::now();
        let first = group.pick(now, &[]).unwrap();
        let other = group.pick(now, &[]).unwrap();
        assert_eq!((first.id, other.id), (0, 1));
        drop(first);
        let mut picked: Vec<_> = (0..4).map(|_| group.pick(now, &[]).unwrap().id).collect();
        picked.sort();
        assert!(!picked.contains(&1) && picked[0] == 0 && picked[3] == 2, "equals have their turns: {picked:?}");
        group.upstreams[0].on_failed(now);
        assert_eq!(group.pick(now, &[]).unwrap().id, 2);
        assert_eq!(group.pick(now, &[1, 2]).unwrap().id, 0, "ailing is better than nobody");
        assert!(group.pick(now, &[0, 1, 2]).is_none());
    }

    #[test]
    fn one_request_finds_out_whether_an_upstream_is_well_again() {
        let upstream = |id| Arc::new(Upstream::new(id, id.to_string(), Address::Worker(id)));
        let group = Group::new((0..2).map(upstream).collect(), PENALTY, PENALTY, &SpoolAccount::new(0));
        let now = Instant::now();
        group.upstreams[0].on_failed(now);
        let later = now + PENALTY;
        let picked = || (0..10).map(|_| group.pick(later, &[]).unwrap().id).collect::<Vec<_>>();
        assert_eq!(picked().iter().filter(|&&id| id == 0).count(), 1);
        assert!(!picked().contains(&0));
        group.upstreams[0].on_answer();
        assert!(picked().contains(&0));
    }
}
