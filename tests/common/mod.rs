//! What every black-box test uses: the real binary on a port of its own, a client that sees bytes, and a temporary
//! folder. Every wait here ends: after `PATIENCE` the test fails.

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

/// Longer than anything here takes on a machine with a load of 16: reached only by a server that hangs. Shorter than
/// the server's own timeouts of a minute, so that none of these ends what hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Longer than a file has to be left alone before the server keeps its content in memory.
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
}

/// Makes each function a module with one test per engine. What an engine cannot do by its nature is said above the
/// function, with the reason:
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

/// A folder of its own under the system's temporary folder, removed with all it holds in Drop.
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
        // A test compares what /proc and the server say with its own idea of the path.
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

    /// Writes a file, with the folders above it, and says where it is.
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

    /// A file of zeros that takes no room on the disk.
    pub fn write_sparse(&self, name: &str, length: u64) -> PathBuf {
        let path = self.path.join(name);
        fs::File::create(&path).unwrap().set_len(length).unwrap();
        path
    }

    /// Every entry below, relative, sorted: what is there, hidden and temporary files included.
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

/// One gzip member.
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

/// Bytes that neither compress nor repeat soon, the same at every run (xorshift64).
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

/// Bytes as a person can read them in a failure.
pub fn shown(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(400)];
    let more = if cut.len() < bytes.len() { format!("... ({} bytes)", bytes.len()) } else { String::new() };
    format!("\"{}\"{more}", cut.escape_ascii())
}
