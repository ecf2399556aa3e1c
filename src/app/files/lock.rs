//! One change of a directory at a time: a precondition is checked and the change that rests on it is made in one step.
//!
//! What is promised: **a PUT, POST or DELETE with If-Match or If-Unmodified-Since succeeds only if the state that it named
//! is the state that it replaces.** It holds among all clients of this server, on every engine, and among all servers of
//! this kind on this machine that write to the same directory, whatever path leads them to it. Changes without a condition
//! take the lock as well: no conditional one can overwrite them unseen. (If-None-Match: * needs no lock: taking a free name
//! is one system call.)
//!
//! The lock between servers is flock(2) on the directory in which a name changes. There is no lock file that would have to
//! be made, hidden and protected, and nothing is left behind: the kernel lets go of the lock of a server that crashes or is
//! killed. It is held for one check and one rename, never while content arrives. Whoever may read the directory may take
//! it: `flock DIRECTORY COMMAND` keeps the store still for as long as a command runs, and changes of it get 503 after
//! `PATIENCE`.
//!
//! The lock is only ever tried. A change that does not get it is tried again after a pause; nothing waits in a system call.
//! Threads of one server take turns by a mutex before that, so that they do not contend for the directory. It is held for
//! as long as a few system calls take, and the event loop, which is one thread, never finds it taken.
//!
//! Not guarded against: programs that write without the lock (cp, rsync, an editor), and other servers where the file
//! system cannot lock a directory (NFS, some of FUSE) or the server may not read it. The log says so, once.

use crate::sync;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// How long a change is tried. Another server holds the lock for microseconds, so this is somebody who keeps the store
/// still, and the client is better told.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// From the first try to the second; then twice as long each time, up to `LONGEST_PAUSE`. Two servers meet for
/// microseconds; and thousands of uploads that wait for somebody who keeps the store still try seldom.
pub const FIRST_PAUSE: Duration = Duration::from_millis(1);
pub const LONGEST_PAUSE: Duration = Duration::from_millis(32);

/// The lock of a store, on all its directories.
#[derive(Debug, Default)]
pub struct Lock {
    /// Taken before a directory's lock.
    own: Mutex<()>,
    /// Whether the log has been told that other servers are not guarded against.
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
    /// Takes the lock of `dir`, a place; `None` if that is not possible at this moment.
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
        // By itself and not by closing: a process that is being started shares our descriptors for a moment.
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
        // Two servers, and a third whose store is the folder within.
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
        // As good as a file system that has no locks: no directory is opened here.
        let file = std::fs::File::open(scratch.root().join("file")).unwrap();
        let lock = Lock::default();
        let held = lock.try_hold(&file).unwrap();
        assert!(held.dir.is_none() && lock.is_logged.load(Ordering::Relaxed));
        assert!(lock.own.try_lock().is_err());
        drop(held);
        assert!(lock.try_hold(&file).is_some());
    }
}
