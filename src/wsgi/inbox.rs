//! The inbox of a worker's thread: a queue of requests from the server to the thread. Both sides can take requests out.
//! A request in the inbox has not begun, so the server can recall it and give it to another thread.
//!
//! The queue is a Unix stream of slots of one size. The worker reads one slot at a time. The server recalls all slots
//! that are left with a single read. Linux allows one read at a time on a Unix stream, so no slot is split between the
//! two sides or taken twice. A slot holds a whole frame, or only zeros: then the next frame comes over the thread's
//! stream.

use rustix::net::{AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, SocketType};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How many requests may be in an inbox, besides the request that the thread works on.
pub const DEPTH: usize = 16;
/// Bytes of a slot. Most requests fit, even those of browsers. Every request costs a whole slot, so a larger slot would
/// make all requests slower.
const SLOT: usize = 4096;
/// Bytes that an inbox has room for. It never holds that many.
const ALL: usize = SLOT * 2 * DEPTH;

#[derive(Debug)]
pub struct Inbox {
    ours: OwnedFd,
    theirs: OwnedFd,
}

/// What was recalled from an inbox.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recalled {
    /// The number of requests.
    pub count: usize,
    /// The slot of the first request.
    pub first: Option<Vec<u8>>,
    /// The number of empty slots.
    pub empty: usize,
}

impl Inbox {
    pub fn new() -> io::Result<Inbox> {
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // Room for all slots, each in one piece. The machine's default may be smaller.
        rustix::net::sockopt::set_socket_send_buffer_size(&ours, 2 * ALL)?;
        Ok(Inbox { ours, theirs })
    }

    /// The worker's side.
    pub fn theirs(&self) -> BorrowedFd<'_> {
        self.theirs.as_fd()
    }

    /// Adds a slot: a frame, or an empty slot for `None`. False if the frame is larger than a slot or there is no room.
    pub fn push(&self, frame: Option<&[u8]>) -> bool {
        let frame = frame.unwrap_or_default();
        let Some(rest) = SLOT.checked_sub(frame.len()) else { return false };
        let parts = [IoSlice::new(frame), IoSlice::new(&[0; SLOT][..rest])];
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        // The kernel takes the whole slot or no byte of it.
        rustix::net::sendmsg(&self.ours, &parts, &mut SendAncillaryBuffer::default(), flags) == Ok(SLOT)
    }

    /// Removes every slot that the worker has not read yet.
    pub fn recall(&self) -> Recalled {
        let mut room = vec![0; ALL];
        let count = rustix::net::recv(&self.theirs, &mut room[..], RecvFlags::DONTWAIT).map_or(0, |(count, _)| count);
        let slots = room[..count].chunks_exact(SLOT);
        let (frames, empty): (Vec<_>, Vec<_>) = slots.partition(|slot| slot[0] != 0);
        Recalled { count: frames.len(), first: frames.first().map(|slot| slot.to_vec()), empty: empty.len() }
    }

    /// Closes the inbox: its thread ends. When the main thread ends, the process ends.
    pub fn close(&self) {
        // Fails if the other side has closed already.
        let _ = rustix::net::shutdown(&self.ours, Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_slot(inbox: &Inbox) -> Vec<u8> {
        let mut room = [0; SLOT];
        let (count, _) = rustix::net::recv(inbox.theirs(), &mut room[..], RecvFlags::empty()).unwrap();
        assert!(count == SLOT || count == 0);
        room[..count].to_vec()
    }

    #[test]
    fn a_slot_that_was_read_is_not_recalled() {
        let inbox = Inbox::new().unwrap();
        for frame in [&b"first"[..], b"second", b"third"] {
            assert!(inbox.push(Some(frame)));
        }
        assert!(read_slot(&inbox).starts_with(b"first\0"));
        let recalled = inbox.recall();
        assert_eq!((recalled.count, recalled.empty), (2, 0));
        assert!(recalled.first.is_some_and(|first| first.starts_with(b"second\0") && first.len() == SLOT));
        assert_eq!(inbox.recall(), Recalled::default());
        assert!(inbox.push(None) && inbox.push(None));
        assert_eq!(inbox.recall(), Recalled { count: 0, first: None, empty: 2 });
    }

    #[test]
    fn depth_and_one_more_fit_and_all_are_recalled_at_once() {
        let inbox = Inbox::new().unwrap();
        for _ in 0..=DEPTH {
            assert!(inbox.push(Some(&[1; SLOT])));
        }
        assert!(inbox.push(None));
        let recalled = inbox.recall();
        assert_eq!((recalled.count, recalled.empty), (DEPTH + 1, 1));
    }

    #[test]
    fn a_frame_larger_than_a_slot_is_refused() {
        let inbox = Inbox::new().unwrap();
        assert!(!inbox.push(Some(&[1; SLOT + 1])));
        assert!(inbox.push(Some(&[1; SLOT])));
        assert_eq!(inbox.recall().count, 1);
    }

    #[test]
    fn a_closed_inbox_is_empty_and_takes_nothing() {
        let inbox = Inbox::new().unwrap();
        inbox.close();
        assert!(read_slot(&inbox).is_empty() && !inbox.push(Some(b"late")));
    }
}
