//! How an exchange or a connection comes to its end before its time: refused, closed, aborted; and the line in
//! the log that each request gets once.

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

impl Session {
    /// Answers a request that broke a rule, and ends the connection: no byte behind it is a request.
    pub(super) fn refuse(&mut self, violation: Violation, app: &App, now: &Now, scratch: &mut Scratch) {
        self.refuse_in(self.format(), violation, app, now, scratch);
    }

    pub(super) fn refuse_in(
        &mut self,
        format: Format,
        violation: Violation,
        app: &App,
        now: &Now,
        scratch: &mut Scratch,
    ) {
        let begun = !matches!(self.conn.writing, Writing::Idle);
        // No content to a HEAD, however broken what stands behind its method.
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
            let responder = Responder::new(&mut self.conn, &mut self.output, now.imf(), &app.common);
            page::error(format, responder, violation.status(), violation.sentence());
            self.log_response(scratch);
        }
        // Content under way both ways: the response can't be whole any more.
        if let Writing::Body(_) = self.conn.writing {
            return self.abort(CloseReason::Refused(violation), scratch);
        }
        self.close(CloseReason::Refused(violation));
    }

    /// Lets the exchange go; an upstream's socket is given back first.
    pub(super) fn end_exchange(&mut self) {
        match &mut self.exchange {
            Exchange::Forward(forward) => forward.abandon(),
            other => *other = Exchange::None,
        }
    }

    /// Ends the connection once what was said is sent.
    pub(super) fn close(&mut self, reason: CloseReason) {
        if self.closing.is_none() {
            log::trace!("{}: closing: {reason}", self.peer);
            self.closing = Some(reason);
        }
    }

    /// Ends the connection at once: nothing that is left to say can be said.
    pub(super) fn abort(&mut self, reason: CloseReason, scratch: &mut Scratch) {
        self.note_cut();
        self.log_response(scratch);
        self.output.clear();
        self.end_exchange();
        self.conn.writing = Writing::Done;
        self.input_closed = true;
        self.close(reason);
    }

    /// Where closing is what ends the content, only a reset tells that it has not come to its end.
    pub(super) fn note_cut(&mut self) {
        self.reset |= matches!(self.conn.writing, Writing::Body(Encoder::UntilClose));
    }

    pub(super) fn format(&self) -> Format {
        self.deferred.as_ref().map(|deferred| deferred.format).unwrap_or_default()
    }

    /// Logs a request whose line was kept; once.
    pub(super) fn log_response(&mut self, scratch: &mut Scratch) {
        if let Some(mut deferred) = self.deferred.take() {
            deferred.line.end(self.conn.status, self.conn.sent, &mut scratch.log);
            scratch.spare = Some(deferred);
        }
    }
}
