//! One change of a directory at a time: the check of a precondition and the change that depends on it happen under one
//! lock.
//!
//! What is promised: **a PUT, POST or DELETE with If-Match or If-Unmodified-Since succeeds only if the state that it
//! named is the state that it replaces.** This holds among all clients of this server, on every engine, and among all
//! dustdevil servers on this machine that write to the same directory, by whatever path. Changes without a condition
//! take the lock as well: otherwise one could slip in between the check and the change of a conditional request.
//! (If-None-Match: * needs no lock: taking a free name is one system call.)
//!
//! Between servers the lock is flock(2) on the directory in which a name changes. So there is no lock file to make,
//! hide and protect, and none is left behind: when a server crashes or is killed, the kernel releases its lock. The
//! lock is held for one check and one rename, never while content arrives. Any user who may read the directory can take
//! the lock: `flock DIRECTORY COMMAND` blocks changes of the directory while the command runs, and such requests get
//! 503 after `PATIENCE`.
//!
//! The lock is taken without waiting (LOCK_NB). A change that does not get it is tried again after a pause, so no
//! system call blocks. The threads of one server take a mutex first, so that they do not compete for the directory's
//! lock. The mutex is held for a few system calls. The event engine has one thread, so there the mutex is always free.
//!
//! Not covered: programs that write without the lock (cp, rsync, an editor); and other servers, if the file system
//! cannot lock a directory (NFS, some of FUSE) or this server may not read it. In the second case the log says so,
//! once.

use crate::sync;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// How long a change is tried before the client gets 503. Another server holds the lock for microseconds. A lock held
/// for longer is `flock DIRECTORY COMMAND` or the like, and may stay for any time.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// The pause between the first try and the second. Each further pause is twice as long, up to `LONGEST_PAUSE`. The
/// first is short because another server holds the lock for microseconds; the longest is long enough that thousands of
/// waiting uploads cost little.
pub const FIRST_PAUSE: Duration = Duration::from_millis(1);
pub const LONGEST_PAUSE: Duration = Duration::from_millis(32);

/// The lock of a store, on all its directories.
#[derive(Debug, Default)]
pub struct Lock {
    /// Excludes the other threads of this server. Taken before a directory's lock.
    own: Mutex<()>,
    /// Whether the warning that a directory cannot be locked has been logged.
    is_logged: AtomicBool,
}

/// The right to change a directory, until it is dropped.
#[derive(Debug)]
pub struct Held<'a> {
    /// `None` where the directory cannot be locked.
    dir: Option<OwnedFd>,
    _own: MutexGuard<'a, ()>,
}

impl Lock {
    /// Tries to take the lock of the directory `dir`, an O_PATH descriptor. `None` if another thread or server holds
    /// it.
    pub fn try_hold(&self, dir: impl AsFd) -> Option<Held<'_>> {
        let own = sync::lock(&self.own);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let locked = openat(dir, ".", flags, Mode::empty())
            .and_then(|dir| flock(&dir, FlockOperation::NonBlockingLockExclusive).map(|()| dir));
        match locked {
            Ok(dir) => Some(Held { dir: Some(dir), _own: own }),
            Err(Errno::WOULDBLOCK | Errno::INTR | Errno::MFILE | Errno::NFILE | Errno::NOMEM) => None,
            Err(errno) => {
                // NOENT: the directory has been removed, and the change will fail.
                if errno != Errno::NOENT && !self.is_logged.swap(true, Ordering::Relaxed) {
                    log::warn!(
                        "a directory of the store cannot be locked: {errno}; If-Match and If-Unmodified-Since hold among \
                         this server's clients only: let no other server write to this store"
                    );
                }
                Some(Held { dir: None, _own: own })
            }
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // Unlocked explicitly, because closing may not be enough: a child process that is being started has copies of
        // our descriptors until its exec.
        if let Some(dir) = &self.dir {
            let _ = flock(dir, FlockOperation::Unlock);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lookup::{Root, Symlinks};
    use super::super::scratch::Scratch;
    use super::*;

    #[test]
    fn the_lock_of_a_directory_is_had_once_and_let_go() {
        let scratch = Scratch::new();
        scratch.file("sub/file", "");
        let root = Root::open(&scratch.root(), Symlinks::Inside, false).unwrap();
        let (top, _) = root.parent(b"file").unwrap();
        let (sub, _) = root.parent(b"sub/file").unwrap();
        // Two servers of one store, and a third server whose store is the directory within it.
        let (one, other) = (Lock::default(), Lock::default());
        let within = Root::open(&scratch.root().join("sub"), Symlinks::Inside, false).unwrap();
        let (same, _) = within.parent(b"file").unwrap();
        let held = one.try_hold(&sub).unwrap();
        assert!(held.dir.is_some(), "the tests of flock show nothing here");
        assert!(other.try_hold(&sub).is_none() && other.try_hold(&same).is_none());
        assert!(other.try_hold(&top).is_some());
        drop(held);
        assert!(one.try_hold(&sub).is_some() && other.try_hold(&same).is_some());
    }

    #[test]
    fn where_a_directory_cannot_be_locked_its_own_clients_are_still_guarded() {
        let scratch = Scratch::new();
        scratch.file("file", "");
        // A regular file stands for a directory that cannot be locked: `openat` of "." in it fails.
        let file = std::fs::File::open(scratch.root().join("file")).unwrap();
        let lock = Lock::default();
        let held = lock.try_hold(&file).unwrap();
        assert!(held.dir.is_none() && lock.is_logged.load(Ordering::Relaxed));
        assert!(lock.own.try_lock().is_err());
        drop(held);
        assert!(lock.try_hold(&file).is_some());
    }
}
