//! Clients that connect while the application is still being imported.

mod common;

use common::python::has_python;
use common::{Client, Setup, TempDir, on_every_engine};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Its import waits until there is a file named `go` beside it.
const SOURCE: &str = "
import os, time
while not os.path.exists('go'):
    time.sleep(0.01)
def app(environ, start_response):
    start_response('200 OK', [('Content-Length', '2')])
    return [b'ok']
";

on_every_engine! {
    /// A client that sends only half a head keeps a thread until the header timeout, not forever.
    fn a_client_that_comes_during_the_import_has_its_timeouts(engine: Engine) {
        if !has_python() {
            return;
        }
        let folder = TempDir::new();
        folder.write("slow.py", SOURCE);
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let server = Setup::on(engine)
            .args(["--wsgi", "slow:app", "--wsgi-chdir", folder.arg(), "--port", &port.to_string()])
            .args(["--header-timeout", "1s", "--bind", "127.0.0.1"])
            .args(engine.pool_size(1))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .silent_at(address)
            .start();
        let mut early = Client::connect(&server);
        early.send("GET / HT");
        folder.write("go", "");
        let mut other = Client::connect(&server);
        other.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert_eq!(other.read_response().text(), "ok");
        assert_eq!(early.read_response().status, 408);
    }
}
