//! `delay/{seconds}` answers after a delay. `drip` sends its content in pieces, spread over a duration. Neither blocks:
//! both return the time at which the session goes on.

use crate::app::exchange::Next;
use crate::app::handlers::debug::arguments::{self, BadArgument};
use crate::app::receive::delay::{Delay, Then};
use crate::app::reply::timed::Timed;
use crate::http::date::Now;
use crate::http::escape;
use crate::http::request::Request;
use crate::proto::responder::Responder;
use std::time::Duration;

/// The longest delay or duration. A waiting request keeps its connection, and a minute is enough for a test.
const LONGEST: Duration = Duration::from_secs(60);
/// Most bytes of `drip`: 1 MiB a second for ten seconds. For more content there is `bytes`.
const MOST_DRIPPED: u64 = 10 * 1024 * 1024;
pub fn delay(argument: &[u8], request: &Request, responder: Responder, now: &Now) -> Next {
    match seconds(argument) {
        Some(time) => Next::Sleep(Delay::new(now.instant + time, Then::Answer(Timed::Say(time)))),
        None => BadArgument("The time to wait is a number of seconds from 0 to 60, such as 2 or 0.05.")
            .answer(request, responder)
            .into(),
    }
}

pub fn drip(request: &Request, responder: Responder, now: &Now) -> Next {
    match parse_drip(request.target.query().unwrap_or_default()) {
        Ok((Duration::ZERO, answer)) => answer.finish(responder, now).into(),
        Ok((delay, answer)) => Next::Sleep(Delay::new(now.instant + delay, Then::Answer(answer))),
        Err(bad) => bad.answer(request, responder).into(),
    }
}

/// The delay before the response begins, and the response.
fn parse_drip(query: &[u8]) -> Result<(Duration, Timed), BadArgument> {
    let (mut bytes, mut duration, mut delay) = (10, Duration::from_secs(2), Duration::ZERO);
    for (name, value) in escape::query_pairs(query) {
        match &name[..] {
            b"bytes" => {
                bytes = arguments::number(&value, MOST_DRIPPED)
                    .ok_or(BadArgument("bytes is a number from 0 to 10485760."))?;
            }
            b"duration" => {
                duration = seconds(&value).ok_or(BadArgument("duration is a number of seconds from 0 to 60."))?
            }
            b"delay" => delay = seconds(&value).ok_or(BadArgument("delay is a number of seconds from 0 to 60."))?,
            _ => return Err(BadArgument("drip takes bytes, duration and delay, and nothing else.")),
        }
    }
    Ok((delay, Timed::Drip { bytes, duration }))
}

/// Parses decimal seconds up to `LONGEST`: `2`, `0.05`. Parsing as `f64` would also accept `inf`, `1e3` and `+1`.
fn seconds(text: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = fraction.len();
    if !(1..=9).contains(&digits) {
        return None;
    }
    let whole = arguments::number(whole.as_bytes(), LONGEST.as_secs())?;
    let fraction = arguments::number(fraction.as_bytes(), u64::MAX)? * 10_u64.pow(9 - digits as u32);
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
}
