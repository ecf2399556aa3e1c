//! The supervisor's data for one worker: its process, its threads, and what each thread is doing.

use crate::wsgi::frames::{FromWorker, Piece, Reader};
use crate::wsgi::inbox::Inbox;
use crate::wsgi::lease::{Received, Ticket};
use crate::wsgi::process::Process;
use crate::wsgi::watch::receive;
use rustix::net::{SendFlags, Shutdown};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

/// Most reads in one turn for an answer whose client has left.
const READS: usize = 16;

#[derive(Debug)]
pub struct Worker {
    pub process: Process,
    pub pool: usize,
    pub generation: u32,
    pub state: State,
    pub threads: Vec<Thread>,
    /// How many more requests the worker may take before it is replaced. `None`: no limit.
    pub left: Option<u64>,
    /// The worker watches the sources for changes (`--wsgi-reload`).
    pub watches: bool,
    /// There is output to read, or the process has ended.
    pub has_output: bool,
    /// If the worker is still importing at this time, its stacks are logged once.
    pub overdue: Option<Instant>,
    /// How the process ended. After that, the entry stays while a session may still read an answer from its sockets.
    pub ended: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Starting,
    Serving,
    /// The worker has taken as many requests as it may. It serves until a new worker has taken its place.
    Worn,
    /// The worker takes no new request, and ends when its last request is finished.
    Retiring,
    /// A request in the worker makes no progress. The worker takes no new request. It is killed when its other requests
    /// are finished, at `kill_at` at the latest.
    Stuck {
        kill_at: Instant,
    },
    /// The worker should end by itself. If not, it is killed at `kill_at`.
    Ending {
        kill_at: Instant,
    },
    /// The worker's socket broke, or the worker sent something that is not a frame. If it still runs, it is killed at
    /// `kill_at`.
    Crashed {
        kill_at: Instant,
    },
}

#[derive(Debug)]
pub struct Thread {
    pub socket: Arc<OwnedFd>,
    pub inbox: Inbox,
    pub duty: Duty,
    /// The requests after the one of `duty`, in their order: taken up by the thread, or still in the inbox. `None`: the
    /// request's client has left.
    pub next: VecDeque<Option<Ticket>>,
}

#[derive(Debug)]
pub enum Duty {
    /// The thread has not sent READY yet. The bytes that it has sent so far.
    Starting(Vec<u8>),
    Idle,
    /// A session has leased the thread for this request.
    Leased(Ticket),
    /// The thread has taken this request from its inbox. The session has been woken, and has not called `lease` yet.
    Due(Ticket, Received),
    /// The thread finishes a request whose client has left. If it does not finish by `until`, the worker is stuck.
    Finishing {
        unsent: Vec<u8>,
        received: Received,
        reader: Reader,
        until: Instant,
    },
}

/// How far a thread is with a request whose client has left.
#[derive(Debug)]
pub enum DrainProgress {
    /// The request is finished. The bytes received after the end of its answer.
    Free(Received),
    /// The worker sent something that is not a frame.
    Broken,
    /// Nothing more can be read now.
    Waiting,
    /// The reads of this turn are used up: go on in the next turn.
    More,
}

/// The first frame of a thread that is starting, if it has arrived.
#[derive(Debug)]
pub enum Greeting {
    None,
    Ready,
    Failed(String),
}

impl Thread {
    /// Reads the first frame, READY or FAILED, of a thread that is starting.
    pub fn greeting(&mut self) -> Greeting {
        let Duty::Starting(said) = &mut self.duty else { return Greeting::None };
        // READY and FAILED have no content, so this is more than their largest frame.
        while said.len() < 2 * 1024 * 1024 && receive(&self.socket, said, &mut Vec::new()) {}
        match Reader::default().next(said) {
            Ok(None) => Greeting::None,
            Ok(Some((_, Piece::Frame { kind: FromWorker::Ready, .. }))) => Greeting::Ready,
            Ok(Some((_, Piece::Frame { kind: FromWorker::Failed, a, .. }))) => {
                Greeting::Failed(format!("the import failed\n{}", String::from_utf8_lossy(a).trim_end()))
            }
            _ => Greeting::Failed(
                "its worker sent something that is not a frame; does the application write to its socket?".into(),
            ),
        }
    }

    /// For a request whose client has left: sends the rest of the request, and reads and drops the answer, with at most
    /// `READS` reads.
    pub fn finish_request(&mut self) -> DrainProgress {
        let Duty::Finishing { unsent, received, reader, .. } = &mut self.duty else { return DrainProgress::Waiting };
        for _ in 0..READS {
            if !unsent.is_empty() {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                if let Ok(sent) = rustix::net::send(&*self.socket, unsent, flags) {
                    unsent.drain(..sent);
                }
            }
            let mut at = 0;
            while !reader.is_free() {
                match reader.next(&received.bytes[at..]) {
                    Ok(Some((taken, piece))) => {
                        at += taken;
                        if let Piece::Frame { kind: FromWorker::File, .. } = piece {
                            received.files.drain(..received.files.len().min(1));
                        }
                    }
                    Ok(None) => break,
                    Err(_) => return DrainProgress::Broken,
                }
            }
            received.bytes.drain(..at);
            if reader.is_free() {
                return DrainProgress::Free(std::mem::take(received));
            }
            if !receive(&self.socket, &mut received.bytes, &mut received.files) {
                return DrainProgress::Waiting;
            }
        }
        DrainProgress::More
    }
}

impl Worker {
    /// When the supervisor has to check this worker, even if nothing is readable.
    pub fn deadline(&self) -> Option<Instant> {
        let kill_at = match self.state {
            State::Stuck { kill_at } | State::Ending { kill_at } | State::Crashed { kill_at }
                if self.ended.is_none() =>
            {
                Some(kill_at)
            }
            _ => None,
        };
        let finishing = self.threads.iter().filter_map(|thread| match thread.duty {
            Duty::Finishing { until, .. } => Some(until),
            _ => None,
        });
        let overdue = self.overdue.filter(|_| self.ended.is_none());
        kill_at.into_iter().chain(overdue).chain(self.process.deadline()).chain(finishing).min()
    }

    /// Whether the worker counts towards the pool's number of workers: starting or serving, and of this generation.
    pub fn counts_for(&self, pool: usize, generation: u32) -> bool {
        let lasts = matches!(self.state, State::Starting | State::Serving);
        lasts && self.pool == pool && self.generation == generation
    }

    /// Whether none of the worker's threads has a request.
    pub fn is_idle(&self) -> bool {
        self.busy_threads() == 0
    }

    /// How many threads have a request. A thread with a stuck request does not count.
    pub fn busy_threads(&self) -> usize {
        self.threads.iter().filter(|thread| !matches!(thread.duty, Duty::Starting(_) | Duty::Idle)).count()
    }

    /// Whether a session may still want an answer from this worker.
    pub fn is_awaited(&self) -> bool {
        !self.is_idle() || self.threads.iter().any(|thread| !thread.next.is_empty())
    }

    /// Shuts the streams down, also for children that the worker has forked. Requests in the inboxes can still be
    /// recalled.
    pub fn shut_streams(&mut self) {
        for thread in &self.threads {
            // Fails if the other side has closed already.
            let _ = rustix::net::shutdown(&*thread.socket, Shutdown::Both);
        }
    }
}
