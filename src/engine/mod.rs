//! The engines: how connections wait. All run the same session, the same driver and the same app, under the same
//! limits; `event` and `threaded` say how they differ.
//!
//! | file | what it is for |
//! |---|---|
//! | `event`, `threaded` | the main loop of each of the two kinds of engine. |
//! | `evented`, `blocking` | a client's socket as a `Transport`: nonblocking for `event`, blocking for `threaded`. |
//! | `connection` | a connection of a threaded engine, as other threads see it. |
//! | `upstream` | sockets to upstreams. |
//! | `python` | Python workers: the only file here that knows them. |
//! | `accept`, `idle` | accepting connections, and closing idle ones to make room. |
//! | `shutdown`, `latch`, `signals` | how an engine shuts down. |
//! | `socket` | ready bits of a client's socket, and the system calls that send. |
//! | `timers` | the deadlines of all connections. |
//! | `turn` | the budget of a turn of the event loop. |

pub mod accept;
pub mod blocking;
pub mod connection;
pub mod event;
pub mod evented;
pub mod idle;
pub mod latch;
pub mod python;
pub mod shutdown;
pub mod signals;
pub mod socket;
pub mod threaded;
pub mod timers;
pub mod turn;
pub mod upstream;

pub use crate::config::Engine;

use crate::app::App;
use crate::config::Config;
use crate::engine::event::EventEngine;
use crate::engine::shutdown::Ended;
use crate::engine::signals::Hangup;
use crate::engine::threaded::{ThreadedEngine, Threads};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;

/// An engine that handles the signals and has the listeners: from now on a signal begins an orderly shutdown.
pub enum Prepared<'a> {
    Event(Box<EventEngine<'a>>),
    Threaded(ThreadedEngine, Threads),
}

/// Prepares the engine that the configuration names. Waits a few seconds at most until the names of upstreams are
/// looked up.
///
/// # Errors
/// The system has no descriptors or threads left.
pub fn prepare<'a>(
    config: &Config,
    app: &'a Arc<App>,
    listeners: Vec<TcpListener>,
    hangup: Hangup,
) -> io::Result<Prepared<'a>> {
    upstream::lookups::start(app)?;
    let threads = match config.engine {
        Engine::Event => return Ok(Prepared::Event(Box::new(EventEngine::new(app, listeners, hangup)?))),
        Engine::Threads => Threads::PerConnection,
        Engine::Pool => Threads::Pool(config.pool_size),
        Engine::Iterative => Threads::Pool(1),
    };
    Ok(Prepared::Threaded(ThreadedEngine::new(app.clone(), listeners, threads, hangup)?, threads))
}

impl Prepared<'_> {
    /// Serves until a signal ends it.
    ///
    /// # Errors
    /// Threads cannot be started, or waiting for events fails for a reason other than a signal.
    pub fn run(self, app: &Arc<App>) -> io::Result<()> {
        let ended = match self {
            Prepared::Event(engine) => engine.run(),
            Prepared::Threaded(engine, threads) => python::supervise(app).and_then(|()| engine.run(threads)),
        };
        python::end(app, *ended.as_ref().unwrap_or(&Ended::Cut));
        app.access_log.close();
        ended.map(drop)
    }
}
