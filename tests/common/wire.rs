//! A transport in memory: the server's own driver and session without a socket, for tests that count.

#![allow(dead_code)] // each test file is a crate and uses its own part of this

use dustdevil::driver::{NoUpstream, Transport};
use dustdevil::http::date::Now;
use dustdevil::session::Ready;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// A client that has sent `request` and takes its answers as fast as they come.
pub struct Wire {
    pub now: Now,
    pub request: Vec<u8>,
    /// How many bytes of the request, from its end, the session has yet to read.
    pub unread: usize,
    pub answer: Vec<u8>,
}

impl Transport for Wire {
    fn now(&mut self) -> &Now {
        &self.now
    }

    fn is_ending(&self) -> bool {
        false
    }

    fn ready(&self) -> Ready {
        if self.unread > 0 { Ready::ALL } else { Ready::CLIENT_WRITE }
    }

    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let from = self.request.len() - self.unread;
        let count = self.unread.min(room.len());
        room[..count].copy_from_slice(&self.request[from..from + count]);
        self.unread -= count;
        Ok(count)
    }

    fn write(&mut self, parts: [&[u8]; 2], _more: bool) -> io::Result<usize> {
        parts.iter().for_each(|part| self.answer.extend_from_slice(part));
        Ok(parts[0].len() + parts[1].len())
    }

    fn send_file(&mut self, file: &File, at: u64, len: usize) -> io::Result<usize> {
        let from = self.answer.len();
        self.answer.resize(from + len, 0);
        file.read_at(&mut self.answer[from..], at)
    }

    fn shut_down_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn reset_on_close(&mut self) {}
}

// No exchange here has an upstream.
impl NoUpstream for Wire {}
