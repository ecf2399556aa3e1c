//! Python applications as handlers: how a request is passed to a worker. `crate::wsgi` manages the processes.

use crate::app::body::temporary::SpoolAccount;
use crate::app::client::Clients;
use crate::app::exchange::Next;
use crate::app::forward::wsgi::WsgiExchange;
use crate::app::forward::{Forward, Protocol};
use crate::app::reply::page::{self, Format};
use crate::app::upstreams::{Address, Group, Upstream};
use crate::config::wsgi::{AppMount, WsgiRules};
use crate::http::date::Now;
use crate::http::head::Name;
use crate::http::method::Method;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::proto::responder::Responder;
use crate::start_error::StartError;
use crate::wsgi::environ::{self, Surroundings};
use crate::wsgi::frames::SERIALS;
use crate::wsgi::python;
use crate::wsgi::shared_supervisor::SharedSupervisor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The least time that a request waits for a worker: all workers may have to be started again.
const QUEUE: Duration = Duration::from_secs(10);

/// The processes of all applications.
#[derive(Debug)]
pub struct Host {
    pub supervisor: SharedSupervisor,
}

impl Host {
    /// Finds the interpreter and starts no process. `None` if there is no application.
    ///
    /// # Errors
    /// The folder of the applications cannot be entered.
    pub fn new(apps: &[AppMount], rules: &WsgiRules) -> Result<Option<Host>, StartError> {
        if apps.is_empty() {
            return Ok(None);
        }
        let supervisor = SharedSupervisor::new(python::specs(apps, rules)?)
            .map_err(|error| StartError::new(format!("the workers of --wsgi cannot be watched: {error}")))?;
        Ok(Some(Host { supervisor }))
    }
}

/// A prefix and the application that answers below it.
#[derive(Debug)]
pub struct Python {
    /// The value of SCRIPT_NAME: empty for `/`.
    prefix: String,
    /// The application, for the log.
    shown: String,
    group: Arc<Group>,
    clients: Arc<Clients>,
    /// The serial of the next request. The answer must carry the same serial.
    serial: AtomicU32,
}

impl Python {
    /// Every application, in the order of its pool of processes.
    pub fn all(apps: &[AppMount], rules: &WsgiRules, clients: &Arc<Clients>, spool: &Arc<SpoolAccount>) -> Vec<Python> {
        let apps = apps.iter().enumerate().map(|(pool, mount)| {
            let upstream = Upstream::new(pool, mount.app.clone(), Address::Worker(pool));
            let group = Group::new(vec![Arc::new(upstream)], rules.timeout.max(QUEUE), rules.timeout, spool);
            let prefix = mount.prefix.trim_end_matches('/').to_owned();
            let (shown, clients) = (mount.app.clone(), Arc::clone(clients));
            Python { prefix, shown, group: Arc::new(group), clients, serial: AtomicU32::new(1) }
        });
        apps.collect()
    }

    /// The prefix: `/`, or a path that does not end in a slash.
    pub fn prefix(&self) -> &str {
        if self.prefix.is_empty() { "/" } else { &self.prefix }
    }

    /// The application, for the log.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Passes a request to its application.
    pub fn answer(&self, request: &Request, responder: Responder, now: &Now) -> Next {
        if environ::contradicts_itself(request) {
            let sentence = "A request must have one Content-Type only.";
            return page::error(Format::of(request), responder, Status::BAD_REQUEST, sentence).into();
        }
        // With content, CONTENT_LENGTH is added when all of the content has been received.
        let content = (!request.has_content && request.head.has(Name::ContentLength)).then_some(0);
        let trusted = self.clients.trusts(request);
        let around = Surroundings { mount: self.prefix.as_bytes(), content, trusted };
        let mut environ = Vec::with_capacity(request.head.len + 512);
        environ::write(request, &around, &mut environ);
        let serial = self.serial.fetch_add(1, Ordering::Relaxed) % SERIALS;
        let exchange = WsgiExchange::new(environ, serial, request.method() == Method::Head);
        let protocol = Protocol::Wsgi(Box::new(exchange));
        match Forward::new(self.group.clone(), protocol, request.has_content, now.instant) {
            Some(forward) => Next::Forward(Box::new(forward)),
            None => {
                let sentence = "There is no application behind this address at the moment.";
                page::error(Format::of(request), responder, Status::SERVICE_UNAVAILABLE, sentence).into()
            }
        }
    }
}
