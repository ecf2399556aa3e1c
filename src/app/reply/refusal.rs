//! The answer to a path that the lookup of files refused.

use crate::app::body::Reply;
use crate::app::files::lookup::Refused;
use crate::app::reply::page::{self, Format};
use crate::descriptors;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::proto::responder::Responder;

/// Answers with the error page of a refused path.
pub fn refused(refused: &Refused, request: &Request, responder: Responder) -> Reply {
    let (status, sentence) = refusal(refused);
    error(status, sentence, Format::of(request), responder)
}

/// An error page with such a status and sentence. A moment's trouble may be over in a second.
pub fn error(status: Status, sentence: &str, format: Format, responder: Responder) -> Reply {
    let mut fields = responder.start(status);
    if status == Status::SERVICE_UNAVAILABLE {
        fields.field("Retry-After", "1");
    }
    page::finish_error(format, fields, status, sentence)
}

/// The status of a refused path, and the sentence for its error page.
pub fn refusal(refused: &Refused) -> (Status, &'static str) {
    match refused {
        Refused::NotFound => (Status::NOT_FOUND, "There is nothing at this address."),
        Refused::Forbidden => (Status::FORBIDDEN, "The server may not read or write this."),
        Refused::Gone => {
            let sentence = "The directory with what is at this address is not there at the moment; try again soon.";
            (Status::SERVICE_UNAVAILABLE, sentence)
        }
        Refused::TooManyFiles => {
            descriptors::on_lacked();
            log::debug!("no file descriptor is left to open a file with");
            (Status::SERVICE_UNAVAILABLE, "The server has too many files open at the moment; try again soon.")
        }
        Refused::Other(error) => {
            log::error!("a file cannot be opened: {error}");
            (Status::INTERNAL_SERVER_ERROR, "The server could not read or write this.")
        }
    }
}
