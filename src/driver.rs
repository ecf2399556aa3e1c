//! The one place where an `Op` becomes a system call. No policy: the session says what, the transport
//! says whether it can be done now, and the engine learns how to wait.

use crate::app::App;
use crate::http::date::Now;
use crate::session::{Op, Scratch, Session};
use std::fs::File;
use std::io;
use std::time::Instant;

/// Bytes that one connection may move before the others have their turn. Sendfile in pieces of 1 MiB
/// costs a tenth more than in one call; 2 MiB of loopback take a fifth of a millisecond.
const BUDGET: usize = 2 * 1024 * 1024;

/// What an engine learns from driving a session.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// When the socket is not ready: drive again when it is, or at the deadline.
    Wait(Option<Instant>),
    /// When the budget is spent: drive again after the others.
    Yield,
    /// When the connection is over.
    Close,
}

/// A client's socket as an engine offers it. `WouldBlock` ends the turn; a call that is known to block
/// need not be made.
pub trait Transport {
    fn now(&mut self) -> &Now;
    /// Whether the server is shutting down: what is under way is then the last of its connection.
    fn is_ending(&self) -> bool;
    /// The deadline of the call that follows. A transport that waits gives up then; another has no use for it.
    fn block_until(&mut self, _deadline: Option<Instant>) {}
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize>;
    /// `more`: bytes follow at once, so that a short head need not travel alone.
    fn write(&mut self, bytes: &[u8], more: bool) -> io::Result<usize>;
    fn send_file(&mut self, file: &File, at: u64, len: usize) -> io::Result<usize>;
    fn shut_down_write(&mut self) -> io::Result<()>;
}

/// Drives a session until it waits, ends, or has used its budget up.
pub fn drive<T: Transport>(session: &mut Session, io: &mut T, app: &App, scratch: &mut Scratch) -> Turn {
    session.unpark(scratch);
    let turn = run(session, io, app, scratch);
    session.park(scratch);
    turn
}

fn run<T: Transport>(session: &mut Session, io: &mut T, app: &App, scratch: &mut Scratch) -> Turn {
    let mut spent = 0;
    // What the session before has left over is not this one's.
    scratch.take_work();
    let mut more = advance(session, io, app, scratch);
    loop {
        io.block_until(session.deadline(app));
        let result = match session.next_op() {
            Op::Read => io.read(session.room()).inspect(|&count| session.on_read(count, io.now().instant)),
            Op::Write { more } => {
                io.write(session.unsent(), more).inspect(|&count| session.on_written(count, io.now().instant))
            }
            Op::SendFile => send_file(session, io, scratch),
            Op::ShutdownWrite => io.shut_down_write().map(|()| 0).inspect(|_| session.on_shut_down()),
            Op::Wait if more => return Turn::Yield,
            Op::Wait => return Turn::Wait(session.deadline(app)),
            Op::Close => return Turn::Close,
        };
        match result {
            Ok(count) => spent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Turn::Wait(session.deadline(app)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => session.on_failed(&error, scratch),
        }
        more = advance(session, io, app, scratch);
        spent += scratch.take_work();
        if spent >= BUDGET {
            return Turn::Yield;
        }
    }
}

fn advance<T: Transport>(session: &mut Session, io: &mut T, app: &App, scratch: &mut Scratch) -> bool {
    if io.is_ending() {
        session.on_shutdown();
    }
    session.advance(app, io.now(), scratch)
}

fn send_file<T: Transport>(session: &mut Session, io: &mut T, scratch: &mut Scratch) -> io::Result<usize> {
    let Some((file, at, len)) = session.file_range() else { return Ok(0) };
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(BUDGET);
    let count = io.send_file(file, at, len)?;
    session.on_file_sent(count as u64, io.now().instant, scratch);
    Ok(count)
}
