//! An upload on its way to the disk: a temporary file beside its target, which takes the target's
//! name at the end.
//!
//! Leaves the decision whether the upload is wanted (route, size, preconditions), the body's
//! framing and the status to others. Makes no directories. Its one rule: **a reader sees the old
//! file or the whole new one, and a broken upload leaves nothing.** Until
//! [`commit`](Incoming::commit) the bytes stand under a name that is never served or listed, in the
//! same directory, because rename is atomic only within one file system; Drop removes it.
//!
//! Why a named file and not O_TMPFILE: a file without a name can be linked to a free name but never
//! over a taken one, so replacing would need the temporary name all the same; linking needs /proc,
//! and several file systems (NFS, older overlayfs) have no O_TMPFILE. The price: `kill -9` leaves a
//! dotfile, `.dustdevil-<pid>-<random>.tmp`.
//!
//! Nothing is followed at the final name: a symbolic link there is itself replaced. The new file
//! has the mode 0666 less the umask, whatever the old one had. There is no fsync: it would stop the
//! loop for the disk's time. After a power cut the name may stand for an empty file.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, BufWriter, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::lookup::{Refused, Root, TEMPORARY};

/// Pieces from here up are written as they come.
const BUFFER: usize = 4096;

/// An upload that has begun. Dropped before its commit it was never there.
#[derive(Debug)]
pub struct Incoming {
    dir: OwnedFd,
    /// Buffered: a client can make chunks of one byte, and a system call for each would hold the loop up.
    file: BufWriter<File>,
    temporary: Vec<u8>,
    name: Vec<u8>,
    /// Whether `temporary` is still ours to remove.
    pending: bool,
}

/// What commit does about a file that has the name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// Leaves it alone, decided in the same moment as the rename: `If-None-Match: *`.
    CreateOnly,
    Replace,
}

/// What commit has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    Created,
    /// The name was taken. (If someone deletes the old file within the commit it is still called
    /// replaced.)
    Replaced,
    /// The name was taken, and `CreateOnly` left it. The upload is gone.
    Exists,
}

/// Why an upload cannot be kept. The io errors of `write` and `commit` become one by `?`.
#[derive(Debug)]
pub enum UploadError {
    /// The place is refused by the resolver, or by the file system: NotFound, Forbidden (also
    /// read-only), ...
    Refused(Refused),
    /// The name stands for a directory.
    Directory,
    /// No space, no inode, over quota, or over the largest file allowed: 507.
    Full,
}

impl Incoming {
    /// Begins an upload to `path` below the root. Its directory has to exist.
    pub fn create(root: &Root, path: &[u8]) -> Result<Incoming, UploadError> {
        let (dir, name) = root.parent(path)?;
        // Known before the body is sent; commit finds out again, for one made meanwhile.
        let taken = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW);
        if taken.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir()) {
            return Err(UploadError::Directory);
        }
        let (file, temporary) = create_temporary(&dir)?;
        let file = BufWriter::with_capacity(BUFFER, file);
        Ok(Incoming { dir, file, temporary, name: name.to_vec(), pending: true })
    }

    /// Appends all of `bytes`.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Goes on after EINTR and short writes; a write of nothing, which would not end, is an
        // error.
        self.file.write_all(bytes)
    }

    /// The directory in which it takes its name.
    pub fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// Writes what is still held back, so that `commit` need not.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    /// Gives the file its name, in one step. On an error, a directory in its place among them, the
    /// upload is gone.
    pub fn commit(mut self, mode: Commit) -> io::Result<Committed> {
        self.file.flush()?;
        match self.take_free_name() {
            Ok(()) => Ok(Committed::Created),
            Err(Errno::EXIST) if mode == Commit::CreateOnly => Ok(Committed::Exists),
            Err(Errno::EXIST) => {
                rustix::fs::renameat(&self.dir, &self.temporary, &self.dir, &self.name)?;
                self.pending = false;
                Ok(Committed::Replaced)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes the name if it is free, EEXIST if not. Tried first even to replace: of two uploads
    /// that create the same file exactly one is told so.
    fn take_free_name(&mut self) -> Result<(), Errno> {
        let (dir, old, new) = (&self.dir, &self.temporary, &self.name);
        match rustix::fs::renameat_with(dir, old, dir, new, RenameFlags::NOREPLACE) {
            // NFS and many FUSE file systems have no such rename.
            Err(Errno::INVAL | Errno::NOSYS) => self.link_free_name(),
            Err(errno) => Err(errno),
            Ok(()) => {
                self.pending = false;
                Ok(())
            }
        }
    }

    /// The same by a second name, as atomic: Drop removes the first.
    fn link_free_name(&self) -> Result<(), Errno> {
        let (dir, old, new) = (&self.dir, &self.temporary, &self.name);
        rustix::fs::linkat(dir, old, dir, new, AtFlags::empty())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.pending {
            // Nobody is left to be told of a failure; the name is never served.
            let _ = rustix::fs::unlinkat(&self.dir, &self.temporary, AtFlags::empty());
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

/// Makes a new file in `dir`. Its name is random rather than counted: in a container every run has
/// the same pid, and a name left behind by the last one must not stand in the way.
fn create_temporary(dir: &OwnedFd) -> Result<(File, Vec<u8>), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o666);
    let mut name = TEMPORARY.to_vec();
    loop {
        name.truncate(TEMPORARY.len());
        // RandomState is the standard library's only source of chance, and good enough to avoid 2
        // in 2^64.
        let chance = RandomState::new().build_hasher().finish();
        write!(name, "{}-{chance:016x}.tmp", std::process::id()).map_err(|_| Errno::NOMEM)?;
        match rustix::fs::openat(dir, name.as_slice(), flags, mode) {
            Err(Errno::EXIST) => continue,
            other => return other.map(|fd| (File::from(fd), name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lookup::Symlinks;
    use super::super::scratch::Scratch;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn root(dir: &Scratch) -> Root {
        Root::open(&dir.root(), Symlinks::Inside, false).unwrap()
    }

    fn upload(root: &Root, path: &str, text: &str, mode: Commit) -> Result<Committed, UploadError> {
        let mut incoming = Incoming::create(root, path.as_bytes())?;
        for byte in text.bytes() {
            incoming.write(&[byte])?;
        }
        Ok(incoming.commit(mode)?)
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
        let root = root(&dir);
        let mut incoming = Incoming::create(&root, b"new").unwrap();
        incoming.write(b"hel").unwrap();
        let during = names(&dir);
        assert!(during.len() == 1 && during[0].starts_with(".dustdevil-") && during[0].ends_with(".tmp"), "{during:?}");
        incoming.write(b"").unwrap();
        incoming.write(b"lo").unwrap();
        assert_eq!(incoming.commit(Commit::Replace).unwrap(), Committed::Created);
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
        let root = root(&dir);
        for path in ["old", "new"] {
            let mut incoming = Incoming::create(&root, path.as_bytes()).unwrap();
            incoming.write(b"half").unwrap();
            drop(incoming);
            assert_eq!(names(&dir), ["old"]);
            assert_eq!(text(&dir, "old"), "old");
        }
    }

    #[test]
    fn create_only_keeps_what_is_there_and_replace_replaces() {
        let dir = Scratch::new();
        let root = root(&dir);
        for (mode, content, done, after) in [
            (Commit::CreateOnly, "1", Committed::Created, "1"),
            (Commit::CreateOnly, "2", Committed::Exists, "1"),
            (Commit::Replace, "3", Committed::Replaced, "3"),
            (Commit::Replace, "", Committed::Replaced, ""),
        ] {
            assert_eq!(upload(&root, "a", content, mode).unwrap(), done);
            assert_eq!(text(&dir, "a"), after);
            assert_eq!(names(&dir), ["a"]);
        }
    }

    #[test]
    fn without_renameat2_a_link_takes_the_free_name() {
        let dir = Scratch::new();
        let root = root(&dir);
        let mut first = Incoming::create(&root, b"a").unwrap();
        first.write(b"first").unwrap();
        first.link_free_name().unwrap();
        let second = Incoming::create(&root, b"a").unwrap();
        assert_eq!(second.link_free_name(), Err(Errno::EXIST));
        drop((first, second));
        assert_eq!(names(&dir), ["a"]);
        assert_eq!(text(&dir, "a"), "first");
    }

    #[test]
    fn of_many_uploads_of_one_name_exactly_one_creates_it() {
        let dir = Scratch::new();
        let root = root(&dir);
        for mode in [Commit::CreateOnly, Commit::Replace] {
            let done: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| upload(&root, "a", "same", mode))).collect();
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
        let root = root(&dir);
        for target in [secret.clone(), dir.outside(), dir.root().join("nothing")] {
            dir.link(&target, "link");
            assert_eq!(upload(&root, "link", "new", Commit::CreateOnly).unwrap(), Committed::Exists);
            assert_eq!(upload(&root, "link", "new", Commit::Replace).unwrap(), Committed::Replaced);
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
        let root = root(&dir);
        assert!(matches!(Incoming::create(&root, b"sub"), Err(UploadError::Directory)));
        // One that appears while the body is on its way.
        let incoming = Incoming::create(&root, b"late").unwrap();
        std::fs::create_dir(dir.root().join("late")).unwrap();
        let error = incoming.commit(Commit::Replace).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        assert!(matches!(UploadError::from(error), UploadError::Directory));
        assert_eq!(names(&dir), ["late", "sub"]);
    }

    #[test]
    fn names_that_could_leave_the_root_never_touch_the_disk() {
        let dir = Scratch::new();
        dir.link("../outside", "out");
        let root = root(&dir);
        for path in ["", "/", "../x", "a/../../x", "out/x", "nothing/x", ".env", "a\0b", ".", "..", "sub/", "/x"] {
            let error = Incoming::create(&root, path.as_bytes()).unwrap_err();
            assert!(matches!(error, UploadError::Refused(Refused::NotFound)), "{path} {error:?}");
        }
        assert_eq!(names(&dir), ["out"]);
        assert_eq!(std::fs::read_dir(dir.outside()).unwrap().count(), 1);
    }

    #[test]
    fn names_of_any_bytes_are_kept_up_to_255() {
        let dir = Scratch::new();
        let root = root(&dir);
        for path in ["a b%?#\n\"<", "\u{2192}", &"n".repeat(255)] {
            assert_eq!(upload(&root, path, "x", Commit::CreateOnly).unwrap(), Committed::Created);
            assert_eq!(text(&dir, path), "x");
        }
        assert!(upload(&root, &"n".repeat(256), "x", Commit::CreateOnly).is_err());
    }

    #[test]
    fn a_full_disk_has_its_own_error_and_leaves_nothing() {
        let dir = Scratch::new();
        // Told by the write, or at the end where the content was short enough to be kept back.
        for length in [BUFFER, 1] {
            let mut incoming = Incoming::create(&root(&dir), b"a").unwrap();
            let full = File::options().write(true).open("/dev/full").unwrap();
            incoming.file = BufWriter::with_capacity(BUFFER, full);
            let result = incoming.write(&vec![0; length]).and_then(|()| incoming.commit(Commit::Replace));
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
