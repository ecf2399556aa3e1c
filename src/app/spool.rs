//! Bytes between a fast source and a slow client: a queue in memory, then (at once, when there is too much of all
//! clients) in an unlinked temporary file, then full. It lets an upstream go as soon as it has said everything,
//! however slowly the client reads.
//!
//! ```text
//!  push ─► memory, up to MEMORY ─► pull          while the file holds bytes, all that is pushed goes there;
//!    └───► file, up to FILE ────────┘            what is in memory is always older
//! ```

use crate::app::temporary::{self, Share};
use crate::proto::buffer::Buffer;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// In memory for one client: most answers of applications are smaller.
const MEMORY: usize = 256 * 1024;
/// On disk for one client, as nginx allows.
const FILE: u64 = 1024 * 1024 * 1024;
/// Read from the file at once.
const SLICE: usize = 64 * 1024;

#[derive(Debug, Default)]
pub struct Spool {
    memory: Buffer,
    share: Share,
    file: Option<File>,
    /// `start <= end`: what of the file is still to be pulled.
    start: u64,
    end: u64,
}

impl Spool {
    pub fn is_empty(&self) -> bool {
        self.memory.is_empty() && self.start == self.end
    }

    /// Whether more may be pushed. It may overshoot by what is pushed at once.
    pub fn has_room(&self) -> bool {
        self.end < FILE
    }

    /// # Errors
    /// The temporary file cannot be made or written; the bytes are then lost.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        let fits = self.start == self.end && self.memory.len() + bytes.len() <= MEMORY;
        if fits && self.share.grow(bytes.len()) {
            self.memory.push(bytes);
            return Ok(());
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(temporary::open()?),
        };
        file.write_all_at(bytes, self.end)?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Moves the next piece to `out`; none when it is empty.
    pub fn pull(&mut self, out: &mut Vec<u8>) -> io::Result<usize> {
        if !self.memory.is_empty() {
            let len = self.memory.len().min(SLICE);
            out.extend_from_slice(&self.memory.filled()[..len]);
            self.memory.consume(len);
            self.share.shrink(len);
            return Ok(len);
        }
        let Some(file) = self.file.as_ref().filter(|_| self.start < self.end) else { return Ok(0) };
        let len = (self.end - self.start).min(SLICE as u64) as usize;
        let from = out.len();
        out.resize(from + len, 0);
        file.read_exact_at(&mut out[from..], self.start)?;
        self.start += len as u64;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in_through_memory_and_file() {
        let mut spool = Spool::default();
        let (mut pushed, mut pulled) = (Vec::new(), Vec::new());
        for round in 0..40_u8 {
            let piece = vec![round; 30_000];
            spool.push(&piece).unwrap();
            pushed.extend(piece);
            if round % 3 == 0 {
                spool.pull(&mut pulled).unwrap();
            }
        }
        assert!(spool.file.is_some() && spool.has_room());
        while spool.pull(&mut pulled).unwrap() > 0 {}
        assert!(spool.is_empty() && pushed == pulled);
        spool.push(b"again").unwrap();
        assert_eq!(spool.memory.filled(), b"again");
    }
}
