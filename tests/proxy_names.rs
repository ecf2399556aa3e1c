//! The reverse proxy: upstreams that are given by name. The addresses of a name change while the server runs: it has a
//! mount namespace of its own, in which /etc/hosts is a file of the test. If that is not possible, the test says so and
//! is skipped.

mod common;

use common::upstream::*;
use common::{Client, Engine, PATIENCE, Server, Setup, TempDir, eventually, on_every_engine};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process::Command;
use std::thread;

/// The files that resolve names in the namespace of a server.
struct Resolution {
    folder: TempDir,
    wrapper: Vec<String>,
}

impl Resolution {
    /// `None` if there are no namespaces; then a line says why.
    fn new(hosts: &str) -> Option<Resolution> {
        let folder = TempDir::new();
        let (hosts, resolv) = (folder.write("hosts", hosts), folder.write("resolv.conf", "nameserver 127.0.0.1\n"));
        let mounts = format!(
            "mount --bind '{}' /etc/hosts && mount --bind '{}' /etc/resolv.conf && exec \"$@\"",
            hosts.display(),
            resolv.display()
        );
        for namespace in ["-m", "-rm"] {
            let wrapper: Vec<_> = ["unshare", namespace, "sh", "-c", &mounts, "sh"].map(str::to_owned).into();
            let tried = Command::new(&wrapper[0]).args(&wrapper[1..]).arg("true").output();
            if tried.is_ok_and(|output| output.status.success()) {
                return Some(Resolution { folder, wrapper });
            }
        }
        eprintln!("skipped: there are no mount namespaces here");
        None
    }

    /// Overwrites the file in place, because the mount is of this file.
    fn set(&self, hosts: &str) {
        std::fs::write(self.folder.join("hosts"), hosts).unwrap();
    }

    fn start(&self, engine: Engine, mount: &str) -> Server {
        let wrapper: Vec<&str> = self.wrapper.iter().map(String::as_str).collect();
        Setup::on(engine).through(&wrapper).args(["--proxy", mount]).start()
    }
}

/// The status and the content of an answer.
fn ask(client: &mut Client) -> (u16, String) {
    client.send(GET);
    let response = client.read_response();
    (response.status, response.text())
}

/// Answers one request and closes the listener.
fn answer_once(listener: TcpListener, body: &'static str) {
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        drop(listener);
        let _ = stream.read(&mut [0; 4096]);
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length";
        let _ = stream.write_all(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes());
    });
}

fn serve(listener: TcpListener, body: &'static str) -> Upstream {
    Upstream::on(listener, move |link| {
        while link.head()?.is_some() {
            link.say(ok(body))?;
        }
        Ok(())
    })
}

/// Listeners on several loopback addresses, all with one port.
fn listeners<const N: usize>(addresses: [Ipv4Addr; N]) -> (u16, [TcpListener; N]) {
    eventually("a port that is free on all addresses", || {
        let first = TcpListener::bind((addresses[0], 0)).ok()?;
        let port = first.local_addr().unwrap().port();
        let rest = addresses[1..].iter().map(|address| TcpListener::bind((*address, port)).ok());
        let all: Option<Vec<_>> = std::iter::once(Some(first)).chain(rest).collect();
        Some((port, all?.try_into().unwrap()))
    })
}

const ONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

on_every_engine! {
    fn a_name_that_moves_to_another_address_is_followed(engine: Engine) {
        let Some(resolution) = Resolution::new(&format!("{ONE} app.test\n")) else { return };
        let (port, [one, other]) = listeners([ONE, OTHER]);
        answer_once(one, "one");
        let server = resolution.start(engine, &format!("/=http://app.test:{port}"));
        let mut client = Client::connect(&server);
        assert_eq!(ask(&mut client), (200, "one".into()));
        let _other = serve(other, "other");
        resolution.set(&format!("{OTHER} app.test\n"));
        let answer = eventually("the other address is used", || Some(ask(&mut client)).filter(|(status, _)| *status == 200));
        assert_eq!(answer.1, "other", "{}", server.stderr());
        for _ in 0..10 {
            assert_eq!(ask(&mut client), (200, "other".into()));
        }
        expect_log(&server, &["app.test", "now stands for", &OTHER.to_string()]);
    }

    fn the_addresses_from_before_serve_while_a_name_is_not_found(engine: Engine) {
        // Nobody listens at the first address: each time it is tried, the name is looked up again.
        let Some(resolution) = Resolution::new(&format!("{ONE} app.test\n{OTHER} app.test\n")) else { return };
        let (port, [_, other]) = listeners([ONE, OTHER]);
        let _other = serve(other, "other");
        let server = resolution.start(engine, &format!("/=http://app.test:{port}"));
        let mut client = Client::connect(&server);
        resolution.set("");
        eventually("the name is looked up in vain", || {
            assert_eq!(ask(&mut client), (200, "other".into()));
            server.stderr().contains("the addresses from before are used").then_some(())
        });
        for _ in 0..10 {
            assert_eq!(ask(&mut client), (200, "other".into()));
        }
        assert_eq!(server.stderr().matches("cannot be looked up").count(), 1, "{}", server.stderr());
    }

    fn a_name_that_is_not_known_at_the_start_may_come_later(engine: Engine) {
        let Some(resolution) = Resolution::new("") else { return };
        let (port, [one]) = listeners([ONE]);
        let _one = serve(one, "one");
        let server = resolution.start(engine, &format!("/=http://app.test:{port}"));
        expect_log(&server, &["app.test", "cannot be looked up", "misspelt"]);
        let mut client = Client::connect(&server);
        assert_eq!(ask(&mut client).0, 502);
        resolution.set(&format!("{ONE} app.test\n"));
        let answer = eventually("the name is known", || Some(ask(&mut client)).filter(|(status, _)| *status == 200));
        assert_eq!(answer.1, "one");
    }

    /// All addresses of a name are tried for one request.
    fn another_address_of_the_name_takes_over(engine: Engine) {
        let Some(resolution) = Resolution::new(&format!("{ONE} app.test\n{OTHER} app.test\n")) else { return };
        let (port, [one, other]) = listeners([ONE, OTHER]);
        answer_once(one, "one");
        let _other = serve(other, "other");
        let server = resolution.start(engine, &format!("/=http://app.test:{port}"));
        let mut client = Client::connect(&server);
        let answers = [(); 10].map(|()| ask(&mut client));
        assert_eq!(answers[0], (200, "one".into()));
        assert!(answers[1..].iter().all(|answer| *answer == (200, "other".into())), "{answers:?}");
    }

    /// A silent name server delays no client, and not the end of the server.
    fn a_lookup_that_hangs_delays_nothing(engine: Engine) {
        let Some(resolution) = Resolution::new("") else { return };
        let address = Ipv4Addr::new(127, 99, 0, engine as u8 + 1);
        let Ok(_silent) = UdpSocket::bind((address, 53)) else {
            return eprintln!("skipped: the port of name servers cannot be had");
        };
        let resolv = format!("nameserver {address}\noptions timeout:30 attempts:5\n");
        std::fs::write(resolution.folder.join("resolv.conf"), resolv).unwrap();
        let mut server = resolution.start(engine, "/=http://app.test:80");
        expect_log(&server, &["app.test", "still being looked up"]);
        let mut client = Client::connect(&server);
        for _ in 0..5 {
            assert_eq!(ask(&mut client).0, 502);
        }
        server.signal("TERM");
        assert!(server.await_exit(PATIENCE).success());
    }
}

#[test]
fn only_a_name_needs_a_thread() {
    let threads = |server: &Server| std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().count();
    let upstream = Upstream::answering(ok("x"));
    let port = upstream.address.port();
    for (host, expected) in [("127.0.0.1", 1), ("localhost", 2)] {
        let server = proxy(Engine::Event, &format!("/=http://{host}:{port}"), &[]);
        let mut client = Client::connect(&server);
        assert_eq!(ask(&mut client), (200, "x".into()));
        assert_eq!(threads(&server), expected, "{host}");
    }
}
