//! The reverse proxy: upgrades, and the tunnels that they become.

mod common;

use common::upstream::*;
use common::{Client, Engine, Setup, eventually, noise, on_every_engine};
use std::io::Write;
use std::net::Shutdown;
use std::thread;

on_every_engine! {
    fn an_upgrade_becomes_a_tunnel(engine: Engine) {
        let upstream = Upstream::start(|link| {
            let head = link.head()?.unwrap();
            assert_eq!(field(&head, "upgrade"), Some("websocket"));
            assert_eq!(field(&head, "connection"), Some("Upgrade"));
            assert_eq!(field(&head, "sec-websocket-key"), Some("k"));
            link.say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX: y\r\n\r\nready")?;
            // An echo, until the client says no more; then a last word.
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
