//! Workers of Python applications start, crash, get stuck, are replaced, reload and end. Which requests fail then.

mod common;

use common::python::{Held, apps, has_python, is_running, serve, serve_source};
use common::{Client, Engine, Response, Server, TempDir, eventually, exchange, get, on_every_engine, run};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

fn worker_pid(server: &Server) -> String {
    get(server, "/pid").text()
}

/// Sends a request. When this returns, a worker has most likely begun with it.
fn occupy(server: &Server, path: &str) -> Client {
    let mut client = Client::connect(server);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"));
    thread::sleep(Duration::from_millis(100));
    client
}

fn kill(pid: &str) {
    assert!(Command::new("sh").args(["-c", "kill -9 \"$0\"", pid]).status().unwrap().success());
}

fn post(server: &Server, path: &str, body: &[u8]) -> Response {
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    exchange(server, [head.as_bytes(), body].concat())
}

fn answering(word: &str) -> String {
    format!("def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'{word}']\n")
}

/// Changes the source repeatedly: the worker does not notice a change from before it first read the file's time.
fn change_until_noticed(server: &Server, folder: &TempDir) {
    let mut looks = 0;
    eventually("the new source", || {
        if looks % 300 == 0 {
            // By rename, so that no reload imports half a file.
            let next = folder.write("next", answering("newer"));
            std::fs::rename(next, folder.join("fresh.py")).unwrap();
        }
        looks += 1;
        (get(server, "/").text() == "newer").then_some(())
    });
}

#[test]
fn an_application_that_cannot_be_imported_ends_the_start() {
    if !has_python() {
        return;
    }
    let folder = TempDir::new();
    folder.write("broken.py", "import nothing_of_this_name\n");
    for (app, words) in [
        ("broken:app", "nothing_of_this_name"),
        ("missing:app", "No module named 'missing'"),
        ("apps:missing", "missing"),
        ("apps:PLAIN", "not callable"),
    ] {
        let chdir = if app.starts_with("apps") { apps() } else { folder.path().to_owned() };
        let outcome = run(&["--wsgi", app, "--wsgi-chdir", chdir.to_str().unwrap(), "--port", "0"]);
        assert_eq!(outcome.code, Some(3), "{app}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(words) && outcome.stderr.contains(app), "{}", outcome.stderr);
    }
    let outcome = run(&["--wsgi", "a:b", "--python", "/no/such/python", "--port", "0"]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("/no/such/python"), "{}", outcome.stderr);
    for args in [["--wsgi", "app"], ["--wsgi", "a b:c"], ["--wsgi-timeout", "0"], ["--static", "x"]] {
        assert_eq!(run(&args).code, Some(2), "{args:?}");
    }
}

/// Regression: the signal that asks a worker for its stacks killed an interpreter that did not catch it yet.
#[test]
fn an_interpreter_that_starts_slowly_is_waited_for() {
    if !has_python() {
        return;
    }
    let folder = TempDir::new();
    folder.write("fresh.py", answering("there"));
    let python = folder.write("slow_python", "#!/bin/sh\nsleep 1\nexec python3 \"$@\"\n");
    std::fs::set_permissions(&python, PermissionsExt::from_mode(0o755)).unwrap();
    let flags = ["--wsgi", "fresh:app", "--wsgi-chdir", folder.arg(), "--wsgi-timeout", "300ms"];
    let server = Server::start(&[&flags[..], &["--python", python.to_str().unwrap()]].concat());
    server.expect_stderr("slow_python is still starting and goes on");
    assert_eq!(get(&server, "/").text(), "there");
}

#[test]
fn a_virtual_environment_beside_the_application_is_found() {
    if !has_python() {
        return;
    }
    let folder = TempDir::new();
    let venv = folder.join(".venv");
    let made = Command::new("python3").args(["-m", "venv", "--without-pip"]).arg(&venv).status();
    if !made.is_ok_and(|status| status.success()) {
        return eprintln!("skipped: this Python makes no virtual environments");
    }
    let source = "import sys\ndef app(e, s):\n    s('200 OK', [])\n    return [sys.prefix.encode()]\n";
    let Some(server) = serve_source(Engine::Event, &folder, source, &[]) else { return };
    assert_eq!(Path::new(&get(&server, "/").text()), venv);
}

on_every_engine! {
    fn a_crash_costs_one_request(engine: Engine) {
        let Some(server) = serve(engine, &[]) else { return };
        let pid = worker_pid(&server);
        assert_eq!(get(&server, "/crash").status, 502);
        let next = worker_pid(&server);
        assert_ne!(next, pid);
        let mut client = Client::connect(&server);
        client.send("GET /crash_late HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(client.read_head().status, 200);
        assert!(!client.read_to_end().ends_with(b"0\r\n\r\n"));
        assert_eq!(get(&server, "/hello").status, 200);
        let words = server.stderr();
        assert!(words.contains(&format!("worker {pid} of apps:app has ended: exit code 11")), "{words}");
    }

    fn a_crash_is_noticed_though_a_child_holds_the_socket(engine: Engine) {
        let Some(server) = serve(engine, &[]) else { return };
        assert_eq!(get(&server, "/orphan").status, 502);
        assert_eq!(get(&server, "/hello").status, 200);
    }

    fn a_stuck_request_is_answered_and_its_place_is_shown(engine: Engine) {
        let Some(server) = serve(engine, &["--wsgi-timeout", "3s"]) else { return };
        let pid = worker_pid(&server);
        let start = Instant::now();
        assert_eq!(get(&server, "/hang").status, 504);
        assert!(start.elapsed() >= Duration::from_secs(3), "{:?}", start.elapsed());
        assert_eq!(get(&server, "/hello").status, 200);
        eventually("the stuck worker's end", || (!is_running(&pid)).then_some(()));
        server.expect_stderr("place_where_it_hangs");
    }

    fn output_of_an_application_is_logged_at_once(engine: Engine) {
        let Some(server) = serve(engine, &[]) else { return };
        let pid = worker_pid(&server);
        get(&server, "/says");
        for words in ["printed words", "words of an error", "unended"] {
            eventually(words, || server.stderr().contains(&format!("[{pid}] {words}")).then_some(()));
        }
        assert_eq!(get(&server, "/flood").text(), "flooded");
        assert_eq!(get(&server, "/hello").status, 200);
        assert!(server.memory("VmHWM") < 200_000);
    }

    #[skip(Iterative, "serves one client at a time")]
    fn a_request_for_which_the_queue_has_no_room_is_503(engine: Engine) {
        let (Some(server), folder) = (serve(engine, &["--wsgi-queue", "1"]), TempDir::new()) else { return };
        let first = Held::begin(&server, folder.join("first"));
        // One of the two requests is in the queue. In the threaded engines it may be either.
        let mut others = [(); 2].map(|()| {
            let mut client = Client::connect(&server);
            client.send("GET /hello HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
            client
        });
        let at = eventually("an answer to one of them", || others.iter().position(Client::is_answered));
        let refused = others[at].read_response();
        assert_eq!((refused.status, refused.field("Retry-After")), (503, Some("1")));
        assert_eq!(first.release().status, 200);
        assert_eq!(others[1 - at].read_response().status, 200);
        assert_eq!(get(&server, "/hello").status, 200);
    }

    #[skip(Iterative, "serves one client at a time")]
    fn slow_clients_occupy_no_worker(engine: Engine) {
        let Some(server) = serve(engine, &[]) else { return };
        let mut senders: Vec<Client> = (0..5).map(|_| Client::connect(&server)).collect();
        for sender in &mut senders {
            sender.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhel");
        }
        let mut reader = occupy(&server, "/large");
        // The worker is free once the server has received the 50 MB, even if the client has read little of them.
        assert_eq!(get(&server, "/hello").status, 200);
        assert!(server.memory("VmHWM") < 60_000, "{} KiB", server.memory("VmHWM"));
        for sender in &mut senders {
            sender.send("lo");
            assert_eq!(sender.read_response().body, b"hello");
        }
        let whole = reader.read_response();
        assert_eq!((whole.status, whole.body.len()), (200, 50 * 1024 * 1024));
        assert!(whole.body.chunks(1024 * 1024).enumerate().all(|(at, piece)| piece.iter().all(|byte| *byte == at as u8)));
    }

    fn a_worker_is_replaced_after_its_share(engine: Engine) {
        let Some(server) = serve(engine, &["--wsgi-max-requests", "5"]) else { return };
        let mut pids = Vec::new();
        eventually("three workers", || {
            let answer = get(&server, "/pid");
            assert_eq!(answer.status, 200);
            pids.push(answer.text());
            pids.dedup();
            (pids.len() >= 3).then_some(())
        });
        eventually("the first worker's end", || (!is_running(&pids[0])).then_some(()));
    }

    fn threads_share_a_process(engine: Engine) {
        let Some(server) = serve(engine, &["--wsgi-threads", "3"]) else { return };
        assert_eq!(get(&server, "/threads").text(), "True 3");
        if engine == Engine::Iterative {
            return;
        }
        let folder = TempDir::new();
        // None is released before all have begun.
        let held: Vec<Held> = (0..3).map(|number| Held::begin(&server, folder.join(number.to_string()))).collect();
        assert!(held.into_iter().all(|held| held.release().status == 200));
    }

    fn a_reload_takes_the_new_source_and_keeps_the_old_when_that_is_broken(engine: Engine) {
        let folder = TempDir::new();
        let Some(server) = serve_source(engine, &folder, &answering("old"), &[]) else { return };
        assert_eq!(get(&server, "/").text(), "old");
        folder.write("fresh.py", answering("newer"));
        server.signal("HUP");
        eventually("the new source", || (get(&server, "/").text() == "newer").then_some(()));
        folder.write("fresh.py", "this is no Python\n");
        server.signal("HUP");
        eventually("a word about the failure", || server.stderr().contains("the reload failed").then_some(()));
        assert_eq!(get(&server, "/").text(), "newer");
        folder.write("fresh.py", answering("mended"));
        server.signal("HUP");
        eventually("the mended source", || (get(&server, "/").text() == "mended").then_some(()));
    }

    /// The second reload is asked for while the first is still importing.
    fn no_reload_is_lost(engine: Engine) {
        let folder = TempDir::new();
        let Some(server) = serve_source(engine, &folder, &answering("old"), &[]) else { return };
        folder.write("fresh.py", "import time\ntime.sleep(1)\n".to_owned() + &answering("between"));
        server.signal("HUP");
        thread::sleep(Duration::from_millis(400));
        folder.write("fresh.py", answering("last"));
        server.signal("HUP");
        eventually("the last source", || (get(&server, "/").text() == "last").then_some(()));
    }

    fn an_import_that_takes_long_is_shown_and_waited_for(engine: Engine) {
        let folder = TempDir::new();
        let source = ["import time\n\ndef read_much():\n    time.sleep(2)\n\nread_much()\n", &answering("there")].concat();
        let Some(server) = serve_source(engine, &folder, &source, &["--wsgi-timeout", "1s"]) else { return };
        assert_eq!(get(&server, "/").text(), "there");
        server.expect_stderr("has been importing fresh:app for 1s");
        server.expect_stderr("in read_much");
    }

    fn a_reload_whose_import_hangs_is_given_up_for_the_next(engine: Engine) {
        let folder = TempDir::new();
        let Some(server) = serve_source(engine, &folder, &answering("old"), &[]) else { return };
        folder.write("fresh.py", "import time\ntime.sleep(3600)\n");
        server.signal("HUP");
        thread::sleep(Duration::from_millis(400));
        assert_eq!(get(&server, "/").text(), "old");
        folder.write("fresh.py", answering("mended"));
        server.signal("HUP");
        eventually("the mended source", || (get(&server, "/").text() == "mended").then_some(()));
    }

    /// One worker of the new generation is ready and takes a request before another one fails.
    #[skip(Iterative, "serves one client at a time")]
    fn a_reload_that_fails_half_way_costs_no_request(engine: Engine) {
        let patient = |word: &str| format!("import os, time
def await_file(name):
    while not os.path.exists(name):
        time.sleep(0.01)
def app(environ, start_response):
    name = environ['QUERY_STRING']
    if name:
        open(name + '.begun', 'w').close()
    await_file(name or '.')
    start_response('200 OK', [])
    return [b'{word}']
");
        let folder = TempDir::new();
        let Some(server) = serve_source(engine, &folder, &patient("old"), &["--wsgi-workers", "2"]) else { return };
        let mut held = vec![Held::begin(&server, folder.join("a")), Held::begin(&server, folder.join("b"))];
        folder.write("fresh.py", patient("new") + "try:
    os.close(os.open('first', os.O_CREAT | os.O_EXCL))
except FileExistsError:
    await_file('break')
    raise
");
        server.signal("HUP");
        assert_eq!(get(&server, "/").text(), "new");
        held.push(Held::begin(&server, folder.join("c")));
        folder.write("break", "");
        server.expect_stderr("the reload failed");
        thread::sleep(Duration::from_millis(500));
        let answers: Vec<Response> = held.into_iter().map(Held::release).collect();
        assert!(answers.iter().all(|answer| answer.status == 200));
        assert_eq!(answers.iter().map(Response::text).collect::<Vec<_>>(), ["old", "old", "new"]);
        eventually("the old source", || (get(&server, "/").text() == "old").then_some(()));
    }

    fn a_changed_source_is_noticed_on_request(engine: Engine) {
        let folder = TempDir::new();
        let Some(server) = serve_source(engine, &folder, &answering("old"), &["--wsgi-reload"]) else { return };
        assert_eq!(get(&server, "/").text(), "old");
        change_until_noticed(&server, &folder);
    }

    fn a_client_that_leaves_is_noticed_before_the_answer(engine: Engine) {
        let (Some(server), folder) = (serve(engine, &[]), TempDir::new()) else { return };
        let left = Held::begin(&server, folder.join("left"));
        drop(left.client);
        assert!(server.log_lines(1)[0].contains("\" 499 "), "{:?}", server.log_lines(1));
        // A client that only closes its side is still answered. It waits for the worker, which has the earlier request.
        let mut client = occupy(&server, "/slow?0");
        client.finish_sending();
        assert!(!client.is_answered());
        folder.write("left", "");
        assert_eq!(client.read_response().text(), "slow");
    }

    #[skip(Iterative, "serves one client at a time")]
    fn a_request_whose_client_leaves_the_queue_is_not_served(engine: Engine) {
        let (Some(server), folder) = (serve(engine, &[]), TempDir::new()) else { return };
        let first = Held::begin(&server, folder.join("first"));
        let second = occupy(&server, "/once");
        drop(second);
        assert!(server.log_lines(1)[0].contains("/once HTTP/1.1\" 499 "), "{:?}", server.log_lines(1));
        assert_eq!(first.release().text(), "held");
        assert_eq!(get(&server, "/how_closed").text(), "", "the application never saw it");
    }

    /// One worker watches the sources. When it is replaced, another one must watch them.
    fn a_changed_source_is_noticed_by_replaced_workers(engine: Engine) {
        let folder = TempDir::new();
        let args = ["--wsgi-reload", "--wsgi-workers", "2"];
        let Some(server) = serve_source(engine, &folder, &answering("old"), &args) else { return };
        for pid in server.children() {
            kill(&pid);
            let replaced = |pids: &[String]| pids.len() == 2 && !pids.contains(&pid);
            eventually("its successor", || replaced(&server.children()).then_some(()));
        }
        change_until_noticed(&server, &folder);
    }

    fn an_end_lets_requests_finish_and_leaves_no_worker(engine: Engine) {
        let (Some(mut server), folder) = (serve(engine, &[]), TempDir::new()) else { return };
        let pid = worker_pid(&server);
        let held = Held::begin(&server, folder.join("go"));
        server.signal("TERM");
        assert_eq!(held.release().text(), "held");
        assert!(server.await_exit(common::PATIENCE).success());
        assert!(!is_running(&pid));
    }

    fn a_worker_that_hangs_ends_when_the_server_is_killed(engine: Engine) {
        for path in ["/hang", "/spin"] {
            let Some(mut server) = serve(engine, &[]) else { return };
            let pid = worker_pid(&server);
            let _client = occupy(&server, path);
            server.signal("KILL");
            server.await_exit(common::PATIENCE);
            eventually("the worker's end", || (!is_running(&pid)).then_some(()));
        }
    }

    fn workers_end_when_the_server_is_killed(engine: Engine) {
        let Some(mut server) = serve(engine, &["--wsgi-workers", "2"]) else { return };
        let pid = worker_pid(&server);
        server.signal("KILL");
        server.await_exit(common::PATIENCE);
        eventually("the worker's end", || (!is_running(&pid)).then_some(()));
    }

    #[skip(Iterative, "serves one client at a time")]
    fn killing_workers_under_load_fails_those_in_flight_only(engine: Engine) {
        let Some(server) = serve(engine, &["--wsgi-workers", "2"]) else { return };
        let (server, stop) = (Arc::new(server), Arc::new(AtomicBool::new(false)));
        let (good, bad) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let clients: Vec<_> = (0..8).map(|_| {
            let (server, stop, good, bad) = (server.clone(), stop.clone(), good.clone(), bad.clone());
            thread::spawn(move || while !stop.load(Ordering::Relaxed) {
                match get(&server, "/pid").status {
                    200 => good.fetch_add(1, Ordering::Relaxed),
                    502 => bad.fetch_add(1, Ordering::Relaxed),
                    other => panic!("{other}"),
                };
            })
        }).collect();
        let kills = 6;
        for round in 1..=kills + 1 {
            eventually("ten answers", || (good.load(Ordering::Relaxed) >= 10 * round).then_some(()));
            if round <= kills {
                kill(&worker_pid(&server));
            }
        }
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().unwrap());
        let (good, bad) = (good.load(Ordering::Relaxed), bad.load(Ordering::Relaxed));
        assert!(bad <= kills, "{bad} failed of {good}, with {kills} kills");
    }

    #[skip(Iterative, "serves one client at a time")]
    fn a_kill_costs_the_request_in_flight_and_no_waiting_one(engine: Engine) {
        let (Some(server), folder) = (serve(engine, &["--wsgi-workers", "2"]), TempDir::new()) else { return };
        let mut in_flight = ["a", "b"].map(|name| Held::begin(&server, folder.join(name)));
        let mut waiting: Vec<Client> = (0..6).map(|_| occupy(&server, "/pid")).collect();
        let pids = server.children();
        assert_eq!(pids.len(), 2);
        pids.iter().for_each(|pid| kill(pid));
        assert!(in_flight.iter_mut().all(|held| held.client.read_response().status == 502));
        assert!(waiting.iter_mut().all(|client| client.read_response().status == 200));
        server.expect_stderr("has ended: killed");
    }

    /// All workers have ended before the server can notice, and none of them has begun with the request.
    fn killing_idle_workers_costs_no_request(engine: Engine) {
        let Some(server) = serve(engine, &["--wsgi-workers", "3"]) else { return };
        for size in [0, 10, 300_000, 2_000_000] {
            let pids = eventually("three workers", || Some(server.children()).filter(|pids| pids.len() == 3));
            assert_eq!(get(&server, "/hello").status, 200);
            pids.iter().for_each(|pid| kill(pid));
            let answer = post(&server, "/echo", &vec![7; size]);
            assert_eq!((answer.status, answer.body.len()), (200, size));
        }
    }

    fn a_body_for_a_crash_is_not_sent_twice(engine: Engine) {
        let Some(server) = serve(engine, &[]) else { return };
        assert_eq!(post(&server, "/crash", &[7; 100_000]).status, 502);
        assert_eq!(post(&server, "/echo", b"again").body, b"again");
        assert_eq!(server.stderr().matches("has ended: exit code 11").count(), 1, "{}", server.stderr());
    }
}
