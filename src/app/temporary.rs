//! A temporary file without a name: it goes when it is closed, however the server ends.

use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicU64, Ordering};

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
