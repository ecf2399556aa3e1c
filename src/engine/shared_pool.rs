//! The idle connections of the threaded engines to upstreams. Any thread may take one.

use crate::app::upstreams::{Reuse, Upstream};
use crate::driver::Connected;
use crate::engine::pool::Pool;
use crate::engine::upstream;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

#[derive(Debug, Default)]
pub struct SharedPool {
    pool: Mutex<Pool<Arc<OwnedFd>>>,
}

impl SharedPool {
    /// A connection: an idle one that is acceptable by `reuse`, else a new one.
    pub fn connect(&self, to: &Upstream, reuse: Reuse, now: Instant) -> io::Result<(Arc<OwnedFd>, Connected)> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(socket) = pool.take(to.id, reuse, now) {
            if upstream::is_fit(&socket, &to.name) {
                return Ok((socket, Connected::Reused));
            }
        }
        drop(pool);
        Ok((Arc::new(upstream::connect(&to.address)?), Connected::New))
    }

    /// Keeps a connection that can be used again.
    pub fn put(&self, to: usize, socket: Arc<OwnedFd>, now: Instant) {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(old) = pool.expire(now) {
            drop(old);
        }
        pool.put(to, socket, now);
    }
}
