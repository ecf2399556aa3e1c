//! Connections: when they persist and when they close, and the order of the responses.

mod common;

use common::place::{Place, ROUTES};
use common::{Client, Framing, SECOND, exchange, get, noise, on_every_engine, store_server};
use std::fs;
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

on_every_engine! {
    fn a_version_above_1_1_is_answered_as_1_1(engine: Engine) {
        let place = Place::new(engine);
        for minor in 2..=9 {
            let mut client = Client::connect(&place.server);
            for _ in 0..2 {
                client.send(format!("GET /big.html HTTP/1.{minor}\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n"));
                let answer = client.read_response();
                assert_eq!((answer.status, answer.framing), (200, Framing::Chunked));
            }
        }
    }

    fn http_1_0_meets_no_transfer_encoding(engine: Engine) {
        let place = Place::new(engine);
        for route in ROUTES {
            for fields in ["", "Accept-Encoding: gzip\r\n", "Accept-Encoding: deflate\r\nConnection: keep-alive\r\n"] {
                let answer = exchange(&place.server, format!("GET {route} HTTP/1.0\r\nUser-Agent: x\r\n{fields}\r\n"));
                assert_eq!(answer.field("Transfer-Encoding"), None, "{route}");
                assert!(answer.framing != Framing::Close || answer.says_close(), "{answer:?}");
            }
        }
    }

    fn mixed_outcomes_keep_their_order_in_a_pipeline(engine: Engine) {
        let place = Place::new(engine);
        let etag = place.etag("/letters");
        let requests = [
            ("GET /letters HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 200),
            ("HEAD /letters HTTP/1.1\r\nHost: x\r\n\r\n".into(), 200),
            (format!("GET /letters HTTP/1.1\r\nHost: x\r\nIf-None-Match: {etag}\r\n\r\n"), 304),
            ("\r\nGET /missing HTTP/1.1\r\nHost: x\r\n\r\n".into(), 404),
            ("POST /echo/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello".into(), 405),
            ("PUT /files/n HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n".into(), 201),
            ("PUT /files/n HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nb".into(), 204),
            ("PUT /files/n HTTP/1.1\r\nHost: x\r\nIf-None-Match: *\r\nContent-Length: 1\r\n\r\nc".into(), 412),
            ("GET /letters HTTP/1.1\r\nHost: x\r\nRange: bytes=1-2,5-6\r\n\r\n".into(), 206),
            ("GET /letters HTTP/1.1\r\nHost: x\r\nRange: bytes=99-\r\n\r\n".into(), 416),
            ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n".into(), 204),
            ("GET /big.html HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n".into(), 200),
            ("HEAD /big.html HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n".into(), 200),
            ("FROB / HTTP/1.1\r\nHost: x\r\n\r\n".into(), 501),
            ("GET /files/n HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".into(), 200),
            ("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n".into(), 400),
        ];
        let bytes: String = requests.iter().map(|(request, _)| request.as_str()).collect();
        for cut in [bytes.len(), 1, 7] {
            let _ = fs::remove_file(place.folder.join("store/n"));
            let mut client = Client::connect(&place.server);
            for piece in bytes.as_bytes().chunks(cut) {
                client.send(piece);
            }
            for (request, status) in &requests {
                let to_head = request.starts_with("HEAD ");
                let answer = if to_head { client.read_response_to_head() } else { client.read_response() };
                assert_eq!(answer.status, *status, "{request}");
            }
            client.expect_closed();
        }
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

    /// Bytes behind the last request of a connection are not answered, and do not destroy the answer to that request.
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

    fn an_error_answer_arrives_though_the_client_still_sends(engine: Engine) {
        let (server, _store) = store_server(engine, &["--max-body-size", "1K"]);
        for _ in 0..5 {
            let mut client = Client::connect(&server);
            client.send("PUT /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n");
            assert_eq!(client.read_response().status, 413);
            // A server that closes at once answers these with a reset. On a real network the reset overtakes the 413.
            for _ in 0..10 {
                client.send(noise(5_000));
                thread::sleep(Duration::from_millis(2));
            }
            assert_eq!(client.stream().peek(&mut [0]).expect("an orderly end, no reset"), 0);
        }
    }

    fn clients_that_vanish_do_not_disturb_others(engine: Engine) {
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
}
