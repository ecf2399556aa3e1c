//! How an exchange with an upstream fails, and what is tried before it does: another upstream, or a new
//! connection where the old one had been idle.

use crate::app::forward::{Failure, Flow, Forward, Stage};
use crate::http::date::Now;
use crate::http::status::Status;
use std::io;
use std::time::Instant;

/// As many as there may be workers of an application.
const MOST_TRIED: usize = 1024;

impl Forward {
    /// A call on the socket failed; `reading` when that was a read.
    pub fn on_failed(&mut self, reading: bool, error: &io::Error) {
        let connecting = matches!(self.stage, Stage::Unconnected | Stage::Queued | Stage::Connecting);
        self.deaf = true;
        // Who had the request, though we never had a connection for it, has gone with it: it is not sent again.
        self.fresh |= error.kind() == io::ErrorKind::ConnectionAborted;
        let gone = matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset);
        self.untaken = gone && (reading || connecting) && !self.answer_begun && self.protocol.is_taken_whole();
        if reading || connecting {
            let failure = match connecting {
                true => Failure::of_connect(error),
                false => Failure::bad_gateway(format!("broke the connection: {error}")),
            };
            self.closed = true;
            self.broken = Some(failure);
        } else {
            // It may have answered before it closed: what it said is read first.
            self.output.clear();
        }
    }

    /// The deadline has passed: the failure that this is, unless another upstream is tried.
    pub fn on_expired(&mut self, now: &Now) -> Flow {
        self.expired = true;
        if self.tunnel {
            log::info!("upstream {}: a tunnel was silent for too long and is closed", self.lease.name);
            self.stage = Stage::Over { keep: false };
            return Flow::Complete;
        }
        let (status, reason) = match self.stage {
            Stage::Unconnected | Stage::Connecting => (Status::GATEWAY_TIMEOUT, "did not accept a connection in time"),
            Stage::Queued => (Status::SERVICE_UNAVAILABLE, "had no worker free in time"),
            _ => (Status::GATEWAY_TIMEOUT, "did not answer in time"),
        };
        let failure = Failure { status, reason: reason.into() };
        match self.stage {
            Stage::Unconnected | Stage::Connecting => self.fail(failure, now),
            _ => Flow::Failed(failure),
        }
    }

    /// There was no answer that could be passed on, and that is the upstream's fault.
    pub fn on_no_answer(&self, now: Instant) {
        // A connection that had been idle may well be closed by who is well.
        if !self.reused || self.answer_begun || self.expired {
            self.lease.on_failed(now);
        }
    }

    /// Tries again where that can do no harm, else fails.
    ///
    /// A worker that has gone without beginning with it: any request may go to the next. Nothing written: any
    /// request may go to another upstream. Written to a connection that had been idle, and not a byte heard: the
    /// upstream has most likely closed it before the request came; a request that may be repeated (RFC 9110,
    /// section 9.2.2) goes out once more, on a new one.
    pub(super) fn fail(&mut self, failure: Failure, now: &Now) -> Flow {
        if self.answer_begun || matches!(self.stage, Stage::Over { .. }) {
            return Flow::Failed(failure);
        }
        let unsent = self.written == 0;
        if self.untaken && self.tried.len() < MOST_TRIED {
            // The next one may have gone as well: of all who have, none is leased twice.
            log::debug!("upstream {}: a worker had gone before it took the request, trying another", self.lease.name);
            self.tried.push(self.lease.id);
        } else if self.reused && !self.fresh && (unsent || self.protocol.may_repeat()) {
            log::debug!("upstream {}: an idle connection was closed, trying a new one", self.lease.name);
            self.fresh = true;
        } else if unsent {
            // What this machine lacks says nothing of the upstream.
            if failure.status != Status::SERVICE_UNAVAILABLE {
                self.lease.on_failed(now.instant);
            }
            self.tried.push(self.lease.id);
            let Some(next) = self.group.pick(now.instant, &self.tried) else { return Flow::Failed(failure) };
            log::warn!("upstream {}: {}; trying {}", self.lease.name, failure.reason, next.name);
            (self.lease, self.fresh) = (next, false);
        } else {
            return Flow::Failed(failure);
        }
        if !unsent {
            self.begin();
            if self.content_ended {
                self.protocol.push_end(&mut self.output);
            }
        }
        (self.written, self.closed, self.deaf, self.broken, self.untaken) = (0, false, false, None, false);
        self.expired = false;
        self.stage = Stage::Dropping;
        Flow::Moved
    }
}
