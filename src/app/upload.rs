//! `/files/{name}`: GET and HEAD read the store, POST and PUT fill it, DELETE empties it. Content streams to a temporary
//! file beside its target, which takes the target's name when it is whole; a broken upload leaves nothing.

use crate::app::App;
use crate::app::exchange::{Next, Receive};
use crate::app::files::cache::Stored;
use crate::app::files::incoming::{Commit, Committed, Incoming, UploadError};
use crate::app::files::lookup::{Found, Meta, Refused, Root};
use crate::app::files::removal::{self, Standing};
use crate::app::files::representation::{self, Representation};
use crate::app::files::{self, mime};
use crate::app::pages::{self, Format};
use crate::app::routes;
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

pub fn answer(app: &App, request: &Request, responder: Responder, now: &Now) -> Next {
    let Some(store) = &app.store else { return routes::not_found(request, responder) };
    let Some(path) = files::path_below(request, "/files/") else { return routes::not_found(request, responder) };
    if request.method().is_get_or_head() {
        return match store.find(&path) {
            Ok(Found::File { file, meta }) => {
                let stored = Stored::load(&path, file, meta, mime::UNKNOWN, None);
                Representation::new(&Arc::new(stored)).answer(app, request, responder, now)
            }
            Ok(Found::Directory { .. }) => routes::not_found(request, responder),
            Err(refused) => files::refused(&refused, request, responder),
        };
    }
    if request.method() == Method::Delete {
        return delete(store, &path, request, responder, now);
    }
    match begin(store, &path, request, now) {
        Ok(upload) => Next::Receive(Receive::Upload(Box::new(upload))),
        Err(Begin::Precondition) => precondition_failed(Format::of(request), responder),
        Err(Begin::Partial) => {
            let sentence = "A part of a file cannot be stored; send the whole without Content-Range.";
            pages::error(Format::of(request), responder, Status::BAD_REQUEST, sentence)
        }
        Err(Begin::Refused(error)) => fail(&error, Format::of(request), responder),
    }
}

/// The route allows DELETE only where the user did.
fn delete(store: &Root, path: &[u8], request: &Request, responder: Responder, now: &Now) -> Next {
    let meta = match removal::look(store, path) {
        Ok(Standing::File(meta)) => meta,
        Ok(Standing::Directory) => return fail(&UploadError::Directory, Format::of(request), responder),
        Err(refused) => return files::refused(&refused, request, responder),
    };
    let validators = representation::validators(&meta, now);
    let conditions = files::conditions(request);
    if conditions.evaluate(false, Some(&validators), now.unix) == Outcome::PreconditionFailed {
        return precondition_failed(Format::of(request), responder);
    }
    match removal::remove(store, path) {
        Ok(()) => {
            responder.start(Status::NO_CONTENT).empty();
            Next::Done
        }
        Err(refused) => files::refused(&refused, request, responder),
    }
}

/// Why an upload does not begin.
enum Begin {
    Precondition,
    Partial,
    Refused(UploadError),
}

fn begin(store: &Root, path: &[u8], request: &Request, now: &Now) -> Result<Upload, Begin> {
    // RFC 9110, section 9.3.4: a PUT with Content-Range must not store the part as if it were the whole.
    if request.fields().any(|(name, _)| name.eq_ignore_ascii_case(b"content-range")) {
        return Err(Begin::Partial);
    }
    let current = match store.stat(path) {
        Ok(meta) => Some(meta),
        Err(Refused::NotFound) => None,
        Err(refused) => return Err(Begin::Refused(refused.into())),
    };
    let validators = current.as_ref().map(|meta| representation::validators(meta, now));
    if files::conditions(request).evaluate(false, validators.as_ref(), now.unix) == Outcome::PreconditionFailed {
        return Err(Begin::Precondition);
    }
    let create_only = request.values(Name::IfNoneMatch).any(|value| value == b"*");
    let conditional = request.head.has(Name::IfMatch) || request.head.has(Name::IfUnmodifiedSince);
    let incoming = Incoming::create(store, path).map_err(Begin::Refused)?;
    Ok(Upload {
        incoming,
        location: request.path().to_vec(),
        path: path.to_vec(),
        method: request.method(),
        commit: if create_only { Commit::CreateOnly } else { Commit::Replace },
        replaces: current.filter(|_| conditional),
    })
}

impl Upload {
    pub fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.incoming.write(data)
    }

    /// The content is whole: gives it its name.
    pub fn finish(self, app: &App, format: Format, responder: Responder) -> Next {
        if let (Some(store), Some(seen)) = (&app.store, &self.replaces)
            && !store.unchanged(&self.path, seen)
        {
            return precondition_failed(format, responder);
        }
        let committed = match self.incoming.commit(self.commit) {
            Ok(committed) => committed,
            Err(error) => return refuse(error, format, responder),
        };
        let status = match (committed, self.method) {
            (Committed::Exists, _) => return precondition_failed(format, responder),
            (Committed::Replaced, Method::Put) => Status::NO_CONTENT,
            (Committed::Created | Committed::Replaced, _) => Status::CREATED,
        };
        let mut fields = responder.start(status);
        if status == Status::CREATED {
            fields.field("Location", location(&self.location));
        }
        fields.empty();
        Next::Done
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
    fail(&error.into(), format, responder)
}

fn fail(error: &UploadError, format: Format, responder: Responder) -> Next {
    let (status, sentence) = match error {
        UploadError::Refused(refused) => files::refusal(refused),
        UploadError::Directory => (Status::CONFLICT, "There is a directory of this name."),
        UploadError::Full => (Status::INSUFFICIENT_STORAGE, "There is no room left to store this."),
    };
    pages::error(format, responder, status, sentence)
}

fn precondition_failed(format: Format, responder: Responder) -> Next {
    let sentence = "The file is not in the state that the request demands.";
    pages::error(format, responder, Status::PRECONDITION_FAILED, sentence)
}
