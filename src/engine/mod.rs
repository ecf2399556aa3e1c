//! The engines: how connections wait. All run the same session, the same driver and the same app, under the same
//! limits; `event` and `threaded` say how they differ.
//!
//! Shared by the engines, and therefore here: what a failed accept means, and the calls that send.

pub mod blocking;
pub mod event;
pub mod evented;
pub mod idle;
pub mod latch;
pub mod links;
pub mod pool;
pub mod python;
pub mod shared_pool;
pub mod signals;
pub mod threaded;
pub mod timers;
pub mod upstream;

pub use crate::config::Engine;

use crate::app::App;
use crate::config::Config;
use crate::engine::event::EventEngine;
use crate::engine::threaded::{ThreadedEngine, Threads};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};
use std::fs::File;
use std::io::{self, IoSlice};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

/// How long accepting pauses when descriptors or threads have run out: long enough not to spin, short
/// enough that no client notices.
const PAUSE: Duration = Duration::from_millis(100);

// The ready bits of a nonblocking socket.
const READABLE: u8 = 1;
const WRITABLE: u8 = 2;
/// The peer has closed its side: after a short read there is still the end to be read.
const READ_CLOSED: u8 = 4;
/// The peer has reset the connection, or both sides are closed.
const HUNG_UP: u8 = 8;

fn ready_bits(event: &mio::event::Event) -> u8 {
    let closed = event.is_read_closed() || event.is_error();
    let readable = if event.is_readable() || closed { READABLE } else { 0 };
    let writable = if event.is_writable() { WRITABLE } else { 0 };
    let hung_up = if event.is_write_closed() || event.is_error() { HUNG_UP } else { 0 };
    readable | writable | hung_up | if closed { READ_CLOSED } else { 0 }
}

/// An engine that has taken over signals and listeners: from now on a signal shuts it down in order.
pub enum Ready<'a> {
    Event(Box<EventEngine<'a>>),
    Threaded(ThreadedEngine, Threads),
}

/// Prepares the engine that the configuration names.
///
/// # Errors
/// The system has no descriptors for it.
pub fn prepare<'a>(config: &Config, app: &'a Arc<App>, listeners: Vec<TcpListener>) -> io::Result<Ready<'a>> {
    let threads = match config.engine {
        Engine::Event => return Ok(Ready::Event(Box::new(EventEngine::new(app, listeners)?))),
        Engine::Threads => Threads::PerConnection,
        Engine::Pool => Threads::Workers(config.pool_size),
        Engine::Iterative => Threads::Workers(1),
    };
    Ok(Ready::Threaded(ThreadedEngine::new(app.clone(), listeners, threads)?, threads))
}

impl Ready<'_> {
    /// Serves until a signal ends it.
    ///
    /// # Errors
    /// Threads cannot be started, or a wait fails with an error that does not pass.
    pub fn run(self, app: &Arc<App>) -> io::Result<()> {
        let ended = match self {
            Ready::Event(engine) => engine.run(),
            Ready::Threaded(engine, threads) => python::supervise(app).and_then(|()| engine.run(threads)),
        };
        python::end(app, *ended.as_ref().unwrap_or(&Ending::Cut));
        app.access_log.close();
        ended.map(drop)
    }
}

/// How serving ended.
#[derive(Clone, Copy, Debug)]
pub enum Ending {
    /// Every request was answered.
    Drained,
    /// A second signal, or the end of the grace period, cut requests off.
    Cut,
}

/// What to do after a failed accept.
#[derive(Debug, PartialEq, Eq)]
enum AcceptFailure {
    /// No client is waiting: poll.
    Empty,
    /// The client left before it was accepted: accept the next.
    Gone,
    /// Descriptors or memory have run out: pause, and try again. Clients wait in the backlog.
    Exhausted,
}

impl AcceptFailure {
    fn of(error: &io::Error) -> AcceptFailure {
        match Errno::from_io_error(error) {
            _ if error.kind() == io::ErrorKind::WouldBlock => AcceptFailure::Empty,
            Some(Errno::CONNABORTED | Errno::INTR | Errno::PROTO) => AcceptFailure::Gone,
            _ => {
                log::warn!("cannot accept connections for the moment: {error}");
                AcceptFailure::Exhausted
            }
        }
    }
}

/// `more`: bytes follow at once, so that a short head need not be sent in a packet of its own.
fn send(socket: impl AsFd, parts: [&[u8]; 2], more: bool) -> io::Result<usize> {
    let flags = if more { SendFlags::MORE | SendFlags::NOSIGNAL } else { SendFlags::NOSIGNAL };
    match parts {
        [bytes, []] | [[], bytes] => Ok(rustix::net::send(socket, bytes, flags)?),
        parts => {
            let parts = parts.map(IoSlice::new);
            Ok(rustix::net::sendmsg(socket, &parts, &mut SendAncillaryBuffer::default(), flags)?)
        }
    }
}

fn send_file(socket: impl AsFd, file: &File, at: u64, len: usize) -> io::Result<usize> {
    let mut offset = at;
    Ok(rustix::fs::sendfile(socket, file, Some(&mut offset), len)?)
}

/// Logs that a signal has begun the shutdown.
fn tell_ending() {
    log::info!("shutting down: finishing what is under way; a second signal ends at once");
}

/// Logs that the grace period was too short.
fn tell_cut(connections: usize) {
    log::warn!("the grace period is over: {connections} connections are cut");
}
