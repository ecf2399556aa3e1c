//! Python applications behind the server (PEP 3333). The server and its workers exchange frames, not HTTP.
//!
//! ```text
//!  Supervisor ── spawns, watches ──► Process (python, worker.py) ─┬─ a stream and an inbox per thread: frames
//!      │ lease, give_back                                         └─ stdout, stderr: lines for the log
//!  sessions ── environ, content ──► frames ──► worker ──► frames ── head, content, files ──► sessions
//! ```
//! | file | what it knows |
//! |---|---|
//! | `supervisor` | which workers there are, which threads are free, which requests wait, which workers have to end. |
//! | `lease` | the values that pass between the supervisor and a session that needs a worker. |
//! | `pool`, `worker` | what the supervisor knows of all workers of an application, and of each. |
//! | `inbox` | a queue of requests in front of a thread, from which they can be recalled. |
//! | `watch` | the supervisor's system calls on descriptors. |
//! | `shared_supervisor` | how the threads of an engine share the supervisor: a lock and a condition variable. |
//! | `python` | which interpreter, and in which folder. |
//! | `process` | one child process: starting it, its output, its end. |
//! | `frames`, `head`, `environ`, `lines` | pure: bytes in, values out. |
//! | `worker.py` | the worker: imports the application, calls it, sends what it returns. |
//! | `watch.py` | in the first worker: reports changed sources. |

pub mod environ;
pub mod frames;
pub mod head;
pub mod inbox;
pub mod lease;
pub mod lines;
pub mod pool;
pub mod process;
pub mod python;
pub mod shared_supervisor;
pub mod supervisor;
pub mod watch;
pub mod worker;

use std::path::PathBuf;
use std::time::Duration;

/// One application and how it is run.
#[derive(Clone, Debug)]
pub struct Spec {
    /// `module:callable`
    pub app: String,
    pub python: PathBuf,
    /// The folder that it is imported from: its current directory.
    pub folder: PathBuf,
    pub workers: usize,
    /// How many threads a worker has. Each takes one request at a time.
    pub threads: usize,
    /// How long a request may make no progress in the application.
    pub timeout: Duration,
    /// A worker is replaced after about this many requests.
    pub max_requests: Option<u64>,
    /// How many requests may wait for a worker.
    pub queue: usize,
    /// Whether a changed source reloads the application.
    pub watch: bool,
}
