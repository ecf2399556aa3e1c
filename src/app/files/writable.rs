//! A directory that requests may change: its root, the lock under which each change is made, and what removes the temporary
//! files that a killed server has left.

use crate::app::files::discarded::Discarded;
use crate::app::files::journal::{Entry, Journal};
use crate::app::files::lock::Lock;
use crate::app::files::lookup::{Root, split};
use crate::app::files::sweep::Sweep;
use crate::sync;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

#[derive(Debug)]
pub struct Writable {
    pub root: Root,
    pub lock: Lock,
    /// What uploads that were cut had written.
    pub discarded: Arc<Discarded>,
    journal: Arc<Journal>,
    sweep: Mutex<Sweep>,
    /// Whether `sweep` has something to do: asked in every turn.
    is_sweeping: AtomicBool,
}

impl Writable {
    pub fn new(root: Root) -> Writable {
        let (journal, mut sweep) = (Arc::<Journal>::default(), Sweep::default());
        sweep.begin_round(journal.folders(root.dir()));
        let (sweep, is_sweeping) = (Mutex::new(sweep), AtomicBool::new(true));
        Writable { root, lock: Lock::default(), discarded: Arc::default(), journal, sweep, is_sweeping }
    }

    /// To be called before an upload to `path` begins. The entry is held until the upload has ended.
    pub fn enter(&self, path: &[u8]) -> Entry {
        self.journal.enter(self.root.dir(), split(path).0)
    }

    /// Has the directory in which an upload to `path` has begun looked through for what others have left.
    pub fn look_around(&self, path: &[u8], now: Instant) {
        let mut sweep = sync::lock(&self.sweep);
        sweep.enter(split(path).0, now);
        if self.journal.is_long() {
            sweep.begin_round_if_rested(|| self.journal.folders(self.root.dir()), now);
        }
        self.is_sweeping.store(true, Ordering::Relaxed);
    }

    /// When `do_chore` is to be called.
    pub fn next_chore(&self, now: Instant) -> Option<Instant> {
        if !self.discarded.is_empty() {
            return Some(now);
        }
        if !self.is_sweeping.load(Ordering::Relaxed) {
            return None;
        }
        // Stored under the lock, as in `look_around`: what is added meanwhile is not forgotten.
        let sweep = sync::lock(&self.sweep);
        let next = sweep.next(now);
        self.is_sweeping.store(next.is_some(), Ordering::Relaxed);
        next
    }

    /// Frees some of what is not needed any more, and looks for temporary files that have been left, for about a tenth of a
    /// millisecond.
    pub fn do_chore(&self, now: Instant) {
        self.discarded.free_some();
        if self.is_sweeping.load(Ordering::Relaxed) {
            let mut sweep = sync::lock(&self.sweep);
            if sweep.next(now).is_some_and(|next| next <= now) {
                sweep.step(&self.root, &self.journal, now);
            }
        }
    }
}
