//! poll(2): waits for a few descriptors.

use rustix::event::{PollFd, Timespec};
use rustix::io::Errno;
use std::io;
use std::time::Duration;

/// Waits until one of the descriptors is ready, but at most for `left`. Then `revents` of each descriptor tells what it
/// is ready for. A signal ends the wait early, with no descriptor ready.
///
/// # Errors
/// Those of poll(2): no memory, or too many descriptors.
pub fn wait(polled: &mut [PollFd<'_>], left: Option<Duration>) -> io::Result<()> {
    // If a duration is too long for a timespec, there is no limit.
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    match rustix::event::poll(polled, left.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::PollFlags;
    use rustix::pipe::pipe;

    #[test]
    fn what_is_ready_is_told_and_a_wait_ends() {
        let (reader, writer) = pipe().unwrap();
        let mut polled = [PollFd::new(&reader, PollFlags::IN), PollFd::new(&writer, PollFlags::OUT)];
        wait(&mut polled, None).unwrap();
        assert_eq!(polled.map(|fd| fd.revents()), [PollFlags::empty(), PollFlags::OUT]);
        let mut polled = [PollFd::new(&reader, PollFlags::IN)];
        wait(&mut polled, Some(Duration::ZERO)).unwrap();
        assert_eq!(polled[0].revents(), PollFlags::empty());
        rustix::io::write(&writer, b"x").unwrap();
        wait(&mut polled, Some(Duration::MAX)).unwrap();
        assert_eq!(polled[0].revents(), PollFlags::IN);
    }
}
