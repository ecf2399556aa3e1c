//! An exchange that continues at a later moment. No thread sleeps: the session waits until the moment, and then calls
//! `finish`.

use crate::app::receive::change::{Change, Finish};
use crate::app::reply::page::Format;
use crate::app::reply::timed::Timed;
use crate::http::date::Now;
use crate::proto::responder::Responder;
use std::time::Instant;

/// An exchange that continues at `until`.
#[derive(Debug)]
pub struct Delay {
    pub until: Instant,
    then: Then,
}

/// What happens then.
#[derive(Debug)]
pub enum Then {
    /// An answer that is sent at a set time.
    Answer(Timed),
    /// A change of the store whose directory was locked.
    Change(Box<Change>),
}

impl Delay {
    pub fn new(until: Instant, then: Then) -> Delay {
        Delay { until, then }
    }

    /// The moment has come: answers, or returns what the answer waits for next.
    pub fn finish(self, format: Format, responder: Responder, now: &Now) -> Finish {
        match self.then {
            Then::Answer(answer) => answer.finish(responder, now).into(),
            Then::Change(change) => change.attempt(format, responder, now),
        }
    }
}
