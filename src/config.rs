//! The settings of the server, as one `Config` of plain data.
//!
//! Flags and the environment fill it (`args`). Each flag is declared once, with its name, default, parser and help. Its
//! variable is `DUSTDEVIL_<FLAG>` (`environment`). A `Config` holds parsed values, which nobody checks again. Settings
//! that contradict each other are refused in `check`. Only directories may be missing although the command line is
//! valid: `check_directories` checks them once, at start. Other modules open files, bind sockets and write logs.

mod args;
pub mod bind;
pub mod check;
pub mod given;
pub mod glob;
pub mod proxy;
pub mod responses;
pub mod route;
mod server;
pub mod site;
mod threads;
mod values;
pub mod wsgi;

pub use crate::config::server::{Engine, Limits, LogTarget, Timeouts, Verbosity};

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::bind::Bind;
use crate::config::given::Given;
use crate::config::proxy::{Mount, TrustedProxy};
use crate::config::route::RouteRules;
use crate::config::wsgi::{AppMount, SiteMount, WsgiRules};
use crate::start_error::StartError;

/// All settings of the server.
#[derive(Clone, Debug)]
pub struct Config {
    /// The site at `/`. `None` only if another setting says what to serve.
    pub root: Option<PathBuf>,
    /// The store behind `/files/`.
    pub directory: Option<PathBuf>,
    /// Sites below prefixes.
    pub statics: Vec<SiteMount>,
    /// Upstreams below prefixes. Several with the same prefix share its requests.
    pub upstreams: Vec<Mount>,
    /// Python applications below prefixes.
    pub applications: Vec<AppMount>,
    /// The rules for routes that have none of their own.
    pub rules: RouteRules,
    /// Whether /echo and /user-agent answer.
    pub endpoints: bool,
    /// The prefix of the debug endpoints. `None`: there are none.
    pub debug_prefix: Option<String>,
    /// Whether TRACE is answered.
    pub trace_method: bool,
    /// Where to listen. Empty means loopback, IPv4 and IPv6.
    pub binds: Vec<Bind>,
    /// The port for every address without one. With 0 the system picks a free port.
    pub port: u16,
    pub engine: Engine,
    /// The threads of `--engine pool`.
    pub pool_size: usize,
    pub limits: Limits,
    pub timeouts: Timeouts,
    /// Proxies in front of this server whose X-Forwarded-* fields are believed.
    pub trusted: Vec<TrustedProxy>,
    pub wsgi: WsgiRules,
    pub access_log: LogTarget,
    pub verbosity: Verbosity,
    /// The settings that are given, not left at their defaults.
    pub given: Given,
    /// Warnings about the settings, to be logged at start. One sentence each.
    pub warnings: Vec<String>,
}

impl Config {
    /// Checks that the directories to serve exist. Call it before binding: if there is nothing to serve, the server
    /// must not accept clients.
    ///
    /// # Errors
    /// Exit code 1, not 2: the command line is valid, and works once the directory exists.
    pub fn check_directories(&self) -> Result<(), StartError> {
        let named = [("root", &self.root), ("directory", &self.directory)];
        let named = named.into_iter().filter_map(|(setting, path)| Some((setting, path.as_ref()?)));
        let sites = self.statics.iter().map(|site| ("static", &site.directory));
        for (setting, path) in named.chain(sites) {
            check_directory(&self.given.spelled(setting), path)?;
        }
        Ok(())
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
