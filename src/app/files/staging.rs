//! The file that receives an upload's content before it gets the name from the request.
//!
//! If the file system supports O_TMPFILE and /proc is mounted (needed to link such a file), the file has no name:
//! however the server ends, nothing is left. If the requested name is free, one link gives it to the file. linkat(2)
//! cannot replace another file, so to replace one the file gets a temporary name, which is then renamed. Otherwise
//! (NFS, some of FUSE, a chroot without /proc) the file has a temporary name, `.dustdevil-<pid>-<random>.tmp`, from the
//! beginning.
//!
//! **A file with a temporary name is locked** (flock(2)) while its upload runs. `sweep` removes files with temporary
//! names that are not locked. A file without a name is locked before it gets a temporary one. A file that begins with a
//! name is unlocked for a moment; if `sweep` of another server removes it in that moment, another file is made.

use super::discarded::{Discarded, PIECE};
use super::journal::identity;
use super::lookup::{Root, TEMPORARY};
use super::sent_dates::SentDates;
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
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// The size of the write buffer. Pieces at least as long go to the file directly.
pub(super) const BUFFER: usize = 4096;
/// How many files are made before an upload fails because `sweep` of another server removes each of them.
const TRIES: usize = 8;

/// When a file takes its name, and what clients know of the file that has it.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// In seconds since 1970.
    pub now: u64,
    pub path: &'a [u8],
    pub sent: &'a SentDates,
}

/// A file without its final name. If it is dropped, nothing of it is left.
#[derive(Debug)]
pub(super) struct Staged {
    pub dir: OwnedFd,
    /// Buffered: a client can send chunks of one byte, and one system call for each would hold up the event loop.
    pub file: BufWriter<File>,
    /// The temporary name, if the file has one. It is removed on drop.
    temporary: Option<Vec<u8>>,
    /// Whether the file has its final name. From then on others may have it open, so it must not be truncated.
    is_there: bool,
    discarded: Arc<Discarded>,
}

impl Staged {
    /// Makes an empty file in `dir`. `old`: the file that has the final name now, if any.
    pub fn create(store: &Writable, root: &Root, dir: OwnedFd, old: Option<&Stat>) -> Result<Staged, Errno> {
        let nameless = if root.descriptors().is_some() { nameless(&dir)? } else { None };
        match nameless {
            Some(file) => Ok(Staged::new(store, dir, file, None)),
            None => Staged::create_named(store, dir, old),
        }
    }

    /// Like `create`, with a temporary name from the beginning.
    pub fn create_named(store: &Writable, dir: OwnedFd, old: Option<&Stat>) -> Result<Staged, Errno> {
        // Under its temporary name the file is readable for no more users than the file that it replaces.
        let mode = old.map_or(0o666, |old| old.st_mode & 0o666);
        let (file, name) = named(&dir, Mode::from_raw_mode(mode))?;
        Ok(Staged::new(store, dir, file, Some(name)))
    }

    fn new(store: &Writable, dir: OwnedFd, file: File, temporary: Option<Vec<u8>>) -> Staged {
        let (file, discarded) = (BufWriter::with_capacity(BUFFER, file), Arc::clone(&store.discarded));
        Staged { dir, file, temporary, is_there: false, discarded }
    }

    /// Gives the file `name` if that is free, in one step; EEXIST if not.
    pub fn take_free_name(&mut self, root: &Root, name: &[u8], moment: Moment) -> Result<(), Errno> {
        self.date_anew(moment)?;
        match &self.temporary {
            None => self.link(root, name)?,
            Some(temporary) => match renameat_with(&self.dir, temporary, &self.dir, name, RenameFlags::NOREPLACE) {
                // NFS and many FUSE file systems have no RENAME_NOREPLACE. linkat is as atomic; Drop then removes the
                // temporary name.
                Err(Errno::INVAL | Errno::NOSYS) => linkat(&self.dir, temporary, &self.dir, name, AtFlags::empty())?,
                Err(errno) => return Err(errno),
                Ok(()) => self.temporary = None,
            },
        }
        self.is_there = true;
        Ok(())
    }

    /// Gives the file `name`, which another file has, in one step. `now`: the time in seconds since 1970.
    pub fn replace(&mut self, root: &Root, name: &[u8], moment: Moment) -> Result<(), Errno> {
        self.resemble(name, moment)?;
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
        // If the file system has no locks, this fails; then `sweep` removes nothing either.
        let _ = flock(self.file.get_ref(), FlockOperation::NonBlockingLockExclusive);
        loop {
            let name = temporary_name();
            match self.link(root, &name) {
                Err(Errno::EXIST) => continue,
                other => return other.map(|()| name),
            }
        }
    }

    /// Links a file that has no name yet.
    fn link(&self, root: &Root, name: &[u8]) -> Result<(), Errno> {
        let descriptors = root.descriptors().ok_or(Errno::NOENT)?;
        let own = DecInt::from_fd(self.file.get_ref());
        linkat(descriptors, own, &self.dir, name, AtFlags::SYMLINK_FOLLOW)
    }

    /// Copies the permissions, and the owner and group if the system permits it, from the file that has `name`. If that
    /// is a symbolic link, nothing is copied: a link has no permissions of its own.
    fn resemble(&self, name: &[u8], moment: Moment) -> Result<(), Errno> {
        let old = match statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(old) if FileType::from_raw_mode(old.st_mode) == FileType::RegularFile => old,
            Ok(_) | Err(Errno::NOENT) => {
                return self.date_anew(moment);
            }
            Err(errno) => return Err(errno),
        };
        let new = fstat(self.file.get_ref())?;
        // The owner first: the mode may let the old group read what another group must not.
        let has_group = self.belong(&new, &old)?;
        // Set-id bits are never copied: they were given to other content.
        let mut mode = old.st_mode & 0o777;
        if !has_group || self.has_access_list(name) {
            // The group of the new file gets no permission that the old mode does not give to everybody: it is another
            // group, or the bits of the group are the mask of an access control list (acl(5)).
            mode = mode & 0o707 | mode & (mode & 0o007) << 3;
        }
        if mode != new.st_mode & 0o7777 {
            fchmod(self.file.get_ref(), Mode::from_raw_mode(mode))?;
        }
        self.date_after(&old, &new, moment);
        Ok(())
    }

    /// Whether the file that has `name` has an access control list.
    fn has_access_list(&self, name: &[u8]) -> bool {
        let mut path = format!("/proc/self/fd/{}/", self.dir.as_raw_fd()).into_bytes();
        path.extend_from_slice(name);
        // Without room for it, its length is returned.
        rustix::fs::lgetxattr(path.as_slice(), "system.posix_acl_access", &mut [0_u8; 0]).is_ok_and(|length| length > 0)
    }

    /// Gives the file another date than the one that a client may know of what had the name: with the same Last-Modified,
    /// If-Unmodified-Since could not tell the two apart. A date in the future is not sent before its time.
    fn date_after(&self, old: &Stat, new: &Stat, Moment { now, path, sent }: Moment) {
        let [old, own] = [old, new].map(|stat| u64::try_from(stat.st_mtime).unwrap_or_default());
        // The last content of this file may have been written before the old file was.
        let mut date = if own < old && old <= now + 1 { old.max(now) } else { own };
        if sent.has(path, date) {
            date += 1;
        }
        if date != own {
            self.date(date);
        }
    }

    /// The same if there is no file whose date has to be compared.
    fn date_anew(&self, moment: Moment) -> Result<(), Errno> {
        let Moment { now, path, sent } = moment;
        if sent.has(path, now) || sent.has(path, now.saturating_sub(1)) {
            let new = fstat(self.file.get_ref())?;
            self.date_after(&new, &new, moment);
        }
        Ok(())
    }

    fn date(&self, secs: u64) {
        // An error is ignored: if the file system refuses to set times, its times are of no use to If-Unmodified-Since
        // anyway.
        let _ = self.file.get_ref().set_modified(UNIX_EPOCH + Duration::from_secs(secs));
    }

    /// Sets owner and group, or the group alone. Returns whether the file now has the group of `old`.
    fn belong(&self, new: &Stat, old: &Stat) -> Result<bool, Errno> {
        let group = (new.st_gid != old.st_gid).then(|| Gid::from_raw(old.st_gid));
        if new.st_uid != old.st_uid && self.chown(Some(Uid::from_raw(old.st_uid)), group)? {
            return Ok(true);
        }
        Ok(group.is_none() || self.chown(None, group)?)
    }

    fn chown(&self, owner: Option<Uid>, group: Option<Gid>) -> Result<bool, Errno> {
        match fchown(self.file.get_ref(), owner, group) {
            // EINVAL: the owner has no mapping in this container's user namespace.
            Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
            other => other.map(|()| true),
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // An error is ignored: no request waits for it, and a temporary name is never served.
            let _ = unlinkat(&self.dir, temporary, AtFlags::empty());
        }
        // Closing a large file would free all of its blocks at once, so `Discarded` frees it in pieces. Not if another
        // process has linked it.
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

/// A file without a name. `None` if the file system does not support O_TMPFILE.
fn nameless(dir: &OwnedFd) -> Result<Option<File>, Errno> {
    // Without O_EXCL, which would forbid to link the file later.
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

/// Locks a file that was made with a name. Returns whether `sweep` of another server has left it alone until then.
fn lock_new(dir: &OwnedFd, file: &File, name: &[u8]) -> Result<bool, Errno> {
    if flock(file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
        return Ok(false);
    }
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(identity(&stat) == identity(&fstat(file)?)),
        // The removal of the whole directory also gives NOENT. Then making the next file fails with the real error.
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Random and not a counter: in a container the server often has the same process id in every run, and the temporary
/// names of the last run must not collide with new ones.
fn temporary_name() -> Vec<u8> {
    // RandomState is the only source of randomness in the standard library. 64 bits are enough to avoid collisions.
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
    use std::sync::LazyLock;
    use std::time::Instant;

    const OLD: &str = "file";
    /// Later than every file of a test.
    static NOTHING_SENT: LazyLock<SentDates> = LazyLock::new(SentDates::default);

    fn moment() -> Moment<'static> {
        Moment { now: 10_000_000_000, path: OLD.as_bytes(), sent: &NOTHING_SENT }
    }

    fn store(dir: &Scratch) -> Writable {
        Writable::new(RootPath::open(&dir.root(), RootRules::default()).unwrap())
    }

    /// One staged file without a name, and one with a name from the beginning.
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

    /// Another server starts on the same store and sweeps it.
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
        nameless.take_free_name(&root(&store), OLD.as_bytes(), moment()).unwrap();
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
                nameless.replace(&root(&store), OLD.as_bytes(), moment()).unwrap();
                named.replace(&root(&store), OLD.as_bytes(), moment()).unwrap();
            } else {
                named.take_free_name(&root(&store), OLD.as_bytes(), moment()).unwrap();
                assert_eq!(nameless.take_free_name(&root(&store), OLD.as_bytes(), moment()), Err(Errno::EXIST));
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
            // Simulates a kill: the lock is released, and Drop does not find the file under its name.
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
        // A file that got its final name is not truncated, even if it has lost that name again: somebody may still read
        // it.
        for which in 0..2 {
            let mut staged = both(&store).into_iter().nth(which).unwrap();
            staged.file.get_ref().set_len(3 * PIECE).unwrap();
            staged.take_free_name(&root(&store), OLD.as_bytes(), moment()).unwrap();
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
        // `sweep` of another server has the lock, or has removed the name, or the name belongs to another file by now.
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
                staged.replace(&root(&store), OLD.as_bytes(), moment()).unwrap();
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
            staged.replace(&root(&store(&dir)), OLD.as_bytes(), moment()).unwrap();
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
        nameless.replace(&root(&store(&dir)), OLD.as_bytes(), moment()).unwrap();
        assert_eq!(dir.root().join(OLD).symlink_metadata().unwrap().mode(), usual);
    }
}
