//! Listings of directories: for any request, each turn is short.

use super::{Connection, open_at};
use crate::app::files::scratch::Scratch;
use crate::cost;
use crate::driver::Turn;
use crate::session::Phase;
use std::time::{Duration, SystemTime};

/// The most that a drive may cost: its slice, and the work that was begun before the slice was spent.
const MOST: usize = cost::SLICE + cost::ADVANCE;

/// A site with a long and a short directory. Both are old enough to be kept in the cache.
fn site() -> (Scratch, Connection) {
    let dir = Scratch::new();
    dir.file("short/a", "");
    dir.file("long/0", "");
    for n in 1..10_000 {
        std::fs::hard_link(dir.root().join("long/0"), dir.root().join(format!("long/{n}"))).unwrap();
    }
    let ends = open_at(dir.root().to_str().unwrap(), &[]);
    (dir, later(ends))
}

fn later(mut ends: Connection) -> Connection {
    let now = &mut ends.wire.now;
    now.update(now.instant, SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000));
    ends
}

fn pipelined(count: usize, method: &str, fields: &str) -> String {
    format!("{method} /long/ HTTP/1.1\r\nHost: x\r\n{fields}\r\n").repeat(count)
}

#[test]
fn no_drive_costs_more_than_its_slice_however_many_listings_are_asked_for() {
    let (_dir, mut ends) = site();
    for (request, status) in [
        (pipelined(430, "HEAD", ""), 200),
        (pipelined(430, "GET", "If-None-Match: *\r\n"), 304),
        (pipelined(430, "GET", "If-Match: \"x\"\r\n"), 412),
        (pipelined(3, "GET", ""), 200),
        (pipelined(3, "GET", "Accept-Encoding: gzip, identity;q=0\r\n"), 200),
    ] {
        ends.costs.clear();
        ends.send(&request);
        let text = String::from_utf8_lossy(&ends.wire.answer);
        let expected = request.matches("Host").count();
        assert_eq!(text.matches(&format!("HTTP/1.1 {status} ")).count(), expected, "{}", &request[..60]);
        ends.wire.answer.clear();
        let most = ends.costs.iter().max().unwrap();
        assert!(*most <= MOST, "{most} of at most {MOST}: {}", &request[..60]);
        // Of three GET requests, the page is rendered once. For the 430 requests the directory is not read again.
        let all: usize = ends.costs.iter().sum();
        // Each response is compressed separately.
        let compressed = if request.contains("gzip") { 3 * 1_000_000 * cost::COMPRESSED_BYTE } else { 0 };
        assert!(all < 10_000 * cost::STAT * 3 + compressed, "{all}: {}", &request[..60]);
    }
}

#[test]
fn a_listing_under_way_yields_has_no_deadline_and_is_the_last_after_a_shutdown() {
    let (_dir, mut ends) = site();
    ends.wire.send(pipelined(2, "GET", ""));
    for _ in 0..10 {
        ends.drive_once();
        assert_eq!((&ends.turn, ends.session.phase()), (&Turn::Yield, Phase::Handling));
        assert_eq!(ends.session.deadline(&ends.app), None);
    }
    assert!(ends.wire.answer.is_empty());
    ends.shut_down();
    let text = ends.received();
    assert!(text.contains("Connection: close\r\n") && text.ends_with("</html>\n\r\n0\r\n\r\n"), "{text}");
    assert_eq!(text.matches("HTTP/1.1 200 ").count(), 1);
}

#[test]
fn content_that_comes_with_the_request_waits_until_the_listing_is_made() {
    let (_dir, mut ends) = site();
    ends.send("GET /long/ HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nabcdGET /short/ HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(ends.statuses(), [200, 200]);
    assert!(ends.log().contains("\"GET /long/ HTTP/1.1\" 200 "));
}

#[test]
fn a_client_that_takes_nothing_has_no_more_than_a_piece_waiting_for_it() {
    let (_dir, mut ends) = site();
    ends.wire.window = 1000;
    ends.send(pipelined(10, "GET", ""));
    assert_eq!(ends.session.phase(), Phase::Sending);
    assert!(ends.session.output.len() < 80 * 1024, "{}", ends.session.output.len());
    ends.take(usize::MAX);
    assert_eq!(ends.statuses(), [200; 10]);
}

#[test]
fn what_is_looked_up_and_taken_in_is_paid_for() {
    let dir = Scratch::new();
    dir.file("text", "hello");
    dir.file("large", &"x".repeat(100_000));
    dir.file("sub/a", "");
    dir.file("app", "");
    dir.link(dir.root().join("text"), "absolute");
    dir.link(dir.root().join("nothing"), "dangling");
    let navigation = "Accept: text/html\r\n";
    for (flags, path, fields, least) in [
        (&[][..], "missing", "", cost::LOOKUP),
        (&["--try-html"], "missing", "", 2 * cost::LOOKUP),
        (&["--spa=app"], "missing", navigation, 2 * cost::LOOKUP),
        (&["--no-listing", "--index=a1", "--index=a2"], "sub/", "", 3 * cost::LOOKUP),
        (&["--precompressed"], "text", "", 4 * cost::LOOKUP),
        (&[], "large", "", cost::LOOKUP + 200_000),
        (&[], "absolute", "", cost::LOOKUP + cost::LINK),
        (&[], "dangling", "", cost::LOOKUP + cost::LINK),
    ] {
        let mut ends = open_at(dir.root().to_str().unwrap(), flags);
        ends.costs.clear();
        ends.send(format!("HEAD /{path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n"));
        let cost: usize = ends.costs.iter().sum();
        assert!(cost >= least, "{cost} of at least {least}: {flags:?} {path}");
    }
}
