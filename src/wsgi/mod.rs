//! Python applications behind the server (PEP 3333). Not a word of HTTP is spoken to them.
//!
//! ```text
//!  Supervisor ── spawns, watches ──► Process (python, worker.py) ─┬─ a stream and an inbox a thread: frames
//!      │ lease, give_back                                         └─ stdout, stderr: lines for the log
//!  sessions ── environ, content ──► frames ──► worker ──► frames ── head, content, files ──► sessions
//! ```
//! | file | what it knows |
//! |---|---|
//! | `supervisor` | which workers there are, who is free, who waits, who has to go. |
//! | `lease` | what passes between it and who needs a worker. |
//! | `pool`, `worker` | what it knows of an application's workers and of each. |
//! | `inbox` | what a thread takes up next, and how it is taken back. |
//! | `watch` | its calls on descriptors. |
//! | `shared_supervisor` | how the threads of an engine share the supervisor: a lock and a condition variable. |
//! | `python` | which interpreter, and where. |
//! | `process` | one child: spawning, its output, its end. |
//! | `frames`, `head`, `environ`, `lines` | pure: bytes in, values out. |
//! | `worker.py` | the other side: imports, calls, iterates, closes. |

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
    /// Where it is imported, and its current directory.
    pub folder: PathBuf,
    pub workers: usize,
    /// Of each worker; each takes one request at a time.
    pub threads: usize,
    /// How long a request may stand still in the application.
    pub timeout: Duration,
    /// After about so many requests a worker is replaced.
    pub max_requests: Option<u64>,
    /// Requests that may wait for a worker.
    pub queue: usize,
    /// Whether a changed source reloads it.
    pub watch: bool,
}
