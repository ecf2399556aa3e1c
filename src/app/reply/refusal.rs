//! The answer to a path that the lookup of files refused.

use crate::app::body::Reply;
use crate::app::files::lookup::Refused;
use crate::app::reply::page::{self, Format};
use crate::http::request::Request;
use crate::http::status::Status;
use crate::proto::responder::Responder;

/// Answers with the error page of a refused path.
pub fn refused(refused: &Refused, request: &Request, responder: Responder) -> Reply {
    let (status, sentence) = refusal(refused);
    page::error(Format::of(request), responder, status, sentence)
}

/// The status of a refused path, and the sentence for its error page.
pub fn refusal(refused: &Refused) -> (Status, &'static str) {
    match refused {
        Refused::NotFound => (Status::NOT_FOUND, "There is nothing at this address."),
        Refused::Forbidden => (Status::FORBIDDEN, "The server may not read or write this."),
        Refused::TooManyFiles => {
            log::warn!("no file descriptor is left to open a file with");
            (Status::SERVICE_UNAVAILABLE, "The server has too many files open at the moment; try again soon.")
        }
        Refused::Other(error) => {
            log::error!("a file cannot be opened: {error}");
            (Status::INTERNAL_SERVER_ERROR, "The server could not read or write this.")
        }
    }
}
