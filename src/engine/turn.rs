//! The budget of one turn of the event loop.

use crate::cost;
use std::time::{Duration, Instant};

/// How long a turn drives small requests. The clock is checked after each group of `AHEAD` sessions.
const TURN_TIME: Duration = Duration::from_millis(4);
/// Most idle connections that a turn may close to make room. Each costs some 20 us, with the accept.
pub const EVICTIONS: usize = 32;

/// What a turn may still do.
pub struct TurnBudget {
    began: Instant,
    /// How much of the budget small requests have used.
    pub spent: usize,
    /// How many idle connections may still be closed.
    pub evictions: usize,
}

impl TurnBudget {
    pub fn at(began: Instant) -> TurnBudget {
        TurnBudget { began, spent: 0, evictions: EVICTIONS }
    }

    /// By the known costs of the work, and by the clock: this machine may be slower than the one where the costs were
    /// measured.
    pub fn is_spent(&self, now: Instant) -> bool {
        self.spent >= cost::TURN || now.saturating_duration_since(self.began) >= TURN_TIME
    }
}
