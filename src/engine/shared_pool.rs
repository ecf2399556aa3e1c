//! The threaded engines' connections to upstreams that wait for their next exchange. Any thread may take
//! one; a worker's channel, of which no more can be opened, is waited for.

use crate::app::upstreams::{Address, Upstream};
use crate::driver::Connected;
use crate::engine::latch::Latch;
use crate::engine::pool::Pool;
use crate::engine::{PAUSE, upstream};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

#[derive(Debug, Default)]
pub struct SharedPool {
    pool: Mutex<Pool<OwnedFd>>,
    /// A worker's channel has come back.
    returned: Condvar,
}

impl SharedPool {
    /// A connection: one that is idle unless `fresh`, else a new one; a worker's as soon as one is free,
    /// `WouldBlock` when none was before the deadline.
    pub fn connect(
        &self,
        to: &Upstream,
        fresh: bool,
        deadline: Option<Instant>,
        cut: &Latch,
    ) -> io::Result<(OwnedFd, Connected)> {
        let worker = to.address == Address::Worker;
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            while let Some(socket) = pool.take(to.id).filter(|_| worker || !fresh) {
                if upstream::is_fit(&socket) {
                    return Ok((socket, Connected::Reused));
                }
            }
            if !worker {
                drop(pool);
                return Ok((upstream::connect(&to.address)?, Connected::New));
            }
            if cut.is_set() || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            // In slices, so that the end of the grace period is heard.
            let left = deadline.map_or(PAUSE, |deadline| deadline.saturating_duration_since(Instant::now()));
            pool = self.returned.wait_timeout(pool, left.min(PAUSE)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes a connection back that can be used again.
    pub fn put(&self, to: usize, worker: bool, socket: OwnedFd, now: Instant) {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(old) = pool.expire(now) {
            drop(old);
        }
        if worker {
            pool.put_worker(to, socket);
            self.returned.notify_all();
        } else {
            pool.put(to, socket, now);
        }
    }
}
