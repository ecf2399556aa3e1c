//! What holds for the whole server: its limits and timeouts, how it waits, where it listens, and where its logs go.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

/// The limits on what all clients together, or one of them, may use. `default()` holds the defaults of the flags. The
/// limit of a request's content is a rule of its route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request head: line and fields.
    pub header_size: usize,
    /// Header fields of a request.
    pub fields: usize,
    /// Bytes of a request target.
    pub target: usize,
    /// Connections open at once.
    pub connections: usize,
    /// Bytes of memory for files served lately; 0 keeps none.
    pub cache: usize,
    /// Bytes in temporary files, of all clients together.
    pub spool: u64,
}

/// How long the server waits for a client. Only `grace` may be zero, and no timeout is longer than a year.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a whole request head to arrive, from its first byte.
    pub header: Duration,
    /// For the next request of an idle connection.
    pub keep_alive: Duration,
    /// For progress of a request's content.
    pub body: Duration,
    /// For progress of a response.
    pub write: Duration,
    /// For requests in flight, once the server is told to end.
    pub grace: Duration,
}

/// How the server waits for connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Event,
    Threads,
    Pool,
    Iterative,
}

/// Where the lines of the access log go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    Stdout,
    Off,
    File(PathBuf),
}

/// How much the server says about itself on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// No banner, errors only.
    Quiet,
    /// The banner, and what an operator should know.
    Normal,
    /// Also why a request was refused or a connection closed.
    Debug,
    /// Also every step.
    Trace,
}

impl Verbosity {
    /// The least important level that is still shown.
    pub fn level(self) -> log::LevelFilter {
        match self {
            Verbosity::Quiet => log::LevelFilter::Error,
            Verbosity::Normal => log::LevelFilter::Info,
            Verbosity::Debug => log::LevelFilter::Debug,
            Verbosity::Trace => log::LevelFilter::Trace,
        }
    }
}

/// `-`, `off` or a path.
pub(super) fn access_log(text: &OsStr) -> Result<LogTarget, &'static str> {
    match text.to_str() {
        Some("") => Err("the path is empty; write a path, - for standard output, or off"),
        Some("-") => Ok(LogTarget::Stdout),
        Some("off") => Ok(LogTarget::Off),
        _ => Ok(LogTarget::File(PathBuf::from(text))),
    }
}
