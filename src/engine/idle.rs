//! Chooses the idle connection to close for a new client when the limit of connections is reached, or descriptors run
//! out.
//!
//! Only an idle connection is closed: it is between two requests, and no byte of the next request has arrived. The peer
//! with the most connections at that moment loses the one that has been idle the longest.
//!
//! Serving a request updates nothing here. When the limit is reached and a client waits, a pass over all connections
//! lists those to close, for this client and the next ones. Each call looks at one slice of the connections. After a
//! pass that found few, the next pass has to wait. So a flood of clients at the limit costs a bounded time per turn.

use crate::engine::accept::PAUSE;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long a connection must be idle before it may be closed. Within this time its next request may be on its way.
pub const LEAST_IDLE: Duration = Duration::from_millis(100);
/// Connections looked at in one call: about a millisecond when none of them is in the processor's cache.
const SLICE: usize = 16 * 1024;
/// Most connections that a pass lists. For each of them, a pass over 10,000 connections costs as much as one accept.
const LISTED: usize = 256;
/// How long a list is used: every new or closed connection changes how many a peer has.
const LIST_AGE: Duration = Duration::from_secs(1);

/// What the search knows of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub peer: IpAddr,
    /// When the connection became idle. `None` while it is not idle.
    pub idle_since: Option<Instant>,
}

/// The search for idle connections. Keys are those of a slab: after a connection has closed, its key may name another.
#[derive(Debug)]
pub struct IdleSearch {
    /// A connection that has been idle for less than this is left alone.
    least: Duration,
    /// In the current pass: the key that the next call begins with.
    cursor: usize,
    /// In the current pass: the number of connections of each peer so far.
    held: HashMap<IpAddr, usize>,
    /// In the current pass: the idle connections so far.
    idle: Vec<Listed>,
    /// The result of the last pass. The connection to close first is the last.
    listed: Vec<Listed>,
    /// When the last pass ended.
    listed_at: Option<Instant>,
    /// No pass begins before this time.
    next_pass: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Listed {
    key: usize,
    peer: IpAddr,
    since: Instant,
}

impl IdleSearch {
    pub fn new(least: Duration) -> IdleSearch {
        IdleSearch {
            least,
            cursor: 0,
            held: HashMap::new(),
            idle: Vec::new(),
            listed: Vec::new(),
            listed_at: None,
            next_pass: None,
        }
    }

    /// The key of the connection to close next. `None`: no connection may be closed, or the pass is not finished;
    /// `next` says when to call this again. All keys are below `end`. `look` returns the connection that has the key
    /// now.
    pub fn find(&mut self, now: Instant, end: usize, look: impl Fn(usize) -> Option<Seen>) -> Option<usize> {
        if self.listed_at.is_some_and(|at| at + LIST_AGE <= now) {
            self.listed.clear();
        }
        if let Some(key) = self.take_listed(&look) {
            return Some(key);
        }
        if self.next_pass.is_some_and(|next| next > now) {
            return None;
        }
        self.look_at_slice(now, end, &look);
        if self.cursor < end {
            return None;
        }
        self.finish_pass(now);
        self.take_listed(&look)
    }

    /// When to call `find` again. `None`: at once.
    pub fn next(&self) -> Option<Instant> {
        self.next_pass.filter(|_| self.listed.is_empty())
    }

    /// The next listed connection that is still idle since the time noted in the pass.
    fn take_listed(&mut self, look: impl Fn(usize) -> Option<Seen>) -> Option<usize> {
        while let Some(Listed { key, peer, since }) = self.listed.pop() {
            if look(key) == Some(Seen { peer, idle_since: Some(since) }) {
                return Some(key);
            }
        }
        None
    }

    fn look_at_slice(&mut self, now: Instant, end: usize, look: impl Fn(usize) -> Option<Seen>) {
        let until = end.min(self.cursor + SLICE);
        for key in self.cursor..until {
            let Some(Seen { peer, idle_since }) = look(key) else { continue };
            *self.held.entry(network(peer)).or_default() += 1;
            if let Some(since) = idle_since.filter(|since| *since + self.least <= now) {
                self.idle.push(Listed { key, peer, since });
            }
        }
        self.cursor = until;
    }

    /// Sorts the idle connections into the order in which to close them, and lists the first `LISTED`. The order
    /// assumes that each connection is closed before the next is chosen.
    fn finish_pass(&mut self, now: Instant) {
        self.idle.sort_unstable_by_key(|idle| idle.since);
        let mut ranked: Vec<(usize, usize)> = Vec::with_capacity(self.idle.len());
        for (age, idle) in self.idle.iter().enumerate() {
            let held = self.held.entry(network(idle.peer)).or_default();
            // A peer's longest idle connection is ranked by the peer's number of connections, the next by one less.
            ranked.push((*held, self.idle.len() - age));
            *held = held.saturating_sub(1);
        }
        let mut order: Vec<usize> = (0..ranked.len()).collect();
        if order.len() > LISTED {
            let behind = order.len() - LISTED;
            order.select_nth_unstable_by_key(behind, |&index| ranked[index]);
            order.drain(..behind);
        }
        order.sort_unstable_by_key(|&index| ranked[index]);
        self.listed = order.into_iter().map(|index| self.idle[index]).collect();
        // A full list means that there may be more: the next pass may begin as soon as the list is used up.
        self.next_pass = (self.listed.len() < LISTED).then_some(now + PAUSE);
        self.listed_at = Some(now);
        (self.cursor, self.held, self.idle) = (0, HashMap::new(), Vec::new());
    }
}

/// An IPv6 host can choose any address in its /64 (RFC 6177), so all of them count as one peer.
fn network(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => address.into(),
            None => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        },
    }
}

/// Whether the socket has no unread bytes. Closing a socket with unread bytes would reset the connection.
pub fn is_silent(socket: impl AsFd) -> bool {
    !matches!(recv(socket, &mut [0_u8], RecvFlags::PEEK | RecvFlags::DONTWAIT), Ok((1.., _)) | Err(Errno::INTR))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// The connections of an engine, by key, and a clock.
    struct Table {
        now: Instant,
        rows: Vec<Option<Seen>>,
        looks: Cell<usize>,
    }

    impl Table {
        fn new() -> Table {
            Table { now: Instant::now() + Duration::from_secs(1000), rows: Vec::new(), looks: Cell::new(0) }
        }

        fn add(&mut self, peer: &str, idle: Option<u64>) {
            let idle_since = idle.map(|seconds| self.now - Duration::from_secs(seconds));
            self.rows.push(Some(Seen { peer: peer.parse().unwrap(), idle_since }));
        }

        fn find(&self, search: &mut IdleSearch) -> Option<usize> {
            search.find(self.now, self.rows.len(), |key| {
                self.looks.set(self.looks.get() + 1);
                self.rows[key]
            })
        }

        /// Closes each connection that `find` returns, until it returns `None`. Returns their keys.
        fn closed(&mut self, search: &mut IdleSearch) -> Vec<usize> {
            let mut closed = Vec::new();
            while let Some(key) = self.find(search) {
                self.rows[key] = None;
                closed.push(key);
            }
            closed
        }
    }

    #[test]
    fn the_peer_that_holds_the_most_gives_way_first_and_then_the_longest_idle() {
        let mut table = Table::new();
        table.add("10.0.0.1", Some(500));
        for idle in [10, 30, 20] {
            table.add("10.0.0.2", Some(idle));
        }
        table.add("10.0.0.3", Some(40));
        // Busy connections count for their peer and are not closed.
        table.add("10.0.0.3", None);
        table.add("10.0.0.3", None);
        let closed = table.closed(&mut IdleSearch::new(LEAST_IDLE));
        // The peers .2 and .3 hold 3 each: the longest idle connection (4) goes first. Then .2 holds the most (2). Then
        // .2 and .3 hold 2 each, and only .2 has idle ones (3). Then 1 each is left of .1 and .2: the longest idle (0).
        assert_eq!(closed, [4, 2, 3, 0, 1]);
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_peer() {
        let mut table = Table::new();
        table.add("192.0.2.1", Some(90));
        table.add("::ffff:192.0.2.2", Some(80));
        table.add("2001:db8::1", Some(20));
        table.add("2001:db8::ffff:2", Some(30));
        assert_eq!(table.closed(&mut IdleSearch::new(LEAST_IDLE)), [3, 0, 1, 2]);
    }

    #[test]
    fn what_became_busy_or_another_connection_since_is_left_alone() {
        let mut table = Table::new();
        for idle in [40, 30, 20, 10] {
            table.add("10.0.0.1", Some(idle));
        }
        let mut search = IdleSearch::new(LEAST_IDLE);
        assert_eq!(table.find(&mut search), Some(0));
        let (now, seen) = (table.now, table.rows[1].unwrap());
        table.rows[0] = None;
        table.rows[1] = Some(Seen { idle_since: None, ..seen });
        table.rows[2] = Some(Seen { idle_since: Some(now), ..seen });
        assert_eq!(table.closed(&mut search), [3]);
        // The next pass finds the connections that are idle at that time.
        assert_eq!(search.next(), Some(now + PAUSE));
        table.now += PAUSE;
        assert_eq!(table.closed(&mut search), [2]);
    }

    #[test]
    fn a_connection_that_is_idle_for_a_moment_only_is_left_alone() {
        let mut table = Table::new();
        table.add("10.0.0.1", Some(0));
        let mut search = IdleSearch::new(LEAST_IDLE);
        assert_eq!(table.find(&mut search), None);
        table.now += LEAST_IDLE;
        assert_eq!(table.find(&mut search), Some(0));
    }

    #[test]
    fn the_work_of_a_call_is_bounded_however_many_connections_there_are() {
        let mut table = Table::new();
        for _ in 0..3 * SLICE {
            table.add("10.0.0.1", None);
        }
        let mut search = IdleSearch::new(LEAST_IDLE);
        for _ in 0..10 {
            table.looks.set(0);
            assert_eq!(table.find(&mut search), None);
            assert!(table.looks.get() <= SLICE, "{}", table.looks.get());
        }
        // Three calls were a pass, and for the rest of the moment there is no other.
        assert_eq!(table.looks.get(), 0);
        assert!(search.next().is_some());
    }

    #[test]
    fn a_flood_of_clients_costs_each_a_small_part_of_a_pass() {
        let mut table = Table::new();
        for idle in 0..10_000 {
            table.add("10.0.0.1", Some(idle % 900 + 1));
        }
        let mut search = IdleSearch::new(LEAST_IDLE);
        for _ in 0..1000 {
            let key = table.find(&mut search).unwrap();
            let seen = table.rows[key].unwrap();
            table.rows[key] = Some(Seen { idle_since: Some(table.now), ..seen });
        }
        assert!(table.looks.get() < 1000 * 60, "{} looks", table.looks.get());
    }
}
