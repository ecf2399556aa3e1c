//! Files that were compressed beforehand: `file.br`, `file.zst` and `file.gz` beside `file`.
//!
//! They are found by the same resolver as every file, so one outside the root is not found. One that is older than its
//! original is ignored: its content may differ from the original's.

use crate::app::files::cache::Stored;
use crate::app::files::lookup::{Located, Meta};
use crate::http::accept::Coding;
use std::fs::File;

/// The codings of precompressed files, the smallest result first.
const CODINGS: [Coding; 3] = [Coding::Br, Coding::Zstd, Coding::Gzip];

/// The precompressed files that a file may have.
#[derive(Clone, Copy, Debug)]
pub struct Precompressed<'a> {
    original: &'a Stored,
}

impl<'a> Precompressed<'a> {
    /// The most precompressed files that one file can have.
    pub const MOST: usize = CODINGS.len();

    pub fn new(original: &'a Stored) -> Precompressed<'a> {
        Precompressed { original }
    }

    /// The codings that exist, in the order of preference. All are looked up, also those that this client does not
    /// accept: they decide whether the response needs `Vary`.
    pub fn codings(&self) -> impl Iterator<Item = Coding> {
        CODINGS.into_iter().filter(|&coding| self.open(coding).is_some())
    }

    /// The file in this coding, if it is not older than the original.
    pub fn open(&self, coding: Coding) -> Option<(File, Meta)> {
        let path = [&*self.original.path, coding.suffix()?.as_bytes()].concat();
        match self.original.root.find(&path) {
            Ok(Located::File { file, meta }) if meta.mtime >= self.original.meta.mtime => Some((file, meta)),
            _ => None,
        }
    }
}
