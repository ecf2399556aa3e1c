//! Deployments: in front of gunicorn, behind nginx, behind HAProxy. A test whose program is missing says so and is
//! skipped; `scripts/deployments` installs gunicorn and makes the long runs.

mod common;

use common::upstream::{Upstream, field, ok};
use common::{Client, Engine, PATIENCE, Server, Setup, TempDir, eventually, free_port, noise, on_every_engine};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A program that the test started, ended by its id in Drop.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // SIGTERM, so that the program ends its workers too.
        let pid = self.0.id().to_string();
        let _ = Command::new("sh").args(["-c", "kill -s TERM \"$0\"", &pid]).status();
        let until = Instant::now() + PATIENCE;
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(program: &str, args: &[&str], folder: &Path) -> Option<Program> {
    let mut command = Command::new(program);
    command.args(args).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null());
    let log = std::fs::File::create(folder.join("program.log")).unwrap();
    match command.stderr(log).spawn() {
        Ok(child) => Some(Program(child)),
        Err(error) => {
            eprintln!("skipped: {program} cannot be started: {error}");
            None
        }
    }
}

fn await_port(port: u16, folder: &Path) -> SocketAddr {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    eventually("the program listens", || {
        let said = || std::fs::read_to_string(folder.join("program.log")).unwrap_or_default();
        TcpStream::connect(address).map_err(|_| said()).ok().map(drop)
    });
    address
}

// ---- before gunicorn

const APP: &str = r#"
def app(environ, start_response):
    body = environ["wsgi.input"].read()
    names = ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "HTTP_HOST", "HTTP_X_FORWARDED_FOR", "HTTP_VIA")
    if environ["PATH_INFO"] == "/echo":
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]
    if environ["PATH_INFO"] == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return (b"%d\n" % number for number in range(1000))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [("%s=%s\n" % (name, environ.get(name))).encode() for name in names]
"#;

/// The path of a Python that has gunicorn. `None` if there is none; then a line says why.
fn python_with_gunicorn() -> Option<String> {
    let python = std::env::var("GUNICORN_PYTHON").unwrap_or_else(|_| "python3".into());
    let asked = Command::new(&python).args(["-c", "import gunicorn"]).stderr(Stdio::null()).status();
    if asked.is_ok_and(|status| status.success()) {
        return Some(python);
    }
    eprintln!("skipped: {python} has no gunicorn; scripts/deployments brings one");
    None
}

/// One worker. It keeps connections only if it has several `threads`.
fn gunicorn(folder: &TempDir, bind: &str, threads: &str) -> Option<Program> {
    folder.write("plain.py", APP);
    let args = ["-m", "gunicorn", "--bind", bind, "--threads", threads, "--keep-alive", "1", "plain:app"];
    start(&python_with_gunicorn()?, &args, folder.path())
}

// ---- behind a proxy

/// nginx as in its manual: a pool of kept connections, and upgrades.
fn nginx_conf(port: u16, behind: SocketAddr) -> String {
    format!(
        "daemon off; user root; worker_processes 1; pid nginx.pid; error_log stderr warn;
        events {{ worker_connections 256; }}
        http {{
            access_log off; client_max_body_size 100m;
            client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
            map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
            upstream dustdevil {{ server {behind}; keepalive 8; }}
            server {{
                listen 127.0.0.1:{port};
                location / {{
                    proxy_pass http://dustdevil; proxy_http_version 1.1;
                    proxy_set_header Host $http_host; proxy_set_header Upgrade $http_upgrade;
                    proxy_set_header Connection $connection_upgrade;
                    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto https;
                }}
            }}
        }}"
    )
}

fn haproxy_cfg(port: u16, behind: SocketAddr) -> String {
    format!(
        "global\n  maxconn 256\ndefaults\n  mode http\n  option forwardfor\n  option httpchk GET /f\n  http-reuse always\n  \
         timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n  timeout tunnel 30s\n\
         frontend front\n  bind 127.0.0.1:{port}\n  http-request set-header X-Forwarded-Proto https\n  default_backend back\n\
         backend back\n  server one {behind} check inter 200ms\n"
    )
}

/// The server behind the proxy: files, a store, and an upstream that answers with the fields about the client.
struct Behind {
    server: Server,
    upstream: Upstream,
    _folder: TempDir,
}

fn behind(engine: Engine) -> Behind {
    let folder = TempDir::new();
    folder.write("root/f", noise(100_000));
    std::fs::create_dir(folder.join("store")).unwrap();
    let upstream = Upstream::start(|link| {
        while let Some(head) = link.head()? {
            if field(&head, "upgrade").is_some() {
                link.say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")?;
                let early = std::mem::take(&mut link.buffer);
                link.say(early)?;
                while link.fill()? > 0 {
                    let more = std::mem::take(&mut link.buffer);
                    link.say(more)?;
                }
                return Ok(());
            }
            let content = link.content(&head)?;
            link.say(ok(&content.len().to_string()))?;
        }
        Ok(())
    });
    let (root, store) = (folder.join("root"), folder.join("store"));
    let mount = format!("/up=http://{}", upstream.address);
    let args = ["--directory", store.to_str().unwrap(), "--proxy", &mount, "--trusted-proxy", "127.0.0.1"];
    let server = Setup::on(engine).args([root.to_str().unwrap()]).args(args).start();
    Behind { server, upstream, _folder: folder }
}

/// Sends through a proxy in front everything that it may pass on.
fn check_through(front: SocketAddr, behind: &Behind) {
    let file = noise(100_000);
    let mut client = Client::connect_to(front);
    let mut ask = |request: &str| {
        client.send(request);
        if request.starts_with("HEAD") { client.read_response_to_head() } else { client.read_response() }
    };
    let whole = ask("GET /f HTTP/1.1\r\nHost: site.example\r\n\r\n");
    assert!(whole.status == 200 && whole.body == file);
    let tag = whole.field("ETag").unwrap().to_owned();
    let part = ask("GET /f HTTP/1.1\r\nHost: site.example\r\nRange: bytes=100-299\r\n\r\n");
    assert!(part.status == 206 && part.body == file[100..300]);
    assert_eq!(ask(&format!("GET /f HTTP/1.1\r\nHost: x\r\nIf-None-Match: {tag}\r\n\r\n")).status, 304);
    let head = ask("HEAD /f HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((head.status, head.field("Content-Length")), (200, Some("100000")));
    assert_eq!(ask("GET /none HTTP/1.1\r\nHost: x\r\n\r\n").status, 404);
    for _ in 0..100 {
        assert_eq!(ask("GET /f HTTP/1.1\r\nHost: x\r\n\r\n").status, 200);
    }
    // The fields of the proxy in front are believed and added to.
    assert_eq!(ask("POST /up/x HTTP/1.1\r\nHost: site.example\r\nContent-Length: 5\r\n\r\nhello").text(), "5");
    let seen = behind.upstream.last_head();
    assert_eq!(field(&seen, "host"), Some("site.example"));
    assert_eq!(field(&seen, "x-forwarded-for"), Some("127.0.0.1, 127.0.0.1"));
    assert_eq!(field(&seen, "x-forwarded-proto"), Some("https"));
    // Uploads with and without a known length.
    let content = noise(3_000_000);
    client.send(format!("PUT /files/a HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", content.len()));
    client.send(&content);
    assert_eq!(client.read_response().status, 201);
    client.send("PUT /files/b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for piece in content.chunks(50_000) {
        client.send(format!("{:x}\r\n", piece.len()));
        client.send(piece);
        client.send("\r\n");
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.read_response().status, 201);
    for name in ["a", "b"] {
        client.send(format!("GET /files/{name} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(client.read_response().body == content, "{name}");
    }
    // And an upgrade through both servers.
    let mut tunnel = Client::connect_to(front);
    tunnel.send("GET /up/t HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
    assert_eq!(tunnel.read_response().status, 101);
    tunnel.send("ping");
    let mut room = [0; 4];
    let mut read = 0;
    while read < 4 {
        read += tunnel.read_some(&mut room[read..]).unwrap();
    }
    assert_eq!(&room, b"ping");
}

on_every_engine! {
    fn the_proxy_works_in_front_of_gunicorn(engine: Engine) {
        let folder = TempDir::new();
        let socket = folder.join("gunicorn.sock");
        let Some(_gunicorn) = gunicorn(&folder, &format!("unix:{}", socket.display()), "1") else { return };
        eventually("gunicorn listens", || std::os::unix::net::UnixStream::connect(&socket).ok());
        let server = Setup::on(engine).args(["--proxy", &format!("/=unix:{}", socket.display()), "--proxy-buffer"]).start();
        let mut client = Client::connect(&server);
        client.send("GET /a%20b?c=d HTTP/1.1\r\nHost: site.example:81\r\n\r\n");
        let page = client.read_response().text();
        for line in ["PATH_INFO=/a b", "QUERY_STRING=c=d", "HTTP_HOST=site.example:81", "HTTP_X_FORWARDED_FOR=127.0.0.1"] {
            assert!(page.lines().any(|other| other == line), "{line} in {page}");
        }
        client.send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.read_response().text().lines().count(), 1000);
        let content = noise(2_000_000);
        client.send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(format!("{:x}\r\n", content.len()));
        client.send(&content);
        client.send("\r\n0\r\n\r\n");
        assert!(client.read_response().body == content);
        drop(client);
        // Clients that send slowly: gunicorn has one worker, and none of them may hold it.
        let clients = if engine == Engine::Iterative { 0 } else { 15 };
        let slow: Vec<_> = (0..clients).map(|_| {
            let mut slow = Client::connect(&server);
            slow.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nnot all");
            slow
        }).collect();
        let start = Instant::now();
        let mut client = Client::connect(&server);
        for _ in 0..20 {
            client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
            assert_eq!(client.read_response().status, 200);
        }
        assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
        drop(slow);
    }

    /// gunicorn closes connections that are idle for a second. No request may be lost to that.
    fn idle_connections_that_gunicorn_closes_cost_no_request(engine: Engine) {
        let folder = TempDir::new();
        let port = free_port();
        let Some(_gunicorn) = gunicorn(&folder, &format!("127.0.0.1:{port}"), "4") else { return };
        let address = await_port(port, folder.path());
        let server = Setup::on(engine).args(["--proxy", &format!("/=http://{address}")]).start();
        let mut client = Client::connect(&server);
        for pause in [0, 0, 900, 950, 1000, 1050, 1100] {
            thread::sleep(Duration::from_millis(pause));
            client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
            assert_eq!(client.read_response().status, 200, "after {pause} ms: {}", server.stderr());
        }
    }

    #[skip(Iterative, "serves one client at a time, and the connections that nginx keeps are several")]
    fn the_server_works_behind_nginx(engine: Engine) {
        let behind = behind(engine);
        let (folder, port) = (TempDir::new(), free_port());
        folder.write("nginx.conf", nginx_conf(port, behind.server.address()));
        let prefix = format!("{}/", folder.arg());
        let Some(_nginx) = start("nginx", &["-p", &prefix, "-c", "nginx.conf"], folder.path()) else { return };
        check_through(await_port(port, folder.path()), &behind);
    }

    #[skip(Iterative, "serves one client at a time, and the connections that HAProxy keeps are several")]
    fn the_server_works_behind_haproxy(engine: Engine) {
        let behind = behind(engine);
        let (folder, port) = (TempDir::new(), free_port());
        folder.write("haproxy.cfg", haproxy_cfg(port, behind.server.address()));
        let Some(_haproxy) = start("haproxy", &["-db", "-f", "haproxy.cfg"], folder.path()) else { return };
        check_through(await_port(port, folder.path()), &behind);
    }
}
