//! The reverse proxy, black-box: upstreams that behave and upstreams that do not, each a few lines of std sockets.

mod common;

use common::{Client, Engine, Framing, PATIENCE, Server, Setup, TempDir, eventually, noise, on_every_engine, run};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A server behind the server: what it does with a connection is up to the test.
struct Upstream {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    /// Every head that was read, as it came.
    heads: Arc<Mutex<Vec<String>>>,
}

/// One connection to an upstream, from its own side.
struct Link {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// From 0.
    number: usize,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    fn start(serve: impl Fn(&mut Link) -> io::Result<()> + Send + Sync + 'static) -> Upstream {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, heads, serve) =
            (Arc::new(AtomicUsize::new(0)), Arc::<Mutex<Vec<_>>>::default(), Arc::new(serve));
        let (count, kept) = (accepted.clone(), heads.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_nodelay(true).unwrap();
                let number = count.fetch_add(1, Ordering::SeqCst);
                let mut link = Link { stream, buffer: Vec::new(), number, heads: kept.clone() };
                let serve = serve.clone();
                // What a connection ends with is the test's to see, from the other side.
                thread::spawn(move || serve(&mut link));
            }
        });
        Upstream { address, accepted, heads }
    }

    /// One that answers every request with the same bytes, once its content has come.
    fn answering(answer: impl AsRef<[u8]> + Send + Sync + 'static) -> Upstream {
        Upstream::start(move |link| {
            while let Some(head) = link.head()? {
                link.content(&head)?;
                link.say(&answer)?;
            }
            Ok(())
        })
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    fn last_head(&self) -> String {
        self.heads().pop().expect("a request came through")
    }
}

impl Link {
    /// The next head; None when the connection ends instead.
    fn head(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..at + 4).collect();
                let head = String::from_utf8(head).unwrap();
                self.heads.lock().unwrap().push(head.clone());
                return Ok(Some(head));
            }
            if self.fill()? == 0 {
                return Ok(None);
            }
        }
    }

    /// The content that a head announces, chunks taken apart.
    fn content(&mut self, head: &str) -> io::Result<Vec<u8>> {
        if let Some(length) = field(head, "content-length") {
            let length: usize = length.parse().unwrap();
            while self.buffer.len() < length && self.fill()? > 0 {}
            return Ok(self.buffer.drain(..length).collect());
        }
        let mut content = Vec::new();
        if field(head, "transfer-encoding").is_none() {
            return Ok(content);
        }
        loop {
            let at = loop {
                if let Some(at) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                    break at;
                }
                assert!(self.fill()? > 0, "cut in a chunk");
            };
            let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
            let size = usize::from_str_radix(std::str::from_utf8(&line[..at]).unwrap(), 16).unwrap();
            while self.buffer.len() < size + 2 {
                assert!(self.fill()? > 0, "cut in a chunk");
            }
            content.extend(self.buffer.drain(..size));
            assert_eq!(self.buffer.drain(..2).collect::<Vec<_>>(), b"\r\n");
            if size == 0 {
                return Ok(content);
            }
        }
    }

    fn say(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 65536];
        let count = self.stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..count]);
        Ok(count)
    }

    /// Ends the connection by a reset.
    fn reset(&self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// The value of a field of a head, its name in lower case.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = || head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn proxy_to(engine: Engine, upstream: &Upstream) -> Server {
    proxy(engine, &format!("/=http://{}", upstream.address), &[])
}

fn proxy(engine: Engine, mount: &str, more: &[&str]) -> Server {
    Setup::on(engine).args(["--proxy", mount]).args(more).start()
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

const GET: &str = "GET /x HTTP/1.1\r\nHost: site.example\r\n\r\n";

/// Waits for a line on standard error that has all these words.
fn expect_log(server: &Server, words: &[&str]) {
    eventually(&format!("a line with {words:?} in {}", server.stderr()), || {
        server.stderr().lines().any(|line| words.iter().all(|word| line.contains(word))).then_some(())
    });
}

on_every_engine! {
    fn a_request_passes_with_its_own_fields_and_ours(engine: Engine) {
        let upstream = Upstream::answering("HTTP/1.1 200 Fine\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: theirs\r\n\
            Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nX-Kept: 2\r\nContent-Length: 5\r\n\r\nhello");
        let server = proxy_to(engine, &upstream);
        let mut client = Client::connect(&server);
        client.send("GET /a/./%7eb?q=%7e HTTP/1.1\r\nHost: site.example:81\r\nConnection: x-private, close\r\nX-Private: 1\r\n\
            X-Public: 2\r\nTE: trailers\r\nKeep-Alive: x\r\nProxy-Connection: y\r\nX-Forwarded-For: 6.6.6.6\r\n\
            X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\nVia: 1.0 before\r\nX_Forwarded_For: 6.6.6.6\r\nContent_Length: 9\r\nX_Own: 3\r\n\r\n");
        let response = client.read_response();
        assert_eq!((response.status, response.reason.as_str(), response.text().as_str()), (200, "Fine", "hello"));
        assert_eq!(response.field("Server"), Some("theirs"));
        assert_eq!(response.field("Date"), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
        assert_eq!(response.field("X-Kept"), Some("2"));
        assert_eq!(response.field("Via"), Some("1.1 dustdevil"));
        assert!(response.field("X-Hop").is_none() && response.field("Keep-Alive").is_none() && response.says_close());
        client.expect_closed();
        let head = upstream.last_head();
        assert!(head.starts_with("GET /a/~b?q=%7e HTTP/1.1\r\n"), "{head}");
        for (name, value) in [
            ("host", Some("site.example:81")),
            ("x-public", Some("2")),
            ("x-private", None),
            ("x_own", Some("3")),
            ("x_forwarded_for", None),
            ("content_length", None),
            ("connection", None),
            ("te", None),
            ("keep-alive", None),
            ("proxy-connection", None),
            ("content-length", None),
            ("transfer-encoding", None),
            ("x-forwarded-for", Some("127.0.0.1")),
            ("x-forwarded-proto", Some("http")),
            ("x-forwarded-host", Some("site.example:81")),
            ("forwarded", Some("for=127.0.0.1;host=\"site.example:81\";proto=http")),
            ("via", Some("1.0 before, 1.1 dustdevil")),
        ] {
            assert_eq!(field(&head, name), value, "{name} in {head}");
        }
        assert!(server.log_lines(1)[0].contains("\" 200 5 "), "{:?}", server.log_lines(1));
    }

    fn a_trusted_proxy_says_for_whom_it_asks(engine: Engine) {
        let upstream = Upstream::answering(ok("x"));
        let server = proxy(engine, &format!("/=http://{}", upstream.address), &["--trusted-proxy", "127.0.0.0/8"]);
        let mut client = Client::connect(&server);
        client.send("GET / HTTP/1.1\r\nHost: inner\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\n\
            X-Forwarded-Proto: https\r\nX-Forwarded-Host: outer\r\nForwarded: for=1.2.3.4\r\n\r\n");
        assert_eq!(client.read_response().status, 200);
        let head = upstream.last_head();
        assert_eq!(field(&head, "x-forwarded-for"), Some("1.2.3.4, 5.6.7.8, 127.0.0.1"));
        assert_eq!(field(&head, "x-forwarded-proto"), Some("https"));
        assert_eq!(field(&head, "x-forwarded-host"), Some("outer"));
        assert_eq!(field(&head, "forwarded"), Some("for=1.2.3.4, for=127.0.0.1;host=\"inner\";proto=http"));
    }

    fn a_prefix_is_kept_or_replaced(engine: Engine) {
        let upstream = Upstream::answering(ok("x"));
        let address = upstream.address;
        let mounts = ["/kept", "/root=/", "/deep=/v1/api"].map(|mount| {
            let (prefix, path) = mount.split_once('=').unwrap_or((mount, ""));
            format!("{prefix}=http://{address}{path}")
        });
        let args = ["--proxy", &mounts[0], "--proxy", &mounts[1], "--proxy", &mounts[2]];
        let server = Setup::on(engine).args(args).start();
        let mut client = Client::connect(&server);
        for (path, expected) in [
            ("/kept/a?b", "/kept/a?b"),
            ("/kept", "/kept"),
            ("/root/a/b", "/a/b"),
            ("/root", "/"),
            ("/deep/x//y", "/v1/api/x//y"),
            ("/deep", "/v1/api"),
            ("/deep?q", "/v1/api?q"),
        ] {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert_eq!(client.read_response().status, 200, "{path}");
            assert_eq!(upstream.last_head().split(' ').nth(1), Some(expected), "{path}");
        }
        for path in ["/keptx", "/other", "/kept/../root/a", "/kept/%2e%2e/a"] {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert_eq!(client.read_response().status, 404, "{path}");
        }
        assert_eq!(upstream.heads().len(), 7);
    }

    fn connections_are_used_again(engine: Engine) {
        let upstream = Upstream::answering(ok("x"));
        let server = proxy_to(engine, &upstream);
        for _ in 0..3 {
            let mut client = Client::connect(&server);
            client.send(GET.repeat(4));
            for _ in 0..4 {
                assert_eq!(client.read_response().text(), "x");
            }
        }
        assert_eq!((upstream.accepted(), upstream.heads().len()), (1, 12));
    }

    fn any_method_passes(engine: Engine) {
        let upstream = Upstream::answering(ok("x"));
        let server = proxy_to(engine, &upstream);
        let mut client = Client::connect(&server);
        for method in ["PATCH", "PROPFIND", "DELETE", "OPTIONS", "get"] {
            client.send(format!("{method} /x HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert_eq!(client.read_response().status, 200, "{method}");
            assert!(upstream.last_head().starts_with(&format!("{method} /x HTTP/1.1")), "{method}");
        }
        client.send("OPTIONS /x HTTP/1.1\r\nHost: x\r\nMax-Forwards: 3\r\n\r\n");
        assert_eq!(client.read_response().status, 200);
        assert_eq!(field(&upstream.last_head(), "max-forwards"), Some("2"));
        let passed = upstream.heads().len();
        for request in ["OPTIONS /x HTTP/1.1\r\nMax-Forwards: 0", "TRACE /x HTTP/1.1", "OPTIONS * HTTP/1.1"] {
            client.send(format!("{request}\r\nHost: x\r\n\r\n"));
            client.read_response();
        }
        assert_eq!(upstream.heads().len(), passed, "{:?}", upstream.heads());
    }

    fn content_is_passed_as_it_came(engine: Engine) {
        let upstream = Upstream::start(|link| {
            while let Some(head) = link.head()? {
                let content = link.content(&head)?;
                link.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", content.len()))?;
                link.say(&content)?;
            }
            Ok(())
        });
        let server = proxy_to(engine, &upstream);
        let content = noise(700_000);
        let mut client = Client::connect(&server);
        client.send(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", content.len()));
        client.send(&content);
        assert!(client.read_response().body == content);
        assert_eq!(field(&upstream.last_head(), "content-length"), Some("700000"));
        client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
        for piece in content.chunks(33_333) {
            client.send(format!("{:x};ext=\"a\"\r\n", piece.len()));
            client.send(piece);
            client.send("\r\n");
        }
        client.send("0\r\nX-Trailer: y\r\n\r\n");
        assert!(client.read_response().body == content);
        assert_eq!(field(&upstream.last_head(), "transfer-encoding"), Some("chunked"));
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.read_response().body, b"");
        assert_eq!(field(&upstream.last_head(), "content-length"), Some("0"));
        assert_eq!(upstream.accepted(), 1);
    }

    fn content_is_gathered_on_request(engine: Engine) {
        let upstream = Upstream::start(|link| {
            while let Some(head) = link.head()? {
                let content = link.content(&head)?;
                link.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", content.len()))?;
                link.say(&content)?;
            }
            Ok(())
        });
        let server = proxy(engine, &format!("/=http://{}", upstream.address), &["--proxy-buffer"]);
        for size in [10, 3_000_000] {
            let content = noise(size);
            let mut client = Client::connect(&server);
            client.send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n");
            assert_eq!(client.read_response().status, 100);
            client.send(format!("{:x}\r\n", size));
            client.send(&content[..size / 2]);
            thread::sleep(Duration::from_millis(50));
            let seen = upstream.accepted();
            client.send(&content[size / 2..]);
            client.send("\r\n0\r\n\r\n");
            assert!(client.read_response().body == content);
            assert_eq!(seen, if size == 10 { 0 } else { 1 }, "it connects when the content is whole");
            assert_eq!(field(&upstream.last_head(), "content-length"), Some(size.to_string().as_str()));
            assert_eq!(field(&upstream.last_head(), "expect"), None);
        }
    }

    fn every_framing_reaches_every_client(engine: Engine) {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nX: y\r\n\r\n",
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello world",
            "HTTP/1.0 200 OK\r\n\r\nhello world",
        ] {
            let closes = !answer.contains("Length") && !answer.contains("chunked");
            let upstream = Upstream::start(move |link| {
                while link.head()?.is_some() {
                    link.say(answer)?;
                    if closes {
                        return Ok(());
                    }
                }
                Ok(())
            });
            let server = proxy_to(engine, &upstream);
            let mut client = Client::connect(&server);
            for _ in 0..2 {
                client.send(GET);
                let response = client.read_response();
                assert_eq!(response.text(), "hello world", "{answer}");
                let framing = if answer.contains("Length") { Framing::Length } else { Framing::Chunked };
                assert_eq!(response.framing, framing, "{answer}");
                assert!(response.field("Date").is_some());
            }
            drop(client);
            let mut old = Client::connect(&server);
            old.send("GET / HTTP/1.0\r\n\r\n");
            let response = old.read_response();
            assert_eq!(response.text(), "hello world", "{answer}");
            assert!(response.field("Transfer-Encoding").is_none() && response.says_close());
        }
    }

    fn no_content_where_there_is_none(engine: Engine) {
        for (request, answer, status) in [
            ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", 200),
            ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200),
            ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204),
            ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 500\r\n\r\n", 304),
        ] {
            let upstream = Upstream::answering(answer);
            let server = proxy_to(engine, &upstream);
            let mut client = Client::connect(&server);
            for _ in 0..2 {
                client.send(format!("{request} / HTTP/1.1\r\nHost: x\r\n\r\n"));
                let response = client.read_response_to_head();
                assert_eq!(response.status, status, "{answer}");
                if status == 200 && answer.contains("500") {
                    assert_eq!(response.field("Content-Length"), Some("500"));
                }
            }
            assert_eq!(upstream.accepted(), 1, "{answer}");
        }
    }

    fn what_is_no_answer_is_a_502(engine: Engine) {
        for (answer, reason) in [
            ("", "without an answer"),
            ("hello\n", "no valid answer"),
            ("HTTP/1.1 200 OK\r\nContent-Le", "in the middle of its answer"),
            ("HTTP/1.1 200 OK\nContent-Length: 0\n\n", "in the middle of its answer"),
            ("HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n", "no valid answer"),
            ("HTTP/1.1 999 OK\r\n\r\n", "no valid answer"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "framed its answer badly"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "framed its answer badly"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", "framed its answer badly"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n", "framed its answer badly"),
            ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "nobody asked for"),
        ] {
            let upstream = Upstream::start(move |link| {
                link.head()?;
                link.say(answer)?;
                link.stream.shutdown(Shutdown::Both)
            });
            let server = proxy_to(engine, &upstream);
            let mut client = Client::connect(&server);
            for _ in 0..2 {
                client.send(GET);
                let response = client.read_response();
                assert_eq!(response.status, 502, "{answer:?}");
                assert!(response.text().contains("502 Bad Gateway"), "{}", response.text());
            }
            expect_log(&server, &[&upstream.address.to_string(), reason]);
            assert!(server.log_lines(2)[1].contains("\" 502 "));
        }
    }

    fn who_refuses_is_a_502_and_another_takes_over(engine: Engine) {
        let refusing = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let server = proxy(engine, &format!("/=http://{refusing}"), &[]);
        let mut client = Client::connect(&server);
        client.send(GET);
        assert_eq!(client.read_response().status, 502);
        expect_log(&server, &[&refusing.to_string(), "cannot connect", "refused"]);
        let upstream = Upstream::answering(ok("x"));
        let both = format!("/=http://{refusing},http://{}", upstream.address);
        let server = proxy(engine, &both, &[]);
        let mut client = Client::connect(&server);
        // Content that is under way goes to the next as well: nothing of it was sent.
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(client.read_response().status, 200);
        for _ in 0..20 {
            client.send(GET);
            assert_eq!(client.read_response().status, 200);
        }
        let tries = server.stderr().matches("trying").count();
        assert_eq!(tries, 1, "it is left alone for a while: {}", server.stderr());
    }

    fn silence_is_a_504(engine: Engine) {
        let upstream = Upstream::start(|link| {
            link.head()?;
            thread::sleep(Duration::from_secs(3));
            Ok(())
        });
        let server = proxy(engine, &format!("/=http://{}", upstream.address), &["--proxy-timeout", "300ms"]);
        let mut client = Client::connect(&server);
        let start = Instant::now();
        client.send(GET);
        assert_eq!(client.read_response().status, 504);
        assert!((250..2000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        expect_log(&server, &[&upstream.address.to_string(), "did not answer in time"]);
    }

    fn a_cut_answer_is_never_whole(engine: Engine) {
        for (answer, reset, minor) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", false, 1),
            ("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", true, 1),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false, 1),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false, 0),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n", false, 1),
            ("HTTP/1.1 200 OK\r\n\r\nhello", true, 1),
            ("HTTP/1.1 200 OK\r\n\r\nhello", true, 0),
        ] {
            let upstream = Upstream::start(move |link| {
                link.head()?;
                link.say(answer)?;
                // Time for the bytes to be passed on before they are found to be all.
                thread::sleep(Duration::from_millis(100));
                if reset {
                    link.reset();
                }
                Ok(())
            });
            let server = proxy_to(engine, &upstream);
            let mut stream = TcpStream::connect(server.address()).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            write!(stream, "GET / HTTP/1.{minor}\r\nHost: x\r\n\r\n").unwrap();
            let mut bytes = Vec::new();
            let end = stream.read_to_end(&mut bytes);
            let text = String::from_utf8_lossy(&bytes);
            assert!(text.contains("200 OK") && text.contains("hello"), "{answer:?}: {text}");
            assert!(!text.ends_with("0\r\n\r\n"), "{answer:?}: {text}");
            if minor == 0 && !answer.contains("Length") {
                assert_eq!(end.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionReset), "{answer:?}");
            }
            expect_log(&server, &[&upstream.address.to_string()]);
        }
    }

    fn a_second_answer_is_nobodys(engine: Engine) {
        let upstream = Upstream::start(|link| {
            while link.head()?.is_some() {
                link.say(ok("first") + &ok("second"))?;
            }
            Ok(())
        });
        let server = proxy_to(engine, &upstream);
        let mut client = Client::connect(&server);
        for _ in 0..3 {
            client.send(GET);
            assert_eq!(client.read_response().text(), "first");
        }
        assert_eq!(upstream.accepted(), 3);
        expect_log(&server, &["more bytes behind its answer"]);
    }

    fn interim_answers_pass(engine: Engine) {
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x\r\n\r\n";
        let upstream = Upstream::answering(format!("{hints}HTTP/1.1 100 Continue\r\n\r\n{}", ok("x")));
        let server = proxy_to(engine, &upstream);
        let mut client = Client::connect(&server);
        for _ in 0..2 {
            client.send(GET);
            let early = client.read_response();
            assert_eq!((early.status, early.field("Link")), (103, Some("</a.css>; rel=preload")));
            assert!(early.field("Connection").is_none());
            assert_eq!(client.read_response().text(), "x", "100 is for nobody");
        }
        drop(client);
        let mut old = Client::connect(&server);
        old.send("GET / HTTP/1.0\r\n\r\n");
        assert_eq!(old.read_response().text(), "x");
        drop(old);
        let endless = Upstream::start(move |link| {
            link.head()?;
            loop {
                link.say(hints)?;
            }
        });
        let server = proxy_to(engine, &endless);
        let mut client = Client::connect(&server);
        client.send(GET);
        assert_eq!(client.read_final_response().status, 502);
    }

    fn who_waits_for_100_gets_it_from_the_upstream(engine: Engine) {
        let upstream = Upstream::start(|link| {
            while let Some(head) = link.head()? {
                if head.starts_with("PUT /no") {
                    link.say("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")?;
                    return Ok(());
                }
                assert_eq!(field(&head, "expect"), Some("100-continue"));
                assert!(link.buffer.is_empty());
                link.say("HTTP/1.1 100 Continue\r\n\r\n")?;
                let content = link.content(&head)?;
                link.say(ok(std::str::from_utf8(&content).unwrap()))?;
            }
            Ok(())
        });
        let server = proxy_to(engine, &upstream);
        let mut client = Client::connect(&server);
        client.send("PUT /yes HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(client.read_response().status, 100);
        client.send("hello");
        assert_eq!(client.read_response().text(), "hello");
        client.send("PUT /no HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        let refused = client.read_response();
        assert!(refused.status == 417 && refused.says_close(), "{refused:?}");
        client.expect_closed();
    }

    fn an_early_answer_reaches_who_still_sends(engine: Engine) {
        for resets in [false, true] {
            let upstream = Upstream::start(move |link| {
                link.head()?;
                link.say("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")?;
                if !resets {
                    link.stream.shutdown(Shutdown::Write)?;
                    while link.fill()? > 0 {}
                }
                Ok(())
            });
            let server = proxy_to(engine, &upstream);
            let mut client = Client::connect(&server);
            client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n");
            // Until the server does not take it any more, as a browser would.
            let piece = vec![b'x'; 50_000];
            for _ in 0..100 {
                if client.is_answered() || client.try_send(&piece).is_err() {
                    break;
                }
            }
            let response = client.read_response();
            assert_eq!((response.status, response.text().as_str()), (413, "big"), "resets: {resets}");
            assert!(response.says_close());
        }
    }

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

    fn an_idle_connection_that_was_closed_costs_no_request(engine: Engine) {
        let upstream = Upstream::start(|link| {
            // One answer each, and the close comes with the next request.
            let head = link.head()?;
            link.content(&head.unwrap_or_default())?;
            link.say(ok("x"))?;
            link.fill()?;
            Ok(())
        });
        let server = proxy_to(engine, &upstream);
        let mut client = Client::connect(&server);
        for _ in 0..5 {
            client.send(GET);
            assert_eq!(client.read_response().status, 200);
        }
        assert_eq!(upstream.accepted(), 5);
        // What may have done something is not sent twice.
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab");
        assert_eq!(client.read_response().status, 502);
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab");
        assert_eq!(client.read_response().status, 200);
    }

    fn a_new_connection_that_fails_is_not_tried_again(engine: Engine) {
        let upstream = Upstream::start(|link| link.head().map(drop));
        let server = proxy_to(engine, &upstream);
        let mut client = Client::connect(&server);
        client.send(GET);
        assert_eq!(client.read_response().status, 502);
        assert_eq!(upstream.accepted(), 1);
    }

    fn a_socket_in_the_file_system_is_an_upstream(engine: Engine) {
        let folder = TempDir::new();
        let path = folder.join("app.sock");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut room = [0; 4096];
                    while stream.read(&mut room).is_ok_and(|count| count > 0) {
                        stream.write_all(ok("unix").as_bytes()).unwrap();
                    }
                });
            }
        });
        let server = proxy(engine, &format!("/=unix:{}", path.display()), &[]);
        let mut client = Client::connect(&server);
        for _ in 0..3 {
            client.send(GET);
            assert_eq!(client.read_response().text(), "unix");
        }
        let server = proxy(engine, "/=unix:/nonexistent/app.sock", &[]);
        let mut client = Client::connect(&server);
        client.send(GET);
        assert_eq!(client.read_response().status, 502);
    }

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

    fn a_server_of_ours_is_an_upstream_too(engine: Engine) {
        let store = TempDir::new();
        let inner = Setup::on(engine).args(["--directory", store.arg()]).start();
        let address = inner.address();
        let server = proxy(engine, &format!("/=http://{address}"), &[]);
        let content = noise(2_000_000);
        let mut client = Client::connect(&server);
        client.send(format!("PUT /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", content.len()));
        client.send(&content);
        assert_eq!(client.read_response().status, 201);
        client.send("GET /files/f HTTP/1.1\r\nHost: x\r\nRange: bytes=1000-1999\r\n\r\n");
        let part = client.read_response();
        assert!(part.status == 206 && part.body == content[1000..2000]);
        client.send("GET /files/f HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(client.read_response().body == content);
        client.send("GET /files/none HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.read_response().status, 404);
    }

    fn nothing_is_smuggled(engine: Engine) {
        let upstream = Upstream::answering(ok("x"));
        let server = proxy_to(engine, &upstream);
        for framing in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Content-Length: 5\r\nContent-Length: 6",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding : chunked",
            "Transfer-Encoding: chunked, identity",
            "Content-Length: +5",
            "X: y\n Content-Length: 5",
        ] {
            let mut client = Client::connect(&server);
            client.send(format!("POST / HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert!(client.read_response().status >= 400, "{framing}");
            client.read_to_end();
        }
        assert_eq!(upstream.heads().len(), 0, "{:?}", upstream.heads());
        // Connection can't name away what frames or routes.
        let mut client = Client::connect(&server);
        client.send("POST / HTTP/1.1\r\nHost: x\r\nConnection: content-length, host, transfer-encoding\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(client.read_response().status, 200);
        assert_eq!(field(&upstream.last_head(), "content-length"), Some("5"));
        assert_eq!(field(&upstream.last_head(), "host"), Some("x"));
    }

    /// PROXY_REQUESTS=100000 makes it the long run.
    fn idle_connections_closed_at_random_fail_no_request(engine: Engine) {
        let count: usize = std::env::var("PROXY_REQUESTS").ok().and_then(|count| count.parse().ok()).unwrap_or(2000);
        let upstream = Upstream::start(|link| {
            let mut state = 0x9E37_79B9_u64.wrapping_mul(link.number as u64 + 1);
            while link.head()?.is_some() {
                link.say(ok("x"))?;
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                if state.is_multiple_of(10) {
                    return Ok(());
                }
                if state % 10 == 1 {
                    thread::sleep(Duration::from_micros(state % 500));
                    return Ok(());
                }
            }
            Ok(())
        });
        let server = Setup::on(engine)
            .args(["--proxy", &format!("/=http://{}", upstream.address), "--access-log", "off"])
            .start();
        let clients = if engine == Engine::Iterative { 1 } else { 8 };
        thread::scope(|scope| {
            for _ in 0..clients {
                scope.spawn(|| {
                    let mut client = Client::connect(&server);
                    for number in 0..count / clients {
                        client.send(GET);
                        let response = client.read_response();
                        assert_eq!(response.status, 200, "request {number}: {}", server.stderr());
                    }
                });
            }
        });
        assert_eq!(upstream.heads().len() / clients, count / clients);
        println!("{count} requests over {} upstream connections", upstream.accepted());
    }

    #[skip(Iterative, "serves one client at a time")]
    fn an_upstream_that_hangs_delays_nobody_else(engine: Engine) {
        let upstream = Upstream::start(|link| {
            while let Some(head) = link.head()? {
                if head.starts_with("GET /slow") {
                    thread::sleep(Duration::from_secs(1));
                }
                link.say(ok("x"))?;
            }
            Ok(())
        });
        let server = proxy_to(engine, &upstream);
        let start = Instant::now();
        let mut slow = Client::connect(&server);
        slow.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut client = Client::connect(&server);
        for _ in 0..20 {
            client.send(GET);
            assert_eq!(client.read_response().status, 200);
        }
        assert!(start.elapsed() < Duration::from_millis(900));
        assert_eq!(slow.read_response().status, 200);
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

#[test]
fn flags_that_make_no_sense_are_usage_errors() {
    let folder = TempDir::new();
    let cases: [&[&str]; 12] = [
        &["--proxy", "api=http://127.0.0.1:1"],
        &["--proxy", "/api=127.0.0.1:1"],
        &["--proxy", "/api=https://127.0.0.1:1"],
        &["--proxy", "/api=http://127.0.0.1:1?q"],
        &["--proxy", "/api=unix:relative"],
        &["--proxy", "/api=http://127.0.0.1:1/a,http://127.0.0.1:2/b"],
        &["--proxy", "/=http://127.0.0.1:1", folder.arg()],
        &["--proxy", "/=http://127.0.0.1:1", "--directory", folder.arg()],
        &["--proxy-buffer"],
        &["--proxy-timeout", "5s"],
        &["--trusted-proxy", "10.0.0.0/8"],
        &["--proxy", "/a=http://127.0.0.1:1", "--trusted-proxy", "10.0.0.0/33"],
    ];
    for args in cases {
        let outcome = run(args);
        assert_eq!(outcome.code, Some(2), "{args:?}: {}", outcome.stderr);
    }
    let unknown = run(&["--proxy", "/a=http://no-such-host.invalid:1"]);
    assert_eq!(unknown.code, Some(1), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("no-such-host.invalid"), "{}", unknown.stderr);
}
