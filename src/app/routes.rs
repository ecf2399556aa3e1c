//! Which route a request belongs to, and what the table of routes says about methods: 501, 405 with `Allow`, OPTIONS.
//!
//! `find` decides and changes nothing; `answer` acts on what was found. The order of the table is the rule of precedence:
//!
//! 1. The longest path goes first: `/static/` before an application at `/`.
//! 2. Of equal paths an upstream goes first, then an application, then what this server answers itself.
//! 3. Of equal paths that this server answers itself, the first that allows the method.
//!
//! A path is matched as it was normalised and, where it has escapes or empty segments, as it is decoded too: names of files
//! are found by the decoded path, so a path whose two readings belong to different routes belongs to none.

use crate::app::body::Reply;
use crate::app::body::temporary::SpoolAccount;
use crate::app::client::Clients;
use crate::app::compress::Coders;
use crate::app::exchange::Next;
use crate::app::files::root_path::{RootPath, Rules};
use crate::app::files::writable::Writable;
use crate::app::forward::fields;
use crate::app::handlers::debug::arguments::Tools;
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
/// What is said of an address that an upstream or an application answers, when the answer is ours to give.
const ELSEWHERE: Methods = STORE.with(Method::Patch).with(Method::Delete);

/// What answers a route, with the data that it needs.
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

/// Which paths a route has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Its own only.
    At,
    /// All that begin with its own, which ends in a slash.
    Below,
    /// Its own, and all that go on with a slash.
    AtOrBelow,
}

#[derive(Debug)]
pub struct Route {
    path: String,
    shape: Shape,
    allow: Methods,
    serve: Serve,
}

/// All routes, the one that is tried first at the front.
#[derive(Debug)]
pub struct Routes {
    routes: Vec<Route>,
    /// A line for each route that this server answers itself, for people.
    lines: Vec<String>,
    /// Whether scripts of other sites may ask: preflights are answered.
    cors: bool,
    /// Whether TRACE is answered.
    trace: bool,
}

/// What `find` has decided.
#[derive(Debug)]
pub enum Found<'a, 'r> {
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
    /// It has a `..` segment.
    Climbs,
    /// It has a second reading, by which it climbs or belongs to another route.
    Ambiguous,
}

impl Route {
    /// What decides between routes that have a path in common.
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

    /// Whether an upstream or an application answers. Then nothing of the request is decided here that need not be.
    fn is_elsewhere(&self) -> bool {
        matches!(self.serve, Serve::Proxy(_) | Serve::Python(_))
    }

    /// Which goes first of routes that are equally deep.
    fn rank(&self) -> usize {
        match self.serve {
            Serve::Proxy(_) => 0,
            Serve::Python(_) => 1,
            _ => 2,
        }
    }
}

impl Routes {
    /// The routes of a configuration. Opens the directories that are served.
    ///
    /// # Errors
    /// A directory cannot be opened, or an upstream's name not be found.
    pub fn new(config: &Config, coders: &Arc<Coders>, spool: &Arc<SpoolAccount>) -> Result<Routes, StartError> {
        let mut table = Table::default();
        table.add_own(config, coders, spool)?;
        let clients = Arc::new(Clients::new(&config.proxy.trusted));
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
        routes.extend(Proxy::all(&config.proxy, &clients, spool)?.into_iter().map(|proxy| {
            let shape = if proxy.prefix.ends_with('/') { Shape::Below } else { Shape::AtOrBelow };
            Route { path: proxy.prefix.clone(), shape, allow: ELSEWHERE, serve: Serve::Proxy(proxy) }
        }));
        routes.extend(Python::all(&config.wsgi, &clients, spool).into_iter().map(|python| {
            let shape = if python.prefix() == "/" { Shape::Below } else { Shape::AtOrBelow };
            Route { path: python.prefix().to_owned(), shape, allow: ELSEWHERE, serve: Serve::Python(python) }
        }));
        // Equal ones keep their order.
        routes.sort_by_key(|route| (std::cmp::Reverse(route.depth()), route.rank()));
        Ok(Routes { routes, lines, cors: config.responses.cors.is_some(), trace: config.trace_method })
    }

    // ---- for people

    /// A line for each route that this server answers itself: its path, what it is, its methods.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Prefixes and the upstreams that answer below them.
    pub fn upstreams(&self) -> impl Iterator<Item = (&str, &str)> {
        self.routes.iter().filter_map(|route| match &route.serve {
            Serve::Proxy(proxy) => Some((proxy.prefix.as_str(), proxy.shown.as_str())),
            _ => None,
        })
    }

    /// Prefixes and the applications that answer below them.
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

    // ---- finding

    /// What is to be done with a request.
    pub fn find<'r>(&self, request: &'r Request) -> Found<'_, 'r> {
        let method = request.method();
        match request.target.form {
            Form::Asterisk => return Found::Options(self.all_methods()),
            Form::Authority => return Found::NotAllowed(Methods::READ),
            Form::Origin | Form::Absolute => {}
        }
        match self.locate(request) {
            Ok((route, rest)) if route.is_elsewhere() => self.found_elsewhere(route, rest, request),
            Ok((route, rest)) if route.allow.contains(method) && is_for_handlers(method) => Found::Route(route, rest),
            Err(Why::Ambiguous) => Found::Nothing(Why::Ambiguous),
            _ if method == Method::Unknown => Found::UnknownMethod,
            Ok((route, rest)) => self.found_here(route, rest, request),
            Err(why) => Found::Nothing(why),
        }
    }

    /// The route that the path belongs to, and what stands behind its own path.
    fn locate<'r>(&self, request: &'r Request) -> Result<(&Route, Rest<'r>), Why> {
        let (target, path) = (&request.target, request.path());
        if target.climbs {
            return Err(Why::Climbs);
        }
        let route = self.longest(path).ok_or(Why::NoRoute)?;
        let decoded = rest::decoded(target);
        if route.is_elsewhere() {
            let passes_all = matches!(&route.serve, Serve::Proxy(proxy) if proxy.paths == PathRule::Raw);
            if !passes_all && spelling::is_ambiguous(path, target.plain) {
                // Another server may read it in its own way.
                let read = spelling::read_leniently(path).ok_or(Why::Ambiguous)?;
                self.longest(&read).filter(|other| std::ptr::eq(*other, route)).ok_or(Why::Ambiguous)?;
            }
            return Ok((route, Rest { encoded: &path[route.path.len()..], decoded: None }));
        }
        if !target.plain
            && let Some(decoded) = &decoded
        {
            let other = self.longest(decoded).filter(|other| !other.is_elsewhere());
            other.filter(|other| other.path == route.path).ok_or(Why::Ambiguous)?;
        }
        Ok((route, Rest::new(target, decoded, route.path.len())))
    }

    fn longest(&self, path: &[u8]) -> Option<&Route> {
        self.routes.iter().find(|route| route.matches(path))
    }

    fn found_elsewhere<'a, 'r>(&self, route: &'a Route, rest: Rest<'r>, request: &Request) -> Found<'a, 'r> {
        let (method, is_upstream) = (request.method(), matches!(route.serve, Serve::Proxy(_)));
        // To go no further (RFC 9110, section 7.6.2).
        let ends_here = || is_upstream && fields::max_forwards(request) == Some(0);
        match method {
            Method::Options if self.cors && cors::is_preflight(request) => Found::Options(route.allow),
            Method::Options if ends_here() => Found::Options(route.allow),
            // An upstream's answer shows what is between the servers.
            Method::Trace if is_upstream && !self.trace => Found::NotAllowed(route.allow),
            Method::Trace if ends_here() => Found::Trace,
            _ => Found::Route(route, rest),
        }
    }

    /// Routes of the same path share what is there: one reads it, another may take a POST.
    fn found_here<'a, 'r>(&'a self, first: &Route, rest: Rest<'r>, request: &Request) -> Found<'a, 'r> {
        let (method, path) = (request.method(), request.path());
        let own = self.routes.iter().filter(|route| !route.is_elsewhere());
        let here = own.filter(|route| route.path == first.path && route.matches(path));
        let allow = here.clone().fold(Methods::NONE, |all, route| all.and(route.allow));
        let allowing = { here }.find(|route| route.allow.contains(method));
        match (allowing, method) {
            (None, _) => Found::NotAllowed(allow),
            (Some(_), Method::Options) => Found::Options(allow),
            (Some(_), Method::Trace) => Found::Trace,
            (Some(route), _) => Found::Route(route, rest),
        }
    }

    fn all_methods(&self) -> Methods {
        let own = self.routes.iter().filter(|route| !route.is_elsewhere());
        own.fold(Methods::READ, |all, route| all.and(route.allow))
    }

    // ---- answering

    /// Answers a request, or says what the answer waits for.
    pub fn answer(&self, found: &Found, request: &Request, responder: Responder, now: &Now) -> Next {
        let reply = match found {
            Found::Route(route, rest) => return route.serve.answer(request, rest, responder, now),
            Found::Options(allow) => self.options(*allow, request, responder),
            Found::Trace => trace::answer(request, responder),
            Found::NotAllowed(allow) => method_not_allowed(*allow, request, responder),
            Found::UnknownMethod => {
                let sentence = "This server does not know the request's method.";
                page::error(Format::of(request), responder, Status::NOT_IMPLEMENTED, sentence)
            }
            Found::Nothing(_) => page::not_found(Format::of(request), responder),
        };
        reply.into()
    }

    fn options(&self, allow: Methods, request: &Request, responder: Responder) -> Reply {
        if self.cors && cors::is_preflight(request) {
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
            Serve::Proxy(proxy) => proxy.answer(request, responder, now),
            Serve::Python(python) => python.answer(request, responder, now),
            Serve::Echo(echo) => echo.answer(request, rest, responder, now).into(),
            Serve::UserAgent(user_agent) => user_agent.answer(request, responder, now).into(),
            Serve::Index(index) => index.answer(request, responder, now).into(),
            Serve::Debug(debug) => debug.answer(request, rest, responder, now),
        }
    }
}

/// Whether a route answers the method itself, where it allows it.
fn is_for_handlers(method: Method) -> bool {
    !matches!(method, Method::Options | Method::Trace | Method::Unknown)
}

fn method_not_allowed(allow: Methods, request: &Request, responder: Responder) -> Reply {
    let mut fields = responder.start(Status::METHOD_NOT_ALLOWED);
    fields.field("Allow", allow_value(allow));
    let sentence = "What is at this address does not allow the request's method.";
    page::finish_error(Format::of(request), fields, Status::METHOD_NOT_ALLOWED, sentence)
}

fn allow_value(allow: Methods) -> Vec<u8> {
    let mut value = Vec::new();
    allow.write(&mut value);
    value
}

// ---- making the table

/// Routes that this server answers itself, in the order in which people are shown them.
#[derive(Default)]
struct Table {
    routes: Vec<Route>,
    /// The path with what its query or its end takes, and what the route does.
    lines: Vec<(String, &'static str)>,
}

impl Table {
    fn add(&mut self, (path, hint, about): (&str, &str, &'static str), shape: Shape, allow: Methods, serve: Serve) {
        self.lines.push((format!("{path}{hint}"), about));
        self.routes.push(Route { path: path.to_owned(), shape, allow, serve });
    }

    fn add_own(&mut self, config: &Config, coders: &Arc<Coders>, spool: &Arc<SpoolAccount>) -> Result<(), StartError> {
        let read = Methods::READ;
        let site = |prefix, path| {
            let site = Site::new(prefix, open(config, path)?, config, coders)?;
            Ok::<_, StartError>(Serve::Site(Box::new(site)))
        };
        // An application or an upstream at / has these addresses for itself.
        let taken = config.wsgi.takes_all() || config.proxy.takes_all();
        if config.endpoints && !taken {
            let echo = Serve::Echo(Echo { coders: Arc::clone(coders) });
            self.add(("/echo/", "{text}", "the text"), Shape::Below, read, echo);
            let user_agent = Serve::UserAgent(UserAgent { coders: Arc::clone(coders) });
            self.add(("/user-agent", "", "the client's User-Agent"), Shape::At, read, user_agent);
        }
        if let Some(prefix) = &config.debug_prefix {
            let tools = Tools { prefix: prefix.clone(), coders: Arc::clone(coders), spool: Arc::clone(spool) };
            for (place, debug) in debug::all(tools) {
                let shape = if place.is_prefix { Shape::Below } else { Shape::At };
                self.add((&place.path, place.hint, place.about), shape, place.allow, Serve::Debug(debug));
            }
        }
        if let Some(path) = &config.directory {
            let directory = Arc::new(Writable::new(open(config, path)?));
            let store = Serve::Store(Store { directory, coders: Arc::clone(coders) });
            let allow = if config.delete { STORE.with(Method::Delete) } else { STORE };
            self.add(("/files/", "{name}", "the store"), Shape::Below, allow, store);
        }
        for mount in &config.wsgi.sites {
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

fn open(config: &Config, path: &Path) -> Result<RootPath, StartError> {
    let SiteRules { symlinks, hidden, etag, .. } = config.site;
    RootPath::open(path, Rules { symlinks, hidden, etag }).map_err(|error| {
        let path = path.display();
        let remedy = "check its name and its permissions";
        StartError::new(format!("cannot open the directory {path}: {error}; {remedy}"))
    })
}

/// The lines with the methods of their routes, in columns.
fn aligned(lines: Vec<(String, &'static str)>, routes: &[Route]) -> Vec<String> {
    let shown = lines.iter().map(|(shown, _)| shown.len()).max().unwrap_or_default();
    let about = lines.iter().map(|(_, about)| about.len()).max().unwrap_or_default();
    let lines = lines.iter().zip(routes).map(|((path, does), route)| {
        let allow = allow_value(route.allow);
        format!("{path:<shown$}  {does:<about$}  {}", String::from_utf8_lossy(&allow))
    });
    lines.collect()
}
