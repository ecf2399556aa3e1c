//! One worker process: starting it, sending it its source, logging its output, seeing its end. Frames are for others.

use crate::wsgi::Spec;
use crate::wsgi::frames::{self, ToWorker};
use crate::wsgi::inbox::Inbox;
use crate::wsgi::lines::OutputLines;
use rustix::fs::OFlags;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Instant;

const WORKER: &str = include_str!("worker.py");
const WATCH: &str = include_str!("watch.py");
/// Reads the worker's source from its socket and runs it. 256 is MSG_WAITALL.
const BOOTSTRAP: &str = "import socket\n\
    s = socket.socket(fileno=0)\n\
    source = s.recv(int.from_bytes(s.recv(4, 256), 'little'), 256)\n\
    s.detach()\n\
    exec(compile(source, 'dustdevil/worker.py', 'exec'))\n";
/// How many bytes of a worker's output are read in one turn. The rest waits until everything else has been looked at.
const OUTPUT: usize = 64 * 1024;
/// Descriptors that one message may carry: SCM_MAX_FD of Linux.
const FILES: usize = 253;

#[derive(Debug)]
pub struct Process {
    child: Child,
    /// A pidfd, readable when the process has ended. Before Linux 5.3 there is none: the end of the output tells.
    ended: Option<OwnedFd>,
    output: Option<ChildStdout>,
    errors: Option<ChildStderr>,
    lines: [OutputLines; 2],
    /// Nothing is sent over it. The kernel closes it when the server ends, and that ends the worker even while it
    /// computes.
    _lifeline: UnixStream,
}

impl Process {
    /// Starts a worker. Returns the stream and the inbox of each of its threads, in their order.
    pub fn spawn(spec: &Spec, watch: bool) -> io::Result<(Process, Vec<(UnixStream, Inbox)>)> {
        let (first, theirs) = UnixStream::pair()?;
        let (lifeline, its_end) = UnixStream::pair()?;
        let mut child = Command::new(&spec.python)
            .args(["-c", BOOTSTRAP])
            .current_dir(&spec.folder)
            // Ctrl-C at the terminal is for the server.
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let ended =
            Pid::from_raw(child.id() as i32).and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
        let mut process = Process { child, ended, output, errors, lines: Default::default(), _lifeline: lifeline };
        match process.prepare(first, its_end, spec, watch) {
            Ok(lines) => Ok((process, lines)),
            Err(error) => {
                process.signal(Signal::KILL);
                let _ = process.child.wait();
                Err(error)
            }
        }
    }

    fn prepare(
        &mut self,
        first: UnixStream,
        lifeline: UnixStream,
        spec: &Spec,
        watch: bool,
    ) -> io::Result<Vec<(UnixStream, Inbox)>> {
        for pipe in self.pipes() {
            let flags = rustix::fs::fcntl_getfl(pipe)?;
            rustix::fs::fcntl_setfl(pipe, flags | OFlags::NONBLOCK)?;
        }
        let (mut streams, mut theirs) = (vec![first], vec![lifeline]);
        for _ in 1..spec.threads {
            let (ours, other) = UnixStream::pair()?;
            streams.push(ours);
            theirs.push(other);
        }
        let inboxes = streams.iter().map(|_| Inbox::new()).collect::<io::Result<Vec<_>>>()?;
        let first = &mut streams[0];
        // All this fits in the socket's buffer: the server does not wait for the interpreter.
        first.write_all(&(WORKER.len() as u32).to_le_bytes())?;
        first.write_all(WORKER.as_bytes())?;
        let config = frames::pairs([
            ("app", spec.app.as_bytes()),
            ("folder", spec.folder.as_os_str().as_bytes()),
            ("multiprocess", if spec.workers > 1 { b"1" } else { b"0" }),
            ("watch", if watch { WATCH.as_bytes() } else { b"" }),
        ]);
        let frame = [&frames::header(ToWorker::Config, 0, config.len(), 0)[..], &config].concat();
        // The lifeline, all inboxes, and the streams of all threads but the first, which is its standard input.
        let (lifeline, others) = theirs.split_at(1);
        let files = lifeline
            .iter()
            .map(AsFd::as_fd)
            .chain(inboxes.iter().map(Inbox::theirs))
            .chain(others.iter().map(AsFd::as_fd));
        let (files, mut sent) = (files.collect::<Vec<_>>(), 0);
        for files in files.chunks(FILES) {
            sent += send_with(&*first, &frame[sent..=sent], files, SendFlags::NOSIGNAL)?;
        }
        first.write_all(&frame[sent..])?;
        Ok(streams.into_iter().zip(inboxes).collect())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The descriptors that become readable when it ends or prints.
    pub fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.ended.iter().map(AsFd::as_fd).chain(self.pipes())
    }

    fn pipes(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.output.iter().map(AsFd::as_fd).chain(self.errors.iter().map(AsFd::as_fd))
    }

    /// Logs what it has printed. True when there may be more to read.
    pub fn read_output(&mut self, now: Instant) -> bool {
        let pid = self.child.id();
        let [lines, error_lines] = &mut self.lines;
        let more = drain(&mut self.output, lines, now, |line| log::info!(target: "wsgi", "[{pid}] {line}"));
        drain(&mut self.errors, error_lines, now, |line| log::log!(target: "wsgi", level(), "[{pid}] {line}")) || more
    }

    /// Logs unfinished lines that are due.
    pub fn flush_output(&mut self, now: Instant) {
        let pid = self.child.id();
        let is_due = |lines: &OutputLines| lines.deadline().is_some_and(|deadline| deadline <= now);
        let [lines, error_lines] = &mut self.lines;
        if is_due(lines) {
            lines.flush(|line| log::info!(target: "wsgi", "[{pid}] {line}"));
        }
        if is_due(error_lines) {
            error_lines.flush(|line| log::log!(target: "wsgi", level(), "[{pid}] {line}"));
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.lines.iter().filter_map(OutputLines::deadline).min()
    }

    /// How it ended, if it has. A process that cannot be waited for counts as ended.
    pub fn ended(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(words(status)),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Whether `dump_stacks` may be called: before the worker catches SIGUSR1, which an interpreter that is still
    /// starting does not, the signal would kill it.
    pub fn can_dump_stacks(&self) -> bool {
        // SigCgt of proc(5): a bit for each signal that is caught, signal 1 in the lowest.
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        caught.is_some_and(|mask| mask >> (Signal::USR1.as_raw() - 1) & 1 == 1)
    }

    /// Makes the worker print the stacks of its threads.
    pub fn dump_stacks(&self) {
        if self.can_dump_stacks() {
            self.signal(Signal::USR1);
        }
    }

    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            // The process was not waited for yet: no other process can have its number.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

/// The level for standard error: warnings, but errors where only errors are shown, so that tracebacks always are.
fn level() -> log::Level {
    if log::max_level() < log::LevelFilter::Warn { log::Level::Error } else { log::Level::Warn }
}

fn drain(pipe: &mut Option<impl Read>, lines: &mut OutputLines, now: Instant, mut show: impl FnMut(&str)) -> bool {
    let mut room = [0; 16 * 1024];
    let mut taken = 0;
    while let Some(open) = pipe.as_mut().filter(|_| taken < OUTPUT) {
        match open.read(&mut room) {
            Ok(0) => *pipe = None,
            Ok(count) => {
                lines.push(&room[..count], now, &mut show);
                taken += count;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(_) => *pipe = None,
        }
    }
    pipe.is_some() && taken >= OUTPUT
}

fn words(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(9)) => "killed".into(),
        (None, Some(11)) => "segmentation fault".into(),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// Sends bytes, and descriptors with the first byte. Returns how many bytes were sent.
pub fn send_with(socket: impl AsFd, bytes: &[u8], files: &[BorrowedFd<'_>], flags: SendFlags) -> io::Result<usize> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(files.len()))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags)?)
}
