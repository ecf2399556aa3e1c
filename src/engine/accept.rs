//! What a failed accept means. A listener's next client may be accepted at once, or after a pause.

use rustix::io::Errno;
use std::io;
use std::time::Duration;

/// How long accepting pauses when descriptors or threads have run out: long enough not to spin, short
/// enough that no client notices.
pub const PAUSE: Duration = Duration::from_millis(100);

/// What to do after a failed accept.
#[derive(Debug, PartialEq, Eq)]
pub enum AcceptFailure {
    /// No client is waiting: poll.
    Empty,
    /// The client left before it was accepted: accept the next.
    Gone,
    /// Descriptors or memory have run out: pause, and try again. Clients wait in the backlog.
    Exhausted,
}

impl AcceptFailure {
    pub fn of(error: &io::Error) -> AcceptFailure {
        match Errno::from_io_error(error) {
            _ if error.kind() == io::ErrorKind::WouldBlock => AcceptFailure::Empty,
            Some(Errno::CONNABORTED | Errno::INTR | Errno::PROTO) => AcceptFailure::Gone,
            _ => {
                log::warn!("cannot accept connections for the moment: {error}");
                AcceptFailure::Exhausted
            }
        }
    }
}
