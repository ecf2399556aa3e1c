//! A request's content, gathered in memory to be shown or sent back: the one place where it is, and bounded.

use crate::app::debug::inspect;
use crate::app::exchange::{Next, Receive};
use crate::app::pages::{self, Format};
use crate::http::framing::{self, ContentLength};
use crate::http::request::Request;
use crate::http::status::Status;
use crate::proto::responder::Responder;
use std::io;

/// More than people read. What is larger can be stored at /files/.
const LIMIT: usize = 1024 * 1024;

#[derive(Debug)]
pub struct Gather {
    purpose: Purpose,
    content: Vec<u8>,
}

/// What the content is for.
#[derive(Debug)]
pub enum Purpose {
    /// To be sent back under this Content-Type.
    Echo { content_type: Vec<u8> },
    /// To be shown as the last member of this JSON object, which is still open.
    Inspect { json: Vec<u8> },
}

/// Takes the request's content, unless its length alone is too much.
pub fn begin(purpose: Purpose, request: &Request, responder: Responder) -> Next {
    match framing::content_length(request.head, request.bytes) {
        Ok(ContentLength::Bytes(length)) if length > LIMIT as u64 => too_large(Format::of(request), responder),
        _ => Next::Receive(Receive::Gather(Box::new(Gather { purpose, content: Vec::new() }))),
    }
}

impl Gather {
    pub fn write(&mut self, data: &[u8]) -> io::Result<()> {
        if self.content.len() + data.len() > LIMIT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.content.extend_from_slice(data);
        Ok(())
    }

    /// The content is whole: answers with it.
    pub fn finish(self, responder: Responder) -> Next {
        let mut fields = responder.start(Status::OK);
        // What a browser would run must not be told from its bytes.
        fields.field("X-Content-Type-Options", "nosniff");
        match self.purpose {
            Purpose::Echo { content_type } => {
                fields.field("Content-Type", content_type);
                fields.content(&self.content);
            }
            Purpose::Inspect { mut json } => {
                inspect::close(&mut json, &self.content);
                fields.field("Content-Type", Format::Json.content_type());
                fields.content(&json);
            }
        }
        Next::Done
    }
}

/// Answers content beyond the limit. `write` fails for no other reason.
pub fn too_large(format: Format, responder: Responder) -> Next {
    let sentence = "The content is kept in memory here, and 1 MiB is the most that is kept.";
    pages::error(format, responder, Status::CONTENT_TOO_LARGE, sentence)
}
