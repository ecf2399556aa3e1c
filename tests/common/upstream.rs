//! Upstreams for the tests of the reverse proxy. Some behave correctly and some do not. Each is a few lines over a
//! socket.

use super::{Engine, PATIENCE, Server, Setup, eventually};
use socket2::{Domain, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A server to which the proxy forwards requests. The test decides what it does with a connection.
pub struct Upstream {
    pub address: SocketAddr,
    pub accepted: Arc<AtomicUsize>,
    /// How many connections have ended.
    pub ended: Arc<AtomicUsize>,
    /// The bytes of every head that was read.
    pub heads: Arc<Mutex<Vec<String>>>,
}

/// One connection to an upstream, at the upstream's side.
pub struct Link {
    pub stream: TcpStream,
    pub buffer: Vec<u8>,
    /// The number of the connection, counted from 0.
    pub number: usize,
    pub heads: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    pub fn start(serve: impl Fn(&mut Link) -> io::Result<()> + Send + Sync + 'static) -> Upstream {
        Upstream::on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), serve)
    }

    pub fn on(listener: TcpListener, serve: impl Fn(&mut Link) -> io::Result<()> + Send + Sync + 'static) -> Upstream {
        let address = listener.local_addr().unwrap();
        let (accepted, heads, serve) =
            (Arc::new(AtomicUsize::new(0)), Arc::<Mutex<Vec<_>>>::default(), Arc::new(serve));
        let ended = Arc::<AtomicUsize>::default();
        let (count, kept, over) = (accepted.clone(), heads.clone(), ended.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_nodelay(true).unwrap();
                let number = count.fetch_add(1, Ordering::SeqCst);
                let mut link = Link { stream, buffer: Vec::new(), number, heads: kept.clone() };
                let (serve, over) = (serve.clone(), over.clone());
                thread::spawn(move || {
                    // The client's side checks how the connection has ended.
                    let _ = serve(&mut link);
                    over.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Upstream { address, accepted, ended, heads }
    }

    /// An upstream that answers every request with the same bytes, after it has read the request's content.
    pub fn answering(answer: impl AsRef<[u8]> + Send + Sync + 'static) -> Upstream {
        Upstream::start(move |link| {
            while let Some(head) = link.head()? {
                link.content(&head)?;
                link.say(&answer)?;
            }
            Ok(())
        })
    }

    /// An upstream that answers every request with the request's content.
    pub fn echoing() -> Upstream {
        Upstream::start(|link| {
            while let Some(head) = link.head()? {
                let content = link.content(&head)?;
                link.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", content.len()))?;
                link.say(&content)?;
            }
            Ok(())
        })
    }

    /// An upstream that reads a head, and then neither reads nor answers.
    pub fn silent() -> Upstream {
        Upstream::start(|link| {
            link.head()?;
            thread::sleep(PATIENCE * 2);
            Ok(())
        })
    }

    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    pub fn last_head(&self) -> String {
        self.heads().pop().expect("a request came through")
    }
}

/// A socket that listens, but completes no further connection: its backlog is full and it accepts none.
pub struct FullBacklog {
    pub listener: TcpListener,
    pub address: SocketAddr,
    _waiting: Vec<Socket>,
}

impl FullBacklog {
    pub fn new() -> FullBacklog {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        socket.listen(1).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let connect = |_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address.into());
            socket
        };
        // On Linux a backlog of 1 holds two connections.
        let waiting = (0..8).map(connect).collect();
        FullBacklog { listener, address, _waiting: waiting }
    }
}

impl Link {
    /// Reads the next head. None if the connection ends instead.
    pub fn head(&mut self) -> io::Result<Option<String>> {
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

    /// Reads the content that a head announces, and decodes chunks.
    pub fn content(&mut self, head: &str) -> io::Result<Vec<u8>> {
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

    pub fn say(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    pub fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 65536];
        let count = self.stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..count]);
        Ok(count)
    }

    /// Resets the connection.
    pub fn reset(&self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// The value of a field of a head. `name` is in lower case.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = || head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

pub fn proxy_to(engine: Engine, upstream: &Upstream) -> Server {
    proxy(engine, &format!("/=http://{}", upstream.address), &[])
}

pub fn proxy(engine: Engine, mount: &str, more: &[&str]) -> Server {
    Setup::on(engine).args(["--proxy", mount]).args(more).start()
}

pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

pub const GET: &str = "GET /x HTTP/1.1\r\nHost: site.example\r\n\r\n";

/// Waits for a line on standard error that holds all these words.
pub fn expect_log(server: &Server, words: &[&str]) {
    eventually(&format!("a line with {words:?} in {}", server.stderr()), || {
        server.stderr().lines().any(|line| words.iter().all(|word| line.contains(word))).then_some(())
    });
}
