//! A connection of a threaded engine: the part that other threads use, to end a wait of the connection's thread.

use crate::engine::idle::{self, IdleSearch, Seen};
use slab::Slab;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What other threads know of a connection.
pub struct Connection {
    pub socket: TcpStream,
    pub peer: SocketAddr,
    /// The listener's address.
    pub local: SocketAddr,
    pub waiting: Waiting,
    /// The last field: fields are dropped in order, and this counts the connection until its socket is closed.
    pub open: Open,
}

/// Counts open connections.
#[derive(Debug)]
pub struct Open(Arc<AtomicUsize>);

impl Open {
    pub fn count(count: &Arc<AtomicUsize>) -> Open {
        count.fetch_add(1, Ordering::SeqCst);
        Open(count.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a connection's thread waits for. Another thread may end two kinds of wait. Both the connection's own thread and
/// the other one swap the value: the first to swap decides.
#[derive(Debug, Default)]
pub struct Waiting {
    /// When the thread began to wait for a request: nanoseconds since the engine's start, at least 1. 0 while it does
    /// not wait. If its own thread swaps it to 0, the thread serves the request. If another thread does, the connection
    /// ends.
    pub idle: AtomicU64,
    /// The thread reads from a client that is owed no answer, and has not seen a shutdown.
    pub dispensable: AtomicBool,
}

impl Connection {
    /// Ends the connection if its thread waits for a request. Returns whether it did.
    pub fn end_idle(&self) -> bool {
        let was_idle = self.waiting.idle.swap(0, Ordering::SeqCst) != 0;
        if was_idle {
            self.end_recv();
        }
        was_idle
    }

    /// Ends the wait of its thread if it waits for a client that is owed no answer.
    pub fn end_dispensable(&self) {
        if self.waiting.dispensable.swap(false, Ordering::SeqCst) {
            self.end_recv();
        }
    }

    /// `began`: the start of the times in `Waiting::idle`.
    fn seen(&self, began: Instant) -> Seen {
        let since = self.waiting.idle.load(Ordering::Relaxed);
        Seen { peer: self.peer.ip(), idle_since: (since != 0).then(|| began + Duration::from_nanos(since)) }
    }

    fn end_recv(&self) {
        // Fails only if the connection is closed. Then recv has returned already.
        let _ = self.socket.shutdown(Shutdown::Read);
    }
}

/// Ends an idle connection. Returns whether there was one. `began`: the start of the times in `Waiting::idle`.
pub fn end_an_idle(connections: &Slab<Arc<Connection>>, search: &mut IdleSearch, began: Instant) -> bool {
    let (now, look) = (Instant::now(), |key| connections.get(key).map(|connection| connection.seen(began)));
    while let Some(connection) = search.find(now, connections.capacity(), look).and_then(|key| connections.get(key)) {
        if idle::is_silent(&connection.socket) && connection.end_idle() {
            log::debug!("{}: closed while idle, to make room", connection.peer.ip());
            return true;
        }
    }
    false
}
