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
