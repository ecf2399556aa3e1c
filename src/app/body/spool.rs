//! A queue of bytes between a fast upstream and a slow client. It begins in memory. It goes on in an unlinked temporary
//! file when this client, or all clients together, have used up the room in memory. So an upstream is released as soon
//! as it has sent everything, however slowly the client reads.
//!
//! ```text
//!  reserve ─► push ─► memory, up to MEMORY ─► pull       while the file holds bytes, every push goes to the file:
//!                └──► file, up to FILE ────────┘         bytes in memory are always older than bytes in the file
//! ```
//! Room is reserved before bytes are read from the upstream and pushed. So the files of all clients stay within the
//! limit.

use crate::app::body::temporary::{self, NoRoom, Share, SpoolAccount};
use crate::proto::buffer::Buffer;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Most bytes in memory for one client. Most answers of applications are smaller.
const MEMORY: usize = 256 * 1024;
/// A client's file takes more bytes only while it is smaller than this. nginx has the same default.
const FILE: u64 = 1024 * 1024 * 1024;
/// Most bytes that one pull moves.
const SLICE: usize = 64 * 1024;

/// Room that was reserved and is not used yet.
#[derive(Clone, Copy, Debug)]
enum Reserved {
    Memory(usize),
    File(u64),
}

#[derive(Debug)]
pub struct Spool {
    memory: Buffer,
    /// The account's room that this spool takes: `memory.len()` bytes of memory, `end` bytes of a file, and `reserved`.
    share: Share,
    reserved: Reserved,
    file: Option<File>,
    /// The range `start..end` of the file is still to be pulled.
    start: u64,
    end: u64,
}

impl Spool {
    pub fn new(account: &Arc<SpoolAccount>) -> Spool {
        Spool::of(Share::new(account))
    }

    fn of(share: Share) -> Spool {
        Spool { memory: Buffer::default(), share, reserved: Reserved::Memory(0), file: None, start: 0, end: 0 }
    }

    /// Moves the content to a new spool and leaves this one empty.
    pub fn take(&mut self) -> Spool {
        let empty = Spool::of(self.share.another());
        std::mem::replace(self, empty)
    }

    pub fn is_empty(&self) -> bool {
        self.memory.is_empty() && self.start == self.end
    }

    /// Reserves room for `len` bytes, until `release_unused`. Returns false if a limit is reached. The last reservation may
    /// exceed the limits of files by its own size.
    pub fn reserve(&mut self, len: usize) -> bool {
        self.release_unused();
        let fits = self.start == self.end && self.memory.len() + len <= MEMORY;
        if fits && self.share.take_memory(len) {
            self.reserved = Reserved::Memory(len);
            return true;
        }
        let is_taken = self.end < FILE && self.share.take_file_over_limit(len as u64);
        if is_taken {
            self.reserved = Reserved::File(len as u64);
        }
        is_taken
    }

    /// Gives back reserved room that was not used.
    pub fn release_unused(&mut self) {
        match std::mem::replace(&mut self.reserved, Reserved::Memory(0)) {
            Reserved::Memory(0) => {}
            Reserved::Memory(left) => self.share.give_memory(left),
            Reserved::File(left) => self.share.give_file(left),
        }
    }

    /// Appends bytes. Room for them must be reserved.
    ///
    /// # Errors
    /// The temporary file cannot be made or written. The bytes are lost then.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.reserved {
            Reserved::Memory(left) if bytes.len() <= *left => {
                *left -= bytes.len();
                self.memory.push(bytes);
            }
            Reserved::File(left) if bytes.len() as u64 <= *left => {
                let file = match &mut self.file {
                    Some(file) => file,
                    none => none.insert(temporary::open()?),
                };
                file.write_all_at(bytes, self.end)?;
                *left -= bytes.len() as u64;
                self.end += bytes.len() as u64;
            }
            reserved => {
                debug_assert!(false, "{} bytes for {reserved:?}", bytes.len());
                return Err(NoRoom.into());
            }
        }
        Ok(())
    }

    /// Moves the next piece to `out`. Returns its length: 0 if the spool is empty.
    pub fn pull(&mut self, out: &mut Vec<u8>) -> io::Result<usize> {
        if !self.memory.is_empty() {
            let len = self.memory.len().min(SLICE);
            out.extend_from_slice(&self.memory.filled()[..len]);
            self.memory.consume(len);
            self.share.give_memory(len);
            return Ok(len);
        }
        let Some(file) = self.file.as_ref().filter(|_| self.start < self.end) else { return Ok(0) };
        let len = (self.end - self.start).min(SLICE as u64) as usize;
        let from = out.len();
        out.resize(from + len, 0);
        file.read_exact_at(&mut out[from..], self.start)?;
        self.start += len as u64;
        if self.start == self.end {
            self.discard_file();
        }
        Ok(len)
    }

    /// Drops the file and gives its room back to the account.
    fn discard_file(&mut self) {
        if let Some(file) = self.file.take() {
            self.share.discard(file, self.end);
        }
        (self.start, self.end) = (0, 0);
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.discard_file();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(spool: &mut Spool, bytes: &[u8]) {
        assert!(spool.reserve(bytes.len() + 1));
        spool.push(bytes).unwrap();
        spool.release_unused();
    }

    #[test]
    fn bytes_come_out_as_they_went_in_through_memory_and_file() {
        let account = SpoolAccount::new(2_000_000);
        let mut spool = Spool::new(&account);
        for _ in 0..2 {
            let (mut pushed, mut pulled) = (Vec::new(), Vec::new());
            for round in 0..40_u8 {
                let piece = vec![round; 30_000];
                push(&mut spool, &piece);
                pushed.extend(piece);
                if round % 3 == 0 {
                    spool.pull(&mut pulled).unwrap();
                }
            }
            let len = spool.file.as_ref().expect("a file").metadata().unwrap().len();
            assert!(len == spool.end && !Share::new(&account).take_file(2_000_001 - len));
            while spool.pull(&mut pulled).unwrap() > 0 {}
            assert!(spool.is_empty() && pushed == pulled);
            assert!(Share::new(&account).take_file(2_000_000), "all of the room is back");
        }
        push(&mut spool, b"again");
        assert_eq!(spool.memory.filled(), b"again");
    }

    #[test]
    fn what_others_keep_is_room_that_is_not_there() {
        let account = SpoolAccount::new(100_000);
        let (mut one, mut other) = (Spool::new(&account), Spool::new(&account));
        for spool in [&mut one, &mut other] {
            push(spool, &vec![0; MEMORY - 1]);
        }
        push(&mut one, &[1; 90_000]);
        push(&mut other, &[2; 20_000]);
        assert!(!one.reserve(1) && !other.reserve(1), "the last piece has gone over the limit");
        drop(one);
        assert!(other.reserve(90_000));
        other.release_unused();
        assert!(other.take().end == 20_000 && other.is_empty());
        assert!(Spool::new(&account).reserve(MEMORY + 1));
    }

    #[test]
    fn without_files_there_is_memory() {
        let mut spool = Spool::new(&SpoolAccount::new(0));
        assert!(spool.reserve(MEMORY) && !spool.reserve(MEMORY + 1));
    }
}
