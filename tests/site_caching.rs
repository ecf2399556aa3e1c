//! What a cache needs to know: validators, Cache-Control, and what a 304 repeats.

mod common;

use common::{Engine, Response, Server, Setup, TempDir, exchange, get, gunzip, on_every_engine};
use flate2::{Compression, write::GzEncoder};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn serve(place: &TempDir, engine: Engine, flags: &[&str]) -> Server {
    Setup::on(engine).arg(place.join("site")).args(flags).start()
}

fn ask(server: &Server, method: &str, path: &str, fields: &str) -> Response {
    exchange(server, format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n"))
}

fn set_modified(place: &TempDir, name: &str, time: SystemTime) {
    File::options().write(true).open(place.join(name)).unwrap().set_modified(time).unwrap();
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

on_every_engine! {
    fn nothing_is_said_about_caching_unless_asked_for(engine: Engine) {
        let place = TempDir::new();
        place.write("site/app.3f2a9c1b.js", "x");
        let server = serve(&place, engine, &[]);
        let answer = get(&server, "/app.3f2a9c1b.js");
        for name in ["Cache-Control", "Expires", "Age"] {
            assert_eq!(answer.field(name), None, "{answer:?}");
        }
    }

    fn the_first_pattern_that_fits_decides(engine: Engine) {
        let place = TempDir::new();
        place.write("site/index.html", "home");
        place.write("site/a.css", "words ".repeat(100));
        place.write("site/sub/a.css", "sub");
        place.write("site/sub/index.html", "sub");
        place.write("site/assets/x/y.png", "png");
        place.write("site/app.3f2a9c1b.js", "hashed");
        place.write("site/app.20240131.js", "dated");
        place.write("site/plain/one.txt", "one");
        let flags = [
            "--cache-control=/a.css=max-age=1",
            "--cache-control=*.css=max-age=2, public",
            "--cache-control=assets/**=no-cache",
            "--cache-control=*.html=no-store",
            "--immutable",
        ];
        let server = serve(&place, engine, &flags);
        for (path, value) in [
            ("/a.css", Some("max-age=1")),
            ("/sub/a.css", Some("max-age=2, public")),
            ("/assets/x/y.png", Some("no-cache")),
            ("/", Some("no-store")),
            ("/sub/", Some("no-store")),
            ("/app.3f2a9c1b.js", Some("public, max-age=31536000, immutable")),
            ("/app.20240131.js", None),
            ("/plain/one.txt", None),
            ("/plain/", None),
            ("/missing.css", None),
            ("/assets/missing", None),
            ("/echo/a.css", None),
        ] {
            assert_eq!(get(&server, path).field("Cache-Control"), value, "{path}");
            assert_eq!(get(&server, path).field("Expires"), None, "{path}");
        }
        let etag = get(&server, "/a.css").field("ETag").unwrap().to_owned();
        let coded = ask(&server, "GET", "/a.css", "Accept-Encoding: gzip\r\n");
        let coded_etag = coded.field("ETag").unwrap();
        for (fields, status) in [
            (format!("If-None-Match: {etag}\r\n"), 304),
            (format!("If-None-Match: {coded_etag}\r\nAccept-Encoding: gzip\r\n"), 304),
            ("Range: bytes=0-1\r\n".to_owned(), 206),
            ("Range: bytes=0-1,4-5\r\n".to_owned(), 206),
            ("Accept-Encoding: gzip\r\n".to_owned(), 200),
        ] {
            let answer = ask(&server, "GET", "/a.css", &fields);
            assert_eq!((answer.status, answer.field("Cache-Control")), (status, Some("max-age=1")), "{fields}");
        }
        for fields in ["Range: bytes=9999-\r\n", "If-Match: \"x\"\r\n"] {
            let answer = ask(&server, "GET", "/a.css", fields);
            assert_eq!(answer.field("Cache-Control"), None, "an error is not the file: {answer:?}");
        }
    }

    /// What is coded while it is sent has no length the first time; once it is kept it could have one.
    fn head_tells_the_same_before_and_after_a_coding_is_kept(engine: Engine) {
        let place = TempDir::new();
        place.write("site/a.txt", "many words ".repeat(20_000));
        let server = serve(&place, engine, &[]);
        // Only a file that has been left alone for a while is kept.
        thread::sleep(Duration::from_millis(3500));
        let fields = "Accept-Encoding: gzip\r\n";
        let before = ask(&server, "HEAD", "/a.txt", fields);
        for _ in 0..3 {
            let answer = ask(&server, "GET", "/a.txt", fields);
            assert_eq!(gunzip(&answer.body), "many words ".repeat(20_000).as_bytes());
            assert_eq!(answer.lasting_fields(), before.lasting_fields());
            assert_eq!(ask(&server, "HEAD", "/a.txt", fields).lasting_fields(), before.lasting_fields());
        }
    }

    fn a_304_carries_what_the_200_would_have(engine: Engine) {
        let place = TempDir::new();
        place.write("site/long.css", "words ".repeat(500));
        let flags = ["--cache-control=**=max-age=5", "--cors=https://a.example", "--header=X-A: b"];
        let server = serve(&place, engine, &flags);
        for coding in ["", "Accept-Encoding: gzip\r\n"] {
            let whole = ask(&server, "GET", "/long.css", coding);
            let etag = whole.field("ETag").unwrap();
            for method in ["GET", "HEAD"] {
                let not_modified = ask(&server, method, "/long.css", &format!("If-None-Match: {etag}\r\n{coding}"));
                assert_eq!(not_modified.status, 304);
                for name in ["ETag", "Vary", "Cache-Control", "X-A", "Access-Control-Allow-Origin"] {
                    assert!(whole.field(name).is_some(), "{name}");
                    assert_eq!(not_modified.field(name), whole.field(name), "{name}");
                }
                assert!(not_modified.field("Date").is_some());
                for name in ["Content-Type", "Content-Encoding", "Content-Length", "Last-Modified"] {
                    assert_eq!(not_modified.field(name), None, "{name}");
                }
            }
        }
    }

    fn a_read_whose_precondition_fails_is_412(engine: Engine) {
        let place = TempDir::new();
        place.write("site/note.txt", "note");
        set_modified(&place, "site/note.txt", UNIX_EPOCH + Duration::from_secs(784_111_777));
        let server = serve(&place, engine, &[]);
        let etag = get(&server, "/note.txt").field("ETag").unwrap().to_owned();
        for method in ["GET", "HEAD"] {
            for fields in [
                "If-Match: \"x\"\r\n".to_owned(),
                format!("If-Match: W/{etag}\r\n"),
                "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n".to_owned(),
                format!("If-Match: \"x\"\r\nIf-None-Match: {etag}\r\nRange: bytes=0-0\r\n"),
            ] {
                assert_eq!(ask(&server, method, "/note.txt", &fields).status, 412, "{method} {fields}");
            }
        }
    }

    fn last_modified_is_never_in_the_future(engine: Engine) {
        let place = TempDir::new();
        place.write("site/note.txt", "note");
        set_modified(&place, "site/note.txt", SystemTime::now() + Duration::from_secs(1_000_000));
        let server = serve(&place, engine, &[]);
        let answer = get(&server, "/note.txt");
        let date = httpdate::parse_http_date(answer.field("Date").unwrap()).unwrap();
        let modified = httpdate::parse_http_date(answer.field("Last-Modified").unwrap()).unwrap();
        assert!(modified <= date, "{answer:?}");
        // Such a date tells nothing apart: a range is not glued to what may be another content.
        let fields = format!("Range: bytes=0-0\r\nIf-Range: {}\r\n", answer.field("Date").unwrap());
        assert_eq!(ask(&server, "GET", "/note.txt", &fields).status, 200);
    }

    fn the_time_of_a_reproducible_build_is_no_last_modified(engine: Engine) {
        let place = TempDir::new();
        place.write("site/note.txt", "note");
        let server = serve(&place, engine, &[]);
        for seconds in [0, 1] {
            set_modified(&place, "site/note.txt", UNIX_EPOCH + Duration::from_secs(seconds));
            let answer = get(&server, "/note.txt");
            assert_eq!(answer.field("Last-Modified"), None, "{seconds}");
            let etag = answer.field("ETag").expect("an ETag all the same");
            assert_eq!(ask(&server, "GET", "/note.txt", &format!("If-None-Match: {etag}\r\n")).status, 304);
            let since = "If-Modified-Since: Fri, 31 Dec 2100 23:59:59 GMT\r\n";
            assert_eq!(ask(&server, "GET", "/note.txt", since).status, 200, "no date, no condition on it");
        }
        set_modified(&place, "site/note.txt", UNIX_EPOCH + Duration::from_secs(2));
        assert_eq!(get(&server, "/note.txt").field("Last-Modified"), Some("Thu, 01 Jan 1970 00:00:02 GMT"));
    }

    fn a_neighbour_made_beforehand_is_sent_to_who_takes_it(engine: Engine) {
        let place = TempDir::new();
        let text = "the same words ".repeat(100);
        place.write("site/page.html", &text);
        place.write("site/page.html.gz", gzip(&text));
        place.write("site/page.html.br", "BROTLI");
        place.write("site/page.html.zst", "ZSTD");
        place.write("site/image.png", "PNG");
        place.write("site/image.png.gz", gzip("PNG"));
        place.write("site/alone.png", "PNG");
        place.write("site/sub/index.html", "sub");
        place.write("site/sub/index.html.br", "BR SUB");
        let server = serve(&place, engine, &["--precompressed", "--try-html", "--cache-control=*.html=no-cache"]);
        let take = |path: &str, accept: &str| ask(&server, "GET", path, &format!("Accept-Encoding: {accept}\r\n"));
        for (accept, coding, body) in [
            ("gzip, deflate, br, zstd", Some("br"), &b"BROTLI"[..]),
            ("br;q=0.5, zstd", Some("zstd"), b"ZSTD"),
            ("gzip, zstd", Some("zstd"), b"ZSTD"),
            ("BR", Some("br"), b"BROTLI"),
            ("x-gzip", Some("gzip"), &gzip(&text)),
            ("gzip", Some("gzip"), &gzip(&text)),
            ("*", Some("br"), b"BROTLI"),
            ("br;q=0", None, text.as_bytes()),
            ("identity", None, text.as_bytes()),
            ("identity, br;q=0.5", None, text.as_bytes()),
            ("identity;q=0, br", Some("br"), b"BROTLI"),
        ] {
            let answer = take("/page.html", accept);
            assert_eq!((answer.status, answer.field("Content-Encoding")), (200, coding), "{accept}");
            assert_eq!(answer.body, body, "{accept}");
            assert_eq!(answer.content_length(), Some(body.len()), "{accept}");
            assert_eq!(answer.field("Content-Type"), Some("text/html; charset=utf-8"), "{accept}");
            assert_eq!(answer.field("Vary"), Some("Accept-Encoding"), "{accept}");
            assert_eq!(answer.field("Cache-Control"), Some("no-cache"), "that of the original: {accept}");
            let head = ask(&server, "HEAD", "/page.html", &format!("Accept-Encoding: {accept}\r\n"));
            assert_eq!(head.lasting_fields(), answer.lasting_fields(), "{accept}");
        }
        // Each its own strong tag, and each is revalidated as itself.
        let tags = ["identity", "br", "zstd", "gzip", "deflate"];
        let tags = tags.map(|accept| take("/page.html", accept).field("ETag").unwrap().to_owned());
        for (at, tag) in tags.iter().enumerate() {
            assert!(tag.starts_with('"') && !tags[..at].contains(tag), "{tags:?}");
        }
        let conditional = |tag: &str| take("/page.html", &format!("br\r\nIf-None-Match: {tag}")).status;
        assert_eq!((conditional(&tags[1]), conditional(&tags[0]), conditional(&tags[3])), (304, 200, 200));
        // Only a deflate is made: nobody keeps such files.
        assert_eq!(take("/page.html", "deflate").field("Content-Encoding"), Some("deflate"));
        // A type that is never compressed on the fly may have a neighbour all the same.
        assert_eq!(gunzip(&take("/image.png", "gzip").body), b"PNG");
        assert_eq!(take("/image.png", "br").field("Vary"), Some("Accept-Encoding"));
        assert_eq!(get(&server, "/image.png").field("Vary"), Some("Accept-Encoding"));
        assert_eq!(take("/alone.png", "br").field("Vary"), None, "nothing to choose from");
        // Index files and --try-html have neighbours as well, and each is itself a file.
        for path in ["/sub/", "/sub/index.html", "/sub/index"] {
            assert_eq!(take(path, "br").body, b"BR SUB", "{path}");
        }
        let itself = take("/page.html.gz", "gzip");
        assert_eq!((itself.field("Content-Encoding"), itself.media_type().as_str()), (None, "application/gzip"));
        // A part is a part of the file as it is.
        let part = take("/page.html", "br\r\nRange: bytes=0-2");
        assert_eq!((part.status, part.body.as_slice(), part.field("Content-Range")), (200, &b"BROTLI"[..], None));
        let part = take("/page.html", "identity\r\nRange: bytes=0-2");
        assert_eq!((part.status, part.body.as_slice()), (206, &b"the"[..]));
        let without = serve(&place, engine, &[]);
        assert_eq!(ask(&without, "GET", "/page.html", "Accept-Encoding: br\r\n").text(), text);
    }

    fn a_neighbour_that_is_old_or_outside_or_no_file_is_none(engine: Engine) {
        let place = TempDir::new();
        place.write("outside/secret", "SECRET");
        place.write("site/page.html", "new");
        place.write("site/page.html.br", "OLD");
        symlink("../outside/secret", place.join("site/page.html.gz")).unwrap();
        fs::create_dir(place.join("site/page.html.zst")).unwrap();
        let time = UNIX_EPOCH + Duration::new(1_700_000_000, 500);
        set_modified(&place, "site/page.html", time);
        set_modified(&place, "site/page.html.br", time - Duration::from_nanos(1));
        let server = serve(&place, engine, &["--precompressed"]);
        let take = || ask(&server, "GET", "/page.html", "Accept-Encoding: br, zstd, gzip\r\n");
        let answer = take();
        assert_eq!((answer.text().as_str(), answer.field("Content-Encoding"), answer.field("Vary")), ("new", None, None));
        set_modified(&place, "site/page.html.br", time);
        assert_eq!((take().text().as_str(), take().field("Content-Encoding")), ("OLD", Some("br")));
        fs::remove_file(place.join("site/page.html.br")).unwrap();
        assert_eq!(take().text(), "new");
        let all = serve(&place, engine, &["--precompressed", "--symlinks=all"]);
        assert_eq!(ask(&all, "GET", "/page.html", "Accept-Encoding: gzip\r\n").text(), "SECRET");
    }

    fn a_large_neighbour_streams_as_it_is(engine: Engine) {
        let place = TempDir::new();
        let coded = common::noise(300_000);
        place.write("site/large.js", vec![b' '; 1_000_000]);
        place.write("site/large.js.br", &coded);
        let server = serve(&place, engine, &["--precompressed"]);
        let answer = ask(&server, "GET", "/large.js", "Accept-Encoding: br\r\n");
        assert!(answer.body == coded);
        assert_eq!(answer.content_length(), Some(300_000));
        assert_eq!(answer.field("Accept-Ranges"), None);
    }
}
