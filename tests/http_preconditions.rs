//! Preconditions and validators (RFC 9110, sections 8.8 and 13), for GET, HEAD and uploads.
//!
//! Each row of a table is one request and its response. Combinations are in tests/http_matrix.rs.

mod common;

use common::place::{LETTERS, MODIFIED, Place, filled};
use common::{get, on_every_engine};
use std::fs;
use std::time::{Duration, UNIX_EPOCH};

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
    // 1 before 2: if If-Match is present, If-Unmodified-Since is ignored.
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
    // 3 before 4: if If-None-Match is present, If-Modified-Since is ignored, whatever its result would be.
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

/// Preconditions of an upload, its status if the file exists, and its status if it does not.
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

on_every_engine! {
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
            // If the file is missing, there is no state to compare. Preconditions do not change the status.
            assert_eq!(place.ask("GET", "/missing", &filled(fields, &etag)).status, 404, "{fields}");
            assert_eq!(place.ask("GET", "/sub", &filled(fields, &etag)).status, 301, "{fields}");
            assert_eq!(place.ask("DELETE", "/letters", &filled(fields, &etag)).status, 405, "{fields}");
            assert_eq!(place.ask("OPTIONS", "/letters", &filled(fields, &etag)).status, 204, "{fields}");
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
                // There is no date to compare with.
                ("If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT\r\n", 200),
                ("If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n", 200),
                ("Range: bytes=0-0\r\n", 200),
            ] {
                assert_eq!(place.ask("GET", route, fields).status, status, "{route} {fields}");
            }
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
        // A time in the future is sent as the current time. The time of a reproducible build is not sent.
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
}
