//! Which listing of a directory a request may share. The shelf knows all listings in use. Finished ones are kept for a
//! second, as far as there is room, so that clients that come one after the other share them too.
//!
//! **A request sees all names that existed when it was read.** A scan that has begun is shared only if the directory
//! itself has not changed since: a directory's times show every name that comes, goes, or becomes another file. They do
//! not show that a file in it has grown. So a size, a time, or the target of a link may be out of date, by a second at
//! most.

use super::shared::{Account, Listing, ListingFailure, MOST_SENT, SHARED};
use crate::app::files::lookup::{Meta, Root};
use crate::http::date::Now;
use crate::sync;
use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Instant;

/// The number of listings below which unused ones are not looked for.
const FEW: usize = 64;

#[derive(Debug)]
pub struct Shelf {
    account: Arc<Account>,
    /// Whether `kept` has any. An atomic, so that a turn of the loop takes no lock if there are none.
    keeps: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The newest listing of each directory.
    known: HashMap<Box<[u8]>, Weak<Listing>>,
    /// All listings that may be in use, the oldest first.
    all: VecDeque<Weak<Listing>>,
    /// The length of `all` at which unused listings are removed from it.
    sweep_at: usize,
    /// Finished listings that are kept for a second, the oldest first.
    kept: VecDeque<Arc<Listing>>,
}

impl Shelf {
    /// `keep`: bytes of finished listings that are kept for later requests; 0 keeps none.
    pub fn new(keep: usize) -> Shelf {
        Shelf::with_room(keep, MOST_SENT)
    }

    /// Like `new`. `most_sent`: bytes that listings may take beyond that while they are sent.
    pub fn with_room(keep: usize, most_sent: usize) -> Shelf {
        let keeps = AtomicBool::new(false);
        Shelf { account: Arc::new(Account::new(keep, most_sent)), keeps, inner: Mutex::default() }
    }

    /// A listing of `dir`, to which `path` leads below `root` and whose state is `meta`: one that another request has
    /// begun, or a new one.
    ///
    /// # Errors
    /// Listings take too much memory at the moment.
    pub fn find(
        &self,
        root: &Arc<Root>,
        path: &[u8],
        (dir, meta): (OwnedFd, &Meta),
        now: &Now,
    ) -> Result<Arc<Listing>, ListingFailure> {
        let mut inner = self.lock();
        inner.expire(now.instant);
        let known = inner.known.get(path).and_then(Weak::upgrade);
        if let Some(listing) = known.as_ref().filter(|listing| listing.serves(meta, now.instant)) {
            return Ok(Arc::clone(listing));
        }
        if self.account.is_tight() {
            inner.relieve(&self.account);
        }
        if self.account.is_full() {
            return Err(ListingFailure::Full);
        }
        let behind = known.filter(|listing| listing.is_of(meta) && listing.outcome().is_none());
        let listing = Arc::new(Listing::new(&self.account, root, path, (dir, meta), behind));
        inner.note(path, &listing);
        Ok(listing)
    }

    /// Keeps a listing that has just been finished, if later requests may share it.
    pub fn keep(&self, listing: &Arc<Listing>) {
        let mut inner = self.lock();
        if self.account.keep > 0 && listing.is_settled() && !inner.kept.iter().any(|kept| Arc::ptr_eq(kept, listing)) {
            inner.kept.push_back(Arc::clone(listing));
            self.keeps.store(true, Ordering::Relaxed);
        }
        let mut bytes: usize = inner.kept.iter().map(|listing| listing.bytes()).sum();
        while bytes > self.account.keep
            && let Some(oldest) = inner.kept.pop_front()
        {
            bytes = bytes.saturating_sub(oldest.bytes());
        }
        if self.account.is_tight() {
            inner.relieve(&self.account);
        }
    }

    /// When `expire` is to be called: the oldest kept listing is then too old to be shared.
    pub fn next_expiry(&self) -> Option<Instant> {
        if !self.keeps.load(Ordering::Relaxed) {
            return None;
        }
        self.lock().kept.front().and_then(|listing| listing.began()).map(|began| began + SHARED)
    }

    /// Frees the kept listings that are too old to be shared.
    pub fn expire(&self, now: Instant) {
        if self.keeps.load(Ordering::Relaxed) {
            let mut inner = self.lock();
            inner.expire(now);
            self.keeps.store(!inner.kept.is_empty(), Ordering::Relaxed);
        }
    }

    /// Bytes of memory that listings take.
    pub fn bytes(&self) -> usize {
        self.account.bytes()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        sync::lock(&self.inner)
    }
}

impl Inner {
    fn expire(&mut self, now: Instant) {
        while self.kept.front().is_some_and(|listing| listing.is_older(SHARED, now)) {
            self.kept.pop_front();
        }
    }

    fn note(&mut self, path: &[u8], listing: &Arc<Listing>) {
        if self.all.len() >= self.sweep_at.max(FEW) {
            self.known.retain(|_, listing| listing.strong_count() > 0);
            self.all.retain(|listing| listing.strong_count() > 0);
            self.sweep_at = 2 * self.all.len();
        }
        self.known.insert(path.into(), Arc::downgrade(listing));
        self.all.push_back(Arc::downgrade(listing));
    }

    /// Gives up finished listings, the oldest first, until memory is no longer tight.
    fn relieve(&mut self, account: &Account) {
        self.kept.clear();
        self.all.retain(|listing| match listing.upgrade() {
            Some(listing) if account.is_tight() && matches!(listing.outcome(), Some(Ok(()))) => {
                listing.give_up();
                false
            }
            listing => listing.is_some(),
        });
    }
}
