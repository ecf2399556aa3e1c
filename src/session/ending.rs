//! How an exchange or a connection ends early: refused, closed, cut or aborted. Also the access log's line of a
//! deferred request, which is written once.

use crate::app::App;
use crate::app::exchange::Exchange;
use crate::app::observe::access_log::Line;
use crate::app::reply::page::{self, Format};
use crate::http::date::Now;
use crate::http::violation::Violation;
use crate::proto::conn::{Encoder, Reading, Writing};
use crate::proto::error::CloseReason;
use crate::proto::responder::Responder;
use crate::session::{Deferred, Scratch, Session};

/// How far the connection is on its way to being closed.
///
/// ```text
///  Open ──the upstream of a tunnel has ended──► HalfClosed
///   └──────────────┬────────────────────────────────┘
///                  ├──close──────► Closing ──lingered too long, abort──┐
///                  └──abort, cut───────────────────────────────────────┴──► Cut
/// ```
/// `Phase::Closed` is computed: the output is sent, and the session is `Cut`, or is `Closing` and need not linger.
// `repr(u8)` gives the enum a tag byte. Without it the tag is stored in a niche of the `bool`s, and `is_open`, which
// runs ten times per request, takes three more instructions.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Open,
    /// The upstream of a tunnel sends no more, and the client's socket is shut down for writing. The client may still
    /// be sending.
    HalfClosed,
    /// First the rest of the output is sent. Then the session lingers if the client may still be sending.
    Closing {
        /// Bytes have come after the last request: more of them may be unread.
        trailed: bool,
        /// The client's socket is shut down for writing.
        shut_down: bool,
    },
    /// First the rest of the output is sent. Then the socket is closed without lingering; if `reset`, by a reset.
    Cut {
        reset: bool,
    },
}

impl Ending {
    /// Whether the session goes on with its exchange, or with the next request.
    #[inline]
    pub fn is_open(self) -> bool {
        matches!(self, Ending::Open | Ending::HalfClosed)
    }

    /// Whether the client's socket is shut down for writing.
    pub fn is_shut_down(self) -> bool {
        matches!(self, Ending::HalfClosed | Ending::Closing { shut_down: true, .. })
    }

    pub fn on_shut_down(&mut self) {
        match self {
            Ending::Open => *self = Ending::HalfClosed,
            Ending::Closing { shut_down, .. } => *shut_down = true,
            Ending::HalfClosed | Ending::Cut { .. } => {}
        }
    }
}

impl Session {
    /// Answers a request that broke a rule with an error page, and ends the connection: later bytes are not parsed.
    pub(super) fn refuse(&mut self, violation: Violation, app: &App, now: &Now, scratch: &mut Scratch) {
        let format = self.format();
        let begun = !matches!(self.conn.writing, Writing::Idle);
        // The response to HEAD has no content, even if the rest of the head is broken.
        if matches!(self.conn.reading, Reading::Head) {
            self.conn.head_only = self.input.filled().starts_with(b"HEAD ");
        }
        self.end_exchange();
        self.conn.refuse();
        log::debug!("{}: {}", self.peer, CloseReason::Refused(violation));
        if !begun {
            if self.deferred.is_none() && app.access_log.is_on() {
                let line = Line::of_garbage(self.input.filled(), self.peer, now);
                self.deferred = Some(Box::new(Deferred { format, line }));
            }
            let responder = Responder::new(&mut self.conn, &mut self.output, now.imf(), &app.rules(self.rules).common);
            page::error(format, responder, violation.status(), violation.sentence());
            self.log_response(scratch);
        }
        // The response has begun, and cannot be completed any more.
        if let Writing::Body(_) = self.conn.writing {
            return self.abort(CloseReason::Refused(violation), scratch);
        }
        self.close(CloseReason::Refused(violation));
    }

    /// Drops the exchange. A `Forward` is dropped later, when the upstream's socket has been given back.
    pub(super) fn end_exchange(&mut self) {
        match &mut self.exchange {
            Exchange::Forward(forward) => forward.abandon(),
            other => *other = Exchange::None,
        }
    }

    /// Ends the connection after the output is sent.
    pub(super) fn close(&mut self, reason: CloseReason) {
        if self.ending.is_open() {
            self.end(reason, Ending::Closing { trailed: false, shut_down: self.ending.is_shut_down() });
        }
    }

    /// Ends the connection at once: what is left in the output cannot be sent.
    pub(super) fn abort(&mut self, reason: CloseReason, scratch: &mut Scratch) {
        let reset = self.ends_by_closing() || self.ending == (Ending::Cut { reset: true });
        self.log_response(scratch);
        self.output.clear();
        self.end_exchange();
        self.conn.writing = Writing::Done;
        self.end(reason, Ending::Cut { reset });
    }

    pub(super) fn end(&mut self, reason: CloseReason, ending: Ending) {
        if self.ending.is_open() {
            log::trace!("{}: closing: {reason}", self.peer);
        }
        self.ending = ending;
    }

    /// Whether the close of the connection marks the end of the content. Then only a reset shows that the content is
    /// truncated.
    pub(super) fn ends_by_closing(&self) -> bool {
        matches!(self.conn.writing, Writing::Body(Encoder::UntilClose))
    }

    /// On a connection that ends: drops what the client has sent.
    pub(super) fn drop_input(&mut self) {
        if let Ending::Closing { trailed, .. } = &mut self.ending {
            *trailed |= !self.input.is_empty();
        }
        self.input.clear();
    }

    pub(super) fn format(&self) -> Format {
        self.deferred.as_ref().map(|deferred| deferred.format).unwrap_or_default()
    }

    /// Writes the access log's line of a deferred request, once.
    pub(super) fn log_response(&mut self, scratch: &mut Scratch) {
        if let Some(mut deferred) = self.deferred.take() {
            deferred.line.end(self.conn.status, self.conn.sent, &mut scratch.log);
            scratch.spare = Some(deferred);
        }
    }
}
