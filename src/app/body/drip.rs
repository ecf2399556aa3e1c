//! Content that is sent in pieces, spread over a duration.

use crate::app::body::pulled::{Pulled, SLICE};
use std::time::{Duration, Instant};

/// The shortest time between two pieces. The engines' timers count in milliseconds.
const STEP_MILLIS: u128 = 10;

/// Content in equal pieces at equal intervals. The last piece is due at the end of the duration.
#[derive(Debug)]
pub struct Drip {
    start: Instant,
    duration: Duration,
    bytes: u64,
    sent: u64,
    /// Bytes of one piece.
    piece: u64,
}

impl Drip {
    pub fn new(bytes: u64, duration: Duration, start: Instant) -> Drip {
        let pieces = (duration.as_millis() / STEP_MILLIS).max(1) as u64;
        let piece = bytes.div_ceil(pieces).clamp(1, SLICE as u64);
        Drip { start, duration, bytes, sent: 0, piece }
    }

    /// When the next piece is due. `None` after the last one.
    pub fn due(&self) -> Option<Instant> {
        if self.sent == self.bytes {
            return None;
        }
        let end = (self.sent + self.piece).min(self.bytes);
        // At most `duration`, which the caller limits to 60 seconds: its nanoseconds fit in a u64.
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

#[cfg(test)]
mod tests {
    use super::*;

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
