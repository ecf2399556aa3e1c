//! The reverse proxy: which parts of a request reach the upstream, and at which path.

mod common;

use common::upstream::*;
use common::{Client, Setup, TempDir, noise, on_every_engine, run};

on_every_engine! {
    fn a_request_passes_with_its_own_fields_and_ours(engine: Engine) {
        let upstream = Upstream::answering("HTTP/1.1 200 Fine\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: theirs\r\n\
            Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nX-Kept: 2\r\nContent-Length: 5\r\n\r\nhello");
        let server = proxy_to(engine, &upstream);
        let mut client = Client::connect(&server);
        client.send("GET /a/./%7eb?q=%7e HTTP/1.1\r\nHost: site.example:81\r\nConnection: x-private, close\r\nX-Private: 1\r\n\
            X-Public: 2\r\nTE: trailers\r\nKeep-Alive: x\r\nProxy-Connection: y\r\nX-Forwarded-For: 6.6.6.6\r\n\
            X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\nX-Forwarded-Port: 1\r\nX-Real-IP: 6.6.6.6\r\nProxy: x\r\n\
            Front-End-Https: on\r\nX-Scheme: https\r\nX-Original-URL: /admin\r\nClient_IP: 6.6.6.6\r\n\
            Proxy-Authorization: x\r\nVia: 1.0 before\r\nX_Forwarded_For: 6.6.6.6\r\nContent_Length: 9\r\nX_Own: 3\r\n\r\n");
        let response = client.read_response();
        assert_eq!((response.status, response.reason.as_str(), response.text().as_str()), (200, "Fine", "hello"));
        assert_eq!(response.field("Server"), Some("theirs"));
        assert_eq!(response.field("Date"), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
        assert_eq!(response.field("X-Kept"), Some("2"));
        assert_eq!(response.field("Via"), Some("1.1 dustdevil"));
        assert!(response.field("X-Hop").is_none() && response.field("Keep-Alive").is_none() && response.says_close());
        client.expect_closed();
        let head = upstream.last_head();
        assert!(head.starts_with("GET /a/./%7eb?q=%7e HTTP/1.1\r\n"), "{head}");
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
            ("proxy-authorization", None),
            ("proxy", None),
            ("x-forwarded-port", None),
            ("x-real-ip", None),
            ("front-end-https", None),
            ("x-scheme", None),
            ("x-original-url", None),
            ("client_ip", None),
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
            X-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\nX-Forwarded-Host: outer\r\nForwarded: for=1.2.3.4\r\n\r\n");
        assert_eq!(client.read_response().status, 200);
        let head = upstream.last_head();
        assert_eq!(field(&head, "x-forwarded-for"), Some("1.2.3.4, 5.6.7.8, 127.0.0.1"));
        assert_eq!(field(&head, "x-forwarded-proto"), Some("https"));
        assert_eq!(field(&head, "x-forwarded-host"), Some("outer"));
        assert_eq!(field(&head, "x-forwarded-port"), Some("443"));
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

    /// Every byte behind the prefix arrives unchanged, with the first slash.
    fn what_is_behind_a_prefix_arrives_to_the_byte(engine: Engine) {
        let upstream = Upstream::answering(ok("x"));
        let api = [("/api", ""), ("/api?q", "?q"), ("/api/", "/"), ("/api/?q", "/?q"), ("/api//x", "//x"), ("/apix", "404")];
        let all = [("/", "/"), ("/?q", "/?q"), ("//x", "//x"), ("/x", "/x"), ("//", "//"), ("/./x", "/./x")];
        for (prefix, replacement, own, cases) in [
            ("/api", "", "/api", api),
            ("/api", "/", "/", api),
            ("/api", "/v1", "/v1", api),
            ("/api", "/v1/", "/v1/", api),
            ("/api/", "", "404", api),
            ("/api/", "/", "404", api),
            ("/api/", "/v1", "404", api),
            ("/api/", "/v1/", "404", api),
            ("/", "", "", all),
            ("/", "/", "/", all),
            ("/", "/v1", "/v1", all),
            ("/", "/v1/", "/v1/", all),
        ] {
            let server = proxy(engine, &format!("{prefix}=http://{}{replacement}", upstream.address), &[]);
            let start = if replacement.is_empty() { prefix } else { replacement }.trim_end_matches('/');
            let mut client = Client::connect(&server);
            for (path, rest) in cases {
                let passed = upstream.heads().len();
                client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
                let status = client.read_response().status;
                let arrived = upstream.heads().get(passed).map(|head| head.split(' ').nth(1).unwrap().to_owned());
                let expected = match rest {
                    "404" => None,
                    "" | "?q" if own == "404" => None,
                    "" | "?q" => Some(format!("{own}{rest}")),
                    rest => Some(format!("{start}{rest}")),
                };
                assert_eq!(arrived, expected, "{prefix} {replacement:?} {path}");
                assert_eq!(status, if expected.is_some() { 200 } else { 404 }, "{prefix} {replacement:?} {path}");
            }
        }
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
        for (request, status) in [
            ("OPTIONS /x HTTP/1.1\r\nMax-Forwards: 0", 204),
            ("TRACE /x HTTP/1.1", 405),
            ("OPTIONS * HTTP/1.1", 204),
        ] {
            client.send(format!("{request}\r\nHost: x\r\n\r\n"));
            let response = client.read_response();
            assert_eq!(response.status, status, "{request}");
            assert!(response.field("Allow").is_some_and(|allow| allow.contains("OPTIONS")), "{request}");
        }
        client.send("CONNECT site.example:443 HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.read_response().status, 405);
        assert_eq!(upstream.heads().len(), passed, "{:?}", upstream.heads());
    }

    fn trace_goes_as_far_as_it_may(engine: Engine) {
        let upstream = Upstream::answering(ok("theirs"));
        let server = proxy(engine, &format!("/=http://{}", upstream.address), &["--trace-method"]);
        let mut client = Client::connect(&server);
        client.send("TRACE /x HTTP/1.1\r\nHost: x\r\nMax-Forwards: 1\r\n\r\n");
        assert_eq!(client.read_response().text(), "theirs");
        assert_eq!(field(&upstream.last_head(), "max-forwards"), Some("0"));
        client.send("TRACE /x HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n");
        let own = client.read_response();
        assert!(own.text().starts_with("TRACE /x HTTP/1.1\r\n"), "{}", own.text());
        assert_eq!(upstream.heads().len(), 1);
    }

    fn a_path_is_passed_as_it_came(engine: Engine) {
        let upstream = Upstream::answering(ok("x"));
        let (kept, deep) = (format!("/kept=http://{}", upstream.address), format!("/deep=http://{}/v1", upstream.address));
        let server = Setup::on(engine).args(["--proxy", &kept, "--proxy", &deep]).start();
        let mut client = Client::connect(&server);
        for (path, expected) in [
            ("/kept/a%2fb%2Fc%7e%20%41?q=%7e&r=/../x", "/kept/a%2fb%2Fc%7e%20%41?q=%7e&r=/../x"),
            ("/kept/./a//b;c=d?", "/kept/./a//b;c=d?"),
            ("/kept/%E2%82%ac|{}", "/kept/%E2%82%ac|{}"),
            ("/deep/%2f%7E", "/v1/%2f%7E"),
            ("http://other.example/deep/%7E?x", "/v1/%7E?x"),
            // The prefix in another spelling: then only the normalised path shows where the rest begins.
            ("/%64eep/x%2fy", "/v1/x%2Fy"),
            ("/./deep/%7e", "/v1/~"),
            // Bytes that are not valid in a URI are passed on as escapes.
            ("/kept/\u{304b}?n=\u{304b}%7e", "/kept/%E3%81%8B?n=%E3%81%8B%7e"),
            ("/deep/%2f\u{e9}", "/v1/%2f%C3%A9"),
        ] {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert_eq!(client.read_response().status, 200, "{path}");
            assert_eq!(upstream.last_head().split(' ').nth(1), Some(expected), "{path}");
        }
        let passed = upstream.heads().len();
        for path in ["/deep/..%2fx", "/deep/a%5c..%5Cx", "/deep/.%2e/x", "/deep/..\\x", "/deep%2fx"] {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert_eq!(client.read_response().status, 404, "{path}");
        }
        assert_eq!(upstream.heads().len(), passed, "nothing leaves the prefix");
    }

    fn the_longest_prefix_answers(engine: Engine) {
        let (all, inner) = (Upstream::answering(ok("all")), Upstream::answering(ok("inner")));
        let folder = TempDir::new();
        folder.write("f", "static");
        let (all, inner) = (format!("/=http://{}", all.address), format!("/a/b=http://{}", inner.address));
        let files = format!("/a/files={}", folder.arg());
        let server = Setup::on(engine).args(["--proxy", &all, "--proxy", &inner, "--static", &files]).start();
        let mut client = Client::connect(&server);
        for (path, expected) in
            [("/", "all"), ("/a", "all"), ("/a/b", "inner"), ("/a/b/c", "inner"), ("/a/bc", "all"), ("/a/files/f", "static")]
        {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert_eq!(client.read_response().text(), expected, "{path}");
        }
    }

    fn the_users_own_fields_are_on_every_answer(engine: Engine) {
        let upstream = Upstream::answering("HTTP/1.1 200 OK\r\nx-frame-options: SAMEORIGIN\r\nSet-Cookie: theirs=1\r\n\
            Access-Control-Allow-Origin: https://theirs\r\nVary: Accept\r\nContent-Length: 1\r\n\r\nx");
        let args = ["--header", "X-Frame-Options: DENY", "--header", "Set-Cookie: ours=1", "--cors=https://ours"];
        let server = proxy(engine, &format!("/=http://{}", upstream.address), &args);
        let mut client = Client::connect(&server);
        client.send(GET);
        let response = client.read_response();
        let all = |name: &str| response.fields.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).count();
        assert_eq!((response.field("X-Frame-Options"), all("X-Frame-Options")), (Some("DENY"), 1));
        assert_eq!(response.field("Access-Control-Allow-Origin"), Some("https://ours"));
        assert_eq!((all("Access-Control-Allow-Origin"), all("Set-Cookie"), all("Vary")), (1, 2, 2));
        assert!(response.field("Server").is_none(), "that is the upstream's to say");
        // The server answers the preflight itself: the upstream need not know CORS.
        client.send("OPTIONS /x HTTP/1.1\r\nHost: x\r\nOrigin: https://ours\r\nAccess-Control-Request-Method: PATCH\r\n\r\n");
        let preflight = client.read_response();
        assert_eq!(preflight.status, 204);
        assert!(preflight.lists("Access-Control-Allow-Methods", "PATCH"), "{preflight:?}");
        assert_eq!(upstream.heads().len(), 1);
    }

    #[skip(Iterative, "serves one client at a time: it would wait for itself, until --proxy-timeout")]
    fn a_loop_is_found_out(engine: Engine) {
        let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = reserved.local_addr().unwrap();
        drop(reserved);
        let port = address.port().to_string();
        let server = proxy(engine, &format!("/=http://{address}"), &["--port", &port]);
        let mut client = Client::connect(&server);
        client.send(GET);
        assert_eq!(client.read_response().status, 508);
    }

    fn no_request_is_smuggled_upstream(engine: Engine) {
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
        // Connection cannot remove the fields that frame or route a request.
        let mut client = Client::connect(&server);
        client.send("POST / HTTP/1.1\r\nHost: x\r\nConnection: content-length, host, transfer-encoding\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(client.read_response().status, 200);
        assert_eq!(field(&upstream.last_head(), "content-length"), Some("5"));
        assert_eq!(field(&upstream.last_head(), "host"), Some("x"));
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
}

#[test]
fn flags_that_make_no_sense_are_usage_errors() {
    let folder = TempDir::new();
    let cases: [&[&str]; 17] = [
        &["--proxy", "api=http://127.0.0.1:1"],
        &["--proxy", "/api=127.0.0.1:1"],
        &["--proxy", "/api=https://127.0.0.1:1"],
        &["--proxy", "/api=http://127.0.0.1:1?q"],
        &["--proxy", "/api=unix:relative"],
        &["--proxy", "/api=http://127.0.0.1:1/a,http://127.0.0.1:2/b"],
        &["--proxy", "/=http://127.0.0.1:1", folder.arg()],
        &["--proxy", "/=http://127.0.0.1:1", "--directory", folder.arg()],
        &["--proxy", "/a=http://127.0.0.1:1", "--static", &format!("/a={}", folder.arg())],
        &["--proxy", "/a=http://127.0.0.1:1", "--wsgi", "/a=app:app"],
        &["--static", "/files=.", "--directory", folder.arg()],
        &["--static", &format!("/s={}", folder.arg()), "--debug-endpoints", "--debug-prefix", "/s/"],
        &["--wsgi-workers", "2"],
        &["--pool-size", "2"],
        &["--proxy-buffer"],
        &["--proxy-timeout", "5s"],
        &["--proxy", "/a=http://127.0.0.1:1", "--trusted-proxy", "10.0.0.0/33"],
    ];
    for args in cases {
        let outcome = run(args);
        assert_eq!(outcome.code, Some(2), "{args:?}: {}", outcome.stderr);
    }
}
