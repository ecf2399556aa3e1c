//! What the server serves: configuration made ready, routes, logs. It may touch files, never sockets.

pub mod access_log;
pub mod body;
pub mod coding;
pub mod debug;
pub mod echo;
pub mod exchange;
pub mod files;
pub mod generated;
pub mod index;
pub mod pages;
pub mod routes;
pub mod upload;
pub mod user_agent;

use crate::app::access_log::AccessLog;
use crate::app::exchange::Next;
use crate::app::files::lookup::{Root, Symlinks};
use crate::app::routes::Route;
use crate::config::{Config, Limits, Timeouts};
use crate::http::date::Now;
use crate::http::head::HeadLimits;
use crate::http::request::Request;
use crate::proto::responder::Responder;
use crate::start_error::StartError;
use std::path::Path;

/// The value of the `Server` field.
pub const SERVER: &str = concat!("dustdevil/", env!("CARGO_PKG_VERSION"));

/// Everything that all connections share. Not changed after the start.
#[derive(Debug)]
pub struct App {
    pub limits: Limits,
    pub head_limits: HeadLimits,
    pub timeouts: Timeouts,
    pub access_log: AccessLog,
    /// Field lines that every response carries.
    pub common: Vec<u8>,
    pub routes: Vec<Route>,
    /// What the paths of the debug endpoints begin with, when they are on.
    pub debug_prefix: Option<String>,
    /// The site of files at `/`.
    pub site: Option<Site>,
    /// The store of files at `/files/`.
    pub store: Option<Root>,
}

/// A directory served as a site.
#[derive(Debug)]
pub struct Site {
    pub root: Root,
    /// Whether a directory without an index shows its names.
    pub listing: bool,
}

impl App {
    /// Opens what is to be served.
    ///
    /// # Errors
    /// A directory or the access log cannot be opened.
    pub fn new(config: &Config) -> Result<App, StartError> {
        let site = match &config.root {
            Some(path) => Some(Site { root: open(path)?, listing: config.listing }),
            None => None,
        };
        let store = config.directory.as_deref().map(open).transpose()?;
        let Limits { header_size, target, fields, .. } = config.limits;
        Ok(App {
            limits: config.limits.clone(),
            head_limits: HeadLimits { size: header_size, target, fields },
            timeouts: config.timeouts.clone(),
            access_log: AccessLog::open(&config.access_log)?,
            common: format!("Server: {SERVER}\r\n").into_bytes(),
            routes: routes::table(config),
            debug_prefix: config.debug_prefix.clone(),
            site,
            store,
        })
    }

    /// Answers a request, or says what the answer waits for.
    pub fn answer(&self, request: &Request, responder: Responder, now: &Now) -> Next {
        routes::dispatch(self, request, responder, now)
    }
}

fn open(path: &Path) -> Result<Root, StartError> {
    Root::open(path, Symlinks::Inside, false).map_err(|error| {
        let path = path.display();
        StartError::new(format!("cannot open the directory {path}: {error}; check its name and its permissions"))
    })
}
