//! A temporary file without a name: it goes when it is closed, however the server ends. And how much may be in memory
//! that could be in one.

use rustix::fs::{MemfdFlags, OFlags};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Of all clients together, however many there are.
const TOGETHER: usize = 32 * 1024 * 1024;
static HELD: AtomicUsize = AtomicUsize::new(0);

/// One client's part of what is held in memory instead of in temporary files.
#[derive(Debug, Default)]
pub struct Share {
    bytes: usize,
}

impl Share {
    /// Takes so many bytes more; whether there is room for them.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let fits = |held: usize| Some(held + bytes).filter(|held| *held <= TOGETHER);
        let has_grown = HELD.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        self.bytes += if has_grown { bytes } else { 0 };
        has_grown
    }

    pub fn shrink(&mut self, bytes: usize) {
        self.bytes -= bytes;
        HELD.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

/// Opens one in memory, where the system can do that; else on a disk.
pub fn open_in_memory() -> io::Result<File> {
    match rustix::fs::memfd_create("dustdevil", MemfdFlags::CLOEXEC) {
        Ok(file) => Ok(file.into()),
        Err(_) => open(),
    }
}

/// Opens one for reading and writing in the system's folder for temporary files.
pub fn open() -> io::Result<File> {
    let folder = std::env::temp_dir();
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    let nameless = options.clone().custom_flags(OFlags::TMPFILE.bits() as i32).open(&folder);
    if nameless.is_ok() {
        return nameless;
    }
    // Not every file system can do that (NFS, older overlayfs): there it has a name for a moment.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!(".dustdevil-{}-{count}", std::process::id()));
    let file = options.create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_given_back_with_its_owner() {
        let mut one = Share::default();
        assert!(one.grow(TOGETHER / 2));
        one.shrink(TOGETHER / 4);
        assert!(!Share::default().grow(TOGETHER));
        drop(one);
        let mut other = Share::default();
        assert!(!other.grow(TOGETHER + 1) && other.bytes == 0);
    }
}
