//! The names of upstreams, and the addresses that they have at present.
//!
//! A lookup blocks, for many seconds if a name server is silent. So one thread makes these calls, for all names one
//! after another. It exists only if an upstream has a name. Only the start waits for it, for a limited time. An engine
//! uses the addresses that are known, and the end of the process does not wait for a running call. The engines provide
//! the lookup and the clock (`engine::upstream::lookups`).
//!
//! ```text
//!  due ──► looked up ──► found: due again after AGE
//!   ▲        │ └───────► not found: the addresses from before stay; due again after RETRY
//!   └────────┴─ an upstream could not be reached: due at once, but not within GAP of the last call
//! ```

use crate::sync::{self, lock};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How old addresses may become. getaddrinfo does not say how long they are valid. 30 s is the TTL that the name
/// servers of Kubernetes and of several clouds give.
const AGE: Duration = Duration::from_secs(30);
/// The time to the next lookup of a name that was not found.
const RETRY: Duration = Duration::from_secs(5);
/// The least time between two lookups of a name, however many requests fail.
const GAP: Duration = Duration::from_secs(1);
/// How long the start waits for the first lookups: as long as a resolver waits for one name server.
const PATIENCE: Duration = Duration::from_secs(5);

/// The lookup function: `getaddrinfo`, or a test's own.
pub type LookUp = Box<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send>;
/// The clock.
pub type Clock = fn() -> Instant;

/// All names of a server. The thread ends after the last of them has been dropped.
#[derive(Default)]
pub struct Names {
    shared: Arc<Shared>,
    ids: AtomicUsize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Goes with `state`: notified when it changes.
    changed: Condvar,
    /// Counts the changes of addresses.
    generation: AtomicUsize,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    ended: bool,
}

/// A name, its addresses, and its lookups.
struct Entry {
    /// The upstream as the user wrote it.
    text: String,
    host: String,
    port: u16,
    /// Sorted; empty before the name was found.
    addresses: Vec<SocketAddr>,
    /// When the name is looked up next. `None`: at once.
    due: Option<Instant>,
    /// When the last lookup began.
    begun: Option<Instant>,
    /// Whether any lookup has ended, with or without an address.
    tried: bool,
    /// Whether the last lookup failed. Logged when this changes.
    failing: bool,
}

/// The host of an upstream, given by name.
#[derive(Clone)]
pub struct HostName {
    names: Arc<Names>,
    index: usize,
}

impl Names {
    /// A number for an upstream. No two calls return the same.
    pub fn new_id(&self) -> usize {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds a name, to be looked up from `start` on. `text`: the upstream as the user wrote it.
    pub fn add(self: &Arc<Names>, text: &str, host: &str, port: u16) -> HostName {
        let mut state = lock(&self.shared.state);
        state.entries.push(Entry::new(text, host, port));
        HostName { names: Arc::clone(self), index: state.entries.len() - 1 }
    }

    /// Starts the thread, if there is a name. Returns when each name has been looked up once, or after `PATIENCE`. An
    /// unknown name is not an error: its server may be started after this one.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(&self, look_up: LookUp, clock: Clock) -> io::Result<()> {
        if lock(&self.shared.state).entries.is_empty() {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        thread::Builder::new().name("names".into()).spawn(move || shared.run(&look_up, clock))?;
        let untried = |state: &mut State| state.entries.iter().any(|entry| !entry.tried);
        let state = sync::wait_while(&self.shared.changed, lock(&self.shared.state), PATIENCE, untried);
        for entry in state.entries.iter().filter(|entry| !entry.tried) {
            log::warn!(
                "upstream {}: its name is still being looked up; until then requests are answered 502",
                entry.text
            );
        }
        Ok(())
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        lock(&self.shared.state).ended = true;
        self.shared.changed.notify_all();
    }
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names").finish_non_exhaustive()
    }
}

impl HostName {
    /// The number of changes so far, of all names of the server.
    pub fn generation(&self) -> usize {
        self.names.shared.generation.load(Ordering::Acquire)
    }

    /// The addresses that are known now: sorted, none twice.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        lock(&self.names.shared.state).entries[self.index].addresses.clone()
    }

    pub fn new_id(&self) -> usize {
        self.names.new_id()
    }

    /// The upstream as the user wrote it.
    pub fn text(&self) -> String {
        lock(&self.names.shared.state).entries[self.index].text.clone()
    }

    /// Has the name looked up soon: an upstream of this name could not be reached.
    pub fn ask(&self, now: Instant) {
        let shared = &self.names.shared;
        if lock(&shared.state).entries[self.index].ask(now) {
            shared.changed.notify_all();
        }
    }
}

impl PartialEq for HostName {
    fn eq(&self, other: &HostName) -> bool {
        Arc::ptr_eq(&self.names, &other.names) && self.index == other.index
    }
}

impl std::fmt::Debug for HostName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HostName({})", self.text())
    }
}

impl Shared {
    /// Runs the thread.
    fn run(&self, look_up: &LookUp, clock: Clock) {
        let mut state = lock(&self.state);
        loop {
            let Some((index, due)) = state.next().filter(|_| !state.ended) else { return };
            let now = clock();
            if let Some(left) = due.map(|due| due.saturating_duration_since(now)).filter(|left| !left.is_zero()) {
                let is_next = |state: &mut State| !state.ended && state.next().is_some_and(|(_, next)| next >= due);
                state = sync::wait_while(&self.changed, state, left, is_next);
                continue;
            }
            let (host, port) = state.entries[index].begin(now);
            drop(state);
            let result = look_up(&host, port);
            state = lock(&self.state);
            let news = state.entries[index].on_result(result, clock());
            if matches!(news, News::Changed(_)) {
                self.generation.fetch_add(1, Ordering::Release);
            }
            let ended = state.ended;
            drop(state);
            self.changed.notify_all();
            match news {
                News::Changed(line) if !ended => log::info!("{line}"),
                News::Failed(line) if !ended => log::warn!("{line}"),
                _ => {}
            }
            state = lock(&self.state);
        }
    }
}

impl State {
    /// The name that is due first, and when.
    fn next(&self) -> Option<(usize, Option<Instant>)> {
        self.entries.iter().map(|entry| entry.due).enumerate().min_by_key(|(_, due)| *due)
    }
}

/// The result of a lookup, with the line for the log.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Nothing,
    Changed(String),
    Failed(String),
}

impl Entry {
    fn new(text: &str, host: &str, port: u16) -> Entry {
        let (text, host) = (text.to_owned(), host.to_owned());
        Entry { text, host, port, addresses: Vec::new(), due: None, begun: None, tried: false, failing: false }
    }

    /// Brings the next lookup forward. Returns whether that changes anything.
    fn ask(&mut self, now: Instant) -> bool {
        let earliest = self.begun.map_or(now, |begun| now.max(begun + GAP));
        let is_earlier = Some(earliest) < self.due;
        self.due = self.due.min(Some(earliest));
        is_earlier
    }

    /// Begins a lookup, and returns the host and port. From now on `ask` brings the next lookup forward, not this one.
    fn begin(&mut self, now: Instant) -> (String, u16) {
        (self.begun, self.due) = (Some(now), Some(now + AGE));
        (self.host.clone(), self.port)
    }

    fn on_result(&mut self, result: io::Result<Vec<SocketAddr>>, now: Instant) -> News {
        self.tried = true;
        let cause = match result {
            Ok(found) if !found.is_empty() => return self.on_found(found),
            Ok(_) => "it has no address".to_owned(),
            Err(error) => error.to_string(),
        };
        self.due = self.due.min(Some(now + RETRY));
        if std::mem::replace(&mut self.failing, true) {
            return News::Nothing;
        }
        let remedy = match self.addresses.is_empty() {
            true => "requests are answered 502 until it is found; if it is misspelt, correct --proxy",
            false => "the addresses from before are used until it is found",
        };
        News::Failed(format!("upstream {}: its name cannot be looked up: {cause}; {remedy}", self.text))
    }

    fn on_found(&mut self, mut found: Vec<SocketAddr>) -> News {
        found.sort();
        found.dedup();
        let was_failing = std::mem::replace(&mut self.failing, false);
        if found == self.addresses && !was_failing {
            return News::Nothing;
        }
        self.addresses = found;
        let shown: Vec<String> = self.addresses.iter().map(SocketAddr::to_string).collect();
        News::Changed(format!("upstream {}: its name now stands for {}", self.text, shown.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn unknown() -> io::Result<Vec<SocketAddr>> {
        Err(io::Error::other("unknown"))
    }

    #[test]
    fn a_name_is_looked_up_by_age_and_soon_when_asked() {
        let mut entry = Entry::new("http://a:1", "a", 1);
        let now = Instant::now();
        assert_eq!(entry.begin(now), ("a".into(), 1));
        assert!(matches!(entry.on_result(Ok(vec![address("10.0.0.1:1")]), now), News::Changed(_)));
        assert_eq!(entry.due, Some(now + AGE));
        assert!(entry.ask(now + GAP / 2) && entry.due == Some(now + GAP), "not too often");
        assert!(!entry.ask(now + GAP / 2), "once is enough");
        entry.begin(now + GAP);
        // Asked during the lookup: its answer may be older than the question.
        assert!(entry.ask(now + GAP) && entry.due == Some(now + GAP * 2));
        assert_eq!(entry.on_result(Ok(vec![address("10.0.0.1:1")]), now + GAP), News::Nothing);
        assert_eq!(entry.due, Some(now + GAP * 2));
        let later = now + AGE;
        entry.begin(later);
        assert!(entry.ask(later + GAP * 3) && entry.due == Some(later + GAP * 3), "at once");
    }

    #[test]
    fn what_is_not_found_changes_nothing_and_is_logged_once() {
        let mut entry = Entry::new("http://a:1", "a", 1);
        let now = Instant::now();
        let mut look_up = |result| {
            entry.begin(now);
            (entry.on_result(result, now), entry.addresses.clone(), entry.due.unwrap() - now)
        };
        let (news, addresses, due) = look_up(unknown());
        assert!(matches!(news, News::Failed(line) if line.contains("502")) && addresses.is_empty() && due == RETRY);
        let known = vec![address("10.0.0.1:1"), address("10.0.0.2:1")];
        let found = Ok(vec![known[1], known[0], known[1]]);
        let (news, addresses, due) = look_up(found);
        assert!(matches!(news, News::Changed(_)) && addresses == known && due == AGE);
        assert_eq!(look_up(Ok(known.clone())), (News::Nothing, known.clone(), AGE));
        let (news, addresses, due) = look_up(Ok(Vec::new()));
        assert!(matches!(news, News::Failed(line) if line.contains("before")) && addresses == known && due == RETRY);
        assert_eq!(look_up(unknown()), (News::Nothing, known.clone(), RETRY));
        let (news, ..) = look_up(Ok(known));
        assert!(matches!(news, News::Changed(_)), "the log tells that it is over");
    }

    #[test]
    fn the_thread_looks_up_and_nobody_waits_for_it() {
        let (begun, begins) = mpsc::sync_channel(0);
        let (answer, answers) = mpsc::sync_channel::<io::Result<Vec<SocketAddr>>>(0);
        let look_up = Box::new(move |host: &str, port| {
            let _ = begun.send((host.to_owned(), port));
            answers.recv().unwrap_or_else(|_| unknown())
        });
        let names = Arc::new(Names::default());
        let name = names.add("http://a:1", "a", 1);
        let (first, second) = (vec![address("10.0.0.1:1")], vec![address("10.0.0.2:1")]);
        thread::scope(|scope| {
            let start = scope.spawn(|| names.start(look_up, Instant::now));
            assert_eq!(begins.recv().unwrap(), ("a".into(), 1));
            answer.send(Ok(first.clone())).unwrap();
            start.join().unwrap().unwrap();
        });
        assert_eq!((name.addresses(), name.generation()), (first.clone(), 1));
        name.ask(Instant::now());
        begins.recv().unwrap();
        assert_eq!((name.addresses(), name.generation()), (first, 1), "while the lookup is under way");
        answer.send(Ok(second.clone())).unwrap();
        name.ask(Instant::now());
        // The next lookup begins after the result of this one is known.
        begins.recv().unwrap();
        assert_eq!((name.addresses(), name.generation()), (second, 2));
        drop((name, names));
        answer.send(unknown()).unwrap();
        assert!(begins.recv().is_err(), "the thread has ended");
    }

    #[test]
    fn without_a_name_there_is_no_thread() {
        let names = Names::default();
        names.start(Box::new(|_, _| panic!("looked up")), Instant::now).unwrap();
        assert_eq!(Arc::strong_count(&names.shared), 1);
    }
}
