//! A change of the store that is ready to be made: a complete upload gets its name, or a file is removed. The
//! precondition is checked and the change is made under the lock of the directory. While another thread or process
//! holds the lock, the change is tried again.

use crate::app::body::Reply;
use crate::app::files::delete::{self, Standing};
use crate::app::files::lock::{FIRST_PAUSE, LONGEST_PAUSE, PATIENCE};
use crate::app::files::lookup::{Refused, Root};
use crate::app::files::state::State;
use crate::app::files::upload::{Commit, Committed, Incoming, Moment, UploadError};
use crate::app::files::writable::Writable;
use crate::app::reply::page::{self, Format};
use crate::app::reply::{file, refusal};
use crate::cost;
use crate::http::conditional::Outcome;
use crate::http::date::Now;
use crate::http::head::Name;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::proto::responder::Responder;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub struct Change {
    directory: Arc<Writable>,
    /// The root when the request began. If the root's name leads to another directory by now, the change is refused:
    /// the new directory would not show it.
    root: Arc<Root>,
    what: What,
    path: Vec<u8>,
    /// The state that the client named in a precondition: checked again under the lock.
    seen: Option<State>,
    /// `give_up`: when the change fails if it never gets the lock; set by the first try. `pause`: the time before the
    /// next try.
    give_up: Option<Instant>,
    pause: Duration,
}

/// The change to make.
#[derive(Debug)]
pub enum What {
    Upload {
        incoming: Incoming,
        commit: Commit,
        /// The value of `Location` if the file is created.
        location: Vec<u8>,
        /// Whether the answer is 201 even if a file was replaced, as after a POST.
        always_created: bool,
    },
    Remove {
        dir: OwnedFd,
        name: Vec<u8>,
    },
}

/// The result of a try.
#[derive(Debug)]
pub enum Finish {
    Reply(Reply),
    /// The directory's lock is taken: the change is tried again at `until`.
    Locked {
        until: Instant,
        change: Box<Change>,
    },
}

impl From<Reply> for Finish {
    fn from(reply: Reply) -> Finish {
        Finish::Reply(reply)
    }
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
    /// `seen`: the state of `path` that the client named in a precondition, if any.
    pub fn new(directory: Arc<Writable>, root: Arc<Root>, what: What, path: &[u8], seen: Option<State>) -> Change {
        Change { directory, root, what, path: path.to_vec(), seen, give_up: None, pause: FIRST_PAUSE }
    }

    /// Makes the change and answers, or says when to try again.
    pub fn attempt(mut self, format: Format, mut responder: Responder, now: &Now) -> Finish {
        responder.spend(cost::NAME);
        let dir = match &mut self.what {
            What::Upload { incoming, .. } => match incoming.flush() {
                Ok(()) => incoming.dir(),
                Err(error) => return refuse(&error.into(), format, responder).into(),
            },
            What::Remove { dir, .. } => &*dir,
        };
        let directory = Arc::clone(&self.directory);
        let Some(held) = directory.lock.try_hold(dir) else { return self.later(format, responder, now) };
        let mut spent = 0;
        let made = self.make(now, &mut spent);
        drop(held);
        responder.spend(spent);
        match made {
            Ok(None) => responder.start(Status::NO_CONTENT).empty(),
            Ok(Some(location)) => {
                let mut fields = responder.start(Status::CREATED);
                fields.field("Location", location);
                fields.empty();
            }
            Err(refusal) => return refuse(&refusal, format, responder).into(),
        }
        Reply::Done.into()
    }

    /// Under the lock: checks the precondition and makes the change. Returns the `Location` if a file was created.
    fn make(self, now: &Now, spent: &mut usize) -> Result<Option<Vec<u8>>, Refusal> {
        let root = &self.root;
        if !self.directory.root.at(now.instant).is_some_and(|current| Arc::ptr_eq(&current, root)) {
            return Err(Refused::Gone.into());
        }
        if self.seen.is_some_and(|seen| !seen.still_holds(root, &self.path, now.unix, spent)) {
            return Err(Refusal::Precondition);
        }
        let moment = Moment { now: now.unix, path: &self.path, sent: &self.directory.sent_dates };
        match self.what {
            What::Upload { incoming, commit, location, always_created } => {
                match incoming.commit(root, commit, moment)? {
                    Committed::Exists => Err(Refusal::Precondition),
                    Committed::Replaced if !always_created => Ok(None),
                    Committed::Created | Committed::Replaced => Ok(Some(location)),
                }
            }
            What::Remove { dir, name } => {
                delete::remove(dir, &name)?;
                Ok(None)
            }
        }
    }

    /// Called if the lock is taken: says when to try again, or answers 503.
    fn later(mut self, format: Format, responder: Responder, now: &Now) -> Finish {
        let give_up = *self.give_up.get_or_insert(now.instant + PATIENCE);
        if give_up <= now.instant {
            log::warn!("a change of the store was refused: its directory is locked by another program");
            let mut fields = responder.start(Status::SERVICE_UNAVAILABLE);
            fields.field("Retry-After", "1");
            let sentence = "Another program keeps the files here from being changed; try again soon.";
            return page::finish_error(format, fields, Status::SERVICE_UNAVAILABLE, sentence).into();
        }
        let until = give_up.min(now.instant + self.pause);
        self.pause = LONGEST_PAUSE.min(2 * self.pause);
        Finish::Locked { until, change: Box::new(self) }
    }
}

/// Answers a change that is not made.
pub fn refuse(cause: &Refusal, format: Format, responder: Responder) -> Reply {
    let (status, sentence) = match cause {
        Refusal::Precondition => {
            (Status::PRECONDITION_FAILED, "The file is not in the state that the request demands.")
        }
        Refusal::Failed(UploadError::Refused(refused)) => refusal::refusal(refused),
        Refusal::Failed(UploadError::Directory) => (Status::CONFLICT, "There is a directory of this name."),
        Refusal::Failed(UploadError::Full) => (Status::INSUFFICIENT_STORAGE, "There is no room left to store this."),
    };
    refusal::error(status, sentence, format, responder)
}

/// The removal of the file at `path`. Adds to `spent` what it cost.
pub fn removal(
    store: &Arc<Writable>,
    root: Arc<Root>,
    path: &[u8],
    request: &Request,
    now: &Now,
    spent: &mut usize,
) -> Result<Change, Refusal> {
    let Standing::File = delete::look(&root, path)? else { return Err(UploadError::Directory.into()) };
    let seen = check(&root, path, request, now, spent)?;
    let (dir, name) = root.parent(path)?;
    let what = What::Remove { dir, name: name.to_vec() };
    Ok(Change::new(Arc::clone(store), root, what, path, seen.filter(|_| names_a_state(request))))
}

/// Evaluates the request's preconditions for the file at `path`. Returns the file's state if they hold; `None` if there
/// is no file. Adds to `spent` what it cost.
pub fn check(
    root: &Arc<Root>,
    path: &[u8],
    request: &Request,
    now: &Now,
    spent: &mut usize,
) -> Result<Option<State>, Refusal> {
    let is_tag_asked = names_a_state(request) || request.head.has(Name::IfNoneMatch);
    let state = match State::look(root, path, is_tag_asked, now.unix, spent) {
        Ok(state) => Some(state),
        Err(Refused::NotFound) => None,
        Err(refused) => return Err(refused.into()),
    };
    let validators = state.map(|State { meta, etag, .. }| file::validators(&meta, etag));
    match request.conditions().evaluate(false, validators.as_ref(), now.unix) {
        Outcome::PreconditionFailed => Err(Refusal::Precondition),
        Outcome::Proceed | Outcome::NotModified => Ok(state),
    }
}

/// Whether the request has a precondition that names one state of the file.
pub fn names_a_state(request: &Request) -> bool {
    request.head.has(Name::IfMatch) || request.head.has(Name::IfUnmodifiedSince)
}
