//! A request's content, received whole, to be shown or sent back. Its size is limited. If the content of all clients
//! together takes too much memory, it is in a temporary file.

use crate::app::body::buffered::{Buffered, EchoedContent};
use crate::app::body::shown::{Shown, TextCheck};
use crate::app::body::temporary::{NoRoom, SpoolAccount};
use crate::app::body::{Body, Reply};
use crate::app::receive::upload;
use crate::app::reply::page::{self, Format};
use crate::http::framing::{self, ContentLength};
use crate::http::request::Request;
use crate::http::status::Status;
use crate::proto::responder::Responder;
use std::io;
use std::sync::Arc;

/// More than people read. Larger content can be stored at /files/.
const LIMIT: u64 = 1024 * 1024;

#[derive(Debug)]
pub struct Gather {
    purpose: Purpose,
    content: Buffered,
    text: TextCheck,
    /// The client sent more than the limit.
    is_too_large: bool,
}

/// What the content is for.
#[derive(Debug)]
pub enum Purpose {
    /// To be sent back under this Content-Type.
    Echo { content_type: Vec<u8> },
    /// To be shown as the last member of this JSON object, which is still open.
    Inspect { json: Vec<u8> },
}

/// Prepares to receive the request's content.
///
/// # Errors
/// Content-Length is above the limit: returns the answer.
pub fn begin(
    purpose: Purpose,
    spool: &Arc<SpoolAccount>,
    request: &Request,
    responder: Responder,
) -> Result<Box<Gather>, Reply> {
    match framing::content_length(request.head, request.bytes) {
        Ok(ContentLength::Bytes(length)) if length > LIMIT => Err(too_large(Format::of(request), responder)),
        _ => {
            let (content, text) = (Buffered::new(spool), TextCheck::default());
            Ok(Box::new(Gather { purpose, content, text, is_too_large: false }))
        }
    }
}

impl Gather {
    pub fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.is_too_large = self.content.len() + data.len() as u64 > LIMIT;
        if self.is_too_large {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if let Purpose::Inspect { .. } = self.purpose {
            self.text.see(data);
        }
        self.content.write(data)
    }

    /// The content is complete: answers with it.
    pub fn finish(self, responder: Responder) -> Reply {
        let Gather { purpose, content, text, .. } = self;
        let mut fields = responder.start(Status::OK);
        // A browser must not guess a type from the bytes and run them as a script or a page.
        fields.field("X-Content-Type-Options", "nosniff");
        match purpose {
            Purpose::Echo { content_type } => {
                fields.field("Content-Type", content_type);
                fields.stream(Some(content.len()));
                Reply::Stream(Body::EchoedContent(Box::new(EchoedContent::new(content))))
            }
            Purpose::Inspect { json } => {
                fields.field("Content-Type", Format::Json.content_type());
                let mut shown = Shown::new(json, content, text.is_text());
                match shown.whole() {
                    Some(json) => {
                        fields.content(&json);
                        Reply::Done
                    }
                    None => {
                        fields.stream(None);
                        Reply::Stream(Body::Shown(Box::new(shown)))
                    }
                }
            }
        }
    }

    /// The content could not be kept: answers.
    pub fn fail(self, error: io::Error, format: Format, responder: Responder) -> Reply {
        match self.is_too_large {
            true => too_large(format, responder),
            false if NoRoom::is_cause_of(&error) => no_room(format, responder),
            false => upload::refuse(error, format, responder),
        }
    }
}

fn too_large(format: Format, responder: Responder) -> Reply {
    let sentence = "The content is kept until all of it is here, and 1 MiB is the most that is kept.";
    page::error(format, responder, Status::CONTENT_TOO_LARGE, sentence)
}

fn no_room(format: Format, responder: Responder) -> Reply {
    let mut fields = responder.start(Status::SERVICE_UNAVAILABLE);
    fields.field("Retry-After", "1");
    let sentence = "The server keeps as much content as it may at the moment; try again soon.";
    page::finish_error(format, fields, Status::SERVICE_UNAVAILABLE, sentence)
}
