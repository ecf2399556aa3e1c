//! What the server serves: the prepared configuration, routes, logs. It may touch files, never sockets.
//!
//! A file imports only from floors below its own and from its own folder (`tests/guard_floors.rs`):
//!
//! | floor | what is there |
//! |---|---|
//! | [`App`] | limits, timeouts, the table of routes, the log |
//! | [`routes`] | `find` decides which route a request belongs to, and checks the method; `answer` acts on that |
//! | [`handlers`] | what answers a route: a struct with its data |
//! | [`rules`] | the rules of a route, whichever handler answers |
//! | [`exchange`] | the result of a handler, as a value that the session holds |
//! | [`receive`] | what a response waits for: the request's content, a time, or a listing that is made in steps |
//! | [`reply`], [`forward`] | whole answers that wait for nothing; a request that another process answers |
//! | [`upstreams`] | which of several equal upstreams is next, and the addresses of their names |
//! | [`body`], [`observe`] | where content comes from or is kept; logs and metrics of responses that have ended |
//! | [`files`] | the disk |
//! | [`compress`], [`client`] | content codings; which client sends a request |

pub mod body;
pub mod client;
pub mod compress;
pub mod exchange;
pub mod files;
pub mod forward;
pub mod handlers;
pub mod observe;
pub mod receive;
pub mod reply;
pub mod routes;
pub mod rules;
pub mod upstreams;

use crate::app::body::temporary::SpoolAccount;
use crate::app::client::Clients;
use crate::app::compress::Coders;
use crate::app::files::listing::shelf::Shelf;
use crate::app::files::writable::Writable;
use crate::app::handlers::python::Host;
use crate::app::observe::access_log::AccessLog;
use crate::app::routes::Routes;
use crate::app::rules::{Rules, RulesId};
use crate::config::{Config, Limits, Timeouts};
use crate::http::head::HeadLimits;
use crate::start_error::StartError;
use std::sync::Arc;
use std::time::Instant;

/// Everything that all connections share. It does not change after the start.
#[derive(Debug)]
pub struct App {
    pub limits: Limits,
    pub head_limits: HeadLimits,
    pub timeouts: Timeouts,
    pub access_log: AccessLog,
    pub clients: Clients,
    pub routes: Routes,
    /// The listings of all sites.
    listings: Vec<Arc<Shelf>>,
    /// The directories that requests may change.
    stores: Vec<Arc<Writable>>,
    /// The processes of Python applications.
    pub wsgi: Option<Host>,
    /// The account of temporary files, and of content in memory that may move to one.
    pub spool: Arc<SpoolAccount>,
}

impl App {
    /// Opens the directories and files that the configuration names.
    ///
    /// # Errors
    /// A directory, an error page or the access log cannot be opened.
    pub fn new(config: &Config) -> Result<App, StartError> {
        let spool = SpoolAccount::new(config.limits.spool);
        let routes = Routes::new(config, &Coders::new(), &spool)?;
        let Limits { header_size, target, fields, .. } = config.limits;
        Ok(App {
            limits: config.limits.clone(),
            head_limits: HeadLimits { size: header_size, target, fields },
            timeouts: config.timeouts.clone(),
            access_log: AccessLog::open(&config.access_log)?,
            clients: Clients::new(&config.trusted),
            listings: routes.sites().map(|site| Arc::clone(site.listings())).collect(),
            stores: routes.stores().map(Arc::clone).collect(),
            routes,
            wsgi: Host::new(&config.applications, &config.wsgi)?,
            spool,
        })
    }

    /// The rules of a request's route.
    #[inline]
    pub fn rules(&self, id: RulesId) -> &Rules {
        self.routes.rules(id)
    }

    /// When `do_chores` is to be called even if no request comes.
    pub fn next_chore(&self, now: Instant) -> Option<Instant> {
        let expiries = self.listings.iter().filter_map(|shelf| shelf.next_expiry());
        let discarded = self.spool.has_discarded().then_some(now);
        let sweeps = self.stores.iter().filter_map(|store| store.next_chore(now));
        self.access_log.next_flush(now).into_iter().chain(discarded).chain(expiries).chain(sweeps).min()
    }

    /// Does the work that no request asks for. Writes the access log's `lines`, and those that waited for a slow reader
    /// of the log. Frees memory and disk space that is no longer needed, with the leftovers of killed servers, a piece
    /// at a time.
    pub fn do_chores(&self, lines: &mut Vec<u8>, now: Instant) {
        self.access_log.flush(lines, now);
        self.spool.free_some();
        self.listings.iter().for_each(|shelf| shelf.expire(now));
        self.stores.iter().for_each(|store| store.do_chore(now));
    }
}
