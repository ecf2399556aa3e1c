//! Framing: which bytes are not HTTP, and where a message ends.
//!
//! The rule of every table: a request is answered correctly, or the connection closes. If the end of a message is
//! ambiguous, no later byte is read as a second request.

mod common;

use common::refused::expect_refused;
use common::{Client, SECOND, exchange, noise, on_every_engine, store_server};
use std::fs;
use std::thread;
use std::time::Duration;

/// Bytes that are not an HTTP/1.1 message, and the statuses that may answer them. The connection closes after each.
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

/// Requests whose body has an ambiguous end. A server that reads the end wrongly finds a second request in the body.
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

    fn bytes_of_other_protocols_are_refused(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".as_slice();
        let ssh = b"SSH-2.0-OpenSSH_9.2\r\n\r\n".as_slice();
        let random = [noise(300), b"\r\n\r\n".to_vec()].concat();
        for message in [tls, ssh, random.as_slice(), b"\0\0\0\0\r\n\r\n", b"\xff\xfe\r\n\r\n"] {
            expect_refused(&server, message, &[400, 431, 501, 505]);
        }
        // The server does not wait for a line end before it refuses this.
        let mut client = Client::connect(&server);
        client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
        client.finish_sending();
        if let Some(answer) = client.next_response() {
            assert_eq!(answer.status, 400);
        }
        client.expect_closed();
    }

    fn an_unwanted_body_is_never_read_as_a_request(engine: Engine) {
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
                thread::sleep(Duration::from_millis(2)); // usually enough for a separate read
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

    fn hosts_of_every_valid_form_are_taken(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        for host in [
            "localhost",
            "localhost:4221",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:4221",
            "a-b.c_d.example.",
            "x:",
            // A link-local address with its zone, as it is typed and as RFC 6874 has it in a URI.
            "[fe80::1%eth0]",
            "[fe80::1%25eth0]:4221",
        ] {
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
        // Some clients send an extra CRLF behind the body.
        client.send(format!("PUT /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi\r\n{SECOND}"));
        assert_eq!(client.read_response().status, 201);
        assert_eq!(client.read_response().text(), "second");
    }
}
