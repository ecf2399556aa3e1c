//! The command line and the environment, turned into one `Config` of plain data.
//!
//! A flag is declared once: its field carries the name, the default, the parser and the help. `DUSTDEVIL_<FLAG>`
//! follows from the name (`environment`). A `Config` holds parsed values, which are not checked again. Only directories
//! can change: `check` looks at those once, at start. Opening, binding and logging are left to others.

mod args;
pub mod glob;
pub mod proxy;
pub mod responses;
mod server;
pub mod site;
mod threads;
mod values;
pub mod wsgi;

pub use crate::config::server::{AccessLog, Bind, Chosen, Engine, Limits, Timeouts, Verbosity};

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::args::{Args, current_site, debug_prefix};
use crate::config::proxy::ProxyRules;
use crate::config::responses::ResponseRules;
use crate::config::site::SiteRules;
use crate::config::wsgi::WsgiRules;
use crate::start_error::StartError;

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
