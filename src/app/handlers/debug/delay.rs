//! `delay/{seconds}` answers after a time, `drip` sends its content spread over one. Neither sleeps: both
//! return the moment at which the session is to go on.

use crate::app::App;
use crate::app::body::{Body, Pulled, SLICE};
use crate::app::exchange::Next;
use crate::app::handlers::debug::{self, Bad};
use crate::app::receive::delay::{Delay, Then};
use crate::app::reply::page::Format;
use crate::http::date::Now;
use crate::http::escape;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::proto::responder::Responder;
use std::time::{Duration, Instant};

/// A connection is held for as long as it waits: a minute shows all there is to see.
const LONGEST: Duration = Duration::from_secs(60);
/// As much as a megabyte a second for ten seconds; what is larger is better asked of `bytes`.
const MOST_DRIPPED: u64 = 10 * 1024 * 1024;
/// Pieces come no closer than this: timers of the engines count in milliseconds.
const STEP_MILLIS: u128 = 10;

/// A response that is to be written at its time.
#[derive(Debug)]
pub enum Answer {
    Say(Duration),
    Drip { bytes: u64, duration: Duration },
}

pub fn delay(app: &App, request: &Request, responder: Responder, now: &Now) -> Next {
    match seconds(debug::argument(app, request, "delay/")) {
        Some(time) => Next::Sleep(Delay::new(now.instant + time, Then::Answer(Answer::Say(time)))),
        None => {
            Bad("The time to wait is a number of seconds from 0 to 60, such as 2 or 0.05.").answer(request, responder)
        }
    }
}

pub fn drip(_app: &App, request: &Request, responder: Responder, now: &Now) -> Next {
    match parse_drip(request.target.query.unwrap_or_default()) {
        Ok((Duration::ZERO, answer)) => answer.finish(responder, now),
        Ok((delay, answer)) => Next::Sleep(Delay::new(now.instant + delay, Then::Answer(answer))),
        Err(bad) => bad.answer(request, responder),
    }
}

/// After how long it begins, and what it is.
fn parse_drip(query: &[u8]) -> Result<(Duration, Answer), Bad> {
    let (mut bytes, mut duration, mut delay) = (10, Duration::from_secs(2), Duration::ZERO);
    for (name, value) in escape::query_pairs(query) {
        match &name[..] {
            b"bytes" => {
                bytes = debug::number(&value, MOST_DRIPPED).ok_or(Bad("bytes is a number from 0 to 10485760."))?;
            }
            b"duration" => duration = seconds(&value).ok_or(Bad("duration is a number of seconds from 0 to 60."))?,
            b"delay" => delay = seconds(&value).ok_or(Bad("delay is a number of seconds from 0 to 60."))?,
            _ => return Err(Bad("drip takes bytes, duration and delay, and nothing else.")),
        }
    }
    Ok((delay, Answer::Drip { bytes, duration }))
}

impl Answer {
    /// The time has come: answers.
    pub fn finish(self, responder: Responder, now: &Now) -> Next {
        let mut fields = responder.start(Status::OK);
        match self {
            Answer::Say(time) => {
                fields.field("Content-Type", Format::Plain.content_type());
                fields.content(format!("This took {} seconds.\n", time.as_secs_f64()).as_bytes());
                Next::Done
            }
            Answer::Drip { bytes, duration } => {
                fields.field("Content-Type", "application/octet-stream");
                fields.stream(Some(bytes));
                Next::Stream(Body::Drip(Drip::new(bytes, duration, now.instant)))
            }
        }
    }
}

/// Content in equal pieces at equal distances, the last one at the end of the duration.
#[derive(Debug)]
pub struct Drip {
    start: Instant,
    duration: Duration,
    bytes: u64,
    sent: u64,
    /// Bytes that go together.
    piece: u64,
}

impl Drip {
    fn new(bytes: u64, duration: Duration, start: Instant) -> Drip {
        let pieces = (duration.as_millis() / STEP_MILLIS).max(1) as u64;
        let piece = bytes.div_ceil(pieces).clamp(1, SLICE as u64);
        Drip { start, duration, bytes, sent: 0, piece }
    }

    /// When the next piece goes out; `None` when none is left.
    pub fn due(&self) -> Option<Instant> {
        if self.sent == self.bytes {
            return None;
        }
        let end = (self.sent + self.piece).min(self.bytes);
        // Bounded by LONGEST in nanoseconds.
        let after = self.duration.as_nanos() * u128::from(end) / u128::from(self.bytes);
        Some(self.start + Duration::from_nanos(after as u64))
    }

    pub fn pull(&mut self, out: &mut Vec<u8>) -> Pulled {
        let len = self.piece.min(self.bytes - self.sent);
        if len == 0 {
            return Pulled::End;
        }
        out.resize(out.len() + len as usize, b'*');
        self.sent += len;
        Pulled::Some { cost: len as usize }
    }
}

/// Decimal seconds up to `LONGEST`: `2`, `0.05`. `f64` would take `inf`, `1e3` and `+1` too.
fn seconds(text: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = fraction.len();
    if !(1..=9).contains(&digits) {
        return None;
    }
    let whole = debug::number(whole.as_bytes(), LONGEST.as_secs())?;
    let fraction = debug::number(fraction.as_bytes(), u64::MAX)? * 10_u64.pow(9 - digits as u32);
    let time = Duration::from_secs(whole) + Duration::from_nanos(fraction);
    (time <= LONGEST).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_plain_decimals_up_to_a_minute() {
        let millis = |text: &str| seconds(text.as_bytes()).map(|time| time.as_millis());
        for (text, expected) in
            [("0", 0), ("2", 2000), ("0.05", 50), ("60", 60_000), ("60.000", 60_000), ("007.5", 7500)]
        {
            assert_eq!(millis(text), Some(expected), "{text}");
        }
        for text in ["", ".", "1.", ".5", "60.001", "61", "-1", "+1", "1e1", "inf", "NaN", "1,5", " 1", "0.1234567891"]
        {
            assert_eq!(millis(text), None, "{text}");
        }
    }

    #[test]
    fn pieces_come_evenly_and_end_on_time() {
        let start = Instant::now();
        for (bytes, millis, pieces) in [(10, 2000, 10), (1, 500, 1), (10_000, 100, 10), (100_001, 0, 4), (7, 30, 3)] {
            let mut drip = Drip::new(bytes, Duration::from_millis(millis), start);
            let (mut out, mut dues) = (Vec::new(), Vec::new());
            while let Some(due) = drip.due() {
                dues.push(due);
                drip.pull(&mut out);
            }
            assert_eq!(drip.pull(&mut out), Pulled::End);
            assert_eq!((out.len() as u64, dues.len()), (bytes, pieces));
            assert!(dues.is_sorted());
            assert_eq!(dues.last(), Some(&(start + Duration::from_millis(millis))));
        }
    }
}
