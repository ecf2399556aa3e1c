//! The entries of a directory in sorted runs, and their order over all runs.
//!
//! A run's names are in one vector. No allocation is as large as 128 KiB: glibc's allocator maps such allocations on
//! their own, and after the first of them has been freed, every arena keeps that much more memory for good.

use crate::app::files::lookup::Meta;

/// Entries that are sorted in one go. Their names have at most 16 KiB.
pub const RUN: usize = 64;

/// The facts that a listing shows about a name.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Position in its run's names.
    name_at: u16,
    name_len: u16,
    pub directory: bool,
    /// Bytes.
    pub size: u64,
    /// Seconds since the epoch.
    pub mtime: i64,
}

/// Up to `RUN` entries.
#[derive(Debug, Default)]
pub struct Run {
    names: Vec<u8>,
    list: Vec<Entry>,
}

/// The position of an entry: the number of its run, and its index there.
pub type At = (u16, u16);

#[derive(Debug, Default)]
pub struct Entries {
    runs: Vec<Run>,
    /// The positions of all entries in their final order, directories first. Filled when the runs are merged.
    pub order: Vec<At>,
}

impl Run {
    pub fn push(&mut self, name: &[u8], directory: bool, meta: &Meta) {
        // A name has at most NAME_MAX bytes, and a run has `RUN` of them: both numbers fit.
        let (name_at, name_len) = (self.names.len() as u16, name.len() as u16);
        self.names.extend_from_slice(name);
        self.list.push(Entry { name_at, name_len, directory, size: meta.size, mtime: meta.mtime.0 });
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn name(&self, entry: &Entry) -> &[u8] {
        &self.names[usize::from(entry.name_at)..][..usize::from(entry.name_len)]
    }

    /// The sort key: directories first, then names by their bytes.
    fn key(&self, entry: &Entry) -> (bool, &[u8]) {
        (!entry.directory, self.name(entry))
    }

    fn size(&self) -> usize {
        self.names.capacity() + self.list.capacity() * size_of::<Entry>()
    }
}

impl Entries {
    /// Sorts a run and adds it.
    pub fn add(&mut self, mut run: Run) {
        let mut list = std::mem::take(&mut run.list);
        list.sort_unstable_by(|a, b| run.key(a).cmp(&run.key(b)));
        list.shrink_to_fit();
        run.list = list;
        run.names.shrink_to_fit();
        self.runs.push(run);
    }

    /// The number of entries of each run.
    pub fn runs(&self) -> impl Iterator<Item = usize> {
        self.runs.iter().map(Run::len)
    }

    /// The entry at `at` and its name; `None` behind the last one of a run.
    pub fn get(&self, (run, at): At) -> Option<(&[u8], &Entry)> {
        let run = &self.runs[usize::from(run)];
        run.list.get(usize::from(at)).map(|entry| (run.name(entry), entry))
    }

    /// The sort key of the entry at `at`.
    pub fn key(&self, at: At) -> Option<(bool, &[u8])> {
        self.get(at).map(|(name, entry)| (!entry.directory, name))
    }

    /// Bytes of memory.
    pub fn size(&self) -> usize {
        self.runs.iter().map(Run::size).sum::<usize>()
            + self.runs.capacity() * size_of::<Run>()
            + self.order.capacity() * size_of::<At>()
    }
}
