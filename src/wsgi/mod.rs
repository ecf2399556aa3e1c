//! Python applications behind the server (PEP 3333). The server and its workers exchange frames, not HTTP.
//!
//! ```text
//!  Supervisor ── spawns, watches ──► Process (python, worker.py) ─┬─ a stream and an inbox per thread: frames
//!      │ lease, give_back                                         └─ stdout, stderr: lines for the log
//!  sessions ── environ, content ──► frames ──► worker ──► frames ── head, content, files ──► sessions
//! ```
//! | file | what it is for |
//! |---|---|
//! | `supervisor` | decides which thread gets which request, and which workers are started and ended. |
//! | `lease` | the values that pass between the supervisor and a session that needs a worker. |
//! | `pool`, `worker` | the supervisor's data: for each application, and for each worker. |
//! | `inbox` | a queue of requests for one thread. Requests in it can be recalled. |
//! | `watch` | the supervisor's system calls on descriptors. |
//! | `shared_supervisor` | lets the threads of an engine share the supervisor: a lock and a condition variable. |
//! | `python` | finds the interpreter and the folder of the applications. |
//! | `process` | one child process: start, output, end. |
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
    /// The folder that the application is imported from. It is the worker's current directory.
    pub folder: PathBuf,
    pub workers: usize,
    /// Threads of each worker. Each thread takes one request at a time.
    pub threads: usize,
    /// The timeout: how long a request may make no progress in the application.
    pub timeout: Duration,
    /// A worker is replaced after about this many requests.
    pub max_requests: Option<u64>,
    /// How many requests may wait for a worker.
    pub queue: usize,
    /// Whether a changed source reloads the application.
    pub watch: bool,
}
