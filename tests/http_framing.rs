//! The wire: what is no HTTP, where a message ends, when a connection lives on, and the limits.
//!
//! The rule behind every table here: a request is answered right, or the connection closes; no byte whose meaning is in
//! doubt is ever read as a second request.

mod common;

use common::{Client, Server, Setup, TempDir, exchange, get, noise, on_every_engine, shown};
use std::fs;
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

const SECOND: &str = "GET /echo/second HTTP/1.1\r\nHost: x\r\n\r\n";

/// What is no HTTP/1.1 message: bytes, and the statuses that say so. All of these close the connection.
type Refused = (&'static str, &'static [u16]);

const BAD: &[u16] = &[400];
const BAD_CODING: &[u16] = &[400, 501];
const BAD_VERSION: &[u16] = &[400, 505];

const REQUEST_LINES: &[Refused] = &[
    ("GET\r\nHost: x\r\n\r\n", BAD),
    ("GET /\r\nHost: x\r\n\r\n", BAD_VERSION),
    ("GET  / HTTP/1.1\r\nHost: x\r\n\r\n", BAD),
    ("GET /  HTTP/1.1\r\nHost: x\r\n\r\n", BAD),
    ("GET / HTTP/1.1 \r\nHost: x\r\n\r\n", BAD),
    (" GET / HTTP/1.1\r\nHost: x\r\n\r\n", BAD),
    ("\tGET / HTTP/1.1\r\nHost: x\r\n\r\n", BAD),
    ("GET\t/\tHTTP/1.1\r\nHost: x\r\n\r\n", BAD),
    ("GET / x HTTP/1.1\r\nHost: x\r\n\r\n", BAD),
    ("GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", BAD),
    ("GET HTTP/1.1\r\nHost: x\r\n\r\n", BAD_VERSION),
    ("G@T / HTTP/1.1\r\nHost: x\r\n\r\n", BAD),
    ("G\u{0}T / HTTP/1.1\r\nHost: x\r\n\r\n", BAD),
    ("(GET) / HTTP/1.1\r\nHost: x\r\n\r\n", BAD),
    ("GET /\u{0} HTTP/1.1\r\nHost: x\r\n\r\n", BAD),
    ("GET /\u{1} HTTP/1.1\r\nHost: x\r\n\r\n", BAD),
    ("GET /\u{7f} HTTP/1.1\r\nHost: x\r\n\r\n", BAD),
    ("GET /\r/ HTTP/1.1\r\nHost: x\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\r\nHost: x\r\n\r\n", BAD),
    ("GET / HTTP/1.1\nHost: x\n\n", BAD),
    ("GET / HTTP/1.1\nHost: x\r\n\r\n", BAD),
    ("GET echo/x HTTP/1.1\r\nHost: x\r\n\r\n", BAD),
    ("GET * HTTP/1.1\r\nHost: x\r\n\r\n", BAD),
    ("GET /echo/x#fragment HTTP/1.1\r\nHost: x\r\n\r\n", BAD),
    ("hello\r\n\r\n", BAD),
    ("\r\r\r\r\r\n\r\n", BAD),
    ("{\"json\": true}\r\n\r\n", BAD),
    ("<html></html>\r\n\r\n", BAD),
    ("CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n", &[400, 405, 501]),
];

const VERSIONS: &[Refused] = &[
    ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", &[505]),
    ("GET / HTTP/3.0\r\nHost: x\r\n\r\n", &[505]),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BAD_VERSION),
    ("GET / HTTP/0.9\r\nHost: x\r\n\r\n", BAD_VERSION),
    ("GET / HTTP/2\r\nHost: x\r\n\r\n", BAD_VERSION),
    ("GET / HTTP/11\r\nHost: x\r\n\r\n", BAD),
    ("GET / HTTP/1\r\nHost: x\r\n\r\n", BAD),
    ("GET / HTTP/1.\r\nHost: x\r\n\r\n", BAD),
    ("GET / HTTP/.1\r\nHost: x\r\n\r\n", BAD),
    ("GET / HTTP/1.10\r\nHost: x\r\n\r\n", BAD),
    ("GET / HTTP/01.1\r\nHost: x\r\n\r\n", BAD),
    ("GET / HTTP/1.x\r\nHost: x\r\n\r\n", BAD),
    ("GET / HTTP/1,1\r\nHost: x\r\n\r\n", BAD),
    ("GET / HTTP/+1.1\r\nHost: x\r\n\r\n", BAD),
    ("GET / http/1.1\r\nHost: x\r\n\r\n", BAD),
    ("GET / HTTPS/1.1\r\nHost: x\r\n\r\n", BAD),
    ("GET / ICY/1.1\r\nHost: x\r\n\r\n", BAD),
    ("GET / HTTP /1.1\r\nHost: x\r\n\r\n", BAD),
];

const FIELDS: &[Refused] = &[
    ("GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding\t: chunked\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\n Host: x\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\n A: b\r\nHost: x\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n folded\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n\tfolded\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: x\r\n \r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: x\r\n: value\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: x\r\nnocolon\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: x\r\nA B: c\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: x\r\nA\u{0}: b\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: x\r\nA(: b\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: x\r\nA\u{e9}: b\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: x\r\nA: b\u{0}c\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: x\r\nA: b\u{1}c\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: x\r\nA: b\u{7f}c\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: x\r\nA: \u{1b}[31m\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: x\r\nA: b\r\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: x\r\nA: b\nC: d\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: x\n\n", BAD),
    ("GET / HTTP/1.1\r\nHost: x\r\n\n", BAD),
    ("GET / HTTP/1.1\r\nHost: x\r\nA: b\n\r\n", BAD),
];

const HOSTS: &[Refused] = &[
    ("GET / HTTP/1.1\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: x\r\nhost: y\r\n\r\n", BAD),
    ("GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", BAD),
    ("GET http://x/ HTTP/1.1\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: x/path\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: user@x\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: x:port\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: x:80:80\r\n\r\n", BAD),
    ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", BAD),
];

/// Requests whose body has no certain end. The body is shaped so that a wrong reading meets a second request in it.
const LENGTHS: &[Refused] = &[
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello", BAD),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\nhello", BAD),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5\r\n\r\nhello", BAD),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: 5x\r\n\r\nhello", BAD),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: 5.0\r\n\r\nhello", BAD),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: 5 5\r\n\r\nhello", BAD),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 6\r\n\r\nhello", BAD),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: 5,\r\n\r\nhello", BAD),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: ,5\r\n\r\nhello", BAD),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\nhello", BAD),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: five\r\n\r\nhello", BAD),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: \"5\"\r\n\r\nhello", BAD),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: 1e1\r\n\r\nhello", BAD),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: 1_0\r\n\r\nhello", BAD),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: \u{b2}\r\n\r\nhello", BAD),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551621\r\n\r\nhello", &[400, 413]),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999999\r\n\r\nhello", &[400, 413]),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", BAD),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\ncontent-length: 0\r\n\r\nhello", BAD),
    ("GET /echo/x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 41\r\n\r\n", BAD),
];

const CODINGS: &[Refused] = &[
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BAD),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", BAD),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n", BAD),
    ("POST /files/f HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BAD_CODING),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n", BAD_CODING),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", BAD_CODING),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello", BAD_CODING),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", BAD_CODING),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", BAD_CODING),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", BAD_CODING),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", BAD_CODING),
    (
        "POST /files/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
        BAD_CODING,
    ),
    (
        "POST /files/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        BAD_CODING,
    ),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", BAD_CODING),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n", BAD_CODING),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunk\r\n\r\n0\r\n\r\n", BAD_CODING),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", BAD_CODING),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n", BAD_CODING),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chun\r\n ked\r\n\r\n0\r\n\r\n", BAD),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n", BAD_CODING),
    ("POST /files/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding\r\n: chunked\r\n\r\n0\r\n\r\n", BAD),
];

const CHUNKS: &[&str] = &[
    "g\r\n\r\n",
    "\r\nhello\r\n0\r\n\r\n",
    "+5\r\nhello\r\n0\r\n\r\n",
    "-5\r\nhello\r\n0\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    " 5\r\nhello\r\n0\r\n\r\n",
    "5,\r\nhello\r\n0\r\n\r\n",
    "5 5\r\nhello\r\n0\r\n\r\n",
    "5_0\r\nhello\r\n0\r\n\r\n",
    "5\u{0}\r\nhello\r\n0\r\n\r\n",
    "5\nhello\n0\n\n",
    "5\nhello\r\n0\r\n\r\n",
    "5\r\nhello\n0\r\n\r\n",
    "5\r\nhello0\r\n\r\n",
    "5\r\nhelloXX0\r\n\r\n",
    "5\r\nhello\r0\r\n\r\n",
    "5\r\nhello\r\n0\n\r\n",
    "5\rhello\r\n0\r\n\r\n",
    "4\r\nhello\r\n0\r\n\r\n",
    "5;ext\nhello\r\n0\r\n\r\n",
    "5;ext\u{0}\r\nhello\r\n0\r\n\r\n",
    "5;a=\rb\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n0\r\nbad trailer\r\n\r\n",
    "5\r\nhello\r\n0\r\nA : b\r\n\r\n",
    "5\r\nhello\r\n0\r\nA: b\r\n folded\r\n\r\n",
    "5\r\nhello\r\n0\r\nA: b\nC: d\r\n\r\n",
    "5\r\nhello\r\n0\r\n\n",
    "10000000000000005\r\nhello\r\n0\r\n\r\n",
    "fffffffffffffffffffffffffffff5\r\nhello\r\n0\r\n\r\n",
];

fn store_server(engine: common::Engine, more: &[&str]) -> (Server, TempDir) {
    let store = TempDir::new();
    let server = Setup::on(engine).args(["--directory", store.arg()]).args(more).start();
    (server, store)
}

/// Sends a bad message with a good request behind it, whole and byte by byte: one refusal, then the end.
#[track_caller]
fn expect_refused(server: &Server, message: &[u8], statuses: &[u16]) {
    for cut in [usize::MAX, 1] {
        let bytes = [message, SECOND.as_bytes()].concat();
        let mut client = Client::connect(server);
        for part in bytes.chunks(cut.min(bytes.len())) {
            if client.try_send(part).is_err() {
                break; // answered and closed before the last byte
            }
        }
        let answer = client.next_response().unwrap_or_else(|| panic!("no answer to {}", shown(message)));
        let told = answer.status;
        assert!(statuses.contains(&told), "{told}, not one of {statuses:?}, for {}", shown(message));
        assert!(answer.says_close(), "Connection: close in the answer to {}", shown(message));
        let rest = client.read_to_end();
        assert!(rest.is_empty(), "{} was answered twice: {}", shown(message), shown(&rest));
    }
}

fn expect_all_refused(engine: common::Engine, table: &[Refused]) {
    let (server, store) = store_server(engine, &[]);
    for (message, statuses) in table {
        expect_refused(&server, message.as_bytes(), statuses);
    }
    assert!(store.entries().is_empty(), "{:?}", store.entries());
}

on_every_engine! {
    fn a_request_line_out_of_shape_is_refused(engine: Engine) {
        expect_all_refused(engine, REQUEST_LINES);
    }

    fn a_version_that_is_not_ours_is_refused(engine: Engine) {
        expect_all_refused(engine, VERSIONS);
    }

    fn a_field_out_of_shape_is_refused(engine: Engine) {
        expect_all_refused(engine, FIELDS);
    }

    fn a_request_needs_exactly_one_valid_host(engine: Engine) {
        expect_all_refused(engine, HOSTS);
    }

    fn a_content_length_in_doubt_is_refused(engine: Engine) {
        expect_all_refused(engine, LENGTHS);
    }

    fn a_transfer_coding_in_doubt_is_refused(engine: Engine) {
        expect_all_refused(engine, CODINGS);
    }

    fn a_chunk_out_of_shape_is_refused(engine: Engine) {
        let (server, store) = store_server(engine, &[]);
        for chunks in CHUNKS {
            let message = format!("PUT /files/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
            expect_refused(&server, message.as_bytes(), &[400, 413]);
            assert!(store.entries().is_empty(), "{} left {:?}", chunks.escape_debug(), store.entries());
        }
    }

    fn a_chunk_over_the_limit_is_refused_when_it_is_announced(engine: Engine) {
        let (server, store) = store_server(engine, &["--max-body-size", "1K"]);
        for size in ["401", "7fffffffffffffff", "ffffffffffffffff"] {
            let message =
                format!("PUT /files/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\nhello");
            expect_refused(&server, message.as_bytes(), &[400, 413]);
        }
        // The sum counts, and does not overflow.
        let message =
            "PUT /files/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nfffffffffffffffb\r\n";
        expect_refused(&server, message.as_bytes(), &[400, 413]);
        assert!(store.entries().is_empty(), "{:?}", store.entries());
    }

    fn bytes_of_other_protocols_are_refused(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".as_slice();
        let ssh = b"SSH-2.0-OpenSSH_9.2\r\n\r\n".as_slice();
        let random = [noise(300), b"\r\n\r\n".to_vec()].concat();
        for message in [tls, ssh, random.as_slice(), b"\0\0\0\0\r\n\r\n", b"\xff\xfe\r\n\r\n"] {
            expect_refused(&server, message, &[400, 431, 501, 505]);
        }
        // Nor does the server wait for a line end that will not come.
        let mut client = Client::connect(&server);
        client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
        client.finish_sending();
        if let Some(answer) = client.next_response() {
            assert_eq!(answer.status, 400);
        }
        client.expect_closed();
    }

    fn odd_targets_are_answered_once_or_the_connection_closes(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let targets = [
            "/%",
            "/%zz",
            "/%4",
            "/%00",
            "/%0d%0a",
            "/%ff",
            "/\u{e9}",
            "/a|b",
            "/\"quoted\"",
            "/{curly}",
            "/<b>",
            "/^",
            "/echo/%00",
            "/echo/%0a",
            "//",
            "///",
            "/?",
            "/??",
            "/echo",
            "/echo/",
            "/echo/../echo/x",
            "/;params",
            "/a\\b",
            "http://",
            "http:///",
            "http://x",
            "http:/x",
            "ftp://x/echo/x",
            "http://user:pw@x/echo/x",
            "http://[::1]/echo/x",
        ];
        for target in targets {
            let mut client = Client::connect(&server);
            client.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n{SECOND}"));
            let first = client.read_response();
            assert!(first.status < 500, "{target}: {}", first.status);
            if first.says_close() {
                client.expect_closed();
            } else {
                assert_eq!(client.read_response().text(), "second", "{target}");
                client.finish_sending();
                client.expect_closed();
            }
        }
    }

    fn a_body_nobody_wants_is_never_read_as_a_request(engine: Engine) {
        let (server, _store) = store_server(engine, &["--max-body-size", "10"]);
        let inner = "GET /echo/smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
        let counted = format!("Content-Length: {}\r\n\r\n{inner}", inner.len());
        let chunked = format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
        let starts = [
            "GET /echo/x",
            "HEAD /echo/x",
            "OPTIONS /echo/x",
            "POST /echo/x",
            "PUT /missing",
            "FROB /",
            "DELETE /files/x",
        ];
        for start in starts {
            for body in [&counted, &chunked] {
                let mut client = Client::connect(&server);
                client.send(format!("{start} HTTP/1.1\r\nHost: x\r\n{body}{SECOND}"));
                client.finish_sending();
                let first =
                    if start.starts_with("HEAD") { client.read_response_to_head() } else { client.read_response() };
                let rest = String::from_utf8_lossy(&client.read_to_end()).into_owned();
                assert!(!rest.contains("smuggled"), "{start} {body}: {rest}");
                let answers = rest.matches("HTTP/1.1 ").count();
                assert_eq!(answers, usize::from(!first.says_close()), "{start} {body}: {rest}");
                assert!(answers == 0 || rest.ends_with("\r\n\r\nsecond"), "{start} {body}: {rest}");
            }
        }
    }

    fn a_request_cut_at_every_byte_is_understood(engine: Engine) {
        let (server, store) = store_server(engine, &[]);
        let messages = [
            (
                "GET /echo/cut%20here?q HTTP/1.1\r\nHost: localhost:4221\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n",
                "cut here",
            ),
            ("PUT /files/cut HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", ""),
            (
                "PUT /files/cut HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nT: v\r\n\r\n",
                "",
            ),
        ];
        for (message, text) in messages {
            let mut client = Client::connect(&server);
            for at in 1..message.len() {
                let (before, after) = message.as_bytes().split_at(at);
                client.send(before);
                thread::sleep(Duration::from_millis(2)); // most often enough for a read of its own
                client.send(after);
                let answer = client.read_response();
                answer.expect_status(&[200, 201, 204]);
                assert_eq!(answer.text(), text, "cut at {at}");
                if message.starts_with("PUT") {
                    assert_eq!(fs::read(store.join("cut")).unwrap(), b"hello", "cut at {at}");
                }
            }
        }
    }

    fn a_request_byte_by_byte_is_understood(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let mut client = Client::connect(&server);
        for _ in 0..3 {
            for byte in SECOND.bytes() {
                client.send([byte]);
            }
            assert_eq!(client.read_response().text(), "second");
        }
    }

    fn five_hundred_requests_in_one_segment_are_answered_in_order(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let mut requests = String::new();
        for number in 0..500 {
            requests += &match number % 5 {
                3 => format!("HEAD /echo/{number} HTTP/1.1\r\nHost: x\r\n\r\n"),
                4 => format!("GET /missing/{number} HTTP/1.1\r\nHost: x\r\n\r\n"),
                _ => format!("GET /echo/{number} HTTP/1.1\r\nHost: x\r\n\r\n"),
            };
        }
        let mut client = Client::connect(&server);
        client.send(requests);
        for number in 0..500 {
            match number % 5 {
                3 => assert_eq!(client.read_response_to_head().content_length(), Some(number.to_string().len())),
                4 => assert_eq!(client.read_response().status, 404),
                _ => assert_eq!(client.read_response().text(), number.to_string()),
            }
        }
        client.send("GET /echo/after HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert_eq!(client.read_response().text(), "after");
        client.expect_closed();
    }

    fn pipelined_uploads_and_reads_keep_their_order(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let mut requests = String::new();
        for number in 0..50 {
            let body = format!("content {number}");
            requests += &format!("PUT /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            requests += "GET /files/f HTTP/1.1\r\nHost: x\r\n\r\n";
        }
        let mut client = Client::connect(&server);
        client.send(requests);
        for number in 0..50 {
            client.read_response().expect_status(&[201, 204]);
            assert_eq!(client.read_response().text(), format!("content {number}"));
        }
    }

    /// What comes behind a last request is not answered, nor does it destroy the answer to that.
    fn the_last_answer_arrives_whatever_comes_behind_it(engine: Engine) {
        let (server, store) = store_server(engine, &[]);
        let content = noise(400_000);
        store.write("f", &content);
        for last in ["GET /files/f HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "GET /files/f HTTP/1.0\r\n\r\n"] {
            for behind in [1, 20_000, 200_000] {
                let mut client = Client::connect(&server);
                let _ = client.try_send([last.as_bytes(), &vec![b'x'; behind]].concat());
                assert_eq!(client.read_response().body, content, "{last} {behind}");
                assert_eq!(client.stream().peek(&mut [0]).expect("an orderly end, no reset"), 0);
            }
        }
    }

    /// Chunks of a byte with a long extension are little content and much to read.
    fn framing_counts_where_content_is_only_drained(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let mut client = Client::connect(&server);
        let chunk = format!("1;{}\r\nx\r\n", "a".repeat(4000));
        let body = chunk.repeat(200);
        let _ = client.try_send(format!(
            "GET /echo/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{body}0\r\n\r\n{SECOND}"
        ));
        assert_eq!(client.read_response().status, 200);
        client.expect_closed();
    }

    fn nothing_is_answered_behind_connection_close(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let mut client = Client::connect(&server);
        let last = "GET /echo/last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        client.send(format!("{SECOND}{last}{SECOND}{SECOND}"));
        assert_eq!(client.read_response().text(), "second");
        assert_eq!(client.read_response().text(), "last");
        client.expect_closed();
    }

    fn a_half_closed_client_gets_every_answer(engine: Engine) {
        let (server, store) = store_server(engine, &[]);
        let big = noise(3 << 20);
        store.write("big", &big);
        let mut client = Client::connect(&server);
        client.send(format!("{SECOND}GET /files/big HTTP/1.1\r\nHost: x\r\n\r\n{SECOND}"));
        client.finish_sending();
        assert_eq!(client.read_response().text(), "second");
        assert!(client.read_response().body == big);
        assert_eq!(client.read_response().text(), "second");
        client.expect_closed();
    }

    fn a_client_gone_within_a_head_is_let_go(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        for part in ["", "G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: x\r\n", "\r\n"] {
            let mut client = Client::connect(&server);
            client.send(part);
            client.finish_sending();
            if let Some(answer) = client.next_response() {
                assert_eq!(answer.status, 400, "{part}");
            }
            client.expect_closed();
        }
    }

    fn clients_that_vanish_hurt_nobody(engine: Engine) {
        let (server, store) = store_server(engine, &[]);
        store.write("big", noise(1 << 20));
        for part in ["", "GET /", "GET /files/big HTTP/1.1\r\nHost: x\r\n\r\n", SECOND] {
            for _ in 0..20 {
                let mut client = Client::connect(&server);
                client.send(part);
                client.abort();
                let client = Client::connect(&server);
                client.stream().shutdown(Shutdown::Both).unwrap();
            }
        }
        assert_eq!(get(&server, "/echo/alive").text(), "alive");
    }

    fn connections_persist_by_version_and_wish(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let cases = [
            ("HTTP/1.1", "", true),
            ("HTTP/1.1", "Connection: keep-alive\r\n", true),
            ("HTTP/1.1", "Connection: close\r\n", false),
            ("HTTP/1.1", "connection: CLOSE\r\n", false),
            ("HTTP/1.1", "Connection: foo, close\r\n", false),
            ("HTTP/1.1", "Connection: foo\r\nConnection: ,Close ,\r\n", false),
            ("HTTP/1.1", "Connection: keep-alive, close\r\n", false),
            ("HTTP/1.1", "Connection: closed\r\n", true),
            ("HTTP/1.1", "X-Connection: close\r\n", true),
            ("HTTP/1.0", "", false),
            ("HTTP/1.0", "Connection: close\r\n", false),
            ("HTTP/1.0", "Connection: keep-alive\r\n", true),
            ("HTTP/1.0", "Connection: Keep-Alive\r\n", true),
            ("HTTP/1.0", "Connection: keep-alive, close\r\n", false),
            ("HTTP/1.2", "", true),
            ("HTTP/1.9", "", true),
        ];
        for (version, wish, persists) in cases {
            for path in ["/echo/x", "/missing"] {
                let request = format!("GET {path} {version}\r\nHost: x\r\n{wish}\r\n");
                let mut client = Client::connect(&server);
                client.send(&request);
                let answer = client.read_response();
                assert_eq!(answer.status, if path == "/missing" { 404 } else { 200 }, "{request}");
                if persists {
                    assert!(!answer.says_close(), "{request}");
                    if version == "HTTP/1.0" {
                        assert!(answer.lists("Connection", "keep-alive"), "1.0 has to be told: {answer:?}");
                    }
                    client.send(&request);
                    assert!(client.next_response().is_some(), "{request}");
                } else {
                    assert!(answer.says_close() || version == "HTTP/1.0", "{request}");
                    client.expect_closed();
                }
            }
        }
    }

    fn http_1_0_needs_no_host(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        assert_eq!(exchange(&server, "GET /echo/old HTTP/1.0\r\n\r\n").text(), "old");
    }

    fn hosts_of_every_valid_form_are_taken(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        for host in ["localhost", "localhost:4221", "127.0.0.1:80", "[::1]", "[::1]:4221", "a-b.c_d.example.", "x:"] {
            let answer = exchange(&server, format!("GET /echo/x HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            assert_eq!(answer.status, 200, "Host: {host}");
        }
    }

    fn field_values_may_hold_tabs_spaces_and_high_bytes(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let request =
            b"GET /echo/x HTTP/1.1\r\nHOST:\t x \t\r\nEmpty:\r\nBlank: \t \r\nTab: a\tb\r\nHigh: \x80\xff\r\n\r\n";
        assert_eq!(exchange(&server, request).status, 200);
    }

    fn empty_lines_before_a_request_are_skipped(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let mut client = Client::connect(&server);
        client.send(format!("\r\n{SECOND}\r\n\r\n{SECOND}"));
        assert_eq!(client.read_response().text(), "second");
        assert_eq!(client.read_response().text(), "second");
        // Some clients end a body by a CRLF too many.
        client.send(format!("PUT /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi\r\n{SECOND}"));
        assert_eq!(client.read_response().status, 201);
        assert_eq!(client.read_response().text(), "second");
    }

    fn empty_lines_without_end_are_not_kept(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let mut client = Client::connect(&server);
        let lines = "\r\n".repeat(32 << 10);
        for _ in 0..64 {
            if client.try_send(&lines).is_err() {
                break;
            }
        }
        drop(client);
        assert_eq!(get(&server, "/echo/alive").text(), "alive");
        assert!(server.memory("VmHWM") < 40 << 10);
    }

    fn a_target_too_long_is_414(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let long = "a".repeat(100_000);
        for target in [format!("/{long}"), format!("/?{long}"), format!("http://x/{long}")] {
            let message = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
            expect_refused(&server, message.as_bytes(), &[414]);
        }
    }

    fn a_head_too_large_is_431(engine: Engine) {
        let (server, _store) = store_server(engine, &["--max-header-size", "2K"]);
        let value = "v".repeat(3000);
        let name = "n".repeat(3000);
        let many = "a: b\r\n".repeat(600);
        for fields in [format!("A: {value}\r\n"), format!("{name}: a\r\n"), many, format!("A:{}\r\n", " ".repeat(3000))]
        {
            let message = format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
            expect_refused(&server, message.as_bytes(), &[431]);
        }
        // A head within the limit passes.
        let fits = "v".repeat(1500);
        assert_eq!(exchange(&server, format!("GET /echo/x HTTP/1.1\r\nHost: x\r\nA: {fits}\r\n\r\n")).status, 200);
    }

    fn a_head_without_an_end_is_431_while_it_is_sent(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let mut client = Client::connect(&server);
        client.send("GET / HTTP/1.1\r\nHost: x\r\nA: ");
        let part = "v".repeat(16 << 10);
        for _ in 0..64 {
            if client.try_send(&part).is_err() {
                break;
            }
        }
        assert_eq!(client.read_response().status, 431);
        client.expect_closed();
    }

    fn too_many_fields_are_431(engine: Engine) {
        let (server, _store) = store_server(engine, &["--max-header-size", "1M"]);
        let many = "a: b\r\n".repeat(20_000);
        expect_refused(&server, format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n").as_bytes(), &[431]);
    }

    fn a_method_without_an_end_is_refused(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let message = format!("{} / HTTP/1.1\r\nHost: x\r\n\r\n", "A".repeat(100_000));
        expect_refused(&server, message.as_bytes(), &[400, 414, 431, 501]);
    }

    fn a_chunk_extension_or_trailer_without_an_end_is_refused(engine: Engine) {
        let (server, store) = store_server(engine, &[]);
        let long = "x".repeat(200_000);
        let trailers = "a: b\r\n".repeat(40_000);
        for chunks in [
            format!("5;{long}\r\nhello\r\n0\r\n\r\n"),
            format!("5;a=\"{long}\"\r\nhello\r\n0\r\n\r\n"),
            format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(200_000)),
            format!("5\r\nhello\r\n0\r\nA: {long}\r\n\r\n"),
            format!("5\r\nhello\r\n0\r\n{trailers}\r\n"),
        ] {
            let message = format!("PUT /files/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
            expect_refused(&server, message.as_bytes(), &[400, 413, 431]);
        }
        assert!(store.entries().is_empty(), "{:?}", store.entries());
    }

    fn an_unknown_expectation_is_417(engine: Engine) {
        let (server, store) = store_server(engine, &[]);
        let request = "PUT /files/f HTTP/1.1\r\nHost: x\r\nExpect: a-miracle\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(exchange(&server, request).status, 417);
        assert!(store.entries().is_empty());
    }

    fn http_1_0_is_never_sent_100(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let head = "PUT /files/f HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
        let mut client = Client::connect(&server);
        client.send(head);
        thread::sleep(Duration::from_millis(50));
        client.send("hello");
        assert_eq!(client.read_response().status, 201);
    }

    fn an_expectation_without_a_body_changes_nothing(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let mut client = Client::connect(&server);
        client.send(format!("GET /echo/x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n{SECOND}"));
        assert_eq!(client.read_final_response().text(), "x");
        assert_eq!(client.read_final_response().text(), "second");
    }

    fn an_error_answer_arrives_though_the_client_still_sends(engine: Engine) {
        let (server, _store) = store_server(engine, &["--max-body-size", "1K"]);
        for _ in 0..5 {
            let mut client = Client::connect(&server);
            client.send("PUT /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n");
            assert_eq!(client.read_response().status, 413);
            // A server that closes at once answers these by a reset, which on the open network overtakes the 413.
            for _ in 0..10 {
                client.send(noise(5_000));
                thread::sleep(Duration::from_millis(2));
            }
            assert_eq!(client.stream().peek(&mut [0]).expect("an orderly end, no reset"), 0);
        }
    }
}
