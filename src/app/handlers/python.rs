//! Python applications as handlers: which application answers below which prefix, and how a request is passed to a
//! worker. The processes are the business of `crate::wsgi`.

use crate::app::body::temporary::SpoolAccount;
use crate::app::exchange::Next;
use crate::app::forward::wsgi::WsgiExchange;
use crate::app::forward::{Forward, Protocol};
use crate::app::reply::page::{self, Format};
use crate::app::upstreams::{Address, Group, Upstream};
use crate::config::proxy::{TrustedProxy, is_trusted};
use crate::config::wsgi::WsgiRules;
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

/// A request may wait for a worker at least this long: it may be that all workers have to be started again.
const QUEUE: Duration = Duration::from_secs(10);

/// The applications, their prefixes and the workers.
#[derive(Debug)]
pub struct Wsgi {
    /// The longest prefix first.
    mounts: Vec<Mount>,
    /// Proxies whose fields about the client are believed.
    trusted: Vec<TrustedProxy>,
    /// The serial of the next request: an answer must carry the same.
    serial: AtomicU32,
    pub supervisor: SharedSupervisor,
}

/// A prefix and the application that answers below it.
#[derive(Debug)]
pub struct Mount {
    /// The value of SCRIPT_NAME: empty for `/`.
    prefix: String,
    group: Arc<Group>,
}

impl Wsgi {
    /// Finds the interpreter; starts nothing yet. `None` when there is no application.
    ///
    /// # Errors
    /// The folder of the applications cannot be entered.
    pub fn new(
        rules: &WsgiRules,
        trusted: &[TrustedProxy],
        spool: &Arc<SpoolAccount>,
    ) -> Result<Option<Wsgi>, StartError> {
        if rules.apps.is_empty() {
            return Ok(None);
        }
        let specs = python::specs(rules)?;
        let mut mounts = Vec::new();
        for (pool, mount) in rules.apps.iter().enumerate() {
            let upstream = Upstream::new(pool, mount.app.clone(), Address::Worker(pool));
            let group = Group::new(vec![Arc::new(upstream)], rules.timeout.max(QUEUE), rules.timeout, spool);
            mounts.push(Mount { prefix: mount.prefix.trim_end_matches('/').to_owned(), group: Arc::new(group) });
        }
        mounts.sort_by_key(|mount| std::cmp::Reverse(mount.prefix.len()));
        let supervisor = SharedSupervisor::new(specs)
            .map_err(|error| StartError::new(format!("the workers of --wsgi cannot be watched: {error}")))?;
        Ok(Some(Wsgi { mounts, trusted: trusted.to_vec(), serial: AtomicU32::new(1), supervisor }))
    }

    /// Prefixes and applications, for the log.
    pub fn shown(&self) -> impl Iterator<Item = (&str, &str)> {
        self.mounts.iter().map(|mount| match mount.prefix.as_str() {
            "" => ("/", mount.group.upstreams[0].name.as_str()),
            prefix => (prefix, mount.group.upstreams[0].name.as_str()),
        })
    }

    /// The application that a path belongs to.
    pub fn find(&self, path: &[u8]) -> Option<&Mount> {
        self.mounts.iter().find(|mount| {
            let rest = path.strip_prefix(mount.prefix.as_bytes());
            rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        })
    }

    /// The server speaks no TLS itself: only a proxy in front of it knows that the client came by https.
    fn scheme(request: &Request, trusted: bool) -> &'static str {
        let is_https = |(name, value): (&[u8], &[u8])| {
            name.eq_ignore_ascii_case(b"x-forwarded-proto") && value.eq_ignore_ascii_case(b"https")
        };
        if trusted && request.fields().any(is_https) { "https" } else { "http" }
    }

    /// Passes a request to its application.
    pub fn answer(&self, mount: &Mount, request: &Request, responder: Responder, now: &Now) -> Next {
        // With content, CONTENT_LENGTH is added when all of the content has been received.
        let content = (!request.has_content && request.head.has(Name::ContentLength)).then_some(0);
        let trusted = is_trusted(&self.trusted, request.peer);
        let scheme = Wsgi::scheme(request, trusted);
        let around = Surroundings { mount: mount.prefix.as_bytes(), scheme, content, trusted };
        let mut environ = Vec::with_capacity(request.head.len + 512);
        environ::write(request, &around, &mut environ);
        let serial = self.serial.fetch_add(1, Ordering::Relaxed) % SERIALS;
        let exchange = WsgiExchange::new(environ, serial, request.method() == Method::Head);
        let protocol = Protocol::Wsgi(Box::new(exchange));
        match Forward::new(mount.group.clone(), protocol, request.has_content, now.instant) {
            Some(forward) => Next::Forward(Box::new(forward)),
            None => {
                let sentence = "There is no application behind this address at the moment.";
                page::error(Format::of(request), responder, Status::SERVICE_UNAVAILABLE, sentence).into()
            }
        }
    }
}

impl Mount {
    /// The length of its prefix, with the slash at the end.
    pub fn depth(&self) -> usize {
        self.prefix.len() + 1
    }
}
