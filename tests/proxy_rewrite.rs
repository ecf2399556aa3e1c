//! The reverse proxy: fields in which an upstream names its own places, rewritten for the client.

mod common;

use common::upstream::*;
use common::{Client, on_every_engine};

/// Checks that a field which the upstream sends arrives at the client as expected.
fn arrives(client: &mut Client, upstream: &Upstream, (path, name, said, expected): (&str, &str, &str, &str)) {
    let said = said.replace("UPSTREAM", &upstream.address.to_string());
    let expected = expected.replace("UPSTREAM", &upstream.address.to_string());
    client.send(format!("GET {path} HTTP/1.1\r\nHost: site.example\r\nX-Say: {name}: {said}\r\n\r\n"));
    let response = client.read_response();
    assert_eq!(response.field(name), Some(expected.as_str()), "{path} {name}: {said}");
}

/// An upstream that answers with the field that the request names.
fn saying() -> Upstream {
    Upstream::start(|link| {
        while let Some(head) = link.head()? {
            let line = head.lines().find_map(|line| line.strip_prefix("X-Say: ")).unwrap_or("X-None: x");
            link.say(format!("HTTP/1.1 302 Found\r\n{line}\r\nContent-Length: 0\r\n\r\n"))?;
        }
        Ok(())
    })
}

on_every_engine! {
    fn places_below_a_replaced_prefix_are_rewritten(engine: Engine) {
        let upstream = saying();
        let server = proxy(engine, &format!("/api=http://{}/v1", upstream.address), &[]);
        let mut client = Client::connect(&server);
        for (name, said, expected) in [
            ("Location", "/v1/x?q#f", "/api/x?q#f"),
            ("Location", "/v1", "/api"),
            ("Location", "http://UPSTREAM/v1/x", "/api/x"),
            ("Location", "http://site.example/v1/x", "http://site.example/api/x"),
            ("Location", "https://site.example/v1/x", "https://site.example/api/x"),
            ("Content-Location", "/v1/x", "/api/x"),
            ("Refresh", "5; url=/v1/x", "5; url=/api/x"),
            ("Set-Cookie", "a=/v1; Path=/v1; HttpOnly", "a=/v1; Path=/api; HttpOnly"),
            ("Set-Cookie", "a=1;  path = /v1/x  ;Domain=a.example; x", "a=1;  path = /api/x  ;Domain=a.example; x"),
            // Other paths are left unchanged.
            ("Location", "/other", "/other"),
            ("Location", "/v10", "/v10"),
            ("Location", "x/../y", "x/../y"),
            ("Location", "//v1/x", "//v1/x"),
            ("Location", "http://evil.example/v1/x", "http://evil.example/v1/x"),
            ("Location", "http://UPSTREAM@evil.example/v1/x", "http://UPSTREAM@evil.example/v1/x"),
            ("Location", "http://UPSTREAM/other", "http://UPSTREAM/other"),
            ("Link", "</v1/x>", "</v1/x>"),
            ("Set-Cookie", "a=1; Path=/", "a=1; Path=/"),
            ("Set-Cookie", "a=1; Path=/v10", "a=1; Path=/v10"),
        ] {
            arrives(&mut client, &upstream, ("/api/x", name, said, expected));
        }
    }

    fn the_root_of_the_upstream_is_the_prefix(engine: Engine) {
        let upstream = saying();
        let server = proxy(engine, &format!("/api=http://{}/", upstream.address), &[]);
        let mut client = Client::connect(&server);
        for (name, said, expected) in [
            ("Location", "/", "/api/"),
            ("Location", "/x", "/api/x"),
            ("Location", "http://UPSTREAM", "/api"),
            ("Location", "//evil.example/x", "//evil.example/x"),
            // An upstream that heeds X-Forwarded-Prefix.
            ("Location", "/api/x", "/api/x"),
            ("Location", "http://site.example/api/x", "http://site.example/api/x"),
            ("Set-Cookie", "a=1; Path=/", "a=1; Path=/api"),
            ("Set-Cookie", "a=1; Path=/api", "a=1; Path=/api"),
            // Browsers accept a `__Host-` cookie with this path only.
            ("Set-Cookie", "__Host-a=1; Secure; Path=/", "__Host-a=1; Secure; Path=/"),
        ] {
            arrives(&mut client, &upstream, ("/api/x", name, said, expected));
        }
    }

    fn a_rewritten_reference_never_names_a_host(engine: Engine) {
        let upstream = saying();
        let server = proxy(engine, &format!("/=http://{}/v1", upstream.address), &[]);
        let mut client = Client::connect(&server);
        for (said, expected) in [
            ("/v1/x", "/x"),
            ("/v1", "/"),
            ("/v1//evil.example", "/v1//evil.example"),
            ("/v1/\\evil.example", "/v1/\\evil.example"),
            ("/v1/\t/evil.example", "/v1/\t/evil.example"),
            ("http://UPSTREAM/v1//evil.example", "http://UPSTREAM/v1//evil.example"),
        ] {
            arrives(&mut client, &upstream, ("/x", "Location", said, expected));
        }
    }

    fn with_a_prefix_that_is_kept_only_the_upstreams_host_is_wrong(engine: Engine) {
        let upstream = saying();
        let server = proxy(engine, &format!("/api=http://{}", upstream.address), &[]);
        let mut client = Client::connect(&server);
        for (name, said, expected) in [
            ("Location", "http://UPSTREAM/api/x", "/api/x"),
            ("Location", "http://UPSTREAM/x", "http://UPSTREAM/x"),
            ("Location", "/x", "/x"),
            ("Set-Cookie", "a=1; Path=/", "a=1; Path=/"),
            ("Set-Cookie", "a=1; Path=/api/", "a=1; Path=/api/"),
        ] {
            arrives(&mut client, &upstream, ("/api/x", name, said, expected));
        }
        assert_eq!(field(&upstream.last_head(), "x-forwarded-prefix"), None);
    }

    fn rewriting_can_be_switched_off(engine: Engine) {
        let upstream = saying();
        let server = proxy(engine, &format!("/api=http://{}/v1", upstream.address), &["--proxy-rewrite=off"]);
        let mut client = Client::connect(&server);
        for (name, said) in [("Location", "/v1/x"), ("Location", "http://UPSTREAM/v1/x"), ("Set-Cookie", "a=1; Path=/v1")] {
            arrives(&mut client, &upstream, ("/api/x", name, said, said));
        }
        assert_eq!(field(&upstream.last_head(), "x-forwarded-prefix"), Some("/api"));
    }

    /// A trusted proxy in front may have removed a prefix, too. The last value counts, if it is a path that is safe in
    /// front of links. From other clients the field is ignored.
    fn the_upstream_is_told_what_was_taken_off(engine: Engine) {
        let upstream = saying();
        let address = upstream.address;
        let mounts = [format!("/api=http://{address}/"), format!("/kept=http://{address}"), format!("/a/=http://{address}/v1/")];
        let mounts = mounts.each_ref().map(|mount| ["--proxy", mount.as_str()]).concat();
        const TRUSTING: &[&str] = &["--trusted-proxy", "127.0.0.1"];
        for (flags, path, said, expected) in [
            (&[][..], "/api/x", "", Some("/api")),
            (&[], "/a/x", "", Some("/a")),
            (&[], "/api/x", "X-Forwarded-Prefix: /evil\r\n", Some("/api")),
            (&[], "/kept/x", "X-Forwarded-Prefix: /evil\r\n", None),
            (TRUSTING, "/kept/x", "X-Forwarded-Prefix: /outer\r\n", Some("/outer")),
            (TRUSTING, "/api/x", "X-Forwarded-Prefix: /outer/\r\n", Some("/outer/api")),
            (TRUSTING, "/api/x", "X-Forwarded-Prefix: /caf%C3%A9\r\n", Some("/caf%C3%A9/api")),
            (TRUSTING, "/api/x", "X-Forwarded-Prefix: /a, /b\r\n", Some("/b/api")),
            (TRUSTING, "/api/x", "X-Forwarded-Prefix: /a\r\nX-Forwarded-Prefix: //b\r\n", Some("/api")),
            (TRUSTING, "/kept/x", "X-Forwarded-Prefix: //evil.example\r\n", None),
            (TRUSTING, "/api/x", "X-Forwarded-Prefix: //evil.example\r\n", Some("/api")),
            (TRUSTING, "/api/x", "X-Forwarded-Prefix: http://evil/\r\n", Some("/api")),
            (TRUSTING, "/api/x", "X-Forwarded-Prefix: <b>\r\n", Some("/api")),
            (TRUSTING, "/api/x", "X-Forwarded-Prefix: /a/..\r\n", Some("/api")),
            (TRUSTING, "/api/x", "X-Forwarded-Prefix: /\r\n", Some("/api")),
        ] {
            let server = common::Setup::on(engine).args(&mounts).args(flags).start();
            let mut client = Client::connect(&server);
            client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n{said}\r\n"));
            assert_eq!(client.read_response().status, 302);
            assert_eq!(field(&upstream.last_head(), "x-forwarded-prefix"), expected, "{path} {said}");
        }
        // The prefix of the outer proxy is above this path: it comes back as the upstream wrote it.
        let args = ["--proxy", &format!("/api=http://{address}/"), "--trusted-proxy", "127.0.0.1"];
        let server = common::Setup::on(engine).args(args).start();
        let mut client = Client::connect(&server);
        let outer = "X-Forwarded-Prefix: /outer\r\nX-Forwarded-Host: outer.example";
        for (said, expected) in [
            ("/outer/api/x", "/outer/api/x"),
            ("/x", "/api/x"),
            ("https://outer.example/x", "https://outer.example/api/x"),
        ] {
            client.send(format!("GET /api/x HTTP/1.1\r\nHost: inner\r\n{outer}\r\nX-Say: Location: {said}\r\n\r\n"));
            assert_eq!(client.read_response().field("Location"), Some(expected), "{said}");
        }
    }
}
