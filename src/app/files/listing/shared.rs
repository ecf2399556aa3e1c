//! A listing that several requests use. Each of them calls `step` until the listing is finished, so none depends on
//! another's client, and the work is done once.
//!
//! ```text
//!  Waiting ──the scan before it is over──► Scanning ──► Merging ──► made ──too much memory──► given up
//!                                             └────────────┴──► failed
//! ```
//!
//! The lock is held for one step, or for one piece. Dropping the last reference frees the memory.

use super::render::{self, Cursor, ListingFormat};
use super::scan::{Made, Merge, Scan};
use crate::app::files::lookup::{Meta, Root};
use crate::http::date::Now;
use crate::http::etag::ETag;
use crate::sync::lock;
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// How old a scan may be for a request to share it. A shown size or time may be out of date by as much.
pub const SHARED: Duration = Duration::from_secs(1);
/// How many seconds a directory must be unchanged before equal times mean that it has not changed: before Linux 6.13
/// times tick every few milliseconds, on FAT every two seconds.
const SETTLED: i64 = 2;
/// Bytes that the listings of a site may take while they are sent. Above that, the oldest are given up and their
/// clients are cut off: otherwise clients that read nothing could hold ever more listings of a directory that changes.
pub const MOST_SENT: usize = 64 * 1024 * 1024;

/// How much memory the listings of a site take.
#[derive(Debug)]
pub struct Account {
    bytes: AtomicUsize,
    /// Bytes of finished listings that are kept for later requests.
    pub keep: usize,
    /// Bytes beyond `keep` for listings that are being sent, and as many again for those that are being made.
    most_sent: usize,
}

/// Why there is no listing.
#[derive(Clone, Copy, Debug)]
pub enum ListingFailure {
    /// The directory cannot be read.
    Unreadable(Errno),
    /// Listings take too much memory at the moment.
    Full,
}

/// The names of a directory at one moment, finished or still being read.
#[derive(Debug)]
pub struct Listing {
    /// As for `Root::find`.
    path: Box<[u8]>,
    /// The directory's device and inode.
    place: (u64, u64),
    account: Arc<Account>,
    /// The bytes that it counts as in the account.
    bytes: AtomicUsize,
    making: Mutex<Making>,
    scan: OnceLock<Begun>,
    /// Set when the listing is finished or has failed.
    outcome: OnceLock<Result<Summary, ListingFailure>>,
    /// `None` before it is finished, and after it is given up.
    made: Mutex<Option<Arc<Made>>>,
    html: Mutex<Rendered>,
    json: Mutex<Rendered>,
}

/// What stays known of a listing even after its entries are given up.
#[derive(Clone, Copy, Debug)]
struct Summary {
    hash: u64,
    cut: bool,
}

#[derive(Debug)]
enum Making {
    Waiting {
        root: Arc<Root>,
        dir: OwnedFd,
        /// A scan of the same directory that runs, and that this request may not share. This listing begins when that
        /// scan has ended; requests that come meanwhile share this one.
        behind: Option<Arc<Listing>>,
    },
    Scanning(Box<Scan>),
    Merging(Box<Merge>),
    Over,
}

/// When a scan began, and the state of the directory then.
#[derive(Debug)]
struct Begun {
    at: Instant,
    meta: Meta,
    /// Whether any later change would show in its times.
    settled: bool,
}

/// The rendered pieces of a listing in one format.
#[derive(Debug)]
enum Rendered {
    /// Each piece, and the position behind it.
    Kept(Vec<(Box<[u8]>, Cursor)>),
    /// Keeping them would take too much memory: each client renders for itself.
    Dropped,
}

impl Account {
    pub fn new(keep: usize, most_sent: usize) -> Account {
        Account { bytes: AtomicUsize::new(0), keep, most_sent }
    }

    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether finished listings have to be given up.
    pub fn is_tight(&self) -> bool {
        self.bytes() > self.keep + self.most_sent
    }

    /// Whether no further listing can be made.
    pub fn is_full(&self) -> bool {
        self.bytes() > self.keep + 2 * self.most_sent
    }
}

impl Listing {
    /// A listing of `dir`, to which `path` leads and whose state is `meta`. Its scan begins when `behind` is finished.
    pub fn new(
        account: &Arc<Account>,
        root: &Arc<Root>,
        path: &[u8],
        (dir, meta): (OwnedFd, &Meta),
        behind: Option<Arc<Listing>>,
    ) -> Listing {
        let bytes = size_of::<Listing>() + path.len();
        account.bytes.fetch_add(bytes, Ordering::Relaxed);
        Listing {
            path: path.into(),
            place: (meta.dev, meta.ino),
            account: Arc::clone(account),
            bytes: AtomicUsize::new(bytes),
            making: Mutex::new(Making::Waiting { root: Arc::clone(root), dir, behind }),
            scan: OnceLock::new(),
            outcome: OnceLock::new(),
            made: Mutex::default(),
            html: Mutex::new(Rendered::Kept(Vec::new())),
            json: Mutex::new(Rendered::Kept(Vec::new())),
        }
    }

    /// Whether a request that was read at `read`, and found the directory as `meta`, may use this listing: it shows all
    /// names that exist, and sizes and times no older than `SHARED`.
    pub fn serves(&self, meta: &Meta, read: Instant) -> bool {
        match (self.scan.get(), self.outcome.get()) {
            (_, Some(Err(_))) => false,
            (_, Some(Ok(_))) if lock(&self.made).is_none() => false,
            // The scan has not begun: it will see every change up to now.
            (None, _) => self.is_of(meta),
            (Some(begun), _) => begun.settled && begun.meta == *meta && !self.is_older(SHARED, read),
        }
    }

    /// The bytes that it counts as.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub fn is_of(&self, meta: &Meta) -> bool {
        self.place == (meta.dev, meta.ino)
    }

    /// When its scan began.
    pub fn began(&self) -> Option<Instant> {
        self.scan.get().map(|begun| begun.at)
    }

    /// Whether its scan began at least `age` ago.
    pub fn is_older(&self, age: Duration, now: Instant) -> bool {
        self.began().is_some_and(|began| now.saturating_duration_since(began) >= age)
    }

    /// Whether the directory's times show any change since its scan began.
    pub fn is_settled(&self) -> bool {
        self.scan.get().is_some_and(|begun| begun.settled)
    }

    // ---- making it

    /// The result; `None` while the listing is being made.
    pub fn outcome(&self) -> Option<Result<(), ListingFailure>> {
        self.outcome.get().map(|outcome| outcome.map(|_| ()))
    }

    /// Does the next step towards the result, and returns the cost.
    pub fn step(&self, now: &Now) -> usize {
        let mut making = lock(&self.making);
        let mut cost = 0;
        match self.go_on(std::mem::replace(&mut *making, Making::Over), now, &mut cost) {
            Ok(next) => *making = next,
            Err(failure) => self.end(Err(failure)),
        }
        cost
    }

    fn go_on(&self, making: Making, now: &Now, cost: &mut usize) -> Result<Making, ListingFailure> {
        match making {
            Making::Waiting { behind: Some(previous), root, dir } if previous.outcome.get().is_none() => {
                *cost = previous.step(now);
                Ok(Making::Waiting { behind: Some(previous), root, dir })
            }
            Making::Waiting { root, dir, .. } => {
                *cost = crate::cost::LOOKUP;
                let scan = self.begin(root, dir, now).map_err(ListingFailure::Unreadable)?;
                Ok(Making::Scanning(Box::new(scan)))
            }
            Making::Scanning(mut scan) => {
                let before = scan.size();
                let is_read = scan.step(cost).map_err(ListingFailure::Unreadable)?;
                self.count(before, scan.size());
                if self.account.is_full() {
                    return Err(ListingFailure::Full);
                }
                if !is_read {
                    return Ok(Making::Scanning(scan));
                }
                let before = scan.size();
                let merge = scan.merge();
                self.count(before, merge.size());
                Ok(Making::Merging(Box::new(merge)))
            }
            Making::Merging(mut merge) => {
                if !merge.step(cost) {
                    return Ok(Making::Merging(merge));
                }
                let before = merge.size();
                let made = merge.finish();
                self.count(before, made.entries.size());
                let summary = Summary { hash: made.hash, cut: made.cut };
                *lock(&self.made) = Some(Arc::new(made));
                self.end(Ok(summary));
                Ok(Making::Over)
            }
            // A step has panicked, or another thread has done the last step: in the second case the result stays.
            Making::Over => Err(ListingFailure::Full),
        }
    }

    fn begin(&self, root: Arc<Root>, dir: OwnedFd, now: &Now) -> Result<Scan, Errno> {
        let meta = Meta::of_place(&dir)?;
        let scan = Scan::begin(root, dir, &self.path)?;
        let settled = meta.ctime.0.saturating_add(SETTLED) < i64::try_from(now.unix).unwrap_or(i64::MAX);
        // Only set here, under the lock, so it cannot be set already.
        let _ = self.scan.set(Begun { at: now.instant, meta, settled });
        Ok(scan)
    }

    /// Sets the result, unless it is set.
    fn end(&self, outcome: Result<Summary, ListingFailure>) {
        if outcome.is_err() && self.outcome.get().is_none() {
            self.count(self.bytes(), 0);
        }
        let _ = self.outcome.set(outcome);
    }

    fn count(&self, before: usize, after: usize) {
        for counter in [&self.bytes, &self.account.bytes] {
            counter.fetch_add(after, Ordering::Relaxed);
            counter.fetch_sub(before, Ordering::Relaxed);
        }
    }

    /// Frees the entries. A response that is still sending them fails.
    pub fn give_up(&self) {
        *lock(&self.made) = None;
        // From here on no piece is kept.
        *lock(&self.html) = Rendered::Dropped;
        *lock(&self.json) = Rendered::Dropped;
        self.account.bytes.fetch_sub(self.bytes.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }

    // ---- properties and content

    /// The weak entity tag of the listing in a format. Weak, because the bytes change with the version of this program.
    pub fn etag(&self, form: ListingFormat) -> Option<ETag> {
        let Some(Ok(Summary { hash, .. })) = self.outcome.get() else { return None };
        Some(match form {
            ListingFormat::Html => ETag::weak(&[*hash]),
            ListingFormat::Json => ETag::weak(&[*hash]).with_coding("json"),
        })
    }

    /// Whether the directory has more entries than the listing shows.
    pub fn is_cut(&self) -> bool {
        matches!(self.outcome.get(), Some(Ok(Summary { cut: true, .. })))
    }

    /// Appends the piece at `place` to `out`, and returns the cost; `None` behind the last one.
    ///
    /// # Errors
    /// The listing is not finished, or was given up.
    pub fn pull(&self, form: ListingFormat, place: &mut Cursor, out: &mut Vec<u8>) -> io::Result<Option<usize>> {
        if place.ended {
            return Ok(None);
        }
        let Some(made) = lock(&self.made).clone() else {
            return Err(io::Error::other("too many listings are held by clients that do not read them"));
        };
        let mut rendered = lock(match form {
            ListingFormat::Html => &self.html,
            ListingFormat::Json => &self.json,
        });
        let Rendered::Kept(pieces) = &mut *rendered else {
            drop(rendered);
            return render::piece(&made, &self.path, form, place, out).map(Some);
        };
        if let Some((bytes, behind)) = pieces.get(place.piece) {
            out.extend_from_slice(bytes);
            *place = *behind;
            return Ok(Some(bytes.len()));
        }
        let start = out.len();
        let cost = render::piece(&made, &self.path, form, place, out)?;
        let piece = &out[start..];
        if self.account.bytes() + piece.len() <= self.account.keep {
            self.count(0, piece.len());
            pieces.push((piece.into(), *place));
        } else {
            self.count(pieces.iter().map(|(bytes, _)| bytes.len()).sum(), 0);
            *rendered = Rendered::Dropped;
        }
        Ok(Some(cost + out.len() - start))
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.account.bytes.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}
