//! Whether a request has failed because no descriptor was left. Descriptors belong to the process, so this is one flag
//! for the process. What serves a request sets it; the engine then closes idle connections, so that the next request
//! finds a descriptor.

use rustix::io::Errno;
use std::sync::atomic::{AtomicBool, Ordering};

static LACKED: AtomicBool = AtomicBool::new(false);

/// Call this when a file or a socket could not be opened because no descriptor was left.
pub fn on_lacked() {
    LACKED.store(true, Ordering::Relaxed);
}

/// Whether `on_lacked` was called since the last `take_lacked`.
#[inline]
pub fn is_lacked() -> bool {
    LACKED.load(Ordering::Relaxed)
}

/// As `is_lacked`, and clears the flag.
pub fn take_lacked() -> bool {
    LACKED.swap(false, Ordering::Relaxed)
}

/// Whether the process (EMFILE) or the system (ENFILE) has no descriptor left.
pub fn is_lack(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE)
}
