//! What a handler returns and what a request still waits for: plain values, held by the session.
//!
//! A handler never blocks and is called once for a request. If it cannot finish the answer, it returns a value that
//! continues it.

use crate::app::body::{Body, Reply};
use crate::app::forward::Forward;
use crate::app::receive::Receive;
use crate::app::receive::change::Finish;
use crate::app::receive::delay::{Delay, Then};
use crate::app::receive::prepare::Preparation;
use std::time::Instant;

/// The result of a handler.
#[derive(Debug)]
pub enum Next {
    /// The answer. At most the response's content is still to be sent.
    Reply(Reply),
    /// The request's content has to be received before the response.
    Receive(Receive),
    /// The response is written at a later moment.
    Sleep(Delay),
    /// The response has to be prepared in steps before it can be written.
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

/// What the current request waits for.
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
    /// The moment it waits for, if it waits for nothing else.
    #[inline]
    pub fn due(&self) -> Option<Instant> {
        match self {
            Exchange::Delay(delay) => Some(delay.until),
            Exchange::Stream(body) => body.due(),
            Exchange::None | Exchange::Receive(_) | Exchange::Prepare(_) | Exchange::Forward(_) => None,
        }
    }
}
