//! The command line and the environment, turned into one `Config` of plain data.
//!
//! A flag is declared once: its field carries the name, the default, the parser and the help. `DUSTDEVIL_<FLAG>`
//! follows from the name (`environment`). What is in a `Config` has been parsed, and nobody checks it again, except
//! that directories can change: `check` looks at those once, at start. Opening, binding and logging are left to others.

pub mod glob;
pub mod proxy;
pub mod responses;
pub mod site;
pub mod wsgi;

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgAction, Command, CommandFactory, FromArgMatches, Parser};

use crate::config::proxy::ProxyRules;
use crate::config::responses::{Origin, ResponseRules};
use crate::config::site::SiteRules;
use crate::config::wsgi::WsgiRules;
use crate::environment;
use crate::start_error::StartError;
use crate::units;

/// All that the user decides.
#[derive(Clone, Debug)]
pub struct Config {
    /// The site at `/`. Absent only when `directory` or `proxy` says what to serve.
    pub root: Option<PathBuf>,
    /// The store behind `/files/`.
    pub directory: Option<PathBuf>,
    /// Whether a directory without an index shows its names.
    pub listing: bool,
    /// Whether DELETE removes files of the store.
    pub delete: bool,
    pub site: SiteRules,
    pub responses: ResponseRules,
    /// Whether /echo and /user-agent answer.
    pub endpoints: bool,
    /// What the paths of the debug endpoints begin with; None when they are off.
    pub debug_prefix: Option<String>,
    /// Whether TRACE is answered.
    pub trace_method: bool,
    /// Where to listen; empty means loopback, IPv4 and IPv6.
    pub binds: Vec<Bind>,
    /// The port of every bind that names none; 0 lets the system pick.
    pub port: u16,
    pub engine: Engine,
    /// Workers of the pool.
    pub pool_size: usize,
    pub limits: Limits,
    pub timeouts: Timeouts,
    pub proxy: ProxyRules,
    pub wsgi: WsgiRules,
    pub access_log: AccessLog,
    pub verbosity: Verbosity,
}

/// What a client may ask of us at most. `default()` holds the defaults of the flags.
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
    // `u64::MAX` is no limit.
    #[arg(long = "max-body-size", value_name = "SIZE", default_value = "1G", value_parser = body_size)]
    pub body_size: u64,

    /// Most connections open at once
    ///
    /// Beyond it a client waits in the system's queue until another leaves.
    // With the largest head in every buffer this is 160 MB, which a small machine still has.
    #[arg(long = "max-connections", value_name = "COUNT", default_value = "10000", value_parser = count)]
    pub connections: usize,

    /// Memory for files served lately; 0 keeps none
    ///
    /// Small files are kept whole, larger ones open, and both with what gzip made of them. They are checked
    /// against the disk once a turn of the loop.
    // A thousand pages of the usual size with their compressed forms; less than one browser tab.
    #[arg(long = "cache-size", value_name = "SIZE", default_value = "64M", value_parser = cache_size)]
    pub cache: usize,
}

/// How long we wait for a client. None is zero but `grace`, and none is longer than a year.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Timeouts")]
pub struct Timeouts {
    /// Time for a whole request head to arrive
    ///
    /// Counted from its first byte, however steadily the rest drips in. Beyond it the request is answered 408.
    // A head is one or two packets; 10 s covers several retransmissions on a bad line.
    #[arg(long = "header-timeout", value_name = "TIME", default_value = "10s", value_parser = timeout)]
    pub header: Duration,

    /// How long an idle connection is kept
    // The closer of an idle connection can cross a request on the wire, so the client's side should be first. Balancers
    // and proxies let go after 60 s (AWS ALB, nginx's upstream pool): we wait a little longer than they do.
    #[arg(long = "keep-alive-timeout", value_name = "TIME", default_value = "75s", value_parser = timeout)]
    pub keep_alive: Duration,

    /// How long a request body may stand still
    ///
    /// Any byte that arrives starts it anew. Beyond it the request is answered 408.
    // Half a minute outlasts a handover between mobile cells, the longest common silence of a live client.
    #[arg(long = "body-timeout", value_name = "TIME", default_value = "30s", value_parser = timeout)]
    pub body: Duration,

    /// How long a response may stand still
    ///
    /// Any byte that the client takes starts it anew. Beyond it the connection is closed.
    // As for the body, in the other direction.
    #[arg(long = "write-timeout", value_name = "TIME", default_value = "30s", value_parser = timeout)]
    pub write: Duration,

    /// Time to finish what is in flight after SIGINT or SIGTERM
    ///
    /// A second signal ends the server at once, and so does a time of 0.
    // Docker kills 10 s after it has asked.
    #[arg(long = "grace-period", value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    pub grace: Duration,
}

/// How connections are waited for.
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
    /// A usage error (exit code 2), or the text of --help or --version (exit code 0): `clap::Error::exit` does right
    /// by both.
    pub fn from_args<I>(args: I) -> Result<Config, clap::Error>
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        Config::resolve(args, |name| env::var_os(name), env::current_dir)
    }

    /// Enforces that what is to be served is there. Call it before binding: a server with nothing to serve is not up.
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

    /// `from_args` with the process's surroundings as arguments, so that tests can choose them.
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
    /// The address to listen on, `port` where it names none itself.
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
        // `IpAddr` parses neither brackets nor a zone; a `SocketAddr` with a port lent to it parses both.
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

const SERVE: &str = "What to serve";
const LISTEN: &str = "Where to listen";
const WAIT: &str = "How to wait";
const LOGS: &str = "Logs";
const HELP: &str = "Help";

/// The command line as clap sees it.
#[derive(Debug, Parser)]
#[command(
    name = "dustdevil",
    version,
    about = "A small HTTP/1.1 server: one thread, one event loop",
    long_about = "A small HTTP/1.1 server: one thread, one event loop.\n\n\
                  It serves a directory as a site, takes uploads into another, and answers a few small endpoints. \
                  Without arguments it serves the current directory at http://127.0.0.1:4221/, to this machine only.",
    after_help = "Every flag is also an environment variable: --max-body-size is DUSTDEVIL_MAX_BODY_SIZE.\n\
                  --help tells more and shows examples.",
    after_long_help = AFTER_LONG_HELP,
    max_term_width = 100,
    no_binary_name = true,
    // The last one wins, so that a script's or an alias's flags can be overruled behind them.
    args_override_self = true,
    // Declared below, to stand last.
    disable_help_flag = true,
    disable_version_flag = true
)]
struct Args {
    /// Directory to serve as a site at / [default: the current directory]
    ///
    /// With --directory or --proxy and no ROOT there is no site, and / shows what the server answers.
    // Under no heading: clap then puts it first, under a heading it would come last.
    #[arg(value_parser = path())]
    root: Option<PathBuf>,

    /// Directory to read and store files in, at /files/
    ///
    /// GET and HEAD read a file, POST and PUT store one. Anyone who reaches the server can do so.
    #[arg(long, value_name = "DIR", value_parser = path(), help_heading = SERVE)]
    directory: Option<PathBuf>,

    /// Let DELETE remove files from --directory
    #[arg(long, help_heading = SERVE)]
    allow_delete: bool,

    /// Don't list directories that have no index file
    #[arg(long, help_heading = SERVE)]
    no_listing: bool,

    /// Switch /echo and /user-agent off
    #[arg(long, help_heading = SERVE)]
    no_endpoints: bool,

    /// Add endpoints to try clients with: /debug/request, ...
    ///
    /// They show a request as the server saw it, wait, drip, stream, redirect and set cookies; POST / echoes its body.
    /// The list is printed at start. They reflect what they are sent: not for a server that strangers reach.
    #[arg(long, help_heading = SERVE)]
    debug_endpoints: bool,

    /// Where the debug endpoints are [default: /debug/]
    ///
    /// A path that begins and ends with a slash, and is not one of the server's other routes.
    #[arg(long, value_name = "PATH", value_parser = prefix, help_heading = SERVE)]
    debug_prefix: Option<String>,

    /// Answer TRACE with the request as it arrived
    ///
    /// Without the fields Authorization, Cookie and Proxy-Authorization. Off, TRACE is answered 405.
    #[arg(long, help_heading = SERVE)]
    trace_method: bool,

    #[command(flatten)]
    site: SiteRules,

    #[command(flatten)]
    responses: ResponseRules,

    /// Address to listen on, repeatable [default: 127.0.0.1 and ::1]
    ///
    /// An IPv4 or IPv6 address, with or without a port: 192.168.1.5, 0.0.0.0:80, ::1, [::1]:8080. 0.0.0.0 is every IPv4
    /// address of this machine and :: every IPv6 address; give both for all.
    #[arg(long, value_name = "ADDR", help_heading = LISTEN)]
    bind: Vec<Bind>,

    /// Port for addresses that name none; 0 picks a free one
    #[arg(long, default_value = "4221", value_parser = port, help_heading = LISTEN)]
    port: u16,

    /// How connections are waited for
    ///
    /// The same server in each, to compare them. With pool and iterative a connection holds its thread while it lives,
    /// and clients who find none free wait.
    #[arg(long, value_enum, default_value = "event", help_heading = WAIT)]
    engine: Engine,

    /// Threads of --engine pool
    // As many as the tutorial's pool had, so that its numbers can be seen again.
    #[arg(long, value_name = "COUNT", default_value = "20", value_parser = count, help_heading = WAIT)]
    pool_size: usize,

    #[command(flatten)]
    limits: Limits,

    #[command(flatten)]
    timeouts: Timeouts,

    #[command(flatten)]
    proxy: ProxyRules,

    #[command(flatten)]
    wsgi: WsgiRules,

    /// Access log: a file, - for standard output, or off
    ///
    /// A line for every request in Combined Log Format, added at the end of the file. A file named off is ./off.
    #[arg(long, value_name = "PATH|-|off", default_value = "-", value_parser = access_log(), help_heading = LOGS)]
    access_log: AccessLog,

    /// Say why requests are refused; -vv says every step
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet", help_heading = LOGS)]
    verbose: u8,

    /// No banner, and nothing but errors on standard error
    #[arg(short, long, conflicts_with = "verbose", help_heading = LOGS)]
    quiet: bool,

    /// Print help (-h is short, --help long)
    #[arg(short, long, action = ArgAction::Help, help_heading = HELP)]
    help: Option<bool>,

    /// Print the version
    #[arg(short = 'V', long, action = ArgAction::Version, help_heading = HELP)]
    version: Option<bool>,
}

const AFTER_LONG_HELP: &str = "\
Units:
  SIZE   a whole number of bytes, or of 1024 bytes and so on with K, M, G or T: 512, 16K, 50M
  TIME   a whole number of seconds, or with ms, s, m or h: 500ms, 10s, 2m

Environment:
  Every flag is also a variable, DUSTDEVIL_ and its name: DUSTDEVIL_MAX_BODY_SIZE=50M.
  Switches take 1 or 0, repeatable flags a list with commas: DUSTDEVIL_BIND=127.0.0.1,::1. Those that
  take pairs, such as --header and --cache-control, take a pair a line: their values may hold commas.
  The command line goes before the environment. An empty variable counts as unset.

Examples:
  dustdevil public/                            a site, for this machine only
  dustdevil public/ --bind 0.0.0.0 --port 80   the same for the whole network
  dustdevil --directory /tmp/store             upload and fetch files under /files/
  dustdevil public/ --max-body-size 50M --access-log access.log
  curl -i http://127.0.0.1:4221/echo/hello     try it

Exit codes:
  0  normal end
  1  a failure of the machine: a missing directory, a busy port
  2  a wrong command line or environment variable
  3  a Python application that does not start";

impl Args {
    /// Reads the environment below a command line that no longer has the program's name.
    fn read(
        words: impl Iterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Args, clap::Error> {
        let words = join_origin(words);
        // First alone: --help needs no sound environment, and what is given here goes before the environment.
        let given = Args::command().try_get_matches_from(&words)?;
        let environment = environment::words(&Args::command(), &given, variable)?;
        let matches = Args::command().try_get_matches_from(environment.into_iter().chain(words))?;
        Args::from_arg_matches(&matches)
    }

    /// Enforces that each flag has something to work on, and that no two say who decides the same field.
    fn check_together(&self) -> Result<(), clap::Error> {
        let conflict = |message: String| Err(Args::command().error(ErrorKind::ArgumentConflict, message));
        if self.allow_delete && self.directory.is_none() {
            return conflict("--allow-delete is about the store, and there is none; name a --directory too".into());
        }
        let has_site = self.root.is_some()
            || !self.wsgi.sites.is_empty()
            || (self.directory.is_none() && self.proxy.proxy.is_empty());
        if let Some(flag) = self.site.about_a_site().filter(|_| !has_site) {
            return conflict(format!(
                "{flag} is about the site, and --directory or --proxy alone serve none; name a ROOT too"
            ));
        }
        if self.responses.cors.is_some() && self.responses.names("Access-Control-Allow-Origin") {
            return conflict("--cors and --header both set Access-Control-Allow-Origin; leave one of them out".into());
        }
        let caching = self.site.immutable || !self.site.cache_control.is_empty();
        if caching && self.responses.names("Cache-Control") {
            return conflict(
                "--header sets a Cache-Control for every response, which contradicts --cache-control and --immutable; \
                 write --cache-control '**=VALUE' instead"
                    .into(),
            );
        }
        Ok(())
    }
}

/// The words of a command line, `--cors` joined with an origin behind it. `--cors public/` has none: `public/` is the
/// ROOT.
fn join_origin(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words = words.peekable();
    let mut joined = Vec::new();
    while let Some(word) = words.next() {
        let is_origin = |next: &OsString| next.to_str().is_some_and(|text| text.parse::<Origin>().is_ok());
        match (word == "--cors", words.next_if(|next| word == "--cors" && is_origin(next))) {
            (true, Some(origin)) => joined.push([word, origin].join(OsStr::new("="))),
            _ => joined.push(word),
        }
    }
    joined
}

impl Args {
    /// Enforces that the applications and the rest of the command line agree.
    fn check_wsgi(&self) -> Result<(), clap::Error> {
        let conflict = |message: String| Err(Args::command().error(ErrorKind::ArgumentConflict, message));
        if !self.proxy.trusted.is_empty() && self.proxy.proxy.is_empty() && self.wsgi.apps.is_empty() {
            return conflict("--trusted-proxy is for what --proxy or --wsgi pass on; give one of them".into());
        }
        if let Some(prefix) = self.wsgi.claimed_twice() {
            return conflict(format!("two applications are to answer {prefix}; give one of them another prefix"));
        }
        if self.wsgi.sites.iter().any(|site| site.prefix == "/") {
            return conflict("--static is for a prefix; give the site at / as ROOT".into());
        }
        if self.wsgi.takes_all() && self.root.is_some() {
            return conflict("the application at / answers every path; leave ROOT out, or mount it at a prefix".into());
        }
        Ok(())
    }

    /// Enforces that the upstreams and the rest of the command line agree.
    fn check_proxy(&self) -> Result<(), clap::Error> {
        let conflict = |message: String| Err(Args::command().error(ErrorKind::ArgumentConflict, message));
        if let Some(prefix) = self.proxy.disagreement() {
            return conflict(format!("the upstreams of {prefix} name different paths; give all of them the same"));
        }
        let bare = |prefix: &str| prefix.trim_end_matches('/').to_owned();
        let others =
            self.wsgi.apps.iter().map(|app| &app.prefix).chain(self.wsgi.sites.iter().map(|site| &site.prefix));
        let others: Vec<_> = others.map(|prefix| bare(prefix)).collect();
        if let Some(mount) = self.proxy.proxy.iter().find(|mount| others.contains(&bare(&mount.prefix))) {
            let prefix = &mount.prefix;
            return conflict(format!("an upstream and something else are to answer {prefix}; give one another prefix"));
        }
        if self.proxy.takes_all() && self.root.is_some() {
            return conflict("--proxy /=.. answers every path, and nothing is left for ROOT; leave it out".into());
        }
        if self.proxy.takes_all() && self.directory.is_some() {
            return conflict(
                "--proxy /=.. answers every path, and nothing is left for --directory; leave it out".into(),
            );
        }
        Ok(())
    }
}

/// The current directory as the site. Refused when that is `/`, where services and containers start: a unit file that
/// forgot its ROOT would put the whole machine on the network. Who means it writes `dustdevil /`.
fn current_site(current_dir: impl FnOnce() -> io::Result<PathBuf>) -> Result<PathBuf, clap::Error> {
    let reason = match current_dir() {
        Ok(site) if site != Path::new("/") => return Ok(site),
        Ok(_) => "the current directory is /, which would serve the whole machine".into(),
        // It has been removed, for example. "." would still open, and be empty for ever.
        Err(error) => format!("the current directory cannot be read ({error})"),
    };
    Err(Args::command().error(
        ErrorKind::MissingRequiredArgument,
        format!("no ROOT was given and {reason}; name the directory to serve, or start in it"),
    ))
}

/// The prefix of the debug endpoints when they are on. Refused where another route has the path already: one of the
/// two would never be reached.
fn debug_prefix(
    on: bool,
    given: Option<String>,
    endpoints: bool,
    directory: &Option<PathBuf>,
) -> Result<Option<String>, clap::Error> {
    let conflict = |message| Err(Args::command().error(ErrorKind::ArgumentConflict, message));
    match given {
        Some(_) if !on => conflict("--debug-prefix says where debug endpoints are; add --debug-endpoints".into()),
        None => Ok(on.then(|| "/debug/".into())),
        Some(prefix) => match [("/echo/", endpoints), ("/files/", directory.is_some())] {
            taken if taken.iter().any(|(path, used)| *used && prefix.starts_with(path)) => {
                conflict(format!("the path {prefix} of --debug-prefix belongs to another route; choose another"))
            }
            _ => Ok(Some(prefix)),
        },
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

/// A group of flags as no command line at all leaves it.
fn defaults<A: clap::Args>() -> A {
    let command = A::augment_args(Command::new("defaults").no_binary_name(true));
    command
        .try_get_matches_from(Vec::<OsString>::new())
        .and_then(|matches| A::from_arg_matches(&matches))
        .expect("the defaults are constants, which a test has parsed")
}

/// A size of something held in memory, of which nothing is too little.
fn memory_size(text: &str) -> Result<usize, String> {
    positive(units::size(text)?)
}

fn cache_size(text: &str) -> Result<usize, String> {
    match units::size(text)? {
        0 => Ok(0),
        size => positive(size),
    }
}

fn count(text: &str) -> Result<usize, String> {
    positive(units::number(text)?)
}

fn positive(value: u64) -> Result<usize, String> {
    match usize::try_from(value) {
        Ok(0) => Err("with 0 no request could be answered; give 1 or more".into()),
        Ok(value) => Ok(value),
        Err(_) => Err(format!("too large; this machine holds {} at most", usize::MAX)),
    }
}

fn body_size(text: &str) -> Result<u64, String> {
    match units::size(text)? {
        0 => Ok(u64::MAX),
        size => Ok(size),
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    match units::duration(text)? {
        Duration::ZERO => Err("0 would cut every client off at once; give a time such as 10s".into()),
        duration => Ok(duration),
    }
}

/// Unreserved bytes only (RFC 3986, section 2.3): a path that normalising leaves as it is.
fn prefix(text: &str) -> Result<String, String> {
    let segments = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
    let is_plain = |segment: &str| {
        let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        !matches!(segment, "" | "." | "..") && segment.bytes().all(unreserved)
    };
    match segments {
        Some(segments) if segments.split('/').all(is_plain) => Ok(text.into()),
        _ => Err("not a prefix; write a path between slashes, of letters, digits and -._~, such as /debug/".into()),
    }
}

fn port(text: &str) -> Result<u16, String> {
    units::number(text)
        .ok()
        .and_then(|number| u16::try_from(number).ok())
        .ok_or_else(|| "not a port; write a number from 0 to 65535 (0 picks a free one)".into())
}

/// Any path but the empty one, which is what a script's unset variable leaves.
fn path() -> impl clap::builder::TypedValueParser<Value = PathBuf> {
    use clap::builder::{OsStringValueParser, TypedValueParser};
    OsStringValueParser::new().try_map(|text| {
        if text.is_empty() {
            return Err("the path is empty; write . for the current directory");
        }
        Ok(PathBuf::from(text))
    })
}

fn access_log() -> impl clap::builder::TypedValueParser<Value = AccessLog> {
    use clap::builder::{OsStringValueParser, TypedValueParser};
    OsStringValueParser::new().try_map(|text| match text.to_str() {
        Some("") => Err("the path is empty; write a path, - for standard output, or off"),
        Some("-") => Ok(AccessLog::Stdout),
        Some("off") => Ok(AccessLog::Off),
        _ => Ok(AccessLog::File(PathBuf::from(text))),
    })
}

#[cfg(test)]
mod tests;
