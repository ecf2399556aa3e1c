//! Python applications: the environ of a request, and the response that the client gets. The applications are in
//! tests/wsgi_apps. The start and end of workers is tested in tests/wsgi_workers.rs.

mod common;

use common::python::{apps, has_python, serve, serve_app};
use common::{Client, Framing, Response, Server, Setup, TempDir, exchange, get, noise, on_every_engine};

fn ask(server: &Server, method: &str, path: &str, fields: &str, body: &[u8]) -> Response {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost:1\r\nConnection: close\r\n{fields}\r\n");
    exchange(server, [head.as_bytes(), body].concat())
}

/// The value of a name in the application's environ, as Python's repr writes it.
fn value(page: &Response, name: &str) -> Option<String> {
    page.text().lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
}

/// The chunks of an answer that is cut. Fails if the answer looks complete.
fn cut_body(server: &Server, path: &str) -> Vec<u8> {
    let mut client = Client::connect(server);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    let head = client.read_head();
    assert_eq!(head.status, 200);
    let rest = client.read_to_end();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "an end that looks regular: {}", rest.escape_ascii());
    rest
}

on_every_engine! {
    fn an_environ_has_all_that_pep_3333_asks_for(engine: Engine) {
        let Some(server) = serve(engine, &[]) else { return };
        let page = ask(&server, "GET", "/environ/?a=%20b", "Cookie: a=1\r\nCookie: b=2\r\nX-Auth: real\r\nX_Auth: forged\r\n\
            Accept: x\r\nAccept: y\r\nProxy: p\r\nX-Latin: caf\u{e9}\r\n", b"");
        assert_eq!(page.status, 200, "{}", page.text());
        for (name, expected) in [
            ("type", "dict"),
            ("REQUEST_METHOD", "'GET'"),
            ("SCRIPT_NAME", "''"),
            ("PATH_INFO", "'/environ/'"),
            ("QUERY_STRING", "'a=%20b'"),
            ("SERVER_NAME", "'localhost'"),
            ("SERVER_PROTOCOL", "'HTTP/1.1'"),
            ("REMOTE_ADDR", "'127.0.0.1'"),
            ("HTTP_COOKIE", "'a=1; b=2'"),
            ("HTTP_X_AUTH", "'real'"),
            ("HTTP_ACCEPT", "'x,y'"),
            ("HTTP_X_LATIN", "'caf\u{c3}\u{a9}'"),
            ("wsgi.version", "(1, 0)"),
            ("wsgi.url_scheme", "'http'"),
            ("wsgi.multithread", "False"),
            ("wsgi.multiprocess", "False"),
            ("wsgi.run_once", "False"),
            ("wsgi.input_terminated", "True"),
        ] {
            assert_eq!(value(&page, name).as_deref(), Some(expected), "{name}");
        }
        assert_eq!(value(&page, "SERVER_PORT"), Some(format!("'{}'", server.port())));
        for absent in ["HTTP_PROXY", "CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_CONNECTION_X"] {
            assert_eq!(value(&page, absent), None, "{absent}");
        }
    }

    fn the_scheme_is_what_a_trusted_proxy_says(engine: Engine) {
        for (args, scheme) in [(&["--trusted-proxy", "127.0.0.1"][..], "'https'"), (&[], "'http'")] {
            let Some(server) = serve(engine, args) else { return };
            let page = ask(&server, "GET", "/environ", "X-Forwarded-Proto: https\r\n", b"");
            assert_eq!(value(&page, "wsgi.url_scheme").as_deref(), Some(scheme));
        }
    }

    fn a_mount_splits_the_path(engine: Engine) {
        if !has_python() { return }
        let folder = apps();
        let server = Setup::on(engine).args(["--wsgi", "/deep/app=apps:app", "--wsgi-chdir", folder.to_str().unwrap()]).start();
        let page = get(&server, "/deep/app/environ/");
        assert_eq!(value(&page, "SCRIPT_NAME").as_deref(), Some("'/deep/app'"));
        assert_eq!(value(&page, "PATH_INFO").as_deref(), Some("'/environ/'"));
        assert_eq!(get(&server, "/deep/app").body, b"hello\n", "an empty PATH_INFO");
        for outside in ["/deep/application", "/deep", "/environ"] {
            assert_eq!(get(&server, outside).status, 404, "{outside}");
        }
    }

    fn an_application_may_be_an_attribute_or_made_by_a_function(engine: Engine) {
        for name in ["apps:make()", "apps:site.app"] {
            let Some(server) = serve_app(engine, name, &[]) else { return };
            assert_eq!(get(&server, "/").body, b"hello\n", "{name}");
        }
    }

    fn bodies_arrive_whole_however_they_are_framed(engine: Engine) {
        let Some(server) = serve(engine, &[]) else { return };
        for length in [0, 1, 70_000, 1024 * 1024, 3_000_000] {
            let body = noise(length);
            let answer = ask(&server, "POST", "/echo", &format!("Content-Length: {length}\r\n"), &body);
            assert!(answer.status == 200 && answer.body == body, "{length} bytes: {}", answer.status);
        }
        let chunked = b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nTrailer: x\r\n\r\n";
        let answer = ask(&server, "PUT", "/echo", "Transfer-Encoding: chunked\r\n", chunked);
        assert_eq!(answer.body, b"abcdefg", "CONTENT_LENGTH is told for a chunked body too");
        let answer = ask(&server, "POST", "/lines", "Content-Length: 13\r\n", b"one\ntwo\n3\nfour");
        assert_eq!(answer.text(), "[b'one\\n', b'tw', [b'o\\n'], [b'3\\n', b'fou'], b'']");
        let page = ask(&server, "POST", "/environ", "Content-Length: 0\r\nContent-Type: a/b\r\n", b"");
        assert_eq!(value(&page, "CONTENT_LENGTH").as_deref(), Some("'0'"));
        assert_eq!(value(&page, "CONTENT_TYPE").as_deref(), Some("'a/b'"));
    }

    fn a_client_that_asks_first_is_told_to_go_on(engine: Engine) {
        let Some(server) = serve(engine, &[]) else { return };
        let mut client = Client::connect(&server);
        client.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(client.read_response().status, 100);
        client.send("hi");
        assert_eq!(client.read_response().body, b"hi");
    }

    fn answers_are_framed_by_the_server(engine: Engine) {
        let Some(server) = serve(engine, &[]) else { return };
        let hello = get(&server, "/hello");
        assert_eq!((hello.framing, hello.content_length(), hello.text().as_str()), (Framing::Length, Some(6), "hello\n"));
        assert!(hello.field("Server").unwrap().starts_with("dustdevil") && hello.field("Date").is_some());
        let empty = get(&server, "/empty");
        assert_eq!((empty.status, empty.content_length()), (200, Some(0)));
        assert_eq!(get(&server, "/no_content").status, 204);
        let odd = get(&server, "/reason");
        assert_eq!((odd.status, odd.reason.as_str()), (299, "Rather Odd"));
        let ours = get(&server, "/ours");
        assert_eq!(ours.field("Server"), Some("mine"));
        assert_eq!(ours.field("Date"), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
        let hop = get(&server, "/hop_by_hop");
        assert_eq!((hop.field("X-Kept"), hop.field("Keep-Alive"), hop.framing), (Some("yes"), None, Framing::Length));
        assert_eq!(get(&server, "/write").body, b"abcd");
        let late = ask(&server, "GET", "/replaced", "", b"");
        assert_eq!((late.status, late.body.as_slice()), (418, &b"sorry"[..]));
    }

    fn bodies_that_may_not_be_are_dropped_and_the_connection_goes_on(engine: Engine) {
        let Some(server) = serve(engine, &[]) else { return };
        let mut client = Client::connect(&server);
        for _ in 0..2 {
            client.send("HEAD /echo HTTP/1.1\r\nHost: h\r\n\r\nHEAD /hello HTTP/1.1\r\nHost: h\r\n\r\n");
            assert_eq!(client.read_response_to_head().content_length(), Some(0));
            assert_eq!(client.read_response_to_head().status, 200);
            client.send("GET /body_with_304 HTTP/1.1\r\nHost: h\r\n\r\nGET /no_content HTTP/1.1\r\nHost: h\r\n\r\n");
            assert_eq!(client.read_response().status, 304);
            assert_eq!(client.read_response().status, 204);
            client.send("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
            assert_eq!(client.read_response().body, b"hello\n");
        }
    }

    fn each_piece_is_sent_before_the_next_is_made(engine: Engine) {
        let Some(server) = serve(engine, &[]) else { return };
        let mut client = Client::connect(&server);
        let folder = TempDir::new();
        let go = folder.join("go");
        client.send(format!("GET /stream?{} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", go.display()));
        assert_eq!(client.read_head().status, 200);
        let (mut piece, mut room) = (Vec::new(), [0; 64]);
        while piece != b"5\r\nfirst\r\n" {
            let read = client.read_some(&mut room).unwrap();
            assert!(read > 0, "it ended with {}", piece.escape_ascii());
            piece.extend_from_slice(&room[..read]);
        }
        folder.write("go", "");
        assert!(client.read_to_end().ends_with(b"second\r\n0\r\n\r\n"));
    }

    fn failures_are_500_and_the_worker_lives(engine: Engine) {
        let Some(server) = serve(engine, &[]) else { return };
        let pid = get(&server, "/pid").text();
        for name in "raises os_error exits interrupts late none a_string strings yields_strings no_start start_twice \
            too_short_at_once missing".split_whitespace() {
            assert_eq!(get(&server, &format!("/{name}")).status, 500, "{name}");
        }
        for which in 0..17 {
            let answer = get(&server, &format!("/bad_head?{which}"));
            assert_eq!((answer.status, answer.field("X-Evil")), (500, None), "bad_head {which}");
        }
        assert_eq!(get(&server, "/pid").text(), pid);
        server.expect_stderr("ValueError: raised on purpose");
    }

    fn an_answer_that_breaks_off_is_cut_visibly(engine: Engine) {
        let Some(server) = serve(engine, &[]) else { return };
        assert!(cut_body(&server, "/breaks_off").windows(4).any(|four| four == b"some"));
        assert!(cut_body(&server, "/replaced_late").windows(5).any(|five| five == b"begun"));
        assert_eq!(cut_body(&server, "/too_short"), b"short");
        server.expect_stderr("in the middle");
        // More content than Content-Length says: the rest is dropped, and the connection stays open.
        let mut client = Client::connect(&server);
        client.send("GET /too_long HTTP/1.1\r\nHost: h\r\n\r\nGET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(client.read_response().body, b"long");
        assert_eq!(client.read_response().body, b"hello\n");
        server.expect_stderr("more content than");
    }

    fn files_are_sent_from_where_they_stand(engine: Engine) {
        let Some(server) = serve(engine, &[]) else { return };
        let folder = TempDir::new();
        let path = folder.write("file", noise(300_000));
        let field = format!("X-File: {}\r\n", path.display());
        for start in [0, 1, 299_999, 300_000] {
            let answer = ask(&server, "GET", &format!("/file?{start}"), &field, b"");
            assert_eq!((answer.status, answer.framing), (200, Framing::Length), "{}", answer.text());
            assert!(answer.body == noise(300_000)[start..], "from {start}");
        }
        assert_eq!(get(&server, "/memory_file").body, b"from memory");
        let small = folder.write("small", "quiet");
        let field = format!("X-File: {}\r\n", small.display());
        assert_eq!(ask(&server, "GET", "/special_file", &field, b"").body, b"QUIET", "a subclass is asked");
        assert_eq!(ask(&server, "GET", "/file", "X-File: /nothing/here\r\n", b"").status, 500);
    }

    fn iterables_are_closed_once(engine: Engine) {
        let Some(server) = serve(engine, &[]) else { return };
        get(&server, "/once");
        get(&server, "/write");
        assert_eq!(get(&server, "/how_closed").text(), "once,write");
        let mut client = Client::connect(&server);
        client.send("GET /endless HTTP/1.1\r\nHost: h\r\n\r\n");
        client.read_head();
        client.abort();
        common::eventually("close() after the client left", || {
            (get(&server, "/how_closed").text() == "once,write,endless").then_some(())
        });
    }

    fn the_users_own_fields_are_on_every_answer(engine: Engine) {
        let args = ["--header", "x-kept: ours", "--header", "X-More: too", "--cors"];
        let Some(server) = serve(engine, &args) else { return };
        let page = get(&server, "/hop_by_hop");
        let kept: Vec<_> = page.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-kept")).collect();
        assert_eq!(kept, [&("x-kept".to_owned(), b"ours".to_vec())], "the application's gives way");
        assert_eq!((page.field("X-More"), page.field("Access-Control-Allow-Origin")), (Some("too"), Some("*")));
        let preflight = ask(&server, "OPTIONS", "/raises", "Origin: https://a\r\nAccess-Control-Request-Method: PUT\r\n", b"");
        assert!(preflight.status == 204 && preflight.lists("Access-Control-Allow-Methods", "PUT"), "{preflight:?}");
    }

    fn a_forked_child_does_not_answer(engine: Engine) {
        let Some(server) = serve(engine, &[]) else { return };
        let mut client = Client::connect(&server);
        for _ in 0..3 {
            client.send("GET /fork HTTP/1.1\r\nHost: h\r\n\r\n");
            assert_eq!(client.read_response().body, b"the parent");
        }
    }

    fn files_beside_an_application_are_served(engine: Engine) {
        let folder = TempDir::new();
        folder.write("a.css", "body{}");
        folder.write("deep/index.html", "index");
        let Some(server) = serve(engine, &["--static", &format!("/static={}", folder.arg())]) else { return };
        let file = get(&server, "/static/a.css");
        assert_eq!((file.status, file.media_type().as_str(), file.body.as_slice()), (200, "text/css", &b"body{}"[..]));
        assert_eq!(get(&server, "/static/missing").status, 404);
        assert_eq!(get(&server, "/static/deep").field("Location"), Some("/static/deep/"));
        assert_eq!(get(&server, "/static/deep/").body, b"index");
        assert_eq!(get(&server, "/hello").body, b"hello\n");
    }
}
