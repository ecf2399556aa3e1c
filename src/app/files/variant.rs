//! A file in a content coding that the server makes: compressed once for all clients that receive it.
//!
//! ```text
//!  absent ──join──► being made ──the end is made──► made
//!    ▲                │   │
//!    └─the last leaves┘   └─the file cannot be read─► failed ─the last leaves─► absent
//! ```
//!
//! A client that has received all that has been made makes the next piece, for all clients. So the fastest client sets
//! the pace, and none waits for a slower one. If the client that began leaves, the others go on. If the last client
//! leaves before the end, what was made stays for the next client, unless coders are scarce.

use crate::app::compress::{CODER_MEMORY, Coder};
use crate::app::files::content::Content;
use crate::cost;
use crate::sync;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// The most bytes that one pull copies of what is made already.
const COPIED: usize = 32 * 1024;
/// The bytes that are compressed in one go. They cost what a session may spend before others have their turn.
const STEP: usize = cost::ADVANCE / cost::COMPRESSED_BYTE;

/// Content that is being compressed.
#[derive(Debug)]
pub struct Compressing {
    coder: Coder,
    /// How much of the content the coder has taken, and how much there is.
    at: u64,
    size: u64,
    finished: bool,
}

#[derive(Debug, Default)]
pub struct Variant {
    /// The complete variant. Once it is set, it is served without a lock.
    made: OnceLock<Arc<[u8]>>,
    making: Mutex<Option<Box<Making>>>,
    /// The memory that the variant takes. Readable without the lock, which is held during compression.
    memory: AtomicUsize,
}

#[derive(Debug)]
struct Making {
    /// What has been made so far.
    bytes: Vec<u8>,
    /// `None` after an error: clients that have received the beginning get no end.
    compressing: Option<Compressing>,
    /// The number of clients that receive it.
    clients: usize,
}

/// The result of `join`.
#[derive(Debug, PartialEq, Eq)]
pub enum Joined {
    /// The client may call `pull`, and must call `leave`.
    Shared,
    /// No coder is free.
    Busy,
    /// The variant is not shared, or an attempt to make it has failed: the client needs a coder of its own.
    Alone,
}

impl Compressing {
    /// Begins with content of `size` bytes.
    pub fn new(coder: Coder, size: u64) -> Compressing {
        Compressing { coder, at: 0, size, finished: false }
    }

    /// Continues until there is output, the end is reached, or one slice of work is done. Returns the cost.
    ///
    /// # Errors
    /// The content cannot be read, or has become shorter.
    pub fn step(&mut self, content: &Content) -> io::Result<usize> {
        let mut cost = 0;
        while !self.finished && self.coder.output().is_empty() && cost < cost::ADVANCE {
            let want = (self.size - self.at).min(STEP as u64) as usize;
            if want == 0 {
                self.coder.finish()?;
                self.finished = true;
                cost += cost::COMPRESSION;
                break;
            }
            content.read(self.at, want, |piece| self.coder.write(piece))?;
            self.at += want as u64;
            cost += cost::COMPRESSED_BYTE * want;
        }
        Ok(cost)
    }

    /// The output that has not been taken out yet.
    pub fn output(&mut self) -> &mut Vec<u8> {
        self.coder.output()
    }

    /// Whether all of the content is compressed. The last of it may still be in `output`.
    pub fn is_finished(&self) -> bool {
        self.finished
    }
}

impl Variant {
    pub fn made(&self) -> Option<&Arc<[u8]>> {
        self.made.get()
    }

    /// Sets the variant to `bytes`, which were made elsewhere. If another thread was first, its equal bytes stay.
    pub fn set(&self, bytes: Arc<[u8]>, changed: &AtomicUsize) {
        let len = bytes.len();
        if self.made.set(bytes).is_ok() {
            self.count(len, changed);
        }
    }

    /// The memory that the variant takes now.
    pub fn memory(&self) -> usize {
        self.memory.load(Ordering::Relaxed)
    }

    /// A client begins to receive the variant. `begin` is called if nobody is making it.
    pub fn join(&self, changed: &AtomicUsize, begin: impl FnOnce() -> Option<Compressing>) -> Joined {
        let mut place = self.lock();
        if self.made.get().is_some() {
            return Joined::Shared;
        }
        if place.is_none() {
            let Some(compressing) = begin() else { return Joined::Busy };
            *place = Some(Box::new(Making { bytes: Vec::new(), compressing: Some(compressing), clients: 0 }));
            self.count(CODER_MEMORY, changed);
        }
        match place.as_mut() {
            Some(making) if making.compressing.is_some() => making.clients += 1,
            _ => return Joined::Alone,
        }
        Joined::Shared
    }

    /// A client no longer receives the variant, whether it got all of it or not. `keep`: if no client is left, an
    /// unfinished variant stays for the next one.
    pub fn leave(&self, changed: &AtomicUsize, keep: bool) {
        let mut place = self.lock();
        // Once the variant is complete, there is no `Making`.
        let Some(making) = place.as_mut() else { return };
        making.clients -= 1;
        if making.clients == 0 && (making.compressing.is_none() || !keep) {
            *place = None;
            self.count(0, changed);
        }
    }

    /// Appends what follows the first `at` bytes to `out`. If the client has all that has been made, compresses more
    /// first. Returns the cost, and whether the end was reached.
    ///
    /// # Errors
    /// The content cannot be read, or has become shorter, in this call or in one for another client.
    pub fn pull(
        &self,
        at: &mut usize,
        content: &Content,
        changed: &AtomicUsize,
        out: &mut Vec<u8>,
    ) -> io::Result<(usize, bool)> {
        let mut cost = 0;
        if self.made.get().is_none() {
            let mut place = self.lock();
            if let Some(making) = &mut *place {
                if *at == making.bytes.len() {
                    cost = making.step(content)?;
                }
                if !making.is_finished() {
                    self.count(making.bytes.capacity() + CODER_MEMORY, changed);
                    return Ok((cost + copy(&making.bytes, at, out), false));
                }
                let made: Arc<[u8]> = std::mem::take(&mut making.bytes).into();
                cost += made.len();
                // Before the lock is released: another thread must find one of the two.
                self.set(made, changed);
                *place = None;
            }
        }
        // The variant is complete: by this call, or by another thread while this one waited for the lock.
        let made = self.made.get().ok_or(io::ErrorKind::UnexpectedEof)?;
        cost += copy(made, at, out);
        Ok((cost, *at == made.len()))
    }

    /// Notes the memory that the variant takes now, and adds the difference to `changed`.
    fn count(&self, memory: usize, changed: &AtomicUsize) {
        let before = self.memory.swap(memory, Ordering::Relaxed);
        changed.fetch_add(before.abs_diff(memory), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<Making>>> {
        sync::lock(&self.making)
    }
}

impl Making {
    fn step(&mut self, content: &Content) -> io::Result<usize> {
        let compressing = self.compressing.as_mut().ok_or(io::ErrorKind::UnexpectedEof)?;
        match compressing.step(content) {
            Ok(cost) => {
                self.bytes.append(compressing.output());
                Ok(cost)
            }
            Err(error) => {
                self.compressing = None;
                Err(error)
            }
        }
    }

    fn is_finished(&self) -> bool {
        self.compressing.as_ref().is_some_and(Compressing::is_finished)
    }
}

/// Copies the next piece of `bytes` after the first `at` bytes.
fn copy(bytes: &[u8], at: &mut usize, out: &mut Vec<u8>) -> usize {
    let piece = &bytes[*at..bytes.len().min(*at + COPIED)];
    out.extend_from_slice(piece);
    *at += piece.len();
    piece.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::compress::{Coders, Compressor};
    use std::fs::File;
    use std::io::Read;

    /// Content, its variant, and coders to make the variant with.
    struct Fixture {
        content: Content,
        size: u64,
        variant: Variant,
        changed: AtomicUsize,
        coders: Arc<Coders>,
    }

    /// The position of a client, and what it has received.
    #[derive(Default)]
    struct Client {
        at: usize,
        taken: Vec<u8>,
        complete: bool,
    }

    impl Fixture {
        fn new(most_coders: usize) -> Fixture {
            // Random letters, so that the compressed content is long as well.
            let mut seed = 1_u32;
            let mut next = || {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                b'a' + (seed >> 24) as u8 % 26
            };
            let bytes: Vec<u8> = (0..300_000).map(|_| next()).collect();
            let size = bytes.len() as u64;
            let (variant, changed) = (Variant::default(), AtomicUsize::new(0));
            Fixture {
                content: Content::Memory(bytes.into()),
                size,
                variant,
                changed,
                coders: Coders::of(most_coders, 1),
            }
        }

        fn join(&self) -> Joined {
            let coder = || Some(Coder::new(Compressor::Gzip, self.coders.permit()?));
            self.variant.join(&self.changed, || Some(Compressing::new(coder()?, self.size)))
        }

        /// One pull of a client. Returns the cost without the copying.
        fn pull(&self, client: &mut Client) -> io::Result<usize> {
            let before = client.taken.len();
            let (cost, complete) =
                self.variant.pull(&mut client.at, &self.content, &self.changed, &mut client.taken)?;
            client.complete = complete;
            Ok(cost - (client.taken.len() - before))
        }

        fn finish(&self, client: &mut Client) -> usize {
            let mut cost = 0;
            while !client.complete {
                cost += self.pull(client).unwrap();
            }
            cost
        }

        fn is_whole(&self, client: &Client) -> bool {
            let mut bytes = Vec::new();
            flate2::read::GzDecoder::new(&client.taken[..]).read_to_end(&mut bytes).unwrap();
            matches!(&self.content, Content::Memory(content) if **content == bytes[..])
        }
    }

    #[test]
    fn one_coder_makes_it_once_for_all() {
        let place = Fixture::new(1);
        let mut clients: Vec<Client> = (0..100).map(|_| Client::default()).collect();
        assert!(clients.iter().all(|_| place.join() == Joined::Shared), "with one coder");
        let mut cost = 0;
        // The fastest client pulls twice in each round. The last client begins when the variant is complete.
        while clients[..99].iter().any(|client| !client.complete) {
            cost += place.pull(&mut clients[0]).unwrap();
            for client in &mut clients[..99] {
                cost += place.pull(client).unwrap();
            }
        }
        cost += place.finish(&mut clients[99]);
        assert!(clients.iter().all(|client| place.is_whole(client)));
        let made = place.variant.made().unwrap().len();
        assert_eq!(cost, cost::COMPRESSED_BYTE * place.size as usize + cost::COMPRESSION + made, "made once");
        assert!(place.coders.permit().is_some(), "the coder is gone");
        assert_eq!(place.variant.memory(), made);
    }

    #[test]
    fn threads_that_want_it_at_once_get_it_whole() {
        for _ in 0..20 {
            let place = Fixture::new(1);
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        let mut client = Client::default();
                        assert_eq!(place.join(), Joined::Shared);
                        place.finish(&mut client);
                        place.variant.leave(&place.changed, true);
                        assert!(place.is_whole(&client));
                    });
                }
            });
            assert!(place.coders.permit().is_some());
        }
    }

    #[test]
    fn what_one_client_has_begun_another_finishes() {
        let place = Fixture::new(8);
        let (mut first, mut second, mut third) = (Client::default(), Client::default(), Client::default());
        assert!([place.join(), place.join()] == [Joined::Shared, Joined::Shared]);
        let mut cost = 0;
        while first.taken.len() < 50_000 {
            cost += place.pull(&mut first).unwrap();
        }
        place.variant.leave(&place.changed, true);
        while second.taken.len() < 100_000 {
            cost += place.pull(&mut second).unwrap();
        }
        place.variant.leave(&place.changed, true);
        assert!(place.variant.memory() >= CODER_MEMORY + 100_000, "kept for the next, and counted");
        assert_eq!(place.join(), Joined::Shared);
        cost += place.finish(&mut third);
        assert!(place.is_whole(&third));
        assert!(cost < cost::COMPRESSED_BYTE * (place.size as usize + 1) + 2 * cost::COMPRESSION + third.taken.len());
    }

    #[test]
    fn a_coder_that_no_client_waits_for_goes_when_coders_are_scarce() {
        let place = Fixture::new(1);
        assert_eq!(place.join(), Joined::Shared);
        assert!(place.coders.are_scarce());
        let mut client = Client::default();
        place.pull(&mut client).unwrap();
        place.variant.leave(&place.changed, !place.coders.are_scarce());
        assert_eq!(place.variant.memory(), 0);
        let taken = place.coders.permit();
        assert!(taken.is_some(), "its permit is back");
        assert_eq!(place.join(), Joined::Busy);
        drop(taken);
        assert_eq!(place.join(), Joined::Shared);
        let mut client = Client::default();
        place.finish(&mut client);
        assert!(place.is_whole(&client));
    }

    #[test]
    fn where_the_file_cannot_be_read_nobody_gets_an_end() {
        let mut place = Fixture::new(8);
        let (mut first, mut second) = (Client::default(), Client::default());
        assert!([place.join(), place.join()] == [Joined::Shared, Joined::Shared]);
        while first.taken.len() < 50_000 {
            place.pull(&mut first).unwrap();
        }
        let whole = std::mem::replace(&mut place.content, Content::Open(Arc::new(File::open("/dev/null").unwrap())));
        assert!(loop {
            match place.pull(&mut first) {
                Ok(_) => assert!(!first.complete),
                Err(error) => break error.kind() == io::ErrorKind::UnexpectedEof,
            }
        });
        while place.pull(&mut second).is_ok() {
            assert!(!second.complete);
        }
        assert_eq!(place.join(), Joined::Alone);
        place.variant.leave(&place.changed, true);
        place.variant.leave(&place.changed, true);
        assert_eq!(place.variant.memory(), 0);
        place.content = whole;
        assert_eq!(place.join(), Joined::Shared);
        let mut client = Client::default();
        place.finish(&mut client);
        assert!(place.is_whole(&client));
    }
}
