//! Files served lately, with what is said about them and their compressed variants: the smallest in memory, larger ones
//! as a copy that sendfile can send, the largest open. Bounded in bytes; the least recently used go first.
//!
//! Its one rule: **an answer is never older than its request.** The file system is asked by one stat whether path, device,
//! inode, size, mtime and ctime are what they were, and that answer counts for all requests that had been read by then.
//! An engine that reads several before it answers them asks once for all of them. Two things make "the same stat" mean
//! "the same bytes":
//! - the content was read between two equal stats;
//! - its ctime lies back by more than `SETTLED`: before Linux 6.13 a file's times tick every few
//!   milliseconds, and two writes within one tick look alike. Younger files are read anew each time.

use crate::app::body::Compressor;
use crate::app::files::lookup::Meta;
use crate::app::files::mime;
use crate::http::etag::ETag;
use lru::LruCache;
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

/// How many seconds a file must have been left alone before its times can be trusted.
const SETTLED: i64 = 2;
/// Files up to here are taken in whole: what is sent of them is one version, however they are written to meanwhile.
const WHOLE: u64 = 256 * 1024;
/// Content up to here goes out of memory, copied behind its head. From 12 KiB on sendfile costs less, at 100 KiB a third
/// less (measured on loopback).
const COPIED: usize = 12 * 1024;
/// How often a file is read that changes while it is read.
const READS: u32 = 3;
/// What an open descriptor counts as: a cache of 64 MiB then holds no more than a thousand.
const DESCRIPTOR: usize = 64 * 1024;
/// What an entry costs besides its content: path, stat, tag, links.
const OVERHEAD: usize = 512;

/// A file as it was when it was read, with what goes out about it.
#[derive(Debug)]
pub struct Stored {
    /// Below the root; for the index of a directory, the index file's.
    pub path: Box<[u8]>,
    pub meta: Meta,
    pub etag: ETag,
    pub content_type: Box<str>,
    pub cache_control: Option<Box<str>>,
    pub compressible: bool,
    /// What its answers say when it is sent as it is, rendered by the first of them.
    pub lines: OnceLock<Lines>,
    pub content: Content,
    gzip: OnceLock<Arc<[u8]>>,
    deflate: OnceLock<Arc<[u8]>>,
}

/// Field lines, the last of them the length of the whole.
#[derive(Debug)]
pub struct Lines {
    all: Box<[u8]>,
    without_length: usize,
}

impl Lines {
    pub fn new(lines: &[u8], length_line: &[u8]) -> Lines {
        Lines { all: [lines, length_line].concat().into(), without_length: lines.len() }
    }

    pub fn all(&self) -> &[u8] {
        &self.all
    }

    pub fn without_length(&self) -> &[u8] {
        &self.all[..self.without_length]
    }
}

#[derive(Debug)]
pub enum Content {
    Memory(Arc<[u8]>),
    /// A file of our own in memory (memfd_create(2)), which nobody else can write to.
    Copy(Arc<File>),
    /// The file itself.
    Open(Arc<File>),
}

#[derive(Debug)]
pub struct Cache {
    limit: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    entries: LruCache<Box<[u8]>, Entry>,
    /// The sum of what the entries count as.
    bytes: usize,
    /// The path that was last found to lead to nothing, and when.
    missing: (Vec<u8>, Option<Instant>),
}

#[derive(Debug)]
struct Entry {
    stored: Arc<Stored>,
    /// Before the file system was last asked.
    checked: Instant,
    /// What it counts as; a variant that is added makes it more.
    cost: usize,
}

impl Stored {
    /// Takes in a file as it is now: its content when it is not large, otherwise its descriptor.
    pub fn load(path: &[u8], file: File, meta: Meta, content_type: &str, cache_control: Option<&str>) -> Stored {
        let (meta, content) = match read_whole(&file, meta) {
            Some((meta, bytes)) => (meta, Content::Memory(bytes)),
            None => (meta, Content::Open(Arc::new(file))),
        };
        let (secs, nanos) = meta.mtime;
        Stored {
            path: path.into(),
            meta,
            etag: ETag::of_file(meta.dev, meta.ino, secs, nanos, meta.size),
            content_type: content_type.into(),
            cache_control: cache_control.map(Into::into),
            compressible: mime::is_compressible(content_type),
            lines: OnceLock::new(),
            content,
            gzip: OnceLock::new(),
            deflate: OnceLock::new(),
        }
    }

    /// The same, made ready to be sent often: content that is not small becomes a file, if there is a descriptor for it.
    fn made_ready(mut self) -> Stored {
        if let Content::Memory(bytes) = &self.content
            && bytes.len() > COPIED
            && let Ok(file) = copy_to_file(bytes)
        {
            self.content = Content::Copy(Arc::new(file));
        }
        self
    }

    /// The whole content as `compressor` makes it, once somebody has put it here.
    pub fn variant(&self, compressor: Compressor) -> &OnceLock<Arc<[u8]>> {
        match compressor {
            Compressor::Gzip => &self.gzip,
            Compressor::Deflate => &self.deflate,
        }
    }

    fn cost(&self) -> usize {
        let content = match &self.content {
            Content::Memory(bytes) => bytes.len(),
            Content::Copy(_) => DESCRIPTOR + self.meta.size as usize,
            Content::Open(_) => DESCRIPTOR,
        };
        let variants = [&self.gzip, &self.deflate].map(|variant| variant.get().map_or(0, |bytes| bytes.len()));
        OVERHEAD + content + variants.iter().sum::<usize>()
    }
}

impl Cache {
    /// A cache of at most `limit` bytes; 0 keeps nothing.
    pub fn new(limit: usize) -> Cache {
        Cache {
            limit,
            inner: Mutex::new(Inner { entries: LruCache::unbounded(), bytes: 0, missing: (Vec::new(), None) }),
        }
    }

    /// What is kept for `path`, if it is still true: `unchanged` is asked unless it was since `read`, before which the
    /// request had been read.
    pub fn find(&self, path: &[u8], read: Instant, unchanged: impl FnOnce(&Stored) -> bool) -> Option<Arc<Stored>> {
        let mut inner = self.lock();
        let entry = inner.entries.get_mut(path)?;
        if entry.checked < read {
            if !unchanged(&entry.stored) {
                inner.remove(path);
                return None;
            }
            entry.checked = read;
        }
        let stored = Arc::clone(&entry.stored);
        let (before, cost) = (entry.cost, path.len() + stored.cost());
        if before != cost {
            entry.cost = cost;
            inner.bytes = inner.bytes - before + cost;
            inner.shrink(self.limit);
        }
        Some(stored)
    }

    /// Keeps a file, unless it is too young to be trusted or too large to be worth it, and gives back what is to be sent.
    /// `path` is what it will be asked for by; it was looked at after `read`.
    pub fn keep(&self, path: &[u8], stored: Stored, read: Instant, now_unix: u64) -> Arc<Stored> {
        let settled = stored.meta.ctime.0.saturating_add(SETTLED) < i64::try_from(now_unix).unwrap_or(i64::MAX);
        if !settled || path.len() + stored.cost() > self.limit / 4 {
            return Arc::new(stored);
        }
        let stored = Arc::new(stored.made_ready());
        let cost = path.len() + stored.cost();
        let mut inner = self.lock();
        inner.remove(path);
        inner.bytes += cost;
        inner.entries.put(path.into(), Entry { stored: Arc::clone(&stored), checked: read, cost });
        inner.shrink(self.limit);
        stored
    }

    /// Whether `path` was looked for since `read` and led to nothing.
    pub fn is_missing(&self, path: &[u8], read: Instant) -> bool {
        let (missing, since) = &self.lock().missing;
        since.is_some_and(|since| since >= read) && missing == path
    }

    /// `path` was looked for after `read` and leads to nothing.
    pub fn note_missing(&self, path: &[u8], read: Instant) {
        let (missing, since) = &mut self.lock().missing;
        missing.clear();
        missing.extend_from_slice(path);
        *since = Some(read);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file that exists in memory alone.
fn copy_to_file(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("dustdevil-copy", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file)
}

/// The content of a small file, and the stat that belongs to it; `None` when it is not small, cannot be
/// read, or does not stand still.
fn read_whole(file: &File, mut meta: Meta) -> Option<(Meta, Arc<[u8]>)> {
    for _ in 0..READS {
        if meta.size > WHOLE {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(meta.size).ok()?];
        let read = file.read_exact_at(&mut bytes, 0);
        let after = Meta::of_file(file).ok()?;
        if after == meta {
            return read.is_ok().then(|| (meta, bytes.into()));
        }
        meta = after;
    }
    None
}

impl Inner {
    fn remove(&mut self, path: &[u8]) {
        if let Some(entry) = self.entries.pop(path) {
            self.bytes -= entry.cost;
        }
    }

    fn shrink(&mut self, limit: usize) {
        while self.bytes > limit
            && let Some((_, entry)) = self.entries.pop_lru()
        {
            self.bytes -= entry.cost;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: u64 = 1_000_000;

    fn stored(ctime: i64, size: usize) -> Stored {
        let meta = Meta { dev: 1, ino: 2, size: size as u64, mtime: (ctime, 0), ctime: (ctime, 0) };
        Stored {
            path: Box::default(),
            meta,
            etag: ETag::of_file(1, 2, ctime, 0, size as u64),
            content_type: "text/plain".into(),
            cache_control: None,
            compressible: true,
            lines: OnceLock::new(),
            content: Content::Memory(vec![b'x'; size].into()),
            gzip: OnceLock::new(),
            deflate: OnceLock::new(),
        }
    }

    #[test]
    fn the_file_system_is_asked_once_a_turn() {
        let cache = Cache::new(1 << 20);
        let turn = Instant::now();
        cache.keep(b"a", stored(5, 10), turn, NOW);
        assert!(cache.find(b"a", turn, |_| panic!("asked in the turn that read it")).is_some());
        let next = turn + Duration::from_millis(1);
        let mut asked = 0;
        for _ in 0..3 {
            let found = cache.find(b"a", next, |_| {
                asked += 1;
                true
            });
            assert!(found.is_some());
        }
        assert_eq!(asked, 1);
        assert!(cache.find(b"a", next + Duration::from_millis(1), |_| false).is_none());
        assert!(cache.find(b"a", next, |_| true).is_none(), "what was false once is gone");
    }

    #[test]
    fn a_file_that_has_just_changed_is_not_kept() {
        let cache = Cache::new(1 << 20);
        let turn = Instant::now();
        for ctime in [NOW as i64, NOW as i64 - 1, NOW as i64 - 2, NOW as i64 + 9] {
            cache.keep(b"a", stored(ctime, 10), turn, NOW);
            assert!(cache.find(b"a", turn, |_| true).is_none(), "{ctime}");
        }
        cache.keep(b"a", stored(NOW as i64 - 3, 10), turn, NOW);
        assert!(cache.find(b"a", turn, |_| true).is_some());
    }

    #[test]
    fn the_least_recently_used_go_first_and_variants_count() {
        let cache = Cache::new(10 * 1024);
        let turn = Instant::now();
        for name in [b"a", b"b", b"c"] {
            cache.keep(name, stored(5, 2000), turn, NOW);
        }
        let a = cache.find(b"a", turn, |_| true).unwrap();
        a.variant(Compressor::Gzip).set(vec![0; 4000].into()).unwrap();
        assert!(cache.find(b"a", turn, |_| true).is_some());
        assert!(cache.find(b"b", turn, |_| true).is_none(), "its room was needed");
        assert!(cache.find(b"c", turn, |_| true).is_some());
        cache.keep(b"large", stored(5, 3000), turn, NOW);
        assert!(cache.find(b"large", turn, |_| true).is_none(), "a quarter is the most");
    }

    #[test]
    fn a_cache_of_no_bytes_keeps_nothing() {
        let cache = Cache::new(0);
        cache.keep(b"a", stored(5, 0), Instant::now(), NOW);
        assert!(cache.find(b"a", Instant::now(), |_| true).is_none());
    }
}
