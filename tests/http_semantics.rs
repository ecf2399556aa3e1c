//! What a request means: methods, targets, preconditions, ranges, codings, as RFC 9110 has them, byte by byte.
//!
//! The tables say for one request what comes back; tests/http_matrix.rs has the combinations.

mod common;

use common::{Client, Engine, Framing, Response, Server, Setup, TempDir, exchange, get, gunzip, on_every_engine};
use std::fs;
use std::io::Read;
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz";
/// When every file of the place was modified, in the three forms of RFC 9110, section 5.6.7.
const MODIFIED: u64 = 784_111_777;
const DATES: [&str; 3] =
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"];
const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
/// Not one of these is a date, so a field that has one is as good as absent.
const NO_DATES: &[&str] = &[
    "",
    "0",
    "784111777",
    "yesterday",
    "1994-11-06T08:49:37Z",
    "Sun, 06 Nov 1994 08:49:37",
    "Sun, 06 Nov 1994 08:49:37 UTC",
    "Sun, 06 Nov 1994 08:49:37 +0000",
    "Sun, 6 Nov 1994 08:49:37 GMT",
    "Mon, 06 Nov 1994 08:49:37 GMT",
    "sun, 06 nov 1994 08:49:37 gmt",
    "Sun, 06 Nov 1994 25:49:37 GMT",
    "Sun, 31 Feb 1994 08:49:37 GMT",
    "Sun, 06-Nov-94 08:49:37 GMT",
    "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
    "Sun, 06 Nov 1994  08:49:37 GMT",
];

/// A site and a store in one server.
struct Place {
    folder: TempDir,
    server: Server,
}

impl Place {
    fn new(engine: Engine) -> Place {
        Place::with(engine, &[])
    }

    fn with(engine: Engine, more: &[&str]) -> Place {
        let folder = TempDir::new();
        let words = "the same words again and again ";
        for (name, content) in [
            ("site/index.html", "<h1>home</h1>"),
            ("site/letters", LETTERS),
            ("site/note.txt", "a note"),
            ("site/empty", ""),
            ("site/long.html", &words.repeat(30)),
            ("site/big.html", &words.repeat(4_000)),
            ("site/sub/index.html", "<h1>sub</h1>"),
            ("site/example.com/index.html", "<h1>no other host</h1>"),
            ("site/plain/one.txt", "one"),
            ("store/kept", "kept"),
        ] {
            let path = folder.write(name, content);
            let time = UNIX_EPOCH + Duration::from_secs(MODIFIED);
            fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        }
        let store = folder.join("store");
        let arguments = ["--directory", store.to_str().unwrap()];
        let server = Setup::on(engine).arg(folder.join("site")).args(arguments).args(more).start();
        Place { folder, server }
    }

    /// `fields` with line ends.
    fn ask(&self, method: &str, target: &str, fields: &str) -> Response {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: test\r\n");
        exchange(&self.server, format!("{head}Connection: close\r\n{fields}\r\n"))
    }

    fn etag(&self, path: &str) -> String {
        self.ask("GET", path, "").field("ETag").expect("an ETag").to_owned()
    }

    fn upload(&self, method: &str, fields: &str, content: &str) -> Response {
        self.ask_with_content(method, "/files/kept", fields, content)
    }

    fn ask_with_content(&self, method: &str, target: &str, fields: &str, content: &str) -> Response {
        let length = content.len();
        let head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}");
        exchange(&self.server, format!("{head}Content-Length: {length}\r\n\r\n{content}"))
    }

    fn stored(&self) -> String {
        fs::read_to_string(self.folder.join("store/kept")).unwrap_or_default()
    }
}

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

/// A part of the multipart/byteranges body of RFC 9110, section 14.6: its Content-Range and its bytes. Insists on the
/// exact form.
fn parts(answer: &Response) -> Vec<(String, Vec<u8>)> {
    let content_type = answer.field("Content-Type").unwrap();
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").expect("multipart/byteranges");
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&byte);
    assert!((1..=70).contains(&boundary.len()) && boundary.bytes().all(token), "{content_type}");
    let text = String::from_utf8(answer.body.clone()).unwrap();
    let delimiter = format!("\r\n--{boundary}");
    let mut pieces = text.split(&delimiter);
    assert_eq!(pieces.next(), Some(""), "no preamble: {text}");
    let mut found: Vec<&str> = pieces.collect();
    assert_eq!(found.pop(), Some("--\r\n"), "the last delimiter: {text}");
    let part = |piece: &str| {
        let (head, body) = piece.split_once("\r\n\r\n").expect("a part's head");
        let mut range = None;
        for line in head.strip_prefix("\r\n").expect("the delimiter's line ends").split("\r\n") {
            let (name, value) = line.split_once(": ").unwrap();
            match name {
                "Content-Range" => range = Some(value.to_owned()),
                "Content-Type" => assert_eq!(value, "application/octet-stream"),
                _ => panic!("{line}"),
            }
        }
        (range.expect("a Content-Range"), body.as_bytes().to_vec())
    };
    found.into_iter().map(part).collect()
}

#[derive(Clone, Copy, Debug)]
enum Sent {
    Whole,
    Part(usize, usize),
    Parts(&'static [(usize, usize)]),
    Nothing,
}

use Sent::{Nothing, Part, Parts, Whole};

/// Range values against 26 bytes.
const RANGES: &[(&str, Sent)] = &[
    ("bytes=0-0", Part(0, 0)),
    ("bytes=0-25", Part(0, 25)),
    ("bytes=0-", Part(0, 25)),
    ("bytes=25-", Part(25, 25)),
    ("bytes=24-99", Part(24, 25)),
    ("bytes=5-9", Part(5, 9)),
    ("bytes=005-0000009", Part(5, 9)),
    ("BYTES=5-9", Part(5, 9)),
    ("Bytes=5-9", Part(5, 9)),
    ("bytes=-1", Part(25, 25)),
    ("bytes=-26", Part(0, 25)),
    ("bytes=-27", Part(0, 25)),
    ("bytes=0-18446744073709551615", Part(0, 25)),
    ("bytes=0-18446744073709551616", Part(0, 25)),
    ("bytes=0-99999999999999999999999999999999999999", Part(0, 25)),
    ("bytes=-99999999999999999999999999999999999999", Part(0, 25)),
    ("bytes= 5-9", Part(5, 9)),
    ("bytes=5-9 ", Part(5, 9)),
    ("bytes=,5-9", Part(5, 9)),
    ("bytes=5-9,", Part(5, 9)),
    ("bytes=5-9, ,", Part(5, 9)),
    // Those that touch or overlap are one, and those past the end are none.
    ("bytes=5-7,8-9", Part(5, 9)),
    ("bytes=5-8,7-9", Part(5, 9)),
    ("bytes=5-9,26-30", Part(5, 9)),
    ("bytes=100-,-1", Part(25, 25)),
    ("bytes=0-0,-1", Parts(&[(0, 0), (25, 25)])),
    ("bytes=0-1,4-5", Parts(&[(0, 1), (4, 5)])),
    ("bytes=4-5,0-1", Parts(&[(4, 5), (0, 1)])),
    ("bytes=0-1 , 4-5\t,8-", Parts(&[(0, 1), (4, 5), (8, 25)])),
    ("bytes=0-1,4-5,99-100", Parts(&[(0, 1), (4, 5)])),
    ("bytes=26-", Nothing),
    ("bytes=26-30", Nothing),
    ("bytes=26-30,99-", Nothing),
    ("bytes=18446744073709551615-", Nothing),
    ("bytes=18446744073709551616-18446744073709551617", Nothing),
    ("bytes=-0", Nothing),
    ("bytes=-0,30-", Nothing),
    // Malformed, of another unit, or abusive: as if it were not there.
    ("bytes=9-5", Whole),
    ("bytes=5-9,9-5", Whole),
    ("bytes=", Whole),
    ("bytes=,", Whole),
    ("bytes=-", Whole),
    ("bytes=--1", Whole),
    ("bytes=5", Whole),
    ("bytes=5-9-", Whole),
    ("bytes=+5-9", Whole),
    ("bytes=5-+9", Whole),
    ("bytes=5 - 9", Whole),
    ("bytes=5-9;a", Whole),
    ("bytes=a-b", Whole),
    ("bytes=0x5-9", Whole),
    ("bytes=5.0-9", Whole),
    ("bytes =5-9", Whole),
    ("bytes:5-9", Whole),
    ("bytes 5-9", Whole),
    ("bytes=5-9/26", Whole),
    ("byte=5-9", Whole),
    ("bytess=5-9", Whole),
    ("items=5-9", Whole),
    ("none", Whole),
    ("5-9", Whole),
    ("", Whole),
    ("bytes=0-,0-,0-,0-", Whole),
    ("bytes=0-9,5-14,10-19", Whole),
];

/// Accept-Encoding values, and the coding of a text that is worth compressing. "406" where nothing is left.
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
    // A malformed element is none.
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
    // Nothing is left.
    ("identity;q=0", "406"),
    ("*;q=0", "406"),
    ("identity;q=0, br", "406"),
    ("identity;q=0, gzip;q=0, deflate;q=0", "406"),
    ("identity;q=0, gzip;q=0, deflate;q=0, *", "406"),
];

/// Preconditions of GET and HEAD on the letters, in the order of RFC 9110, section 13.2.2. `E` is their entity tag with
/// its quotes.
const PRECONDITIONS: &[(&str, u16)] = &[
    ("If-Match: E", 200),
    ("If-Match: \"x\", E", 200),
    ("If-Match: \"x\",E,\"y\"", 200),
    ("If-Match: , E ,", 200),
    ("If-Match: \"a,b\", E", 200),
    ("If-Match: \"x\"\r\nIf-Match: E", 200),
    ("If-Match: *", 200),
    ("If-Match: \"x\"", 412),
    ("If-Match: \"x\", \"y\"", 412),
    ("If-Match: W/E", 412),
    ("If-Match: \"x\", W/E", 412),
    ("If-Match: ", 412),
    ("If-Match: x", 412),
    ("If-Match: \"*\"", 412),
    ("If-None-Match: E", 304),
    ("If-None-Match: W/E", 304),
    ("If-None-Match: \"x\", E", 304),
    ("If-None-Match: \"x\", W/E, \"y\"", 304),
    ("If-None-Match: W/\"x\",, E", 304),
    ("If-None-Match: \"x\"\r\nIf-None-Match: E", 304),
    ("If-None-Match: *", 304),
    ("If-None-Match: \"x\"", 200),
    ("If-None-Match: w/E", 200),
    ("If-None-Match: \"\"", 200),
    ("If-None-Match: ", 200),
    ("If-None-Match: x", 200),
    ("If-None-Match: \"*\"", 200),
    // 1 before 2: If-Match silences If-Unmodified-Since.
    ("If-Match: E\r\nIf-Unmodified-Since: BEFORE", 200),
    ("If-Match: \"x\"\r\nIf-Unmodified-Since: AFTER", 412),
    ("If-Match: *\r\nIf-Unmodified-Since: BEFORE", 200),
    // 1 and 2 before 3 and 4.
    ("If-Match: \"x\"\r\nIf-None-Match: E", 412),
    ("If-Match: E\r\nIf-None-Match: E", 304),
    ("If-Match: E\r\nIf-None-Match: \"x\"", 200),
    ("If-None-Match: E\r\nIf-Match: \"x\"", 412),
    ("If-Unmodified-Since: BEFORE\r\nIf-None-Match: E", 412),
    ("If-Unmodified-Since: BEFORE\r\nIf-Modified-Since: AFTER", 412),
    ("If-Match: E\r\nIf-Modified-Since: AFTER", 304),
    // 3 before 4: If-None-Match silences If-Modified-Since, in both directions.
    ("If-None-Match: \"x\"\r\nIf-Modified-Since: AFTER", 200),
    ("If-None-Match: E\r\nIf-Modified-Since: BEFORE", 304),
    ("If-None-Match: x\r\nIf-Modified-Since: AFTER", 200),
    ("If-Modified-Since: BEFORE", 200),
    ("If-Modified-Since: AFTER", 304),
    ("If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT", 304),
    ("If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT", 200),
    ("If-Modified-Since: AFTER\r\nIf-Modified-Since: AFTER", 200),
    ("If-Unmodified-Since: AFTER", 200),
    ("If-Unmodified-Since: BEFORE", 412),
    ("If-Unmodified-Since: BEFORE\r\nIf-Unmodified-Since: BEFORE", 200),
    ("If-Range: E", 200),
];

/// If-Range values, and whether the range counts.
const IF_RANGES: &[(&str, bool)] = &[
    ("E", true),
    ("W/E", false),
    ("\"x\"", false),
    ("*", false),
    ("E, \"x\"", false),
    ("x", false),
    ("", false),
    ("Sun, 06 Nov 1994 08:49:37 GMT", true),
    ("Sunday, 06-Nov-94 08:49:37 GMT", true),
    ("Sun Nov  6 08:49:37 1994", true),
    ("Sun, 06 Nov 1994 08:49:36 GMT", false),
    ("Sun, 06 Nov 1994 08:49:38 GMT", false),
    ("Fri, 31 Dec 9999 23:59:59 GMT", false),
    ("Mon, 06 Nov 1994 08:49:37 GMT", false),
];

/// Preconditions of an upload over a file that is there, and over none.
const UPLOADS: &[(&str, u16, u16)] = &[
    ("", 204, 201),
    ("If-None-Match: *", 412, 201),
    ("If-None-Match: \"x\"", 204, 201),
    ("If-None-Match: E", 412, 201),
    ("If-None-Match: W/E", 412, 201),
    ("If-Match: *", 204, 412),
    ("If-Match: E", 204, 412),
    ("If-Match: \"x\", E", 204, 412),
    ("If-Match: W/E", 412, 412),
    ("If-Match: \"x\"", 412, 412),
    ("If-Match: ", 412, 412),
    ("If-Unmodified-Since: AFTER", 204, 201),
    ("If-Unmodified-Since: BEFORE", 412, 201),
    ("If-Unmodified-Since: yesterday", 204, 201),
    ("If-Modified-Since: AFTER", 204, 201),
    ("If-Match: E\r\nIf-Unmodified-Since: BEFORE", 204, 412),
    ("If-Match: E\r\nIf-None-Match: *", 412, 412),
    ("Range: bytes=0-1", 204, 201),
];

fn filled(fields: &str, etag: &str) -> String {
    // E is a word of its own, so that no other letter is taken for it.
    let words = fields.replace("BEFORE", BEFORE).replace("AFTER", AFTER);
    let mut lines = String::new();
    for line in words.split("\r\n").filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap();
        let value = value.replace(" E", &format!(" {etag}")).replace(",E", &format!(",{etag}"));
        let value = value.replace("/E", &format!("/{etag}"));
        lines.push_str(&format!("{name}:{value}\r\n"));
    }
    lines
}

/// Every route of the place, with a word on none.
const ROUTES: &[&str] = &[
    "/",
    "/letters",
    "/note.txt",
    "/long.html",
    "/big.html",
    "/empty",
    "/sub",
    "/sub?a=b",
    "/sub/",
    "/plain/",
    "/missing",
    "/echo/x",
    "/echo/",
    "/user-agent",
    "/files/kept",
    "/files/missing",
    "/../x",
];

on_every_engine! {
    fn every_405_has_a_true_allow(engine: Engine) {
        let place = Place::new(engine);
        for route in ROUTES {
            for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"] {
                let answer = place.ask(method, route, "Content-Length: 0\r\nIf-Match: \"none\"\r\n");
                if answer.status != 405 {
                    assert!(![501, 500].contains(&answer.status), "{method} {route}: {answer:?}");
                    continue;
                }
                let allow = answer.field("Allow").unwrap_or_else(|| panic!("no Allow: {method} {route}")).to_owned();
                for allowed in allow.split(", ") {
                    assert_ne!(allowed, method, "{route}");
                    let fields = "Content-Length: 0\r\nIf-Match: \"none\"\r\n";
                    assert_ne!(place.ask(allowed, route, fields).status, 405, "{allowed} {route}");
                }
            }
        }
    }

    fn head_is_get_without_content(engine: Engine) {
        let place = Place::new(engine);
        for route in ROUTES {
            for fields in [
                "",
                "Accept-Encoding: gzip\r\n",
                "Accept-Encoding: deflate\r\n",
                "Accept-Encoding: identity;q=0\r\n",
                "Accept-Encoding: *;q=0\r\n",
                "Accept: application/json\r\n",
                "If-None-Match: *\r\n",
                "If-Match: \"x\"\r\n",
                "If-Match: *\r\n",
                "If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT\r\n",
                "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n",
            ] {
                let full = place.ask("GET", route, fields);
                let head = place.ask("HEAD", route, fields);
                assert_eq!(head.status, full.status, "{route} {fields}");
                assert_eq!(head.lasting_fields(), full.lasting_fields(), "{route} {fields}");
                assert!(head.body.is_empty() && head.framing == Framing::None);
            }
        }
    }

    fn a_head_that_is_refused_has_no_content_either(engine: Engine) {
        let place = Place::new(engine);
        for message in [
            "HEAD / HTTP/1.1\r\n\r\n",
            "HEAD / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "HEAD /%zz HTTP/1.1\r\nHost: x\r\n\r\n",
            "HEAD / HTTP/3.0\r\nHost: x\r\n\r\n",
            "HEAD / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n",
            "HEAD / HTTP/1.1\r\nHost: x\r\nExpect: x\r\n\r\n",
            "HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        ] {
            let mut client = Client::connect(&place.server);
            client.send(message);
            let answer = client.read_response_to_head();
            assert!(answer.status >= 400 && answer.content_length() > Some(0), "{message}: {answer:?}");
            client.expect_closed();
        }
        let mut client = Client::connect(&place.server);
        client.send("HEAD / HTTP/1.1\r\n");
        client.finish_sending();
        assert_eq!(client.read_response_to_head().status, 400);
        client.expect_closed();
    }

    fn every_answer_has_its_date(engine: Engine) {
        let place = Place::with(engine, &["--max-body-size", "1K"]);
        let etag = place.etag("/letters");
        for (request, status) in [
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 200),
            ("GET /letters HTTP/1.1\r\nHost: x\r\nRange: bytes=1-2\r\n\r\n".into(), 206),
            ("GET /letters HTTP/1.1\r\nHost: x\r\nRange: bytes=1-2,5-6\r\n\r\n".into(), 206),
            (format!("GET /letters HTTP/1.1\r\nHost: x\r\nIf-None-Match: {etag}\r\n\r\n"), 304),
            ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n".into(), 204),
            ("GET /sub HTTP/1.1\r\nHost: x\r\n\r\n".into(), 301),
            ("GET / HTTP/1.1\r\n\r\n".into(), 400),
            ("\n".into(), 400),
            ("DELETE / HTTP/1.1\r\nHost: x\r\n\r\n".into(), 405),
            ("GET / HTTP/1.1\r\nHost: x\r\nAccept-Encoding: *;q=0\r\n\r\n".into(), 406),
            ("GET / HTTP/1.1\r\nHost: x\r\nIf-Match: \"x\"\r\n\r\n".into(), 412),
            ("PUT /files/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n".into(), 413),
            ("GET /letters HTTP/1.1\r\nHost: x\r\nRange: bytes=99-\r\n\r\n".into(), 416),
            ("GET / HTTP/1.1\r\nHost: x\r\nExpect: x\r\n\r\n".into(), 417),
            ("GET https://x/ HTTP/1.1\r\nHost: x\r\n\r\n".into(), 421),
            ("FROB / HTTP/1.1\r\nHost: x\r\n\r\n".into(), 501),
            ("GET / HTTP/7.0\r\n\r\n".into(), 505),
        ] {
            let answer = exchange(&place.server, &request);
            assert_eq!(answer.status, status, "{request}");
            let date = answer.field("Date").unwrap_or_else(|| panic!("no Date: {request}"));
            let told = httpdate::parse_http_date(date).unwrap();
            assert_eq!(httpdate::fmt_http_date(told), date, "IMF-fixdate");
        }
    }

    fn a_version_above_1_1_is_answered_as_1_1(engine: Engine) {
        let place = Place::new(engine);
        for minor in 2..=9 {
            let mut client = Client::connect(&place.server);
            for _ in 0..2 {
                client.send(format!("GET /big.html HTTP/1.{minor}\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n"));
                let answer = client.read_response();
                assert_eq!((answer.status, answer.framing), (200, Framing::Chunked));
            }
        }
    }

    fn http_1_0_meets_no_transfer_encoding(engine: Engine) {
        let place = Place::new(engine);
        for route in ROUTES {
            for fields in ["", "Accept-Encoding: gzip\r\n", "Accept-Encoding: deflate\r\nConnection: keep-alive\r\n"] {
                let answer = exchange(&place.server, format!("GET {route} HTTP/1.0\r\nUser-Agent: x\r\n{fields}\r\n"));
                assert_eq!(answer.field("Transfer-Encoding"), None, "{route}");
                assert!(answer.framing != Framing::Close || answer.says_close(), "{answer:?}");
            }
        }
    }

    fn mixed_outcomes_keep_their_order_in_a_pipeline(engine: Engine) {
        let place = Place::new(engine);
        let etag = place.etag("/letters");
        let requests = [
            ("GET /letters HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 200),
            ("HEAD /letters HTTP/1.1\r\nHost: x\r\n\r\n".into(), 200),
            (format!("GET /letters HTTP/1.1\r\nHost: x\r\nIf-None-Match: {etag}\r\n\r\n"), 304),
            ("\r\nGET /missing HTTP/1.1\r\nHost: x\r\n\r\n".into(), 404),
            ("POST /echo/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello".into(), 405),
            ("PUT /files/n HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n".into(), 201),
            ("PUT /files/n HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nb".into(), 204),
            ("PUT /files/n HTTP/1.1\r\nHost: x\r\nIf-None-Match: *\r\nContent-Length: 1\r\n\r\nc".into(), 412),
            ("GET /letters HTTP/1.1\r\nHost: x\r\nRange: bytes=1-2,5-6\r\n\r\n".into(), 206),
            ("GET /letters HTTP/1.1\r\nHost: x\r\nRange: bytes=99-\r\n\r\n".into(), 416),
            ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n".into(), 204),
            ("GET /big.html HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n".into(), 200),
            ("HEAD /big.html HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n".into(), 200),
            ("FROB / HTTP/1.1\r\nHost: x\r\n\r\n".into(), 501),
            ("GET /files/n HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".into(), 200),
            ("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n".into(), 400),
        ];
        let bytes: String = requests.iter().map(|(request, _)| request.as_str()).collect();
        for cut in [bytes.len(), 1, 7] {
            let _ = fs::remove_file(place.folder.join("store/n"));
            let mut client = Client::connect(&place.server);
            for piece in bytes.as_bytes().chunks(cut) {
                client.send(piece);
            }
            for (request, status) in &requests {
                let to_head = request.starts_with("HEAD ");
                let answer = if to_head { client.read_response_to_head() } else { client.read_response() };
                assert_eq!(answer.status, *status, "{request}");
            }
            client.expect_closed();
        }
    }

    fn an_expectation_in_any_case_is_met_before_the_content(engine: Engine) {
        let place = Place::new(engine);
        for expectation in ["100-continue", "100-CONTINUE", "100-Continue", "100-continue, 100-continue"] {
            let mut client = Client::connect(&place.server);
            client.send(format!(
                "PUT /files/kept HTTP/1.1\r\nHost: x\r\nExpect: {expectation}\r\nContent-Length: 5\r\n\r\n"
            ));
            assert_eq!(client.read_response().status, 100, "{expectation}");
            client.send("hello");
            assert_eq!(client.read_response().status, 204);
            assert_eq!(place.stored(), "hello");
        }
        for expectation in ["100", "101-continue", "100-continue;a", "100-continue, fly", "fly"] {
            for version in ["HTTP/1.1", "HTTP/1.0"] {
                let mut client = Client::connect(&place.server);
                client.send(format!(
                    "PUT /files/kept {version}\r\nHost: x\r\nExpect: {expectation}\r\nContent-Length: 5\r\n\r\n"
                ));
                assert_eq!(client.read_response().status, 417, "{expectation}");
                client.expect_closed();
            }
        }
    }

    fn no_100_once_the_answer_is_known(engine: Engine) {
        let place = Place::with(engine, &["--max-body-size", "1K"]);
        for (line, fields, status) in [
            ("GET /letters", "", 200),
            ("GET /missing", "", 404),
            ("POST /letters", "", 405),
            ("FROB /letters", "", 501),
            ("PUT /files/kept", "If-None-Match: *\r\n", 412),
            ("PUT /files/kept", "If-Match: \"x\"\r\n", 412),
            ("PUT /files/kept", "Content-Range: bytes 0-4/9\r\n", 400),
            ("PUT /files/no/folder", "", 404),
        ] {
            let head = format!("{line} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n{fields}");
            let mut client = Client::connect(&place.server);
            client.send(format!("{head}Content-Length: 5\r\n\r\n"));
            let answer = client.read_response();
            assert_eq!(answer.status, status, "{line}");
            assert!(answer.says_close(), "whether the content follows is not known: {line}");
            client.expect_closed();
        }
        assert_eq!(place.stored(), "kept");
    }

    fn targets_in_every_form(engine: Engine) {
        let place = Place::new(engine);
        for (method, target, status) in [
            ("GET", "/letters", 200),
            ("GET", "/letters?", 200),
            ("GET", "/letters?a=/../b&c=%2e", 200),
            ("GET", "/letters?%zz", 200),
            ("GET", "/%6Cetters", 200),
            ("GET", "/%6cetter%73", 200),
            ("GET", "/./letters", 200),
            ("GET", "/sub/../letters", 404),
            ("GET", "/sub/%2e%2E/letters", 404),
            ("GET", "/sub/.%2e/letters", 404),
            ("GET", "//letters", 200),
            ("GET", "http://localhost/letters", 200),
            ("GET", "http://LOCALHOST:80/letters", 200),
            ("GET", "http://other.example/letters", 200),
            ("GET", "HTTP://[::1]:4221/letters", 200),
            ("GET", "http://localhost", 200),
            ("GET", "http://localhost?query", 200),
            ("GET", "/letters/", 404),
            ("GET", "/Letters", 404),
            ("GET", "/letters%20", 404),
            ("GET", "/letters%2f", 404),
            ("GET", "/%2fletters", 404),
            ("GET", "/sub%2findex.html", 404),
            ("GET", "/sub%5cindex.html", 404),
            ("GET", "/sub\\index.html", 404),
            ("GET", "/letters;a=b", 404),
            ("GET", "/..", 404),
            ("GET", "/../letters", 404),
            ("GET", "/sub/../../letters", 404),
            ("GET", "/%2e%2e/letters", 404),
            ("GET", "/..%2fletters", 404),
            ("GET", "/..%5cletters", 404),
            ("GET", "/%252e%252e/letters", 404),
            ("GET", "/%c0%ae%c0%ae/letters", 404),
            ("GET", "/%c0%afletters", 404),
            ("GET", "/%e0%80%afletters", 404),
            ("GET", "/%ff", 404),
            ("GET", "/%u002e%u002e/letters", 400),
            ("GET", "/%", 400),
            ("GET", "/%2", 400),
            ("GET", "/%zz", 400),
            ("GET", "/%%36c", 400),
            ("GET", "/letters%00", 400),
            ("GET", "/%00/letters", 400),
            ("GET", "/letters#", 400),
            ("GET", "/letters#a", 400),
            ("GET", "http://localhost/letters#a", 400),
            ("GET", "letters", 400),
            ("GET", "./letters", 400),
            ("GET", "../letters", 400),
            ("GET", "*", 400),
            ("GET", "localhost:80", 400),
            ("GET", "localhost", 400),
            ("GET", "file:///letters", 400),
            ("GET", "ftp://localhost/letters", 400),
            ("GET", "http:///letters", 400),
            ("GET", "http://", 400),
            ("GET", "http://user@localhost/letters", 400),
            ("GET", "http://user:word@localhost/letters", 400),
            ("GET", "https://localhost/letters", 421),
            ("HEAD", "HTTPS://localhost/letters", 421),
            ("OPTIONS", "*", 204),
            ("OPTIONS", "http://localhost", 204),
            ("OPTIONS", "http://localhost/", 204),
            ("OPTIONS", "/letters", 204),
            ("OPTIONS", "**", 400),
            ("OPTIONS", "*/", 400),
            ("POST", "*", 400),
            ("CONNECT", "localhost:80", 405),
            ("CONNECT", "[::1]:443", 405),
            ("CONNECT", "localhost", 400),
            ("CONNECT", "localhost:", 400),
            ("CONNECT", "localhost:99999", 400),
            ("CONNECT", ":80", 400),
            ("CONNECT", "a@localhost:80", 400),
            ("CONNECT", "/letters", 400),
            ("CONNECT", "http://localhost:80/", 400),
            ("CONNECT", "*", 400),
        ] {
            let answer = place.ask(method, target, "");
            assert_eq!(answer.status, status, "{method} {target}: {}", answer.text());
            assert!(status != 405 || answer.says_close(), "no tunnel, and no second guess: {target}");
        }
        let all = place.ask("OPTIONS", "*", "").field("Allow").unwrap().to_owned();
        assert_eq!(place.ask("OPTIONS", "http://localhost", "").field("Allow"), Some(all.as_str()));
        assert!(all.split(", ").any(|method| method == "PUT"), "what the server as a whole takes: {all}");
    }

    fn no_redirect_leads_elsewhere(engine: Engine) {
        let place = Place::new(engine);
        for target in [
            "//sub",
            "///sub",
            "//example.com",
            "///example.com",
            "////example.com",
            "/./example.com",
            "//./example.com",
            "/sub/..//example.com",
            "//sub/..//example.com",
            "/%2e//example.com",
            "//example.com?//evil.example",
            "/\\example.com",
            "/%5cexample.com",
            "/%2f%2fexample.com",
            "//example.com/%2e%2e",
            "//evil.example/%2e%2e/sub",
            "//evil.example/../sub",
            "http://evil.example/sub",
            "http://evil.example//sub",
            "http://evil.example//example.com",
            "/sub%0d%0aLocation:%20http://evil.example/",
            "/sub?%0d%0aSet-Cookie:a=b",
        ] {
            for method in ["GET", "HEAD"] {
                let answer = place.ask(method, target, "X-Forwarded-Host: evil.example\r\n");
                answer.expect_status(&[200, 301, 308, 404]);
                assert!(answer.field("Set-Cookie").is_none());
                let Some(location) = answer.field("Location") else { continue };
                let here = ["/sub/", "/example.com/"].iter().any(|start| location.starts_with(start));
                assert!(here && !location.contains(['\r', '\n', '\\']), "{target} to {location}");
            }
        }
    }

    fn preconditions_hold_in_the_order_of_section_13_2_2(engine: Engine) {
        let place = Place::new(engine);
        let etag = place.etag("/letters");
        let whole = get(&place.server, "/letters");
        for (fields, status) in PRECONDITIONS {
            for method in ["GET", "HEAD"] {
                let answer = place.ask(method, "/letters", &filled(fields, &etag));
                assert_eq!(answer.status, *status, "{method} {fields}");
                if answer.status == 304 {
                    assert_eq!(answer.field("ETag"), Some(etag.as_str()));
                    assert_eq!(answer.field("Vary"), whole.field("Vary"));
                    assert!(answer.field("Date").is_some() && answer.body.is_empty());
                    assert_eq!(answer.field("Content-Type"), None, "nothing that the client has already");
                }
            }
            // What is not there has no state to compare, and a refusal stays what it is.
            assert_eq!(place.ask("GET", "/missing", &filled(fields, &etag)).status, 404, "{fields}");
            assert_eq!(place.ask("GET", "/sub", &filled(fields, &etag)).status, 301, "{fields}");
            assert_eq!(place.ask("DELETE", "/letters", &filled(fields, &etag)).status, 405, "{fields}");
            assert_eq!(place.ask("OPTIONS", "/letters", &filled(fields, &etag)).status, 204, "{fields}");
        }
    }

    fn dates_in_three_forms_are_one_and_invalid_ones_none(engine: Engine) {
        let place = Place::new(engine);
        for date in DATES {
            assert_eq!(place.ask("GET", "/letters", &format!("If-Modified-Since: {date}\r\n")).status, 304, "{date}");
            assert_eq!(place.ask("GET", "/letters", &format!("If-Unmodified-Since: {date}\r\n")).status, 200, "{date}");
        }
        for date in NO_DATES {
            for name in ["If-Modified-Since", "If-Unmodified-Since"] {
                assert_eq!(place.ask("GET", "/letters", &format!("{name}: {date}\r\n")).status, 200, "{name}: {date}");
            }
            let fields = format!("Range: bytes=0-1\r\nIf-Range: {date}\r\n");
            assert_eq!(place.ask("GET", "/letters", &fields).status, 200, "If-Range: {date}");
        }
    }

    fn generated_content_has_preconditions_too(engine: Engine) {
        let place = Place::new(engine);
        for route in ["/echo/x", "/user-agent", "/plain/"] {
            for (fields, status) in [
                ("If-Match: *\r\n", 200),
                ("If-Match: \"x\"\r\n", 412),
                ("If-None-Match: \"x\"\r\n", 200),
                ("If-None-Match: *\r\n", 304),
                // No date to compare with.
                ("If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT\r\n", 200),
                ("If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n", 200),
                ("Range: bytes=0-0\r\n", 200),
            ] {
                assert_eq!(place.ask("GET", route, fields).status, status, "{route} {fields}");
            }
        }
    }

    fn ranges_of_every_form(engine: Engine) {
        let place = Place::new(engine);
        let whole = get(&place.server, "/letters");
        assert_eq!(whole.field("Accept-Ranges"), Some("bytes"));
        for (value, sent) in RANGES {
            let answer = place.ask("GET", "/letters", &format!("Range: {value}\r\n"));
            let status = match sent {
                Whole => 200,
                Part(..) | Parts(_) => 206,
                Nothing => 416,
            };
            assert_eq!(answer.status, status, "{value}: {answer:?}");
            if status != 416 {
                for name in ["ETag", "Last-Modified", "Vary", "Cache-Control"] {
                    assert_eq!(answer.field(name), whole.field(name), "{name} for {value}");
                }
            }
            match *sent {
                Whole => assert_eq!((answer.text().as_str(), answer.field("Content-Range")), (LETTERS, None), "{value}"),
                Part(first, last) => {
                    assert_eq!(answer.text(), LETTERS[first..=last], "{value}");
                    assert_eq!(answer.content_length(), Some(last + 1 - first), "{value}");
                    assert_eq!(answer.field("Content-Range"), Some(format!("bytes {first}-{last}/26").as_str()));
                    assert_eq!(answer.field("Content-Type"), whole.field("Content-Type"));
                }
                Parts(expected) => {
                    let expected: Vec<_> = expected.iter().map(|&(first, last)| {
                        (format!("bytes {first}-{last}/26"), LETTERS.as_bytes()[first..=last].to_vec())
                    }).collect();
                    assert_eq!(parts(&answer), expected, "{value}");
                    assert_eq!(answer.field("Content-Range"), None, "it stands in the parts: {value}");
                    assert_eq!(answer.framing, Framing::Length, "{value}");
                }
                Nothing => assert_eq!(answer.field("Content-Range"), Some("bytes */26"), "{value}"),
            }
            // Ranges are for GET alone.
            let head = place.ask("HEAD", "/letters", &format!("Range: {value}\r\n"));
            assert_eq!((head.status, head.content_length()), (200, Some(26)), "HEAD {value}");
            assert_eq!(head.field("Content-Range"), None);
        }
    }

    fn two_range_fields_are_none(engine: Engine) {
        let place = Place::new(engine);
        let answer = place.ask("GET", "/letters", "Range: bytes=0-1\r\nRange: bytes=4-5\r\n");
        assert_eq!((answer.status, answer.text().as_str()), (200, LETTERS));
    }

    fn ranges_of_nothing(engine: Engine) {
        let place = Place::new(engine);
        for (value, status) in
            [("bytes=0-", 416), ("bytes=0-0", 416), ("bytes=-0", 416), ("bytes=-1", 200), ("bytes=5-1", 200), ("x=0-", 200)]
        {
            let answer = place.ask("GET", "/empty", &format!("Range: {value}\r\n"));
            assert_eq!(answer.status, status, "{value}");
            assert!(status == 200 || answer.field("Content-Range") == Some("bytes */0"), "{value}");
            assert!(status == 416 || answer.body.is_empty(), "{value}");
        }
    }

    fn a_flood_of_ranges_costs_no_more_than_the_whole(engine: Engine) {
        let place = Place::new(engine);
        let whole = get(&place.server, "/big.html").body.len();
        let many = (0..1000).map(|at| format!("{}-{}", at * 3, at * 3)).collect::<Vec<_>>().join(",");
        let backwards = (0..60).rev().map(|at| format!("{}-{}", at * 3, at * 3)).collect::<Vec<_>>().join(",");
        for value in [many, backwards, vec!["0-"; 500].join(","), vec!["-1"; 500].join(",")] {
            let answer = place.ask("GET", "/big.html", &format!("Range: bytes={value}\r\n"));
            assert!(answer.status == 200 && answer.body.len() == whole, "{} {}", answer.status, answer.body.len());
        }
    }

    fn if_range_lets_a_range_count_or_not(engine: Engine) {
        let place = Place::new(engine);
        let etag = place.etag("/letters");
        for (value, counts) in IF_RANGES {
            let fields = filled(&format!("If-Range: {value}"), &etag);
            let answer = place.ask("GET", "/letters", &format!("{fields}Range: bytes=1-2\r\n"));
            let expected = if *counts { (206, "bc") } else { (200, LETTERS) };
            assert_eq!((answer.status, answer.text().as_str()), expected, "{value}");
            // A range that cannot be had, under a condition that does not hold, is ignored as well.
            let past = place.ask("GET", "/letters", &format!("{fields}Range: bytes=99-\r\n"));
            assert_eq!(past.status, if *counts { 416 } else { 200 }, "{value}");
            // Without a Range it means nothing.
            assert_eq!(place.ask("GET", "/letters", &fields).status, 200, "{value}");
        }
        let twice = format!("If-Range: {etag}\r\nIf-Range: {etag}\r\nRange: bytes=1-2\r\n");
        assert_eq!(place.ask("GET", "/letters", &twice).status, 200);
    }

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
        // A refusal is told in plain bytes, whoever asks.
        assert_eq!(place.ask("GET", "/missing", "Accept-Encoding: *;q=0\r\n").status, 404);
    }

    fn a_part_is_never_coded(engine: Engine) {
        let place = Place::new(engine);
        for path in ["/long.html", "/big.html"] {
            let whole = get(&place.server, path).body;
            for value in ["gzip", "deflate", "*", "identity;q=0, gzip"] {
                let fields = format!("Accept-Encoding: {value}\r\nRange: bytes=5-9\r\n");
                let answer = place.ask("GET", path, &fields);
                assert_eq!(answer.status, 200, "{value}");
                assert!(plain(&answer) == whole, "{value}");
            }
            let answer = place.ask("GET", path, "Accept-Encoding: identity\r\nRange: bytes=5-9\r\n");
            assert_eq!((answer.status, answer.field("Content-Encoding")), (206, None));
            assert_eq!(answer.body, &whole[5..10]);
        }
    }

    fn validators_follow_the_file(engine: Engine) {
        let place = Place::new(engine);
        let path = place.folder.join("site/letters");
        let first = place.etag("/letters");
        assert_eq!(place.etag("/letters"), first, "the same for the same");
        assert!(first.starts_with('"') && first.ends_with('"') && first.len() > 2, "strong: {first}");
        fs::write(&path, LETTERS).unwrap();
        let rewritten = place.etag("/letters");
        assert_ne!(rewritten, first, "another time");
        let time = UNIX_EPOCH + Duration::from_secs(MODIFIED);
        fs::write(&path, "shorter").unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        assert_ne!(place.etag("/letters"), first, "the same time, another size");
        // A time in the future is told as now, that of a reproducible build not at all.
        let now = std::time::SystemTime::now();
        for (modified, told) in [(0, false), (1, false), (2, true), (4_000_000_000, true)] {
            let time = UNIX_EPOCH + Duration::from_secs(modified);
            fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
            let answer = get(&place.server, "/letters");
            assert!(answer.field("ETag").is_some());
            assert_eq!(answer.field("Last-Modified").is_some(), told, "{modified}");
            if let Some(date) = answer.field("Last-Modified") {
                let date = httpdate::parse_http_date(date).unwrap();
                let sent = httpdate::parse_http_date(answer.field("Date").unwrap()).unwrap();
                assert!(date <= sent && sent >= now - Duration::from_secs(1));
            }
        }
    }

    fn uploads_under_preconditions(engine: Engine) {
        let place = Place::new(engine);
        let path = place.folder.join("store/kept");
        for (fields, there, not_there) in UPLOADS {
            for method in ["PUT", "POST"] {
                fs::write(&path, "kept").unwrap();
                let time = UNIX_EPOCH + Duration::from_secs(MODIFIED);
                fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
                let fields = filled(fields, &place.etag("/files/kept"));
                let told = |status: u16| if method == "POST" && status == 204 { 201 } else { status };
                let answer = place.upload(method, &fields, "new");
                assert_eq!(answer.status, told(*there), "{method} {fields} over a file");
                assert_eq!(place.stored(), if *there == 412 { "kept" } else { "new" }, "{method} {fields}");
                fs::remove_file(&path).unwrap();
                let answer = place.upload(method, &fields, "new");
                assert_eq!(answer.status, *not_there, "{method} {fields} over none");
                assert_eq!(place.stored(), if *not_there == 412 { "" } else { "new" }, "{method} {fields}");
            }
        }
    }

    fn an_answer_to_an_upload_claims_no_validator_of_what_it_sent(engine: Engine) {
        let place = Place::new(engine);
        for content in ["one", "two"] {
            let answer = place.upload("PUT", "", content);
            assert!(answer.field("ETag").is_none() && answer.field("Last-Modified").is_none(), "{answer:?}");
        }
    }

    fn a_part_of_a_file_is_not_stored(engine: Engine) {
        let place = Place::new(engine);
        for method in ["PUT", "POST"] {
            for range in ["bytes 0-2/3", "bytes 0-2/*", "bytes */3", "x", ""] {
                let answer = place.upload(method, &format!("Content-Range: {range}\r\n"), "new");
                assert_eq!(answer.status, 400, "{method} Content-Range: {range}");
                assert_eq!(place.stored(), "kept");
            }
        }
    }

    fn the_error_speaks_the_format_that_is_preferred(engine: Engine) {
        let place = Place::with(engine, &["--max-body-size", "1K"]);
        for (accept, expected) in [
            ("", "text/html"),
            ("Accept:\r\n", "text/html"),
            ("Accept: */*\r\n", "text/html"),
            ("Accept: application/json\r\n", "application/json"),
            ("Accept: APPLICATION/JSON\r\n", "application/json"),
            ("Accept: application/*\r\n", "application/json"),
            ("Accept: text/plain\r\n", "text/plain"),
            ("Accept: text/html;q=0.1, text/plain;q=0.2\r\n", "text/plain"),
            ("Accept: text/html;q=0\r\nAccept: */*;q=0.5\r\n", "application/json"),
            ("Accept: image/png\r\n", "text/html"),
        ] {
            for (request, status) in [
                (format!("GET /missing HTTP/1.1\r\nHost: x\r\n{accept}\r\n"), 404),
                (format!("DELETE / HTTP/1.1\r\nHost: x\r\n{accept}\r\n"), 405),
                (format!("GET /letters HTTP/1.1\r\nHost: x\r\nRange: bytes=99-\r\n{accept}\r\n"), 416),
                (format!("GET /letters HTTP/1.1\r\nHost: x\r\nIf-Match: \"x\"\r\n{accept}\r\n"), 412),
                (format!("FROB / HTTP/1.1\r\nHost: x\r\n{accept}\r\n"), 501),
                (format!("GET / HTTP/1.1\r\n{accept}\r\n"), 400),
                (format!("GET /%zz HTTP/1.1\r\nHost: x\r\n{accept}\r\n"), 400),
                (format!("GET https://x/ HTTP/1.1\r\nHost: x\r\n{accept}\r\n"), 421),
                (format!("PUT /files/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n{accept}\r\n"), 413),
                (format!("PUT /files/x HTTP/1.1\r\nHost: x\r\nExpect: x\r\n{accept}\r\n"), 417),
            ] {
                let answer = exchange(&place.server, &request);
                assert_eq!((answer.status, answer.media_type().as_str()), (status, expected), "{request}");
            }
        }
    }

    fn empty_lines_win_no_time(engine: Engine) {
        let place = Place::with(engine, &["--header-timeout", "1s", "--keep-alive-timeout", "1s"]);
        for first in ["", "GET /echo/x HTTP/1.1\r\nHost: x\r\n\r\n"] {
            let mut client = Client::connect(&place.server);
            client.send(first);
            let since = Instant::now();
            // Whole ones, and ones in halves.
            while ["\r\n", "\r", "\n\r", "\n"].iter().all(|part| client.try_send(part).is_ok()) {
                assert!(since.elapsed() < Duration::from_secs(5), "still open");
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}
