//! The dates that clients know of the files of a store, while those files may change again within the same second.
//!
//! If such a file changes again, the change must get another date (`Staged::take_free_name`, `Staged::replace`):
//! otherwise If-Unmodified-Since could not tell the two states apart.

use crate::sync;
use std::collections::HashMap;
use std::sync::Mutex;

/// Paths that are remembered. With more of them, every path counts as sent.
const MOST: usize = 4096;

#[derive(Debug, Default)]
pub struct SentDates(Mutex<Sent>);

/// All times are in seconds since 1970.
#[derive(Debug, Default)]
struct Sent {
    now: u64,
    dates: HashMap<Box<[u8]>, u64>,
}

impl SentDates {
    /// Remembers that the file at `path` has been sent with `date`. The date of a file may be that of the second before
    /// `now` although the file has just changed: file systems use a clock that lags by a tick.
    pub fn add(&self, path: &[u8], date: u64, now: u64) {
        if date + 1 < now {
            return;
        }
        let mut sent = sync::lock(&self.0);
        if sent.now != now {
            sent.now = now;
            sent.dates.retain(|_, date| *date + 1 >= now);
        }
        if sent.dates.len() < MOST {
            sent.dates.insert(path.into(), date);
        }
    }

    /// Whether a client may know the file at `path` by `date`.
    pub fn has(&self, path: &[u8], date: u64) -> bool {
        let sent = sync::lock(&self.0);
        date + 1 >= sent.now && (sent.dates.get(path) == Some(&date) || sent.dates.len() == MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_counts_as_sent_until_the_second_after_it_is_over() {
        let sent = SentDates::default();
        assert!(!sent.has(b"a", 0) && !sent.has(b"a", 7));
        sent.add(b"a", 7, 7);
        sent.add(b"old", 5, 7);
        assert!(sent.has(b"a", 7) && !sent.has(b"b", 7) && !sent.has(b"a", 8) && !sent.has(b"old", 5));
        sent.add(b"b", 8, 8);
        assert!(sent.has(b"b", 8) && sent.has(b"a", 7));
        sent.add(b"c", 9, 9);
        assert!(sent.has(b"c", 9) && sent.has(b"b", 8) && !sent.has(b"a", 7));
        (0..MOST).for_each(|number| sent.add(&number.to_le_bytes(), 9, 9));
        assert!(sent.has(b"any", 9) && !sent.has(b"any", 7));
    }
}
