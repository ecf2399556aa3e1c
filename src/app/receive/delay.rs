//! What goes on at a later moment. Nothing sleeps: the session is told the moment, and comes back.

use crate::app::App;
use crate::app::exchange::Next;
use crate::app::handlers::debug::delay::Answer;
use crate::app::receive::change::Change;
use crate::app::reply::page::Format;
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
    /// An answer of the debug endpoints.
    Answer(Answer),
    /// A change of the store that could not be made when it was ready.
    Change(Box<Change>),
}

impl Delay {
    pub fn new(until: Instant, then: Then) -> Delay {
        Delay { until, then }
    }

    /// The time has come: answers, or says what the answer waits for next.
    pub fn finish(self, app: &App, format: Format, responder: Responder, now: &Now) -> Next {
        match self.then {
            Then::Answer(answer) => answer.finish(responder, now),
            Then::Change(change) => change.attempt(app, format, responder, now),
        }
    }
}
