//! Which handler answers which request: a short table, searched from its top, and what the table says
//! about methods: 501, 405 with `Allow`, OPTIONS.

use crate::app::App;
use crate::app::body::Reply;
use crate::app::exchange::Next;
use crate::app::forward::fields;
use crate::app::handlers::python::{self, Wsgi};
use crate::app::handlers::{debug, echo, index, proxy, site, store, trace, user_agent};
use crate::app::reply::cors;
use crate::app::reply::page::{self, Format};
use crate::config::Config;
use crate::config::proxy::PathRule;
use crate::http::date::Now;
use crate::http::method::{Method, Methods};
use crate::http::request::Request;
use crate::http::spelling;
use crate::http::status::Status;
use crate::http::target::Form;
use crate::proto::responder::Responder;

/// Answers a request: borrows the input, writes the output, returns what is left to be done.
pub type Handler = fn(&App, &Request, Responder, &Now) -> Next;

const STORE: Methods = Methods::READ.with(Method::Post).with(Method::Put);
/// What is said of an address that an upstream or an application answers, when the answer is ours to give.
const ELSEWHERE: Methods = STORE.with(Method::Patch).with(Method::Delete);

#[derive(Debug)]
pub struct Route {
    path: String,
    /// Whether the path is only the beginning of those that match.
    prefix: bool,
    pub allow: Methods,
    handler: Handler,
    /// How it is shown to people.
    pub shown: String,
    /// What it does, in a few words.
    pub about: &'static str,
}

impl Route {
    /// The route of one path. `hint` shows people what its query takes.
    pub fn at(path: impl Into<String>, hint: &str, allow: Methods, handler: Handler, about: &'static str) -> Route {
        let path = path.into();
        let shown = format!("{path}{hint}");
        Route { path, prefix: false, allow, handler, shown, about }
    }

    /// The route of every path that begins with `path`. `hint` shows people what may follow.
    pub fn below(path: impl Into<String>, hint: &str, allow: Methods, handler: Handler, about: &'static str) -> Route {
        Route { prefix: true, ..Route::at(path, hint, allow, handler, about) }
    }

    fn matches(&self, path: &[u8]) -> bool {
        if self.prefix { path.starts_with(self.path.as_bytes()) } else { path == self.path.as_bytes() }
    }
}

/// The routes of a configuration, in the order in which they are tried.
pub fn table(config: &Config) -> Vec<Route> {
    let mut routes = Vec::new();
    // An application or an upstream at / has these addresses for itself.
    let taken = config.wsgi.takes_all() || config.proxy.takes_all();
    if config.endpoints && !taken {
        routes.push(Route::below(
            "/echo/",
            "{text}",
            Methods::READ,
            |app, request, responder, now| echo::answer(app, request, responder, now).into(),
            "the text",
        ));
        routes.push(Route::at(
            "/user-agent",
            "",
            Methods::READ,
            |app, request, responder, now| user_agent::answer(app, request, responder, now).into(),
            "the client's User-Agent",
        ));
    }
    if let Some(prefix) = &config.debug_prefix {
        routes.extend(debug::routes(prefix));
    }
    if config.directory.is_some() {
        let allow = match config.delete {
            true => STORE.with(Method::Delete),
            false => STORE,
        };
        routes.push(Route::below("/files/", "{name}", allow, store::answer, "the store"));
    }
    for mount in &config.wsgi.sites {
        routes.push(Route::below(&mount.prefix, "", Methods::READ, site::answer, "files"));
    }
    if config.root.is_some() {
        routes.push(Route::below("/", "", Methods::READ, site::answer, "the site"));
    } else if !taken {
        routes.push(Route::at(
            "/",
            "",
            Methods::READ,
            |app, request, responder, now| index::answer(app, request, responder, now).into(),
            "this list",
        ));
    }
    if config.trace_method {
        for route in &mut routes {
            route.allow = route.allow.with(Method::Trace);
        }
    }
    routes
}

pub fn dispatch(app: &App, request: &Request, responder: Responder, now: &Now) -> Next {
    let method = request.method();
    match elsewhere(app, request) {
        Some(Elsewhere::Nobody) => return page::not_found(Format::of(request), responder).into(),
        Some(_) if app.cors && method == Method::Options && cors::is_preflight(request) => {
            return options(app, ELSEWHERE, request, responder).into();
        }
        Some(Elsewhere::Upstream(mount)) => match method {
            // Whose answer shows what is between the servers.
            Method::Trace if !app.trace => return method_not_allowed(ELSEWHERE, request, responder).into(),
            // To go no further (RFC 9110, section 7.6.2).
            Method::Trace if fields::max_forwards(request) == Some(0) => {
                return trace::answer(request, responder).into();
            }
            Method::Options if fields::max_forwards(request) == Some(0) => {
                return options(app, ELSEWHERE, request, responder).into();
            }
            _ => return app.proxy.answer(mount, request, responder, now),
        },
        Some(Elsewhere::Application(wsgi, mount)) => return wsgi.answer(mount, request, responder, now),
        None => {}
    }
    if method == Method::Unknown {
        let sentence = "This server does not know the request's method.";
        return page::error(Format::of(request), responder, Status::NOT_IMPLEMENTED, sentence).into();
    }
    match request.target.form {
        Form::Asterisk => return options(app, all_methods(app), request, responder).into(),
        Form::Authority => return method_not_allowed(Methods::READ, request, responder).into(),
        Form::Origin | Form::Absolute => {}
    }
    let path = request.path();
    let first = app.routes.iter().find(|route| route.matches(path)).filter(|_| !request.target.climbs);
    let Some(first) = first else { return page::not_found(Format::of(request), responder).into() };
    // Routes of the same path share what is there: one reads it, another may take a POST.
    let here = || app.routes.iter().filter(|route| route.path == first.path && route.matches(path));
    let allow = || here().fold(Methods::NONE, |all, route| all.and(route.allow));
    match here().find(|route| route.allow.contains(method)) {
        None => method_not_allowed(allow(), request, responder).into(),
        Some(_) if method == Method::Options => options(app, allow(), request, responder).into(),
        Some(_) if method == Method::Trace => trace::answer(request, responder).into(),
        Some(route) => (route.handler)(app, request, responder, now),
    }
}

/// Who answers what is not answered here.
enum Elsewhere<'a> {
    Upstream(&'a proxy::Mount),
    Application(&'a Wsgi, &'a python::Mount),
    /// The path has a second meaning, by which it leaves its prefix.
    Nobody,
}

impl Elsewhere<'_> {
    fn is(&self, other: &Elsewhere) -> bool {
        match (self, other) {
            (Elsewhere::Upstream(mount), Elsewhere::Upstream(other)) => std::ptr::eq(*mount, *other),
            (Elsewhere::Application(_, mount), Elsewhere::Application(_, other)) => std::ptr::eq(*mount, *other),
            _ => false,
        }
    }
}

/// Who answers a request, if it is not answered here. A path that climbs is nobody's, and so is one that another server
/// would take for one that climbs, or for one below another prefix: whoever answers it may do so.
fn elsewhere<'a>(app: &'a App, request: &Request) -> Option<Elsewhere<'a>> {
    let target = &request.target;
    if !matches!(target.form, Form::Origin | Form::Absolute) || target.climbs {
        return None;
    }
    let found = mounted(app, request.path())?;
    let passes_all = matches!(found, Elsewhere::Upstream(_)) && app.proxy.paths == PathRule::Raw;
    if passes_all || !spelling::is_ambiguous(request.path(), target.plain) {
        return Some(found);
    }
    let read = spelling::read_leniently(request.path());
    let is_same = read.and_then(|read| mounted(app, &read)).is_some_and(|other| other.is(&found));
    Some(if is_same { found } else { Elsewhere::Nobody })
}

/// What is mounted deepest has a path: /static/ before an application or an upstream at /.
fn mounted<'a>(app: &'a App, path: &[u8]) -> Option<Elsewhere<'a>> {
    let upstream = app.proxy.find(path);
    let application = app.wsgi.as_ref().and_then(|wsgi| Some((wsgi, wsgi.find(path)?)));
    let (depth, found) = match (upstream, application) {
        (Some(upstream), Some((_, mount))) if upstream.depth() >= mount.depth() => {
            (upstream.depth(), Elsewhere::Upstream(upstream))
        }
        (_, Some((wsgi, mount))) => (mount.depth(), Elsewhere::Application(wsgi, mount)),
        (Some(upstream), None) => (upstream.depth(), Elsewhere::Upstream(upstream)),
        (None, None) => return None,
    };
    let is_deeper = |route: &Route| route.path.len() > depth && route.matches(path);
    (!app.routes.iter().any(is_deeper)).then_some(found)
}

fn all_methods(app: &App) -> Methods {
    app.routes.iter().fold(Methods::READ, |all, route| all.and(route.allow))
}

fn options(app: &App, allow: Methods, request: &Request, responder: Responder) -> Reply {
    if app.cors && cors::is_preflight(request) {
        return cors::preflight(&allow_value(allow), request, responder);
    }
    let mut fields = responder.start(Status::NO_CONTENT);
    fields.field("Allow", allow_value(allow));
    fields.empty();
    Reply::Done
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
