//! The thread that looks up the names of upstreams. `app::upstreams::names` decides when; here is the system call.

use crate::app::App;
use std::io;
use std::net::ToSocketAddrs;
use std::time::Instant;

/// If an upstream has a name, starts the thread and waits for the first answers, a few seconds at most.
///
/// # Errors
/// No thread can be started.
pub fn start(app: &App) -> io::Result<()> {
    let look_up = Box::new(|host: &str, port| Ok((host, port).to_socket_addrs()?.collect()));
    let started = app.routes.names().start(look_up, Instant::now);
    started.map_err(|error| io::Error::new(error.kind(), format!("no thread can look names up: {error}")))
}
