//! What a handler returns and what a request still waits for: plain values, held by the session.
//!
//! A handler never blocks and never runs twice. What it cannot finish it returns as the value that
//! carries on.

use crate::app::body::{Body, Reply};
use crate::app::forward::Forward;
use crate::app::receive::Receive;
use crate::app::receive::change::Finish;
use crate::app::receive::delay::{Delay, Then};
use crate::app::receive::prepare::Preparation;
use std::time::Instant;

/// What a handler leaves to be done.
#[derive(Debug)]
pub enum Next {
    /// Nothing but, at most, the response's content.
    Reply(Reply),
    /// The request's content is wanted before the response.
    Receive(Receive),
    /// The response is not to be written yet.
    Sleep(Delay),
    /// The response cannot be written before it is prepared.
    Prepare(Box<Preparation>),
    /// Another process answers.
    Forward(Box<Forward>),
}

impl From<Reply> for Next {
    #[inline]
    fn from(reply: Reply) -> Next {
        Next::Reply(reply)
    }
}

impl From<Finish> for Next {
    fn from(finish: Finish) -> Next {
        match finish {
            Finish::Reply(reply) => Next::Reply(reply),
            Finish::Locked { until, change } => Next::Sleep(Delay::new(until, Then::Change(change))),
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
