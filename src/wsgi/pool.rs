//! The supervisor's data for one application: its generation, idle threads, waiting requests, and failures.

use crate::wsgi::Spec;
use crate::wsgi::lease::{Seat, Ticket};
use crate::wsgi::process::Process;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The first pause before another worker is started, after two have failed in a row. The pause doubles each time, up to
/// `UNSTARTED` or `CRASHED`.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause after workers that did not start: the next one is not likely to start either.
pub const UNSTARTED: Duration = Duration::from_secs(10);
/// The longest pause after workers that started and then crashed in a request. The next request may be harmless, and
/// should not wait longer.
pub const CRASHED: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Pool {
    pub spec: Spec,
    /// The generation of new workers. Older workers serve until all workers of this generation are ready.
    pub generation: u32,
    /// The highest number of any generation so far. No number is used twice, so that a worker of a failed generation is
    /// never taken for one of the next.
    pub last: u32,
    /// The last generation whose workers were all ready; 0 before the first.
    pub proven: u32,
    /// A reload was asked for after the newest generation had begun to read the sources.
    pub reload_asked: bool,
    pub idle: Vec<Seat>,
    pub waiting: VecDeque<Ticket>,
    /// How many workers have failed in a row, without a request answered in between.
    pub failures: u32,
    /// No worker is started before this time.
    pub pause: Option<Instant>,
    /// Why the last worker did not start.
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

    /// If a reload was asked for, begins a new generation. There is one reload at a time: call this when the newest
    /// generation is ready, has failed, or was given up.
    pub fn begin_reload_if_asked(&mut self) {
        if std::mem::take(&mut self.reload_asked) {
            log::info!(target: "wsgi", "{}: reloading", self.spec.app);
            self.last += 1;
            self.generation = self.last;
            self.pause = None;
        }
    }

    /// Counts a worker that failed. The first is replaced at once. After each further one the pause doubles, up to
    /// `longest`.
    pub fn count_failure(&mut self, longest: Duration, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        if self.failures > 1 {
            self.pause = Some(now + (PAUSE * (1 << (self.failures - 2).min(16))).min(longest));
        }
    }

    /// Logs that an import takes long, and makes the worker print its stacks, which show what it is doing. False: the
    /// interpreter itself is still starting; call this again later.
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

    /// Removes a worker's threads from the list of idle threads.
    pub fn forget(&mut self, worker: usize) {
        self.idle.retain(|seat| seat.worker != worker);
    }

    /// How many requests a worker may take: up to a tenth less than `max_requests`, different for each worker. So
    /// workers that started together are not replaced together.
    pub fn share(&self, pid: u32) -> Option<u64> {
        let most = self.spec.max_requests?;
        // Knuth's multiplicative hash spreads pids that follow each other.
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
