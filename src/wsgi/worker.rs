//! One worker as the supervisor sees it: its process, its threads' sockets, and what each is about.

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

/// Reads of an answer that nobody wants, in one turn.
const READS: usize = 16;

#[derive(Debug)]
pub struct Worker {
    pub process: Process,
    pub pool: usize,
    pub generation: u32,
    pub state: State,
    pub threads: Vec<Thread>,
    /// Requests it may still take before it is replaced.
    pub left: Option<u64>,
    /// It looks for changed sources.
    pub watches: bool,
    /// There is output left to be read.
    pub talks: bool,
    /// When its import has taken so long that it is shown where it is.
    pub overdue: Option<Instant>,
    /// How it ended. It is kept for as long as there are answers of it that nobody has come for.
    pub ended: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Starting,
    Serving,
    /// Serves until another has taken its place.
    Worn,
    /// Takes no new request.
    Retiring,
    Doomed {
        kill_at: Instant,
    },
    /// Its socket broke in the middle of a request: it has ended, or is about to.
    Crashed {
        kill_at: Instant,
    },
}

#[derive(Debug)]
pub struct Thread {
    pub socket: Arc<OwnedFd>,
    pub inbox: Inbox,
    pub duty: Duty,
    /// Whose requests lie in the inbox behind the one that is its duty, or were taken up since; `None` has left.
    pub next: VecDeque<Option<Ticket>>,
}

#[derive(Debug)]
pub enum Duty {
    /// It has not said READY yet; what it has said.
    Starting(Vec<u8>),
    Idle,
    Leased(Ticket),
    /// It is the turn of one whose request lay in the inbox, and who has not come for the answer yet.
    Due(Ticket, Received),
    /// It finishes a request whose client has left.
    Finishing {
        unsent: Vec<u8>,
        received: Received,
        reader: Reader,
        until: Instant,
    },
}

/// How far a thread has come with a request whose client has left.
#[derive(Debug)]
pub enum Went {
    Free(Received),
    /// It says what is no frame.
    Broken,
    /// Until there is more to be read.
    Waiting,
    /// There may be more: to be gone on with in the next turn.
    More,
}

/// What a thread that is starting has said.
#[derive(Debug)]
pub enum Greeting {
    None,
    Ready,
    Failed(String),
}

impl Thread {
    /// Reads what it says while it is starting.
    pub fn hear(&mut self) -> Greeting {
        let Duty::Starting(said) = &mut self.duty else { return Greeting::None };
        // A head at most: more is nonsense, and is seen to be.
        while said.len() < 2 * 1024 * 1024 && receive(&self.socket, said, &mut Vec::new()) {}
        match Reader::default().next(said) {
            Ok(None) => Greeting::None,
            Ok(Some((_, Piece::Frame { kind: FromWorker::Ready, .. }))) => Greeting::Ready,
            Ok(Some((_, Piece::Frame { kind: FromWorker::Failed, a, .. }))) => {
                Greeting::Failed(format!("the import failed\n{}", String::from_utf8_lossy(a).trim_end()))
            }
            _ => Greeting::Failed("its worker does not speak as it should; does it write to its socket?".into()),
        }
    }

    /// Goes on with a request whose client has left, for as much as others can wait for.
    pub fn go_on(&mut self) -> Went {
        let Duty::Finishing { unsent, received, reader, .. } = &mut self.duty else { return Went::Waiting };
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
                    Err(_) => return Went::Broken,
                }
            }
            received.bytes.drain(..at);
            if reader.is_free() {
                return Went::Free(std::mem::take(received));
            }
            if !receive(&self.socket, &mut received.bytes, &mut received.files) {
                return Went::Waiting;
            }
        }
        Went::More
    }
}

impl Worker {
    /// When something is to be done about it, whatever it says.
    pub fn deadline(&self) -> Option<Instant> {
        let kill_at = match self.state {
            State::Doomed { kill_at } | State::Crashed { kill_at } if self.ended.is_none() => Some(kill_at),
            _ => None,
        };
        let finishing = self.threads.iter().filter_map(|thread| match thread.duty {
            Duty::Finishing { until, .. } => Some(until),
            _ => None,
        });
        let overdue = self.overdue.filter(|_| self.ended.is_none());
        kill_at.into_iter().chain(overdue).chain(self.process.deadline()).chain(finishing).min()
    }

    /// Whether it is one of those that are wanted: not worn, not about to end, and not of an older generation.
    pub fn counts_for(&self, pool: usize, generation: u32) -> bool {
        let lasts = matches!(self.state, State::Starting | State::Serving);
        lasts && self.pool == pool && self.generation == generation
    }

    /// Whether no request is in it.
    pub fn is_idle(&self) -> bool {
        self.threads.iter().all(|thread| matches!(thread.duty, Duty::Starting(_) | Duty::Idle))
    }

    /// Whether there may be an answer of it that is still to be come for.
    pub fn is_awaited(&self) -> bool {
        !self.is_idle() || self.threads.iter().any(|thread| !thread.next.is_empty())
    }

    /// Closes its streams, whoever else holds them. What lies on its inboxes stays there to be taken back.
    pub fn hang_up(&mut self) {
        for thread in &self.threads {
            // It fails when the other side has closed already.
            let _ = rustix::net::shutdown(&*thread.socket, Shutdown::Both);
        }
    }
}
