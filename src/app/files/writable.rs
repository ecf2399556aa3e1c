//! A directory that requests may change: its root, the lock under which each change is made, and the sweep that removes
//! the temporary files of killed servers.

use crate::app::files::discarded::Discarded;
use crate::app::files::journal::{Journal, JournalEntry};
use crate::app::files::lock::Lock;
use crate::app::files::lookup::{Root, split};
use crate::app::files::root_path::RootPath;
use crate::app::files::sent_dates::SentDates;
use crate::app::files::sweep::Sweep;
use crate::sync;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

#[derive(Debug)]
pub struct Writable {
    pub root: RootPath,
    pub lock: Lock,
    pub sent_dates: SentDates,
    /// Files of cancelled uploads, whose blocks are freed in pieces.
    pub discarded: Arc<Discarded>,
    /// `None` until the root is found for the first time.
    tidying: Mutex<Option<Tidying>>,
    /// Whether the sweep has work to do. An atomic, because every turn of the loop reads it.
    is_sweeping: AtomicBool,
}

impl Writable {
    pub fn new(root: RootPath) -> Writable {
        let tidying = Mutex::new(root.known().map(Tidying::new));
        let (lock, discarded) = (Lock::default(), Arc::default());
        Writable {
            root,
            lock,
            sent_dates: SentDates::default(),
            discarded,
            tidying,
            is_sweeping: AtomicBool::new(true),
        }
    }

    /// Call this before an upload to `path` below `root` begins. The entry is held until the upload has ended.
    pub fn enter(&self, root: &Arc<Root>, path: &[u8]) -> JournalEntry {
        self.tidying(root, |tidying| tidying.journal.enter(root.dir(), split(path).0))
    }

    /// Has the directory of an upload to `path` scanned for leftovers of other servers.
    pub fn look_around(&self, root: &Arc<Root>, path: &[u8], now: Instant) {
        self.tidying(root, |Tidying { journal, sweep, .. }| {
            sweep.enter(split(path).0, now);
            if journal.is_long() {
                sweep.begin_round_if_rested(|| journal.folders(root.dir()), now);
            }
            self.is_sweeping.store(true, Ordering::Relaxed);
        });
    }

    /// Runs `act` on the journal and the sweep of `root`. If the root's name leads to another directory now, both begin
    /// anew.
    fn tidying<T>(&self, root: &Arc<Root>, act: impl FnOnce(&mut Tidying) -> T) -> T {
        let mut tidying = sync::lock(&self.tidying);
        let tidying = match &mut *tidying {
            Some(known) if Arc::ptr_eq(&known.root, root) => known,
            other => other.insert(Tidying::new(Arc::clone(root))),
        };
        act(tidying)
    }

    /// When `do_chore` has to be called.
    pub fn next_chore(&self, now: Instant) -> Option<Instant> {
        if !self.discarded.is_empty() {
            return Some(now);
        }
        if !self.is_sweeping.load(Ordering::Relaxed) {
            return None;
        }
        // Stored under the lock, as in `look_around`: so work that another thread adds at this moment is not forgotten.
        let tidying = sync::lock(&self.tidying);
        let next = tidying.as_ref().and_then(|tidying| tidying.sweep.next(now));
        self.is_sweeping.store(next.is_some(), Ordering::Relaxed);
        next
    }

    /// Frees a piece of a discarded file and continues the sweep, for about a tenth of a millisecond.
    pub fn do_chore(&self, now: Instant) {
        self.discarded.free_some();
        if self.is_sweeping.load(Ordering::Relaxed)
            && let Some(Tidying { root, journal, sweep }) = &mut *sync::lock(&self.tidying)
            && sweep.next(now).is_some_and(|next| next <= now)
        {
            sweep.step(root, journal, now);
        }
    }
}

/// The journal and the sweep of one root.
#[derive(Debug)]
struct Tidying {
    root: Arc<Root>,
    journal: Arc<Journal>,
    sweep: Sweep,
}

impl Tidying {
    fn new(root: Arc<Root>) -> Tidying {
        let (journal, mut sweep) = (Arc::<Journal>::default(), Sweep::default());
        sweep.begin_round(journal.folders(root.dir()));
        Tidying { root, journal, sweep }
    }
}
