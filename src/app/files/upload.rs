//! An upload on its way to the disk: a temporary file in the target's directory, which gets the target's name at the
//! end.
//!
//! Others decide whether the upload is wanted (route, size, preconditions), decode the body's framing and choose the
//! status. Makes no directories. Its one rule: **a reader sees the old file or the whole new one, and a broken upload
//! leaves nothing.** `staging` makes the file and gives it its name. The journal names the directory, so that leftovers
//! of a killed server are found.
//!
//! If the final name is a symbolic link, the link itself is replaced, not its target. A file that replaces another gets
//! its permissions, and its owner and group if the system permits that, but not its set-id bits, access control lists
//! and extended attributes. A file that replaces none has the mode 0666 less the umask. There is no fsync: it would
//! block the event loop until the disk has written. After a power cut the name may lead to an empty file.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::journal::JournalEntry;
use super::lookup::{Refused, Root};
pub use super::staging::Moment;
use super::staging::Staged;
use super::writable::Writable;

/// A running upload. If it is dropped before `commit`, nothing of it is left.
#[derive(Debug)]
pub struct Incoming {
    staged: Staged,
    name: Vec<u8>,
    /// Dropped after `staged`: fields are dropped in this order.
    _entry: JournalEntry,
}

/// What `commit` does if the name is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// Leaves the existing file (`If-None-Match: *`). The check and the rename are one system call.
    CreateOnly,
    Replace,
}

/// What `commit` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    Created,
    /// The name was taken. (If another process removes the old file during the commit, the result is still `Replaced`.)
    Replaced,
    /// The name was taken, and `CreateOnly` left the existing file. The upload has been dropped.
    Exists,
}

/// Why an upload cannot be kept. `?` converts the io errors of `write` and `commit` to this.
#[derive(Debug)]
pub enum UploadError {
    /// The resolver or the file system refuses the path: NotFound, Forbidden (also for a read-only file system), ...
    Refused(Refused),
    /// The path leads to a directory.
    Directory,
    /// No space, no inode, over quota, or over the largest file allowed: 507.
    Full,
}

impl Incoming {
    /// Begins an upload to `path` below the root. Its directory has to exist.
    pub fn create(store: &Writable, root: &Arc<Root>, path: &[u8]) -> Result<Incoming, UploadError> {
        let (dir, name) = root.parent(path)?;
        // Refused before the content arrives. `commit` checks again, for a directory that is made meanwhile.
        let old = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).ok();
        if old.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir()) {
            return Err(UploadError::Directory);
        }
        let entry = store.enter(root, path);
        let staged = Staged::create(store, root, dir, old.as_ref())?;
        Ok(Incoming { staged, name: name.to_vec(), _entry: entry })
    }

    /// Appends all of `bytes`.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        // write_all repeats after EINTR and short writes. A write of 0 bytes is an error and not an endless loop.
        self.staged.file.write_all(bytes)
    }

    /// The directory in which the file gets its name.
    pub fn dir(&self) -> &OwnedFd {
        &self.staged.dir
    }

    /// Writes what is still buffered, so that `commit` need not.
    pub fn flush(&mut self) -> io::Result<()> {
        self.staged.file.flush()
    }

    /// Gives the file its name below `root`, in one step. On an error (for example, a directory has the name) nothing
    /// of the upload is left.
    pub fn commit(mut self, root: &Root, mode: Commit, moment: Moment) -> io::Result<Committed> {
        self.flush()?;
        // Tried first even for `Replace`: if two uploads create the same file, exactly one gets `Created`.
        match self.staged.take_free_name(root, &self.name, moment) {
            Ok(()) => Ok(Committed::Created),
            Err(Errno::EXIST) if mode == Commit::CreateOnly => Ok(Committed::Exists),
            Err(Errno::EXIST) => {
                self.staged.replace(root, &self.name, moment)?;
                Ok(Committed::Replaced)
            }
            Err(errno) => Err(errno.into()),
        }
    }
}

impl From<Refused> for UploadError {
    fn from(refused: Refused) -> UploadError {
        UploadError::Refused(refused)
    }
}

impl From<Errno> for UploadError {
    fn from(errno: Errno) -> UploadError {
        match errno {
            Errno::NOSPC | Errno::DQUOT | Errno::FBIG => UploadError::Full,
            Errno::ISDIR => UploadError::Directory,
            errno => UploadError::Refused(errno.into()),
        }
    }
}

impl From<io::Error> for UploadError {
    fn from(error: io::Error) -> UploadError {
        match Errno::from_io_error(&error) {
            Some(errno) => errno.into(),
            None => UploadError::Refused(Refused::Other(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::root_path::{RootPath, RootRules};
    use super::super::scratch::Scratch;
    use super::super::sent_dates::SentDates;
    use super::super::staging::BUFFER;
    use super::*;
    use std::fs::File;
    use std::io::BufWriter;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::LazyLock;

    /// Later than every file of a test.
    static NOTHING_SENT: LazyLock<SentDates> = LazyLock::new(SentDates::default);

    fn moment() -> Moment<'static> {
        Moment { now: 10_000_000_000, path: b"", sent: &NOTHING_SENT }
    }

    fn store(dir: &Scratch) -> Writable {
        Writable::new(RootPath::open(&dir.root(), RootRules::default()).unwrap())
    }

    fn root(store: &Writable) -> Arc<Root> {
        store.root.known().unwrap()
    }

    fn upload(store: &Writable, path: &str, text: &str, mode: Commit) -> Result<Committed, UploadError> {
        let mut incoming = Incoming::create(store, &root(store), path.as_bytes())?;
        for byte in text.bytes() {
            incoming.write(&[byte])?;
        }
        Ok(incoming.commit(&root(store), mode, moment())?)
    }

    /// All names below the root, dotfiles too, sorted.
    fn names(dir: &Scratch) -> Vec<String> {
        let entries = std::fs::read_dir(dir.root()).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn text(dir: &Scratch, path: &str) -> String {
        std::fs::read_to_string(dir.root().join(path)).unwrap()
    }

    #[test]
    fn an_upload_appears_whole_at_its_commit() {
        let dir = Scratch::new();
        let store = store(&dir);
        let mut incoming = Incoming::create(&store, &root(&store), b"new").unwrap();
        incoming.write(b"hel").unwrap();
        assert_eq!(names(&dir), [""; 0], "a file without a name");
        incoming.write(b"").unwrap();
        incoming.write(b"lo").unwrap();
        assert_eq!(incoming.commit(&root(&store), Commit::Replace, moment()).unwrap(), Committed::Created);
        assert_eq!(names(&dir), ["new"]);
        assert_eq!(text(&dir, "new"), "hello");
        let mode = std::fs::metadata(dir.root().join("new")).unwrap().permissions().mode();
        std::fs::write(dir.root().join("by std"), "").unwrap();
        let usual = std::fs::metadata(dir.root().join("by std")).unwrap().permissions().mode();
        assert_eq!(mode, usual, "0666 less the umask");
    }

    #[test]
    fn an_upload_dropped_leaves_nothing_and_the_old_file_stays() {
        let dir = Scratch::new();
        dir.file("old", "old");
        let store = store(&dir);
        for path in ["old", "new"] {
            let mut incoming = Incoming::create(&store, &root(&store), path.as_bytes()).unwrap();
            incoming.write(b"half").unwrap();
            drop(incoming);
            assert_eq!(names(&dir), ["old"]);
            assert_eq!(text(&dir, "old"), "old");
        }
    }

    #[test]
    fn create_only_keeps_what_is_there_and_replace_replaces() {
        let dir = Scratch::new();
        let store = store(&dir);
        for (mode, content, done, after) in [
            (Commit::CreateOnly, "1", Committed::Created, "1"),
            (Commit::CreateOnly, "2", Committed::Exists, "1"),
            (Commit::Replace, "3", Committed::Replaced, "3"),
            (Commit::Replace, "", Committed::Replaced, ""),
        ] {
            assert_eq!(upload(&store, "a", content, mode).unwrap(), done);
            assert_eq!(text(&dir, "a"), after);
            assert_eq!(names(&dir), ["a"]);
        }
    }

    #[test]
    fn of_many_uploads_of_one_name_exactly_one_creates_it() {
        let dir = Scratch::new();
        let store = store(&dir);
        for mode in [Commit::CreateOnly, Commit::Replace] {
            let done: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| upload(&store, "a", "same", mode))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
            });
            assert_eq!(done.iter().filter(|&&done| done == Committed::Created).count(), 1, "{done:?}");
            assert_eq!(names(&dir), ["a"]);
            std::fs::remove_file(dir.root().join("a")).unwrap();
        }
    }

    #[test]
    fn a_link_at_the_final_name_is_replaced_not_followed() {
        let dir = Scratch::new();
        let secret = dir.outside().join("secret.txt");
        let store = store(&dir);
        for target in [secret.clone(), dir.outside(), dir.root().join("nothing")] {
            dir.link(&target, "link");
            assert_eq!(upload(&store, "link", "new", Commit::CreateOnly).unwrap(), Committed::Exists);
            assert_eq!(upload(&store, "link", "new", Commit::Replace).unwrap(), Committed::Replaced);
            assert!(dir.root().join("link").symlink_metadata().unwrap().is_file());
            assert_eq!(text(&dir, "link"), "new");
            std::fs::remove_file(dir.root().join("link")).unwrap();
        }
        assert_eq!(std::fs::read_to_string(secret).unwrap(), "secret");
        assert_eq!(names(&dir), [""; 0]);
    }

    #[test]
    fn a_directory_is_never_replaced() {
        let dir = Scratch::new();
        std::fs::create_dir(dir.root().join("sub")).unwrap();
        let store = store(&dir);
        assert!(matches!(Incoming::create(&store, &root(&store), b"sub"), Err(UploadError::Directory)));
        // A directory that appears while the content arrives.
        let incoming = Incoming::create(&store, &root(&store), b"late").unwrap();
        std::fs::create_dir(dir.root().join("late")).unwrap();
        let error = incoming.commit(&root(&store), Commit::Replace, moment()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        assert!(matches!(UploadError::from(error), UploadError::Directory));
        assert_eq!(names(&dir), ["late", "sub"]);
    }

    #[test]
    fn names_that_could_leave_the_root_never_touch_the_disk() {
        let dir = Scratch::new();
        dir.link("../outside", "out");
        let store = store(&dir);
        for path in ["", "/", "../x", "a/../../x", "out/x", "nothing/x", ".env", "a\0b", ".", "..", "sub/", "/x"] {
            let error = Incoming::create(&store, &root(&store), path.as_bytes()).unwrap_err();
            assert!(matches!(error, UploadError::Refused(Refused::NotFound)), "{path} {error:?}");
        }
        assert_eq!(names(&dir), ["out"]);
        assert_eq!(std::fs::read_dir(dir.outside()).unwrap().count(), 1);
    }

    #[test]
    fn names_of_any_bytes_are_kept_up_to_255() {
        let dir = Scratch::new();
        let store = store(&dir);
        for path in ["a b%?#\n\"<", "\u{2192}", &"n".repeat(255)] {
            assert_eq!(upload(&store, path, "x", Commit::CreateOnly).unwrap(), Committed::Created);
            assert_eq!(text(&dir, path), "x");
        }
        assert!(upload(&store, &"n".repeat(256), "x", Commit::CreateOnly).is_err());
    }

    #[test]
    fn a_full_disk_has_its_own_error_and_leaves_nothing() {
        let dir = Scratch::new();
        let store = store(&dir);
        // The error comes from `write`, or from `commit` if the content was short enough to stay in the buffer.
        for length in [BUFFER, 1] {
            let mut incoming = Incoming::create(&store, &root(&store), b"a").unwrap();
            let full = File::options().write(true).open("/dev/full").unwrap();
            incoming.staged.file = BufWriter::with_capacity(BUFFER, full);
            let result = incoming
                .write(&vec![0; length])
                .and_then(|()| incoming.commit(&root(&store), Commit::Replace, moment()));
            assert!(matches!(UploadError::from(result.unwrap_err()), UploadError::Full));
        }
        assert_eq!(names(&dir), [""; 0]);
        for errno in [Errno::NOSPC, Errno::DQUOT, Errno::FBIG] {
            assert!(matches!(UploadError::from(io::Error::from(errno)), UploadError::Full), "{errno}");
        }
        for errno in [Errno::ROFS, Errno::ACCESS, Errno::PERM] {
            assert!(matches!(UploadError::from(errno), UploadError::Refused(Refused::Forbidden)), "{errno}");
        }
        let error = UploadError::from(io::Error::from(io::ErrorKind::WriteZero));
        assert!(matches!(error, UploadError::Refused(Refused::Other(_))));
    }
}
