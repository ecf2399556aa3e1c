//! From the command line to the exit code: starting, failing to start, and ending.

mod common;

use common::{
    Client, PATIENCE, Server, Setup, TempDir, eventually, exchange, free_port, get, noise, on_every_engine, run,
    store_server,
};
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};

const REQUEST: &str = "GET /echo/x HTTP/1.1\r\nHost: x\r\n\r\n";
const UPLOAD: &str = "PUT /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n";

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
            assert!(server.log_lines(1)[0].starts_with("::1 "), "{:?}", server.log_lines(1));
        }
    }

    fn names_and_every_address_are_served(engine: Engine) {
        let loopback = |address: SocketAddr| match address.ip().is_unspecified() {
            true if address.is_ipv4() => SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())),
            true => SocketAddr::from((Ipv6Addr::LOCALHOST, address.port())),
            false => address,
        };
        for args in [&["--bind", "localhost:0"][..], &["--bind", "*:0"], &["--bind", "[::ffff:127.0.0.1]"]] {
            let (server, _store) = store_server(engine, args);
            // The banner's last lines come together.
            let addresses = eventually("a URL", || Some(server.addresses()).filter(|urls| !urls.is_empty()));
            for address in addresses {
                let mut client = Client::connect_to(loopback(address));
                client.send(REQUEST);
                assert_eq!(client.read_response().text(), "x", "{args:?} {address}");
            }
        }
    }

    fn a_name_without_an_address_is_told_in_a_sentence(engine: Engine) {
        let outcome = Setup::on(engine).args(["--bind", "nothing.invalid", "--port", "0"]).run();
        outcome.expect_refusal(&[1], &["nothing.invalid"]);
        assert!(outcome.stderr.contains("--bind"), "a remedy: {}", outcome.stderr);
    }

    fn a_busy_port_is_told_in_a_sentence(engine: Engine) {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        for flag in ["--port", "-p"] {
            let outcome = Setup::on(engine).args(["--bind", "127.0.0.1", flag, &port]).run();
            outcome.expect_refusal(&[1], &["127.0.0.1", &port]);
            assert!(outcome.stderr.contains("--port"), "a remedy: {}", outcome.stderr);
            assert!(outcome.stderr.trim().lines().count() <= 3, "a sentence: {}", outcome.stderr);
        }
    }

    fn an_address_that_is_not_ours_is_told_in_a_sentence(engine: Engine) {
        let outcome = Setup::on(engine).args(["--bind", "192.0.2.1", "--port", "0"]).run();
        outcome.expect_refusal(&[1], &["192.0.2.1"]);
    }

    fn a_missing_root_is_told_in_a_sentence(engine: Engine) {
        let folder = TempDir::new();
        let file = folder.write("file.txt", "no folder");
        for path in [folder.join("missing"), file] {
            let path = path.to_str().unwrap();
            let outcome = Setup::on(engine).args(["--port", "0", path]).run();
            outcome.expect_refusal(&[1, 2], &[path]);
        }
    }

    fn the_whole_machine_is_not_served_by_mistake(engine: Engine) {
        let outcome = Setup::on(engine).folder("/").args(["--port", "0"]).run();
        outcome.expect_refusal(&[1, 2], &["/"]);
        // A server with a store and no site serves no files of the current directory, even if that is `/`.
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

    /// The variables of a Kubernetes Service called dustdevil ended every start in its namespace.
    fn the_links_of_a_service_do_not_end_the_start(engine: Engine) {
        let link = "tcp://10.43.0.1:4221";
        let linked = || {
            let setup = Setup::on(engine).env("DUSTDEVIL_PORT", link).env("DUSTDEVIL_PORT_4221_TCP", link);
            let setup = setup.env("DUSTDEVIL_SERVICE_HOST", "10.43.0.1").env("DUSTDEVIL_SERVICE_PORT", "4221");
            setup.env("DUSTDEVIL_BIND_PORT", link).env("DUSTDEVIL_PORT_4221_TCP_PROTO", "tcp")
        };
        assert_eq!(get(&linked().args(["--bind", "127.0.0.1:0"]).start(), "/echo/x").text(), "x");
        // Without a --port on the command line. It ends because of the directory.
        let outcome = linked().args(["/no/such/directory"]).run();
        outcome.expect_refusal(&[1], &["/no/such/directory", "DUSTDEVIL_PORT=tcp://10.43.0.1:4221 is ignored"]);
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

    fn sigterm_ends_a_server_that_had_no_client(engine: Engine) {
        let (mut server, _store) = store_server(engine, &[]);
        server.signal("TERM");
        assert_eq!(server.await_exit(PATIENCE).code(), Some(0));
        assert!(!server.stderr().contains("panicked"));
    }

    fn sigterm_lets_an_upload_finish(engine: Engine) {
        let (mut server, store) = store_server(engine, &["--grace-period", "60s"]);
        let mut client = Client::connect(&server);
        client.send(format!("{UPLOAD}half"));
        server.await_upload(&store);
        server.signal("TERM");
        // From now on no client can connect.
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
        // The second request came before the signal. It may be answered or not. Then the connection ends.
        client.read_to_end();
        assert_eq!(server.await_exit(PATIENCE).code(), Some(0));
    }

    fn a_second_signal_ends_at_once(engine: Engine) {
        let (mut server, store) = store_server(engine, &["--grace-period", "600s", "--body-timeout", "600s"]);
        let mut client = Client::connect(&server);
        client.send(format!("{UPLOAD}half"));
        server.await_upload(&store);
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
        server.await_upload(&store);
        server.signal("TERM");
        server.await_exit(PATIENCE);
        client.read_to_end();
        eventually("nothing left behind", || store.entries().is_empty().then_some(()));
    }

    /// Printing panics if the disk is full. The banner and every diagnostic were printed so.
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
        &["-p", "banana"],
        &["--bind", "127.1"],
        &["--bind", "http://localhost"],
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
        let outcome = Setup::default().env(&variable, "banana!").run();
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
