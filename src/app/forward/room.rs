//! Where what an upstream says has room: buffers that are lent to an exchange while it moves, and the spool.

use crate::app::forward::protocol::Room;
use crate::app::forward::{Forward, Stage};
use crate::http::date::Now;
use crate::proto::buffer::Buffer;
use crate::proto::conn::HIGH_WATER;
use std::time::{Duration, Instant};

/// How soon a full spool is looked at again, whose room another client may have given back. Nobody waits for it but the
/// upstream: a client that reads empties its own spool, and then needs none.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

impl Forward {
    /// Takes room for what the next step can give; `None` while there is none.
    pub(super) fn make_room(&mut self, client_backlog: usize, now: &Now) -> Option<Room> {
        let room = match () {
            _ if self.spool.is_empty() && client_backlog < HIGH_WATER => Some(Room::Output),
            // It is to be read only if there is room for a byte of it.
            _ => self.spool.reserve(self.input.len().max(1)).then_some(Room::Spool),
        };
        self.looks_again = room.is_none().then(|| now.instant + LOOK_AGAIN);
        room
    }

    /// When it is to look again whether there is room, if that is what it waits for.
    pub fn room_due(&self) -> Option<Instant> {
        self.looks_again.filter(|_| self.stage == Stage::Open)
    }

    // ---- memory, which one that waits gives back

    pub fn unpark(&mut self, spare: &mut Buffer) {
        if self.input.is_unallocated() {
            std::mem::swap(&mut self.input, spare);
        }
    }

    pub fn park(&mut self, spare: &mut Buffer) {
        if self.input.is_empty() && spare.is_unallocated() {
            std::mem::swap(&mut self.input, spare);
        }
        self.input.park();
        self.output.park();
    }

    /// It is over, and whatever else was said is of no use.
    pub fn leave_room(&mut self, spare: &mut Buffer) {
        self.input.clear();
        self.park(spare);
    }
}
