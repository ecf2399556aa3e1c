//! Large files that are no longer needed, freed in pieces: to free 1 GiB in one call takes 86 ms on ext4, during which
//! the event loop would stand still.
//!
//! Only for files that have no name and that no other process can have open: each piece is freed by truncating the
//! file.

use crate::sync;
use std::fs::File;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that are freed in one call.
pub(super) const PIECE: u64 = 4 * 1024 * 1024;

#[derive(Debug, Default)]
pub struct Discarded {
    /// Each file with its size.
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

    /// Frees a piece of one file. The mutex is not held while it does, so that other threads can add theirs.
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
