//! `/files/{name}`: GET and HEAD read the store, POST and PUT fill it, DELETE empties it. Content streams to a temporary
//! file beside its target, which takes the target's name when it is whole; a broken upload leaves nothing.

use crate::app::App;
use crate::app::exchange::{Next, Receive};
use crate::app::files::cache::Stored;
use crate::app::files::delete::{self, Standing};
use crate::app::files::lookup::{Found, Meta, Refused, Root};
use crate::app::files::upload::{Commit, Incoming, UploadError};
use crate::app::files::{self, mime};
use crate::app::receive::change::{self, Change, Refusal, What};
use crate::app::reply::file::{self, Representation};
use crate::app::reply::page::{self, Format};
use crate::app::routes;
use crate::cost;
use crate::http::conditional::Outcome;
use crate::http::date::Now;
use crate::http::escape;
use crate::http::head::Name;
use crate::http::method::Method;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::proto::responder::Responder;
use std::io;
use std::sync::Arc;

/// An upload under way.
#[derive(Debug)]
pub struct Upload {
    incoming: Incoming,
    /// The request path, for `Location`.
    location: Vec<u8>,
    path: Vec<u8>,
    method: Method,
    commit: Commit,
    /// What the client said it replaces: checked again before the rename.
    replaces: Option<Meta>,
}

pub fn answer(app: &App, request: &Request, mut responder: Responder, now: &Now) -> Next {
    let Some(store) = &app.store else { return routes::not_found(request, responder) };
    let Some(path) = files::path_below(request, "/files/") else { return routes::not_found(request, responder) };
    if request.method().is_get_or_head() {
        let mut spent = 0;
        let found = store.root.find_at_cost(&path, &mut spent);
        responder.spend(spent);
        return match found {
            Ok(Found::File { file, meta }) => {
                let stored = Stored::load(&path, file, meta, mime::UNKNOWN, None);
                responder.spend(stored.load_cost());
                Representation::new(&Arc::new(stored)).answer(app, request, responder, now)
            }
            Ok(Found::Directory { .. }) => routes::not_found(request, responder),
            Err(refused) => files::refused(&refused, request, responder),
        };
    }
    let format = Format::of(request);
    responder.spend(cost::NAME);
    if request.method() == Method::Delete {
        return match removal(&store.root, &path, request, now) {
            Ok(change) => change.attempt(app, format, responder, now),
            Err(refusal) => change::refuse(&refusal, format, responder),
        };
    }
    // RFC 9110, section 9.3.4: a PUT with Content-Range must not store the part as if it were the whole.
    if request.fields().any(|(name, _)| name.eq_ignore_ascii_case(b"content-range")) {
        let sentence = "A part of a file cannot be stored; send the whole without Content-Range.";
        return page::error(format, responder, Status::BAD_REQUEST, sentence);
    }
    match begin(&store.root, &path, request, now) {
        Ok(upload) => Next::Receive(Receive::Upload(Box::new(upload))),
        Err(refusal) => change::refuse(&refusal, format, responder),
    }
}

/// The route allows DELETE only where the user did.
fn removal(store: &Root, path: &[u8], request: &Request, now: &Now) -> Result<Change, Refusal> {
    let Standing::File(meta) = delete::look(store, path)? else { return Err(UploadError::Directory.into()) };
    check(request, Some(&meta), now)?;
    let (dir, name) = store.parent(path)?;
    let what = What::Remove { dir, name: name.to_vec() };
    Ok(Change::new(what, path, Some(meta).filter(|_| names_a_state(request))))
}

/// Whether the request may go on, of a file in this state.
fn check(request: &Request, current: Option<&Meta>, now: &Now) -> Result<(), Refusal> {
    let validators = current.map(|meta| file::validators(meta, now));
    match files::conditions(request).evaluate(false, validators.as_ref(), now.unix) {
        Outcome::PreconditionFailed => Err(Refusal::Precondition),
        Outcome::Proceed | Outcome::NotModified => Ok(()),
    }
}

/// Whether the request is for the state alone that was checked.
fn names_a_state(request: &Request) -> bool {
    request.head.has(Name::IfMatch) || request.head.has(Name::IfUnmodifiedSince)
}

fn begin(store: &Root, path: &[u8], request: &Request, now: &Now) -> Result<Upload, Refusal> {
    let current = match store.stat(path) {
        Ok(meta) => Some(meta),
        Err(Refused::NotFound) => None,
        Err(refused) => return Err(refused.into()),
    };
    check(request, current.as_ref(), now)?;
    let create_only = request.values(Name::IfNoneMatch).any(|value| value == b"*");
    let names_nothing = names_a_state(request) && current.is_none();
    let incoming = Incoming::create(store, path)?;
    Ok(Upload {
        incoming,
        location: request.path().to_vec(),
        path: path.to_vec(),
        method: request.method(),
        commit: if create_only || names_nothing { Commit::CreateOnly } else { Commit::Replace },
        replaces: current.filter(|_| names_a_state(request)),
    })
}

impl Upload {
    pub fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.incoming.write(data)
    }

    /// The content is whole: gives it its name.
    pub fn finish(self, app: &App, format: Format, responder: Responder, now: &Now) -> Next {
        let what = What::Upload {
            incoming: self.incoming,
            commit: self.commit,
            location: location(&self.location),
            always_created: self.method != Method::Put,
        };
        Change::new(what, &self.path, self.replaces).attempt(app, format, responder, now)
    }
}

/// The request's path as a URI reference that stays on this server: encoded anew, whatever it held.
fn location(path: &[u8]) -> Vec<u8> {
    let mut location = Vec::new();
    for segment in path.split(|&b| b == b'/').filter(|segment| !segment.is_empty()) {
        location.push(b'/');
        escape::path_segment(&escape::decode_lenient(segment), &mut location);
    }
    location
}

/// Answers an upload that could not be written.
pub fn refuse(error: io::Error, format: Format, responder: Responder) -> Next {
    change::refuse(&error.into(), format, responder)
}
