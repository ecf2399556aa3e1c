//! The tools of every black-box test: the real binary on a port of its own, a client that sends and reads bytes, and a
//! temporary folder. Every wait ends: after `PATIENCE` the test fails.

#![allow(dead_code, unused_imports, unused_macros)] // each test file is a crate and uses its own part of this

mod client;
pub mod place;
pub mod python;
pub mod refused;
mod server;
pub mod upstream;

pub use client::{Client, Framing, Response, SECOND, ask, exchange, get};
pub use server::{Outcome, Server, Setup, eventually, free_port, run, store_server};

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longer than any wait takes on a machine with a load of 16, so that only a server that hangs reaches it. Shorter than
/// the server's own timeouts of one minute, so that no timeout hides a server that hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A file that has not changed for this long is old enough for the server's cache.
pub const SETTLED: Duration = Duration::from_millis(3200);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Engine {
    Event,
    Threads,
    Pool,
    Iterative,
}

impl Engine {
    pub fn name(self) -> &'static str {
        match self {
            Engine::Event => "event",
            Engine::Threads => "threads",
            Engine::Pool => "pool",
            Engine::Iterative => "iterative",
        }
    }

    /// The flag for the threads of the pool. Other engines refuse it, and get none.
    pub fn pool_size(self, size: usize) -> Option<String> {
        (self == Engine::Pool).then(|| format!("--pool-size={size}"))
    }
}

/// Makes each function a module with one test per engine. If an engine cannot pass the test by its nature, the function
/// names the engine and the reason:
///
/// ```ignore
/// on_every_engine! {
///     #[skip(Iterative, "serves one client at a time")]
///     fn two_clients_at_once(engine: Engine) { ... }
/// }
/// ```
macro_rules! on_every_engine {
    ($(
        $(#[doc = $doc:literal])*
        $(#[skip($skipped:ident, $reason:literal)])*
        fn $name:ident($engine:ident: Engine) $body:block
    )+) => {$(
        $(#[doc = $doc])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            const SKIPPED: &[(crate::common::Engine, &str)] = &[$((crate::common::Engine::$skipped, $reason)),*];

            fn check($engine: crate::common::Engine) $body

            // The one list of engines.
            #[test]
            fn event() { crate::common::run_on(crate::common::Engine::Event, SKIPPED, check) }
            #[test]
            fn threads() { crate::common::run_on(crate::common::Engine::Threads, SKIPPED, check) }
            #[test]
            fn pool() { crate::common::run_on(crate::common::Engine::Pool, SKIPPED, check) }
            #[test]
            fn iterative() { crate::common::run_on(crate::common::Engine::Iterative, SKIPPED, check) }
        }
    )+};
}
pub(crate) use on_every_engine;

pub fn run_on(engine: Engine, skipped: &[(Engine, &str)], check: fn(Engine)) {
    match skipped.iter().find(|(skipped, _)| *skipped == engine) {
        Some((_, reason)) => eprintln!("skipped on {}: {reason}", engine.name()),
        None => check(engine),
    }
}

/// A new folder in the system's temporary folder. It is removed with its content in Drop.
pub struct TempDir {
    path: PathBuf,
}

impl TempDir {
    pub fn new() -> TempDir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
        let name = format!("dustdevil-test-{}-{count}-{nanos:09}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // Tests compare this path with paths from /proc and from the server, which are canonical.
        TempDir { path: path.canonicalize().unwrap() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// The path as an argument for the command line.
    pub fn arg(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Writes a file, creates the folders above it, and returns its path.
    pub fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// Sets a file's modification time.
    pub fn set_modified(&self, name: impl AsRef<Path>, time: SystemTime) {
        fs::File::options().write(true).open(self.path.join(name)).unwrap().set_modified(time).unwrap();
    }

    /// Makes a file of zeros that takes no room on the disk.
    pub fn write_sparse(&self, name: &str, length: u64) -> PathBuf {
        let path = self.path.join(name);
        fs::File::create(&path).unwrap().set_len(length).unwrap();
        path
    }

    /// The relative paths of all entries below the folder, sorted. Hidden and temporary files are included.
    pub fn entries(&self) -> Vec<PathBuf> {
        fn walk(top: &Path, folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                found.push(path.strip_prefix(top).unwrap().to_owned());
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    walk(top, &path, found);
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.path, &self.path, &mut found);
        found.sort();
        found
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Compresses bytes into one gzip member.
pub fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// Decodes exactly one gzip member; bytes behind it are an error.
pub fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut decoder = flate2::bufread::GzDecoder::new(bytes);
    let mut plain = Vec::new();
    decoder.read_to_end(&mut plain).expect("valid gzip");
    assert!(decoder.into_inner().is_empty(), "bytes behind the gzip member");
    plain
}

/// Pseudo-random bytes (xorshift64), the same in every run. They do not compress.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The bytes as text for the message of a failed test.
pub fn shown(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(400)];
    let more = if cut.len() < bytes.len() { format!("... ({} bytes)", bytes.len()) } else { String::new() };
    format!("\"{}\"{more}", cut.escape_ascii())
}
