//! Compression while sending: done once for all clients that receive a file, and by no more coders at a time than the
//! server has.

mod common;

use common::{Client, Engine, PATIENCE, Server, Setup, TempDir, eventually, exchange, gunzip, noise, on_every_engine};
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// Longer than a file must be unchanged before it is kept.
const SETTLED: Duration = Duration::from_millis(3200);
/// The number of coders of a server.
const CODERS: usize = 32;
const GZIP: &str = "Accept-Encoding: gzip\r\n";

/// These tests take hundreds of descriptors each, or a whole processor: one after the other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn serve(place: &TempDir, engine: Engine) -> Server {
    let patient = ["--write-timeout", "120s", "--max-connections", "2000", "--access-log", "off"];
    Setup::on(engine).arg(place.path()).args(patient).start()
}

/// Lines that differ, so that their compressed form is long as well.
fn text(size: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(size + 64);
    let mut number = 1_u32;
    while text.len() < size {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.extend_from_slice(format!("a {number:x} line of {}\n", number.reverse_bits() % 99_991).as_bytes());
    }
    text.truncate(size);
    text
}

fn request(method: &str, path: &str, fields: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n")
}

fn ask(server: &Server, method: &str, path: &str, fields: &str) -> common::Response {
    exchange(server, request(method, path, fields))
}

/// A client that has sent a request and reads nothing yet.
fn asking(server: &Server, path: &str) -> Client {
    let mut client = Client::connect(server);
    client.send(request("GET", path, GZIP));
    client
}

/// As many clients as there are coders. Each holds a coder of its own: the file is too large for its compressed form to
/// be kept, and the client does not read.
fn take_all_coders(server: &Server) -> Vec<TcpStream> {
    let mut clients: Vec<TcpStream> = (0..CODERS).map(|_| narrow(server)).collect();
    for client in &mut clients {
        let mut head = [0; 512];
        client.read_exact(&mut head).unwrap();
        assert!(String::from_utf8_lossy(&head).contains("\r\nContent-Encoding: gzip\r\n"));
    }
    clients
}

/// A client that requests the large file and has a small receive buffer.
fn narrow(server: &Server) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&server.address().into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut client = TcpStream::from(socket);
    client.write_all(request("GET", "/large.txt", GZIP).as_bytes()).unwrap();
    client
}

on_every_engine! {
    #[skip(Pool, "a client that does not read holds its worker")]
    #[skip(Iterative, "serves one client at a time")]
    fn what_many_want_is_compressed_once(engine: Engine) {
        let _alone = alone();
        let place = TempDir::new();
        let text = text(3 << 20);
        place.write("text.txt", &text);
        thread::sleep(SETTLED);
        let server = serve(&place, engine);
        assert_eq!(ask(&server, "GET", "/text.txt", "").status, 200);
        let before = server.memory("VmRSS");
        let mut slow: Vec<Client> = (0..500).map(|_| asking(&server, "/text.txt")).collect();
        let mut fast = asking(&server, "/text.txt");
        assert!(gunzip(&fast.read_response().body) == text);
        drop(slow.drain(..470));
        for client in &mut slow {
            assert!(gunzip(&client.read_response().body) == text);
        }
        // The peak, with the buffers of as many threads. A coder for each client would be 160 MB, and the output of
        // each several times that.
        let grown = server.memory("VmHWM").saturating_sub(before);
        assert!(grown < 100 << 10, "{grown} KiB for 500 clients");
    }

    fn a_client_that_leaves_takes_nothing_from_the_others(engine: Engine) {
        let _alone = alone();
        let place = TempDir::new();
        let text = text(1 << 20);
        place.write("text.txt", &text);
        thread::sleep(SETTLED);
        let server = serve(&place, engine);
        assert_eq!(ask(&server, "GET", "/text.txt", "").status, 200);
        let mut first = asking(&server, "/text.txt");
        first.read_head();
        let mut second = (engine != Engine::Iterative).then(|| asking(&server, "/text.txt"));
        first.abort();
        if let Some(client) = &mut second {
            assert!(gunzip(&client.read_response().body) == text);
        }
        for _ in 0..2 {
            let answer = ask(&server, "GET", "/text.txt", "Connection: close\r\nAccept-Encoding: gzip\r\n");
            assert!(gunzip(&answer.body) == text);
        }
    }

    #[skip(Pool, "has fewer workers than coders")]
    #[skip(Iterative, "serves one client at a time")]
    fn without_a_coder_content_goes_out_as_it_is(engine: Engine) {
        let _alone = alone();
        let place = TempDir::new();
        place.write("large.txt", noise(16 << 20));
        let text = text(100_000);
        place.write("text.txt", &text);
        place.write("small.txt", &text[..5000]);
        let server = serve(&place, engine);
        let plain = ask(&server, "GET", "/text.txt", "");
        let coded = ask(&server, "GET", "/text.txt", GZIP);
        let (plain_etag, coded_etag) = (plain.field("ETag").unwrap(), coded.field("ETag").unwrap());
        assert!(plain_etag != coded_etag && gunzip(&coded.body) == text);
        let held = take_all_coders(&server);
        for fields in [GZIP, "Accept-Encoding: deflate, gzip;q=0.5\r\n", "Accept-Encoding: *\r\n"] {
            let answer = ask(&server, "GET", "/text.txt", fields);
            assert_eq!((answer.status, answer.field("Content-Encoding")), (200, None), "{fields}");
            assert!(answer.body == text, "{fields}");
            assert_eq!(answer.lasting_fields(), plain.lasting_fields(), "Vary, ETag and length among them: {fields}");
        }
        // Conditions and ranges refer to the representation that is sent.
        let with = |fields: &str| ask(&server, "GET", "/text.txt", &format!("{GZIP}{fields}\r\n"));
        assert_eq!(with(&format!("If-None-Match: {coded_etag}")).status, 304, "needs no coder");
        assert_eq!(with(&format!("If-None-Match: {plain_etag}")).status, 304);
        assert_eq!(with("Range: bytes=0-9").body, &text[..10]);
        for fields in ["Accept-Encoding: gzip, identity;q=0\r\n", "Accept-Encoding: deflate, *;q=0\r\n"] {
            let refused = ask(&server, "GET", "/text.txt", fields);
            assert_eq!((refused.status, refused.field("Retry-After")), (503, Some("1")), "{fields}");
            assert!(refused.lists("Vary", "Accept-Encoding"), "{fields}");
        }
        // A small file is compressed in one go, and holds a coder no longer than that.
        let small = ask(&server, "GET", "/small.txt", GZIP);
        assert!(small.field("Content-Encoding") == Some("gzip") && gunzip(&small.body) == text[..5000]);
        assert_eq!(ask(&server, "HEAD", "/text.txt", GZIP).field("Content-Encoding"), Some("gzip"));
        drop(held);
        eventually("the coders of clients that have left", || {
            let answer = ask(&server, "GET", "/text.txt", GZIP);
            (answer.field("Content-Encoding") == Some("gzip")).then(|| assert!(gunzip(&answer.body) == text))
        });
        drop(take_all_coders(&server));
    }
}
