//! Whether anything has changed on the way to the cached files: one question to the kernel answers for all of them
//! (inotify(7)). Without it, each file needs a stat of its own.
//!
//! It only ever says that nothing has changed. After any event, or if a file cannot be watched, the files are asked for
//! one by one, as without it.
//!
//! Watched are a file's inode, and the inodes of the directories between it and the root; `root_path` follows the way
//! to the root itself. A change of the content, the times or the number of links, and a move, is an event of the inode,
//! by whichever name the change was made. The event is there before the call that made the change has returned. A path
//! with a symbolic link in it is not watched, nor a file on a file system that other machines write to.
//!
//! inotify does not report three things: stores to a shared mapping, the completion of Linux AIO, and a mount over a
//! directory. Hence `FRESH`.

use crate::app::files::inotify::{self, Inotify};
use crate::app::files::lookup::{Meta, Root};
use rustix::fs::inotify::WatchFlags;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the result of a stat is trusted while no event comes.
const FRESH: Duration = Duration::from_secs(1);
/// Limit of watched directories: more than most sites have, and far below what the kernel allows a user.
const DIRECTORIES: usize = 1024;
/// Limit of watched files, for the same reasons.
const FILES: usize = 4096;
/// Events of a directory itself. Names that come and go in it do not matter: a name on the way to a cached file is
/// watched as an inode of its own.
const ITSELF: WatchFlags = WatchFlags::ATTRIB.union(WatchFlags::MOVE_SELF).union(WatchFlags::DELETE_SELF);

#[derive(Debug)]
pub struct Watch {
    /// Its count of changes is the epoch.
    inotify: Arc<Inotify>,
    /// By their paths below the root.
    directories: HashMap<Box<[u8]>, Directory>,
    /// The watch numbers of files.
    files: HashSet<i32>,
}

/// A directory that is watched.
#[derive(Clone, Copy, Debug)]
struct Directory {
    watch: i32,
    /// Device and inode.
    identity: (u64, u64),
    /// The epoch in which its path was seen to lead to it.
    epoch: u64,
}

/// A watched file, and how long the watch may replace a stat.
#[derive(Debug)]
pub struct Watched {
    watch: i32,
    /// The epoch in which the file was seen to be unchanged.
    epoch: u64,
    until: Instant,
}

impl Watch {
    pub fn new(inotify: Arc<Inotify>) -> Watch {
        Watch { inotify, directories: HashMap::new(), files: HashSet::new() }
    }

    /// Whether nothing has happened to a file before `read`.
    pub fn vouches_for(&mut self, watched: &Watched, read: Instant) -> bool {
        watched.until > read && watched.epoch == self.inotify.changes(read)
    }

    /// Begins to watch the file that `path` leads to, or renews the watch. The caller must stat the file after this
    /// call, and call `forget` if it is not the one in `seen`.
    pub fn renew(
        &mut self,
        watched: Option<Watched>,
        root: &Root,
        path: &[u8],
        seen: &Meta,
        read: Instant,
    ) -> Option<Watched> {
        let epoch = self.inotify.changes(read);
        let until = read + FRESH;
        match watched {
            Some(watched) if watched.epoch == epoch => Some(Watched { until, ..watched }),
            // If events come all the time, a new watch for each request would cost more than it saves.
            Some(watched) if watched.until > read => Some(watched),
            other => {
                if let Some(watched) = other {
                    self.forget(&watched);
                }
                let watch = self.add(root, path, seen, epoch)?;
                Some(Watched { watch, epoch, until })
            }
        }
    }

    pub fn forget(&mut self, watched: &Watched) {
        self.files.remove(&watched.watch);
        self.inotify.end(watched.watch);
    }

    /// From the top down: once a directory is watched and its path leads to it, every later change on that way is an
    /// event.
    fn add(&mut self, root: &Root, path: &[u8], seen: &Meta, epoch: u64) -> Option<i32> {
        if self.files.len() >= FILES {
            return None;
        }
        for slash in memchr::memchr_iter(b'/', path) {
            self.add_directory(root, &path[..slash], epoch)?;
        }
        let file = root.place(path).ok()?;
        if !inotify::is_local(&file) || !Meta::of_place(&file).is_ok_and(|meta| meta == *seen) {
            return None;
        }
        let watch = self.inotify.watch(&file, ITSELF | WatchFlags::MODIFY)?;
        // An inode has one watch, which can be ended only once: it belongs to the first path that leads to it.
        self.files.insert(watch).then_some(watch)
    }

    fn add_directory(&mut self, root: &Root, path: &[u8], epoch: u64) -> Option<()> {
        let leads_to = |identity| root.meta(path).is_ok_and(|meta| (meta.dev, meta.ino) == identity);
        let known = self.directories.get(path).copied();
        match known {
            // The path is checked by a stat as well: if a removed directory is still some process's current directory,
            // its event comes only when the process leaves.
            Some(known) if known.epoch == epoch && leads_to(known.identity) => return Some(()),
            None if self.directories.len() >= DIRECTORIES => {
                self.forget_directories(|directory| directory.epoch != epoch)
            }
            _ => {}
        }
        if known.is_none() && self.directories.len() >= DIRECTORIES {
            return None;
        }
        let directory = root.place(path).ok()?;
        let meta = Meta::of_place(&directory).ok()?;
        let (watch, identity) = (self.inotify.watch(&directory, ITSELF)?, (meta.dev, meta.ino));
        self.directories.insert(path.into(), Directory { watch, identity, epoch });
        if let Some(known) = known {
            self.end_unused(known.watch);
        }
        if !leads_to(identity) {
            self.forget_directories(|directory| directory.watch == watch);
            return None;
        }
        Some(())
    }

    fn forget_directories(&mut self, which: impl Fn(&Directory) -> bool) {
        let gone: Vec<i32> = self.directories.values().filter(|directory| which(directory)).map(|d| d.watch).collect();
        self.directories.retain(|_, directory| !which(directory));
        gone.into_iter().for_each(|watch| self.end_unused(watch));
    }

    /// Ends the watch of a directory, unless another known path leads to it.
    fn end_unused(&self, watch: i32) {
        if !self.directories.values().any(|directory| directory.watch == watch) {
            self.inotify.end(watch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::files::lookup::Symlinks;
    use crate::app::files::scratch::Scratch;
    use std::fs;
    use std::path::Path;

    const PATH: &[u8] = b"a/b/file";

    /// A watched file in a directory of its own.
    struct Fixture {
        scratch: Scratch,
        root: Root,
        watch: Watch,
        now: Instant,
    }

    impl Fixture {
        fn new() -> Fixture {
            let scratch = Scratch::new();
            scratch.file("a/b/file", "one");
            scratch.file("a/b/beside", "another");
            let root = Root::open(&scratch.root(), Symlinks::Inside, false).unwrap();
            Fixture { scratch, root, watch: Watch::new(Arc::new(Inotify::new().unwrap())), now: Instant::now() }
        }

        fn later(&mut self) -> Instant {
            self.now += Duration::from_millis(1);
            self.now
        }

        fn begin(&mut self) -> Option<Watched> {
            let (read, seen) = (self.later(), self.root.meta(PATH).unwrap());
            self.watch.renew(None, &self.root, PATH, &seen, read)
        }

        fn vouches(&mut self, watched: &Watched) -> bool {
            let read = self.later();
            self.watch.vouches_for(watched, read)
        }
    }

    #[test]
    fn every_change_on_the_way_to_a_file_is_seen() {
        type Change = fn(&Path);
        let changes: [(&str, Change); 12] = [
            ("overwritten", |root| fs::write(root.join("a/b/file"), "two").unwrap()),
            ("truncated", |root| drop(fs::File::create(root.join("a/b/file")).unwrap())),
            ("removed", |root| fs::remove_file(root.join("a/b/file")).unwrap()),
            ("replaced", |root| fs::rename(root.join("a/b/beside"), root.join("a/b/file")).unwrap()),
            ("moved", |root| fs::rename(root.join("a/b/file"), root.join("a/b/away")).unwrap()),
            ("given another name", |root| fs::hard_link(root.join("a/b/file"), root.join("a/name")).unwrap()),
            ("given another time", |root| {
                let times = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
                fs::File::options().write(true).open(root.join("a/b/file")).unwrap().set_times(times).unwrap();
            }),
            ("directory moved", |root| fs::rename(root.join("a/b"), root.join("a/c")).unwrap()),
            ("directory above moved", |root| fs::rename(root.join("a"), root.join("c")).unwrap()),
            ("directory swapped for a link", |root| {
                fs::rename(root.join("a"), root.join("c")).unwrap();
                std::os::unix::fs::symlink("c", root.join("a")).unwrap();
            }),
            ("directory closed to us", |root| {
                use std::os::unix::fs::PermissionsExt;
                fs::set_permissions(root.join("a"), fs::Permissions::from_mode(0o700)).unwrap();
            }),
            ("directory exchanged", |root| {
                fs::create_dir(root.join("d")).unwrap();
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, root.join("a"), rustix::fs::CWD, root.join("d"), flags)
                    .unwrap();
            }),
        ];
        for (name, change) in changes {
            let mut place = Fixture::new();
            let watched = place.begin().expect("a file like any other");
            assert!(place.vouches(&watched) && place.vouches(&watched), "{name}");
            change(&place.scratch.root());
            assert!(!place.vouches(&watched), "{name}");
            assert!(!place.vouches(&watched), "{name}: what has happened has happened");
        }
    }

    #[test]
    fn a_directory_that_has_been_moved_is_watched_under_its_new_name() {
        let mut place = Fixture::new();
        place.begin().unwrap();
        let root = place.scratch.root();
        fs::rename(root.join("a"), root.join("c")).unwrap();
        place.scratch.file("a/b/file", "the next");
        let begin = |place: &mut Fixture, path: &[u8]| {
            let (read, seen) = (place.later(), place.root.meta(path).unwrap());
            place.watch.renew(None, &place.root, path, &seen, read).unwrap()
        };
        let moved = begin(&mut place, b"c/b/beside");
        let next = begin(&mut place, PATH);
        assert!(place.vouches(&moved) && place.vouches(&next));
        fs::rename(root.join("c"), root.join("d")).unwrap();
        assert!(!place.vouches(&moved));
    }

    #[test]
    fn a_directory_that_was_removed_while_it_was_in_use_is_not_trusted() {
        let mut place = Fixture::new();
        let watched = place.begin().unwrap();
        place.watch.forget(&watched);
        let root = place.scratch.root();
        let held = fs::File::open(root.join("a/b")).unwrap();
        fs::remove_dir_all(root.join("a/b")).unwrap();
        place.scratch.file("a/b/file", "the next");
        let watched = place.begin().expect("another directory, and watched");
        assert!(place.vouches(&watched));
        fs::rename(root.join("a/b"), root.join("a/c")).unwrap();
        assert!(!place.vouches(&watched));
        drop(held);
    }

    #[test]
    fn what_happens_beside_a_file_is_nothing() {
        let mut place = Fixture::new();
        let watched = place.begin().unwrap();
        place.scratch.file("a/b/new", "new");
        place.scratch.file("a/b/beside", "changed");
        fs::remove_file(place.scratch.root().join("a/b/beside")).unwrap();
        assert!(place.vouches(&watched));
    }

    #[test]
    fn it_is_trusted_for_a_second_and_renewed_without_watching_anew() {
        let mut place = Fixture::new();
        let watched = place.begin().unwrap();
        place.now += FRESH;
        assert!(!place.vouches(&watched));
        let (read, seen) = (place.later(), place.root.meta(PATH).unwrap());
        let number = watched.watch;
        let watched = place.watch.renew(Some(watched), &place.root, PATH, &seen, read).unwrap();
        assert!(watched.watch == number && place.vouches(&watched));
    }

    #[test]
    fn a_change_is_watched_anew_when_its_second_is_over() {
        let mut place = Fixture::new();
        let watched = place.begin().unwrap();
        place.scratch.file("a/b/file", "two");
        let (read, seen) = (place.later(), place.root.meta(PATH).unwrap());
        let watched = place.watch.renew(Some(watched), &place.root, PATH, &seen, read).unwrap();
        assert!(!place.vouches(&watched), "at once it is only asked for by itself");
        place.now += FRESH;
        let read = place.later();
        let watched = place.watch.renew(Some(watched), &place.root, PATH, &seen, read).unwrap();
        assert!(place.vouches(&watched));
        assert_eq!(place.watch.files.len(), 1);
        place.watch.forget(&watched);
        assert!(place.watch.files.is_empty() && place.vouches(&watched), "that it is forgotten is no inotify");
    }

    #[test]
    fn a_way_through_a_link_and_a_file_with_two_ways_are_not_watched() {
        let mut place = Fixture::new();
        place.scratch.link("a", "link");
        place.scratch.link("a/b/file", "name");
        let (read, seen) = (place.later(), place.root.meta(PATH).unwrap());
        for path in [&b"link/b/file"[..], b"name"] {
            assert!(place.watch.renew(None, &place.root, path, &seen, read).is_none());
        }
        let first = place.begin();
        assert!(first.is_some() && place.begin().is_none());
    }
}
