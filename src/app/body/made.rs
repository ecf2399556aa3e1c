//! Content that is generated while it is sent: bytes that do not compress, and lines of JSON.

use crate::app::body::pulled::{Pulled, SLICE};
use std::io::Write;

/// What making and framing a line costs besides its bytes, in the units of `cost`.
const LINE_COST: usize = 384;

/// The output of the generator SplitMix64, little-endian. The same seed gives the same bytes on every machine.
#[derive(Debug)]
pub struct Noise {
    state: u64,
    left: u64,
}

impl Noise {
    /// `length` bytes.
    pub fn new(seed: u64, length: u64) -> Noise {
        Noise { state: seed, left: length }
    }

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

/// Lines of JSON. Each pull gives one line, so that each line is sent as one chunk.
#[derive(Debug)]
pub struct JsonLines {
    sent: u64,
    of: u64,
}

impl JsonLines {
    pub fn new(count: u64) -> JsonLines {
        JsonLines { sent: 0, of: count }
    }

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
