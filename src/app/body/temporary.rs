//! Temporary files without a name: the system removes them when they are closed, however the server ends. And the
//! account of the bytes that all clients together keep in temporary files, or in memory instead.

use crate::sync;
use rustix::fs::{MemfdFlags, OFlags};
use std::error::Error;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Most bytes that all clients together keep in memory.
const MEMORY: usize = 32 * 1024 * 1024;
/// Most bytes of a file that one call frees. Freeing 1 GiB in one call takes 86 ms on ext4, and 250 ms on tmpfs.
const PIECE: u64 = 4 * 1024 * 1024;

/// Counts the bytes that are kept for all clients together, in memory and in temporary files.
#[derive(Debug)]
pub struct SpoolAccount {
    memory: AtomicUsize,
    file: AtomicU64,
    /// Most bytes in temporary files (`--spool-limit`).
    limit: u64,
    /// Files that are no longer read and not freed yet, each with its length. Their bytes still count in `file`.
    discarded: Mutex<Vec<(File, u64)>>,
    /// How many files are in `discarded`, so that `has_discarded` takes no lock.
    count: AtomicUsize,
}

impl SpoolAccount {
    pub fn new(limit: u64) -> Arc<SpoolAccount> {
        let (memory, file, count) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicUsize::new(0));
        Arc::new(SpoolAccount { memory, file, limit, discarded: Mutex::default(), count })
    }

    /// Whether `free_some` has something to free.
    pub fn has_discarded(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Frees a piece of one discarded file. Returns false if there is no such file.
    pub fn free_some(&self) -> bool {
        if !self.has_discarded() {
            return false;
        }
        let Some((file, len)) = self.discarded().pop() else { return false };
        let rest = len.saturating_sub(PIECE);
        // If the file cannot be truncated, it is closed, which frees all of it.
        let rest = if rest > 0 && file.set_len(rest).is_ok() { rest } else { 0 };
        if rest > 0 {
            self.discarded().push((file, rest));
        } else {
            drop(file);
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        self.file.fetch_sub(len - rest, Ordering::Relaxed);
        true
    }

    fn discarded(&self) -> MutexGuard<'_, Vec<(File, u64)>> {
        sync::lock(&self.discarded)
    }
}

/// The part of the account that one owner takes. It is given back in Drop.
#[derive(Debug)]
pub struct Share {
    account: Arc<SpoolAccount>,
    memory: usize,
    file: u64,
}

impl Share {
    pub fn new(account: &Arc<SpoolAccount>) -> Share {
        Share { account: account.clone(), memory: 0, file: 0 }
    }

    /// An empty share of the same account.
    pub fn another(&self) -> Share {
        Share::new(&self.account)
    }

    /// Takes room for `bytes` more bytes in memory. Returns false if that would exceed the limit.
    pub fn take_memory(&mut self, bytes: usize) -> bool {
        let fits = |held: usize| held.checked_add(bytes).filter(|held| *held <= MEMORY);
        let is_taken = self.account.memory.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        self.memory += if is_taken { bytes } else { 0 };
        is_taken
    }

    pub fn give_memory(&mut self, bytes: usize) {
        self.memory -= bytes;
        self.account.memory.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Takes room for `bytes` more bytes in a file. Returns false if that would exceed the limit.
    pub fn take_file(&mut self, bytes: u64) -> bool {
        self.take_file_if(bytes, |held, limit| held.checked_add(bytes).is_some_and(|held| held <= limit))
    }

    /// Takes room for `bytes` more bytes in a file if the limit is not reached yet. This last piece may exceed the
    /// limit by its own size. While the limit is exceeded, every later call returns false.
    pub fn take_file_over_limit(&mut self, bytes: u64) -> bool {
        self.take_file_if(bytes, |held, limit| held < limit)
    }

    fn take_file_if(&mut self, bytes: u64, may: impl Fn(u64, u64) -> bool) -> bool {
        let take = |held: u64| may(held, self.account.limit).then_some(held + bytes);
        let is_taken = self.account.file.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        self.file += if is_taken { bytes } else { 0 };
        is_taken
    }

    pub fn give_file(&mut self, bytes: u64) {
        self.file -= bytes;
        self.account.file.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Closes a file of `bytes` bytes. No process may read it any more, because a large file is truncated piece by
    /// piece before it is closed (see `free_some`).
    pub fn discard(&mut self, file: File, bytes: u64) {
        if bytes <= PIECE {
            drop(file);
            return self.give_file(bytes);
        }
        self.file -= bytes;
        self.account.count.fetch_add(1, Ordering::Relaxed);
        self.account.discarded().push((file, bytes));
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_memory(self.memory);
        self.give_file(self.file);
    }
}

/// All clients together have reached the limit of temporary files. `is_cause_of` finds it inside an `io::Error`.
#[derive(Clone, Copy, Debug)]
pub struct NoRoom;

impl NoRoom {
    pub fn is_cause_of(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<NoRoom>())
    }
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("the temporary files have reached --spool-limit")
    }
}

impl Error for NoRoom {}

impl From<NoRoom> for io::Error {
    fn from(no_room: NoRoom) -> io::Error {
        io::Error::other(no_room)
    }
}

/// Opens a file in memory (memfd). If the system cannot do that, opens a file on a disk.
pub fn open_in_memory() -> io::Result<File> {
    match rustix::fs::memfd_create("dustdevil", MemfdFlags::CLOEXEC) {
        Ok(file) => Ok(file.into()),
        Err(_) => open(),
    }
}

/// Opens a file for reading and writing in the system's directory for temporary files.
pub fn open() -> io::Result<File> {
    let folder = std::env::temp_dir();
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    let nameless = options.clone().custom_flags(OFlags::TMPFILE.bits() as i32).open(&folder);
    if nameless.is_ok() {
        return nameless;
    }
    // NFS and older overlayfs do not know O_TMPFILE: there the file has a name for a moment.
    open_unlinked(&folder, &options, || RandomState::new().build_hasher().finish())
}

/// Creates a file with a random name and removes the name at once. If the name exists, tries another. A counted name would
/// not do: in a container every run has the same process id, and a killed run may have left its file.
fn open_unlinked(folder: &Path, options: &OpenOptions, mut random: impl FnMut() -> u64) -> io::Result<File> {
    loop {
        let path = folder.join(format!(".dustdevil-{}-{:016x}", std::process::id(), random()));
        match options.clone().create_new(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            created => {
                let file = created?;
                std::fs::remove_file(&path)?;
                return Ok(file);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_given_back_with_its_owner() {
        let account = SpoolAccount::new(100);
        let mut one = Share::new(&account);
        assert!(one.take_memory(MEMORY / 2) && one.take_file(60));
        one.give_memory(MEMORY / 4);
        assert!(!one.another().take_memory(MEMORY) && !one.another().take_file(41));
        drop(one);
        let mut other = Share::new(&account);
        assert!(!other.take_memory(MEMORY + 1) && !other.take_file(101));
        assert!(other.take_memory(MEMORY) && other.take_file(100));
    }

    #[test]
    fn the_last_piece_may_go_over_the_limit_and_no_other() {
        let account = SpoolAccount::new(100);
        let mut share = Share::new(&account);
        assert!(share.take_file_over_limit(99) && share.take_file_over_limit(50));
        assert!(!share.take_file_over_limit(1) && !share.another().take_file_over_limit(0));
        share.give_file(50);
        assert!(share.take_file(1) && !share.take_file(1));
        assert!(!Share::new(&SpoolAccount::new(0)).take_file_over_limit(1), "none at all");
    }

    #[test]
    fn a_name_that_a_killed_server_has_left_stands_in_nobodys_way() {
        let folder = std::env::temp_dir().join(format!("dustdevil-temporary-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let left = folder.join(format!(".dustdevil-{}-{:016x}", std::process::id(), 0));
        std::fs::write(&left, "left").unwrap();
        let mut names = [0, 0, 1].into_iter();
        let mut options = OpenOptions::new();
        let file = open_unlinked(&folder, options.read(true).write(true), || names.next().unwrap());
        let entries = std::fs::read_dir(&folder).unwrap().count();
        let content = std::fs::read(&left).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!((file.unwrap().metadata().unwrap().len(), entries, &*content), (0, 1, &b"left"[..]));
    }

    #[test]
    fn a_large_file_is_freed_in_pieces() {
        let account = SpoolAccount::new(10 * PIECE);
        let mut share = Share::new(&account);
        let len = 3 * PIECE + 1;
        assert!(share.take_file(len) && !account.has_discarded());
        let file = open().unwrap();
        file.set_len(len).unwrap();
        let seen = file.try_clone().unwrap();
        share.discard(file, len);
        drop(share);
        for rest in [2 * PIECE + 1, PIECE + 1, 1, 0] {
            assert!(account.has_discarded());
            assert!(!Share::new(&account).take_file(10 * PIECE - rest), "it counts until it is freed");
            assert!(account.free_some());
            assert_eq!(seen.metadata().unwrap().len(), rest.max(1));
            assert!(Share::new(&account).take_file(10 * PIECE - rest));
        }
        assert!(!account.has_discarded() && !account.free_some());
        let mut share = Share::new(&account);
        assert!(share.take_file(PIECE));
        share.discard(open().unwrap(), PIECE);
        assert!(!account.has_discarded() && share.take_file(10 * PIECE), "a small one goes at once");
    }
}
