//! Signals: those that end the server, those that mean nothing to it, and SIGHUP, which is both.

mod common;

use common::python::{apps, has_python, is_running};
use common::{Client, PATIENCE, Setup, TempDir, eventually, get, on_every_engine, store_server};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

const UPLOAD: &str = "PUT /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf";

/// Becomes the command behind it, with a terminal as its standard input.
const ON_TERMINAL: &[&str] = &[
    "python3",
    "-c",
    "import os, sys\n\
     master, slave = os.openpty()\n\
     os.set_inheritable(master, True)\n\
     os.dup2(slave, 0)\n\
     os.execvp(sys.argv[1], sys.argv[1:])",
];

/// Runs the command behind it as a session of its own on a terminal, says its process, closes the terminal at SIGUSR1, and
/// ends as the command does.
const IN_TERMINAL: &[&str] = &[
    "python3",
    "-c",
    "import fcntl, os, signal, sys, termios\n\
     master, slave = os.openpty()\n\
     child = os.fork()\n\
     if child == 0:\n\
     \x20   os.setsid()\n\
     \x20   fcntl.ioctl(slave, termios.TIOCSCTTY, 0)\n\
     \x20   os.dup2(slave, 0)\n\
     \x20   os.close(master)\n\
     \x20   os.close(slave)\n\
     \x20   os.execvp(sys.argv[1], sys.argv[1:])\n\
     os.close(slave)\n\
     os.write(2, b'session %d\\n' % child)\n\
     signal.signal(signal.SIGUSR1, lambda *_: os.close(master))\n\
     sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))",
];

/// Keeps SIGHUP ignored, as nohup(1) does.
const NOHUP: &[&str] = &["sh", "-c", "trap '' HUP; exec \"$@\"", "sh"];

on_every_engine! {
    fn signals_that_mean_nothing_are_told_and_ignored(engine: Engine) {
        let (mut server, _store) = store_server(engine, &["-v"]);
        for signal in ["USR1", "USR2", "HUP"] {
            server.signal(signal);
            server.expect_stderr(&format!("SIG{signal} is ignored"));
            assert_eq!(get(&server, "/echo/x").text(), "x");
        }
        server.signal("TERM");
        assert_eq!(server.await_exit(PATIENCE).code(), Some(0));
    }

    /// While the server opens what it serves: it waits for a page of an error here.
    fn they_are_ignored_before_the_server_listens(engine: Engine) {
        let folder = TempDir::new();
        let page = folder.join("page");
        assert!(Command::new("mkfifo").arg(&page).status().unwrap().success());
        let mut command = Command::new(env!("CARGO_BIN_EXE_dustdevil"));
        command.args(["--port", "0", "--bind", "127.0.0.1", "--engine", engine.name(), folder.arg()]);
        command.arg(format!("--error-page=404={}", page.display()));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = child.id().to_string();
        // This returns when the server has opened the other end.
        let mut writer = File::options().write(true).open(&page).unwrap();
        for signal in ["-USR1", "-USR2", "-HUP"] {
            assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        }
        // The signals are there before the server can go on.
        let _ = writer.write_all(b"gone");
        drop(writer);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let is_up = lines.any(|line| line.unwrap().starts_with("http://127.0.0.1:"));
        let _ = child.kill();
        let _ = child.wait();
        assert!(is_up, "a signal ended it");
    }

    fn a_hangup_on_a_terminal_lets_an_upload_finish(engine: Engine) {
        if !has_python() {
            return;
        }
        let store = TempDir::new();
        let setup = Setup::on(engine).through(ON_TERMINAL).args(["--directory", store.arg(), "--grace-period", "60s"]);
        let mut server = setup.start();
        let mut client = Client::connect(&server);
        client.send(UPLOAD);
        server.await_upload(&store);
        server.signal("HUP");
        server.expect_stderr("shutting down");
        // The shell and the kernel send more of them: they are no second signal to end.
        server.signal("HUP");
        server.signal("HUP");
        client.send("done");
        assert_eq!(client.read_response().status, 201);
        assert_eq!(server.await_exit(PATIENCE).code(), Some(0));
        assert_eq!(fs::read(store.join("f")).unwrap(), b"halfdone");
    }

    fn a_terminal_that_is_closed_ends_the_server(engine: Engine) {
        if !has_python() {
            return;
        }
        let mut server = Setup::on(engine).through(IN_TERMINAL).start();
        assert_eq!(get(&server, "/echo/x").text(), "x");
        server.signal("USR1");
        assert_eq!(server.await_exit(PATIENCE).code(), Some(0));
    }

    /// SIGHUP reloads applications on a terminal too, since --wsgi-reload sends it. Only the closed terminal ends.
    fn beside_an_application_only_a_closed_terminal_ends_the_server(engine: Engine) {
        if !has_python() {
            return;
        }
        let setup = Setup::on(engine).through(IN_TERMINAL).env("PYTHONDONTWRITEBYTECODE", "1");
        let mut server = setup.args(["--wsgi", "apps:app", "--wsgi-chdir", apps().to_str().unwrap()]).start();
        let told = server.stderr();
        let pid = told.split("session ").nth(1).unwrap().lines().next().unwrap().to_owned();
        let worker = |server: &_| get(server, "/pid").text().to_owned();
        let before = worker(&server);
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
        eventually("another worker", || (worker(&server) != before).then_some(()));
        server.signal("USR1");
        assert_eq!(server.await_exit(PATIENCE).code(), Some(0));
        assert!(!is_running(&pid));
    }

    fn a_hangup_that_was_ignored_stays_ignored(engine: Engine) {
        if !has_python() {
            return;
        }
        let wrapper: Vec<&str> = NOHUP.iter().chain(ON_TERMINAL).copied().collect();
        let mut server = Setup::on(engine).through(&wrapper).args(["-v"]).start();
        server.signal("HUP");
        // Handled behind it, if it is handled at all.
        server.signal("USR1");
        server.expect_stderr("SIGUSR1 is ignored");
        assert_eq!(get(&server, "/echo/x").text(), "x");
        assert!(!server.stderr().contains("shutting down"), "{}", server.stderr());
        server.signal("TERM");
        assert_eq!(server.await_exit(PATIENCE).code(), Some(0));
    }
}

/// Here the command line is being read: the text of --help waits for a reader.
#[test]
fn they_are_ignored_before_the_command_line_is_read() {
    let (mut reader, mut writer) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    let filled: usize = std::iter::from_fn(|| writer.write(&[0; 512]).ok()).sum();
    writer.set_nonblocking(false).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dustdevil"));
    command.arg("--help").stdin(Stdio::null()).stdout(OwnedFd::from(writer));
    let mut child = command.spawn().unwrap();
    // It holds a copy of the other end, which would keep the text from ending.
    drop(command);
    let status = format!("/proc/{}/status", child.id());
    eventually("the text to wait", || fs::read_to_string(&status).unwrap().contains("State:\tS").then_some(()));
    for signal in ["-USR1", "-USR2", "-HUP"] {
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    }
    let mut told = Vec::new();
    reader.read_to_end(&mut told).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(String::from_utf8_lossy(&told[filled..]).contains("--help"));
}
