//! Who gets which thread, in the order in which they asked; and how each is given back.
//!
//! ```text
//!            lease: a thread is idle                        answered: give_back
//!  (asked) ─────────────────────────► Leased ──────────────────────────────────► Idle
//!     │ none is                          │ the client has left                     ▲
//!     ├──► in an inbox ──its turn──► Due ──┤ lease                                    │
//!     │     ▲ │ recall            lease  ▼                                         │
//!     └──► waiting                    Finishing ──────── its last word ─────────────┘
//! ```
//! A thread that is busy has its next requests in its inbox, so that it need not wait for us between two of them. What lies
//! there has not begun: when its client leaves, its thread is in trouble, or another thread is idle, it is recalled and
//! waits as before. What was taken up is bound to the thread, and its turn comes when the one before it is through.

use crate::wsgi::frames::{self, HEADER, Reader, ToWorker};
use crate::wsgi::inbox::{DEPTH, Recalled};
use crate::wsgi::pool::Pool;
use crate::wsgi::supervisor::{Handback, Lease, Leased, Received, STRIDE, Seat, Supervisor, Ticket};
use crate::wsgi::watch::{unwatch, watch};
use crate::wsgi::worker::{Duty, State, Went, Worker};
use rustix::net::SendFlags;
use std::time::Instant;

impl Supervisor {
    /// A free thread of the pool for `ticket`, in the order in which they asked. `request`: all of it, if it is known.
    pub fn lease(&mut self, pool: usize, ticket: Ticket, request: Option<&[u8]>) -> Leased {
        if let Some(leased) = self.claim(pool, ticket) {
            return leased;
        }
        let (behind, roomiest) = self.inboxes(pool);
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

    /// Lays a request in the inbox of a thread that is busy; whether there is one with room, and it is small enough.
    fn push_behind(&mut self, seat: Option<Seat>, ticket: Ticket, request: Option<&[u8]>) -> bool {
        let (Some(seat), Some(request)) = (seat, request) else { return false };
        let busy = self.thread(seat);
        let is_pushed = busy.inbox.push(Some(request));
        busy.next.extend(is_pushed.then_some(Some(ticket)));
        is_pushed
    }

    /// Lets a thread that is idle begin: with the request, or with what is to come over its stream.
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

    /// What became of a request that was laid in an inbox; `None` when it was not.
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

    /// How many requests are bound to threads behind others, and the thread with the most room for one more.
    fn inboxes(&self, pool: usize) -> (usize, Option<Seat>) {
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

    /// The ticket waits no longer, wherever it does.
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
                // One that was taken up will be answered, for nobody.
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

    /// The thread is through with a request, or its client is with it. Whose turn it is now, if there is one.
    pub fn give_back(&mut self, lease: &Lease, handback: Handback, now: Instant) -> Option<Ticket> {
        // It may have ended meanwhile, and its place been given to another.
        let seat = lease.seat;
        let worker = self.workers.get(seat.worker).filter(|worker| worker.process.pid() == lease.pid)?;
        self.changed |= !matches!(handback, Handback::Free(_)) || worker.ended.is_some();
        match handback {
            Handback::Unsent => {
                // It may be waiting for a frame by now; this one it passes over.
                let cancel = frames::header(ToWorker::Cancel, 0, 0, 0);
                match rustix::net::send(&*lease.socket, &cancel, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                    Ok(HEADER) => self.on_free(seat, Received::default(), now),
                    _ => self.doom(seat.worker, now),
                }
            }
            Handback::Free(received) => self.on_free(seat, received, now),
            Handback::Busy { unsent, received, reader } => {
                self.abandon(seat, unsent, received, reader, now);
            }
            Handback::NotBegun | Handback::Broken => {
                let duty = std::mem::replace(&mut self.thread(seat).duty, Duty::Idle);
                self.doom(seat.worker, now);
                self.lose(seat);
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

    /// A thread has closed its stream before it said anything about the request that it was given: whether that
    /// still lies in its inbox, so that it has not begun.
    pub fn has_not_begun(&mut self, lease: &Lease) -> bool {
        let worker = self.workers.get(lease.seat.worker).filter(|worker| worker.process.pid() == lease.pid);
        worker.is_some() && self.take_back(lease.seat).is_some()
    }

    /// A thread has said something that nobody has asked for, or has closed its socket.
    pub fn on_unasked(&mut self, lease: &Lease, now: Instant) {
        let Some(worker) = self.workers.get(lease.seat.worker).filter(|worker| worker.process.pid() == lease.pid)
        else {
            return;
        };
        let is_idle = matches!(worker.threads[lease.seat.thread].duty, Duty::Idle);
        if is_idle && matches!(worker.state, State::Serving | State::Worn) {
            self.changed = true;
            self.doom(lease.seat.worker, now);
        }
    }

    /// Tickets that are worth another `lease`.
    pub fn take_woken(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.woken)
    }

    /// Wakes who is first in the queue if there may be a thread for it. A thread that is idle while nobody waits helps
    /// the one with the most to do.
    pub(super) fn wake(&mut self, pool: usize) {
        let (behind, roomiest) = self.inboxes(pool);
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

    /// What a thread has not taken up waits again, before all others; but for the one that it is leased for. One whose
    /// lease is over is not begun with any more.
    fn recall(&mut self, seat: Seat) {
        let request = self.take_back(seat);
        let thread = self.thread(seat);
        if let (Some(request), Duty::Leased(_)) = (request, &thread.duty) {
            thread.inbox.push(Some(&request));
        }
    }

    /// The same, and the one that it is leased for, if that is among them, is its session's to send again.
    fn take_back(&mut self, seat: Seat) -> Option<Vec<u8>> {
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
        // There was one more than those behind the one whose turn it is.
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

    /// The client has left. What its thread still says about the request is for nobody, until its last word.
    fn abandon(&mut self, seat: Seat, mut unsent: Vec<u8>, received: Received, reader: Reader, now: Instant) {
        let has_begun = self.take_back(seat).is_none();
        let Worker { threads, pool, .. } = &mut self.workers[seat.worker];
        let thread = &mut threads[seat.thread];
        match thread.duty {
            Duty::Idle => return,
            _ if !has_begun => return self.on_free(seat, received, now),
            _ => {}
        }
        // With another taken up behind it, it is through with this one, and the other is not to be cancelled.
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

    /// Goes on with a request whose client has left, until the thread is free.
    pub(super) fn finish(&mut self, seat: Seat, now: Instant) {
        let thread = &mut self.workers[seat.worker].threads[seat.thread];
        match thread.go_on() {
            Went::Free(received) => {
                unwatch(&self.poll, &*thread.socket);
                self.on_free(seat, received, now);
            }
            Went::Broken => self.doom(seat.worker, now),
            Went::Waiting => {}
            Went::More => self.changed = true,
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
                self.fill(index, now);
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
                    // It would be taken for the next answer.
                    _ if !received.bytes.is_empty() => self.doom(seat.worker, now),
                    State::Starting | State::Serving | State::Worn => self.pools[index].idle.push(seat),
                    State::Retiring => self.retire(seat.worker, now),
                    State::Doomed { .. } if worker.is_idle() => worker.state = State::Doomed { kill_at: now },
                    State::Doomed { .. } | State::Crashed { .. } => {}
                }
            }
        }
        self.wake(index);
    }

    /// What a thread has taken up behind a request that it will not end.
    pub(super) fn lose(&mut self, seat: Seat) {
        let lost = std::mem::take(&mut self.thread(seat).next);
        self.lost.extend(lost.iter().flatten());
        self.woken.extend(lost.iter().flatten());
    }

    /// Forgets a worker that has ended, once nobody can come for an answer that it gave before.
    pub(super) fn bury(&mut self, key: usize, now: Instant) {
        for thread in 0..self.workers[key].threads.len() {
            let seat = Seat { worker: key, thread };
            self.finish(seat, now);
            let thread = self.thread(seat);
            if let Duty::Finishing { .. } = thread.duty {
                thread.duty = Duty::Idle;
                self.lose(seat);
            }
        }
        if self.stopping || !self.workers[key].is_awaited() {
            self.workers.remove(key);
        }
    }
}
