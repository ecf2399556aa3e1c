//! The reverse proxy: connections to upstreams, and which upstream is next.

mod common;

use common::upstream::*;
use common::{Client, Engine, Setup, TempDir, eventually, on_every_engine};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

    fn an_upstream_that_refuses_is_a_502_and_another_takes_over(engine: Engine) {
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
        // A request with content goes to the next upstream as well: nothing of it was sent.
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(client.read_response().status, 200);
        for _ in 0..20 {
            client.send(GET);
            assert_eq!(client.read_response().status, 200);
        }
        let tries = server.stderr().matches("trying").count();
        assert_eq!(tries, 1, "it is left alone for a while: {}", server.stderr());
    }

    /// `--proxy-timeout` counts only once the connection is established.
    fn an_upstream_that_does_not_accept_is_a_504_and_another_takes_over(engine: Engine) {
        let full = FullBacklog::new();
        let flags = ["--proxy-connect-timeout", "300ms", "--proxy-timeout", "600s"];
        let server = proxy(engine, &format!("/=http://{}", full.address), &flags);
        let mut client = Client::connect(&server);
        let start = Instant::now();
        client.send(GET);
        assert_eq!(client.read_response().status, 504);
        assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
        expect_log(&server, &[&full.address.to_string(), "did not accept a connection in time"]);
        let upstream = Upstream::answering(ok("x"));
        let server = proxy(engine, &format!("/=http://{},http://{}", full.address, upstream.address), &flags);
        let mut client = Client::connect(&server);
        client.send(GET);
        assert_eq!(client.read_response().text(), "x");
    }

    fn an_upstream_that_accepts_within_the_time_is_waited_for(engine: Engine) {
        let full = FullBacklog::new();
        let server = proxy(engine, &format!("/=http://{}", full.address), &["--proxy-connect-timeout", "60s"]);
        let mut client = Client::connect(&server);
        client.send(GET);
        // The connections that fill the backlog send nothing; the server's own is accepted behind them.
        let _upstream = Upstream::on(full.listener.try_clone().unwrap(), |link| {
            while link.head()?.is_some() {
                link.say(ok("x"))?;
            }
            Ok(())
        });
        assert_eq!(client.read_response().text(), "x");
    }

    fn several_upstreams_share_the_requests(engine: Engine) {
        let upstreams = [(); 3].map(|()| Upstream::answering(ok("x")));
        let urls = upstreams.each_ref().map(|upstream| format!("http://{}", upstream.address));
        let server = proxy(engine, &format!("/={}", urls.join(",")), &[]);
        let mut client = Client::connect(&server);
        for _ in 0..30 {
            client.send(GET);
            assert_eq!(client.read_response().status, 200);
        }
        let shares = upstreams.each_ref().map(|upstream| upstream.heads().len());
        assert_eq!(shares, [10, 10, 10], "with nothing in flight elsewhere each has its turn");
    }

    #[skip(Iterative, "serves one client at a time")]
    fn the_least_busy_upstream_is_next(engine: Engine) {
        let gate = Arc::<AtomicBool>::default();
        let opened = gate.clone();
        let slow = Upstream::start(move |link| {
            while link.head()?.is_some() {
                eventually("the gate to be open", || opened.load(Ordering::SeqCst).then_some(()));
                link.say(ok("slow"))?;
            }
            Ok(())
        });
        let quick = Upstream::answering(ok("quick"));
        let server = proxy(engine, &format!("/=http://{},http://{}", slow.address, quick.address), &[]);
        let mut waiting = Client::connect(&server);
        waiting.send(GET);
        eventually("the slow one is busy", || (slow.accepted() == 1).then_some(()));
        let mut client = Client::connect(&server);
        for _ in 0..20 {
            client.send(GET);
            assert_eq!(client.read_response().text(), "quick");
        }
        gate.store(true, Ordering::SeqCst);
        assert_eq!(waiting.read_response().text(), "slow");
    }

    fn an_upstream_that_fails_gets_no_requests_for_a_while(engine: Engine) {
        for answer in ["", "nonsense\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx"] {
            let failing = Upstream::start(move |link| {
                link.head()?;
                link.say(answer)
            });
            let well = Upstream::answering(ok("x"));
            let server = proxy(engine, &format!("/=http://{},http://{}", failing.address, well.address), &[]);
            let mut client = Client::connect(&server);
            let mut failed = 0;
            for _ in 0..10 {
                client.send(GET);
                failed += usize::from(client.read_response().status == 502);
            }
            // If no byte of an answer was received, the next upstream is asked.
            assert_eq!((failed, failing.accepted()), (usize::from(!answer.is_empty()), 1), "{answer:?}");
        }
    }

    /// RFC 9110, section 9.2.2: a request that may be repeated goes to another upstream, if all of it can be sent
    /// again.
    fn an_upstream_that_closes_without_an_answer_leaves_the_request_to_the_next(engine: Engine) {
        let post = "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab";
        let put = "PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab";
        let chunks = "PUT /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
        for (request, flags, expected) in [
            (GET, &[][..], Some("")),
            ("DELETE /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", &[], Some("")),
            ("POST /x HTTP/1.1\r\nHost: x\r\n\r\n", &[], None),
            ("LOCK /x HTTP/1.1\r\nHost: x\r\n\r\n", &[], None),
            (put, &[], None),
            (put, &["--proxy-buffer"], Some("ab")),
            (chunks, &["--proxy-buffer"], Some("ab")),
            (post, &["--proxy-buffer"], None),
        ] {
            for resets in [false, true] {
                let closing = [(); 2].map(|()| Upstream::start(move |link| {
                    let head = link.head()?.unwrap_or_default();
                    link.content(&head)?;
                    if resets {
                        link.reset();
                    }
                    Ok(())
                }));
                let well = Upstream::echoing();
                let [one, other] = closing.each_ref().map(|upstream| upstream.address);
                let server = proxy(engine, &format!("/=http://{one},http://{other},http://{}", well.address), flags);
                let mut client = Client::connect(&server);
                client.send(request);
                let response = client.read_response();
                let found = (response.status == 200).then(|| response.text());
                assert_eq!(found.as_deref(), expected, "{request:?} {flags:?} {}", server.stderr());
                let asked = closing.each_ref().map(|upstream| upstream.accepted());
                assert_eq!(asked, if expected.is_some() { [1, 1] } else { [1, 0] }, "{request:?} {flags:?}");
            }
        }
    }

    fn each_upstream_is_asked_once_and_then_it_is_a_502(engine: Engine) {
        let closing = [(); 3].map(|()| Upstream::start(|link| link.head().map(drop)));
        let urls = closing.each_ref().map(|upstream| format!("http://{}", upstream.address));
        let server = proxy(engine, &format!("/={}", urls.join(",")), &[]);
        let mut client = Client::connect(&server);
        client.send(GET);
        assert_eq!(client.read_response().status, 502);
        assert_eq!(closing.each_ref().map(|upstream| upstream.accepted()), [1, 1, 1]);
    }

    /// As long as no content has been passed on, the head can be sent again.
    fn content_that_was_not_passed_on_yet_goes_to_the_next(engine: Engine) {
        let closing = Upstream::start(|link| link.head().map(drop));
        let well = Upstream::echoing();
        let server = proxy(engine, &format!("/=http://{},http://{}", closing.address, well.address), &[]);
        let mut client = Client::connect(&server);
        client.send("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n");
        eventually("the next one is asked", || (well.heads().len() == 1).then_some(()));
        client.send("ab");
        assert_eq!(client.read_response().text(), "ab");
    }

    fn an_upstream_that_is_back_is_used_again(engine: Engine) {
        let reserved = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = reserved.local_addr().unwrap();
        drop(reserved);
        let well = Upstream::answering(ok("x"));
        let server = proxy(engine, &format!("/=http://{address},http://{}", well.address), &[]);
        let mut client = Client::connect(&server);
        client.send(GET);
        assert_eq!(client.read_response().status, 200);
        let back = Upstream::on(TcpListener::bind(address).unwrap(), |link| {
            while link.head()?.is_some() {
                link.say(ok("back"))?;
            }
            Ok(())
        });
        eventually("it is tried again", || {
            client.send(GET);
            let response = client.read_response();
            assert_eq!(response.status, 200);
            (response.text() == "back").then_some(())
        });
        let before = back.heads().len();
        for _ in 0..10 {
            client.send(GET);
            assert_eq!(client.read_response().status, 200);
        }
        assert_eq!(back.heads().len(), before + 5, "it has its turns again");
    }

    fn an_upstream_has_an_ipv6_address_too(engine: Engine) {
        let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
            return eprintln!("skipped: there is no IPv6 here");
        };
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut room = [0; 4096];
                while stream.read(&mut room).is_ok_and(|count| count > 0) {
                    stream.write_all(ok("six").as_bytes()).unwrap();
                }
            }
        });
        let server = proxy(engine, &format!("/=http://[::1]:{port}"), &[]);
        let mut client = Client::connect(&server);
        client.send(GET);
        assert_eq!(client.read_response().text(), "six");
    }

    fn an_idle_connection_that_was_closed_costs_no_request(engine: Engine) {
        let upstream = Upstream::start(|link| {
            // Sends one answer on each connection, and closes when the next request arrives.
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
        // A request that may have had an effect is not sent twice.
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab");
        assert_eq!(client.read_response().status, 502);
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab");
        assert_eq!(client.read_response().status, 200);
    }

    fn a_request_that_may_not_be_repeated_takes_no_old_connection(engine: Engine) {
        let upstream = Upstream::start(|link| {
            while let Some(head) = link.head()? {
                link.content(&head)?;
                link.say(ok("x"))?;
            }
            Ok(())
        });
        let server = proxy_to(engine, &upstream);
        let mut client = Client::connect(&server);
        let mut post = || {
            client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab");
            assert_eq!(client.read_response().status, 200);
            upstream.accepted()
        };
        let accepted = eventually("two requests within a second", || {
            let start = Instant::now();
            let (first, second) = (post(), post());
            // With a longer pause between the two, the connection is too old for the second request.
            (start.elapsed() < Duration::from_secs(1)).then(|| {
                assert_eq!(second, first);
                second
            })
        });
        thread::sleep(Duration::from_millis(1200));
        assert_eq!(post(), accepted + 1);
        client.send(GET);
        assert_eq!((client.read_response().status, upstream.accepted()), (200, accepted + 1));
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

    /// PROXY_REQUESTS=100000 makes this the long run.
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
    fn an_upstream_that_hangs_delays_no_other_request(engine: Engine) {
        let gate = Arc::<AtomicBool>::default();
        let opened = gate.clone();
        let upstream = Upstream::start(move |link| {
            while let Some(head) = link.head()? {
                if head.starts_with("GET /slow") {
                    eventually("the gate to be open", || opened.load(Ordering::SeqCst).then_some(()));
                }
                link.say(ok("x"))?;
            }
            Ok(())
        });
        let server = proxy_to(engine, &upstream);
        let mut slow = Client::connect(&server);
        slow.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut client = Client::connect(&server);
        for _ in 0..20 {
            client.send(GET);
            assert_eq!(client.read_response().status, 200);
        }
        gate.store(true, Ordering::SeqCst);
        assert_eq!(slow.read_response().status, 200);
    }
}
