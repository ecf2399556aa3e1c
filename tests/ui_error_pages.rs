//! Error pages are in the format that the client prefers, or are the user's own. Nothing from the request is in them
//! unescaped.

mod common;

use common::place::Place;
use common::{Setup, TempDir, ask, exchange, get, on_every_engine, store_server};
use std::fs;

/// The Accept field that browsers send.
const BROWSER: &str = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n";

on_every_engine! {
    fn an_error_page_is_in_the_type_that_the_client_accepts(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let cases = [
            ("", "text/html"),
            ("Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n", "text/html"),
            ("Accept: application/json\r\n", "application/json"),
            ("Accept: text/plain\r\n", "text/plain"),
        ];
        for (accept, expected) in cases {
            let answer = ask(&server, "GET", "/missing", accept);
            assert_eq!(answer.status, 404);
            assert_eq!(answer.media_type(), expected, "{accept}");
            assert!(!answer.body.is_empty(), "{accept}");
            if expected == "application/json" {
                let text = answer.text();
                assert!(text.trim().starts_with('{') && text.trim().ends_with('}') && text.contains("404"), "{text}");
            }
        }
    }

    fn every_error_is_in_the_format_that_the_client_prefers(engine: Engine) {
        let place = Place::with(engine, &["--max-body-size", "1K"]);
        for (accept, expected) in [
            ("", "text/html"),
            ("Accept:\r\n", "text/html"),
            ("Accept: */*\r\n", "text/html"),
            ("Accept: application/json\r\n", "application/json"),
            ("Accept: APPLICATION/JSON\r\n", "application/json"),
            ("Accept: application/*\r\n", "application/json"),
            ("Accept: text/plain\r\n", "text/plain"),
            ("Accept: text/html;q=0.1, text/plain;q=0.2\r\n", "text/plain"),
            ("Accept: text/html;q=0\r\nAccept: */*;q=0.5\r\n", "application/json"),
            ("Accept: image/png\r\n", "text/html"),
        ] {
            for (request, status) in [
                (format!("GET /missing HTTP/1.1\r\nHost: x\r\n{accept}\r\n"), 404),
                (format!("DELETE / HTTP/1.1\r\nHost: x\r\n{accept}\r\n"), 405),
                (format!("GET /letters HTTP/1.1\r\nHost: x\r\nRange: bytes=99-\r\n{accept}\r\n"), 416),
                (format!("GET /letters HTTP/1.1\r\nHost: x\r\nIf-Match: \"x\"\r\n{accept}\r\n"), 412),
                (format!("FROB / HTTP/1.1\r\nHost: x\r\n{accept}\r\n"), 501),
                (format!("GET / HTTP/1.1\r\n{accept}\r\n"), 400),
                (format!("GET /%zz HTTP/1.1\r\nHost: x\r\n{accept}\r\n"), 400),
                (format!("GET https://x/ HTTP/1.1\r\nHost: x\r\n{accept}\r\n"), 421),
                (format!("PUT /files/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n{accept}\r\n"), 413),
                (format!("PUT /files/x HTTP/1.1\r\nHost: x\r\nExpect: x\r\n{accept}\r\n"), 417),
            ] {
                let answer = exchange(&place.server, &request);
                assert_eq!((answer.status, answer.media_type().as_str()), (status, expected), "{request}");
            }
        }
    }

    fn an_error_page_reflects_nothing_unescaped(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let script = "<script>alert(1)</script>";
        let requests = [
            "GET /%3Cscript%3Ealert(1)%3C/script%3E HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            format!("GET /missing?{script} HTTP/1.1\r\nHost: x\r\n\r\n"),
            format!("GET /{script} HTTP/1.1\r\nHost: x\r\n\r\n"),
            format!("GET /missing HTTP/1.1\r\nHost: {script}\r\n\r\n"),
            format!("GET /missing HTTP/1.1\r\nHost: x\r\nX-{script}: 1\r\n\r\n"),
            format!("{script} / HTTP/1.1\r\nHost: x\r\n\r\n"),
            format!("GET / {script}\r\nHost: x\r\n\r\n"),
        ];
        for request in requests {
            let answer = exchange(&server, &request);
            assert!(answer.status >= 400, "{request}: {}", answer.status);
            assert!(!answer.text().contains("<script>"), "{request}: {}", answer.text());
            assert!(!answer.fields.iter().any(|(_, value)| String::from_utf8_lossy(value).contains("<script>")));
        }
    }

    fn an_error_has_the_page_of_its_status(engine: Engine) {
        let place = TempDir::new();
        place.write("site/index.html", "home");
        place.write("site/note.txt", "note");
        let not_found = place.write("pages/404.html", "<h1>lost</h1>");
        place.write("site/405.html", "<h1>not so</h1>");
        let bad = place.write("pages/400.html", "<h1>bad</h1>");
        let flags = [
            format!("--error-page=404={}", not_found.display()),
            "--error-page=405=405.html".to_owned(),
            format!("--error-page=400={}", bad.display()),
        ];
        let server = Setup::on(engine).arg(place.join("site")).args(&flags).start();
        for accept in ["", "Accept: */*\r\n", BROWSER] {
            let answer = ask(&server, "GET", "/missing", accept);
            assert_eq!((answer.status, answer.text().as_str()), (404, "<h1>lost</h1>"), "{accept}");
            assert_eq!(answer.field("Content-Type"), Some("text/html; charset=utf-8"));
            assert_eq!(ask(&server, "HEAD", "/missing", accept).content_length(), Some(13));
        }
        assert!(ask(&server, "GET", "/missing", "Accept: application/json\r\n").text().starts_with("{\"status\":404"));
        assert!(ask(&server, "GET", "/missing", "Accept: text/plain\r\n").text().starts_with("404 "));
        let answer = ask(&server, "POST", "/note.txt", "Content-Length: 0\r\n");
        assert_eq!((answer.status, answer.text().as_str()), (405, "<h1>not so</h1>"));
        assert!(answer.lists("Allow", "GET"));
        for garbage in ["GET / HTTP/1.1\r\n\r\n", "nonsense\r\n\r\n", "GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n"] {
            let answer = exchange(&server, garbage);
            assert_eq!((answer.status, answer.text().as_str()), (400, "<h1>bad</h1>"), "{garbage}");
        }
        // The page is read once, at start: it can be sent even when the disk fails.
        fs::remove_file(not_found).unwrap();
        assert_eq!(get(&server, "/missing").text(), "<h1>lost</h1>");
        assert!(ask(&server, "BREW", "/", "").text().contains("501"));
    }
}
