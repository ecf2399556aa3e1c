//! The reverse proxy: clients that read slowly, leave, or stop sending.

mod common;

use common::upstream::*;
use common::{Client, PATIENCE, eventually, noise, on_every_engine};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

on_every_engine! {
    fn a_slow_client_does_not_hold_the_upstream(engine: Engine) {
        let done = Arc::new(AtomicUsize::new(0));
        let (finished, size) = (done.clone(), 30_000_000);
        let upstream = Upstream::start(move |link| {
            link.head()?;
            link.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"))?;
            link.say(noise(size))?;
            finished.fetch_add(1, Ordering::SeqCst);
            while link.head()?.is_some() {}
            Ok(())
        });
        let server = proxy_to(engine, &upstream);
        let mut client = Client::connect(&server);
        client.send(GET);
        client.read_head();
        eventually("the upstream has said it all", || (done.load(Ordering::SeqCst) == 1).then_some(()));
        assert!(server.memory("VmHWM") < 40_000, "{} KiB", server.memory("VmHWM"));
        let (mut body, mut room) = (Vec::new(), vec![0; 1 << 20]);
        while body.len() < size {
            let count = client.read_some(&mut room).unwrap();
            assert!(count > 0);
            body.extend_from_slice(&room[..count]);
        }
        assert!(body == noise(size));
    }

    fn a_client_that_leaves_before_the_answer_is_noticed_at_once(engine: Engine) {
        for resets in [false, true] {
            let upstream = Upstream::start(|link| {
                while link.head()?.is_some() {}
                Ok(())
            });
            let gone = upstream.ended.clone();
            let server = proxy_to(engine, &upstream);
            let mut client = Client::connect(&server);
            client.send(GET);
            eventually("the request came through", || (upstream.heads().len() == 1).then_some(()));
            if resets { client.abort() } else { drop(client) }
            eventually("the upstream's connection is closed", || (gone.load(Ordering::SeqCst) == 1).then_some(()));
            assert!(server.log_lines(1)[0].contains("\" 499 "), "{:?}", server.log_lines(1));
            let mut next = Client::connect(&server);
            next.send(GET);
            eventually("the next is served", || (upstream.heads().len() == 2).then_some(()));
        }
    }

    fn a_client_that_leaves_between_two_pieces_is_noticed_at_once(engine: Engine) {
        let upstream = Upstream::start(|link| {
            link.head()?;
            link.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")?;
            // Nothing more happens for a long time.
            link.fill().map(drop)
        });
        let gone = upstream.ended.clone();
        let server = proxy_to(engine, &upstream);
        let mut client = Client::connect(&server);
        client.send(GET);
        client.read_head();
        let mut room = [0; 100];
        assert!(client.read_some(&mut room).unwrap() > 0);
        drop(client);
        eventually("the upstream's connection is closed", || (gone.load(Ordering::SeqCst) == 1).then_some(()));
    }

    fn a_half_closed_client_still_gets_the_answer(engine: Engine) {
        for answer in [
            ok("hello"),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".into(),
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhello".into(),
            "nonsense".into(),
        ] {
            for minor in [1, 0] {
                let pieces: Vec<_> = answer.split_inclusive("\r\n\r\n").map(str::to_owned).collect();
                let upstream = Upstream::start(move |link| {
                    let head = link.head()?.unwrap_or_default();
                    link.content(&head)?;
                    for piece in &pieces {
                        thread::sleep(Duration::from_millis(50));
                        link.say(piece)?;
                    }
                    Ok(())
                });
                let server = proxy_to(engine, &upstream);
                let mut client = Client::connect(&server);
                client.send(format!("POST / HTTP/1.{minor}\r\nHost: x\r\nContent-Length: 2\r\n\r\nab"));
                client.finish_sending();
                let response = client.read_final_response();
                match answer.as_str() {
                    "nonsense" => assert_eq!(response.status, 502),
                    _ => assert_eq!((response.status, response.text().as_str()), (200, "hello"), "{answer}"),
                }
                client.expect_closed();
            }
        }
    }

    fn requests_pipelined_before_the_end_are_answered(engine: Engine) {
        let upstream = Upstream::start(|link| {
            while let Some(head) = link.head()? {
                thread::sleep(Duration::from_millis(30));
                link.say(ok(head.split(' ').nth(1).unwrap()))?;
            }
            Ok(())
        });
        let server = proxy_to(engine, &upstream);
        let mut client = Client::connect(&server);
        client.send("GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\nGET /3 HTTP/1.1\r\nHost: x\r\n\r\n");
        client.finish_sending();
        for path in ["/1", "/2", "/3"] {
            assert_eq!(client.read_response().text(), path);
        }
        client.expect_closed();
    }

    fn events_arrive_one_by_one(engine: Engine) {
        let seen = Arc::<AtomicUsize>::default();
        let told = seen.clone();
        let upstream = Upstream::start(move |link| {
            link.head()?;
            link.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")?;
            for number in 0..3 {
                link.say(format!("data: {number}\n\n"))?;
                // The next event is sent once the client has read this one.
                eventually("the client has the event", || (told.load(Ordering::SeqCst) > number).then_some(()));
            }
            Ok(())
        });
        let server = proxy_to(engine, &upstream);
        let mut client = Client::connect(&server);
        client.send(GET);
        client.read_head();
        for number in 0..3 {
            let (mut event, mut room) = (Vec::new(), [0; 100]);
            while !event.ends_with(format!("data: {number}\n\n\r\n").as_bytes()) {
                let count = client.read_some(&mut room).unwrap();
                event.extend_from_slice(&room[..count]);
            }
            seen.fetch_add(1, Ordering::SeqCst);
        }
        let mut end = [0; 5];
        assert_eq!(client.read_some(&mut end).unwrap(), 5);
        assert_eq!(&end, b"0\r\n\r\n");
    }

    fn a_client_that_leaves_takes_its_upstream_along(engine: Engine) {
        let (gone, sees) = (Arc::new(AtomicUsize::new(0)), PATIENCE);
        let left = gone.clone();
        let upstream = Upstream::start(move |link| {
            link.head()?;
            link.stream.set_write_timeout(Some(sees))?;
            link.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            while link.say("5\r\nhello\r\n").is_ok() {
                thread::sleep(Duration::from_millis(10));
            }
            left.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        let server = proxy_to(engine, &upstream);
        let mut client = Client::connect(&server);
        client.send(GET);
        client.read_head();
        client.abort();
        eventually("the upstream notices", || (gone.load(Ordering::SeqCst) == 1).then_some(()));
    }
}
