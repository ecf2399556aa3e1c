//! A request that an upstream answers: an HTTP server, or a Python worker of our own. A `Forward` owns the buffers for
//! the upstream and the state of the protocol spoken with it. It has no socket and no clock. `Protocol` hides the
//! differences between the protocols: neither session nor engine knows which one is spoken.
//!
//! ```text
//!  Gathering ──content whole──► Unconnected ──► Connecting ──first byte written──► Open ──► Over ──► released
//!                                │  ▲  └─none free─► Queued ──given one──► Open     │ └─101─► Tunnel ──► Over
//!                                │  └──new Attempt── Dropping ◄──failed, may retry──┤
//!                                └─no other left─► failed: 502, 503, 504 ◄──────────┘
//!
//!  client ─► push ─► (gathered) ─► output ─► upstream ─► input ─► protocol ─► (spool) ─► the client's output
//! ```
//! Back-pressure: the client's content is read while `has_room`, the upstream is read while `wants_input`.

mod attempt;
mod failing;
pub mod fields;
pub mod http;
pub mod paths;
mod probe;
pub mod protocol;
mod protocols;
pub mod rewrite;
mod room;
pub mod wsgi;

pub use probe::{Probe, SentByte};
pub use protocol::{CutByShutdown, Failure};
pub use protocols::Protocol;

use crate::app::body::Body;
use crate::app::body::buffered::Buffered;
use crate::app::body::spool::Spool;
use crate::app::forward::attempt::{Attempt, Fault, Inbound, Outbound, Progress};
use crate::app::forward::protocol::{ROOM, ResponseSink, Step, UpstreamInput};
use crate::app::upstreams::{Group, InFlight, Reuse, Upstream};
use crate::http::date::Now;
use crate::proto::buffer::Buffer;
use crate::proto::conn::{Conn, HIGH_WATER};
use crate::proto::responder::Common;
use crate::wsgi::supervisor::{Handback, Received};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of the first read of an answer.
const FIRST_ROOM: usize = 16 * 1024;

/// How far the upstream's connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The request's content is received in full before the upstream is asked.
    Gathering,
    Unconnected,
    /// No worker is free: the request waits until one is.
    Queued,
    /// Nothing has been written yet.
    Connecting,
    Open,
    /// Bytes are passed both ways unchanged.
    Tunnel,
    /// The connection is given back, and another one is tried.
    Dropping,
    /// The exchange with the upstream is over, whether it succeeded or not.
    Over {
        /// The connection can carry another exchange.
        keep: bool,
    },
}

/// The result of `advance` and of `on_expired`.
#[derive(Debug)]
pub enum Flow {
    /// Nothing moved: wait for a socket or for the deadline.
    Waiting,
    /// Call `advance` again.
    Moved,
    /// The upstream is no longer needed. Content that is not in the output yet comes with `on_released`.
    Complete,
    /// No other attempt is possible: the client gets an error, or its response is cut.
    Failed(Failure),
}

#[derive(Debug)]
pub struct Forward {
    group: Arc<Group>,
    lease: InFlight,
    /// The ids of the upstreams that have failed for this request.
    tried: Vec<usize>,
    stage: Stage,
    protocol: Protocol,
    attempt: Attempt,
    output: Buffer,
    /// The request's content, if it is received in full before the upstream is asked, and how many bytes of it have been
    /// moved to the output.
    gathered: Option<(Buffered, u64)>,
    /// The client's content is complete; in a tunnel, the client sends no more.
    content_ended: bool,
    /// Content of the response that the client's output has no room for yet.
    spool: Spool,
    /// The spool has no room: when to try again.
    spool_retry: Option<Instant>,
    /// Content of the response that is sent after the upstream is released.
    rest: Option<Body>,
    /// Which side is read next when both can be: true if the upstream was read last.
    pub client_next: bool,
    pub probe: Probe,
}

impl Forward {
    /// Begins an exchange with the next upstream of the group; `None` when the group is empty. `gathers`: the content
    /// is received in full before the upstream is asked.
    pub fn new(group: Arc<Group>, protocol: Protocol, gathers: bool, now: Instant) -> Option<Forward> {
        let lease = group.pick(now, &[])?;
        let gather = if protocol.passes_files() { Buffered::passed_on } else { Buffered::new };
        let (spool, gathered) = (Spool::new(&group.spool), gathers.then(|| (gather(&group.spool), 0)));
        let mut forward = Forward {
            group,
            lease,
            tried: Vec::new(),
            stage: Stage::Unconnected,
            protocol,
            attempt: Attempt::default(),
            output: Buffer::default(),
            gathered,
            content_ended: false,
            spool,
            spool_retry: None,
            rest: None,
            client_next: false,
            probe: Probe::default(),
        };
        match gathers {
            true => forward.stage = Stage::Gathering,
            false => forward.begin(),
        }
        Some(forward)
    }

    // ---- what the session has to do next

    pub fn stage(&self) -> Stage {
        self.stage
    }

    pub fn upstream(&self) -> &Upstream {
        &self.lease
    }

    /// Which idle connections are acceptable.
    pub fn reuse(&self) -> Reuse {
        match self.attempt.new_only {
            true => Reuse::Nothing,
            false if self.protocol.may_repeat(self.gathered.is_some()) => Reuse::Any,
            false => Reuse::Recent,
        }
    }

    pub fn is_tunnel(&self) -> bool {
        self.stage == Stage::Tunnel
    }

    pub fn gathers(&self) -> bool {
        self.stage == Stage::Gathering
    }

    /// Whether `push` can take more of the client's content.
    pub fn has_room(&self) -> bool {
        let over = matches!(self.stage, Stage::Over { .. });
        let takes = self.attempt.outbound != Outbound::Failed;
        !over && !self.content_ended && takes && self.output.len() < HIGH_WATER
    }

    /// Whether the exchange waits for the client to send content.
    pub fn awaits_content(&self) -> bool {
        !self.is_tunnel() && self.has_room() && self.output.is_empty() && self.stage != Stage::Connecting
    }

    pub fn wants_output(&self) -> bool {
        match self.stage {
            Stage::Connecting | Stage::Queued => true,
            Stage::Open | Stage::Tunnel => !self.output.is_empty(),
            _ => false,
        }
    }

    /// Whether the upstream should be read. `client_backlog`: bytes that the client has not taken yet.
    pub fn wants_input(&self, client_backlog: usize) -> bool {
        let has_room = match self.stage {
            Stage::Open => self.spool_retry.is_none(),
            Stage::Tunnel => client_backlog < HIGH_WATER,
            _ => return false,
        };
        let Attempt { input, inbound, .. } = &self.attempt;
        has_room && !inbound.is_closed() && input.len() < self.protocol.largest_head()
    }

    /// Whether the upstream of a tunnel has closed its side, and all that it sent has been passed to the client. Then
    /// the client's socket has to be shut down for writing.
    pub fn has_upstream_ended(&self) -> bool {
        self.is_tunnel() && self.attempt.inbound.is_closed() && self.attempt.input.is_empty()
    }

    /// Whether the client of a tunnel has closed its side. Then the upstream's socket has to be shut down for writing.
    pub fn wants_upstream_shut_down(&self) -> bool {
        self.is_tunnel() && self.content_ended && self.output.is_empty() && self.attempt.outbound == Outbound::Open
    }

    /// How long the current stage may last without progress.
    pub fn timeout(&self) -> Duration {
        match self.stage {
            // The addresses of a host are tried in turn, and share the time for connecting.
            Stage::Unconnected | Stage::Queued | Stage::Connecting | Stage::Dropping => {
                self.group.connect_timeout / self.lease.addresses
            }
            _ => self.group.timeout,
        }
    }

    // ---- buffers for the driver's calls, and their results

    /// The buffer for the next bytes from the upstream, and the vector for the descriptors that come with them.
    pub fn room(&mut self) -> (&mut [u8], &mut Vec<OwnedFd>) {
        // The buffer is zeroed before a read, and most answers fit in a smaller one.
        let size = if self.has_answered() { ROOM } else { FIRST_ROOM };
        (self.attempt.input.room(size), &mut self.attempt.files)
    }

    pub fn on_read(&mut self, count: usize) {
        self.attempt.input.fill(count);
        match count {
            0 => self.attempt.inbound = Inbound::Ended,
            _ => self.on_answer_begun(),
        }
        self.client_next = true;
    }

    fn on_answer_begun(&mut self) {
        if !self.has_answered() {
            self.attempt.progress = Progress::Answered;
            self.lease.on_answer();
        }
    }

    fn has_answered(&self) -> bool {
        self.attempt.progress == Progress::Answered
    }

    fn has_written(&self) -> bool {
        self.attempt.progress != Progress::Nothing
    }

    /// The next bytes to write, and the descriptor that is sent with the first of them.
    pub fn unsent(&self) -> (&[u8], Option<BorrowedFd<'_>>) {
        let file = match &self.gathered {
            Some((gathered, _)) if !self.has_written() && self.protocol.passes_files() => gathered.file(),
            _ => None,
        };
        (self.output.filled(), file.map(AsFd::as_fd))
    }

    /// The whole request, if all of it is in the output and the upstream takes requests in one piece.
    pub fn whole_request(&self) -> Option<&[u8]> {
        let rest = self.gathered.as_ref().is_some_and(|(gathered, at)| *at < gathered.len());
        (self.protocol.is_taken_whole() && !rest).then(|| self.output.filled())
    }

    pub fn on_written(&mut self, count: usize) {
        self.output.consume(count);
        if count > 0 && self.stage == Stage::Connecting {
            self.attempt.progress = Progress::Written;
            self.stage = Stage::Open;
        }
    }

    pub fn on_connected(&mut self, reused: bool) {
        self.attempt.reused = reused;
        self.stage = Stage::Connecting;
    }

    /// The engine has connected a socket and sent the request. `received`: the beginning of the answer.
    pub fn on_sent(&mut self, received: Received) {
        self.on_connected(true);
        self.on_written(self.output.len());
        self.attempt.files = received.files;
        if !received.bytes.is_empty() {
            self.attempt.input.push(&received.bytes);
            self.on_answer_begun();
        }
    }

    pub fn on_queued(&mut self) {
        self.stage = Stage::Queued;
    }

    pub fn on_shut_down(&mut self) {
        self.attempt.outbound = Outbound::ShutDown;
    }

    /// Whether `on_released` will return content of the response.
    pub fn has_rest(&self) -> bool {
        self.rest.is_some()
    }

    /// The connection has been given back. Returns content of the response that does not come from the input.
    pub fn on_released(&mut self) -> Option<Body> {
        if self.stage == Stage::Dropping {
            self.stage = Stage::Unconnected;
        }
        self.rest.take()
    }

    /// The state in which the worker's thread goes back to the supervisor; `None` if the upstream is not a worker. Takes the
    /// unparsed bytes and the reader out. Called once, at the release.
    pub fn take_handback(&mut self) -> Option<Handback> {
        let Protocol::Wsgi(wsgi) = &mut self.protocol else { return None };
        let attempt = &mut self.attempt;
        let mut received =
            || Received { bytes: attempt.input.filled().to_vec(), files: std::mem::take(&mut attempt.files) };
        Some(match () {
            // `fail` retries: this thread gets no more of the request.
            _ if self.stage == Stage::Dropping => Handback::NotBegun,
            // Checked before `is_closed`: a worker may end after the whole answer. `received` is then the beginning of the
            // next answer, sent before the worker ended.
            _ if wsgi.is_free() => Handback::Free(received()),
            _ if wsgi.is_broken() || attempt.inbound.is_closed() => Handback::Broken,
            _ if attempt.progress == Progress::Nothing => Handback::Unsent,
            _ if attempt.fault == Some(Fault::Expired) => Handback::Stuck,
            _ => {
                let mut unsent = self.output.filled().to_vec();
                if let Some((gathered, at)) = self.gathered.as_ref().filter(|(gathered, _)| gathered.file().is_none()) {
                    // The content is in memory, where reading cannot fail.
                    let _ = gathered.append_slice(*at, usize::MAX, &mut unsent);
                }
                Handback::Busy { unsent, received: received(), reader: wsgi.take_reader() }
            }
        })
    }

    /// The session no longer needs the answer.
    pub fn abandon(&mut self) {
        self.stage = Stage::Over { keep: false };
    }

    // ---- the client's content

    /// Takes a piece of the request's content; in a tunnel, any bytes of the client.
    pub fn push(&mut self, data: &[u8]) -> io::Result<()> {
        self.client_next = false;
        match &mut self.gathered {
            Some((gathered, _)) => return gathered.write(data),
            None if self.stage == Stage::Tunnel => self.output.push(data),
            None => self.protocol.push(data, &mut self.output),
        }
        Ok(())
    }

    pub fn on_content_end(&mut self) {
        self.content_ended = true;
        if self.stage == Stage::Gathering {
            self.stage = Stage::Unconnected;
            self.begin();
        } else if !self.is_tunnel() {
            self.protocol.push_end(&mut self.output);
        }
    }

    // ---- progress

    /// Writes the request anew, from its beginning.
    fn begin(&mut self) {
        self.output.clear();
        if let Some((_, at)) = &mut self.gathered {
            *at = 0;
        }
        let gathered = self.gathered.as_ref().map(|(gathered, _)| gathered);
        self.protocol.begin(gathered, &mut self.output);
    }

    /// Moves a piece of the request and of the response between the buffers. Makes no call on a socket.
    pub fn advance(&mut self, conn: &mut Conn, output: &mut Buffer, common: &Common, now: &Now) -> Flow {
        if matches!(self.stage, Stage::Over { .. } | Stage::Dropping | Stage::Gathering) {
            return Flow::Waiting;
        }
        match self.step(conn, output, common, now) {
            // A failed read counts only after all received bytes have been parsed.
            Ok(Flow::Waiting) => match self.attempt.inbound.take_failure() {
                Some(failure) => self.fail(failure, now),
                None => Flow::Waiting,
            },
            Ok(flow) => flow,
            Err(failure) => self.fail(failure, now),
        }
    }

    fn step(&mut self, conn: &mut Conn, output: &mut Buffer, common: &Common, now: &Now) -> Result<Flow, Failure> {
        let mut moved = self.refill()?;
        moved |= self.drain_spool(conn, output)?;
        if self.is_tunnel() {
            return Ok(self.pass(conn, output, moved));
        }
        let room = if self.stage == Stage::Open { self.make_room(output.len(), now) } else { None };
        let Some(room) = room else { return Ok(if moved { Flow::Moved } else { Flow::Waiting }) };
        let Attempt { inbound, input, files, .. } = &mut self.attempt;
        let mut source = UpstreamInput { input, files, closed: matches!(inbound, Inbound::Ended) };
        let mut sink = ResponseSink { conn, output, room, spool: &mut self.spool, common, now };
        let step = self.protocol.step(&mut source, &mut sink)?;
        self.spool.release_unused();
        match step {
            Step::Wait if moved => Ok(Flow::Moved),
            Step::Wait => Ok(Flow::Waiting),
            Step::Moved => Ok(Flow::Moved),
            Step::End { keep, rest } => {
                self.complete(keep, rest);
                Ok(Flow::Complete)
            }
            Step::Tunnel => {
                self.stage = Stage::Tunnel;
                self.content_ended = false;
                Ok(Flow::Moved)
            }
        }
    }

    /// Moves a piece of gathered content to the output, unless it is passed as a descriptor.
    fn refill(&mut self) -> Result<bool, Failure> {
        let Some((gathered, at)) = &mut self.gathered else { return Ok(false) };
        let as_file = self.protocol.passes_files() && gathered.file().is_some();
        if as_file || *at >= gathered.len() || self.output.len() >= HIGH_WATER {
            return Ok(false);
        }
        let count = gathered.read_at(self.output.room(ROOM), *at).map_err(Failure::of_disk)?;
        self.output.fill(count);
        *at += count as u64;
        Ok(true)
    }

    fn drain_spool(&mut self, conn: &mut Conn, output: &mut Buffer) -> Result<bool, Failure> {
        if self.spool.is_empty() || output.len() >= HIGH_WATER {
            return Ok(false);
        }
        let mut piece = Vec::new();
        self.spool.pull(&mut piece).map_err(Failure::of_disk)?;
        conn.encode(&piece, output);
        Ok(true)
    }

    /// In a tunnel: passes bytes from the upstream to the client.
    fn pass(&mut self, conn: &mut Conn, output: &mut Buffer, moved: bool) -> Flow {
        let input = &mut self.attempt.input;
        if !input.is_empty() && output.len() < HIGH_WATER {
            conn.encode(input.filled(), output);
            input.clear();
            return Flow::Moved;
        }
        let is_all_written = self.content_ended && self.output.is_empty();
        if self.has_upstream_ended() && (is_all_written || self.attempt.outbound == Outbound::Failed) {
            self.stage = Stage::Over { keep: false };
            return Flow::Complete;
        }
        if moved { Flow::Moved } else { Flow::Waiting }
    }

    fn complete(&mut self, keep: bool, rest: Option<Body>) {
        let Attempt { input, inbound, outbound, .. } = &self.attempt;
        if !input.is_empty() && matches!(self.protocol, Protocol::Http(_)) {
            log::warn!("upstream {}: more bytes behind its answer; the connection is not used again", self.lease.name);
        }
        let sent_all = self.content_ended
            && self.output.is_empty()
            && self.gathered.as_ref().is_none_or(|(gathered, at)| {
                *at == gathered.len() || (self.protocol.passes_files() && gathered.file().is_some())
            });
        let usable = input.is_empty() && !inbound.is_closed() && *outbound != Outbound::Failed && sent_all;
        self.stage = Stage::Over { keep: keep && usable };
        self.rest = match rest {
            None if !self.spool.is_empty() => Some(Body::Spool(Box::new(self.spool.take()))),
            rest => rest,
        };
    }
}
