//! A client that has shut down its side, during one exchange: it may have left, or may wait for the answer. This holds
//! what is known; the session sends the byte that finds out.

use std::time::{Duration, Instant};

/// How long to wait for the answer before the client is probed. Most answers come earlier; a request of a client that
/// has left holds its worker for little longer.
const GRACE: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub struct Presence {
    /// When the client is to be probed. Set when it was seen to send no more.
    due: Option<Instant>,
    is_due: bool,
    pub asked: Asked,
}

/// The byte that was sent as a probe, before the response was ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    #[default]
    Nothing,
    /// The first byte of the status line: the response must not repeat it.
    Ahead,
    /// The same, and the response has begun since.
    Before,
    /// The first byte of a chunk.
    Within,
}

impl Presence {
    pub fn on_ended(&mut self, now: Instant) {
        self.due = Some(now + GRACE);
    }

    /// Whether the client is known to send no more, and has not been probed yet.
    pub fn is_noted(&self) -> bool {
        self.is_due || self.due.is_some()
    }

    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    pub fn is_due(&self) -> bool {
        self.is_due
    }

    pub fn update(&mut self, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            (self.due, self.is_due) = (None, true);
        }
    }

    pub fn on_asked(&mut self, asked: Asked) {
        *self = Presence { asked, ..Presence::default() };
    }
}
