//! The buffers for the client's socket: where the driver reads into, what it writes, and how it reports both. The
//! buffers for an upstream's socket are in `Forward`.

use crate::app::exchange::Exchange;
use crate::app::forward::Forward;
use crate::proto::conn::{Reading, Writing};
use crate::proto::error::CloseReason;
use crate::session::{Phase, Scratch, Session};
use std::fs::File;
use std::time::Instant;

/// Room for a read while a head is expected. Most heads fit, even several pipelined ones.
const HEAD_ROOM: usize = 16 * 1024;
/// Room for a read of content. With reads of 16 KiB, a large upload costs a quarter more time.
const CONTENT_ROOM: usize = 256 * 1024;

impl Session {
    /// Where the next bytes from the client go.
    pub fn room(&mut self) -> &mut [u8] {
        match self.conn.reading {
            Reading::Body(_) => self.input.room(CONTENT_ROOM),
            _ => self.input.room(HEAD_ROOM),
        }
    }

    pub fn on_read(&mut self, count: usize, now: Instant) {
        if count == 0 {
            self.input_closed = true;
            return;
        }
        if self.phase == Phase::Receiving || self.forward().is_some_and(Forward::is_tunnel) {
            self.since = now;
        }
        self.input.fill(count);
    }

    /// The bytes to write next: the output, then content in memory, which is sent without a copy.
    pub fn unsent(&self) -> [&[u8]; 2] {
        let output = self.probe_byte().unwrap_or_else(|| self.output.filled());
        [output, self.memory_range().unwrap_or_default()]
    }

    pub fn on_written(&mut self, count: usize, now: Instant) {
        if self.probe_byte().is_some() {
            return self.on_probe_sent();
        }
        self.since = now;
        let of_output = count.min(self.output.len());
        self.output.consume(of_output);
        if count > of_output {
            self.on_sent_in_place((count - of_output) as u64);
        }
    }

    pub(super) fn memory_range(&self) -> Option<&[u8]> {
        match (&self.exchange, &self.conn.writing) {
            (Exchange::Stream(body), Writing::Body(_)) => body.memory_range(),
            _ => None,
        }
    }

    fn on_sent_in_place(&mut self, count: u64) {
        if let Exchange::Stream(body) = &mut self.exchange {
            body.on_sent(count);
        }
        self.conn.on_sent_directly(count);
    }

    /// The part of a file to send next by sendfile(2): the file, the offset, and the length.
    pub fn file_range(&self) -> Option<(&File, u64, u64)> {
        match (&self.exchange, &self.conn.writing) {
            (Exchange::Stream(body), Writing::Body(_)) => body.file_range(),
            _ => None,
        }
    }

    /// `count` bytes of the file have been sent; 0 means that the file has become shorter.
    pub fn on_file_sent(&mut self, count: u64, now: Instant, scratch: &mut Scratch) {
        if count == 0 {
            log::warn!("a file became shorter while it was sent");
            return self.abort(CloseReason::SourceBroke, scratch);
        }
        self.on_sent_in_place(count);
        self.since = now;
    }
}
