//! The socket of an exchange to its upstream, and its system calls: connect, send, receive. They never block. All
//! engines use them.

use crate::app::upstreams::{Address, Upstream};
use crate::engine::python::WorkerSocket;
use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The socket of an exchange to its upstream.
#[derive(Debug)]
pub enum UpstreamSocket<'a> {
    Opened(UpstreamConnection),
    Leased(WorkerSocket<'a>),
}

/// A connection that the engine has opened. It serves one exchange after another.
#[derive(Debug)]
pub struct UpstreamConnection {
    fd: OwnedFd,
    /// The id of its upstream.
    pub upstream: usize,
    /// The upstream's name, for the log.
    name: String,
}

impl UpstreamSocket<'_> {
    /// Reads. Descriptors that arrive with the bytes are added to `files`.
    pub fn read(&self, room: &mut [u8], files: &mut Vec<OwnedFd>) -> io::Result<usize> {
        match self {
            UpstreamSocket::Leased(socket) => socket.read(room, files),
            UpstreamSocket::Opened(connection) => Ok(net::recv(&connection.fd, room, RecvFlags::DONTWAIT)?.0),
        }
    }

    /// Writes. `file` is passed with the first byte; only a worker's socket takes one.
    pub fn write(&self, bytes: &[u8], file: Option<BorrowedFd<'_>>) -> io::Result<usize> {
        match (self, file) {
            (UpstreamSocket::Leased(socket), Some(file)) => socket.write_with(bytes, file),
            _ => Ok(net::send(self, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?),
        }
    }

    pub fn shut_down_write(&self) -> io::Result<()> {
        Ok(net::shutdown(self, Shutdown::Write)?)
    }
}

impl AsFd for UpstreamSocket<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            UpstreamSocket::Opened(connection) => connection.as_fd(),
            UpstreamSocket::Leased(socket) => socket.as_fd(),
        }
    }
}

impl UpstreamConnection {
    /// Begins to connect. The first write fails if that did not succeed.
    pub fn open(to: &Upstream) -> io::Result<UpstreamConnection> {
        Ok(UpstreamConnection { fd: connect(&to.address)?, upstream: to.id, name: to.name.clone() })
    }

    /// Whether the connection can be used for another exchange: it is open, and nothing has arrived without a request.
    pub fn is_fit(&self) -> bool {
        let peeked = net::recv(&self.fd, &mut [0_u8], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        if matches!(peeked, Ok((1.., _))) {
            log::warn!("upstream {}: spoke without being asked; the connection is not used again", self.name);
        }
        peeked == Err(Errno::AGAIN)
    }
}

impl AsFd for UpstreamConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn connect(address: &Address) -> io::Result<OwnedFd> {
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
        // The backlog of a Unix socket is full. No event will say when there is room.
        Err(Errno::AGAIN) => Err(Errno::NOBUFS.into()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    fn pair() -> (UpstreamConnection, UnixStream) {
        let (one, other) = UnixStream::pair().unwrap();
        (UpstreamConnection { fd: one.into(), upstream: 0, name: "x".into() }, other)
    }

    #[test]
    fn an_idle_connection_is_fit_until_it_is_closed_or_speaks() {
        let (connection, mut other) = pair();
        assert!(connection.is_fit());
        other.write_all(b"x").unwrap();
        assert!(!connection.is_fit());
        let (connection, other) = pair();
        drop(other);
        assert!(!connection.is_fit());
    }
}
