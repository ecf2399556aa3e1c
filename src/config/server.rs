//! Settings for the whole server: limits, timeouts, the engine and the logs.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

/// The limits for one request, or for all clients together. `default()` returns the defaults of the flags. The limit of
/// a request's content is a rule of its route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of a request head: line and fields.
    pub header_size: usize,
    /// Most header fields in a request.
    pub fields: usize,
    /// Most bytes of a request target.
    pub target: usize,
    /// Most connections open at once.
    pub connections: usize,
    /// Most bytes of memory for recently served files. 0 keeps none.
    pub cache: usize,
    /// Most bytes in temporary files, for all clients together.
    pub spool: u64,
}

/// How long the server waits for a client. Only `grace` may be zero, and no timeout is longer than a year.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a whole request head has arrived, from its first byte.
    pub header: Duration,
    /// Until the next request on an idle connection.
    pub keep_alive: Duration,
    /// Until the next byte of a request's content.
    pub body: Duration,
    /// Until the client takes the next byte of a response.
    pub write: Duration,
    /// Until current requests are cut, after SIGINT or SIGTERM.
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

/// How much the server logs on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// No banner, only errors.
    Quiet,
    /// The banner, errors, warnings, and messages for the operator.
    Normal,
    /// Also why a request is refused or a connection is closed.
    Debug,
    /// Also every step.
    Trace,
}

impl Verbosity {
    /// The least important level that is still logged.
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
