//! Files that were compressed beforehand: when a `.br`, `.zst` or `.gz` beside a file is sent in its place
//! (`--precompressed`), and which names say that the file itself is in gzip.

mod common;

use common::{Engine, Server, Setup, TempDir, ask, get, gunzip, gzip, on_every_engine};
use std::fs::{self};
use std::os::unix::fs::symlink;
use std::time::{Duration, UNIX_EPOCH};

fn serve(place: &TempDir, engine: Engine, flags: &[&str]) -> Server {
    Setup::on(engine).arg(place.join("site")).args(flags).start()
}

on_every_engine! {
    fn a_precompressed_file_is_sent_if_its_coding_is_accepted(engine: Engine) {
        let place = TempDir::new();
        let text = "the same words ".repeat(100);
        place.write("site/page.html", &text);
        place.write("site/page.html.gz", gzip(text.as_bytes()));
        place.write("site/page.html.br", "BROTLI");
        place.write("site/page.html.zst", "ZSTD");
        place.write("site/image.png", "PNG");
        place.write("site/image.png.gz", gzip(b"PNG"));
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
            ("x-gzip", Some("gzip"), &gzip(text.as_bytes())),
            ("gzip", Some("gzip"), &gzip(text.as_bytes())),
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
        // Each coding has a strong tag of its own, and is revalidated by that tag only.
        let tags = ["identity", "br", "zstd", "gzip", "deflate"];
        let tags = tags.map(|accept| take("/page.html", accept).field("ETag").unwrap().to_owned());
        for (at, tag) in tags.iter().enumerate() {
            assert!(tag.starts_with('"') && !tags[..at].contains(tag), "{tags:?}");
        }
        let conditional = |tag: &str| take("/page.html", &format!("br\r\nIf-None-Match: {tag}")).status;
        assert_eq!((conditional(&tags[1]), conditional(&tags[0]), conditional(&tags[3])), (304, 200, 200));
        // deflate is made while sending: there are no precompressed files of it.
        assert_eq!(take("/page.html", "deflate").field("Content-Encoding"), Some("deflate"));
        // A type that is never compressed while sending may have a precompressed file, too.
        assert_eq!(gunzip(&take("/image.png", "gzip").body), b"PNG");
        assert_eq!(take("/image.png", "br").field("Vary"), Some("Accept-Encoding"));
        assert_eq!(get(&server, "/image.png").field("Vary"), Some("Accept-Encoding"));
        assert_eq!(take("/alone.png", "br").field("Vary"), None, "nothing to choose from");
        // Index files and files of --try-html may have precompressed ones, and each of these is a file of its own.
        for path in ["/sub/", "/sub/index.html", "/sub/index"] {
            assert_eq!(take(path, "br").body, b"BR SUB", "{path}");
        }
        let without = serve(&place, engine, &[]);
        assert_eq!(ask(&without, "GET", "/page.html", "Accept-Encoding: br\r\n").text(), text);
    }

    fn a_range_is_taken_of_the_file_itself_and_never_of_a_coding(engine: Engine) {
        let place = TempDir::new();
        place.write("site/page.html", "the same words ".repeat(100));
        place.write("site/page.html.br", "BROTLI");
        let server = serve(&place, engine, &["--precompressed"]);
        let take = |accept: &str| ask(&server, "GET", "/page.html", &format!("Accept-Encoding: {accept}\r\n"));
        let tags = ["identity", "br"].map(|accept| take(accept).field("ETag").unwrap().to_owned());
        for accept in ["identity", "br", "gzip, br;q=0.5"] {
            let part = take(&format!("{accept}\r\nRange: bytes=0-2"));
            assert_eq!((part.status, part.body.as_slice()), (206, &b"the"[..]), "{accept}");
            assert_eq!((part.field("ETag"), part.field("Vary")), (Some(tags[0].as_str()), Some("Accept-Encoding")));
        }
        // If the client excludes identity, or its If-Range has the tag of the coding, the whole file is sent in the
        // coding.
        for fields in ["br, identity;q=0".to_owned(), format!("br\r\nIf-Range: {}", tags[1])] {
            let whole = take(&format!("{fields}\r\nRange: bytes=0-2"));
            assert_eq!((whole.status, whole.body.as_slice(), whole.field("Content-Range")), (200, &b"BROTLI"[..], None));
            assert_eq!(whole.field("ETag"), Some(tags[1].as_str()));
        }
    }

    fn a_precompressed_file_that_is_old_or_outside_or_no_file_is_ignored(engine: Engine) {
        let place = TempDir::new();
        place.write("outside/secret", "SECRET");
        place.write("site/page.html", "new");
        place.write("site/page.html.br", "OLD");
        symlink("../outside/secret", place.join("site/page.html.gz")).unwrap();
        fs::create_dir(place.join("site/page.html.zst")).unwrap();
        let time = UNIX_EPOCH + Duration::new(1_700_000_000, 500);
        place.set_modified("site/page.html", time);
        place.set_modified("site/page.html.br", time - Duration::from_nanos(1));
        let server = serve(&place, engine, &["--precompressed"]);
        let take = || ask(&server, "GET", "/page.html", "Accept-Encoding: br, zstd, gzip\r\n");
        let answer = take();
        assert_eq!((answer.text().as_str(), answer.field("Content-Encoding"), answer.field("Vary")), ("new", None, None));
        place.set_modified("site/page.html.br", time);
        assert_eq!((take().text().as_str(), take().field("Content-Encoding")), ("OLD", Some("br")));
        fs::remove_file(place.join("site/page.html.br")).unwrap();
        assert_eq!(take().text(), "new");
        let all = serve(&place, engine, &["--precompressed", "--symlinks=all"]);
        assert_eq!(ask(&all, "GET", "/page.html", "Accept-Encoding: gzip\r\n").text(), "SECRET");
    }

    fn a_file_whose_name_says_gzip_is_sent_in_that_coding_to_everyone(engine: Engine) {
        let place = TempDir::new();
        let text = "<svg xmlns='http://www.w3.org/2000/svg'/> ".repeat(100);
        let noise = common::noise(300_000);
        for name in ["a.svgz", "a.emz", "a.wmz", "a.x3dz", "a.x3dvz", "a.wrz", "a.xhtml.gz", "a.html.gz", "a.js.gz"] {
            place.write(format!("site/{name}"), gzip(text.as_bytes()));
        }
        place.write("site/large.svgz", gzip(&noise));
        place.write("site/a.svgz.br", "BROTLI");
        let server = serve(&place, engine, &["--precompressed"]);
        let ways = ["", "gzip", "br, gzip", "identity", "gzip;q=0", "*;q=0", "identity;q=0", "deflate, identity;q=0"];
        let ways = ways.map(|way| if way.is_empty() { String::new() } else { format!("Accept-Encoding: {way}\r\n") });
        for (name, media_type, plain) in [
            ("a.svgz", "image/svg+xml", text.as_bytes()),
            ("large.svgz", "image/svg+xml", &noise),
            ("a.emz", "image/emf", text.as_bytes()),
            ("a.wmz", "image/wmf", text.as_bytes()),
            ("a.x3dz", "model/x3d+xml", text.as_bytes()),
            ("a.x3dvz", "model/x3d+vrml", text.as_bytes()),
            ("a.wrz", "x-world/x-vrml", text.as_bytes()),
            ("a.xhtml.gz", "application/xhtml+xml", text.as_bytes()),
            ("a.html.gz", "text/html; charset=utf-8", text.as_bytes()),
            ("a.js.gz", "text/javascript; charset=utf-8", text.as_bytes()),
        ] {
            let path = format!("/{name}");
            let file = fs::read(place.join("site").join(name)).unwrap();
            let first = get(&server, &path);
            assert!(first.body == file && gunzip(&first.body) == plain, "{name}");
            for way in &ways {
                let answer = ask(&server, "GET", &path, way);
                assert_eq!((answer.status, answer.content_length()), (200, Some(file.len())), "{name} {way}");
                assert_eq!(answer.field("Content-Encoding"), Some("gzip"), "{name} {way}");
                assert_eq!(answer.field("Content-Type"), Some(media_type), "{name} {way}");
                assert_eq!((answer.field("Vary"), answer.field("Accept-Ranges")), (None, Some("bytes")), "{name} {way}");
                assert_eq!(answer.field("ETag"), first.field("ETag"), "one form, one tag: {name} {way}");
                assert!(answer.body == file, "not compressed again: {name} {way}");
                assert_eq!(ask(&server, "HEAD", &path, way).lasting_fields(), answer.lasting_fields(), "{name} {way}");
                // Ranges are of the coded bytes: with the same tag and coding they fit together.
                let part = ask(&server, "GET", &path, &format!("{way}Range: bytes=2-9\r\n"));
                assert_eq!((part.status, part.field("Content-Encoding")), (206, Some("gzip")), "{name} {way}");
                assert!(part.body == file[2..10] && part.field("ETag") == first.field("ETag"), "{name} {way}");
                let many = ask(&server, "GET", &path, &format!("{way}Range: bytes=0-1,5-6\r\n"));
                assert!(many.status == 200 && many.body == file, "no multipart in a coding: {name} {way}");
                let known = ask(&server, "GET", &path, &format!("{way}If-None-Match: {}\r\n", first.field("ETag").unwrap()));
                assert_eq!((known.status, known.field("ETag")), (304, first.field("ETag")), "{name} {way}");
            }
        }
        // The Last-Modified of a file with a date in the future is the current time, so the field lines of such a file
        // are not kept.
        place.set_modified("site/a.svgz", std::time::SystemTime::now() + Duration::from_secs(10_000));
        assert_eq!(get(&server, "/a.svgz").field("Content-Encoding"), Some("gzip"));
    }

    /// The user's own type says nothing about a coding. The file is sent as it is, and not compressed once more.
    fn a_file_in_gzip_is_never_compressed_again(engine: Engine) {
        let place = TempDir::new();
        let (text, noise) = ("<svg xmlns='http://www.w3.org/2000/svg'/> ".repeat(100), common::noise(300_000));
        let files = [("small.svgz", gzip(text.repeat(100).as_bytes())), ("large.svgz", gzip(&noise))];
        files.iter().for_each(|(name, content)| drop(place.write(format!("site/{name}"), content)));
        let server = serve(&place, engine, &["--mime", "svgz=image/svg+xml"]);
        for (name, content) in &files {
            let answer = ask(&server, "GET", &format!("/{name}"), "Accept-Encoding: gzip\r\n");
            assert_eq!((answer.field("Content-Type"), answer.field("Content-Encoding")), (Some("image/svg+xml"), None));
            assert!(answer.body == *content, "{name}");
        }
    }

    fn an_archive_is_sent_as_one_and_a_wrong_name_is_seen(engine: Engine) {
        let place = TempDir::new();
        let text = "<svg xmlns='http://www.w3.org/2000/svg'/> ".repeat(100);
        for name in ["a.tar.gz", "a.tgz", "a.csv.gz", "a.js.gz"] {
            place.write(format!("site/{name}"), gzip(text.as_bytes()));
        }
        place.write("site/plain.svgz", &text);
        place.write("site/short.svgz", "x");
        place.write("site/plain.js.gz", &text);
        let server = serve(&place, engine, &[]);
        for (name, media_type) in [
            // Archives are sent as archives.
            ("a.tar.gz", "application/gzip"),
            ("a.tgz", "application/x-compressed"),
            ("a.csv.gz", "application/gzip"),
            // The name says gzip, but the content is not in gzip.
            ("plain.svgz", "image/svg+xml"),
            ("short.svgz", "image/svg+xml"),
            ("plain.js.gz", "application/gzip"),
        ] {
            let answer = get(&server, &format!("/{name}"));
            assert_eq!((answer.field("Content-Encoding"), answer.field("Content-Type")), (None, Some(media_type)), "{name}");
        }
        let coded = ask(&server, "GET", "/plain.svgz", "Accept-Encoding: gzip\r\n");
        assert_eq!((coded.field("Content-Encoding"), gunzip(&coded.body)), (Some("gzip"), text.clone().into_bytes()));
        let own = serve(&place, engine, &["--mime", "gz=application/x-own"]);
        let answer = get(&own, "/a.js.gz");
        assert_eq!((answer.field("Content-Encoding"), answer.media_type().as_str()), (None, "application/x-own"));
    }

    fn a_large_precompressed_file_is_sent_as_it_is(engine: Engine) {
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
