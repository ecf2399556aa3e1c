//! Request targets in every form and spelling: which file or route they name, and that none reaches another one.

mod common;

use common::place::Place;
use common::{Client, SECOND, Setup, TempDir, ask, exchange, get, on_every_engine, store_server};

on_every_engine! {
    fn targets_in_every_form(engine: Engine) {
        let place = Place::new(engine);
        for (method, target, status) in [
            ("GET", "/letters", 200),
            ("GET", "/letters?", 200),
            ("GET", "/letters?a=/../b&c=%2e", 200),
            ("GET", "/letters?%zz", 200),
            ("GET", "/%6Cetters", 200),
            ("GET", "/%6cetter%73", 200),
            ("GET", "/./letters", 200),
            ("GET", "/sub/../letters", 404),
            ("GET", "/sub/%2e%2E/letters", 404),
            ("GET", "/sub/.%2e/letters", 404),
            ("GET", "//letters", 200),
            ("GET", "http://localhost/letters", 200),
            ("GET", "http://LOCALHOST:80/letters", 200),
            ("GET", "http://other.example/letters", 200),
            ("GET", "HTTP://[::1]:4221/letters", 200),
            ("GET", "http://[fe80::1%eth0]:80/letters", 200),
            ("GET", "http://[fe80::1%25eth0]/letters", 200),
            ("GET", "http://[fe80::1%25]/letters", 400),
            ("GET", "http://[fe80::1%a:b]/letters", 400),
            ("GET", "http://localhost", 200),
            ("GET", "http://localhost?query", 200),
            ("GET", "/letters/", 404),
            ("GET", "/Letters", 404),
            ("GET", "/letters%20", 404),
            ("GET", "/letters%2f", 404),
            ("GET", "/%2fletters", 404),
            ("GET", "/sub%2findex.html", 404),
            ("GET", "/sub%5cindex.html", 404),
            ("GET", "/sub\\index.html", 404),
            ("GET", "/letters;a=b", 404),
            ("GET", "/..", 404),
            ("GET", "/../letters", 404),
            ("GET", "/sub/../../letters", 404),
            ("GET", "/%2e%2e/letters", 404),
            ("GET", "/..%2fletters", 404),
            ("GET", "/..%5cletters", 404),
            ("GET", "/%252e%252e/letters", 404),
            ("GET", "/%c0%ae%c0%ae/letters", 404),
            ("GET", "/%c0%afletters", 404),
            ("GET", "/%e0%80%afletters", 404),
            ("GET", "/%ff", 404),
            ("GET", "/%u002e%u002e/letters", 400),
            ("GET", "/%", 400),
            ("GET", "/%2", 400),
            ("GET", "/%zz", 400),
            ("GET", "/%%36c", 400),
            ("GET", "/letters%00", 400),
            ("GET", "/%00/letters", 400),
            ("GET", "/letters#", 400),
            ("GET", "/letters#a", 400),
            ("GET", "http://localhost/letters#a", 400),
            ("GET", "letters", 400),
            ("GET", "./letters", 400),
            ("GET", "../letters", 400),
            ("GET", "*", 400),
            ("GET", "localhost:80", 400),
            ("GET", "localhost", 400),
            ("GET", "file:///letters", 400),
            ("GET", "ftp://localhost/letters", 400),
            ("GET", "http:///letters", 400),
            ("GET", "http://", 400),
            ("GET", "http://user@localhost/letters", 400),
            ("GET", "http://user:word@localhost/letters", 400),
            ("GET", "https://localhost/letters", 421),
            ("HEAD", "HTTPS://localhost/letters", 421),
            ("OPTIONS", "*", 204),
            ("OPTIONS", "http://localhost", 204),
            ("OPTIONS", "http://localhost/", 204),
            ("OPTIONS", "/letters", 204),
            ("OPTIONS", "**", 400),
            ("OPTIONS", "*/", 400),
            ("POST", "*", 400),
            ("CONNECT", "localhost:80", 405),
            ("CONNECT", "[::1]:443", 405),
            ("CONNECT", "localhost", 400),
            ("CONNECT", "localhost:", 400),
            ("CONNECT", "localhost:99999", 400),
            ("CONNECT", ":80", 400),
            ("CONNECT", "a@localhost:80", 400),
            ("CONNECT", "/letters", 400),
            ("CONNECT", "http://localhost:80/", 400),
            ("CONNECT", "*", 400),
        ] {
            let answer = place.ask(method, target, "");
            assert_eq!(answer.status, status, "{method} {target}: {}", answer.text());
            assert!(status != 405 || answer.says_close(), "no tunnel, and no second guess: {target}");
        }
        let all = place.ask("OPTIONS", "*", "").field("Allow").unwrap().to_owned();
        assert_eq!(place.ask("OPTIONS", "http://localhost", "").field("Allow"), Some(all.as_str()));
        assert!(all.split(", ").any(|method| method == "PUT"), "what the server as a whole takes: {all}");
    }

    fn no_redirect_leads_elsewhere(engine: Engine) {
        let place = Place::new(engine);
        for target in [
            "//sub",
            "///sub",
            "//example.com",
            "///example.com",
            "////example.com",
            "/./example.com",
            "//./example.com",
            "/sub/..//example.com",
            "//sub/..//example.com",
            "/%2e//example.com",
            "//example.com?//evil.example",
            "/\\example.com",
            "/%5cexample.com",
            "/%2f%2fexample.com",
            "//example.com/%2e%2e",
            "//evil.example/%2e%2e/sub",
            "//evil.example/../sub",
            "http://evil.example/sub",
            "http://evil.example//sub",
            "http://evil.example//example.com",
            "/sub%0d%0aLocation:%20http://evil.example/",
            "/sub?%0d%0aSet-Cookie:a=b",
        ] {
            for method in ["GET", "HEAD"] {
                let answer = place.ask(method, target, "X-Forwarded-Host: evil.example\r\n");
                answer.expect_status(&[200, 301, 308, 404]);
                assert!(answer.field("Set-Cookie").is_none());
                let Some(location) = answer.field("Location") else { continue };
                let here = ["/sub/", "/example.com/"].iter().any(|start| location.starts_with(start));
                assert!(here && !location.contains(['\r', '\n', '\\']), "{target} to {location}");
            }
        }
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

    fn bytes_above_0x7f_are_read_as_their_escapes(engine: Engine) {
        let (folder, store) = (TempDir::new(), TempDir::new());
        folder.write("caf\u{e9}/\u{304b}.txt", "kana");
        let server = Setup::on(engine).arg(folder.path()).args(["--directory", store.arg()]).start();
        let ask = |target: &[u8]| {
            exchange(&server, [b"GET ", target, b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"].concat())
        };
        for (raw, escaped, status) in [
            ("/caf\u{e9}/\u{304b}.txt?\u{304b}".as_bytes(), "/caf%C3%A9/%E3%81%8B.txt", 200),
            ("/caf\u{e9}/%E3%81\u{304b}".as_bytes(), "/caf%C3%A9/%E3%81%E3%81%8B", 404),
            ("/echo/\u{304b}?n=\u{304b}".as_bytes(), "/echo/%E3%81%8B", 200),
            (b"/echo/\xff\x80\xfe", "/echo/%FF%80%FE", 200),
            ("http://x/echo/\u{304b}".as_bytes(), "/echo/%e3%81%8b", 200),
            ("/\u{304b}/../echo/x".as_bytes(), "/%E3%81%8B/../echo/x", 404),
            ("/echo/\u{304b}\u{1}".as_bytes(), "/echo/\u{1}", 400),
            ("/echo/\u{304b}\u{7f}".as_bytes(), "/echo/\u{7f}", 400),
            ("/echo/\u{304b} x".as_bytes(), "/echo/x x", 400),
            ("/echo/\u{304b}#x".as_bytes(), "/echo/x#x", 400),
            ("/echo/%\u{304b}".as_bytes(), "/echo/%", 400),
            ("http://\u{304b}/echo/x".as_bytes(), "http://@/echo/x", 400),
        ] {
            let (answer, expected) = (ask(raw), ask(escaped.as_bytes()));
            assert_eq!((answer.status, expected.status), (status, status), "{escaped}");
            assert_eq!(answer.body, expected.body, "{escaped}");
        }
        let redirect = ask("/caf\u{e9}?n=\u{304b}".as_bytes());
        assert_eq!((redirect.status, redirect.field("Location")), (301, Some("/caf%C3%A9/?n=%E3%81%8B")));
        let put = exchange(&server, "PUT /files/\u{304b} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
        assert_eq!((put.status, put.field("Location")), (201, Some("/files/%E3%81%8B")));
        assert!(store.join("\u{304b}").exists());
        assert_eq!(exchange(&server, "GET /echo/x HTTP/1.1\r\nHost: caf\u{e9}\r\n\r\n").status, 400);
        assert!(server.log_lines(1).iter().all(|line| line.is_ascii()));
    }

    fn a_request_in_absolute_form_reaches_the_same_route(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        for target in ["http://localhost/echo/hello", "http://other.example:8080/echo/hello", "HTTP://x/echo/hello?q"] {
            assert_eq!(ask(&server, "GET", target, "").text(), "hello", "{target}");
        }
        assert_eq!(ask(&server, "GET", "http://localhost", "").body, get(&server, "/").body);
    }

    fn an_unknown_path_is_404(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        for path in ["/missing", "/echos/x", "/user-agents", "/user-agent/x", "/Echo/x", "/index.html"] {
            assert_eq!(get(&server, path).status, 404, "{path}");
        }
    }
}
