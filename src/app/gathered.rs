//! A request's content gathered whole before anyone else sees it: in memory, and once it is larger than
//! `MEMORY`, or there is too much of all clients, in an unlinked temporary file.

use crate::app::temporary::{self, Share};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What most forms and API calls stay below.
const MEMORY: usize = 1024 * 1024;

#[derive(Debug, Default)]
pub struct Gathered {
    /// All of it, unless there is a file.
    memory: Vec<u8>,
    share: Share,
    file: Option<File>,
    len: u64,
}

impl Gathered {
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn write(&mut self, data: &[u8]) -> io::Result<()> {
        let fits = self.memory.len() + data.len() <= MEMORY;
        if self.file.is_none() && !(fits && self.share.grow(data.len())) {
            let file = temporary::open()?;
            file.write_all_at(&self.memory, 0)?;
            (self.memory, self.share) = (Vec::new(), Share::default());
            self.file = Some(file);
        }
        match &self.file {
            None => self.memory.extend_from_slice(data),
            Some(file) => file.write_all_at(data, self.len)?,
        }
        self.len += data.len() as u64;
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_content_moves_to_a_file() {
        let mut gathered = Gathered::default();
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
}
