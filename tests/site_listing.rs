//! Directory listings: their content, what requests share, and what they cost other clients.

mod common;

use common::{Client, Engine, PATIENCE, Response, Server, Setup, TempDir, eventually, exchange, get, on_every_engine};
use std::fs;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// These tests need a whole processor each, so they run one after the other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A site whose `long/` has 10,000 names of `name_length` bytes.
fn place(name_length: usize) -> TempDir {
    let place = TempDir::new();
    let first = place.write("long/first", "hello");
    for n in 1..10_000 {
        fs::hard_link(&first, place.join(format!("long/{n:0>name_length$}"))).unwrap();
    }
    place
}

fn serve(place: &TempDir, engine: Engine, flags: &[&str]) -> Server {
    Setup::on(engine).arg(place.path()).args(flags).start()
}

fn ask(server: &Server, method: &str, path: &str, fields: &str) -> Response {
    exchange(server, format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n"))
}

/// Waits until a directory's times are old enough for its listing to be shared.
fn settle() {
    thread::sleep(Duration::from_secs(3));
}

/// Requests on one connection. Its answers are read and counted while a test does something else.
struct Storm {
    stream: TcpStream,
    answers: &'static AtomicUsize,
}

const REQUESTS: usize = 430;

impl Storm {
    fn begin(server: &Server, request: &str) -> Storm {
        let mut client = Client::connect(server);
        client.send(request.repeat(REQUESTS));
        let stream = client.stream().try_clone().unwrap();
        let mut reader = stream.try_clone().unwrap();
        reader.set_read_timeout(Some(3 * PATIENCE)).unwrap();
        let answers: &AtomicUsize = Box::leak(Box::default());
        thread::spawn(move || {
            // Compressed content contains these words by chance once in many years.
            let (mut bytes, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
            while let Ok(count @ 1..) = reader.read(&mut chunk) {
                bytes.extend_from_slice(&chunk[..count]);
                let found = bytes.windows(9).filter(|nine| nine == b"HTTP/1.1 ").count();
                answers.fetch_add(found, Ordering::SeqCst);
                bytes.drain(..bytes.len().saturating_sub(8));
            }
            drop(client);
        });
        Storm { stream, answers }
    }

    fn answers(&self) -> usize {
        self.answers.load(Ordering::SeqCst)
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

/// How many descriptors a server has open to a directory.
fn descriptors(server: &Server, directory: &Path) -> usize {
    let links = fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().flatten();
    links.filter(|link| fs::read_link(link.path()).is_ok_and(|target| target == directory)).count()
}

/// A request that is sent 430 times at once. Nothing of the answer is kept, so each request costs as much as the first.
const STORMS: [&str; 4] = [
    "HEAD /long/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /long/ HTTP/1.1\r\nHost: x\r\nIf-None-Match: *\r\n\r\n",
    "HEAD /long/ HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip, identity;q=0\r\n\r\n",
    "GET /long/ HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip, identity;q=0\r\n\r\n",
];

on_every_engine! {
    #[skip(Iterative, "serves one client at a time")]
    fn listings_asked_for_in_a_pipeline_leave_the_others_their_turns(engine: Engine) {
        let _alone = alone();
        let place = place(20);
        let long = place.join("long");
        for request in STORMS {
            let server = serve(&place, engine, &["--cache-size", "0"]);
            get(&server, "/echo/first");
            let storm = Storm::begin(&server, request);
            let mut client = Client::connect(&server);
            for _ in 0..50 {
                client.send("GET /echo/small HTTP/1.1\r\nHost: x\r\n\r\n");
                assert_eq!(client.read_response().text(), "small");
                let open = descriptors(&server, &long);
                assert!(open <= 2, "{open} descriptors for one listing");
            }
            let answers = storm.answers();
            assert!(answers < REQUESTS / 4, "{answers} listings before 50 small answers: {request}");
        }
    }

    fn two_signals_end_a_server_that_lists(engine: Engine) {
        let _alone = alone();
        let place = place(20);
        let mut server = serve(&place, engine, &["--cache-size", "0"]);
        let storms = [(); 4].map(|()| Storm::begin(&server, STORMS[0]));
        eventually("the first answer", || storms.iter().any(|storm| storm.answers() > 0).then_some(()));
        let address = server.address();
        server.signal("TERM");
        eventually("the port to be closed", || TcpStream::connect(address).is_err().then_some(()));
        server.signal("TERM");
        server.await_exit(PATIENCE);
        let answers: usize = storms.iter().map(Storm::answers).sum();
        assert!(answers < REQUESTS, "{answers} answers before the end");
    }

    #[skip(Pool, "a client that does not read holds its worker")]
    #[skip(Iterative, "serves one client at a time")]
    fn what_clients_do_not_read_of_a_listing_is_not_kept_for_each(engine: Engine) {
        let _alone = alone();
        let place = place(255);
        let server = serve(&place, engine, &[]);
        settle();
        get(&server, "/echo/first");
        let (before, idle) = (server.memory("VmRSS"), server.sockets());
        let mut clients: Vec<Client> = (0..200).map(|_| Client::connect(&server)).collect();
        for client in &mut clients {
            client.send("GET /long/ HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20));
        }
        eventually("an answer for each", || clients.iter().all(Client::is_answered).then_some(()));
        // Wait until the kernel's buffers for the clients are full: only then the server keeps what they do not read.
        let stalled = |clients: &[Client]| clients.iter().map(|client| waiting(client.stream())).sum::<usize>();
        let mut last = 0;
        eventually("nothing more to be taken", || {
            thread::sleep(Duration::from_millis(200));
            let now = stalled(&clients);
            (std::mem::replace(&mut last, now) == now).then_some(())
        });
        let peak = server.memory("VmHWM") - before;
        drop(clients);
        eventually("the clients to be gone", || (server.sockets() <= idle).then_some(()));
        assert!(peak < 40 * 1024, "{peak} KiB for 200 clients that read nothing");
        // A listing is kept for a second. The C library's allocator keeps a part of the memory that was freed.
        eventually("the memory to be given back", || {
            let after = server.memory("VmRSS").saturating_sub(before);
            (after < 20 * 1024).then_some(())
        });
    }

    fn a_name_shows_or_is_gone_in_the_very_next_listing(engine: Engine) {
        let place = TempDir::new();
        place.write("d/old", "");
        let server = serve(&place, engine, &[]);
        settle();
        assert!(get(&server, "/d/").text().contains("\"old\""));
        let shows = |name: &str| get(&server, "/d/").text().contains(&format!("href=\"{name}\""));
        for n in 0..20 {
            let (name, other) = (format!("{n}.txt"), format!("{n}.md"));
            let path = place.write(format!("d/{name}"), "");
            assert!(shows(&name), "{n}");
            fs::rename(path, place.join("d").join(&other)).unwrap();
            assert!(shows(&other) && !shows(&name), "{n}");
            fs::remove_file(place.join("d").join(&other)).unwrap();
            assert!(!shows(&other), "{n}");
        }
        // The times of the directory itself do not show this change.
        place.write("d/old", "12345");
        eventually("the new size", || get(&server, "/d/").text().contains("5 bytes").then_some(()));
        fs::rename(place.join("d"), place.join("e")).unwrap();
        place.write("d/another", "");
        assert!(shows("another") && !shows("old"));
        fs::remove_dir_all(place.join("d")).unwrap();
        assert_eq!(get(&server, "/d/").status, 404);
    }

    fn a_listing_has_a_weak_tag_and_no_length(engine: Engine) {
        let place = TempDir::new();
        place.write("d/a", "1");
        let server = serve(&place, engine, &[]);
        let mut tags = Vec::new();
        for fields in ["", "Accept: application/json\r\n", "Accept-Encoding: gzip, identity;q=0\r\n"] {
            let answer = ask(&server, "GET", "/d/", fields);
            let etag = answer.field("ETag").expect("a tag").to_owned();
            assert!(etag.starts_with("W/\""), "{etag}");
            let head = ask(&server, "HEAD", "/d/", fields);
            assert_eq!(head.lasting_fields(), answer.lasting_fields());
            assert_eq!((head.content_length(), head.body.len()), (None, 0));
            let same = ask(&server, "GET", "/d/", &format!("{fields}If-None-Match: \"x\", {etag}\r\n"));
            assert_eq!((same.status, same.body.len(), same.field("ETag")), (304, 0, Some(etag.as_str())));
            assert_eq!(same.values("Vary"), answer.values("Vary"));
            assert_eq!(ask(&server, "HEAD", "/d/", &format!("{fields}If-None-Match: *\r\n")).status, 304);
            assert_eq!(ask(&server, "GET", "/d/", &format!("{fields}If-None-Match: W/\"x\"\r\n")).status, 200);
            assert_eq!(ask(&server, "GET", "/d/", &format!("{fields}If-Match: {etag}\r\n")).status, 412);
            assert_eq!(ask(&server, "GET", "/d/", &format!("{fields}If-Match: *\r\n")).status, 200);
            tags.push(etag);
        }
        tags.sort();
        tags.dedup();
        assert_eq!(tags.len(), 3, "{tags:?}");
        place.write("d/b", "");
        let after = ask(&server, "GET", "/d/", &format!("If-None-Match: {}\r\n", tags.join(", ")));
        assert_eq!(after.status, 200);
        let again = serve(&place, engine, &[]);
        assert_eq!(get(&again, "/d/").field("ETag"), after.field("ETag"), "the same after a restart");
    }

    fn a_listing_that_is_cut_says_so_in_its_head(engine: Engine) {
        let place = place(5);
        let server = serve(&place, engine, &[]);
        for (names, sign) in [(10_000, None), (10_001, Some("?1"))] {
            for fields in ["", "Accept: application/json\r\n"] {
                let answer = ask(&server, "GET", "/long/", fields);
                let shown = answer.text().matches(if fields.is_empty() { "<tr><td><a href=\"" } else { "{\"name\":" }).count();
                // The page also has a link to the parent.
                assert_eq!(shown, 10_000 + usize::from(fields.is_empty()), "of {names}");
                assert_eq!(answer.field("Listing-Truncated"), sign, "{names} names, {fields}");
                assert_eq!(answer.text().contains("The list was cut"), fields.is_empty() && sign.is_some(), "{names}");
                let head = ask(&server, "HEAD", "/long/", fields);
                assert_eq!(head.lasting_fields(), answer.lasting_fields());
            }
            place.write("long/one-more", "");
        }
    }

    fn an_old_client_gets_a_listing_until_the_connection_ends(engine: Engine) {
        let place = place(20);
        let server = serve(&place, engine, &[]);
        let new = get(&server, "/long/");
        let old = exchange(&server, "GET /long/ HTTP/1.0\r\n\r\n");
        assert_eq!((old.status, old.field("Transfer-Encoding")), (200, None));
        assert!(old.body == new.body && new.lists("Transfer-Encoding", "chunked"));
        let coded = ask(&server, "GET", "/long/", "Accept-Encoding: gzip, identity;q=0\r\n");
        assert!(common::gunzip(&coded.body) == new.body);
        assert_eq!(ask(&server, "GET", "/long/", "Accept-Encoding: identity;q=0\r\n").status, 406);
    }
}

/// Bytes that a client could read.
fn waiting(stream: &TcpStream) -> usize {
    stream.set_nonblocking(true).unwrap();
    let mut room = vec![0; 8 << 20];
    let peeked = stream.peek(&mut room);
    stream.set_nonblocking(false).unwrap();
    match peeked {
        Ok(count) => count,
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Err(error) => panic!("{error}"),
    }
}
