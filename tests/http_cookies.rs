//! Cookies: Cookie and Set-Cookie (RFC 6265).

mod common;

use common::{Response, Server, exchange, get, on_every_engine};

fn cookie_server(engine: common::Engine) -> Server {
    Server::start_on(engine, &["--debug-endpoints"])
}

fn show(server: &Server, fields: &str) -> Response {
    exchange(server, format!("GET /cookies HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n"))
}

/// The content without white space. No name or value in this test holds any.
fn packed(response: &Response) -> String {
    response.text().split_whitespace().collect()
}

on_every_engine! {
    fn the_cookies_of_a_request_are_shown_as_json(engine: Engine) {
        let server = cookie_server(engine);
        let cases = [
            ("", "{}"),
            ("Cookie: \r\n", "{}"),
            ("Cookie: a=1\r\n", r#"{"a":"1"}"#),
            ("Cookie: a=1; b=2\r\n", r#"{"a":"1","b":"2"}"#),
            ("Cookie: b=2;a=1 ;  c = 3\r\n", r#"{"b":"2","a":"1","c":"3"}"#),
            ("Cookie: a=1\r\nCookie: b=2\r\n", r#"{"a":"1","b":"2"}"#),
            ("Cookie: a=first; a=second\r\n", r#"{"a":"first"}"#),
            ("Cookie: a=\"quoted\"; b=x=y; c=\r\n", r#"{"a":"quoted","b":"x=y","c":""}"#),
            ("Cookie: nameless; =x; ;; a=1\r\n", r#"{"a":"1"}"#),
            ("Cookie: a=<b>&\\\r\n", r#"{"a":"\u003Cb\u003E\u0026\\"}"#),
        ];
        for (fields, expected) in cases {
            let answer = show(&server, fields);
            assert_eq!((answer.status, answer.media_type().as_str()), (200, "application/json"));
            assert_eq!(packed(&answer), expected, "{fields}");
            assert!(answer.lists("Vary", "Cookie"), "{answer:?}");
        }
    }

    fn names_that_are_no_text_are_still_one_object(engine: Engine) {
        let server = cookie_server(engine);
        let request = b"GET /debug/cookies HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: \xff=1; \xfe=2; n\xe9=\xe9\r\n\r\n";
        assert_eq!(packed(&exchange(&server, request)), "{\"\u{fffd}\":\"1\",\"n\u{fffd}\":\"\u{fffd}\"}");
    }

    fn thousands_of_cookies_are_shown_at_once(engine: Engine) {
        let server = cookie_server(engine);
        let cookies: Vec<String> = (0..2000).map(|n| format!("{n}=")).collect();
        let answer = show(&server, &format!("Cookie: {}\r\n", cookies.join(";")));
        assert_eq!(answer.text().lines().count(), 2002);
    }

    fn a_cookie_is_set_with_its_attributes_and_then_shown(engine: Engine) {
        let server = cookie_server(engine);
        for above in ["/cookies", "/debug/cookies"] {
            let answer = get(&server, &format!("{above}/set?name=value"));
            assert_eq!((answer.status, answer.field("Location")), (302, Some(above)));
            assert_eq!(answer.field("Set-Cookie"), Some("name=value; Path=/; HttpOnly; SameSite=Lax"));
            let answer = get(&server, &format!("{above}/delete?name"));
            assert_eq!((answer.status, answer.field("Location")), (302, Some(above)));
            assert_eq!(answer.field("Set-Cookie"), Some("name=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"));
        }
    }

    fn several_cookies_are_several_fields(engine: Engine) {
        let server = cookie_server(engine);
        // Without the limit of 50 cookies, a query could make the response's head much longer than the request's.
        assert_eq!(get(&server, &format!("/cookies/set?{}", "a&".repeat(50))).status, 302);
        assert_eq!(get(&server, &format!("/cookies/set?{}", "a&".repeat(51))).status, 400);
        let answer = get(&server, "/cookies/set?a=1&b=%32&c=");
        let names: Vec<&[u8]> = answer.values("Set-Cookie").iter().map(|value| &value[..3]).collect();
        assert_eq!(names, [b"a=1", b"b=2", b"c=;"]);
        assert_eq!(get(&server, "/cookies/delete?a&b=2").values("Set-Cookie").len(), 2);
    }

    fn nothing_breaks_out_of_a_cookie(engine: Engine) {
        let server = cookie_server(engine);
        for query in [
            "", "?", "?=x", "?a%20b=1", "?a%3Bb=1", "?a%0D%0AX=1", "?%C3%A9=1", "?a=b%3Bc", "?a=b,c", "?a=b+c", "?a=%22",
            "?a=%5C", "?a=%0D%0ASet-Cookie:%20b=c", "?a=%00", "?a=%C3%A9", "?good=1&a=b%3Bc",
        ] {
            let answer = get(&server, &format!("/cookies/set{query}"));
            assert_eq!(answer.status, 400, "{query}");
            assert_eq!(answer.values("Set-Cookie").len(), 0, "{query}");
            assert!(answer.text().contains("ookie"), "{query} is told what a cookie is: {}", answer.text());
        }
        for query in ["", "?=", "?a%20b", "?a%0Ab"] {
            assert_eq!(get(&server, &format!("/cookies/delete{query}")).status, 400, "{query}");
        }
    }
}
