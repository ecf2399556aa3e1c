//! From a request path to an open file: the one resolver for every route, upload and listing.
//!
//! Takes the path below the root as bytes, decoded, dot segments resolved; trusts neither and
//! refuses what the target parser should have removed. A segment that held an encoded slash is
//! refused by the caller, who alone can see it. Content, validators, index files and the status of
//! an answer are other modules' work.
//!
//! Its one rule: **a file is reached only by an open that cannot leave the root.** The last open of
//! every lookup is openat2 with RESOLVE_BENEATH, or, where the kernel lacks it, a walk that follows
//! no link. Names are also checked as text, but nothing rests on that alone. Only
//! [`Symlinks::All`] lifts the rule: there the owner vouches for every link.
//!
//! **Only a regular file is opened to be read**, and none of those that the kernel makes while they are read (procfs, sysfs,
//! and their like: `file_system`). To open a FIFO would let its writer go on and lose
//! what it writes; to open a device can do anything. So a path is opened as a place first (O_PATH,
//! which opens nothing), and when that is a regular file, this very inode is opened through
//! /proc/self/fd: whatever the name leads to by then.
//!
//! ```text
//!  path ─► check ─► Inside: openat2(BENEATH) ──────────────────────┬─► fstat ─► file: open it
//!        (as text)     └ EXDEV, EAGAIN ─► its real path, if below ──┤           directory
//!                            the root: openat2(.. | NO_SYMLINKS) ───┤           else NotFound
//!                   None:   openat2(BENEATH | NO_SYMLINKS) ─────────┤
//!                   All:    openat ─────────────────────────────────┘
//! ```

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use rustix::path::DecInt;

use super::file_system::{FileSystems, Kind};
use super::symlinks::ReadLinks;
use crate::config::site::EtagRule;
pub use crate::config::site::Symlinks;
use crate::cost;

/// Names beginning so belong to uploads under way, and to their journal. They are no resource, not
/// even with `hidden`: half a file is never served, and an upload cannot aim at another one's
/// temporary file.
pub(super) const TEMPORARY: &[u8] = b".dustdevil-";

/// NAME_MAX of Linux. The kernel checks it as well, but only below an existing directory, and we
/// add suffixes.
const NAME_MAX: usize = 255;

/// openat2 says EAGAIN when a `..` inside a link met a rename anywhere on the system. More than a
/// few in a row is a writer in a tight loop; then the real path is opened instead, which holds no
/// `..` and cannot fail so.
const TRIES: usize = 4;

/// O_NONBLOCK: a file that another process has leased (fcntl(2)) is refused at once, and nothing
/// that is not a regular file blocks the loop or becomes our terminal where there is no /proc.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
/// O_PATH: a place in the tree without the right to read it: enough to stat it, or to open
/// something below it.
const PLACE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// A directory that is served, and the rules it is served by.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    /// Where `dir` was when it was opened, no link in it. Only a hint for links that leave the root
    /// textually: if the directory is moved since, those links are not found, and nothing else
    /// changes.
    real: PathBuf,
    symlinks: Symlinks,
    hidden: bool,
    /// What the tags of its files are made of.
    pub(super) etag: EtagRule,
    pub(super) systems: FileSystems,
    /// False where the kernel (before 5.6) or a seccomp filter refuses openat2: then the tree is
    /// walked.
    openat2: bool,
    /// /proc/self/fd, where there is one.
    descriptors: Option<OwnedFd>,
}

/// What a path led to. Sockets, FIFOs and devices are never found.
#[derive(Debug)]
pub enum Located {
    File {
        file: File,
        meta: Meta,
    },
    /// `dir` is a place (O_PATH): to look below it, or to open it anew to list it.
    Directory {
        dir: OwnedFd,
        meta: Meta,
    },
}

/// Identity and state of a file. Two equal values of one file mean unchanged content, as far as the
/// kernel's clock can tell: two writes within one tick (1 to 4 ms; finer from 6.13 on) may leave
/// the same times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    pub dev: u64,
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Seconds since the epoch, may be negative, and nanoseconds.
    pub mtime: (i64, u32),
    /// The same of the last change of content, name, mode or link count. No user can set it back.
    pub ctime: (i64, u32),
}

/// Why a path led nowhere.
#[derive(Debug)]
pub enum Refused {
    /// There is no such resource, or the rules say so: the two look the same from outside.
    NotFound,
    /// The file is there and the server's user may not have it.
    Forbidden,
    /// The name of the root leads to no directory: a moment's trouble, 503.
    Gone,
    /// The process or the system has no descriptor left: a moment's trouble, 503.
    TooManyFiles,
    /// The disk or the file system failed.
    Other(io::Error),
}

impl Root {
    /// Opens the directory at `path`. ENOTDIR when it is none. That it can be listed is not asked
    /// here.
    pub fn open(path: &Path, symlinks: Symlinks, hidden: bool) -> io::Result<Root> {
        let (dir, real) = open_by_real_path(path)?;
        // ENOSYS from an old kernel, EPERM from a container's filter, EINVAL from some emulators:
        // all mean "walk".
        let probe = rustix::fs::openat2(&dir, ".", PLACE, Mode::empty(), ResolveFlags::BENEATH);
        let (etag, systems) = (EtagRule::default(), FileSystems::default());
        Ok(Root { dir, real, symlinks, hidden, etag, systems, openat2: probe.is_ok(), descriptors: own_descriptors() })
    }

    /// Whether `path` leads to it just now.
    pub fn is_at(&self, path: &Path) -> bool {
        let identity = |stat: Stat| (stat.st_dev, stat.st_ino);
        let (there, own) = (rustix::fs::stat(path), rustix::fs::fstat(&self.dir));
        there.is_ok_and(|there| own.is_ok_and(|own| identity(own) == identity(there)))
    }

    /// Whether the two are one directory, opened by the same real path.
    pub fn is_same(&self, other: &Root) -> bool {
        self.real == other.real && self.is_at(&self.real) && other.is_at(&self.real)
    }

    /// The same, with another rule for the entity tags of its files.
    pub fn with_etag(self, etag: EtagRule) -> Root {
        Root { etag, ..self }
    }

    /// Whether names that begin with a dot are served and listed.
    pub fn hidden(&self) -> bool {
        self.hidden
    }

    /// The directory itself, as a place.
    pub(super) fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// /proc/self/fd as a place, where there is one.
    pub(super) fn descriptors(&self) -> Option<&OwnedFd> {
        self.descriptors.as_ref()
    }

    /// Opens what `path` names: `a/b.txt`, `a/` (a directory only), or empty for the root itself.
    /// No slash at the front, no empty segment.
    pub fn find(&self, path: &[u8]) -> Result<Located, Refused> {
        self.find_at_cost(path, &mut 0)
    }

    /// The same, and adds to `cost` what it has cost, in the units of `cost`.
    pub fn find_at_cost(&self, path: &[u8], cost: &mut usize) -> Result<Located, Refused> {
        self.check(path)?;
        for _ in 0..TRIES {
            let place = self.resolve(path, PLACE, cost)?;
            let stat = rustix::fs::fstat(&place)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => {}
                FileType::Directory => return Ok(Located::Directory { dir: place, meta: Meta::of(&stat) }),
                _ => return Err(Refused::NotFound),
            }
            if let Kind::Made(system) = self.systems.kind(Meta::of(&stat).dev, &place)? {
                self.systems.refuse(Meta::of(&stat).dev, system, path);
                return Err(Refused::NotFound);
            }
            if let Some(file) = self.open_file(path, &place, &stat, cost)? {
                // Asked anew: on NFS only an open brings the state up to date.
                let meta = Meta::of_file(&file).map_err(Refused::Other)?;
                return Ok(Located::File { file, meta });
            }
        }
        Err(Refused::NotFound)
    }

    /// Opens a regular file that was looked at as a `place`. `None` where there is no /proc, and
    /// `path` leads to something else by now. Only there a FIFO that is put in the file's place
    /// between two system calls is opened; it is not read.
    fn open_file(&self, path: &[u8], place: &OwnedFd, seen: &Stat, cost: &mut usize) -> Result<Option<File>, Errno> {
        if let Some(descriptors) = &self.descriptors {
            *cost += cost::STAT;
            let fd = rustix::fs::openat(descriptors, DecInt::from_fd(place), READ, Mode::empty())?;
            return Ok(Some(File::from(fd)));
        }
        let fd = match self.resolve(path, READ, cost) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => return Ok(None),
            other => other?,
        };
        let found = rustix::fs::fstat(&fd)?;
        let is_same = (found.st_dev, found.st_ino) == (seen.st_dev, seen.st_ino);
        Ok(is_same.then(|| File::from(fd)))
    }

    /// What `find` would tell of a file or directory, without the right to read it. The same
    /// confinement: openat2 with O_PATH, fstat, close. fstat and not statx: it holds all five
    /// values, and is there where statx is filtered.
    pub fn stat(&self, path: &[u8]) -> Result<Meta, Refused> {
        self.status(path, &mut 0).map(|(_, meta)| meta)
    }

    /// Whether `path`, which `find` once led to `seen`, still leads to the same, unchanged file: one
    /// system call where [`stat`](Root::stat) takes three (0.54 and 1.1 us here, three segments
    /// deep). The kernel has no confined stat, so this one follows any link. It is still safe: it
    /// says yes only for a file that was inside the root when it was found. What it cannot see is a
    /// directory moved out of the root with a link to it left in its place.
    pub fn unchanged(&self, path: &[u8], seen: &Meta) -> bool {
        self.check(path).is_ok() && self.meta(path).is_ok_and(|meta| meta == *seen)
    }

    /// What `path` leads to through no link at all, as a place.
    pub(super) fn place(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.open_beneath(path, PLACE | OFlags::NOFOLLOW, ResolveFlags::NO_SYMLINKS)
    }

    /// What `path` leads to just now, through whatever links.
    pub(super) fn meta(&self, path: &[u8]) -> Result<Meta, Errno> {
        rustix::fs::statat(&self.dir, or_dot(path), AtFlags::empty()).map(|stat| Meta::of(&stat))
    }

    /// The directory an upload to `path` goes to, opened by the same rules (O_PATH), and the file's
    /// name in it. A missing directory is NotFound: none is made. Nothing is said about the name's
    /// being taken.
    pub fn parent<'p>(&self, path: &'p [u8]) -> Result<(OwnedFd, &'p [u8]), Refused> {
        self.check(path)?;
        let (directory, name) = split(path);
        // `.well-known` is a place to look into, not a name to write.
        if name.is_empty() || (name[0] == b'.' && !self.hidden) {
            return Err(Refused::NotFound);
        }
        Ok((self.resolve(directory, PLACE | OFlags::DIRECTORY, &mut 0)?, name))
    }

    /// Kind and state of a file or directory, for the listing; adds to `cost` what that has cost.
    pub(super) fn status(&self, path: &[u8], cost: &mut usize) -> Result<(FileType, Meta), Refused> {
        self.check(path)?;
        let stat = rustix::fs::fstat(self.resolve(path, PLACE, cost)?)?;
        match FileType::from_raw_mode(stat.st_mode) {
            kind @ (FileType::RegularFile | FileType::Directory) => Ok((kind, Meta::of(&stat))),
            _ => Err(Refused::NotFound),
        }
    }

    /// The path as text. A dotfile is one by its name in the request; a link may lead to one, its
    /// owner meant it to.
    fn check(&self, path: &[u8]) -> Result<(), Refused> {
        if path.is_empty() {
            return Ok(());
        }
        let segments = path.strip_suffix(b"/").unwrap_or(path).split(|&b| b == b'/');
        for (depth, segment) in segments.enumerate() {
            let welcome = match segment {
                b"" | b"." | b".." => false,
                b".well-known" if depth == 0 => true,
                [b'.', ..] => self.hidden && !segment.starts_with(TEMPORARY),
                _ => true,
            };
            if !welcome || segment.len() > NAME_MAX || segment.contains(&0) {
                return Err(Refused::NotFound);
            }
        }
        Ok(())
    }

    /// Opens a checked path by the root's rule for links.
    fn resolve(&self, path: &[u8], mut flags: OFlags, cost: &mut usize) -> Result<OwnedFd, Errno> {
        *cost += cost::LOOKUP;
        // A slash at the end means "a directory", here for the walk and for the real path, which
        // both lose it.
        let path = path.strip_suffix(b"/").inspect(|_| flags |= OFlags::DIRECTORY).unwrap_or(path);
        let path = or_dot(path);
        match self.symlinks {
            Symlinks::All => rustix::fs::openat(&self.dir, path, flags, Mode::empty()),
            Symlinks::None => self.open_beneath(path, flags, ResolveFlags::NO_SYMLINKS),
            Symlinks::Inside => match self.open_beneath(path, flags, ResolveFlags::NO_MAGICLINKS) {
                // An absolute link, or one that leaves the root and may come back; or renames
                // without end.
                Err(Errno::XDEV | Errno::AGAIN) => self.open_real(path, flags, cost),
                // The walk met a link: ELOOP at the end of the path, ENOTDIR within it.
                Err(Errno::LOOP | Errno::NOTDIR) if !self.openat2 => self.open_real(path, flags, cost),
                other => other,
            },
        }
    }

    /// Opens without ever leaving the root, or fails: the rule in the header.
    fn open_beneath(&self, path: &[u8], flags: OFlags, links: ResolveFlags) -> Result<OwnedFd, Errno> {
        if !self.openat2 {
            return self.walk(path, flags);
        }
        let rule = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | links;
        for _ in 1..TRIES {
            match rustix::fs::openat2(&self.dir, path, flags, Mode::empty(), rule) {
                Err(Errno::AGAIN | Errno::INTR) => continue,
                other => return other,
            }
        }
        rustix::fs::openat2(&self.dir, path, flags, Mode::empty(), rule)
    }

    /// Opens where the links of `path` lead by name, if that is below the root. The name may be out
    /// of date as soon as it is known; that is harmless, as it is opened beneath the root and
    /// through no link at all. Where a link was switched in between it is looked up anew, so that a
    /// link replaced atomically is never missing.
    fn open_real(&self, path: &[u8], flags: OFlags, cost: &mut usize) -> Result<OwnedFd, Errno> {
        let mut last = Errno::NOENT;
        for _ in 0..TRIES {
            *cost += cost::LINK;
            let mut links = ReadLinks::default();
            let root = self.real.as_os_str().as_bytes();
            last = match links.resolve(root, path) {
                Ok(target) => {
                    let target = Path::new(OsStr::from_bytes(&target));
                    let Ok(below) = target.strip_prefix(&self.real) else {
                        return Err(Errno::XDEV);
                    };
                    let below = or_dot(below.as_os_str().as_bytes());
                    match self.open_beneath(below, flags, ResolveFlags::NO_SYMLINKS) {
                        // Where there was no link, there is one now.
                        Err(Errno::LOOP) => continue,
                        Err(errno @ (Errno::NOENT | Errno::NOTDIR)) => errno,
                        other => return other,
                    }
                }
                // Whatever is wrong outside the root (no right, nothing there) is not told apart.
                Err(_) => Errno::NOENT,
            };
            // Most links that lead nowhere do so for good: there is nothing to try again.
            if links.are_unchanged() {
                break;
            }
        }
        Err(last)
    }

    /// openat2 by hand: one component at a time from an open directory, following no link. `path`
    /// holds no `..`.
    fn walk(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let (directories, name) = split(path);
        let mut dir: Option<OwnedFd> = None;
        for segment in directories.split(|&b| b == b'/').filter(|segment| !segment.is_empty()) {
            let at = dir.as_ref().unwrap_or(&self.dir);
            // O_PATH | O_DIRECTORY | O_NOFOLLOW on a link is ENOTDIR, not the link.
            let next = PLACE | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            dir = Some(rustix::fs::openat(at, segment, next, Mode::empty())?);
        }
        let at = dir.as_ref().unwrap_or(&self.dir);
        let fd = rustix::fs::openat(at, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
        // O_PATH | O_NOFOLLOW alone opens the link itself; openat2 would say ELOOP.
        if flags.contains(OFlags::PATH) && kind_of(&fd)? == FileType::Symlink {
            return Err(Errno::LOOP);
        }
        Ok(fd)
    }
}

impl Meta {
    /// The state of an open file.
    pub fn of_file(file: &File) -> io::Result<Meta> {
        Ok(Meta::of(&rustix::fs::fstat(file)?))
    }

    /// The state of what a place is.
    pub(super) fn of_place(place: impl AsFd) -> Result<Meta, Errno> {
        Ok(Meta::of(&rustix::fs::fstat(place)?))
    }

    // The fields' types differ from one architecture to the next.
    #[allow(clippy::unnecessary_cast)]
    pub(super) fn of(stat: &Stat) -> Meta {
        Meta {
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            size: stat.st_size as u64,
            mtime: (stat.st_mtime as i64, stat.st_mtime_nsec as u32),
            ctime: (stat.st_ctime as i64, stat.st_ctime_nsec as u32),
        }
    }
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Refused {
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::LOOP | Errno::XDEV => Refused::NotFound,
            // A socket; a device without a driver.
            Errno::NXIO | Errno::NODEV => Refused::NotFound,
            // A name this file system cannot hold (vfat, ntfs, case-folding ext4).
            Errno::INVAL | Errno::ILSEQ => Refused::NotFound,
            Errno::ACCESS | Errno::PERM | Errno::ROFS => Refused::Forbidden,
            Errno::MFILE | Errno::NFILE => Refused::TooManyFiles,
            errno => Refused::Other(errno.into()),
        }
    }
}

/// The directory to which `path` leads, and its path without links. A link on the way may be switched meanwhile.
fn open_by_real_path(path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let mut tries = 1..TRIES;
    loop {
        let real = path.canonicalize()?;
        match rustix::fs::open(&real, PLACE | OFlags::DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if tries.next().is_some() => {}
            other => return Ok((other?, real)),
        }
    }
}

/// The directory in which the kernel shows each of our descriptors as a link to what it is. Opened
/// once: from it, one more name leads there.
fn own_descriptors() -> Option<OwnedFd> {
    let dir = rustix::fs::open("/proc/self/fd", PLACE | OFlags::DIRECTORY, Mode::empty()).ok()?;
    // In a chroot anybody may have made a directory of this name.
    let system = rustix::fs::fstatfs(&dir).ok()?.f_type;
    (system == rustix::fs::PROC_SUPER_MAGIC).then_some(dir)
}

fn kind_of(fd: impl AsFd) -> Result<FileType, Errno> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

/// Directory and last name of a path; the directory is empty where there is no slash.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// The kernel takes no empty path; the root itself is `.` there.
fn or_dot(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"." } else { path }
}

#[cfg(test)]
mod tests;
