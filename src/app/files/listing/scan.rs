//! From an open directory to sorted entries, in steps that each cost little.
//!
//! ```text
//!  Scan: read a name, ask about it ──64 of them──► sort these as a run ──end, or MAX_ENTRIES──► Merge ──► Made
//! ```
//!
//! An entry that is gone before its stat, or whose stat fails, is left out. An error means that the directory itself
//! cannot be read.

use super::entries::{Entries, RUN, Run};
use crate::app::files::lookup::{Meta, Root, TEMPORARY};
use crate::cost;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The most entries that are read of a directory, without `.` and `..`, and with those that are not shown. The stats of
/// 10,000 entries take 10 ms, and the listing up to 3 MB. A longer directory needs an index file.
pub const MAX_ENTRIES: usize = 10_000;
/// When a step's cost reaches this, it does one last piece of work. That is at most a link resolved by name four times
/// and a run sorted, so that a step stays below `cost::ADVANCE`.
const STEP: usize = cost::ADVANCE / 5;

/// A directory that is being read. Holds the one descriptor that a listing needs.
pub struct Scan {
    root: Arc<Root>,
    /// The prefix that makes a name a path below the root.
    before: Box<[u8]>,
    dir: Dir,
    seen: usize,
    cut: bool,
    entries: Entries,
    /// Entries that are not sorted yet.
    run: Run,
}

/// Sorted runs that are being merged.
#[derive(Debug)]
pub struct Merge {
    entries: Entries,
    /// How many entries of each run have been merged.
    placed: Vec<u16>,
    /// The hash of all that a listing shows.
    hash: DefaultHasher,
    cut: bool,
}

/// The entries of a listing, directories first, then by the bytes of their names.
#[derive(Debug)]
pub struct Made {
    pub entries: Entries,
    /// Whether the directory has more entries.
    pub cut: bool,
    /// The hash of path, names, kinds, sizes and times: if two are equal, the pages have the same bytes, as far as 64
    /// bits tell.
    pub hash: u64,
}

impl Scan {
    /// Begins to read `dir`, to which `path` leads: a path as for `Root::find`, empty for the root.
    ///
    /// # Errors
    /// The directory may not be read, or no descriptor is left.
    pub fn begin(root: Arc<Root>, dir: OwnedFd, path: &[u8]) -> Result<Scan, Errno> {
        // `dir` may be an O_PATH descriptor, so the directory is opened again for reading.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = Dir::new(rustix::fs::openat(dir, ".", flags, Mode::empty())?)?;
        let slash: &[u8] = if path.is_empty() || path.ends_with(b"/") { b"" } else { b"/" };
        let before = [path, slash].concat().into();
        Ok(Scan { root, before, dir, seen: 0, cut: false, entries: Entries::default(), run: Run::default() })
    }

    /// Reads on. `true`: there is nothing more to read.
    pub fn step(&mut self, cost: &mut usize) -> Result<bool, Errno> {
        while *cost < STEP {
            let Some(item) = self.dir.read() else {
                self.end_run(cost);
                return Ok(true);
            };
            let item = item?;
            let name = item.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            if self.seen >= MAX_ENTRIES {
                self.cut = true;
                self.end_run(cost);
                return Ok(true);
            }
            self.seen += 1;
            self.add(name, cost);
            if self.run.len() >= RUN {
                self.end_run(cost);
            }
        }
        Ok(false)
    }

    fn add(&mut self, name: &[u8], cost: &mut usize) {
        *cost += cost::ENTRY;
        if name.starts_with(TEMPORARY) || (name[0] == b'.' && !self.root.hidden()) {
            return;
        }
        *cost += cost::STAT;
        let Ok(dir) = self.dir.fd() else { return };
        let Ok(stat) = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { return };
        let found = match FileType::from_raw_mode(stat.st_mode) {
            kind @ (FileType::RegularFile | FileType::Directory) => Some((kind, Meta::of(&stat))),
            // Only the resolver knows whether the link may be followed.
            FileType::Symlink => self.root.status(&[&self.before, name].concat(), cost).ok(),
            _ => None,
        };
        if let Some((kind, meta)) = found {
            self.run.push(name, kind.is_dir(), &meta);
        }
    }

    fn end_run(&mut self, cost: &mut usize) {
        let run = std::mem::take(&mut self.run);
        if !run.is_empty() {
            *cost += cost::ENTRY * run.len();
            self.entries.add(run);
        }
    }

    pub fn merge(self) -> Merge {
        let mut entries = self.entries;
        let placed: Vec<u16> = entries.runs().map(|_| 0).collect();
        entries.order.reserve_exact(entries.runs().sum());
        // Its keys are constant, so the tag is the same in every process and after a restart.
        let mut hash = DefaultHasher::new();
        (&self.before, self.cut).hash(&mut hash);
        Merge { entries, placed, hash, cut: self.cut }
    }

    /// Bytes of memory.
    pub fn size(&self) -> usize {
        self.entries.size()
    }
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan").field("seen", &self.seen).finish_non_exhaustive()
    }
}

impl Merge {
    /// Continues. `true`: all entries are merged.
    pub fn step(&mut self, cost: &mut usize) -> bool {
        let Merge { entries, placed, hash, .. } = self;
        let mut order = std::mem::take(&mut entries.order);
        // Made again in each step, because it borrows the names. The number of runs fits into 16 bits.
        let firsts = placed.iter().enumerate().map(|(run, &at)| (run as u16, at));
        let mut heads: BinaryHeap<_> = firsts.filter_map(|at| Some(Reverse((entries.key(at)?, at)))).collect();
        while *cost < 2 * STEP
            && let Some(Reverse((_, at))) = heads.pop()
        {
            let next = (at.0, at.1 + 1);
            placed[usize::from(at.0)] = next.1;
            heads.extend(entries.key(next).map(|key| Reverse((key, next))));
            if let Some((name, entry)) = entries.get(at) {
                let size = if entry.directory { None } else { Some(entry.size) };
                (name, size, entry.mtime).hash(hash);
                *cost += cost::ENTRY + cost::HASHED_BYTE * name.len();
            }
            order.push(at);
        }
        let is_merged = heads.is_empty();
        drop(heads);
        entries.order = order;
        is_merged
    }

    pub fn finish(self) -> Made {
        Made { entries: self.entries, cut: self.cut, hash: self.hash.finish() }
    }

    /// Bytes of memory.
    pub fn size(&self) -> usize {
        self.entries.size()
    }
}
