//! The upstreams that requests can be forwarded to: groups of equal upstreams, and the choice of the next one in a
//! group. There are no sockets here: an engine opens them, and knows an upstream by its `id`.
//! An upstream has one address. The host name of a URL may have several addresses: then each is an upstream of its own.
//! They come and go as the name is looked up again (`names`).
//!
//! The next upstream is the healthy one with the fewest requests in flight; if several have equally few, they take
//! turns. Health is passive: an upstream that could not be reached, or gave no answer, is avoided for `PENALTY`, unless
//! all others are ailing too. Then one request tries it, and the others avoid it until that request is answered.
//!
//! ```text
//!  well ──no connection, no answer──► ailing ──PENALTY over: picked──► ailing, with one request on its way
//!    ▲                                  ▲└──────────────────────────────────────────────────┤
//!    └────────────an answer─────────────┴──────────no answer────────────────────────────────┘
//! ```

pub mod names;

use crate::app::body::temporary::SpoolAccount;
use crate::app::upstreams::names::HostName;
use crate::sync::{self, lock};
use crate::wsgi::supervisor::LeaseError;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How long a failed upstream is avoided: long enough that it delays few requests, short enough that a restart is soon
/// noticed.
const PENALTY: Duration = Duration::from_secs(5);

/// Where an upstream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// A worker process of this pool, started by the server: its sockets are leased from the supervisor, not opened.
    Worker(usize),
}

/// Which idle connections are acceptable for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    Any,
    /// Only those that have been idle for a short time. Servers that close idle connections wait longer, so that the
    /// connection is not closed while the request is on its way. For requests that must not be repeated.
    Recent,
    /// None, since an idle connection has just turned out to be closed.
    Nothing,
}

#[derive(Debug)]
pub struct Upstream {
    /// Different for every upstream of the server, from 0.
    pub id: usize,
    /// As the user wrote it. For the log.
    pub name: String,
    pub address: Address,
    /// The name whose lookup gave its address, if any.
    host: Option<HostName>,
    in_flight: AtomicUsize,
    ailing_until: Mutex<Option<Instant>>,
}

impl Upstream {
    pub fn new(id: usize, name: String, address: Address) -> Upstream {
        let (in_flight, ailing_until) = (AtomicUsize::new(0), Mutex::new(None));
        Upstream { id, name, address, host: None, in_flight, ailing_until }
    }

    /// An upstream for one of the addresses of a name.
    fn found(host: &HostName, address: SocketAddr) -> Upstream {
        let (id, name) = (host.new_id(), format!("{} ({address})", host.text()));
        Upstream { host: Some(host.clone()), ..Upstream::new(id, name, Address::Tcp(address)) }
    }

    /// Call this when the upstream could not be reached, or gave no answer. Has its name looked up again, because the
    /// address may have changed.
    pub fn on_failed(&self, now: Instant) {
        *self.ailing_until() = Some(now + PENALTY);
        if let Some(host) = &self.host {
            host.ask(now);
        }
    }

    /// Call this when the upstream has begun to answer.
    pub fn on_answer(&self) {
        if self.ailing_until().take().is_some() {
            log::info!("upstream {}: answers again", self.name);
        }
    }

    fn is_ailing(&self, now: Instant) -> bool {
        self.ailing_until().is_some_and(|until| until > now)
    }

    /// Call this when the upstream is chosen for a request.
    fn on_picked(&self, now: Instant) {
        let mut until = self.ailing_until();
        if until.is_some() {
            // This request shows whether the upstream is well. The others avoid it until then.
            *until = Some(now + PENALTY);
        }
    }

    fn ailing_until(&self) -> MutexGuard<'_, Option<Instant>> {
        sync::lock(&self.ailing_until)
    }
}

/// Why an exchange has no socket to its upstream.
#[derive(Debug)]
pub enum ConnectError {
    /// No worker is free: the request waits in the queue.
    Queued,
    Lease(LeaseError),
    Io(io::Error),
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> ConnectError {
        ConnectError::Io(error)
    }
}

impl From<LeaseError> for ConnectError {
    fn from(error: LeaseError) -> ConnectError {
        ConnectError::Lease(error)
    }
}

/// Equal upstreams, and how long a request waits for one of them.
#[derive(Debug)]
pub struct Group {
    members: Mutex<Members>,
    /// The host names of its upstreams.
    hosts: Vec<HostName>,
    /// How long getting a connection may take.
    pub connect_timeout: Duration,
    /// How long an upstream may be silent.
    pub timeout: Duration,
    /// Counts the temporary files of requests and answers that are under way.
    pub spool: Arc<SpoolAccount>,
    /// Counts requests, so that the search begins at another upstream each time.
    turn: AtomicUsize,
}

#[derive(Debug)]
struct Members {
    all: Vec<Member>,
    /// The generation of the host names that `all` was made from.
    generation: usize,
}

#[derive(Debug)]
struct Member {
    upstream: Arc<Upstream>,
    /// Whether it is used only while the others are ailing.
    is_spare: bool,
}

impl Group {
    pub fn new(
        upstreams: Vec<Arc<Upstream>>,
        connect_timeout: Duration,
        timeout: Duration,
        spool: &Arc<SpoolAccount>,
    ) -> Group {
        let all = upstreams.into_iter().map(|upstream| Member { upstream, is_spare: false }).collect();
        let members = Mutex::new(Members { all, generation: 0 });
        let (hosts, turn) = (Vec::new(), AtomicUsize::new(0));
        Group { members, hosts, connect_timeout, timeout, spool: spool.clone(), turn }
    }

    /// Adds an upstream for each address of these names. The addresses are updated whenever an upstream is picked.
    pub fn with_hosts(self, hosts: Vec<HostName>) -> Group {
        Group { hosts, ..self }
    }

    /// The next upstream that is not in `tried`; `None` if all have been tried, or no address is known.
    pub fn pick(&self, now: Instant, tried: &[usize]) -> Option<InFlight> {
        let mut members = lock(&self.members);
        members.follow(&self.hosts);
        let (all, count) = (&members.all, members.all.len());
        let turn = if count > 1 { self.turn.fetch_add(1, Ordering::Relaxed) } else { 0 };
        // Begins at another upstream each time: `min_by_key` takes the first of equals.
        let in_turn = (0..count).map(|offset| &all[(turn + offset) % count]);
        let untried = in_turn.filter(|member| !tried.contains(&member.upstream.id));
        let load = |upstream: &Upstream| upstream.in_flight.load(Ordering::Relaxed);
        let next = untried
            .min_by_key(|member| (member.upstream.is_ailing(now), member.is_spare, load(&member.upstream)))
            .map(|member| member.upstream.clone());
        let Some(next) = next else {
            self.hosts.iter().filter(|_| tried.is_empty()).for_each(|host| host.ask(now));
            return None;
        };
        next.in_flight.fetch_add(1, Ordering::Relaxed);
        next.on_picked(now);
        let of_host = |member: &&Member| member.upstream.host == next.host;
        let addresses = if next.host.is_some() { all.iter().filter(of_host).count() as u32 } else { 1 };
        Some(InFlight { upstream: next, addresses })
    }
}

impl Members {
    /// Takes over the present addresses of the names. An address that stays keeps its upstream, with its health and its
    /// idle connections.
    fn follow(&mut self, hosts: &[HostName]) {
        let Some(generation) = hosts.first().map(HostName::generation).filter(|now| *now != self.generation) else {
            return;
        };
        self.generation = generation;
        for host in hosts {
            let addresses = host.addresses();
            let is_of = |member: &Member| member.upstream.host.as_ref() == Some(host);
            let is_at = |member: &Member, address: &SocketAddr| member.upstream.address == Address::Tcp(*address);
            self.all.retain(|member| !is_of(member) || addresses.iter().any(|address| is_at(member, address)));
            // Addresses of both kinds belong to one server, as with localhost. Most servers listen on IPv4.
            let has_ipv4 = addresses.iter().any(SocketAddr::is_ipv4);
            for address in &addresses {
                let is_spare = has_ipv4 && address.is_ipv6();
                match self.all.iter_mut().find(|member| is_of(member) && is_at(member, address)) {
                    Some(member) => member.is_spare = is_spare,
                    None => self.all.push(Member { upstream: Arc::new(Upstream::found(host, *address)), is_spare }),
                }
            }
        }
    }
}

/// An exchange with an upstream, counted as in flight until it is dropped.
#[derive(Debug)]
pub struct InFlight {
    upstream: Arc<Upstream>,
    /// How many addresses its host has. They share the time for connecting.
    pub addresses: u32,
}

impl std::ops::Deref for InFlight {
    type Target = Upstream;

    fn deref(&self) -> &Upstream {
        &self.upstream
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.upstream.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::upstreams::names::Names;

    #[test]
    fn the_least_busy_of_the_healthy_is_next() {
        let upstream = |id| Arc::new(Upstream::new(id, id.to_string(), Address::Worker(id)));
        let second = Duration::from_secs(1);
        let upstreams: Vec<_> = (0..3).map(upstream).collect();
        let group = Group::new(upstreams.clone(), second, second, &SpoolAccount::new(0));
        let now = Instant::now();
        let first = group.pick(now, &[]).unwrap();
        let other = group.pick(now, &[]).unwrap();
        assert_eq!((first.id, other.id), (0, 1));
        drop(first);
        let mut picked: Vec<_> = (0..4).map(|_| group.pick(now, &[]).unwrap().id).collect();
        picked.sort();
        assert!(!picked.contains(&1) && picked[0] == 0 && picked[3] == 2, "equals have their turns: {picked:?}");
        upstreams[0].on_failed(now);
        assert_eq!(group.pick(now, &[]).unwrap().id, 2);
        assert_eq!(group.pick(now, &[1, 2]).unwrap().id, 0, "ailing is better than nobody");
        assert!(group.pick(now, &[0, 1, 2]).is_none());
    }

    #[test]
    fn one_request_finds_out_whether_an_upstream_is_well_again() {
        let upstream = |id| Arc::new(Upstream::new(id, id.to_string(), Address::Worker(id)));
        let upstreams: Vec<_> = (0..2).map(upstream).collect();
        let group = Group::new(upstreams.clone(), PENALTY, PENALTY, &SpoolAccount::new(0));
        let now = Instant::now();
        upstreams[0].on_failed(now);
        let later = now + PENALTY;
        let picked = || (0..10).map(|_| group.pick(later, &[]).unwrap().id).collect::<Vec<_>>();
        assert_eq!(picked().iter().filter(|&&id| id == 0).count(), 1);
        assert!(!picked().contains(&0));
        upstreams[0].on_answer();
        assert!(picked().contains(&0));
    }

    #[test]
    fn upstreams_come_and_go_with_the_addresses_of_their_name() {
        let address = |last: u8| SocketAddr::from(([10, 0, 0, last], 80));
        let known = Arc::new(Mutex::new(vec![address(1), address(2), "[::1]:80".parse().unwrap()]));
        let told = Arc::clone(&known);
        let names = Arc::new(Names::default());
        let host = names.add("http://a", "a", 80);
        let fixed = Arc::new(Upstream::new(names.new_id(), "fixed".into(), Address::Unix("/x".into())));
        let (second, spool) = (Duration::from_secs(1), SpoolAccount::new(0));
        let group = Group::new(vec![fixed], second, second, &spool).with_hosts(vec![host.clone()]);
        names.start(Box::new(move |_, _| Ok(lock(&told).clone())), Instant::now).unwrap();
        let now = Instant::now();
        let picked = |count: usize| {
            let leases: Vec<_> = (0..count).map(|_| group.pick(now, &[]).unwrap()).collect();
            leases.iter().map(|lease| (lease.address.clone(), (lease.id, lease.addresses))).collect::<Vec<_>>()
        };
        let find = |picked: &[(Address, (usize, u32))], address: SocketAddr| {
            picked.iter().find(|(other, _)| *other == Address::Tcp(address)).map(|(_, lease)| *lease)
        };
        let before = picked(3);
        let stays = find(&before, address(2)).unwrap();
        assert!(before.contains(&(Address::Unix("/x".into()), (0, 1))) && find(&before, address(1)).is_some());
        assert_eq!(stays.1, 3, "three addresses share the time for connecting");
        *lock(&known) = vec![address(2), address(3)];
        let generation = host.generation();
        host.ask(now);
        let until = now + Duration::from_secs(30);
        while host.generation() == generation && Instant::now() < until {
            std::thread::yield_now();
        }
        let after = picked(3);
        assert_eq!(find(&after, address(2)), Some((stays.0, 2)), "it is the same upstream as before");
        assert!(find(&after, address(1)).is_none() && find(&after, address(3)).is_some(), "{after:?}");
        assert!(before.iter().all(|(_, (id, _))| Some(*id) != find(&after, address(3)).map(|(id, _)| id)));
    }

    #[test]
    fn a_name_that_is_not_found_has_no_upstream() {
        let names = Arc::new(Names::default());
        let host = names.add("http://a", "a", 80);
        let second = Duration::from_secs(1);
        let group = Group::new(Vec::new(), second, second, &SpoolAccount::new(0)).with_hosts(vec![host]);
        names.start(Box::new(|_, _| Err(io::Error::other("unknown"))), Instant::now).unwrap();
        assert!(group.pick(Instant::now(), &[]).is_none());
    }
}
