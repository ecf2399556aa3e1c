//! Clients that send or read slowly do not occupy a worker.

mod common;

use common::python::serve;
use common::{Client, Engine, get, noise, on_every_engine};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const SLOW: usize = 200;

on_every_engine! {
    /// A waiting request gets the worker as soon as the worker has sent the large answer to the server.
    #[skip(Iterative, "serves one client at a time")]
    fn a_worker_that_has_given_much_takes_the_next_request_at_once(engine: Engine) {
        let Some(server) = serve(engine, &[]) else { return };
        for _ in 0..20 {
            let mut large = Client::connect(&server);
            large.send("GET /large HTTP/1.1\r\nHost: h\r\n\r\n");
            let mut next = Client::connect(&server);
            next.send("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
            // The first client does not read: its answer waits in the server.
            next.read_response().expect_status(&[200]);
        }
    }

    #[skip(Iterative, "serves one client at a time")]
    fn two_hundred_slow_clients_do_not_delay_others(engine: Engine) {
        // The pool needs a thread for each client; it has twenty by default.
        let args: &[&str] = if engine == Engine::Pool { &["--pool-size", "220"] } else { &[] };
        let Some(server) = serve(engine, args) else { return };
        let clients: Vec<Client> = (0..SLOW).map(|number| {
            let mut client = Client::connect(&server);
            // With a small receive buffer, the kernel stores little for a client that does not read.
            socket2::SockRef::from(client.stream()).set_recv_buffer_size(4096).unwrap();
            client.send(match number % 2 {
                0 => "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 60\r\n\r\n",
                _ => "GET /big HTTP/1.1\r\nHost: h\r\n\r\n",
            });
            client
        }).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let dripping = thread::spawn(move || {
            let mut clients = clients;
            while !stopped.load(Ordering::Relaxed) {
                for (number, client) in clients.iter_mut().enumerate() {
                    if number % 2 == 0 {
                        client.send("x");
                    } else {
                        client.read_some(&mut [0]).unwrap();
                    }
                }
                thread::sleep(Duration::from_secs(1));
            }
        });
        thread::sleep(Duration::from_millis(1500));
        // If a worker waited for one of the slow clients, it would be busy for a minute. `get` fails before that.
        for _ in 0..50 {
            assert_eq!(get(&server, "/hello").status, 200);
        }
        assert!(server.memory("VmRSS") < 150_000, "{} KiB", server.memory("VmRSS"));
        stop.store(true, Ordering::Relaxed);
        dripping.join().unwrap();
    }
}

/// If all content were held in memory, a thousand clients could make the server use a gigabyte.
#[test]
fn content_from_many_clients_is_not_all_held_in_memory() {
    const CLIENTS: usize = 100;
    let Some(server) = serve(Engine::Event, &[]) else { return };
    let body = noise(1_000_000);
    let (most, rest) = body.split_at(990_000);
    let clients: Vec<Client> = (0..CLIENTS)
        .map(|_| {
            let mut client = Client::connect(&server);
            client.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n");
            client.send(most);
            client
        })
        .collect();
    assert!(server.memory("VmHWM") < 60_000, "{} KiB", server.memory("VmHWM"));
    for mut client in clients {
        client.send(rest);
        assert!(client.read_response().body == body);
    }
    assert!(server.memory("VmHWM") < 70_000, "{} KiB", server.memory("VmHWM"));
}
