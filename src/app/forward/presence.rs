//! What is known of a client that sends no more, during one exchange. What is done about it is the session's.

use std::time::{Duration, Instant};

/// Short for who waits for a free worker, long for an answer that is on its way.
const GRACE: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub struct Presence {
    /// When the client is to be asked whether it is there; it was seen to send no more.
    due: Option<Instant>,
    is_due: bool,
    pub asked: Asked,
}

/// What the client has been sent before its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    #[default]
    Nothing,
    /// The first byte of the response, which is not to be sent again.
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

    /// Whether it is known that the client sends no more, and it is not asked yet.
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
