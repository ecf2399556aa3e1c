//! Python applications that misbehave: threads that write after their response, requests that kill workers, reloads,
//! and ends by force.

mod common;

use common::python::{has_python, is_running, serve_source};
use common::{Client, TempDir, eventually, get, on_every_engine};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// `/late` leaves a thread that writes during the next response, which is `/slow`.
const LATE: &str = "
import os, threading, time

said = []

def app(environ, start_response):
    path = environ['PATH_INFO']
    write = start_response('200 OK', [('Content-Type', 'text/plain')])
    if path == '/late':
        def later():
            time.sleep(0.3)
            try:
                write(b'LATE')
                said.append('written')
            except OSError as error:
                said.append(type(error).__name__)
        threading.Thread(target=later).start()
        return [b'whole']
    if path == '/slow':
        return slow()
    return [b'%d %s' % (os.getpid(), ' '.join(said).encode())]

def slow():
    for _ in range(6):
        yield b'tick'
        time.sleep(0.1)
";

const HANGING: &str = "
import time

def app(environ, start_response):
    start_response('200 OK', [])
    yield b'begun'
    time.sleep(1000)
";

const CRASHING: &str = "
import os

def app(environ, start_response):
    if environ['PATH_INFO'] == '/crash':
        os._exit(1)
    start_response('200 OK', [])
    return [b'alive']
";

on_every_engine! {
    fn a_late_write_is_not_in_another_response(engine: Engine) {
        let folder = TempDir::new();
        for between in ["/slow", "/"] {
            let Some(server) = serve_source(engine, &folder, LATE, &[]) else { return };
            let pid = get(&server, "/").text();
            assert_eq!(get(&server, "/late").text(), "whole");
            if between == "/slow" {
                assert_eq!(get(&server, between).text(), "tick".repeat(6));
            }
            let told = format!("{pid}BrokenPipeError");
            eventually("the late write to fail", || (get(&server, "/").text() == told).then_some(()));
        }
    }

    /// The longest pause before the next worker is one second, which a unit test of src/wsgi/pool.rs checks.
    fn requests_that_kill_workers_again_and_again_cost_no_other(engine: Engine) {
        let folder = TempDir::new();
        let Some(server) = serve_source(engine, &folder, CRASHING, &[]) else { return };
        for _ in 0..7 {
            assert_eq!(get(&server, "/crash").status, 502);
        }
        assert_eq!(get(&server, "/").text(), "alive");
    }

    /// `systemctl kill --signal=HUP` and a closed terminal signal the workers as well as the server.
    fn a_reload_that_is_told_to_the_workers_too_costs_no_request(engine: Engine) {
        let folder = TempDir::new();
        let Some(server) = serve_source(engine, &folder, LATE, &[]) else { return };
        let pid = get(&server, "/").text();
        let mut client = Client::connect(&server);
        client.send("GET /slow HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        assert_eq!(client.read_head().status, 200);
        server.signal("HUP");
        assert!(Command::new("kill").args(["-HUP", pid.trim()]).status().unwrap().success());
        let rest = String::from_utf8(client.read_to_end()).unwrap();
        assert!(rest.matches("tick").count() == 6 && rest.ends_with("0\r\n\r\n"), "{rest}");
        eventually("the new worker", || (get(&server, "/").text() != pid).then_some(()));
    }

    fn an_end_by_force_does_not_wait_for_an_application_that_hangs(engine: Engine) {
        let folder = TempDir::new();
        for (grace, signals) in [("0", 1), ("600s", 2)] {
            let Some(mut server) = serve_source(engine, &folder, HANGING, &["--grace-period", grace]) else { return };
            let mut client = Client::connect(&server);
            client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
            client.read_head();
            let start = Instant::now();
            server.signal("TERM");
            if signals == 2 {
                // Two signals at the same time would count as one.
                let address = server.address();
                eventually("the port to be closed", || TcpStream::connect(address).is_err().then_some(()));
                server.signal("TERM");
            }
            server.await_exit(common::PATIENCE);
            // Without force, a worker may take ten seconds to end.
            assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
        }
    }
}

/// Everything that a worker needs is in the buffer of its socket before the interpreter runs. If the server ends before
/// that, the worker must not import the application.
#[test]
fn a_worker_whose_server_ended_before_it_began_imports_nothing() {
    let folder = TempDir::new();
    if !has_python() {
        return;
    }
    folder.write("fresh.py", "open('imported', 'w').close()");
    let script = "#!/bin/sh\necho $$ > pid\ntouch begun\nwhile [ ! -e go ]; do sleep 0.05; done\nexec python3 \"$@\"\n";
    let python = folder.write("late_python", script);
    std::fs::set_permissions(&python, PermissionsExt::from_mode(0o755)).unwrap();
    let mut server = Command::new(env!("CARGO_BIN_EXE_dustdevil"))
        .args(["--port", "0", "--wsgi", "fresh:app", "--wsgi-chdir", folder.arg(), "--python"])
        .arg(&python)
        .spawn()
        .unwrap();
    eventually("the interpreter to be started", || folder.join("begun").exists().then_some(()));
    server.kill().unwrap();
    server.wait().unwrap();
    folder.write("go", "");
    let pid = std::fs::read_to_string(folder.join("pid")).unwrap();
    eventually("the interpreter to end", || (!is_running(pid.trim())).then_some(()));
    assert!(!folder.join("imported").exists());
}
