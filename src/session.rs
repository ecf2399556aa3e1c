//! The session of one client: the state of the protocol and of the exchange. It decides what to do next, and knows
//! neither sockets nor the clock. The driver calls `next_op`, does that operation, reports the result, and calls
//! `advance`.
//!
//! | phase     | client socket                     | deadline                  | leaves when                          |
//! |-----------|-----------------------------------|---------------------------|--------------------------------------|
//! | Idle      | read                              | keep-alive                | bytes arrive; EOF or shutdown close  |
//! | Head      | read                              | header, from first byte   | complete; refused; expiry 408        |
//! | Receiving | read while the sink has room      | body, since last progress | end of content; refused; expiry 408  |
//! | Handling  | none; with an upstream, both ways | when the exchange is due  | it is due; prepared; answered; 502, 504 |
//! | Sending   | write                             | write, since last progress| all is sent: Idle or Lingering       |
//! |           | none, while a piece is not due    | when the piece is due     |                                      |
//! | Lingering | shut down for writing; read, drop | `LINGER`                  | EOF or expiry                        |
//!
//! A client is owed an answer from the end of its request's head until the response is sent. At shutdown, `LAST_WAIT`
//! limits how long the session waits for a client that is owed none.
//!
//! The phase is computed from the state at the start and at the end of `advance`, and stored with the time at which it
//! began.

mod buffers;
mod ending;
mod forwarding;
mod op;
mod phase;
mod preparing;
mod probe;
mod receiving;
mod scratch;
pub mod testing;

use ending::Ending;
pub use op::{Op, Peer, Ready};
pub use phase::Phase;
pub use scratch::{AHEAD, Scratch};

use crate::app::App;
use crate::app::body::Reply;
use crate::app::body::pulled::Pulled;
use crate::app::exchange::{Exchange, Next};
use crate::app::observe::access_log::{self, Line};
use crate::app::reply::page::Format;
use crate::app::rules::RulesId;
use crate::cost;
use crate::http::date::Now;
use crate::http::request::{Ends, Request};
use crate::http::target::Target;
use crate::http::violation::Violation;
use crate::proto::buffer::Buffer;
use crate::proto::conn::{Conn, HIGH_WATER, Reading, Writing};
use crate::proto::error::CloseReason;
use crate::proto::responder::Responder;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long the client may go on sending after our last byte. Closing with unread bytes would send a reset, which can
/// destroy a response that the client has not read yet.
const LINGER: Duration = Duration::from_secs(2);
/// How long a shutdown waits for a client that is owed no answer. The rest of a head usually arrives within one round
/// trip.
pub const LAST_WAIT: Duration = Duration::from_secs(1);

/// For a request that is not answered at once: the format of its error page and its line for the access log.
#[derive(Debug, Default)]
struct Deferred {
    format: Format,
    line: Line,
}

impl Deferred {
    /// Reuses the memory of `spare`, if there is one.
    fn of(request: &Request, logged: bool, now: &Now, spare: &mut Option<Box<Deferred>>) -> Box<Deferred> {
        let mut deferred = spare.take().unwrap_or_default();
        deferred.format = Format::of(request);
        if logged {
            deferred.line.begin(request, now);
        }
        deferred
    }
}

#[derive(Debug)]
pub struct Session {
    conn: Conn,
    exchange: Exchange,
    /// The rules for the current request: those of its route, once the route is found.
    rules: RulesId,
    deferred: Option<Box<Deferred>>,
    input: Buffer,
    output: Buffer,
    peer: IpAddr,
    ends: Ends,
    /// How many bytes of the input have been searched for the end of a head.
    scanned: usize,
    /// Whether a request has been answered on this connection.
    reused: bool,
    /// The last request may have changed files: re-read the clock before the next pipelined one.
    changed_files: bool,
    /// The client will send nothing more.
    input_closed: bool,
    /// The server is shutting down: the current exchange is the connection's last.
    last: bool,
    ending: Ending,
    /// The phase when `advance` last ended, and the moment its deadline counts from.
    phase: Phase,
    since: Instant,
}

impl Session {
    pub fn new(peer: IpAddr, now: Instant) -> Session {
        Session {
            conn: Conn::default(),
            exchange: Exchange::None,
            rules: RulesId::default(),
            deferred: None,
            input: Buffer::default(),
            output: Buffer::default(),
            peer,
            ends: Ends::default(),
            scanned: 0,
            reused: false,
            changed_files: false,
            input_closed: false,
            last: false,
            ending: Ending::Open,
            phase: Phase::Idle,
            since: now,
        }
    }

    /// Sets the addresses of the connection's two ends.
    pub fn between(mut self, ends: Ends) -> Session {
        self.ends = ends;
        self
    }

    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    // ---- what the session wants, computed from its state

    /// The next operation: one that the session wants and for which its socket is `ready`.
    pub fn next_op(&self, ready: Ready) -> Op {
        if let Exchange::Forward(forward) = &self.exchange {
            return self.next_forward_op(forward, ready);
        }
        let op = self.sole_op();
        if ready.has(op.needs()) { op } else { Op::Wait }
    }

    /// The operation that the session wants while it has no socket to an upstream. Then there is only one.
    fn sole_op(&self) -> Op {
        let has_file = self.file_range().is_some();
        let has_memory = self.memory_range().is_some();
        if !self.output.is_empty() || has_memory {
            return Op::Write { peer: Peer::Client, more: has_file };
        }
        if has_file {
            return Op::SendFile;
        }
        match self.noted_phase() {
            Phase::Closed if self.ending == (Ending::Cut { reset: true }) => Op::Reset,
            Phase::Closed => Op::Close,
            Phase::Lingering if !self.ending.is_shut_down() => Op::ShutdownWrite(Peer::Client),
            Phase::Lingering | Phase::Idle | Phase::Head | Phase::Receiving => Op::Read(Peer::Client),
            Phase::Handling | Phase::Sending => Op::Wait,
        }
    }

    // ---- results of the driver's calls; those of reads and writes are in `buffers`

    pub fn on_shut_down(&mut self, peer: Peer) {
        match (peer, &mut self.exchange) {
            (Peer::Client, _) => self.ending.on_shut_down(),
            (Peer::Upstream, Exchange::Forward(forward)) => forward.on_shut_down(),
            (Peer::Upstream, _) => {}
        }
    }

    /// The client's socket failed: nothing more can be sent.
    pub fn on_failed(&mut self, error: &io::Error, scratch: &mut Scratch) {
        log::debug!("{}: {error}", self.peer);
        if self.conn.status == 0 {
            // For the access log: the client closed the connection before it was answered. nginx logs 499 too.
            self.conn.status = 499;
        }
        self.abort(CloseReason::ClientFailed, scratch);
    }

    /// The server is shutting down: the current exchange is finished, with `Connection: close`.
    #[cold]
    pub fn on_shutdown(&mut self, began: Instant, app: &App, now: &Now) {
        if !self.last {
            self.skip_empty_lines();
            self.note_phase(now);
            self.shorten_wait(began, app);
            self.last = true;
        }
        self.conn.persist = false;
    }

    // ---- progress: bytes move from one state machine to the other

    /// Goes on as far as possible without i/o on the client's socket. `true`: call it again; it stopped only because
    /// its budget is spent, or because the clock must be read before the next request.
    pub fn advance(&mut self, app: &App, now: &Now, scratch: &mut Scratch) -> bool {
        let mut more = false;
        self.skip_empty_lines();
        self.note_phase(now);
        if let Exchange::Forward(forward) = &mut self.exchange {
            forward.probe.update(now.instant);
        }
        // If the exchange is due (a delay has ended, for example), that is not a timeout: `respond` goes on with it.
        if self.limit(app).is_some_and(|deadline| deadline <= now.instant) && self.due().is_none() {
            self.on_expired(app, now, scratch);
        }
        while self.ending.is_open() {
            let moved = match &self.exchange {
                Exchange::Forward(_) => self.exchange_with_upstream(app, now, scratch),
                _ if self.output.len() >= HIGH_WATER => false,
                Exchange::None => self.receive(app, now, scratch) | self.recycle(now),
                _ => self.receive(app, now, scratch) | self.respond(app, now, scratch) | self.recycle(now),
            };
            more = moved && (scratch.work >= cost::ADVANCE || std::mem::take(&mut self.changed_files));
            if !moved || more {
                break;
            }
        }
        if !self.ending.is_open() {
            self.drop_input();
        }
        self.skip_sent_byte();
        self.note_phase(now);
        more
    }

    fn on_expired(&mut self, app: &App, now: &Now, scratch: &mut Scratch) {
        match self.phase {
            Phase::Idle => self.close(CloseReason::Idle),
            Phase::Head => {
                self.refuse(Violation::HeadTooSlow, app, now, scratch);
                if self.last {
                    // `LAST_WAIT` is over: the session does not linger for the rest of the head.
                    self.ending = Ending::Cut { reset: false };
                }
            }
            Phase::Receiving => self.refuse(Violation::BodyTooSlow, app, now, scratch),
            Phase::Sending => self.abort(CloseReason::WriteTimeout, scratch),
            Phase::Lingering => self.ending = Ending::Cut { reset: false },
            Phase::Handling => self.expire_upstream(app, now, scratch),
            Phase::Closed => {}
        }
    }

    /// Takes a head or a piece of content from the input.
    fn receive(&mut self, app: &App, now: &Now, scratch: &mut Scratch) -> bool {
        match (&self.conn.reading, &self.conn.writing) {
            (Reading::Head, Writing::Idle) => self.read_head(app, now, scratch),
            (Reading::Body(_), Writing::Idle) if self.prepares() => false,
            // The rest of the request's content is read after the whole response is written.
            (Reading::Body(_), Writing::Idle | Writing::Done) => self.read_content(app, now, scratch),
            _ => false,
        }
    }

    fn read_head(&mut self, app: &App, now: &Now, scratch: &mut Scratch) -> bool {
        self.skip_empty_lines();
        if self.input.is_empty() {
            if self.input_closed || self.last {
                let reason = if self.last { CloseReason::Shutdown } else { CloseReason::ClientClosed };
                self.close(reason);
            }
            return false;
        }
        match scratch.head.parse(self.input.filled(), &app.head_limits, &mut self.scanned) {
            Ok(true) => self.handle(app, now, scratch),
            Ok(false) if self.input_closed => self.refuse(Violation::Truncated, app, now, scratch),
            Ok(false) => return false,
            Err(violation) => self.refuse(violation, app, now, scratch),
        }
        true
    }

    /// RFC 9112, section 2.2: empty lines before a request line are ignored.
    fn skip_empty_lines(&mut self) {
        while matches!(self.conn.reading, Reading::Head) && self.input.filled().starts_with(b"\r\n") {
            self.input.consume(2);
            self.scanned = 0;
        }
    }

    /// The head of a request is complete: finds its route and lets the handler answer, or begin an exchange.
    fn handle(&mut self, app: &App, now: &Now, scratch: &mut Scratch) {
        let Scratch { head, log, work, spare, .. } = scratch;
        let len = head.len;
        *work += cost::REQUEST + cost::HEAD_BYTE * len;
        self.scanned = 0;
        let bytes = &self.input.filled()[..len];
        let behind = app.clients.behind(self.peer, head, bytes);
        let logged = app.access_log.is_on();
        let parsed = Target::parse(head.method, head.target.of(bytes))
            .and_then(|target| self.conn.on_head(head, bytes).map(|()| target));
        let target = match parsed {
            Ok(target) => target,
            Err(violation) => {
                let client = behind.unwrap_or(self.peer);
                let line = if logged { Line::of_garbage(bytes, client, now) } else { Line::default() };
                self.deferred = Some(Box::new(Deferred { format: Format::of_head(head, bytes), line }));
                return self.refuse(violation, app, now, scratch);
            }
        };
        let has_content = matches!(self.conn.reading, Reading::Body(_));
        let request = Request { bytes, head, target, peer: self.peer, behind, ends: self.ends, has_content };
        if !request.target.plain {
            *work += cost::DECODED_BYTE * request.target.raw_path().len();
        }
        let found = app.routes.find(&request);
        self.rules = found.rules;
        if self.conn.unread().is_some_and(|length| length > app.rules(self.rules).body_size) {
            self.deferred = Some(Deferred::of(&request, logged, now, spare));
            return self.refuse(Violation::BodyTooLarge, app, now, scratch);
        }
        if self.last {
            self.conn.persist = false;
        }
        let responder = Responder::new(&mut self.conn, &mut self.output, now.imf(), &app.rules(self.rules).common);
        let next = app.routes.answer(&found, &request, responder, now);
        match &next {
            Next::Reply(Reply::Done) if logged => {
                access_log::write_line(&request, now, self.conn.status, self.conn.sent, log)
            }
            Next::Reply(Reply::Done) => {}
            // The head is written, so that no error page can follow: the format is not needed.
            Next::Reply(Reply::Stream(_)) if !logged => {}
            _ => self.deferred = Some(Deferred::of(&request, logged, now, spare)),
        }
        self.input.consume(len);
        self.follow(next, app, now, scratch);
    }

    /// Does what a handler's `Next` says.
    fn follow(&mut self, next: Next, app: &App, now: &Now, scratch: &mut Scratch) {
        scratch.work += self.conn.take_work();
        match next {
            Next::Reply(Reply::Done) => {
                debug_assert!(matches!(self.conn.writing, Writing::Done));
                self.exchange = Exchange::None;
                self.log_response(scratch);
            }
            // The response to HEAD has no content.
            Next::Reply(Reply::Stream(_)) if matches!(self.conn.writing, Writing::Done) => {
                self.exchange = Exchange::None;
                self.log_response(scratch);
            }
            Next::Reply(Reply::Stream(body)) => self.exchange = Exchange::Stream(body),
            Next::Sleep(delay) => self.exchange = Exchange::Delay(delay),
            Next::Prepare(preparation) => self.exchange = Exchange::Prepare(preparation),
            Next::Receive(receive) => {
                self.exchange = Exchange::Receive(receive);
                match self.conn.reading {
                    Reading::Body(_) => self.invite_content(),
                    _ => self.finish_receiving(app, now, scratch),
                }
            }
            Next::Forward(forward) => self.begin_forward(forward, scratch),
        }
    }

    /// Begins a delayed response that is due, does a step of its preparation, or moves a piece of its content to the
    /// output.
    fn respond(&mut self, app: &App, now: &Now, scratch: &mut Scratch) -> bool {
        if self.exchange.due().is_some_and(|due| due > now.instant) {
            return false;
        }
        match (&mut self.exchange, &self.conn.writing) {
            (Exchange::Delay(_), _) => self.finish_waiting(app, now, scratch),
            (Exchange::Prepare(_), _) => self.prepare(app, now, scratch),
            (Exchange::Stream(_), Writing::Body(_)) => self.pull(now, scratch),
            _ => false,
        }
    }

    fn pull(&mut self, now: &Now, scratch: &mut Scratch) -> bool {
        let Exchange::Stream(body) = &mut self.exchange else { return false };
        scratch.content.clear();
        match body.pull(&mut scratch.content) {
            Ok(Pulled::Some { cost }) => {
                scratch.work += cost;
                if self.output.is_empty() {
                    // The write timeout begins now: until now there was nothing to send.
                    self.since = now.instant;
                }
                self.conn.encode(&scratch.content, &mut self.output);
            }
            Ok(Pulled::InPlace) => return false,
            Ok(Pulled::End) => {
                self.exchange = Exchange::None;
                self.finish_response(scratch);
            }
            Err(error) => {
                log::warn!("a response broke off: {error}");
                self.abort(CloseReason::SourceBroke, scratch);
            }
        }
        true
    }

    /// Ends the response. If its content is shorter than announced, the connection is aborted.
    fn finish_response(&mut self, scratch: &mut Scratch) {
        if !self.conn.finish(&mut self.output) {
            self.abort(CloseReason::SourceBroke, scratch);
        }
        self.log_response(scratch);
    }

    /// When the exchange is over, makes the session ready for the next one, or ends the connection.
    fn recycle(&mut self, now: &Now) -> bool {
        match (&self.conn.reading, &self.conn.writing) {
            (Reading::Done, Writing::Done) if self.conn.persist && !self.last => {
                self.changed_files = self.conn.is_unsafe && !self.input.is_empty();
                self.conn.recycle();
                self.rules = RulesId::default();
                self.reused = true;
                self.since = now.instant;
                self.phase = Phase::Idle;
                true
            }
            (Reading::Done | Reading::Closed, Writing::Done) => {
                self.close(CloseReason::Done);
                false
            }
            // The connection ends after this response: the rest of the request's content is not read.
            (Reading::Body(_), Writing::Done) if !self.conn.persist => {
                self.close(CloseReason::Done);
                false
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
