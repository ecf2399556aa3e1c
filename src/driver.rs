//! The one place where an `Op` becomes a system call. No policy: the session says what, the transport
//! says what can be done now, and the engine learns how to wait.

use crate::app::App;
use crate::app::upstreams::{Reuse, Upstream};
use crate::cost;
use crate::http::date::Now;
use crate::session::{Op, Peer, Ready, Scratch, Session};
use crate::wsgi::supervisor::{Handback, Received};
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

/// What an engine learns from driving a session.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// When nothing that is wanted is ready: drive again when it is, or at the deadline.
    Wait(Option<Instant>),
    /// When the budget is spent: drive again after the others.
    Yield,
    /// When the connection is over.
    Close,
}

/// How a socket to an upstream was come by.
#[derive(Debug)]
pub enum Connected {
    /// It is being connected; the first write tells whether that succeeded.
    New,
    /// It has carried exchanges before: the upstream may be about to close it.
    Reused,
    /// The request has been sent; these bytes of the answer have been received already.
    Sent(Received),
}

/// A client's socket as an engine offers it, and at times an upstream's. `WouldBlock` clears what `ready`
/// said; a call that is known to block is not made.
pub trait Transport {
    fn now(&mut self) -> &Now;
    /// Reads the clock anew, where no call does: something has happened since `now`.
    fn tick(&mut self) {}
    /// Whether the server is shutting down: what is under way is then the last of its connection.
    fn is_ending(&self) -> bool;
    /// Whether its calls wait, until the deadline that `block_until` tells them.
    const WAITS: bool = false;
    /// The deadline of the call that follows.
    fn block_until(&mut self, _deadline: Option<Instant>) {}
    /// What need not be waited for; all of it where the calls themselves wait.
    fn ready(&self) -> Ready;
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize>;
    /// Writes two parts as if they were one. `more`: bytes follow at once, so that a short head need not travel alone.
    fn write(&mut self, parts: [&[u8]; 2], more: bool) -> io::Result<usize>;
    fn send_file(&mut self, file: &File, at: u64, len: usize) -> io::Result<usize>;
    fn shut_down_write(&mut self) -> io::Result<()>;
    /// Makes closing the socket a reset.
    fn reset_on_close(&mut self);

    // ---- the upstream's socket; none before `connect` and after `release`

    /// Gets a socket: one that waits idle, if there is one fit for `reuse`, or a new one. `WouldBlock`: there is none now, and
    /// the session is driven again when it has been given one. `request`: all of it, for who can take it at once.
    fn connect(&mut self, to: &Upstream, reuse: Reuse, request: Option<&[u8]>) -> io::Result<Connected>;
    /// Reads; descriptors that came with the bytes are added to `files`.
    fn read_upstream(&mut self, room: &mut [u8], files: &mut Vec<OwnedFd>) -> io::Result<usize>;
    /// Writes; with the first byte goes `file`, if there is one.
    fn write_upstream(&mut self, bytes: &[u8], file: Option<BorrowedFd<'_>>) -> io::Result<usize>;
    fn shut_down_upstream(&mut self) -> io::Result<()>;
    /// Gives the socket back, to be used again if `keep`; a worker's as it was `left`.
    fn release(&mut self, keep: bool, handback: Option<Handback>);
}

/// Reads the request that a session waits for, as far as it has come, and leaves it to `drive`: what is found out from
/// now on holds for it. An engine that does so with several sessions before it drives them finds it out once for all.
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

/// Drives a session until it waits, ends, or has used its budget up.
pub fn drive<T: Transport>(session: &mut Session, io: &mut T, app: &App, scratch: &mut Scratch) -> Turn {
    session.unpark(scratch);
    scratch.spent = 0;
    let turn = run(session, io, app, scratch);
    session.park(scratch);
    turn
}

fn run<T: Transport>(session: &mut Session, io: &mut T, app: &App, scratch: &mut Scratch) -> Turn {
    // What the session before has left over is not this one's.
    scratch.take_work();
    let mut more = advance(session, io, app, scratch);
    scratch.spent += scratch.take_work();
    loop {
        if T::WAITS {
            io.block_until(session.deadline(app));
        }
        let op = session.next_op(io.ready());
        let result = match op {
            // What is here already goes first, when its turn comes again.
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
            // Of two sockets the other may be ready: the transport has noted that this one is not.
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

/// The calls on the upstream's socket.
fn serve_upstream<T: Transport>(op: Op, session: &mut Session, io: &mut T, scratch: &mut Scratch) -> io::Result<usize> {
    // The session wants these only while it has a `Forward`.
    let Some(forward) = session.forward_mut() else { return Ok(0) };
    match op {
        Op::Connect => match io.connect(forward.upstream(), forward.reuse(), forward.whole_request()) {
            Ok(Connected::Sent(received)) => session.on_sent(received, io.now().instant),
            Ok(connected) => session.on_connected(matches!(connected, Connected::Reused), io.now().instant),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => session.on_queued(),
            Err(error) => return Err(error),
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
    if io.is_ending() {
        session.on_shutdown();
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
