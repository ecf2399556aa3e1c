//! The reverse proxy: connections to upstreams, and which upstream is next.

mod common;

use common::upstream::*;
use common::{Client, Engine, Setup, TempDir, on_every_engine};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::{Duration, Instant};

on_every_engine! {
    fn connections_are_used_again(engine: Engine) {
        let upstream = Upstream::answering(ok("x"));
        let server = proxy_to(engine, &upstream);
        for _ in 0..3 {
            let mut client = Client::connect(&server);
            client.send(GET.repeat(4));
            for _ in 0..4 {
                assert_eq!(client.read_response().text(), "x");
            }
        }
        assert_eq!((upstream.accepted(), upstream.heads().len()), (1, 12));
    }

    fn who_refuses_is_a_502_and_another_takes_over(engine: Engine) {
        let refusing = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let server = proxy(engine, &format!("/=http://{refusing}"), &[]);
        let mut client = Client::connect(&server);
        client.send(GET);
        assert_eq!(client.read_response().status, 502);
        expect_log(&server, &[&refusing.to_string(), "cannot connect", "refused"]);
        let upstream = Upstream::answering(ok("x"));
        let both = format!("/=http://{refusing},http://{}", upstream.address);
        let server = proxy(engine, &both, &[]);
        let mut client = Client::connect(&server);
        // Content that is under way goes to the next as well: nothing of it was sent.
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(client.read_response().status, 200);
        for _ in 0..20 {
            client.send(GET);
            assert_eq!(client.read_response().status, 200);
        }
        let tries = server.stderr().matches("trying").count();
        assert_eq!(tries, 1, "it is left alone for a while: {}", server.stderr());
    }

    fn an_idle_connection_that_was_closed_costs_no_request(engine: Engine) {
        let upstream = Upstream::start(|link| {
            // One answer each, and the close comes with the next request.
            let head = link.head()?;
            link.content(&head.unwrap_or_default())?;
            link.say(ok("x"))?;
            link.fill()?;
            Ok(())
        });
        let server = proxy_to(engine, &upstream);
        let mut client = Client::connect(&server);
        for _ in 0..5 {
            client.send(GET);
            assert_eq!(client.read_response().status, 200);
        }
        assert_eq!(upstream.accepted(), 5);
        // What may have done something is not sent twice.
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab");
        assert_eq!(client.read_response().status, 502);
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab");
        assert_eq!(client.read_response().status, 200);
    }

    fn a_new_connection_that_fails_is_not_tried_again(engine: Engine) {
        let upstream = Upstream::start(|link| link.head().map(drop));
        let server = proxy_to(engine, &upstream);
        let mut client = Client::connect(&server);
        client.send(GET);
        assert_eq!(client.read_response().status, 502);
        assert_eq!(upstream.accepted(), 1);
    }

    fn a_socket_in_the_file_system_is_an_upstream(engine: Engine) {
        let folder = TempDir::new();
        let path = folder.join("app.sock");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut room = [0; 4096];
                    while stream.read(&mut room).is_ok_and(|count| count > 0) {
                        stream.write_all(ok("unix").as_bytes()).unwrap();
                    }
                });
            }
        });
        let server = proxy(engine, &format!("/=unix:{}", path.display()), &[]);
        let mut client = Client::connect(&server);
        for _ in 0..3 {
            client.send(GET);
            assert_eq!(client.read_response().text(), "unix");
        }
        let server = proxy(engine, "/=unix:/nonexistent/app.sock", &[]);
        let mut client = Client::connect(&server);
        client.send(GET);
        assert_eq!(client.read_response().status, 502);
    }

    /// PROXY_REQUESTS=100000 makes it the long run.
    fn idle_connections_closed_at_random_fail_no_request(engine: Engine) {
        let count: usize = std::env::var("PROXY_REQUESTS").ok().and_then(|count| count.parse().ok()).unwrap_or(2000);
        let upstream = Upstream::start(|link| {
            let mut state = 0x9E37_79B9_u64.wrapping_mul(link.number as u64 + 1);
            while link.head()?.is_some() {
                link.say(ok("x"))?;
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                if state.is_multiple_of(10) {
                    return Ok(());
                }
                if state % 10 == 1 {
                    thread::sleep(Duration::from_micros(state % 500));
                    return Ok(());
                }
            }
            Ok(())
        });
        let server = Setup::on(engine)
            .args(["--proxy", &format!("/=http://{}", upstream.address), "--access-log", "off"])
            .start();
        let clients = if engine == Engine::Iterative { 1 } else { 8 };
        thread::scope(|scope| {
            for _ in 0..clients {
                scope.spawn(|| {
                    let mut client = Client::connect(&server);
                    for number in 0..count / clients {
                        client.send(GET);
                        let response = client.read_response();
                        assert_eq!(response.status, 200, "request {number}: {}", server.stderr());
                    }
                });
            }
        });
        assert_eq!(upstream.heads().len() / clients, count / clients);
        println!("{count} requests over {} upstream connections", upstream.accepted());
    }

    #[skip(Iterative, "serves one client at a time")]
    fn an_upstream_that_hangs_delays_nobody_else(engine: Engine) {
        let upstream = Upstream::start(|link| {
            while let Some(head) = link.head()? {
                if head.starts_with("GET /slow") {
                    thread::sleep(Duration::from_secs(1));
                }
                link.say(ok("x"))?;
            }
            Ok(())
        });
        let server = proxy_to(engine, &upstream);
        let start = Instant::now();
        let mut slow = Client::connect(&server);
        slow.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut client = Client::connect(&server);
        for _ in 0..20 {
            client.send(GET);
            assert_eq!(client.read_response().status, 200);
        }
        assert!(start.elapsed() < Duration::from_millis(900));
        assert_eq!(slow.read_response().status, 200);
    }
}
