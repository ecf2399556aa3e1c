//! The system calls with which the supervisor watches and reads its workers. Only `wait` blocks.

use crate::poll;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Waits until the supervisor's descriptor is readable.
pub fn wait(fd: BorrowedFd<'_>, left: Option<Duration>) -> io::Result<()> {
    poll::wait(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], left)
}

/// Most descriptors that one read can take. The kernel closes any others.
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

/// Reads once, and appends to `said` and `files`. False: nothing has arrived, or the stream has ended.
pub fn receive(socket: &OwnedFd, said: &mut Vec<u8>, files: &mut Vec<OwnedFd>) -> bool {
    let mut room = [0; 16 * 1024];
    let count = read_with_files(socket, &mut room, files).unwrap_or(0);
    said.extend_from_slice(&room[..count]);
    count > 0
}

/// Registers a descriptor edge-triggered: after an event, read until nothing is left.
pub fn watch(poll: &OwnedFd, fd: impl AsFd, token: usize) {
    let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
    if let Err(error) = epoll::add(poll, fd, EventData::new_u64(token as u64), flags) {
        log::error!(target: "wsgi", "cannot watch a worker: {error}");
    }
}

pub fn unwatch(poll: &OwnedFd, fd: impl AsFd) {
    // Fails only if the descriptor is not registered.
    let _ = epoll::delete(poll, fd);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wsgi::process::send_with;
    use rustix::net::SendFlags;
    use std::fs::File;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_descriptor_goes_with_the_bytes() {
        let (one, other) = UnixStream::pair().unwrap();
        let file = File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
        assert_eq!(send_with(&one, b"hello", &[file.as_fd()], SendFlags::DONTWAIT).unwrap(), 5);
        let (mut room, mut files) = ([0; 16], Vec::new());
        assert_eq!(read_with_files(&other, &mut room, &mut files).unwrap(), 5);
        let mut text = String::new();
        File::from(files.pop().unwrap()).read_to_string(&mut text).unwrap();
        assert!(&room[..5] == b"hello" && text.contains("dustdevil") && files.is_empty());
        let empty = read_with_files(&other, &mut room, &mut files);
        assert_eq!(empty.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
