//! The reverse proxy: a request's content on its way to the upstream.

mod common;

use common::upstream::*;
use common::{Client, eventually, noise, on_every_engine};
use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

on_every_engine! {
    fn content_is_passed_as_it_came(engine: Engine) {
        let upstream = Upstream::echoing();
        let server = proxy_to(engine, &upstream);
        let content = noise(700_000);
        let mut client = Client::connect(&server);
        client.send(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", content.len()));
        client.send(&content);
        assert!(client.read_response().body == content);
        assert_eq!(field(&upstream.last_head(), "content-length"), Some("700000"));
        client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
        for piece in content.chunks(33_333) {
            client.send(format!("{:x};ext=\"a\"\r\n", piece.len()));
            client.send(piece);
            client.send("\r\n");
        }
        client.send("0\r\nX-Trailer: y\r\n\r\n");
        assert!(client.read_response().body == content);
        assert_eq!(field(&upstream.last_head(), "transfer-encoding"), Some("chunked"));
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.read_response().body, b"");
        assert_eq!(field(&upstream.last_head(), "content-length"), Some("0"));
        assert_eq!(upstream.accepted(), 1);
    }

    fn content_is_buffered_on_request(engine: Engine) {
        let upstream = Upstream::echoing();
        let server = proxy(engine, &format!("/=http://{}", upstream.address), &["--proxy-buffer"]);
        for size in [10, 3_000_000] {
            let content = noise(size);
            let mut client = Client::connect(&server);
            client.send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n");
            assert_eq!(client.read_response().status, 100);
            client.send(format!("{:x}\r\n", size));
            client.send(&content[..size / 2]);
            match size {
                10 => thread::sleep(Duration::from_millis(50)),
                _ => eventually("a connection for what is too large to wait", || (upstream.accepted() == 1).then_some(())),
            }
            let seen = upstream.accepted();
            client.send(&content[size / 2..]);
            client.send("\r\n0\r\n\r\n");
            assert!(client.read_response().body == content);
            assert_eq!(seen, if size == 10 { 0 } else { 1 }, "it connects when the content is whole");
            assert_eq!(field(&upstream.last_head(), "content-length"), Some(size.to_string().as_str()));
            assert_eq!(field(&upstream.last_head(), "expect"), None);
        }
    }

    fn a_client_that_waits_for_100_gets_it_from_the_upstream(engine: Engine) {
        let upstream = Upstream::start(|link| {
            while let Some(head) = link.head()? {
                if head.starts_with("PUT /no") {
                    link.say("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")?;
                    return Ok(());
                }
                assert_eq!(field(&head, "expect"), Some("100-continue"));
                assert!(link.buffer.is_empty());
                link.say("HTTP/1.1 100 Continue\r\n\r\n")?;
                let content = link.content(&head)?;
                link.say(ok(std::str::from_utf8(&content).unwrap()))?;
            }
            Ok(())
        });
        let server = proxy_to(engine, &upstream);
        let mut client = Client::connect(&server);
        client.send("PUT /yes HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(client.read_response().status, 100);
        client.send("hello");
        assert_eq!(client.read_response().text(), "hello");
        client.send("PUT /no HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        let refused = client.read_response();
        assert!(refused.status == 417 && refused.says_close(), "{refused:?}");
        client.expect_closed();
    }

    fn a_cut_request_is_never_whole_upstream(engine: Engine) {
        for (framing, sent, status) in [
            ("Content-Length: 50", "hello", 400),
            ("Transfer-Encoding: chunked", "5\r\nhello\r\n", 400),
            ("Transfer-Encoding: chunked", "5\r\nhello\r\nzz\r\n", 400),
            ("Transfer-Encoding: chunked", "5\r\nhello\r\n1000\r\n", 413),
        ] {
            let seen = Arc::<Mutex<Vec<u8>>>::default();
            let kept = seen.clone();
            let upstream = Upstream::start(move |link| {
                link.head()?;
                while link.fill()? > 0 {}
                kept.lock().unwrap().append(&mut link.buffer);
                Ok(())
            });
            let server = proxy(engine, &format!("/=http://{}", upstream.address), &["--max-body-size", "100"]);
            let mut client = Client::connect(&server);
            client.send(format!("POST / HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n"));
            eventually("it is under way", || (upstream.accepted() == 1).then_some(()));
            client.send(sent);
            client.finish_sending();
            assert_eq!(client.read_response().status, status, "{sent:?}");
            eventually("the upstream's connection is over", || (upstream.ended.load(Ordering::SeqCst) == 1).then_some(()));
            let seen = seen.lock().unwrap();
            assert!(seen.len() < 20 && !seen.ends_with(b"0\r\n\r\n"), "{}", seen.escape_ascii());
        }
    }

    fn an_upstream_that_takes_nothing_is_a_504(engine: Engine) {
        let upstream = Upstream::silent();
        let server = proxy(engine, &format!("/=http://{}", upstream.address), &["--proxy-timeout", "500ms"]);
        let mut client = Client::connect(&server);
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n");
        let piece = vec![b'x'; 1_000_000];
        while !client.is_answered() && client.try_send(&piece).is_ok() {}
        assert_eq!(client.read_response().status, 504);
        assert!(server.memory("VmHWM") < 30_000, "{} KiB", server.memory("VmHWM"));
        expect_log(&server, &[&upstream.address.to_string(), "did not answer in time"]);
    }

    fn an_upstream_that_never_sends_100_is_a_504(engine: Engine) {
        let upstream = Upstream::silent();
        let server = proxy(engine, &format!("/=http://{}", upstream.address), &["--proxy-timeout", "500ms"]);
        let mut client = Client::connect(&server);
        client.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(client.read_response().status, 504);
        expect_log(&server, &[&upstream.address.to_string(), "did not answer in time"]);
    }

    fn an_early_answer_reaches_a_client_that_still_sends(engine: Engine) {
        for resets in [false, true] {
            let upstream = Upstream::start(move |link| {
                link.head()?;
                link.say("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")?;
                if !resets {
                    link.stream.shutdown(Shutdown::Write)?;
                    while link.fill()? > 0 {}
                }
                Ok(())
            });
            let server = proxy_to(engine, &upstream);
            let mut client = Client::connect(&server);
            client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n");
            // Sends, as a browser would, until the server takes no more.
            let piece = vec![b'x'; 50_000];
            for _ in 0..100 {
                if client.is_answered() || client.try_send(&piece).is_err() {
                    break;
                }
            }
            let response = client.read_response();
            assert_eq!((response.status, response.text().as_str()), (413, "big"), "resets: {resets}");
            assert!(response.says_close());
        }
    }
}
