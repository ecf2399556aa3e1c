//! Responses that begin some time after their request.

use crate::app::body::drip::Drip;
use crate::app::body::{Body, Reply};
use crate::app::reply::page::Format;
use crate::http::date::Now;
use crate::http::status::Status;
use crate::proto::responder::Responder;
use std::time::Duration;

/// A response that is written when a delay is over.
#[derive(Debug)]
pub enum Timed {
    Say(Duration),
    Drip { bytes: u64, duration: Duration },
}

impl Timed {
    /// Answers. Call this when the delay is over.
    pub fn finish(self, responder: Responder, now: &Now) -> Reply {
        let mut fields = responder.start(Status::OK);
        match self {
            Timed::Say(time) => {
                fields.field("Content-Type", Format::Plain.content_type());
                fields.content(format!("This took {} seconds.\n", time.as_secs_f64()).as_bytes());
                Reply::Done
            }
            Timed::Drip { bytes, duration } => {
                fields.field("Content-Type", "application/octet-stream");
                fields.stream(Some(bytes));
                Reply::Stream(Body::Drip(Drip::new(bytes, duration, now.instant)))
            }
        }
    }
}
