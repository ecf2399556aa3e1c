//! Logs without a reader, logs that do not exist yet, and full disks: no request waits for them, no line is torn, and
//! lost lines are counted and reported.

mod common;

use common::{Client, Engine, PATIENCE, Server, Setup, TempDir, eventually, exchange, get, on_every_engine};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, mknodat};
use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

/// Most bytes of the access log, and of the diagnostics, that the server keeps for a slow reader.
const ROOM: usize = 1024 * 1024;
const DIAGNOSTICS_ROOM: usize = 256 * 1024;
/// Requests whose log lines of 60 KB are more than `ROOM` and the buffer of a pipe or socket together.
const MANY: usize = 24;

/// A request whose line in the access log is 60 KB long: more than PIPE_BUF, and two of them fill a pipe.
fn long_request(number: usize) -> Vec<u8> {
    let head = format!("GET /echo/{number} HTTP/1.1\r\nHost: x\r\nUser-Agent: ");
    [head.as_bytes(), &[0xff; 15_000], b"\r\n\r\n"].concat()
}

/// Sends `count` long requests, numbered from `first` on. Each must be answered.
#[track_caller]
fn ask(server: &Server, first: usize, count: usize) {
    for number in first..first + count {
        assert_eq!(exchange(server, long_request(number)).text(), number.to_string());
    }
}

/// The numbers of the requests that have a line in the log. Each line must be whole.
#[track_caller]
fn logged(log: &[u8]) -> Vec<usize> {
    let text = String::from_utf8_lossy(log);
    assert!(text.is_empty() || text.ends_with('\n'), "the log ends in the middle of a line");
    let number = |line: &str| {
        let (start, rest) = line.split_once("GET /echo/").unwrap_or_else(|| panic!("a torn line: {line:.200}"));
        let (number, end) = rest.split_once(" HTTP/1.1").unwrap();
        assert!(start.starts_with("127.0.0.1 - - [") && !end.contains(" - - ["), "a torn line: {line:.200}");
        assert!(end.ends_with(&format!("\"-\" \"{}\"", "\\xFF".repeat(15_000))), "a torn line: {line:.200}");
        number.parse().unwrap()
    };
    text.lines().map(number).collect()
}

/// Checks that no request has two lines.
#[track_caller]
fn distinct(mut numbers: Vec<usize>) -> Vec<usize> {
    let count = numbers.len();
    numbers.sort();
    numbers.dedup();
    assert_eq!(numbers.len(), count, "{numbers:?}");
    numbers
}

/// The sum of the lost lines of the access log that the server has reported.
fn told_lost(server: &Server) -> usize {
    let words = server.stderr();
    let told = words.lines().filter_map(|line| line.split_once("access log is written again; lines lost: "));
    told.map(|(_, count)| count.trim().parse::<usize>().unwrap()).sum()
}

/// The reading end of a log. Reading does not wait.
struct Reader {
    end: OwnedFd,
    read: Vec<u8>,
}

impl Reader {
    fn new(end: impl Into<OwnedFd>) -> Reader {
        let end = end.into();
        set_nonblocking(&end, true);
        Reader { end, read: Vec::new() }
    }

    /// The numbers of the lines so far, if the last line is whole.
    fn lines(&mut self) -> Option<Vec<usize>> {
        self.drain();
        self.read.ends_with(b"\"\n").then(|| logged(&self.read))
    }

    /// Reads all bytes that have arrived.
    fn drain(&mut self) {
        let mut room = [0; 64 * 1024];
        while let Ok(count @ 1..) = rustix::io::read(&self.end, &mut room) {
            self.read.extend_from_slice(&room[..count]);
        }
    }
}

fn set_nonblocking(file: impl AsFd, on: bool) {
    let flags = fcntl_getfl(&file).unwrap();
    fcntl_setfl(&file, if on { flags | OFlags::NONBLOCK } else { flags - OFlags::NONBLOCK }).unwrap();
}

/// Fills a pipe, socket or terminal without a reader to the last byte. A terminal moves bytes on after a delay, so it
/// counts as full only if there is still no room after a pause.
fn fill(file: &OwnedFd) {
    set_nonblocking(file, true);
    let while_it_moves = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
    loop {
        for size in [4096, 1] {
            while rustix::io::write(file, &vec![b'#'; size]).is_ok() {}
        }
        if poll(&mut [PollFd::new(file, PollFlags::OUT)], Some(&while_it_moves)) == Ok(0) {
            break;
        }
    }
    set_nonblocking(file, false);
}

fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap()
}

fn socket() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = UnixStream::pair().unwrap();
    (reader.into(), writer.into())
}

/// A terminal in raw mode, which does not change the bytes written to it, and its other end.
fn terminal() -> (OwnedFd, OwnedFd) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    (master, rustix::fs::open(name, flags, Mode::empty()).unwrap())
}

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

/// Opens the reading end of a FIFO without waiting for a writer.
fn read_fifo(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// A loopback address that nothing else uses, for a server whose banner cannot be read. A free port of 127.0.0.1 could
/// be taken by another test before the server binds it.
fn own_address() -> SocketAddr {
    static NUMBER: AtomicU8 = AtomicU8::new(1);
    let [high, low, ..] = std::process::id().to_le_bytes();
    let address = Ipv4Addr::new(127, 128 | low, high, NUMBER.fetch_add(1, Ordering::Relaxed));
    TcpListener::bind((address, 0)).unwrap().local_addr().unwrap()
}

/// A server whose standard output and standard error are full before it starts, and are not read.
fn stuck(engine: Engine, (reader, writer): (OwnedFd, OwnedFd), args: &[&str]) -> (Server, OwnedFd, OwnedFd) {
    fill(&writer);
    let address = own_address();
    let setup = Setup::on(engine).args(args).args(["--bind", &address.to_string()]).silent_at(address);
    let writers = (writer.try_clone().unwrap(), writer.try_clone().unwrap());
    (setup.stdout_to(writers.0).stderr_to(writers.1).start(), reader, writer)
}

on_every_engine! {
    /// The server once waited for the reader: two long requests filled the pipe, and the third was never answered.
    fn an_access_log_without_a_reader_delays_no_request(engine: Engine) {
        let named = TempDir::new();
        fifo(&named.join("fifo"));
        let open_fifo = || {
            let reader = read_fifo(&named.join("fifo"));
            (reader, File::options().write(true).open(named.join("fifo")).unwrap().into())
        };
        for (reader, writer) in [pipe(), socket(), open_fifo()] {
            let mut reader = Reader::new(reader);
            let before = fcntl_getfl(&writer).unwrap();
            let server = Setup::on(engine).stdout_to(writer.try_clone().unwrap()).start();
            ask(&server, 0, MANY);
            server.expect_stderr("the access log cannot be written for now: nobody reads it");
            eventually("that it is written again", || {
                reader.drain();
                server.stderr().contains("the access log is written again").then_some(())
            });
            ask(&server, MANY, 1);
            eventually("all lines", || reader.lines().filter(|numbers| numbers.contains(&MANY)));
            let numbers = distinct(logged(&reader.read));
            assert!(numbers.len() * 60_000 >= ROOM, "some of it waited: {numbers:?}");
            assert_eq!(numbers.len() + told_lost(&server), MANY + 1, "{numbers:?}: {}", server.stderr());
            assert_eq!(fcntl_getfl(&writer).unwrap(), before, "the flags are shared with others");
        }
    }

    /// Standard output and standard error were once written with calls that wait for a reader.
    fn full_logs_do_not_keep_two_signals_from_ending_the_server(engine: Engine) {
        for ends in [pipe(), socket(), terminal()] {
            let store = TempDir::new();
            let args = ["-vv", "--directory", store.arg(), "--grace-period", "600s", "--body-timeout", "600s"];
            let (mut server, reader, _writer) = stuck(engine, ends, &args);
            for _ in 0..3 {
                assert_eq!(exchange(&server, "BROKEN\r\n\r\n").status, 400);
                assert_eq!(get(&server, "/echo/x").text(), "x");
            }
            let mut client = Client::connect(&server);
            client.send("PUT /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf");
            server.await_upload(&store);
            server.signal("TERM");
            let address = server.address();
            eventually("the port to be closed", || std::net::TcpStream::connect(address).is_err().then_some(()));
            server.signal("TERM");
            server.await_exit(PATIENCE);
            assert!(!store.join("f").exists());
            drop(reader);
        }
    }

    /// Lines of diagnostics stay whole. When they are read again, the server reports how many were lost.
    fn lost_diagnostics_are_counted(engine: Engine) {
        let (server, reader, _writer) = stuck(engine, pipe(), &["-vv", "--access-log", "off"]);
        // Each request causes two lines of more than 80 bytes. Together they are more than the server keeps.
        for _ in 0..DIAGNOSTICS_ROOM / 160 {
            assert_eq!(exchange(&server, "BROKEN\r\n\r\n").status, 400);
        }
        let mut reader = Reader::new(reader);
        let text = eventually("how many lines were lost", || {
            exchange(&server, "BROKEN\r\n\r\n");
            reader.drain();
            let text = String::from_utf8_lossy(&reader.read).into_owned();
            text.contains("standard error could not be written for a while; lines lost: ").then_some(text)
        });
        let (_, text) = text.rsplit_once('#').unwrap();
        let (diagnostics, others): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.contains("Z "));
        let is_whole = |line: &&str| line.starts_with("20") && line.matches("Z ").count() == 1 && line.contains("] ");
        assert!(diagnostics.iter().all(is_whole));
        assert!(diagnostics.len() > 1000, "{} lines waited", diagnostics.len());
        assert!(others.len() < 20, "only the banner besides: {others:.1000?}");
    }

    /// Opening the FIFO once waited for a reader, without a message.
    fn a_fifo_without_a_reader_does_not_hold_up_the_start(engine: Engine) {
        let folder = TempDir::new();
        let path = folder.join("fifo");
        fifo(&path);
        let server = Setup::on(engine).args(["--access-log", path.to_str().unwrap()]).start();
        server.expect_stderr("nobody has opened it for reading");
        ask(&server, 0, 2);
        let mut reader = Reader::new(read_fifo(&path));
        // No further request is needed: the server tries again from time to time.
        eventually("two lines", || reader.lines().map(distinct).filter(|numbers| numbers == &[0, 1]));
        server.expect_stderr("the access log is written again; lines lost: 0");
        // The reader closes the FIFO, and another opens it.
        drop(reader);
        ask(&server, 2, 1);
        server.expect_stderr("its reader has gone");
        let mut reader = Reader::new(read_fifo(&path));
        eventually("the line that has waited", || reader.lines().filter(|numbers| numbers == &[2]));
    }

    /// A full disk was once reported only once in the life of the process. Lines were lost uncounted, and one was torn.
    fn a_full_disk_is_told_each_time_and_tears_no_line(engine: Engine) {
        let folder = TempDir::new();
        let (full, log) = (folder.join("filler"), folder.join("access.log"));
        let script = "mount -t tmpfs -o size=4m none \"$0\" && exec \"$@\"";
        let private = ["unshare", "-rm", "sh", "-c", script, folder.arg()];
        let tried = Command::new(private[0]).args(&private[1..]).arg("true").output();
        if !tried.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: no file system of its own can be mounted here");
            return;
        }
        let server = Setup::on(engine).through(&private).args(["--access-log", log.to_str().unwrap()]).start();
        // The paths in the server's own mount namespace.
        let inside = |path: &Path| format!("/proc/{}/root{}", server.pid(), path.display());
        for round in 1..=2 {
            // Two pages are left, so a line of 60 KB is written only in part.
            let mut filler = File::create(inside(&full)).unwrap();
            while filler.write_all(&[b'#'; 4096]).is_ok() {}
            filler.set_len(filler.metadata().unwrap().len() - 8192).unwrap();
            ask(&server, (round - 1) * MANY, MANY);
            let told = |words| server.stderr().matches(words).count() == round;
            eventually("a word about the disk", || told("cannot be written for now: No space left").then_some(()));
            drop(filler);
            fs::remove_file(inside(&full)).unwrap();
            eventually("a word about the loss", || told("the access log is written again").then_some(()));
        }
        let numbers = distinct(logged(&fs::read(inside(&log)).unwrap()));
        assert!(numbers.len() < 2 * MANY, "{numbers:?}");
        assert_eq!(numbers.len() + told_lost(&server), 2 * MANY, "{numbers:?}: {}", server.stderr());
    }

    /// Lines once went into a file that had been removed with its directory, without a message.
    fn a_log_whose_directory_has_gone_is_made_again(engine: Engine) {
        let folder = TempDir::new();
        let path = folder.write("logs/access.log", "");
        let server = Setup::on(engine).args(["--access-log", path.to_str().unwrap()]).start();
        ask(&server, 0, 1);
        fs::remove_dir_all(folder.join("logs")).unwrap();
        eventually("a word about it", || {
            ask(&server, 1, 1);
            server.stderr().contains("cannot be written for now: No such file").then_some(())
        });
        fs::create_dir(folder.join("logs")).unwrap();
        server.expect_stderr("the access log is written again");
        ask(&server, 2, 1);
        eventually("a line", || {
            let log = fs::read(&path).unwrap();
            (log.ends_with(b"\n") && logged(&log).ends_with(&[2])).then_some(())
        });
    }

    /// At the end of the server, waiting lines are written if their reader takes them, and counted if not.
    fn lines_that_are_lost_at_the_end_are_told(engine: Engine) {
        let (_reader, writer) = pipe();
        let mut server = Setup::on(engine).stdout_to(writer).start();
        ask(&server, 0, 3);
        server.signal("TERM");
        assert_eq!(server.await_exit(PATIENCE).code(), Some(0));
        server.expect_stderr("the access log was not written to its end: nobody reads it; lines lost: ");
    }
}
