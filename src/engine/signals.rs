//! A second SIGINT or SIGTERM ends the process even when the engine is stuck.
//!
//! A signal's handler only sets a flag, and the engine ends when it reads it. An engine that is stuck in a system call
//! (a network file system that has gone) never reads it. So a signal that finds the flag of an earlier one still set ends
//! the process in the handler. Uploads under way end as if it had been killed: the next start tidies up.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_shutdown};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit code of a process that was ended this way.
const FORCED: i32 = 1;

/// Whether a signal to end has come that the engine has not read.
#[derive(Debug)]
pub struct Unread(Arc<AtomicBool>);

impl Unread {
    /// Watches SIGINT and SIGTERM from now on. Before the engine registers them itself, so that the note is there when
    /// the engine wakes.
    ///
    /// # Errors
    /// The system refuses the handlers.
    pub fn watch() -> io::Result<Unread> {
        let unread = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first looks at what an earlier signal has left.
            register_conditional_shutdown(signal, FORCED, unread.clone())?;
            register(signal, unread.clone())?;
        }
        Ok(Unread(unread))
    }

    /// To be called when the engine has read the signals that have come: one that comes in between is read with its next
    /// turn.
    pub fn clear(&self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, Signal, kill_process};
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    use std::thread;
    use std::time::Duration;

    const STUCK: &str = "TEST_STUCK_PROCESS";
    const NAME: &str = "engine::signals::tests::a_second_signal_ends_a_process_that_reads_none";

    #[test]
    fn a_second_signal_ends_a_process_that_reads_none() {
        if std::env::var_os(STUCK).is_some() {
            let _unread = Unread::watch().unwrap();
            println!("\nwatching");
            loop {
                thread::sleep(Duration::from_secs(1));
            }
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        let command = command.args([NAME, "--exact", "--nocapture"]).env(STUCK, "1").stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line == "watching"));
        let pid = Pid::from_raw(child.id() as i32).unwrap();
        // Signals that come together count as one: some more of them, with a generous end.
        for _ in 0..1000 {
            let _ = kill_process(pid, Signal::TERM);
            thread::sleep(Duration::from_millis(10));
            if let Some(status) = child.try_wait().unwrap() {
                assert_eq!(status.code(), Some(FORCED));
                return;
            }
        }
        let _ = child.kill();
        panic!("the process goes on");
    }
}
