//! The flags for Python applications, and for directories that are served beside them.

use crate::config::args::values::path;
use crate::config::values;
use crate::config::wsgi::{AppMount, SiteMount, WsgiRules, queue, threads, workers};
use crate::units;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Python applications")]
pub(super) struct WsgiArgs {
    /// Let a Python application answer below a prefix, repeatable
    ///
    /// The application is named as module:callable, such as myproject.wsgi:application, or as module:factory(), a
    /// function that returns it. Without a prefix it answers at /, and no directory is served unless ROOT names one.
    /// Each application has its own processes.
    #[arg(long, value_name = "[/PREFIX=]MODULE:CALLABLE")]
    pub(super) wsgi: Vec<AppMount>,

    /// Processes for each application
    // One by default: an application may keep state in memory. Only its author knows whether several processes are
    // safe.
    #[arg(long, value_name = "COUNT", default_value = "1", value_parser = workers)]
    pub(super) wsgi_workers: usize,

    /// Threads of each process; each takes one request at a time
    #[arg(long, value_name = "COUNT", default_value = "1", value_parser = threads)]
    pub(super) wsgi_threads: usize,

    /// How long a request may make no progress in an application
    ///
    /// After that time the request gets 504, the stacks of the process are logged, and another process takes its place.
    /// The old process ends when its other requests have ended.
    // nginx and most load balancers wait this long for an answer.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::timeout)]
    pub(super) wsgi_timeout: Duration,

    /// Replace a process after about this many requests; 0 means never
    ///
    /// For applications that leak memory. The new process is ready before the old one ends.
    #[arg(long, value_name = "COUNT", default_value = "0", value_parser = units::number)]
    pub(super) wsgi_max_requests: u64,

    /// Requests that may wait for a process
    ///
    /// Further requests get 503 with Retry-After.
    // The same as gunicorn's backlog.
    #[arg(long, value_name = "COUNT", default_value = "2048", value_parser = queue)]
    pub(super) wsgi_queue: usize,

    /// Directory to import applications from, and to run them in [default: the current directory]
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub(super) wsgi_chdir: Option<PathBuf>,

    /// Import applications again when a source changes; SIGHUP does so at any time
    ///
    /// For development: the sources are checked twice a second. If the import fails, the old processes stay.
    #[arg(long)]
    pub(super) wsgi_reload: bool,

    /// Interpreter for applications [default: that of $VIRTUAL_ENV, .venv or venv, or python3]
    #[arg(long, value_name = "PATH", value_parser = path())]
    pub(super) python: Option<PathBuf>,

    /// Directory to serve as a site below a prefix, repeatable
    ///
    /// For the files that belong to an application, as in --static /static=staticfiles.
    #[arg(long = "static", value_name = "/PREFIX=DIR")]
    pub(super) statics: Vec<SiteMount>,
}

impl WsgiArgs {
    pub(super) fn rules(&self) -> WsgiRules {
        WsgiRules {
            workers: self.wsgi_workers,
            threads: self.wsgi_threads,
            timeout: self.wsgi_timeout,
            max_requests: self.wsgi_max_requests,
            queue: self.wsgi_queue,
            folder: self.wsgi_chdir.clone(),
            reload: self.wsgi_reload,
            python: self.python.clone(),
        }
    }
}
