//! What goes on at a later moment. Nothing sleeps: the session is told the moment, and comes back.

use crate::app::receive::change::{Change, Finish};
use crate::app::reply::page::Format;
use crate::app::reply::timed::Timed;
use crate::http::date::Now;
use crate::proto::responder::Responder;
use std::time::Instant;

/// An exchange that goes on when its time has come.
#[derive(Debug)]
pub struct Delay {
    pub until: Instant,
    then: Then,
}

/// What goes on.
#[derive(Debug)]
pub enum Then {
    /// An answer that has its time.
    Answer(Timed),
    /// A change of the store that could not be made when it was ready.
    Change(Box<Change>),
}

impl Delay {
    pub fn new(until: Instant, then: Then) -> Delay {
        Delay { until, then }
    }

    /// The time has come: answers, or says what the answer waits for next.
    pub fn finish(self, format: Format, responder: Responder, now: &Now) -> Finish {
        match self.then {
            Then::Answer(answer) => answer.finish(responder, now).into(),
            Then::Change(change) => change.attempt(format, responder, now),
        }
    }
}
