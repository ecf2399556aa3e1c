//! The cache takes no more memory than `--cache-size`, whatever is requested: many files, large files, compressed
//! variants, many names.

mod common;

use common::{Client, Engine, SETTLED, Server, Setup, TempDir, on_every_engine};
use std::fs;
use std::thread;

/// Memory that a server may take besides its cache, in KiB: buffers, and what the allocator keeps.
const SLACK: u64 = 6 * 1024;

fn serve(place: &TempDir, engine: Engine, cache: &str) -> Server {
    Setup::on(engine).arg(place.path()).args(["--access-log", "off", "--cache-size", cache]).start()
}

/// Requests all paths on one new connection. Returns how much the memory of the server grew, in KiB.
fn growth(server: &Server, paths: &[String], fields: &str) -> u64 {
    growth_on(&mut Client::connect(server), server, paths, fields)
}

fn growth_on(client: &mut Client, server: &Server, paths: &[String], fields: &str) -> u64 {
    let mut ask = |path: &String| {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"));
        client.read_response().expect_status(&[200]);
    };
    ask(&paths[0]);
    let before = server.memory("VmRSS");
    for _ in 0..2 {
        paths.iter().for_each(&mut ask);
    }
    server.memory("VmRSS").saturating_sub(before)
}

fn many(place: &TempDir, count: usize, content: impl Fn(usize) -> Vec<u8>) -> Vec<String> {
    let paths: Vec<String> = (0..count).map(|number| format!("/{number}.txt")).collect();
    for (number, path) in paths.iter().enumerate() {
        place.write(&path[1..], content(number));
    }
    thread::sleep(SETTLED);
    paths
}

fn is_full(engine: Engine) -> bool {
    engine == Engine::Event
}

on_every_engine! {
    fn many_files_take_what_the_cache_may_take(engine: Engine) {
        let place = TempDir::new();
        let count = if is_full(engine) { 4000 } else { 1500 };
        // Larger contents are kept in memfds, which do not count as the process's own memory.
        let paths = many(&place, count, |_| vec![b'x'; 12 * 1024]);
        let bounded = growth(&serve(&place, engine, "4M"), &paths, "");
        assert!(bounded < 4 * 1024 + SLACK, "{bounded} KiB for a cache of 4 MiB");
        let none = growth(&serve(&place, engine, "0"), &paths, "");
        assert!(none < SLACK, "{none} KiB for no cache");
        // With enough room they are kept: so this test would notice a cache without a limit.
        let roomy = growth(&serve(&place, engine, "1G"), &paths, "");
        assert!(roomy > count as u64 * 10, "{roomy} KiB: was anything kept?");
    }

    fn small_files_count_with_what_they_need_besides(engine: Engine) {
        let place = TempDir::new();
        let paths = many(&place, if is_full(engine) { 12_000 } else { 1000 }, |_| vec![b'x']);
        let grown = growth(&serve(&place, engine, "1M"), &paths, "");
        assert!(grown < 1024 + SLACK, "{grown} KiB for a cache of 1 MiB");
    }

    fn large_files_hold_no_more_descriptors_than_fit(engine: Engine) {
        let place = TempDir::new();
        let paths: Vec<String> = (0..300).map(|number| format!("/{number}.bin")).collect();
        paths.iter().for_each(|path| drop(place.write_sparse(&path[1..], 300_000)));
        thread::sleep(SETTLED);
        let server = serve(&place, engine, "4M");
        growth(&server, &paths, "");
        let open = fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
        assert!(open < 64 + 32, "{open} descriptors");
    }

    /// The allocator keeps the memory that compressing has used: so of several groups of files one has to add next to
    /// nothing. If variants did not count, each group would add 500 KiB.
    fn compressed_variants_count(engine: Engine) {
        let place = TempDir::new();
        let words = |number: usize| common::noise(20_000 + number).iter().flat_map(|b| [b' ', b'a' + b % 26]).collect();
        let paths = many(&place, 180, words);
        let groups = |cache: &str| -> Vec<u64> {
            let server = serve(&place, engine, cache);
            // One connection, since another one may have another thread, with a stack and an arena of its own.
            let mut client = Client::connect(&server);
            let mut grown = |group| growth_on(&mut client, &server, group, "Accept-Encoding: gzip\r\n");
            paths.chunks(30).map(&mut grown).collect()
        };
        let grown = groups("512K");
        let least = grown[1..].iter().min().unwrap();
        assert!(*least < 256, "{grown:?} KiB more for a cache of 512 KiB");
        // With enough room they are kept: so this test would notice a cache without a limit.
        let kept = groups("1G");
        assert!(kept[1..].iter().min().unwrap() > least, "{kept:?} KiB: was anything kept?");
    }
}
