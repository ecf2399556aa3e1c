//! A request's content gathered whole before anyone else sees it: in memory, and once it is larger than
//! `MEMORY`, or there is too much of all clients, in an unlinked temporary file.

use crate::app::temporary::{self, NoRoom, Share, SpoolAccount};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// What most forms and API calls stay below.
const MEMORY: usize = 1024 * 1024;

#[derive(Debug)]
pub struct Gathered {
    /// All of it, unless there is a file.
    memory: Vec<u8>,
    share: Share,
    file: Option<File>,
    /// Whether another process may read the file, too.
    is_passed_on: bool,
    len: u64,
}

impl Gathered {
    pub fn new(account: &Arc<SpoolAccount>) -> Gathered {
        Gathered { memory: Vec::new(), share: Share::new(account), file: None, is_passed_on: false, len: 0 }
    }

    /// The file is for another process to read, which may do so for longer than this is kept.
    pub fn passed_on(account: &Arc<SpoolAccount>) -> Gathered {
        let mut gathered = Gathered::new(account);
        gathered.is_passed_on = true;
        gathered
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes a piece more.
    ///
    /// # Errors
    /// `NoRoom`: all clients together keep as much as they may. Or the file cannot be made or written.
    pub fn write(&mut self, data: &[u8]) -> io::Result<()> {
        let fits = self.file.is_none() && self.memory.len() + data.len() <= MEMORY;
        if fits && self.share.take_memory(data.len()) {
            self.memory.extend_from_slice(data);
            self.len += data.len() as u64;
            return Ok(());
        }
        if self.file.is_none() {
            self.move_to_file()?;
        }
        self.take_file(data.len() as u64)?;
        if let Some(file) = &self.file {
            file.write_all_at(data, self.len)?;
        }
        self.len += data.len() as u64;
        Ok(())
    }

    fn move_to_file(&mut self) -> io::Result<()> {
        self.take_file(self.len)?;
        let file = temporary::open()?;
        file.write_all_at(&self.memory, 0)?;
        self.share.give_memory(self.memory.len());
        (self.memory, self.file) = (Vec::new(), Some(file));
        Ok(())
    }

    fn take_file(&mut self, bytes: u64) -> io::Result<()> {
        if self.share.take_file(bytes) { Ok(()) } else { Err(NoRoom.into()) }
    }

    /// The bytes, where they are in memory.
    pub fn memory(&self) -> Option<&[u8]> {
        self.file.is_none().then_some(&self.memory)
    }

    /// The file that holds them, where they are not.
    pub fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// Reads at `at`; fewer bytes than there is room for at the end only.
    pub fn read_at(&self, room: &mut [u8], at: u64) -> io::Result<usize> {
        let len = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX).min(room.len());
        match &self.file {
            Some(file) => file.read_exact_at(&mut room[..len], at)?,
            None => room[..len].copy_from_slice(&self.memory[at as usize..][..len]),
        }
        Ok(len)
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        // What another process reads must not be shortened under it: it is only closed.
        if let Some(file) = self.file.take().filter(|_| !self.is_passed_on) {
            self.share.discard(file, self.len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_content_moves_to_a_file() {
        let mut gathered = Gathered::new(&SpoolAccount::new(2 * MEMORY as u64));
        gathered.write(b"head").unwrap();
        assert_eq!(gathered.memory(), Some(&b"head"[..]));
        gathered.write(&vec![7; MEMORY]).unwrap();
        gathered.write(b"tail").unwrap();
        assert!(gathered.memory().is_none() && gathered.file().is_some());
        assert_eq!(gathered.len(), MEMORY as u64 + 8);
        let mut room = [0; 16];
        assert_eq!(gathered.read_at(&mut room, 0).unwrap(), 16);
        assert_eq!(&room[..5], b"head\x07");
        assert_eq!(gathered.read_at(&mut room, gathered.len() - 5).unwrap(), 5);
        assert_eq!(&room[..5], b"\x07tail");
        assert_eq!(gathered.read_at(&mut room, gathered.len()).unwrap(), 0);
    }

    #[test]
    fn what_goes_over_the_limit_is_refused() {
        let account = SpoolAccount::new(2 * MEMORY as u64);
        let mut gathered = Gathered::new(&account);
        gathered.write(&vec![7; 2 * MEMORY]).unwrap();
        assert!(NoRoom::is_cause_of(&gathered.write(b"x").unwrap_err()));
        let mut other = Gathered::new(&account);
        other.write(&vec![7; MEMORY]).unwrap();
        assert!(NoRoom::is_cause_of(&other.write(b"x").unwrap_err()), "it would need a file");
        drop(gathered);
        other.write(&vec![7; MEMORY]).unwrap();
        assert!(other.file().is_some());
    }
}
