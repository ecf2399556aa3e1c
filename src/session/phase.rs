//! The phase and the deadline of a session. Both are computed from its state.

use crate::app::App;
use crate::app::exchange::Exchange;
use crate::http::date::Now;
use crate::proto::conn::{Reading, Writing};
use crate::session::{Ending, LAST_WAIT, LINGER, Session};
use std::time::{Duration, Instant};

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
            // An empty line before a request does not begin the request, so the deadline stays. The same holds for a CR
            // alone.
            Reading::Head if matches!(self.input.filled(), [] | [b'\r']) => Phase::Idle,
            Reading::Head => Phase::Head,
            Reading::Body(_) if !self.prepares() => Phase::Receiving,
            Reading::Body(_) | Reading::Done | Reading::Closed => Phase::Handling,
        }
    }

    /// When the session began to wait for the first byte of a request. `None` in any other phase.
    pub fn idle_since(&self) -> Option<Instant> {
        (self.phase == Phase::Idle).then_some(self.since)
    }

    /// The phase after the last `advance`. It is up to date, because every change of the phase is followed by an
    /// `advance`.
    pub(super) fn noted_phase(&self) -> Phase {
        debug_assert_eq!(self.phase, self.phase());
        self.phase
    }

    /// The time at which the session must be driven again even if nothing is ready.
    pub fn deadline(&self, app: &App) -> Option<Instant> {
        let deadline = self.due().or_else(|| self.limit(app));
        match self.forward() {
            None => deadline,
            Some(forward) => deadline.into_iter().chain(self.probe_due()).chain(forward.room_due()).min(),
        }
    }

    /// The time at which the current phase times out.
    #[inline(always)] // Asked three times a request: out of line it costs 30 instructions each time.
    pub(super) fn limit(&self, app: &App) -> Option<Instant> {
        let timeouts = &app.timeouts;
        let after = match self.noted_phase() {
            Phase::Idle if self.reused => timeouts.keep_alive,
            // A new connection must send its head within the header timeout.
            Phase::Idle | Phase::Head => timeouts.header,
            Phase::Receiving => timeouts.body,
            Phase::Sending => timeouts.write,
            Phase::Lingering => LINGER,
            Phase::Handling => self.forward()?.timeout(),
            Phase::Closed => return None,
        };
        Some(self.since + if self.last { self.at_shutdown(after) } else { after })
    }

    /// How long a wait of `timeout` is while the server is shutting down.
    #[cold]
    fn at_shutdown(&self, timeout: Duration) -> Duration {
        if self.owes_answer() { timeout } else { timeout.min(LAST_WAIT) }
    }

    /// If the client is owed no answer and its deadline is later than `LAST_WAIT` after the shutdown `began`, moves the
    /// deadline to that time.
    pub(super) fn shorten_wait(&mut self, began: Instant, app: &App) {
        let Some(limit) = self.limit(app).filter(|_| !self.owes_answer()) else { return };
        // `limit` will count `LAST_WAIT` from `since`, or less if the timeout is shorter.
        if limit > self.since + LAST_WAIT {
            self.since = self.since.max(began.min(limit - LAST_WAIT));
        }
    }

    /// Whether the whole head of a request has been received and its answer is not sent yet.
    fn owes_answer(&self) -> bool {
        match self.noted_phase() {
            Phase::Idle | Phase::Head | Phase::Lingering | Phase::Closed => false,
            // The rest of a request's content is dropped when the answer is sent.
            Phase::Receiving => !matches!(self.conn.writing, Writing::Done),
            Phase::Handling | Phase::Sending => true,
        }
    }

    /// Whether a shutdown has to end a wait for bytes from this client before the deadline: the client is owed no
    /// answer, and the deadline was computed before the shutdown.
    pub fn is_dispensable(&self) -> bool {
        !self.last && !self.owes_answer()
    }

    /// The time at which the exchange goes on by itself, after a delay for example. `None` while output is still to be
    /// written.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.output.is_empty() { self.exchange.due() } else { None }
    }

    /// Whether the client may still be sending. If so, the session reads on before it closes: closing a socket with
    /// unread bytes sends a reset, which can destroy a response that the client has not read yet. A client that asked
    /// for `Connection: close` sends nothing after its last request.
    fn must_linger(&self) -> bool {
        let Ending::Closing { trailed, .. } = self.ending else { return false };
        let sends_no_more = match self.conn.reading {
            Reading::Head => true,
            Reading::Done => !trailed && !self.last,
            Reading::Body(_) | Reading::Closed => false,
        };
        !self.input_closed && !sends_no_more
    }

    /// If the phase has changed, stores it and the time at which it began. Its deadline counts from that time.
    pub(super) fn note_phase(&mut self, now: &Now) {
        let phase = self.phase();
        if phase != self.phase {
            self.phase = phase;
            self.since = now.instant;
        }
    }
}
