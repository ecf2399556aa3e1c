//! CORS: which scripts of other origins may read an answer.

mod common;

use common::{Engine, Server, Setup, TempDir, ask, exchange, get, on_every_engine};

fn place() -> TempDir {
    let place = TempDir::new();
    place.write("site/note.txt", "note");
    place.write("site/long.css", "words ".repeat(500));
    place.write("store/old", "old");
    place
}

fn serve(place: &TempDir, engine: Engine, flags: &[&str]) -> Server {
    let store = place.join("store");
    Setup::on(engine).arg(place.join("site")).arg("--directory").arg(store).args(flags).start()
}

on_every_engine! {
    fn without_the_flag_nothing_is_said(engine: Engine) {
        let place = place();
        let server = serve(&place, engine, &[]);
        let asked = "Origin: https://a.example\r\nAccess-Control-Request-Method: PUT\r\n";
        for answer in [get(&server, "/note.txt"), ask(&server, "OPTIONS", "/files/x", asked)] {
            let said = answer.fields.iter().any(|(name, _)| name.to_ascii_lowercase().starts_with("access-control"));
            assert!(!said, "{answer:?}");
        }
    }

    fn every_response_says_which_origin_may_read_it(engine: Engine) {
        let place = place();
        for (flag, origin, vary) in [
            ("--cors", "*", false),
            ("--cors=*", "*", false),
            ("--cors=https://a.example:8443", "https://a.example:8443", true),
        ] {
            let server = serve(&place, engine, &[flag]);
            let etag = get(&server, "/note.txt").field("ETag").unwrap().to_owned();
            for (answer, status) in [
                (get(&server, "/note.txt"), 200),
                (ask(&server, "HEAD", "/note.txt", ""), 200),
                (ask(&server, "GET", "/note.txt", &format!("If-None-Match: {etag}\r\n")), 304),
                (ask(&server, "GET", "/note.txt", "Range: bytes=0-0\r\n"), 206),
                (ask(&server, "GET", "/note.txt", "Range: bytes=9-\r\n"), 416),
                (get(&server, "/missing"), 404),
                (ask(&server, "POST", "/note.txt", "Content-Length: 0\r\n"), 405),
                (ask(&server, "OPTIONS", "/note.txt", ""), 204),
                (ask(&server, "PUT", "/files/old", "Content-Length: 0\r\n"), 204),
                (exchange(&server, "GET / HTTP/1.1\r\n\r\n"), 400),
            ] {
                assert_eq!(answer.status, status, "{answer:?}");
                assert_eq!(answer.field("Access-Control-Allow-Origin"), Some(origin), "{status}");
                assert_eq!(answer.lists("Vary", "Origin"), vary, "{status} {answer:?}");
            }
        }
    }

    fn vary_is_one_field(engine: Engine) {
        let place = place();
        let server = serve(&place, engine, &["--cors=https://a.example"]);
        let etag = get(&server, "/long.css").field("ETag").unwrap().to_owned();
        for (path, fields, vary) in [
            ("/long.css", "", "Accept-Encoding, Origin"),
            ("/long.css", "Accept-Encoding: gzip\r\n", "Accept-Encoding, Origin"),
            ("/long.css", "Range: bytes=0-0\r\n", "Accept-Encoding, Origin"),
            ("/long.css", &format!("If-None-Match: {etag}\r\n"), "Accept-Encoding, Origin"),
            ("/echo/x", "", "Accept-Encoding, Origin"),
            ("/note.txt", "", "Origin"),
            ("/", "", "Accept, Accept-Encoding, Origin"),
            ("/missing", "", "Accept, Origin"),
            ("/long.css", "If-Match: \"x\"\r\n", "Accept-Encoding, Origin"),
            ("/long.css", "Accept-Encoding: *;q=0\r\n", "Accept-Encoding, Origin"),
        ] {
            // `field` fails if the field occurs twice.
            assert_eq!(ask(&server, "GET", path, fields).field("Vary"), Some(vary), "{path} {fields}");
        }
    }

    fn a_preflight_is_answered_by_the_route(engine: Engine) {
        let place = place();
        let server = serve(&place, engine, &["--cors", "--allow-delete"]);
        let origin = "Origin: https://a.example\r\n";
        for (path, methods) in [
            ("/note.txt", "GET, HEAD, OPTIONS"),
            ("/echo/x", "GET, HEAD, OPTIONS"),
            ("/files/x", "GET, HEAD, POST, PUT, DELETE, OPTIONS"),
        ] {
            for method in ["PUT", "GET", "nonsense"] {
                let asked = format!("{origin}Access-Control-Request-Method: {method}\r\n");
                let answer = ask(&server, "OPTIONS", path, &asked);
                assert_eq!((answer.status, answer.body.len()), (204, 0));
                assert_eq!(answer.field("Access-Control-Allow-Methods"), Some(methods), "{path}");
                assert_eq!(answer.field("Allow"), Some(methods), "{path}");
                assert_eq!(answer.field("Access-Control-Allow-Origin"), Some("*"));
                assert_eq!(answer.field("Access-Control-Allow-Headers"), Some("*"));
                let age: u32 = answer.field("Access-Control-Max-Age").unwrap().parse().unwrap();
                assert!((60..=86_400).contains(&age));
            }
        }
        let plain = ask(&server, "OPTIONS", "/note.txt", origin);
        assert_eq!((plain.status, plain.field("Access-Control-Allow-Methods")), (204, None));
        for (asked, allowed) in [
            ("x-a", "x-a"),
            ("Content-Type,authorization ,, x-b", "Content-Type, authorization, x-b"),
            ("", "*"),
            (",", "*"),
            ("x a", "*"),
            ("x-a, \"y\"", "*"),
            ("x-a, <script>", "*"),
            ("x-a, caf\u{e9}", "*"),
        ] {
            let fields = format!(
                "{origin}Access-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: {asked}\r\n"
            );
            let answer = ask(&server, "OPTIONS", "/files/x", &fields);
            assert_eq!(answer.field("Access-Control-Allow-Headers"), Some(allowed), "{asked}");
        }
    }
}
