//! A probe shows whether a client that has shut down its side is still there: a byte of the response, sent ahead. This
//! holds when the probe is due and which byte was sent during one exchange. `session::probe` chooses the byte.

use std::time::{Duration, Instant};

/// How long to wait for the answer before the client is probed. Most answers come earlier. A client that has left keeps
/// its worker busy for this much longer.
const GRACE: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub struct Probe {
    schedule: Schedule,
    pub sent: SentByte,
}

#[derive(Clone, Copy, Debug, Default)]
enum Schedule {
    /// The client may still be sending, or has been probed already.
    #[default]
    Off,
    /// The client sends no more. It is probed at this moment.
    At(Instant),
    Due,
}

/// The byte that was sent as a probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SentByte {
    #[default]
    None,
    /// The first byte of the status line: it must be left out of the response.
    StatusLine,
    /// The same, and it has been left out of the response.
    StatusLineSkipped,
    /// The first byte of a chunk's size.
    ChunkSize,
}

impl Probe {
    /// The client sends no more.
    pub fn on_client_ended(&mut self, now: Instant) {
        self.schedule = Schedule::At(now + GRACE);
    }

    /// Whether a probe is still to be sent.
    pub fn is_scheduled(&self) -> bool {
        !matches!(self.schedule, Schedule::Off)
    }

    /// When the probe is due, if it is not due yet.
    pub fn at(&self) -> Option<Instant> {
        match self.schedule {
            Schedule::At(at) => Some(at),
            Schedule::Off | Schedule::Due => None,
        }
    }

    pub fn is_due(&self) -> bool {
        matches!(self.schedule, Schedule::Due)
    }

    pub fn update(&mut self, now: Instant) {
        if self.at().is_some_and(|at| at <= now) {
            self.schedule = Schedule::Due;
        }
    }

    pub fn on_sent(&mut self, sent: SentByte) {
        *self = Probe { schedule: Schedule::Off, sent };
    }
}
