//! A stuck request (one that makes no progress) and the other requests of its worker.

mod common;

use common::python::{is_running, serve_source};
use common::{Client, Engine, PATIENCE, Server, TempDir, eventually, get, on_every_engine};
use std::fs;
use std::thread;
use std::time::Duration;

/// `/stuck` never answers. `/stream?NAME` sends a line every tenth of a second until there is a file NAME.
const SOURCE: &str = r#"
import os, threading, time

def app(environ, start_response):
    path, name = environ["PATH_INFO"], environ["QUERY_STRING"]
    if path == "/stuck":
        threading.Event().wait()
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/stream":
        return stream(name)
    return [str(os.getpid()).encode()]

def stream(name):
    yield b"%d\n" % os.getpid()
    while not os.path.exists(name):
        yield b"line\n"
        time.sleep(0.1)
    yield b"end\n"
"#;
const TIMEOUT: Duration = Duration::from_secs(2);

fn start(engine: Engine, folder: &TempDir, more: &[&str]) -> Option<Server> {
    let args = [&["--wsgi-threads", "4", "--wsgi-timeout", "2s", "--grace-period", "60s"], more].concat();
    serve_source(engine, folder, SOURCE, &args)
}

/// A response that does not end until a file is created. Ten of its lines have arrived.
struct Stream {
    client: Client,
    end: std::path::PathBuf,
    pid: String,
    seen: Vec<u8>,
}

impl Stream {
    fn begin(server: &Server, folder: &TempDir, name: &str) -> Stream {
        let (mut client, end) = (Client::connect(server), folder.join(name));
        client.send(format!("GET /stream?{} HTTP/1.0\r\n\r\n", end.display()));
        let mut seen = Vec::new();
        while seen.windows(5).filter(|line| *line == b"line\n").count() < 10 {
            let mut room = [0; 4096];
            let count = client.read_some(&mut room).expect("the stream goes on");
            assert!(count > 0, "the stream ended");
            seen.extend_from_slice(&room[..count]);
        }
        let text = String::from_utf8(seen.clone()).unwrap();
        let content = text.split("\r\n\r\n").nth(1).unwrap();
        Stream { client, end, pid: content.lines().next().unwrap().to_owned(), seen }
    }

    /// Lets the response end, and returns whether all of it has arrived.
    fn is_whole_at_end(&mut self) -> bool {
        fs::write(&self.end, "").unwrap();
        self.seen.extend(self.client.read_to_end());
        self.seen.ends_with(b"line\nend\n")
    }
}

/// Waits for the answer to a request that gets stuck.
fn get_stuck(server: &Server) {
    assert_eq!(get(server, "/stuck").status, 504);
}

/// Waits until requests get another worker than `pid`.
fn await_replacement(server: &Server, pid: &str) {
    eventually("a new worker to answer", || (get(server, "/pid").text() != pid).then_some(()));
}

on_every_engine! {
    #[skip(Iterative, "serves one client at a time")]
    fn a_stuck_request_leaves_the_streams_of_its_worker_whole(engine: Engine) {
        let folder = TempDir::new();
        let Some(server) = start(engine, &folder, &[]) else { return };
        let mut stream = Stream::begin(&server, &folder, "end");
        get_stuck(&server);
        await_replacement(&server, &stream.pid);
        server.expect_stderr("it is killed when its other requests have ended (1 under way)");
        // Much longer than the timeout, so that a worker that is killed too early is noticed.
        thread::sleep(TIMEOUT * 3);
        assert!(is_running(&stream.pid));
        assert!(stream.is_whole_at_end());
        eventually("the stuck worker's end", || (!is_running(&stream.pid)).then_some(()));
        eventually("one worker to be left", || (server.children().len() == 1).then_some(()));
    }

    #[skip(Iterative, "serves one client at a time")]
    fn no_more_stuck_workers_linger_than_there_are_workers(engine: Engine) {
        let folder = TempDir::new();
        let Some(server) = start(engine, &folder, &[]) else { return };
        let mut first = Stream::begin(&server, &folder, "first");
        get_stuck(&server);
        await_replacement(&server, &first.pid);
        let mut second = Stream::begin(&server, &folder, "second");
        assert_ne!(first.pid, second.pid);
        get_stuck(&server);
        eventually("the oldest to be killed", || (!is_running(&first.pid)).then_some(()));
        server.expect_stderr("is killed, because too many workers are stuck: 1 requests are cut");
        assert!(!first.is_whole_at_end());
        await_replacement(&server, &second.pid);
        assert!(second.is_whole_at_end());
    }

    #[skip(Iterative, "serves one client at a time")]
    fn a_reload_leaves_a_stuck_worker_its_streams(engine: Engine) {
        let folder = TempDir::new();
        let Some(server) = start(engine, &folder, &[]) else { return };
        let mut stream = Stream::begin(&server, &folder, "end");
        get_stuck(&server);
        await_replacement(&server, &stream.pid);
        let replacement = get(&server, "/pid").text();
        server.signal("HUP");
        await_replacement(&server, &replacement);
        assert!(stream.is_whole_at_end());
        eventually("the stuck worker's end", || (!is_running(&stream.pid)).then_some(()));
    }

    #[skip(Iterative, "serves one client at a time")]
    fn a_shutdown_waits_for_the_streams_of_a_stuck_worker(engine: Engine) {
        let folder = TempDir::new();
        let Some(mut server) = start(engine, &folder, &[]) else { return };
        let mut stream = Stream::begin(&server, &folder, "end");
        get_stuck(&server);
        await_replacement(&server, &stream.pid);
        server.signal("TERM");
        server.expect_stderr("shutting down");
        thread::sleep(TIMEOUT);
        assert!(stream.is_whole_at_end());
        assert_eq!(server.await_exit(PATIENCE).code(), Some(0));
        eventually("the stuck worker's end", || (!is_running(&stream.pid)).then_some(()));
    }

    #[skip(Iterative, "serves one client at a time")]
    fn a_stuck_worker_that_crashes_costs_its_own_requests_alone(engine: Engine) {
        let folder = TempDir::new();
        let Some(server) = start(engine, &folder, &[]) else { return };
        let mut first = Stream::begin(&server, &folder, "first");
        get_stuck(&server);
        await_replacement(&server, &first.pid);
        let mut second = Stream::begin(&server, &folder, "second");
        let pid = rustix::process::Pid::from_raw(first.pid.parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        assert!(!first.is_whole_at_end());
        assert_eq!(get(&server, "/pid").text(), second.pid);
        assert!(second.is_whole_at_end());
    }

    #[skip(Iterative, "serves one client at a time")]
    fn every_stuck_request_of_a_worker_is_answered_at_its_own_timeout(engine: Engine) {
        let folder = TempDir::new();
        let Some(server) = start(engine, &folder, &[]) else { return };
        let mut stream = Stream::begin(&server, &folder, "end");
        let stuck: Vec<Client> = (0..3)
            .map(|_| {
                let mut client = Client::connect(&server);
                client.send("GET /stuck HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
                thread::sleep(Duration::from_millis(200));
                client
            })
            .collect();
        for mut client in stuck {
            assert_eq!(client.read_response().status, 504);
        }
        await_replacement(&server, &stream.pid);
        assert!(stream.is_whole_at_end());
        eventually("the stuck worker's end", || (!is_running(&stream.pid)).then_some(()));
    }
}
