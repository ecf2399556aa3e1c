//! Diagnostics: the banner, errors and log records, on standard error. A write never waits for a reader.
//!
//! simple_logger formats the lines. But it prints each line to descriptor 2 in two writes, which may wait for a reader,
//! and panics if they fail. So while simple_logger prints, descriptor 2 is replaced by our own pipe. The line is read
//! from the pipe and written to a `Sink`, like the lines of the access log: it is written whole and without waiting, or
//! kept for later, or dropped and counted.
//!
//! At all other times descriptor 2 is the one that the process was started with. The runtime prints panics and aborts
//! to it, and these writes may wait.

use dustdevil::app::observe::sink::{Sink, SinkEvent};
use dustdevil::config::Config;
use dustdevil::sync::lock;
use log::{Level, Log, Metadata, Record};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::stdio::dup2_stderr;
use simple_logger::SimpleLogger;
use std::fmt::Arguments;
use std::io::{self, IsTerminal, PipeReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, OnceLock};
use std::time::Instant;

/// Most bytes of diagnostics that wait for a slow reader.
const ROOM: usize = 256 * 1024;

static DIAGNOSTICS: OnceLock<Diagnostics> = OnceLock::new();

struct Diagnostics {
    logger: SimpleLogger,
    sink: Sink,
    /// Locked while a line is formatted, because the process has only one descriptor 2.
    capture: Mutex<Capture>,
}

/// Captures the bytes that are printed to descriptor 2.
struct Capture {
    /// Both ends are nonblocking. A pipe holds 64 KiB: a longer line is cut.
    reader: PipeReader,
    writer: OwnedFd,
    /// The process's own standard error, which is put back as descriptor 2 after each line.
    stderr: OwnedFd,
}

/// Installs the logger. From now on log records and the lines of `tell` go to standard error. (Standard output is for
/// the access log only.)
///
/// # Errors
/// The process has no descriptors left.
pub fn start(config: &Config) -> io::Result<()> {
    let stderr = io::stderr();
    let colors = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let logger = SimpleLogger::new().with_level(config.verbosity.level()).with_colors(colors).with_utc_timestamps();
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let capture = Capture { reader: reader.into(), writer, stderr: stderr.as_fd().try_clone_to_owned()? };
    log::set_max_level(logger.max_level());
    let diagnostics = Diagnostics { logger, sink: Sink::inherited(stderr, ROOM)?, capture: Mutex::new(capture) };
    // This fails only if a logger is installed already.
    let _ = log::set_logger(DIAGNOSTICS.get_or_init(|| diagnostics));
    Ok(())
}

/// Writes a line to standard error, without time and level.
pub fn tell(line: Arguments) {
    let line = format!("{line}\n");
    match DIAGNOSTICS.get() {
        Some(diagnostics) => diagnostics.write(line.as_bytes()),
        // The start has failed before `start` was called. This write may wait: there are no clients yet.
        None => {
            let _ = io::Write::write_all(&mut io::stderr(), line.as_bytes());
        }
    }
}

/// Writes the waiting lines that standard error takes at once. Later lines may be lost.
pub fn close() {
    let Some(diagnostics) = DIAGNOSTICS.get() else { return };
    if let Some(news) = diagnostics.sink.close() {
        diagnostics.tell_lost(&news);
    }
}

impl Diagnostics {
    fn write(&self, line: &[u8]) {
        if let Some(news) = self.sink.write(line, Instant::now()) {
            self.tell_lost(&news);
        }
    }

    /// Reports lost lines, on standard error too: there is no other place for diagnostics.
    fn tell_lost(&self, news: &SinkEvent) {
        if let SinkEvent::Resumed { lost } | SinkEvent::Closed { lost, .. } = news
            && *lost > 0
        {
            let args = format_args!("standard error could not be written for a while; lines lost: {lost}");
            let record = Record::builder().level(Level::Warn).target(module_path!()).args(args).build();
            self.sink.write(&self.line(&record), Instant::now());
        }
    }

    /// The line that simple_logger formats from a record.
    fn line(&self, record: &Record) -> Vec<u8> {
        let mut capture = lock(&self.capture);
        capture.take(|| self.logger.log(record))
    }
}

impl Capture {
    /// Runs `print` and returns the line that it prints to descriptor 2.
    fn take(&mut self, print: impl FnOnce()) -> Vec<u8> {
        let mut line = Vec::new();
        if dup2_stderr(&self.writer).is_ok() {
            // Printing panics if it fails, as it does when the pipe is full.
            let _ = catch_unwind(AssertUnwindSafe(print));
            let _ = dup2_stderr(&self.stderr);
        }
        // The pipe stays open, so this ends with WouldBlock when all bytes in the pipe have been read.
        let _ = self.reader.read_to_end(&mut line);
        if !line.ends_with(b"\n") {
            line.push(b'\n');
        }
        line
    }
}

impl Log for Diagnostics {
    fn enabled(&self, metadata: &Metadata) -> bool {
        self.logger.enabled(metadata)
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            self.write(&self.line(record));
        }
    }

    fn flush(&self) {
        self.write(b"");
    }
}
