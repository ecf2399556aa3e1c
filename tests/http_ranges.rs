//! Ranges (RFC 9110, section 14): one, several, none, malformed, under If-Range, and in uploads.
//!
//! Each row of a table is one request and its response. Combinations are in tests/http_matrix.rs.

mod common;

use common::place::{LETTERS, Place, filled};
use common::{Framing, Response, get, on_every_engine};

/// Parses a multipart/byteranges body (RFC 9110, section 14.6): the Content-Range and the bytes of each part. Fails on
/// every deviation from the form that the server writes.
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

/// Range values for a file of 26 bytes.
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
    // Ranges that touch or overlap are merged; ranges past the end are dropped.
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
    // Malformed, of another unit, or abusive: the field is ignored.
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

/// If-Range values, and whether the Range field is applied.
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
    // The day of the week is not compared.
    ("Mon, 06 Nov 1994 08:49:37 GMT", true),
];

on_every_engine! {
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
            // Ranges apply to GET only.
            let head = place.ask("HEAD", "/letters", &format!("Range: {value}\r\n"));
            assert_eq!((head.status, head.content_length()), (200, Some(26)), "HEAD {value}");
            assert_eq!(head.field("Content-Range"), None);
        }
    }

    fn two_range_fields_are_ignored(engine: Engine) {
        let place = Place::new(engine);
        let answer = place.ask("GET", "/letters", "Range: bytes=0-1\r\nRange: bytes=4-5\r\n");
        assert_eq!((answer.status, answer.text().as_str()), (200, LETTERS));
    }

    /// Players and downloaders ask for `0-` of every file, and take 416 for a failure.
    fn an_empty_file_is_sent_whole_whatever_range_is_asked_for(engine: Engine) {
        let place = Place::new(engine);
        let etag = place.etag("/empty");
        for value in ["0-", "0-0", "0-499", "-0", "-1", "-5", "5-", "5-1", "0-1,4-5", "-1,-2"] {
            for if_range in [String::new(), format!("If-Range: {etag}\r\n"), "If-Range: \"x\"\r\n".into()] {
                let answer = place.ask("GET", "/empty", &format!("Range: bytes={value}\r\n{if_range}"));
                assert_eq!((answer.status, answer.content_length()), (200, Some(0)), "{value} {if_range}");
                assert_eq!((answer.field("Content-Range"), answer.field("Accept-Ranges")), (None, Some("bytes")));
            }
        }
        let fields = format!("Range: bytes=0-\r\nIf-None-Match: {etag}\r\n");
        assert_eq!(place.ask("GET", "/empty", &fields).status, 304);
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
            // If the condition does not hold, a range past the end is ignored too.
            let past = place.ask("GET", "/letters", &format!("{fields}Range: bytes=99-\r\n"));
            assert_eq!(past.status, if *counts { 416 } else { 200 }, "{value}");
            // Without Range, If-Range is ignored.
            assert_eq!(place.ask("GET", "/letters", &fields).status, 200, "{value}");
        }
        let twice = format!("If-Range: {etag}\r\nIf-Range: {etag}\r\nRange: bytes=1-2\r\n");
        assert_eq!(place.ask("GET", "/letters", &twice).status, 200);
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
}
