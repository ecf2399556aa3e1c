//! The hot path allocates nothing: requests on a persistent connection for a cached file, for a missing file, and for a
//! file that the client already has (304). The transport is in memory. Everything else is the code of the server.

use allocation_counter::measure;
use dustdevil::app::App;
use dustdevil::config::Config;
use dustdevil::driver::Turn;
use dustdevil::session::testing::Connection;
use std::time::{Duration, SystemTime};

fn open(flags: &[&str]) -> Connection {
    // The site is the directory of this package.
    let words = ["dustdevil", env!("CARGO_MANIFEST_DIR"), "--access-log", "/dev/null"];
    let config = Config::from_args(words.iter().chain(flags)).unwrap();
    // The clock is a year ahead, so that no file is too young for the cache, even in a new checkout.
    let mut connection =
        Connection::at(App::new(&config).unwrap(), SystemTime::now() + Duration::from_secs(31_536_000));
    connection.wire.answer.reserve(1 << 20);
    connection
}

/// Sends the request and receives its response, in a turn of its own.
fn ask(connection: &mut Connection, request: &[u8]) {
    connection.wire.answer.clear();
    // As in the event loop, each turn has a new time, and checks the file system once.
    connection.set_clock(connection.wire.now.instant + Duration::from_millis(1));
    connection.wire.send(request);
    connection.drive_once();
    assert!(matches!(connection.turn, Turn::Wait(_)));
    connection.scratch.log.clear();
}

/// Sends requests until everything is in the cache, then counts the allocations of a hundred further requests.
fn allocations(flags: &[&str], request: &str, status: u16) -> u64 {
    let mut connection = open(flags);
    for _ in 0..10 {
        ask(&mut connection, request.as_bytes());
    }
    let answer = String::from_utf8_lossy(&connection.wire.answer).into_owned();
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    measure(|| {
        for _ in 0..100 {
            ask(&mut connection, request.as_bytes());
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
        // Larger files are sent from the cache or by sendfile, and logged when all is sent.
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
fn a_304_and_a_404_are_sent_without_an_allocation() {
    let missing = "GET /nothing/here.html HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n";
    assert_eq!(allocations(&[], missing, 404), 0);
    let mut connection = open(&[]);
    ask(&mut connection, b"GET /Cargo.toml HTTP/1.1\r\nHost: localhost\r\n\r\n");
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
