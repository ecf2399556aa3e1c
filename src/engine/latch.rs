//! An event that happens once. A thread can wait for it alone or together with sockets.
//!
//! An eventfd that is written once and never read stays readable: it wakes every poll, even one that begins later. So
//! no thread can miss a shutdown. The flag beside the eventfd saves a system call when a thread only checks.

use crate::poll;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

#[derive(Debug)]
pub struct Latch {
    set: AtomicBool,
    since: OnceLock<Instant>,
    event: OwnedFd,
}

impl Latch {
    pub fn new() -> io::Result<Latch> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Latch { set: AtomicBool::new(false), since: OnceLock::new(), event })
    }

    pub fn set(&self) {
        self.since.get_or_init(Instant::now);
        // The flag before the event: a thread that is woken finds it set.
        self.set.store(true, Ordering::SeqCst);
        // Fails only if the counter is full. A full eventfd is readable too.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }

    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::SeqCst)
    }

    /// When it was set. `None` if it is not set.
    pub fn since(&self) -> Option<Instant> {
        if self.is_set() { self.since.get().copied() } else { None }
    }

    /// Waits until it is set, or until the deadline.
    pub fn wait(&self, deadline: Option<Instant>) {
        while !self.is_set() && deadline.is_none_or(|deadline| deadline > Instant::now()) {
            // Errors (no memory) are temporary: try again.
            let _ = await_any(&[self.as_fd()], deadline);
        }
    }
}

impl AsFd for Latch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// Waits until one of the descriptors is readable, or until the deadline. Returns for each whether it is readable.
///
/// # Errors
/// A signal (EINTR) is not an error: the wait ends early.
pub fn await_any(fds: &[BorrowedFd<'_>], deadline: Option<Instant>) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd> = fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    poll::wait(&mut polled, deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())))?;
    Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn it_wakes_threads_that_wait_and_threads_that_come_later() {
        let latch = Arc::new(Latch::new().unwrap());
        let waiting = latch.clone();
        let waiter = thread::spawn(move || waiting.wait(None));
        assert!(!latch.is_set() && latch.since().is_none());
        latch.set();
        waiter.join().unwrap();
        latch.wait(None);
        let since = latch.since();
        assert!(since.is_some_and(|since| since <= Instant::now()));
        latch.set();
        assert_eq!(latch.since(), since);
        assert_eq!(await_any(&[latch.as_fd(), latch.as_fd()], None).unwrap(), [true, true]);
    }

    #[test]
    fn a_wait_ends_at_its_deadline_and_not_before() {
        let latch = Latch::new().unwrap();
        let deadline = Instant::now() + Duration::from_millis(20);
        latch.wait(Some(deadline));
        assert!(Instant::now() >= deadline && !latch.is_set());
        assert_eq!(await_any(&[latch.as_fd()], Some(deadline)).unwrap(), [false]);
    }
}
