//! A route with its own rules: they hold for its requests, and for no other request on the same connection.

use super::*;
use crate::app::rules::Rules;

/// A server whose /echo/ and /debug/ have rules of their own.
fn open() -> Connection {
    let words = ["dustdevil", env!("CARGO_MANIFEST_DIR"), "--debug-endpoints", "--header=X-Rules: own"];
    let config = Config::from_args(words).unwrap();
    let mut app = App::new(&config).unwrap();
    for path in ["/echo/", "/debug/delay/", "/"] {
        let mut rules = config.rules.clone();
        rules.responses.headers = vec![format!("X-Rules: of {path}").parse().unwrap()];
        rules.responses.cors = (path == "/echo/").then(|| "*".parse().unwrap());
        rules.body_size = 3;
        app.routes.give(path, Rules::new(&rules, None).unwrap());
    }
    Connection::new(app)
}

fn rules_of(answer: &str) -> Vec<&str> {
    answer.lines().filter_map(|line| line.strip_prefix("X-Rules: ")).collect()
}

#[test]
fn each_answer_has_the_fields_of_its_route() {
    let mut ends = open();
    ends.get("/echo/x");
    ends.get("/user-agent");
    ends.get("/Cargo.toml");
    ends.get("/debug/delay/1");
    ends.pass(1000);
    assert_eq!(rules_of(&ends.received()), ["of /echo/", "own", "of /", "of /debug/delay/"]);
    // A method that the route does not allow, then a head that is refused before a route is found.
    ends.send("POST /echo/x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\nBROKEN\r\n\r\n");
    assert_eq!(rules_of(&ends.received()), ["of /echo/", "own"]);
}

#[test]
fn only_a_route_with_cors_answers_preflights() {
    let mut ends = open();
    for (path, expected) in [("/echo/x", true), ("/user-agent", false), ("/Cargo.toml", false)] {
        let fields = "Host: x\r\nAccess-Control-Request-Method: GET\r\n\r\n";
        ends.send(format!("OPTIONS {path} HTTP/1.1\r\n{fields}"));
        assert_eq!(ends.received().contains("Access-Control-Allow-Methods"), expected, "{path}");
    }
}

#[test]
fn each_route_limits_its_content() {
    for (path, status) in [("/user-agent", 405), ("/echo/x", 413), ("/debug/delay/0", 413)] {
        let mut ends = open();
        ends.send(format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n1234"));
        assert_eq!(ends.statuses(), [status], "{path}");
    }
    // Chunked: the length is not announced, so the content is counted while it is received. With --debug-endpoints,
    // POST / is an endpoint.
    let mut ends = open();
    ends.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n1234\r\n0\r\n\r\n");
    assert_eq!(ends.statuses(), [413]);
}
