//! From a request path to an open file: the one resolver for every route, upload and listing.
//!
//! Input: the path below the root as bytes, decoded, dot segments resolved. The resolver trusts neither and refuses
//! what the target parser should have removed. The caller refuses a segment that held an encoded slash, because only
//! the caller can see it. Content, validators, index files and the status of an answer belong to other modules.
//!
//! Its one rule: **a file is reached only by an open that cannot leave the root.** The last open of every lookup is
//! openat2 with RESOLVE_BENEATH, or, if the kernel lacks it, a walk that follows no link. Names are also checked as
//! text, but no guarantee rests on that alone. Only [`Symlinks::All`] lifts the rule: then the owner of the tree
//! vouches for every link.
//!
//! **Only a regular file is opened for reading**, and none of those that the kernel generates when they are read
//! (procfs, sysfs and the like: `file_system`). To open a FIFO would let its writer continue and lose what it writes;
//! to open a device can have any side effect. So a path is first opened as a *place* (an O_PATH descriptor, which opens
//! no content). If the place is a regular file, this very inode is opened through /proc/self/fd, whatever the name
//! leads to by then.
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

/// The prefix of temporary files and of the journal. Such a name is no resource, not even with `hidden`: so half a file
/// is never served, and an upload cannot overwrite another upload's temporary file.
pub(super) const TEMPORARY: &[u8] = b".dustdevil-";

/// NAME_MAX of Linux. The kernel checks it as well, but only below an existing directory, and we add suffixes.
const NAME_MAX: usize = 255;

/// How often openat2 is tried again after EAGAIN, which it returns if any rename on the system happens while it
/// resolves a `..` in a link. More than a few in a row mean that a program renames in a tight loop. Then the path is
/// resolved by name: the real path has no `..`, so EAGAIN cannot happen.
const TRIES: usize = 4;

/// O_NONBLOCK: if another process holds a lease on the file (fcntl(2)), the open fails at once. If there is no /proc, a
/// FIFO or device that replaced the file does not block the loop; O_NOCTTY: nor does it become our terminal.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
/// O_PATH: a place in the tree, without the right to read it. Enough to stat it, or to open something below it.
const PLACE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// A directory that is served, and the rules by which it is served.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    /// The path of `dir` when it was opened, without links. Only a hint, for absolute links and links that leave the
    /// root by name: if the directory is moved, these are no longer found, and nothing else changes.
    real: PathBuf,
    symlinks: Symlinks,
    hidden: bool,
    /// The rule for the entity tags of its files.
    pub(super) etag: EtagRule,
    pub(super) systems: FileSystems,
    /// False if the kernel (before 5.6) or a seccomp filter refuses openat2. Then `walk` replaces it.
    openat2: bool,
    /// /proc/self/fd as a place, if /proc is mounted.
    descriptors: Option<OwnedFd>,
}

/// What a path leads to. Sockets, FIFOs and devices are never returned.
#[derive(Debug)]
pub enum Located {
    File {
        file: File,
        meta: Meta,
    },
    /// `dir` is a place (O_PATH): to look below it, or to open it again for a listing.
    Directory {
        dir: OwnedFd,
        meta: Meta,
    },
}

/// Identity and state of a file. Two equal values mean the same file with unchanged content, as far as the kernel's
/// clock can tell: two writes within one tick (1 to 4 ms; finer from Linux 6.13 on) may leave the same times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    pub dev: u64,
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Seconds since the epoch, may be negative, and nanoseconds.
    pub mtime: (i64, u32),
    /// The time of the last change of content, name, mode or link count. No program can set it.
    pub ctime: (i64, u32),
}

/// Why a path leads to no file or directory.
#[derive(Debug)]
pub enum Refused {
    /// There is no such resource, or the rules hide it: a client cannot tell which.
    NotFound,
    /// The file exists, but the server's user may not open it.
    Forbidden,
    /// The name of the root leads to no directory at the moment: 503.
    Gone,
    /// The process or the system has no descriptor left: temporary, 503.
    TooManyFiles,
    /// The disk or the file system failed.
    Other(io::Error),
}

impl Root {
    /// Opens the directory at `path`. ENOTDIR if it is no directory. Does not check that it can be listed.
    pub fn open(path: &Path, symlinks: Symlinks, hidden: bool) -> io::Result<Root> {
        let (dir, real) = open_by_real_path(path)?;
        // ENOSYS from an old kernel, EPERM from a container's filter, EINVAL from some emulators: after any of them,
        // `walk` is used.
        let probe = rustix::fs::openat2(&dir, ".", PLACE, Mode::empty(), ResolveFlags::BENEATH);
        let (etag, systems) = (EtagRule::default(), FileSystems::default());
        Ok(Root { dir, real, symlinks, hidden, etag, systems, openat2: probe.is_ok(), descriptors: own_descriptors() })
    }

    /// Whether `path` leads to this directory now.
    pub fn is_at(&self, path: &Path) -> bool {
        let identity = |stat: Stat| (stat.st_dev, stat.st_ino);
        let (there, own) = (rustix::fs::stat(path), rustix::fs::fstat(&self.dir));
        there.is_ok_and(|there| own.is_ok_and(|own| identity(own) == identity(there)))
    }

    /// Whether both are the same directory, opened by the same real path.
    pub fn is_same(&self, other: &Root) -> bool {
        self.real == other.real && self.is_at(&self.real) && other.is_at(&self.real)
    }

    /// This root, with another rule for the entity tags of its files.
    pub fn with_etag(self, etag: EtagRule) -> Root {
        Root { etag, ..self }
    }

    /// Whether names that begin with a dot are served and listed.
    pub fn hidden(&self) -> bool {
        self.hidden
    }

    /// The directory as a place.
    pub(super) fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// /proc/self/fd as a place, if /proc is mounted.
    pub(super) fn descriptors(&self) -> Option<&OwnedFd> {
        self.descriptors.as_ref()
    }

    /// Opens what `path` names: `a/b.txt`, `a/` (a directory only), or empty for the root itself. No slash at the
    /// front, no empty segment.
    pub fn find(&self, path: &[u8]) -> Result<Located, Refused> {
        self.find_at_cost(path, &mut 0)
    }

    /// Like `find`, and adds to `cost` what it cost, in the units of `cost`.
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
                // fstat of the opened file: on NFS only an open brings the attributes up to date.
                let meta = Meta::of_file(&file).map_err(Refused::Other)?;
                return Ok(Located::File { file, meta });
            }
        }
        Err(Refused::NotFound)
    }

    /// Opens the regular file that `place` is. `None` if there is no /proc and `path` leads to another file by now.
    /// Only without /proc, a FIFO that replaces the file between two system calls is opened; it is not read.
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

    /// The state of a file or directory, without the right to read it, under the same confinement as `find`: openat2
    /// with O_PATH, fstat, close. fstat and not statx: it has all five values, and works where a filter refuses statx.
    pub fn stat(&self, path: &[u8]) -> Result<Meta, Refused> {
        self.status(path, &mut 0).map(|(_, meta)| meta)
    }

    /// Whether `path`, which `find` once led to `seen`, still leads to the same, unchanged file. One system call;
    /// [`stat`](Root::stat) takes three (0.54 and 1.1 us here, three segments deep). The kernel has no confined stat,
    /// so this one follows any link. It is still safe: it returns true only for a file that was inside the root when
    /// `find` found it. It does not notice that a directory was moved out of the root and replaced by a link to it.
    pub fn unchanged(&self, path: &[u8], seen: &Meta) -> bool {
        self.check(path).is_ok() && self.meta(path).is_ok_and(|meta| meta == *seen)
    }

    /// What `path` leads to, as a place, if no symbolic link is on the way.
    pub(super) fn place(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.open_beneath(path, PLACE | OFlags::NOFOLLOW, ResolveFlags::NO_SYMLINKS)
    }

    /// The state of what `path` leads to now, through any links, even out of the root.
    pub(super) fn meta(&self, path: &[u8]) -> Result<Meta, Errno> {
        rustix::fs::statat(&self.dir, or_dot(path), AtFlags::empty()).map(|stat| Meta::of(&stat))
    }

    /// The directory of an upload to `path`, opened by the same rules (O_PATH), and the file's name in it. A missing
    /// directory is NotFound; none is made. Whether the name is taken is not checked.
    pub fn parent<'p>(&self, path: &'p [u8]) -> Result<(OwnedFd, &'p [u8]), Refused> {
        self.check(path)?;
        let (directory, name) = split(path);
        // `.well-known` is served, but it is not a name for an upload.
        if name.is_empty() || (name[0] == b'.' && !self.hidden) {
            return Err(Refused::NotFound);
        }
        Ok((self.resolve(directory, PLACE | OFlags::DIRECTORY, &mut 0)?, name))
    }

    /// Kind and state of a file or directory, for the listing. Adds to `cost` what it cost.
    pub(super) fn status(&self, path: &[u8], cost: &mut usize) -> Result<(FileType, Meta), Refused> {
        self.check(path)?;
        let stat = rustix::fs::fstat(self.resolve(path, PLACE, cost)?)?;
        match FileType::from_raw_mode(stat.st_mode) {
            kind @ (FileType::RegularFile | FileType::Directory) => Ok((kind, Meta::of(&stat))),
            _ => Err(Refused::NotFound),
        }
    }

    /// Checks the path as text. Only names in the request are checked for a leading dot: a link may lead to a dotfile,
    /// because the owner of the tree made the link.
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
        // A final slash means "a directory". The walk and the real path both lose it, so the flag replaces it.
        let path = path.strip_suffix(b"/").inspect(|_| flags |= OFlags::DIRECTORY).unwrap_or(path);
        let path = or_dot(path);
        match self.symlinks {
            Symlinks::All => rustix::fs::openat(&self.dir, path, flags, Mode::empty()),
            Symlinks::None => self.open_beneath(path, flags, ResolveFlags::NO_SYMLINKS),
            Symlinks::Inside => match self.open_beneath(path, flags, ResolveFlags::NO_MAGICLINKS) {
                // XDEV: an absolute link, or one that leaves the root and may come back. AGAIN: renames in a tight loop
                // (`TRIES`).
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

    /// Resolves the links of `path` by name, and opens the result if it is below the root. The name may be out of date
    /// as soon as it is known. That is harmless: it is opened beneath the root and through no link. If a link was
    /// switched in between, the path is resolved again, so that a link that is replaced atomically never seems missing.
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
                        // A name that was no link has become one.
                        Err(Errno::LOOP) => continue,
                        Err(errno @ (Errno::NOENT | Errno::NOTDIR)) => errno,
                        other => return other,
                    }
                }
                // All errors outside the root (no right, no such name) look the same to the client.
                Err(_) => Errno::NOENT,
            };
            // If no link has changed, the result is final. Most links that lead nowhere are simply broken.
            if links.are_unchanged() {
                break;
            }
        }
        Err(last)
    }

    /// Does what openat2 does, one component at a time from an open directory, and follows no link. `path` holds no
    /// `..`.
    fn walk(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let (directories, name) = split(path);
        let mut dir: Option<OwnedFd> = None;
        for segment in directories.split(|&b| b == b'/').filter(|segment| !segment.is_empty()) {
            let at = dir.as_ref().unwrap_or(&self.dir);
            // For a link, O_PATH | O_DIRECTORY | O_NOFOLLOW gives ENOTDIR; it does not open the link.
            let next = PLACE | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            dir = Some(rustix::fs::openat(at, segment, next, Mode::empty())?);
        }
        let at = dir.as_ref().unwrap_or(&self.dir);
        let fd = rustix::fs::openat(at, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
        // O_PATH | O_NOFOLLOW opens a link itself; openat2 would return ELOOP.
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
            // ENXIO: a socket. ENODEV: a device without a driver.
            Errno::NXIO | Errno::NODEV => Refused::NotFound,
            // A name that this file system cannot hold (vfat, ntfs, case-folding ext4).
            Errno::INVAL | Errno::ILSEQ => Refused::NotFound,
            Errno::ACCESS | Errno::PERM | Errno::ROFS => Refused::Forbidden,
            Errno::MFILE | Errno::NFILE => Refused::TooManyFiles,
            errno => Refused::Other(errno.into()),
        }
    }
}

/// Opens the directory that `path` leads to, and returns it with its path without links. If a link is switched
/// meanwhile, it tries again.
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

/// /proc/self/fd: the kernel shows each of our descriptors there as a link to its file. Opened once, so that a lookup
/// has to resolve only the number below it.
fn own_descriptors() -> Option<OwnedFd> {
    let dir = rustix::fs::open("/proc/self/fd", PLACE | OFlags::DIRECTORY, Mode::empty()).ok()?;
    // In a chroot anybody may have made a directory of this name.
    let system = rustix::fs::fstatfs(&dir).ok()?.f_type;
    (system == rustix::fs::PROC_SUPER_MAGIC).then_some(dir)
}

fn kind_of(fd: impl AsFd) -> Result<FileType, Errno> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

/// Directory and last name of a path. The directory is empty if there is no slash.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// System calls refuse an empty path. The root itself is `.`.
fn or_dot(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"." } else { path }
}

#[cfg(test)]
mod tests;
