//! Fields about the client (X-Forwarded-For and others) reach an application only from a trusted proxy. Then they also
//! decide the variables of the environ.

mod common;

use common::python::serve_source;
use common::{TempDir, exchange, on_every_engine};

/// Shows every HTTP_ variable that may be about the client, the client's address and the scheme.
const SHOW: &str = "
def app(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    names = sorted(name for name in environ if name.startswith('HTTP_') and name not in ('HTTP_HOST', 'HTTP_CONNECTION'))
    lines = ['%s=%s' % (name, environ[name]) for name in names + ['REMOTE_ADDR', 'wsgi.url_scheme']]
    return ['\\n'.join(lines).encode('latin-1')]
";
/// Shows the URL as PEP 3333 says to build it, the port of the server, and the address and port of the client.
const URL: &str = "
from wsgiref.util import request_uri
def app(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    told = [environ[name] for name in ('SERVER_PORT', 'REMOTE_ADDR')] + [str(environ.get('REMOTE_PORT'))]
    return [' '.join([request_uri(environ)] + told).encode('latin-1')]
";
const CLAIMS: [(&str, &str); 14] = [
    ("X-Forwarded-For", "6.6.6.6"),
    ("X-Forwarded-Host", "evil"),
    ("X-Forwarded-Port", "666"),
    ("X-Forwarded-Prefix", "/evil"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Ssl", "on"),
    ("Forwarded", "for=6.6.6.6;proto=https"),
    ("X-Real-IP", "6.6.6.6"),
    ("Front-End-Https", "on"),
    ("X-Scheme", "https"),
    ("X-Url-Scheme", "https"),
    ("X-Original-URL", "/admin"),
    ("X-Rewrite-URL", "/admin"),
    ("Client-IP", "6.6.6.6"),
];

on_every_engine! {
    fn a_stranger_says_nothing_of_the_client_and_a_trusted_proxy_does(engine: Engine) {
        let folder = TempDir::new();
        let spelled = |spell: fn(&str) -> String| {
            CLAIMS.map(|(name, value)| format!("{}: {value}\r\n", spell(name))).concat()
        };
        let plain = spelled(str::to_owned);
        let odd = [plain.clone(), spelled(str::to_lowercase), spelled(|name| name.replace('-', "_"))];
        let request = |claims: &str| format!("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{claims}X-Mine: 1\r\n\r\n");
        let certain = "HTTP_X_MINE=1\nREMOTE_ADDR=127.0.0.1\nwsgi.url_scheme=http";
        for args in [&[][..], &["--trusted-proxy", "10.0.0.0/8"]] {
            let Some(server) = serve_source(engine, &folder, SHOW, args) else { return };
            for claims in &odd {
                assert_eq!(exchange(&server, request(claims)).text(), certain, "{args:?}, {claims}");
            }
        }
        let Some(server) = serve_source(engine, &folder, SHOW, &["--trusted-proxy", "127.0.0.1"]) else { return };
        let text = exchange(&server, request(&plain)).text();
        for (name, value) in CLAIMS {
            let variable = format!("HTTP_{}={value}", name.to_uppercase().replace('-', "_"));
            assert!(text.lines().any(|line| line == variable), "{variable} in {text}");
        }
        assert!(text.ends_with("REMOTE_ADDR=6.6.6.6\nwsgi.url_scheme=https"), "{text}");
        // Two field names give the same variable. Only the one with hyphens is certain to come from the proxy.
        let text = exchange(&server, request(&odd[2])).text();
        assert_eq!(text, format!("HTTP_FORWARDED=for=6.6.6.6;proto=https\n{certain}"));
    }

    fn an_application_sees_the_request_as_the_client_made_it(engine: Engine) {
        let folder = TempDir::new();
        let args = ["--trusted-proxy", "127.0.0.0/8", "--trusted-proxy", "10.0.0.0/8"];
        let Some(server) = serve_source(engine, &folder, URL, &args) else { return };
        let ask = |fields: &str| {
            exchange(&server, format!("GET /x?y HTTP/1.1\r\nHost: in:1\r\nConnection: close\r\n{fields}\r\n")).text()
        };
        let outer = "X-Forwarded-Host: out.example\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Prefix: /pre\r\n";
        assert_eq!(ask(&format!("{outer}X-Forwarded-For: 1.2.3.4\r\n")), "https://out.example/pre/x?y 443 1.2.3.4 None");
        assert_eq!(ask(&format!("{outer}X-Forwarded-Port: 8443\r\n")).split(' ').nth(1), Some("8443"));
        let invalid = "X-Forwarded-Host: a/b\r\nX-Forwarded-Proto: ftp\r\nX-Forwarded-Prefix: //evil\r\nX-Forwarded-Port: 0\r\n";
        assert!(ask(invalid).starts_with("http://in:1/x?y "), "{}", ask(invalid));
        assert!(ask("X-Forwarded-Prefix: /a, /b\r\n").starts_with("http://in:1/b/x?y "));
        for (told, expected) in [
            ("X-Forwarded-For: 6.6.6.6, 2001:db8::1, 10.1.1.1:80\r\n", "2001:db8::1"),
            ("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: [fe80::1%eth0]:80\r\n", "fe80::1"),
            ("X-Forwarded-For: 10.0.0.2, 127.0.0.9\r\n", "10.0.0.2"),
            ("X-Forwarded-For: 1.2.3.4, unknown\r\n", "127.0.0.1"),
            ("Forwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\n", "127.0.0.1"),
        ] {
            assert_eq!(ask(told).split(' ').nth(2), Some(expected), "{told}");
        }
        let plain = ask("");
        assert!(plain.starts_with("http://in:1/x?y ") && plain.contains(" 127.0.0.1 ") && !plain.ends_with("None"), "{plain}");
    }
}
