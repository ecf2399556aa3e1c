//! Whom requests can be forwarded to: groups of upstreams that do the same, and which of a group is next.
//! No socket: an engine opens those, and knows an upstream by its `id`.
//!
//! The next is the one with the least in flight among those in good health; of several such, each in turn.
//! Health is passive: who could not be reached, or gave no answer, is left alone for `PENALTY`, unless the
//! others are no better. Then one request tries it; the others wait for what that one finds.
//!
//! ```text
//!  well ──no connection, no answer──► ailing ──PENALTY over: picked──► ailing, with one request on its way
//!    ▲                                  ▲└──────────────────────────────────────────────────┤
//!    └────────────an answer─────────────┴──────────no answer────────────────────────────────┘
//! ```

use crate::app::temporary::SpoolAccount;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Long enough that a dead upstream costs few requests a try, short enough that a restart is soon seen.
const PENALTY: Duration = Duration::from_secs(5);

/// Where an upstream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// A process that the server started, of this pool: its sockets are leased, and none is ever opened.
    Worker(usize),
}

/// Which connections that wait idle will do for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    Any,
    /// Those that have not been idle for long: who closes idle connections waits longer than that, so that none is
    /// closed while the request is on its way. For requests that may not be repeated.
    Recent,
    /// None: one has just turned out to be closed.
    Nothing,
}

#[derive(Debug)]
pub struct Upstream {
    /// Different for every upstream of the server, from 0.
    pub id: usize,
    /// How it is named in the log: as the user wrote it.
    pub name: String,
    pub address: Address,
    /// Whether it is only for when the others are ailing.
    pub is_spare: bool,
    in_flight: AtomicUsize,
    ailing_until: Mutex<Option<Instant>>,
}

impl Upstream {
    pub fn new(id: usize, name: String, address: Address) -> Upstream {
        Upstream { id, name, address, is_spare: false, in_flight: AtomicUsize::new(0), ailing_until: Mutex::new(None) }
    }

    /// It could not be reached, or gave no answer.
    pub fn on_failed(&self, now: Instant) {
        *self.ailing_until() = Some(now + PENALTY);
    }

    /// It has begun to answer.
    pub fn on_answer(&self) {
        if self.ailing_until().take().is_some() {
            log::info!("upstream {}: answers again", self.name);
        }
    }

    fn is_ailing(&self, now: Instant) -> bool {
        self.ailing_until().is_some_and(|until| until > now)
    }

    /// It is given a request.
    fn on_picked(&self, now: Instant) {
        let mut until = self.ailing_until();
        if until.is_some() {
            // Whether it is well is known when this one is answered; nobody else has to find out.
            *until = Some(now + PENALTY);
        }
    }

    fn ailing_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.ailing_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Upstreams that do the same, and how long they are waited for.
#[derive(Debug)]
pub struct Group {
    pub upstreams: Vec<Arc<Upstream>>,
    /// Time to get a connection.
    pub connect_timeout: Duration,
    /// How long an upstream may be silent while it is waited for.
    pub timeout: Duration,
    /// What is kept of requests and answers on their way is counted there.
    pub spool: Arc<SpoolAccount>,
    /// Whose turn it is among equals.
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

    /// The next upstream that is none of `tried`.
    pub fn pick(&self, now: Instant, tried: &[usize]) -> Option<Lease> {
        let count = self.upstreams.len();
        let turn = if count > 1 { self.turn.fetch_add(1, Ordering::Relaxed) } else { 0 };
        // From another one each time: of equals the first is taken.
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
