//! The system calls with which the supervisor watches and reads its workers. Only `wait` blocks.

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Waits until the supervisor's descriptor is readable.
pub fn wait(fd: BorrowedFd<'_>, left: Option<Duration>) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    // A duration too long for a timespec is no limit.
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    match poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], left.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// How many descriptors one read can take. The kernel closes the others.
const FILES: usize = 4;

/// Reads from a worker's stream, and takes the descriptors that come with the bytes.
pub fn read_with_files(socket: impl AsFd, room: &mut [u8], files: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(room)], &mut control, flags)?;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            files.extend(received);
        }
    }
    Ok(message.bytes)
}

/// Adds what has arrived to `said` and `files`. False when nothing had.
pub fn receive(socket: &OwnedFd, said: &mut Vec<u8>, files: &mut Vec<OwnedFd>) -> bool {
    let mut room = [0; 16 * 1024];
    let count = read_with_files(socket, &mut room, files).unwrap_or(0);
    said.extend_from_slice(&room[..count]);
    count > 0
}

/// Registers a descriptor edge-triggered: after an event it has to be read until nothing is left.
pub fn watch(poll: &OwnedFd, fd: impl AsFd, token: usize) {
    let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
    if let Err(error) = epoll::add(poll, fd, EventData::new_u64(token as u64), flags) {
        log::error!(target: "wsgi", "cannot watch a worker: {error}");
    }
}

pub fn unwatch(poll: &OwnedFd, fd: impl AsFd) {
    // It fails only when the descriptor is not registered.
    let _ = epoll::delete(poll, fd);
}
