//! What holds for the whole server: its limits and timeouts, how it waits, where it listens, and where its logs go.

use crate::config::values::{body_size, cache_size, count, defaults, memory_size, timeout};
use crate::units;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Numbers that are somebody's decision and no default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    pub connections: bool,
    pub pool_size: bool,
}

/// The limits on what clients may ask for. `default()` holds the defaults of the flags.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Largest request head (line and fields)
    ///
    /// Beyond it the request is answered 431.
    // Twice what Apache and nginx take for a single line, so that large cookies pass. Node.js allows the same.
    #[arg(long = "max-header-size", value_name = "SIZE", default_value = "16K", value_parser = memory_size)]
    pub header_size: usize,

    /// Most header fields in a request
    ///
    /// Beyond it the request is answered 431.
    // A browser sends about 20, a chain of proxies a dozen more. Apache and hyper stop at 100 too.
    #[arg(long = "max-fields", value_name = "COUNT", default_value = "100", value_parser = count)]
    pub fields: usize,

    /// Longest request target (path and query)
    ///
    /// Beyond it the request is answered 414.
    // RFC 9112 section 3 asks for 8000 bytes at least.
    #[arg(long = "max-target-length", value_name = "SIZE", default_value = "8K", value_parser = memory_size)]
    pub target: usize,

    /// Largest request body; 0 means no limit
    ///
    /// Beyond it the request is answered 413. An upload goes to disk, not to memory, so this guards the disk.
    // `u64::MAX` means no limit.
    #[arg(long = "max-body-size", value_name = "SIZE", default_value = "1G", value_parser = body_size)]
    pub body_size: u64,

    /// Most connections open at once
    ///
    /// Beyond it an idle connection is closed for a new client; while none is idle, the client waits in the system's
    /// queue.
    // With the largest head in every buffer this is 160 MB, which a small machine still has.
    #[arg(long = "max-connections", value_name = "COUNT", default_value = "10000", value_parser = count)]
    pub connections: usize,

    /// Memory for files served lately; 0 keeps none
    ///
    /// Small files are kept whole, larger ones open, and both with their compressed form. They are checked against the
    /// disk once in a turn of the loop.
    // A thousand pages of the usual size with their compressed forms; less than one browser tab.
    #[arg(long = "cache-size", value_name = "SIZE", default_value = "64M", value_parser = cache_size)]
    pub cache: usize,

    /// Most bytes in temporary files, of all clients together
    ///
    /// What clients take slowly of upstreams' and applications' answers, and bodies that are gathered for them, go there when
    /// they are large. At the limit an answer waits for its client, and a request is answered 503. With 0 there are no such
    /// files. The files are in TMPDIR, which may be memory. One answer takes 1 GiB at most.
    // Four of the largest answers, or bodies of the largest size.
    #[arg(long = "spool-limit", value_name = "SIZE", default_value = "4G", value_parser = units::size)]
    pub spool: u64,
}

/// How long the server waits for a client. Only `grace` may be zero, and no timeout is longer than a year.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Timeouts")]
pub struct Timeouts {
    /// Time for a whole request head to arrive
    ///
    /// Counted from its first byte, however steadily the rest arrives. Beyond it the request is answered 408.
    // A head is one or two packets; 10 s covers several retransmissions on a bad line.
    #[arg(long = "header-timeout", value_name = "TIME", default_value = "10s", value_parser = timeout)]
    pub header: Duration,

    /// How long an idle connection is kept
    // If the server closes an idle connection, a request may be on its way already: the client should close first.
    // Balancers and proxies close after 60 s (AWS ALB, nginx's upstream pool); the server waits a little longer.
    #[arg(long = "keep-alive-timeout", value_name = "TIME", default_value = "75s", value_parser = timeout)]
    pub keep_alive: Duration,

    /// How long a request body may make no progress
    ///
    /// Any byte that arrives restarts the time. Beyond it the request is answered 408.
    // Half a minute outlasts a handover between mobile cells, the longest common silence of a live client.
    #[arg(long = "body-timeout", value_name = "TIME", default_value = "30s", value_parser = timeout)]
    pub body: Duration,

    /// How long a response may make no progress
    ///
    /// Any byte that the client takes restarts the time. Beyond it the connection is closed.
    // As for the body, in the other direction.
    #[arg(long = "write-timeout", value_name = "TIME", default_value = "30s", value_parser = timeout)]
    pub write: Duration,

    /// Time to finish requests in flight after SIGINT or SIGTERM
    ///
    /// A second signal ends the server at once, and so does a time of 0.
    // Docker kills 10 s after it has asked.
    #[arg(long = "grace-period", value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    pub grace: Duration,
}

/// How the server waits for connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// One thread and one event loop for all connections
    Event,
    /// A thread for each connection
    Threads,
    /// A fixed number of threads, each with one connection at a time
    Pool,
    /// One connection at a time
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

impl Default for Limits {
    fn default() -> Limits {
        defaults()
    }
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        defaults()
    }
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

pub(super) fn access_log() -> impl clap::builder::TypedValueParser<Value = AccessLog> {
    use clap::builder::{OsStringValueParser, TypedValueParser};
    OsStringValueParser::new().try_map(|text| match text.to_str() {
        Some("") => Err("the path is empty; write a path, - for standard output, or off"),
        Some("-") => Ok(AccessLog::Stdout),
        Some("off") => Ok(AccessLog::Off),
        _ => Ok(AccessLog::File(PathBuf::from(text))),
    })
}
