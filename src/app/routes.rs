//! Which handler answers which request: a short table, searched from its top, and what the table says
//! about methods: 501, 405 with `Allow`, OPTIONS.

use crate::app::App;
use crate::app::exchange::Next;
use crate::app::pages::{self, Format};
use crate::app::{cors, debug, echo, files, index, trace, upload, user_agent};
use crate::config::Config;
use crate::http::date::Now;
use crate::http::method::{Method, Methods};
use crate::http::request::Request;
use crate::http::status::Status;
use crate::http::target::Form;
use crate::proto::responder::Responder;

/// Answers a request: borrows the input, writes the output, returns what is left to be done.
pub type Handler = fn(&App, &Request, Responder, &Now) -> Next;

const STORE: Methods = Methods::READ.with(Method::Post).with(Method::Put);

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
    if config.proxy.takes_all() {
        return routes;
    }
    // An application at / has these addresses for itself.
    if config.endpoints && !config.wsgi.takes_all() {
        routes.push(Route::below("/echo/", "{text}", Methods::READ, echo::answer, "the text"));
        routes.push(Route::at("/user-agent", "", Methods::READ, user_agent::answer, "the client's User-Agent"));
    }
    if let Some(prefix) = &config.debug_prefix {
        routes.extend(debug::routes(prefix));
    }
    if config.directory.is_some() {
        let allow = match config.delete {
            true => STORE.with(Method::Delete),
            false => STORE,
        };
        routes.push(Route::below("/files/", "{name}", allow, upload::answer, "the store"));
    }
    for mount in &config.wsgi.sites {
        routes.push(Route::below(&mount.prefix, "", Methods::READ, files::site::answer, "files"));
    }
    if config.root.is_some() {
        routes.push(Route::below("/", "", Methods::READ, files::site::answer, "the site"));
    } else if !config.wsgi.takes_all() {
        routes.push(Route::at("/", "", Methods::READ, index::answer, "this list"));
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
    if let Some(mount) = app.proxy.find(request) {
        return app.proxy.answer(mount, request, responder, now);
    }
    let has_path = matches!(request.target.form, Form::Origin | Form::Absolute) && !request.target.climbs;
    if let Some(wsgi) = app.wsgi.as_ref().filter(|_| has_path)
        && let Some(mount) = wsgi.find(request.path())
    {
        // What is mounted deeper goes before: /static/ before an application at /.
        let is_deeper = |route: &Route| route.path.len() > mount.depth() && route.matches(request.path());
        if !app.routes.iter().any(is_deeper) {
            return wsgi.answer(mount, request, responder, now);
        }
    }
    if method == Method::Unknown {
        let sentence = "This server does not know the request's method.";
        return pages::error(Format::of(request), responder, Status::NOT_IMPLEMENTED, sentence);
    }
    match request.target.form {
        Form::Asterisk => return options(app, all_methods(app), request, responder),
        Form::Authority => return method_not_allowed(Methods::READ, request, responder),
        Form::Origin | Form::Absolute => {}
    }
    let path = request.path();
    let first = app.routes.iter().find(|route| route.matches(path)).filter(|_| !request.target.climbs);
    let Some(first) = first else { return not_found(request, responder) };
    // Routes of the same path share what is there: one reads it, another may take a POST.
    let here = || app.routes.iter().filter(|route| route.path == first.path && route.matches(path));
    let allow = || here().fold(Methods::NONE, |all, route| all.and(route.allow));
    match here().find(|route| route.allow.contains(method)) {
        None => method_not_allowed(allow(), request, responder),
        Some(_) if method == Method::Options => options(app, allow(), request, responder),
        Some(_) if method == Method::Trace => trace::answer(request, responder),
        Some(route) => (route.handler)(app, request, responder, now),
    }
}

pub fn not_found(request: &Request, responder: Responder) -> Next {
    pages::error(Format::of(request), responder, Status::NOT_FOUND, "There is nothing at this address.")
}

fn all_methods(app: &App) -> Methods {
    app.routes.iter().fold(Methods::READ, |all, route| all.and(route.allow))
}

fn options(app: &App, allow: Methods, request: &Request, responder: Responder) -> Next {
    if app.cors && cors::is_preflight(request) {
        return cors::preflight(&allow_value(allow), request, responder);
    }
    let mut fields = responder.start(Status::NO_CONTENT);
    fields.field("Allow", allow_value(allow));
    fields.empty();
    Next::Done
}

fn method_not_allowed(allow: Methods, request: &Request, responder: Responder) -> Next {
    let mut fields = responder.start(Status::METHOD_NOT_ALLOWED);
    fields.field("Allow", allow_value(allow));
    let sentence = "What is at this address does not allow the request's method.";
    pages::finish_error(Format::of(request), fields, Status::METHOD_NOT_ALLOWED, sentence)
}

fn allow_value(allow: Methods) -> Vec<u8> {
    let mut value = Vec::new();
    allow.write(&mut value);
    value
}
