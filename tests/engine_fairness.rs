//! A client with small requests is not delayed by clients that receive large responses, or that send or read nothing.

mod common;

use common::{Client, PATIENCE, Server, Setup, TempDir, eventually, get, on_every_engine};
use rustix::net::RecvFlags;
use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

const REQUEST: &str = "GET /echo/small HTTP/1.1\r\nHost: x\r\n\r\n";

/// These tests run one at a time: each takes hundreds of descriptors, or a whole processor.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn roomy_server(engine: common::Engine, store: &TempDir) -> Server {
    let patient = ["--header-timeout", "60s", "--keep-alive-timeout", "60s", "--max-connections", "2000"];
    Setup::on(engine).args(["--directory", store.arg()]).args(patient).start()
}

/// Sends small requests on one connection. Each must be answered within `PATIENCE`.
fn served(server: &Server, count: usize) {
    let mut client = Client::connect(server);
    for _ in 0..count {
        client.send(REQUEST);
        assert_eq!(client.read_response().text(), "small");
    }
}

/// Sets a flag when it is dropped, so that the other threads end even if a test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

on_every_engine! {
    #[skip(Pool, "an idle connection holds its worker")]
    #[skip(Iterative, "serves one client at a time")]
    fn idle_and_slow_clients_do_not_delay_others(engine: Engine) {
        let _alone = alone();
        let store = TempDir::new();
        let server = roomy_server(engine, &store);
        let mut idle: Vec<Client> = (0..500).map(|_| Client::connect(&server)).collect();
        let mut slow: Vec<Client> = (0..20).map(|_| Client::connect(&server)).collect();
        for client in idle.iter_mut().take(250) {
            client.send(REQUEST);
            assert_eq!(client.read_response().status, 200);
        }
        for byte in REQUEST.bytes() {
            slow.iter_mut().for_each(|client| client.send([byte]));
            served(&server, 3);
        }
        for client in &mut slow {
            assert_eq!(client.read_response().text(), "small");
        }
        // The idle connections are still open.
        for client in &mut idle {
            client.send(REQUEST);
            assert_eq!(client.read_response().text(), "small");
        }
    }

    #[skip(Iterative, "serves one client at a time")]
    fn a_large_download_leaves_room_for_small_requests(engine: Engine) {
        let _alone = alone();
        let store = TempDir::new();
        let size = 16_u64 << 30;
        store.write_sparse("huge", size);
        let server = roomy_server(engine, &store);
        let (stop, received) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            let guard = Stop(&stop);
            let mut download = Client::connect(&server);
            download.send("GET /files/huge HTTP/1.1\r\nHost: x\r\n\r\n");
            assert_eq!(download.read_head().status, 200);
            scope.spawn(|| {
                let download = download;
                // MSG_TRUNC drops the bytes in the kernel. So this reader is faster than any sender, and the server
                // never has to wait for it.
                let mut chunk = vec![0; 8 << 20];
                while !stop.load(Ordering::Relaxed) {
                    match rustix::net::recv(download.stream(), chunk.as_mut_slice(), RecvFlags::TRUNC) {
                        Ok((_, read @ 1..)) => received.fetch_add(read as u64, Ordering::Relaxed),
                        _ => break,
                    };
                }
            });
            eventually("the download to be at full speed", || {
                (received.load(Ordering::Relaxed) > 32 << 20).then_some(())
            });
            served(&server, 50);
            let by_then = received.load(Ordering::Relaxed);
            assert!(by_then < size / 2, "small answers only came when {by_then} bytes were through");
            drop(guard);
        });
    }

    #[skip(Iterative, "serves one client at a time")]
    fn a_pipeliner_without_end_leaves_room_for_others(engine: Engine) {
        let _alone = alone();
        let store = TempDir::new();
        let server = roomy_server(engine, &store);
        let (stop, received) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            let _guard = Stop(&stop);
            let (stop, received) = (&stop, &received);
            let mut writer = Client::connect(&server).stream().try_clone().unwrap();
            let mut reader = writer.try_clone().unwrap();
            writer.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
            reader.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            scope.spawn(move || {
                let batch = REQUEST.repeat(20_000);
                let mut rest = batch.as_bytes();
                while !stop.load(Ordering::Relaxed) {
                    match writer.write(rest) {
                        Ok(sent) if sent < rest.len() => rest = &rest[sent..],
                        Ok(_) => rest = batch.as_bytes(),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                        Err(error) => panic!("the pipeliner is cut off: {error}"),
                    }
                }
            });
            scope.spawn(move || {
                let mut chunk = vec![0; 1 << 16];
                while !stop.load(Ordering::Relaxed) {
                    match reader.read(&mut chunk) {
                        Ok(0) => panic!("the pipeliner is cut off"),
                        Err(error) if error.kind() != ErrorKind::WouldBlock => {
                            panic!("the pipeliner: {error}")
                        }
                        Ok(read) => received.fetch_add(read as u64, Ordering::Relaxed),
                        Err(_) => 0,
                    };
                }
            });
            // From then on, the server's buffer always holds another request.
            eventually("the pipeliner to be at full speed", || {
                (received.load(Ordering::Relaxed) > 1 << 20).then_some(())
            });
            served(&server, 100);
        });
    }

    #[skip(Iterative, "serves one client at a time")]
    fn an_upload_in_chunks_of_a_byte_leaves_room_for_small_requests(engine: Engine) {
        let _alone = alone();
        let store = TempDir::new();
        let server = roomy_server(engine, &store);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let _guard = Stop(&stop);
            scope.spawn(|| {
                let mut client = Client::connect(&server);
                client.send("PUT /files/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
                let chunks = "1\r\nx\r\n".repeat(20_000);
                while !stop.load(Ordering::Relaxed) && client.try_send(&chunks).is_ok() {
                    std::hint::spin_loop();
                }
            });
            thread::sleep(Duration::from_millis(300));
            let before = processor_ticks(&server);
            served(&server, 20);
            // Regression: each chunk was a system call, and was not counted in the turn's budget, so a turn took
            // seconds. Processor time is measured, so that other programs do not matter.
            let used = processor_ticks(&server) - before;
            assert!(used < 1000, "{used} ticks of processor time for 20 small answers");
        });
    }

    #[skip(Iterative, "serves one client at a time")]
    fn a_page_that_takes_long_to_compress_leaves_room_for_small_requests(engine: Engine) {
        let _alone = alone();
        let (store, site) = (TempDir::new(), TempDir::new());
        // Zeros take minutes to compress. They give so few bytes that the server never waits for its client.
        site.write_sparse("huge.txt", 16 << 30);
        let server = Setup::on(engine).args(["--directory", store.arg(), site.arg()]).start();
        let mut page = Client::connect(&server);
        page.send("GET /huge.txt HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n");
        thread::sleep(Duration::from_millis(100)); // the server begins to compress; its first bytes may take longer
        served(&server, 20);
    }

    #[skip(Iterative, "serves one client at a time")]
    fn a_pipelining_client_that_reads_no_answer_is_held_back(engine: Engine) {
        let _alone = alone();
        let store = TempDir::new();
        let server = roomy_server(engine, &store);
        let before = server.memory("VmRSS");
        let client = Client::connect(&server);
        client.stream().set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        // The answers to all of these would be some 400 MB.
        let batch = REQUEST.repeat(1000);
        let mut sent = 0;
        while sent < 2000 && (&mut client.stream()).write_all(batch.as_bytes()).is_ok() {
            sent += 1;
        }
        assert!(sent < 2000, "every request was taken and no answer read");
        served(&server, 20);
        let grown = server.memory("VmRSS").saturating_sub(before);
        assert!(grown < 16 << 10, "{grown} KiB more for one client");
    }

    #[skip(Iterative, "serves one client at a time")]
    fn stalled_uploads_and_downloads_do_not_delay_others(engine: Engine) {
        let _alone = alone();
        let store = TempDir::new();
        store.write_sparse("huge", 256 << 20);
        let server = roomy_server(engine, &store);
        // Fewer clients than a pool has threads.
        let mut stalled = Vec::new();
        for number in 0..8 {
            let mut client = Client::connect(&server);
            client.send(match number % 2 {
                0 => format!("PUT /files/f{number} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf"),
                _ => "GET /files/huge HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            });
            stalled.push(client);
        }
        served(&server, 100);
        drop(stalled);
        eventually("the half uploads to be gone", || (store.entries().len() == 1).then_some(()));
    }

    #[skip(Iterative, "serves one client at a time")]
    fn a_stalled_client_costs_no_processor_time(engine: Engine) {
        let _alone = alone();
        let store = TempDir::new();
        store.write_sparse("huge", 256 << 20);
        let server = roomy_server(engine, &store);
        let mut reader = Client::connect(&server);
        reader.send("GET /files/huge HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut sender = Client::connect(&server);
        sender.send("PUT /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf");
        let mut gone = Client::connect(&server);
        gone.send("GET /files/huge HTTP/1.1\r\nHost: x\r\n\r\n");
        gone.finish_sending();
        thread::sleep(Duration::from_millis(300));
        let before = processor_ticks(&server);
        thread::sleep(Duration::from_secs(1));
        let used = processor_ticks(&server) - before;
        // A loop that spins takes about 100 of them.
        assert!(used < 40, "{used} ticks of processor time in a second of waiting");
    }

    #[skip(Iterative, "serves one client at a time")]
    fn above_max_connections_a_client_waits_its_turn(engine: Engine) {
        let _alone = alone();
        let store = TempDir::new();
        let server = Setup::on(engine).args(["--directory", store.arg(), "--max-connections", "4"]).start();
        let mut held: Vec<Client> = (0..4).map(|_| Client::connect(&server)).collect();
        for client in &mut held {
            client.send(REQUEST);
            assert_eq!(client.read_response().status, 200);
            // With half a head sent, the connection is not idle, so it is not closed for a new client.
            client.send(&REQUEST[..20]);
        }
        let over: Vec<Client> = (0..4).map(|_| Client::connect(&server)).collect();
        for client in &mut held {
            client.send(&REQUEST[20..]);
            assert_eq!(client.read_response().status, 200, "open connections are still served");
        }
        drop(over);
        drop(held);
        // Once there is room, a new client is served.
        let until = Instant::now() + PATIENCE;
        loop {
            let mut client = Client::connect(&server);
            if client.try_send(REQUEST).is_ok() && client.next_response().is_some_and(|answer| answer.status == 200) {
                break;
            }
            assert!(Instant::now() < until, "no room came free");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn many_short_connections_are_all_served(engine: Engine) {
        let _alone = alone();
        let store = TempDir::new();
        let server = roomy_server(engine, &store);
        for _ in 0..500 {
            assert_eq!(get(&server, "/echo/small").text(), "small");
        }
    }
}

/// The server's processor time so far, in clock ticks (100 per second).
fn processor_ticks(server: &Server) -> u64 {
    let line = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let after_name = line.rsplit_once(')').unwrap().1;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut tick = || fields.next().unwrap().parse::<u64>().unwrap();
    tick() + tick()
}
