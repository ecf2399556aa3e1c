//! What is known of the file systems that served files are on: whether their sizes are true, and whether two contents
//! always have different times, however soon one follows the other.
//!
//! The answer of a file system is remembered under its device number for `FRESH` lookups, not for good: after an
//! unmount the kernel gives the number to another file system.

use crate::sync;
use rustix::fs::fstatfs;
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::sync::{Mutex, OnceLock};

/// For how many lookups an answer is used. Asking takes a tenth of a lookup.
const FRESH: u32 = 64;
/// How many file systems are remembered. If there are more, all are forgotten: a site seldom has more than two.
const MOST: usize = 64;

/// File systems whose files the kernel generates when they are read (statfs(2), linux/magic.h). Their sizes are 0 or a
/// page. To read one to its end can block, or have side effects.
const MADE: [(i64, &str); 26] = [
    (0x9fa0, "procfs"),
    (0x9fa1, "openpromfs"),
    (0x6265_6572, "sysfs"),
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x7363_6673, "securityfs"),
    (0x6265_6570, "configfs"),
    (0xcafe_4a11, "bpf"),
    (0xf97c_ff8c, "selinuxfs"),
    (0x4341_5d53, "smackfs"),
    (0x5a3c_69f0, "apparmorfs"),
    (0x4249_4e4d, "binfmt_misc"),
    (0x6573_5543, "fusectl"),
    (0x0765_5821, "resctrl"),
    (0x6e73_6673, "nsfs"),
    (0xabba_1974, "xenfs"),
    (0x1980_0202, "mqueue"),
    (0x6e66_7364, "nfsd"),
    (0x6759_6969, "rpc_pipefs"),
    (0x0904_1934, "anon_inodefs"),
    (0x5049_4446, "pidfs"),
    (0x444d_4142, "dmabuf"),
    (0x5345_434d, "secretmem"),
    (0x6c6f_6f70, "binder"),
];
/// File systems with multigrain times from Linux 6.13 on: once a program has read a file's times, the next change gets
/// different ones. ext, XFS, Btrfs, tmpfs.
const MULTIGRAIN: [i64; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994];

/// What a file system means for a server of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its files are generated when they are read, and their sizes are not true. Holds its name.
    Made(&'static str),
    /// After a file was looked at, every change gives it another ctime.
    Multigrain,
    /// Two changes within one tick of the kernel's clock may leave the same times.
    Coarse,
}

#[derive(Debug, Default)]
pub struct FileSystems {
    known: Mutex<Vec<Known>>,
}

#[derive(Debug)]
struct Known {
    dev: u64,
    kind: Kind,
    /// For how many lookups the answer has been used.
    used: u32,
    /// Whether the warning that its files are not served has been logged.
    is_logged: bool,
}

impl FileSystems {
    /// The kind of the file system that `place` is on. `dev`: its device number.
    pub fn kind(&self, dev: u64, place: impl AsFd) -> Result<Kind, Errno> {
        let mut known = sync::lock(&self.known);
        let mut found = known.iter_mut().find(|known| known.dev == dev);
        if let Some(known) = &mut found
            && known.used < FRESH
        {
            known.used += 1;
            return Ok(known.kind);
        }
        let kind = ask(place)?;
        match found {
            Some(known) => {
                known.is_logged &= known.kind == kind;
                (known.kind, known.used) = (kind, 0);
            }
            None => {
                if known.len() >= MOST {
                    known.clear();
                }
                known.push(Known { dev, kind, used: 0, is_logged: false });
            }
        }
        Ok(kind)
    }

    /// Logs, once for each file system, that `path` is not served.
    pub fn refuse(&self, dev: u64, name: &str, path: &[u8]) {
        let mut known = sync::lock(&self.known);
        if let Some(known) = known.iter_mut().find(|known| known.dev == dev)
            && !std::mem::replace(&mut known.is_logged, true)
        {
            log::warn!(
                "\"{}\" is not served and gets 404: it is on {name}, whose files are made while they are read and have no \
                 true size; the same holds for all files there",
                path.escape_ascii()
            );
        }
    }
}

fn ask(place: impl AsFd) -> Result<Kind, Errno> {
    // The field's type differs from one architecture to the next.
    #[allow(clippy::unnecessary_cast)]
    let magic = fstatfs(place)?.f_type as i64 & 0xffff_ffff;
    Ok(match MADE.iter().find(|(made, _)| *made == magic) {
        Some((_, name)) => Kind::Made(name),
        None if MULTIGRAIN.contains(&magic) && has_multigrain() => Kind::Multigrain,
        None => Kind::Coarse,
    })
}

/// Whether the kernel is 6.13 or later.
fn has_multigrain() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| is_from_6_13(rustix::system::uname().release().to_bytes()))
}

fn is_from_6_13(release: &[u8]) -> bool {
    let release = String::from_utf8_lossy(release);
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse::<u32>().unwrap_or(0));
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (major, minor) >= (6, 13)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    fn kind(path: &str) -> Option<Kind> {
        let file = File::open(path).ok()?;
        let dev = file.metadata().unwrap().dev();
        Some(FileSystems::default().kind(dev, &file).unwrap())
    }

    #[test]
    fn file_systems_that_the_kernel_makes_are_told_by_name() {
        assert_eq!(kind("/proc/version"), Some(Kind::Made("procfs")));
        for (path, name) in [("/sys/kernel/fscaps", "sysfs"), ("/sys/fs/cgroup/cgroup.procs", "cgroup2")] {
            assert!(kind(path).is_none_or(|kind| kind == Kind::Made(name)), "{path}");
        }
        assert!(!matches!(kind(env!("CARGO_MANIFEST_DIR")), Some(Kind::Made(_)) | None));
    }

    #[test]
    fn a_number_that_is_given_to_another_file_system_is_asked_for_again() {
        let systems = FileSystems::default();
        let (proc, disk) = (File::open("/proc/version").unwrap(), File::open(env!("CARGO_MANIFEST_DIR")).unwrap());
        assert_eq!(systems.kind(1, &proc).unwrap(), Kind::Made("procfs"));
        assert_eq!(systems.kind(1, &disk).unwrap(), Kind::Made("procfs"), "known");
        sync::lock(&systems.known)[0].used = FRESH;
        assert!(!matches!(systems.kind(1, &disk).unwrap(), Kind::Made(_)));
    }

    #[test]
    fn many_file_systems_do_not_grow_memory() {
        let systems = FileSystems::default();
        let file = File::open("/proc/version").unwrap();
        assert!((0..1000).all(|dev| systems.kind(dev, &file).is_ok()));
        assert!(sync::lock(&systems.known).len() <= MOST);
    }

    #[test]
    fn the_kernels_version_is_read() {
        for (release, expected) in [
            ("6.13.0-1-amd64", true),
            ("6.12.99", false),
            ("7.0", true),
            ("6.9-rc1", false),
            ("5.15.0+", false),
            ("", false),
        ] {
            assert_eq!(is_from_6_13(release.as_bytes()), expected, "{release}");
        }
    }
}
