//! The hot path allocates nothing: requests over a kept connection for a file that is kept, an error, a page that the
//! client has already. The driver runs over a transport in memory, everything else is the server's own.

#[path = "common/wire.rs"]
mod wire;

use allocation_counter::measure;
use dustdevil::app::App;
use dustdevil::config::Config;
use dustdevil::driver::{self, Turn};
use dustdevil::http::date::Now;
use dustdevil::session::{Scratch, Session};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant, SystemTime};
use wire::Wire;

/// A connection that has been served before.
struct Connection {
    app: App,
    session: Session,
    scratch: Scratch,
    wire: Wire,
}

impl Connection {
    fn new(flags: &[&str]) -> Connection {
        // The package's own directory is the site: it was made long ago, so its files are kept.
        let words = ["dustdevil", env!("CARGO_MANIFEST_DIR"), "--access-log", "/dev/null"];
        let config = Config::from_args(words.iter().chain(flags)).unwrap();
        // A year ahead: no file is too young to be kept, however fresh the checkout.
        let now = Now::new(Instant::now(), SystemTime::now() + Duration::from_secs(31_536_000));
        Connection {
            app: App::new(&config).unwrap(),
            session: Session::new(Ipv4Addr::LOCALHOST.into(), now.instant),
            scratch: Scratch::default(),
            wire: Wire { now, request: Vec::new(), unread: 0, answer: Vec::with_capacity(1 << 20) },
        }
    }

    fn ask(&mut self, request: &[u8]) {
        self.wire.answer.clear();
        self.wire.request.clear();
        self.wire.request.extend_from_slice(request);
        self.wire.unread = request.len();
        // As in the loop: each turn has its own time, in which the file system is asked once.
        let instant = self.wire.now.instant + Duration::from_millis(1);
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(self.wire.now.unix);
        self.wire.now.update(instant, time);
        let turn = driver::drive(&mut self.session, &mut self.wire, &self.app, &mut self.scratch);
        assert!(matches!(turn, Turn::Wait(_)));
        self.scratch.log.clear();
    }
}

/// Asks until everything has been taken in, then counts what a hundred further requests allocate.
fn allocations(flags: &[&str], request: &str, status: u16) -> u64 {
    let mut connection = Connection::new(flags);
    for _ in 0..10 {
        connection.ask(request.as_bytes());
    }
    let answer = String::from_utf8_lossy(&connection.wire.answer).into_owned();
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    measure(|| {
        for _ in 0..100 {
            connection.ask(request.as_bytes());
        }
    })
    .count_total
}

#[test]
fn a_kept_file_is_sent_without_an_allocation() {
    let plain = "GET /Cargo.toml HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(allocations(&[], plain, 200), 0);
    let head = "HEAD /Cargo.toml HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(allocations(&[], head, 200), 0);
    let index = "GET /src/ HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(allocations(&["--index", "lib.rs"], index, 200), 0);
    for larger in ["src/app/files/mime.rs", "src/session.rs"] {
        // Sent from where it lies in memory, or as a file, and logged when that has been done.
        let larger = format!("GET /{larger} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(allocations(&[], &larger, 200), 0);
    }
}

#[test]
fn a_browser_is_answered_without_an_allocation() {
    let request = "GET /Cargo.toml?version=1 HTTP/1.1\r\nHost: localhost:4221\r\nConnection: keep-alive\r\n\
        sec-ch-ua: \"Chromium\";v=\"124\", \"Not-A.Brand\";v=\"99\"\r\nUpgrade-Insecure-Requests: 1\r\n\
        User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0\r\n\
        Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
        Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
        Cookie: session=0123456789abcdef\r\nReferer: http://localhost:4221/\r\n\r\n";
    assert_eq!(allocations(&[], request, 200), 0);
}

#[test]
fn what_the_client_has_and_what_is_not_there_are_told_without_an_allocation() {
    let missing = "GET /nothing/here.html HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n";
    assert_eq!(allocations(&[], missing, 404), 0);
    let mut connection = Connection::new(&[]);
    connection.ask(b"GET /Cargo.toml HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = String::from_utf8_lossy(&connection.wire.answer).into_owned();
    let etag = answer.lines().find_map(|line| line.strip_prefix("ETag: ")).unwrap();
    let conditional = format!("GET /Cargo.toml HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: {etag}\r\n\r\n");
    assert_eq!(allocations(&[], &conditional, 304), 0);
}

#[test]
fn pipelined_requests_are_answered_without_an_allocation() {
    let request = "GET /Cargo.toml HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(16);
    assert_eq!(allocations(&[], &request, 200), 0);
}
