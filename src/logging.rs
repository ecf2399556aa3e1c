//! Diagnostics: the banner, errors and log records, on standard error. A write never waits for a reader.
//!
//! simple_logger formats the lines, but it prints them to descriptor 2 in two writes that may wait, and panics where they
//! fail. So descriptor 2 is a pipe of our own while simple_logger prints, and the line goes on from there to a `Sink`, as
//! the lines of the access log do: it is written whole and without waiting, or kept, or dropped and counted.
//!
//! The rest of the time descriptor 2 is what the process was started with: a panic or an abort is printed by the runtime,
//! and may wait.

use dustdevil::app::observe::sink::{News, Sink};
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

/// Bytes of diagnostics that may wait for a slow reader.
const ROOM: usize = 256 * 1024;

static DIAGNOSTICS: OnceLock<Diagnostics> = OnceLock::new();

struct Diagnostics {
    logger: SimpleLogger,
    sink: Sink,
    /// Held while a line is made: there is one descriptor 2.
    capture: Mutex<Capture>,
}

/// Takes what is printed to descriptor 2.
struct Capture {
    /// Neither end waits. A pipe holds 64 KiB: a longer line is cut.
    reader: PipeReader,
    writer: OwnedFd,
    /// What descriptor 2 is otherwise.
    stderr: OwnedFd,
}

/// Sends log records and `tell` to standard error; the access log has standard output for itself.
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
    // It fails only where a logger is set already.
    let _ = log::set_logger(DIAGNOSTICS.get_or_init(|| diagnostics));
    Ok(())
}

/// Writes a line to standard error as it is.
pub fn tell(line: Arguments) {
    let line = format!("{line}\n");
    match DIAGNOSTICS.get() {
        Some(diagnostics) => diagnostics.write(line.as_bytes()),
        // The start has failed before there were diagnostics: nobody waits for this process.
        None => {
            let _ = io::Write::write_all(&mut io::stderr(), line.as_bytes());
        }
    }
}

/// Writes what waits, if it is taken at once. What is told afterwards may be lost.
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

    /// There is no other place to tell this than the one that has lost them.
    fn tell_lost(&self, news: &News) {
        if let News::Resumed { lost } | News::Closed { lost, .. } = news
            && *lost > 0
        {
            let args = format_args!("standard error took no more for a while; lines lost: {lost}");
            let record = Record::builder().level(Level::Warn).target(module_path!()).args(args).build();
            self.sink.write(&self.line(&record), Instant::now());
        }
    }

    /// What simple_logger makes of a record.
    fn line(&self, record: &Record) -> Vec<u8> {
        let mut capture = lock(&self.capture);
        capture.take(|| self.logger.log(record))
    }
}

impl Capture {
    /// The line that `print` prints to descriptor 2.
    fn take(&mut self, print: impl FnOnce()) -> Vec<u8> {
        let mut line = Vec::new();
        if dup2_stderr(&self.writer).is_ok() {
            // Printing panics when it fails: the pipe is full.
            let _ = catch_unwind(AssertUnwindSafe(print));
            let _ = dup2_stderr(&self.stderr);
        }
        // It ends with WouldBlock, because the pipe stays open; all that is in it has been read then.
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
