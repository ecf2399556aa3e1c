//! A running upload. Content goes to a temporary file in the target's directory, which gets the target's name when it
//! is complete. A broken upload leaves nothing.

use crate::app::body::Reply;
use crate::app::files::lookup::Root;
use crate::app::files::state::State;
use crate::app::files::upload::{Commit, Incoming};
use crate::app::files::writable::Writable;
use crate::app::receive::change::{self, Change, Finish, Refusal, What};
use crate::app::reply::page::Format;
use crate::http::date::Now;
use crate::http::escape;
use crate::http::head::Name;
use crate::http::method::Method;
use crate::http::request::Request;
use crate::proto::responder::Responder;
use std::io;
use std::sync::Arc;

#[derive(Debug)]
pub struct Upload {
    store: Arc<Writable>,
    /// The root when the upload began.
    root: Arc<Root>,
    incoming: Incoming,
    /// The request path, for `Location`.
    location: Vec<u8>,
    path: Vec<u8>,
    method: Method,
    commit: Commit,
    /// The state that the client named in a precondition: checked again before the rename.
    replaces: Option<State>,
}

impl Upload {
    /// Begins an upload to `path`, if the request's preconditions allow it. Adds to `spent` what it cost.
    pub fn begin(
        store: &Arc<Writable>,
        root: Arc<Root>,
        path: &[u8],
        request: &Request,
        now: &Now,
        spent: &mut usize,
    ) -> Result<Upload, Refusal> {
        let current = change::check(&root, path, request, now, spent)?;
        let create_only = request.values(Name::IfNoneMatch).any(|value| value == b"*");
        let names_nothing = change::names_a_state(request) && current.is_none();
        let incoming = Incoming::create(store, &root, path)?;
        store.look_around(&root, path, now.instant);
        Ok(Upload {
            store: Arc::clone(store),
            root,
            incoming,
            location: request.path().to_vec(),
            path: path.to_vec(),
            method: request.method(),
            commit: if create_only || names_nothing { Commit::CreateOnly } else { Commit::Replace },
            replaces: current.filter(|_| change::names_a_state(request)),
        })
    }

    pub fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.incoming.write(data)
    }

    /// The content is complete: gives the file its name.
    pub fn finish(self, format: Format, responder: Responder, now: &Now) -> Finish {
        let what = What::Upload {
            incoming: self.incoming,
            commit: self.commit,
            location: location(&self.location),
            always_created: self.method != Method::Put,
        };
        Change::new(self.store, self.root, what, &self.path, self.replaces).attempt(format, responder, now)
    }
}

/// The request's path as a URI reference to this server, encoded anew from the decoded path.
fn location(path: &[u8]) -> Vec<u8> {
    let mut location = Vec::new();
    for segment in path.split(|&b| b == b'/').filter(|segment| !segment.is_empty()) {
        location.push(b'/');
        escape::path_segment(&escape::decode_lenient(segment), &mut location);
    }
    location
}

/// Answers an upload that could not be written.
pub fn refuse(error: io::Error, format: Format, responder: Responder) -> Reply {
    change::refuse(&error.into(), format, responder)
}
