//! A request that another process answers: the upstream's side of an exchange. It owns the buffers for the upstream and
//! the protocol spoken there. It has no socket and no clock. `Protocol` hides what differs between the protocols:
//! neither session nor engine knows which it is.
//!
//! ```text
//!  Gathering ──content whole──► Unconnected ──► Connecting ──first byte written──► Open ──► Over ──► released
//!                                │    ▲ └─none free─► Queued ──given one──► Open    │
//!                                │    └─────────── Dropping ◄──failed, may retry────┤
//!                                └─no other left─► failed: 502, 503, 504 ◄──────────┘
//!
//!  client ─► push ─► (gathered) ─► output ─► upstream ─► input ─► protocol ─► (spool) ─► the client's output
//! ```
//! Back-pressure: the client's content is read while `has_room`, the upstream is read while `wants_input`.

mod failing;
pub mod fields;
pub mod http;
mod presence;
pub mod protocol;
mod protocols;
mod room;
pub mod wsgi;

pub use presence::{Asked, Presence};
pub use protocol::Failure;
pub use protocols::Protocol;

use crate::app::body::Body;
use crate::app::body::buffered::Buffered;
use crate::app::body::spool::Spool;
use crate::app::forward::protocol::{ROOM, Sink, Source, Step};
use crate::app::upstreams::{Group, Lease, Reuse, Upstream};
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
    /// The connection is given back, and another one is tried.
    Dropping,
    /// The exchange with the upstream is over, whether it succeeded or not.
    Over {
        /// The connection can carry another exchange.
        keep: bool,
    },
}

/// The result of `advance`.
#[derive(Debug)]
pub enum Flow {
    Waiting,
    Moved,
    /// The upstream is no longer needed. Content that is not in the output yet comes with `on_released`.
    Complete,
    Failed(Failure),
}

#[derive(Debug)]
pub struct Forward {
    group: Arc<Group>,
    lease: Lease,
    /// The ids of the upstreams that were tried in vain.
    tried: Vec<usize>,
    stage: Stage,
    protocol: Protocol,
    input: Buffer,
    files: Vec<OwnedFd>,
    output: Buffer,
    /// Content that was received in full first, and how much of it has been moved to the output.
    gathered: Option<(Buffered, u64)>,
    /// The client's content is complete; in a tunnel, the client sends no more.
    content_ended: bool,
    /// Content of the response that the client has no room for yet.
    spool: Spool,
    /// The spool has no room: when it is tried again.
    looks_again: Option<Instant>,
    /// Content of the response that is sent after the upstream is released.
    rest: Option<Body>,
    /// The connection has carried other exchanges before.
    reused: bool,
    /// Only a new connection is acceptable.
    new_only: bool,
    /// Bytes written to the upstream.
    written: u64,
    /// The upstream has sent something.
    answer_begun: bool,
    /// The upstream sends no more.
    closed: bool,
    /// Why it sends no more, if the connection was not closed in order.
    broken: Option<Failure>,
    /// Writing to the upstream has failed: it takes no more.
    write_closed: bool,
    /// The deadline has passed.
    expired: bool,
    tunnel: bool,
    /// The upstream's socket is shut down for writing.
    shut_down: bool,
    /// The worker has ended and had not begun with the request.
    not_begun: bool,
    /// Which side is read next when both can be: true if the upstream was read last.
    pub client_next: bool,
    pub presence: Presence,
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
            input: Buffer::default(),
            files: Vec::new(),
            output: Buffer::default(),
            gathered,
            content_ended: false,
            spool,
            looks_again: None,
            rest: None,
            reused: false,
            new_only: false,
            written: 0,
            answer_begun: false,
            closed: false,
            broken: None,
            write_closed: false,
            expired: false,
            tunnel: false,
            shut_down: false,
            not_begun: false,
            client_next: false,
            presence: Presence::default(),
        };
        match gathers {
            true => forward.stage = Stage::Gathering,
            false => forward.begin(),
        }
        Some(forward)
    }

    // ---- what it wants

    pub fn stage(&self) -> Stage {
        self.stage
    }

    pub fn upstream(&self) -> &Upstream {
        &self.lease
    }

    /// Which idle connections are acceptable.
    pub fn reuse(&self) -> Reuse {
        match self.new_only {
            true => Reuse::Nothing,
            false if self.protocol.may_repeat() => Reuse::Any,
            false => Reuse::Recent,
        }
    }

    pub fn is_tunnel(&self) -> bool {
        self.tunnel
    }

    pub fn gathers(&self) -> bool {
        self.stage == Stage::Gathering
    }

    /// Whether more of the client's content can be taken.
    pub fn has_room(&self) -> bool {
        let over = matches!(self.stage, Stage::Over { .. });
        !over && !self.content_ended && !self.write_closed && self.output.len() < HIGH_WATER
    }

    /// Whether the exchange waits for the client to send content.
    pub fn awaits_content(&self) -> bool {
        !self.tunnel && self.has_room() && self.output.is_empty() && self.stage != Stage::Connecting
    }

    pub fn wants_output(&self) -> bool {
        match self.stage {
            Stage::Connecting | Stage::Queued => true,
            Stage::Open => !self.output.is_empty(),
            _ => false,
        }
    }

    /// Whether the upstream is to be read. `client_backlog`: bytes that the client has not taken yet.
    pub fn wants_input(&self, client_backlog: usize) -> bool {
        let room = if self.tunnel { client_backlog < HIGH_WATER } else { self.looks_again.is_none() };
        let open = self.stage == Stage::Open;
        open && !self.closed && room && self.input.len() < self.protocol.largest_head()
    }

    /// Whether the client's side of a tunnel is to be shut down for writing: the upstream sends no more.
    pub fn has_said_all(&self) -> bool {
        self.tunnel && self.closed && self.input.is_empty()
    }

    /// Whether the upstream's side of a tunnel is to be shut down for writing: the client sends no more.
    pub fn wants_shut_down(&self) -> bool {
        self.tunnel && self.content_ended && self.output.is_empty() && !self.shut_down && !self.write_closed
    }

    /// How long the present stage may last without progress.
    pub fn patience(&self) -> Duration {
        match self.stage {
            Stage::Unconnected | Stage::Queued | Stage::Connecting | Stage::Dropping => self.group.connect_timeout,
            _ => self.group.timeout,
        }
    }

    // ---- for the driver: buffers, and what system calls returned

    /// Where the next bytes from the upstream go, and the descriptors that come with them.
    pub fn room(&mut self) -> (&mut [u8], &mut Vec<OwnedFd>) {
        // Room is zeroed before a read. Most answers fit in less.
        let size = if self.answer_begun { ROOM } else { FIRST_ROOM };
        (self.input.room(size), &mut self.files)
    }

    pub fn on_read(&mut self, count: usize) {
        self.input.fill(count);
        match count {
            0 => self.closed = true,
            _ => self.on_answer_begun(),
        }
        self.client_next = true;
    }

    fn on_answer_begun(&mut self) {
        if !self.answer_begun {
            self.answer_begun = true;
            self.lease.on_answer();
        }
    }

    /// What is written next, and the descriptor that goes with its first byte.
    pub fn unsent(&self) -> (&[u8], Option<BorrowedFd<'_>>) {
        let file = match &self.gathered {
            Some((gathered, _)) if self.written == 0 && self.protocol.passes_files() => gathered.file(),
            _ => None,
        };
        (self.output.filled(), file.map(AsFd::as_fd))
    }

    /// The whole request, if all of it is in the output: for an upstream that takes requests in one piece.
    pub fn whole_request(&self) -> Option<&[u8]> {
        let rest = self.gathered.as_ref().is_some_and(|(gathered, at)| *at < gathered.len());
        (self.protocol.is_taken_whole() && !rest).then(|| self.output.filled())
    }

    pub fn on_written(&mut self, count: usize) {
        self.output.consume(count);
        self.written += count as u64;
        if count > 0 && self.stage == Stage::Connecting {
            self.stage = Stage::Open;
        }
    }

    pub fn on_connected(&mut self, reused: bool) {
        self.reused = reused;
        self.stage = Stage::Connecting;
    }

    /// The request has been sent. `received`: the beginning of the answer.
    pub fn on_sent(&mut self, received: Received) {
        self.on_connected(true);
        self.on_written(self.output.len());
        self.files = received.files;
        if !received.bytes.is_empty() {
            self.input.push(&received.bytes);
            self.on_answer_begun();
        }
    }

    pub fn on_queued(&mut self) {
        self.stage = Stage::Queued;
    }

    pub fn on_shut_down(&mut self) {
        self.shut_down = true;
    }

    /// Whether content of the response is left that does not need the upstream any more.
    pub fn has_rest(&self) -> bool {
        self.rest.is_some()
    }

    /// The connection has been given back.
    pub fn on_released(&mut self) -> Option<Body> {
        if self.stage == Stage::Dropping {
            self.stage = Stage::Unconnected;
        }
        self.rest.take()
    }

    /// In which state the worker's thread is given back; `None` for an upstream that is not a worker.
    pub fn take_handback(&mut self) -> Option<Handback> {
        let Protocol::Wsgi(wsgi) = &mut self.protocol else { return None };
        Some(match () {
            _ if self.stage == Stage::Dropping => Handback::NotBegun,
            // Even if the worker has ended since: the bytes belong to requests that it answered before.
            _ if wsgi.is_free() => {
                Handback::Free(Received { bytes: self.input.filled().to_vec(), files: std::mem::take(&mut self.files) })
            }
            _ if wsgi.is_broken() || self.closed => Handback::Broken,
            _ if self.written == 0 => Handback::Unsent,
            _ if self.expired => Handback::Stuck,
            _ => {
                let mut unsent = self.output.filled().to_vec();
                if let Some((gathered, at)) = self.gathered.as_ref().filter(|(gathered, _)| gathered.file().is_none()) {
                    // It is in memory, where reading cannot fail.
                    let _ = gathered.append_slice(*at, usize::MAX, &mut unsent);
                }
                let received = Received { bytes: self.input.filled().to_vec(), files: std::mem::take(&mut self.files) };
                Handback::Busy { unsent, received, reader: wsgi.take_reader() }
            }
        })
    }

    /// The client has left: the answer is not wanted any more.
    pub fn abandon(&mut self) {
        self.stage = Stage::Over { keep: false };
    }

    // ---- the client's content

    /// Takes a piece of the request's content; in a tunnel, any bytes of the client.
    pub fn push(&mut self, data: &[u8]) -> io::Result<()> {
        self.client_next = false;
        match &mut self.gathered {
            Some((gathered, _)) => return gathered.write(data),
            None if self.tunnel => self.output.push(data),
            None => self.protocol.push(data, &mut self.output),
        }
        Ok(())
    }

    pub fn on_content_end(&mut self) {
        self.content_ended = true;
        if self.stage == Stage::Gathering {
            self.stage = Stage::Unconnected;
            self.begin();
        } else if !self.tunnel {
            self.protocol.push_end(&mut self.output);
        }
    }

    // ---- progress

    /// Writes the request from its beginning.
    fn begin(&mut self) {
        self.output.clear();
        if let Some((_, at)) = &mut self.gathered {
            *at = 0;
        }
        let gathered = self.gathered.as_ref().map(|(gathered, _)| gathered);
        self.protocol.begin(gathered, &mut self.output);
    }

    /// Makes one step: moves a piece of the request, and a piece of the response.
    pub fn advance(&mut self, conn: &mut Conn, output: &mut Buffer, common: &Common, now: &Now) -> Flow {
        if matches!(self.stage, Stage::Over { .. } | Stage::Dropping | Stage::Gathering) {
            return Flow::Waiting;
        }
        match self.step(conn, output, common, now) {
            Ok(Flow::Waiting) if self.broken.is_some() => match self.broken.take() {
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
        if self.tunnel {
            return Ok(self.pass(conn, output, moved));
        }
        let room = if self.stage == Stage::Open { self.make_room(output.len(), now) } else { None };
        let Some(room) = room else { return Ok(if moved { Flow::Moved } else { Flow::Waiting }) };
        let closed = self.closed && self.broken.is_none();
        let mut source = Source { input: &mut self.input, files: &mut self.files, closed };
        let mut sink = Sink { conn, output, room, spool: &mut self.spool, common, now };
        let step = self.protocol.step(&mut source, &mut sink)?;
        self.spool.settle();
        match step {
            Step::Wait if moved => Ok(Flow::Moved),
            Step::Wait => Ok(Flow::Waiting),
            Step::Moved => Ok(Flow::Moved),
            Step::End { keep, rest } => {
                self.complete(keep, rest);
                Ok(Flow::Complete)
            }
            Step::Tunnel => {
                self.tunnel = true;
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

    /// In a tunnel: passes what the upstream has sent on to the client.
    fn pass(&mut self, conn: &mut Conn, output: &mut Buffer, moved: bool) -> Flow {
        if !self.input.is_empty() && output.len() < HIGH_WATER {
            conn.encode(self.input.filled(), output);
            self.input.clear();
            return Flow::Moved;
        }
        if self.has_said_all() && ((self.content_ended && self.output.is_empty()) || self.write_closed) {
            self.broken = None;
            self.stage = Stage::Over { keep: false };
            return Flow::Complete;
        }
        if moved { Flow::Moved } else { Flow::Waiting }
    }

    fn complete(&mut self, keep: bool, rest: Option<Body>) {
        if !self.input.is_empty() && matches!(self.protocol, Protocol::Http(_)) {
            log::warn!("upstream {}: more bytes behind its answer; the connection is not used again", self.lease.name);
        }
        let sent_all = self.content_ended
            && self.output.is_empty()
            && self.gathered.as_ref().is_none_or(|(gathered, at)| {
                *at == gathered.len() || (self.protocol.passes_files() && gathered.file().is_some())
            });
        let usable = self.input.is_empty() && !self.closed && !self.write_closed && sent_all;
        self.stage = Stage::Over { keep: keep && usable };
        self.rest = match rest {
            None if !self.spool.is_empty() => Some(Body::Spool(Box::new(self.spool.take()))),
            rest => rest,
        };
    }
}
