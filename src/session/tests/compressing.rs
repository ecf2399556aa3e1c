//! The cost of compressing: when a pipelining client has used up its share of a turn, other connections are driven.

use super::*;

/// Drives once, as a turn of the loop does. Returns the cost.
fn drive_once(ends: &mut Connection) -> usize {
    ends.drive_once();
    ends.scratch.spent
}

/// Sends `request` 60 times. Returns how many are answered in the first turn.
fn answered_at_once(request: &str) -> usize {
    // In 1970 every file is too new to be kept in the cache: each answer is compressed again.
    let mut ends = open(&[]);
    ends.wire.send(request.repeat(60).as_bytes());
    let spent = drive_once(&mut ends);
    // The last request may begin when almost all of the share is spent: its own cost comes on top.
    assert!(spent < 2 * cost::SLICE, "{spent}");
    let begun = |ends: &Connection| ends.wire.answer.windows(9).filter(|bytes| *bytes == b"HTTP/1.1 ").count();
    let at_once = begun(&ends);
    ends.drive();
    assert_eq!(begun(&ends), 60, "the other requests are answered in later turns");
    at_once
}

#[test]
fn pipelined_answers_that_are_compressed_leave_room_for_others() {
    let gzip = "Host: x\r\nAccept-Encoding: gzip\r\n\r\n";
    let at_once = answered_at_once(&format!("GET /src/driver.rs HTTP/1.1\r\n{gzip}"));
    assert!(at_once <= 4, "{at_once} files of 9 KB");
    // A large file is compressed while it is sent.
    let at_once = answered_at_once(&format!("GET /tests/http_smuggling.rs HTTP/1.1\r\n{gzip}"));
    assert!(at_once <= 2, "{at_once} files of 45 KB");
    let at_once = answered_at_once(&format!("HEAD /echo/a HTTP/1.1\r\n{gzip}"));
    assert!(at_once <= 32, "{at_once} texts");
}

#[test]
fn head_of_what_is_not_made_yet_makes_nothing() {
    let mut ends = open(&[]);
    let fields = "HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n";
    ends.wire.send(format!("HEAD /src/driver.rs {fields}").repeat(10).as_bytes());
    let spent = drive_once(&mut ends);
    assert!(spent < cost::SLICE && matches!(ends.turn, crate::driver::Turn::Wait(_)), "{spent}");
    let text = ends.received();
    assert_eq!(text.matches("Content-Encoding: gzip\r\n").count(), 10, "{text}");
    // For GET the length would be known.
    assert!(!text.contains("Content-Length") && !text.contains("Transfer-Encoding"), "{text}");
    ends.send(format!("GET /src/driver.rs {fields}"));
    let head = ends.wire.answer.split(|&byte| byte == b'\r').map(String::from_utf8_lossy).collect::<String>();
    assert!(head.contains("Content-Encoding: gzip") && head.contains("Content-Length: "));
}

#[test]
fn several_ranges_cost_something_each() {
    let ranges: Vec<String> = (0..64).map(|number| format!("{0}-{0}", 2 * number)).collect();
    let request = format!("GET /src/driver.rs HTTP/1.1\r\nHost: x\r\nRange: bytes={}\r\n\r\n", ranges.join(","));
    let mut ends = open(&[]);
    ends.wire.send(request.as_bytes());
    let spent = drive_once(&mut ends);
    assert!(spent > 64 * cost::RANGE, "{spent}");
    assert_eq!(ends.received().matches("Content-Range: bytes ").count(), 64);
}
