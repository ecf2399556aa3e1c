//! The reverse proxy: how answers of upstreams reach the client: whole, cut off, invalid, or missing.

mod common;

use common::upstream::*;
use common::{Client, Framing, PATIENCE, eventually, on_every_engine};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

on_every_engine! {
    fn every_framing_reaches_every_client(engine: Engine) {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nX: y\r\n\r\n",
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello world",
            "HTTP/1.0 200 OK\r\n\r\nhello world",
        ] {
            let closes = !answer.contains("Length") && !answer.contains("chunked");
            let upstream = Upstream::start(move |link| {
                while link.head()?.is_some() {
                    link.say(answer)?;
                    if closes {
                        return Ok(());
                    }
                }
                Ok(())
            });
            let server = proxy_to(engine, &upstream);
            let mut client = Client::connect(&server);
            for _ in 0..2 {
                client.send(GET);
                let response = client.read_response();
                assert_eq!(response.text(), "hello world", "{answer}");
                let framing = if answer.contains("Length") { Framing::Length } else { Framing::Chunked };
                assert_eq!(response.framing, framing, "{answer}");
                assert!(response.field("Date").is_some());
            }
            drop(client);
            let mut old = Client::connect(&server);
            old.send("GET / HTTP/1.0\r\n\r\n");
            let response = old.read_response();
            assert_eq!(response.text(), "hello world", "{answer}");
            assert!(response.field("Transfer-Encoding").is_none() && response.says_close());
        }
    }

    fn answers_without_content_stay_without_content(engine: Engine) {
        for (request, answer, status) in [
            ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", 200),
            ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200),
            ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204),
            ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 500\r\n\r\n", 304),
        ] {
            let upstream = Upstream::answering(answer);
            let server = proxy_to(engine, &upstream);
            let mut client = Client::connect(&server);
            for _ in 0..2 {
                client.send(format!("{request} / HTTP/1.1\r\nHost: x\r\n\r\n"));
                let response = client.read_response_to_head();
                assert_eq!(response.status, status, "{answer}");
                if status == 200 && answer.contains("500") {
                    assert_eq!(response.field("Content-Length"), Some("500"));
                }
            }
            assert_eq!(upstream.accepted(), 1, "{answer}");
        }
    }

    fn fields_about_the_content_are_not_touched(engine: Engine) {
        let coded = [&b"\x1f\x8b\x08\x00"[..], &common::noise(500)].concat();
        let head = format!("Content-Encoding: gzip\r\nETag: W/\"a\"\r\nVary: Accept-Encoding\r\nContent-Range: bytes 0-503/900\r\n\
            Location: http://127.0.0.1:1/there\r\nSet-Cookie: a=1; Path=/x\r\nSet-Cookie: b=2\r\nContent-Length: {}\r\n", coded.len());
        for status in ["200 OK", "206 Partial Content", "302 Found", "404 Not Found", "500 Oh", "599 Own"] {
            let answer = [format!("HTTP/1.1 {status}\r\n{head}\r\n").as_bytes(), &coded].concat();
            let upstream = Upstream::answering(answer);
            let server = proxy_to(engine, &upstream);
            let mut client = Client::connect(&server);
            client.send("GET /x HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip, br\r\nRange: bytes=0-503\r\nIf-Range: \"a\"\r\n\
                If-None-Match: \"b\"\r\nCookie: c=1; d=2\r\nAuthorization: Basic eDp5\r\n\r\n");
            let response = client.read_response();
            assert_eq!(format!("{} {}", response.status, response.reason), status);
            assert!(response.body == coded, "{status}");
            for line in head.lines() {
                let (name, value) = line.split_once(": ").unwrap();
                let there = response.fields.iter().any(|(key, own)| key == name && own == value.as_bytes());
                assert!(there, "{line} in {response:?}");
            }
            let seen = upstream.last_head();
            for (name, value) in [("accept-encoding", "gzip, br"), ("range", "bytes=0-503"), ("if-range", "\"a\""),
                ("if-none-match", "\"b\""), ("cookie", "c=1; d=2"), ("authorization", "Basic eDp5")] {
                assert_eq!(field(&seen, name), Some(value), "{seen}");
            }
        }
    }

    /// RFC 9112, section 5.1: a proxy removes the white space from a response. In a request it is 400.
    fn white_space_before_a_colon_is_removed(engine: Engine) {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length : 5\r\nX-Own\t: a : b\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding \t : chunked\r\nX-Own : a : b\r\n\r\n5\r\nhello\r\n0\r\nX : y\r\n\r\n",
        ] {
            let upstream = Upstream::answering(answer);
            let server = proxy_to(engine, &upstream);
            let mut client = Client::connect(&server);
            for _ in 0..2 {
                client.send(GET);
                let response = client.read_response();
                assert_eq!((response.status, response.text().as_str()), (200, "hello"), "{answer}");
                assert_eq!(response.field("X-Own"), Some("a : b"), "{answer}");
            }
            assert_eq!(upstream.accepted(), 1, "its length was understood: {answer}");
            client.send("GET /x HTTP/1.1\r\nHost: x\r\nX-Own : a\r\n\r\n");
            assert_eq!(client.read_response().status, 400);
        }
    }

    /// RFC 9112, section 2.2 allows a lone LF. The client gets CRLF. If the status line ends in CRLF, all lines must.
    fn the_lines_of_a_head_may_end_in_a_lone_lf_if_the_status_line_does(engine: Engine) {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\nContent-Length: 5\nX-Own: a\n\nhello", 200),
            ("HTTP/1.1 200 OK\nContent-Length: 5\r\nX-Own: a\r\n\r\nhello", 200),
            ("HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\nX-Own: a\nTransfer-Encoding: chunked\n\n5\r\nhello\r\n0\r\n\r\n", 200),
            ("HTTP/1.1 200 OK\r\nX-Own: a\nSet-Cookie: injected=1\r\nContent-Length: 5\r\n\r\nhello", 502),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Own: a\n\nhello", 502),
        ] {
            let upstream = Upstream::answering(answer);
            let server = proxy_to(engine, &upstream);
            let mut client = Client::connect(&server);
            for _ in 0..2 {
                client.send(GET);
                let response = client.read_final_response();
                assert_eq!(response.status, expected, "{answer:?}");
                if expected == 200 {
                    assert_eq!((response.text().as_str(), response.field("X-Own")), ("hello", Some("a")), "{answer:?}");
                }
            }
        }
        // In chunked framing a lone LF is refused: the answer is cut off.
        for chunks in ["5\r\nhello\n0\r\n\r\n", "5\r\nhello\r\n0\n\n", "5\r\nhello\r\n0\r\nX: y\n\r\n"] {
            let upstream = Upstream::answering(format!("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n{chunks}"));
            let server = proxy_to(engine, &upstream);
            let mut client = Client::connect(&server);
            client.send(GET);
            let whole = String::from_utf8(client.read_to_end()).unwrap();
            assert!(!whole.ends_with("0\r\n\r\n"), "{chunks:?}: {whole}");
            expect_log(&server, &["broke the framing of its answer"]);
        }
    }

    fn an_invalid_answer_is_a_502(engine: Engine) {
        for (answer, reason) in [
            ("", "without an answer"),
            ("hello\n", "no valid answer"),
            ("HTTP/1.1 200 OK\r\nContent-Le", "in the middle of its answer"),
            ("HTTP/1.1 200 OK\nA: b\rC: d\n\n", "no valid answer"),
            ("HTTP/1.1 200 OK\r\nA b : c\r\n\r\n", "no valid answer"),
            ("HTTP/1.1 200 OK\r\nContent-Length : 5\r\nContent-Length: 5\r\n\r\nhello", "framed its answer badly"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "framed its answer badly"),
            ("HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n", "no valid answer"),
            ("HTTP/1.1 999 OK\r\n\r\n", "no valid answer"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "framed its answer badly"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "framed its answer badly"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", "framed its answer badly"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n", "framed its answer badly"),
            // The size line has arrived with the head, so that nothing has been passed on.
            ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nok\n0\n\n", "broke the framing of its answer"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxx", "broke the framing of its answer"),
            ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "nobody asked for"),
        ] {
            let upstream = Upstream::start(move |link| {
                link.head()?;
                link.say(answer)?;
                link.stream.shutdown(Shutdown::Both)
            });
            let server = proxy_to(engine, &upstream);
            let mut client = Client::connect(&server);
            for _ in 0..2 {
                client.send(GET);
                let response = client.read_response();
                assert_eq!(response.status, 502, "{answer:?}");
                assert!(response.text().contains("502 Bad Gateway"), "{}", response.text());
            }
            expect_log(&server, &[&upstream.address.to_string(), reason]);
            assert!(server.log_lines(2)[1].contains("\" 502 "));
        }
    }

    fn an_invalid_answer_is_refused_before_it_ends(engine: Engine) {
        for (answer, reason) in [
            ("HTTP/1.1 2 OK\n", "status line"),
            ("HTTP/1.1 200 OK\r\nA: b\n", "lone LF"),
            ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n", "Folded"),
            ("HTTP/1.1 2 OK\r\n", "status line"),
            ("\x16\x03\x01", "do not begin like HTTP"),
        ] {
            // The upstream sends no more and does not close: the server must not wait for the rest.
            let upstream = Upstream::start(move |link| {
                link.head()?;
                link.say(answer)?;
                link.fill().map(drop)
            });
            let server = proxy_to(engine, &upstream);
            let mut client = Client::connect(&server);
            client.send(GET);
            assert_eq!(client.read_response().status, 502, "{answer:?}");
            expect_log(&server, &[&upstream.address.to_string(), reason]);
        }
    }

    fn a_cut_answer_is_never_whole(engine: Engine) {
        for (answer, reset, minor) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", false, 1),
            ("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", true, 1),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false, 1),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false, 0),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n", false, 1),
            ("HTTP/1.1 200 OK\r\n\r\nhello", true, 1),
            ("HTTP/1.1 200 OK\r\n\r\nhello", true, 0),
        ] {
            let seen = Arc::<AtomicBool>::default();
            let passed = seen.clone();
            let upstream = Upstream::start(move |link| {
                link.head()?;
                link.say(answer)?;
                eventually("the bytes to be passed on", || passed.load(Ordering::SeqCst).then_some(()));
                if reset {
                    link.reset();
                }
                Ok(())
            });
            let server = proxy_to(engine, &upstream);
            let mut stream = TcpStream::connect(server.address()).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            write!(stream, "GET / HTTP/1.{minor}\r\nHost: x\r\n\r\n").unwrap();
            let (mut bytes, mut room) = (Vec::new(), [0; 4096]);
            while !bytes.windows(5).any(|window| window == b"hello") {
                let count = stream.read(&mut room).unwrap();
                assert!(count > 0, "{answer:?}: {}", bytes.escape_ascii());
                bytes.extend_from_slice(&room[..count]);
            }
            seen.store(true, Ordering::SeqCst);
            let end = stream.read_to_end(&mut bytes);
            let text = String::from_utf8_lossy(&bytes);
            assert!(text.contains("200 OK") && text.contains("hello"), "{answer:?}: {text}");
            assert!(!text.ends_with("0\r\n\r\n"), "{answer:?}: {text}");
            if minor == 0 && !answer.contains("Length") {
                assert_eq!(end.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionReset), "{answer:?}");
            }
            expect_log(&server, &[&upstream.address.to_string()]);
        }
    }

    fn a_second_answer_is_discarded(engine: Engine) {
        let upstream = Upstream::start(|link| {
            while link.head()?.is_some() {
                link.say(ok("first") + &ok("second"))?;
            }
            Ok(())
        });
        let server = proxy_to(engine, &upstream);
        let mut client = Client::connect(&server);
        for _ in 0..3 {
            client.send(GET);
            assert_eq!(client.read_response().text(), "first");
        }
        assert_eq!(upstream.accepted(), 3);
        expect_log(&server, &["more bytes behind its answer"]);
    }

    fn a_late_second_answer_is_discarded(engine: Engine) {
        let (read, said) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (known, count) = (read.clone(), said.clone());
        let upstream = Upstream::start(move |link| {
            while link.head()?.is_some() {
                link.say(ok("first"))?;
                let number = count.load(Ordering::SeqCst) + 1;
                eventually("the client to have the first", || (known.load(Ordering::SeqCst) == number).then_some(()));
                link.say(ok("second"))?;
                count.store(number, Ordering::SeqCst);
            }
            Ok(())
        });
        let server = proxy_to(engine, &upstream);
        let mut client = Client::connect(&server);
        for number in 1..=3 {
            client.send(GET);
            assert_eq!(client.read_response().text(), "first");
            read.store(number, Ordering::SeqCst);
            eventually("the second to be sent", || (said.load(Ordering::SeqCst) == number).then_some(()));
        }
        assert_eq!(upstream.accepted(), 3);
        expect_log(&server, &[&upstream.address.to_string(), "without being asked"]);
    }

    fn interim_answers_pass(engine: Engine) {
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x\r\n\r\n";
        let upstream = Upstream::answering(format!("{hints}HTTP/1.1 100 Continue\r\n\r\n{}", ok("x")));
        let server = proxy_to(engine, &upstream);
        let mut client = Client::connect(&server);
        for _ in 0..2 {
            client.send(GET);
            let early = client.read_response();
            assert_eq!((early.status, early.field("Link")), (103, Some("</a.css>; rel=preload")));
            assert!(early.field("Connection").is_none());
            assert_eq!(client.read_response().status, 100, "a client has to expect it unasked");
            assert_eq!(client.read_response().text(), "x");
        }
        drop(client);
        let mut old = Client::connect(&server);
        old.send("GET / HTTP/1.0\r\n\r\n");
        assert_eq!(old.read_response().text(), "x");
        drop(old);
        let endless = Upstream::start(move |link| {
            link.head()?;
            loop {
                link.say(hints)?;
            }
        });
        let server = proxy_to(engine, &endless);
        let mut client = Client::connect(&server);
        client.send(GET);
        assert_eq!(client.read_final_response().status, 502);
    }

    fn silence_is_a_504(engine: Engine) {
        let upstream = Upstream::silent();
        let server = proxy(engine, &format!("/=http://{}", upstream.address), &["--proxy-timeout", "300ms"]);
        let mut client = Client::connect(&server);
        let start = Instant::now();
        client.send(GET);
        assert_eq!(client.read_response().status, 504);
        assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
        expect_log(&server, &[&upstream.address.to_string(), "did not answer in time"]);
    }
}
