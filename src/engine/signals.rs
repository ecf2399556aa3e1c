//! What the server does on each signal.
//!
//! | signal | what it does |
//! |---|---|
//! | SIGINT, SIGTERM | Finishes current requests and exits. A second signal exits at once. |
//! | SIGHUP, with Python applications | Imports them again. If the terminal on standard input was closed: as SIGTERM. |
//! | SIGHUP, with a terminal on standard input | As one SIGTERM, even if repeated: closing a terminal sends several. |
//! | SIGHUP otherwise, SIGUSR1, SIGUSR2 | Nothing. The log says so at -v. |
//!
//! A signal handler only sets a flag, and the engine shuts down when it reads the flag. An engine that is stuck in a
//! system call (on a network file system that does not answer) never reads it. So a second SIGINT or SIGTERM exits in
//! the handler if the flag of the first is still set. Current uploads are then cut as by a kill: the next start deletes
//! their temporary files.

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

/// What this server does on SIGHUP. Decided at start. `survive_start` leaves a SIGHUP that is ignored as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hangup {
    /// The signal was ignored when the server was started, as by nohup(1), and stays ignored.
    Ignored,
    /// Standard input is a terminal: the server shuts down.
    Ends,
    /// Python applications are imported again. If `on_terminal`, and the terminal is closed, the server shuts down.
    Reloads { on_terminal: bool },
    /// Nothing: there are no applications to import again.
    Nothing,
}

/// What a signal tells an engine to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    End,
    Reload,
}

/// The signals of the process, handled by an engine.
#[derive(Debug)]
pub struct Signals {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
    unread: Unread,
    hangup: Hangup,
    /// A SIGHUP has already begun the shutdown because the terminal was closed. Further ones have the same cause.
    hung_up: bool,
}

impl Hangup {
    pub fn at_start(has_applications: bool) -> Hangup {
        let on_terminal = io::stdin().is_terminal();
        match is_ignored(SIGHUP) {
            // A server started with `nohup dustdevil --wsgi` reloads on SIGHUP too.
            ignored if has_applications => Hangup::Reloads { on_terminal: on_terminal && !ignored },
            true => Hangup::Ignored,
            false if on_terminal => Hangup::Ends,
            false => Hangup::Nothing,
        }
    }

    /// Until an engine handles the signals: catches SIGHUP if it must not end the server, as its default action would.
    /// Even if it was ignored: applications are imported again on it.
    pub fn survive_start(self) {
        if matches!(self, Hangup::Reloads { .. }) {
            survive(SIGHUP);
        }
    }
}

/// Catches the signals that must not end the server whatever the command line says. Their default action would. What is
/// ignored stays ignored, and a terminal that is closed still ends the server.
pub fn survive_start() {
    for signal in [SIGUSR1, SIGUSR2] {
        survive(signal);
    }
    if !is_ignored(SIGHUP) && !io::stdin().is_terminal() {
        survive(SIGHUP);
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
        // Handlers run in the order in which they were registered: the flag is set before the engine is woken.
        let unread = Unread::watch()?;
        let (read, write) = UnixStream::pair()?;
        let mut taken = vec![SIGINT, SIGTERM, SIGUSR1, SIGUSR2];
        if hangup != Hangup::Ignored {
            taken.push(SIGHUP);
        }
        let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, taken)?;
        Ok(Signals { delivery, unread, hangup, hung_up: false })
    }

    /// The orders of the signals that have come since the last call. Until another signal comes, `as_fd` is no longer
    /// readable.
    pub fn read(&mut self) -> Vec<Order> {
        let mut orders = Vec::new();
        for signal in self.delivery.pending() {
            match (signal, self.hangup) {
                (SIGINT | SIGTERM, _) => orders.push(Order::End),
                (SIGHUP, Hangup::Ends) => orders.extend(self.hang_up()),
                // isatty(3) is false for a terminal that was closed.
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

/// The exit code when a second signal ends the process in its handler.
const FORCED: i32 = 1;

/// Whether a SIGINT or SIGTERM has come that the engine has not read yet.
#[derive(Debug)]
struct Unread(Arc<AtomicBool>);

impl Unread {
    fn watch() -> io::Result<Unread> {
        let unread = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first handler exits if an earlier signal set the flag, the second sets the flag.
            register_conditional_shutdown(signal, FORCED, unread.clone())?;
            register(signal, unread.clone())?;
        }
        Ok(Unread(unread))
    }

    /// Call this after the pending signals are read. A signal that comes in between is read in the next turn.
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
        // Signals that are pending at the same time are delivered once: so several are sent.
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
