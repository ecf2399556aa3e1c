//! The workers of one application, as a number: how many are wanted, who waits for one, what went wrong last.

use crate::wsgi::Spec;
use crate::wsgi::process::Process;
use crate::wsgi::supervisor::Ticket;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Between attempts to replace what ends at once: from here, doubled, up to one of the next two.
const PAUSE: Duration = Duration::from_millis(100);
/// Of workers that do not come up: the next one hardly will.
pub const UNSTARTED: Duration = Duration::from_secs(10);
/// Of workers that came up and that requests have killed: the next request may be another, and waits no longer than this.
pub const CRASHED: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Pool {
    pub spec: Spec,
    /// What new workers belong to; older ones serve until as many as are wanted of these do.
    pub generation: u32,
    /// The highest number given to a generation: none is given twice, so that workers of one that failed are never
    /// taken for the next one's.
    pub last: u32,
    /// The last that all came up.
    pub proven: u32,
    /// A source may have changed since the newest generation began to read it.
    pub reload_asked: bool,
    pub idle: Vec<(usize, usize)>,
    pub waiting: VecDeque<Ticket>,
    /// Ends in a row, without a request answered in between, and when the next attempt is due.
    pub failures: u32,
    pub pause: Option<Instant>,
    /// Why the last one did not start.
    pub failure: Option<String>,
}

impl Pool {
    pub fn new(spec: Spec) -> Pool {
        Pool {
            spec,
            generation: 1,
            last: 1,
            proven: 0,
            reload_asked: false,
            idle: Vec::new(),
            waiting: VecDeque::new(),
            failures: 0,
            pause: None,
            failure: None,
        }
    }

    /// Begins a new generation, if one has been asked for. One at a time: the last must have come up, or failed, or have
    /// been given up.
    pub fn begin_reload_if_asked(&mut self) {
        if std::mem::take(&mut self.reload_asked) {
            log::info!(target: "wsgi", "{}: reloading", self.spec.app);
            self.last += 1;
            self.generation = self.last;
            self.pause = None;
        }
    }

    /// A worker ended that should not have: the first is replaced at once, the next after ever longer pauses.
    pub fn count_failure(&mut self, longest: Duration, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        if self.failures > 1 {
            self.pause = Some(now + (PAUSE * (1 << (self.failures - 2).min(16))).min(longest));
        }
    }

    /// Logs that an import takes long, and makes the worker print its stacks: the user sees what it is doing. False:
    /// the interpreter itself is still starting, and has to be looked at again.
    pub fn show_import(&self, process: &Process) -> bool {
        let (pid, Spec { app, timeout, python, .. }) = (process.pid(), &self.spec);
        let can_dump = process.can_dump_stacks();
        if can_dump {
            log::warn!(target: "wsgi", "worker {pid} has been importing {app} for {timeout:?} and goes on: its stacks follow");
            process.dump_stacks();
        } else {
            log::warn!(target: "wsgi", "worker {pid} of {app}: {} is still starting and goes on", python.display());
        }
        can_dump
    }

    /// Takes an idle worker off the list.
    pub fn forget(&mut self, worker: usize) {
        self.idle.retain(|(other, _)| *other != worker);
    }

    /// How many requests a worker may take: up to a tenth less than was said, so that workers that started together
    /// are not replaced together.
    pub fn share(&self, pid: u32) -> Option<u64> {
        let most = self.spec.max_requests?;
        // Knuth's multiplicative hash: neighbours end up far apart.
        Some(most - u64::from(pid.wrapping_mul(2_654_435_761)) % (most / 10 + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_between_workers_grow_to_the_longest() {
        let mut pool = Pool::new(Spec {
            app: "a:b".into(),
            python: "python3".into(),
            folder: ".".into(),
            workers: 1,
            threads: 1,
            timeout: UNSTARTED,
            max_requests: None,
            queue: 1,
            watch: false,
        });
        let now = Instant::now();
        let pauses: Vec<_> = (0..40)
            .map(|_| {
                pool.count_failure(CRASHED, now);
                pool.pause.map(|until| until - now)
            })
            .collect();
        let millis = |millis| Some(Duration::from_millis(millis));
        assert_eq!(
            pauses[..7],
            [None, millis(100), millis(200), millis(400), millis(800), Some(CRASHED), Some(CRASHED)]
        );
        assert!(pauses[7..].iter().all(|pause| *pause == Some(CRASHED)) && CRASHED == Duration::from_secs(1));
    }
}
