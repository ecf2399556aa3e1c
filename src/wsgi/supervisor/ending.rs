//! How workers end. A retired worker ends when it is idle. A worker that is stuck or sends something that is not a
//! frame is killed. A worker may also end by itself.

use crate::wsgi::pool::CRASHED;
use crate::wsgi::supervisor::{DUMP, LEAVE, Seat, Supervisor};
use crate::wsgi::worker::{Duty, Greeting, State, Worker};
use std::time::{Duration, Instant};

/// How long the other requests of a stuck worker may take to finish. An endless response would keep the worker forever.
const LINGER: Duration = Duration::from_secs(600);

impl Supervisor {
    pub(super) fn retire_all(&mut self, now: Instant, which: impl Fn(&Worker) -> bool) {
        let keys: Vec<usize> = self.workers.iter().filter(|(_, worker)| which(worker)).map(|(key, _)| key).collect();
        for key in keys {
            self.retire(key, now);
        }
    }

    /// Takes a worker out of service. When it has no request, its sockets are closed, which ends it.
    pub(super) fn retire(&mut self, key: usize, now: Instant) {
        self.recall_all(key);
        let worker = &mut self.workers[key];
        self.pools[worker.pool].forget(key);
        match worker.state {
            State::Stuck { .. } if self.stopping => worker.state = State::Ending { kill_at: now },
            State::Stuck { .. } | State::Ending { .. } | State::Crashed { .. } => {}
            State::Starting => worker.state = State::Ending { kill_at: now },
            _ if worker.is_idle() => {
                worker.shut_streams();
                // A worker ends when its inbox is closed.
                worker.threads.iter().for_each(|thread| thread.inbox.close());
                worker.state = State::Ending { kill_at: now + LEAVE };
            }
            _ => worker.state = State::Retiring,
        }
    }

    /// A request has made no progress within the timeout: the worker prints its stacks, and is killed when its other
    /// requests are finished. Another worker is started in its place at once.
    pub(super) fn on_stuck(&mut self, seat: Seat, now: Instant) {
        self.thread(seat).duty = Duty::Idle;
        self.recall_all(seat.worker);
        self.mark_lost(seat);
        let worker = &mut self.workers[seat.worker];
        let (pid, index, others) = (worker.process.pid(), worker.pool, worker.busy_threads());
        let timeout = self.pools[index].spec.timeout;
        let then = match others {
            0 => "it is killed".into(),
            _ => format!("it is killed when its other requests have ended ({others} under way)"),
        };
        log::error!(target: "wsgi", "worker {pid} has been stuck for {timeout:?}: its stacks follow, and {then}");
        worker.process.dump_stacks();
        worker.state = match worker.state {
            _ if others == 0 => State::Ending { kill_at: now + DUMP },
            ending @ (State::Stuck { .. } | State::Ending { .. } | State::Crashed { .. }) => ending,
            _ => State::Stuck { kill_at: now + LINGER },
        };
        self.pools[index].forget(seat.worker);
        self.bound_stuck(index, now);
    }

    /// If a pool has more stuck workers than it may have workers, kills the oldest: a stuck worker takes as much memory
    /// as one that serves.
    fn bound_stuck(&mut self, index: usize, now: Instant) {
        let stuck = self.workers.iter().filter_map(|(key, worker)| match worker.state {
            State::Stuck { kill_at } if worker.pool == index => Some((kill_at, key)),
            _ => None,
        });
        let stuck: Vec<_> = stuck.collect();
        if let Some((_, oldest)) = stuck.iter().min().filter(|_| stuck.len() > self.pools[index].spec.workers) {
            self.cut_stuck(*oldest, "because too many workers are stuck", now);
        }
    }

    /// Kills a stuck worker although it has other requests.
    pub(super) fn cut_stuck(&mut self, key: usize, why: &str, now: Instant) {
        let worker = &mut self.workers[key];
        let (pid, others) = (worker.process.pid(), worker.busy_threads());
        log::error!(target: "wsgi", "stuck worker {pid} is killed, {why}: {others} requests are cut");
        worker.state = State::Ending { kill_at: now };
    }

    /// A worker has ended, or sent something that is not a frame. If it still runs, it is killed.
    pub(super) fn mark_crashed(&mut self, key: usize, now: Instant) {
        self.recall_all(key);
        let worker = &mut self.workers[key];
        self.pools[worker.pool].forget(key);
        worker.state = State::Crashed { kill_at: now + DUMP };
        worker.has_output = true;
    }

    /// A worker's process has ended. Answers sent before the end stay readable: shutdown(2) keeps bytes that have arrived.
    pub(super) fn on_ended(&mut self, key: usize, now: Instant) {
        self.recall_all(key);
        let worker = &mut self.workers[key];
        // A child that the worker forked may hold its sockets open: then a session that reads an answer would never see
        // end-of-file.
        worker.shut_streams();
        // The last output. An unfinished line is held for a moment: a later time makes it log the line now.
        worker.process.read_output(now + LEAVE);
        worker.process.flush_output(now + LEAVE + LEAVE);
        let (pid, pool, state) = (worker.process.pid(), worker.pool, worker.state);
        let how = worker.ended.clone().unwrap_or_default();
        let failed = match state {
            State::Starting => Some(match worker.threads[0].greeting() {
                Greeting::Failed(failure) => failure,
                _ => format!("its worker ended before it was ready: {how}"),
            }),
            _ => None,
        };
        // It gets no more requests. `kill_at` is not read: the process has ended.
        worker.state = State::Crashed { kill_at: now };
        self.pools[pool].forget(key);
        self.remove_if_done(key, now);
        // An end that was not asked for counts as a failure of the pool.
        match state {
            State::Starting => self.on_failure(pool, failed.unwrap_or_default(), now),
            State::Serving | State::Worn | State::Retiring | State::Stuck { .. } | State::Crashed { .. }
                if !self.stopping =>
            {
                log::error!(target: "wsgi", "worker {pid} of {} has ended: {how}", self.pools[pool].spec.app);
                self.pools[pool].count_failure(CRASHED, now);
            }
            _ => log::debug!(target: "wsgi", "worker {pid} has ended: {how}"),
        }
    }
}
