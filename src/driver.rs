//! The one place where an `Op` becomes a system call. It has no policy: the session returns the operation that it
//! wants, the transport tells whether that is possible now, and the engine gets what to wait for.

use crate::app::App;
use crate::app::upstreams::{ConnectError, Reuse, Upstream};
use crate::cost;
use crate::http::date::Now;
use crate::session::{Op, Peer, Ready, Scratch, Session};
pub use crate::wsgi::supervisor::{Handback, Received};
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

/// The result of driving a session: what the engine does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing that the session wants is ready. Drive it again when something is ready, or at the deadline.
    Wait(Option<Instant>),
    /// The session's budget is spent. Drive it again after the other sessions.
    Yield,
    /// The connection is over. Drop it.
    Close,
}

/// How the session got its socket to an upstream.
#[derive(Debug)]
pub enum Connected {
    /// A new socket, which is still connecting. The first write shows whether that succeeded.
    New,
    /// An idle socket of an earlier exchange. The upstream may be about to close it.
    Reused,
    /// The request has been sent; these bytes of the answer have been received already.
    Sent(Received),
}

/// The client's side of a connection, as an engine offers it. If a call returns `WouldBlock`, the transport clears the
/// bit in `ready`, and the call is not made again until the bit is set.
pub trait Transport {
    /// Whether calls block, at most until the deadline given to `block_until`.
    const WAITS: bool = false;

    fn now(&mut self) -> &Now;
    /// Updates `now` from the clock, unless the transport does so after each call.
    fn tick(&mut self) {}
    /// Since when the server is shutting down. If it is, the current exchange is the last of its connection.
    fn ending_since(&self) -> Option<Instant>;
    /// Sets the deadline of the next call. `dispensable`: a shutdown may end the wait early.
    fn block_until(&mut self, _deadline: Option<Instant>, _dispensable: bool) {}
    /// What the client's side is ready for. If calls block, it is ready for everything.
    fn ready(&self) -> Ready;
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize>;
    /// Writes two parts with one call. `more`: more bytes follow at once, so that a short head is not sent in a packet
    /// of its own.
    fn write(&mut self, parts: [&[u8]; 2], more: bool) -> io::Result<usize>;
    fn send_file(&mut self, file: &File, at: u64, len: usize) -> io::Result<usize>;
    fn shut_down_write(&mut self) -> io::Result<()>;
    /// Makes closing the connection send a reset.
    fn reset_on_close(&mut self);
}

/// The other side of an exchange: a socket to an upstream or to a Python worker. It exists from `connect` to `release`.
/// If a call returns `WouldBlock`, the transport clears the bit in `upstream_ready`.
pub trait UpstreamTransport {
    /// What the upstream's side is ready for. Without a socket, `UPSTREAM_WRITE` means that `connect` may be called.
    fn upstream_ready(&self) -> Ready;
    /// Gets a socket: an idle one, if `reuse` allows it, or a new one. `Err(Queued)`: no worker is free. The engine drives
    /// the session again when one may be free. `request`: the whole request, if it is in memory and the upstream takes it in
    /// one piece. A transport that sends it returns `Connected::Sent`.
    fn connect(&mut self, to: &Upstream, reuse: Reuse, request: Option<&[u8]>) -> Result<Connected, ConnectError>;
    /// Reads from the upstream into `room`. 0: the upstream has closed its side. Appends descriptors that arrive with the
    /// bytes to `files`. `ConnectionReset` from a worker: it has not begun with the request.
    fn read_upstream(&mut self, room: &mut [u8], files: &mut Vec<OwnedFd>) -> io::Result<usize>;
    /// Writes. `file` is a descriptor to pass with the first byte.
    fn write_upstream(&mut self, bytes: &[u8], file: Option<BorrowedFd<'_>>) -> io::Result<usize>;
    fn shut_down_upstream(&mut self) -> io::Result<()>;
    /// Gives the socket back. `keep`: the socket can be used again. `handback`: the state in which a worker's thread is
    /// given back. If there is no socket, a `handback` means that the session no longer waits for one.
    fn release(&mut self, keep: bool, handback: Option<Handback>);
}

/// Marks a transport without upstreams: it implements `Transport` only, and every `connect` to an upstream is refused.
pub trait NoUpstream: Transport {}

impl<T: NoUpstream> UpstreamTransport for T {
    fn upstream_ready(&self) -> Ready {
        Ready::UPSTREAM_WRITE
    }

    fn connect(&mut self, _to: &Upstream, _reuse: Reuse, _request: Option<&[u8]>) -> Result<Connected, ConnectError> {
        Err(io::Error::from(io::ErrorKind::ConnectionRefused).into())
    }

    fn read_upstream(&mut self, _room: &mut [u8], _files: &mut Vec<OwnedFd>) -> io::Result<usize> {
        Err(io::ErrorKind::NotConnected.into())
    }

    fn write_upstream(&mut self, _bytes: &[u8], _file: Option<BorrowedFd<'_>>) -> io::Result<usize> {
        Err(io::ErrorKind::NotConnected.into())
    }

    fn shut_down_upstream(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn release(&mut self, _keep: bool, _handback: Option<Handback>) {}
}

/// Reads the bytes that have arrived of the request that a session waits for. `drive` does the rest. State that the
/// engine checks after this read (of files, for example) is fresh enough for that request. So an engine that reads
/// ahead for several sessions before it drives them checks once for all of them.
pub fn read_ahead<T: Transport>(session: &mut Session, io: &mut T, scratch: &mut Scratch) {
    if !session.awaits_request() || !io.ready().has(Ready::CLIENT_READ) {
        return;
    }
    session.unpark_input(scratch);
    match io.read(session.room()) {
        Ok(count) => session.on_read(count, io.now().instant),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
        Err(error) => session.on_failed(&error, scratch),
    }
}

/// Drives a session until it waits, ends, or has used up its budget.
pub fn drive<T: Transport + UpstreamTransport>(
    session: &mut Session,
    io: &mut T,
    app: &App,
    scratch: &mut Scratch,
) -> Turn {
    session.unpark(scratch);
    scratch.spent = 0;
    let turn = run(session, io, app, scratch);
    session.park(scratch);
    turn
}

fn run<T: Transport + UpstreamTransport>(session: &mut Session, io: &mut T, app: &App, scratch: &mut Scratch) -> Turn {
    // Drops the uncounted work of the session that was driven before.
    scratch.take_work();
    let mut more = advance(session, io, app, scratch);
    scratch.spent += scratch.take_work();
    loop {
        if T::WAITS {
            io.block_until(session.deadline(app), session.is_dispensable());
        }
        let op = session.next_op(io.ready().with(io.upstream_ready()));
        let result = match op {
            // Input in the buffer is handled before more is read, but in the next turn.
            Op::Read(Peer::Client) | Op::Wait if more => {
                io.tick();
                return Turn::Yield;
            }
            Op::Read(Peer::Client) => io.read(session.room()).inspect(|&count| {
                io.tick();
                session.on_read(count, io.now().instant);
            }),
            Op::Write { peer: Peer::Client, more } => {
                io.write(session.unsent(), more).inspect(|&count| session.on_written(count, io.now().instant))
            }
            Op::SendFile => send_file(session, io, scratch),
            Op::Wait => return Turn::Wait(session.deadline(app)),
            Op::NoteEnd => {
                session.on_client_ended(io.now().instant);
                Ok(0)
            }
            Op::GiveUp => Err(io::ErrorKind::ConnectionReset.into()),
            Op::Close => return Turn::Close,
            Op::Reset => {
                io.reset_on_close();
                return Turn::Close;
            }
            Op::ShutdownWrite(Peer::Client) => {
                io.shut_down_write().map(|()| 0).inspect(|_| session.on_shut_down(Peer::Client))
            }
            _ => serve_upstream(op, session, io, scratch),
        };
        match result {
            Ok(count) => scratch.spent += count,
            // The transport has cleared this socket's bit. The other socket may be ready.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => match session.forward() {
                Some(_) => continue,
                None => return Turn::Wait(session.deadline(app)),
            },
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if op.peer() == Peer::Upstream => session.on_upstream_failed(op, &error),
            Err(error) => session.on_failed(&error, scratch),
        }
        if more {
            io.tick();
        }
        more = advance(session, io, app, scratch);
        scratch.spent += scratch.take_work();
        if scratch.spent >= cost::SLICE {
            return Turn::Yield;
        }
    }
}

/// Makes the call that an `Op` asks for on the upstream's socket.
fn serve_upstream<T: Transport + UpstreamTransport>(
    op: Op,
    session: &mut Session,
    io: &mut T,
    scratch: &mut Scratch,
) -> io::Result<usize> {
    // The session asks for these operations only while it has a `Forward`.
    let Some(forward) = session.forward_mut() else { return Ok(0) };
    match op {
        Op::Connect => match io.connect(forward.upstream(), forward.reuse(), forward.whole_request()) {
            Ok(Connected::Sent(received)) => session.on_sent(received, io.now().instant),
            Ok(connected) => session.on_connected(matches!(connected, Connected::Reused), io.now().instant),
            Err(ConnectError::Queued) => session.on_queued(),
            Err(error) => session.on_connect_failed(&error),
        },
        Op::Read(_) => {
            let (room, files) = forward.room();
            let count = io.read_upstream(room, files)?;
            session.on_upstream_read(count, io.now().instant);
            return Ok(count);
        }
        Op::Write { .. } => {
            let (bytes, file) = forward.unsent();
            let count = io.write_upstream(bytes, file)?;
            session.on_upstream_written(count, io.now().instant);
            return Ok(count);
        }
        Op::Release { keep } => {
            let handback = forward.take_handback();
            io.release(keep, handback);
            session.on_released(scratch);
        }
        _ => {
            io.shut_down_upstream()?;
            session.on_shut_down(Peer::Upstream);
        }
    }
    Ok(0)
}

fn advance<T: Transport>(session: &mut Session, io: &mut T, app: &App, scratch: &mut Scratch) -> bool {
    if let Some(began) = io.ending_since() {
        session.on_shutdown(began, app, io.now());
    }
    session.advance(app, io.now(), scratch)
}

fn send_file<T: Transport>(session: &mut Session, io: &mut T, scratch: &mut Scratch) -> io::Result<usize> {
    let Some((file, at, len)) = session.file_range() else { return Ok(0) };
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(cost::SLICE);
    let count = io.send_file(file, at, len)?;
    session.on_file_sent(count as u64, io.now().instant, scratch);
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::net::Ipv4Addr;
    use std::time::SystemTime;

    /// A client that has sent a request, and reads the whole answer.
    struct Client {
        now: Now,
        request: Option<&'static [u8]>,
        answer: Vec<u8>,
    }

    impl Transport for Client {
        fn now(&mut self) -> &Now {
            &self.now
        }

        fn ending_since(&self) -> Option<Instant> {
            None
        }

        fn ready(&self) -> Ready {
            Ready::CLIENT_WRITE.with_if(self.request.is_some(), Ready::CLIENT_READ)
        }

        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            let request = self.request.take().ok_or(io::ErrorKind::WouldBlock)?;
            room[..request.len()].copy_from_slice(request);
            Ok(request.len())
        }

        fn write(&mut self, parts: [&[u8]; 2], _more: bool) -> io::Result<usize> {
            self.answer.extend(parts.concat());
            Ok(parts[0].len() + parts[1].len())
        }

        fn send_file(&mut self, _file: &File, _at: u64, _len: usize) -> io::Result<usize> {
            unreachable!("nothing here is in a file")
        }

        fn shut_down_write(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn reset_on_close(&mut self) {}
    }

    impl NoUpstream for Client {}

    #[test]
    fn a_transport_for_the_client_alone_reaches_no_upstream() {
        let config = Config::from_args(["dustdevil", "--proxy", "/=http://127.0.0.1:1"]).unwrap();
        let (app, mut scratch) = (App::new(&config).unwrap(), Scratch::default());
        let now = Now::new(Instant::now(), SystemTime::UNIX_EPOCH);
        let mut session = Session::new(Ipv4Addr::LOCALHOST.into(), now.instant);
        let request = Some(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".as_slice());
        let mut client = Client { now, request, answer: Vec::new() };
        drive(&mut session, &mut client, &app, &mut scratch);
        assert!(client.answer.starts_with(b"HTTP/1.1 502 "), "{}", client.answer.escape_ascii());
    }
}
