//! The file that an upload is written to before it takes its name.
//!
//! It has no name at all (O_TMPFILE) where the file system makes such files and /proc is there to link them: whatever ends
//! the server, nothing is left. A free name is then taken by one link. A file without a name cannot replace another, so for
//! that it has a temporary name for the moment between a link and a rename. Elsewhere (NFS, some of FUSE, a chroot without
//! /proc) it has a temporary name, `.dustdevil-<pid>-<random>.tmp`, from the beginning.
//!
//! **Whoever sees a temporary name finds the file locked** (flock(2)) as long as its maker lives: `sweep` removes what is
//! not. A file without a name is locked before it has one. A file that begins with a name is not locked for a moment; if it
//! is taken for dead in that moment, another is made.

use super::discarded::{Discarded, PIECE};
use super::journal::identity;
use super::lookup::{Root, TEMPORARY};
use super::sweep::SUFFIX;
use super::writable::Writable;
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use rustix::fs::{fchmod, fchown, flock, fstat, linkat, openat, renameat, renameat_with, statat, unlinkat};
use rustix::io::Errno;
use rustix::path::DecInt;
use rustix::process::{Gid, Uid};
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::BufWriter;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// Pieces from here up are written as they come.
pub(super) const BUFFER: usize = 4096;
/// How often a file that begins with a name is made anew.
const TRIES: usize = 8;

/// A file that is not there yet. Dropped, it never was.
#[derive(Debug)]
pub(super) struct Staged {
    pub dir: OwnedFd,
    /// Buffered: a client can make chunks of one byte, and a system call for each would hold the loop up.
    pub file: BufWriter<File>,
    /// Its temporary name, where it has one, ours to remove.
    temporary: Option<Vec<u8>>,
    /// Whether it has taken its name: then it is others' to open.
    is_there: bool,
    discarded: Arc<Discarded>,
}

impl Staged {
    /// Makes an empty file for `dir`. `old`: what has the name that it will take.
    pub fn create(store: &Writable, root: &Root, dir: OwnedFd, old: Option<&Stat>) -> Result<Staged, Errno> {
        let nameless = if root.descriptors().is_some() { nameless(&dir)? } else { None };
        match nameless {
            Some(file) => Ok(Staged::new(store, dir, file, None)),
            None => Staged::create_named(store, dir, old),
        }
    }

    /// The same with a temporary name from the beginning.
    pub fn create_named(store: &Writable, dir: OwnedFd, old: Option<&Stat>) -> Result<Staged, Errno> {
        // Under its temporary name it can be read by no more people than what it replaces.
        let mode = old.map_or(0o666, |old| old.st_mode & 0o666);
        let (file, name) = named(&dir, Mode::from_raw_mode(mode))?;
        Ok(Staged::new(store, dir, file, Some(name)))
    }

    fn new(store: &Writable, dir: OwnedFd, file: File, temporary: Option<Vec<u8>>) -> Staged {
        let (file, discarded) = (BufWriter::with_capacity(BUFFER, file), Arc::clone(&store.discarded));
        Staged { dir, file, temporary, is_there: false, discarded }
    }

    /// Takes `name` if it is free, in one step; EEXIST if not.
    pub fn take_free_name(&mut self, root: &Root, name: &[u8]) -> Result<(), Errno> {
        match &self.temporary {
            None => self.link(root, name)?,
            Some(temporary) => match renameat_with(&self.dir, temporary, &self.dir, name, RenameFlags::NOREPLACE) {
                // NFS and many FUSE file systems have no such rename. A second name is as atomic: Drop removes the first.
                Err(Errno::INVAL | Errno::NOSYS) => linkat(&self.dir, temporary, &self.dir, name, AtFlags::empty())?,
                Err(errno) => return Err(errno),
                Ok(()) => self.temporary = None,
            },
        }
        self.is_there = true;
        Ok(())
    }

    /// Takes `name` from the file that has it, in one step. `now`: the time in seconds since 1970.
    pub fn replace(&mut self, root: &Root, name: &[u8], now: u64) -> Result<(), Errno> {
        self.resemble(name, now)?;
        if self.temporary.is_none() {
            self.temporary = Some(self.take_temporary_name(root)?);
        }
        if let Some(temporary) = &self.temporary {
            renameat(&self.dir, temporary, &self.dir, name)?;
        }
        (self.temporary, self.is_there) = (None, true);
        Ok(())
    }

    fn take_temporary_name(&self, root: &Root) -> Result<Vec<u8>, Errno> {
        // Where there are no locks, nothing is removed either.
        let _ = flock(self.file.get_ref(), FlockOperation::NonBlockingLockExclusive);
        loop {
            let name = temporary_name();
            match self.link(root, &name) {
                Err(Errno::EXIST) => continue,
                other => return other.map(|()| name),
            }
        }
    }

    /// Links a file without a name.
    fn link(&self, root: &Root, name: &[u8]) -> Result<(), Errno> {
        let descriptors = root.descriptors().ok_or(Errno::NOENT)?;
        let own = DecInt::from_fd(self.file.get_ref());
        linkat(descriptors, own, &self.dir, name, AtFlags::SYMLINK_FOLLOW)
    }

    /// Takes over permissions, and owner and group where the system permits it, from the file that has `name`. A link there
    /// has none of its own.
    fn resemble(&self, name: &[u8], now: u64) -> Result<(), Errno> {
        let old = match statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(old) if FileType::from_raw_mode(old.st_mode) == FileType::RegularFile => old,
            Ok(_) | Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        let new = fstat(self.file.get_ref())?;
        // The owner first: the mode may let the group read what another group should not.
        let has_group = self.belong(&new, &old)?;
        // Set-id bits are never taken over: they were given to other content.
        let mut mode = old.st_mode & 0o777;
        if !has_group {
            // To another group than it was meant for it says no more than to everybody.
            mode = mode & 0o707 | mode & (mode & 0o007) << 3;
        }
        if mode != new.st_mode & 0o7777 {
            fchmod(self.file.get_ref(), Mode::from_raw_mode(mode))?;
        }
        self.date_after(&old, now);
        Ok(())
    }

    /// Two changes within a second would have the same Last-Modified, and If-Unmodified-Since could not tell them apart. So
    /// the second one is dated after that second.
    fn date_after(&self, old: &Stat, now: u64) {
        if u64::try_from(old.st_mtime).is_ok_and(|secs| secs >= now) {
            let modified = UNIX_EPOCH + Duration::from_secs(now + 1);
            // A file system that refuses it has no times to tell changes apart by.
            let _ = self.file.get_ref().set_modified(modified);
        }
    }

    /// Sets owner and group, or the group alone; whether it is the group of `old`.
    fn belong(&self, new: &Stat, old: &Stat) -> Result<bool, Errno> {
        let group = (new.st_gid != old.st_gid).then(|| Gid::from_raw(old.st_gid));
        if new.st_uid != old.st_uid && self.chown(Some(Uid::from_raw(old.st_uid)), group)? {
            return Ok(true);
        }
        Ok(group.is_none() || self.chown(None, group)?)
    }

    fn chown(&self, owner: Option<Uid>, group: Option<Gid>) -> Result<bool, Errno> {
        match fchown(self.file.get_ref(), owner, group) {
            // INVAL: an owner that does not exist in this container.
            Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
            other => other.map(|()| true),
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Nobody is left to be told of a failure; the name is never served.
            let _ = unlinkat(&self.dir, temporary, AtFlags::empty());
        }
        // Closing it would free all of it at once. A second name may have been given to it by others.
        let file = self.file.get_ref();
        if !self.is_there
            && let Ok(stat) = fstat(file)
            && stat.st_nlink == 0
            && let Ok(size @ PIECE..) = stat.st_size.try_into()
            && let Ok(file) = file.try_clone()
        {
            self.discarded.add(file, size);
        }
    }
}

/// `None` where the file system makes no such files.
fn nameless(dir: &OwnedFd) -> Result<Option<File>, Errno> {
    // Without O_EXCL, which would forbid the link.
    let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
    match openat(dir, ".", flags, Mode::from_raw_mode(0o666)) {
        Ok(file) => Ok(Some(file.into())),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// A new file with a temporary name, locked.
fn named(dir: &OwnedFd, mode: Mode) -> Result<(File, Vec<u8>), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for _ in 0..TRIES {
        let name = temporary_name();
        let file = match openat(dir, name.as_slice(), flags, mode) {
            Err(Errno::EXIST) => continue,
            other => File::from(other?),
        };
        if lock_new(dir, &file, &name)? {
            return Ok((file, name));
        }
    }
    Err(Errno::AGAIN)
}

/// Whether a file that was made with a name is locked and was not taken for dead before that.
fn lock_new(dir: &OwnedFd, file: &File, name: &[u8]) -> Result<bool, Errno> {
    if flock(file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
        return Ok(false);
    }
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(identity(&stat) == identity(&fstat(file)?)),
        // The directory's removal looks the same: making the next file tells.
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Random rather than counted: in a container every run has the same process id, and a name that the last one left must not
/// stand in the way.
fn temporary_name() -> Vec<u8> {
    // RandomState is the standard library's only source of chance, and good enough to avoid 2 in 2^64.
    let chance = RandomState::new().build_hasher().finish();
    let mut name = TEMPORARY.to_vec();
    name.extend(format!("{}-{chance:016x}", std::process::id()).bytes());
    name.extend(SUFFIX);
    name
}

#[cfg(test)]
mod tests {
    use super::super::root_path::{RootPath, RootRules};
    use super::super::scratch::Scratch;
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    use std::time::Instant;

    const OLD: &str = "file";
    /// Later than every file of a test.
    const NOW: u64 = 10_000_000_000;

    fn store(dir: &Scratch) -> Writable {
        Writable::new(RootPath::open(&dir.root(), RootRules::default()).unwrap())
    }

    /// One without a name, and one with a name from the beginning.
    fn root(store: &Writable) -> Arc<Root> {
        store.root.known().unwrap()
    }

    fn both(store: &Writable) -> [Staged; 2] {
        let dir = || root(store).parent(OLD.as_bytes()).unwrap().0;
        let old = statat(dir(), OLD, AtFlags::SYMLINK_NOFOLLOW).ok();
        let nameless = Staged::create(store, &root(store), dir(), old.as_ref()).unwrap();
        [nameless, Staged::create_named(store, dir(), old.as_ref()).unwrap()]
    }

    /// All names, sorted.
    fn names(dir: &Scratch) -> Vec<String> {
        let entries = fs::read_dir(dir.root()).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Another server starts on the store and looks through it.
    fn sweep(dir: &Scratch) {
        let (store, now) = (store(dir), Instant::now());
        while store.next_chore(now).is_some() {
            store.do_chore(now);
        }
    }

    #[test]
    fn a_file_without_a_name_shows_when_it_takes_one() {
        let dir = Scratch::new();
        let store = store(&dir);
        let [mut nameless, named] = both(&store);
        drop(named);
        assert_eq!((names(&dir).len(), &nameless.temporary), (0, &None), "O_TMPFILE shows nothing here");
        nameless.take_free_name(&root(&store), OLD.as_bytes()).unwrap();
        drop(nameless);
        assert_eq!(names(&dir), [OLD]);
    }

    #[test]
    fn another_server_removes_nothing_that_is_under_way() {
        let dir = Scratch::new();
        let store = store(&dir);
        for is_replaced in [false, true] {
            let [mut nameless, mut named] = both(&store);
            sweep(&dir);
            assert!(named.temporary.as_deref().is_some_and(|name| statat(&named.dir, name, AtFlags::empty()).is_ok()));
            if is_replaced {
                // The moment between link and rename.
                nameless.temporary = Some(nameless.take_temporary_name(&root(&store)).unwrap());
                sweep(&dir);
                assert_eq!(names(&dir).len(), 3);
                nameless.replace(&root(&store), OLD.as_bytes(), NOW).unwrap();
                named.replace(&root(&store), OLD.as_bytes(), NOW).unwrap();
            } else {
                named.take_free_name(&root(&store), OLD.as_bytes()).unwrap();
                assert_eq!(nameless.take_free_name(&root(&store), OLD.as_bytes()), Err(Errno::EXIST));
            }
            drop((nameless, named));
            assert_eq!(names(&dir), [OLD]);
        }
    }

    #[test]
    fn what_a_killed_server_leaves_is_removed() {
        let dir = Scratch::new();
        for mode in [0o644, 0o444] {
            let [_, named] = both(&store(&dir));
            let name = named.temporary.clone().unwrap();
            fchmod(named.file.get_ref(), Mode::from_raw_mode(mode)).unwrap();
            let path = dir.root().join(String::from_utf8(name).unwrap());
            let kept = dir.outside().join("kept");
            // As if it had been killed: its lock goes, and nothing is tidied up.
            fs::rename(&path, &kept).unwrap();
            drop(named);
            fs::rename(&kept, &path).unwrap();
            assert_eq!(names(&dir).len(), 1);
            sweep(&dir);
            assert_eq!(names(&dir), [""; 0]);
        }
    }

    #[test]
    fn what_a_large_upload_has_written_is_freed_in_pieces_when_it_is_cut() {
        let dir = Scratch::new();
        let (store, now) = (store(&dir), Instant::now());
        while store.next_chore(now).is_some() {
            store.do_chore(now);
        }
        for which in 0..2 {
            let staged = both(&store).into_iter().nth(which).unwrap();
            staged.file.get_ref().set_len(3 * PIECE + 1).unwrap();
            let seen = staged.file.get_ref().try_clone().unwrap();
            drop(staged);
            assert_eq!(names(&dir), [""; 0]);
            for rest in [2 * PIECE + 1, PIECE + 1, 1] {
                assert_eq!(store.next_chore(now), Some(now));
                store.do_chore(now);
                assert_eq!(seen.metadata().unwrap().len(), rest);
            }
            store.do_chore(now);
            assert_eq!(store.next_chore(now), None);
        }
        // What took its name is left as it is, though it has lost that again and somebody reads it.
        for which in 0..2 {
            let mut staged = both(&store).into_iter().nth(which).unwrap();
            staged.file.get_ref().set_len(3 * PIECE).unwrap();
            staged.take_free_name(&root(&store), OLD.as_bytes()).unwrap();
            fs::remove_file(dir.root().join(OLD)).unwrap();
            drop(staged);
            assert!(store.discarded.is_empty());
        }
    }

    #[test]
    fn a_file_that_is_taken_for_dead_before_its_lock_is_made_anew() {
        let dir = Scratch::new();
        let (place, _) = root(&store(&dir)).parent(OLD.as_bytes()).map(|(dir, name)| (dir, name.to_vec())).unwrap();
        let make = || File::create(dir.root().join(OLD)).unwrap();
        // The other one has the lock, or has removed the name, or somebody else has it by now.
        let file = make();
        let other = make();
        flock(&other, FlockOperation::LockExclusive).unwrap();
        assert_eq!(lock_new(&place, &file, OLD.as_bytes()), Ok(false));
        drop(other);
        assert_eq!(lock_new(&place, &file, OLD.as_bytes()), Ok(true));
        fs::remove_file(dir.root().join(OLD)).unwrap();
        assert_eq!(lock_new(&place, &file, OLD.as_bytes()), Ok(false));
        make();
        assert_eq!(lock_new(&place, &file, OLD.as_bytes()), Ok(false));
    }

    #[test]
    fn permissions_are_those_of_what_is_replaced_without_set_id_bits() {
        let dir = Scratch::new();
        let store = store(&dir);
        for (old, new) in [(0o640, 0o640), (0o600, 0o600), (0o444, 0o444), (0o777, 0o777), (0o6755, 0o755), (0, 0)] {
            for which in 0..2 {
                dir.file(OLD, "old");
                let path = dir.root().join(OLD);
                fs::set_permissions(&path, Permissions::from_mode(old)).unwrap();
                let mut staged = both(&store).into_iter().nth(which).unwrap();
                staged.replace(&root(&store), OLD.as_bytes(), NOW).unwrap();
                drop(staged);
                assert_eq!(path.metadata().unwrap().mode() & 0o7777, new, "{old:o}");
                assert_eq!((path.metadata().unwrap().len(), names(&dir).len()), (0, 1));
                fs::remove_file(path).unwrap();
            }
        }
    }

    #[test]
    fn owner_and_group_are_those_of_what_is_replaced() {
        let dir = Scratch::new();
        dir.file(OLD, "old");
        let path = dir.root().join(OLD);
        if chown(&path, Some(1234), Some(4321)).is_err() {
            eprintln!("skipped: no right to change the owner of a file here");
            return;
        }
        for staged in &mut both(&store(&dir)) {
            fs::set_permissions(&path, Permissions::from_mode(0o4750)).unwrap();
            staged.replace(&root(&store(&dir)), OLD.as_bytes(), NOW).unwrap();
            let meta = path.metadata().unwrap();
            assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (1234, 4321, 0o750));
        }
    }

    #[test]
    fn a_link_has_no_permissions_to_take_over() {
        let dir = Scratch::new();
        dir.link(dir.outside().join("secret.txt"), OLD);
        fs::set_permissions(dir.outside().join("secret.txt"), Permissions::from_mode(0o600)).unwrap();
        dir.file("by std", "");
        let usual = dir.root().join("by std").metadata().unwrap().mode();
        let [mut nameless, _] = both(&store(&dir));
        nameless.replace(&root(&store(&dir)), OLD.as_bytes(), NOW).unwrap();
        assert_eq!(dir.root().join(OLD).symlink_metadata().unwrap().mode(), usual);
    }
}
