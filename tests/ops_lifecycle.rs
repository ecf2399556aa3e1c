//! From the command line to the exit code: starting, refusing to start, logging, ending.

mod common;

use common::{
    Client, Engine, Outcome, PATIENCE, Server, Setup, TempDir, eventually, exchange, get, noise, on_every_engine, run,
};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

const REQUEST: &str = "GET /echo/x HTTP/1.1\r\nHost: x\r\n\r\n";
const UPLOAD: &str = "PUT /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n";

fn store_server(engine: Engine, more: &[&str]) -> (Server, TempDir) {
    let store = TempDir::new();
    let server = Setup::on(engine).args(["--directory", store.arg()]).args(more).start();
    (server, store)
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A refusal to start: the exit code, and words made for a person.
#[track_caller]
fn expect_refusal(outcome: &Outcome, codes: &[i32], words: &[&str]) {
    let Outcome { code, stdout, stderr } = outcome;
    assert!(code.is_some_and(|code| codes.contains(&code)), "exit {code:?}, not one of {codes:?}: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} in {stderr:?}");
    }
    for debris in ["panicked", "RUST_BACKTRACE", "Os {", "kind:", "Error {", "http://"] {
        assert!(!stderr.contains(debris), "{debris:?} in {stderr:?}");
    }
    assert!(stdout.is_empty(), "{stdout}");
}

/// One line of the Combined Log Format, taken apart.
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

/// A string in double quotes, where a quote inside stands behind a backslash; and what follows it.
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
    fn the_banner_tells_version_and_url_on_standard_error(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let banner = server.stderr();
        assert!(banner.contains(env!("CARGO_PKG_VERSION")), "{banner}");
        assert!(banner.contains(&format!("http://127.0.0.1:{}/", server.port())), "{banner}");
        assert!(server.stdout().is_empty(), "standard output belongs to the access log");
        assert!(!banner.contains('\u{1b}'), "colour only on a terminal: {banner:?}");
        assert_eq!(get(&server, "/echo/x").text(), "x");
    }

    fn port_0_picks_a_free_one(engine: Engine) {
        let (one, _first) = store_server(engine, &["--port", "0"]);
        let (other, _second) = store_server(engine, &["--port", "0"]);
        assert_ne!(one.port(), other.port());
        assert_ne!(one.port(), 0);
    }

    fn quiet_silences_the_banner(engine: Engine) {
        for flag in ["--quiet", "-q"] {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
            let port = address.port().to_string();
            let server = Setup::on(engine).args([flag, "--port", &port]).silent_at(address).start();
            assert_eq!(get(&server, "/echo/x").text(), "x");
            assert_eq!(server.stderr(), "", "{flag}");
        }
    }

    fn several_addresses_are_served(engine: Engine) {
        let (server, _store) = store_server(engine, &["--bind", "127.0.0.1", "--bind", "127.0.0.2:0"]);
        let addresses = eventually("two URLs", || Some(server.addresses()).filter(|urls| urls.len() == 2));
        for address in addresses {
            let mut client = Client::connect_to(address);
            client.send(REQUEST);
            assert_eq!(client.read_response().text(), "x", "{address}");
        }
    }

    fn loopback_is_served_unless_told_otherwise(engine: Engine) {
        let server = Setup::on(engine).start_where_it_likes();
        let expected = if TcpListener::bind("[::1]:0").is_ok() { 2 } else { 1 };
        let addresses =
            eventually("a URL per loopback address", || Some(server.addresses()).filter(|urls| urls.len() == expected));
        for address in addresses {
            assert!(address.ip().is_loopback(), "{address}");
            let mut client = Client::connect_to(address);
            client.send(REQUEST);
            assert_eq!(client.read_response().text(), "x", "{address}");
        }
    }

    fn ipv6_is_served_where_there_is_some(engine: Engine) {
        if TcpListener::bind("[::1]:0").is_err() {
            eprintln!("skipped: no IPv6 here");
            return;
        }
        for bind in ["::1", "[::1]:0"] {
            let (server, _store) = store_server(engine, &["--bind", bind]);
            assert!(server.stderr().contains(&format!("http://[::1]:{}/", server.port())), "{}", server.stderr());
            assert_eq!(get(&server, "/echo/six").text(), "six");
            assert!(parse_log(&server.log_lines(1)[0]).client.contains("::1"));
        }
    }

    fn a_busy_port_is_told_in_a_sentence(engine: Engine) {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        let outcome = Setup::on(engine).args(["--bind", "127.0.0.1", "--port", &port]).run();
        expect_refusal(&outcome, &[1], &["127.0.0.1", &port]);
        assert!(outcome.stderr.contains("--port"), "a remedy: {}", outcome.stderr);
        assert!(outcome.stderr.trim().lines().count() <= 3, "a sentence: {}", outcome.stderr);
    }

    fn an_address_that_is_not_ours_is_told_in_a_sentence(engine: Engine) {
        let outcome = Setup::on(engine).args(["--bind", "192.0.2.1", "--port", "0"]).run();
        expect_refusal(&outcome, &[1], &["192.0.2.1"]);
    }

    fn a_missing_root_is_told_in_a_sentence(engine: Engine) {
        let folder = TempDir::new();
        let file = folder.write("file.txt", "no folder");
        for path in [folder.join("missing"), file] {
            let path = path.to_str().unwrap();
            let outcome = Setup::on(engine).args(["--port", "0", path]).run();
            expect_refusal(&outcome, &[1, 2], &[path]);
        }
    }

    fn the_whole_machine_is_not_served_by_mistake(engine: Engine) {
        let outcome = Setup::on(engine).folder("/").args(["--port", "0"]).run();
        expect_refusal(&outcome, &[1, 2], &["/"]);
        // A store alone is no site, wherever it is started.
        let store = TempDir::new();
        let server = Setup::on(engine).folder("/").args(["--directory", store.arg()]).start();
        assert_eq!(get(&server, "/etc/passwd").status, 404);
    }

    fn flags_are_read_from_the_environment(engine: Engine) {
        let store = TempDir::new();
        let server = Setup::on(engine)
            .env("DUSTDEVIL_DIRECTORY", store.arg())
            .env("DUSTDEVIL_MAX_BODY_SIZE", "1K")
            .env("DUSTDEVIL_NO_ENDPOINTS", "true")
            .start();
        assert_eq!(get(&server, "/echo/x").status, 404);
        let upload = |length| format!("PUT /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        assert_eq!(exchange(&server, upload(1025)).status, 413);
        assert_eq!(exchange(&server, upload(5) + "hello").status, 201);
    }

    fn sigterm_and_sigint_end_an_idle_server_at_once(engine: Engine) {
        for signal in ["TERM", "INT"] {
            let (mut server, _store) = store_server(engine, &["--grace-period", "60s"]);
            let mut client = Client::connect(&server);
            client.send(REQUEST);
            assert_eq!(client.read_response().status, 200);
            server.signal(signal);
            client.expect_closed();
            assert_eq!(server.await_exit(PATIENCE).code(), Some(0), "SIG{signal}");
        }
    }

    fn sigterm_ends_a_server_nobody_spoke_to(engine: Engine) {
        let (mut server, _store) = store_server(engine, &[]);
        server.signal("TERM");
        assert_eq!(server.await_exit(PATIENCE).code(), Some(0));
        assert!(!server.stderr().contains("panicked"));
    }

    fn sigterm_lets_an_upload_finish(engine: Engine) {
        let (mut server, store) = store_server(engine, &["--grace-period", "60s"]);
        let mut client = Client::connect(&server);
        client.send(format!("{UPLOAD}half"));
        eventually("the upload to have begun", || (!store.entries().is_empty()).then_some(()));
        server.signal("TERM");
        // No new clients from here on.
        let address = server.address();
        eventually("the port to be closed", || TcpStream::connect(address).is_err().then_some(()));
        client.send("done");
        let answer = client.read_response();
        assert_eq!(answer.status, 201);
        assert!(answer.says_close(), "{answer:?}");
        client.expect_closed();
        assert_eq!(server.await_exit(PATIENCE).code(), Some(0));
        assert_eq!(fs::read(store.join("f")).unwrap(), b"halfdone");
    }

    fn sigterm_lets_a_download_finish(engine: Engine) {
        let (mut server, store) = store_server(engine, &["--grace-period", "60s"]);
        let content = noise(32 << 20);
        store.write("large", &content);
        let mut client = Client::connect(&server);
        client.send(format!("GET /files/large HTTP/1.1\r\nHost: x\r\n\r\n{REQUEST}"));
        let head = client.read_head();
        server.signal("TERM");
        let mut received = Vec::new();
        let mut chunk = vec![0; 1 << 18];
        while received.len() < content.len() {
            let read = client.read_some(&mut chunk).unwrap();
            assert!(read > 0, "cut off after {} bytes", received.len());
            received.extend_from_slice(&chunk[..read]);
        }
        assert_eq!(head.content_length(), Some(content.len()));
        assert!(received[..content.len()] == content);
        // The request behind it came before the signal; answered or not, the connection ends.
        client.read_to_end();
        assert_eq!(server.await_exit(PATIENCE).code(), Some(0));
    }

    fn a_second_signal_ends_at_once(engine: Engine) {
        let (mut server, store) = store_server(engine, &["--grace-period", "600s", "--body-timeout", "600s"]);
        let mut client = Client::connect(&server);
        client.send(format!("{UPLOAD}half"));
        eventually("the upload to have begun", || (!store.entries().is_empty()).then_some(()));
        server.signal("TERM");
        let address = server.address();
        eventually("the port to be closed", || TcpStream::connect(address).is_err().then_some(()));
        server.signal("TERM");
        server.await_exit(PATIENCE);
        assert!(!store.join("f").exists());
    }

    fn the_grace_period_ends(engine: Engine) {
        let (mut server, store) = store_server(engine, &["--grace-period", "1s", "--body-timeout", "600s"]);
        let mut client = Client::connect(&server);
        client.send(format!("{UPLOAD}half"));
        eventually("the upload to have begun", || (!store.entries().is_empty()).then_some(()));
        server.signal("TERM");
        server.await_exit(PATIENCE);
        client.read_to_end();
        eventually("nothing left behind", || store.entries().is_empty().then_some(()));
    }

    fn the_access_log_is_in_combined_format(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let fields = "User-Agent: agent/1.0 (test)\r\nReferer: http://from.example/page?q\r\n";
        // One at a time: the lines of different connections stand in no fixed order where each has a thread.
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
        // A second run adds to it.
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

    /// Printing to a full disk panics, and so did the banner and every diagnostic.
    fn a_standard_error_that_takes_nothing_ends_nothing(engine: Engine) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let port = address.port().to_string();
        let wrapper = ["sh", "-c", "exec \"$@\" 2>/dev/full", "sh"];
        let setup = Setup::on(engine).through(&wrapper).args(["-v", "--port", &port]).silent_at(address);
        let mut server = setup.start();
        for _ in 0..3 {
            assert_eq!(exchange(&server, "BROKEN\r\n\r\n").status, 400);
            assert_eq!(get(&server, "/echo/x").text(), "x");
        }
        server.signal("TERM");
        assert_eq!(server.await_exit(PATIENCE).code(), Some(0));
    }

    fn an_access_log_that_cannot_be_opened_is_told_in_a_sentence(engine: Engine) {
        let folder = TempDir::new();
        let path = folder.join("missing/access.log");
        let path = path.to_str().unwrap();
        let outcome = Setup::on(engine).args(["--port", "0", "--access-log", path]).run();
        expect_refusal(&outcome, &[1, 2], &[path]);
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_a_usage_error() {
    let cases: &[&[&str]] = &[
        &["--no-such-flag"],
        &["--port", "banana"],
        &["--port", "70000"],
        &["--port", "-1"],
        &["--port"],
        &["--bind", "not an address"],
        &["--bind", "127.0.0.1:99999"],
        &["--header-timeout", "5parsecs"],
        &["--header-timeout", "-1s"],
        &["--max-body-size", "lots"],
        &["--max-body-size", "99999999999999999999G"],
        &["one", "two"],
    ];
    for args in cases {
        let outcome = run(args);
        assert_eq!(outcome.code, Some(2), "{args:?}: {}", outcome.stderr);
        assert!(!outcome.stderr.trim().is_empty(), "{args:?}");
        assert!(!outcome.stderr.contains("panicked"), "{args:?}: {}", outcome.stderr);
        assert!(outcome.stdout.is_empty(), "{args:?}: {}", outcome.stdout);
    }
}

#[test]
fn help_and_version_are_told_on_standard_output() {
    for flag in ["--help", "-h"] {
        let outcome = run(&[flag]);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{flag}");
        for word in ["--port", "--bind", "--directory", "--quiet"] {
            assert!(outcome.stdout.contains(word), "{word} in {flag}: {}", outcome.stdout);
        }
    }
    assert!(run(&["--help"]).stdout.len() > run(&["-h"]).stdout.len(), "the long help says more");
    for flag in ["--version", "-V"] {
        let outcome = run(&[flag]);
        assert_eq!(outcome.code, Some(0));
        assert!(outcome.stdout.starts_with(concat!("dustdevil ", env!("CARGO_PKG_VERSION"))), "{}", outcome.stdout);
    }
}

#[test]
fn every_flag_can_be_set_by_the_environment() {
    assert!(run(&["--help"]).stdout.contains("DUSTDEVIL_"));
    let numbers = ["PORT", "BIND", "MAX_BODY_SIZE", "MAX_HEADER_SIZE", "MAX_CONNECTIONS"];
    let times = ["HEADER_TIMEOUT", "KEEP_ALIVE_TIMEOUT", "BODY_TIMEOUT", "WRITE_TIMEOUT", "GRACE_PERIOD"];
    for flag in numbers.into_iter().chain(times) {
        let variable = format!("DUSTDEVIL_{flag}");
        let outcome = Setup::default().env(&variable, "banana").run();
        assert_eq!(outcome.code, Some(2), "{variable}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("banana"), "{}", outcome.stderr);
    }
}

#[test]
fn sizes_and_durations_are_read_as_people_write_them() {
    let store = TempDir::new();
    for size in ["2000", "2K", "2k", "1M", "1G"] {
        Server::start(&["--directory", store.arg(), "--max-body-size", size]);
    }
    for duration in ["10", "10s", "500ms", "1m", "1h"] {
        Server::start(&["--directory", store.arg(), "--header-timeout", duration]);
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
