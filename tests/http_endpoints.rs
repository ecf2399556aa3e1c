//! The small endpoints and the rules every route shares: HEAD, OPTIONS, 405, 501, error pages.

mod common;

use common::{Client, Response, Server, TempDir, exchange, get, gunzip, on_every_engine, shown};
use std::time::{Duration, SystemTime};

/// A server of a store alone, so that `/` is the page of the routes.
fn store_server(engine: common::Engine) -> (Server, TempDir) {
    let store = TempDir::new();
    let server = Server::start_on(engine, &["--directory", store.arg()]);
    (server, store)
}

fn ask(server: &Server, method: &str, path: &str, fields: &str) -> Response {
    exchange(server, format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n"))
}

/// Allow as a sorted list.
fn allowed(response: &Response) -> Vec<String> {
    let list = response.field("Allow").unwrap_or_else(|| panic!("no Allow in {response:?}"));
    let mut methods: Vec<String> = list.split(',').map(|method| method.trim().to_owned()).collect();
    methods.sort();
    methods
}

on_every_engine! {
    fn the_first_page_names_the_routes_when_only_a_store_is_served(engine: Engine) {
        let (server, _store) = store_server(engine);
        let page = get(&server, "/");
        assert_eq!((page.status, page.reason.as_str()), (200, "OK"));
        assert_eq!(page.media_type(), "text/plain");
        for route in ["/echo/", "/user-agent", "/files/"] {
            assert!(page.text().contains(route), "{route} in {}", page.text());
        }
    }

    fn every_answer_says_server_and_date(engine: Engine) {
        let (server, _store) = store_server(engine);
        for path in ["/", "/echo/x", "/missing", "/files/missing"] {
            let answer = get(&server, path);
            assert!(answer.field("Server").is_some_and(|value| value.starts_with("dustdevil")), "{answer:?}");
            let date = answer.field("Date").expect("a Date");
            let told = httpdate::parse_http_date(date).unwrap_or_else(|error| panic!("{date}: {error}"));
            assert!(date.ends_with(" GMT") && date.len() == 29, "the preferred form, not {date}");
            let now = SystemTime::now();
            let apart = now.duration_since(told).or_else(|_| told.duration_since(now)).unwrap();
            assert!(apart < Duration::from_secs(60), "{date} is {apart:?} off");
        }
    }

    fn echo_gives_the_text(engine: Engine) {
        let (server, _store) = store_server(engine);
        let answer = get(&server, "/echo/hello");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.media_type(), "text/plain");
        assert_eq!(answer.content_length(), Some(5));
        assert_eq!(answer.body, b"hello");
        assert_eq!(answer.field("Content-Encoding"), None);
    }

    fn echo_decodes_percent_escapes_once_and_leaves_the_query_out(engine: Engine) {
        let (server, _store) = store_server(engine);
        let cases: &[(&str, &[u8])] = &[
            ("hello%20world", b"hello world"),
            ("caf%C3%A9", "café".as_bytes()),
            ("caf%c3%a9", "café".as_bytes()),
            ("a%2Fb", b"a/b"),
            ("100%25", b"100%"),
            ("%2541", b"%41"),
            ("a+b", b"a+b"),
            ("%3Cb%3E", b"<b>"),
            ("x?y=1", b"x"),
            ("x%3Fy", b"x?y"),
            ("~tilde-dash_under.dot!$&'()*,;=:@", b"~tilde-dash_under.dot!$&'()*,;=:@"),
        ];
        for (path, text) in cases {
            let answer = get(&server, &format!("/echo/{path}"));
            assert_eq!(answer.status, 200, "{path}");
            assert_eq!(answer.body, *text, "{path} gave {}", shown(&answer.body));
            assert_eq!(answer.media_type(), "text/plain", "{path}");
        }
    }

    fn echo_takes_a_long_text(engine: Engine) {
        let (server, _store) = store_server(engine);
        let text = "0123456789".repeat(200);
        assert_eq!(get(&server, &format!("/echo/{text}")).text(), text);
    }

    fn a_broken_escape_is_refused_or_taken_as_it_is(engine: Engine) {
        let (server, _store) = store_server(engine);
        for text in ["%zz", "%", "%4", "%4g", "a%"] {
            let answer = get(&server, &format!("/echo/{text}"));
            answer.expect_status(&[200, 400, 404]);
            assert!(answer.status != 200 || answer.text() == text, "{text} became {}", answer.text());
        }
    }

    fn echo_is_gzipped_when_asked_however_short(engine: Engine) {
        let (server, _store) = store_server(engine);
        let long = "abc".repeat(600);
        for text in ["a", "hello", long.as_str()] {
            let answer = ask(&server, "GET", &format!("/echo/{text}"), "Accept-Encoding: gzip\r\n");
            assert_eq!(answer.status, 200);
            assert_eq!(answer.field("Content-Encoding"), Some("gzip"), "{text}");
            assert!(answer.lists("Vary", "Accept-Encoding"), "{answer:?}");
            assert_eq!(answer.media_type(), "text/plain");
            assert_eq!(answer.content_length(), Some(answer.body.len()), "the tutorials want Content-Length");
            assert_eq!(gunzip(&answer.body), text.as_bytes());
        }
    }

    fn echo_honours_accept_encoding(engine: Engine) {
        let (server, _store) = store_server(engine);
        let cases = [
            ("gzip", true),
            ("GZip", true),
            ("br, gzip, zstd", true),
            ("encoding-1, gzip, encoding-2", true),
            ("gzip;q=0.5", true),
            ("gzip;q=1.000", true),
            ("gzip ; q=0.1", true),
            ("invalid-encoding", false),
            ("identity", false),
            ("", false),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("gzip;Q=0", false),
            ("gzip;q=0, *", false),
            ("gzipped, notgzip", false),
        ];
        for (accept, coded) in cases {
            let answer = ask(&server, "GET", "/echo/hello", &format!("Accept-Encoding: {accept}\r\n"));
            assert_eq!(answer.status, 200, "{accept}");
            assert_eq!(answer.field("Content-Encoding") == Some("gzip"), coded, "Accept-Encoding: {accept}");
            assert!(answer.lists("Vary", "Accept-Encoding"), "Vary for Accept-Encoding: {accept}");
            if answer.field("Content-Encoding").is_none() {
                assert_eq!(answer.text(), "hello", "{accept}");
            }
        }
    }

    fn several_accept_encoding_lines_are_one_list(engine: Engine) {
        let (server, _store) = store_server(engine);
        let answer = ask(&server, "GET", "/echo/hello", "Accept-Encoding: br\r\nAccept-Encoding: gzip\r\n");
        assert_eq!(answer.field("Content-Encoding"), Some("gzip"));
    }

    fn user_agent_gives_the_fields_value(engine: Engine) {
        let (server, _store) = store_server(engine);
        let cases: &[(&[u8], &[u8])] = &[
            (b"User-Agent: foobar/1.2.3", b"foobar/1.2.3"),
            (b"user-agent:pear", b"pear"),
            (b"USER-AGENT: \t two words \t ", b"two words"),
            (b"User-Agent: <b>&\"'", b"<b>&\"'"),
            (b"User-Agent: caf\xc3\xa9 \xff", b"caf\xc3\xa9 \xff"),
        ];
        for (field, value) in cases {
            let request = [b"GET /user-agent HTTP/1.1\r\nHost: x\r\n", *field, b"\r\n\r\n"].concat();
            let answer = exchange(&server, request);
            assert_eq!(answer.status, 200, "{}", shown(field));
            assert_eq!(answer.media_type(), "text/plain");
            assert_eq!(answer.body, *value, "{} gave {}", shown(field), shown(&answer.body));
        }
    }

    fn a_missing_user_agent_is_refused_with_a_sentence(engine: Engine) {
        let (server, _store) = store_server(engine);
        let answer = exchange(&server, "GET /user-agent HTTP/1.1\r\nHost: x\r\nAccept: text/plain\r\n\r\n");
        assert_eq!(answer.status, 400);
        assert!(answer.text().to_lowercase().contains("user-agent"), "says what is missing: {}", answer.text());
    }

    fn no_endpoints_switches_them_off(engine: Engine) {
        let store = TempDir::new();
        let server = Server::start_on(engine, &["--directory", store.arg(), "--no-endpoints"]);
        for path in ["/echo/hello", "/user-agent"] {
            assert_eq!(ask(&server, "GET", path, "User-Agent: x\r\n").status, 404, "{path}");
        }
        let page = get(&server, "/");
        assert_eq!(page.status, 200);
        assert!(!page.text().contains("/echo"), "the page names no route that is off: {}", page.text());
    }

    fn head_tells_the_fields_of_get_without_the_body(engine: Engine) {
        let (server, store) = store_server(engine);
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
        let (server, _store) = store_server(engine);
        let mut client = Client::connect(&server);
        for round in 0..3 {
            client.send("HEAD /echo/hello HTTP/1.1\r\nHost: x\r\n\r\n");
            assert_eq!(client.read_response_to_head().content_length(), Some(5));
            client.send(format!("GET /echo/{round} HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert_eq!(client.read_response().text(), round.to_string());
        }
    }

    fn options_tells_the_methods_of_a_route(engine: Engine) {
        let (server, store) = store_server(engine);
        store.write("note.txt", "a note");
        for path in ["/", "/echo/hello", "/user-agent", "/files/note.txt", "/files/not-yet", "*"] {
            let answer = ask(&server, "OPTIONS", path, "");
            answer.expect_status(&[200, 204]);
            let methods = allowed(&answer);
            for method in ["GET", "HEAD", "OPTIONS"] {
                assert!(methods.iter().any(|known| known == method), "{method} at {path}: {methods:?}");
            }
            let writes = methods.iter().any(|known| known == "PUT") && methods.iter().any(|known| known == "POST");
            assert_eq!(writes, path.starts_with("/files/") || path == "*", "{path}: {methods:?}");
            assert!(answer.body.is_empty(), "{path}: {}", answer.text());
        }
    }

    fn a_known_method_on_the_wrong_route_is_405_with_allow(engine: Engine) {
        let (server, _store) = store_server(engine);
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
            let methods = allowed(&answer);
            assert!(methods.iter().any(|known| known == "GET"), "{path}: {methods:?}");
            assert!(!methods.iter().any(|known| known == method), "{method} at {path}: {methods:?}");
        }
    }

    fn an_unknown_method_is_501(engine: Engine) {
        let (server, _store) = store_server(engine);
        for method in ["FROB", "get", "Get", "GETT", "X-Y!"] {
            for path in ["/", "/echo/x", "/missing"] {
                assert_eq!(ask(&server, method, path, "").status, 501, "{method} {path}");
            }
        }
    }

    fn an_unknown_path_is_404(engine: Engine) {
        let (server, _store) = store_server(engine);
        for path in ["/missing", "/echos/x", "/user-agents", "/user-agent/x", "/Echo/x", "/index.html"] {
            assert_eq!(get(&server, path).status, 404, "{path}");
        }
    }

    fn an_error_page_speaks_the_clients_type(engine: Engine) {
        let (server, _store) = store_server(engine);
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

    fn an_error_page_reflects_nothing_unescaped(engine: Engine) {
        let (server, _store) = store_server(engine);
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

    fn a_request_in_absolute_form_reaches_the_same_route(engine: Engine) {
        let (server, _store) = store_server(engine);
        for target in ["http://localhost/echo/hello", "http://other.example:8080/echo/hello", "HTTP://x/echo/hello?q"] {
            assert_eq!(ask(&server, "GET", target, "").text(), "hello", "{target}");
        }
        assert_eq!(ask(&server, "GET", "http://localhost", "").body, get(&server, "/").body);
    }
}
