//! Content codings (RFC 9110, sections 8.4 and 12.5.3): which content is compressed, for which Accept-Encoding, and the
//! fields of the response.
//!
//! Each row of a table is one request and its response. Combinations are in tests/http_matrix.rs.

mod common;

use common::place::Place;
use common::{Client, Framing, Response, Server, TempDir, ask, exchange, get, gunzip, on_every_engine, store_server};
use std::io::Read;

fn inflate(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::ZlibDecoder::new(bytes).read_to_end(&mut plain).expect("the zlib format");
    plain
}

/// The content without its coding.
fn plain(answer: &Response) -> Vec<u8> {
    match answer.field("Content-Encoding") {
        None => answer.body.clone(),
        Some("gzip") => gunzip(&answer.body),
        Some("deflate") => inflate(&answer.body),
        Some(other) => panic!("Content-Encoding: {other}"),
    }
}

/// Accept-Encoding values, and the coding in which a long text is sent. "406" if no coding is acceptable.
const CODINGS: &[(&str, &str)] = &[
    ("gzip", "gzip"),
    ("GZIP", "gzip"),
    ("x-gzip", "gzip"),
    ("X-GZip", "gzip"),
    ("deflate", "deflate"),
    ("gzip, deflate, br, zstd", "gzip"),
    ("deflate, gzip", "gzip"),
    ("gzip;q=0.5, deflate;q=0.8", "deflate"),
    ("gzip;q=1.0,deflate;q=0.999", "gzip"),
    ("gzip ; q=0.001", "gzip"),
    ("gzip\t;\tq=0.1", "gzip"),
    ("gzip;Q=1", "gzip"),
    ("gzip;q=1.000", "gzip"),
    (",gzip,", "gzip"),
    (" , gzip ,, identity;q=0.1", "gzip"),
    ("*", "gzip"),
    ("*;q=0.001", "gzip"),
    ("gzip;q=0, *", "deflate"),
    ("gzip;q=0, deflate;q=0, *", ""),
    ("gzip;q=0", ""),
    ("gzip;q=0.000", ""),
    ("gzip; q=0.0", ""),
    ("*;q=0, identity", ""),
    ("*;q=0, identity;q=0.1", ""),
    ("*;q=0, deflate", "deflate"),
    ("identity", ""),
    ("identity;q=1, gzip;q=0.5", ""),
    ("identity;q=0.5, gzip;q=1", "gzip"),
    ("identity;q=0, gzip", "gzip"),
    ("identity;q=0, deflate;q=0.001", "deflate"),
    ("identity;q=0, *;q=0.1", "gzip"),
    ("br", ""),
    ("compress, br, zstd, exi, pack200-gzip", ""),
    ("gzipped, agzip, gzip2", ""),
    ("", ""),
    // A malformed element is ignored.
    ("gzip;q=1.001", ""),
    ("gzip;q=2", ""),
    ("gzip;q=-1", ""),
    ("gzip;q=0.1234", ""),
    ("gzip;q=a", ""),
    ("gzip;q", ""),
    ("gzip;q =1", ""),
    ("gzip;level=9", ""),
    ("\"gzip\"", ""),
    ("gzip deflate", ""),
    // The client accepts no coding that the server has.
    ("identity;q=0", "406"),
    ("*;q=0", "406"),
    ("identity;q=0, br", "406"),
    ("identity;q=0, gzip;q=0, deflate;q=0", "406"),
    ("identity;q=0, gzip;q=0, deflate;q=0, *", "406"),
];

on_every_engine! {
    fn content_codings_by_their_weights(engine: Engine) {
        let place = Place::new(engine);
        for path in ["/long.html", "/big.html"] {
            let whole = get(&place.server, path);
            for (value, coding) in CODINGS {
                let answer = place.ask("GET", path, &format!("Accept-Encoding: {value}\r\n"));
                assert_eq!(answer.values("Vary"), [b"Accept-Encoding"], "{value}");
                if *coding == "406" {
                    assert_eq!(answer.status, 406, "{value}");
                    continue;
                }
                assert_eq!(answer.status, 200, "{value}");
                assert_eq!(answer.field("Content-Encoding").unwrap_or_default(), *coding, "{value}");
                assert!(plain(&answer) == whole.body, "{value}");
                assert_eq!(answer.field("ETag") == whole.field("ETag"), coding.is_empty(), "its own tag: {value}");
                assert_eq!(answer.field("Content-Type"), whole.field("Content-Type"));
                assert_eq!(answer.field("Last-Modified"), whole.field("Last-Modified"));
            }
        }
    }

    fn a_406_only_where_nothing_else_is_left(engine: Engine) {
        let place = Place::new(engine);
        for route in ["/", "/letters", "/empty", "/long.html", "/plain/", "/echo/x", "/user-agent", "/files/kept"] {
            let whole = place.ask("GET", route, "").body;
            for value in ["identity;q=0", "*;q=0", "identity;q=0, br, zstd"] {
                let answer = place.ask("GET", route, &format!("Accept-Encoding: {value}\r\n"));
                assert_eq!(answer.status, 406, "{route} {value}");
            }
            for (value, coding) in [("identity;q=0, gzip", "gzip"), ("gzip;q=0, *;q=0.5, identity;q=0", "deflate")] {
                let answer = place.ask("GET", route, &format!("Accept-Encoding: {value}\r\n"));
                assert_eq!((answer.status, answer.field("Content-Encoding")), (200, Some(coding)), "{route} {value}");
                assert!(plain(&answer) == whole, "{route} {value}");
                assert!(answer.lists("Vary", "Accept-Encoding") && answer.values("Vary").len() == 1, "{answer:?}");
            }
        }
        // An error page is sent without a coding, even if the client accepts none.
        assert_eq!(place.ask("GET", "/missing", "Accept-Encoding: *;q=0\r\n").status, 404);
    }

    fn a_part_is_never_coded(engine: Engine) {
        let place = Place::new(engine);
        for path in ["/long.html", "/big.html"] {
            let whole = get(&place.server, path).body;
            let part = |value: &str, range: &str| {
                place.ask("GET", path, &format!("Accept-Encoding: {value}\r\nRange: {range}\r\n"))
            };
            for value in ["identity;q=0, gzip", "*;q=0, gzip", "*;q=0, deflate;q=0.1"] {
                let answer = part(value, "bytes=5-9");
                assert_eq!((answer.status, answer.field("Content-Range")), (200, None), "{value}");
                assert!(answer.field("Content-Encoding").is_some() && plain(&answer) == whole, "{value}");
            }
            // As long as the client takes plain bytes, the part is of those.
            for value in ["gzip", "gzip, deflate", "*", "identity;q=0.001, gzip", "identity"] {
                let answer = part(value, "bytes=5-9");
                assert_eq!((answer.status, answer.field("Content-Encoding")), (206, None), "{value}");
                assert_eq!(answer.body, &whole[5..10], "{value}");
                assert_eq!(answer.field("ETag"), Some(place.etag(path).as_str()), "{value}");
                assert_eq!(answer.values("Vary"), [b"Accept-Encoding"], "{value}");
                assert_eq!(part(value, "bytes=0-1,4-5").status, 206, "{value}");
                let behind = part(value, &format!("bytes={}-", whole.len()));
                let unsatisfied = format!("bytes */{}", whole.len());
                assert_eq!((behind.status, behind.field("Content-Range")), (416, Some(unsatisfied.as_str())), "{value}");
            }
            // What is no range of bytes changes nothing, and HEAD has none.
            for range in ["bytes=9-5", "bytes=", "items=5-9", "bytes=5-9\r\nRange: bytes=5-9"] {
                let answer = part("gzip", range);
                assert_eq!((answer.status, answer.field("Content-Encoding")), (200, Some("gzip")), "{range}");
            }
            let head = place.ask("HEAD", path, "Accept-Encoding: gzip\r\nRange: bytes=5-9\r\n");
            assert_eq!((head.status, head.field("Content-Encoding")), (200, Some("gzip")));
        }
    }

    /// A client that goes on with a broken download names what it has of it.
    fn a_part_is_of_the_form_that_the_conditions_name(engine: Engine) {
        let place = Place::new(engine);
        for path in ["/long.html", "/big.html"] {
            let plain_tag = place.etag(path);
            let gzip_tag = place.ask("GET", path, "Accept-Encoding: gzip\r\n").field("ETag").unwrap().to_owned();
            for (condition, status, coding) in [
                (format!("If-Range: {plain_tag}"), 206, None),
                (format!("If-Range: {gzip_tag}"), 200, Some("gzip")),
                ("If-Range: \"x\"".to_owned(), 200, Some("gzip")),
                ("If-Range: Sun, 06 Nov 1994 08:49:37 GMT".to_owned(), 206, None),
                ("If-Range: Sun, 06 Nov 1994 08:49:38 GMT".to_owned(), 200, Some("gzip")),
                (format!("If-Match: {plain_tag}"), 206, None),
                (format!("If-Match: {gzip_tag}"), 200, Some("gzip")),
                ("If-Match: \"x\"".to_owned(), 412, None),
                (format!("If-None-Match: {plain_tag}"), 304, None),
                (format!("If-None-Match: {gzip_tag}"), 304, None),
                ("If-None-Match: \"x\"".to_owned(), 206, None),
            ] {
                let fields = format!("Accept-Encoding: gzip\r\nRange: bytes=5-9\r\n{condition}\r\n");
                let answer = place.ask("GET", path, &fields);
                assert_eq!((answer.status, answer.field("Content-Encoding")), (status, coding), "{condition}");
                let tag = if status == 304 && condition.contains(&gzip_tag) || coding.is_some() { &gzip_tag } else { &plain_tag };
                assert!(status == 412 || answer.field("ETag") == Some(tag), "{condition}: {answer:?}");
            }
        }
    }

    fn echo_is_gzipped_when_asked_however_short(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let long = "abc".repeat(600);
        for text in ["a", "hello", long.as_str()] {
            let answer = ask(&server, "GET", &format!("/echo/{text}"), "Accept-Encoding: gzip\r\n");
            assert_eq!(answer.status, 200);
            assert_eq!(answer.field("Content-Encoding"), Some("gzip"), "{text}");
            assert!(answer.lists("Vary", "Accept-Encoding"), "{answer:?}");
            assert_eq!(answer.media_type(), "text/plain");
            assert_eq!(answer.content_length(), Some(answer.body.len()), "the tutorials want Content-Length");
            assert_eq!(gunzip(&answer.body), text.as_bytes());
        }
    }

    fn echo_honours_accept_encoding(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let cases = [
            ("gzip", true),
            ("GZip", true),
            ("br, gzip, zstd", true),
            ("encoding-1, gzip, encoding-2", true),
            ("gzip;q=0.5", true),
            ("gzip;q=1.000", true),
            ("gzip ; q=0.1", true),
            ("invalid-encoding", false),
            ("identity", false),
            ("", false),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("gzip;Q=0", false),
            ("gzip;q=0, *", false),
            ("gzipped, notgzip", false),
        ];
        for (accept, coded) in cases {
            let answer = ask(&server, "GET", "/echo/hello", &format!("Accept-Encoding: {accept}\r\n"));
            assert_eq!(answer.status, 200, "{accept}");
            assert_eq!(answer.field("Content-Encoding") == Some("gzip"), coded, "Accept-Encoding: {accept}");
            assert!(answer.lists("Vary", "Accept-Encoding"), "Vary for Accept-Encoding: {accept}");
            if answer.field("Content-Encoding").is_none() {
                assert_eq!(answer.text(), "hello", "{accept}");
            }
        }
    }

    fn several_accept_encoding_lines_are_one_list(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        let answer = ask(&server, "GET", "/echo/hello", "Accept-Encoding: br\r\nAccept-Encoding: gzip\r\n");
        assert_eq!(answer.field("Content-Encoding"), Some("gzip"));
    }

    fn text_is_gzipped_when_accepted_and_says_vary(engine: Engine) {
        let site = TempDir::new();
        let words = "the same words again and again ".repeat(2000);
        for name in ["long.html", "long.css", "long.js", "long.json", "long.svg", "long.txt"] {
            site.write(name, &words);
            let server = Server::start_on(engine, &[site.arg()]);
            let plain = get(&server, &format!("/{name}"));
            assert_eq!(plain.field("Content-Encoding"), None, "{name}");
            assert!(plain.lists("Vary", "Accept-Encoding"), "Vary without the coding too: {plain:?}");
            assert_eq!(plain.text(), words);
            let coded = ask(&server, "GET", &format!("/{name}"), "Accept-Encoding: gzip\r\n");
            assert_eq!(coded.field("Content-Encoding"), Some("gzip"), "{name}");
            assert!(coded.lists("Vary", "Accept-Encoding"), "{coded:?}");
            assert_eq!(coded.field("Content-Type"), plain.field("Content-Type"));
            assert_ne!(coded.framing, Framing::Close, "its end is told");
            assert!(coded.body.len() < words.len() / 4, "{} bytes", coded.body.len());
            assert_eq!(gunzip(&coded.body), words.as_bytes());
        }
    }

    fn compressed_types_are_left_alone(engine: Engine) {
        let site = TempDir::new();
        let pixels = vec![0; 50_000];
        let names = ["image.png", "photo.jpg", "archive.zip", "clip.mp4", "font.woff2", "data.gz"];
        for name in names {
            site.write(name, &pixels);
        }
        let server = Server::start_on(engine, &[site.arg()]);
        for name in names {
            let answer = ask(&server, "GET", &format!("/{name}"), "Accept-Encoding: gzip\r\n");
            assert_eq!(answer.field("Content-Encoding"), None, "{name}");
            assert_eq!(answer.content_length(), Some(pixels.len()), "{name}");
            assert!(answer.body == pixels, "{name}");
        }
    }

    fn the_weights_of_accept_encoding_are_honoured(engine: Engine) {
        let site = TempDir::new();
        let words = "the same words again and again ".repeat(500);
        site.write("long.html", &words);
        let server = Server::start_on(engine, &[site.arg()]);
        let cases = [
            ("gzip", Some(true)),
            ("gzip, deflate, br, zstd", Some(true)),
            ("br;q=1.0, gzip;q=0.8, *;q=0.1", Some(true)),
            ("gzip;q=0.001", Some(true)),
            ("GZIP", Some(true)),
            ("x-gzip", None),
            ("*", None),
            ("identity;q=0, gzip", Some(true)),
            ("gzip;q=0", Some(false)),
            ("gzip;q=0.0, deflate;q=0", Some(false)),
            ("gzip;q=0, *;q=1", Some(false)),
            ("*;q=0", Some(false)),
            ("identity", Some(false)),
            ("identity;q=1, gzip;q=0.5", None),
            ("", Some(false)),
            ("br", Some(false)),
            ("gzip;q=2", None),
            ("gzip;q=abc", None),
            (";;;,,,==gzip", None),
        ];
        for (accept, expected) in cases {
            let answer = ask(&server, "GET", "/long.html", &format!("Accept-Encoding: {accept}\r\n"));
            answer.expect_status(&[200, 406]);
            let coded = answer.field("Content-Encoding") == Some("gzip");
            assert!(expected.is_none_or(|expected| expected == coded), "Accept-Encoding: {accept}");
            match answer.field("Content-Encoding") {
                Some("gzip") => assert_eq!(gunzip(&answer.body), words.as_bytes(), "{accept}"),
                None if answer.status == 200 => assert_eq!(answer.text(), words, "{accept}"),
                _ => {}
            }
        }
    }

    fn a_coded_answer_to_http_1_0_is_not_chunked(engine: Engine) {
        let site = TempDir::new();
        let words = "the same words again and again ".repeat(5000);
        site.write("long.html", &words);
        let server = Server::start_on(engine, &[site.arg()]);
        for connection in ["close", "keep-alive"] {
            let request =
                format!("GET /long.html HTTP/1.0\r\nAccept-Encoding: gzip\r\nConnection: {connection}\r\n\r\n");
            let answer = exchange(&server, request);
            assert_ne!(answer.framing, Framing::Chunked, "{connection}");
            let body = if answer.field("Content-Encoding").is_some() { gunzip(&answer.body) } else { answer.body };
            assert!(body == words.as_bytes(), "{connection}");
        }
    }

    fn a_coded_answer_leaves_the_connection_in_step(engine: Engine) {
        let site = TempDir::new();
        site.write("note.txt", "a note");
        let words = "the same words again and again ".repeat(5000);
        site.write("long.html", &words);
        let server = Server::start_on(engine, &[site.arg()]);
        let mut client = Client::connect(&server);
        for _ in 0..3 {
            client.send(concat!(
                "GET /long.html HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n",
                "HEAD /long.html HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n",
                "GET /note.txt HTTP/1.1\r\nHost: x\r\n\r\n",
            ));
            assert!(gunzip(&client.read_response().body) == words.as_bytes());
            assert_eq!(client.read_response_to_head().status, 200);
            assert_eq!(client.read_response().text(), "a note");
        }
    }
}
