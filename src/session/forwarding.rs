//! The session while its exchange is a `Forward`. Then it has two sockets, the client's and the upstream's. What it
//! wants to do with each is computed from its state.

use crate::app::App;
use crate::app::exchange::Exchange;
use crate::app::forward::{Failure, Flow, Forward, SentByte, Stage};
use crate::app::reply::page;
use crate::app::upstreams::ConnectError;
use crate::http::date::Now;
use crate::http::status::Status;
use crate::proto::conn::{Reading, Writing};
use crate::proto::error::CloseReason;
use crate::proto::responder::Responder;
use crate::session::{Ending, Op, Peer, Phase, Ready, Scratch, Session};
use crate::wsgi::supervisor::Received;
use std::io;
use std::time::Instant;

impl Session {
    /// The `Forward`, if the exchange is one.
    pub fn forward(&self) -> Option<&Forward> {
        match &self.exchange {
            Exchange::Forward(forward) => Some(forward),
            _ => None,
        }
    }

    pub fn forward_mut(&mut self) -> Option<&mut Forward> {
        match &mut self.exchange {
            Exchange::Forward(forward) => Some(forward),
            _ => None,
        }
    }

    /// What to wait for after `Op::Wait`: when one of these is ready, the session can go on.
    pub fn wants(&self) -> Ready {
        match self.forward() {
            Some(forward) => self.wants_both(forward),
            None => self.next_op(Ready::ALL).needs(),
        }
    }

    fn wants_both(&self, forward: &Forward) -> Ready {
        let content = matches!(self.conn.reading, Reading::Body(_)) || forward.is_tunnel();
        let events = if forward.is_tunnel() { Ready::NONE } else { self.client_events(forward) };
        events
            .with_if(!self.output.is_empty(), Ready::CLIENT_WRITE)
            .with_if(forward.wants_output(), Ready::UPSTREAM_WRITE)
            .with_if(forward.wants_input(self.output.len()), Ready::UPSTREAM_READ)
            .with_if(content && forward.has_room() && !self.input_closed, Ready::CLIENT_READ)
    }

    pub(super) fn next_forward_op(&self, forward: &Forward, ready: Ready) -> Op {
        match forward.stage() {
            Stage::Over { keep } => return Op::Release { keep },
            _ if ready.has(Ready::CLIENT_GONE) && !forward.is_tunnel() => return Op::GiveUp,
            Stage::Dropping => return Op::Release { keep: false },
            Stage::Unconnected => return Op::Connect,
            Stage::Queued if ready.has(Ready::UPSTREAM_WRITE) => return Op::Connect,
            _ => {}
        }
        let wants = self.wants_both(forward);
        let can = |what| wants.has(what) && ready.has(what);
        if can(Ready::CLIENT_EOF) {
            return Op::NoteEnd;
        }
        if can(Ready::CLIENT_WRITE) {
            return Op::Write { peer: Peer::Client, more: false };
        }
        if forward.has_upstream_ended() && self.output.is_empty() && !self.ending.is_shut_down() {
            return Op::ShutdownWrite(Peer::Client);
        }
        if forward.wants_upstream_shut_down() {
            return Op::ShutdownWrite(Peer::Upstream);
        }
        if can(Ready::UPSTREAM_WRITE) && forward.stage() != Stage::Queued {
            return Op::Write { peer: Peer::Upstream, more: false };
        }
        match (can(Ready::CLIENT_READ), can(Ready::UPSTREAM_READ)) {
            (true, true) if forward.client_next => Op::Read(Peer::Client),
            (_, true) => Op::Read(Peer::Upstream),
            (true, false) => Op::Read(Peer::Client),
            (false, false) => Op::Wait,
        }
    }

    pub(super) fn forward_phase(&self, forward: &Forward) -> Phase {
        let content = matches!((&self.conn.reading, &self.conn.writing), (Reading::Body(_), Writing::Idle));
        // A client that waits for 100 (Continue) sends nothing yet: its body timeout must not run.
        let invited = !self.conn.wants_continue || self.conn.received > 0;
        if content && invited && forward.awaits_content() { Phase::Receiving } else { Phase::Handling }
    }

    // ---- results of the driver's calls

    pub fn on_connected(&mut self, reused: bool, now: Instant) {
        self.since = now;
        if let Some(forward) = self.forward_mut() {
            forward.on_connected(reused);
        }
    }

    /// A worker's socket is leased, and the worker has the request already. `received`: the beginning of its answer.
    pub fn on_sent(&mut self, received: Received, now: Instant) {
        self.since = now;
        if let Some(forward) = self.forward_mut() {
            forward.on_sent(received);
        }
    }

    pub fn on_queued(&mut self) {
        if let Some(forward) = self.forward_mut() {
            forward.on_queued();
        }
    }

    pub fn on_connect_failed(&mut self, error: &ConnectError) {
        if let Some(forward) = self.forward_mut() {
            forward.on_connect_failed(error);
        }
    }

    pub fn on_upstream_read(&mut self, count: usize, now: Instant) {
        self.note_upstream_progress(now);
        if let Some(forward) = self.forward_mut() {
            forward.on_read(count);
        }
    }

    pub fn on_upstream_written(&mut self, count: usize, now: Instant) {
        self.note_upstream_progress(now);
        if let Some(forward) = self.forward_mut() {
            forward.on_written(count);
        }
    }

    /// A call on the upstream's socket failed.
    pub fn on_upstream_failed(&mut self, op: Op, error: &io::Error) {
        if let Some(forward) = self.forward_mut() {
            forward.on_failed(matches!(op, Op::Read(_)), error);
        }
    }

    /// The upstream's socket has been given back. The session goes on with the rest of the content, or with the next
    /// request.
    pub fn on_released(&mut self, scratch: &mut Scratch) {
        let Exchange::Forward(forward) = &mut self.exchange else { return };
        let rest = forward.on_released();
        if let Stage::Over { .. } = forward.stage() {
            forward.leave_room(&mut scratch.upstream);
            self.exchange = rest.map_or(Exchange::None, Exchange::Stream);
        }
    }

    /// Progress of the upstream moves the deadline. But while output waits for the client, the write timeout runs.
    fn note_upstream_progress(&mut self, now: Instant) {
        if self.phase() == Phase::Handling {
            self.since = now;
        }
    }

    // ---- progress

    pub(super) fn begin_forward(&mut self, mut forward: Box<Forward>, scratch: &mut Scratch) {
        let has_content = matches!(self.conn.reading, Reading::Body(_));
        let is_invited = has_content && forward.gathers();
        if !has_content {
            forward.on_content_end();
        }
        forward.unpark(&mut scratch.upstream);
        self.exchange = Exchange::Forward(forward);
        if is_invited {
            self.invite_content();
        }
    }

    /// Moves bytes between the client's side and the upstream's.
    pub(super) fn exchange_with_upstream(&mut self, app: &App, now: &Now, scratch: &mut Scratch) -> bool {
        let taken = self.feed_upstream(app, now, scratch);
        let Exchange::Forward(forward) = &mut self.exchange else { return taken };
        match forward.advance(&mut self.conn, &mut self.output, &app.rules(self.rules).common, now) {
            Flow::Waiting => taken,
            Flow::Moved => true,
            Flow::Complete => {
                if !self.has_rest() {
                    self.finish_response(scratch);
                }
                true
            }
            Flow::Failed(failure) => {
                self.fail_upstream(&failure, app, now, scratch);
                true
            }
        }
    }

    fn has_rest(&self) -> bool {
        self.forward().is_some_and(Forward::has_rest)
    }

    /// Takes input from the client, if the upstream has room for it.
    fn feed_upstream(&mut self, app: &App, now: &Now, scratch: &mut Scratch) -> bool {
        let Exchange::Forward(forward) = &mut self.exchange else { return false };
        if !forward.has_room() {
            return false;
        }
        if forward.is_tunnel() {
            if !self.input.is_empty() {
                // Fails only for gathered content, and a tunnel gathers none.
                let _ = forward.push(self.input.filled());
                self.input.clear();
                return true;
            }
            if self.input_closed {
                forward.on_content_end();
            }
            return self.input_closed;
        }
        match self.conn.reading {
            Reading::Body(_) => self.read_content(app, now, scratch),
            _ => false,
        }
    }

    pub(super) fn expire_upstream(&mut self, app: &App, now: &Now, scratch: &mut Scratch) {
        let Exchange::Forward(forward) = &mut self.exchange else { return };
        match forward.on_expired(now) {
            Flow::Failed(failure) => self.fail_upstream(&failure, app, now, scratch),
            Flow::Complete => self.finish_response(scratch),
            _ => self.since = now.instant,
        }
    }

    /// The exchange with the upstream has failed: sends the client an error page. If the response has begun, cuts it.
    pub(super) fn fail_upstream(&mut self, failure: &Failure, app: &App, now: &Now, scratch: &mut Scratch) {
        if let Exchange::Forward(forward) = &mut self.exchange {
            log::warn!("upstream {}: {} ({})", forward.upstream().name, failure.reason, failure.status.0);
            let is_its_fault = matches!(failure.status, Status::BAD_GATEWAY | Status::GATEWAY_TIMEOUT);
            if is_its_fault && matches!(self.conn.writing, Writing::Idle) {
                forward.on_no_answer(now.instant);
            }
            forward.abandon();
        }
        if !matches!(self.conn.writing, Writing::Idle) {
            return self.cut(scratch);
        }
        let format = self.format();
        let responder = Responder::new(&mut self.conn, &mut self.output, now.imf(), &app.rules(self.rules).common);
        let mut fields = responder.start(failure.status);
        if failure.status == Status::SERVICE_UNAVAILABLE {
            // Most shortages are over within a second.
            fields.field("Retry-After", "1");
        }
        page::finish_error(format, fields, failure.status, failure.sentence());
        self.log_response(scratch);
    }

    /// Ends a response in its middle, in a way that shows the client that it is incomplete. The output is still sent.
    fn cut(&mut self, scratch: &mut Scratch) {
        // The client could take the `0` of a probe for the last chunk.
        let has_zero = self.forward().is_some_and(|forward| forward.probe.sent == SentByte::ChunkSize);
        let reset = has_zero || self.ends_by_closing();
        self.log_response(scratch);
        self.conn.refuse();
        self.conn.writing = Writing::Done;
        self.end(CloseReason::SourceBroke, Ending::Cut { reset });
    }
}
