//! Caching: validators, Cache-Control, and the fields that a 304 repeats.

mod common;

use common::{Engine, SETTLED, Server, Setup, TempDir, ask, get, gunzip, on_every_engine};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn serve(place: &TempDir, engine: Engine, flags: &[&str]) -> Server {
    Setup::on(engine).arg(place.join("site")).args(flags).start()
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

    fn no_answer_has_an_age(engine: Engine) {
        let place = TempDir::new();
        place.write("site/a.txt", "a");
        let server = serve(&place, engine, &[]);
        for path in ["/a.txt", "/missing", "/echo/x", "/"] {
            let answer = ask(&server, "GET", path, "Cache-Control: no-cache\r\nPragma: no-cache\r\n");
            for name in ["Age", "Pragma", "Warning", "Expires", "Cache-Control"] {
                assert!(answer.values(name).is_empty(), "{path}: {answer:?}");
            }
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

    /// A file that is compressed while it is sent has no Content-Length. Once its compressed form is in the cache, it
    /// could have one.
    fn head_tells_the_same_before_and_after_a_coding_is_kept(engine: Engine) {
        let place = TempDir::new();
        place.write("site/a.txt", "many words ".repeat(20_000));
        let server = serve(&place, engine, &[]);
        // Only a file that has been unchanged for a while is kept.
        thread::sleep(SETTLED);
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
        place.set_modified("site/note.txt", UNIX_EPOCH + Duration::from_secs(784_111_777));
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
        place.set_modified("site/note.txt", SystemTime::now() + Duration::from_secs(1_000_000));
        let server = serve(&place, engine, &[]);
        let answer = get(&server, "/note.txt");
        let date = httpdate::parse_http_date(answer.field("Date").unwrap()).unwrap();
        let modified = httpdate::parse_http_date(answer.field("Last-Modified").unwrap()).unwrap();
        assert!(modified <= date, "{answer:?}");
        // A date in the future is not a validator: the range is ignored, since the content may differ.
        let fields = format!("Range: bytes=0-0\r\nIf-Range: {}\r\n", answer.field("Date").unwrap());
        assert_eq!(ask(&server, "GET", "/note.txt", &fields).status, 200);
    }

    fn the_time_of_a_reproducible_build_is_no_last_modified(engine: Engine) {
        let place = TempDir::new();
        place.write("site/note.txt", "note");
        let server = serve(&place, engine, &[]);
        for seconds in [0, 1] {
            place.set_modified("site/note.txt", UNIX_EPOCH + Duration::from_secs(seconds));
            let answer = get(&server, "/note.txt");
            assert_eq!(answer.field("Last-Modified"), None, "{seconds}");
            let etag = answer.field("ETag").expect("an ETag all the same");
            assert_eq!(ask(&server, "GET", "/note.txt", &format!("If-None-Match: {etag}\r\n")).status, 304);
            let since = "If-Modified-Since: Fri, 31 Dec 2100 23:59:59 GMT\r\n";
            assert_eq!(ask(&server, "GET", "/note.txt", since).status, 200, "no date, no condition on it");
        }
        place.set_modified("site/note.txt", UNIX_EPOCH + Duration::from_secs(2));
        assert_eq!(get(&server, "/note.txt").field("Last-Modified"), Some("Thu, 01 Jan 1970 00:00:02 GMT"));
    }
}
