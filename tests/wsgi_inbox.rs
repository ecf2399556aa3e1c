//! Requests that wait in the inbox of a busy worker are answered in order, even if some clients leave. None of them is
//! lost when the worker ends.

mod common;

use common::python::{Held, serve_source};
use common::{Client, Engine, PATIENCE, Response, Server, TempDir, eventually, get, noise, on_every_engine};
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

const APP: &str = r#"
import os, sys, tempfile, time

seen = []
if os.path.exists("hesitate"):
    time.sleep(0.6)
PLAIN = [("Content-Type", "text/plain")]


class Watched:
    def __init__(self, name, chunks):
        self.name, self.chunks = name, chunks

    def __iter__(self):
        return self.chunks

    def close(self):
        seen.append("closed " + self.name)


def endless():
    while True:
        time.sleep(0.001)
        yield b"x" * 1000


def temporary(content):
    file = tempfile.TemporaryFile()
    file.write(b"...." + content)
    file.seek(4)
    return file


def app(environ, start_response):
    kind, _, name = environ["PATH_INFO"].strip("/").partition("/")
    name = name or kind
    if kind == "seen":
        start_response("200 OK", list(PLAIN))
        return [",".join(seen).encode()]
    seen.append(name)
    body = environ["wsgi.input"].read()
    if kind == "crash":
        os._exit(11)
    if kind == "slow":
        time.sleep(float(name))
    if kind == "held":
        open(environ["QUERY_STRING"] + ".begun", "w").close()
        while not os.path.exists(environ["QUERY_STRING"]):
            time.sleep(0.005)
    if kind == "linger":
        # The thread takes nothing up for a while after its answer.
        time.sleep(0.2)
        sys.stderr.flush = lambda: time.sleep(2)
    if kind == "nonsense":
        time.sleep(0.4)
        start_response.__self__.link.sock.send(b"nonsense" * 2)
        time.sleep(2)
    if kind == "mark":
        open(name, "x").close()
    if kind == "broken":
        start_response("200 OK", [("Content-Length", "none")])
        return environ["wsgi.file_wrapper"](temporary(b"a secret"))
    if kind == "raise":
        raise ValueError(name)
    start_response("200 OK", list(PLAIN))
    if kind == "endless":
        return Watched(name, endless())
    if kind == "stream":
        return Watched(name, iter([name.encode(), b" ", name.encode()]))
    if kind == "file":
        return environ["wsgi.file_wrapper"](temporary(b"in a file: " + name.encode()))
    if kind == "post":
        return [name.encode(), b":", body]
    if kind == "pid":
        return [str(os.getpid()).encode()]
    return [name.encode()]
"#;

fn serve(engine: Engine, args: &[&str]) -> Option<(Server, TempDir)> {
    let folder = TempDir::new();
    serve_source(engine, &folder, APP, args).map(|server| (server, folder))
}

fn ask(server: &Server, path: &str) -> Client {
    send(server, path, b"")
}

fn send(server: &Server, path: &str, body: &[u8]) -> Client {
    let mut client = Client::connect(server);
    let method = if path.starts_with("/post") { "POST" } else { "GET" };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len());
    client.send([head.as_bytes(), body].concat());
    client
}

/// Keeps the only worker busy with a request until it is released. Later requests wait.
fn occupy(server: &Server, folder: &TempDir) -> Held {
    Held::begin(server, folder.join("go"))
}

fn release(held: Held) {
    assert_eq!(held.release().text(), "held");
}

/// Sends a request with content. The server has read its head when this returns.
fn send_expecting(server: &Server, path: &str, body: &[u8]) -> Client {
    let mut client = Client::connect(server);
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n", body.len());
    client.send(head);
    assert_eq!(client.read_response().status, 100);
    client.send(body);
    client
}

fn expect(mut client: Client, body: &[u8]) -> Response {
    let answer = client.read_response();
    assert_eq!((answer.status, &answer.body[..]), (200, body), "{}", answer.text());
    answer
}

/// Sends a signal to all current workers.
fn signal_workers(server: &Server, name: &str) {
    let pids = server.children();
    assert!(Command::new("kill").arg(format!("-{name}")).args(&pids).status().unwrap().success(), "{pids:?}");
}

/// Sends one request for each number. The answer to each is its number.
fn ask_for_each(server: &Server, numbers: Range<usize>) -> Vec<(usize, Client)> {
    numbers.map(|number| (number, ask(server, &format!("/name/{number}")))).collect()
}

fn expect_each(asked: Vec<(usize, Client)>) {
    for (number, client) in asked {
        expect(client, number.to_string().as_bytes());
    }
}

fn contains(line: &[u8], words: &[u8]) -> bool {
    line.windows(words.len()).any(|window| window == words)
}

fn seen(server: &Server) -> Vec<String> {
    get(server, "/seen").text().split(',').map(str::to_owned).collect()
}

on_every_engine! {
    #[skip(Iterative, "serves one client at a time")]
    fn each_request_gets_its_own_answer_whatever_its_kind(engine: Engine) {
        let Some((server, folder)) = serve(engine, &[]) else { return };
        let held = occupy(&server, &folder);
        let (small, large) = (noise(60_000), noise(300_000));
        let asked = (0..48).map(|number| match number % 8 {
            0 => (ask(&server, &format!("/file/{number}")), format!("in a file: {number}").into_bytes()),
            1 | 5 => (ask(&server, &format!("/stream/{number}")), format!("{number} {number}").into_bytes()),
            2 => (send(&server, &format!("/post/{number}"), &small), [format!("{number}:").as_bytes(), &small].concat()),
            3 => (ask(&server, &format!("/raise/{number}")), Vec::new()),
            6 => (send(&server, &format!("/post/{number}"), &large), [format!("{number}:").as_bytes(), &large].concat()),
            _ => (ask(&server, &format!("/name/{number}")), number.to_string().into_bytes()),
        });
        let asked: Vec<_> = asked.collect();
        release(held);
        for (mut client, body) in asked {
            match body.is_empty() {
                true => assert_eq!(client.read_response().status, 500),
                false => drop(expect(client, &body)),
            }
        }
    }

    #[skip(Iterative, "serves one client at a time")]
    fn a_crash_costs_only_its_own_request(engine: Engine) {
        let Some((server, folder)) = serve(engine, &[]) else { return };
        let held = occupy(&server, &folder);
        let mut asked = ask_for_each(&server, 0..12);
        let crash = ask(&server, "/crash/x");
        asked.extend(ask_for_each(&server, 12..24));
        release(held);
        let mut crash = crash;
        assert_eq!(crash.read_response().status, 502);
        expect_each(asked);
    }

    #[skip(Iterative, "serves one client at a time")]
    fn a_stuck_request_costs_no_other(engine: Engine) {
        let Some((server, folder)) = serve(engine, &["--wsgi-timeout", "3s"]) else { return };
        let held = occupy(&server, &folder);
        let first = ask(&server, "/name/first");
        thread::sleep(Duration::from_millis(30));
        let mut stuck = ask(&server, "/slow/60");
        thread::sleep(Duration::from_millis(30));
        let rest = ask_for_each(&server, 0..12);
        release(held);
        expect(first, b"first");
        assert_eq!(stuck.read_response().status, 504);
        expect_each(rest);
    }

    #[skip(Iterative, "serves one client at a time")]
    fn a_waiting_request_whose_client_leaves_is_not_served(engine: Engine) {
        let Some((server, folder)) = serve(engine, &[]) else { return };
        let held = occupy(&server, &folder);
        let asked: Vec<_> = (0..24).map(|number| (number, ask(&server, &format!("/name/n{number}")))).collect();
        let (left, stayed): (Vec<_>, Vec<_>) = asked.into_iter().partition(|(number, _)| number % 3 == 0);
        let left = left.into_iter().map(|(number, client)| {
            client.abort();
            format!("n{number}")
        });
        let left: Vec<String> = left.collect();
        // The server has noticed all of them before the worker is free.
        let noticed = || server.stdout().split(|byte| *byte == b'\n').filter(|line| contains(line, b"\" 499 ")).count();
        eventually("a line in the log for each that has left", || (noticed() == left.len()).then_some(()));
        release(held);
        for (number, client) in stayed {
            expect(client, format!("n{number}").as_bytes());
        }
        let seen = seen(&server);
        assert!(!left.iter().any(|name| seen.contains(name)), "{seen:?}");
        assert_eq!(seen.len(), 1 + 16, "{seen:?}");
    }

    #[skip(Iterative, "serves one client at a time")]
    fn a_client_that_leaves_during_its_answer_stops_only_that(engine: Engine) {
        let Some((server, _folder)) = serve(engine, &[]) else { return };
        for round in 0..5 {
            let mut endless = ask(&server, &format!("/endless/e{round}"));
            assert_eq!(endless.read_head().status, 200);
            let behind = (0..12).map(|number| match number % 2 {
                0 => (ask(&server, &format!("/stream/s{number}")), format!("s{number} s{number}")),
                _ => (ask(&server, &format!("/file/f{number}")), format!("in a file: f{number}")),
            });
            let behind: Vec<_> = behind.collect();
            thread::sleep(Duration::from_millis(30));
            endless.abort();
            for (client, body) in behind {
                expect(client, body.as_bytes());
            }
            let seen = seen(&server);
            assert_eq!(seen.iter().filter(|name| **name == format!("closed e{round}")).count(), 1, "{seen:?}");
        }
    }

    #[skip(Iterative, "serves one client at a time")]
    fn a_worker_that_is_free_takes_over(engine: Engine) {
        let Some((server, folder)) = serve(engine, &["--wsgi-workers", "2"]) else { return };
        let long = Held::begin(&server, folder.join("long"));
        let short = occupy(&server, &folder);
        let asked = ask_for_each(&server, 0..24);
        release(short);
        expect_each(asked);
        assert!(!long.client.is_answered());
    }

    #[skip(Iterative, "serves one client at a time")]
    fn a_reload_loses_no_waiting_request(engine: Engine) {
        let Some((server, folder)) = serve(engine, &[]) else { return };
        let held = occupy(&server, &folder);
        let asked = ask_for_each(&server, 0..24);
        server.signal("HUP");
        // The new worker answers them: the old one is still busy.
        expect_each(asked);
        assert!(!held.client.is_answered());
        release(held);
    }

    #[skip(Iterative, "serves one client at a time")]
    fn a_worker_that_is_worn_hands_on_what_waits(engine: Engine) {
        let Some((server, folder)) = serve(engine, &["--wsgi-max-requests", "5"]) else { return };
        let held = occupy(&server, &folder);
        let asked: Vec<_> = (0..40).map(|_| ask(&server, "/pid/x")).collect();
        release(held);
        let pids = asked.into_iter().map(|mut client| {
            let answer = client.read_response();
            assert_eq!(answer.status, 200, "{}", answer.text());
            answer.text()
        });
        let mut pids: Vec<String> = pids.collect();
        pids.push(eventually("a new worker", || Some(get(&server, "/pid/x").text()).filter(|pid| *pid != pids[0])));
        pids.dedup();
        assert!(pids.len() > 1, "{pids:?}");
    }

    #[skip(Iterative, "serves one client at a time")]
    fn requests_that_no_thread_has_begun_survive_the_worker(engine: Engine) {
        let Some((server, _folder)) = serve(engine, &["--wsgi-threads", "4", "--wsgi-queue", "4"]) else { return };
        expect(ask(&server, "/name/first"), b"first");
        signal_workers(&server, "STOP");
        let asked = ask_for_each(&server, 0..8);
        thread::sleep(Duration::from_millis(200));
        signal_workers(&server, "KILL");
        // Each of four threads was given one request, and four requests waited, which is the limit.
        expect_each(asked);
    }

    fn a_worker_that_ends_before_it_has_the_whole_request_does_not_cost_it(engine: Engine) {
        let Some((server, _folder)) = serve(engine, &[]) else { return };
        for size in [100_000, 1_000_000, 3_000_000] {
            expect(ask(&server, "/name/first"), b"first");
            let body = noise(size);
            signal_workers(&server, "STOP");
            let client = send(&server, "/post/x", &body);
            thread::sleep(Duration::from_millis(200));
            signal_workers(&server, "KILL");
            expect(client, &[b"x:", &body[..]].concat());
        }
    }

    #[skip(Iterative, "serves one client at a time")]
    fn a_file_that_cannot_be_sent_is_not_in_the_next_answer(engine: Engine) {
        let Some((server, folder)) = serve(engine, &[]) else { return };
        let held = occupy(&server, &folder);
        let mut broken = ask(&server, "/broken/x");
        thread::sleep(Duration::from_millis(30));
        let files: Vec<_> = (0..4).map(|number| (number, ask(&server, &format!("/file/{number}")))).collect();
        thread::sleep(Duration::from_millis(100));
        // The worker answers all requests before the server reads the first answer.
        server.signal("STOP");
        folder.write("go", "");
        thread::sleep(Duration::from_millis(400));
        server.signal("CONT");
        release(held);
        assert_eq!(broken.read_response().status, 500);
        for (number, client) in files {
            expect(client, format!("in a file: {number}").as_bytes());
        }
    }

    #[skip(Iterative, "serves one client at a time")]
    fn no_waiting_request_is_begun_after_the_grace_period(engine: Engine) {
        let Some((mut server, folder)) = serve(engine, &["--grace-period", "500ms"]) else { return };
        let _held = occupy(&server, &folder);
        let _asked: Vec<_> = (0..3).map(|number| ask(&server, &format!("/mark/m{number}"))).collect();
        thread::sleep(Duration::from_millis(100));
        server.signal("TERM");
        server.await_exit(PATIENCE);
        assert_eq!(folder.entries(), ["fresh.py", "go.begun"].map(PathBuf::from));
    }

    #[skip(Iterative, "serves one client at a time")]
    fn shutdown_waits_for_waiting_requests(engine: Engine) {
        let Some((mut server, folder)) = serve(engine, &["--grace-period", "60s"]) else { return };
        let held = occupy(&server, &folder);
        let asked: Vec<_> = (0..12).map(|number| (number, send_expecting(&server, &format!("/post/{number}"), b"x"))).collect();
        server.signal("TERM");
        release(held);
        for (number, client) in asked {
            expect(client, format!("{number}:x").as_bytes());
        }
        assert!(server.await_exit(PATIENCE).success());
    }
}

#[test]
fn requests_are_taken_up_in_the_order_of_arrival() {
    let Some((server, folder)) = serve(Engine::Event, &[]) else { return };
    let held = occupy(&server, &folder);
    let asked = (0..40).map(|number| {
        let client = ask(&server, &format!("/name/{number}"));
        thread::sleep(Duration::from_millis(2));
        (number, client)
    });
    let asked: Vec<_> = asked.collect();
    release(held);
    expect_each(asked);
    let expected: Vec<String> =
        ["held".into()].into_iter().chain((0..40).map(|number: u32| number.to_string())).collect();
    assert_eq!(seen(&server), expected);
}

/// Requests in a worker's inbox count as waiting.
#[test]
fn the_queue_is_as_long_as_the_flag_says() {
    let Some((server, folder)) = serve(Engine::Event, &["--wsgi-queue", "3"]) else { return };
    let held = occupy(&server, &folder);
    let asked = ask_for_each(&server, 0..3);
    for _ in 0..3 {
        let mut more = ask(&server, "/name/more");
        let answer = more.read_response();
        assert_eq!((answer.status, answer.field("Retry-After")), (503, Some("1")));
    }
    release(held);
    expect_each(asked);
}

/// Another thread of the worker sends an invalid frame, which ends the worker. At that moment a request is due, and its
/// session has not called `lease` yet.
#[test]
fn no_socket_of_a_crashed_worker_stays_open() {
    let Some((server, folder)) = serve(Engine::Event, &["--wsgi-threads", "2"]) else { return };
    // The next workers start slowly, after this one has ended.
    folder.write("hesitate", "");
    expect(ask(&server, "/name/first"), b"first");
    thread::sleep(Duration::from_millis(100));
    let before = server.sockets();
    for _ in 0..3 {
        let mut nonsense = ask(&server, "/nonsense/x");
        let lingers = ask(&server, "/linger/x");
        thread::sleep(Duration::from_millis(50));
        let behind = ["a", "b"].map(|name| (name, ask(&server, &format!("/name/{name}"))));
        thread::sleep(Duration::from_millis(50));
        server.signal("STOP");
        thread::sleep(Duration::from_millis(500));
        server.signal("CONT");
        expect(lingers, b"x");
        assert_eq!(nonsense.read_response().status, 502);
        for (name, client) in behind {
            expect(client, name.as_bytes());
        }
    }
    eventually("as many sockets as before", || (server.sockets() <= before).then_some(()));
}
