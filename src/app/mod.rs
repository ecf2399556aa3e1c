//! What the server serves: configuration made ready, routes, logs. It may touch files, never sockets.

pub mod body;
pub mod compress;
pub mod exchange;
pub mod files;
pub mod forward;
pub mod handlers;
pub mod observe;
pub mod receive;
pub mod reply;
pub mod routes;
pub mod upstreams;

use crate::app::body::temporary::SpoolAccount;
use crate::app::compress::Coders;
use crate::app::exchange::Next;
use crate::app::files::lookup::Root;
use crate::app::files::writable::Writable;
use crate::app::handlers::proxy::Proxy;
use crate::app::handlers::python::Wsgi;
use crate::app::handlers::site::Site;
use crate::app::observe::access_log::AccessLog;
use crate::app::reply::{cors, page};
use crate::app::routes::Route;
use crate::config::responses::HeaderField;
use crate::config::{Config, Limits, Timeouts};
use crate::http::date::Now;
use crate::http::head::HeadLimits;
use crate::http::request::Request;
use crate::proto::responder::{Common, Responder};
use crate::start_error::StartError;
use std::path::Path;
use std::sync::Arc;

/// The value of the `Server` field.
pub const SERVER: &str = concat!("dustdevil/", env!("CARGO_PKG_VERSION"));

/// Everything that all connections share. Not changed after the start.
#[derive(Debug)]
pub struct App {
    pub limits: Limits,
    pub head_limits: HeadLimits,
    pub timeouts: Timeouts,
    pub access_log: AccessLog,
    pub common: Common,
    /// Whether scripts of other sites may ask: preflights are answered.
    pub cors: bool,
    /// Whether TRACE is answered.
    pub trace: bool,
    pub routes: Vec<Route>,
    /// What the paths of the debug endpoints begin with, when they are on.
    pub debug_prefix: Option<String>,
    /// How much is compressed at a time.
    pub coders: Arc<Coders>,
    /// The site of files at `/`.
    pub site: Option<Site>,
    /// Further sites, each below its own prefix, the longest first.
    pub sites: Vec<Site>,
    /// The store of files at `/files/`.
    pub store: Option<Arc<Writable>>,
    /// What other servers answer.
    pub proxy: Proxy,
    /// What Python applications answer.
    pub wsgi: Option<Wsgi>,
    /// What is kept for all clients in temporary files, and in memory instead.
    pub spool: Arc<SpoolAccount>,
}

impl App {
    /// Opens what is to be served.
    ///
    /// # Errors
    /// A directory or the access log cannot be opened, or an upstream's name not be found.
    pub fn new(config: &Config) -> Result<App, StartError> {
        let open = |path: &Path| {
            Root::open(path, config.site.symlinks, config.site.hidden).map_err(|error| {
                let path = path.display();
                let remedy = "check its name and its permissions";
                StartError::new(format!("cannot open the directory {path}: {error}; {remedy}"))
            })
        };
        let root = config.root.as_deref().map(open).transpose()?;
        let site = root.map(|root| Site::new("/", root, config)).transpose()?;
        let mounts = &config.wsgi.sites;
        let sites = mounts.iter().map(|mount| Site::new(&mount.prefix, open(&mount.directory)?, config));
        let mut sites = sites.collect::<Result<Vec<_>, _>>()?;
        sites.sort_by_key(|site| std::cmp::Reverse(site.prefix.len()));
        let store = config.directory.as_deref().map(open).transpose()?.map(|root| Arc::new(Writable::new(root)));
        let spool = SpoolAccount::new(config.limits.spool);
        let Limits { header_size, target, fields, .. } = config.limits;
        Ok(App {
            limits: config.limits.clone(),
            head_limits: HeadLimits { size: header_size, target, fields },
            timeouts: config.timeouts.clone(),
            access_log: AccessLog::open(&config.access_log)?,
            common: common(config)?,
            cors: config.responses.cors.is_some(),
            trace: config.trace_method,
            routes: routes::table(config),
            debug_prefix: config.debug_prefix.clone(),
            coders: Coders::new(),
            site,
            sites,
            store,
            proxy: Proxy::new(&config.proxy, &spool)?,
            wsgi: Wsgi::new(&config.wsgi, &config.proxy.trusted, &spool)?,
            spool,
        })
    }

    /// The site that a path belongs to.
    pub fn site_of(&self, path: &[u8]) -> Option<&Site> {
        let deeper = self.sites.iter().find(|site| path.starts_with(site.prefix.as_bytes()));
        deeper.or(self.site.as_ref())
    }

    /// Answers a request, or says what the answer waits for.
    pub fn answer(&self, request: &Request, responder: Responder, now: &Now) -> Next {
        routes::dispatch(self, request, responder, now)
    }
}

/// What all responses have in common.
fn common(config: &Config) -> Result<Common, StartError> {
    let rules = &config.responses;
    let mut common = Common::new(SERVER);
    for HeaderField { name, value } in &rules.headers {
        common.add(name, value);
    }
    if let Some(origin) = &rules.cors {
        cors::join(origin, &mut common);
    }
    // Of two pages for one status the last counts, as with every flag: it is found first.
    for page in rules.error_pages.iter().rev() {
        common.error_pages.push(page::read_error_page(page, config.root.as_deref())?);
    }
    Ok(common)
}
