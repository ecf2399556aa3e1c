//! What holds for the whole server: its limits and timeouts, how it waits, where it listens, and where its logs go.

use std::ffi::OsStr;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
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

/// An address to listen on, with or without its own port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind {
    address: SocketAddr,
    has_port: bool,
}

/// Where the lines of the access log go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
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

impl Bind {
    /// The address to listen on; `port` is used if it has none itself.
    pub fn address(&self, port: u16) -> SocketAddr {
        let mut address = self.address;
        if !self.has_port {
            address.set_port(port);
        }
        address
    }

    pub fn has_port(&self) -> bool {
        self.has_port
    }
}

impl From<IpAddr> for Bind {
    fn from(ip: IpAddr) -> Bind {
        Bind { address: SocketAddr::new(ip, 0), has_port: false }
    }
}

impl FromStr for Bind {
    type Err = String;

    /// Takes `127.0.0.1`, `127.0.0.1:80`, `::1`, `[::1]` and `[::1]:80`, and a zone as in `fe80::1%2`.
    fn from_str(text: &str) -> Result<Bind, String> {
        if let Ok(address) = text.parse() {
            return Ok(Bind { address, has_port: true });
        }
        // `IpAddr` parses neither brackets nor a zone. `SocketAddr` parses both, so a port is added here.
        [format!("{text}:0"), format!("[{text}]:0")]
            .iter()
            .find_map(|lent| lent.parse().ok())
            .map(|address| Bind { address, has_port: false })
            .ok_or_else(|| {
                "not an IP address, with or without a port; write 127.0.0.1, 0.0.0.0:8080, ::1 or [::1]:8080 (names \
                 such as localhost are not looked up, and a port alone goes to --port)"
                    .into()
            })
    }
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
pub(super) fn access_log(text: &OsStr) -> Result<AccessLog, &'static str> {
    match text.to_str() {
        Some("") => Err("the path is empty; write a path, - for standard output, or off"),
        Some("-") => Ok(AccessLog::Stdout),
        Some("off") => Ok(AccessLog::Off),
        _ => Ok(AccessLog::File(PathBuf::from(text))),
    }
}
