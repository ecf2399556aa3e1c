//! The idle connections of the threaded engines to upstreams. Any thread may take one.

use crate::app::upstreams::{Reuse, Upstream};
use crate::driver::Connected;
use crate::engine::upstream::pool::UpstreamPool;
use crate::engine::upstream::socket::UpstreamConnection;
use crate::sync::lock;
use std::io;
use std::sync::Mutex;
use std::time::Instant;

#[derive(Debug, Default)]
pub struct SharedPool {
    pool: Mutex<UpstreamPool<UpstreamConnection>>,
}

impl SharedPool {
    /// Gets a connection to an upstream: an idle one if `reuse` allows it, else a new one.
    pub fn connect(&self, to: &Upstream, reuse: Reuse, now: Instant) -> io::Result<(UpstreamConnection, Connected)> {
        let mut pool = lock(&self.pool);
        while let Some(connection) = pool.take(to.id, reuse, now) {
            if connection.is_fit() {
                return Ok((connection, Connected::Reused));
            }
        }
        drop(pool);
        Ok((UpstreamConnection::open(to)?, Connected::New))
    }

    /// Keeps a connection that can be used again.
    pub fn put(&self, connection: UpstreamConnection, now: Instant) {
        let mut pool = lock(&self.pool);
        while let Some(old) = pool.expire(now) {
            drop(old);
        }
        pool.put(connection.upstream, connection, now);
    }
}
