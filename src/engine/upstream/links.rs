//! The event engine's sockets to upstreams. Each is registered once, edge-triggered, with its own token, for as long as
//! it is open. A link is lent to one client at a time, or waits in the pool.
//!
//! ```text
//!  connect ─► lent to a client ──released──► idle in the pool ──taken──► lent
//!  lease ───►        └─broken─► closed         └─readable, old─► closed
//! ```
//! The socket of a Python worker is leased for each request, and stays registered between two leases.
//! A link is added only in phase 3 of a turn, after all events are folded. So no event can reach a newer link with the
//! same key.

use crate::app::upstreams::{ConnectError, Reuse, Upstream};
use crate::driver::{Connected, Handback};
use crate::engine::python::{GivenBack, Workers};
use crate::engine::socket::{READ_CLOSED, READABLE, WRITABLE, ready_bits};
use crate::engine::upstream::pool::UpstreamPool;
use crate::engine::upstream::socket::{UpstreamConnection, UpstreamSocket};
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use slab::Slab;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

#[derive(Debug)]
pub struct Link<'a> {
    pub socket: UpstreamSocket<'a>,
    pub ready: u8,
    /// The client whose exchange it carries.
    owner: Option<usize>,
}

#[derive(Debug, Default)]
pub struct Links<'a> {
    links: Slab<Link<'a>>,
    pool: UpstreamPool<usize>,
}

impl Link<'_> {
    fn is_fit(&self) -> bool {
        matches!(&self.socket, UpstreamSocket::Opened(connection) if connection.is_fit())
    }
}

impl<'a> Links<'a> {
    pub fn get_mut(&mut self, key: usize) -> &mut Link<'a> {
        &mut self.links[key]
    }

    pub fn get(&self, key: usize) -> &Link<'a> {
        &self.links[key]
    }

    /// Folds an event into the ready bits. Returns the client to be driven, if any.
    pub fn on_event(&mut self, key: usize, event: &Event, registry: &Registry, now: Instant) -> Option<usize> {
        let link = self.links.get_mut(key)?;
        link.ready |= ready_bits(event);
        if link.owner.is_none() && link.ready & READABLE != 0 {
            // The upstream closed the connection, or sent bytes without a request: do not use it again.
            match &link.socket {
                UpstreamSocket::Leased(socket) => socket.on_unasked(now),
                // Called only for its log line.
                UpstreamSocket::Opened(connection) => drop(connection.is_fit()),
            }
            self.pool.retain(|idle| *idle != key);
            self.close(key, registry);
            return None;
        }
        link.owner
    }

    /// Gets a connection to an upstream for a client: an idle one if `reuse` allows it, else a new one.
    pub fn connect(
        &mut self,
        to: &Upstream,
        reuse: Reuse,
        client: usize,
        registry: &Registry,
        now: Instant,
    ) -> io::Result<(usize, Connected)> {
        while let Some(key) = self.pool.take(to.id, reuse, now) {
            if self.links[key].is_fit() {
                self.links[key].owner = Some(client);
                return Ok((key, Connected::Reused));
            }
            self.close(key, registry);
        }
        let socket = UpstreamSocket::Opened(UpstreamConnection::open(to)?);
        let key = self.add(Link { socket, ready: 0, owner: Some(client) }, registry)?;
        Ok((key, Connected::New))
    }

    /// Gets a socket to a worker of this pool for a client.
    ///
    /// # Errors
    /// As in `Workers::lease`.
    pub fn lease(
        &mut self,
        pool: usize,
        client: usize,
        request: Option<&[u8]>,
        workers: Workers<'a>,
        registry: &Registry,
        now: Instant,
    ) -> Result<(usize, Connected), ConnectError> {
        let (leased, connected) = workers.lease(pool, client, request)?;
        // A socket that has been leased before is registered already.
        let same = |link: &Link| matches!(&link.socket, UpstreamSocket::Leased(other) if other.is_same(&leased));
        let known = self.links.iter_mut().find(|(_, link)| same(link)).map(|(key, link)| {
            link.owner = Some(client);
            key
        });
        self.disown(client, known, registry);
        if let Some(key) = known {
            return Ok((key, connected));
        }
        let socket = UpstreamSocket::Leased(leased.clone());
        match self.add(Link { socket, ready: WRITABLE, owner: Some(client) }, registry) {
            Ok(key) => Ok((key, connected)),
            Err(error) => {
                leased.give_back_unused(connected, now);
                Err(error.into())
            }
        }
    }

    /// A client no longer waits for a worker.
    pub fn leave(&mut self, client: usize, workers: Workers<'_>, registry: &Registry, now: Instant) {
        self.disown(client, None, registry);
        workers.leave(client, now);
    }

    /// Makes the client the owner of no link except `key`. It may still own a link to the worker that first had its
    /// request, if another worker has the request now.
    fn disown(&mut self, client: usize, key: Option<usize>, registry: &Registry) {
        let stale = self.links.iter_mut().filter(|(other, link)| Some(*other) != key && link.owner == Some(client));
        let readable = stale.filter_map(|(key, link)| {
            link.owner = None;
            // Most likely the worker closed it. The edge has passed, so no other event will come.
            (link.ready & READABLE != 0).then_some(key)
        });
        for key in readable.collect::<Vec<_>>() {
            self.close(key, registry);
        }
    }

    fn add(&mut self, link: Link<'a>, registry: &Registry) -> io::Result<usize> {
        let entry = self.links.vacant_entry();
        let (key, fd) = (entry.key(), link.socket.as_fd().as_raw_fd());
        registry.register(&mut SourceFd(&fd), Token(key * 2 + 1), Interest::READABLE | Interest::WRITABLE)?;
        entry.insert(link);
        Ok(key)
    }

    /// Closes a link. It is deregistered first: if the supervisor holds the same socket, dropping ours does not end the
    /// registration.
    fn close(&mut self, key: usize, registry: &Registry) {
        let link = self.links.remove(key);
        // Fails only if the socket is not registered.
        let _ = registry.deregister(&mut SourceFd(&link.socket.as_fd().as_raw_fd()));
    }

    /// A client gives a link back.
    pub fn release(&mut self, key: usize, keep: bool, handback: Option<Handback>, registry: &Registry, now: Instant) {
        let link = &mut self.links[key];
        link.owner = None;
        let connection = match &link.socket {
            UpstreamSocket::Opened(connection) => connection,
            UpstreamSocket::Leased(socket) => {
                return match socket.give_back(handback, now) {
                    GivenBack::Next(client) => link.owner = Some(client),
                    GivenBack::Idle if link.ready & READ_CLOSED == 0 => link.ready &= !READABLE,
                    GivenBack::Idle | GivenBack::Closed => self.close(key, registry),
                };
            }
        };
        // After a read that filled the buffer the bit is still set, even if no bytes are left: ask the socket.
        let is_silent = link.ready & READ_CLOSED == 0 && (link.ready & READABLE == 0 || connection.is_fit());
        if !keep || !is_silent {
            return self.close(key, registry);
        }
        let upstream = connection.upstream;
        link.ready &= !READABLE;
        if let Some(surplus) = self.pool.put(upstream, key, now) {
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
