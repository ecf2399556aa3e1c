//! A request's content, buffered whole before a handler, an upstream or a Python worker gets it.
//!
//! Small content is in a vector, larger content in a file in memory (memfd). Content goes to an unlinked temporary file
//! when it is larger than `MEMORY`, or when all clients together have used up the memory of the `SpoolAccount`.
//!
//! ```text
//!  vector, up to SMALL ─► file in memory, up to MEMORY ─► temporary file
//!      └────────────── the account's memory is full ────────────┘
//! ```

use crate::app::body::pulled::{Pulled, SLICE};
use crate::app::body::temporary::{self, NoRoom, Share, SpoolAccount};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Most bytes that one request's content keeps in memory. Most forms and API calls are smaller.
const MEMORY: u64 = 1024 * 1024;
/// Content beyond this size is in a file in memory, because closing the file gives the memory back to the system at
/// once. The allocator would keep the memory of a vector in each of its arenas: 70 MB after 100 clients on an engine
/// with threads.
const SMALL: usize = 64 * 1024;

#[derive(Debug)]
pub struct Buffered {
    /// The whole content while `file` is `None`, else empty.
    memory: Vec<u8>,
    /// The account's room that this content takes: in memory for `memory` or a memfd, in files for a file on a disk.
    share: Share,
    file: Option<File>,
    /// Whether another process may read `file` too.
    is_passed_on: bool,
    /// Whether `file` is in the directory for temporary files, and not a memfd.
    is_on_disk: bool,
    len: u64,
}

impl Buffered {
    pub fn new(account: &Arc<SpoolAccount>) -> Buffered {
        Buffered {
            memory: Vec::new(),
            share: Share::new(account),
            file: None,
            is_passed_on: false,
            is_on_disk: false,
            len: 0,
        }
    }

    /// A buffer whose file another process reads. That process may read it after this `Buffered` is dropped.
    pub fn passed_on(account: &Arc<SpoolAccount>) -> Buffered {
        let mut buffered = Buffered::new(account);
        buffered.is_passed_on = true;
        buffered
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a piece.
    ///
    /// # Errors
    /// `NoRoom` if all clients together have reached the limit of temporary files. Any other error: the file cannot be
    /// made or written.
    pub fn write(&mut self, data: &[u8]) -> io::Result<()> {
        let len = self.len + data.len() as u64;
        let in_memory = !self.is_on_disk && len <= MEMORY && self.share.take_memory(data.len());
        if !in_memory {
            if !self.is_on_disk {
                self.move_to_disk()?;
            }
            self.take_file(data.len() as u64)?;
        } else if self.file.is_none() && len > SMALL as u64 {
            self.move_to(temporary::open_in_memory()?)?;
        }
        match &self.file {
            None => self.memory.extend_from_slice(data),
            Some(file) => file.write_all_at(data, self.len)?,
        }
        self.len = len;
        Ok(())
    }

    fn move_to_disk(&mut self) -> io::Result<()> {
        self.take_file(self.len)?;
        self.move_to(temporary::open()?)?;
        // The cast is safe: until now all content was in memory, and so at most MEMORY bytes.
        self.share.give_memory(self.len as usize);
        self.is_on_disk = true;
        Ok(())
    }

    fn take_file(&mut self, bytes: u64) -> io::Result<()> {
        if self.share.take_file(bytes) { Ok(()) } else { Err(NoRoom.into()) }
    }

    fn move_to(&mut self, file: File) -> io::Result<()> {
        let (mut slice, mut at) = (Vec::new(), 0);
        while at < self.len {
            slice.clear();
            self.append_slice(at, SMALL, &mut slice)?;
            file.write_all_at(&slice, at)?;
            at += slice.len() as u64;
        }
        (self.memory, self.file) = (Vec::new(), Some(file));
        Ok(())
    }

    /// The file that holds the content, if it is not in the vector.
    pub fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// Reads into `room` from position `at` on, and returns the number of bytes. It is less than `room.len()` only at
    /// the end of the content.
    pub fn read_at(&self, room: &mut [u8], at: u64) -> io::Result<usize> {
        let len = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX).min(room.len());
        match &self.file {
            Some(file) => file.read_exact_at(&mut room[..len], at)?,
            None if len == 0 => {}
            None => room[..len].copy_from_slice(&self.memory[at as usize..][..len]),
        }
        Ok(len)
    }

    /// Appends up to `most` bytes, from position `at` on, to `out`. Returns how many.
    pub fn append_slice(&self, at: u64, most: usize, out: &mut Vec<u8>) -> io::Result<usize> {
        let (from, left) = (out.len(), self.len.saturating_sub(at));
        out.resize(from + usize::try_from(left).unwrap_or(usize::MAX).min(most), 0);
        self.read_at(&mut out[from..], at)
    }
}

impl Drop for Buffered {
    fn drop(&mut self) {
        // `discard` truncates a large file. A file that another process may still read is only closed.
        if let Some(file) = self.file.take().filter(|_| self.is_on_disk && !self.is_passed_on) {
            self.share.discard(file, self.len);
        }
    }
}

/// Sends a request's content back as the content of the response.
#[derive(Debug)]
pub struct EchoedContent {
    content: Buffered,
    at: u64,
}

impl EchoedContent {
    pub fn new(content: Buffered) -> EchoedContent {
        EchoedContent { content, at: 0 }
    }

    pub fn pull(&mut self, out: &mut Vec<u8>) -> io::Result<Pulled> {
        let cost = self.content.append_slice(self.at, SLICE, out)?;
        self.at += cost as u64;
        Ok(if cost == 0 { Pulled::End } else { Pulled::Some { cost } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in_wherever_they_are() {
        for len in [0, 1, SMALL, SMALL + 1, MEMORY as usize, MEMORY as usize + 1] {
            let bytes: Vec<u8> = (0..len).map(|number| (number % 251) as u8).collect();
            let mut buffered = Buffered::new(&SpoolAccount::new(2 * MEMORY));
            bytes.chunks(50_000).for_each(|piece| buffered.write(piece).unwrap());
            assert_eq!((buffered.file.is_some(), buffered.is_on_disk), (len > SMALL, len as u64 > MEMORY));
            assert!(buffered.file.is_none() || buffered.memory.capacity() == 0);
            for at in [0, 1, SMALL, len.saturating_sub(1), len] {
                let mut out = b"before".to_vec();
                let count = buffered.append_slice(at as u64, SMALL, &mut out).unwrap();
                assert_eq!(count, len.saturating_sub(at).min(SMALL));
                assert!(count == 0 || out[6..] == bytes[at..][..count], "{len} {at}");
            }
        }
    }

    #[test]
    fn much_content_moves_to_a_file() {
        let mut buffered = Buffered::new(&SpoolAccount::new(2 * MEMORY));
        buffered.write(b"head").unwrap();
        assert!(buffered.file().is_none());
        buffered.write(&vec![7; MEMORY as usize]).unwrap();
        buffered.write(b"tail").unwrap();
        assert!(buffered.file().is_some());
        assert_eq!(buffered.len(), MEMORY + 8);
        let mut room = [0; 16];
        assert_eq!(buffered.read_at(&mut room, 0).unwrap(), 16);
        assert_eq!(&room[..5], b"head\x07");
        assert_eq!(buffered.read_at(&mut room, buffered.len() - 5).unwrap(), 5);
        assert_eq!(&room[..5], b"\x07tail");
        assert_eq!(buffered.read_at(&mut room, buffered.len()).unwrap(), 0);
    }

    #[test]
    fn what_goes_over_the_limit_is_refused() {
        let account = SpoolAccount::new(2 * MEMORY);
        let mut buffered = Buffered::new(&account);
        buffered.write(&vec![7; 2 * MEMORY as usize]).unwrap();
        assert!(NoRoom::is_cause_of(&buffered.write(b"x").unwrap_err()));
        let mut other = Buffered::new(&account);
        other.write(&vec![7; MEMORY as usize]).unwrap();
        assert!(NoRoom::is_cause_of(&other.write(b"x").unwrap_err()), "it would need a file");
        drop(buffered);
        other.write(&vec![7; MEMORY as usize]).unwrap();
        assert!(other.is_on_disk);
    }
}
