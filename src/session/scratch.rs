//! The memory that the sessions of a thread share. It is lent to the session that is driven, so that waiting sessions
//! hold no buffers.

use crate::http::head::Head;
use crate::proto::buffer::Buffer;
use crate::proto::conn::Reading;
use crate::session::{Deferred, Phase, Session};

/// A buffer of this size or more is freed when it is given back, so that a buffer that grew for one client is not kept.
/// A turn needs less than half of this size: the high-water mark and a piece of content, or room for a read of content.
const TOO_LARGE: usize = 512 * 1024;
/// The same limit for a scratch that no thread uses: a threaded engine keeps several.
const TOO_LARGE_AT_REST: usize = 32 * 1024;
/// Input buffers up to this size are for requests, and several are kept. A larger one is for content, and one is kept.
const REQUEST_ROOM: usize = 64 * 1024;

const _: () = assert!(TOO_LARGE.is_power_of_two() && TOO_LARGE_AT_REST.is_power_of_two());

/// The buffers that a session needs only while it is driven. Each thread that drives sessions has one `Scratch`.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) head: Head,
    /// A piece of content that was pulled from its source and is not framed yet.
    pub(super) content: Vec<u8>,
    /// Lines of the access log, until the engine flushes them.
    pub log: Vec<u8>,
    /// The cost of work since the last `take_work`, in the units of `cost`.
    pub(super) work: usize,
    /// The cost of the last drive, including the bytes moved.
    pub spent: usize,
    /// Input buffers for requests: one for each session that is read ahead.
    inputs: Vec<Buffer>,
    /// The input buffer for a request's content.
    content_input: Buffer,
    output: Buffer,
    /// Room for bytes from an upstream.
    pub(super) upstream: Buffer,
    /// The memory of the last deferred response, so that the next one does not allocate.
    pub(super) spare: Option<Box<Deferred>>,
}

/// How many sessions are read before the first of them is answered. They share one check of the file system, and their
/// requests still fit in the processor's cache.
pub const AHEAD: usize = 16;

impl Scratch {
    /// Returns the cost of work since the last call, and resets it.
    pub fn take_work(&mut self) -> usize {
        std::mem::take(&mut self.work)
    }

    /// Frees the memory that the next request probably does not need. Call this before the scratch is put aside.
    pub fn rest(&mut self) {
        self.inputs.truncate(1);
        self.inputs.retain(|input| input.capacity() <= TOO_LARGE_AT_REST);
        if !self.content_input.is_unallocated() || !self.are_below(TOO_LARGE_AT_REST) {
            self.content_input = Buffer::default();
            self.free_from(TOO_LARGE_AT_REST);
        }
    }

    /// Whether all buffers are smaller than `size`. `size` is a power of two, so it is enough to compare the bitwise OR
    /// of their sizes.
    #[inline]
    fn are_below(&self, size: usize) -> bool {
        let Scratch { content, log, output, upstream, .. } = self;
        content.capacity() | log.capacity() | output.capacity() | upstream.capacity() < size
    }

    #[cold]
    fn free_from(&mut self, size: usize) {
        for buffer in [&mut self.output, &mut self.upstream] {
            if buffer.capacity() >= size {
                *buffer = Buffer::default();
            }
        }
        if self.content.capacity() >= size {
            self.content = Vec::new();
        }
        // Lines that are not flushed yet must not be lost.
        if self.log.is_empty() && self.log.capacity() >= size {
            self.log = Vec::new();
        }
    }
}

impl Session {
    /// Whether the session waits for a request, or for the rest of a request's head.
    #[inline]
    pub fn awaits_request(&self) -> bool {
        matches!(self.phase, Phase::Idle | Phase::Head)
    }

    /// Lends the thread's buffers to a session that holds none.
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
        if !self.input.is_unallocated() {
            return;
        }
        if matches!(self.conn.reading, Reading::Body(_)) {
            std::mem::swap(&mut self.input, &mut scratch.content_input);
        }
        if self.input.is_unallocated()
            && let Some(spare) = scratch.inputs.pop()
        {
            self.input = spare;
        }
    }

    /// Gives the session's empty buffers back, and frees memory that it does not need while it waits.
    #[inline]
    pub fn park(&mut self, scratch: &mut Scratch) {
        if self.input.is_empty() && !self.input.is_unallocated() {
            match self.input.capacity() {
                ..=REQUEST_ROOM if scratch.inputs.len() < AHEAD => scratch.inputs.push(std::mem::take(&mut self.input)),
                ..=REQUEST_ROOM | TOO_LARGE.. => {}
                _ => scratch.content_input = std::mem::take(&mut self.input),
            }
        }
        if self.output.is_empty() && scratch.output.is_unallocated() {
            std::mem::swap(&mut self.output, &mut scratch.output);
        }
        self.input.park();
        self.output.park();
        if let Some(forward) = self.forward_mut() {
            forward.park(&mut scratch.upstream);
        }
        if !scratch.are_below(TOO_LARGE) {
            scratch.free_from(TOO_LARGE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::time::Instant;

    /// A scratch to which a session has given buffers of this size.
    fn held(size: usize) -> Scratch {
        let mut scratch =
            Scratch { content: Vec::with_capacity(size), log: Vec::with_capacity(size), ..Scratch::default() };
        let mut session = Session::new(Ipv4Addr::LOCALHOST.into(), Instant::now());
        session.input = Buffer::with_capacity(size);
        session.output = Buffer::with_capacity(size);
        session.park(&mut scratch);
        scratch
    }

    #[test]
    fn buffers_of_the_usual_size_are_kept_and_larger_ones_freed() {
        for size in [16 * 1024, REQUEST_ROOM, TOO_LARGE / 2] {
            let scratch = held(size);
            let input = scratch.inputs.first().unwrap_or(&scratch.content_input);
            let all = [input.capacity(), scratch.output.capacity(), scratch.content.capacity(), scratch.log.capacity()];
            assert_eq!(all, [size; 4]);
        }
        for size in [TOO_LARGE, 33 << 20] {
            let scratch = held(size);
            assert!(scratch.inputs.is_empty() && scratch.content_input.is_unallocated());
            assert_eq!([scratch.output.capacity(), scratch.content.capacity(), scratch.log.capacity()], [0; 3]);
        }
    }

    #[test]
    fn room_for_content_is_kept_once_and_at_rest_nothing_that_is_large() {
        let mut scratch = held(TOO_LARGE / 2);
        let mut other = Session::new(Ipv4Addr::LOCALHOST.into(), Instant::now());
        other.input = Buffer::with_capacity(TOO_LARGE / 2);
        other.park(&mut scratch);
        assert!(scratch.inputs.is_empty() && !scratch.content_input.is_unallocated());
        scratch.rest();
        assert!(scratch.content_input.is_unallocated() && scratch.output.is_unallocated());
        assert_eq!((scratch.content.capacity(), scratch.log.capacity()), (0, 0));
        let mut usual = held(16 * 1024);
        usual.rest();
        assert_eq!((usual.inputs.len(), usual.output.capacity()), (1, 16 * 1024));
    }
}
