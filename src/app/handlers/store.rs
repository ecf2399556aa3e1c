//! `/files/{name}`: GET and HEAD read the store, POST and PUT write to it, DELETE removes from it. Content goes to a
//! temporary file in the target's directory, which gets the target's name when it is complete. A broken upload leaves
//! nothing.

use crate::app::compress::Coders;
use crate::app::exchange::Next;
use crate::app::files::cache::Stored;
use crate::app::files::lookup::{Located, Refused};
use crate::app::files::mime;
use crate::app::files::writable::Writable;
use crate::app::receive::upload::Upload;
use crate::app::receive::{Receive, change};
use crate::app::reply::file::Representation;
use crate::app::reply::page::{self, Format};
use crate::app::reply::refusal;
use crate::cost;
use crate::http::date::Now;
use crate::http::method::Method;
use crate::http::request::Request;
use crate::http::rest::Rest;
use crate::http::status::Status;
use crate::proto::responder::Responder;
use std::sync::Arc;

/// The store of files, and the coders for responses from it.
#[derive(Debug)]
pub struct Store {
    pub directory: Arc<Writable>,
    pub coders: Arc<Coders>,
}

impl Store {
    pub fn answer(&self, request: &Request, rest: &Rest, mut responder: Responder, now: &Now) -> Next {
        let store = &self.directory;
        let Some(path) = rest.decoded.as_deref() else {
            return page::not_found(Format::of(request), responder).into();
        };
        let Some(root) = store.root.at(now.instant) else {
            return refusal::refused(&Refused::Gone, request, responder).into();
        };
        if request.method().is_get_or_head() {
            let mut spent = 0;
            let found = root.find_at_cost(path, &mut spent);
            responder.spend(spent);
            return match found {
                Ok(Located::File { file, meta }) => {
                    let date = u64::try_from(meta.mtime.0).unwrap_or_default();
                    store.sent_dates.add(path, date, now.unix);
                    let stored = Stored::load(&root, path, (file, meta), (mime::UNKNOWN, None), now.unix);
                    responder.spend(stored.load_cost());
                    let stored = Arc::new(stored);
                    Representation::new(&stored).answer(&self.coders, request, responder, now).into()
                }
                Ok(Located::Directory { .. }) => page::not_found(Format::of(request), responder).into(),
                Err(refused) => refusal::refused(&refused, request, responder).into(),
            };
        }
        let format = Format::of(request);
        let mut spent = cost::NAME;
        if request.method() == Method::Delete {
            let removal = change::removal(store, root, path, request, now, &mut spent);
            responder.spend(spent);
            return match removal {
                Ok(change) => change.attempt(format, responder, now).into(),
                Err(refusal) => change::refuse(&refusal, format, responder).into(),
            };
        }
        // RFC 9110, section 9.3.4: a PUT with Content-Range must not store the part as if it were the whole.
        if request.fields().any(|(name, _)| name.eq_ignore_ascii_case(b"content-range")) {
            let sentence = "A part of a file cannot be stored; send the whole without Content-Range.";
            return page::error(format, responder, Status::BAD_REQUEST, sentence).into();
        }
        let upload = Upload::begin(store, root, path, request, now, &mut spent);
        responder.spend(spent);
        match upload {
            Ok(upload) => Next::Receive(Receive::Upload(Box::new(upload))),
            Err(refusal) => change::refuse(&refusal, format, responder).into(),
        }
    }
}
