//! Large files that nobody needs any more, freed in pieces: all of 1 GiB in one call takes 86 ms on ext4, and the event loop
//! would stand still for as long.
//!
//! Only for files without a name that nobody else can have open: they are made shorter.

use crate::sync;
use std::fs::File;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that are freed at once.
pub(super) const PIECE: u64 = 4 * 1024 * 1024;

#[derive(Debug, Default)]
pub struct Discarded {
    /// Each with its size.
    files: Mutex<Vec<(File, u64)>>,
    count: AtomicUsize,
}

impl Discarded {
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Keeps a file of `size` bytes until it is freed.
    pub fn add(&self, file: File, size: u64) {
        self.count.fetch_add(1, Ordering::Relaxed);
        sync::lock(&self.files).push((file, size));
    }

    /// Frees a piece of one file. The lock is not held meanwhile: other threads discard theirs.
    pub fn free_some(&self) {
        if self.is_empty() {
            return;
        }
        let Some((file, size)) = sync::lock(&self.files).pop() else { return };
        let rest = size.saturating_sub(PIECE);
        if rest > 0 && file.set_len(rest).is_ok() {
            sync::lock(&self.files).push((file, rest));
        } else {
            drop(file);
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
