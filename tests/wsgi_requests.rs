//! Unusual requests: what an application gets, and what never reaches it. The applications are in tests/wsgi_apps/odd.py.

mod common;

use common::python::{apps, serve_app};
use common::{Client, Engine, Server, exchange, get, noise, on_every_engine};

fn serve(engine: Engine) -> Option<Server> {
    serve_app(engine, "odd:app", &[])
}

/// REQUEST_METHOD, PATH_INFO, HTTP_HOST, SERVER_NAME and CONTENT_LENGTH of a request.
fn seen(server: &Server, line: &str, fields: &str) -> String {
    exchange(server, format!("{line}\r\nConnection: close\r\n{fields}\r\n")).text()
}

on_every_engine! {
    fn a_target_in_any_form_is_a_path_and_a_host(engine: Engine) {
        let Some(server) = serve(engine) else { return };
        let host = "Host: h:1\r\n";
        for (line, expected) in [
            ("GET /seen HTTP/1.1", "GET|/seen|h:1|h|-"),
            ("GET http://other:99/seen?x HTTP/1.1", "GET|/seen|other:99|other|-"),
            ("GET /seen/a%2Fb%2541%20c HTTP/1.1", "GET|/seen/a/b%41 c|h:1|h|-"),
            ("GET /seen/caf%C3%A9 HTTP/1.1", "GET|/seen/caf\u{c3}\u{a9}|h:1|h|-"),
            ("GET //seen//x HTTP/1.1", "GET|//seen//x|h:1|h|-"),
            ("GET /seen/;a=b+c HTTP/1.1", "GET|/seen/;a=b+c|h:1|h|-"),
            ("PROPFIND /seen HTTP/1.1", "PROPFIND|/seen|h:1|h|-"),
            ("OPTIONS /seen HTTP/1.1", "OPTIONS|/seen|h:1|h|-"),
            ("TRACE /seen HTTP/1.1", "TRACE|/seen|h:1|h|-"),
        ] {
            assert_eq!(seen(&server, line, host), expected, "{line}");
        }
        // Without Host, SERVER_NAME is the server's address.
        assert_eq!(seen(&server, "GET /seen HTTP/1.0", ""), "GET|/seen|-|127.0.0.1|-");
        assert_eq!(seen(&server, "GET http://other/seen HTTP/1.0", ""), "GET|/seen|other|other|-");
        for refused in ["/seen%00", "/seen/%2e%2e/x", "/seen/../x"] {
            assert_ne!(get(&server, refused).status, 200, "{refused}");
        }
    }

    fn content_is_read_to_its_end_and_no_further(engine: Engine) {
        let Some(server) = serve(engine) else { return };
        for method in ["POST", "GET", "DELETE"] {
            let head = format!("{method} /reads HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n0123456789");
            let mut client = Client::connect(&server);
            client.send(head + "GET /seen HTTP/1.1\r\nHost: h\r\n\r\n");
            let expected = "[b'', b'012', b'3456789', b'', b'', [], [], b'']";
            assert_eq!(client.read_response().text(), expected, "{method}");
            assert_eq!(client.read_response().text(), "GET|/seen|h|h|-");
        }
        let late = exchange(&server, "POST /reads_late HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
        assert_eq!(late.text(), "abc");
        let length = seen(&server, "POST /seen HTTP/1.1", "Host: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n");
        assert_eq!(length, "POST|/seen|h|h|0");
    }

    fn a_request_with_two_types_reaches_no_application(engine: Engine) {
        let Some(server) = serve_app(engine, "apps:app", &[]) else { return };
        let (json, form) = ("Content-Type: application/json\r\n", "content-type: text/plain\r\n");
        for (fields, status) in [
            (json.to_owned(), 200),
            (json.repeat(2), 200),
            (format!("{json}{form}"), 400),
            (format!("{form}X-A: b\r\n{json}"), 400),
            (format!("{json}Content-Type:\r\n"), 400),
        ] {
            let mut client = Client::connect(&server);
            client.send(format!("POST /echo HTTP/1.1\r\nHost: h\r\n{fields}Content-Length: 2\r\n\r\n{{}}"));
            let answer = client.read_response();
            assert_eq!((answer.status, answer.text() == "{}"), (status, status == 200), "{fields}");
            // The next request on the connection is answered correctly.
            client.send("GET /environ HTTP/1.1\r\nHost: h\r\nContent-Type: a/b\r\nContent-Type: a/b\r\n\r\n");
            assert!(client.read_response().text().contains("CONTENT_TYPE='a/b'\n"), "{fields}");
        }
    }

    fn content_that_the_application_does_not_read_is_discarded(engine: Engine) {
        let Some(server) = serve(engine) else { return };
        let mut client = Client::connect(&server);
        for size in [200_000, 2_000_000] {
            client.send(format!("POST /hello HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n\r\n"));
            client.send(noise(size));
            assert_eq!(client.read_response().text(), "hello");
        }
        client.send("GET /clears HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(client.read_response().text(), "cleared");
        client.send("GET /seen HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(client.read_response().text(), "GET|/seen|h|h|-");
    }

    fn content_that_breaks_off_reaches_no_application(engine: Engine) {
        let Some(server) = serve(engine) else { return };
        for framing in ["Content-Length: 10\r\n\r\n01234", "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n"] {
            let mut client = Client::connect(&server);
            client.send(format!("POST /raises?Exit HTTP/1.1\r\nHost: h\r\n{framing}"));
            client.finish_sending();
            assert!(client.next_response().is_none_or(|answer| answer.status == 400));
        }
        assert_eq!(get(&server, "/hello").text(), "hello");
        assert!(!server.stderr().contains("Traceback"), "{}", server.stderr());
    }

    fn an_application_can_import_modules_beside_it(engine: Engine) {
        let Some(server) = serve(engine) else { return };
        let folder = apps();
        assert_eq!(get(&server, "/imports").text(), format!("{0} {0} False", folder.display()));
    }
}
