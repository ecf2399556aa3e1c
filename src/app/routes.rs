//! The table of routes: finds the route of a request, and answers OPTIONS, 405 with `Allow`, and 501.
//!
//! `find` decides and changes nothing. `answer` acts on its result. The table is sorted by precedence:
//!
//! 1. The route with the longest path is first: `/static/` before an application at `/`.
//! 2. If paths are equal, an upstream is first, then an application, then the routes that this server answers itself.
//! 3. If several routes that this server answers itself have the same path, the first that allows the method is used.
//!
//! The normalised path decides. If the path has escapes or empty segments, the decoded path is matched as well, because
//! files are found by the decoded path. If the two paths belong to different routes, the request belongs to no route.

use crate::app::body::Reply;
use crate::app::body::temporary::SpoolAccount;
use crate::app::client::Clients;
use crate::app::compress::Coders;
use crate::app::exchange::Next;
use crate::app::files::root_path::{RootPath, RootRules};
use crate::app::files::writable::Writable;
use crate::app::forward::fields;
use crate::app::handlers::debug::arguments::DebugData;
use crate::app::handlers::debug::{self, Debug};
use crate::app::handlers::echo::Echo;
use crate::app::handlers::index::Index;
use crate::app::handlers::proxy::Proxy;
use crate::app::handlers::python::Python;
use crate::app::handlers::site::Site;
use crate::app::handlers::store::Store;
use crate::app::handlers::trace;
use crate::app::handlers::user_agent::UserAgent;
use crate::app::reply::cors;
use crate::app::reply::page::{self, Format};
use crate::app::rules::{Rules, RulesId, RulesTable};
use crate::app::upstreams::names::Names;
use crate::config::Config;
use crate::config::proxy::PathRule;
use crate::config::site::SiteRules;
use crate::http::date::Now;
use crate::http::method::{Method, Methods};
use crate::http::request::Request;
use crate::http::rest::{self, Rest};
use crate::http::spelling;
use crate::http::status::Status;
use crate::http::target::Form;
use crate::proto::responder::Responder;
use crate::start_error::StartError;
use std::path::Path;
use std::sync::Arc;

const STORE: Methods = Methods::READ.with(Method::Post).with(Method::Put);
/// The methods in the `Allow` field that this server itself sends for a route of an upstream or an application.
const ELSEWHERE: Methods = STORE.with(Method::Patch).with(Method::Delete);

/// The handler of a route, with its data.
#[derive(Debug)]
pub enum Serve {
    Site(Box<Site>),
    Store(Store),
    Proxy(Proxy),
    Python(Python),
    Echo(Echo),
    UserAgent(UserAgent),
    Index(Index),
    Debug(Debug),
}

/// Which request paths match a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// The route's own path only.
    At,
    /// Every path that begins with the route's own path, which ends in a slash.
    Below,
    /// The route's own path, and every path that continues it with a slash.
    AtOrBelow,
}

#[derive(Debug)]
pub struct Route {
    path: String,
    shape: Shape,
    allow: Methods,
    rules: RulesId,
    serve: Serve,
}

/// All routes, in the order in which they are tried.
#[derive(Debug)]
pub struct Routes {
    routes: Vec<Route>,
    rules: RulesTable,
    /// A line for people for each route that this server answers itself.
    lines: Vec<String>,
    names: Arc<Names>,
    /// Whether TRACE is answered.
    trace: bool,
}

/// The result of `find`.
#[derive(Debug)]
pub struct Found<'a, 'r> {
    /// Those of the route that the path belongs to.
    pub rules: RulesId,
    pub verdict: Verdict<'a, 'r>,
}

/// What is done with a request.
#[derive(Debug)]
pub enum Verdict<'a, 'r> {
    /// The route answers.
    Route(&'a Route, Rest<'r>),
    /// OPTIONS: the methods that are allowed.
    Options(Methods),
    Trace,
    /// 405
    NotAllowed(Methods),
    /// 501: the server does not know the method.
    UnknownMethod,
    /// 404
    Nothing(Why),
}

/// Why a path belongs to no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    NoRoute,
    /// The path has a `..` segment.
    DotDot,
    /// The path can be decoded in a second way, which climbs or belongs to another route.
    Ambiguous,
}

impl Route {
    /// If several routes match a path, the one with the greatest depth is used.
    fn depth(&self) -> usize {
        self.path.len() + usize::from(self.shape == Shape::AtOrBelow)
    }

    fn matches(&self, path: &[u8]) -> bool {
        let Some(rest) = path.strip_prefix(self.path.as_bytes()) else { return false };
        match self.shape {
            Shape::At => rest.is_empty(),
            Shape::Below => true,
            Shape::AtOrBelow => matches!(rest, [] | [b'/', ..]),
        }
    }

    /// Whether an upstream or an application answers. If so, this server decides as little as possible about the
    /// request.
    fn is_forwarded(&self) -> bool {
        matches!(self.serve, Serve::Proxy(_) | Serve::Python(_))
    }

    /// The order of routes of equal depth: the lowest rank is first.
    fn rank(&self) -> usize {
        match self.serve {
            Serve::Proxy(_) => 0,
            Serve::Python(_) => 1,
            _ => 2,
        }
    }
}

impl Routes {
    /// Makes the routes of a configuration, and opens the directories to serve.
    ///
    /// # Errors
    /// A directory or an error page cannot be opened.
    pub fn new(config: &Config, coders: &Arc<Coders>, spool: &Arc<SpoolAccount>) -> Result<Routes, StartError> {
        let rules = RulesTable::new(Rules::new(&config.rules, config.root.as_deref())?);
        let mut table = Table::default();
        table.add_own(config, coders, spool)?;
        let clients = Arc::new(Clients::new(&config.trusted));
        let Table { mut routes, lines } = table;
        for route in &mut routes {
            if config.trace_method {
                route.allow = route.allow.with(Method::Trace);
            }
        }
        let lines = aligned(lines, &routes);
        for route in &mut routes {
            if let Serve::Index(index) = &mut route.serve {
                index.lines = lines.clone();
            }
        }
        let elsewhere = |path: &str, serve| {
            let shape = if path.ends_with('/') { Shape::Below } else { Shape::AtOrBelow };
            Route { path: path.to_owned(), shape, allow: ELSEWHERE, rules: RulesId::default(), serve }
        };
        let names = Arc::new(Names::default());
        let proxies = Proxy::all(&config.upstreams, &config.rules.proxy, &clients, spool, &names);
        routes.extend(proxies.into_iter().map(|proxy| elsewhere(&proxy.prefix.clone(), Serve::Proxy(proxy))));
        let applications = Python::all(&config.applications, &config.wsgi, &clients, spool);
        routes.extend(applications.into_iter().map(|python| {
            let path = python.prefix().to_owned();
            elsewhere(&path, Serve::Python(python))
        }));
        // The sort is stable: equal routes keep their order.
        routes.sort_by_key(|route| (std::cmp::Reverse(route.depth()), route.rank()));
        Ok(Routes { routes, rules, lines, names, trace: config.trace_method })
    }

    /// The host names of upstreams, for an engine to look up.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Gives the routes of a path rules of their own.
    #[cfg(test)]
    pub fn give(&mut self, path: &str, rules: Rules) {
        let rules = self.rules.add(rules);
        self.routes.iter_mut().filter(|route| route.path == path).for_each(|route| route.rules = rules);
    }

    // ---- for people

    /// A line for each route that this server answers itself: path, description, methods.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The prefix and the upstreams of each proxy route.
    pub fn upstreams(&self) -> impl Iterator<Item = (&str, &str)> {
        self.routes.iter().filter_map(|route| match &route.serve {
            Serve::Proxy(proxy) => Some((proxy.prefix.as_str(), proxy.shown.as_str())),
            _ => None,
        })
    }

    /// The prefix and the application of each WSGI route.
    pub fn applications(&self) -> impl Iterator<Item = (&str, &str)> {
        self.routes.iter().filter_map(|route| match &route.serve {
            Serve::Python(python) => Some((python.prefix(), python.shown())),
            _ => None,
        })
    }

    pub fn sites(&self) -> impl Iterator<Item = &Site> {
        self.routes.iter().filter_map(|route| match &route.serve {
            Serve::Site(site) => Some(&**site),
            _ => None,
        })
    }

    /// The directories that requests may change.
    pub fn stores(&self) -> impl Iterator<Item = &Arc<Writable>> {
        self.routes.iter().filter_map(|route| match &route.serve {
            Serve::Store(store) => Some(&store.directory),
            _ => None,
        })
    }

    // ---- finding

    /// The rules of a request's route.
    #[inline]
    pub fn rules(&self, id: RulesId) -> &Rules {
        self.rules.of(id)
    }

    /// Finds the route of a request, or decides the answer without one.
    pub fn find<'r>(&self, request: &'r Request) -> Found<'_, 'r> {
        let of_server = |verdict| Found { rules: RulesId::default(), verdict };
        let located = match request.target.form {
            Form::Asterisk => return of_server(Verdict::Options(self.all_methods())),
            Form::Authority => return of_server(Verdict::NotAllowed(Methods::READ)),
            Form::Origin | Form::Absolute => self.locate(request),
        };
        let rules = located.as_ref().map_or(RulesId::default(), |(route, _)| route.rules);
        match self.judge(located, request) {
            // Of routes with the same path, another one may allow the method.
            verdict @ Verdict::Route(route, _) => Found { rules: route.rules, verdict },
            verdict => Found { rules, verdict },
        }
    }

    fn judge<'a, 'r>(&'a self, located: Result<(&'a Route, Rest<'r>), Why>, request: &Request) -> Verdict<'a, 'r> {
        let method = request.method();
        match located {
            Ok((route, rest)) if route.is_forwarded() => self.found_forwarded(route, rest, request),
            Ok((route, rest)) if route.allow.contains(method) && is_for_handlers(method) => Verdict::Route(route, rest),
            Err(Why::Ambiguous) => Verdict::Nothing(Why::Ambiguous),
            _ if method == Method::Unknown => Verdict::UnknownMethod,
            Ok((route, rest)) => self.found_here(route, rest, request),
            Err(why) => Verdict::Nothing(why),
        }
    }

    /// The route that the path belongs to, and the rest of the path behind the route's own path.
    fn locate<'r>(&self, request: &'r Request) -> Result<(&Route, Rest<'r>), Why> {
        let (target, path) = (&request.target, request.path());
        if target.has_dot_dot {
            return Err(Why::DotDot);
        }
        let route = self.longest(path).ok_or(Why::NoRoute)?;
        let decoded = rest::decoded(target);
        if route.is_forwarded() {
            let passes_all = matches!(&route.serve, Serve::Proxy(proxy) if proxy.paths == PathRule::Raw);
            if !passes_all && spelling::is_ambiguous(path, target.plain) {
                // The upstream or application may decode the path in another way.
                let read = spelling::read_leniently(path).ok_or(Why::Ambiguous)?;
                self.longest(&read).filter(|other| std::ptr::eq(*other, route)).ok_or(Why::Ambiguous)?;
            }
            return Ok((route, Rest::passed_on(target, route.path.len(), route.matches(target.raw_path()))));
        }
        if !target.plain
            && let Some(decoded) = &decoded
        {
            let other = self.longest(decoded).filter(|other| !other.is_forwarded());
            other.filter(|other| other.path == route.path).ok_or(Why::Ambiguous)?;
        }
        Ok((route, Rest::new(target, decoded, route.path.len())))
    }

    fn longest(&self, path: &[u8]) -> Option<&Route> {
        self.routes.iter().find(|route| route.matches(path))
    }

    fn found_forwarded<'a, 'r>(&self, route: &'a Route, rest: Rest<'r>, request: &Request) -> Verdict<'a, 'r> {
        let (method, is_upstream) = (request.method(), matches!(route.serve, Serve::Proxy(_)));
        // Max-Forwards: 0 forbids forwarding (RFC 9110, section 7.6.2).
        let ends_here = || is_upstream && fields::max_forwards(request) == Some(0);
        match method {
            Method::Options if self.rules(route.rules).cors && cors::is_preflight(request) => {
                Verdict::Options(route.allow)
            }
            Method::Options if ends_here() => Verdict::Options(route.allow),
            // An upstream's answer to TRACE would show fields that this server has added, and others between the two
            // servers.
            Method::Trace if is_upstream && !self.trace => Verdict::NotAllowed(route.allow),
            Method::Trace if ends_here() => Verdict::Trace,
            _ => Verdict::Route(route, rest),
        }
    }

    /// Several routes can have the same path: one answers GET, another POST. Chooses the one that allows the method.
    fn found_here<'a, 'r>(&'a self, first: &Route, rest: Rest<'r>, request: &Request) -> Verdict<'a, 'r> {
        let (method, path) = (request.method(), request.path());
        let own = self.routes.iter().filter(|route| !route.is_forwarded());
        let here = own.filter(|route| route.path == first.path && route.matches(path));
        let allow = here.clone().fold(Methods::NONE, |all, route| all.and(route.allow));
        let allowing = { here }.find(|route| route.allow.contains(method));
        match (allowing, method) {
            (None, _) => Verdict::NotAllowed(allow),
            (Some(_), Method::Options) => Verdict::Options(allow),
            (Some(_), Method::Trace) => Verdict::Trace,
            (Some(route), _) => Verdict::Route(route, rest),
        }
    }

    fn all_methods(&self) -> Methods {
        let own = self.routes.iter().filter(|route| !route.is_forwarded());
        own.fold(Methods::READ, |all, route| all.and(route.allow))
    }

    // ---- answering

    /// Answers a request, or returns what the answer has to wait for.
    pub fn answer(&self, found: &Found, request: &Request, responder: Responder, now: &Now) -> Next {
        let reply = match &found.verdict {
            Verdict::Route(route, rest) => return route.serve.answer(request, rest, responder, now),
            Verdict::Options(allow) => self.options(*allow, found.rules, request, responder),
            Verdict::Trace => trace::answer(request, responder),
            Verdict::NotAllowed(allow) => method_not_allowed(*allow, request, responder),
            Verdict::UnknownMethod => {
                let sentence = "This server does not know the request's method.";
                page::error(Format::of(request), responder, Status::NOT_IMPLEMENTED, sentence)
            }
            Verdict::Nothing(_) => page::not_found(Format::of(request), responder),
        };
        reply.into()
    }

    fn options(&self, allow: Methods, rules: RulesId, request: &Request, responder: Responder) -> Reply {
        if self.rules(rules).cors && cors::is_preflight(request) {
            return cors::preflight(&allow_value(allow), request, responder);
        }
        let mut fields = responder.start(Status::NO_CONTENT);
        fields.field("Allow", allow_value(allow));
        fields.empty();
        Reply::Done
    }
}

impl Serve {
    fn answer(&self, request: &Request, rest: &Rest, responder: Responder, now: &Now) -> Next {
        match self {
            Serve::Site(site) => site.answer(request, rest, responder, now),
            Serve::Store(store) => store.answer(request, rest, responder, now),
            Serve::Proxy(proxy) => proxy.answer(request, rest, responder, now),
            Serve::Python(python) => python.answer(request, responder, now),
            Serve::Echo(echo) => echo.answer(request, rest, responder, now).into(),
            Serve::UserAgent(user_agent) => user_agent.answer(request, responder, now).into(),
            Serve::Index(index) => index.answer(request, responder, now).into(),
            Serve::Debug(debug) => debug.answer(request, rest, responder, now),
        }
    }
}

/// Whether handlers answer the method. OPTIONS, TRACE and unknown methods are answered here.
fn is_for_handlers(method: Method) -> bool {
    !matches!(method, Method::Options | Method::Trace | Method::Unknown)
}

fn method_not_allowed(allow: Methods, request: &Request, responder: Responder) -> Reply {
    let mut fields = responder.start(Status::METHOD_NOT_ALLOWED);
    fields.field("Allow", allow_value(allow));
    let sentence = "The resource at this address does not allow the request's method.";
    page::finish_error(Format::of(request), fields, Status::METHOD_NOT_ALLOWED, sentence)
}

fn allow_value(allow: Methods) -> Vec<u8> {
    let mut value = Vec::new();
    allow.write(&mut value);
    value
}

// ---- making the table

/// The routes that this server answers itself, in the order in which they are listed for people.
#[derive(Default)]
struct Table {
    routes: Vec<Route>,
    /// For each route: its path with the hint for its argument, and its description.
    lines: Vec<(String, &'static str)>,
}

impl Table {
    fn add(&mut self, (path, hint, about): (&str, &str, &'static str), shape: Shape, allow: Methods, serve: Serve) {
        self.lines.push((format!("{path}{hint}"), about));
        self.routes.push(Route { path: path.to_owned(), shape, allow, rules: RulesId::default(), serve });
    }

    fn add_own(&mut self, config: &Config, coders: &Arc<Coders>, spool: &Arc<SpoolAccount>) -> Result<(), StartError> {
        let read = Methods::READ;
        let rules = &config.rules;
        let site = |prefix, path| {
            let site = Site::new(prefix, open(&rules.site, path)?, rules.site.clone(), config.limits.cache, coders)?;
            Ok::<_, StartError>(Serve::Site(Box::new(site)))
        };
        // An application or an upstream at / answers these paths itself.
        let taken = config.applications.iter().any(|mount| mount.prefix == "/")
            || config.upstreams.iter().any(|mount| mount.prefix == "/");
        if config.endpoints && !taken {
            let echo = Serve::Echo(Echo { coders: Arc::clone(coders) });
            self.add(("/echo/", "{text}", "the text"), Shape::Below, read, echo);
            let user_agent = Serve::UserAgent(UserAgent { coders: Arc::clone(coders) });
            self.add(("/user-agent", "", "the client's User-Agent"), Shape::At, read, user_agent);
        }
        if let Some(prefix) = &config.debug_prefix {
            let tools = DebugData { prefix: prefix.clone(), coders: Arc::clone(coders), spool: Arc::clone(spool) };
            for (place, debug) in debug::all(tools) {
                let shape = if place.is_prefix { Shape::Below } else { Shape::At };
                self.add((&place.path, place.hint, place.about), shape, place.allow, Serve::Debug(debug));
            }
        }
        if let Some(path) = &config.directory {
            let directory = Arc::new(Writable::new(open(&rules.site, path)?));
            let store = Serve::Store(Store { directory, coders: Arc::clone(coders) });
            let allow = if rules.delete { STORE.with(Method::Delete) } else { STORE };
            self.add(("/files/", "{name}", "the store"), Shape::Below, allow, store);
        }
        for mount in &config.statics {
            let serve = site(&mount.prefix, &mount.directory)?;
            self.add((&mount.prefix, "", "files"), Shape::Below, read, serve);
        }
        if let Some(path) = &config.root {
            self.add(("/", "", "the site"), Shape::Below, read, site("/", path)?);
        } else if !taken {
            let index = Serve::Index(Index { coders: Arc::clone(coders), lines: Vec::new() });
            self.add(("/", "", "this list"), Shape::At, read, index);
        }
        Ok(())
    }
}

fn open(rules: &SiteRules, path: &Path) -> Result<RootPath, StartError> {
    let SiteRules { symlinks, hidden, etag, .. } = *rules;
    RootPath::open(path, RootRules { symlinks, hidden, etag }).map_err(|error| {
        let path = path.display();
        let remedy = "check its name and its permissions";
        StartError::new(format!("cannot open the directory {path}: {error}; {remedy}"))
    })
}

/// Adds the methods of the routes to the lines, and aligns them in columns.
fn aligned(lines: Vec<(String, &'static str)>, routes: &[Route]) -> Vec<String> {
    let shown = lines.iter().map(|(shown, _)| shown.len()).max().unwrap_or_default();
    let about = lines.iter().map(|(_, about)| about.len()).max().unwrap_or_default();
    let lines = lines.iter().zip(routes).map(|((path, does), route)| {
        let allow = allow_value(route.allow);
        format!("{path:<shown$}  {does:<about$}  {}", String::from_utf8_lossy(&allow))
    });
    lines.collect()
}
