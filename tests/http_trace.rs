//! TRACE (RFC 9110, section 9.3.8): the response is the request as it arrived, without credentials. A flag allows it.

mod common;

use common::{Client, Server, exchange, on_every_engine};

on_every_engine! {
    fn without_the_flag_trace_is_not_allowed(engine: Engine) {
        let server = Server::start_on(engine, &[]);
        for path in ["/", "/echo/x"] {
            let answer = exchange(&server, format!("TRACE {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
            assert_eq!(answer.status, 405, "{path}");
            assert!(answer.field("Allow").is_some() && !answer.lists("Allow", "TRACE"), "{answer:?}");
        }
    }

    fn the_request_comes_back_as_it_arrived(engine: Engine) {
        let server = Server::start_on(engine, &["--trace-method"]);
        for path in ["/", "/echo/x?q=1", "/not/there", "http://other/abs"] {
            let request = format!("TRACE {path} HTTP/1.1\r\nHost: x\r\nX-Twice: 1\r\nx-twice: 2\r\nEmpty:\r\n\r\n");
            let answer = exchange(&server, &request);
            assert_eq!((answer.status, answer.field("Content-Type")), (200, Some("message/http")), "{path}");
            assert_eq!(answer.text(), request.replace("Empty:\r\n", "Empty: \r\n"));
        }
    }

    fn credentials_stay_behind(engine: Engine) {
        let server = Server::start_on(engine, &["--trace-method"]);
        let request = "TRACE / HTTP/1.1\r\nHost: x\r\nCookie: s3cret\r\naUTHORIZATION: s3cret\r\n\
                       Proxy-Authorization: s3cret\r\ncookie: s3cret\r\nX-Kept: yes\r\n\r\n";
        assert_eq!(exchange(&server, request).text(), "TRACE / HTTP/1.1\r\nHost: x\r\nX-Kept: yes\r\n\r\n");
    }

    fn content_is_refused(engine: Engine) {
        let server = Server::start_on(engine, &["--trace-method"]);
        for content in ["Content-Length: 1\r\n\r\nx", "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"] {
            let answer = exchange(&server, format!("TRACE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{content}"));
            assert_eq!(answer.status, 400, "{content}");
        }
    }

    /// RFC 9110, section 7.6.2: an origin server forwards nothing, so it is the final recipient of every TRACE.
    fn max_forwards_is_a_field_like_any_other(engine: Engine) {
        let server = Server::start_on(engine, &["--trace-method"]);
        for value in ["0", "1", "10", "x"] {
            let answer = exchange(&server, format!("TRACE / HTTP/1.1\r\nHost: x\r\nMax-Forwards: {value}\r\n\r\n"));
            assert_eq!(answer.status, 200);
            assert!(answer.text().contains(&format!("Max-Forwards: {value}\r\n")));
        }
        let answer = exchange(&server, "OPTIONS * HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n");
        assert_eq!(answer.status, 204);
    }

    fn allow_tells_of_trace_and_the_connection_goes_on(engine: Engine) {
        let server = Server::start_on(engine, &["--trace-method"]);
        let mut client = Client::connect(&server);
        for (method, path, status) in [("OPTIONS", "*", 204), ("OPTIONS", "/echo/x", 204), ("PUT", "/echo/x", 405)] {
            client.send(format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
            let answer = client.read_response();
            assert_eq!(answer.status, status);
            assert!(answer.lists("Allow", "TRACE"), "{answer:?}");
        }
        client.send("TRACE / HTTP/1.1\r\nHost: x\r\n\r\nTRACE / HTTP/1.0\r\n\r\n");
        assert_eq!(client.read_response().text(), "TRACE / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.read_response().text(), "TRACE / HTTP/1.0\r\n\r\n");
        client.expect_closed();
    }
}
