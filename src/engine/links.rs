//! The event engine's sockets to upstreams: each registered once, edge-triggered, with a token of its own,
//! for as long as it lives. It is lent to one connection at a time, or waits in the pool.
//!
//! ```text
//!  connect ─► lent to a client ──released──► idle in the pool ──taken──► lent
//!  adopt ───►   ▲    └─broken─► closed         └─readable, old─► closed
//!  (worker)     └── given to who waits longest, in the order of asking
//! ```
//! A link is closed in phase 3 only, or when it is idle: no event of this turn can be for its successor.

use crate::app::upstreams::{Address, Upstream};
use crate::driver::Connected;
use crate::engine::pool::Pool;
use crate::engine::{READ_CLOSED, READABLE, WRITABLE, upstream};
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use slab::Slab;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

#[derive(Debug)]
pub struct Link {
    pub socket: OwnedFd,
    pub ready: u8,
    /// The upstream it leads to.
    upstream: usize,
    /// Whether it is the end of a worker's channel: descriptors come over it, and none is opened anew.
    pub worker: bool,
    /// The client whose exchange it carries.
    owner: Option<usize>,
}

#[derive(Debug, Default)]
pub struct Links {
    links: Slab<Link>,
    pool: Pool<usize>,
    /// Clients that wait for a connection, and to which upstream.
    waiting: VecDeque<(usize, usize)>,
    /// Who has been given one: client and link.
    given: Vec<(usize, usize)>,
}

impl Links {
    pub fn get_mut(&mut self, key: usize) -> &mut Link {
        &mut self.links[key]
    }

    pub fn get(&self, key: usize) -> &Link {
        &self.links[key]
    }

    /// Folds an event; the client that is to be driven for it.
    pub fn on_event(&mut self, key: usize, event: &Event) -> Option<usize> {
        let link = self.links.get_mut(key)?;
        link.ready |= super::ready_bits(event);
        if link.owner.is_none() && link.ready & READABLE != 0 {
            // Closed, or it speaks without being asked: either way nobody's.
            self.pool.retain(|idle| *idle != key);
            self.links.remove(key);
            return None;
        }
        link.owner
    }

    /// A connection to an upstream for a client: one that is idle unless `fresh`, else a new one.
    pub fn connect(
        &mut self,
        to: &Upstream,
        fresh: bool,
        client: usize,
        registry: &Registry,
    ) -> io::Result<(usize, Connected)> {
        while let Some(key) = self.pool.take(to.id).filter(|_| !fresh || to.address == Address::Worker) {
            if upstream::is_fit(&self.links[key].socket) {
                self.links[key].owner = Some(client);
                return Ok((key, Connected::Reused));
            }
            self.links.remove(key);
        }
        if to.address == Address::Worker {
            self.waiting.push_back((client, to.id));
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let socket = upstream::connect(&to.address)?;
        let key = self.add(to.id, socket, false, registry)?;
        self.links[key].owner = Some(client);
        Ok((key, Connected::New))
    }

    /// Takes a worker's channel in; whoever waits for one has it at once.
    pub fn adopt(&mut self, upstream: usize, socket: OwnedFd, registry: &Registry, now: Instant) -> io::Result<()> {
        let key = self.add(upstream, socket, true, registry)?;
        self.offer(key, now);
        Ok(())
    }

    fn add(&mut self, upstream: usize, socket: OwnedFd, worker: bool, registry: &Registry) -> io::Result<usize> {
        let link = Link { socket, ready: 0, upstream, worker, owner: None };
        let entry = self.links.vacant_entry();
        let (key, fd) = (entry.key(), link.socket.as_raw_fd());
        registry.register(&mut SourceFd(&fd), Token(key * 2 + 1), Interest::READABLE | Interest::WRITABLE)?;
        entry.insert(link);
        // A worker's channel can be written from the start; of another the first event says so.
        self.links[key].ready = if worker { WRITABLE } else { 0 };
        Ok(key)
    }

    /// A client is done with a link.
    pub fn release(&mut self, key: usize, keep: bool, now: Instant) {
        let link = &mut self.links[key];
        link.owner = None;
        // A read that filled its room left the bit, whether or not more was there.
        let silent = link.ready & READ_CLOSED == 0 && (link.ready & READABLE == 0 || upstream::is_fit(&link.socket));
        if !keep || !silent {
            self.links.remove(key);
            return;
        }
        link.ready &= !READABLE;
        self.offer(key, now);
    }

    /// Gives a free link to who waits longest for its upstream, or to the pool.
    fn offer(&mut self, key: usize, now: Instant) {
        let upstream = self.links[key].upstream;
        let next = self.waiting.iter().position(|(_, wanted)| *wanted == upstream);
        if let Some((client, _)) = next.and_then(|at| self.waiting.remove(at)) {
            self.links[key].owner = Some(client);
            self.given.push((client, key));
        } else if self.links[key].worker {
            self.pool.put_worker(upstream, key);
        } else if let Some(surplus) = self.pool.put(upstream, key, now) {
            self.links.remove(surplus);
        }
    }

    /// The next who was given a link while others were driven: client and link.
    pub fn take_given(&mut self) -> Option<(usize, usize)> {
        self.given.pop()
    }

    /// A client waits for nothing any more; what it was given meanwhile goes to the next.
    pub fn forget(&mut self, client: usize, now: Instant) {
        self.waiting.retain(|(waiting, _)| *waiting != client);
        if let Some(at) = self.given.iter().position(|(given, _)| *given == client) {
            let (_, key) = self.given.remove(at);
            self.release(key, true, now);
        }
    }

    pub fn next_expiry(&self) -> Option<Instant> {
        self.pool.next()
    }

    pub fn expire(&mut self, now: Instant) {
        while let Some(key) = self.pool.expire(now) {
            self.links.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::Poll;
    use std::os::unix::net::UnixStream;

    #[test]
    fn workers_go_to_who_waits_longest() {
        let (poll, now) = (Poll::new().unwrap(), Instant::now());
        let (registry, mut links) = (poll.registry(), Links::default());
        let worker = Upstream::new(7, "app".into(), Address::Worker);
        let (ours, _theirs) = UnixStream::pair().unwrap();
        for client in [1, 2, 3, 4] {
            let queued = links.connect(&worker, false, client, registry);
            assert_eq!(queued.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
        links.forget(2, now);
        links.adopt(7, ours.into(), registry, now).unwrap();
        let (client, key) = links.take_given().unwrap();
        assert_eq!((client, links.take_given()), (1, None));
        // Given, and gone before it could be used: the next has it.
        links.release(key, true, now);
        links.forget(3, now);
        assert_eq!(links.take_given(), Some((4, key)));
        links.release(key, true, now);
        assert_eq!(links.connect(&worker, true, 5, registry).unwrap(), (key, Connected::Reused));
        assert_eq!(links.next_expiry(), None, "a worker stays");
    }

    #[test]
    fn a_worker_that_has_gone_is_not_given() {
        let (poll, now) = (Poll::new().unwrap(), Instant::now());
        let mut links = Links::default();
        let worker = Upstream::new(0, "app".into(), Address::Worker);
        let (ours, theirs) = UnixStream::pair().unwrap();
        links.adopt(0, ours.into(), poll.registry(), now).unwrap();
        drop(theirs);
        assert!(links.connect(&worker, false, 1, poll.registry()).is_err());
    }
}
