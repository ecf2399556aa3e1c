//! The code that the endpoints share: their data, the parsing of an argument, and the answer to an invalid one.

use crate::app::body::Reply;
use crate::app::body::temporary::SpoolAccount;
use crate::app::compress::Coders;
use crate::app::reply::page::{self, Format};
use crate::http::request::Request;
use crate::http::status::Status;
use crate::proto::responder::Responder;
use std::sync::Arc;

/// The data that the endpoints share.
#[derive(Debug)]
pub struct DebugData {
    /// The beginning of the endpoints' paths, with a slash at its end.
    pub prefix: String,
    pub coders: Arc<Coders>,
    pub spool: Arc<SpoolAccount>,
}

/// Parses a number of digits only. `None` if it is larger than `most`.
pub fn number(text: &[u8], most: u64) -> Option<u64> {
    let number = crate::units::number(std::str::from_utf8(text).ok()?).ok()?;
    (number <= most).then_some(number)
}

/// Redirects to another path of this server. `lines` are field lines to add.
pub fn redirect(location: &[u8], lines: &[u8], responder: Responder) -> Reply {
    let mut fields = responder.start(Status::FOUND);
    fields.field("Location", location);
    fields.lines(lines);
    fields.empty();
    Reply::Done
}

/// An invalid argument, as a sentence that says which arguments are valid.
pub struct BadArgument(pub &'static str);

impl BadArgument {
    pub fn answer(&self, request: &Request, responder: Responder) -> Reply {
        page::error(Format::of(request), responder, Status::BAD_REQUEST, self.0)
    }
}
