//! Changes that the kernel reports (inotify(7)): one instance for a root, read once for all requests that were read by
//! then. It counts two kinds of changes: those of cached files (`watch`), and those of the names on the way to the root
//! (`root_path`).

use crate::sync;
use rustix::fs::inotify::{self, CreateFlags, Event, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

/// File systems whose changes all go through this kernel (statfs(2)): ext, XFS, Btrfs, tmpfs, F2FS.
const LOCAL: [i64; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0xf2f5_2010];
/// Overlayfs reports names that come and go in a directory, as the file systems above do. For a file it may report
/// nothing, because a write can go to another inode (a copy in the upper layer).
const OVERLAY: i64 = 0x794c_7630;

/// A watched name: the number of the watch on its directory, and the name.
pub type Name = (i32, Vec<u8>);

#[derive(Debug)]
pub struct Inotify {
    inotify: OwnedFd,
    reported: Mutex<Reported>,
}

#[derive(Debug, Default)]
struct Reported {
    /// The kernel was last asked after this moment.
    asked: Option<Instant>,
    /// Grows with each read of inotify events that brought a change.
    changes: u64,
    /// Grows with each read of inotify events that brought a change of one of `names`.
    changes_of_names: u64,
    /// If a watched directory has names in this list, only events of these names count.
    names: Vec<Name>,
}

impl Inotify {
    /// `None` if the kernel's limit of instances is reached.
    pub fn new() -> Option<Inotify> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
        Some(Inotify { inotify, reported: Mutex::default() })
    }

    /// A counter that grows when the kernel reports changes. It includes all changes up to `read`, the time at which the
    /// request was read.
    pub fn changes(&self, read: Instant) -> u64 {
        self.ask(read).changes
    }

    /// The same for changes of followed names.
    pub fn changes_of_names(&self, read: Instant) -> u64 {
        self.ask(read).changes_of_names
    }

    /// Watches the inode of the descriptor `place`, whatever its path leads to by now.
    pub fn watch(&self, place: impl AsFd, what: WatchFlags) -> Option<i32> {
        let path = format!("/proc/self/fd/{}", place.as_fd().as_raw_fd());
        inotify::add_watch(&self.inotify, path, what | WatchFlags::MASK_ADD).ok()
    }

    /// Watches a directory for names that come and go in it. `follow` sets which of the names count.
    pub fn watch_names(&self, directory: impl AsFd) -> Option<i32> {
        let names = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
        self.watch(directory, names)
    }

    /// Ends a watch, unless it belongs to a followed name.
    pub fn end(&self, watch: i32) {
        if !sync::lock(&self.reported).follows_in(watch) {
            self.remove(watch);
        }
    }

    /// Follows these names, and no longer any others.
    pub fn follow(&self, names: Vec<Name>) {
        let mut reported = sync::lock(&self.reported);
        let before = std::mem::replace(&mut reported.names, names);
        before.iter().filter(|(watch, _)| !reported.follows_in(*watch)).for_each(|(watch, _)| self.remove(*watch));
    }

    fn remove(&self, watch: i32) {
        // An error is ignored: if the file is gone, the kernel has removed the watch.
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
                    let relevance = reported.classify(&event);
                    names |= relevance == Relevance::FollowedName;
                    any |= relevance != Relevance::Ignored;
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

/// What an event means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relevance {
    Ignored,
    /// Something has changed, but no followed name.
    Other,
    /// A followed name may have changed, or events were lost.
    FollowedName,
}

impl Reported {
    /// Whether the watched directory has followed names.
    fn follows_in(&self, watch: i32) -> bool {
        self.names.iter().any(|(of, _)| *of == watch)
    }

    fn classify(&self, event: &Event) -> Relevance {
        let has_overflowed = event.events().contains(ReadFlags::QUEUE_OVERFLOW);
        let watch_ended = event.events().contains(ReadFlags::IGNORED);
        match (self.follows_in(event.wd()), event.file_name()) {
            _ if has_overflowed => Relevance::FollowedName,
            (true, _) if watch_ended => Relevance::FollowedName,
            (true, Some(name)) => {
                let is_followed = |(watch, of): &Name| *watch == event.wd() && of == name.to_bytes();
                if self.names.iter().any(is_followed) { Relevance::FollowedName } else { Relevance::Ignored }
            }
            // A watch has ended: the kernel reported the cause in an earlier event, or we called `end`.
            _ if watch_ended => Relevance::Ignored,
            _ => Relevance::Other,
        }
    }
}

/// Whether all changes of the files on the file system of `place` go through this kernel.
pub fn is_local(place: impl AsFd) -> bool {
    system(place).is_some_and(|system| LOCAL.contains(&system))
}

/// Whether all changes of names in a directory go through this kernel.
pub fn reports_names(directory: impl AsFd) -> bool {
    system(directory).is_some_and(|system| LOCAL.contains(&system) || system == OVERLAY)
}

fn system(place: impl AsFd) -> Option<i64> {
    // The field's type differs from one architecture to the next.
    #[allow(clippy::unnecessary_cast)]
    rustix::fs::fstatfs(place).ok().map(|system| system.f_type as i64 & 0xffff_ffff)
}
