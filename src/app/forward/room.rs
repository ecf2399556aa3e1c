//! Room for bytes from an upstream: buffers that are lent to an exchange while it is driven, and the spool.

use crate::app::forward::protocol::Room;
use crate::app::forward::{Forward, Stage};
use crate::http::date::Now;
use crate::proto::buffer::Buffer;
use crate::proto::conn::HIGH_WATER;
use std::time::{Duration, Instant};

/// How soon a full spool is tried again. Another client may have freed room, and no event tells. Only reading from the
/// upstream waits for this. When the client reads, its own spool empties, and the exchange then needs no more room.
const SPOOL_RETRY: Duration = Duration::from_millis(500);

impl Forward {
    /// Reserves room for the content of the next step; `None` if there is none now.
    pub(super) fn make_room(&mut self, client_backlog: usize, now: &Now) -> Option<Room> {
        let room = match () {
            _ if self.spool.is_empty() && client_backlog < HIGH_WATER => Some(Room::Output),
            // If the input is empty, room for one byte: the upstream is read only if the spool has room.
            _ => self.spool.reserve(self.attempt.input.len().max(1)).then_some(Room::Spool),
        };
        self.spool_retry = room.is_none().then(|| now.instant + SPOOL_RETRY);
        room
    }

    /// When to ask the spool for room again, if the exchange waits for that.
    pub fn room_due(&self) -> Option<Instant> {
        self.spool_retry.filter(|_| self.stage == Stage::Open)
    }

    // ---- memory, which a waiting exchange gives back

    pub fn unpark(&mut self, spare: &mut Buffer) {
        if self.attempt.input.is_unallocated() {
            std::mem::swap(&mut self.attempt.input, spare);
        }
    }

    pub fn park(&mut self, spare: &mut Buffer) {
        if self.attempt.input.is_empty() && spare.is_unallocated() {
            std::mem::swap(&mut self.attempt.input, spare);
        }
        self.attempt.input.park();
        self.output.park();
    }

    /// The exchange is over: the rest of the input is dropped.
    pub fn leave_room(&mut self, spare: &mut Buffer) {
        self.attempt.input.clear();
        self.park(spare);
    }
}
