//! The event engine's sockets to upstreams. Each is registered once, edge-triggered, with a token of its own, for as
//! long as it is open. It is lent to one client at a time, or waits in the pool.
//!
//! ```text
//!  connect ─► lent to a client ──released──► idle in the pool ──taken──► lent
//!  lease ───►        └─broken─► closed         └─readable, old─► closed
//! ```
//! A worker's socket is leased from the supervisor for each request, and stays registered in between.
//! A link is closed in phase 3 only, or while it is idle: no event of this turn can reach a new link with the same key.

use crate::app::upstreams::{ConnectError, Reuse, Upstream};
use crate::driver::Connected;
use crate::engine::pool::Pool;
use crate::engine::{READ_CLOSED, READABLE, WRITABLE, upstream};
use crate::wsgi::frames::Reader;
use crate::wsgi::shared_supervisor::SharedSupervisor;
use crate::wsgi::supervisor::{Handback, Lease};
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use slab::Slab;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

#[derive(Debug)]
pub struct Link {
    pub socket: Arc<OwnedFd>,
    pub ready: u8,
    /// The id of its upstream, and the upstream's name.
    upstream: usize,
    name: String,
    /// The lease, if it is a worker's socket. Such a socket passes descriptors.
    pub lease: Option<Lease>,
    /// The client whose exchange it carries.
    owner: Option<usize>,
}

#[derive(Debug, Default)]
pub struct Links {
    links: Slab<Link>,
    pool: Pool<usize>,
}

impl Links {
    pub fn get_mut(&mut self, key: usize) -> &mut Link {
        &mut self.links[key]
    }

    pub fn get(&self, key: usize) -> &Link {
        &self.links[key]
    }

    /// Folds an event into the ready bits. Returns the client to be driven, if any.
    pub fn on_event(
        &mut self,
        key: usize,
        event: &Event,
        registry: &Registry,
        supervisor: Option<&SharedSupervisor>,
        now: Instant,
    ) -> Option<usize> {
        let link = self.links.get_mut(key)?;
        link.ready |= super::ready_bits(event);
        if link.owner.is_none() && link.ready & READABLE != 0 {
            // It was closed, or sent something without being asked: it cannot be used again.
            match (&link.lease, supervisor) {
                (Some(lease), Some(supervisor)) => supervisor.lock().on_unasked(lease, now),
                _ => drop(upstream::is_fit(&link.socket, &link.name)),
            }
            self.pool.retain(|idle| *idle != key);
            self.close(key, registry);
            return None;
        }
        link.owner
    }

    /// A connection to an upstream for a client: an idle one that is acceptable by `reuse`, else a new one.
    pub fn connect(
        &mut self,
        to: &Upstream,
        reuse: Reuse,
        client: usize,
        registry: &Registry,
        now: Instant,
    ) -> io::Result<(usize, Connected)> {
        while let Some(key) = self.pool.take(to.id, reuse, now) {
            if upstream::is_fit(&self.links[key].socket, &to.name) {
                self.links[key].owner = Some(client);
                return Ok((key, Connected::Reused));
            }
            self.close(key, registry);
        }
        let socket = Arc::new(upstream::connect(&to.address)?);
        let (upstream, name) = (to.id, to.name.clone());
        let key = self.add(Link { socket, ready: 0, upstream, name, lease: None, owner: Some(client) }, registry)?;
        Ok((key, Connected::New))
    }

    /// A worker's stream for a client.
    ///
    /// # Errors
    /// `Queued`: the client has to wait for a worker.
    pub fn lease(
        &mut self,
        pool: usize,
        client: usize,
        request: Option<&[u8]>,
        supervisor: &SharedSupervisor,
        registry: &Registry,
        now: Instant,
    ) -> Result<(usize, Connected), ConnectError> {
        let leased = supervisor.lock().lease(pool, client, request).granted()?;
        let (lease, received) = leased.ok_or(ConnectError::Queued)?;
        // A socket that has been leased before is registered already.
        let same = |link: &Link| link.lease.as_ref().is_some_and(|other| Arc::ptr_eq(&other.socket, &lease.socket));
        let known = self.links.iter_mut().find(|(_, link)| same(link)).map(|(key, link)| {
            link.owner = Some(client);
            key
        });
        self.disown(client, known, registry);
        let key = match known {
            Some(key) => key,
            None => {
                let (socket, kept, name) = (lease.socket.clone(), lease.clone(), String::new());
                let owner = Some(client);
                let link = Link { socket, ready: WRITABLE, upstream: pool, name, lease: Some(lease), owner };
                match self.add(link, registry) {
                    Ok(key) => key,
                    Err(error) => {
                        let unsent = Vec::new();
                        let busy = |received| Handback::Busy { unsent, received, reader: Reader::default() };
                        supervisor.lock().give_back(&kept, received.map_or(Handback::Unsent, busy), now);
                        return Err(error.into());
                    }
                }
            }
        };
        Ok((key, received.map_or(Connected::Reused, Connected::Sent)))
    }

    /// A client no longer waits for a worker.
    pub fn leave(&mut self, client: usize, supervisor: &SharedSupervisor, registry: &Registry, now: Instant) {
        self.disown(client, None, registry);
        supervisor.lock().leave(client, now);
    }

    /// Takes the client's name off all links except `key`: a link may have been reserved for a request of the client
    /// that another worker has now.
    fn disown(&mut self, client: usize, key: Option<usize>, registry: &Registry) {
        let stale = self.links.iter_mut().filter(|(other, link)| Some(*other) != key && link.owner == Some(client));
        let readable = stale.filter_map(|(key, link)| {
            link.owner = None;
            // Most likely it was closed. No other event will tell.
            (link.ready & READABLE != 0).then_some(key)
        });
        for key in readable.collect::<Vec<_>>() {
            self.close(key, registry);
        }
    }

    fn add(&mut self, link: Link, registry: &Registry) -> io::Result<usize> {
        let entry = self.links.vacant_entry();
        let (key, fd) = (entry.key(), link.socket.as_raw_fd());
        registry.register(&mut SourceFd(&fd), Token(key * 2 + 1), Interest::READABLE | Interest::WRITABLE)?;
        entry.insert(link);
        Ok(key)
    }

    /// Closes a link. It is deregistered first: the supervisor may hold the same socket, so that closing ours would not
    /// end the registration.
    fn close(&mut self, key: usize, registry: &Registry) {
        let link = self.links.remove(key);
        // It fails only if the socket is not registered.
        let _ = registry.deregister(&mut SourceFd(&link.socket.as_raw_fd()));
    }

    /// A client gives a link back.
    pub fn release(
        &mut self,
        key: usize,
        keep: bool,
        handback: Option<Handback>,
        supervisor: Option<&SharedSupervisor>,
        registry: &Registry,
        now: Instant,
    ) {
        let link = &mut self.links[key];
        link.owner = None;
        if let (Some(lease), Some(supervisor)) = (&link.lease, supervisor) {
            let handback = handback.unwrap_or(Handback::Broken);
            let is_free = matches!(handback, Handback::Free(_) | Handback::Unsent);
            link.owner = supervisor.lock().give_back(lease, handback, now);
            match link.owner {
                Some(_) => {}
                None if is_free && link.ready & READ_CLOSED == 0 => link.ready &= !READABLE,
                None => self.close(key, registry),
            }
            return;
        }
        // After a read that filled its room the bit is still set, whether or not there was more: look at the socket.
        let silent =
            link.ready & READ_CLOSED == 0 && (link.ready & READABLE == 0 || upstream::is_fit(&link.socket, &link.name));
        if !keep || !silent {
            return self.close(key, registry);
        }
        link.ready &= !READABLE;
        if let Some(surplus) = self.pool.put(link.upstream, key, now) {
            self.close(surplus, registry);
        }
    }

    pub fn next_expiry(&self) -> Option<Instant> {
        self.pool.next()
    }

    pub fn expire(&mut self, registry: &Registry, now: Instant) {
        while let Some(key) = self.pool.expire(now) {
            self.close(key, registry);
        }
    }
}
