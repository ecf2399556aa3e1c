//! What a session is at, and until when: computed from its state.

use crate::app::App;
use crate::app::exchange::Exchange;
use crate::http::date::Now;
use crate::proto::conn::{Reading, Writing};
use crate::session::{Ending, LINGER, Session};
use std::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Idle,
    Head,
    Receiving,
    Handling,
    Sending,
    Lingering,
    Closed,
}

impl Session {
    pub fn phase(&self) -> Phase {
        if !self.output.is_empty() {
            return Phase::Sending;
        }
        if let Exchange::Forward(forward) = &self.exchange
            && self.ending.is_open()
        {
            return self.forward_phase(forward);
        }
        if matches!(self.conn.writing, Writing::Body(_)) {
            return Phase::Sending;
        }
        if !self.ending.is_open() {
            return if self.must_linger() { Phase::Lingering } else { Phase::Closed };
        }
        match self.conn.reading {
            _ if self.prepares() => Phase::Handling,
            // Empty lines begin no request, nor does the half of one: they win no time.
            Reading::Head if matches!(self.input.filled(), [] | [b'\r']) => Phase::Idle,
            Reading::Head => Phase::Head,
            Reading::Body(_) => Phase::Receiving,
            Reading::Done | Reading::Closed => Phase::Handling,
        }
    }

    /// Since when it has waited for a request of which nothing has come; `None` when it does not.
    pub fn idle_since(&self) -> Option<Instant> {
        (self.phase == Phase::Idle).then_some(self.since)
    }

    /// The phase as `advance` left it. Nothing else changes it but what an `advance` follows.
    pub(super) fn noted_phase(&self) -> Phase {
        debug_assert_eq!(self.phase, self.phase());
        self.phase
    }

    /// When there is something to do at the latest.
    pub fn deadline(&self, app: &App) -> Option<Instant> {
        let phase = self.due().or_else(|| self.limit(app));
        match self.forward() {
            None => phase,
            Some(forward) => phase.into_iter().chain(self.question_due()).chain(forward.room_due()).min(),
        }
    }

    /// When the present phase has lasted too long.
    pub(super) fn limit(&self, app: &App) -> Option<Instant> {
        let timeouts = &app.timeouts;
        let after = match self.noted_phase() {
            Phase::Idle if self.reused => timeouts.keep_alive,
            // Who connects is about to speak.
            Phase::Idle | Phase::Head => timeouts.header,
            Phase::Receiving => timeouts.body,
            Phase::Sending => timeouts.write,
            Phase::Lingering => LINGER,
            Phase::Handling => self.forward()?.patience(),
            Phase::Closed => return None,
        };
        Some(self.since + after)
    }

    /// When the exchange goes on, if time is all it waits for. What is still to be written goes first.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.output.is_empty() { self.exchange.due() } else { None }
    }

    /// Whether the client may still be sending. Closing the socket with unread bytes in it sends a reset, which would
    /// destroy what the client has not read yet. A client that asked for the end of the connection sends nothing behind
    /// its last request.
    fn must_linger(&self) -> bool {
        let Ending::Closing { trailed, .. } = self.ending else { return false };
        let sends_no_more = match self.conn.reading {
            Reading::Head => true,
            Reading::Done => !trailed && !self.last,
            Reading::Body(_) | Reading::Closed => false,
        };
        !self.input_closed && !sends_no_more
    }

    /// A new phase has a new deadline.
    pub(super) fn note_phase(&mut self, now: &Now) {
        let phase = self.phase();
        if phase != self.phase {
            self.phase = phase;
            self.since = now.instant;
        }
    }
}
