//! Shutdown: for which clients it waits, and how long.

use super::{Connection, open};
use crate::app::files::scratch::Scratch;

const PATIENT: [&str; 4] =
    ["--header-timeout=10m", "--body-timeout=10m", "--keep-alive-timeout=10m", "--grace-period=10m"];

/// A request that is answered before its whole content has arrived: four bytes of ten.
const EARLY: &str = "GET /echo/x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf";
/// A request that is refused (no Host) before its whole content has arrived.
const REFUSED: &str = "GET /echo/x HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf";

fn after(requests: &[&str]) -> Connection {
    let mut ends = open(&PATIENT);
    requests.iter().for_each(|request| ends.send(request));
    ends.received();
    ends
}

#[test]
fn a_client_that_is_owed_no_answer_is_waited_for_a_second_at_most() {
    let half = "GET /echo/x HTTP/1.1\r\nHo";
    for requests in [&[half][..], &["GET /echo/x HTTP/1.1\r\nHost: x\r\n\r\n", half], &["\r"], &[EARLY], &[REFUSED]] {
        let mut ends = after(requests);
        ends.pass(300);
        ends.shut_down();
        assert_eq!(ends.deadline(), Some(1000), "{requests:?}");
        ends.pass(999);
        assert!(!ends.is_closed(), "{requests:?}");
        ends.pass(1);
        assert!(ends.is_closed(), "{requests:?}: {:?}", ends.session);
        let statuses = ends.statuses();
        assert!(if requests.ends_with(&[half]) { statuses == [408] } else { statuses.is_empty() }, "{statuses:?}");
    }
}

#[test]
fn its_own_timeout_may_end_before_that_second() {
    let mut ends = open(&["--header-timeout=2s"]);
    ends.send("GET /");
    ends.pass(1600);
    ends.shut_down();
    assert_eq!(ends.deadline(), Some(400));
}

#[test]
fn a_head_that_comes_within_that_second_is_answered() {
    let mut ends = after(&["GET /echo/x HTTP/1.1\r\nHo"]);
    ends.shut_down();
    ends.pass(999);
    ends.send("st: x\r\n\r\n");
    assert_eq!(ends.statuses(), [200]);
}

#[test]
fn a_client_that_is_owed_an_answer_has_its_own_timeout() {
    let store = Scratch::new();
    let mut ends = open(&["--body-timeout=10m", "--directory", store.root().to_str().unwrap()]);
    ends.send("PUT /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf");
    ends.shut_down();
    assert_eq!(ends.deadline(), Some(600_000));
}

#[test]
fn an_answer_that_ends_during_the_shutdown_leaves_a_second_to_read_it() {
    let mut ends = open(&PATIENT);
    ends.wire.window = 100;
    ends.get("/Cargo.lock");
    ends.shut_down();
    ends.pass(20_000);
    ends.take(usize::MAX);
    assert!(ends.received().ends_with(&std::fs::read_to_string("Cargo.lock").unwrap()));
    assert_eq!(ends.deadline(), Some(1000));
    ends.pass(1000);
    assert!(ends.is_closed());
}
