//! The limits on a message: its target, its head, its fields, its content, and its framing.

mod common;

use common::refused::expect_refused;
use common::{Client, SECOND, eventually, exchange, get, noise, on_every_engine, store_server};
use std::fs;

on_every_engine! {
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

    /// The Host field counts too.
    fn as_many_fields_are_taken_as_the_flag_says(engine: Engine) {
        for (flags, most) in [(&["--max-fields", "3"][..], 3), (&[], 100)] {
            let (server, _store) = store_server(engine, flags);
            let request = |count: usize| format!("GET /echo/x HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(count - 1));
            for count in [1, most - 1, most] {
                assert_eq!(exchange(&server, request(count)).status, 200, "{count} of {most}");
            }
            for count in [most + 1, most + 2] {
                expect_refused(&server, request(count).as_bytes(), &[431]);
            }
        }
    }

    /// Path and query count. In absolute-form the scheme and the host count too.
    fn a_target_may_be_as_long_as_the_flag_says(engine: Engine) {
        for (flags, most) in [(&["--max-target-length", "100"][..], 100), (&[], 8192)] {
            let (server, _store) = store_server(engine, flags);
            for start in ["/echo/", "/echo/x?", "http://host.example/echo/"] {
                let request = |length: usize| {
                    format!("GET {start}{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(length - start.len()))
                };
                for length in [most - 1, most] {
                    assert_eq!(exchange(&server, request(length)).status, 200, "{start}, {length} of {most}");
                }
                expect_refused(&server, request(most + 1).as_bytes(), &[414]);
            }
        }
    }

    fn a_method_without_an_end_is_refused(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let message = format!("{} / HTTP/1.1\r\nHost: x\r\n\r\n", "A".repeat(100_000));
        expect_refused(&server, message.as_bytes(), &[501]);
    }

    fn a_chunk_over_the_limit_is_refused_when_it_is_announced(engine: Engine) {
        let (server, store) = store_server(engine, &["--max-body-size", "1K"]);
        for size in ["401", "7fffffffffffffff", "ffffffffffffffff"] {
            let message =
                format!("PUT /files/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\nhello");
            expect_refused(&server, message.as_bytes(), &[400, 413]);
        }
        // The limit applies to the sum of the chunks, and the sum does not overflow.
        let message =
            "PUT /files/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nfffffffffffffffb\r\n";
        expect_refused(&server, message.as_bytes(), &[400, 413]);
        assert!(store.entries().is_empty(), "{:?}", store.entries());
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

    /// Chunks of one byte with a long extension hold little content, but are many bytes to read.
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

    fn a_target_of_8000_bytes_is_within_the_default_limit(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let query = "q".repeat(8000 - "/echo/x?".len());
        assert_eq!(exchange(&server, format!("GET /echo/x?{query} HTTP/1.1\r\nHost: x\r\n\r\n")).status, 200);
    }

    fn an_upload_over_the_limit_is_413_and_leaves_nothing(engine: Engine) {
        let (server, store) = store_server(engine, &["--max-body-size", "64K"]);
        // Larger than the server's buffers, but not than the system's: the client must be able to read the response.
        let body = noise(200_000);
        let mut client = Client::connect(&server);
        client.send("PUT /files/x HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n");
        let _ = client.try_send(&body);
        assert_eq!(client.read_response().status, 413);
        client.expect_closed();

        let mut client = Client::connect(&server);
        client.send("PUT /files/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
        for part in body.chunks(10_000) {
            let chunk = [b"2710\r\n", part, b"\r\n"].concat();
            if client.try_send(chunk).is_err() {
                break;
            }
        }
        assert_eq!(client.read_response().status, 413);
        client.expect_closed();
        eventually("an empty store", || store.entries().is_empty().then_some(()));
    }

    fn an_upload_of_exactly_the_limit_is_taken(engine: Engine) {
        let (server, store) = store_server(engine, &["--max-body-size", "64K"]);
        let body = noise(65536);
        let head = format!("PUT /files/x HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
        assert_eq!(exchange(&server, [head.as_bytes(), &body].concat()).status, 201);
        assert!(fs::read(store.join("x")).unwrap() == body);
    }
}
