//! Resolves the symbolic links of a path by name, as realpath(3) does, and records which links were read.
//!
//! The resolver makes every decision. A resolved name may be out of date as soon as it is known, so it is only ever
//! opened beneath the root and through no link. The record of links makes broken links certain: if a target is missing
//! and all links still have the same content, it is really missing, and not replaced by an atomic switch of a link.

use rustix::fs::{CWD, readlinkat};
use rustix::io::Errno;
use std::ffi::CString;

/// MAXSYMLINKS of Linux.
const MOST: usize = 40;

/// The links that were read while a path was resolved, each with its target.
#[derive(Debug, Default)]
pub(super) struct ReadLinks(Vec<(Vec<u8>, CString)>);

impl ReadLinks {
    /// The path without links that `path` below `root` leads to; `root` has no link in it.
    ///
    /// # Errors
    /// What the kernel returns for this path: NOENT, NOTDIR, LOOP, ACCESS, ...
    pub fn resolve(&mut self, root: &[u8], path: &[u8]) -> Result<Vec<u8>, Errno> {
        let root = root.strip_suffix(b"/").unwrap_or(root);
        let mut at = root.to_vec();
        // The segments that are still to resolve, the next one last.
        let mut rest = Vec::new();
        add_segments(path, &mut rest);
        // The links whose targets are being resolved: each as its index in `self.0`, and the number of segments behind
        // it.
        let mut followed: Vec<(usize, usize)> = Vec::new();
        while let Some(segment) = rest.pop() {
            while followed.pop_if(|(_, after)| *after > rest.len()).is_some() {}
            let parent = at.len();
            at.push(b'/');
            at.extend_from_slice(&segment);
            match read_link(&at) {
                Ok(_) if self.0.len() == MOST => return Err(Errno::LOOP),
                // A loop is found early: forty rounds are much work for a link that leads nowhere.
                Ok(_) if followed.iter().any(|(link, _)| self.0[*link].0 == at) => return Err(Errno::LOOP),
                Ok(target) => {
                    let link = at.clone();
                    followed.push((self.0.len(), rest.len()));
                    let bytes = target.as_bytes();
                    at.truncate(if bytes.starts_with(b"/") { 0 } else { parent });
                    // Most absolute links lead into the root. Then the root's own path, which has no link, is not
                    // resolved again.
                    let below = bytes.strip_prefix(root).filter(|below| below.starts_with(b"/"));
                    if below.is_some() {
                        at.extend_from_slice(root);
                    }
                    add_segments(below.unwrap_or(bytes), &mut rest);
                    self.0.push((link, target));
                }
                // EINVAL: not a link. For `file/..` and `file/.` the kernel has already returned NOTDIR.
                Err(Errno::INVAL) if segment == b"." => at.truncate(parent),
                Err(Errno::INVAL) if segment == b".." => {
                    at.truncate(parent);
                    at.truncate(at.iter().rposition(|&byte| byte == b'/').unwrap_or(0));
                }
                Err(Errno::INVAL) => {}
                Err(errno) => return Err(errno),
            }
        }
        if at.is_empty() {
            at.push(b'/');
        }
        Ok(at)
    }

    /// Whether every link still has the target that was read.
    pub fn are_unchanged(&self) -> bool {
        self.0.iter().all(|(link, target)| read_link(link).as_ref() == Ok(target))
    }
}

/// Puts the segments of `path` before those in `rest`. A final slash asks for a directory, as `/.` does.
fn add_segments(path: &[u8], rest: &mut Vec<Vec<u8>>) {
    let last: &[u8] = if path.ends_with(b"/") { b"." } else { b"" };
    let segments = path.split(|&byte| byte == b'/').chain([last]).filter(|segment| !segment.is_empty());
    let at = rest.len();
    rest.extend(segments.map(<[u8]>::to_vec));
    rest[at..].reverse();
}

fn read_link(path: &[u8]) -> Result<CString, Errno> {
    #[cfg(test)]
    tests::READS.with(|reads| reads.set(reads.get() + 1));
    readlinkat(CWD, path, Vec::new())
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::scratch::Scratch;
    use super::*;
    use std::cell::Cell;
    use std::os::unix::ffi::OsStrExt;

    thread_local! {
        /// How many links this thread has read, or tried to.
        pub static READS: Cell<usize> = const { Cell::new(0) };
    }

    fn resolve(dir: &Scratch, path: &str) -> Result<Vec<u8>, Errno> {
        ReadLinks::default().resolve(dir.root().as_os_str().as_bytes(), path.as_bytes())
    }

    #[test]
    fn a_path_leads_where_realpath_says() {
        let dir = Scratch::new();
        dir.file("a/b/file", "");
        dir.file("top", "");
        dir.link("a/b", "relative");
        dir.link(dir.root().join("a"), "absolute");
        dir.link(dir.outside().join("..//root/./absolute/b/"), "around");
        dir.link("../../../outside", "a/b/out");
        dir.link("/", "machine");
        dir.link("..", "up");
        for link in ["file/..", "file/.", "file/", "file/x", "nothing", "nothing/..", "b/../file"] {
            dir.link(link, format!("a/b/to {}", link.replace('/', "|")));
        }
        dir.link("loop", "loop");
        dir.link("a/b/../b/./loop", "a/b/loop");
        dir.link(".", "here");
        dir.link("here/here/top", "twice");
        for path in [
            "",
            "top",
            "a",
            "a/b/file",
            "relative/file",
            "absolute/b/file",
            "around/file",
            "a/b/out/secret.txt",
            "machine",
            "up/root/top",
            "machine/tmp",
            "a/b/to file|..",
            "a/b/to file|.",
            "a/b/to file|",
            "a/b/to file|x",
            "a/b/to nothing",
            "a/b/to nothing|..",
            "a/b/to b|..|file",
            "nothing",
            "top/x",
            "relative/nothing",
            "loop",
            "a/b/loop/x",
            "here/here/twice",
            "here/twice",
            "around/../b",
            "up/up/up/up/up/up/up/up/up/up",
        ] {
            let real = dir.root().join(path).canonicalize();
            let real =
                real.map(|path| path.as_os_str().as_bytes().to_vec()).map_err(|e| Errno::from_io_error(&e).unwrap());
            assert_eq!(resolve(&dir, path), real, "{path}");
        }
    }

    #[test]
    fn the_root_of_the_machine_can_be_the_root() {
        for path in ["", "tmp", "proc/..", "proc/self/../.."] {
            let real = std::path::Path::new("/").join(path).canonicalize().unwrap();
            assert_eq!(
                ReadLinks::default().resolve(b"/", path.as_bytes()).unwrap(),
                real.as_os_str().as_bytes(),
                "{path}"
            );
        }
    }

    #[test]
    fn a_switch_of_any_link_on_the_way_is_seen() {
        let dir = Scratch::new();
        dir.link("b", "a");
        dir.link("nothing", "b");
        let mut links = ReadLinks::default();
        assert_eq!(links.resolve(dir.root().as_os_str().as_bytes(), b"a"), Err(Errno::NOENT));
        assert!(links.are_unchanged());
        dir.link("something", "next");
        std::fs::rename(dir.root().join("next"), dir.root().join("b")).unwrap();
        assert!(!links.are_unchanged());
    }
}
