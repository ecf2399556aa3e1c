//! What the user decides, as one `Config` of plain data.
//!
//! Flags and the environment fill it (`args`). A flag is declared once: there stand its name, its default, its parser and
//! its help, and `DUSTDEVIL_<FLAG>` follows from the name (`environment`). A `Config` holds parsed values, which are not
//! checked again. What may not be said together is in `check`. Only directories can change: `check_directories` looks at
//! those once, at start. Opening, binding and logging are left to others.

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

/// Everything that the user decides.
#[derive(Clone, Debug)]
pub struct Config {
    /// The site at `/`. Absent only when another setting says what to serve.
    pub root: Option<PathBuf>,
    /// The store behind `/files/`.
    pub directory: Option<PathBuf>,
    /// Sites below prefixes.
    pub statics: Vec<SiteMount>,
    /// Upstreams below prefixes. Several with the same prefix share its requests.
    pub upstreams: Vec<Mount>,
    /// Python applications below prefixes.
    pub applications: Vec<AppMount>,
    /// What holds for a route that decides nothing for itself.
    pub rules: RouteRules,
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
    pub timeouts: Timeouts,
    /// Proxies in front of this server whose fields about the client are believed.
    pub trusted: Vec<TrustedProxy>,
    pub wsgi: WsgiRules,
    pub access_log: LogTarget,
    pub verbosity: Verbosity,
    /// Of all this, what somebody has chosen and what is no default.
    pub given: Given,
    /// What the log is to say of the settings, a sentence each.
    pub warnings: Vec<String>,
}

impl Config {
    /// Checks that the directories to serve exist. Call it before binding: a server without anything to serve must not
    /// accept clients.
    ///
    /// # Errors
    /// Exit code 1, not 2: the command line is well-formed, and the same one works once the directory is there.
    pub fn check_directories(&self) -> Result<(), StartError> {
        let named = [("ROOT", &self.root), ("--directory", &self.directory)];
        for (name, path) in named {
            if let Some(path) = path {
                check_directory(name, path)?;
            }
        }
        for site in &self.statics {
            check_directory("--static", &site.directory)?;
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
