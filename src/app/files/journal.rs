//! Which directories of a store may hold temporary files: a start finds what a killed server has left there without
//! walking the tree.
//!
//! The journal is a file in the store's own directory, `.dustdevil-journal`, which is never served or listed. A record is a
//! NUL, the path of a directory below the store, and a NUL. No name holds a NUL, and the NUL in front ends a record that was
//! cut short. Empty records mean nothing. The store's own directory has no record: every start looks through it.
//!
//! Its one rule: **a directory is in the journal before an upload into it begins.** There is no fsync: a killed server
//! loses nothing, a power cut may lose the newest records, and then the next upload into that directory finds what was left.
//!
//! Servers share a store, on one machine or in several containers, where process ids say nothing. Each holds a shared
//! flock(2) on the journal as long as it lives. The journal is removed when its directories have been looked through, and
//! only by a server that gets the exclusive lock, which is then the only one. At `LIMIT` no record is added any more.

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
/// Bytes: a thousand directories and more. A start looks through each of them.
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
    /// Where other servers' records count as well.
    folders: HashSet<Box<[u8]>>,
    /// Uploads of this server under way: the journal is not removed meanwhile.
    uploads: usize,
    /// Whether the log has been told that the journal cannot be written.
    is_logged: bool,
}

/// An upload under way, in a directory that the journal names.
#[derive(Debug)]
pub struct JournalEntry(Arc<Journal>);

impl Drop for JournalEntry {
    fn drop(&mut self) {
        sync::lock(&self.0.state).uploads -= 1;
    }
}

impl Journal {
    /// Names `folder`, a path below the store, for as long as an upload into it takes and after. An upload goes on without
    /// its record where the journal cannot be written; the log says so, once.
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

    /// The directories that it names, of all servers; none where there is no journal.
    pub fn folders(&self, store: &OwnedFd) -> Vec<Box<[u8]>> {
        let mut state = sync::lock(&self.state);
        // Where it cannot be opened or read there is nothing that could be done at a start.
        let _ = state.open(store, OFlags::empty()).and_then(|()| state.read_on());
        state.folders.iter().cloned().collect()
    }

    /// Whether its directories should be looked through, so that it can be removed, before no record fits any more.
    pub fn is_long(&self) -> bool {
        sync::lock(&self.state).read >= LIMIT / 2
    }

    /// Removes the journal, all of whose `count` directories have been looked through. Not while another server has it
    /// open, or an upload is under way, or it names more directories by now.
    pub fn remove_if_alone(&self, store: &OwnedFd, count: usize) {
        let mut state = sync::lock(&self.state);
        let Some(file) = &state.file else { return };
        if state.uploads > 0 || flock(file, FlockOperation::NonBlockingLockExclusive).is_err() {
            // A conversion that fails may lose the lock that was held (flock(2)).
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

    /// Opens the file unless that has been done and it still has its name.
    fn open(&mut self, store: &OwnedFd, more: OFlags) -> io::Result<()> {
        if let Some(file) = &self.file
            && fstat(file)?.st_nlink > 0
        {
            return Ok(());
        }
        self.forget();
        // Nothing is followed, and a FIFO of that name does not block.
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        for _ in 0..TRIES {
            let file = openat(store, NAME, flags | OFlags::CLOEXEC | more, Mode::from_raw_mode(0o666))?;
            if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
                return Err(Errno::INVAL.into());
            }
            // Where there are no locks the file is never removed.
            let is_busy = flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK);
            // It may have been removed between the two calls.
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
            // One call: with O_APPEND records of two servers do not mix.
            file.write_all(&record)?;
        }
        self.read_on()
    }

    /// Reads the records that have been added, by whatever server.
    fn read_on(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let end = file.metadata()?.len().min(LIMIT);
        if end <= self.read {
            return Ok(());
        }
        let mut bytes = vec![0; (end - self.read) as usize];
        let len = file.read_at(&mut bytes, self.read)?;
        // A record without its end may be one that is being written.
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
        // One that is written in two parts counts when it is whole.
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
        // Somebody clears up.
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
