//! The destination of a log's lines: a file, a pipe, a terminal or a socket. A write never waits for a reader.
//!
//! How a write is kept from waiting is decided once, by the kind of the descriptor (fstat(2)):
//!
//! | kind | call |
//! |---|---|
//! | regular file, `/dev/null`, other devices | write(2); it may wait for a disk |
//! | pipe, FIFO, terminal | opened again as `/proc/self/fd/N` with O_NONBLOCK: write(2) |
//! | socket | send(2) with MSG_DONTWAIT |
//! | pipe, FIFO, terminal that cannot be opened again | pwritev2(2) with RWF_NOWAIT; if unsupported, poll(2), short
//! write |
//!
//! O_NONBLOCK is never set on an inherited descriptor: the flag belongs to the open file description, which is shared
//! with the shell. Opening the file again makes an open file description of our own.
//!
//! Lines that the destination does not take at once wait, up to `room` bytes, and are written first next time. Lines
//! beyond that are dropped whole and counted. A line that was written in part is completed before the next one.

use crate::sync;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::{Errno, ReadWriteFlags, pwritev2};
use rustix::net::SendFlags;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IsTerminal};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// PIPE_BUF of Linux. A pipe takes a write of up to this size whole or not at all. So the lines of several writers on
/// one pipe do not mix.
const ATOMIC: usize = 4096;
/// Bytes that a terminal takes without blocking when poll(2) reports it as writable. Measured: 300 bytes passed, 4,000
/// blocked.
const SHORT: usize = 256;
/// The shortest time between two checks whether the log file still exists, and between the news that a sink has stopped
/// and the news that it has resumed. A reader that is slow all the time would otherwise cause a line of diagnostics
/// each turn.
pub const PAUSE: Duration = Duration::from_secs(1);
/// How soon to write waiting lines again if no new lines come.
pub const RETRY: Duration = Duration::from_millis(100);

/// One destination, shared by all threads.
#[derive(Debug)]
pub struct Sink {
    state: Mutex<State>,
    /// A copy from `state`, so that a turn of the event loop without new lines takes no lock.
    unsettled: AtomicBool,
}

/// A change that the caller reports in the diagnostics.
#[derive(Debug, PartialEq, Eq)]
pub enum SinkEvent {
    /// A write failed, or a line was dropped because nobody reads the destination.
    Stopped(Cause),
    /// All waiting lines have been written. `lost` lines were dropped before.
    Resumed { lost: u64 },
    /// The sink was closed, and `lost` lines were never written.
    Closed { lost: u64, cause: Cause },
}

/// Why the destination takes no lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause(Errno);

#[derive(Debug)]
struct State {
    /// The file to open again if it has been removed. `None` for an inherited descriptor.
    path: Option<PathBuf>,
    channel: Result<Channel, Errno>,
    /// When `look_again` last checked whether the file exists.
    looked: Option<Instant>,
    /// Lines that the destination has not taken yet.
    waiting: Vec<u8>,
    /// Most bytes in `waiting`.
    room: usize,
    /// Whether `waiting` begins in the middle of a line: its first part has been written.
    begun: bool,
    /// Lines dropped since the last `Resumed`.
    lost: u64,
    /// Set by `Stopped`, cleared by `Resumed`.
    stop: Option<Stop>,
}

#[derive(Clone, Copy, Debug)]
struct Stop {
    /// `None` if the sink could not be opened at start.
    since: Option<Instant>,
    cause: Cause,
}

/// An open descriptor, and how it is written to.
#[derive(Debug)]
struct Channel {
    file: OwnedFd,
    call: Call,
    /// Most bytes of one call. A single line that is longer is written whole.
    most: usize,
    /// Lines too long for a message, which were dropped. `State::write` adds them to its own count.
    lost: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Write,
    Send,
    NoWait,
    Probe,
}

impl Sink {
    /// Writes to a copy of an inherited descriptor. The original stays open and keeps its flags. `room`: most bytes
    /// that wait.
    ///
    /// # Errors
    /// The process has no descriptor left for a copy.
    pub fn inherited(file: impl AsFd, room: usize) -> io::Result<Sink> {
        let copy = file.as_fd().try_clone_to_owned()?;
        Ok(Sink::new(None, Ok(Channel::of_inherited(copy)), room))
    }

    /// Opens a file to append lines to, and creates it if necessary. A FIFO without a reader is opened later, when it
    /// has one. `room`: most bytes that wait.
    ///
    /// # Errors
    /// The file cannot be opened for writing.
    pub fn open(path: &Path, room: usize) -> io::Result<Sink> {
        let channel = match open(path) {
            Err(Errno::NXIO) if is_fifo(path) => Err(Errno::NXIO),
            opened => Ok(opened?),
        };
        Ok(Sink::new(Some(path.to_owned()), channel, room))
    }

    fn new(path: Option<PathBuf>, channel: Result<Channel, Errno>, room: usize) -> Sink {
        let stop = channel.as_ref().err().map(|error| Stop { since: None, cause: Cause(*error) });
        let unsettled = AtomicBool::new(stop.is_some());
        let (waiting, begun, lost) = (Vec::new(), false, 0);
        Sink { state: Mutex::new(State { path, channel, looked: None, waiting, room, begun, lost, stop }), unsettled }
    }

    /// Why the destination takes no lines at the moment. `None` if it takes them.
    pub fn stopped(&self) -> Option<Cause> {
        self.lock().stop.map(|stop| stop.cause)
    }

    /// Whether lines wait, or news of a resumption is due. If so, call `write` after `RETRY` even without new lines.
    pub fn is_unsettled(&self) -> bool {
        self.unsettled.load(Ordering::Relaxed)
    }

    /// Writes the waiting lines and then `lines`, as far as the destination takes them at once. `lines` are whole
    /// lines.
    pub fn write(&self, lines: &[u8], now: Instant) -> Option<SinkEvent> {
        let mut state = self.lock();
        state.look_again(now);
        let error = state.write(lines);
        let news = state.news(error, now);
        self.unsettled.store(!state.waiting.is_empty() || state.stop.is_some(), Ordering::Relaxed);
        news
    }

    /// Writes the waiting lines that the destination takes at once, and drops the others.
    pub fn close(&self) -> Option<SinkEvent> {
        let mut state = self.lock();
        let error = state.write(b"");
        let unwritten = std::mem::take(&mut state.waiting);
        let lost = std::mem::take(&mut state.lost) + memchr::memchr_iter(b'\n', &unwritten).count() as u64;
        let cause = state.stop.take().map(|stop| stop.cause).or(error.map(Cause))?;
        (lost > 0).then_some(SinkEvent::Closed { lost, cause })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        sync::lock(&self.state)
    }
}

impl State {
    /// Opens the file if it could not be opened before, or if it has been removed meanwhile.
    fn look_again(&mut self, now: Instant) {
        let Some(path) = &self.path else { return };
        if self.looked.is_some_and(|looked| now.saturating_duration_since(looked) < PAUSE) {
            return;
        }
        self.looked = Some(now);
        if self.channel.as_ref().is_ok_and(Channel::has_name) {
            return;
        }
        self.channel = open(path);
        if std::mem::take(&mut self.begun) {
            // The first part of this line is in the file that was removed.
            let end = memchr::memchr(b'\n', &self.waiting).map_or(0, |end| end + 1);
            self.waiting.drain(..end);
            self.lost += 1;
        }
    }

    /// Writes the waiting lines and then `lines`, and keeps what the destination does not take. Returns the error that
    /// stopped it, if there was one.
    fn write(&mut self, lines: &[u8]) -> Option<Errno> {
        let channel = match &mut self.channel {
            Ok(channel) => channel,
            Err(error) => {
                let error = *error;
                self.keep(lines);
                return Some(error);
            }
        };
        let (taken, mut error) = channel.write(&self.waiting);
        if taken > 0 {
            self.begun = self.waiting[taken - 1] != b'\n';
            self.waiting.drain(..taken);
        }
        let mut taken = 0;
        if error.is_none() {
            // Frees the memory, which may have grown to `room`.
            self.waiting = Vec::new();
            (taken, error) = channel.write(lines);
            self.begun = taken > 0 && lines[taken - 1] != b'\n';
        }
        self.lost += std::mem::take(&mut channel.lost);
        self.keep(&lines[taken..]);
        error
    }

    fn keep(&mut self, lines: &[u8]) {
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let completes = self.begun && self.waiting.is_empty();
            if completes || self.waiting.len() + line.len() <= self.room {
                self.waiting.extend_from_slice(line);
            } else {
                self.lost += 1;
            }
        }
    }

    fn news(&mut self, error: Option<Errno>, now: Instant) -> Option<SinkEvent> {
        match (self.stop, error) {
            // A slow reader is not reported before a line is lost.
            (None, Some(Errno::AGAIN)) if self.lost == 0 => None,
            (None, Some(error)) => {
                let cause = Cause(error);
                self.stop = Some(Stop { since: Some(now), cause });
                Some(SinkEvent::Stopped(cause))
            }
            (Some(stop), None) if stop.since.is_none_or(|since| now.saturating_duration_since(since) >= PAUSE) => {
                self.stop = None;
                Some(SinkEvent::Resumed { lost: std::mem::take(&mut self.lost) })
            }
            _ => None,
        }
    }
}

impl Channel {
    fn of_inherited(file: OwnedFd) -> Channel {
        match kind(&file) {
            Kind::Plain => Channel { file, call: Call::Write, most: usize::MAX, lost: 0 },
            // On a datagram socket each send is a message of its own.
            Kind::Socket => Channel { file, call: Call::Send, most: ATOMIC, lost: 0 },
            Kind::Slow => match nonblocking().open(format!("/proc/self/fd/{}", file.as_raw_fd())) {
                Ok(own) => Channel { file: own.into(), call: Call::Write, most: ATOMIC, lost: 0 },
                Err(_) => Channel { file, call: Call::NoWait, most: ATOMIC, lost: 0 },
            },
        }
    }

    /// Whether the file still has a name in a directory.
    fn has_name(&self) -> bool {
        fstat(&self.file).is_ok_and(|stat| stat.st_nlink > 0)
    }

    /// Writes as much as the destination takes at once. Returns the number of bytes, and the error that stopped it.
    fn write(&mut self, lines: &[u8]) -> (usize, Option<Errno>) {
        let mut taken = 0;
        while taken < lines.len() {
            let piece = piece(&lines[taken..], self.most);
            match self.write_some(piece) {
                // The line is longer than the longest message that the socket sends.
                Err(error @ Errno::MSGSIZE) => {
                    self.lost += 1;
                    return (taken + piece.len(), Some(error));
                }
                Ok(0) => return (taken, Some(Errno::AGAIN)),
                Ok(count) => taken += count,
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) if self.call == Call::NoWait => self.call = Call::Probe,
                Err(error) => return (taken, Some(error)),
            }
        }
        (taken, None)
    }

    fn write_some(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match self.call {
            Call::Write => rustix::io::write(&self.file, bytes),
            Call::Send => rustix::net::send(&self.file, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            // The offset u64::MAX is -1: "the current position". A pipe accepts no other.
            Call::NoWait => pwritev2(&self.file, &[IoSlice::new(bytes)], u64::MAX, ReadWriteFlags::NOWAIT),
            Call::Probe => {
                let mut polled = [PollFd::new(&self.file, PollFlags::OUT)];
                match poll(&mut polled, Some(&Timespec::default()))? {
                    0 => Err(Errno::AGAIN),
                    _ => rustix::io::write(&self.file, &bytes[..bytes.len().min(SHORT)]),
                }
            }
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Errno::AGAIN => f.write_str("nobody reads it"),
            Errno::NXIO => f.write_str("nobody has opened it for reading"),
            Errno::PIPE => f.write_str("its reader has gone"),
            error => io::Error::from(error).fmt(f),
        }
    }
}

/// The kinds of descriptors that are written to in different ways.
enum Kind {
    /// A write does not wait for a reader.
    Plain,
    Socket,
    /// A write may wait for a reader.
    Slow,
}

fn kind(file: &OwnedFd) -> Kind {
    let Ok(stat) = fstat(file) else { return Kind::Slow };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::BlockDevice => Kind::Plain,
        FileType::CharacterDevice if !file.is_terminal() => Kind::Plain,
        FileType::Socket => Kind::Socket,
        _ => Kind::Slow,
    }
}

fn nonblocking() -> OpenOptions {
    let mut options = File::options();
    options.write(true).custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32);
    options
}

fn open(path: &Path) -> Result<Channel, Errno> {
    let opened = nonblocking().append(true).create(true).open(path);
    // An error without an errno is about the path itself, such as a NUL in it.
    let file = OwnedFd::from(opened.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))?);
    let most = if matches!(kind(&file), Kind::Plain) { usize::MAX } else { ATOMIC };
    Ok(Channel { file, call: Call::Write, most, lost: 0 })
}

fn is_fifo(path: &Path) -> bool {
    rustix::fs::stat(path).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}

/// The whole lines at the beginning that fit into `most` bytes. If the first line does not fit, that line alone.
fn piece(lines: &[u8], most: usize) -> &[u8] {
    if lines.len() <= most {
        return lines;
    }
    let end = memchr::memrchr(b'\n', &lines[..most]).or_else(|| memchr::memchr(b'\n', lines));
    end.map_or(lines, |end| &lines[..=end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};

    const LINE: &[u8] = b"0123456789\n";

    fn pipe() -> (OwnedFd, OwnedFd) {
        // Only the reading end is nonblocking. If the writing end were, every call would pass this test.
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK).unwrap();
        (reader, writer)
    }

    fn read_all(reader: &OwnedFd) -> Vec<u8> {
        let (mut room, mut read) = (vec![0; 4 * ATOMIC], Vec::new());
        while let Ok(count @ 1..) = rustix::io::read(reader, &mut room) {
            read.extend_from_slice(&room[..count]);
        }
        read
    }

    fn sink_of(call: Call, file: OwnedFd) -> Sink {
        Sink::new(None, Ok(Channel { file, call, most: ATOMIC, lost: 0 }), ROOM)
    }

    const ROOM: usize = 100 * LINE.len();

    #[test]
    fn what_cannot_be_opened_again_is_not_waited_for_either() {
        for call in [Call::NoWait, Call::Probe] {
            let (reader, writer) = pipe();
            let sink = sink_of(call, writer);
            let now = Instant::now();
            // Twice what a pipe holds.
            let news: Vec<SinkEvent> = (0..12_000).filter_map(|_| sink.write(LINE, now)).collect();
            assert_eq!(news, [SinkEvent::Stopped(Cause(Errno::AGAIN))], "{call:?}");
            let mut read = read_all(&reader);
            // A stop lasts at least PAUSE: the resumption is not reported earlier.
            assert_eq!(sink.write(LINE, now), None);
            let Some(SinkEvent::Resumed { lost }) = sink.write(LINE, now + PAUSE) else { panic!("{call:?}") };
            read.extend(read_all(&reader));
            assert_eq!(read.len() / LINE.len() + lost as usize, 12_002, "{call:?}");
            assert!(read.chunks(LINE.len()).all(|line| line == LINE), "{call:?}: a torn line");
            assert!(!sink.is_unsettled());
        }
    }

    /// A FIFO and a terminal do not know RWF_NOWAIT.
    #[test]
    fn a_call_that_is_not_supported_is_replaced() {
        let folder = std::env::temp_dir().join(format!("dustdevil-sink-{}", std::process::id()));
        rustix::fs::mknodat(rustix::fs::CWD, &folder, FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        let both = File::options().read(true).write(true).open(&folder).unwrap();
        std::fs::remove_file(&folder).unwrap();
        let sink = sink_of(Call::NoWait, both.try_clone().unwrap().into());
        assert_eq!(sink.write(LINE, Instant::now()), None);
        let mut room = [0; 2 * LINE.len()];
        assert_eq!(rustix::io::read(&both, &mut room), Ok(LINE.len()));
        let news: Vec<SinkEvent> = (0..12_000).filter_map(|_| sink.write(LINE, Instant::now())).collect();
        assert_eq!(news, [SinkEvent::Stopped(Cause(Errno::AGAIN))]);
    }

    #[test]
    fn what_is_left_at_the_end_is_written_or_counted() {
        let (reader, writer) = pipe();
        let sink = sink_of(Call::NoWait, writer);
        let now = Instant::now();
        while !sink.is_unsettled() {
            sink.write(LINE, now);
        }
        sink.write(LINE, now);
        assert_eq!(sink.close(), Some(SinkEvent::Closed { lost: 2, cause: Cause(Errno::AGAIN) }));
        read_all(&reader);
        sink.write(LINE, now);
        assert_eq!((sink.close(), read_all(&reader).as_slice()), (None, LINE));
    }

    #[test]
    fn a_line_that_no_message_can_hold_is_lost_and_the_next_is_sent() {
        let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().unwrap();
        let (sink, now) = (Sink::inherited(&ours, 4 << 20).unwrap(), Instant::now());
        let long = [&b"x".repeat(2 << 20)[..], b"\n"].concat();
        assert_eq!(sink.write(&long, now), Some(SinkEvent::Stopped(Cause(Errno::MSGSIZE))));
        assert_eq!(sink.write(LINE, now + PAUSE), Some(SinkEvent::Resumed { lost: 1 }));
        let mut room = [0; 2 * LINE.len()];
        assert_eq!(theirs.recv(&mut room).unwrap(), LINE.len());
    }

    #[test]
    fn a_piece_is_whole_lines_where_it_can_be() {
        assert_eq!(piece(b"a\nbc\nd\n", 100), b"a\nbc\nd\n");
        assert_eq!(piece(b"a\nbc\nd\n", 6), b"a\nbc\n");
        assert_eq!(piece(b"a\nbc\nd\n", 2), b"a\n");
        assert_eq!(piece(b"abcdef\ng\n", 3), b"abcdef\n");
        assert_eq!(piece(b"abcdef", 3), b"abcdef");
    }
}
