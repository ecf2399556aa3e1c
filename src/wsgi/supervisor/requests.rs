//! Gives threads to requests, first come, first served, and takes them back.
//!
//! ```text
//!            lease: a thread is idle                        answered: give_back
//!  (asked) ─────────────────────────► Leased ──────────────────────────────────► Idle
//!     │ all are busy                     │ the client has left                     ▲
//!     ├──► in an inbox ──its turn──► Due ┤ lease                                   │
//!     │     ▲ │ recall            lease  ▼                                         │
//!     └──► waiting                    Finishing ────── its last frame ──────────────┘
//! ```
//! A busy thread has its next requests in its inbox, so that it does not wait for the server between two requests. A
//! request in an inbox has not begun. It is recalled to the queue when its client leaves, its thread is stuck, its
//! worker ends, or another thread is idle. A request that the thread has taken up stays with that thread: it becomes
//! `Due` when the one before it is finished.

use crate::wsgi::frames::{self, HEADER, Reader, ToWorker};
use crate::wsgi::inbox::{DEPTH, Recalled};
use crate::wsgi::pool::Pool;
use crate::wsgi::supervisor::{DUMP, Handback, Lease, Leased, Received, STRIDE, Seat, Supervisor, Ticket};
use crate::wsgi::watch::{unwatch, watch};
use crate::wsgi::worker::{DrainProgress, Duty, State, Worker};
use rustix::net::SendFlags;
use std::time::Instant;

impl Supervisor {
    /// Reserves a thread of the pool for `ticket`, first come, first served. `request`: the whole frame of the request,
    /// if the session has it in memory.
    pub fn lease(&mut self, pool: usize, ticket: Ticket, request: Option<&[u8]>) -> Leased {
        if let Some(leased) = self.claim(pool, ticket) {
            return leased;
        }
        let (behind, roomiest) = self.inbox_load(pool);
        let Pool { spec, idle, waiting, .. } = &mut self.pools[pool];
        let place = waiting.iter().position(|other| *other == ticket);
        let is_first = place.unwrap_or(waiting.len()) == 0;
        let free = idle.pop_if(|_| is_first);
        if place.is_none() && free.is_none() && waiting.len() + behind >= spec.queue {
            return Leased::Full;
        }
        let leased = match free {
            Some(seat) => self.begin(seat, ticket, request),
            None if is_first && self.push_behind(roomiest, ticket, request) => Leased::Queued,
            None => {
                let asks_first = place.is_none().then_some(ticket);
                self.pools[pool].waiting.extend(asks_first);
                return Leased::Queued;
            }
        };
        if place.is_some() {
            self.pools[pool].waiting.pop_front();
        }
        self.wake(pool);
        leased
    }

    /// Pushes a request to the inbox of a busy thread. False if no inbox has room or the request is too large.
    fn push_behind(&mut self, seat: Option<Seat>, ticket: Ticket, request: Option<&[u8]>) -> bool {
        let (Some(seat), Some(request)) = (seat, request) else { return false };
        let busy = self.thread(seat);
        let is_pushed = busy.inbox.push(Some(request));
        busy.next.extend(is_pushed.then_some(Some(ticket)));
        is_pushed
    }

    /// Gives an idle thread its request: pushes the request to the inbox, or an empty slot, so that the thread reads
    /// the request from its stream.
    fn begin(&mut self, seat: Seat, ticket: Ticket, request: Option<&[u8]>) -> Leased {
        let idle = self.thread(seat);
        let is_sent = request.is_some_and(|request| idle.inbox.push(Some(request)));
        if !is_sent {
            idle.inbox.push(None);
        }
        idle.duty = Duty::Leased(ticket);
        let lease = self.lease_of(seat);
        if is_sent { Leased::Sent(lease, Received::default()) } else { Leased::Now(lease) }
    }

    /// The state of a request that was pushed to an inbox. `None` if it was not.
    fn claim(&mut self, pool: usize, ticket: Ticket) -> Option<Leased> {
        if let Some(place) = self.lost.iter().position(|other| *other == ticket) {
            self.lost.swap_remove(place);
            return Some(Leased::Lost);
        }
        let workers = self.workers.iter_mut().filter(|(_, worker)| worker.pool == pool);
        for (key, worker) in workers {
            for (number, thread) in worker.threads.iter_mut().enumerate() {
                if thread.next.contains(&Some(ticket)) {
                    return Some(Leased::Queued);
                }
                if let Duty::Due(due, received) = &mut thread.duty
                    && *due == ticket
                {
                    let received = std::mem::take(received);
                    thread.duty = Duty::Leased(ticket);
                    return Some(Leased::Sent(self.lease_of(Seat { worker: key, thread: number }), received));
                }
            }
        }
        None
    }

    fn lease_of(&self, seat: Seat) -> Lease {
        let Worker { process, threads, pool, .. } = &self.workers[seat.worker];
        Lease { socket: threads[seat.thread].socket.clone(), pool: *pool, pid: process.pid(), seat }
    }

    /// How many requests are queued at threads, and which thread that can take one more has the fewest.
    fn inbox_load(&self, pool: usize) -> (usize, Option<Seat>) {
        let (mut behind, mut best) = (0, None);
        for (key, worker) in self.workers.iter().filter(|(_, worker)| worker.pool == pool) {
            for (number, thread) in worker.threads.iter().enumerate() {
                let len = thread.next.len();
                behind += len;
                let takes = worker.state == State::Serving && matches!(thread.duty, Duty::Leased(_) | Duty::Due(..));
                if takes && len < DEPTH && best.is_none_or(|(least, _)| len < least) {
                    best = Some((len, Seat { worker: key, thread: number }));
                }
            }
        }
        (behind, best.map(|(_, seat)| seat))
    }

    /// Takes a ticket out of the queue, out of the inboxes, and out of `lost`.
    pub fn leave(&mut self, ticket: Ticket, now: Instant) {
        self.lost.retain(|other| *other != ticket);
        let seats = self
            .workers
            .iter()
            .flat_map(|(worker, entry)| (0..entry.threads.len()).map(move |thread| Seat { worker, thread }));
        for seat in seats.collect::<Vec<_>>() {
            let thread = self.thread(seat);
            if thread.next.contains(&Some(ticket)) {
                self.recall(seat);
                // A request that the thread has taken up will be answered. Its answer is dropped.
                let taken = self.thread(seat).next.iter_mut();
                taken.filter(|next| **next == Some(ticket)).for_each(|next| *next = None);
            } else if let Duty::Due(due, received) = &mut thread.duty
                && *due == ticket
            {
                let received = std::mem::take(received);
                self.abandon(seat, Vec::new(), received, Reader::default(), now);
            }
        }
        for pool in 0..self.pools.len() {
            self.pools[pool].waiting.retain(|other| *other != ticket);
            self.wake(pool);
        }
    }

    /// Takes a thread back whose request is finished or whose client has left. If the thread has already taken up its
    /// next request, returns the ticket of that request.
    pub fn give_back(&mut self, lease: &Lease, handback: Handback, now: Instant) -> Option<Ticket> {
        // The worker may have ended, and another worker may have its key now.
        let seat = lease.seat;
        let worker = self.workers.get(seat.worker).filter(|worker| worker.process.pid() == lease.pid)?;
        self.changed |= !matches!(handback, Handback::Free(_)) || worker.ended.is_some();
        match handback {
            Handback::Unsent => {
                // The thread waits for the request on its stream. With a CANCEL it goes back to its inbox.
                let cancel = frames::header(ToWorker::Cancel, 0, 0, 0);
                match rustix::net::send(&*lease.socket, &cancel, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                    Ok(HEADER) => self.on_free(seat, Received::default(), now),
                    _ => self.mark_crashed(seat.worker, now),
                }
            }
            Handback::Free(received) => self.on_free(seat, received, now),
            Handback::Busy { unsent, received, reader } => {
                self.abandon(seat, unsent, received, reader, now);
            }
            Handback::NotBegun | Handback::Broken => {
                let duty = std::mem::replace(&mut self.thread(seat).duty, Duty::Idle);
                self.mark_crashed(seat.worker, now);
                self.mark_lost(seat);
                if let (Handback::NotBegun, Duty::Leased(ticket)) = (handback, duty) {
                    self.pools[lease.pool].waiting.push_front(ticket);
                }
            }
            Handback::Stuck => self.on_stuck(seat, now),
        }
        match self.workers.get(seat.worker)?.threads[seat.thread].duty {
            Duty::Due(ticket, _) => Some(ticket),
            _ => None,
        }
    }

    /// Call this when a thread has closed its stream and sent nothing. Returns whether the leased request is still in
    /// the inbox: then it has not begun. The request is removed from the inbox.
    pub fn has_not_begun(&mut self, lease: &Lease) -> bool {
        let worker = self.workers.get(lease.seat.worker).filter(|worker| worker.process.pid() == lease.pid);
        worker.is_some() && self.recall_with_leased(lease.seat).is_some()
    }

    /// Call this when a thread without a request has sent something or closed its socket.
    pub fn on_unasked(&mut self, lease: &Lease, now: Instant) {
        let Some(worker) = self.workers.get(lease.seat.worker).filter(|worker| worker.process.pid() == lease.pid)
        else {
            return;
        };
        let is_idle = matches!(worker.threads[lease.seat.thread].duty, Duty::Idle);
        if is_idle && matches!(worker.state, State::Serving | State::Worn) {
            self.changed = true;
            self.mark_crashed(lease.seat.worker, now);
        }
    }

    /// Takes the tickets that may get a thread now: their sessions should call `lease` again.
    pub fn take_woken(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.woken)
    }

    /// Wakes the first ticket of the queue if there may be a thread for it. If a thread is idle and the queue is empty,
    /// first recalls the requests in the fullest inbox.
    pub(super) fn wake(&mut self, pool: usize) {
        let (behind, roomiest) = self.inbox_load(pool);
        let is_idle = !self.pools[pool].idle.is_empty();
        if is_idle && behind > 0 && self.pools[pool].waiting.is_empty() {
            let of_pool = self.workers.iter().filter(|(_, worker)| worker.pool == pool);
            let threads = of_pool.flat_map(|(key, worker)| {
                worker
                    .threads
                    .iter()
                    .enumerate()
                    .map(move |(number, thread)| (thread.next.len(), Seat { worker: key, thread: number }))
            });
            if let Some((_, seat)) = threads.max() {
                self.recall(seat);
            }
        }
        if is_idle || roomiest.is_some() {
            self.woken.extend(self.pools[pool].waiting.front());
        }
    }

    pub(super) fn recall_all(&mut self, key: usize) {
        for thread in 0..self.workers[key].threads.len() {
            self.recall(Seat { worker: key, thread });
        }
        self.wake(self.workers[key].pool);
    }

    /// Moves the requests that a thread has not taken up back to the head of the queue. If the request of the thread's
    /// current lease was still in the inbox, it goes back into the inbox; if that lease is over, it is dropped.
    fn recall(&mut self, seat: Seat) {
        let request = self.recall_with_leased(seat);
        let thread = self.thread(seat);
        if let (Some(request), Duty::Leased(_)) = (request, &thread.duty) {
            thread.inbox.push(Some(&request));
        }
    }

    /// As `recall`, but if the request of the thread's current lease was still in the inbox, returns it.
    fn recall_with_leased(&mut self, seat: Seat) -> Option<Vec<u8>> {
        let Worker { threads, pool, state, .. } = &mut self.workers[seat.worker];
        let thread = &mut threads[seat.thread];
        let Recalled { count, first, empty } = thread.inbox.recall();
        for _ in 0..empty {
            thread.inbox.push(None);
        }
        let Pool { waiting, idle, .. } = &mut self.pools[*pool];
        let behind = count.min(thread.next.len());
        for ticket in thread.next.drain(thread.next.len() - behind..).rev().flatten() {
            waiting.push_front(ticket);
        }
        // If one more was recalled than `next` holds, the first is the request of `duty`: it was not taken up either.
        let whole = first.filter(|_| count > behind);
        match thread.duty {
            Duty::Due(ticket, _) if whole.is_some() => {
                waiting.push_front(ticket);
                thread.duty = Duty::Idle;
                if matches!(state, State::Serving | State::Worn) {
                    idle.push(seat);
                }
                None
            }
            _ => whole,
        }
    }

    /// The client has left: the rest of the answer is read and dropped, up to its last frame.
    fn abandon(&mut self, seat: Seat, mut unsent: Vec<u8>, received: Received, reader: Reader, now: Instant) {
        let has_begun = self.recall_with_leased(seat).is_none();
        let Worker { threads, pool, .. } = &mut self.workers[seat.worker];
        let thread = &mut threads[seat.thread];
        match thread.duty {
            Duty::Idle => return,
            _ if !has_begun => return self.on_free(seat, received, now),
            _ => {}
        }
        // If the thread has taken up another request, it has finished this one, and a CANCEL would cancel the other. If
        // the CANCEL comes too late for this request, the empty slot makes the thread read and skip it.
        if thread.next.is_empty() {
            unsent.extend_from_slice(&frames::header(ToWorker::Cancel, 0, 0, 0));
            thread.inbox.push(None);
        }
        let until = now + self.pools[*pool].spec.timeout;
        thread.duty = Duty::Finishing { unsent, received, reader, until };
        watch(&self.poll, &thread.socket, seat.worker * STRIDE + seat.thread);
        self.changed = true;
        self.finish(seat, now);
    }

    /// Goes on with a request whose client has left, as far as one turn allows.
    pub(super) fn finish(&mut self, seat: Seat, now: Instant) {
        let thread = &mut self.workers[seat.worker].threads[seat.thread];
        match thread.finish_request() {
            DrainProgress::Free(received) => {
                unwatch(&self.poll, &*thread.socket);
                self.on_free(seat, received, now);
            }
            DrainProgress::Broken => self.mark_crashed(seat.worker, now),
            DrainProgress::Waiting => {}
            DrainProgress::More => self.changed = true,
        }
    }

    fn on_free(&mut self, seat: Seat, received: Received, now: Instant) {
        let worker = &mut self.workers[seat.worker];
        let index = worker.pool;
        self.pools[index].failures = 0;
        if let Some(left) = &mut worker.left {
            *left = left.saturating_sub(1);
            if *left == 0 && worker.state == State::Serving {
                worker.state = State::Worn;
                self.recall_all(seat.worker);
                self.start_missing(index, now);
            }
        }
        let worker = &mut self.workers[seat.worker];
        let thread = &mut worker.threads[seat.thread];
        match thread.next.pop_front() {
            Some(Some(ticket)) => {
                thread.duty = Duty::Due(ticket, received);
                self.woken.push(ticket);
            }
            Some(None) => self.abandon(seat, Vec::new(), received, Reader::default(), now),
            None => {
                thread.duty = Duty::Idle;
                match worker.state {
                    // Bytes after the last answer belong to no request: they would be taken for the next answer.
                    _ if !received.bytes.is_empty() => self.mark_crashed(seat.worker, now),
                    State::Starting | State::Serving | State::Worn => self.pools[index].idle.push(seat),
                    State::Retiring => self.retire(seat.worker, now),
                    State::Stuck { .. } if worker.is_idle() => worker.state = State::Ending { kill_at: now + DUMP },
                    State::Stuck { .. } | State::Ending { .. } | State::Crashed { .. } => {}
                }
            }
        }
        self.wake(index);
    }

    /// Marks the requests as lost that a thread has taken up after a request that it will not finish.
    pub(super) fn mark_lost(&mut self, seat: Seat) {
        let lost = std::mem::take(&mut self.thread(seat).next);
        self.lost.extend(lost.iter().flatten());
        self.woken.extend(lost.iter().flatten());
    }

    /// Removes a worker that has ended, once no session wants an answer that the worker sent before its end.
    pub(super) fn remove_if_done(&mut self, key: usize, now: Instant) {
        for thread in 0..self.workers[key].threads.len() {
            let seat = Seat { worker: key, thread };
            self.finish(seat, now);
            let thread = self.thread(seat);
            if let Duty::Finishing { .. } = thread.duty {
                thread.duty = Duty::Idle;
                self.mark_lost(seat);
            }
        }
        if self.stopping || !self.workers[key].is_awaited() {
            self.workers.remove(key);
        }
    }
}
