//! A site of files at `/`: what a browser gets.

mod common;

use common::{Client, Framing, Server, Setup, TempDir, ask, eventually, get, gunzip, noise, on_every_engine};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A site with a secret beside it.
struct Place {
    outside: TempDir,
}

impl Place {
    fn new() -> Place {
        let outside = TempDir::new();
        outside.write("secret", "SECRET");
        outside.write("site/index.html", "<h1>home</h1>");
        outside.write("site/note.txt", "a note");
        outside.write("site/sub/index.html", "<h1>sub</h1>");
        outside.write("site/plain/one.txt", "one");
        outside.write("site/plain/inner/two.txt", "two");
        outside.write("site/.hidden", "HIDDEN");
        outside.write("site/.git/config", "HIDDEN");
        outside.write("site/plain/.hidden", "HIDDEN");
        Place { outside }
    }

    fn site(&self, name: impl AsRef<OsStr>) -> std::path::PathBuf {
        self.outside.join("site").join(name.as_ref())
    }

    fn serve(&self, engine: common::Engine, more: &[&str]) -> Server {
        Setup::on(engine).arg(self.outside.join("site")).args(more).start()
    }
}

/// The references of a page, as a browser reads them.
fn links(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in page.split("href=").skip(1) {
        let (quote, rest) = part.split_at(1);
        assert!(quote == "\"" || quote == "'", "a quoted href: {part}");
        let link = &rest[..rest.find(quote).expect("the quote closes")];
        found.push(unescape(link));
    }
    found
}

fn unescape(html: &str) -> String {
    let named = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&#x27;", "'"), ("&amp;", "&")];
    named.iter().fold(html.to_owned(), |text, (entity, plain)| text.replace(entity, plain))
}

/// Where a reference leads from the page of a folder, for the forms a listing uses.
fn resolve(folder: &str, link: &str) -> String {
    if link.starts_with('/') { link.to_owned() } else { format!("{folder}{}", link.trim_start_matches("./")) }
}

/// Whether a redirect leads from `from` to `to` on this server.
fn leads(location: &str, to: &str) -> bool {
    let last = to.trim_start_matches('/');
    location == to || location == last || location == format!("./{last}") || location == format!("http://localhost{to}")
}

const ESCAPES: &[&str] = &[
    "/../secret",
    "/./../secret",
    "/sub/../../secret",
    "/%2e%2e/secret",
    "/.%2e/secret",
    "/%2E./secret",
    "/..%2fsecret",
    "/%2e%2e%2fsecret",
    "/sub%2f..%2f..%2fsecret",
    "/..%5csecret",
    "/..\\secret",
    "/....//secret",
    "/..;/secret",
    "/..%00/secret",
    "/../secret%00.html",
    "/note.txt%00",
    "/%252e%252e%252fsecret",
    "/..%c0%afsecret",
    "/%c0%ae%c0%ae/secret",
    "/%e0%80%ae%e0%80%ae/secret",
    "//etc/passwd",
    "/%2fetc%2fpasswd",
    "/%2Fetc/passwd",
    "/../../../../../../../../etc/passwd",
    "/../site/../secret",
    "http://localhost/../secret",
];

on_every_engine! {
    fn a_folder_shows_its_index(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &[]);
        let home = get(&server, "/");
        assert_eq!((home.status, home.text().as_str()), (200, "<h1>home</h1>"));
        assert_eq!(home.media_type(), "text/html");
        assert_eq!(get(&server, "/sub/").text(), "<h1>sub</h1>");
        assert_eq!(get(&server, "/index.html").text(), "<h1>home</h1>");
        assert_eq!(get(&server, "/?query=1").text(), "<h1>home</h1>");
        assert_eq!(get(&server, "/note.txt?v=2").text(), "a note");
    }

    fn the_current_folder_is_the_site_when_nothing_is_named(engine: Engine) {
        let place = Place::new();
        let server = Setup::on(engine).folder(place.outside.join("site")).start();
        assert_eq!(get(&server, "/").text(), "<h1>home</h1>");
        assert_eq!(get(&server, "/note.txt").text(), "a note");
    }

    fn types_follow_the_name_and_text_has_a_charset(engine: Engine) {
        let place = Place::new();
        let cases = [
            ("page.html", "text/html", true),
            ("page.HTM", "text/html", true),
            ("style.css", "text/css", true),
            ("note.md", "text/markdown", true),
            ("table.csv", "text/csv", true),
            ("plain.txt", "text/plain", true),
            ("image.png", "image/png", false),
            ("photo.jpeg", "image/jpeg", false),
            ("module.wasm", "application/wasm", false),
            ("font.woff2", "font/woff2", false),
            ("clip.mp4", "video/mp4", false),
            ("archive.zip", "application/zip", false),
            ("noextension", "application/octet-stream", false),
            ("odd.zzzunknown", "application/octet-stream", false),
        ];
        for (name, _, _) in cases {
            fs::write(place.site(name), "content").unwrap();
        }
        let server = place.serve(engine, &[]);
        for (name, media_type, charset) in cases {
            let answer = get(&server, &format!("/{name}"));
            assert_eq!(answer.status, 200, "{name}");
            assert_eq!(answer.media_type(), media_type, "{name}");
            let parameters = answer.field("Content-Type").unwrap().to_ascii_lowercase().replace(' ', "");
            assert_eq!(parameters.ends_with(";charset=utf-8"), charset, "{name}: {parameters}");
        }
        fs::write(place.site("app.js"), "0").unwrap();
        let script = get(&server, "/app.js").media_type();
        assert!(script == "text/javascript" || script == "application/javascript", "{script}");
    }

    fn last_modified_is_the_files_time(engine: Engine) {
        let place = Place::new();
        let told = UNIX_EPOCH + Duration::from_secs(784_111_777);
        fs::File::options().write(true).open(place.site("note.txt")).unwrap().set_modified(told).unwrap();
        let server = place.serve(engine, &[]);
        assert_eq!(get(&server, "/note.txt").field("Last-Modified"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    }

    fn a_change_is_seen_by_the_next_request(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &[]);
        for version in 0..20 {
            let content = format!("version {version}");
            if version % 2 == 0 {
                fs::write(place.site("note.txt"), &content).unwrap();
            } else {
                fs::write(place.site("fresh"), &content).unwrap();
                fs::rename(place.site("fresh"), place.site("note.txt")).unwrap();
            }
            assert_eq!(get(&server, "/note.txt").text(), content);
        }
        fs::remove_file(place.site("note.txt")).unwrap();
        assert_eq!(get(&server, "/note.txt").status, 404);
    }

    fn a_folder_without_its_slash_is_redirected_with_the_query_kept(engine: Engine) {
        let place = Place::new();
        fs::create_dir(place.site("a b")).unwrap();
        let server = place.serve(engine, &[]);
        for (from, to) in
            [("/sub", "/sub/"), ("/sub?x=1&y=%20z", "/sub/?x=1&y=%20z"), ("/sub?", "/sub/?"), ("/a%20b?q", "/a%20b/?q")]
        {
            let answer = get(&server, from);
            answer.expect_status(&[301, 302, 307, 308]);
            let location = answer.field("Location").expect("a Location");
            let bare = to.trim_end_matches('?');
            assert!(leads(location, to) || (from == "/sub?" && leads(location, bare)), "{from} to {location}");
        }
        let answer = get(&server, "/plain/inner");
        let location = answer.field("Location").expect("a Location");
        assert!(leads(location, "/plain/inner/") || location == "inner/", "{location}");
    }

    fn a_redirect_never_leads_to_another_host(engine: Engine) {
        let place = Place::new();
        place.outside.write("site/evil.example/page/x", "x");
        let server = place.serve(engine, &[]);
        for target in [
            "//evil.example",
            "//evil.example/page",
            "///evil.example/page",
            "/%2fevil.example/page",
            "//evil.example/..",
            "//evil.example/%2e%2e",
            "/\\evil.example/page",
            "/%5cevil.example/page",
            "//sub",
            "/./sub",
            "/.//evil.example/page",
        ] {
            let answer = get(&server, target);
            if let Some(location) = answer.field("Location") {
                let foreign = location.starts_with("//") || location.starts_with("/\\") || location.starts_with('\\');
                assert!(!foreign && !location.contains("://evil"), "{target} to {location}");
            }
        }
    }

    fn a_split_attempt_in_a_redirect_adds_no_field(engine: Engine) {
        let place = Place::new();
        fs::create_dir(place.site("new\nline")).unwrap();
        let server = place.serve(engine, &[]);
        for target in ["/sub?%0d%0aX-Evil:%201", "/new%0aline", "/sub%0d%0aX-Evil:%201"] {
            let answer = get(&server, target);
            assert_eq!(answer.field("X-Evil"), None, "{answer:?}");
        }
    }

    fn a_folder_without_index_is_listed(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &[]);
        let page = get(&server, "/plain/");
        assert_eq!((page.status, page.media_type().as_str()), (200, "text/html"));
        let links = links(&page.text());
        assert!(links.iter().any(|link| resolve("/plain/", link) == "/plain/one.txt"), "{links:?}");
        assert!(links.iter().any(|link| resolve("/plain/", link) == "/plain/inner/"), "{links:?}");
        assert!(!page.text().contains("hidden"), "{}", page.text());
    }

    fn no_listing_refuses_a_folder_without_index(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &["--no-listing"]);
        let answer = get(&server, "/plain/");
        answer.expect_status(&[403, 404]);
        assert!(!answer.text().contains("one.txt"));
        assert_eq!(get(&server, "/plain/one.txt").text(), "one");
        assert_eq!(get(&server, "/").status, 200);
    }

    fn dotfiles_are_hidden(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &[]);
        let paths = [
            "/.hidden",
            "/%2ehidden",
            "/.git/config",
            "/.git/",
            "/.git",
            "/plain/.hidden",
            "/sub/../.hidden",
            "//.hidden",
        ];
        for path in paths {
            let answer = get(&server, path);
            assert_eq!(answer.status, 404, "{path}");
            assert!(!answer.text().contains("HIDDEN"), "{path}");
        }
    }

    fn no_spelling_of_a_path_leaves_the_site(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &[]);
        for target in ESCAPES {
            let answer = get(&server, target);
            answer.expect_status(&[400, 404]);
            assert!(!answer.text().contains("SECRET") && !answer.text().contains("root:"), "{target}");
        }
    }

    fn dot_segments_inside_the_site_are_resolved(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &[]);
        for target in [
            "/sub/../note.txt",
            "/./note.txt",
            "/sub/./../note.txt",
            "/sub/%2e%2e/note.txt",
            "/plain/inner/../../note.txt",
        ] {
            let answer = get(&server, target);
            // Resolved or refused, and never another file.
            answer.expect_status(&[200, 301, 308, 400, 404]);
            assert!(answer.status != 200 || answer.text() == "a note", "{target}");
        }
    }

    fn symlinks_are_followed_inside_and_refused_outside(engine: Engine) {
        let place = Place::new();
        symlink("note.txt", place.site("alias.txt")).unwrap();
        symlink("../note.txt", place.site("sub/up.txt")).unwrap();
        symlink("sub", place.site("also")).unwrap();
        symlink("../secret", place.site("relative")).unwrap();
        symlink(place.outside.join("secret"), place.site("absolute")).unwrap();
        symlink("..", place.site("parent")).unwrap();
        symlink("/", place.site("top")).unwrap();
        symlink("loop", place.site("loop")).unwrap();
        symlink("missing", place.site("dangling")).unwrap();
        let server = place.serve(engine, &[]);
        assert_eq!(get(&server, "/alias.txt").text(), "a note");
        assert_eq!(get(&server, "/sub/up.txt").text(), "a note");
        assert_eq!(get(&server, "/also/").text(), "<h1>sub</h1>");
        for path in
            ["/relative", "/absolute", "/parent/secret", "/parent/", "/top/etc/passwd", "/top/", "/loop", "/dangling"]
        {
            let answer = get(&server, path);
            assert_eq!(answer.status, 404, "{path}: {}", answer.text());
        }
    }

    fn pipes_and_sockets_are_404_and_do_not_block(engine: Engine) {
        let place = Place::new();
        let made = Command::new("mkfifo").arg(place.site("pipe")).status().expect("mkfifo is there");
        assert!(made.success());
        let _socket = std::os::unix::net::UnixListener::bind(place.site("socket")).unwrap();
        let server = place.serve(engine, &[]);
        for path in ["/pipe", "/socket", "/note.txt/", "/note.txt/x", "/missing", "/missing/", "/sub/missing"] {
            assert_eq!(get(&server, path).status, 404, "{path}");
        }
        assert_eq!(get(&server, "/note.txt").status, 200);
    }

    fn a_name_of_any_bytes_is_listed_and_served(engine: Engine) {
        let place = Place::new();
        let names: &[&[u8]] = &[
            b"a b.txt",
            b"100%.txt",
            b"%41.txt",
            b"q?x.txt",
            b"h#x.txt",
            b"new\nline.txt",
            b"tab\t.txt",
            "ü✓.txt".as_bytes(),
            b"\xff\xfe.txt",
            b"<b>&amp;.txt",
            b"\"double\".txt",
            b"'single'.txt",
            b"back\\slash.txt",
            b"semi;colon,comma.txt",
            b"colon:port.txt",
            b"a+b=c&d.txt",
            b"-dash",
            b"~tilde",
            b"...three",
            b"javascript:alert(1)",
            b"[v6].txt",
            b"\x7f\x01.txt",
        ];
        fs::create_dir(place.site("odd")).unwrap();
        for name in names {
            fs::write(place.site("odd").join(OsStr::from_bytes(name)), name).unwrap();
        }
        let shown = names.iter().filter(|name| !name.starts_with(b"."));
        let server = place.serve(engine, &[]);
        let page = get(&server, "/odd/");
        assert!(!page.text().contains("<b>&"), "names are escaped: {}", page.text());
        let mut served: Vec<Vec<u8>> = Vec::new();
        for link in links(&page.text()) {
            assert!(link.is_ascii(), "an escaped reference, not {link}");
            assert!(!link.starts_with("javascript:"), "{link}");
            let target = resolve("/odd/", &link);
            let within =
                target.strip_prefix("/odd/").is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['.', '?']));
            if within {
                let answer = get(&server, &target);
                assert_eq!(answer.status, 200, "{target}");
                served.push(answer.body);
            }
        }
        for name in shown {
            assert!(served.iter().any(|body| body == name), "{} is listed and served", name.escape_ascii());
        }
    }

    fn head_tells_the_fields_of_get_without_the_body(engine: Engine) {
        let place = Place::new();
        fs::write(place.site("long.html"), "words ".repeat(5000)).unwrap();
        let server = place.serve(engine, &[]);
        for path in ["/", "/note.txt", "/sub", "/sub/", "/plain/", "/missing", "/long.html"] {
            for coding in ["", "Accept-Encoding: gzip\r\n"] {
                let full = ask(&server, "GET", path, coding);
                let mut client = Client::connect(&server);
                client.send(format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{coding}\r\n"));
                let head = client.read_response_to_head();
                client.expect_closed();
                assert_eq!(head.status, full.status, "{path}");
                assert_eq!(head.lasting_fields(), full.lasting_fields(), "{path} {coding}");
            }
        }
    }

    fn other_methods_are_405_with_allow(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &[]);
        for method in ["POST", "PUT", "DELETE"] {
            let answer = ask(&server, method, "/note.txt", "Content-Length: 0\r\n");
            assert_eq!(answer.status, 405, "{method}");
            assert!(answer.lists("Allow", "GET") && answer.lists("Allow", "HEAD"), "{answer:?}");
        }
        let answer = ask(&server, "OPTIONS", "/note.txt", "");
        answer.expect_status(&[200, 204]);
        assert!(answer.lists("Allow", "GET") && !answer.lists("Allow", "PUT"), "{answer:?}");
        assert_eq!(fs::read(place.site("note.txt")).unwrap(), b"a note");
    }

    fn an_empty_file_is_an_empty_answer(engine: Engine) {
        let place = Place::new();
        fs::write(place.site("empty.html"), "").unwrap();
        let server = place.serve(engine, &[]);
        for coding in ["", "Accept-Encoding: gzip\r\n"] {
            let answer = ask(&server, "GET", "/empty.html", coding);
            assert_eq!(answer.status, 200);
            let coded = answer.field("Content-Encoding").is_some();
            assert!(answer.body.is_empty() || (coded && gunzip(&answer.body).is_empty()), "{answer:?}");
        }
    }

    fn files_of_every_size_arrive_byte_for_byte(engine: Engine) {
        let place = Place::new();
        // Around the sizes at which buffers and budgets end.
        let sizes = [1, 1023, 1024, 4095, 4096, 16383, 16384, 16385, 65535, 65536, 65537, 262_144, 1_000_003, 8 << 20];
        let all = noise(8 << 20);
        for size in sizes {
            fs::write(place.site(format!("file{size}")), &all[..size]).unwrap();
        }
        let server = place.serve(engine, &[]);
        let mut client = Client::connect(&server);
        for size in sizes {
            client.send(format!("GET /file{size} HTTP/1.1\r\nHost: x\r\n\r\n"));
            let answer = client.read_response();
            assert_eq!(answer.framing, Framing::Length);
            assert!(answer.body == all[..size], "{size} bytes");
        }
    }

    fn a_large_file_is_sent_with_little_memory(engine: Engine) {
        let place = Place::new();
        place.outside.write_sparse("site/huge", 512 << 20);
        let server = place.serve(engine, &[]);
        let mut client = Client::connect(&server);
        client.send("GET /huge HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert_eq!(client.read_head().content_length(), Some(512 << 20));
        let mut chunk = vec![0; 1 << 18];
        let mut total = 0;
        while let Ok(read @ 1..) = client.read_some(&mut chunk) {
            total += read;
        }
        assert_eq!(total, 512 << 20);
        let peak = server.memory("VmHWM");
        assert!(peak < 40 << 10, "{peak} KiB at its highest");
    }

    fn a_file_cut_short_while_it_is_sent_ends_the_connection(engine: Engine) {
        let place = Place::new();
        let path = place.outside.write_sparse("site/shrinking", 256 << 20);
        let server = place.serve(engine, &[]);
        let mut client = Client::connect(&server);
        client.send("GET /shrinking HTTP/1.1\r\nHost: x\r\n\r\nGET /note.txt HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.read_head().status, 200);
        fs::File::options().write(true).open(path).unwrap().set_len(1000).unwrap();
        let mut chunk = vec![0; 1 << 18];
        let mut total = 0;
        while let Ok(read @ 1..) = client.read_some(&mut chunk) {
            assert!(chunk[..read].iter().all(|byte| *byte == 0), "no other answer within this body");
            total += read;
        }
        assert!(total < 256 << 20, "{total} bytes of a file that is gone");
        drop(client);
        assert_eq!(get(&server, "/note.txt").text(), "a note");
    }

    fn connections_leave_no_descriptor_behind(engine: Engine) {
        let place = Place::new();
        place.outside.write_sparse("site/huge", 64 << 20);
        let server = place.serve(engine, &[]);
        let before = server.sockets();
        for round in 0..100 {
            let mut client = Client::connect(&server);
            let path = ["note.txt", "huge", "missing", "plain/"][round % 4];
            client.send(format!("GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert!(client.read_head().status >= 200);
            if round % 3 == 0 {
                client.abort();
            }
        }
        eventually("every connection to be gone", || (server.sockets() <= before).then_some(()));
        let files = fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().flatten();
        let held = files.filter(|entry| fs::read_link(entry.path()).is_ok_and(|link| link.ends_with("huge"))).count();
        assert!(held <= 1, "{held} descriptors of one file");
    }

    fn modification_times_at_the_edges_break_nothing(engine: Engine) {
        let place = Place::new();
        let hour = Duration::from_secs(3600);
        let times =
            [UNIX_EPOCH, UNIX_EPOCH + Duration::from_secs(1), UNIX_EPOCH - hour, SystemTime::now() + 1000 * hour];
        let server = place.serve(engine, &[]);
        for time in times {
            fs::File::options().write(true).open(place.site("note.txt")).unwrap().set_modified(time).unwrap();
            let answer = get(&server, "/note.txt");
            assert_eq!((answer.status, answer.text().as_str()), (200, "a note"), "{time:?}");
        }
    }
}
