//! Clients that are slow or silent. The timeout under test is set short by its flag, and all others long, so that only
//! one expires. Only lower bounds are tight: a timeout never expires early, but on a busy machine it may be noticed
//! late.

mod common;

use common::place::Place;
use common::{Client, Engine, PATIENCE, Server, Setup, TempDir, eventually, on_every_engine};
use std::thread;
use std::time::{Duration, Instant};

/// The timeout in tests whose client exceeds it.
const SHORT: Duration = Duration::from_secs(1);
/// The timeout in tests whose client stays within it. It is much longer than each pause of the client, so that a busy
/// machine does not fail the test, and shorter than all pauses together. src/session/tests.rs tests without a clock how
/// each timeout is counted.
const ROOMY: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(300);
const PAUSES: usize = 16;
const FLAGS: [&str; 4] = ["--header-timeout", "--keep-alive-timeout", "--body-timeout", "--write-timeout"];

const REQUEST: &str = "GET /echo/x HTTP/1.1\r\nHost: x\r\n\r\n";

fn server_with_short(engine: Engine, flags: &[&str], store: &TempDir) -> Server {
    server_with(engine, flags, SHORT, store)
}

/// A server with `timeout` for these flags. All its other timeouts are too long to expire.
fn server_with(engine: Engine, flags: &[&str], timeout: Duration, store: &TempDir) -> Server {
    let mut setup = Setup::on(engine).args(["--directory", store.arg()]);
    for flag in FLAGS {
        let value = if flags.contains(&flag) { timeout } else { Duration::from_secs(600) };
        setup = setup.args([flag, &format!("{}s", value.as_secs())]);
    }
    setup.start()
}

/// Checks that a timeout has not expired early. A little less than its time is allowed, because clocks differ in
/// precision.
#[track_caller]
fn not_early(since: Instant) {
    let waited = since.elapsed();
    assert!(waited >= SHORT - Duration::from_millis(50), "after {waited:?} already");
}

on_every_engine! {
    fn a_head_that_stops_is_answered_408(engine: Engine) {
        let store = TempDir::new();
        let server = server_with_short(engine, &["--header-timeout"], &store);
        for part in ["G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: x\r\nA: b"] {
            let began = Instant::now();
            let mut client = Client::connect(&server);
            client.send(part);
            let answer = client.read_response();
            not_early(began);
            assert_eq!(answer.status, 408, "{part}");
            assert!(answer.says_close(), "{answer:?}");
            client.expect_closed();
        }
    }

    fn a_trickling_head_does_not_move_its_deadline(engine: Engine) {
        let store = TempDir::new();
        let server = server_with_short(engine, &["--header-timeout"], &store);
        let began = Instant::now();
        let mut client = Client::connect(&server);
        client.send("GET / HTTP/1.1\r\nHost: x\r\nA: ");
        let mut sent = 0;
        // This would last ten times the timeout, with far fewer bytes than the limit of a head.
        while sent < 200 && !client.is_answered() && client.try_send("v").is_ok() {
            sent += 1;
            thread::sleep(SHORT / 20);
        }
        assert!(sent < 200, "each byte moved the deadline");
        assert_eq!(client.read_response().status, 408, "after {sent} bytes");
        not_early(began);
        client.expect_closed();
    }

    fn a_second_head_has_a_deadline_of_its_own(engine: Engine) {
        let store = TempDir::new();
        let server = server_with_short(engine, &["--header-timeout"], &store);
        let mut client = Client::connect(&server);
        for _ in 0..2 {
            client.send(REQUEST);
            assert_eq!(client.read_response().status, 200);
            // The connection is idle, because the head has not begun: the header timeout does not apply.
            thread::sleep(SHORT + SHORT / 2);
        }
        client.send("GET / HT");
        assert_eq!(client.read_response().status, 408);
        client.expect_closed();
    }

    fn an_idle_connection_is_closed_without_a_word(engine: Engine) {
        let store = TempDir::new();
        let server = server_with_short(engine, &["--keep-alive-timeout"], &store);
        let mut client = Client::connect(&server);
        let began = Instant::now();
        client.send(REQUEST);
        assert_eq!(client.read_response().status, 200);
        client.expect_closed();
        not_early(began);
    }

    fn a_connection_that_never_spoke_is_closed_without_a_word(engine: Engine) {
        let store = TempDir::new();
        let server = server_with_short(engine, &["--keep-alive-timeout", "--header-timeout"], &store);
        let mut client = Client::connect(&server);
        client.expect_closed();
    }

    fn a_request_in_time_keeps_the_connection(engine: Engine) {
        let store = TempDir::new();
        let server = server_with(engine, &["--keep-alive-timeout", "--header-timeout"], ROOMY, &store);
        let mut client = Client::connect(&server);
        for _ in 0..PAUSES {
            client.send(REQUEST);
            assert_eq!(client.read_response().status, 200);
            thread::sleep(PAUSE);
        }
    }

    fn a_body_that_stops_is_answered_408_and_leaves_nothing(engine: Engine) {
        let store = TempDir::new();
        let server = server_with_short(engine, &["--body-timeout"], &store);
        for framing in [
            "Content-Length: 10\r\n\r\nfive!",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nfive!\r\n",
            "Content-Length: 10\r\n\r\n",
        ] {
            let began = Instant::now();
            let mut client = Client::connect(&server);
            client.send(format!("PUT /files/f HTTP/1.1\r\nHost: x\r\n{framing}"));
            let answer = client.read_response();
            not_early(began);
            assert_eq!(answer.status, 408, "{framing}");
            assert!(answer.says_close());
            client.expect_closed();
            eventually("an empty store", || store.entries().is_empty().then_some(()));
        }
    }

    fn a_body_that_goes_on_slowly_is_taken(engine: Engine) {
        let store = TempDir::new();
        let server = server_with(engine, &["--body-timeout"], ROOMY, &store);
        let mut client = Client::connect(&server);
        client.send(format!("PUT /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", 2 * PAUSES));
        for _ in 0..PAUSES {
            client.send("ab");
            thread::sleep(PAUSE);
        }
        assert_eq!(client.read_response().status, 201);
    }

    fn a_client_that_reads_nothing_is_let_go(engine: Engine) {
        let store = TempDir::new();
        store.write_sparse("huge", 256 << 20);
        let server = server_with_short(engine, &["--write-timeout"], &store);
        let before = server.sockets();
        let mut client = Client::connect(&server);
        client.send("GET /files/huge HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.read_head().status, 200);
        eventually("the connection to be gone", || (server.sockets() <= before).then_some(()));
        let mut chunk = vec![0; 1 << 18];
        let mut total = 0;
        while let Ok(read @ 1..) = client.read_some(&mut chunk) {
            total += read;
        }
        assert!(total < 256 << 20, "all of it came");
    }

    fn a_client_that_reads_slowly_is_served(engine: Engine) {
        let store = TempDir::new();
        store.write_sparse("large", 24 << 20);
        let server = server_with(engine, &["--write-timeout"], ROOMY, &store);
        let mut client = Client::connect(&server);
        client.send("GET /files/large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert_eq!(client.read_head().status, 200);
        let began = Instant::now();
        let mut chunk = vec![0; 1 << 20];
        let mut total = 0;
        while let Ok(read @ 1..) = client.read_some(&mut chunk) {
            total += read;
            // Slow until the transfer has taken longer than the timeout, then faster.
            if began.elapsed() < ROOMY + SHORT {
                thread::sleep(Duration::from_millis(60));
            }
        }
        assert_eq!(total, 24 << 20);
    }

    fn empty_lines_do_not_extend_a_deadline(engine: Engine) {
        let place = Place::with(engine, &["--header-timeout", "1s", "--keep-alive-timeout", "1s"]);
        for first in ["", "GET /echo/x HTTP/1.1\r\nHost: x\r\n\r\n"] {
            let mut client = Client::connect(&place.server);
            client.send(first);
            let since = Instant::now();
            // Whole empty lines, and empty lines in two halves.
            while ["\r\n", "\r", "\n\r", "\n"].iter().all(|part| client.try_send(part).is_ok()) {
                assert!(since.elapsed() < PATIENCE, "still open");
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}
