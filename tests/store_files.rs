//! `/files/{name}` with `--directory`: reading and writing a store. An upload that fails leaves nothing.

mod common;

use common::{Client, Response, Server, Setup, TempDir, eventually, exchange, get, noise, on_every_engine, shown};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// A store with a secret file beside it, which only a request that leaves the store could reach.
struct Place {
    outside: TempDir,
    store: PathBuf,
}

impl Place {
    fn new() -> Place {
        let outside = TempDir::new();
        outside.write("secret", "SECRET");
        outside.write("store/inside.txt", "inside");
        outside.write("store/sub/deep.txt", "deep");
        let store = outside.join("store");
        Place { outside, store }
    }

    fn serve(&self, engine: common::Engine, more: &[&str]) -> Server {
        Setup::on(engine).args(["--directory", self.store.to_str().unwrap()]).args(more).start()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.store.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The names in the store itself, sorted.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.store).unwrap().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Waits until the store holds these names and no temporary one.
    fn settles_to(&self, names: &[&str]) {
        eventually(&format!("a store of {names:?}, not {:?}", self.names()), || (self.names() == names).then_some(()));
    }
}

const UNTOUCHED: [&str; 2] = ["inside.txt", "sub"];

fn upload(server: &Server, method: &str, path: &str, body: &[u8]) -> Response {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    exchange(server, [head.as_bytes(), body].concat())
}

/// Targets that try to leave the store, or that name something else than a regular file in it.
const ESCAPES: &[&str] = &[
    "/files/../secret",
    "/files/./../secret",
    "/files/sub/../../secret",
    "/files/%2e%2e/secret",
    "/files/%2E%2E/secret",
    "/files/.%2e/secret",
    "/files/..%2fsecret",
    "/files/..%2Fsecret",
    "/files/%2e%2e%2fsecret",
    "/files/sub%2f..%2f..%2fsecret",
    "/files/..%5csecret",
    "/files/..\\secret",
    "/files/....//secret",
    "/files/..;/secret",
    "/files/..%00/secret",
    "/files/../secret%00.txt",
    "/files//etc/passwd",
    "/files/%2fetc%2fpasswd",
    "/files/%2Fetc/passwd",
    "/files/%252e%252e%252fsecret",
    "/files/..%c0%afsecret",
    "/files/%c0%ae%c0%ae/secret",
    "/files/..",
    "/files/.",
    "/files/%2e%2e",
    "/files/../store/../secret",
    "/files/../../../../../../../../etc/passwd",
    "http://localhost/files/../secret",
];

on_every_engine! {
    fn every_file_is_sent_as_octet_stream(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &[]);
        for name in ["inside.txt", "page.html", "noext"] {
            fs::write(place.store.join(name), "some bytes").unwrap();
            let answer = get(&server, &format!("/files/{name}"));
            assert_eq!(answer.status, 200);
            assert_eq!(answer.field("Content-Type"), Some("application/octet-stream"), "{name}");
            assert_eq!(answer.content_length(), Some(10));
            assert_eq!(answer.body, b"some bytes");
        }
    }

    fn any_bytes_come_back_as_they_are(engine: Engine) {
        let place = Place::new();
        let every: Vec<u8> = (0..=255).collect();
        fs::write(place.store.join("every"), &every).unwrap();
        fs::write(place.store.join("empty"), "").unwrap();
        let server = place.serve(engine, &[]);
        assert_eq!(get(&server, "/files/every").body, every);
        let empty = get(&server, "/files/empty");
        assert_eq!((empty.status, empty.content_length()), (200, Some(0)));
    }

    fn a_missing_name_or_a_folder_is_404(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &[]);
        for path in
            ["/files/missing", "/files/sub", "/files/sub/", "/files/", "/files/inside.txt/", "/files/inside.txt/x"]
        {
            assert_eq!(get(&server, path).status, 404, "{path}");
            let head = exchange(&server, format!("HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert_eq!(head.status, 404, "HEAD {path}");
        }
    }

    fn post_creates_with_201_and_a_location_that_works(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &[]);
        let answer = upload(&server, "POST", "/files/new.txt", b"12345");
        assert_eq!((answer.status, answer.reason.as_str()), (201, "Created"));
        let location = answer.field("Location").expect("a Location").to_owned();
        assert!(location.ends_with("/files/new.txt"), "{location}");
        assert_eq!(place.read("new.txt"), b"12345");
        assert_eq!(get(&server, "/files/new.txt").body, b"12345");
        place.settles_to(&["inside.txt", "new.txt", "sub"]);
    }

    fn post_replaces_what_is_there(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &[]);
        upload(&server, "POST", "/files/inside.txt", b"new").expect_status(&[200, 201, 204]);
        assert_eq!(place.read("inside.txt"), b"new");
        place.settles_to(&UNTOUCHED);
    }

    fn put_answers_201_for_new_and_204_for_replaced(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &[]);
        let first = upload(&server, "PUT", "/files/x", b"a long first version");
        assert_eq!(first.status, 201);
        let second = upload(&server, "PUT", "/files/x", b"second");
        assert_eq!(second.status, 204);
        assert!(second.body.is_empty());
        assert_eq!(place.read("x"), b"second");
        place.settles_to(&["inside.txt", "sub", "x"]);
    }

    fn an_empty_upload_makes_an_empty_file(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &[]);
        assert_eq!(upload(&server, "PUT", "/files/empty", b"").status, 201);
        assert_eq!(place.read("empty"), b"");
    }

    fn uploads_and_reads_share_one_connection(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &[]);
        let mut client = Client::connect(&server);
        client.send(concat!(
            "PUT /files/a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none",
            "GET /files/a HTTP/1.1\r\nHost: x\r\n\r\n",
            "PUT /files/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n",
            "GET /files/a HTTP/1.1\r\nHost: x\r\n\r\n",
            "PUT /files/a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
            "GET /files/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        ));
        for (put, body) in [(201, "one"), (204, "two"), (204, "")] {
            assert_eq!(client.read_response().status, put);
            assert_eq!(client.read_response().text(), body);
        }
        client.expect_closed();
    }

    fn names_are_decoded_and_the_location_leads_back(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &[]);
        let cases = [
            ("hello%20world.txt", "hello world.txt"),
            ("%C3%BC.txt", "ü.txt"),
            ("100%25", "100%"),
            ("q%3Fx", "q?x"),
            ("h%23x", "h#x"),
            ("a+b&c=d;e,f", "a+b&c=d;e,f"),
            ("dots..in..it..", "dots..in..it.."),
            ("%3Cb%3E%22.html", "<b>\".html"),
        ];
        for (path, name) in cases {
            let answer = upload(&server, "PUT", &format!("/files/{path}"), name.as_bytes());
            assert_eq!(answer.status, 201, "{path}");
            assert_eq!(place.read(name), name.as_bytes());
            if let Some(location) = answer.field("Location") {
                let target = &location[location.find("/files/").expect("a path under /files/")..];
                assert_eq!(get(&server, target).body, name.as_bytes(), "{location}");
            }
        }
    }

    fn no_spelling_of_a_path_reads_outside_the_store(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &[]);
        let first_page = get(&server, "/").body;
        for target in ESCAPES {
            let answer = get(&server, target);
            // Dot segments may be resolved before the route is chosen: `/files/..` is `/`.
            assert!([400, 404].contains(&answer.status) || answer.body == first_page, "{target}: {}", answer.status);
            assert!(!answer.text().contains("SECRET") && !answer.text().contains("root:"), "{target}");
        }
    }

    fn no_spelling_of_a_path_writes_outside_the_store(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &[]);
        let outside = |place: &Place| -> Vec<PathBuf> {
            place.outside.entries().into_iter().filter(|path| !path.starts_with("store")).collect()
        };
        let before = outside(&place);
        for target in ESCAPES {
            for method in ["PUT", "POST"] {
                let answer = upload(&server, method, target, b"written");
                // In a file name, a backslash or a semicolon is an ordinary byte. Dot segments may be resolved first,
                // and then another route answers.
                answer.expect_status(&[201, 204, 400, 404, 405]);
                assert_eq!(outside(&place), before, "{method} {target}");
                assert_eq!(fs::read(place.outside.join("secret")).unwrap(), b"SECRET", "{method} {target}");
            }
        }
        // Everything that was stored is a regular file of the store.
        assert!(place.names().iter().all(|name| name == "sub" || place.store.join(name).is_file()));
    }

    fn an_upload_over_a_folder_is_refused(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &[]);
        for target in ["/files/sub", "/files/", "/files/sub/"] {
            let answer = upload(&server, "PUT", target, b"written");
            assert!((400..500).contains(&answer.status), "{target}: {}", answer.status);
        }
        assert_eq!(place.read("sub/deep.txt"), b"deep");
        place.settles_to(&UNTOUCHED);
    }

    fn an_upload_into_a_missing_folder_is_refused(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &[]);
        let answer = upload(&server, "PUT", "/files/missing/x", b"written");
        answer.expect_status(&[400, 404, 409]);
        place.settles_to(&UNTOUCHED);
    }

    fn a_name_too_long_for_the_disk_is_refused(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &[]);
        let target = format!("/files/{}", "n".repeat(300));
        assert_eq!(get(&server, &target).status, 404);
        let answer = upload(&server, "PUT", &target, b"written");
        answer.expect_status(&[400, 404, 414]);
        place.settles_to(&UNTOUCHED);
        // The longest name that the disk allows works: the name of the temporary file does not depend on it.
        let longest = "n".repeat(255);
        assert_eq!(upload(&server, "PUT", &format!("/files/{longest}"), b"written").status, 201);
        assert_eq!(place.read(&longest), b"written");
    }

    fn a_symlink_out_of_the_store_is_not_followed(engine: Engine) {
        let place = Place::new();
        symlink(place.outside.join("secret"), place.store.join("absolute")).unwrap();
        symlink("../secret", place.store.join("relative")).unwrap();
        symlink("..", place.store.join("up")).unwrap();
        symlink("/", place.store.join("top")).unwrap();
        symlink("loop", place.store.join("loop")).unwrap();
        let server = place.serve(engine, &[]);
        for path in ["absolute", "relative", "up/secret", "up", "top/etc/passwd", "loop"] {
            let answer = get(&server, &format!("/files/{path}"));
            assert_eq!(answer.status, 404, "{path}: {}", answer.text());
        }
        for path in ["absolute", "relative", "up/secret", "up/created", "loop"] {
            upload(&server, "PUT", &format!("/files/{path}"), b"written");
            assert_eq!(fs::read(place.outside.join("secret")).unwrap(), b"SECRET", "PUT {path}");
            assert!(!place.outside.join("created").exists(), "PUT {path}");
        }
    }

    fn a_symlink_inside_the_store_is_followed(engine: Engine) {
        let place = Place::new();
        symlink("inside.txt", place.store.join("alias")).unwrap();
        symlink(place.store.join("inside.txt"), place.store.join("absolute")).unwrap();
        let server = place.serve(engine, &[]);
        assert_eq!(get(&server, "/files/alias").body, b"inside");
        assert_eq!(get(&server, "/files/absolute").body, b"inside");
    }

    fn an_upload_killed_half_way_leaves_nothing(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &[]);
        let counted = "Content-Length: 100000\r\n\r\n";
        let chunked = "Transfer-Encoding: chunked\r\n\r\n10000\r\n";
        for framing in [counted, chunked] {
            for name in ["new.txt", "inside.txt"] {
                for reset in [false, true] {
                    let mut client = Client::connect(&server);
                    client.send(format!("PUT /files/{name} HTTP/1.1\r\nHost: x\r\n{framing}"));
                    client.send(noise(50_000));
                    if reset {
                        client.abort();
                    } else {
                        drop(client);
                    }
                    place.settles_to(&UNTOUCHED);
                    assert_eq!(place.read("inside.txt"), b"inside");
                }
            }
        }
    }

    fn an_upload_that_ends_early_by_half_close_is_refused(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &[]);
        for framing in ["Content-Length: 10\r\n\r\nfive!", "Transfer-Encoding: chunked\r\n\r\n5\r\nfive!\r\n"] {
            let mut client = Client::connect(&server);
            client.send(format!("PUT /files/new.txt HTTP/1.1\r\nHost: x\r\n{framing}"));
            client.finish_sending();
            if let Some(answer) = client.next_response() {
                assert_eq!(answer.status, 400, "{framing}");
            }
            client.expect_closed();
            place.settles_to(&UNTOUCHED);
        }
    }

    #[skip(Iterative, "serves one client at a time")]
    fn an_upload_shows_only_when_it_is_whole(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &[]);
        let mut client = Client::connect(&server);
        client.send("PUT /files/inside.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nnew");
        for _ in 0..20 {
            assert_eq!(get(&server, "/files/inside.txt").body, b"inside");
        }
        client.send("est");
        assert_eq!(client.read_response().status, 204);
        assert_eq!(get(&server, "/files/inside.txt").body, b"newest");
    }

    fn a_chunked_upload_is_decoded(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &[]);
        let bodies: &[(&str, &str)] = &[
            ("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world"),
            ("0\r\n\r\n", ""),
            ("0000a\r\n0123456789\r\n000\r\n\r\n", "0123456789"),
            ("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789"),
            ("5;name=value;other=\"quo\\\"ted\"\r\nhello\r\n0;last\r\n\r\n", "hello"),
            ("5\r\nhello\r\n0\r\nTrailer-One: 1\r\nHost: smuggled\r\n\r\n", "hello"),
            ("4\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n"),
        ];
        let mut client = Client::connect(&server);
        for (index, (body, decoded)) in bodies.iter().enumerate() {
            let head = format!("PUT /files/c{index} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
            client.send(format!("{head}{body}"));
            assert_eq!(client.read_response().status, 201, "{body}");
            assert_eq!(place.read(&format!("c{index}")), decoded.as_bytes());
        }
    }

    fn a_client_that_expects_100_is_told_to_continue(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &[]);
        for (expect, framing, body) in [
            ("100-continue", "Content-Length: 5", "hello"),
            ("100-Continue", "Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
        ] {
            let mut client = Client::connect(&server);
            client.send(format!("POST /files/x HTTP/1.1\r\nHost: x\r\nExpect: {expect}\r\n{framing}\r\n\r\n"));
            assert_eq!(client.read_response().status, 100, "{expect}");
            client.send(body);
            assert_eq!(client.read_response().status, 201, "{expect}");
            assert_eq!(place.read("x"), b"hello");
            client.send("GET /files/x HTTP/1.1\r\nHost: x\r\n\r\n");
            assert_eq!(client.read_response().body, b"hello");
        }
    }

    fn an_upload_refused_by_its_head_gets_no_100(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &["--max-body-size", "1K"]);
        let cases: [(&str, &str, &[u16]); 4] = [
            ("POST /files/x", "Content-Length: 1025", &[413]),
            ("PUT /files/x", "Content-Length: 99999999999", &[413]),
            ("PUT /files/..%2fx", "Content-Length: 5", &[400, 404]),
            ("POST /echo/x", "Content-Length: 5", &[405]),
        ];
        for (request, length, statuses) in cases {
            let mut client = Client::connect(&server);
            client.send(format!("{request} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n{length}\r\n\r\n"));
            client.read_response().expect_status(statuses);
        }
        place.settles_to(&UNTOUCHED);
    }

    fn a_big_upload_arrives_whole_with_little_memory(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &["--max-body-size", "1G"]);
        let part = noise(1 << 20);
        let mut client = Client::connect(&server);
        client.send("PUT /files/big HTTP/1.1\r\nHost: x\r\nContent-Length: 67108864\r\n\r\n");
        for _ in 0..64 {
            client.send(&part);
        }
        assert_eq!(client.read_response().status, 201);
        let stored = place.read("big");
        assert!(stored.len() == 64 << 20 && stored.chunks(1 << 20).all(|chunk| chunk == part), "stored as sent");
        let peak = server.memory("VmHWM");
        assert!(peak < 40 << 10, "gathered in memory: {peak} KiB at its highest");
    }

    fn a_chunked_upload_of_many_small_chunks_arrives_whole(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &[]);
        let body = noise(300_000);
        let mut message = b"PUT /files/many HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        let mut rest = body.as_slice();
        for size in (1..200).cycle() {
            let (chunk, after) = rest.split_at(size.min(rest.len()));
            message.extend(format!("{:x}\r\n", chunk.len()).bytes());
            message.extend(chunk);
            message.extend(b"\r\n");
            if chunk.is_empty() {
                break;
            }
            rest = after;
        }
        assert_eq!(exchange(&server, message).status, 201);
        assert!(place.read("many") == body);
    }

    fn a_full_disk_is_told_and_leaves_nothing(engine: Engine) {
        // A tmpfs of 256 KiB that only the server sees. Mounting it needs a privilege.
        let mount = ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=256k none \"$PLACE\" && exec \"$@\"", "sh"];
        let tried = std::process::Command::new("unshare").args(["-m", "true"]).output();
        if !tried.is_ok_and(|outcome| outcome.status.success()) {
            eprintln!("skipped: no right to mount a small disk here");
            return;
        }
        let place = Place::new();
        let store = place.store.to_str().unwrap();
        let server = Setup::on(engine).through(&mount).env("PLACE", store).args(["--directory", store]).start();
        let mut client = Client::connect(&server);
        client.send("PUT /files/x HTTP/1.1\r\nHost: x\r\nContent-Length: 600000\r\n\r\n");
        let _ = client.try_send(noise(600_000));
        client.read_response().expect_status(&[500, 507]);
        let seen = format!("/proc/{}/root{store}", server.pid());
        eventually("the full disk to be empty again", || fs::read_dir(&seen).unwrap().next().is_none().then_some(()));
        assert_eq!(upload(&server, "PUT", "/files/small", b"there is room again").status, 201);
    }

    fn a_store_beside_a_site_keeps_its_route(engine: Engine) {
        let place = Place::new();
        let site = TempDir::new();
        site.write("index.html", "<p>home");
        let server = place.serve(engine, &[site.arg()]);
        assert_eq!(get(&server, "/").body, b"<p>home");
        assert_eq!(get(&server, "/files/inside.txt").body, b"inside");
    }

    fn without_a_store_there_is_no_files_route(engine: Engine) {
        let site = TempDir::new();
        let server = Server::start_on(engine, &[site.arg()]);
        assert_eq!(get(&server, "/files/x").status, 404);
        upload(&server, "PUT", "/files/x", b"written").expect_status(&[404, 405]);
        assert!(site.entries().is_empty(), "{:?}", site.entries());
    }

    fn a_slow_upload_in_many_pieces_arrives_whole(engine: Engine) {
        let place = Place::new();
        let server = place.serve(engine, &[]);
        let message = b"PUT /files/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 26\r\n\r\nabcdefghijklmnopqrstuvwxyz";
        let mut client = Client::connect(&server);
        for byte in message {
            client.send([*byte]);
        }
        let answer = client.read_response();
        assert_eq!(answer.status, 201, "{}", shown(&answer.body));
        assert_eq!(place.read("slow"), b"abcdefghijklmnopqrstuvwxyz");
    }
}
