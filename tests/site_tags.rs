//! An entity tag changes whenever the content changes, even if the file keeps its mtime and size: as after `npm ci`
//! (every file is of 1985), a reproducible build, `rsync -t --inplace`, tar, or `touch -r`.

mod common;

use common::{Client, Engine, Response, Server, Setup, TempDir, on_every_engine};
use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

/// The number of files. A freed inode is used again for one of the next.
const FILES: usize = 75;
/// The mtime that npm gives every file.
const NPM: Duration = Duration::from_secs(499_162_500);

/// All versions of a file have the same size: one file is small, one compressible, one too large to be read whole.
fn content(number: usize, version: usize) -> String {
    let line = format!("export const file = {number:03}, version = '1.0.{version}'\n");
    line.repeat(match number % 25 {
        24 => 7_000,
        23 => 100,
        _ => 1,
    })
}

fn set_mtime(path: &Path) {
    let times = FileTimes::new().set_modified(UNIX_EPOCH + NPM);
    File::options().write(true).open(path).unwrap().set_times(times).unwrap();
}

/// Writes all files anew, in one of several ways.
fn install(place: &TempDir, version: usize) {
    for number in 0..FILES {
        let path = place.join(format!("site/{number}.js"));
        let text = content(number, version);
        match (version, number % 3) {
            (0, _) => drop(place.write(format!("site/{number}.js"), &text)),
            // In place, as rsync --inplace does.
            (_, 0) => File::options().write(true).open(&path).unwrap().write_all(text.as_bytes()).unwrap(),
            _ => {
                fs::remove_file(&path).unwrap();
                fs::write(&path, &text).unwrap();
            }
        }
        set_mtime(&path);
    }
}

fn site(engine: Engine, place: &TempDir, more: &[&str]) -> Server {
    let site = place.join("site");
    let arguments = ["--directory", site.to_str().unwrap(), "--access-log", "off"];
    Setup::on(engine).arg(&site).args(arguments).args(more).start()
}

fn ask(client: &mut Client, method: &str, path: &str, fields: &str, body: &str) -> Response {
    let length = body.len();
    client.send(format!("{method} {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n{fields}\r\n{body}"));
    if method == "HEAD" { client.read_response_to_head() } else { client.read_response() }
}

fn tag(answer: &Response) -> String {
    answer.field("ETag").expect("an ETag").to_owned()
}

on_every_engine! {
    fn no_client_is_told_that_a_file_is_what_it_was(engine: Engine) {
        let place = TempDir::new();
        install(&place, 0);
        let server = site(engine, &place, &[]);
        let mut client = Client::connect(&server);
        for version in 1..=3 {
            let mut seen = Vec::new();
            for number in 0..FILES {
                for path in [format!("/{number}.js"), format!("/files/{number}.js")] {
                    for coding in ["identity", "gzip"] {
                        let fields = format!("Accept-Encoding: {coding}\r\n");
                        let etag = tag(&ask(&mut client, "GET", &path, &fields, ""));
                        let same = format!("{fields}If-None-Match: {etag}\r\n");
                        assert_eq!(ask(&mut client, "GET", &path, &same, "").status, 304, "{path}: nothing has changed");
                        seen.push((path.clone(), fields, etag));
                    }
                }
            }
            install(&place, version);
            let mut wrong = Vec::new();
            for (path, fields, etag) in &seen {
                let mut statuses = vec![
                    ask(&mut client, "GET", path, &format!("{fields}If-None-Match: {etag}\r\n"), "").status,
                    ask(&mut client, "HEAD", path, &format!("{fields}If-None-Match: W/{etag}\r\n"), "").status,
                    ask(&mut client, "GET", path, &format!("Range: bytes=0-9\r\nIf-Range: {etag}\r\n"), "").status,
                ];
                if path.starts_with("/files/") && fields.contains("identity") {
                    let match_it = format!("If-Match: {etag}\r\n");
                    statuses.push(412 - ask(&mut client, "PUT", path, &match_it, "lost").status + 200);
                }
                if statuses.iter().any(|&status| status != 200) {
                    wrong.push((path, statuses));
                }
            }
            assert!(wrong.is_empty(), "{} wrong of {}: {wrong:?}", wrong.len(), seen.len());
        }
    }

    fn a_file_that_clients_write_is_replaced_only_as_it_was_seen(engine: Engine) {
        let place = TempDir::new();
        place.write("site/a", "one");
        let server = site(engine, &place, &["--allow-delete"]);
        let mut client = Client::connect(&server);
        for round in 0..40 {
            let seen = tag(&ask(&mut client, "GET", "/files/a", "", ""));
            if round % 2 == 0 {
                // Another program changes the file at once, to the same size.
                fs::write(place.join("site/a"), format!("{round:03}")).unwrap();
                for method in ["PUT", "DELETE"] {
                    let answer = ask(&mut client, method, "/files/a", &format!("If-Match: {seen}\r\n"), "two");
                    assert_eq!(answer.status, 412, "{method}, round {round}");
                }
            } else {
                let answer = ask(&mut client, "PUT", "/files/a", &format!("If-Match: {seen}\r\n"), "new");
                assert_eq!(answer.status, 204, "round {round}");
            }
        }
        let seen = tag(&ask(&mut client, "GET", "/files/a", "", ""));
        assert_eq!(ask(&mut client, "DELETE", "/files/a", &format!("If-Match: {seen}\r\n"), "").status, 204);
    }

    /// A file that changes again within the second in which its date was sent gets a later date.
    fn a_date_of_the_store_tells_two_changes_within_a_second_apart(engine: Engine) {
        let place = TempDir::new();
        place.write("site/old", "old");
        std::os::unix::fs::symlink("old", place.join("site/link")).unwrap();
        let server = site(engine, &place, &["--allow-delete"]);
        let mut client = Client::connect(&server);
        let date = |answer: &Response| answer.field("Last-Modified").unwrap().to_owned();
        for round in 0..20 {
            let path = format!("/files/a{round}");
            let mut put = |fields: &str| ask(&mut client, "PUT", &path, fields, &format!("{round} {fields}")).status;
            // Nobody was told the date of the first content, so the second may have the same one.
            assert_eq!((put(""), put("")), (201, 204));
            let seen = date(&ask(&mut client, "GET", &path, "", ""));
            let unmodified = format!("If-Unmodified-Since: {seen}\r\n");
            let mut put = |fields: &str| ask(&mut client, "PUT", &path, fields, &format!("{round} {fields}")).status;
            assert_eq!(put(&unmodified), 204, "the date that was sent can be used at once");
            assert_eq!(put(&unmodified), 412, "another change would have been lost");
            let modified = format!("If-Modified-Since: {seen}\r\n");
            assert_eq!(ask(&mut client, "GET", &path, &modified, "").status, 200);
            let removed = format!("/files/b{round}");
            assert_eq!(ask(&mut client, "PUT", &removed, "", "first").status, 201);
            let unmodified = format!("If-Unmodified-Since: {}\r\n", date(&ask(&mut client, "GET", &removed, "", "")));
            assert_eq!(ask(&mut client, "DELETE", &removed, "", "").status, 204);
            assert_eq!(ask(&mut client, "PUT", &removed, "", "second").status, 201);
            assert_eq!(ask(&mut client, "DELETE", &removed, &unmodified, "").status, 412);
        }
        let unmodified = format!("If-Unmodified-Since: {}\r\n", date(&ask(&mut client, "GET", "/files/link", "", "")));
        assert_eq!(ask(&mut client, "PUT", "/files/link", "", "no link").status, 204);
        assert_eq!(ask(&mut client, "PUT", "/files/link", &unmodified, "third").status, 412);
        // An old date can be used too.
        let old = File::options().write(true).open(place.join("site/old")).unwrap();
        old.set_times(FileTimes::new().set_modified(UNIX_EPOCH + NPM)).unwrap();
        assert_eq!(date(&ask(&mut client, "GET", "/files/old", "", "")), "Sat, 26 Oct 1985 08:15:00 GMT");
        let fields = "If-Unmodified-Since: Sat, 26 Oct 1985 08:15:00 GMT\r\n";
        assert_eq!(ask(&mut client, "PUT", "/files/old", fields, "third").status, 204);
    }

    /// An upload whose last byte came before the file was replaced by another one, and that is committed after it.
    #[skip(Iterative, "serves one client at a time")]
    fn an_upload_that_ends_later_has_the_later_date(engine: Engine) {
        let place = TempDir::new();
        place.write("site/old", "old");
        let server = site(engine, &place, &[]);
        let mut slow = Client::connect(&server);
        slow.send("PUT /files/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2000\r\n");
        slow.send("x".repeat(0x2000));
        slow.send("\r\n");
        server.await_upload_of(&place, 0x2000);
        thread::sleep(Duration::from_millis(1100));
        let mut client = Client::connect(&server);
        assert_eq!(ask(&mut client, "PUT", "/files/f", "", "quick").status, 201);
        let quick = ask(&mut client, "GET", "/files/f", "", "").field("Last-Modified").unwrap().to_owned();
        slow.send("0\r\n\r\n");
        assert_eq!(slow.read_response().status, 204);
        let fields = format!("If-Unmodified-Since: {quick}\r\n");
        assert_eq!(ask(&mut client, "PUT", "/files/f", &fields, "third").status, 412);
    }

    fn servers_of_equal_trees_agree_by_content_or_by_mtime_and_size(engine: Engine) {
        let places = [TempDir::new(), TempDir::new()];
        places.iter().for_each(|place| install(place, 0));
        let tags = |rule: &str, numbers: [usize; 2]| {
            let one = |place: &TempDir, number: usize| {
                let server = site(engine, place, &["--etag", rule]);
                tag(&common::get(&server, &format!("/{number}.js")))
            };
            [one(&places[0], numbers[0]), one(&places[1], numbers[1])]
        };
        let equal = |[one, other]: [String; 2]| one == other;
        assert!(equal(tags("content", [0, 0])) && !equal(tags("content", [0, 1])));
        // Above 256 KiB the tag depends only on mtime and size, and is weak.
        let [one, other] = tags("content", [24, 24]);
        assert!(one == other && one.starts_with("W/"), "{one} {other}");
        assert!(equal(tags("mtime-size", [0, 0])) && equal(tags("mtime-size", [24, 24])));
        assert!(equal(tags("mtime-size", [0, 1])), "it sees no difference, as --help says");
        assert!(!equal(tags("inode", [0, 0])));
    }
}
