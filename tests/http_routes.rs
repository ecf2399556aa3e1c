//! Which route answers a path if several routes match it. The route with the longest path is first. If paths are equal,
//! an upstream is first, then an application, then the routes that this server answers itself.

mod common;

use common::python::has_python;
use common::upstream::{Upstream, ok};
use common::{Client, Engine, Response, Server, Setup, TempDir, exchange, get};

/// A server with routes of every kind, nested in each other, and the upstreams and files that they need.
struct Nested {
    server: Server,
    _folder: TempDir,
    upstreams: Vec<Upstream>,
}

const APPLICATION: &str = "
def named(name):
    def app(environ, start_response):
        body = f'{name} {environ[\"SCRIPT_NAME\"]}|{environ[\"PATH_INFO\"]}'.encode()
        start_response('200 OK', [('Content-Length', str(len(body)))])
        return [body]
    return app

outer, inner = named('outer'), named('inner')
";

impl Nested {
    /// `None` if the machine has no Python.
    fn start(more: &[&str]) -> Option<Nested> {
        if !has_python() {
            return None;
        }
        let folder = TempDir::new();
        folder.write("nested.py", APPLICATION);
        for (file, text) in [
            ("site/f", "site"),
            ("site/api/f", "site api"),
            ("site/apis", "site apis"),
            ("site/files/f", "site files"),
            ("site/docs/f", "site docs"),
            ("store/f", "store"),
            ("docs/f", "docs"),
            ("pictures/f", "pictures"),
            ("deep/f", "deep"),
        ] {
            folder.write(file, text);
        }
        let upstreams: Vec<Upstream> =
            ["api", "v1", "remote", "in app"].map(|name| Upstream::answering(ok(name))).into();
        let at = |index: usize| format!("http://{}", upstreams[index].address);
        let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let args = [
            path("site"),
            format!("--directory={}", path("store")),
            format!("--static=/docs={}", path("docs")),
            format!("--static=/files/pictures={}", path("pictures")),
            format!("--static=/api/v1/deep={}", path("deep")),
            format!("--proxy=/api={}", at(0)),
            format!("--proxy=/api/v1={}", at(1)),
            format!("--proxy=/files/remote={}", at(2)),
            format!("--proxy=/app/proxied={}", at(3)),
            "--wsgi=/app=nested:outer".into(),
            "--wsgi=/app/in=nested:inner".into(),
            "--wsgi=/api/app=nested:inner".into(),
            format!("--wsgi-chdir={}", folder.arg()),
            "--debug-endpoints".into(),
        ];
        let setup = Setup::on(Engine::Event).env("PYTHONDONTWRITEBYTECODE", "1");
        let server = setup.args(args).args(more.iter().copied()).start();
        Some(Nested { server, _folder: folder, upstreams })
    }

    fn ask(&self, method: &str, path: &str, fields: &str) -> Response {
        let mut client = Client::connect(&self.server);
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
        client.read_response()
    }

    fn allow(&self, method: &str, path: &str) -> (u16, String) {
        let answer = self.ask(method, path, "");
        let mut methods: Vec<&str> = answer.field("Allow").unwrap_or_default().split(", ").collect();
        methods.sort();
        (answer.status, methods.join(" "))
    }
}

#[test]
fn the_longest_path_has_the_request() {
    let Some(nested) = Nested::start(&[]) else { return };
    for (path, expected) in [
        ("/f", "site"),
        ("/api", "api"),
        ("/api/f", "api"),
        ("/apis", "site apis"),
        ("/api/v1", "v1"),
        ("/api/v1/x", "v1"),
        ("/api/v11", "api"),
        ("/api/v1/deep/f", "deep"),
        ("/api/v1/deeper", "v1"),
        ("/api/app/x", "inner /api/app|/x"),
        ("/app", "outer /app|"),
        ("/app/", "outer /app|/"),
        ("/app/x%20y", "outer /app|/x y"),
        ("/app/in/x", "inner /app/in|/x"),
        ("/app/inn", "outer /app|/inn"),
        ("/app/proxied/x", "in app"),
        ("/docs/f", "docs"),
        ("/files/f", "store"),
        ("/files/remote", "remote"),
        ("/files/remote/f", "remote"),
        ("/files/pictures/f", "pictures"),
        ("/files/picturesque", "There is nothing"),
        ("/echo/f", "f"),
        ("/echo/a%2Fb//c", "a/b//c"),
        ("/debug/status/404", "404 Not Found\n"),
    ] {
        let text = nested.ask("GET", path, "Accept: text/plain\r\n").text();
        assert!(text == expected || (text.starts_with("404") && text.contains(expected)), "{path}: {text}");
    }
}

/// If paths are equal: upstreams mounted at /files/ and /user-agent replace the store and the endpoint there.
#[test]
fn of_equal_paths_an_upstream_goes_first() {
    let (folder, upstream) = (TempDir::new(), Upstream::answering(ok("upstream")));
    let mount = |prefix: &str| format!("--proxy={prefix}=http://{}", upstream.address);
    let store = format!("--directory={}", folder.arg());
    let args = [store, mount("/files"), mount("/user-agent"), mount("/echo/")];
    let server = Setup::on(Engine::Event).args(args).start();
    for path in ["/files/f", "/files", "/user-agent", "/user-agent/x", "/echo/x"] {
        assert_eq!(get(&server, path).text(), "upstream", "{path}");
    }
    assert!(server.stderr().contains("--proxy answers /files/, so --directory has no effect"), "{}", server.stderr());
    assert_eq!(get(&server, "/echo").status, 404);
    assert_eq!(get(&server, "/files/remote/f").text(), "upstream");
    assert_eq!(get(&server, "/filesystem").status, 404);
}

#[test]
fn a_path_that_climbs_or_has_a_second_spelling_is_nowhere() {
    let Some(nested) = Nested::start(&[]) else { return };
    for path in [
        "/api/../f",
        "/app/%2e%2e/f",
        "/files/../f",
        "/docs/..",
        "/echo/../f",
        "/nothing",
        "/docs%2Ff",
        "/files/none",
        "/docs/none",
        "/debug/none",
        "/user-agent/",
        "/api;x/f",
        "/%61pi/v1;x/y",
        "//api/f",
        "//docs/f",
        "//echo/f",
        "/%2Fdocs/f",
    ] {
        assert_eq!(nested.ask("GET", path, "").status, 404, "{path}");
    }
    for (path, expected) in [("/%64ocs/f", "docs"), ("/docs//f", "docs"), ("/docs/./f", "docs"), ("/%61pi/x", "api")] {
        assert_eq!(nested.ask("GET", path, "").text(), expected, "{path}");
    }
}

/// The paths of every kind of route, and whether another server answers there.
const KINDS: [(&str, bool); 10] = [
    ("/", false),
    ("/docs/", false),
    ("/files/", false),
    ("/files/pictures/", false),
    ("/echo/", false),
    ("/debug/", false),
    ("/api/", true),
    ("/files/remote/", true),
    ("/app/", true),
    ("/app/in/", true),
];

#[test]
fn a_dot_dot_segment_is_404_in_every_spelling_on_every_kind_of_route() {
    for more in [&[][..], &["--proxy-path=raw"]] {
        let Some(nested) = Nested::start(more) else { return };
        let ask = |target: &str, method: &str| {
            let fields = "Host: h\r\nContent-Length: 0\r\nConnection: close";
            exchange(&nested.server, format!("{method} {target} HTTP/1.1\r\n{fields}\r\n\r\n")).status
        };
        for (kind, _) in KINDS {
            for dots in ["..", "%2e%2e", "%2E.", ".%2e"] {
                for path in ["@", "@/", "@/f", "x/@/f", "x/@", "./@/f", "/@/f", "@/@/f", "\u{e9}/@/f", "@?q", "@/f;x"] {
                    let target = format!("{kind}{}", path.replace('@', dots));
                    assert_eq!(ask(&target, "GET"), 404, "{target}, {more:?}");
                }
                for method in ["HEAD", "PUT", "POST", "PATCH", "OPTIONS"] {
                    let target = format!("http://h{kind}{dots}/f");
                    assert_eq!(ask(&target, method), 404, "{method} {target}, {more:?}");
                }
            }
        }
        // What only some server behind this one would read as a climb.
        for (kind, _) in KINDS.iter().filter(|(_, is_elsewhere)| *is_elsewhere && more.is_empty()) {
            for dots in ["..;x", "..%2f", "..%5c", "..\\", "%252e%252e", "%c0%ae%c0%ae", "..%20", "\u{2025}"] {
                assert_eq!(ask(&format!("{kind}{dots}/f"), "GET"), 404, "{kind}{dots}");
            }
        }
        assert_eq!(nested.upstreams.iter().flat_map(Upstream::heads).count(), 0, "nothing has reached an upstream");
        // Two dots in a name or a query are no such segment.
        assert_eq!(nested.ask("GET", "/echo/...", "").text(), "...");
        assert_eq!(nested.ask("GET", "/app/..f?/../", "").text(), "outer /app|/..f");
    }
}

#[test]
fn each_route_says_what_it_allows() {
    let Some(nested) = Nested::start(&["--trace-method"]) else { return };
    for (path, expected) in [
        ("/f", "GET HEAD OPTIONS TRACE"),
        ("/", "GET HEAD OPTIONS POST TRACE"),
        ("/nothing", "GET HEAD OPTIONS TRACE"),
        ("/docs/f", "GET HEAD OPTIONS TRACE"),
        ("/files/f", "GET HEAD OPTIONS POST PUT TRACE"),
        ("/files/pictures/f", "GET HEAD OPTIONS TRACE"),
        ("/echo/x", "GET HEAD OPTIONS TRACE"),
        ("/user-agent", "GET HEAD OPTIONS TRACE"),
        ("/debug/request", "DELETE GET HEAD OPTIONS PATCH POST PUT TRACE"),
        ("/debug/bytes/1", "GET HEAD OPTIONS TRACE"),
        ("*", "DELETE GET HEAD OPTIONS PATCH POST PUT TRACE"),
    ] {
        assert_eq!(nested.allow("OPTIONS", path), (204, expected.into()), "{path}");
    }
    for (method, path) in [("DELETE", "/f"), ("PUT", "/docs/f"), ("PATCH", "/files/f"), ("POST", "/echo/x")] {
        let (status, allow) = nested.allow(method, path);
        assert_eq!(status, 405, "{method} {path}");
        assert!(!allow.contains(method) && allow.contains("GET"), "{method} {path}: {allow}");
    }
    assert_eq!(nested.ask("BREW", "/f", "").status, 501);
    assert_eq!(nested.ask("BREW", "/api/f", "").text(), "api");
    assert_eq!(nested.ask("BREW", "/app/f", "").text(), "outer /app|/f");
    let connect = exchange(&nested.server, "CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\nConnection: close\r\n\r\n");
    assert_eq!(connect.status, 405);
}

#[test]
fn preflights_and_max_forwards_are_answered_here_forupstreams_too() {
    let Some(nested) = Nested::start(&["--cors=https://a.example"]) else { return };
    let preflight = "Origin: https://a.example\r\nAccess-Control-Request-Method: PUT\r\n";
    for path in ["/api/f", "/app/f", "/files/f", "/f"] {
        let answer = nested.ask("OPTIONS", path, preflight);
        assert_eq!(answer.status, 204, "{path}");
        let allows = answer.field("Access-Control-Allow-Methods").unwrap();
        assert_eq!(allows.contains("PATCH"), path.starts_with("/a"), "{path}: {allows}");
    }
    assert_eq!(nested.ask("OPTIONS", "/api/f", "").text(), "api");
    let last = nested.ask("OPTIONS", "/api/f", "Max-Forwards: 0\r\n");
    assert_eq!((last.status, last.field("Allow").is_some()), (204, true));
    assert_eq!(nested.ask("TRACE", "/api/f", "").status, 405);
    assert_eq!(nested.ask("OPTIONS", "/app/f", "Max-Forwards: 0\r\n").text(), "outer /app|/f");
}
