//! Unusual responses: heads of any size, statuses without content, more content than Content-Length says, and every kind
//! of iterable, exception and file. The applications are in tests/wsgi_apps/odd.py.

mod common;

use common::python::{serve_app, serve_source};
use common::{Client, Engine, Framing, Response, Server, TempDir, exchange, get, on_every_engine};

/// Responses with and without Content-Length, whose length the worker knows or does not know.
const LENGTHS: &str = "
def app(environ, start_response):
    path, is_head = environ['PATH_INFO'], environ['REQUEST_METHOD'] == 'HEAD'
    told = {'/told_none': '0', '/told': '5', '/told_and_left_out': '5'}.get(path)
    start_response('200 OK', [('Content-Length', told)] if told else [])
    return {
        '/list': [], '/tuple': (), '/iterator': iter([]), '/empty_piece': [b''], '/one': [b'hello'],
        '/two': [b'he', b'llo'], '/pieces': iter([b'he', b'llo']), '/told_none': [], '/told': [b'hello'],
        '/told_and_left_out': [] if is_head else [b'hello'],
    }[path]
";

fn serve(engine: Engine) -> Option<Server> {
    serve_app(engine, "odd:app", &[])
}

fn ask(server: &Server, method: &str, path: &str, fields: &str) -> Response {
    exchange(server, format!("{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{fields}\r\n"))
}

/// Sends the request and another one on the same connection. Returns both answers.
fn two(server: &Server, request: &str) -> (Response, Response) {
    let mut client = Client::connect(server);
    client.send(format!("{request}GET /hello HTTP/1.1\r\nHost: h\r\n\r\n"));
    let head = request.starts_with("HEAD ");
    let first = if head { client.read_response_to_head() } else { client.read_response() };
    (first, client.read_response())
}

on_every_engine! {
    fn a_head_may_be_large(engine: Engine) {
        let Some(server) = serve(engine) else { return };
        let pid = get(&server, "/pid").text();
        for size in [8_000, 65_500, 65_536, 100_000, 1_000_000] {
            let answer = get(&server, &format!("/big_head?{size}"));
            assert_eq!((answer.status, answer.field("X-Big").map(str::len)), (200, Some(size)), "{size}");
        }
        assert_eq!(get(&server, "/many_fields").values("X-399").len(), 1);
        assert_eq!(get(&server, "/big_head?2000000").status, 500, "but not without a limit");
        assert_eq!(get(&server, "/pid").text(), pid, "no size of a head costs the worker");
    }

    fn fields_arrive_as_they_were_given(engine: Engine) {
        let Some(server) = serve(engine) else { return };
        let answer = get(&server, "/fields");
        assert_eq!(answer.values("X-Latin"), [b"caf\xe9"]);
        assert_eq!((answer.field("X-Empty"), answer.field("X-Tab")), (Some(""), Some("a\tb")));
        assert_eq!(answer.values("Set-Cookie"), [b"a=1", b"b=2"]);
        for once in ["Date", "Server", "Content-Type"] {
            assert_eq!(answer.values(once).len(), 1, "{once}");
        }
    }

    fn the_status_decides_whether_there_is_content(engine: Engine) {
        let Some(server) = serve(engine) else { return };
        for (status, length) in [("204", None), ("304", None), ("205", Some(0))] {
            let (answer, next) = two(&server, &format!("GET /status?{status}+X HTTP/1.1\r\nHost: h\r\n\r\n"));
            assert_eq!((answer.body.len(), answer.content_length()), (0, length), "{status}");
            assert_eq!(next.text(), "hello");
        }
        for (status, reason) in [("200+OK", "OK"), ("200", "OK"), ("418+I'm+a+teapot", "I'm a teapot"), ("999+x", "x")] {
            let answer = get(&server, &format!("/status?{status}"));
            assert_eq!((answer.reason.as_str(), answer.body.as_slice()), (reason, &b"hello"[..]));
        }
        for bad in ["100+Continue", "103+Early", "099+x", "2000+x", "OK", "20+x", "200OK"] {
            assert_eq!(get(&server, &format!("/status?{bad}")).status, 500, "{bad}");
        }
    }

    fn a_head_waits_for_content(engine: Engine) {
        let Some(server) = serve(engine) else { return };
        let late = get(&server, "/late_start");
        assert_eq!((late.status, late.text().as_str()), (202, "late"));
        let replaced = get(&server, "/replaced_behind_nothing");
        assert_eq!((replaced.status, replaced.field("X-Old"), replaced.text().as_str()), (503, None, "sorry"));
        assert_eq!(get(&server, "/fails_behind_nothing").status, 500);
    }

    fn content_of_one_piece_has_its_length(engine: Engine) {
        let Some(server) = serve(engine) else { return };
        let one = get(&server, "/one_large");
        assert_eq!((one.framing, one.body.len()), (Framing::Length, 3_000_000));
        assert_eq!(get(&server, "/many_large").body.len(), 3_000_000);
        let (head, next) = two(&server, "HEAD /one_large HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!((head.content_length(), next.text().as_str()), (Some(3_000_000), "hello"));
    }

    /// For HEAD, frameworks leave the content out. So empty content does not show the length of the response to GET, and
    /// the response to HEAD must not have Content-Length (RFC 9110, section 8.6), and has no Transfer-Encoding either.
    fn head_says_what_get_would_where_that_is_known(engine: Engine) {
        let folder = TempDir::new();
        let Some(server) = serve_source(engine, &folder, LENGTHS, &[]) else { return };
        for (path, of_get, of_head) in [
            ("/list", Some(0), None),
            ("/tuple", Some(0), None),
            ("/iterator", Some(0), None),
            ("/empty_piece", Some(0), None),
            ("/one", Some(5), Some(5)),
            ("/two", Some(5), Some(5)),
            ("/pieces", None, None),
            ("/told_none", Some(0), Some(0)),
            ("/told", Some(5), Some(5)),
            ("/told_and_left_out", Some(5), Some(5)),
        ] {
            let (get, head) = (ask(&server, "GET", path, ""), ask(&server, "HEAD", path, ""));
            assert_eq!((get.status, get.content_length()), (200, of_get), "GET {path}");
            assert_eq!((head.status, head.content_length()), (200, of_head), "HEAD {path}");
            assert_eq!(head.field("Transfer-Encoding"), None, "HEAD {path}");
        }
    }

    fn any_iterable_is_content(engine: Engine) {
        let Some(server) = serve(engine) else { return };
        for (shape, content) in [("tuple", "ab"), ("map", "ab"), ("sub", "ab"), ("dict", "ab"), ("nothing", "")] {
            let answer = get(&server, &format!("/shapes?{shape}"));
            assert_eq!((answer.status, answer.text().as_str()), (200, content), "{shape}");
        }
        assert_eq!(get(&server, "/how_ended").text(), "list");
        assert_eq!(get(&server, "/writes_a_string").text(), "ab");
    }

    fn an_application_stops_once_there_is_all_that_it_promised(engine: Engine) {
        let Some(server) = serve(engine) else { return };
        for path in ["/without_end", "/without_end_written"] {
            let (answer, next) = two(&server, &format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
            assert_eq!((answer.body.as_slice(), next.text().as_str()), (&b"1234123412"[..], "hello"), "{path}");
        }
        let (head, next) = two(&server, "HEAD /without_end HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!((head.content_length(), next.text().as_str()), (Some(10), "hello"), "nor for HEAD");
        assert_eq!(get(&server, "/how_ended").text(), "without_end,written,without_end");
        assert_eq!(get(&server, "/all_then_raises").text(), "ab");
        server.expect_stderr("behind all of it");
    }

    fn no_exception_ends_the_worker(engine: Engine) {
        let Some(server) = serve(engine) else { return };
        let pid = get(&server, "/pid").text();
        for name in "Stop Base Generator Memory Reset Blocking End Exit Recursion".split(' ') {
            let (answer, next) = two(&server, &format!("GET /raises?{name} HTTP/1.1\r\nHost: h\r\n\r\n"));
            assert_eq!((answer.status, next.text().as_str()), (500, "hello"), "{name}");
        }
        assert_eq!(get(&server, "/unprintable").status, 500);
        assert_eq!(get(&server, "/closes_badly").text(), "ab");
        assert_eq!(get(&server, "/how_ended").text(), "badly");
        assert_eq!(get(&server, "/pid").text(), pid);
    }

    fn files_of_every_kind_are_sent(engine: Engine) {
        let Some(server) = serve(engine) else { return };
        let folder = TempDir::new();
        for (how, status, content) in [
            ("", 200, "0123456789"),
            ("raw", 200, "3456789"),
            ("both", 200, "23456789"),
            ("temporary", 200, "456789"),
            ("part", 206, "234"),
            ("pipe", 200, "0123456789"),
            ("gone", 200, "0123456789"),
            ("behind", 200, "before:0123456789"),
            ("chunks", 200, "0123456789"),
            ("device", 200, "\0\0\0\0\0\0\0\0\0\0"),
            ("none", 204, ""),
        ] {
            let field = format!("X-File: {}\r\n", folder.write("file", "0123456789").display());
            let (answer, next) = two(&server, &format!("GET /file?{how} HTTP/1.1\r\nHost: h\r\n{field}\r\n"));
            assert_eq!((answer.status, answer.text().as_str()), (status, content), "{how}");
            assert_eq!(next.text(), "hello", "behind {how}");
        }
        let field = format!("X-File: {}\r\n", folder.write("file", "0123456789").display());
        let (head, next) = two(&server, &format!("HEAD /file HTTP/1.1\r\nHost: h\r\n{field}\r\n"));
        assert_eq!((head.content_length(), next.text().as_str()), (Some(10), "hello"));
        assert!(ask(&server, "GET", "/file?proc", &field).text().starts_with("Name:"), "its size says nothing");
        for bad in ["text", "closed", "short"] {
            assert_eq!(ask(&server, "GET", &format!("/file?{bad}"), &field).status, 500, "{bad}");
        }
        assert_eq!(get(&server, "/file_closed").text(), "told");
        assert_eq!(get(&server, "/how_ended").text(), "file");
    }

    /// The application hangs in close(). If the client had to wait for it, its answer would be cut.
    fn an_answer_is_complete_before_close_returns(engine: Engine) {
        let Some(server) = serve_app(engine, "odd:app", &["--wsgi-timeout", "3s"]) else { return };
        assert_eq!(get(&server, "/closes_slowly").text(), "ab");
        assert_eq!(get(&server, "/hello").status, 200);
        server.expect_stderr("place_where_it_closes");
    }

    fn an_answer_that_hangs_after_its_beginning_is_cut(engine: Engine) {
        let Some(server) = serve_app(engine, "odd:app", &["--wsgi-timeout", "3s"]) else { return };
        let mut client = Client::connect(&server);
        client.send("GET /begins_and_hangs HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(client.read_head().status, 200);
        assert_eq!(client.read_to_end(), b"5\r\nbegun\r\n");
        server.expect_stderr("in begins_and_hangs");
        assert_eq!(get(&server, "/hello").status, 200);
    }
}
