//! The disk: from a path below a root to bytes that can be sent, and changes of files.

pub mod cache;
pub mod cache_control;
pub mod content;
pub mod delete;
mod discarded;
pub mod file_system;
pub mod inotify;
pub mod journal;
pub mod listing;
pub mod lock;
pub mod lookup;
pub mod mime;
pub mod precompressed;
pub mod root_path;
pub mod sent_dates;
mod staging;
pub mod state;
mod sweep;
mod symlinks;
pub mod tags;
pub mod upload;
pub mod variant;
mod watch;
pub mod writable;

/// A directory for one test. It is removed when the test ends, even if it fails.
#[cfg(test)]
pub(crate) mod scratch {
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU32, Ordering};

    pub struct Scratch(PathBuf);

    impl Scratch {
        /// `root/` to serve, and `outside/secret.txt`, which a request must never reach.
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
        /// Writes `root/path`, and makes its directories.
        pub fn file(&self, path: impl AsRef<Path>, content: &str) {
            let path = self.root().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        /// Makes `root/path` a symbolic link to `target`.
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
