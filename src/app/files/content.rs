//! The bytes of a file that is served: in memory, or readable through a descriptor.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Files up to this size are read whole before the response begins: the response then is one version, even if the file
/// is written to meanwhile.
pub const WHOLE: u64 = 256 * 1024;

#[derive(Clone, Debug)]
pub enum Content {
    Memory(Arc<[u8]>),
    /// A copy in memory that sendfile can send (memfd_create(2)). No other process can write to it.
    Copy(Arc<File>),
    /// The file itself.
    Open(Arc<File>),
}

impl Content {
    /// The `want` bytes from `at` on, lent to `take`.
    ///
    /// # Errors
    /// The file cannot be read, or has become shorter; or an error of `take`.
    pub fn read(&self, at: u64, want: usize, take: impl FnOnce(&[u8]) -> io::Result<()>) -> io::Result<()> {
        match self {
            Content::Memory(bytes) => {
                // A position in memory fits into a usize.
                let piece = bytes.get(at as usize..).and_then(|rest| rest.get(..want));
                take(piece.ok_or(io::ErrorKind::UnexpectedEof)?)
            }
            Content::Copy(file) | Content::Open(file) => {
                let mut piece = vec![0; want];
                file.read_exact_at(&mut piece, at)?;
                take(&piece)
            }
        }
    }

    /// The descriptor, unless the content is in memory.
    pub fn file(&self) -> Option<&Arc<File>> {
        match self {
            Content::Memory(_) => None,
            Content::Copy(file) | Content::Open(file) => Some(file),
        }
    }
}
