//! What a handler returns and what a request still waits for: plain values, held by the session.
//!
//! A handler never blocks and never runs twice. What it cannot finish it returns as the value that
//! carries on.

use crate::app::App;
use crate::app::body::Body;
use crate::app::forward::Forward;
use crate::app::handlers::store::Upload;
use crate::app::receive::delay::Delay;
use crate::app::receive::gather::Gather;
use crate::app::receive::prepare::Preparation;
use crate::app::reply::page::Format;
use crate::http::date::Now;
use crate::proto::responder::Responder;
use std::io;
use std::time::Instant;

/// What a handler leaves to be done.
#[derive(Debug)]
pub enum Next {
    /// The response is written.
    Done,
    /// The response's fields are written; its content is pulled from here.
    Stream(Body),
    /// The request's content is wanted before the response.
    Receive(Receive),
    /// The response is not to be written yet.
    Sleep(Delay),
    /// The response cannot be written before it is prepared.
    Prepare(Box<Preparation>),
    /// Another process answers.
    Forward(Box<Forward>),
}

/// What takes a request's content.
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
    pub fn finish(self, app: &App, format: Format, responder: Responder<'_>, now: &Now) -> Next {
        match self {
            Receive::Upload(upload) => upload.finish(app, format, responder, now),
            Receive::Gather(gather) => gather.finish(responder),
        }
    }

    /// The content could not be taken: answers.
    pub fn fail(self, error: io::Error, format: Format, responder: Responder<'_>) -> Next {
        match self {
            Receive::Upload(_) => crate::app::handlers::store::refuse(error, format, responder),
            Receive::Gather(gather) => gather.fail(error, format, responder),
        }
    }
}

/// What the request at hand waits for.
#[derive(Debug, Default)]
pub enum Exchange {
    #[default]
    None,
    Receive(Receive),
    Delay(Delay),
    Prepare(Box<Preparation>),
    Stream(Body),
    Forward(Box<Forward>),
}

impl Exchange {
    /// The moment before which there is nothing to do, if time is all it waits for.
    #[inline]
    pub fn due(&self) -> Option<Instant> {
        match self {
            Exchange::Delay(delay) => Some(delay.until),
            Exchange::Stream(body) => body.due(),
            Exchange::None | Exchange::Receive(_) | Exchange::Prepare(_) | Exchange::Forward(_) => None,
        }
    }
}
