//! Compression: the coder of one content, and the limits on how much is compressed at a time. The only user of flate2.
//!
//! There are two limits, because a coder costs two things:
//! - **Memory**, about 320 KiB until the client has taken the content. A coder needs a [`Permit`]. When all permits are
//!   taken, content is sent uncompressed: slow readers can hold all coders, and other clients are still served.
//! - **Processor time**, while it compresses. Only as many threads compress at once as there are processors. A further
//!   thread waits for its turn, and the turns are given in the order in which threads asked. A turn is short. An event
//!   loop is one thread, and so never waits.

use crate::sync;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, Thread};

/// Most coders at a time: 10 MB of memory. The C library's allocator keeps most of it for later coders.
const MOST_CODERS: usize = 32;
/// The memory of a coder: window, hash chains, and output that is not taken yet (measured: 320 KiB with zlib-rs).
pub const CODER_MEMORY: usize = 320 * 1024;
/// flate2's default level. Level 9 makes content one percent smaller and takes twice the time.
const LEVEL: Compression = Compression::new(6);

/// A content coding that this server can make itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compressor {
    Gzip,
    Deflate,
}

/// The limits on compression of one server.
#[derive(Debug)]
pub struct Coders {
    most: usize,
    live: AtomicUsize,
    turns: Turns,
}

/// The right to have one coder. It is given back in Drop.
#[derive(Debug)]
pub struct Permit {
    coders: Arc<Coders>,
}

/// Compresses one content, piece by piece.
#[derive(Debug)]
pub struct Coder {
    encoder: Encoder,
    permit: Permit,
}

impl Coders {
    pub fn new() -> Arc<Coders> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Coders::of(MOST_CODERS, processors)
    }

    /// At most `most` coders exist at a time, and at most `at_once` of them compress at the same time.
    pub fn of(most: usize, at_once: usize) -> Arc<Coders> {
        Arc::new(Coders { most, live: AtomicUsize::new(0), turns: Turns::new(at_once) })
    }

    /// The right to one more coder. `None` if all permits are taken.
    pub fn permit(self: &Arc<Coders>) -> Option<Permit> {
        let one_more = |live| (live < self.most).then_some(live + 1);
        self.live.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Permit { coders: Arc::clone(self) })
    }

    /// Whether more than half of the permits are taken. If so, a coder that no client waits for is dropped.
    pub fn are_scarce(&self) -> bool {
        self.live.load(Ordering::Relaxed) > self.most / 2
    }

    /// Compresses small content in one call.
    ///
    /// # Errors
    /// flate2 reports no error for content in memory. The `Result` comes from its interface.
    pub fn compress(&self, compressor: Compressor, content: &[u8]) -> io::Result<Vec<u8>> {
        let _turn = self.turns.take();
        compress(compressor, content)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.coders.live.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Coder {
    pub fn new(compressor: Compressor, permit: Permit) -> Coder {
        Coder { encoder: Encoder::new(compressor), permit }
    }

    /// Compresses the next bytes. Pass no more than one connection may spend in a turn, because other threads wait for
    /// their turn meanwhile.
    ///
    /// # Errors
    /// flate2 reports no error for output in memory. The `Result` comes from its interface.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let _turn = self.permit.coders.turns.take();
        self.encoder.write(bytes)
    }

    /// Ends the content: writes what is buffered, and the trailer.
    ///
    /// # Errors
    /// As `write`.
    pub fn finish(&mut self) -> io::Result<()> {
        let _turn = self.permit.coders.turns.take();
        self.encoder.finish()
    }

    /// The compressed bytes that the caller has not taken yet. They may be none after much input: zeros compress to
    /// almost nothing.
    pub fn output(&mut self) -> &mut Vec<u8> {
        self.encoder.output()
    }
}

/// Compresses small content in one call, without a turn.
fn compress(compressor: Compressor, content: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = Encoder::new(compressor);
    encoder.write(content)?;
    encoder.finish()?;
    Ok(std::mem::take(encoder.output()))
}

#[derive(Debug)]
enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    /// RFC 9110, section 8.4.1.2: "deflate" is the zlib format.
    Deflate(ZlibEncoder<Vec<u8>>),
}

impl Encoder {
    fn new(compressor: Compressor) -> Encoder {
        match compressor {
            Compressor::Gzip => Encoder::Gzip(GzEncoder::new(Vec::new(), LEVEL)),
            Compressor::Deflate => Encoder::Deflate(ZlibEncoder::new(Vec::new(), LEVEL)),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Encoder::Gzip(encoder) => encoder.write_all(bytes),
            Encoder::Deflate(encoder) => encoder.write_all(bytes),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match self {
            Encoder::Gzip(encoder) => encoder.try_finish(),
            Encoder::Deflate(encoder) => encoder.try_finish(),
        }
    }

    fn output(&mut self) -> &mut Vec<u8> {
        match self {
            Encoder::Gzip(encoder) => encoder.get_mut(),
            Encoder::Deflate(encoder) => encoder.get_mut(),
        }
    }
}

/// A semaphore that wakes its waiting threads in the order in which they asked. (With a condition variable, the thread
/// that gives a turn back would take the next turn too, before another thread has woken up.)
#[derive(Debug)]
struct Turns {
    queue: Mutex<Queue>,
}

#[derive(Debug)]
struct Queue {
    free: usize,
    /// Empty while a turn is free.
    waiting: VecDeque<Arc<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    thread: Thread,
    /// Another thread has handed its turn over to this one.
    called: AtomicBool,
}

/// One of the turns. It is given back in Drop.
struct Turn<'a> {
    turns: &'a Turns,
}

impl Turns {
    fn new(free: usize) -> Turns {
        Turns { queue: Mutex::new(Queue { free, waiting: VecDeque::new() }) }
    }

    fn take(&self) -> Turn<'_> {
        let mut queue = self.lock();
        if queue.free > 0 {
            queue.free -= 1;
        } else {
            let own = Arc::new(Waiting { thread: thread::current(), called: AtomicBool::new(false) });
            queue.waiting.push_back(Arc::clone(&own));
            drop(queue);
            // `thread::park` may return without an `unpark`.
            while !own.called.load(Ordering::Acquire) {
                thread::park();
            }
        }
        Turn { turns: self }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        sync::lock(&self.queue)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut queue = self.turns.lock();
        match queue.waiting.pop_front() {
            Some(next) => {
                drop(queue);
                next.called.store(true, Ordering::Release);
                next.thread.unpark();
            }
            None => queue.free += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::sync::atomic::AtomicUsize;

    fn unpacked(compressor: Compressor, coded: &[u8]) -> Vec<u8> {
        let mut content = Vec::new();
        match compressor {
            Compressor::Gzip => flate2::read::GzDecoder::new(coded).read_to_end(&mut content),
            Compressor::Deflate => flate2::read::ZlibDecoder::new(coded).read_to_end(&mut content),
        }
        .unwrap();
        content
    }

    #[test]
    fn content_is_the_same_at_once_and_piece_by_piece() {
        let coders = Coders::of(1, 1);
        for compressor in [Compressor::Gzip, Compressor::Deflate] {
            let content = b"hello hello hello";
            assert_eq!(unpacked(compressor, &coders.compress(compressor, content).unwrap()), content);
            let mut coder = Coder::new(compressor, coders.permit().unwrap());
            content.chunks(5).for_each(|piece| coder.write(piece).unwrap());
            coder.finish().unwrap();
            assert_eq!(unpacked(compressor, coder.output()), content);
        }
    }

    #[test]
    fn there_are_as_many_coders_as_permits() {
        let coders = Coders::of(3, 1);
        let mut live: Vec<Coder> = Vec::new();
        for _ in 0..3 {
            live.push(Coder::new(Compressor::Gzip, coders.permit().expect("one is free")));
        }
        assert!(coders.permit().is_none() && coders.are_scarce());
        drop(live.pop());
        assert!(coders.permit().is_some(), "a coder that is gone gives its permit back");
        drop(live);
        assert!(!coders.are_scarce());
    }

    #[test]
    fn no_more_work_at_once_than_there_are_turns_and_all_get_one() {
        let turns = Turns::new(2);
        let (working, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let _turn = turns.take();
                        most.fetch_max(working.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        thread::yield_now();
                        working.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= 2);
        let queue = turns.lock();
        assert_eq!((queue.free, queue.waiting.len()), (2, 0), "every turn came back");
    }
}
