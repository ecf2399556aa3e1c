//! The entries of a directory: their names in one vector, so that 10,000 of them are three allocations.

use crate::app::files::lookup::Meta;

/// What a listing says of a name, besides the name.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    name_at: u32,
    name_len: u16,
    pub directory: bool,
    /// Bytes.
    pub size: u64,
    /// Seconds since the epoch.
    pub mtime: i64,
}

#[derive(Debug, Default)]
pub struct Entries {
    names: Vec<u8>,
    pub list: Vec<Entry>,
}

impl Entries {
    pub fn push(&mut self, name: &[u8], directory: bool, meta: &Meta) {
        // A name is as long as NAME_MAX at most, and there are `scan::MAX_ENTRIES` of them: both numbers fit.
        let (name_at, name_len) = (self.names.len() as u32, name.len() as u16);
        self.names.extend_from_slice(name);
        self.list.push(Entry { name_at, name_len, directory, size: meta.size, mtime: meta.mtime.0 });
    }

    pub fn name(&self, entry: &Entry) -> &[u8] {
        let at = entry.name_at as usize;
        &self.names[at..at + usize::from(entry.name_len)]
    }

    /// Sorts the entries from `from` on.
    pub fn sort(&mut self, from: usize) {
        let Entries { names, list } = self;
        list[from..].sort_unstable_by(|a, b| key(names, a).cmp(&key(names, b)));
    }

    /// What entries are sorted by: directories first, then names by their bytes.
    pub fn key(&self, entry: &Entry) -> (bool, &[u8]) {
        key(&self.names, entry)
    }

    /// The same names in the order of `list`; memory that they do not need is given back.
    pub fn sorted(mut self, list: Vec<Entry>) -> Entries {
        self.names.shrink_to_fit();
        Entries { names: self.names, list }
    }

    /// Bytes of memory.
    pub fn size(&self) -> usize {
        self.names.capacity() + self.list.capacity() * size_of::<Entry>()
    }
}

fn key<'a>(names: &'a [u8], entry: &Entry) -> (bool, &'a [u8]) {
    let at = entry.name_at as usize;
    (!entry.directory, &names[at..at + usize::from(entry.name_len)])
}
