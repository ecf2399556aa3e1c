//! The calls on a socket to an upstream, TCP or Unix: connect, send, receive. They never block, and all engines share
//! them.

use crate::app::upstreams::Address;
use crate::wsgi::process::send_with;
use crate::wsgi::shared_supervisor::SharedSupervisor;
use crate::wsgi::supervisor::Lease;
use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Begins to connect. The first write shows whether that succeeded.
pub fn connect(address: &Address) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let open = |family| net::socket_with(family, SocketType::STREAM, flags, None);
    let (socket, result) = match address {
        Address::Tcp(address) => {
            let socket = open(if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 })?;
            sockopt::set_tcp_nodelay(&socket, true)?;
            let result = match address {
                SocketAddr::V4(address) => net::connect(&socket, address),
                SocketAddr::V6(address) => net::connect(&socket, address),
            };
            (socket, result)
        }
        Address::Unix(path) => {
            let socket = open(AddressFamily::UNIX)?;
            let result = net::connect(&socket, &SocketAddrUnix::new(path.as_path())?);
            (socket, result)
        }
        Address::Worker(_) => return Err(io::ErrorKind::WouldBlock.into()),
    };
    match result {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(socket),
        // The backlog of a Unix socket is full. No event tells when that changes.
        Err(Errno::AGAIN) => Err(Errno::NOBUFS.into()),
        Err(error) => Err(error.into()),
    }
}

/// Whether an idle connection can carry an exchange: it is open, and nothing has arrived without being asked for.
/// `name` is the upstream's, for the log.
pub fn is_fit(socket: impl AsFd, name: &str) -> bool {
    let peeked = net::recv(socket, &mut [0_u8], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    if matches!(peeked, Ok((1.., _))) {
        log::warn!("upstream {name}: spoke without being asked; the connection is not used again");
    }
    peeked == Err(Errno::AGAIN)
}

/// Reads from an upstream; with `worker`, from the stream of that worker's thread, and descriptors with the bytes.
pub fn read(
    socket: impl AsFd,
    worker: Option<(&SharedSupervisor, &Lease)>,
    room: &mut [u8],
    files: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    match worker {
        Some((supervisor, lease)) => supervisor.read(lease, room, files),
        None => Ok(net::recv(socket, room, RecvFlags::DONTWAIT)?.0),
    }
}

/// Writes. `file`, if there is one, is passed with the first byte.
pub fn write(socket: impl AsFd, bytes: &[u8], file: Option<BorrowedFd<'_>>) -> io::Result<usize> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    match file {
        Some(file) => send_with(socket, bytes, &[file], flags),
        None => Ok(net::send(socket, bytes, flags)?),
    }
}

pub fn shut_down_write(socket: impl AsFd) -> io::Result<()> {
    Ok(net::shutdown(socket, Shutdown::Write)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wsgi::watch::read_with_files;
    use std::fs::File;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_descriptor_goes_with_the_bytes() {
        let (one, other) = UnixStream::pair().unwrap();
        let file = File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
        assert_eq!(write(&one, b"hello", Some(file.as_fd())).unwrap(), 5);
        let (mut room, mut files) = ([0; 16], Vec::new());
        assert_eq!(read_with_files(&other, &mut room, &mut files).unwrap(), 5);
        let mut text = String::new();
        File::from(files.pop().unwrap()).read_to_string(&mut text).unwrap();
        assert!(&room[..5] == b"hello" && text.contains("dustdevil") && files.is_empty());
        let empty = read_with_files(&other, &mut room, &mut files);
        assert_eq!(empty.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn an_idle_connection_is_fit_until_it_is_closed_or_speaks() {
        let (one, other) = UnixStream::pair().unwrap();
        assert!(is_fit(&one, "x"));
        write(&other, b"x", None).unwrap();
        assert!(!is_fit(&one, "x"));
        let (one, other) = UnixStream::pair().unwrap();
        drop(other);
        assert!(!is_fit(&one, "x"));
    }
}
