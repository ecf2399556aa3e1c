//! Which directories of a store may hold temporary files. With it, a start finds what a killed server has left there
//! without walking the tree.
//!
//! The journal is a file in the store's own directory, `.dustdevil-journal`, which is never served or listed. A record
//! is a NUL, the path of a directory below the store, and a NUL. No name holds a NUL, and the NUL in front ends a
//! record that was cut short. Empty records mean nothing. The store's own directory has no record: every start scans
//! it.
//!
//! Its one rule: **a directory is in the journal before an upload into it begins.** There is no fsync. If the server is
//! killed, no record is lost. A power cut may lose the newest records; then the next upload into such a directory finds
//! the leftovers.
//!
//! Several servers may share a store, on one machine or in several containers, where process ids say nothing. Each
//! holds a shared flock(2) on the journal while it runs. After all of its directories have been scanned, the journal is
//! removed, but only by a server that gets the exclusive lock: then no other server uses the journal. At `LIMIT` bytes
//! no record is added any more.

use crate::sync;
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, flock, fstat, openat, statat, unlinkat};
use rustix::io::Errno;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

const NAME: &str = ".dustdevil-journal";
/// Bytes: enough for more than a thousand directories. At start each of them is scanned.
const LIMIT: u64 = 64 * 1024;
/// How often the journal is opened when another server removes it at that moment.
const TRIES: usize = 4;

/// The journal of one store.
#[derive(Debug, Default)]
pub struct Journal {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Holds the shared lock.
    file: Option<File>,
    /// Bytes of the file that have been read; a record ends there.
    read: u64,
    /// The directories that the journal names, from the records of all servers.
    folders: HashSet<Box<[u8]>>,
    /// Running uploads of this server. While there are any, the journal is not removed.
    uploads: usize,
    /// Whether the warning that the journal cannot be written has been logged.
    is_logged: bool,
}

/// A running upload, in a directory that the journal names.
#[derive(Debug)]
pub struct JournalEntry(Arc<Journal>);

impl Drop for JournalEntry {
    fn drop(&mut self) {
        sync::lock(&self.0.state).uploads -= 1;
    }
}

impl Journal {
    /// Adds `folder`, a path below the store, to the journal. The record stays when the upload ends. If the journal
    /// cannot be written, the upload continues without a record; the log says so, once.
    pub fn enter(self: &Arc<Journal>, store: &OwnedFd, folder: &[u8]) -> JournalEntry {
        let mut state = sync::lock(&self.state);
        state.uploads += 1;
        if !folder.is_empty()
            && let Err(error) = state.add(store, folder)
            && !std::mem::replace(&mut state.is_logged, true)
        {
            log::warn!(
                "{NAME} in the store cannot be written: {error}; an upload that is cut by the server's death may leave a \
                 temporary file until the next upload into its directory: let the server write to its store"
            );
        }
        JournalEntry(Arc::clone(self))
    }

    /// The directories that the journal names, from the records of all servers; empty if there is no journal.
    pub fn folders(&self, store: &OwnedFd) -> Vec<Box<[u8]>> {
        let mut state = sync::lock(&self.state);
        // An error is ignored: at start nothing could be done about it. `enter` reports it.
        let _ = state.open(store, OFlags::empty()).and_then(|()| state.read_on());
        state.folders.iter().cloned().collect()
    }

    /// Whether the journal is half full: then its directories should be scanned, so that it can be removed before it is
    /// full.
    pub fn is_long(&self) -> bool {
        sync::lock(&self.state).read >= LIMIT / 2
    }

    /// Removes the journal after all of its `count` directories have been scanned. It stays if another server has it
    /// open, if an upload runs, or if it names more directories by now.
    pub fn remove_if_alone(&self, store: &OwnedFd, count: usize) {
        let mut state = sync::lock(&self.state);
        let Some(file) = &state.file else { return };
        if state.uploads > 0 || flock(file, FlockOperation::NonBlockingLockExclusive).is_err() {
            // A failed conversion of the lock may lose the shared one (flock(2)).
            let _ = flock(file, FlockOperation::NonBlockingLockShared);
            return;
        }
        let is_done = state.read_on().is_ok() && state.folders.len() <= count;
        let Some(file) = &state.file else { return };
        let is_same = || Some(identity(&fstat(file).ok()?) == identity(&statat(store, NAME, NOFOLLOW).ok()?));
        if is_done && is_same() == Some(true) && unlinkat(store, NAME, AtFlags::empty()).is_ok() {
            state.forget();
        } else {
            let _ = flock(file, FlockOperation::NonBlockingLockShared);
        }
    }
}

impl State {
    fn forget(&mut self) {
        (self.file, self.read) = (None, 0);
        self.folders.clear();
    }

    /// Opens the journal, unless it is open and still has its name.
    fn open(&mut self, store: &OwnedFd, more: OFlags) -> io::Result<()> {
        if let Some(file) = &self.file
            && fstat(file)?.st_nlink > 0
        {
            return Ok(());
        }
        self.forget();
        // O_NOFOLLOW: a symbolic link is refused. O_NONBLOCK: a FIFO of this name does not block.
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        for _ in 0..TRIES {
            let file = openat(store, NAME, flags | OFlags::CLOEXEC | more, Mode::from_raw_mode(0o666))?;
            if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
                return Err(Errno::INVAL.into());
            }
            // If the file system has no locks, the journal is never removed, so it can be used without one.
            let is_busy = flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK);
            // Another server may have removed the journal between open and flock.
            if !is_busy && fstat(&file)?.st_nlink > 0 {
                self.file = Some(File::from(file));
                return Ok(());
            }
        }
        Err(Errno::AGAIN.into())
    }

    fn add(&mut self, store: &OwnedFd, folder: &[u8]) -> io::Result<()> {
        self.open(store, OFlags::CREATE)?;
        self.read_on()?;
        let record = [b"\0", folder, b"\0"].concat();
        if self.folders.contains(folder) || self.read + record.len() as u64 > LIMIT {
            return Ok(());
        }
        if let Some(file) = &mut self.file {
            // One call: O_APPEND then keeps the records of two servers apart.
            file.write_all(&record)?;
        }
        self.read_on()
    }

    /// Reads the records that this server or another has added.
    fn read_on(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let end = file.metadata()?.len().min(LIMIT);
        if end <= self.read {
            return Ok(());
        }
        let mut bytes = vec![0; (end - self.read) as usize];
        let len = file.read_at(&mut bytes, self.read)?;
        // A record without its final NUL may still be being written.
        let Some(last) = memchr::memrchr(0, &bytes[..len]) else { return Ok(()) };
        let records = bytes[..last].split(|&byte| byte == 0).filter(|record| !record.is_empty());
        self.folders.extend(records.map(Box::from));
        self.read += last as u64 + 1;
        Ok(())
    }
}

const NOFOLLOW: AtFlags = AtFlags::SYMLINK_NOFOLLOW;

// The fields' types differ from one architecture to the next.
#[allow(clippy::unnecessary_cast)]
pub(super) fn identity(stat: &rustix::fs::Stat) -> (u64, u64) {
    (stat.st_dev as u64, stat.st_ino as u64)
}

#[cfg(test)]
mod tests {
    use super::super::scratch::Scratch;
    use super::*;

    fn store(dir: &Scratch) -> OwnedFd {
        rustix::fs::open(dir.root(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    fn folders(journal: &Journal, store: &OwnedFd) -> Vec<String> {
        let folders = journal.folders(store).into_iter();
        let mut folders: Vec<_> = folders.map(|folder| String::from_utf8(folder.into()).unwrap()).collect();
        folders.sort();
        folders
    }

    fn bytes(dir: &Scratch) -> Vec<u8> {
        std::fs::read(dir.root().join(NAME)).unwrap_or_default()
    }

    #[test]
    fn a_directory_is_named_once_by_all_servers_and_found_by_the_next() {
        let dir = Scratch::new();
        let store = store(&dir);
        let (one, other) = (Arc::<Journal>::default(), Arc::<Journal>::default());
        assert!(one.folders(&store).is_empty());
        drop(one.enter(&store, b""));
        assert!(!dir.root().join(NAME).exists(), "the store's own directory needs no record");
        for journal in [&one, &other, &one] {
            drop(journal.enter(&store, b"a/b\nc"));
        }
        drop(other.enter(&store, b"d"));
        assert_eq!(bytes(&dir), b"\0a/b\nc\0\0d\0");
        for journal in [&one, &other, &Arc::default()] {
            assert_eq!(folders(journal, &store), ["a/b\nc", "d"]);
        }
    }

    #[test]
    fn a_record_that_was_cut_short_spoils_no_other() {
        let dir = Scratch::new();
        let store = store(&dir);
        std::fs::write(dir.root().join(NAME), b"\0a\0\0sub/fold").unwrap();
        let journal = Arc::<Journal>::default();
        assert_eq!(folders(&journal, &store), ["a"]);
        drop(journal.enter(&store, b"new"));
        assert_eq!(folders(&journal, &store), ["a", "new", "sub/fold"]);
        // A record that is written in two parts counts only when it is complete.
        let mut file = File::options().append(true).open(dir.root().join(NAME)).unwrap();
        file.write_all(b"\0la").unwrap();
        assert_eq!(folders(&journal, &store), ["a", "new", "sub/fold"]);
        file.write_all(b"te\0").unwrap();
        assert_eq!(folders(&journal, &store), ["a", "late", "new", "sub/fold"]);
    }

    #[test]
    fn it_stays_below_its_limit() {
        let dir = Scratch::new();
        let store = store(&dir);
        let journal = Arc::<Journal>::default();
        for number in 0..2000 {
            drop(journal.enter(&store, format!("{number:0>100}").as_bytes()));
        }
        assert!(journal.is_long() && bytes(&dir).len() as u64 <= LIMIT);
        std::fs::write(dir.root().join(NAME), vec![b'x'; 1 << 20]).unwrap();
        assert!(Journal::default().folders(&store).is_empty(), "no more is read");
    }

    #[test]
    fn it_is_removed_by_the_only_server_when_nothing_is_under_way() {
        let dir = Scratch::new();
        let store = store(&dir);
        let (one, other) = (Arc::<Journal>::default(), Arc::<Journal>::default());
        let entry = one.enter(&store, b"a");
        one.remove_if_alone(&store, 1);
        assert_eq!(bytes(&dir), b"\0a\0", "an upload is under way");
        drop(entry);
        drop(other.enter(&store, b"b"));
        one.remove_if_alone(&store, 2);
        other.remove_if_alone(&store, 2);
        assert_eq!(bytes(&dir), b"\0a\0\0b\0", "there are two servers");
        drop(one);
        other.remove_if_alone(&store, 1);
        assert_eq!(bytes(&dir), b"\0a\0\0b\0", "one directory has not been looked through");
        other.remove_if_alone(&store, 2);
        assert!(!dir.root().join(NAME).exists());
        drop(other.enter(&store, b"c"));
        assert_eq!((bytes(&dir), folders(&other, &store)), (b"\0c\0".to_vec(), vec!["c".to_owned()]));
        // The administrator removes the journal.
        std::fs::remove_file(dir.root().join(NAME)).unwrap();
        drop(other.enter(&store, b"c"));
        assert_eq!(bytes(&dir), b"\0c\0");
    }

    #[test]
    fn what_is_no_file_is_neither_followed_nor_waited_for() {
        let dir = Scratch::new();
        let (store, path) = (store(&dir), dir.root().join(NAME));
        dir.link(dir.outside().join("secret.txt"), NAME);
        let journal = Arc::<Journal>::default();
        drop(journal.enter(&store, b"a"));
        assert_eq!(std::fs::read(dir.outside().join("secret.txt")).unwrap(), b"secret");
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        drop(journal.enter(&store, b"a"));
        assert!(journal.folders(&store).is_empty());
        std::fs::remove_file(&path).unwrap();
        drop(journal.enter(&store, b"a"));
        assert_eq!(bytes(&dir), b"\0a\0");
    }
}
