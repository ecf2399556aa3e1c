//! One worker as the supervisor sees it: its process, its threads, and what each thread is doing.

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

/// How many reads of an answer that nobody wants are made in one turn.
const READS: usize = 16;

#[derive(Debug)]
pub struct Worker {
    pub process: Process,
    pub pool: usize,
    pub generation: u32,
    pub state: State,
    pub threads: Vec<Thread>,
    /// How many requests it may still take before it is replaced; `None` for any number.
    pub left: Option<u64>,
    /// It watches the sources for changes (`--wsgi-reload`).
    pub watches: bool,
    /// Its output has to be read: lines, or the end of the process.
    pub has_output: bool,
    /// If it is still importing then, its stacks are logged once.
    pub overdue: Option<Instant>,
    /// How its process ended. The entry is kept while a request still waits for an answer from it.
    pub ended: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Starting,
    Serving,
    /// It has taken as many requests as it may, and serves until a new worker has taken its place.
    Worn,
    /// It takes no new request, and ends when the last one is finished.
    Retiring,
    /// A request in it makes no progress. It takes no new request; when the others are finished it is killed, or at
    /// `kill_at`.
    Stuck {
        kill_at: Instant,
    },
    /// It ends by itself, or is killed at `kill_at`.
    Ending {
        kill_at: Instant,
    },
    /// Its socket broke, or it sent something that is not a frame: it has ended, or is killed at `kill_at`.
    Crashed {
        kill_at: Instant,
    },
}

#[derive(Debug)]
pub struct Thread {
    pub socket: Arc<OwnedFd>,
    pub inbox: Inbox,
    pub duty: Duty,
    /// The requests behind the one of `duty`, in their order, taken up by the thread or still in the inbox. `None`: the
    /// client has left.
    pub next: VecDeque<Option<Ticket>>,
}

#[derive(Debug)]
pub enum Duty {
    /// It has not sent READY yet; the bytes that it has sent.
    Starting(Vec<u8>),
    Idle,
    /// A session has it, for this request.
    Leased(Ticket),
    /// The request came from the inbox. Its session has been woken, and has not asked for its lease yet.
    Due(Ticket, Received),
    /// It finishes a request whose client has left; `until` is the timeout.
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
    /// It is finished; what was received behind the end of the answer.
    Free(Received),
    /// It sent something that is not a frame.
    Broken,
    /// Nothing more can be read now.
    Waiting,
    /// There may be more to read, in the next turn.
    More,
}

/// What a thread that is starting has sent.
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
        // Room for the largest frame: neither READY nor FAILED has content.
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

    /// Sends what is unsent of a request whose client has left and reads its answer away, at most `READS` reads.
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
    /// When the supervisor has to look at it, even if nothing is readable.
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

    /// Whether it counts as one of the wanted workers: starting or serving, and of this generation.
    pub fn counts_for(&self, pool: usize, generation: u32) -> bool {
        let lasts = matches!(self.state, State::Starting | State::Serving);
        lasts && self.pool == pool && self.generation == generation
    }

    /// Whether none of its threads has a request.
    pub fn is_idle(&self) -> bool {
        self.busy_threads() == 0
    }

    /// How many of its threads have a request. A thread whose request is stuck counts no more.
    pub fn busy_threads(&self) -> usize {
        self.threads.iter().filter(|thread| !matches!(thread.duty, Duty::Starting(_) | Duty::Idle)).count()
    }

    /// Whether a session may still want an answer from it.
    pub fn is_awaited(&self) -> bool {
        !self.is_idle() || self.threads.iter().any(|thread| !thread.next.is_empty())
    }

    /// Shuts its streams down, also for children that the worker has forked. Requests in its inboxes can still be
    /// recalled.
    pub fn shut_streams(&mut self) {
        for thread in &self.threads {
            // It fails when the other side has closed already.
            let _ = rustix::net::shutdown(&*thread.socket, Shutdown::Both);
        }
    }
}
