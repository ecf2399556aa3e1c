//! The command line and the environment, turned into one `Config` of plain data.
//!
//! A flag is declared once: its field carries the name, the default, the parser and the help. `DUSTDEVIL_<FLAG>`
//! follows from the name (`environment`). A `Config` holds parsed values, which are not checked again. Only directories
//! can change: `check` looks at those once, at start. Opening, binding and logging are left to others.

mod args;
pub mod glob;
pub mod proxy;
pub mod responses;
pub mod site;
mod threads;
mod values;
pub mod wsgi;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::config::args::{Args, current_site, debug_prefix};
use crate::config::proxy::ProxyRules;
use crate::config::responses::ResponseRules;
use crate::config::site::SiteRules;
use crate::config::values::{body_size, cache_size, count, defaults, memory_size, path, timeout};
use crate::config::wsgi::WsgiRules;
use crate::start_error::StartError;
use crate::units;

/// Everything that the user decides.
#[derive(Clone, Debug)]
pub struct Config {
    /// The site at `/`. Absent only when `directory` or `proxy` says what to serve.
    pub root: Option<PathBuf>,
    /// The store behind `/files/`.
    pub directory: Option<PathBuf>,
    /// Whether a directory without an index file is listed.
    pub listing: bool,
    /// Whether DELETE removes files of the store.
    pub delete: bool,
    pub site: SiteRules,
    pub responses: ResponseRules,
    /// Whether /echo and /user-agent answer.
    pub endpoints: bool,
    /// The prefix of the debug endpoints; None when they are off.
    pub debug_prefix: Option<String>,
    /// Whether TRACE is answered.
    pub trace_method: bool,
    /// Where to listen; empty means loopback, IPv4 and IPv6.
    pub binds: Vec<Bind>,
    /// The port for every address without one; 0 lets the system pick.
    pub port: u16,
    pub engine: Engine,
    /// The threads of `--engine pool`.
    pub pool_size: usize,
    pub limits: Limits,
    /// Of the numbers above, those that the user chose.
    pub chosen: Chosen,
    pub timeouts: Timeouts,
    pub proxy: ProxyRules,
    pub wsgi: WsgiRules,
    pub access_log: AccessLog,
    pub verbosity: Verbosity,
}

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

impl Config {
    /// Reads a command line, its first word the program's name, and the environment below it.
    ///
    /// # Errors
    /// A usage error (exit code 2), or the text of --help or --version (exit code 0): `clap::Error::exit` handles both.
    pub fn from_args<I>(args: I) -> Result<Config, clap::Error>
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        Config::resolve(args, |name| env::var_os(name), env::current_dir)
    }

    /// Checks that the directories to serve exist. Call it before binding: a server without anything to serve must not
    /// accept clients.
    ///
    /// # Errors
    /// Exit code 1, not 2: the command line is well-formed, and the same one works once the directory is there.
    pub fn check(&self) -> Result<(), StartError> {
        let named = [("ROOT", &self.root), ("--directory", &self.directory)];
        for (name, path) in named {
            if let Some(path) = path {
                check_directory(name, path)?;
            }
        }
        for site in &self.wsgi.sites {
            check_directory("--static", &site.directory)?;
        }
        Ok(())
    }

    /// As `from_args`, with the environment and the current directory as arguments, so that tests can choose them.
    fn resolve<I>(
        args: I,
        variable: impl Fn(&str) -> Option<OsString>,
        current_dir: impl FnOnce() -> io::Result<PathBuf>,
    ) -> Result<Config, clap::Error>
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        let args = Args::read(args.into_iter().skip(1).map(Into::into), variable)?;
        args.check_together()?;
        args.check_proxy()?;
        args.check_wsgi()?;
        let root = match (args.root, &args.directory) {
            (None, None) if args.proxy.proxy.is_empty() && args.wsgi.apps.is_empty() && args.wsgi.sites.is_empty() => {
                Some(current_site(current_dir)?)
            }
            (root, _) => root,
        };
        let debug_prefix = debug_prefix(args.debug_endpoints, args.debug_prefix, !args.no_endpoints, &args.directory)?;
        Ok(Config {
            root,
            debug_prefix,
            trace_method: args.trace_method,
            directory: args.directory,
            listing: !args.no_listing,
            delete: args.allow_delete,
            site: args.site,
            responses: args.responses,
            endpoints: !args.no_endpoints,
            binds: args.bind,
            port: args.port,
            engine: args.engine,
            pool_size: args.pool_size,
            limits: args.limits,
            chosen: args.chosen,
            timeouts: args.timeouts,
            proxy: args.proxy,
            wsgi: args.wsgi,
            access_log: args.access_log,
            verbosity: match args.verbose {
                _ if args.quiet => Verbosity::Quiet,
                0 => Verbosity::Normal,
                1 => Verbosity::Debug,
                _ => Verbosity::Trace,
            },
        })
    }
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

fn check_directory(name: &str, path: &Path) -> Result<(), StartError> {
    let reason = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => format!("it is not a directory; give {name} the directory that holds it"),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => {
                format!("there is no such directory; create it or give {name} another")
            }
            io::ErrorKind::NotADirectory => {
                format!("a part of the path is not a directory; correct the path given for {name}")
            }
            io::ErrorKind::PermissionDenied => {
                format!("permission denied; run as a user who may enter it or give {name} another")
            }
            _ => format!("{error}; give {name} another directory"),
        },
    };
    Err(StartError::new(format!("cannot serve {path:?}: {reason}")))
}

#[cfg(test)]
mod tests;
