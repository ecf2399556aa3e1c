//! Shutdown by a signal does not wait for clients that are owed no answer.

mod common;

use common::{Client, Engine, PATIENCE, Server, Setup, on_every_engine};
use std::thread;
use std::time::{Duration, Instant};

const REQUEST: &str = "GET /echo/x HTTP/1.1\r\nHost: x\r\n\r\n";
/// Far shorter than every timeout of these servers, and far longer than a shutdown takes on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// A server whose timeouts are so long that none of them ends a connection.
fn patient(engine: Engine) -> Server {
    let mut setup = Setup::on(engine).args(["--grace-period", "60s"]);
    for flag in ["--header-timeout", "--keep-alive-timeout", "--body-timeout", "--write-timeout"] {
        setup = setup.args([flag, "600s"]);
    }
    setup.start()
}

/// A name, what the client has sent, and whether it has received an answer before the signal.
const OWED_NOTHING: [(&str, &str, bool); 8] = [
    ("nothing", "", false),
    ("half a head", "GET /echo/x HTTP/1.1\r\nHo", false),
    ("a request", REQUEST, true),
    ("a request and half a head", "GET /echo/x HTTP/1.1\r\nHost: x\r\n\r\nGET /echo/y HT", true),
    ("half an empty line", "\r", false),
    ("content after its answer", "GET /echo/x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf", true),
    (
        "chunks after their answer",
        "GET /echo/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal",
        true,
    ),
    ("a request that is refused", "GET /echo/x HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf", true),
];

on_every_engine! {
    fn a_client_that_is_owed_no_answer_does_not_delay_the_end(engine: Engine) {
        for (what, sent, answered) in OWED_NOTHING {
            let mut server = patient(engine);
            let mut client = Client::connect(&server);
            client.send(sent);
            if answered {
                client.read_response();
            }
            // By then the server most likely waits. If it does not, the test still holds.
            thread::sleep(Duration::from_millis(50));
            let began = Instant::now();
            server.signal("TERM");
            assert_eq!(server.await_exit(PATIENCE).code(), Some(0), "{what}");
            assert!(began.elapsed() < SOON, "{what}: it took {:?}", began.elapsed());
        }
    }

    fn half_a_head_is_told_that_its_time_is_over(engine: Engine) {
        let mut server = patient(engine);
        let mut client = Client::connect(&server);
        client.send("GET /echo/x HTTP/1.1\r\nHo");
        thread::sleep(Duration::from_millis(50));
        server.signal("TERM");
        let answer = client.read_response();
        assert_eq!(answer.status, 408);
        assert!(answer.says_close(), "{answer:?}");
        client.expect_closed();
        assert_eq!(server.await_exit(PATIENCE).code(), Some(0));
    }
}
