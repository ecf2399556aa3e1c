//! What the sessions of a thread share: memory that is lent to the one at hand, so that the others, which wait, hold none.

use crate::http::head::Head;
use crate::proto::buffer::Buffer;
use crate::session::{Deferred, Phase, Session};

/// What every session of a thread works with and none of them keeps.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) head: Head,
    /// A piece of content between its source and its framing.
    pub(super) content: Vec<u8>,
    /// Lines of the access log, until the engine flushes them.
    pub log: Vec<u8>,
    /// What the sessions' work has cost since it was last taken, in bytes moved.
    pub(super) work: usize,
    /// What the last drive has cost, and moved.
    pub spent: usize,
    /// Room for the requests of as many sessions as are read ahead.
    inputs: Vec<Buffer>,
    output: Buffer,
    /// Room for what an upstream says.
    pub(super) upstream: Buffer,
    /// What the last response that was not written at once has left.
    pub(super) spare: Option<Box<Deferred>>,
}

/// How many sessions are read before the first of them is answered: enough to share what is asked of the file system,
/// few enough for what they sent to stay in the processor's cache.
pub const AHEAD: usize = 16;

impl Scratch {
    /// What has been spent since the last call.
    pub fn take_work(&mut self) -> usize {
        std::mem::take(&mut self.work)
    }
}

impl Session {
    /// Whether nothing is under way but a request that may be on its way.
    #[inline]
    pub fn awaits_request(&self) -> bool {
        matches!(self.phase, Phase::Idle | Phase::Head)
    }

    /// Lends the thread's buffers to a session that holds none itself.
    #[inline]
    pub fn unpark(&mut self, scratch: &mut Scratch) {
        self.unpark_input(scratch);
        if self.output.is_unallocated() {
            std::mem::swap(&mut self.output, &mut scratch.output);
        }
        if let Some(forward) = self.forward_mut() {
            forward.unpark(&mut scratch.upstream);
        }
    }

    #[inline]
    pub fn unpark_input(&mut self, scratch: &mut Scratch) {
        if self.input.is_unallocated()
            && let Some(spare) = scratch.inputs.pop()
        {
            self.input = spare;
        }
    }

    /// Gives empty buffers back, and memory that a waiting session does not need.
    #[inline]
    pub fn park(&mut self, scratch: &mut Scratch) {
        if self.input.is_empty() && !self.input.is_unallocated() && scratch.inputs.len() < AHEAD {
            scratch.inputs.push(std::mem::take(&mut self.input));
        }
        if self.output.is_empty() && scratch.output.is_unallocated() {
            std::mem::swap(&mut self.output, &mut scratch.output);
        }
        self.input.park();
        self.output.park();
        if let Some(forward) = self.forward_mut() {
            forward.park(&mut scratch.upstream);
        }
    }
}
