//! Follows the path of a directory that is served. If the directory is replaced (`rm -rf dist; mkdir dist`), or a
//! symbolic link on the way is switched to another release, the next request sees the new directory.
//!
//! Its one rule: **one request sees one root.** A request calls `at` once, and looks up everything below the root that
//! it returns.
//!
//! Every name on the way is watched in its directory, those on the way of a symbolic link too (inotify(7)). While none
//! of them changes, the file system is not asked. If a directory cannot be watched (no right to read it, a file system
//! that other machines write to), or there is no inotify, one stat asks for all requests that have been read by then.
//! inotify does not report that something is mounted over a name: hence `FRESH`.

use crate::app::files::inotify::{self, Inotify, Name};
use crate::app::files::lookup::{Root, Symlinks};
use crate::config::site::EtagRule;
use crate::sync;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long the path is trusted while no event comes.
const FRESH: Duration = Duration::from_secs(1);
/// MAXSYMLINKS of Linux.
const LINKS: usize = 40;

/// The rules by which a root is served.
#[derive(Clone, Copy, Debug, Default)]
pub struct RootRules {
    pub symlinks: Symlinks,
    pub hidden: bool,
    pub etag: EtagRule,
}

#[derive(Debug)]
pub struct RootPath {
    path: PathBuf,
    rules: RootRules,
    inotify: Option<Arc<Inotify>>,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// `None` while the path leads to no directory.
    root: Option<Arc<Root>>,
    /// `checked`: the root was known to be right at some time after this moment. `asked`: the same, for the last
    /// question to the file system.
    checked: Option<Instant>,
    asked: Option<Instant>,
    /// The count of changes on the way to the root, when `watch_way` was last called.
    changes: u64,
    /// Whether every name on the way is watched.
    is_watched: bool,
}

impl RootPath {
    /// Opens the directory at `path`, and begins to follow its path.
    ///
    /// # Errors
    /// It does not exist, is no directory, or may not be opened.
    pub fn open(path: &Path, rules: RootRules) -> io::Result<RootPath> {
        // An absolute path, because the current directory may be replaced too. If the current directory has no path
        // that leads to it, the relative path stays.
        let absolute = std::path::absolute(path).ok().filter(|path| path.is_dir());
        let path = absolute.unwrap_or_else(|| path.to_owned());
        let inotify = Inotify::new().map(Arc::new);
        let is_watched = inotify.as_ref().is_some_and(|inotify| watch_way(inotify, &path));
        let root = Some(Arc::new(open(&path, rules)?));
        let known = Known { root, checked: None, asked: None, changes: 0, is_watched };
        Ok(RootPath { path, rules, inotify, known: Mutex::new(known) })
    }

    /// The directory that the path leads to for a request that was read before `read`; `None` while it leads to none.
    pub fn at(&self, read: Instant) -> Option<Arc<Root>> {
        let mut known = sync::lock(&self.known);
        if known.checked.is_none_or(|checked| checked < read) {
            let changes = self.inotify.as_ref().map_or(0, |inotify| inotify.changes_of_names(read));
            if changes != known.changes {
                known.changes = changes;
                // Watched before the directory is opened, so that every later change is an event.
                known.is_watched = self.inotify.as_ref().is_some_and(|inotify| watch_way(inotify, &self.path));
                self.look(&mut known, true, read);
            } else if !known.is_watched || known.asked.is_none_or(|asked| asked + FRESH <= read) {
                self.look(&mut known, false, read);
            }
            known.checked = Some(read);
        }
        known.root.clone()
    }

    /// The directory that was found last, without asking again.
    pub fn known(&self) -> Option<Arc<Root>> {
        sync::lock(&self.known).root.clone()
    }

    /// The instance that reports changes. Only if `is_watched`, changes on the way to the root are certain to be among
    /// them.
    pub fn inotify(&self) -> Option<Arc<Inotify>> {
        self.inotify.clone()
    }

    /// Whether every change on the way to the root is reported.
    pub fn is_watched(&self) -> bool {
        sync::lock(&self.known).is_watched
    }

    /// Asks the file system. `is_changed`: a name on the way has changed, so even the same directory may have another
    /// real path.
    fn look(&self, known: &mut Known, is_changed: bool, read: Instant) {
        known.asked = Some(read);
        if !is_changed && known.root.as_ref().is_some_and(|root| root.is_at(&self.path)) {
            return;
        }
        let path = self.path.display();
        match (open(&self.path, self.rules), &known.root) {
            (Ok(root), Some(before)) if root.is_same(before) => {}
            (Ok(root), before) => {
                match before {
                    Some(_) => log::info!("{path} leads to another directory now, which is served from here on"),
                    None => log::info!("{path} is there again and is served"),
                }
                known.root = Some(Arc::new(root));
            }
            // The directory may still be there: no descriptor or memory is left to open it with.
            (Err(error), Some(_)) if is_shortage(&error) => known.asked = None,
            (Err(error), Some(_)) => {
                log::warn!(
                    "{path} cannot be opened any more: {error}; requests get 503 until a directory is there again"
                );
                known.root = None;
            }
            (Err(_), None) => {}
        }
    }
}

/// Whether an error says nothing about the file that was to be opened.
fn is_shortage(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}

fn open(path: &Path, rules: RootRules) -> io::Result<Root> {
    Ok(Root::open(path, rules.symlinks, rules.hidden)?.with_etag(rules.etag))
}

/// Watches every name on the way of `path`, through all links, as far as it leads. Returns whether every change on the
/// way will be reported.
fn watch_way(inotify: &Inotify, path: &Path) -> bool {
    let mut names = Vec::new();
    let is_whole = watch_names(inotify, path, &mut names).is_some();
    inotify.follow(names);
    is_whole
}

fn watch_names(inotify: &Inotify, path: &Path, names: &mut Vec<Name>) -> Option<()> {
    let mut at = PathBuf::from("/");
    let mut rest: VecDeque<OsString> = VecDeque::new();
    prepend(&mut rest, path);
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&at, flags, Mode::empty()).ok()?;
        if !inotify::reports_names(&directory) {
            return None;
        }
        names.push((inotify.watch_names(&directory)?, name.clone().into_vec()));
        match at.join(&name).read_link() {
            Ok(target) => {
                links += 1;
                if links > LINKS {
                    return None;
                }
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                prepend(&mut rest, &target);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(()),
            // Not a link.
            Err(_) => at.push(name),
        }
    }
    Some(())
}

/// Puts the names of `path` before those in `rest`.
fn prepend(rest: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => rest.push_front(name.to_owned()),
            Component::ParentDir => rest.push_front("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::files::scratch::Scratch;
    use std::fs;
    use std::os::unix::fs::symlink;

    const RULES: RootRules = RootRules { symlinks: Symlinks::Inside, hidden: false, etag: EtagRule::Inode };

    struct Place {
        scratch: Scratch,
        path: RootPath,
        now: Instant,
    }

    impl Place {
        /// `root/way/to` is a link to `root/releases/1`; on the way is a link to `releases`.
        fn new(inotify: bool) -> Place {
            let scratch = Scratch::new();
            scratch.file("releases/1/name", "1");
            scratch.file("releases/2/name", "2");
            scratch.file("way/beside", "");
            scratch.link("releases", "current");
            scratch.link("../current/1", "way/to");
            let mut path = RootPath::open(&scratch.root().join("way/to"), RULES).unwrap();
            path.inotify = path.inotify.filter(|_| inotify);
            sync::lock(&path.known).is_watched &= inotify;
            Place { scratch, path, now: Instant::now() }
        }

        fn at(&mut self) -> Option<Arc<Root>> {
            self.now += Duration::from_millis(1);
            self.path.at(self.now)
        }

        fn reads(&mut self, content: Option<&str>) {
            let found = self.at().map(|root| match root.find(b"name") {
                Ok(crate::app::files::lookup::Located::File { file, .. }) => io::read_to_string(file).unwrap(),
                other => panic!("{other:?}"),
            });
            assert_eq!(found.as_deref(), content);
        }

        /// When the file system was last asked: a new moment each time.
        fn asked(&self) -> Option<Instant> {
            sync::lock(&self.path.known).asked
        }
    }

    #[test]
    fn every_change_of_the_way_shows_at_once() {
        for inotify in [true, false] {
            let mut place = Place::new(inotify);
            let root = place.scratch.root();
            let switch = |target: &str, link: &str| {
                symlink(target, root.join("new")).unwrap();
                fs::rename(root.join("new"), root.join(link)).unwrap();
            };
            place.reads(Some("1"));
            switch("../current/2", "way/to");
            place.reads(Some("2"));
            // A link on the way of the other link.
            fs::create_dir_all(root.join("others/2")).unwrap();
            fs::write(root.join("others/2/name"), "others").unwrap();
            switch("others", "current");
            place.reads(Some("others"));
            // The directory itself, removed and made again; then one above it, moved away and back.
            fs::remove_dir_all(root.join("others/2")).unwrap();
            place.reads(None);
            place.scratch.file("others/2/name", "anew");
            place.reads(Some("anew"));
            fs::rename(root.join("others"), root.join("away")).unwrap();
            place.reads(None);
            place.scratch.file("others/2/name", "replaced");
            place.reads(Some("replaced"));
            fs::rename(root.join("way"), root.join("no way")).unwrap();
            place.reads(None);
            fs::rename(root.join("no way"), root.join("way")).unwrap();
            place.reads(Some("replaced"));
        }
    }

    #[test]
    fn while_nothing_happens_nothing_is_asked_for_a_second() {
        let mut place = Place::new(true);
        let (first, asked) = (place.at().unwrap(), place.asked());
        fs::write(place.scratch.root().join("way/new"), "").unwrap();
        fs::remove_file(place.scratch.root().join("way/beside")).unwrap();
        fs::write(place.scratch.root().join("releases/new"), "").unwrap();
        assert!(Arc::ptr_eq(&first, &place.at().unwrap()) && place.asked() == asked, "of other names");
        place.now += FRESH;
        assert!(Arc::ptr_eq(&first, &place.at().unwrap()) && place.asked() != asked, "once in a second");
        let mut place = Place::new(false);
        place.at();
        let asked = place.asked();
        assert!(place.path.at(place.now).is_some() && place.asked() == asked, "for all that was read by then");
        place.at();
        assert_ne!(place.asked(), asked, "nothing tells of a change");
    }

    #[test]
    fn a_name_that_comes_to_the_same_directory_keeps_it() {
        let mut place = Place::new(true);
        let first = place.at().unwrap();
        symlink("../releases/1", place.scratch.root().join("new")).unwrap();
        fs::rename(place.scratch.root().join("new"), place.scratch.root().join("way/to")).unwrap();
        assert!(Arc::ptr_eq(&first, &place.at().unwrap()), "what is kept of it stays");
    }
}
