//! What the endpoints share: what they work with, how they read an argument, and what they say of one that makes no sense.

use crate::app::body::Reply;
use crate::app::body::temporary::SpoolAccount;
use crate::app::compress::Coders;
use crate::app::reply::page::{self, Format};
use crate::http::request::Request;
use crate::http::status::Status;
use crate::proto::responder::Responder;
use std::sync::Arc;

/// What the endpoints share.
#[derive(Debug)]
pub struct Tools {
    /// What their paths begin with.
    pub prefix: String,
    pub coders: Arc<Coders>,
    pub spool: Arc<SpoolAccount>,
}

/// Digits only, up to `most`.
pub fn number(text: &[u8], most: u64) -> Option<u64> {
    let number = crate::units::number(std::str::from_utf8(text).ok()?).ok()?;
    (number <= most).then_some(number)
}

/// Leads to another path of this server, with these field lines.
pub fn redirect(location: &[u8], lines: &[u8], responder: Responder) -> Reply {
    let mut fields = responder.start(Status::FOUND);
    fields.field("Location", location);
    fields.lines(lines);
    fields.empty();
    Reply::Done
}

/// An argument that makes no sense, and the sentence that says which one would.
pub struct Bad(pub &'static str);

impl Bad {
    pub fn answer(&self, request: &Request, responder: Responder) -> Reply {
        page::error(Format::of(request), responder, Status::BAD_REQUEST, self.0)
    }
}
