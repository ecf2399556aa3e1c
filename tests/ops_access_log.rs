//! The access log: its format and its destination, and that its lines are whole. Logs without a reader are tested in
//! tests/ops_logs.rs.

mod common;

use common::{Client, PATIENCE, Server, Setup, TempDir, exchange, get, on_every_engine, store_server};
use std::fs;
use std::thread;

const REQUEST: &str = "GET /echo/x HTTP/1.1\r\nHost: x\r\n\r\n";

/// The parts of one line of the Combined Log Format.
#[derive(Debug)]
struct Logged {
    client: String,
    time: String,
    request: String,
    status: u16,
    bytes: String,
    referer: String,
    agent: String,
}

fn parse_log(line: &str) -> Logged {
    let (client, rest) = line.split_once(' ').unwrap_or_else(|| panic!("a log line, not {line:?}"));
    let (_, rest) = rest.split_once('[').unwrap_or_else(|| panic!("a time in {line:?}"));
    let (time, rest) = rest.split_once("] ").unwrap_or_else(|| panic!("a time in {line:?}"));
    let (request, rest) = quoted(rest);
    let mut words = rest.trim_start().splitn(3, ' ');
    let status = words.next().unwrap().parse().unwrap_or_else(|error| panic!("a status in {line:?}: {error}"));
    let bytes = words.next().unwrap_or_else(|| panic!("a size in {line:?}")).to_owned();
    let (referer, rest) = quoted(words.next().unwrap_or_else(|| panic!("a referer in {line:?}")));
    let (agent, rest) = quoted(rest.trim_start());
    assert!(rest.trim().is_empty(), "{rest:?} behind {line:?}");
    Logged { client: client.to_owned(), time: time.to_owned(), request, status, bytes, referer, agent }
}

/// Splits a string in double quotes from the rest. A quote inside the string has a backslash before it.
fn quoted(text: &str) -> (String, &str) {
    let inner = text.strip_prefix('"').unwrap_or_else(|| panic!("a quote at the start of {text:?}"));
    let mut escaped = false;
    for (at, letter) in inner.char_indices() {
        match letter {
            '"' if !escaped => return (inner[..at].to_owned(), &inner[at + 1..]),
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    panic!("a closing quote in {text:?}");
}

on_every_engine! {
    fn the_access_log_is_in_combined_format(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let fields = "User-Agent: agent/1.0 (test)\r\nReferer: http://from.example/page?q\r\n";
        // One at a time: if each connection has a thread, the order of their lines is not fixed.
        exchange(&server, format!("GET /echo/hello?q=%20 HTTP/1.1\r\nHost: x\r\n{fields}\r\n"));
        server.log_lines(1);
        exchange(&server, "HEAD /echo/hello HTTP/1.0\r\n\r\n");
        server.log_lines(2);
        exchange(&server, "GET /missing HTTP/1.1\r\nHost: x\r\n\r\n");
        let lines = server.log_lines(3);
        assert_eq!(lines.len(), 3, "a line a request: {lines:?}");
        let first = parse_log(&lines[0]);
        assert!(lines[0].starts_with("127.0.0.1 - - ["), "{}", lines[0]);
        assert_eq!(first.client, "127.0.0.1");
        assert_eq!(first.request, "GET /echo/hello?q=%20 HTTP/1.1");
        assert_eq!((first.status, first.bytes.as_str()), (200, "5"));
        assert_eq!(first.referer, "http://from.example/page?q");
        assert_eq!(first.agent, "agent/1.0 (test)");
        // 21/Nov/2026:08:00:00 +0000
        let time = first.time.as_bytes();
        assert_eq!((time.len(), time[2], time[6], time[11], time[20]), (26, b'/', b'/', b':', b' '), "{}", first.time);
        let head = parse_log(&lines[1]);
        assert_eq!(head.request, "HEAD /echo/hello HTTP/1.0");
        assert!(head.bytes == "0" || head.bytes == "-", "{head:?}");
        assert_eq!((head.referer.as_str(), head.agent.as_str()), ("-", "-"));
        assert_eq!(parse_log(&lines[2]).status, 404);
    }

    fn the_access_log_holds_no_control_bytes(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let requests: &[&[u8]] = &[
            b"GET /echo/x HTTP/1.1\r\nHost: x\r\nUser-Agent: a\"b\\c\td\x80\xff\xc2\x9b31m\r\n\r\n",
            b"GET /echo/x HTTP/1.1\r\nHost: x\r\nReferer: \" 200 5 \"forged\" \"\r\n\r\n",
            b"GET /echo/\"quoted\" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /\x1b[31m HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: \x1b]0;title\x07\r\n\r\n",
            b"GET /\rforged HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\nforged: line\r\n\r\n",
            b"\x00\x01\x02\r\n\r\n",
        ];
        for (number, request) in requests.iter().enumerate() {
            exchange(&server, request);
            server.log_lines(number + 1);
        }
        let lines = server.log_lines(requests.len());
        assert_eq!(lines.len(), requests.len(), "a line a request, refused ones too: {lines:?}");
        let raw = server.stdout();
        let odd = raw.iter().find(|byte| **byte != b'\n' && !(b' '..=b'~').contains(*byte));
        assert_eq!(odd, None, "in {}", raw.escape_ascii());
        for line in &lines {
            parse_log(line);
        }
        assert!(parse_log(&lines[1]).agent == "-", "no field is forged: {}", lines[1]);
    }

    fn the_client_behind_a_trusted_proxy_is_logged(engine: Engine) {
        let (server, _store) = store_server(engine, &["--trusted-proxy", "127.0.0.0/8", "--max-body-size", "1K"]);
        let mut count = 0;
        for (line, fields, status, client) in [
            ("GET /echo/x", "X-Forwarded-For: 1.2.3.4\r\n", 200, "1.2.3.4"),
            ("GET /none", "X-Forwarded-For: 6.6.6.6, [2001:db8::1]:443\r\n", 404, "2001:db8::1"),
            ("GET /echo/x", "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 127.0.0.2\r\n", 200, "1.2.3.4"),
            ("GET /echo/x", "X-Forwarded-For: garbage\r\n", 200, "127.0.0.1"),
            ("GET /echo/x", "Forwarded: for=1.2.3.4\r\n", 200, "127.0.0.1"),
            ("GET /echo/x", "", 200, "127.0.0.1"),
            // It is waited for, and logged when it is answered.
            ("PUT /files/f", "X-Forwarded-For: 1.2.3.4\r\nContent-Length: 0\r\n", 201, "1.2.3.4"),
            // It is refused.
            ("GET /%zz", "X-Forwarded-For: 1.2.3.4\r\n", 400, "1.2.3.4"),
            ("PUT /files/f", "X-Forwarded-For: 1.2.3.4\r\nContent-Length: 2000\r\n", 413, "1.2.3.4"),
            ("GET /echo/x", "X-Forwarded-For: 1.2.3.4\r\nBad Field: x\r\n", 400, "127.0.0.1"),
        ] {
            let request = format!("{line} HTTP/1.1\r\nHost: x\r\nUser-Agent: a\r\nConnection: close\r\n{fields}\r\n");
            assert_eq!(exchange(&server, &request).status, status, "{request}");
            count += 1;
            let logged = parse_log(&server.log_lines(count)[count - 1]);
            assert_eq!((logged.status, logged.client.as_str()), (status, client), "{request}");
            assert_eq!(logged.request, format!("{line} HTTP/1.1"));
        }
        // What a request says holds for itself alone.
        let mut client = Client::connect(&server);
        client.send("GET /echo/x HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n\x01");
        client.read_response();
        client.read_response();
        let lines = server.log_lines(count + 2);
        assert_eq!(parse_log(&lines[count]).client, "1.2.3.4");
        assert_eq!(parse_log(&lines[count + 1]).client, "127.0.0.1");
        let (stranger, _store) = store_server(engine, &["--trusted-proxy", "10.0.0.0/8"]);
        exchange(&stranger, "GET /echo/x HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n");
        assert_eq!(parse_log(&stranger.log_lines(1)[0]).client, "127.0.0.1");
    }

    fn the_access_log_goes_where_it_is_sent(engine: Engine) {
        let folder = TempDir::new();
        let path = folder.join("access.log");
        let (mut server, _store) = store_server(engine, &["--access-log", path.to_str().unwrap()]);
        get(&server, "/echo/x");
        server.signal("TERM");
        assert_eq!(server.await_exit(PATIENCE).code(), Some(0));
        assert!(server.stdout().is_empty());
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(parse_log(text.trim_end()).request, "GET /echo/x HTTP/1.1");
        // A second run appends to the file.
        let (mut server, _store) = store_server(engine, &["--access-log", path.to_str().unwrap()]);
        get(&server, "/echo/y");
        server.signal("TERM");
        server.await_exit(PATIENCE);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);

        let (mut server, _store) = store_server(engine, &["--access-log", "off"]);
        get(&server, "/echo/x");
        server.signal("TERM");
        server.await_exit(PATIENCE);
        assert!(server.stdout().is_empty());

        let (server, _store) = store_server(engine, &["--access-log", "-"]);
        get(&server, "/echo/x");
        server.log_lines(1);
    }

    fn no_line_of_the_access_log_is_lost_at_the_end(engine: Engine) {
        let (mut server, _store) = store_server(engine, &[]);
        let mut client = Client::connect(&server);
        client.send(REQUEST.repeat(100));
        for _ in 0..100 {
            client.read_response();
        }
        server.signal("TERM");
        assert_eq!(server.await_exit(PATIENCE).code(), Some(0));
        assert_eq!(server.log_lines(100).len(), 100);
    }

    fn a_log_pipe_without_a_reader_ends_nothing(engine: Engine) {
        let server = Setup::on(engine).closed_stdout().start();
        for _ in 0..20 {
            assert_eq!(get(&server, "/echo/x").text(), "x");
        }
    }

    fn an_access_log_that_cannot_be_opened_is_told_in_a_sentence(engine: Engine) {
        let folder = TempDir::new();
        let path = folder.join("missing/access.log");
        let path = path.to_str().unwrap();
        let outcome = Setup::on(engine).args(["--port", "0", "--access-log", path]).run();
        outcome.expect_refusal(&[1, 2], &[path]);
    }

    #[skip(Iterative, "serves one client at a time")]
    fn lines_of_the_access_log_are_never_torn(engine: Engine) {
        let server = Server::start_on(engine, &[]);
        // As many bytes as the server keeps for a slow reader: no line may be lost.
        let agent = "a".repeat(1500);
        let batch = format!("GET /echo/x HTTP/1.1\r\nHost: x\r\nUser-Agent: {agent}\r\n\r\n").repeat(20);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut client = Client::connect(&server);
                    for _ in 0..4 {
                        client.send(&batch);
                        (0..20).for_each(|_| assert_eq!(client.read_response().status, 200));
                    }
                });
            }
        });
        let lines = server.log_lines(640);
        assert_eq!(lines.len(), 640);
        let end = format!("\"GET /echo/x HTTP/1.1\" 200 1 \"-\" \"{agent}\"");
        for line in lines {
            assert!(line.starts_with("127.0.0.1 - - [") && line.ends_with(&end), "{line}");
        }
    }
}

#[test]
fn the_fixture_takes_the_format_apart() {
    let line = r#"::1 - - [10/Oct/2000:13:55:36 +0000] "GET /\"a\\\" HTTP/1.1" 200 - "-" "a b""#;
    let logged = parse_log(line);
    assert_eq!(logged.request, r#"GET /\"a\\\" HTTP/1.1"#);
    assert_eq!((logged.client.as_str(), logged.bytes.as_str(), logged.agent.as_str()), ("::1", "-", "a b"));
    assert_eq!(logged.time, "10/Oct/2000:13:55:36 +0000");
}
