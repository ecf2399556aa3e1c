//! Whom requests can be forwarded to: groups of upstreams that do the same, and which of a group is next.
//! No socket: an engine opens those, and knows an upstream by its `id`.
//!
//! The next is the one with the least in flight among those in good health. Health is passive: who could
//! not be reached is left alone for `PENALTY`, unless the others could not be reached either.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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

#[derive(Debug)]
pub struct Upstream {
    /// Different for every upstream of the server, from 0.
    pub id: usize,
    /// How it is named in the log: as the user wrote it.
    pub name: String,
    pub address: Address,
    in_flight: AtomicUsize,
    ailing_until: Mutex<Option<Instant>>,
}

impl Upstream {
    pub fn new(id: usize, name: String, address: Address) -> Upstream {
        Upstream { id, name, address, in_flight: AtomicUsize::new(0), ailing_until: Mutex::new(None) }
    }

    /// It could not be reached.
    pub fn on_unreachable(&self, now: Instant) {
        *self.ailing_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(now + PENALTY);
    }

    fn is_ailing(&self, now: Instant) -> bool {
        self.ailing_until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| until > now)
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
}

impl Group {
    /// The next upstream that is none of `tried`.
    pub fn pick(&self, now: Instant, tried: &[usize]) -> Option<Lease> {
        let untried = self.upstreams.iter().filter(|upstream| !tried.contains(&upstream.id));
        let next =
            untried.min_by_key(|upstream| (upstream.is_ailing(now), upstream.in_flight.load(Ordering::Relaxed)))?;
        next.in_flight.fetch_add(1, Ordering::Relaxed);
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
        let upstreams = (0..3).map(upstream).collect();
        let group = Group { upstreams, connect_timeout: second, timeout: second };
        let now = Instant::now();
        let first = group.pick(now, &[]).unwrap();
        let other = group.pick(now, &[]).unwrap();
        assert_eq!((first.id, other.id), (0, 1));
        drop(first);
        assert_eq!(group.pick(now, &[]).unwrap().id, 0);
        group.upstreams[0].on_unreachable(now);
        assert_eq!(group.pick(now, &[]).unwrap().id, 2);
        assert_eq!(group.pick(now, &[1, 2]).unwrap().id, 0, "ailing is better than nobody");
        assert!(group.pick(now, &[0, 1, 2]).is_none());
        assert_eq!(group.pick(now + PENALTY, &[1, 2]).unwrap().id, 0);
    }
}
