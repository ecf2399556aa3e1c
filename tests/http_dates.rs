//! Dates: the Date field of every response, and the three formats that a client may send (RFC 9110, section 5.6.7).

mod common;

use common::place::Place;
use common::{exchange, get, on_every_engine, store_server};
use std::time::{Duration, SystemTime};

/// The modification time of the files, in each date format.
const DATES: [&str; 3] =
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"];

/// The same dates under the name of another day.
const OTHER_DAYS: [&str; 3] =
    ["Mon, 06 Nov 1994 08:49:37 GMT", "Saturday, 06-Nov-94 08:49:37 GMT", "Fri Nov  6 08:49:37 1994"];

/// Invalid dates. A field with an invalid date is ignored.
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
    "Mony, 06 Nov 1994 08:49:37 GMT",
    "sun, 06 nov 1994 08:49:37 gmt",
    "Sun, 06 Nov 1994 25:49:37 GMT",
    "Sun, 31 Feb 1994 08:49:37 GMT",
    "Sun, 06-Nov-94 08:49:37 GMT",
    "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
    "Sun, 06 Nov 1994  08:49:37 GMT",
];

on_every_engine! {
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

    fn every_answer_says_server_and_date(engine: Engine) {
        let (server, _store) = store_server(engine, &[]);
        for path in ["/", "/echo/x", "/missing", "/files/missing"] {
            let answer = get(&server, path);
            assert!(answer.field("Server").is_some_and(|value| value.starts_with("dustdevil")), "{answer:?}");
            let date = answer.field("Date").expect("a Date");
            let told = httpdate::parse_http_date(date).unwrap_or_else(|error| panic!("{date}: {error}"));
            assert!(date.ends_with(" GMT") && date.len() == 29, "the preferred form, not {date}");
            let now = SystemTime::now();
            let apart = now.duration_since(told).or_else(|_| told.duration_since(now)).unwrap();
            assert!(apart < Duration::from_secs(60), "{date} is {apart:?} off");
        }
    }

    fn all_three_forms_of_a_date_are_read_and_invalid_dates_ignored(engine: Engine) {
        let place = Place::new(engine);
        for date in DATES.into_iter().chain(OTHER_DAYS) {
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

    fn a_guard_holds_though_its_date_names_another_day(engine: Engine) {
        let (server, store) = store_server(engine, &[]);
        store.write("f", "old");
        for (date, status) in [
            ("Mon, 06 Nov 1994 08:49:37 GMT", 412),
            ("Saturday, 06-Nov-94 08:49:37 GMT", 412),
            ("Fri Nov  6 08:49:37 1994", 412),
            ("yesterday", 204),
        ] {
            let request = format!(
                "PUT /files/f HTTP/1.1\r\nHost: x\r\nIf-Unmodified-Since: {date}\r\nContent-Length: 3\r\n\r\nnew"
            );
            let (answer, kept) = (exchange(&server, &request), std::fs::read(store.join("f")).unwrap());
            assert_eq!((answer.status, kept == b"old"), (status, status == 412), "{date}");
        }
    }
}
