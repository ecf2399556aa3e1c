//! Sessions without sockets: a client at one end, the driver at the other, and a clock that only the test moves.

use super::testing::Connection;
use super::*;
use crate::config::Config;

mod compressing;
mod listing;
mod rules;
mod shutdown;

/// A connection that has just been accepted.
fn open(flags: &[&str]) -> Connection {
    // The site is the package's own directory: it exists on every machine, with the same files.
    open_at(env!("CARGO_MANIFEST_DIR"), flags)
}

/// A connection that has just been accepted, to a server of the site at `root`.
fn open_at(root: &str, flags: &[&str]) -> Connection {
    let words = ["dustdevil", root, "--debug-endpoints"];
    let config = Config::from_args(words.iter().chain(flags)).unwrap();
    Connection::new(App::new(&config).unwrap())
}

// ---- delay

#[test]
fn a_delay_answers_when_it_is_due_and_not_before() {
    let mut ends = open(&[]);
    ends.get("/debug/delay/2.5");
    assert_eq!((ends.session.phase(), ends.deadline()), (Phase::Handling, Some(2500)));
    assert!(ends.log().is_empty(), "the log line is written together with the response");
    ends.pass(2499);
    assert_eq!(ends.received(), "");
    ends.pass(1);
    assert!(ends.received().ends_with("This took 2.5 seconds.\n"));
    assert_eq!(ends.session.phase(), Phase::Idle);
    assert!(ends.log().contains("\"GET /debug/delay/2.5 HTTP/1.1\" 200 "));
}

#[test]
fn what_comes_during_a_delay_is_answered_behind_it() {
    let mut ends = open(&[]);
    ends.get("/debug/delay/1");
    ends.get("/echo/second");
    ends.pass(500);
    ends.get("/echo/third");
    assert_eq!(ends.received(), "");
    ends.pass(500);
    let text = ends.received();
    let places = ["This took 1 seconds.", "second", "third"].map(|word| text.rfind(word));
    assert!(places.is_sorted() && places[0].is_some(), "{text}");
}

#[test]
fn a_half_closed_client_still_gets_its_delayed_reply() {
    let mut ends = open(&[]);
    ends.get("/debug/delay/1");
    ends.finish_sending();
    assert_eq!(ends.deadline(), Some(1000), "the client's FIN changes nothing during a delay");
    ends.pass(1000);
    assert_eq!(ends.statuses(), [200]);
    assert!(ends.is_closed());
}

#[test]
fn a_delay_is_the_last_exchange_after_a_shutdown() {
    let mut ends = open(&[]);
    ends.get("/debug/delay/1");
    ends.get("/echo/late");
    ends.shut_down();
    assert!(!ends.is_closed());
    ends.pass(1000);
    let text = ends.received();
    assert!(text.contains("Connection: close\r\n") && !text.contains("late"), "{text}");
}

#[test]
fn content_that_a_delay_does_not_want_waits_behind_its_reply() {
    let mut ends = open(&[]);
    ends.send("GET /debug/delay/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab");
    assert_eq!((ends.session.phase(), ends.deadline()), (Phase::Handling, Some(1000)));
    ends.pass(1000);
    assert_eq!(ends.statuses(), [200]);
    assert_eq!(ends.session.phase(), Phase::Receiving);
    ends.send("cdGET /echo/next HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(ends.statuses(), [200]);
}

#[test]
fn a_delay_behind_a_response_that_is_not_taken_waits_for_the_write_timeout() {
    let mut ends = open(&["--write-timeout=3s"]);
    ends.wire.window = 10;
    ends.send(["GET /echo/a HTTP/1.1\r\nHost: x\r\n\r\n", "GET /debug/delay/60 HTTP/1.1\r\nHost: x\r\n\r\n"].concat());
    assert_eq!((ends.session.phase(), ends.deadline()), (Phase::Sending, Some(3000)));
    ends.pass(1000);
    ends.take(usize::MAX);
    assert_eq!((ends.session.phase(), ends.deadline()), (Phase::Handling, Some(59_000)));
}

// ---- drip

#[test]
fn a_drip_comes_piece_by_piece_at_its_times() {
    let mut ends = open(&[]);
    ends.get("/debug/drip?bytes=4&duration=2");
    let head = ends.received();
    assert!(head.contains("Content-Length: 4\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    for _ in 0..4 {
        assert_eq!((ends.session.phase(), ends.deadline()), (Phase::Sending, Some(500)));
        ends.pass(499);
        assert_eq!(ends.received(), "");
        ends.pass(1);
        assert_eq!(ends.received(), "*");
    }
    assert_eq!(ends.session.phase(), Phase::Idle);
}

#[test]
fn a_drip_is_delayed_as_a_whole() {
    let mut ends = open(&[]);
    ends.get("/debug/drip?bytes=1&duration=0&delay=0.5");
    ends.pass(499);
    assert_eq!(ends.received(), "");
    ends.pass(1);
    assert!(ends.received().ends_with("\r\n\r\n*"));
}

#[test]
fn a_drip_slower_than_the_write_timeout_is_no_timeout() {
    let mut ends = open(&["--write-timeout=2s"]);
    ends.get("/debug/drip?bytes=2&duration=20");
    ends.pass(10_000);
    assert!(ends.received().ends_with('*') && !ends.is_closed());
    // The client reads no more: now the write timeout runs, from the second piece on.
    ends.take(0);
    ends.pass(10_000);
    assert_eq!((ends.session.phase(), ends.deadline()), (Phase::Sending, Some(2000)));
    ends.pass(2000);
    assert!(ends.is_closed());
}

#[test]
fn a_drip_whose_times_were_missed_catches_up() {
    let mut ends = open(&[]);
    ends.get("/debug/drip?bytes=10&duration=1");
    ends.received();
    ends.set_clock(ends.start() + Duration::from_millis(750));
    ends.drive();
    assert_eq!(ends.received(), "*******");
    assert_eq!(ends.deadline(), Some(50));
}

#[test]
fn head_of_a_drip_has_its_fields_alone() {
    let mut ends = open(&[]);
    ends.send("HEAD /debug/drip?bytes=4&duration=2 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(ends.received().contains("Content-Length: 4\r\n"));
    assert_eq!(ends.session.phase(), Phase::Idle);
}

// ---- the deadlines of the phases

#[test]
fn a_new_connection_has_the_header_time_and_an_old_one_the_keep_alive_time() {
    let mut ends = open(&["--header-timeout=2s", "--keep-alive-timeout=5s"]);
    assert_eq!((ends.session.phase(), ends.deadline()), (Phase::Idle, Some(2000)));
    ends.pass(1000);
    ends.get("/echo/a");
    assert_eq!((ends.session.phase(), ends.deadline()), (Phase::Idle, Some(5000)));
    ends.received();
    ends.pass(5000);
    assert_eq!(ends.received(), "", "an idle connection is closed without a response");
    assert!(ends.is_closed());
}

#[test]
fn a_head_has_its_time_from_its_first_byte_however_it_drips() {
    let mut ends = open(&["--header-timeout=2s"]);
    ends.pass(1000);
    for byte in "GET /".chars() {
        ends.send(byte.to_string());
        ends.pass(300);
    }
    assert_eq!((ends.session.phase(), ends.deadline()), (Phase::Head, Some(500)));
    ends.pass(500);
    assert_eq!(ends.statuses(), [408]);
}

#[test]
fn content_has_its_time_anew_with_each_byte() {
    let mut ends = open(&["--body-timeout=2s"]);
    ends.send("GET /echo/a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n");
    assert_eq!(ends.statuses(), [200]);
    for _ in 0..3 {
        assert_eq!((ends.session.phase(), ends.deadline()), (Phase::Receiving, Some(2000)));
        ends.pass(1500);
        ends.send("x");
    }
    ends.pass(2000);
    assert_eq!(ends.statuses(), [], "the request has been answered already, so there is no 408");
    assert!(ends.wire.shut_down);
}

#[test]
fn a_response_has_its_time_anew_with_each_byte_taken() {
    let mut ends = open(&["--write-timeout=2s"]);
    ends.wire.window = 1;
    ends.get("/echo/a");
    for _ in 0..3 {
        assert_eq!((ends.session.phase(), ends.deadline()), (Phase::Sending, Some(2000)));
        ends.pass(1500);
        ends.take(1);
    }
    ends.pass(2000);
    assert!(ends.is_closed());
}

#[test]
fn lingering_ends_with_the_client_or_after_its_time() {
    for leaves in [true, false] {
        let mut ends = open(&[]);
        ends.send("BROKEN\r\n\r\n");
        assert_eq!(ends.statuses(), [400]);
        assert_eq!((ends.session.phase(), ends.deadline()), (Phase::Lingering, Some(LINGER.as_millis())));
        ends.pass(1000);
        ends.send("bytes that arrive while lingering are dropped");
        assert_eq!(ends.deadline(), Some(LINGER.as_millis() - 1000), "more bytes do not move the deadline");
        if leaves {
            ends.finish_sending()
        } else {
            ends.pass(1000)
        }
        assert!(ends.is_closed());
    }
}

#[test]
fn a_tunnel_is_closed_when_neither_side_has_sent_for_the_proxy_timeout() {
    let config = Config::from_args(["dustdevil", "--proxy=/=http://127.0.0.1:1", "--proxy-timeout=5s"]).unwrap();
    let mut ends = Connection::new(App::new(&config).unwrap());
    let say = |ends: &mut Connection, bytes: &str| {
        ends.wire.upstream = Some(bytes.into());
        ends.drive();
    };
    ends.wire.upstream = Some(Vec::new());
    ends.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
    say(&mut ends, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n");
    assert_eq!(ends.statuses(), [101]);
    for _ in 0..3 {
        ends.pass(4_999);
        say(&mut ends, "x");
        assert_eq!(ends.received(), "x");
        ends.pass(4_999);
        ends.send("y");
    }
    assert!(ends.wire.forwarded.ends_with(b"yyy"));
    ends.pass(4_999);
    assert_eq!((ends.wire.kept, ends.wire.shut_down), (None, false));
    ends.pass(1);
    assert_eq!((ends.wire.kept, ends.wire.shut_down), (Some(false), true));
    ends.finish_sending();
    assert!(ends.is_closed());
}

// ---- order, ends, refusals

#[test]
fn pipelined_requests_are_answered_in_order_however_they_are_cut() {
    let requests: String = (0..20).map(|n| format!("GET /echo/{n} HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
    for size in [1, 7, 100, requests.len()] {
        let mut ends = open(&[]);
        requests.as_bytes().chunks(size).for_each(|piece| ends.send(piece));
        let text = ends.received();
        let bodies: Vec<&str> = text.split("\r\n\r\n").skip(1).map(|rest| rest.split("HTTP").next().unwrap()).collect();
        assert_eq!(bodies, (0..20).map(|n| n.to_string()).collect::<Vec<_>>(), "in pieces of {size}");
    }
}

#[test]
fn a_half_closed_client_is_answered_and_left() {
    let mut ends = open(&[]);
    ends.wire.ended = true;
    ends.send("GET /echo/a HTTP/1.1\r\nHost: x\r\n\r\nGET /Cargo.toml HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(ends.statuses(), [200, 200]);
    assert!(ends.is_closed());
}

#[test]
fn a_head_cut_off_by_the_end_is_refused() {
    let mut ends = open(&[]);
    ends.send("GET /echo/a HT");
    ends.finish_sending();
    assert_eq!(ends.statuses(), [400]);
    assert!(ends.is_closed());
}

#[test]
fn a_client_that_breaks_off_is_forgotten_and_logged() {
    let mut ends = open(&[]);
    ends.get("/debug/drip?bytes=10&duration=1");
    ends.wire.broken = true;
    ends.pass(100);
    assert!(ends.is_closed());
    assert!(ends.log().contains("drip?bytes=10&duration=1 HTTP/1.1\" 200 "), "{}", ends.log());
}

#[test]
fn shutdown_closes_an_idle_connection_and_lets_a_download_end() {
    let mut idle = open(&[]);
    idle.shut_down();
    assert!(idle.is_closed() && idle.received().is_empty());

    let mut busy = open(&[]);
    busy.wire.window = 100;
    busy.get("/Cargo.lock");
    busy.shut_down();
    assert_eq!(busy.session.phase(), Phase::Sending);
    busy.take(usize::MAX);
    assert!(busy.received().ends_with(&std::fs::read_to_string("Cargo.lock").unwrap()));
    // The head was sent before the shutdown, without `Connection: close`: the client may send another request.
    assert_eq!(busy.session.phase(), Phase::Lingering);
    busy.finish_sending();
    assert!(busy.is_closed());
}

#[test]
fn a_refused_request_is_the_last_of_its_connection() {
    let next = "GET /echo/next HTTP/1.1\r\nHost: x\r\n\r\n";
    for (request, status) in [
        ("GET /echo/a HTTP/1.1\r\n\r\n", 400),
        ("GET /echo/a HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        ("POST /echo/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST /echo/a HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", 413),
        ("POST /echo/a HTTP/1.1\r\nHost: x\r\nExpect: more\r\nContent-Length: 1\r\n\r\n", 417),
        ("GET /echo/a HTTP/1.1\nHost: x\n\n", 400),
    ] {
        let mut ends = open(&[]);
        ends.send([request, next].concat());
        assert_eq!(ends.statuses(), [status], "{request}");
        ends.finish_sending();
        assert!(ends.is_closed(), "{request}");
    }
}
