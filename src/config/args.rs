//! The command line as clap sees it: the flags that belong to no group of their own, the help, and which flags
//! contradict each other.

use crate::config::proxy::ProxyRules;
use crate::config::responses::{Origin, ResponseRules};
use crate::config::server::{AccessLog, Bind, Chosen, Engine, Limits, Timeouts, access_log};
use crate::config::site::SiteRules;
use crate::config::values::{count, path, port, prefix};
use crate::config::wsgi::WsgiRules;
use crate::environment;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

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
    // The last of several equal flags wins, so that the flags of a script or an alias can be overridden.
    args_override_self = true,
    // Declared below, so that they are listed last.
    disable_help_flag = true,
    disable_version_flag = true
)]
pub(super) struct Args {
    /// Directory to serve as a site at / [default: the current directory]
    ///
    /// With --directory or --proxy and no ROOT there is no site, and / shows what the server answers.
    // Without a heading: clap then puts it first. Under a heading it would be listed last.
    #[arg(value_parser = path())]
    pub(super) root: Option<PathBuf>,

    /// Directory to read and store files in, at /files/
    ///
    /// GET and HEAD read a file, POST and PUT store one. Anyone who reaches the server can do so.
    #[arg(long, value_name = "DIR", value_parser = path(), help_heading = SERVE)]
    pub(super) directory: Option<PathBuf>,

    /// Let DELETE remove files from --directory
    #[arg(long, help_heading = SERVE)]
    pub(super) allow_delete: bool,

    /// Don't list directories that have no index file
    #[arg(long, help_heading = SERVE)]
    pub(super) no_listing: bool,

    /// Switch /echo and /user-agent off
    #[arg(long, help_heading = SERVE)]
    pub(super) no_endpoints: bool,

    /// Add endpoints to try clients with: /debug/request, ...
    ///
    /// They show a request as the server saw it, wait, drip, stream, redirect and set cookies; POST / echoes its body.
    /// The list is printed at start. They send back what clients send: not for a server that strangers can reach.
    #[arg(long, help_heading = SERVE)]
    pub(super) debug_endpoints: bool,

    /// Prefix of the debug endpoints [default: /debug/]
    ///
    /// A path that begins and ends with a slash, and is not one of the server's other routes.
    #[arg(long, value_name = "PATH", value_parser = prefix, help_heading = SERVE)]
    pub(super) debug_prefix: Option<String>,

    /// Answer TRACE with the request as it arrived
    ///
    /// Without the fields Authorization, Cookie and Proxy-Authorization. Off, TRACE is answered 405.
    #[arg(long, help_heading = SERVE)]
    pub(super) trace_method: bool,

    #[command(flatten)]
    pub(super) site: SiteRules,

    #[command(flatten)]
    pub(super) responses: ResponseRules,

    /// Address to listen on, repeatable [default: 127.0.0.1 and ::1]
    ///
    /// An IPv4 or IPv6 address, with or without a port: 192.168.1.5, 0.0.0.0:80, ::1, [::1]:8080. 0.0.0.0 is every IPv4
    /// address of this machine and :: every IPv6 address; give both for all.
    #[arg(long, value_name = "ADDR", help_heading = LISTEN)]
    pub(super) bind: Vec<Bind>,

    /// Port for addresses that name none; 0 picks a free one
    #[arg(long, default_value = "4221", value_parser = port, help_heading = LISTEN)]
    pub(super) port: u16,

    /// How the server waits for connections
    ///
    /// The server is the same with each, so that they can be compared. With pool and iterative a connection holds its
    /// thread until it is closed, or has been idle for a second while another client waits.
    #[arg(long, value_enum, default_value = "event", help_heading = WAIT)]
    pub(super) engine: Engine,

    /// Threads of --engine pool
    // As many as the tutorial's pool had, so that its figures can be reproduced.
    #[arg(long, value_name = "COUNT", default_value = "20", value_parser = count, help_heading = WAIT)]
    pub(super) pool_size: usize,

    #[arg(skip)]
    pub(super) chosen: Chosen,

    #[command(flatten)]
    pub(super) limits: Limits,

    #[command(flatten)]
    pub(super) timeouts: Timeouts,

    #[command(flatten)]
    pub(super) proxy: ProxyRules,

    #[command(flatten)]
    pub(super) wsgi: WsgiRules,

    /// Access log: a file, - for standard output, or off
    ///
    /// A line for every request in Combined Log Format, added at the end of the file. A file named off is ./off.
    /// Nobody waits for the reader of a pipe or terminal: 1 MiB of lines may wait, further ones are dropped and counted.
    #[arg(long, value_name = "PATH|-|off", default_value = "-", value_parser = access_log(), help_heading = LOGS)]
    pub(super) access_log: AccessLog,

    /// Say why requests are refused; -vv says every step
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet", help_heading = LOGS)]
    pub(super) verbose: u8,

    /// No banner, and nothing but errors on standard error
    #[arg(short, long, conflicts_with = "verbose", help_heading = LOGS)]
    pub(super) quiet: bool,

    /// Print help (-h is short, --help long)
    #[arg(short, long, action = ArgAction::Help, help_heading = HELP)]
    pub(super) help: Option<bool>,

    /// Print the version
    #[arg(short = 'V', long, action = ArgAction::Version, help_heading = HELP)]
    pub(super) version: Option<bool>,
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
    /// Reads a command line, already without the program's name, and the environment below it.
    pub(super) fn read(
        words: impl Iterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Args, clap::Error> {
        let words = join_origin(words);
        // The command line alone first: --help must work in a broken environment, and flags go before variables.
        let given = Args::command().try_get_matches_from(&words)?;
        let environment = environment::words(&Args::command(), &given, variable)?;
        let matches = Args::command().try_get_matches_from(environment.into_iter().chain(words))?;
        let is_chosen = |id| matches.value_source(id) != Some(ValueSource::DefaultValue);
        let chosen = Chosen { connections: is_chosen("connections"), pool_size: is_chosen("pool_size") };
        Ok(Args { chosen, ..Args::from_arg_matches(&matches)? })
    }

    /// Refuses flags that have no effect beside the others, and two flags that set the same field.
    pub(super) fn check_together(&self) -> Result<(), clap::Error> {
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

/// The words of a command line, with `--cors` and a following origin joined. In `--cors public/` no origin follows:
/// `public/` is the ROOT.
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
    /// Refuses applications that contradict each other or the rest of the command line.
    pub(super) fn check_wsgi(&self) -> Result<(), clap::Error> {
        let conflict = |message: String| Err(Args::command().error(ErrorKind::ArgumentConflict, message));
        if let Some(prefix) = self.wsgi.claimed_twice() {
            return conflict(format!("two applications have the prefix {prefix}; give one of them another prefix"));
        }
        if self.wsgi.sites.iter().any(|site| site.prefix == "/") {
            return conflict("--static is for a prefix; give the site at / as ROOT".into());
        }
        if self.wsgi.takes_all() && self.root.is_some() {
            return conflict("the application at / answers every path; leave ROOT out, or mount it at a prefix".into());
        }
        Ok(())
    }

    /// Refuses upstreams that contradict each other or the rest of the command line.
    pub(super) fn check_proxy(&self) -> Result<(), clap::Error> {
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

/// The current directory as the site. Refused if it is `/`, where services and containers start: a unit file without a
/// ROOT would put the whole machine on the network. To serve `/` on purpose, write `dustdevil /`.
pub(super) fn current_site(current_dir: impl FnOnce() -> io::Result<PathBuf>) -> Result<PathBuf, clap::Error> {
    let reason = match current_dir() {
        Ok(site) if site != Path::new("/") => return Ok(site),
        Ok(_) => "the current directory is /, which would serve the whole machine".into(),
        // For example, it has been removed. "." could still be opened, and would be empty for ever.
        Err(error) => format!("the current directory cannot be read ({error})"),
    };
    Err(Args::command().error(
        ErrorKind::MissingRequiredArgument,
        format!("no ROOT was given and {reason}; name the directory to serve, or start in it"),
    ))
}

/// The prefix of the debug endpoints if they are on. Refused if another route has the path already: one of the two
/// would never be reached.
pub(super) fn debug_prefix(
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
