//! What compressing costs: a pipeline gives way to other connections when it has had its share.

use super::*;

/// Drives once, as a turn of the loop does. What that has cost.
fn drive_once(ends: &mut Connection) -> usize {
    ends.drive_once();
    ends.scratch.spent
}

/// Sends `request` many times over and counts how many are answered before the others have their turn.
fn answered_at_once(request: &str) -> usize {
    // At the beginning of time every file is too young to be kept: each answer is made anew.
    let mut ends = open(&[]);
    ends.wire.send(request.repeat(60).as_bytes());
    let spent = drive_once(&mut ends);
    // What one request costs comes on top of what is left of the share.
    assert!(spent < 2 * cost::SLICE, "{spent}");
    let begun = |ends: &Connection| ends.wire.answer.windows(9).filter(|bytes| *bytes == b"HTTP/1.1 ").count();
    let at_once = begun(&ends);
    ends.drive();
    assert_eq!(begun(&ends), 60, "the others follow");
    at_once
}

#[test]
fn pipelined_answers_that_are_compressed_leave_room_for_others() {
    let gzip = "Host: x\r\nAccept-Encoding: gzip\r\n\r\n";
    let at_once = answered_at_once(&format!("GET /src/driver.rs HTTP/1.1\r\n{gzip}"));
    assert!(at_once <= 4, "{at_once} files of 9 KB");
    // What is large is compressed while it is sent.
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
    // GET would tell a length.
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
