//! The command line: the flags that are in no group of their own, the help, and how flags and variables fill a
//! `Config`. Only this file, those of `args/` and `environment` use clap.

mod proxy;
mod responses;
mod server;
mod site;
mod values;
mod wsgi;

use crate::config::args::proxy::ProxyArgs;
use crate::config::args::responses::{ResponseArgs, join_origin};
use crate::config::args::server::{LimitArgs, TimeoutArgs};
use crate::config::args::site::SiteArgs;
use crate::config::args::values::{access_log, path};
use crate::config::args::wsgi::WsgiArgs;
use crate::config::bind::Bind;
use crate::config::check;
use crate::config::given::Given;
use crate::config::route::RouteRules;
use crate::config::values::{count, port, prefix};
use crate::config::{Config, Engine, LogTarget, Verbosity};
use crate::environment::{self, Environment};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, CommandFactory, FromArgMatches, Parser};
use std::env;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

impl Config {
    /// Reads a command line, whose first word is the program's name, and the environment. The command line overrides
    /// the environment.
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

    /// As `from_args`, with the environment and the current directory as arguments, so that tests can choose them.
    pub(super) fn resolve<I>(
        args: I,
        variable: impl Fn(&str) -> Option<OsString>,
        current_dir: impl FnOnce() -> io::Result<PathBuf>,
    ) -> Result<Config, clap::Error>
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        let Read { args, mut given, ignored } = Args::read(args.into_iter().skip(1).map(Into::into), variable)?;
        let names_nothing = ["root", "directory", "proxy", "wsgi", "static"].iter().all(|place| !given.has(place));
        let current = if names_nothing { Some(current_site(current_dir)?) } else { None };
        if current.is_some() {
            given.add("root");
        }
        let config = args.fill(current, given);
        let spelled = |setting: &str| config.given.spelled(setting);
        match check::conflicts(&config, &spelled).into_iter().next() {
            Some(conflict) => Err(Args::command().error(ErrorKind::ArgumentConflict, conflict.message)),
            None => Ok(Config { warnings: [ignored, check::warnings(&config, &spelled)].concat(), ..config }),
        }
    }
}

const SERVE: &str = "What to serve";
const LISTEN: &str = "Where to listen";
const WAIT: &str = "How to wait for clients";
const LOGS: &str = "Logs";
const HELP: &str = "Help";

/// The command line, as declared for clap.
#[derive(Debug, Parser)]
#[command(
    name = "dustdevil",
    version,
    about = "A small HTTP/1.1 server: one thread, one event loop",
    long_about = "A small HTTP/1.1 server: one thread, one event loop.\n\n\
                  It serves one directory as a site, stores uploads in another, and answers a few small endpoints. \
                  Without arguments it serves the current directory at http://127.0.0.1:4221/, to this machine only.",
    after_help = "Every flag is also an environment variable: --max-body-size is DUSTDEVIL_MAX_BODY_SIZE.\n\
                  --help says more and shows examples.",
    after_long_help = AFTER_LONG_HELP,
    max_term_width = 100,
    no_binary_name = true,
    // The last of several equal flags wins, so that the flags of a script or an alias can be overridden.
    args_override_self = true,
    // Both are declared below, so that they are listed last.
    disable_help_flag = true,
    disable_version_flag = true
)]
struct Args {
    /// Directory to serve as a site at / [default: the current directory]
    ///
    /// If --directory, --proxy, --wsgi or --static is given and ROOT is not, there is no site. Then / lists the
    /// server's routes, unless an upstream or an application answers it.
    // ROOT has no heading, so that clap lists it first. Under a heading it would be listed last.
    #[arg(value_parser = path())]
    root: Option<PathBuf>,

    /// Directory to read and store files in, at /files/
    ///
    /// GET and HEAD read a file, POST and PUT store one. Everyone who can reach the server can do both.
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

    /// Add endpoints for testing clients: /debug/request, ...
    ///
    /// They show the request as the server sees it, delay the response, send it slowly, stream, redirect and set
    /// cookies. POST / sends the request body back. The list is printed at start. Since they send back what clients
    /// send, do not use them on a server that strangers can reach.
    #[arg(long, help_heading = SERVE)]
    debug_endpoints: bool,

    /// Prefix of the debug endpoints [default: /debug/]
    ///
    /// A path that begins and ends with a slash, and does not belong to another route of the server.
    #[arg(long, value_name = "PATH", value_parser = prefix, help_heading = SERVE)]
    debug_prefix: Option<String>,

    /// Answer TRACE with the request as it arrived
    ///
    /// The fields Authorization, Cookie and Proxy-Authorization are left out. Without this flag, TRACE gets 405.
    #[arg(long, help_heading = SERVE)]
    trace_method: bool,

    #[command(flatten)]
    site: SiteArgs,

    #[command(flatten)]
    responses: ResponseArgs,

    /// Address to listen on, repeatable [default: 127.0.0.1 and ::1]
    ///
    /// An address or a name, with or without a port: 192.168.1.5, 0.0.0.0:80, ::1, [::1]:8080, localhost. * means every
    /// address of this machine, 0.0.0.0 every IPv4 address, and :: every IPv6 address. A name is looked up once, at
    /// start. The server listens on all its addresses.
    #[arg(long, value_name = "ADDR", help_heading = LISTEN)]
    bind: Vec<Bind>,

    /// Port for addresses without one; 0 picks a free port
    #[arg(short, long, default_value = "4221", value_parser = port, help_heading = LISTEN)]
    port: u16,

    /// How the server waits for connections
    ///
    /// Everything else is the same for each engine, so that they can be compared. With pool and iterative, a connection
    /// keeps its thread until it closes. If another client waits, a connection that has been idle for a second is
    /// closed.
    #[arg(long, value_enum, default_value = "event", help_heading = WAIT)]
    engine: Engine,

    /// Threads of --engine pool
    // As many as the tutorial's pool had, so that its figures can be reproduced.
    #[arg(long, value_name = "COUNT", default_value = "20", value_parser = count, help_heading = WAIT)]
    pool_size: usize,

    #[command(flatten)]
    limits: LimitArgs,

    #[command(flatten)]
    timeouts: TimeoutArgs,

    #[command(flatten)]
    proxy: ProxyArgs,

    #[command(flatten)]
    wsgi: WsgiArgs,

    /// Access log: a file, - for standard output, or off
    ///
    /// One line for each request in Combined Log Format, added at the end of the file. For a file named off, write
    /// ./off. If the reader of a pipe or terminal is slow, the server does not wait: it keeps up to 1 MiB of lines, and
    /// drops and counts further ones.
    #[arg(long, value_name = "PATH|-|off", default_value = "-", value_parser = access_log(), help_heading = LOGS)]
    access_log: LogTarget,

    /// Log why requests are refused; -vv logs every step
    #[arg(short, long, action = ArgAction::Count, help_heading = LOGS)]
    verbose: u8,

    /// Print no banner, and only errors on standard error
    #[arg(short, long, help_heading = LOGS)]
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
  SIZE   a whole number of bytes, or with K (1024 bytes), M (1024 K), G or T: 512, 16K, 50M
  TIME   a whole number of seconds, or with a unit (ms, s, m or h): 500ms, 10s, 2m

Environment:
  Every flag is also a variable, DUSTDEVIL_ and its name: DUSTDEVIL_MAX_BODY_SIZE=50M.
  Switches take 1 or 0. Repeatable flags take a list with commas: DUSTDEVIL_BIND=127.0.0.1,::1.
  Repeatable flags for pairs, such as --header and --cache-control, take one pair per line, since
  the values may contain commas.
  The command line overrides the environment. An empty variable counts as unset.

Examples:
  dustdevil public/                            a site, for this machine only
  dustdevil public/ --bind 0.0.0.0 --port 80   a site, for the whole network
  dustdevil --directory /tmp/store             upload and fetch files below /files/
  dustdevil public/ --max-body-size 50M --access-log access.log
  curl -i http://127.0.0.1:4221/echo/hello     try it

Exit codes:
  0  normal end
  1  a failure of the machine: a missing directory, a busy port
  2  a wrong command line or environment variable
  3  a Python application that does not start";

/// The command line and the environment.
struct Read {
    args: Args,
    given: Given,
    /// A sentence for each variable that is ignored.
    ignored: Vec<String>,
}

impl Args {
    /// Reads a command line without the program's name, and the environment.
    fn read(
        words: impl Iterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Read, clap::Error> {
        let words = join_origin(words);
        // First the command line alone: --help must work even if a variable is invalid, and flags override variables.
        let on_line = Args::command().try_get_matches_from(&words)?;
        let on_line = given(&on_line);
        let is_given = |name: &str| on_line.has(name) || check::excluded_by(name).any(|other| on_line.has(other));
        let Environment { words: variables, ignored } = environment::read(&Args::command(), is_given, variable)?;
        let matches = Args::command().try_get_matches_from(variables.into_iter().chain(words))?;
        let mut given = given(&matches);
        given.note_variables(&on_line);
        Ok(Read { args: Args::from_arg_matches(&matches)?, given, ignored })
    }

    fn fill(self, current_site: Option<PathBuf>, given: Given) -> Config {
        let debug_prefix = match self.debug_endpoints {
            true => Some(self.debug_prefix.unwrap_or_else(|| "/debug/".into())),
            false => None,
        };
        Config {
            root: self.root.or(current_site),
            directory: self.directory,
            endpoints: !self.no_endpoints,
            debug_prefix,
            trace_method: self.trace_method,
            binds: self.bind,
            port: self.port,
            engine: self.engine,
            pool_size: self.pool_size,
            timeouts: self.timeouts.timeouts(),
            rules: RouteRules {
                site: self.site.rules(!self.no_listing),
                responses: self.responses.rules(),
                proxy: self.proxy.rules(),
                delete: self.allow_delete,
                body_size: self.limits.max_body_size,
            },
            limits: self.limits.limits(),
            upstreams: self.proxy.proxy,
            trusted: self.proxy.trusted_proxy,
            wsgi: self.wsgi.rules(),
            applications: self.wsgi.wsgi,
            statics: self.wsgi.statics,
            access_log: self.access_log,
            verbosity: match self.verbose {
                _ if self.quiet => Verbosity::Quiet,
                0 => Verbosity::Normal,
                1 => Verbosity::Debug,
                _ => Verbosity::Trace,
            },
            given,
            warnings: Vec::new(),
        }
    }
}

/// The settings that are given on a command line.
fn given(matches: &ArgMatches) -> Given {
    let mut given = Given::default();
    for argument in Args::command().get_arguments() {
        let id = argument.get_id().as_str();
        if matches.value_source(id) == Some(ValueSource::CommandLine) {
            given.add(argument.get_long().unwrap_or(id));
        }
    }
    given
}

/// The current directory, to be served as the site. `/` is refused: services and containers start there, and a unit
/// file without a ROOT would put the whole machine on the network. To serve `/` on purpose, write `dustdevil /`.
fn current_site(current_dir: impl FnOnce() -> io::Result<PathBuf>) -> Result<PathBuf, clap::Error> {
    let reason = match current_dir() {
        Ok(site) if site != Path::new("/") => return Ok(site),
        Ok(_) => "the current directory is /, which would serve the whole machine".into(),
        // For example, it has been removed. "." could still be opened, but would stay empty forever.
        Err(error) => format!("the current directory cannot be read ({error})"),
    };
    Err(Args::command().error(
        ErrorKind::MissingRequiredArgument,
        format!("no ROOT was given and {reason}; name the directory to serve, or start the server in that directory"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_finds_no_fault_in_the_declaration() {
        Args::command().debug_assert();
    }
}
