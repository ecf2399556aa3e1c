//! At the limit of connections, or when all threads of a pool have one, an idle connection is closed for a new client.

mod common;

use common::upstream::Upstream;
use common::{Client, Engine, PATIENCE, Server, Setup, TempDir, eventually, on_every_engine};
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

const REQUEST: &str = "GET /echo/x HTTP/1.1\r\nHost: x\r\n\r\n";
/// Timeouts so long that none of them ends a connection in these tests.
const PATIENT: [&str; 4] = ["--keep-alive-timeout", "10m", "--header-timeout", "10m"];

/// A server that allows `count` connections at once.
fn server_for(engine: Engine, count: usize) -> Server {
    let setup = Setup::on(engine).args(PATIENT).args(engine.pool_size(count));
    setup.args(["--max-connections", &count.to_string()]).start()
}

/// A server with 64 descriptors, which opens a file for each request.
fn with_few_descriptors(engine: Engine, site: &TempDir, more: &[&str]) -> Server {
    let few = ["sh", "-c", "ulimit -n 64; exec \"$@\"", "sh"];
    let setup =
        Setup::on(engine).args([site.arg()]).args(PATIENT).args(["--cache-size", "0"]).args(engine.pool_size(100));
    setup.args(more).through(&few).start()
}

/// How many of the 64 descriptors are in use. An inherited one may have a number above the limit.
fn descriptors(server: &Server) -> usize {
    let names = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().flatten();
    names
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse().is_ok_and(|fd: u32| fd < 64)))
        .count()
}

/// The status of the answer to a request on an open connection.
fn status(client: &mut Client, path: &str) -> u16 {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    client.read_response().status
}

/// A client that has been answered and keeps its connection.
fn settled(server: &Server) -> Client {
    let mut client = Client::connect(server);
    client.send(REQUEST);
    assert_eq!(client.read_response().text(), "x");
    client
}

/// Whether the server has closed the connection without a reset. A reset fails the test.
fn is_closed(client: &Client) -> bool {
    if !client.is_answered() {
        return false;
    }
    assert_eq!(client.stream().read(&mut [0]).expect("an orderly close"), 0);
    true
}

/// Connects from another address of this machine.
fn connect_from(ip: [u8; 4], server: &Server) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((ip, 0)).into()).unwrap();
    socket.connect(&server.address().into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Waits until idle connections have been idle for long enough to be closed.
fn let_them_idle(engine: Engine) {
    thread::sleep(Duration::from_millis(if engine == Engine::Pool { 1100 } else { 150 }));
}

on_every_engine! {
    #[skip(Iterative, "has one connection: the next test")]
    fn the_longest_idle_gives_way_and_the_others_stay(engine: Engine) {
        let server = server_for(engine, 3);
        let mut idle: Vec<Client> = (0..3).map(|_| settled(&server)).collect();
        let_them_idle(engine);
        // The first connection has just been served, so the others are closed before it.
        idle[0].send(REQUEST);
        assert_eq!(idle[0].read_response().text(), "x");
        let _third = settled(&server);
        // Either of the other two may be closed: a thread may be late to note that its connection is idle.
        let closed = || idle.iter().filter(|client| is_closed(client)).count();
        eventually("one of the longer idle to be closed", || (closed() == 1).then_some(()));
        assert!(!is_closed(&idle[0]));
        let _fourth = settled(&server);
        eventually("the next to be closed", || (closed() == 2).then_some(()));
        assert!(!is_closed(&idle[0]));
        idle[0].send(REQUEST);
        assert_eq!(idle[0].read_response().text(), "x");
    }

    fn one_that_never_spoke_gives_way_too(engine: Engine) {
        let server = server_for(engine, 1);
        let silent = Client::connect(&server);
        for _ in 0..2 {
            drop(settled(&server));
        }
        assert!(is_closed(&silent));
    }

    fn nobody_is_closed_while_nobody_waits(engine: Engine) {
        let count = if engine == Engine::Iterative { 1 } else { 4 };
        let server = server_for(engine, count);
        let mut idle: Vec<Client> = (0..count).map(|_| settled(&server)).collect();
        // Longer than a connection must be idle, on any engine, before it may be closed.
        thread::sleep(Duration::from_millis(1800));
        for client in &mut idle {
            client.send(REQUEST);
            assert_eq!(client.read_response().text(), "x");
        }
    }

    #[skip(Iterative, "serves one client at a time")]
    fn who_is_under_way_is_not_closed(engine: Engine) {
        let server = server_for(engine, 2);
        let mut busy: Vec<Client> = (0..2).map(|_| settled(&server)).collect();
        busy.iter_mut().for_each(|client| client.send("GET /echo/x HTTP/1.1\r\nHo"));
        let_them_idle(engine);
        let mut waiting = Client::connect(&server);
        waiting.send(REQUEST);
        thread::sleep(Duration::from_millis(1800));
        assert!(!waiting.is_answered());
        for client in &mut busy {
            client.send("st: x\r\n\r\n");
            assert_eq!(client.read_response().text(), "x");
        }
        assert_eq!(waiting.read_response().text(), "x");
    }

    #[skip(Iterative, "serves one client at a time")]
    fn the_address_that_holds_the_most_gives_way_first(engine: Engine) {
        let server = server_for(engine, 5);
        let mut oldest = settled(&server);
        let_them_idle(engine);
        let many: Vec<TcpStream> = (0..4).map(|_| connect_from([127, 0, 0, 2], &server)).collect();
        eventually("all to be in", || (server.sockets() >= 5).then_some(()));
        let_them_idle(engine);
        let newcomers: Vec<Client> = (0..2).map(|_| settled(&server)).collect();
        let is_closed_stream = |stream: &TcpStream| {
            stream.set_nonblocking(true).unwrap();
            let read = stream.peek(&mut [0]);
            read.is_ok_and(|count| count == 0)
        };
        eventually("two of the many to be closed", || {
            (many.iter().filter(|stream| is_closed_stream(stream)).count() == 2).then_some(())
        });
        oldest.send(REQUEST);
        assert_eq!(oldest.read_response().text(), "x");
        assert!(newcomers.iter().all(|client| !is_closed(client)));
    }

    /// Like `curl --parallel`, which opens a connection for every transfer at once, and keeps them open.
    #[skip(Iterative, "would take a second for each of them")]
    fn more_clients_than_places_are_all_served(engine: Engine) {
        let server = server_for(engine, 25);
        let mut clients: Vec<Client> = (0..32).map(|_| Client::connect(&server)).collect();
        clients.iter_mut().for_each(|client| client.send(REQUEST));
        for client in &mut clients {
            assert_eq!(client.read_response().text(), "x");
        }
    }

    /// Far more clients than descriptors. Each request opens a file that is not in the cache.
    #[skip(Iterative, "has one connection")]
    fn idle_ones_give_way_when_descriptors_run_out(engine: Engine) {
        let site = TempDir::new();
        let server = with_few_descriptors(engine, &site, &[]);
        let mut clients = Vec::new();
        for index in 0..84 {
            let name = format!("{index}.txt");
            site.write(&name, &name);
            let mut client = Client::connect(&server);
            client.send(format!("GET /{name} HTTP/1.1\r\nHost: x\r\n\r\n"));
            clients.push((client, name));
            if index % 6 == 5 {
                for (client, name) in &mut clients[index - 5..] {
                    assert_eq!(client.read_response().text(), *name);
                }
                if index > 30 {
                    let_them_idle(engine);
                }
            }
        }
        assert!(server.sockets() < 64 && clients.iter().any(|(client, _)| is_closed(client)));
        assert!(server.stderr().matches("cannot accept").count() <= 1, "{}", server.stderr());
    }

    /// A burst takes every descriptor before any connection is idle for long enough to be closed.
    #[skip(Iterative, "has one connection")]
    fn a_burst_gives_back_the_descriptors_that_files_and_upstreams_need(engine: Engine) {
        let (site, upstream) = (TempDir::new(), Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
        let mount = format!("/p=http://{}", upstream.address);
        let server = with_few_descriptors(engine, &site, &["--proxy", &mount]);
        let mut burst: Vec<Client> = (0..74).map(|_| Client::connect(&server)).collect();
        burst.iter_mut().for_each(|client| client.send(REQUEST));
        burst.iter_mut().for_each(|client| assert_eq!(client.read_response().text(), "x"));
        // No client comes, and no request.
        eventually("the spare descriptors to be back", || (descriptors(&server) <= 56).then_some(()));
        let mut new = Vec::new();
        for index in 0..24 {
            site.write(format!("{index}.txt"), "x");
            let mut client = Client::connect(&server);
            assert_eq!(status(&mut client, &format!("/{index}.txt")), 200, "connection {index}");
            assert_eq!(status(&mut client, "/p/x"), 200, "connection {index}");
            new.push(client);
            // The threads of closed connections have their time to end.
            eventually("free descriptors", || (descriptors(&server) <= 60).then_some(()));
        }
        assert!(burst.iter().filter(|client| !is_closed(client)).count() >= 8, "more are closed than is needed");
        assert!(server.stderr().matches("cannot accept").count() <= 1, "{}", server.stderr());
    }

    /// Here exchanges with an upstream take the descriptors, and nothing is accepted.
    #[skip(Iterative, "has one connection")]
    fn a_request_that_lacks_a_descriptor_makes_idle_connections_give_way(engine: Engine) {
        let (site, upstream) = (TempDir::new(), Upstream::silent());
        site.write("a.txt", "x");
        let mount = format!("/p=http://{}", upstream.address);
        let server = with_few_descriptors(engine, &site, &["--proxy", &mount]);
        let mut clients: Vec<Client> = (0..30).map(|_| settled(&server)).collect();
        let mut kept = clients.pop().unwrap();
        for client in &mut clients {
            if status(&mut kept, "/a.txt") == 503 {
                break;
            }
            let before = upstream.accepted();
            client.send("GET /p/x HTTP/1.1\r\nHost: x\r\n\r\n");
            eventually("the upstream's connection, or 503", || {
                (upstream.accepted() > before || client.is_answered() || descriptors(&server) >= 64).then_some(())
            });
        }
        eventually("the file to be sent", || (status(&mut kept, "/a.txt") == 200).then_some(()));
        assert!(clients.iter().any(is_closed));
        assert_eq!(server.stderr().matches("no descriptor is left").count(), 1, "{}", server.stderr());
    }

    /// Each accepted client makes the server free a thread for the next: no client waits for a timer.
    #[skip(Iterative, "has one connection")]
    fn many_clients_that_wait_are_let_in_together(engine: Engine) {
        let server = server_for(engine, 60);
        let idle: Vec<Client> = (0..60).map(|_| settled(&server)).collect();
        let_them_idle(engine);
        let began = Instant::now();
        let mut clients: Vec<Client> = (0..60).map(|_| Client::connect(&server)).collect();
        clients.iter_mut().for_each(|client| client.send(REQUEST));
        for client in &mut clients {
            assert_eq!(client.read_response().text(), "x");
        }
        assert!(began.elapsed() < Duration::from_secs(4), "it took {:?}", began.elapsed());
        assert!(idle.iter().all(is_closed));
    }

    #[skip(Pool, "a worker's idle connection has a second: this would take minutes")]
    #[skip(Iterative, "the same")]
    fn a_flood_of_silent_clients_shuts_nobody_out(engine: Engine) {
        let server = server_for(engine, 200);
        let mut flood: Vec<TcpStream> = Vec::new();
        for _ in 0..5 {
            flood.extend((0..200).map(|_| connect_from([127, 0, 0, 3], &server)));
            drop(settled(&server));
        }
        assert!(server.sockets() < 220, "{} sockets", server.sockets());
    }
}
