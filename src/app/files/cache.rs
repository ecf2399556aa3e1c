//! Files served lately, with what is said about them and their compressed variants: the smallest in memory, larger ones
//! as a copy that sendfile can send, the largest open. Bounded in bytes; the least recently used go first.
//!
//! Its one rule: **an answer is never older than its request.** The file system is asked by one stat whether path, device,
//! inode, size, mtime and ctime are what they were, and that answer counts for all requests that had been read by then.
//! An engine that reads several before it answers them asks once for all of them; and where `watch` knows that nothing has
//! changed since a file was last asked for, it need not be. Three things make "the same stat" mean "the same bytes":
//! - the content was read between two equal stats;
//! - no program stores to it through a mapping (mmap(2)), which no stat tells: hence content is compared once in a second;
//! - its ctime lies back by more than `tags::SETTLED`: before Linux 6.13 a file's times tick every few
//!   milliseconds, and two writes within one tick look alike. Younger files are read anew each time.

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

/// Content up to here goes out of memory. From 12 KiB on sendfile costs less, at 100 KiB a third
/// less (measured on loopback).
const IN_MEMORY: usize = 12 * 1024;
/// Compressed variants are kept of files up to here.
const VARIANTS: u64 = 4 * 1024 * 1024;
/// How every file in gzip begins (RFC 1952, section 2.3.1).
const GZIP_START: [u8; 2] = [0x1f, 0x8b];
/// How often a file is read that changes while it is read.
const READS: u32 = 3;
/// What an open descriptor counts as: a cache of 64 MiB then holds no more than a thousand.
const DESCRIPTOR: usize = 64 * 1024;
/// How long a content is trusted that was read: a store to a shared mapping changes it and no time of the file, on tmpfs
/// never, elsewhere only the first one to a page.
const COMPARED: Duration = Duration::from_secs(1);
/// How long what was used counts as recently used.
const RECENT: Duration = Duration::from_secs(1);
/// What an entry costs besides its content: path, stat, tag, links.
const OVERHEAD: usize = 512;

/// A file as it was when it was read, with what goes out about it.
#[derive(Debug)]
pub struct Stored {
    /// Below the root; for the index of a directory, the index file's.
    pub path: Box<[u8]>,
    /// Where it was found: what is looked for beside it is looked for there.
    pub root: Arc<Root>,
    pub meta: Meta,
    /// `None` while its times do not tell whether its content is another.
    pub etag: Option<ETag>,
    /// Of the content, where that was read whole.
    hash: Option<u64>,
    pub content_type: Box<str>,
    pub cache_control: Option<Box<str>>,
    pub compressible: bool,
    /// The coding that the content itself is in, as that of an .svgz file: it is sent so to every client.
    pub coding: Option<Coding>,
    /// What its answers say when it is sent as it is, rendered by the first of them.
    pub lines: OnceLock<FieldLines>,
    pub content: Content,
    gzip: Variant,
    deflate: Variant,
    /// Of the cache that it is in: bytes by which variants have grown or shrunk since it last counted. `None` for a file
    /// that is not kept, or is too large for its variants to be: what is made of it is for one client.
    uncounted: Option<Arc<AtomicUsize>>,
}

/// Field lines, the last of them the length of the whole.
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
    /// Files that may be held open.
    most_open: usize,
    uncounted: Arc<AtomicUsize>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    entries: LruCache<Box<[u8]>, Entry>,
    /// The sum of what the entries count as.
    bytes: usize,
    /// Those of them that hold a descriptor.
    open: usize,
    watch: Option<Watch>,
    /// The path that was last found to lead to nothing, and when.
    missing: (Vec<u8>, Option<Instant>),
}

#[derive(Debug)]
struct Entry {
    stored: Arc<Stored>,
    /// Before it was last known to be true.
    checked: Instant,
    /// Before its content was last read.
    compared: Instant,
    watched: Option<Watched>,
    /// When it was last put before the others.
    used: Instant,
    /// What it counts as. A variant that is being made makes it more, and is counted later (`uncounted`).
    cost: usize,
}

impl Stored {
    /// Takes in a file as it is now: its content when it is not large, otherwise its descriptor.
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
        // Of a file system that does not answer nothing is known.
        let kind = root.systems.kind(meta.dev, &file).unwrap_or(Kind::Coarse);
        let tells = tags::tells(&meta, kind, now_unix);
        let etag = tags::tag(root.etag, &meta, hash, tells);
        let content = match read {
            Some((_, bytes)) => Content::Memory(bytes),
            None => Content::Open(Arc::new(file)),
        };
        Stored {
            path: path.into(),
            root: Arc::clone(root),
            meta,
            etag,
            hash,
            content_type: content_type.into(),
            cache_control: cache_control.map(Into::into),
            compressible: mime::is_compressible(content_type),
            coding: None,
            lines: OnceLock::new(),
            content,
            gzip: Variant::default(),
            deflate: Variant::default(),
            uncounted: None,
        }
    }

    /// The same where its name says that it is in gzip, and `content_type` is what it is when it is decoded. A file that
    /// does not begin as gzip does stays what it was.
    pub fn decoded_as(self, content_type: &str) -> Stored {
        let mut start = [0; GZIP_START.len()];
        let read = self.content.read(0, start.len(), |bytes| {
            start.copy_from_slice(bytes);
            Ok(())
        });
        if read.is_err() || start != GZIP_START {
            return self;
        }
        Stored { content_type: content_type.into(), compressible: false, coding: Some(Coding::Gzip), ..self }
    }

    /// What it costs to take it in, in the units of `cost`.
    pub fn load_cost(&self) -> usize {
        match &self.content {
            Content::Memory(bytes) => cost::LOADED_BYTE * bytes.len(),
            Content::Copy(_) => cost::LOADED_BYTE * self.meta.size as usize,
            Content::Open(_) => 0,
        }
    }

    /// The same, made ready to be sent often: content that is not small becomes a file, if there is a descriptor for it.
    fn made_ready(mut self) -> Stored {
        if let Content::Memory(bytes) = &self.content
            && bytes.len() > IN_MEMORY
            && let Ok(file) = copy_to_file(bytes)
        {
            self.content = Content::Copy(Arc::new(file));
        }
        self
    }

    /// The whole content as `compressor` makes it, once somebody has put it here.
    pub fn variant(&self, compressor: Compressor) -> Option<&Arc<[u8]>> {
        self.place_of(compressor).made()
    }

    /// Keeps what `compressor` has made of the whole content, if the file is kept.
    pub fn keep_variant(&self, compressor: Compressor, bytes: Arc<[u8]>) {
        if let Some(uncounted) = &self.uncounted {
            self.place_of(compressor).set(bytes, uncounted);
        }
    }

    /// One more client wants that from its beginning, and will `leave`; see `Variant::join`.
    pub fn join(&self, compressor: Compressor, begin: impl FnOnce() -> Option<Compressing>) -> Joined {
        match &self.uncounted {
            Some(uncounted) => self.place_of(compressor).join(uncounted, begin),
            None => Joined::Alone,
        }
    }

    /// A client that has joined is done; see `Variant::leave`.
    pub fn leave(&self, compressor: Compressor, keep: bool) {
        if let Some(uncounted) = &self.uncounted {
            self.place_of(compressor).leave(uncounted, keep);
        }
    }

    /// What a client that has joined takes next; see `Variant::pull`.
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

    /// Whether the file has the same content, read anew.
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
    /// A cache of at most `limit` bytes; 0 keeps nothing. `inotify`: reports changes, if there is one.
    pub fn new(limit: usize, inotify: Option<Arc<Inotify>>) -> Cache {
        // Connections and uploads need the others; none known is no limit.
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

    /// What is kept for `path`, if that is still what is there below `root` for a request that was read before `read`.
    /// Adds to `cost` what it cost to ask the file system, but for a stat.
    pub fn find(&self, path: &[u8], root: &RootPath, read: Instant, cost: &mut usize) -> Option<Arc<Stored>> {
        let mut inner = self.lock();
        let Inner { entries, watch, .. } = &mut *inner;
        // To put each before the others when it is used would touch its neighbours' memory as well.
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

    /// Keeps a file, unless it is too young to be trusted or too large to be worth it, and gives back what is to be sent.
    /// `path` is what it will be asked for by; it was looked at after `read`.
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

    /// Counts what is being made of the files since this was last done, once it is much: to look at all of them costs little
    /// against making so much.
    fn count_variants(&self, inner: &mut Inner) {
        if self.uncounted.load(Ordering::Relaxed) > self.limit / 16 {
            self.uncounted.store(0, Ordering::Relaxed);
            inner.count_anew();
            inner.shrink(self.limit, self.most_open);
        }
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
        sync::lock(&self.inner)
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

/// Whether an entry is what its path leads to.
enum Standing {
    True,
    Changed,
    /// What was kept is below a directory that is not the root any more.
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

    /// Counts what has been added to the entries since they were put in.
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

impl Entry {
    /// Whether the path still leads to this: by what is known of changes, else by asking.
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
        // What has happened to the way to the root has to be among the events too.
        if let Some(watch) = watch.as_mut().filter(|_| root.is_watched()) {
            self.watched = watch.renew(self.watched.take(), &current, path, meta, read);
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
