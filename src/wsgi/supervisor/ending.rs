//! How workers go: out of service, once they are idle; by force, when they are stuck or talk nonsense; by themselves.

use crate::wsgi::pool::CRASHED;
use crate::wsgi::supervisor::{DUMP, LEAVE, Supervisor};
use crate::wsgi::worker::{Duty, Greeting, State, Worker};
use std::time::Instant;

impl Supervisor {
    pub(super) fn retire_all(&mut self, now: Instant, which: impl Fn(&Worker) -> bool) {
        let keys: Vec<usize> = self.workers.iter().filter(|(_, worker)| which(worker)).map(|(key, _)| key).collect();
        for key in keys {
            self.retire(key, now);
        }
    }

    /// Takes a worker out of service. Its sockets close, and with that it ends, when no request is in it.
    pub(super) fn retire(&mut self, key: usize, now: Instant) {
        self.recall_all(key);
        let worker = &mut self.workers[key];
        self.pools[worker.pool].forget(key);
        match worker.state {
            State::Doomed { .. } | State::Crashed { .. } => {}
            State::Starting => worker.state = State::Doomed { kill_at: now },
            _ if worker.is_idle() => {
                worker.hang_up();
                // It ends by this: it finds nothing more to do.
                worker.threads.iter().for_each(|thread| thread.tray.close());
                worker.state = State::Doomed { kill_at: now + LEAVE };
            }
            _ => worker.state = State::Retiring,
        }
    }

    /// A request has stood still in the application: the worker shows where, and is killed.
    pub(super) fn on_stuck(&mut self, key: usize, thread: usize, now: Instant) {
        self.workers[key].threads[thread].duty = Duty::Idle;
        self.recall_all(key);
        self.lose(key, thread);
        let worker = &mut self.workers[key];
        let (pid, pool) = (worker.process.pid(), &mut self.pools[worker.pool]);
        let timeout = pool.spec.timeout;
        log::error!(target: "wsgi", "worker {pid} has been stuck for {timeout:?}: its stacks follow, and it is killed");
        worker.process.dump_stacks();
        // Requests in its other threads get the chance to end.
        let grace = if worker.is_idle() { DUMP } else { DUMP + timeout };
        worker.state = State::Doomed { kill_at: now + grace };
        pool.forget(key);
    }

    /// A worker is no longer to be trusted, or has ended already.
    pub(super) fn doom(&mut self, key: usize, now: Instant) {
        self.recall_all(key);
        let worker = &mut self.workers[key];
        self.pools[worker.pool].forget(key);
        worker.state = State::Crashed { kill_at: now + DUMP };
        worker.talks = true;
    }

    /// It has ended, by itself or by force. What it has answered before is still there to be read.
    pub(super) fn on_ended(&mut self, key: usize, now: Instant) {
        self.recall_all(key);
        let worker = &mut self.workers[key];
        // A child that it forked may hold its sockets open: whoever waits for an answer learns of the end here.
        worker.hang_up();
        // What it said last.
        worker.process.read_output(now + LEAVE);
        worker.process.flush_output(now + LEAVE + LEAVE);
        let (pid, index, state) = (worker.process.pid(), worker.pool, worker.state);
        let how = worker.ended.clone().unwrap_or_default();
        let failed = match state {
            State::Starting => Some(match worker.threads[0].hear() {
                Greeting::Failed(failure) => failure,
                _ => format!("its worker ended before it was ready: {how}"),
            }),
            _ => None,
        };
        worker.state = State::Crashed { kill_at: now };
        self.pools[index].forget(key);
        self.bury(key, now);
        match state {
            State::Starting => self.on_failure(index, failed.unwrap_or_default(), now),
            State::Serving | State::Worn | State::Retiring | State::Crashed { .. } if !self.stopping => {
                log::error!(target: "wsgi", "worker {pid} of {} has ended: {how}", self.pools[index].spec.app);
                self.pools[index].count_failure(CRASHED, now);
            }
            _ => log::debug!(target: "wsgi", "worker {pid} has ended: {how}"),
        }
    }
}
