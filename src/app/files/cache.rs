//! Recently served files, with their header fields and their compressed variants. Small content is kept in memory,
//! larger content as a copy that sendfile can send, the largest as an open file. Limited in bytes; the least recently
//! used entries are dropped first.
//!
//! Its one rule: **an answer is never older than its request.** One stat asks the file system whether path, device,
//! inode, size, mtime and ctime are unchanged. Its result counts for all requests that had been read by then: an engine
//! that reads several requests before it answers them asks once for all. If `watch` knows that nothing has changed
//! since the last stat, there is no stat at all. Three things make "the same stat" mean "the same bytes":
//! - The content was read between two equal stats.
//! - A store through a shared mapping (mmap(2)) may not change the stat: so the content itself is compared once a
//!   second.
//! - The ctime is older than `tags::SETTLED`: before Linux 6.13 a file's times tick every few milliseconds, so two
//!   writes within one tick look alike. A file that is not settled is read again for each request.

use crate::app::compress::Compressor;
use crate::app::files::content::{Content, WHOLE};
use crate::app::files::file_system::Kind;
use crate::app::files::inotify::Inotify;
use crate::app::files::lookup::{Located, Meta, Root};
use crate::app::files::mime;
use crate::app::files::root_path::RootPath;
use crate::app::files::tags;
use crate::app::files::variant::{Compressing, Joined, Variant};
use crate::app::files::watch::{Watch, Watched};
use crate::cost;
use crate::http::accept::Coding;
use crate::http::etag::ETag;
use crate::sync;
use lru::LruCache;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Resource, getrlimit};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

/// Content up to this size is sent from memory. From 12 KiB on sendfile costs less, at 100 KiB a third less (measured
/// on loopback).
const IN_MEMORY: usize = 12 * 1024;
/// Compressed variants are kept for files up to this size.
const VARIANTS: u64 = 4 * 1024 * 1024;
/// The first bytes of every gzip file (RFC 1952, section 2.3.1).
const GZIP_START: [u8; 2] = [0x1f, 0x8b];
/// How often reading is tried if the file changes while it is read.
const READS: u32 = 3;
/// The bytes that an open descriptor counts as. With 64 KiB, a cache of 64 MiB holds at most a thousand.
const DESCRIPTOR: usize = 64 * 1024;
/// How long content is trusted before it is compared with the file. A store to a shared mapping changes the content and
/// may not change the times: on tmpfs it never does, elsewhere only the first store to a page does.
const COMPARED: Duration = Duration::from_secs(1);
/// An entry is moved to the front of the LRU list at most once in this time.
const RECENT: Duration = Duration::from_secs(1);
/// The bytes that an entry counts as besides its content: path, stat, tag, links.
const OVERHEAD: usize = 512;

/// A file as it was when it was read, with its header fields.
#[derive(Debug)]
pub struct Stored {
    /// Below the root. For the index of a directory it is the index file's path.
    pub path: Box<[u8]>,
    /// The root below which it was found. Its precompressed files are looked up below the same root.
    pub root: Arc<Root>,
    pub meta: Meta,
    /// `None` while a change of the content may leave its times unchanged.
    pub etag: Option<ETag>,
    /// The hash of the content, if that was read whole.
    hash: Option<u64>,
    pub content_type: Box<str>,
    pub cache_control: Option<Box<str>>,
    pub compressible: bool,
    /// The coding of the stored content itself, such as gzip for an .svgz file. Every client gets it in this coding.
    pub coding: Option<Coding>,
    /// The field lines of a response in identity coding, rendered for the first one.
    pub lines: OnceLock<FieldLines>,
    pub content: Content,
    gzip: Variant,
    deflate: Variant,
    /// The cache's count of bytes by which variants have grown or shrunk since they were last counted. `None` if the
    /// file is not in the cache, or is too large to keep variants of: then each client compresses for itself.
    uncounted: Option<Arc<AtomicUsize>>,
}

/// Rendered field lines. Content-Length, for the whole file, is the last.
#[derive(Debug)]
pub struct FieldLines {
    all: Box<[u8]>,
    without_length: usize,
}

impl FieldLines {
    pub fn new(lines: &[u8], length_line: &[u8]) -> FieldLines {
        FieldLines { all: [lines, length_line].concat().into(), without_length: lines.len() }
    }

    pub fn all(&self) -> &[u8] {
        &self.all
    }

    pub fn without_length(&self) -> &[u8] {
        &self.all[..self.without_length]
    }
}

#[derive(Debug)]
pub struct Cache {
    limit: usize,
    /// How many files may be held open.
    most_open: usize,
    uncounted: Arc<AtomicUsize>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    entries: LruCache<Box<[u8]>, Entry>,
    /// The sum of `cost` over the entries.
    bytes: usize,
    /// How many entries hold a descriptor.
    open: usize,
    watch: Option<Watch>,
    /// The last path that led to no file, and when that was found.
    missing: (Vec<u8>, Option<Instant>),
}

#[derive(Debug)]
struct Entry {
    stored: Arc<Stored>,
    /// The entry was known to be up to date at some time after this moment.
    checked: Instant,
    /// The content was last read after this moment.
    compared: Instant,
    watched: Option<Watched>,
    /// When it was last moved to the front of the LRU list.
    used: Instant,
    /// The bytes that it counts as. A variant that is being made adds to that later (`uncounted`).
    cost: usize,
}

impl Stored {
    /// Loads a file as it is now: its content if it is small, otherwise its descriptor.
    pub fn load(
        root: &Arc<Root>,
        path: &[u8],
        (file, meta): (File, Meta),
        (content_type, cache_control): (&str, Option<&str>),
        now_unix: u64,
    ) -> Stored {
        let read = read_whole(&file, meta);
        let hash = read.as_ref().map(|(_, bytes)| tags::hash_of(bytes));
        let meta = read.as_ref().map_or(meta, |(meta, _)| *meta);
        // If the file system cannot be asked, the weakest guarantee is assumed.
        let kind = root.systems.kind(meta.dev, &file).unwrap_or(Kind::Coarse);
        let tells = tags::tells(&meta, kind, now_unix);
        let etag = tags::tag(root.etag, &meta, hash, tells);
        let content = match read {
            Some((_, bytes)) => Content::Memory(bytes),
            None => Content::Open(Arc::new(file)),
        };
        let compressible = mime::is_compressible(content_type) && !begins_as_gzip(&content);
        Stored {
            path: path.into(),
            root: Arc::clone(root),
            meta,
            etag,
            hash,
            content_type: content_type.into(),
            cache_control: cache_control.map(Into::into),
            compressible,
            coding: None,
            lines: OnceLock::new(),
            content,
            gzip: Variant::default(),
            deflate: Variant::default(),
            uncounted: None,
        }
    }

    /// If the content begins as gzip does, this file with gzip as its coding and with `content_type`, the type of the
    /// decoded content. Otherwise the file unchanged. Called for a file whose name says that it is in gzip.
    pub fn decoded_as(self, content_type: &str) -> Stored {
        if !begins_as_gzip(&self.content) {
            return self;
        }
        Stored { content_type: content_type.into(), compressible: false, coding: Some(Coding::Gzip), ..self }
    }

    /// What loading it cost, in the units of `cost`.
    pub fn load_cost(&self) -> usize {
        match &self.content {
            Content::Memory(bytes) => cost::LOADED_BYTE * bytes.len(),
            Content::Copy(_) => cost::LOADED_BYTE * self.meta.size as usize,
            Content::Open(_) => 0,
        }
    }

    /// This file, prepared to be sent often: content above `IN_MEMORY` becomes a memory file, if a descriptor is left.
    fn made_ready(mut self) -> Stored {
        if let Content::Memory(bytes) = &self.content
            && bytes.len() > IN_MEMORY
            && let Ok(file) = copy_to_file(bytes)
        {
            self.content = Content::Copy(Arc::new(file));
        }
        self
    }

    /// The whole content compressed by `compressor`, if it has been made.
    pub fn variant(&self, compressor: Compressor) -> Option<&Arc<[u8]>> {
        self.place_of(compressor).made()
    }

    /// Keeps `bytes`, the whole content compressed by `compressor`, if the file is in the cache.
    pub fn keep_variant(&self, compressor: Compressor, bytes: Arc<[u8]>) {
        if let Some(uncounted) = &self.uncounted {
            self.place_of(compressor).set(bytes, uncounted);
        }
    }

    /// A client begins to receive the variant, and must call `leave` later; see `Variant::join`.
    pub fn join(&self, compressor: Compressor, begin: impl FnOnce() -> Option<Compressing>) -> Joined {
        match &self.uncounted {
            Some(uncounted) => self.place_of(compressor).join(uncounted, begin),
            None => Joined::Alone,
        }
    }

    /// A client that has joined no longer receives the variant; see `Variant::leave`.
    pub fn leave(&self, compressor: Compressor, keep: bool) {
        if let Some(uncounted) = &self.uncounted {
            self.place_of(compressor).leave(uncounted, keep);
        }
    }

    /// Gives a client that has joined the next piece; see `Variant::pull`.
    ///
    /// # Errors
    /// The content cannot be read, or has become shorter.
    pub fn pull(&self, compressor: Compressor, at: &mut usize, out: &mut Vec<u8>) -> io::Result<(usize, bool)> {
        let uncounted = self.uncounted.as_ref().ok_or(io::ErrorKind::NotFound)?;
        self.place_of(compressor).pull(at, &self.content, uncounted, out)
    }

    fn place_of(&self, compressor: Compressor) -> &Variant {
        match compressor {
            Compressor::Gzip => &self.gzip,
            Compressor::Deflate => &self.deflate,
        }
    }

    /// Reads the file again and returns whether it still has this content.
    fn is_in(&self, root: &Root, cost: &mut usize) -> bool {
        let Ok(Located::File { file, meta }) = root.find_at_cost(&self.path, cost) else { return false };
        *cost += cost::LOADED_BYTE * meta.size.min(WHOLE) as usize;
        read_whole(&file, meta)
            .is_some_and(|(meta, bytes)| meta == self.meta && self.hash == Some(tags::hash_of(&bytes)))
    }

    fn is_open(&self) -> bool {
        !matches!(self.content, Content::Memory(_))
    }

    fn cost(&self) -> usize {
        let content = match &self.content {
            Content::Memory(bytes) => bytes.len(),
            Content::Copy(_) => DESCRIPTOR + self.meta.size as usize,
            Content::Open(_) => DESCRIPTOR,
        };
        OVERHEAD + content + self.gzip.memory() + self.deflate.memory()
    }
}

impl Cache {
    /// A cache of at most `limit` bytes; 0 keeps nothing. `inotify`: reports changes, if available.
    pub fn new(limit: usize, inotify: Option<Arc<Inotify>>) -> Cache {
        // A quarter of the descriptors: connections and uploads need the others. `None` means that there is no limit.
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Cache {
            limit,
            most_open: usize::try_from(descriptors / 4).unwrap_or(usize::MAX),
            uncounted: Arc::default(),
            inner: Mutex::new(Inner {
                entries: LruCache::unbounded(),
                bytes: 0,
                open: 0,
                watch: inotify.map(Watch::new),
                missing: (Vec::new(), None),
            }),
        }
    }

    /// The entry for `path`, if it is still up to date for a request that was read before `read`. Adds to `cost` what
    /// asking the file system cost, except for one stat.
    pub fn find(&self, path: &[u8], root: &RootPath, read: Instant, cost: &mut usize) -> Option<Arc<Stored>> {
        let mut inner = self.lock();
        let Inner { entries, watch, .. } = &mut *inner;
        // `peek_mut` and not `get_mut`: to move an entry to the front of the LRU list writes to its neighbours' memory
        // as well.
        let entry = entries.peek_mut(path)?;
        if entry.checked < read {
            match entry.standing(watch, root, read, cost) {
                Standing::True => {}
                Standing::Changed => {
                    inner.remove(path);
                    return None;
                }
                Standing::OfAnotherRoot => {
                    inner.clear();
                    return None;
                }
            }
            entry.checked = read;
        }
        let stored = Arc::clone(&entry.stored);
        if entry.used + RECENT < read {
            entry.used = read;
            entries.promote(path);
        }
        self.count_variants(&mut inner);
        Some(stored)
    }

    /// Keeps a file, unless it is not settled or takes more than a quarter of the cache. Returns the file to send.
    /// `path`: the path of the request. The file was looked at after `read`.
    pub fn keep(&self, path: &[u8], stored: Stored, read: Instant, now_unix: u64) -> Arc<Stored> {
        if !tags::is_settled(&stored.meta, now_unix) || path.len() + stored.cost() > self.limit / 4 {
            return Arc::new(stored);
        }
        let has_variants = stored.meta.size <= VARIANTS.min(self.limit as u64 / 4);
        let uncounted = has_variants.then(|| Arc::clone(&self.uncounted));
        let stored = Arc::new(Stored { uncounted, ..stored.made_ready() });
        let cost = path.len() + stored.cost();
        let mut inner = self.lock();
        inner.remove(path);
        inner.bytes += cost;
        inner.open += usize::from(stored.is_open());
        let entry =
            Entry { stored: Arc::clone(&stored), checked: read, compared: read, watched: None, used: read, cost };
        inner.entries.put(path.into(), entry);
        self.count_variants(&mut inner);
        inner.shrink(self.limit, self.most_open);
        stored
    }

    /// Counts what variants have added to the entries, once that may be a sixteenth of the limit: then looking at all
    /// entries costs little compared with the compressing.
    fn count_variants(&self, inner: &mut Inner) {
        if self.uncounted.load(Ordering::Relaxed) > self.limit / 16 {
            self.uncounted.store(0, Ordering::Relaxed);
            inner.count_anew();
            inner.shrink(self.limit, self.most_open);
        }
    }

    /// Whether `path` was looked up after `read` and led to no file.
    pub fn is_missing(&self, path: &[u8], read: Instant) -> bool {
        let (missing, since) = &self.lock().missing;
        since.is_some_and(|since| since >= read) && missing == path
    }

    /// Notes that `path` was looked up after `read` and leads to no file.
    pub fn note_missing(&self, path: &[u8], read: Instant) {
        let (missing, since) = &mut self.lock().missing;
        missing.clear();
        missing.extend_from_slice(path);
        *since = Some(read);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        sync::lock(&self.inner)
    }
}

/// A copy of the content in a memfd.
fn copy_to_file(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("dustdevil-copy", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file)
}

/// The content of a small file, and the stat that belongs to it. `None` if it is not small, cannot be read, or keeps
/// changing.
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

/// Whether an entry is still what its path leads to.
enum Standing {
    True,
    Changed,
    /// The entry is below a directory that is no longer the root.
    OfAnotherRoot,
}

impl Inner {
    fn clear(&mut self) {
        while let Some((_, entry)) = self.entries.pop_lru() {
            self.let_go(entry);
        }
    }

    fn remove(&mut self, path: &[u8]) {
        if let Some(entry) = self.entries.pop(path) {
            self.let_go(entry);
        }
    }

    fn shrink(&mut self, limit: usize, most_open: usize) {
        while (self.bytes > limit || self.open > most_open)
            && let Some((_, entry)) = self.entries.pop_lru()
        {
            self.let_go(entry);
        }
    }

    /// Counts all entries again, with what variants have added to them.
    fn count_anew(&mut self) {
        self.bytes = 0;
        for (path, entry) in self.entries.iter_mut() {
            entry.cost = path.len() + entry.stored.cost();
            self.bytes += entry.cost;
        }
    }

    fn let_go(&mut self, entry: Entry) {
        self.bytes -= entry.cost;
        self.open -= usize::from(entry.stored.is_open());
        if let (Some(watched), Some(watch)) = (&entry.watched, &mut self.watch) {
            watch.forget(watched);
        }
    }
}

/// Whether a content begins as gzip does (RFC 1952). Such a content is not compressed once more.
fn begins_as_gzip(content: &Content) -> bool {
    let mut start = [0; GZIP_START.len()];
    let read = content.read(0, start.len(), |bytes| {
        start.copy_from_slice(bytes);
        Ok(())
    });
    read.is_ok() && start == GZIP_START
}

impl Entry {
    /// Whether the path still leads to this entry: from the watch if that knows, otherwise from a stat.
    fn standing(&mut self, watch: &mut Option<Watch>, root: &RootPath, read: Instant, cost: &mut usize) -> Standing {
        if let (Some(watched), Some(watch)) = (&self.watched, &mut *watch)
            && watch.vouches_for(watched, read)
        {
            return Standing::True;
        }
        let Stored { path, meta, root: own, .. } = &*self.stored;
        let Some(current) = root.at(read).filter(|current| Arc::ptr_eq(current, own)) else {
            return Standing::OfAnotherRoot;
        };
        // Only if changes on the way to the root are reported as well.
        if let Some(watch) = watch.as_mut().filter(|_| root.is_watched()) {
            self.watched = watch.renew(self.watched.take(), &current, path, meta, read);
            // Another thread may have found another root since, by an event that the watch counts as seen.
            if root.known().is_none_or(|known| !Arc::ptr_eq(&known, &current)) {
                return Standing::OfAnotherRoot;
            }
        }
        if !current.unchanged(path, meta) {
            return Standing::Changed;
        }
        if self.stored.hash.is_some() && self.compared + COMPARED <= read {
            self.compared = read;
            return if self.stored.is_in(&current, cost) { Standing::True } else { Standing::Changed };
        }
        Standing::True
    }
}

#[cfg(test)]
mod tests;
