//! `bytes/{n}` sends bytes that nobody can compress or guess and everybody can check; `stream/{n}` sends
//! lines of JSON, each in a chunk of its own. Both are made while they are sent.

use crate::app::App;
use crate::app::body::{Body, Pulled, SLICE};
use crate::app::exchange::Next;
use crate::app::handlers::debug::{self, Bad};
use crate::http::date::Now;
use crate::http::escape;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::proto::responder::Responder;
use std::io::Write;

/// 10 GiB: beyond every 32-bit counter of a client.
const MOST_BYTES: u64 = 10 << 30;
const MOST_LINES: u64 = 1_000_000;
/// What making and framing a line costs besides its bytes, in bytes of the loop's budget.
const LINE_COST: usize = 128;

pub fn bytes(app: &App, request: &Request, responder: Responder, _now: &Now) -> Next {
    let Some(length) = debug::number(debug::argument(app, request, "bytes/"), MOST_BYTES) else {
        return Bad("The number of bytes is from 0 to 10737418240.").answer(request, responder);
    };
    let mut seed = 0;
    for (name, value) in escape::query_pairs(request.target.query.unwrap_or_default()) {
        match debug::number(&value, u64::MAX) {
            Some(number) if &name[..] == b"seed" => seed = number,
            _ => return Bad("bytes takes a seed, which is a number, and nothing else.").answer(request, responder),
        }
    }
    let mut fields = responder.start(Status::OK);
    fields.field("Content-Type", "application/octet-stream");
    fields.stream(Some(length));
    Next::Stream(Body::Noise(Noise { state: seed, left: length }))
}

pub fn lines(app: &App, request: &Request, responder: Responder, _now: &Now) -> Next {
    let Some(of) = debug::number(debug::argument(app, request, "stream/"), MOST_LINES) else {
        return Bad("The number of lines is from 0 to 1000000.").answer(request, responder);
    };
    let mut fields = responder.start(Status::OK);
    fields.field("Content-Type", "application/x-ndjson");
    fields.stream(None);
    Next::Stream(Body::Lines(Lines { sent: 0, of }))
}

/// Bytes of SplitMix64, little-endian: the same for the same seed, on every machine.
#[derive(Debug)]
pub struct Noise {
    state: u64,
    left: u64,
}

impl Noise {
    pub fn pull(&mut self, out: &mut Vec<u8>) -> Pulled {
        // SLICE is a multiple of a word's length, so that only the last word is cut.
        let len = self.left.min(SLICE as u64) as usize;
        if len == 0 {
            return Pulled::End;
        }
        let end = out.len() + len;
        while out.len() < end {
            let word = self.next().to_le_bytes();
            out.extend_from_slice(&word[..word.len().min(end - out.len())]);
        }
        self.left -= len as u64;
        Pulled::Some { cost: len }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }
}

/// A line a pull, and so a line a chunk.
#[derive(Debug)]
pub struct Lines {
    sent: u64,
    of: u64,
}

impl Lines {
    pub fn pull(&mut self, out: &mut Vec<u8>) -> Pulled {
        if self.sent == self.of {
            return Pulled::End;
        }
        self.sent += 1;
        let start = out.len();
        // Writing to a Vec cannot fail.
        let _ = writeln!(out, "{{\"line\":{},\"of\":{}}}", self.sent, self.of);
        Pulled::Some { cost: out.len() - start + LINE_COST }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_what_splitmix64_gives() {
        // The first words of the reference implementation (prng.di.unimi.it/splitmix64.c).
        let mut noise = Noise { state: 1_234_567, left: 0 };
        let words = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([noise.next(), noise.next(), noise.next()], words);
    }

    #[test]
    fn noise_is_the_same_however_long() {
        let bytes = |left| {
            let (mut noise, mut out) = (Noise { state: 7, left }, Vec::new());
            while noise.pull(&mut out) != Pulled::End {}
            out
        };
        let long = bytes(2 * SLICE as u64 + 13);
        assert_eq!(long.len(), 2 * SLICE + 13);
        for len in [0, 1, 8, 9, SLICE, SLICE + 1] {
            assert_eq!(bytes(len as u64), long[..len]);
        }
    }
}
