//! Removes the temporary files that a killed server has left in its store.
//!
//! At start the server scans the store's own directory and the directories that the journal names. When an upload
//! begins, its directory is scanned as well. A scan is done in small steps, so that a large directory does not hold up
//! the event loop.
//!
//! Its one rule: **a locked temporary file belongs to a running upload, of this server or another, and stays.** A
//! server holds flock(2) on its temporary file before a sweep could take the file for a leftover. When a server ends,
//! in whatever way, the kernel releases its locks. If the file system has no locks, nothing is removed.

use super::discarded::PIECE;
use super::journal::{Journal, identity};
use super::lookup::{Located, Refused, Root, TEMPORARY};
use crate::cost;
use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, flock, fstat, openat, statat, unlinkat};
use rustix::io::Errno;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// How the name of a temporary file ends.
pub(super) const SUFFIX: &[u8] = b".tmp";
/// The cost of one step: a tenth of a millisecond, or two removed files.
const STEP: usize = 2 * cost::NAME;
/// The shortest time between two scans of one directory while uploads go on: `PAUSE`, or `ENTRY_PAUSE` for each of its
/// entries if that is longer. `ENTRY_PAUSE` is a hundred times what it takes to read an entry.
const PAUSE: Duration = Duration::from_secs(1);
const ENTRY_PAUSE: Duration = Duration::from_micros(50);
/// The shortest time between two scans of all directories while the journal is long: `ROUND_PAUSE`, or `ENTRY_PAUSE`
/// for each entry if that is longer.
const ROUND_PAUSE: Duration = Duration::from_secs(60);
/// Limit of the directories that wait for a scan, and of the directories whose last scan is remembered.
const FOLDERS: usize = 1024;

/// The directories that are still to be scanned.
#[derive(Debug, Default)]
pub struct Sweep {
    scan: Option<Scan>,
    /// A round scans all directories of the journal. `round`: those still to scan. `round_size`: how many the journal
    /// named when the round began. `is_incomplete`: one of them could not be read.
    round: VecDeque<Box<[u8]>>,
    round_size: Option<usize>,
    is_incomplete: bool,
    round_entries: u32,
    next_round: Option<Instant>,
    /// Directories into which uploads have begun, each with the time of its scan.
    entered: Vec<(Instant, Box<[u8]>)>,
    /// The time before which a directory is not scanned again.
    rested: HashMap<Box<[u8]>, Instant>,
    removed: usize,
}

impl Sweep {
    /// Begins to scan all directories of the journal, and the store's own.
    pub fn begin_round(&mut self, folders: Vec<Box<[u8]>>) {
        (self.round_size, self.is_incomplete, self.round_entries) = (Some(folders.len()), false, 0);
        self.round = folders.into();
        self.round.push_front(Box::default());
    }

    /// Like `begin_round`, but not more often than `ROUND_PAUSE`. Called while the journal is long.
    pub fn begin_round_if_rested(&mut self, folders: impl FnOnce() -> Vec<Box<[u8]>>, now: Instant) {
        if self.round_size.is_none() && self.next_round.is_none_or(|next| next <= now) {
            self.begin_round(folders());
        }
    }

    /// An upload into `folder` begins.
    pub fn enter(&mut self, folder: &[u8], now: Instant) {
        let waits = |(_, other): &(Instant, Box<[u8]>)| &**other == folder;
        if self.entered.len() < FOLDERS && !self.entered.iter().any(waits) {
            let due = self.rested.get(folder).map_or(now, |rested| now.max(*rested));
            self.entered.push((due, folder.into()));
        }
    }

    /// When `step` has to be called next.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        if self.scan.is_some() || self.round_size.is_some() {
            return Some(now);
        }
        self.entered.iter().map(|(due, _)| *due).min()
    }

    /// Continues the scan for about a tenth of a millisecond.
    pub fn step(&mut self, root: &Root, journal: &Journal, now: Instant) {
        let mut cost = 0;
        while cost < STEP {
            if let Some(scan) = &mut self.scan {
                if scan.step(&mut cost, &mut self.removed) {
                    self.end_scan(now);
                }
            } else if let Some(folder) = self.next_folder(now) {
                cost += cost::LOOKUP;
                match Scan::begin(root, folder) {
                    Ok(scan) => self.scan = Some(scan),
                    Err(Refused::NotFound) => {}
                    Err(_) => self.is_incomplete = true,
                }
            } else {
                return self.end_round(root, journal, now);
            }
        }
    }

    fn next_folder(&mut self, now: Instant) -> Option<Box<[u8]>> {
        self.round.pop_front().or_else(|| {
            let due = self.entered.iter().position(|(due, _)| *due <= now)?;
            Some(self.entered.swap_remove(due).1)
        })
    }

    fn end_scan(&mut self, now: Instant) {
        let Some(Scan { folder, seen, .. }) = self.scan.take() else { return };
        if self.rested.len() >= FOLDERS {
            self.rested.clear();
        }
        self.round_entries = self.round_entries.saturating_add(seen);
        self.rested.insert(folder, now + PAUSE.max(ENTRY_PAUSE * seen));
        if self.removed > 0 {
            log::info!("temporary files that a killed server left in the store have been removed: {}", self.removed);
            self.removed = 0;
        }
    }

    fn end_round(&mut self, root: &Root, journal: &Journal, now: Instant) {
        let Some(count) = self.round_size.take() else { return };
        self.next_round = Some(now + ROUND_PAUSE.max(ENTRY_PAUSE * self.round_entries));
        if !self.is_incomplete {
            journal.remove_if_alone(root.dir(), count);
        }
    }
}

/// The scan of one directory.
struct Scan {
    folder: Box<[u8]>,
    dir: Dir,
    seen: u32,
    /// A large file that is freed in pieces before its name is removed, with its name and size. Dropping the file
    /// releases its lock.
    shrinking: Option<(File, Box<[u8]>, u64)>,
}

impl Scan {
    fn begin(root: &Root, folder: Box<[u8]>) -> Result<Scan, Refused> {
        let Located::Directory { dir, .. } = root.find(&folder)? else { return Err(Refused::NotFound) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = Dir::new(openat(dir, ".", flags, Mode::empty())?)?;
        Ok(Scan { folder, dir, seen: 0, shrinking: None })
    }

    /// Continues; `true` at the end of the directory. An entry that fails is skipped: the next scan finds it again.
    fn step(&mut self, cost: &mut usize, removed: &mut usize) -> bool {
        if let Some((file, name, size)) = self.shrinking.take() {
            *cost += STEP;
            let rest = size.saturating_sub(PIECE);
            if rest > 0 && file.set_len(rest).is_ok() {
                self.shrinking = Some((file, name, rest));
            } else if let Ok(dir) = self.dir.fd() {
                *removed += usize::from(unlinkat(dir, &*name, AtFlags::empty()).is_ok());
            }
            return false;
        }
        *cost += cost::ENTRY;
        self.seen = self.seen.saturating_add(1);
        let Some(Ok(entry)) = self.dir.read() else { return true };
        let name = entry.file_name().to_bytes();
        if !name.starts_with(TEMPORARY) || !name.ends_with(SUFFIX) {
            return false;
        }
        *cost += cost::NAME;
        let Ok(dir) = self.dir.fd() else { return false };
        if let Ok((file, size)) = claim(dir, name) {
            if size > PIECE {
                self.shrinking = Some((file, name.into(), size));
            } else {
                *removed += usize::from(unlinkat(dir, name, AtFlags::empty()).is_ok());
            }
        }
        false
    }
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan").field("seen", &self.seen).finish_non_exhaustive()
    }
}

/// Locks the temporary file `name`, unless an upload holds the lock. Returns the file, and how many of its bytes can be
/// freed before the name is removed: 0 if the file is not writable, or has a second name under which its content stays.
fn claim(dir: BorrowedFd, name: &[u8]) -> Result<(File, u64), Errno> {
    if FileType::from_raw_mode(statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    // Opened for writing, because NFS gives an exclusive lock only on a writable descriptor. A file that already has
    // its final mode may be read-only.
    let (file, is_writable) = match openat(dir, name, flags | OFlags::RDWR, Mode::empty()) {
        Err(Errno::ACCESS) => (openat(dir, name, flags | OFlags::RDONLY, Mode::empty())?, false),
        other => (other?, true),
    };
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    // Between the open and the lock, the name may have been removed and given to another file.
    let stat = fstat(&file)?;
    if identity(&stat) != identity(&statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?) {
        return Err(Errno::NOENT);
    }
    let may_shrink = is_writable && stat.st_nlink == 1;
    Ok((File::from(file), if may_shrink { stat.st_size.try_into().unwrap_or(0) } else { 0 }))
}

#[cfg(test)]
mod tests {
    use super::super::lookup::Symlinks;
    use super::super::scratch::Scratch;
    use super::*;
    use std::sync::Arc;

    fn root(dir: &Scratch) -> Root {
        Root::open(&dir.root(), Symlinks::Inside, false).unwrap()
    }

    /// Runs steps until the sweep is done, and returns their number.
    fn run(sweep: &mut Sweep, root: &Root, journal: &Journal, now: Instant) -> usize {
        let mut steps = 0;
        while sweep.next(now).is_some_and(|next| next <= now) {
            sweep.step(root, journal, now);
            steps += 1;
        }
        steps
    }

    fn left(dir: &Scratch, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(dir.root().join(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        let mut names: Vec<_> = names.filter(|name| name.starts_with('.')).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_locked_stays_and_what_is_not_goes() {
        let dir = Scratch::new();
        for name in [".dustdevil-1-aa.tmp", ".dustdevil-1-bb.tmp", ".dustdevil-other", ".env.tmp", ".x.tmp"] {
            dir.file(name, "x");
        }
        dir.link(".x.tmp", ".dustdevil-link.tmp");
        std::fs::create_dir(dir.root().join(".dustdevil-folder.tmp")).unwrap();
        let held = File::open(dir.root().join(".dustdevil-1-bb.tmp")).unwrap();
        flock(&held, FlockOperation::LockExclusive).unwrap();
        let (root, now) = (root(&dir), Instant::now());
        let mut sweep = Sweep::default();
        sweep.begin_round(Vec::new());
        run(&mut sweep, &root, &Journal::default(), now);
        let others = [".dustdevil-folder.tmp", ".dustdevil-link.tmp", ".dustdevil-other", ".env.tmp", ".x.tmp"];
        assert_eq!(left(&dir, ""), [&[".dustdevil-1-bb.tmp"], &others[..]].concat());
        drop(held);
        sweep.enter(b"", now);
        assert_eq!(run(&mut sweep, &root, &Journal::default(), now), 0, "it was looked through just now");
        run(&mut sweep, &root, &Journal::default(), now + PAUSE);
        assert_eq!(left(&dir, ""), others);
    }

    #[test]
    fn the_directories_of_the_journal_are_looked_through_and_no_other() {
        let dir = Scratch::new();
        for folder in ["a/b", "c", "d"] {
            dir.file(format!("{folder}/.dustdevil-1-aa.tmp"), "x");
        }
        let (root, journal, now) = (root(&dir), Arc::<Journal>::default(), Instant::now());
        for folder in ["a/b", "c", "gone", "../outside"] {
            drop(journal.enter(root.dir(), folder.as_bytes()));
        }
        let mut sweep = Sweep::default();
        sweep.begin_round(journal.folders(root.dir()));
        run(&mut sweep, &root, &journal, now);
        assert_eq!((left(&dir, "a/b").len(), left(&dir, "c").len(), left(&dir, "d").len()), (0, 0, 1));
        assert_eq!(left(&dir, ""), [""; 0], "the journal is done with");
    }

    #[test]
    fn a_long_journal_is_looked_through_again_after_a_pause_and_removed() {
        let dir = Scratch::new();
        let (root, journal, now) = (root(&dir), Arc::<Journal>::default(), Instant::now());
        let mut sweep = Sweep::default();
        sweep.begin_round(Vec::new());
        run(&mut sweep, &root, &journal, now);
        drop(journal.enter(root.dir(), b"a"));
        let path = dir.root().join(".dustdevil-journal");
        for (later, is_removed) in [(Duration::ZERO, false), (ROUND_PAUSE, true)] {
            sweep.begin_round_if_rested(|| journal.folders(root.dir()), now + later);
            run(&mut sweep, &root, &journal, now + later);
            assert_eq!(!path.exists(), is_removed);
        }
    }

    #[test]
    fn a_large_directory_and_a_large_file_take_many_steps() {
        let dir = Scratch::new();
        for number in 0..3000 {
            dir.file(format!("{number}"), "");
        }
        let (root, now) = (root(&dir), Instant::now());
        let mut sweep = Sweep::default();
        sweep.begin_round(Vec::new());
        let steps = run(&mut sweep, &root, &Journal::default(), now);
        assert!(steps >= 3000 * cost::ENTRY / STEP, "{steps}");
        let path = dir.root().join(".dustdevil-1-aa.tmp");
        File::create(&path).unwrap().set_len(4 * PIECE + 1).unwrap();
        sweep.begin_round(Vec::new());
        let more = run(&mut sweep, &root, &Journal::default(), now);
        assert!(more >= steps + 4 && !path.exists(), "{more} {steps}");
    }

    #[test]
    fn a_file_with_a_second_name_keeps_its_content() {
        let dir = Scratch::new();
        let (path, kept) = (dir.root().join(".dustdevil-1-aa.tmp"), dir.root().join("kept"));
        File::create(&path).unwrap().set_len(4 * PIECE).unwrap();
        std::fs::hard_link(&path, &kept).unwrap();
        let mut sweep = Sweep::default();
        sweep.begin_round(Vec::new());
        run(&mut sweep, &root(&dir), &Journal::default(), Instant::now());
        assert!(!path.exists());
        assert_eq!(kept.metadata().unwrap().len(), 4 * PIECE);
    }
}
