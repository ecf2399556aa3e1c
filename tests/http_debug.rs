//! The endpoints for testing clients (`--debug-endpoints`).

mod common;

use common::{Client, Engine, Framing, PATIENCE, Response, Server, TempDir, exchange, get, on_every_engine, run};
use std::time::{Duration, Instant};

fn debug_server(engine: common::Engine) -> Server {
    Server::start_on(engine, &["--debug-endpoints"])
}

fn ask(server: &Server, method: &str, path: &str, rest: &str) -> Response {
    exchange(server, format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{rest}"))
}

/// One address below each route.
const PATHS: [&str; 13] = [
    "/debug/request",
    "/debug/status/200",
    "/debug/delay/0",
    "/debug/drip?duration=0",
    "/debug/bytes/5",
    "/debug/stream/2",
    "/debug/redirect/1",
    "/debug/cookies",
    "/debug/cookies/set?a=b",
    "/debug/cookies/delete?a",
    "/cookies",
    "/cookies/set?a=b",
    "/cookies/delete?a",
];

on_every_engine! {
    fn debug_endpoints_are_off_by_default(engine: Engine) {
        let server = Server::start_on(engine, &[]);
        for path in PATHS {
            assert_eq!(get(&server, path).status, 404, "{path}");
        }
        assert_eq!(ask(&server, "POST", "/", "Content-Length: 1\r\n\r\nx").status, 405);
        assert!(!server.stderr().contains("/debug/"));
    }

    fn the_banner_lists_the_debug_endpoints(engine: Engine) {
        let server = debug_server(engine);
        let banner = server.stderr();
        for path in PATHS {
            let route = path.trim_end_matches(|c: char| c.is_ascii_digit()).split('?').next().unwrap();
            let printed = banner.lines().any(|line| line.trim_start().starts_with(route));
            assert!(printed, "{route} in {banner}");
        }
    }

    fn head_and_options_work_wherever_get_does(engine: Engine) {
        let server = debug_server(engine);
        for path in PATHS {
            let full = get(&server, path);
            let head = ask(&server, "HEAD", path, "\r\n");
            assert_eq!(head.status, full.status, "{path}");
            if path != "/debug/request" {
                assert_eq!(head.lasting_fields(), full.lasting_fields(), "{path}");
            }
            let options = ask(&server, "OPTIONS", path, "\r\n");
            assert_eq!(options.status, 204, "{path}");
            assert!(options.allowed().starts_with(&["DELETE".into()]) || options.allowed() == ["GET", "HEAD", "OPTIONS"]);
            let refused = ask(&server, "TRACE", path, "\r\n");
            assert_eq!((refused.status, refused.allowed()), (405, options.allowed()), "{path}");
        }
    }

    fn the_prefix_can_be_chosen(engine: Engine) {
        let server = Server::start_on(engine, &["--debug-endpoints", "--debug-prefix", "/try/it/"]);
        assert_eq!(get(&server, "/try/it/delay/0").status, 200);
        assert_eq!(get(&server, "/debug/delay/0").status, 404);
        assert_eq!(get(&server, "/try/it/redirect/1").field("Location"), Some("/try/it/redirect/0"));
        assert_eq!(get(&server, "/try/it/cookies/set?a=b").field("Location"), Some("/try/it/cookies"));
    }

    fn a_request_is_shown_as_it_came(engine: Engine) {
        let server = debug_server(engine);
        let request = "POST /debug/./request?b=1&a=x%20y+z&b=2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                       X-Twice: 1\r\nx-odd:\t\"quoted\" \\ <b>\r\nX-Twice: 2\r\nContent-Length: 6\r\n\r\nhello\n";
        let answer = exchange(&server, request);
        assert_eq!((answer.status, answer.media_type().as_str()), (200, "application/json"));
        let expected = concat!(
            "{\n",
            "  \"method\": \"POST\",\n",
            "  \"target\": \"/debug/./request?b=1\\u0026a=x%20y+z\\u0026b=2\",\n",
            "  \"path\": \"/debug/request\",\n",
            "  \"query\": [\n    [\"b\", \"1\"],\n    [\"a\", \"x y z\"],\n    [\"b\", \"2\"]],\n",
            "  \"version\": \"HTTP/1.1\",\n",
            "  \"peer\": \"127.0.0.1\",\n",
            "  \"fields\": [\n    [\"Host\", \"localhost\"],\n    [\"Connection\", \"close\"],\n",
            "    [\"X-Twice\", \"1\"],\n    [\"x-odd\", \"\\\"quoted\\\" \\\\ \\u003Cb\\u003E\"],\n",
            "    [\"X-Twice\", \"2\"],\n    [\"Content-Length\", \"6\"]],\n",
            "  \"body\": \"hello\\n\",\n",
            "  \"body_encoding\": \"text\",\n",
            "  \"body_length\": 6\n",
            "}\n",
        );
        assert_eq!(answer.text(), expected);
    }

    fn every_method_is_shown_and_content_that_is_no_text_is_base64(engine: Engine) {
        let server = debug_server(engine);
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let chunked = "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
            let text = ask(&server, method, "/debug/request", chunked).text();
            assert!(text.contains(&format!("\"method\": \"{method}\"")) && text.contains("\"body\": \"abc\""), "{text}");
            let empty = ask(&server, method, "/debug/request", "\r\n").text();
            assert!(empty.contains("\"body\": \"\"") && empty.contains("\"body_length\": 0"), "{empty}");
        }
        let start = "PUT /debug/request HTTP/1.0\r\nContent-Length: 3\r\n\r\n";
        let text = exchange(&server, [start.as_bytes(), b"\xff\0a"].concat()).text();
        assert!(text.contains("\"body\": \"/wBh\"") && text.contains("\"base64\""), "{text}");
        assert!(text.contains("\"version\": \"HTTP/1.0\""), "{text}");
    }

    fn content_is_kept_up_to_a_mebibyte(engine: Engine) {
        let server = debug_server(engine);
        let limit = 1024 * 1024;
        let head = |length| format!("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
        let content = common::noise(limit);
        let answer = exchange(&server, [head(limit).as_bytes(), &content].concat());
        assert!(answer.status == 200 && answer.body == content);

        // Content-Length announces too much content: it is refused before it is sent.
        let mut client = Client::connect(&server);
        client.send(head(limit + 1).replace("Connection: close", "Expect: 100-continue"));
        assert_eq!(client.read_response().status, 413);
        drop(client);

        // The length is not announced: the content is refused when it exceeds the limit.
        let mut client = Client::connect(&server);
        client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..17 {
            let _ = client.try_send([b"10000\r\n", &content[..65536], b"\r\n"].concat());
        }
        assert_eq!(client.read_response().status, 413);
        client.expect_closed();
    }

    fn a_post_to_the_first_page_comes_back(engine: Engine) {
        let site = TempDir::new();
        site.write("index.html", "home");
        let server = Server::start_on(engine, &["--debug-endpoints", site.arg()]);
        let answer = ask(&server, "POST", "/", "Content-Type: text/plain;charset=x\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
        assert_eq!(answer.field("Content-Type"), Some("text/plain;charset=x"));
        assert_eq!(answer.content_length(), Some(5));
        for rest in ["Content-Length: 2\r\n\r\n\0\n", "Content-Type:\r\nContent-Length: 2\r\n\r\n\0\n"] {
            let answer = ask(&server, "POST", "/", rest);
            assert_eq!((answer.field("Content-Type"), answer.body.as_slice()), (Some("application/octet-stream"), &b"\0\n"[..]));
        }
        assert_eq!(ask(&server, "POST", "/", "\r\n").content_length(), Some(0));
        // The site is at the same path, and Allow names the methods of both.
        assert_eq!(get(&server, "/").text(), "home");
        for method in ["OPTIONS", "PUT"] {
            assert_eq!(ask(&server, method, "/", "\r\n").allowed(), ["GET", "HEAD", "OPTIONS", "POST"]);
        }
        let refused = ask(&server, "POST", "/index.html", "\r\n");
        assert_eq!((refused.status, refused.allowed()), (405, vec!["GET".into(), "HEAD".into(), "OPTIONS".into()]));
    }

    fn content_is_invited_where_it_is_wanted(engine: Engine) {
        let server = debug_server(engine);
        for path in ["/", "/debug/request"] {
            let mut client = Client::connect(&server);
            client.send(format!("POST {path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"));
            assert_eq!(client.read_response().status, 100, "{path}");
            client.send("hello");
            let answer = client.read_response();
            assert!(answer.status == 200 && answer.text().contains("hello"), "{path}: {}", answer.text());
        }
    }

    fn every_final_status_can_be_had(engine: Engine) {
        let server = debug_server(engine);
        let mut client = Client::connect(&server);
        for code in 200..=599_u16 {
            client.send(format!("GET /debug/status/{code} HTTP/1.1\r\nHost: x\r\n\r\n"));
            let answer = client.read_response();
            assert_eq!(answer.status, code);
            match code {
                204 | 304 => assert_eq!((answer.framing, answer.content_length()), (Framing::None, None), "{code}"),
                205 => assert_eq!(answer.content_length(), Some(0)),
                _ => assert!(answer.text().starts_with(&code.to_string()), "{code}: {}", answer.text()),
            }
            // RFC 9110, section 15: the fields that the status requires.
            let demanded = match code {
                206 => "Content-Range",
                301 | 302 | 303 | 307 | 308 => "Location",
                401 => "WWW-Authenticate",
                405 => "Allow",
                407 => "Proxy-Authenticate",
                426 => "Upgrade",
                _ => "Date",
            };
            assert!(answer.field(demanded).is_some(), "{demanded} in {answer:?}");
        }
        drop(client);
        assert_eq!(ask(&server, "PUT", "/debug/status/503", "Content-Length: 1\r\n\r\nx").status, 503);
    }

    fn arguments_that_make_no_sense_are_told_so(engine: Engine) {
        let server = debug_server(engine);
        for path in [
            "status/", "status/100", "status/199", "status/600", "status/+200", "status/0200", "status/20", "status/2x0",
            "status/200/", "delay/", "delay/-1", "delay/1e1", "delay/60.1", "delay/inf", "delay/.5", "delay/1/2",
            "drip?bytes=x", "drip?bytes=10485761", "drip?duration=61", "drip?delay=-1", "drip?other=1",
            "bytes/", "bytes/-1", "bytes/10737418241", "bytes/99999999999999999999", "bytes/5?seed=x", "bytes/5?x=1",
            "stream/", "stream/x", "stream/1000001", "redirect/", "redirect/101", "redirect/x", "cookies/set",
        ] {
            let answer = ask(&server, "GET", &format!("/debug/{path}"), "Accept: text/plain\r\n\r\n");
            assert_eq!(answer.status, 400, "{path}");
            assert!(answer.text().lines().nth(1).is_some_and(|sentence| sentence.ends_with('.')), "{}", answer.text());
        }
        assert_eq!(get(&server, "/debug/nothing").status, 404);
        assert_eq!(get(&server, "/debug/request/x").status, 404);
    }

    fn a_delay_takes_its_time(engine: Engine) {
        let server = debug_server(engine);
        let start = Instant::now();
        let answer = get(&server, "/debug/delay/0.3");
        let took = start.elapsed();
        assert_eq!((answer.status, answer.text().as_str()), (200, "This took 0.3 seconds.\n"));
        assert!(took >= Duration::from_millis(300), "{took:?}");
    }

    #[skip(Iterative, "serves one client at a time")]
    fn many_delays_run_side_by_side(engine: Engine) {
        // Each delay holds a thread of the pool, even after its client has left. The default is twenty threads.
        let pool: &[&str] = if engine == Engine::Pool { &["--pool-size", "40"] } else { &[] };
        let server = Server::start_on(engine, &[&["--debug-endpoints"], pool].concat());
        let waiting = |seconds: u32| -> Vec<Client> {
            let mut clients: Vec<Client> = (0..15).map(|_| Client::connect(&server)).collect();
            let request = format!("GET /debug/delay/{seconds} HTTP/1.1\r\nHost: x\r\n\r\n");
            clients.iter_mut().for_each(|client| client.send(&request));
            clients
        };
        let longest = waiting(60);
        assert_eq!(get(&server, "/echo/quick").text(), "quick");
        assert!(!longest.iter().any(Client::is_answered), "a delay holds up others");
        drop(longest);
        let start = Instant::now();
        waiting(2).iter_mut().for_each(|client| assert_eq!(client.read_response().status, 200));
        // One after the other, the delays would take thirty seconds.
        assert!(start.elapsed() < Duration::from_secs(25), "one delay follows another");
    }

    fn a_delayed_reply_reaches_a_half_closed_client(engine: Engine) {
        let server = debug_server(engine);
        let mut client = Client::connect(&server);
        client.send("GET /debug/delay/0.2 HTTP/1.1\r\nHost: x\r\n\r\nGET /echo/behind HTTP/1.1\r\nHost: x\r\n\r\n");
        client.finish_sending();
        assert_eq!(client.read_response().status, 200);
        assert_eq!(client.read_response().text(), "behind");
        client.expect_closed();
    }

    fn a_delay_under_way_is_finished_at_shutdown(engine: Engine) {
        let mut server = debug_server(engine);
        let mut client = Client::connect(&server);
        // The server reads both requests with one call: the second has begun when the first is answered.
        client.send("GET /echo/x HTTP/1.1\r\nHost: x\r\n\r\nGET /debug/delay/0.7 HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.read_response().text(), "x");
        server.signal("TERM");
        let answer = client.read_response();
        assert!(answer.status == 200 && answer.says_close(), "{answer:?}");
        client.expect_closed();
        assert!(server.await_exit(PATIENCE).success());
    }

    fn the_grace_period_ends_a_delay(engine: Engine) {
        let mut server = Server::start_on(engine, &["--debug-endpoints", "--grace-period", "300ms"]);
        let mut client = Client::connect(&server);
        client.send("GET /debug/delay/60 HTTP/1.1\r\nHost: x\r\n\r\n");
        std::thread::sleep(Duration::from_millis(200));
        server.signal("TERM");
        assert!(server.await_exit(PATIENCE).success());
        client.expect_closed();
    }

    fn a_drip_comes_bit_by_bit(engine: Engine) {
        let server = debug_server(engine);
        let mut client = Client::connect(&server);
        let start = Instant::now();
        client.send("GET /debug/drip?bytes=4&duration=0.4&delay=0.1 HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.read_head().content_length(), Some(4));
        let mut times = Vec::new();
        while times.len() < 4 {
            let count = client.read_some(&mut [0; 64]).unwrap();
            times.extend(std::iter::repeat_n(start.elapsed(), count));
        }
        for (index, time) in times.iter().enumerate() {
            assert!(*time >= Duration::from_millis(200 + 100 * index as u64), "byte {index} after {time:?}");
        }
        // The connection persists.
        client.send("GET /debug/drip?bytes=100000&duration=0.1 HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.read_response().body, vec![b'*'; 100_000]);
        client.send("GET /debug/drip?bytes=0&duration=0 HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.read_response().body, b"");
    }

    fn a_drip_outlasts_the_write_timeout(engine: Engine) {
        let server = Server::start_on(engine, &["--debug-endpoints", "--write-timeout", "200ms"]);
        assert_eq!(get(&server, "/debug/drip?bytes=2&duration=1").text(), "**");
    }

    fn bytes_are_as_many_as_asked_and_the_same_for_the_same_seed(engine: Engine) {
        let server = debug_server(engine);
        for length in [0, 1, 7, 8, 4096, 1_000_003] {
            let answer = get(&server, &format!("/debug/bytes/{length}"));
            assert_eq!((answer.content_length(), answer.body.len()), (Some(length), length));
            assert_eq!(answer.media_type(), "application/octet-stream");
        }
        let body = |path: &str| get(&server, path).body;
        assert_eq!(body("/debug/bytes/100"), body("/debug/bytes/200")[..100]);
        assert_eq!(body("/debug/bytes/100"), body("/debug/bytes/100?seed=0"));
        assert_ne!(body("/debug/bytes/100"), body("/debug/bytes/100?seed=1"));
    }

    fn the_most_bytes_are_never_in_memory(engine: Engine) {
        let server = debug_server(engine);
        let mut client = Client::connect(&server);
        client.send("GET /debug/bytes/10737418240 HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.read_head().content_length(), Some(10_737_418_240));
        let mut room = vec![0; 65536];
        let mut read = 0;
        while read < 50_000_000 {
            read += client.read_some(&mut room).unwrap();
        }
        assert!(server.memory("VmHWM") < 60 * 1024, "{} KiB", server.memory("VmHWM"));
    }

    fn a_stream_is_chunked_or_ends_with_the_connection(engine: Engine) {
        let server = debug_server(engine);
        let expected = "{\"line\":1,\"of\":3}\n{\"line\":2,\"of\":3}\n{\"line\":3,\"of\":3}\n";
        let mut client = Client::connect(&server);
        client.send("GET /debug/stream/3 HTTP/1.1\r\nHost: x\r\n\r\n");
        let answer = client.read_response();
        assert_eq!((answer.framing, answer.text().as_str()), (Framing::Chunked, expected));
        client.send("GET /debug/stream/0 HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.read_response().text(), "");
        client.send("GET /debug/stream/20000 HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.read_response().text().lines().count(), 20_000);
        drop(client);
        let old = exchange(&server, "GET /debug/stream/3 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!((old.framing, old.text().as_str()), (Framing::Close, expected));
    }

    fn a_line_of_a_stream_is_a_chunk(engine: Engine) {
        let server = debug_server(engine);
        let mut client = Client::connect(&server);
        client.send("GET /debug/stream/2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        client.read_head();
        let chunks = "12\r\n{\"line\":1,\"of\":2}\n\r\n12\r\n{\"line\":2,\"of\":2}\n\r\n0\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&client.read_to_end()), chunks);
    }

    fn redirections_lead_down_to_an_answer(engine: Engine) {
        let server = debug_server(engine);
        let mut path = "/debug/redirect/3".to_owned();
        for _ in 0..3 {
            let answer = get(&server, &path);
            assert_eq!(answer.status, 302, "{path}");
            path = answer.field("Location").unwrap().to_owned();
        }
        assert_eq!((path.as_str(), get(&server, &path).status), ("/debug/redirect/0", 200));
    }
}

#[test]
fn flags_that_make_no_sense_are_usage_errors() {
    for flags in [
        &["--debug-prefix", "/x/"][..],
        &["--debug-endpoints", "--debug-prefix", "x"],
        &["--debug-endpoints", "--debug-prefix", "/"],
        &["--debug-endpoints", "--debug-prefix", "/echo/"],
        &["--debug-endpoints", "--debug-prefix", "/files/", "--directory", "."],
    ] {
        let outcome = run(flags);
        assert_eq!(outcome.code, Some(2), "{flags:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("--debug-prefix"), "{}", outcome.stderr);
    }
}
