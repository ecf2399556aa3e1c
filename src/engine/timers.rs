//! The deadlines of all connections: a heap of wake-ups, one for each key. A wake-up may be too early, never too late.
//!
//! A deadline moves with every request. To move it in the heap each time would cost more than the request. So a key
//! keeps its earliest wake-up. If the deadline is later than that, the owner arms the key again at the wake-up. The
//! heap holds one entry per key, and a few more if deadlines have moved to an earlier time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Instant, usize)>>,
    /// For each key, its earliest wake-up in the heap.
    armed: Vec<Option<Instant>>,
}

impl Timers {
    /// Wakes `key` at `at` or before.
    pub fn arm(&mut self, key: usize, at: Instant) {
        if self.armed.len() <= key {
            self.armed.resize(key + 1, None);
        }
        if self.armed[key].is_none_or(|armed| armed > at) {
            self.armed[key] = Some(at);
            self.heap.push(Reverse((at, key)));
        }
    }

    /// The next wake-up.
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// A key whose wake-up is due. Its owner checks whether its deadline is due as well.
    pub fn expire(&mut self, now: Instant) -> Option<usize> {
        while let Some(&Reverse((at, key))) = self.heap.peek() {
            if at > now {
                return None;
            }
            self.heap.pop();
            // Any other entry of the key is stale: the key was armed again for an earlier time, and woken then.
            if self.armed[key] == Some(at) {
                self.armed[key] = None;
                return Some(key);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_key_is_woken_once_at_its_earliest_time() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut timers = Timers::default();
        timers.arm(3, after(10));
        timers.arm(3, after(20));
        timers.arm(3, after(5));
        timers.arm(1, after(7));
        assert_eq!(timers.next(), Some(after(5)));
        assert_eq!(timers.expire(after(4)), None);
        assert_eq!(timers.expire(after(8)), Some(3));
        assert_eq!(timers.expire(after(8)), Some(1));
        assert_eq!(timers.expire(after(30)), None);
        timers.arm(3, after(40));
        assert_eq!(timers.next(), Some(after(40)));
    }
}
