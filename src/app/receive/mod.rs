//! What a response can wait for: the request's content, a moment, or work that is done in steps.

pub mod change;
pub mod delay;
pub mod gather;
pub mod prepare;
pub mod upload;

use crate::app::body::Reply;
use crate::app::receive::change::Finish;
use crate::app::receive::gather::Gather;
use crate::app::receive::upload::Upload;
use crate::app::reply::page::Format;
use crate::http::date::Now;
use crate::proto::responder::Responder;
use std::io;

/// The receiver of a request's content.
#[derive(Debug)]
pub enum Receive {
    Upload(Box<Upload>),
    Gather(Box<Gather>),
}

impl Receive {
    /// Takes a piece of content.
    pub fn write(&mut self, data: &[u8]) -> io::Result<()> {
        match self {
            Receive::Upload(upload) => upload.write(data),
            Receive::Gather(gather) => gather.write(data),
        }
    }

    /// The content is complete: answers.
    pub fn finish(self, format: Format, responder: Responder<'_>, now: &Now) -> Finish {
        match self {
            Receive::Upload(upload) => upload.finish(format, responder, now),
            Receive::Gather(gather) => gather.finish(responder).into(),
        }
    }

    /// The content could not be kept: answers.
    pub fn fail(self, error: io::Error, format: Format, responder: Responder<'_>) -> Reply {
        match self {
            Receive::Upload(_) => upload::refuse(error, format, responder),
            Receive::Gather(gather) => gather.fail(error, format, responder),
        }
    }
}
