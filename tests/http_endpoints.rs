//! The small endpoints: the list of routes, /echo/ and /user-agent.

mod common;

use common::{Server, TempDir, ask, exchange, get, on_every_engine, shown, store_server};

on_every_engine! {
    fn the_first_page_names_the_routes_when_only_a_store_is_served(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let page = get(&server, "/");
        assert_eq!((page.status, page.reason.as_str()), (200, "OK"));
        assert_eq!(page.media_type(), "text/plain");
        for route in ["/echo/", "/user-agent", "/files/"] {
            assert!(page.text().contains(route), "{route} in {}", page.text());
        }
    }

    fn echo_gives_the_text(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let answer = get(&server, "/echo/hello");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.media_type(), "text/plain");
        assert_eq!(answer.content_length(), Some(5));
        assert_eq!(answer.body, b"hello");
        assert_eq!(answer.field("Content-Encoding"), None);
    }

    fn echo_decodes_percent_escapes_once_and_leaves_the_query_out(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
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
        let (server, _store) = store_server(engine, &[]);
        let text = "0123456789".repeat(200);
        assert_eq!(get(&server, &format!("/echo/{text}")).text(), text);
    }

    fn a_broken_escape_is_refused_or_taken_as_it_is(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        for text in ["%zz", "%", "%4", "%4g", "a%"] {
            let answer = get(&server, &format!("/echo/{text}"));
            answer.expect_status(&[200, 400, 404]);
            assert!(answer.status != 200 || answer.text() == text, "{text} became {}", answer.text());
        }
    }

    fn user_agent_gives_the_fields_value(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
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
        let (server, _store) = store_server(engine, &[]);
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
}
