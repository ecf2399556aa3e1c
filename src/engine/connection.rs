//! A connection of a threaded engine as other threads see it, and how they end the waits of its thread.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What other threads know of a connection.
pub struct Connection {
    pub socket: TcpStream,
    pub peer: SocketAddr,
    /// The listener's address.
    pub local: SocketAddr,
    /// Its time counts from the engine's start.
    pub waiting: Waiting,
}

/// For what a connection's thread waits, as other threads see it. They may end two of its waits: the one that swaps the
/// value decides, another thread or the connection's own.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Since when it waits for a request, in nanoseconds from the engine's start and at least 1; 0 while it does not.
    /// Then its own thread serves a request, or another thread ends the connection.
    pub idle: AtomicU64,
    /// It reads from a client that is owed no answer, and does not know of a shutdown.
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

    /// Ends the wait of its thread for a client that is owed no answer.
    pub fn end_dispensable(&self) {
        if self.waiting.dispensable.swap(false, Ordering::SeqCst) {
            self.end_recv();
        }
    }

    fn end_recv(&self) {
        // It fails when the client has gone, and then recv has returned.
        let _ = self.socket.shutdown(Shutdown::Read);
    }
}
