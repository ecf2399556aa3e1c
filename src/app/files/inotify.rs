//! What the kernel tells of changes (inotify(7)): one instance for a root, asked once for all requests that were read by
//! then. Two kinds of change are told apart: of what is kept (`watch`), and of the way by name to the root (`root_path`).

use crate::sync;
use rustix::fs::inotify::{self, CreateFlags, Event, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

/// File systems whose changes all go through this kernel (statfs(2)): ext, XFS, Btrfs, tmpfs, F2FS.
const LOCAL: [i64; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0xf2f5_2010];
/// Its directories tell of names that come and go, as those of the file systems above do; its files may be others than
/// those that are written to.
const OVERLAY: i64 = 0x794c_7630;

/// A watch on a name in a directory: the number of the watch on the directory, and the name.
pub type Name = (i32, Vec<u8>);

#[derive(Debug)]
pub struct Inotify {
    inotify: OwnedFd,
    reported: Mutex<Reported>,
}

#[derive(Debug, Default)]
struct Reported {
    /// Before the kernel was last asked.
    asked: Option<Instant>,
    /// How often something has changed, whatever it was.
    changes: u64,
    /// How often one of `names` has.
    changes_of_names: u64,
    /// Of a directory with one of these only the names count.
    names: Vec<Name>,
}

impl Inotify {
    /// `None` where the kernel has no more for us.
    pub fn new() -> Option<Inotify> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
        Some(Inotify { inotify, reported: Mutex::default() })
    }

    /// How often something has changed before `read`, at least.
    pub fn changes(&self, read: Instant) -> u64 {
        self.ask(read).changes
    }

    /// How often one of the names that are followed has changed before `read`, at least.
    pub fn changes_of_names(&self, read: Instant) -> u64 {
        self.ask(read).changes_of_names
    }

    /// Watches what `place` is, by its descriptor: whatever the path leads to by now, this is what is watched.
    pub fn watch(&self, place: impl AsFd, what: WatchFlags) -> Option<i32> {
        let path = format!("/proc/self/fd/{}", place.as_fd().as_raw_fd());
        inotify::add_watch(&self.inotify, path, what | WatchFlags::MASK_ADD).ok()
    }

    /// Watches a directory for the names that come and go in it; which of them count is told by `follow`.
    pub fn watch_names(&self, directory: impl AsFd) -> Option<i32> {
        let names = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
        self.watch(directory, names)
    }

    /// Ends a watch, unless it is of a name that is followed.
    pub fn end(&self, watch: i32) {
        if !sync::lock(&self.reported).has(watch) {
            self.remove(watch);
        }
    }

    /// Follows these names, and no others any more.
    pub fn follow(&self, names: Vec<Name>) {
        let mut reported = sync::lock(&self.reported);
        let before = std::mem::replace(&mut reported.names, names);
        before.iter().filter(|(watch, _)| !reported.has(*watch)).for_each(|(watch, _)| self.remove(*watch));
    }

    fn remove(&self, watch: i32) {
        // It fails where the file is gone, and its watch with it.
        let _ = inotify::remove_watch(&self.inotify, watch);
    }

    fn ask(&self, read: Instant) -> MutexGuard<'_, Reported> {
        let mut reported = sync::lock(&self.reported);
        if reported.asked.is_none_or(|asked| asked < read) {
            self.take(&mut reported);
            reported.asked = Some(read);
        }
        reported
    }

    fn take(&self, reported: &mut Reported) {
        let mut room = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.inotify, &mut room);
        let (mut any, mut names) = (false, false);
        loop {
            match reader.next() {
                Ok(event) => {
                    let of_names = reported.counts(&event);
                    names |= of_names == Some(true);
                    any |= of_names.is_some();
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => {
                    (any, names) = (true, true);
                    break;
                }
            }
        }
        reported.changes += u64::from(any);
        reported.changes_of_names += u64::from(names);
    }
}

impl Reported {
    fn has(&self, watch: i32) -> bool {
        self.names.iter().any(|(of, _)| *of == watch)
    }

    /// `None`: the event does not matter. `Some(true)`: it is of a name that is followed.
    fn counts(&self, event: &Event) -> Option<bool> {
        let is_lost = event.events().contains(ReadFlags::QUEUE_OVERFLOW);
        let is_over = event.events().contains(ReadFlags::IGNORED);
        match (self.has(event.wd()), event.file_name()) {
            _ if is_lost => Some(true),
            (true, _) if is_over => Some(true),
            (true, Some(name)) => {
                let is_followed = |(watch, of): &Name| *watch == event.wd() && of == name.to_bytes();
                self.names.iter().any(is_followed).then_some(true)
            }
            // A watch has ended; what ended it was told before, or was `end`.
            _ if is_over => None,
            _ => Some(false),
        }
    }
}

/// Whether all changes of the files on the file system of `place` go through this kernel.
pub fn is_local(place: impl AsFd) -> bool {
    system(place).is_some_and(|system| LOCAL.contains(&system))
}

/// Whether all changes of names in a directory go through this kernel.
pub fn tells_of_names(directory: impl AsFd) -> bool {
    system(directory).is_some_and(|system| LOCAL.contains(&system) || system == OVERLAY)
}

fn system(place: impl AsFd) -> Option<i64> {
    // The type differs from one architecture to the next.
    #[allow(clippy::unnecessary_cast)]
    rustix::fs::fstatfs(place).ok().map(|system| system.f_type as i64 & 0xffff_ffff)
}
