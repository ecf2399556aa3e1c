//! Signals, and what the server does at each.
//!
//! | signal | what it does |
//! |---|---|
//! | SIGINT, SIGTERM | Finishes what is under way and ends. A second one ends at once. |
//! | SIGHUP, Python applications | Imports them again. If the terminal on standard input was closed: as SIGTERM. |
//! | SIGHUP, a terminal on standard input | As SIGTERM, however often it comes: a terminal that is closed sends several. |
//! | SIGHUP otherwise, SIGUSR1, SIGUSR2 | Nothing. The log says so at -v. |
//!
//! A signal's handler only sets a flag, and the engine ends when it reads it. An engine that is stuck in a system call
//! (a network file system that has gone) never reads it. So a signal to end that finds the flag of an earlier one still set
//! ends the process in the handler. Uploads under way end as if it had been killed: the next start tidies up.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::flag::{register, register_conditional_shutdown};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use std::fs;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What SIGHUP means to this server. Decided at start, before anything handles signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hangup {
    /// It was ignored when the server was started, as nohup(1) does it, and stays ignored.
    Ignored,
    /// Standard input is a terminal: the session ends, and the server with it.
    Ends,
    /// Applications are imported again.
    Reloads { on_terminal: bool },
    /// There is nothing to reload.
    Nothing,
}

/// What an engine is to do because of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    End,
    Reload,
}

/// The signals of the process, taken over by an engine.
#[derive(Debug)]
pub struct Signals {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
    unread: Unread,
    hangup: Hangup,
    /// The terminal has been closed: further SIGHUPs are of the same cause.
    hung_up: bool,
}

impl Hangup {
    pub fn at_start(has_applications: bool) -> Hangup {
        let on_terminal = io::stdin().is_terminal();
        match is_ignored(SIGHUP) {
            // `nohup dustdevil --wsgi` can still be told to reload.
            ignored if has_applications => Hangup::Reloads { on_terminal: on_terminal && !ignored },
            true => Hangup::Ignored,
            false if on_terminal => Hangup::Ends,
            false => Hangup::Nothing,
        }
    }

    /// Keeps signals that do not end the server from ending it until an engine takes them over: by default they would.
    pub fn survive_start(self) {
        for signal in [SIGUSR1, SIGUSR2] {
            survive(signal);
        }
        if matches!(self, Hangup::Reloads { .. } | Hangup::Nothing) {
            survive(SIGHUP);
        }
    }
}

/// Catches a signal that would end the process; the flag is never read.
pub fn survive(signal: i32) {
    if let Err(error) = register(signal, Arc::default()) {
        log::debug!("signal {signal} cannot be caught: {error}");
    }
}

/// Whether this process was started with the signal ignored.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0);
    mask & 1 << (signal - 1) != 0
}

impl Signals {
    /// Handles the signals from now on.
    ///
    /// # Errors
    /// The system refuses the handlers, or has no descriptors left.
    pub fn take_over(hangup: Hangup) -> io::Result<Signals> {
        // Before the delivery, so that the note is there when the engine wakes.
        let unread = Unread::watch()?;
        let (read, write) = UnixStream::pair()?;
        let mut taken = vec![SIGINT, SIGTERM, SIGUSR1, SIGUSR2];
        if hangup != Hangup::Ignored {
            taken.push(SIGHUP);
        }
        let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, taken)?;
        Ok(Signals { delivery, unread, hangup, hung_up: false })
    }

    /// The orders of the signals that have come since the last time. Empties what `as_fd` is readable for.
    pub fn read(&mut self) -> Vec<Order> {
        let mut orders = Vec::new();
        for signal in self.delivery.pending() {
            match (signal, self.hangup) {
                (SIGINT | SIGTERM, _) => orders.push(Order::End),
                (SIGHUP, Hangup::Ends) => orders.extend(self.hang_up()),
                // A terminal that was closed is none any more.
                (SIGHUP, Hangup::Reloads { on_terminal: true }) if !io::stdin().is_terminal() => {
                    orders.extend(self.hang_up());
                }
                (SIGHUP, Hangup::Reloads { .. }) => orders.push(Order::Reload),
                (SIGHUP, _) => log::debug!("SIGHUP is ignored: there are no applications to import again"),
                (SIGUSR1, _) => log::debug!("SIGUSR1 is ignored: it means nothing to this server"),
                _ => log::debug!("SIGUSR2 is ignored: it means nothing to this server"),
            }
        }
        self.unread.clear();
        orders
    }

    fn hang_up(&mut self) -> Option<Order> {
        (!std::mem::replace(&mut self.hung_up, true)).then_some(Order::End)
    }
}

/// Readable when a signal has come.
impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }
}

/// The exit code of a process that was ended this way.
const FORCED: i32 = 1;

/// Whether a signal to end has come that the engine has not read.
#[derive(Debug)]
struct Unread(Arc<AtomicBool>);

impl Unread {
    fn watch() -> io::Result<Unread> {
        let unread = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first looks at what an earlier signal has left.
            register_conditional_shutdown(signal, FORCED, unread.clone())?;
            register(signal, unread.clone())?;
        }
        Ok(Unread(unread))
    }

    /// Call this when the signals that have come are read: one that comes in between is read with the next turn.
    fn clear(&self) {
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
