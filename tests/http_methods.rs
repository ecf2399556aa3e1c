//! The methods of each route: HEAD, OPTIONS, 405 with Allow, 501.

mod common;

use common::place::{Place, ROUTES};
use common::{Client, Framing, ask, exchange, on_every_engine, store_server};

on_every_engine! {
    fn every_405_has_a_true_allow(engine: Engine) {
        let place = Place::new(engine);
        for route in ROUTES {
            for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"] {
                let answer = place.ask(method, route, "Content-Length: 0\r\nIf-Match: \"none\"\r\n");
                if answer.status != 405 {
                    assert!(![501, 500].contains(&answer.status), "{method} {route}: {answer:?}");
                    continue;
                }
                let allow = answer.field("Allow").unwrap_or_else(|| panic!("no Allow: {method} {route}")).to_owned();
                for allowed in allow.split(", ") {
                    assert_ne!(allowed, method, "{route}");
                    let fields = "Content-Length: 0\r\nIf-Match: \"none\"\r\n";
                    assert_ne!(place.ask(allowed, route, fields).status, 405, "{allowed} {route}");
                }
            }
        }
    }

    fn head_is_get_without_content(engine: Engine) {
        let place = Place::new(engine);
        for route in ROUTES {
            for fields in [
                "",
                "Accept-Encoding: gzip\r\n",
                "Accept-Encoding: deflate\r\n",
                "Accept-Encoding: identity;q=0\r\n",
                "Accept-Encoding: *;q=0\r\n",
                "Accept: application/json\r\n",
                "If-None-Match: *\r\n",
                "If-Match: \"x\"\r\n",
                "If-Match: *\r\n",
                "If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT\r\n",
                "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n",
            ] {
                let full = place.ask("GET", route, fields);
                let head = place.ask("HEAD", route, fields);
                assert_eq!(head.status, full.status, "{route} {fields}");
                let mut told = full.lasting_fields();
                if full.field("Content-Encoding").is_some() && head.content_length().is_none() {
                    // HEAD may leave this length out: only compressing the content would tell it (RFC 9110, section
                    // 9.3.2).
                    told.retain(|(name, _)| name != "content-length");
                }
                assert_eq!(head.lasting_fields(), told, "{route} {fields}");
                assert!(head.body.is_empty() && head.framing == Framing::None);
            }
        }
    }

    fn a_head_that_is_refused_has_no_content_either(engine: Engine) {
        let place = Place::new(engine);
        for message in [
            "HEAD / HTTP/1.1\r\n\r\n",
            "HEAD / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "HEAD /%zz HTTP/1.1\r\nHost: x\r\n\r\n",
            "HEAD / HTTP/3.0\r\nHost: x\r\n\r\n",
            "HEAD / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n",
            "HEAD / HTTP/1.1\r\nHost: x\r\nExpect: x\r\n\r\n",
            "HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        ] {
            let mut client = Client::connect(&place.server);
            client.send(message);
            let answer = client.read_response_to_head();
            assert!(answer.status >= 400 && answer.content_length() > Some(0), "{message}: {answer:?}");
            client.expect_closed();
        }
        let mut client = Client::connect(&place.server);
        client.send("HEAD / HTTP/1.1\r\n");
        client.finish_sending();
        assert_eq!(client.read_response_to_head().status, 400);
        client.expect_closed();
    }

    fn head_tells_the_fields_of_get_without_the_body(engine: Engine) {
        let (server, store) = store_server(engine, &[]);
        store.write("note.txt", "a note");
        let paths = ["/", "/echo/hello", "/user-agent", "/files/note.txt", "/files/missing", "/missing"];
        for path in paths {
            for coding in ["", "Accept-Encoding: gzip\r\n"] {
                let fields = format!("User-Agent: x\r\n{coding}");
                let full = ask(&server, "GET", path, &fields);
                let mut client = Client::connect(&server);
                client.send(format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n"));
                let head = client.read_response_to_head();
                client.expect_closed();
                assert_eq!(head.status, full.status, "{path}");
                assert_eq!(head.lasting_fields(), full.lasting_fields(), "{path} {coding}");
            }
        }
    }

    fn head_leaves_the_connection_in_step(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let mut client = Client::connect(&server);
        for round in 0..3 {
            client.send("HEAD /echo/hello HTTP/1.1\r\nHost: x\r\n\r\n");
            assert_eq!(client.read_response_to_head().content_length(), Some(5));
            client.send(format!("GET /echo/{round} HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert_eq!(client.read_response().text(), round.to_string());
        }
    }

    fn options_tells_the_methods_of_a_route(engine: Engine) {
        let (server, store) = store_server(engine, &[]);
        store.write("note.txt", "a note");
        for path in ["/", "/echo/hello", "/user-agent", "/files/note.txt", "/files/not-yet", "*"] {
            let answer = ask(&server, "OPTIONS", path, "");
            answer.expect_status(&[200, 204]);
            let methods = answer.allowed();
            for method in ["GET", "HEAD", "OPTIONS"] {
                assert!(methods.iter().any(|known| known == method), "{method} at {path}: {methods:?}");
            }
            let writes = methods.iter().any(|known| known == "PUT") && methods.iter().any(|known| known == "POST");
            assert_eq!(writes, path.starts_with("/files/") || path == "*", "{path}: {methods:?}");
            assert!(answer.body.is_empty(), "{path}: {}", answer.text());
        }
    }

    fn a_known_method_on_the_wrong_route_is_405_with_allow(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let cases = [
            ("POST", "/"),
            ("PUT", "/"),
            ("POST", "/echo/hello"),
            ("PUT", "/user-agent"),
            ("DELETE", "/echo/hello"),
            ("DELETE", "/files/x"),
        ];
        for (method, path) in cases {
            let answer = ask(&server, method, path, "Content-Length: 0\r\n");
            assert_eq!(answer.status, 405, "{method} {path}");
            let methods = answer.allowed();
            assert!(methods.iter().any(|known| known == "GET"), "{path}: {methods:?}");
            assert!(!methods.iter().any(|known| known == method), "{method} at {path}: {methods:?}");
        }
    }

    fn an_unknown_method_is_501(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        for method in ["FROB", "get", "Get", "GETT", "X-Y!"] {
            for path in ["/", "/echo/x", "/missing"] {
                assert_eq!(ask(&server, method, path, "").status, 501, "{method} {path}");
            }
        }
    }

    fn a_long_method_is_501(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        // A head is read up to 16 KiB. A method that fills it is not answered as a head with too many fields.
        for length in [20, 200, 2000, 15_000, 16_000, 16_384, 17_000, 40_000] {
            let method = "M".repeat(length);
            assert_eq!(exchange(&server, format!("{method} / HTTP/1.1\r\nHost: x\r\n\r\n")).status, 501, "{length}");
        }
    }
}
