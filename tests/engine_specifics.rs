//! The differences between the engines: their threads, which client waits for which, and how a signal ends each kind of
//! wait. In all other files, each test runs on all engines.

mod common;

use common::{Client, Engine, PATIENCE, Server, Setup, TempDir, eventually, get, on_every_engine};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const REQUEST: &str = "GET /echo/x HTTP/1.1\r\nHost: x\r\n\r\n";

fn threads_of(server: &Server) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().count()
}

/// A client that has been answered and keeps its connection.
fn settled(server: &Server) -> Client {
    let mut client = Client::connect(server);
    client.send(REQUEST);
    assert_eq!(client.read_response().text(), "x");
    client
}

/// Whether an answer arrives soon. Use it for clients that must get none: on a busy machine it may miss a bug, but never
/// reports a false one.
fn is_answered_soon(client: &Client) -> bool {
    let until = Instant::now() + Duration::from_millis(400);
    while Instant::now() < until {
        if client.is_answered() {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}

// ---- threads

#[test]
fn each_engine_has_the_threads_it_says() {
    for (engine, args, count) in [
        (Engine::Event, &[][..], 1),
        (Engine::Iterative, &[], 1 + 1),
        (Engine::Pool, &["--pool-size", "7"], 1 + 7),
        (Engine::Pool, &["--pool-size", "7", "--max-connections", "3"], 1 + 3),
        (Engine::Threads, &[], 1 + 1),
    ] {
        let server = Setup::on(engine).args(args).start();
        eventually(&format!("{count} threads of {engine:?} {args:?}"), || (threads_of(&server) == count).then_some(()));
    }
}

#[test]
fn a_thread_lives_as_long_as_its_connection() {
    let server = Server::start_on(Engine::Threads, &[]);
    let clients: Vec<Client> = (0..10).map(|_| settled(&server)).collect();
    assert_eq!(threads_of(&server), 2 + 10);
    drop(clients);
    eventually("the threads to be gone", || (threads_of(&server) == 2).then_some(()));
}

#[test]
fn threads_are_bounded_by_max_connections() {
    let server = Server::start_on(Engine::Threads, &["--max-connections", "3"]);
    let mut inside: Vec<Client> = (0..3).map(|_| settled(&server)).collect();
    // With half a head sent, a connection is not idle, so it is not closed for a new client.
    inside.iter_mut().for_each(|client| client.send("GET /"));
    let mut waiting = Client::connect(&server);
    waiting.send(REQUEST);
    assert!(!is_answered_soon(&waiting), "a fourth is served");
    assert_eq!(threads_of(&server), 2 + 3);
    inside.pop();
    assert_eq!(waiting.read_response().text(), "x");
}

/// Needs the right to become another user. The limit counts all processes of a user, so each run uses another user.
#[test]
fn threads_that_cannot_be_started_are_waited_for() {
    let user = (1_000_000 + std::process::id()).to_string();
    let other_user = ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"];
    let mut probe = Command::new(other_user[0]);
    probe.args(&other_user[1..]).args([env!("CARGO_BIN_EXE_dustdevil"), "--version"]);
    if !probe.output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: not allowed to become another user here");
        return;
    }
    // Main, the acceptor, three clients, and another program of this user, which the server does not know of.
    let beside = ["prlimit", "--nproc=6", "sh", "-c", "sleep 30 >/dev/null 2>&1 & exec \"$@\"", "sh"];
    let wrapper: Vec<&str> = other_user.into_iter().chain(beside).collect();
    let server = Setup::on(Engine::Threads).through(&wrapper).folder("/tmp").start();
    server.expect_stderr("--max-connections is lowered to 4 for --engine threads: this user may have 6 threads");
    let mut inside: Vec<Client> = (0..3).map(|_| settled(&server)).collect();
    let mut waiting = Client::connect(&server);
    waiting.send(REQUEST);
    eventually("a warning", || server.stderr().contains("cannot start a thread").then_some(()));
    for client in &mut inside {
        client.send(REQUEST);
        assert_eq!(client.read_response().text(), "x", "open connections are still served");
    }
    inside.pop();
    assert_eq!(waiting.read_response().text(), "x");
    assert!(server.stderr().matches("cannot start a thread").count() < 100, "it pauses in between");
}

// ---- which client waits for which

#[test]
fn a_full_pool_starves_until_an_idle_client_is_let_go() {
    for (engine, args) in [(Engine::Pool, &["--pool-size", "1"][..]), (Engine::Iterative, &[])] {
        let server = Setup::on(engine).args(args).args(["--keep-alive-timeout", "10m"]).start();
        let mut idle = settled(&server);
        let mut waiting = Client::connect(&server);
        waiting.send(REQUEST);
        assert_eq!(waiting.read_response().text(), "x");
        assert!(idle.is_answered(), "{engine:?} served two at once");
        idle.expect_closed();
    }
}

#[test]
fn a_pool_serves_as_many_as_it_has_workers() {
    let server = Server::start_on(Engine::Pool, &["--pool-size", "3"]);
    let mut inside: Vec<Client> = (0..3).map(|_| settled(&server)).collect();
    inside.iter_mut().for_each(|client| client.send("GET /"));
    let mut waiting = Client::connect(&server);
    waiting.send(REQUEST);
    assert!(!is_answered_soon(&waiting), "a fourth is served");
    inside.pop();
    assert_eq!(waiting.read_response().text(), "x");
}

#[test]
fn a_slow_head_holds_an_iterative_server_only_until_its_deadline() {
    let server = Server::start_on(Engine::Iterative, &["--header-timeout", "1s"]);
    let mut slow = Client::connect(&server);
    slow.send("GET /");
    assert_eq!(get(&server, "/echo/x").text(), "x");
    assert_eq!(slow.read_response().status, 408);
}

// ---- signals

/// The ways a connection can make its server wait.
const WAITS: [&str; 7] = ["new", "idle", "head", "body", "reader", "delay", "drip"];

fn waiting_client(server: &Server, store: &TempDir, wait: &str) -> Client {
    let mut client = if wait == "new" { Client::connect(server) } else { settled(server) };
    match wait {
        "head" => client.send("GET /echo/x HTTP/1.1\r\nHo"),
        "body" => {
            client.send("PUT /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf");
            server.await_upload(store);
        }
        "reader" => {
            client.send("GET /files/huge HTTP/1.1\r\nHost: x\r\n\r\n");
            client.read_head();
        }
        "delay" => client.send("GET /debug/delay/60 HTTP/1.1\r\nHost: x\r\n\r\n"),
        "drip" => client.send("GET /debug/drip?duration=60&bytes=2 HTTP/1.1\r\nHost: x\r\n\r\n"),
        _ => {}
    }
    // By then the server most likely waits. If it does not, the test still holds.
    thread::sleep(Duration::from_millis(50));
    client
}

/// A server whose timeouts are so long that only the grace period ends a connection.
fn server_with(engine: Engine, grace: &str) -> (Server, TempDir) {
    let store = TempDir::new();
    store.write_sparse("huge", 256 << 20);
    let mut setup = Setup::on(engine).args(["--directory", store.arg(), "--debug-endpoints", "--grace-period", grace]);
    for flag in ["--header-timeout", "--keep-alive-timeout", "--body-timeout", "--write-timeout"] {
        setup = setup.args([flag, "600s"]);
    }
    (setup.start(), store)
}

fn await_closed_port(server: &Server) {
    let address = server.address();
    eventually("the port to be closed", || TcpStream::connect(address).is_err().then_some(()));
}

on_every_engine! {
    fn a_signal_ends_every_wait_by_the_end_of_the_grace_period(engine: Engine) {
        for wait in WAITS {
            let (mut server, store) = server_with(engine, "300ms");
            let _client = waiting_client(&server, &store, wait);
            server.signal("TERM");
            assert_eq!(server.await_exit(PATIENCE).code(), Some(0), "{wait}");
            assert_eq!(store.entries().len(), 1, "{wait}: something is left behind");
        }
    }

    fn a_second_signal_ends_every_wait_at_once(engine: Engine) {
        for wait in ["body", "reader", "delay", "drip"] {
            let (mut server, store) = server_with(engine, "600s");
            let _client = waiting_client(&server, &store, wait);
            server.signal("TERM");
            await_closed_port(&server);
            server.signal("INT");
            assert_eq!(server.await_exit(PATIENCE).code(), Some(0), "{wait}");
            assert_eq!(store.entries().len(), 1, "{wait}: something is left behind");
        }
    }

    fn a_request_in_flight_is_finished_and_is_the_last(engine: Engine) {
        let (mut server, store) = server_with(engine, "60s");
        let mut client = waiting_client(&server, &store, "body");
        server.signal("TERM");
        await_closed_port(&server);
        // Longer than a shutdown waits for a client that is owed no answer.
        thread::sleep(Duration::from_millis(2500));
        assert!(!client.is_answered(), "closed in flight");
        client.send("done");
        let answer = client.read_response();
        assert_eq!(answer.status, 201);
        assert!(answer.says_close(), "{answer:?}");
        client.expect_closed();
        assert_eq!(server.await_exit(PATIENCE).code(), Some(0));
    }

    fn a_delay_in_flight_ends_in_its_time_and_is_the_last(engine: Engine) {
        let (mut server, _store) = server_with(engine, "60s");
        let mut client = Client::connect(&server);
        let began = Instant::now();
        // Both requests are read at once: when the first is answered, the second has begun.
        client.send(format!("{REQUEST}GET /debug/delay/1 HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(client.read_response().text(), "x");
        server.signal("TERM");
        let answer = client.read_response();
        assert!(began.elapsed() >= Duration::from_millis(950), "early: {:?}", began.elapsed());
        assert_eq!(answer.status, 200);
        assert!(answer.says_close(), "{answer:?}");
        client.expect_closed();
        assert_eq!(server.await_exit(PATIENCE).code(), Some(0));
    }

    /// A request either gets its whole answer or no byte of one.
    fn a_signal_amid_requests_tears_no_answer(engine: Engine) {
        let (mut server, _store) = server_with(engine, "60s");
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            // On the iterative engine, all clients except one wait in the backlog and are closed there.
            let clients: Vec<Client> = (0..10).map(|_| Client::connect(&server)).collect();
            for mut client in clients {
                let stop = &stop;
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) && client.try_send(REQUEST).is_ok() {
                        match client.next_response() {
                            Some(answer) => assert_eq!(answer.text(), "x"),
                            None => break,
                        }
                    }
                });
            }
            thread::sleep(Duration::from_millis(200));
            server.signal("TERM");
            let status = server.await_exit(PATIENCE);
            stop.store(true, Ordering::Relaxed);
            assert_eq!(status.code(), Some(0));
        });
    }

    /// When descriptors run out, open connections are still served, new clients wait, and the server does not spin.
    #[skip(Iterative, "serves one client at a time")]
    fn descriptors_that_run_out_are_waited_for(engine: Engine) {
        let few = ["sh", "-c", "ulimit -n 20; exec \"$@\"", "sh"];
        let store = TempDir::new();
        let server = Setup::on(engine).args(["--directory", store.arg()]).through(&few).start();
        let mut inside = Vec::new();
        let mut waiting = loop {
            let mut client = Client::connect(&server);
            client.send(REQUEST);
            eventually("an answer, or a warning", || {
                (client.is_answered() || server.stderr().contains("cannot accept")).then_some(())
            });
            if !client.is_answered() {
                break client;
            }
            assert_eq!(client.read_response().text(), "x");
            // With half a head sent, a connection is not idle, so it is not closed for a new client.
            client.send("GET /ec");
            inside.push(client);
        };
        assert!((1..20).contains(&inside.len()), "{} connections", inside.len());
        inside[0].send("ho/x HTTP/1.1\r\nHost: x\r\n\r\nGET /ec");
        assert_eq!(inside[0].read_response().text(), "x", "open connections are still served");
        let before = server.cpu_ticks();
        thread::sleep(Duration::from_secs(1));
        assert!(server.cpu_ticks() - before < 30, "it spins");
        inside.clear();
        assert_eq!(waiting.read_response().text(), "x");
        assert_eq!(server.stderr().matches("cannot accept").count(), 1, "{}", server.stderr());
    }
}

// ---- the command line

#[test]
fn an_engine_that_does_not_exist_is_a_usage_error() {
    for args in [&["--engine", "steam"][..], &["--engine"], &["--pool-size", "0"], &["--pool-size", "many"]] {
        let outcome = common::run(args);
        assert_eq!(outcome.code, Some(2), "{args:?}: {}", outcome.stderr);
    }
    let outcome = common::run(&["--engine", "steam"]);
    for engine in ["event", "threads", "pool", "iterative"] {
        assert!(outcome.stderr.contains(engine), "{engine} in {}", outcome.stderr);
    }
}

// ---- memory

/// The memory of an idle connection, without its thread, if it has one. It holds no buffers.
#[test]
fn a_session_is_small() {
    let size = std::mem::size_of::<dustdevil::session::Session>();
    assert!(size <= 288, "{size} bytes");
    println!("a session is {size} bytes");
}
