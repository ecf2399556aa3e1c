//! Idle connections to upstreams. The most recently used is taken first: the upstream is least likely to have closed
//! it. The others reach their age limit and are closed.
//!
//! `T` is a key for the event engine, and a socket for the threaded engines.

use crate::app::upstreams::Reuse;
use std::time::{Duration, Instant};

/// Idle connections kept for one upstream: about as many as a loop can have in flight there.
const PER_UPSTREAM: usize = 64;
/// How long a connection may be idle. Servers close idle connections after different times (gunicorn 2 s, Node.js 5 s,
/// nginx 75 s). If one is used that the upstream has closed, the request is retried at worst.
const IDLE: Duration = Duration::from_secs(30);
/// The limit of `Reuse::Recent`: shorter than any server waits before it closes an idle connection.
const RECENT: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Idle<T> {
    upstream: usize,
    connection: T,
    until: Instant,
}

#[derive(Debug)]
pub struct UpstreamPool<T> {
    /// In the order in which they became idle, which is also the order in which they expire.
    idle: Vec<Idle<T>>,
}

impl<T> Default for UpstreamPool<T> {
    fn default() -> UpstreamPool<T> {
        UpstreamPool { idle: Vec::new() }
    }
}

impl<T> UpstreamPool<T> {
    /// Keeps a connection. If the upstream has too many, returns its oldest: close it.
    pub fn put(&mut self, upstream: usize, connection: T, now: Instant) -> Option<T> {
        let of_this = |idle: &Idle<T>| idle.upstream == upstream;
        let full = self.idle.iter().filter(|idle| of_this(idle)).count() >= PER_UPSTREAM;
        let oldest = self.idle.iter().position(of_this).filter(|_| full);
        let surplus = oldest.map(|at| self.idle.remove(at).connection);
        self.idle.push(Idle { upstream, connection, until: now + IDLE });
        surplus
    }

    /// Takes the most recently used connection to an upstream, if `reuse` allows it.
    pub fn take(&mut self, upstream: usize, reuse: Reuse, now: Instant) -> Option<T> {
        let at = self.idle.iter().rposition(|idle| idle.upstream == upstream)?;
        let fits = match reuse {
            Reuse::Any => true,
            Reuse::Recent => self.idle[at].until + RECENT > now + IDLE,
            Reuse::Nothing => false,
        };
        if !fits {
            return None;
        }
        Some(self.idle.remove(at).connection)
    }

    /// When the next connection expires.
    pub fn next(&self) -> Option<Instant> {
        self.idle.first().map(|idle| idle.until)
    }

    /// Takes out a connection that has expired, if there is one.
    pub fn expire(&mut self, now: Instant) -> Option<T> {
        self.next().filter(|until| *until <= now)?;
        Some(self.idle.remove(0).connection)
    }

    /// Drops the connections that `keep` refuses.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.idle.retain(|idle| keep(&idle.connection));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_used_is_taken_and_the_oldest_goes() {
        let now = Instant::now();
        let mut pool = UpstreamPool::default();
        for connection in 0..PER_UPSTREAM {
            assert_eq!(pool.put(7, connection, now), None);
        }
        assert_eq!(pool.put(8, 1000, now), None);
        assert_eq!(pool.put(7, 1001, now + IDLE / 2), Some(0));
        assert_eq!(pool.take(7, Reuse::Nothing, now), None);
        assert_eq!(pool.take(7, Reuse::Recent, now + IDLE / 2 + RECENT), None);
        assert_eq!(pool.take(7, Reuse::Recent, now + IDLE / 2 + RECENT / 2), Some(1001));
        assert_eq!(pool.take(8, Reuse::Any, now + IDLE / 2), Some(1000));
        assert_eq!(pool.take(8, Reuse::Any, now), None);
        assert_eq!(pool.expire(now), None);
        assert_eq!(pool.expire(now + IDLE), Some(1));
        pool.retain(|connection| connection % 2 == 0);
        assert_eq!(pool.take(7, Reuse::Any, now), Some(62));
        assert!(pool.next().is_some());
    }
}
