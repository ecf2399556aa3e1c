//! Paths that some server could read as a `..` segment. One table is used for upstreams, applications and files.

mod common;

use common::python::has_python;
use common::upstream::*;
use common::{Client, Engine, Server, Setup, TempDir, exchange, on_every_engine, run};

/// Spellings that some server reads as `/../`. The tests put them between `/sub` and `x`.
const CLIMBS: [&str; 44] = [
    "/../",
    "/%2e%2e/",
    "/.%2E/",
    "/..%2f",
    "/..%2F",
    "%2f..%2f",
    "%2f../",
    "/..%5c",
    "%5C..%5C",
    "/..\\",
    "\\..\\",
    "/..;/",
    "/..;a=b/",
    "/..%3b/",
    "/;/..;/",
    "/.;/..;/",
    "/..%3Ba=b/",
    "/..%253b/",
    "/..%09/",
    "/..%0a/",
    "/..%0d%0a/",
    "/..%20/",
    "/%20../",
    "/.%20./",
    "/..%20./",
    "/..%2500/",
    "/..%7f/",
    "/%252e%252e/",
    "/%252e./",
    "/..%252f",
    "/..%255c",
    "/%25252e%25252e/",
    "/%25%32%65%25%32%65/",
    "/%c0%ae%c0%ae/",
    "/%C0%AE./",
    "/..%c0%af",
    "/..%c1%9c",
    "/..%c1%1c",
    "/%e0%80%ae%e0%80%ae/",
    "/..%f0%80%80%af",
    "/..%ff/",
    "/..%ef%bc%8f",
    "/%ef%bc%8e%ef%bc%8e/",
    "/%25u002e%25u002e/",
];
/// Spellings that look similar, but are ordinary names.
const HARMLESS: [&str; 12] = [
    "/.../",
    "/..a/",
    "/a../",
    "/v1..v2/",
    "/a%2Fb/",
    "/a;b=c/",
    "/%20/",
    "/caf%C3%A9/",
    "/100%25/",
    "//",
    "/.well-known/",
    "/a...b;c/",
];

fn status(server: &Server, path: &str) -> u16 {
    exchange(server, format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")).status
}

on_every_engine! {
    fn no_spelling_of_a_climb_reaches_an_upstream(engine: Engine) {
        let upstream = Upstream::answering(ok("x"));
        for (prefix, replacement) in [("/", ""), ("/sub", ""), ("/sub", "/deep")] {
            let mount = format!("{prefix}=http://{}{replacement}", upstream.address);
            let server = proxy(engine, &mount, &[]);
            for climb in CLIMBS {
                assert_eq!(status(&server, &format!("/sub{climb}x")), 404, "{mount} {climb}");
                assert_eq!(status(&server, &format!("/sub/y{}", climb.trim_end_matches('/'))), 404, "{mount} {climb}");
            }
            assert_eq!(upstream.heads().len(), 0, "{:?}", upstream.heads());
            for harmless in HARMLESS {
                assert_eq!(status(&server, &format!("/sub{harmless}x")), 200, "{mount} {harmless}");
            }
            let passed = std::mem::take(&mut *upstream.heads.lock().unwrap());
            assert_eq!(passed.len(), HARMLESS.len());
            // The harmless paths are forwarded unchanged.
            let expected = if replacement.is_empty() { "/sub" } else { replacement };
            for (head, harmless) in passed.iter().zip(HARMLESS) {
                assert_eq!(head.split(' ').nth(1), Some(format!("{expected}{harmless}x").as_str()));
            }
        }
    }

    fn no_spelling_of_a_climb_reaches_an_application(engine: Engine) {
        let folder = TempDir::new();
        let source = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'x']\n";
        for mount in ["fresh:app", "/sub=fresh:app"] {
            let Some(server) = serve(engine, &folder, source, mount) else { return };
            for climb in CLIMBS {
                assert_eq!(status(&server, &format!("/sub{climb}x")), 404, "{mount} {climb}");
            }
            for harmless in HARMLESS {
                assert_eq!(status(&server, &format!("/sub{harmless}x")), 200, "{mount} {harmless}");
            }
        }
    }

    fn no_spelling_of_a_climb_reaches_a_file(engine: Engine) {
        let folder = TempDir::new();
        folder.write("x", "above");
        folder.write("root/x", "beside");
        folder.write("root/sub/y", "below");
        let args = [folder.join("root").to_str().unwrap().to_owned(), "--directory".into(), folder.join("root/sub").to_str().unwrap().into()];
        let server = Setup::on(engine).args(args).start();
        for climb in CLIMBS {
            for path in [format!("/sub{climb}x"), format!("/files{climb}x"), format!("/sub{climb}sub/y")] {
                assert!(status(&server, &path) >= 400, "{path}");
            }
        }
    }

    /// The upstream at `/` cannot be used to reach paths that belong to another upstream below `/`.
    fn no_spelling_of_a_prefix_reaches_another_upstream(engine: Engine) {
        let (all, inner) = (Upstream::answering(ok("all")), Upstream::answering(ok("inner")));
        let folder = TempDir::new();
        folder.write("f", "static");
        let (all_mount, inner_mount) = (format!("/=http://{}", all.address), format!("/in/ner=http://{}", inner.address));
        let files = format!("/files={}", folder.arg());
        let args = ["--proxy", &all_mount, "--proxy", &inner_mount, "--static", &files];
        let server = Setup::on(engine).args(args).start();
        for path in [
            "/in/ner;x/a", "/in;x/ner/a", "/in%2fner/a", "/in%5cner", "/in\\ner/a", "//in/ner/a", "/in//ner/a", "/in/%256eer/a",
            "/in/%09ner/a", "/in/ner%20/a", "/in/ner./a", "/;/in/ner", "/in/.;/ner/a", "/in/ner%3fa", "/in/ner%2500", "/%69n/ne%2572",
            "//files/f", "/files;x/f", "/files%2ff", "/;/files/f",
        ] {
            assert_eq!(status(&server, path), 404, "{path}");
        }
        assert_eq!((all.heads(), inner.heads()), (vec![], vec![]));
        for (path, expected) in [
            ("/in/ner", "inner"), ("/in/ner/a%2Fb;c//d", "inner"), ("/%69n/%6eer/a", "inner"), ("/in/./ner/", "inner"),
            ("/in/nerd", "all"), ("/in;x/a//b%2Fc", "all"), ("/files/f", "static"), ("/filesystem", "all"),
        ] {
            let mut client = Client::connect(&server);
            client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
            assert_eq!(client.read_response().text(), expected, "{path}");
        }
    }

    fn raw_passes_what_is_no_climb_by_the_letter(engine: Engine) {
        let upstream = Upstream::answering(ok("x"));
        let server = proxy(engine, &format!("/sub=http://{}", upstream.address), &["--proxy-path", "raw"]);
        for path in ["/sub/..;/x", "/sub/..%2fx", "/sub/%252e%252e/x", "/sub/..\\x", "/sub/..%c0%afx"] {
            assert_eq!(status(&server, path), 200, "{path}");
            assert_eq!(upstream.last_head().split(' ').nth(1), Some(path));
        }
        let passed = upstream.heads().len();
        for path in ["/sub/../x", "/sub/%2e%2e/x", "/sub/.%2E", "/sub%2fx"] {
            assert_eq!(status(&server, path), 404, "{path}");
        }
        assert_eq!(upstream.heads().len(), passed);
    }
}

fn serve(engine: Engine, folder: &TempDir, source: &str, mount: &str) -> Option<Server> {
    has_python().then(|| {
        folder.write("fresh.py", source);
        let setup = Setup::on(engine).args(["--wsgi", mount, "--wsgi-chdir", folder.arg()]);
        setup.env("PYTHONDONTWRITEBYTECODE", "1").start()
    })
}

#[test]
fn a_rule_for_paths_is_one_of_two_and_needs_an_upstream() {
    for args in [&["--proxy", "/a=http://127.0.0.1:1", "--proxy-path", "loose"][..], &["--proxy-path", "raw"]] {
        assert_eq!(run(args).code, Some(2), "{args:?}");
    }
}
