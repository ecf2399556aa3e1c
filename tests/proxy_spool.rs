//! Temporary files for requests and for answers of upstreams: together they are never larger than `--spool-limit`.

mod common;

use common::python::serve_source;
use common::upstream::*;
use common::{Client, Engine, PATIENCE, Response, Server, Setup, TempDir, eventually, noise, on_every_engine};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

const MIB: usize = 1024 * 1024;
/// More than the largest write to a temporary file: all that one read from an upstream or a worker returns.
const WRITE: usize = 200 * 1024;

/// The bytes in the files without a name that a process has open: the larger of length and disk use.
fn on_disk(pid: u32) -> usize {
    let Ok(links) = fs::read_dir(format!("/proc/{pid}/fd")) else { return 0 };
    let files = links.flatten().filter_map(|link| fs::metadata(link.path()).ok());
    let nameless = files.filter(|file| file.is_file() && file.nlink() == 0);
    nameless.map(|file| file.len().max(file.blocks() * 512) as usize).sum()
}

/// The most bytes on the disk while `act` runs.
fn most_on_disk(pid: u32, act: impl FnOnce()) -> usize {
    let (over, most) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let (ended, found) = (over.clone(), most.clone());
    let watch = thread::spawn(move || {
        while !ended.load(Ordering::SeqCst) {
            found.fetch_max(on_disk(pid), Ordering::SeqCst);
        }
    });
    act();
    most.fetch_max(on_disk(pid), Ordering::SeqCst);
    over.store(true, Ordering::SeqCst);
    watch.join().unwrap();
    most.load(Ordering::SeqCst)
}

/// An upstream whose answers are as long as the path says, and the number of answers that it has sent.
fn upstream_of_lengths() -> (Upstream, Arc<AtomicUsize>) {
    let said = Arc::<AtomicUsize>::default();
    let count = said.clone();
    let upstream = Upstream::start(move |link| {
        while let Some(head) = link.head()? {
            let size: usize = head.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
            link.stream.set_write_timeout(Some(PATIENCE * 3))?;
            link.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"))?;
            link.say(vec![b'x'; size])?;
            count.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    });
    (upstream, said)
}

fn ask(server: &Server, size: usize) -> Client {
    let mut client = Client::connect(server);
    client.send(format!("GET /{size} HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert_eq!(client.read_head().status, 200);
    client
}

/// Several answers whose clients do not read at first: they fill the files up to the limit, and arrive complete when
/// the clients read.
fn read_late(engine: Engine, server: &Server, limit: usize, size: usize) {
    let count = if engine == Engine::Iterative { 1 } else { 4 };
    let mut clients = Vec::new();
    let most = most_on_disk(server.pid(), || {
        clients.extend((0..count).map(|_| ask(server, size)));
        eventually("the files are full", || (on_disk(server.pid()) >= limit).then_some(()));
    });
    assert!((limit..limit + WRITE).contains(&most), "{most} bytes on the disk");
    let most = most_on_disk(server.pid(), || {
        clients.iter_mut().for_each(|client| read_all(client, size));
    });
    // The files are measured one after the other: room that one gives back may be counted again in the next.
    assert!(most < 2 * (limit + WRITE), "{most} bytes on the disk");
    eventually("the files are gone", || (on_disk(server.pid()) == 0).then_some(()));
}

fn read_all(client: &mut Client, size: usize) {
    let (mut left, mut room) = (size, vec![0; MIB]);
    while left > 0 {
        let count = client.read_some(&mut room).unwrap();
        assert!(count > 0 && room[..count].iter().all(|byte| *byte == b'x'), "{left} of {size} are left");
        left -= count;
    }
}

fn post(server: &Server, size: usize) -> Response {
    let mut client = Client::connect(server);
    client.send(format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n\r\n"));
    for piece in noise(size).chunks(100_000) {
        if client.is_answered() || client.try_send(piece).is_err() {
            break;
        }
    }
    client.read_response()
}

/// Sends a request without its last byte, and waits until the server has stored the rest.
fn post_a_part(server: &Server, size: usize) -> Client {
    let mut client = Client::connect(server);
    client.send(format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", size + 1));
    client.send(noise(size));
    eventually("it is in a file", || (on_disk(server.pid()) >= size).then_some(()));
    client
}

fn posts_share_the_limit(engine: Engine, server: &Server) {
    for _ in 0..3 {
        assert_eq!(post(server, 3 * MIB / 2).text(), (3 * MIB / 2).to_string());
        let refused = post(server, 3 * MIB);
        assert_eq!((refused.status, refused.field("Retry-After")), (503, Some("1")));
        assert_eq!(post(server, MIB / 2).text(), (MIB / 2).to_string());
    }
    server.expect_stderr("--spool-limit");
    if engine != Engine::Iterative {
        let mut first = post_a_part(server, 3 * MIB / 2);
        assert_eq!(post(server, 3 * MIB / 2).status, 503, "the first has the room");
        first.send("x");
        assert_eq!(first.read_response().status, 200);
        post_a_part(server, 3 * MIB / 2).abort();
    }
    eventually("the room is back", || (post(server, 3 * MIB / 2).status == 200).then_some(()));
    eventually("the files are gone", || (on_disk(server.pid()) == 0).then_some(()));
}

on_every_engine! {
    fn unread_answers_of_upstreams_stay_within_the_limit(engine: Engine) {
        let (upstream, _) = upstream_of_lengths();
        let server = proxy(engine, &format!("/=http://{}", upstream.address), &["--spool-limit", "1M"]);
        read_late(engine, &server, MIB, 24 * MIB);
        read_late(engine, &server, MIB, 24 * MIB);
    }

    fn unread_answers_of_applications_stay_within_the_limit(engine: Engine) {
        let folder = TempDir::new();
        let source = "
def app(environ, start_response):
    size = int(environ['PATH_INFO'][1:])
    start_response('200 OK', [('Content-Length', str(size))])
    return (b'x' * (1 << 16) for _ in range(size >> 16))
";
        let args = ["--spool-limit", "1M", "--wsgi-workers", "1", "--wsgi-threads", "8"];
        let Some(server) = serve_source(engine, &folder, source, &args) else { return };
        read_late(engine, &server, MIB, 16 * MIB);
        read_late(engine, &server, MIB, 16 * MIB);
    }

    fn an_answer_needs_no_file(engine: Engine) {
        let (upstream, _) = upstream_of_lengths();
        let server = proxy(engine, &format!("/=http://{}", upstream.address), &["--spool-limit", "0"]);
        let count = if engine == Engine::Iterative { 1 } else { 3 };
        let mut clients: Vec<Client> = (0..count).map(|_| ask(&server, 24 * MIB)).collect();
        let most = most_on_disk(server.pid(), || clients.iter_mut().for_each(|client| read_all(client, 24 * MIB)));
        assert_eq!(most, 0);
        assert!(server.memory("VmHWM") < 60_000, "{} KiB", server.memory("VmHWM"));
    }

    /// When one client leaves, its room lets the other answer be stored to its end.
    #[skip(Iterative, "serves one client at a time")]
    fn room_that_another_gives_back_is_used(engine: Engine) {
        // More than the kernel buffers for a connection whose client does not read, and less than the limit.
        const SECOND: usize = 40 * MIB;
        let (upstream, said) = upstream_of_lengths();
        let server = proxy(engine, &format!("/=http://{}", upstream.address), &["--spool-limit", "48M"]);
        for _ in 0..2 {
            let first = ask(&server, 100 * MIB);
            eventually("the files are full", || (on_disk(server.pid()) >= 48 * MIB).then_some(()));
            let before = said.load(Ordering::SeqCst);
            let second = ask(&server, SECOND);
            thread::sleep(Duration::from_millis(100));
            assert_eq!(said.load(Ordering::SeqCst), before, "there is no room");
            first.abort();
            eventually("the upstream is let go", || (said.load(Ordering::SeqCst) > before).then_some(()));
            second.abort();
            eventually("the files are gone", || (on_disk(server.pid()) == 0).then_some(()));
        }
    }

    fn content_for_upstreams_shares_the_limit(engine: Engine) {
        let upstream = Upstream::start(|link| {
            while let Some(head) = link.head()? {
                let content = link.content(&head)?;
                link.say(ok(&content.len().to_string()))?;
            }
            Ok(())
        });
        let args = ["--proxy-buffer", "--spool-limit", "2M"];
        posts_share_the_limit(engine, &proxy(engine, &format!("/=http://{}", upstream.address), &args));
    }

    fn content_for_applications_shares_the_limit(engine: Engine) {
        let folder = TempDir::new();
        let source = "
def app(environ, start_response):
    start_response('200 OK', [])
    return [str(len(environ['wsgi.input'].read())).encode()]
";
        let Some(server) = serve_source(engine, &folder, source, &["--spool-limit", "2M"]) else { return };
        posts_share_the_limit(engine, &server);
    }

    /// The cause is this machine, not a limit: 500 and not 503.
    fn a_file_that_cannot_be_had_is_a_500(engine: Engine) {
        let upstream = Upstream::answering(ok("x"));
        let mount = format!("/=http://{}", upstream.address);
        let setup = Setup::on(engine).args(["--proxy", &mount, "--proxy-buffer"]);
        let server = setup.env("TMPDIR", "/no-such-folder").start();
        assert_eq!(post(&server, 2 * MIB).status, 500);
        server.expect_stderr("no temporary file can be written");
        assert_eq!(post(&server, MIB / 2).status, 200);
    }
}
