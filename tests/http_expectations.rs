//! Expect: 100-continue (RFC 9110, section 10.1.1): 100 is sent once, and only if the server wants the content.

mod common;

use common::place::Place;
use common::{Client, SECOND, exchange, on_every_engine, store_server};
use std::thread;
use std::time::Duration;

on_every_engine! {
    fn an_expectation_in_any_case_is_met_before_the_content(engine: Engine) {
        let place = Place::new(engine);
        for expectation in ["100-continue", "100-CONTINUE", "100-Continue", "100-continue, 100-continue"] {
            let mut client = Client::connect(&place.server);
            client.send(format!(
                "PUT /files/kept HTTP/1.1\r\nHost: x\r\nExpect: {expectation}\r\nContent-Length: 5\r\n\r\n"
            ));
            assert_eq!(client.read_response().status, 100, "{expectation}");
            client.send("hello");
            assert_eq!(client.read_response().status, 204);
            assert_eq!(place.stored(), "hello");
        }
        for expectation in ["100", "101-continue", "100-continue;a", "100-continue, fly", "fly"] {
            for version in ["HTTP/1.1", "HTTP/1.0"] {
                let mut client = Client::connect(&place.server);
                client.send(format!(
                    "PUT /files/kept {version}\r\nHost: x\r\nExpect: {expectation}\r\nContent-Length: 5\r\n\r\n"
                ));
                assert_eq!(client.read_response().status, 417, "{expectation}");
                client.expect_closed();
            }
        }
    }

    fn no_100_once_the_answer_is_known(engine: Engine) {
        let place = Place::with(engine, &["--max-body-size", "1K"]);
        for (line, fields, status) in [
            ("GET /letters", "", 200),
            ("GET /missing", "", 404),
            ("POST /letters", "", 405),
            ("FROB /letters", "", 501),
            ("PUT /files/kept", "If-None-Match: *\r\n", 412),
            ("PUT /files/kept", "If-Match: \"x\"\r\n", 412),
            ("PUT /files/kept", "Content-Range: bytes 0-4/9\r\n", 400),
            ("PUT /files/no/folder", "", 404),
        ] {
            let head = format!("{line} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n{fields}");
            let mut client = Client::connect(&place.server);
            client.send(format!("{head}Content-Length: 5\r\n\r\n"));
            let answer = client.read_response();
            assert_eq!(answer.status, status, "{line}");
            assert!(answer.says_close(), "whether the content follows is not known: {line}");
            client.expect_closed();
        }
        assert_eq!(place.stored(), "kept");
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
}
