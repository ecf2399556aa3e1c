//! The reverse proxy: upgrades, and the tunnels that they become.

mod common;

use common::upstream::*;
use common::{Client, Engine, Setup, eventually, noise, on_every_engine};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

on_every_engine! {
    fn an_upgrade_becomes_a_tunnel(engine: Engine) {
        let upstream = Upstream::start(|link| {
            let head = link.head()?.unwrap();
            assert_eq!(field(&head, "upgrade"), Some("websocket"));
            assert_eq!(field(&head, "connection"), Some("Upgrade"));
            assert_eq!(field(&head, "sec-websocket-key"), Some("k"));
            link.say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX: y\r\n\r\nready")?;
            // Echoes until the client ends its side, then sends a last word.
            let mut early = std::mem::take(&mut link.buffer);
            loop {
                link.say(&early)?;
                early.clear();
                if link.fill()? == 0 {
                    break;
                }
                early = std::mem::take(&mut link.buffer);
            }
            link.say("bye")
        });
        let server = proxy_to(engine, &upstream);
        let mut client = Client::connect(&server);
        client.send("GET /chat HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Key: k\r\n\r\nearly");
        let response = client.read_response();
        assert_eq!((response.status, response.field("Upgrade"), response.field("X")), (101, Some("websocket"), Some("y")));
        assert!(response.lists("Connection", "upgrade"));
        let mut expected = b"readyearly".to_vec();
        let content = noise(300_000);
        let sender = client.stream().try_clone().unwrap();
        let sent = content.clone();
        let thread = thread::spawn(move || {
            (&sender).write_all(&sent).unwrap();
            sender.shutdown(Shutdown::Write).unwrap();
        });
        expected.extend(content);
        expected.extend(b"bye");
        assert!(client.read_to_end() == expected);
        thread.join().unwrap();
        assert!(server.log_lines(1)[0].contains("\" 101 "));
    }

    /// The handshake and the frames of RFC 6455, sections 1.3 and 5.7.
    fn websocket_frames_pass_both_ways(engine: Engine) {
        const MASKED_HELLO: [u8; 11] = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        const CLOSE: [u8; 6] = [0x88, 0x80, 1, 2, 3, 4];
        let upstream = Upstream::start(|link| {
            let head = link.head()?.unwrap();
            assert_eq!(field(&head, "sec-websocket-version"), Some("13"));
            assert_eq!(field(&head, "origin"), Some("http://example.com"));
            link.say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n")?;
            while link.buffer.len() < MASKED_HELLO.len() {
                link.fill()?;
            }
            let frame: Vec<u8> = link.buffer.drain(..MASKED_HELLO.len()).collect();
            let text: Vec<u8> = frame[6..].iter().zip(frame[2..6].iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
            link.say([&[0x81, 5][..], &text].concat())?;
            while link.buffer.len() < CLOSE.len() {
                link.fill()?;
            }
            link.say([0x88, 0])
        });
        let server = proxy_to(engine, &upstream);
        let mut client = Client::connect(&server);
        client.send("GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n\
            Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n");
        let response = client.read_response();
        assert_eq!(response.field("Sec-WebSocket-Accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(response.field("Sec-WebSocket-Protocol"), Some("chat"));
        client.send(MASKED_HELLO);
        let mut frame = [0; 7];
        let mut read = 0;
        while read < 7 {
            read += client.read_some(&mut frame[read..]).unwrap();
        }
        assert_eq!(&frame, b"\x81\x05Hello");
        client.send(CLOSE);
        assert_eq!(client.read_to_end(), [0x88, 0]);
    }

    fn an_upgrade_may_be_refused(engine: Engine) {
        let upstream = Upstream::answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
        let server = proxy_to(engine, &upstream);
        let mut client = Client::connect(&server);
        for _ in 0..2 {
            client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
            let response = client.read_response();
            assert_eq!((response.status, response.text().as_str()), (403, "no"));
        }
        assert_eq!(upstream.accepted(), 1);
    }

    fn http_is_nothing_to_upgrade_to(engine: Engine) {
        let upstream = Upstream::answering(ok("x"));
        let server = proxy_to(engine, &upstream);
        let mut client = Client::connect(&server);
        for (asked, passed) in [
            ("h2c", None),
            ("H2C, HTTP/2.0, TLS/1.0", None),
            ("h2c, websocket", Some("websocket")),
            ("websocket, h2c-14, \"h2c\"", Some("websocket")),
            ("h2c/2, H2C-17, h2, h3-29, https/2", None),
            ("\"h2c", None),
            ("websocket, \"a, h2c, b", Some("websocket")),
            ("h2c;q=1, h2c x, (h2c), a/b/c, /h2c, h2c/", None),
            ("WebSocket/13 ,, ,h2c,\tSPDY/3.1", Some("WebSocket/13, SPDY/3.1")),
            ("websocket\r\nUpgrade: h2c, x", Some("websocket, x")),
        ] {
            client.send(format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: {asked}\r\n\
                HTTP2-Settings: x\r\n\r\n"));
            assert_eq!(client.read_response().status, 200);
            let head = upstream.last_head();
            assert_eq!(field(&head, "upgrade"), passed, "{asked}");
            assert_eq!(field(&head, "connection"), passed.map(|_| "Upgrade"), "{asked}");
            assert_eq!(field(&head, "http2-settings"), None, "{asked}");
        }
    }

    fn a_silent_tunnel_is_closed(engine: Engine) {
        let upstream = Upstream::start(|link| {
            link.head()?;
            link.say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")?;
            for _ in 0..8 {
                thread::sleep(Duration::from_millis(500));
                link.say("x")?;
            }
            while link.fill()? > 0 {}
            Ok(())
        });
        let server = proxy(engine, &format!("/=http://{}", upstream.address), &["--proxy-timeout", "3s"]);
        let mut client = Client::connect(&server);
        let start = Instant::now();
        client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
        assert_eq!(client.read_response().status, 101);
        assert_eq!(client.read_to_end(), b"xxxxxxxx", "one that speaks is not silent");
        assert!(start.elapsed() >= Duration::from_millis(8 * 500 + 3000), "{:?}", start.elapsed());
        eventually("the upstream's side is closed", || (upstream.ended.load(Ordering::SeqCst) == 1).then_some(()));
    }

    fn a_tunnel_takes_no_more_than_the_other_end_does(engine: Engine) {
        const SIZE: usize = 40_000_000;
        let gate = Arc::<AtomicUsize>::default();
        let opened = gate.clone();
        let upstream = Upstream::start(move |link| {
            link.head()?;
            link.say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")?;
            eventually("the test reads on", || (opened.load(Ordering::SeqCst) == 1).then_some(()));
            let (mut count, mut room) = (0, vec![0; 1 << 20]);
            loop {
                match link.stream.read(&mut room)? {
                    0 => break,
                    read => count += read,
                }
            }
            link.say(count.to_string())
        });
        let server = proxy_to(engine, &upstream);
        let mut client = Client::connect(&server);
        client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
        assert_eq!(client.read_response().status, 101);
        let sender = client.stream().try_clone().unwrap();
        let sending = thread::spawn(move || {
            (&sender).write_all(&vec![b'x'; SIZE]).unwrap();
            sender.shutdown(Shutdown::Write).unwrap();
        });
        thread::sleep(Duration::from_millis(300));
        assert!(!sending.is_finished(), "nobody has taken it");
        assert!(server.memory("VmHWM") < 30_000, "{} KiB", server.memory("VmHWM"));
        gate.store(1, Ordering::SeqCst);
        assert_eq!(client.read_to_end(), SIZE.to_string().as_bytes());
        sending.join().unwrap();
    }

    fn a_tunnel_ends_when_the_upstream_does(engine: Engine) {
        let upstream = Upstream::start(|link| {
            link.head()?;
            link.say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")?;
            link.say("last words")
        });
        let server = proxy_to(engine, &upstream);
        let mut client = Client::connect(&server);
        client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
        assert_eq!(client.read_response().status, 101);
        assert_eq!(client.read_to_end(), b"last words");
        drop(client);
        let open = if engine == Engine::Event { "the sockets are closed" } else { "the sockets are closed too" };
        let least = Setup::on(engine).start().sockets();
        eventually(open, || (server.sockets() <= least).then_some(()));
    }
}

/// A silent tunnel holds its state, and no buffers.
#[test]
fn a_silent_tunnel_costs_little_memory() {
    const TUNNELS: usize = 200;
    let upstream = Upstream::start(|link| {
        link.head()?;
        link.say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")?;
        while link.fill()? > 0 {
            let said = std::mem::take(&mut link.buffer);
            link.say(&said)?;
        }
        Ok(())
    });
    let server = proxy_to(Engine::Event, &upstream);
    let open = || {
        let mut client = Client::connect(&server);
        client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        assert_eq!(client.read_response().status, 101);
        for size in [10, 3000, 20_000] {
            client.send(noise(size));
            let (mut room, mut heard) = (vec![0; size], 0);
            while heard < size {
                heard += client.read_some(&mut room).unwrap();
            }
        }
        client
    };
    let _first: Vec<Client> = (0..10).map(|_| open()).collect();
    let before = server.memory("VmRSS");
    let _tunnels: Vec<Client> = (0..TUNNELS).map(|_| open()).collect();
    let each = server.memory("VmRSS").saturating_sub(before) * 1024 / TUNNELS as u64;
    assert!(each < 8 * 1024, "{each} bytes a tunnel");
}
