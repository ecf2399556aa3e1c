//! From a request path to an open file: the one resolver for every route, upload and listing.
//!
//! Takes the path below the root as bytes, decoded, dot segments resolved; trusts neither and
//! refuses what the target parser should have removed. A segment that held an encoded slash is
//! refused by the caller, who alone can see it. Content, validators, index files and the status of
//! an answer are other modules' work.
//!
//! Its one rule: **a file is reached only by an open that cannot leave the root.** The last open of
//! every lookup is openat2 with RESOLVE_BENEATH, or, where the kernel lacks it, a walk that follows
//! no link. Names are also checked as text, but nothing rests on that alone, and nothing is looked
//! at first and opened afterwards. Only [`Symlinks::All`] lifts the rule: there the owner vouches
//! for every link.
//!
//! ```text
//!  path ─► check ─► Inside: openat2(BENEATH) ──────────────────────┬─► fstat ─► File
//!        (as text)     └ EXDEV, EAGAIN ─► its real path, if below ──┤           Directory
//!                            the root: openat2(.. | NO_SYMLINKS) ───┤           NotFound
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

pub use crate::config::site::Symlinks;

/// Names beginning so belong to uploads under way. They are no resource, not even with `hidden`:
/// half a file is never served, and an upload cannot aim at another one's temporary file.
pub(super) const TEMPORARY: &[u8] = b".dustdevil-";

/// NAME_MAX of Linux. The kernel checks it as well, but only below an existing directory, and we
/// add suffixes.
const NAME_MAX: usize = 255;

/// openat2 says EAGAIN when a `..` inside a link met a rename anywhere on the system. More than a
/// few in a row is a writer in a tight loop; then the real path is opened instead, which holds no
/// `..` and cannot fail so.
const TRIES: usize = 4;

/// O_NONBLOCK: a FIFO without a writer would block the whole loop; on regular files the flag does
/// nothing. O_NOCTTY: a terminal below the root must not become ours.
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
    /// False where the kernel (before 5.6) or a seccomp filter refuses openat2: then the tree is
    /// walked.
    openat2: bool,
}

/// What a path led to. Sockets, FIFOs and devices are never found.
#[derive(Debug)]
pub enum Found {
    File {
        file: File,
        meta: Meta,
    },
    /// `dir` is open for reading, or O_PATH where we may pass but not list.
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
    /// The process or the system has no descriptor left: a moment's trouble, 503.
    TooManyFiles,
    /// The disk or the file system failed.
    Other(io::Error),
}

impl Root {
    /// Opens the directory at `path`. ENOTDIR when it is none. That it can be listed is not asked
    /// here.
    pub fn open(path: &Path, symlinks: Symlinks, hidden: bool) -> io::Result<Root> {
        let real = path.canonicalize()?;
        let dir = rustix::fs::open(&real, PLACE | OFlags::DIRECTORY, Mode::empty())?;
        // ENOSYS from an old kernel, EPERM from a container's filter, EINVAL from some emulators:
        // all mean "walk".
        let probe = rustix::fs::openat2(&dir, ".", PLACE, Mode::empty(), ResolveFlags::BENEATH);
        Ok(Root { dir, real, symlinks, hidden, openat2: probe.is_ok() })
    }

    /// Whether names that begin with a dot are served and listed.
    pub fn hidden(&self) -> bool {
        self.hidden
    }

    /// Opens what `path` names: `a/b.txt`, `a/` (a directory only), or empty for the root itself.
    /// No slash at the front, no empty segment.
    pub fn find(&self, path: &[u8]) -> Result<Found, Refused> {
        self.check(path)?;
        let fd = match self.resolve(path, READ) {
            // A directory of mode 0711 cannot be listed, yet its index file can be served.
            Err(Errno::ACCESS) => self.resolve(path, PLACE | OFlags::DIRECTORY).map_err(|_| Refused::Forbidden)?,
            other => other?,
        };
        let stat = rustix::fs::fstat(&fd)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(Found::File { file: File::from(fd), meta: Meta::of(&stat) }),
            FileType::Directory => Ok(Found::Directory { dir: fd, meta: Meta::of(&stat) }),
            _ => Err(Refused::NotFound),
        }
    }

    /// What `find` would tell of a file or directory, without the right to read it. The same
    /// confinement: openat2 with O_PATH, fstat, close. fstat and not statx: it holds all five
    /// values, and is there where statx is filtered.
    pub fn stat(&self, path: &[u8]) -> Result<Meta, Refused> {
        self.status(path).map(|(_, meta)| meta)
    }

    /// Whether `path`, which `find` once led to `seen`, still leads to the same, unchanged file: one
    /// system call where [`stat`](Root::stat) takes three (0.54 and 1.1 us here, three segments
    /// deep). The kernel has no confined stat, so this one follows any link. It is still safe: it
    /// says yes only for a file that was inside the root when it was found. What it cannot see is a
    /// directory moved out of the root with a link to it left in its place.
    pub fn unchanged(&self, path: &[u8], seen: &Meta) -> bool {
        let stat = rustix::fs::statat(&self.dir, or_dot(path), AtFlags::empty());
        self.check(path).is_ok() && stat.is_ok_and(|stat| Meta::of(&stat) == *seen)
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
        Ok((self.resolve(directory, PLACE | OFlags::DIRECTORY)?, name))
    }

    /// Kind and state of a file or directory, for the listing.
    pub(super) fn status(&self, path: &[u8]) -> Result<(FileType, Meta), Refused> {
        self.check(path)?;
        let stat = rustix::fs::fstat(self.resolve(path, PLACE)?)?;
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
    fn resolve(&self, path: &[u8], mut flags: OFlags) -> Result<OwnedFd, Errno> {
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
                Err(Errno::XDEV | Errno::AGAIN) => self.open_real(path, flags),
                // The walk met a link: ELOOP at the end of the path, ENOTDIR within it.
                Err(Errno::LOOP | Errno::NOTDIR) if !self.openat2 => self.open_real(path, flags),
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
    /// through no link at all. What was swapped in between is looked up anew, so that a link
    /// replaced atomically is never missing.
    fn open_real(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let mut last = Errno::NOENT;
        for _ in 0..TRIES {
            // Whatever is wrong outside the root (no right, nothing there) is not told apart.
            let target = self.real.join(OsStr::from_bytes(path));
            let Ok(target) = target.canonicalize() else {
                continue;
            };
            let Ok(below) = target.strip_prefix(&self.real) else {
                return Err(Errno::XDEV);
            };
            let below = or_dot(below.as_os_str().as_bytes());
            match self.open_beneath(below, flags, ResolveFlags::NO_SYMLINKS) {
                Err(errno @ (Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) => last = errno,
                other => return other,
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

fn kind_of(fd: impl AsFd) -> Result<FileType, Errno> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

/// Directory and last name of a path; the directory is empty where there is no slash.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
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
mod tests {
    use super::super::scratch::Scratch;
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};

    fn words(text: &str) -> Vec<&str> {
        text.split_whitespace().collect()
    }

    /// The same root with and without openat2: whatever a test says must hold for both.
    fn both(dir: &Scratch, symlinks: Symlinks, hidden: bool) -> [Root; 2] {
        let open = || Root::open(&dir.root(), symlinks, hidden).unwrap();
        [open(), Root { openat2: false, ..open() }]
    }

    fn every(dir: &Scratch, hidden: bool) -> impl Iterator<Item = Root> {
        [Symlinks::Inside, Symlinks::None, Symlinks::All].into_iter().flat_map(move |policy| both(dir, policy, hidden))
    }

    fn read(root: &Root, path: impl AsRef<[u8]>) -> Result<String, Refused> {
        match root.find(path.as_ref())? {
            Found::File { mut file, meta } => {
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                assert_eq!(meta.size, text.len() as u64);
                assert_eq!(root.stat(path.as_ref()).unwrap(), meta);
                assert!(root.unchanged(path.as_ref(), &meta));
                Ok(text)
            }
            Found::Directory { .. } => Ok("a directory".to_owned()),
        }
    }

    #[track_caller]
    fn refused(root: &Root, path: impl AsRef<[u8]>) {
        let path = path.as_ref();
        let shown = path.escape_ascii();
        assert!(matches!(root.find(path), Err(Refused::NotFound)), "find {shown} {root:?}");
        assert!(matches!(root.stat(path), Err(Refused::NotFound)), "stat {shown} {root:?}");
    }

    #[test]
    fn this_kernel_has_openat2() {
        let dir = Scratch::new();
        let root = Root::open(&dir.root(), Symlinks::Inside, false).unwrap();
        assert!(root.openat2, "the tests of openat2 show nothing here");
    }

    #[test]
    fn files_and_directories_are_found() {
        let dir = Scratch::new();
        dir.file("sub/dir/a b.txt", "hello");
        dir.file("empty", "");
        for root in every(&dir, false) {
            assert_eq!(read(&root, "sub/dir/a b.txt").unwrap(), "hello");
            assert_eq!(read(&root, "empty").unwrap(), "");
            for path in ["", "sub", "sub/", "sub/dir", "sub/dir/"] {
                assert!(matches!(root.find(path.as_bytes()), Ok(Found::Directory { .. })), "{path}");
                assert!(root.stat(path.as_bytes()).is_ok(), "{path}");
            }
            for path in ["nothing", "sub/nothing", "empty/", "empty/below", "sub/dir/a b.txt/"] {
                refused(&root, path);
            }
        }
    }

    #[test]
    fn a_root_must_be_a_directory() {
        let dir = Scratch::new();
        dir.file("file", "");
        let open = |name| Root::open(&dir.root().join(name), Symlinks::Inside, false).unwrap_err();
        assert_eq!(open("file").kind(), io::ErrorKind::NotADirectory);
        assert_eq!(open("nothing").kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn names_that_could_leave_the_root_are_refused_by_every_policy() {
        let dir = Scratch::new();
        dir.file("sub/a", "");
        dir.file("a", "");
        let long = "x".repeat(256);
        let deep = "sub/".repeat(2000);
        let absolute = dir.outside().join("secret.txt");
        for root in every(&dir, false).chain(every(&dir, true)) {
            let leaving = ".. ../ ../outside/secret.txt sub/../../outside/secret.txt sub/.. sub/../a . \
                ./a sub/./a / // /a //a sub//a a// /etc/passwd %2e%2e/outside/secret.txt";
            let nul = ["a\0", "a\0.txt", "\0", "sub/\0/a", "..\0"];
            for path in words(leaving).into_iter().chain(nul).chain([&*long, &*deep]) {
                refused(&root, path);
                assert!(matches!(root.parent(path.as_bytes()), Err(Refused::NotFound)), "{path}");
            }
            // Names like others, only absent.
            refused(&root, "...");
            refused(&root, "..\\outside\\secret.txt");
            refused(&root, absolute.as_os_str().as_bytes());
        }
    }

    #[test]
    fn links_inside_are_followed_and_links_outside_are_not() {
        let dir = Scratch::new();
        dir.file("real/file", "inside");
        dir.link("real/file", "relative");
        dir.link("real", "directory");
        dir.link("../real/file", "real/up");
        dir.link(dir.root().join("real/file"), "absolute");
        dir.link(dir.root().join("real"), "absolute-directory");
        dir.link("absolute-directory/up", "chain");
        dir.link("../root/real/file", "out-and-in");
        dir.link(dir.root(), "self");
        let inside = words(
            "relative directory/file real/up absolute absolute-directory/file chain \
                out-and-in self/self/chain",
        );
        dir.link("../outside/secret.txt", "out");
        dir.link("../outside", "out-directory");
        dir.link(dir.outside().join("secret.txt"), "absolute-out");
        dir.link(dir.outside(), "absolute-out-directory");
        dir.link("out", "out-by-chain");
        symlink(dir.root().join("real/file"), dir.outside().join("back")).unwrap();
        let outside =
            ["out", "out-directory/secret.txt", "absolute-out", "absolute-out-directory/secret.txt", "out-by-chain"];
        for root in both(&dir, Symlinks::Inside, false) {
            for path in &inside {
                assert_eq!(read(&root, path).unwrap(), "inside", "{path} {root:?}");
            }
            assert!(matches!(root.find(b"absolute-directory/"), Ok(Found::Directory { .. })));
            refused(&root, "absolute/");
            for path in outside.iter().chain(&["out-directory", "out-directory/", "absolute-out-directory/"]) {
                refused(&root, path);
            }
            // A chain through the outside that ends inside leads to a file inside.
            assert_eq!(read(&root, "out-directory/back").unwrap(), "inside");
        }
        for root in both(&dir, Symlinks::None, false) {
            for path in inside.iter().chain(&outside).chain(&["directory", "directory/"]) {
                refused(&root, path);
            }
        }
        for root in both(&dir, Symlinks::All, false) {
            for path in &inside {
                assert_eq!(read(&root, path).unwrap(), "inside", "{path}");
            }
            for path in &outside {
                assert_eq!(read(&root, path).unwrap(), "secret", "{path}");
            }
        }
    }

    #[test]
    fn loops_dangling_links_and_magic_links_are_not_found() {
        let dir = Scratch::new();
        dir.link("loop", "loop");
        dir.link("b", "a");
        dir.link("a", "b");
        dir.link(dir.root().join("absolute-loop"), "absolute-loop");
        dir.link("nothing", "dangling");
        dir.link(dir.root().join("nothing"), "absolute-dangling");
        dir.link("/proc/self/cwd", "magic");
        dir.link("/proc/self/root", "magic-root");
        for root in [Symlinks::Inside, Symlinks::None].iter().flat_map(|&policy| both(&dir, policy, false)) {
            for path in words(
                "loop loop/ loop/x a a/x absolute-loop absolute-loop/x dangling dangling/x \
                absolute-dangling magic/Cargo.toml magic magic-root/etc/passwd",
            ) {
                refused(&root, path);
            }
        }
    }

    #[test]
    fn a_root_reached_by_a_link_and_the_root_of_the_machine_serve_absolute_links() {
        let dir = Scratch::new();
        dir.file("real", "inside");
        let alias = dir.outside().join("alias");
        symlink(dir.root(), &alias).unwrap();
        symlink(alias.join("real"), dir.root().join("by-alias")).unwrap();
        let root = Root::open(&alias, Symlinks::Inside, false).unwrap();
        assert_eq!(read(&root, "by-alias").unwrap(), "inside");
        let machine = Root::open(Path::new("/"), Symlinks::Inside, false).unwrap();
        let path = dir.root().join("by-alias");
        assert_eq!(read(&machine, &path.as_os_str().as_bytes()[1..]).unwrap(), "inside");
    }

    #[test]
    fn a_root_moved_away_is_still_served() {
        let dir = Scratch::new();
        dir.file("a", "hello");
        dir.link(dir.root().join("a"), "absolute");
        let roots = both(&dir, Symlinks::Inside, false);
        std::fs::rename(dir.root(), dir.outside().join("moved")).unwrap();
        dir.file("a", "another root");
        for root in roots {
            assert_eq!(read(&root, "a").unwrap(), "hello");
            assert_ne!(read(&root, "absolute").ok().as_deref(), Some("another root"));
        }
    }

    #[test]
    fn a_fifo_a_socket_and_a_device_are_not_found_and_block_nobody() {
        let dir = Scratch::new();
        let fifo = dir.root().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.root().join("socket")).unwrap();
        for root in every(&dir, false) {
            refused(&root, "fifo");
            refused(&root, "socket");
        }
        let dev = Root::open(Path::new("/dev"), Symlinks::All, false).unwrap();
        refused(&dev, "null");
        refused(&dev, "tty");
    }

    #[test]
    fn what_may_not_be_read_is_forbidden() {
        let dir = Scratch::new();
        dir.file("unreadable", "");
        dir.file("passable/index.html", "index");
        dir.file("closed/file", "");
        let mode = |path, mode| {
            let path = dir.root().join(path);
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        if rustix::process::geteuid().is_root() {
            return; // root reads everything
        }
        mode("unreadable", 0);
        mode("passable", 0o311);
        mode("closed", 0);
        for root in every(&dir, false) {
            for path in ["unreadable", "closed/file"] {
                assert!(matches!(root.find(path.as_bytes()), Err(Refused::Forbidden)), "{path}");
            }
            assert!(matches!(root.find(b"passable/"), Ok(Found::Directory { .. })));
            assert_eq!(read(&root, "passable/index.html").unwrap(), "index");
        }
        mode("passable", 0o755);
        mode("closed", 0o755);
    }

    #[test]
    fn names_of_any_bytes_are_found() {
        let dir = Scratch::new();
        let most = "n".repeat(255);
        let names: [&[u8]; 14] = [
            b"a b",
            b"100%",
            b"%41",
            b"#",
            b"?",
            b"new\nline",
            b"\"'",
            b"<script>",
            "gr\u{fc}n \u{2192}".as_bytes(),
            b"\xff\xfe",
            b"back\\slash",
            b"..a",
            b"a..",
            most.as_bytes(),
        ];
        for name in names {
            dir.file(OsStr::from_bytes(name), "found");
        }
        for root in every(&dir, true) {
            for name in names {
                assert_eq!(read(&root, name).unwrap(), "found", "{}", name.escape_ascii());
            }
        }
    }

    #[test]
    fn dotfiles_need_hidden_but_well_known_does_not() {
        let dir = Scratch::new();
        let open = [".well-known/security.txt", ".well-known/acme/token"];
        let dotted = words(
            ".env .git/config sub/.htaccess .well-known/.secret sub/.well-known/x \
                .well-knownx",
        );
        let temporary = [".dustdevil-1-ab.tmp", "sub/.dustdevil-1-ab.tmp"];
        for path in open.iter().chain(&dotted).chain(&temporary) {
            dir.file(path, "dot");
        }
        dir.link(".env", "env");
        for root in both(&dir, Symlinks::Inside, false) {
            for path in open {
                assert_eq!(read(&root, path).unwrap(), "dot");
            }
            assert!(matches!(root.find(b".well-known/"), Ok(Found::Directory { .. })));
            for path in dotted.iter().chain(&temporary) {
                refused(&root, path);
            }
            assert_eq!(read(&root, "env").unwrap(), "dot", "the link's name has no dot");
        }
        for root in both(&dir, Symlinks::Inside, true) {
            for path in open.iter().chain(&dotted) {
                assert_eq!(read(&root, path).unwrap(), "dot");
            }
            for path in temporary {
                refused(&root, path);
            }
        }
    }

    #[test]
    fn a_parent_is_confined_like_a_file() {
        let dir = Scratch::new();
        dir.file("sub/a", "");
        dir.link("sub", "link");
        dir.link("../outside", "out");
        dir.link(dir.outside(), "absolute-out");
        for root in both(&dir, Symlinks::Inside, false) {
            for (path, name) in [("a", "a"), ("sub/new", "new"), ("link/new", "new")] {
                assert_eq!(root.parent(path.as_bytes()).unwrap().1, name.as_bytes());
            }
            let long = format!("sub/{}", "n".repeat(256));
            let refused = "/ sub/ sub/. sub/.. sub/.env .well-known out/x absolute-out/x nothing/x \
                sub/a/x ../x .dustdevil-1-ab.tmp";
            for path in words(refused).into_iter().chain(["", "a\0", &long]) {
                assert!(matches!(root.parent(path.as_bytes()), Err(Refused::NotFound)), "{path}");
            }
        }
        for root in both(&dir, Symlinks::Inside, true) {
            assert_eq!(root.parent(b"sub/.env").unwrap().1, b".env");
            assert!(root.parent(b".dustdevil-1-ab.tmp").is_err());
        }
        for root in both(&dir, Symlinks::None, false) {
            assert!(root.parent(b"link/new").is_err());
            assert!(root.parent(b"sub/new").is_ok());
        }
    }

    #[test]
    fn a_change_is_seen() {
        let dir = Scratch::new();
        dir.file("a", "one");
        dir.file("b", "one");
        for root in both(&dir, Symlinks::Inside, false) {
            let seen = root.stat(b"a").unwrap();
            assert!(root.unchanged(b"a", &seen));
            assert!(!root.unchanged(b"b", &seen));
            assert!(!root.unchanged(b"nothing", &seen));
            assert!(!root.unchanged(b"../root/a", &seen));
            dir.file("a", "longer");
            assert!(!root.unchanged(b"a", &seen));
            dir.file("a", "one");
        }
    }

    /// What a thread does to the tree until the value is dropped.
    struct Meanwhile(std::sync::Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

    impl Meanwhile {
        fn run(mut act: impl FnMut() + Send + 'static) -> Meanwhile {
            let stop = std::sync::Arc::new(AtomicBool::new(false));
            let seen = stop.clone();
            let work = move || {
                while !seen.load(Ordering::Relaxed) {
                    act();
                }
            };
            Meanwhile(stop, Some(std::thread::spawn(work)))
        }
    }

    impl Drop for Meanwhile {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
            let _ = self.1.take().map(std::thread::JoinHandle::join);
        }
    }

    #[test]
    fn a_link_swapped_while_we_look_never_shows_the_outside() {
        let dir = Scratch::new();
        dir.file("real/secret.txt", "inside");
        dir.link("real", "door");
        let root = dir.root();
        let targets = [dir.root().join("real"), "real".into(), dir.outside(), "../outside".into()];
        let mut turn = 0;
        let swap = Meanwhile::run(move || {
            turn += 1;
            symlink(&targets[turn % 4], root.join("next")).unwrap();
            std::fs::rename(root.join("next"), root.join("door")).unwrap();
        });
        for root in both(&dir, Symlinks::Inside, false) {
            // Until both answers were seen often: under load the threads may take long turns.
            let (mut found, mut refused) = (0, 0);
            while found < 500 || refused < 500 {
                match root.find(b"door/secret.txt") {
                    Ok(Found::File { mut file, .. }) => {
                        let mut text = String::new();
                        file.read_to_string(&mut text).unwrap();
                        assert_eq!(text, "inside");
                        found += 1;
                    }
                    Err(Refused::NotFound) => refused += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
        drop(swap);
    }

    #[test]
    fn renames_elsewhere_never_hide_a_file() {
        // Every rename on the system makes openat2 say EAGAIN for a path that steps back by `..` at
        // that moment.
        let dir = Scratch::new();
        dir.file("real/a", "hello");
        dir.link("../../root/../root/real/a", "real/out-and-in");
        dir.link("../real/../real/../real/a", "real/up");
        let outside = dir.outside();
        let renames = Meanwhile::run(move || {
            std::fs::rename(outside.join("secret.txt"), outside.join("moved")).unwrap();
            std::fs::rename(outside.join("moved"), outside.join("secret.txt")).unwrap();
        });
        for root in both(&dir, Symlinks::Inside, false) {
            for _ in 0..3000 {
                for path in ["real/up", "real/out-and-in"] {
                    assert!(root.find(path.as_bytes()).is_ok(), "{path}");
                }
            }
        }
        drop(renames);
    }

    #[test]
    fn a_target_replaced_by_an_absolute_link_is_never_missing() {
        let dir = Scratch::new();
        dir.file("v0", "version");
        dir.link(dir.root().join("v0"), "current");
        let root = dir.root();
        let mut version = 0;
        let deploy = Meanwhile::run(move || {
            version += 1;
            std::fs::write(root.join(format!("v{version}")), "version").unwrap();
            symlink(root.join(format!("v{version}")), root.join("next")).unwrap();
            std::fs::rename(root.join("next"), root.join("current")).unwrap();
            std::fs::remove_file(root.join(format!("v{}", version - 1))).unwrap();
            std::thread::sleep(std::time::Duration::from_micros(200));
        });
        for root in both(&dir, Symlinks::Inside, false) {
            for _ in 0..3000 {
                assert!(root.find(b"current").is_ok());
            }
        }
        drop(deploy);
    }
}
