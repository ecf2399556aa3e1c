//! A client's socket: the ready bits of the event engine, and the system calls with which all engines send.

use rustix::net::{SendAncillaryBuffer, SendFlags};
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;

// The ready bits of a nonblocking socket.
pub const READABLE: u8 = 1;
pub const WRITABLE: u8 = 2;
/// The peer has closed its side. After a short read, the end of input is still to be read.
pub const READ_CLOSED: u8 = 4;
/// The peer has reset the connection, or both sides are closed.
pub const HUNG_UP: u8 = 8;

pub fn ready_bits(event: &mio::event::Event) -> u8 {
    let closed = event.is_read_closed() || event.is_error();
    let readable = if event.is_readable() || closed { READABLE } else { 0 };
    let writable = if event.is_writable() { WRITABLE } else { 0 };
    let hung_up = if event.is_write_closed() || event.is_error() { HUNG_UP } else { 0 };
    readable | writable | hung_up | if closed { READ_CLOSED } else { 0 }
}

/// Sends two pieces. `more`: bytes follow at once, so the kernel need not send a short head in its own packet.
pub fn send(socket: impl AsFd, parts: [&[u8]; 2], more: bool) -> io::Result<usize> {
    let flags = if more { SendFlags::MORE | SendFlags::NOSIGNAL } else { SendFlags::NOSIGNAL };
    match parts {
        [bytes, []] | [[], bytes] => Ok(rustix::net::send(socket, bytes, flags)?),
        parts => {
            let parts = parts.map(IoSlice::new);
            Ok(rustix::net::sendmsg(socket, &parts, &mut SendAncillaryBuffer::default(), flags)?)
        }
    }
}

pub fn send_file(socket: impl AsFd, file: &File, at: u64, len: usize) -> io::Result<usize> {
    let mut offset = at;
    Ok(rustix::fs::sendfile(socket, file, Some(&mut offset), len)?)
}
