//! Reads the command line, opens the directories and listeners, runs the engine, and returns the exit code: 0 after a
//! normal end, 1 if something failed, 2 for a wrong command line or variable, 3 if a Python application does not start.
#![forbid(unsafe_code)]

mod logging;

use dustdevil::app::App;
use dustdevil::config::{Config, Verbosity};
use dustdevil::engine::signals::{Hangup, survive, survive_start};
use dustdevil::proto::responder::SERVER;
use dustdevil::start_error::StartError;
use dustdevil::{engine, listener};
use logging::tell;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

fn main() -> ExitCode {
    // This is first, since a signal may come at any time.
    survive_start();
    let mut config = Config::from_args(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let ended = run(&mut config);
    if let Err(error) = &ended {
        tell(format_args!("error: {error}"));
    }
    logging::close();
    ended.map_or_else(|error| ExitCode::from(error.code), |()| ExitCode::SUCCESS)
}

fn run(config: &mut Config) -> Result<(), StartError> {
    let hangup = Hangup::at_start(!config.applications.is_empty());
    hangup.survive_start();
    // Without this, a write beyond RLIMIT_FSIZE ends the process. With it, the write fails, and the client gets an
    // error.
    survive(signal_hook::consts::SIGXFSZ);
    logging::start(config)
        .map_err(|error| StartError::new(format!("diagnostics cannot be written: {error}; raise ulimit -n")))?;
    for warning in &config.warnings {
        log::warn!("{warning}");
    }
    config.check_directories()?;
    if let Some(lowered) = config.fit_threads()? {
        log::warn!("{lowered}");
    }
    raise_descriptor_limit(config);
    let app = Arc::new(App::new(config)?);
    let listeners = listener::bind_all(config)?;
    if let Some(wsgi) = &app.wsgi {
        wsgi.supervisor.start(Instant::now)?;
    }
    let urls = listener::urls(&listeners);
    let failed = |error| StartError::new(format!("the engine failed: {error}"));
    let engine = engine::prepare(config, &app, listeners, hangup).map_err(failed)?;
    warn_of_root();
    // Printed after the handlers are installed: a supervisor may signal the server as soon as it reads this.
    if config.verbosity != Verbosity::Quiet {
        print_banner(&app, config, &urls);
    }
    engine.run(&app).map_err(failed)
}

/// A server needs no privileges. If it has them, a vulnerability in it gives them all to an attacker.
fn warn_of_root() {
    if rustix::process::geteuid().is_root() {
        log::warn!(
            "started as root, which a server does not need: start it as another user, with `setpriv --reuid=USER \
             --regid=GROUP --clear-groups` before the command or with User= in the unit of systemd"
        );
    }
}

/// Each connection takes a descriptor, and often another one for a file. The usual soft limit is only 1,024.
fn raise_descriptor_limit(config: &Config) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        log::debug!("the limit of open files cannot be raised: {error}");
    }
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if limit < config.limits.connections as u64 {
        log::warn!(
            "only {limit} files may be open, fewer than --max-connections {}; raise it with ulimit -n",
            config.limits.connections
        );
    }
}

fn print_banner(app: &App, config: &Config, urls: &[String]) {
    tell(format_args!("{SERVER}"));
    for (what, path) in [("site", &config.root), ("store", &config.directory)] {
        if let Some(path) = path {
            tell(format_args!("{what}: {}", path.display()));
        }
    }
    for (prefix, upstreams) in app.routes.upstreams() {
        tell(format_args!("proxy: {prefix} to {upstreams}"));
    }
    for (prefix, application) in app.routes.applications() {
        tell(format_args!("application: {prefix} is {application}"));
    }
    for line in app.routes.lines() {
        tell(format_args!("  {line}"));
    }
    for url in urls {
        tell(format_args!("{url}"));
    }
}
