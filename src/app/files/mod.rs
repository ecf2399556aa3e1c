//! A site of files: from a request path to bytes that may be sent.

pub mod cache;
pub mod cache_control;
pub mod content;
pub mod delete;
mod links;
pub mod listing;
pub mod lock;
pub mod lookup;
pub mod mime;
pub mod precompressed;
pub mod upload;
pub mod variant;
mod watch;
pub mod writable;

use crate::http::escape;
use crate::http::request::Request;
use std::borrow::Cow;

/// The request's path below `prefix`, decoded, as the resolver takes it: no slash in front, and several in
/// a row are one. `None` where a segment holds an encoded slash: no file's name does.
pub fn path_below<'a>(request: &'a Request, prefix: &str) -> Option<Cow<'a, [u8]>> {
    if request.target.plain {
        return request.path().strip_prefix(prefix.as_bytes()).map(Cow::Borrowed);
    }
    let encoded = request.path().strip_prefix(prefix.as_bytes())?;
    if encoded.windows(3).any(|three| three == b"%2F") {
        return None;
    }
    let path = escape::decode(encoded).ok()?;
    if !path.starts_with(b"/") && !path.windows(2).any(|two| two == b"//") {
        return Some(path);
    }
    let mut merged = Vec::with_capacity(path.len());
    for &byte in path.iter() {
        if byte != b'/' || merged.last().is_some_and(|&last| last != b'/') {
            merged.push(byte);
        }
    }
    Some(Cow::Owned(merged))
}

/// A directory of one test's own, removed when the test ends, passed or failed.
#[cfg(test)]
pub(crate) mod scratch {
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU32, Ordering};

    pub struct Scratch(PathBuf);

    impl Scratch {
        /// `root/` to serve and `outside/secret.txt` which must never be reached from it.
        pub fn new() -> Scratch {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let dir = std::env::temp_dir().join(format!("dustdevil-test-{}-{n}", std::process::id()));
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir_all(dir.join("root")).unwrap();
            std::fs::create_dir(dir.join("outside")).unwrap();
            std::fs::write(dir.join("outside/secret.txt"), "secret").unwrap();
            Scratch(dir.canonicalize().unwrap())
        }
        pub fn root(&self) -> PathBuf {
            self.0.join("root")
        }
        pub fn outside(&self) -> PathBuf {
            self.0.join("outside")
        }
        /// Writes `root/path`, its directories first.
        pub fn file(&self, path: impl AsRef<Path>, content: &str) {
            let path = self.root().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        /// Makes `root/path` a symbolic link that says `target`.
        pub fn link(&self, target: impl AsRef<Path>, path: impl AsRef<Path>) {
            std::os::unix::fs::symlink(target, self.root().join(path)).unwrap();
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
