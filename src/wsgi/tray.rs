//! What a thread of a worker takes up next: a queue between it and the server, which either side can take from. A request
//! that lies there has not begun, and until it has it can be taken back, whoever was to answer it.
//!
//! The queue is a stream of slots of one size: the worker takes one with each read, and we take back all that is left
//! with a single read. Linux lets one read at a time at a Unix socket, so that no slot is torn and none taken twice. In a
//! slot is a whole frame; or nothing, which says: the next frame comes over your stream.

use rustix::net::{AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, SocketType};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Requests that may lie on one behind the one that is worked on.
pub const DEPTH: usize = 16;
/// Most requests fit, those of browsers too; and two pages more would cost each of them.
const SLOT: usize = 4096;
/// More than is ever laid on one.
const ALL: usize = SLOT * 2 * DEPTH;

#[derive(Debug)]
pub struct Tray {
    ours: OwnedFd,
    theirs: OwnedFd,
}

/// What was taken back: how many requests, the first of them, and how many empty slots.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub count: usize,
    pub first: Option<Vec<u8>>,
    pub empty: usize,
}

impl Tray {
    pub fn new() -> io::Result<Tray> {
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // Room for all of it, and for a slot in one piece, whatever the machine's default is.
        rustix::net::sockopt::set_socket_send_buffer_size(&ours, 2 * ALL)?;
        Ok(Tray { ours, theirs })
    }

    /// The worker's side.
    pub fn theirs(&self) -> BorrowedFd<'_> {
        self.theirs.as_fd()
    }

    /// Lays a frame on it, if it is small and there is room; `None` is an empty slot.
    pub fn lay(&self, frame: Option<&[u8]>) -> bool {
        let frame = frame.unwrap_or_default();
        let Some(rest) = SLOT.checked_sub(frame.len()) else { return false };
        let parts = [IoSlice::new(frame), IoSlice::new(&[0; SLOT][..rest])];
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        // Of a slot all is sent, or nothing.
        rustix::net::sendmsg(&self.ours, &parts, &mut SendAncillaryBuffer::default(), flags) == Ok(SLOT)
    }

    /// Takes back what has not been taken up.
    pub fn take_back(&self) -> Taken {
        let mut room = vec![0; ALL];
        let count = rustix::net::recv(&self.theirs, &mut room[..], RecvFlags::DONTWAIT).map_or(0, |(count, _)| count);
        let slots = room[..count].chunks_exact(SLOT);
        let (frames, empty): (Vec<_>, Vec<_>) = slots.partition(|slot| slot[0] != 0);
        Taken { count: frames.len(), first: frames.first().map(|slot| slot.to_vec()), empty: empty.len() }
    }

    /// The worker finds no more on it, and that ends it.
    pub fn close(&self) {
        // It fails when the other side has closed already.
        let _ = rustix::net::shutdown(&self.ours, Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_up(tray: &Tray) -> Vec<u8> {
        let mut room = [0; SLOT];
        let (count, _) = rustix::net::recv(tray.theirs(), &mut room[..], RecvFlags::empty()).unwrap();
        assert!(count == SLOT || count == 0);
        room[..count].to_vec()
    }

    #[test]
    fn what_is_taken_up_is_not_taken_back() {
        let tray = Tray::new().unwrap();
        for frame in [&b"first"[..], b"second", b"third"] {
            assert!(tray.lay(Some(frame)));
        }
        assert!(take_up(&tray).starts_with(b"first\0"));
        let taken = tray.take_back();
        assert_eq!((taken.count, taken.empty), (2, 0));
        assert!(taken.first.is_some_and(|first| first.starts_with(b"second\0") && first.len() == SLOT));
        assert_eq!(tray.take_back(), Taken::default());
        assert!(tray.lay(None) && tray.lay(None));
        assert_eq!(tray.take_back(), Taken { count: 0, first: None, empty: 2 });
    }

    #[test]
    fn as_many_as_are_meant_to_fit_do_and_all_are_taken_back_at_once() {
        let tray = Tray::new().unwrap();
        for _ in 0..=DEPTH {
            assert!(tray.lay(Some(&[1; SLOT])));
        }
        assert!(tray.lay(None));
        let taken = tray.take_back();
        assert_eq!((taken.count, taken.empty), (DEPTH + 1, 1));
    }

    #[test]
    fn what_is_too_large_is_not_laid_on_it() {
        let tray = Tray::new().unwrap();
        assert!(!tray.lay(Some(&[1; SLOT + 1])));
        assert!(tray.lay(Some(&[1; SLOT])));
        assert_eq!(tray.take_back().count, 1);
    }

    #[test]
    fn once_closed_it_is_empty_for_ever() {
        let tray = Tray::new().unwrap();
        tray.close();
        assert!(take_up(&tray).is_empty() && !tray.lay(Some(b"late")));
    }
}
