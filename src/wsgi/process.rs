//! One worker process: starts it, sends it its source, logs its output, and reports its end. It reads no frames.

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
/// Most bytes of a worker's output that are read in one turn. The rest is read in the next turn.
const OUTPUT: usize = 64 * 1024;
/// Most descriptors that one message can carry: Linux's SCM_MAX_FD.
const FILES: usize = 253;

#[derive(Debug)]
pub struct Process {
    child: Child,
    /// A pidfd, readable when the process has ended. Before Linux 5.3 it is `None`: then the end of the output shows
    /// it.
    ended: Option<OwnedFd>,
    output: Option<ChildStdout>,
    errors: Option<ChildStderr>,
    lines: [OutputLines; 2],
    /// Nothing is sent over this socket. When the server ends, the kernel closes it and sends the worker SIGIO, which
    /// ends the worker even in the middle of a computation.
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
            // Ctrl-C at the terminal must reach only the server.
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
        // All this fits in the socket's buffer, so these writes do not wait for the interpreter.
        first.write_all(&(WORKER.len() as u32).to_le_bytes())?;
        first.write_all(WORKER.as_bytes())?;
        let config = frames::pairs([
            ("app", spec.app.as_bytes()),
            ("folder", spec.folder.as_os_str().as_bytes()),
            ("multiprocess", if spec.workers > 1 { b"1" } else { b"0" }),
            ("watch", if watch { WATCH.as_bytes() } else { b"" }),
        ]);
        let frame = [&frames::header(ToWorker::Config, 0, config.len(), 0)[..], &config].concat();
        // The lifeline, all inboxes, and all streams except the first, which is the worker's standard input.
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

    /// The descriptors that become readable when the worker prints or ends.
    pub fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.ended.iter().map(AsFd::as_fd).chain(self.pipes())
    }

    fn pipes(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.output.iter().map(AsFd::as_fd).chain(self.errors.iter().map(AsFd::as_fd))
    }

    /// Logs what the worker has printed. True if there may be more to read.
    pub fn read_output(&mut self, now: Instant) -> bool {
        let pid = self.child.id();
        let [lines, error_lines] = &mut self.lines;
        let more = drain(&mut self.output, lines, now, |line| log::info!(target: "wsgi", "[{pid}] {line}"));
        drain(&mut self.errors, error_lines, now, |line| log::log!(target: "wsgi", level(), "[{pid}] {line}")) || more
    }

    /// Logs unfinished lines that have been held for long enough.
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

    /// How the process ended; `None` while it runs. If waitpid(2) fails, the process counts as ended.
    pub fn ended(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(words(status)),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Whether the worker catches SIGUSR1. An interpreter that is still starting does not: the signal would kill it.
    pub fn can_dump_stacks(&self) -> bool {
        // SigCgt (proc(5)) has one bit for each caught signal. The lowest bit is signal 1.
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        caught.is_some_and(|mask| mask >> (Signal::USR1.as_raw() - 1) & 1 == 1)
    }

    /// Makes the worker print the stacks of its threads. Does nothing while the interpreter is still starting.
    pub fn dump_stacks(&self) {
        if self.can_dump_stacks() {
            self.signal(Signal::USR1);
        }
    }

    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            // The process has not been waited for, so no other process can have its pid.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

/// The log level for a worker's standard error: Warn; with -q Error, so that tracebacks are always shown.
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
