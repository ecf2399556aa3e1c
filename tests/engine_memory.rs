//! The server frees the memory that clients have used after they have gone.

mod common;

use common::{Client, Setup, noise, on_every_engine};
use std::thread;
use std::time::{Duration, Instant};

const CLIENTS: usize = 24;

on_every_engine! {
    /// Each client sends content that the answer holds in escaped form, several times as long, and does not read the
    /// answer.
    #[skip(Pool, "has as many answers at once as workers")]
    #[skip(Iterative, "has one answer at once")]
    fn large_contents_and_answers_are_held_once_and_then_no_more(engine: Engine) {
        let server = Setup::on(engine).args(["--debug-endpoints"]).start();
        let length = 512 * 1024;
        let head = |path| format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        let text = vec![b'<'; length];
        let noise = noise(length);
        let mut first = Client::connect(&server);
        first.send("GET /echo/x HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(first.read_response().status, 200);
        let before = server.memory("VmRSS");
        for (path, content) in [("/debug/request", &text), ("/debug/request", &noise), ("/", &noise)] {
            thread::scope(|scope| {
                for _ in 0..CLIENTS {
                    scope.spawn(|| {
                        let mut client = Client::connect(&server);
                        socket2::SockRef::from(client.stream()).set_recv_buffer_size(4096).unwrap();
                        client.send([head(path).as_bytes(), content].concat());
                        assert_eq!(client.read_head().status, 200);
                        // The server writes until the client's receive buffer is full.
                        thread::sleep(Duration::from_millis(200));
                    });
                }
            });
        }
        // The contents of all clients are 12 MiB together, and 72 MiB in escaped form.
        let peak = server.memory("VmHWM").saturating_sub(before);
        assert!(peak < 40 * 1024, "{peak} KiB at the highest");
        let until = Instant::now() + Duration::from_secs(20);
        let left = loop {
            let left = server.memory("VmRSS").saturating_sub(before);
            if left < 20 * 1024 || Instant::now() > until {
                break left;
            }
            thread::sleep(Duration::from_millis(100));
        };
        assert!(left < 20 * 1024, "{left} KiB are left; {peak} KiB at the highest");
        eprintln!("{}: {before} KiB before, {peak} KiB more at the highest, {left} KiB more after", engine.name());
    }
}
