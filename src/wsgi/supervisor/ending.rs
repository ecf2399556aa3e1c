//! How workers end: retired, once they are idle; killed, when they are stuck or send something that is not a frame; or
//! by themselves.

use crate::wsgi::pool::CRASHED;
use crate::wsgi::supervisor::{DUMP, LEAVE, Seat, Supervisor};
use crate::wsgi::worker::{Duty, Greeting, State, Worker};
use std::time::Instant;

impl Supervisor {
    pub(super) fn retire_all(&mut self, now: Instant, which: impl Fn(&Worker) -> bool) {
        let keys: Vec<usize> = self.workers.iter().filter(|(_, worker)| which(worker)).map(|(key, _)| key).collect();
        for key in keys {
            self.retire(key, now);
        }
    }

    /// Takes a worker out of service. It ends, because its sockets close, as soon as it has no request.
    pub(super) fn retire(&mut self, key: usize, now: Instant) {
        self.recall_all(key);
        let worker = &mut self.workers[key];
        self.pools[worker.pool].forget(key);
        match worker.state {
            State::Ending { .. } | State::Crashed { .. } => {}
            State::Starting => worker.state = State::Ending { kill_at: now },
            _ if worker.is_idle() => {
                worker.shut_streams();
                // The end of its inbox ends the worker.
                worker.threads.iter().for_each(|thread| thread.inbox.close());
                worker.state = State::Ending { kill_at: now + LEAVE };
            }
            _ => worker.state = State::Retiring,
        }
    }

    /// A request has made no progress within the timeout: the worker dumps its stacks and is killed.
    pub(super) fn on_stuck(&mut self, seat: Seat, now: Instant) {
        self.thread(seat).duty = Duty::Idle;
        self.recall_all(seat.worker);
        self.mark_lost(seat);
        let worker = &mut self.workers[seat.worker];
        let (pid, pool) = (worker.process.pid(), &mut self.pools[worker.pool]);
        let timeout = pool.spec.timeout;
        log::error!(target: "wsgi", "worker {pid} has been stuck for {timeout:?}: its stacks follow, and it is killed");
        worker.process.dump_stacks();
        // Requests in its other threads get time to finish.
        let grace = if worker.is_idle() { DUMP } else { DUMP + timeout };
        worker.state = State::Ending { kill_at: now + grace };
        pool.forget(seat.worker);
    }

    /// A worker has ended, or sent something that is not a frame. It is killed if it still runs.
    pub(super) fn mark_crashed(&mut self, key: usize, now: Instant) {
        self.recall_all(key);
        let worker = &mut self.workers[key];
        self.pools[worker.pool].forget(key);
        worker.state = State::Crashed { kill_at: now + DUMP };
        worker.has_output = true;
    }

    /// The process has ended, by itself or killed. Answers that it has sent before can still be read from its sockets.
    pub(super) fn on_ended(&mut self, key: usize, now: Instant) {
        self.recall_all(key);
        let worker = &mut self.workers[key];
        // A child that it forked may hold its sockets open: without this, a session that reads an answer would not see
        // the end.
        worker.shut_streams();
        // The last of its output. Times in the future: an unfinished line is shown at once.
        worker.process.read_output(now + LEAVE);
        worker.process.flush_output(now + LEAVE + LEAVE);
        let (pid, index, state) = (worker.process.pid(), worker.pool, worker.state);
        let how = worker.ended.clone().unwrap_or_default();
        let failed = match state {
            State::Starting => Some(match worker.threads[0].greeting() {
                Greeting::Failed(failure) => failure,
                _ => format!("its worker ended before it was ready: {how}"),
            }),
            _ => None,
        };
        worker.state = State::Crashed { kill_at: now };
        self.pools[index].forget(key);
        self.remove_if_done(key, now);
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
