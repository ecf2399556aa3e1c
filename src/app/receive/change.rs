//! A change of the store that is ready to be made: a whole upload takes its name, a file is removed. The precondition is
//! checked and the change made under the lock of their directory; while somebody else has it the change is tried again.

use crate::app::App;
use crate::app::exchange::Next;
use crate::app::files;
use crate::app::files::delete::{self, Standing};
use crate::app::files::lock::{FIRST_PAUSE, LONGEST_PAUSE, Lock, PATIENCE};
use crate::app::files::lookup::{Meta, Root};
use crate::app::files::upload::{Commit, Committed, Incoming, UploadError};
use crate::app::receive::delay::{Delay, Then};
use crate::app::reply::page::{self, Format};
use crate::cost;
use crate::http::date::Now;
use crate::http::status::Status;
use crate::proto::responder::Responder;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// The store of files at `/files/`.
#[derive(Debug)]
pub struct Store {
    pub root: Root,
    lock: Lock,
}

impl Store {
    pub fn new(root: Root) -> Store {
        Store { root, lock: Lock::default() }
    }
}

#[derive(Debug)]
pub struct Change {
    what: What,
    path: Vec<u8>,
    /// What the client said it changes: checked under the lock.
    seen: Option<Meta>,
    /// When it is no longer tried, once it has been, and how long before it is tried next.
    give_up: Option<Instant>,
    pause: Duration,
}

/// What is to be done.
#[derive(Debug)]
pub enum What {
    Upload {
        incoming: Incoming,
        commit: Commit,
        /// The value of `Location`, should it be created.
        location: Vec<u8>,
        /// Whether a file that was replaced is called created, as after a POST.
        always_created: bool,
    },
    Remove {
        dir: OwnedFd,
        name: Vec<u8>,
    },
}

/// Why a change is not made.
#[derive(Debug)]
pub enum Refusal {
    Precondition,
    Failed(UploadError),
}

impl<E: Into<UploadError>> From<E> for Refusal {
    fn from(error: E) -> Refusal {
        Refusal::Failed(error.into())
    }
}

impl Change {
    /// `seen`: the state of `path` that the change is made for, where the client named one.
    pub fn new(what: What, path: &[u8], seen: Option<Meta>) -> Change {
        Change { what, path: path.to_vec(), seen, give_up: None, pause: FIRST_PAUSE }
    }

    /// Makes the change and answers, or says when to try again.
    pub fn attempt(mut self, app: &App, format: Format, mut responder: Responder, now: &Now) -> Next {
        responder.spend(cost::NAME);
        // Every change is one of the store's.
        let Some(store) = &app.store else { return refuse(&Refusal::Precondition, format, responder) };
        let dir = match &mut self.what {
            What::Upload { incoming, .. } => match incoming.flush() {
                Ok(()) => incoming.dir(),
                Err(error) => return refuse(&error.into(), format, responder),
            },
            What::Remove { dir, .. } => &*dir,
        };
        let Some(held) = store.lock.try_hold(dir) else { return self.later(format, responder, now) };
        let made = self.make(&store.root);
        drop(held);
        match made {
            Ok(None) => {
                responder.start(Status::NO_CONTENT).empty();
                Next::Done
            }
            Ok(Some(location)) => {
                let mut fields = responder.start(Status::CREATED);
                fields.field("Location", location);
                fields.empty();
                Next::Done
            }
            Err(refusal) => refuse(&refusal, format, responder),
        }
    }

    /// Under the lock: checks the precondition and makes the change. What was created, where something was.
    fn make(self, root: &Root) -> Result<Option<Vec<u8>>, Refusal> {
        match self.what {
            What::Upload { incoming, commit, location, always_created } => {
                if self.seen.is_some_and(|seen| !root.unchanged(&self.path, &seen)) {
                    return Err(Refusal::Precondition);
                }
                match incoming.commit(commit)? {
                    Committed::Exists => Err(Refusal::Precondition),
                    Committed::Replaced if !always_created => Ok(None),
                    Committed::Created | Committed::Replaced => Ok(Some(location)),
                }
            }
            What::Remove { dir, name } => {
                if let Some(seen) = self.seen {
                    match delete::look(root, &self.path)? {
                        Standing::Directory => return Err(UploadError::Directory.into()),
                        Standing::File(meta) if meta != seen => return Err(Refusal::Precondition),
                        Standing::File(_) => {}
                    }
                }
                delete::remove(dir, &name)?;
                Ok(None)
            }
        }
    }

    /// Somebody else has the lock.
    fn later(mut self, format: Format, responder: Responder, now: &Now) -> Next {
        let give_up = *self.give_up.get_or_insert(now.instant + PATIENCE);
        if give_up <= now.instant {
            log::warn!("a change of the store was refused: its directory is locked by another program");
            let mut fields = responder.start(Status::SERVICE_UNAVAILABLE);
            fields.field("Retry-After", "1");
            let sentence = "Another program keeps the files here from being changed; try again soon.";
            return page::finish_error(format, fields, Status::SERVICE_UNAVAILABLE, sentence);
        }
        let until = give_up.min(now.instant + self.pause);
        self.pause = LONGEST_PAUSE.min(2 * self.pause);
        Next::Sleep(Delay::new(until, Then::Change(Box::new(self))))
    }
}

/// Answers a change that is not made.
pub fn refuse(refusal: &Refusal, format: Format, responder: Responder) -> Next {
    let (status, sentence) = match refusal {
        Refusal::Precondition => {
            (Status::PRECONDITION_FAILED, "The file is not in the state that the request demands.")
        }
        Refusal::Failed(UploadError::Refused(refused)) => files::refusal(refused),
        Refusal::Failed(UploadError::Directory) => (Status::CONFLICT, "There is a directory of this name."),
        Refusal::Failed(UploadError::Full) => (Status::INSUFFICIENT_STORAGE, "There is no room left to store this."),
    };
    page::error(format, responder, status, sentence)
}
