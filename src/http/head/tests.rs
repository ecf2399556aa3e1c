//! Heads whole, byte by byte, and with bytes behind.

use super::*;

const LIMITS: HeadLimits = HeadLimits { size: 512, target: 64, fields: 8 };

/// The answer to the bytes in one piece; it must be the same byte by byte and with bytes behind.
fn parse(bytes: &[u8]) -> Result<Option<Head>, Violation> {
    let mut head = Head::default();
    let whole = head.parse(bytes, &LIMITS, &mut 0).map(|done| done.then_some(head.len));
    let mut cut = Ok(None);
    let (mut again, mut scanned) = (Head::default(), 0);
    for end in 1..=bytes.len() {
        match again.parse(&bytes[..end], &LIMITS, &mut scanned) {
            Ok(false) => continue,
            Ok(true) => cut = Ok(Some(again.len)),
            Err(violation) => cut = Err(violation),
        }
        break;
    }
    assert_eq!(whole, cut, "{}", bytes.escape_ascii());
    if whole != Ok(None) {
        let trailing = [bytes, b"GET / HTTP/1.1\r\n"].concat();
        let mut more = Head::default();
        assert_eq!(more.parse(&trailing, &LIMITS, &mut 0).map(|done| done.then_some(more.len)), whole);
    }
    whole.map(|done| done.map(|_| head))
}

#[test]
fn a_head_is_parsed_into_spans() {
    let bytes = b"GET /a?b HTTP/1.1\r\nHost: h\r\nX-Y:\t v \r\nhost:2\r\nEmpty:\r\nEmpty:  \r\n\r\n";
    let head = parse(bytes).unwrap().unwrap();
    assert_eq!((head.method, head.minor, head.len), (Method::Get, 1, bytes.len()));
    assert_eq!(head.target.of(bytes), b"/a?b");
    let fields: Vec<_> = head.fields.iter().map(|f| (f.name.of(bytes), f.value.of(bytes))).collect();
    let expected: [(&[u8], &[u8]); 5] =
        [(b"Host", b"h"), (b"X-Y", b"v"), (b"host", b"2"), (b"Empty", b""), (b"Empty", b"")];
    assert_eq!(fields, expected);
    assert_eq!(head.values(bytes, Name::Host).collect::<Vec<_>>(), [&b"h"[..], b"2"]);
    assert!(head.has(Name::Host) && !head.has(Name::Range));
}

#[test]
fn every_broken_head_names_its_rule() {
    let get = "GET / HTTP/1.1\r\n";
    for (text, violation) in [
        ("\n".to_string(), Violation::BareLf),
        ("\rGET".into(), Violation::BareCr),
        ("\x16\x03\x01".into(), Violation::NotHttp),
        ("GET /\r\n".into(), Violation::Version),
        ("GET / HTTP/1.1\n\n".into(), Violation::BareLf),
        ("GET / HTTP/1.1\r\r\n".into(), Violation::BareCr),
        ("GET\t/ HTTP/1.1\r\n".into(), Violation::NotHttp),
        ("GET  / HTTP/1.1\r\n".into(), Violation::RequestLine),
        ("GET /  HTTP/1.1\r\n".into(), Violation::RequestLine),
        ("GET / HTTP/1.1 \r\n".into(), Violation::RequestLine),
        ("GET / x HTTP/1.1\r\n".into(), Violation::RequestLine),
        ("GET / http/1.1\r\n".into(), Violation::Version),
        ("GET / HTTP/1.10\r\n".into(), Violation::Version),
        ("GET / HTTP/11\r\n".into(), Violation::Version),
        ("GET / HTTP/0.9\r\n".into(), Violation::Version),
        ("GET / HTTP/2.0\r\n".into(), Violation::MajorVersion),
        ("GET\r\n".into(), Violation::RequestLine),
        (format!("{get} a: b\r\n"), Violation::SpaceBeforeFields),
        (format!("{get}a: b\r\n c\r\n"), Violation::ObsFold),
        (format!("{get}a : b\r\n"), Violation::SpaceBeforeColon),
        (format!("{get}: b\r\n"), Violation::FieldName),
        (format!("{get}a\r\n"), Violation::FieldName),
        (format!("{get}a b: c\r\n"), Violation::FieldName),
        (format!("{get}a\u{e9}: c\r\n"), Violation::FieldName),
        (format!("{get}a: \0\r\n"), Violation::FieldValue),
        (format!("{get}a: \x7f\r\n"), Violation::FieldValue),
        (format!("{get}a: b\nc: d\r\n\r\n"), Violation::BareLf),
        (format!("{get}a: b\rc\r\n\r\n"), Violation::BareCr),
        (format!("GET /{} HTTP/1.1\r\n", "a".repeat(64)), Violation::TargetTooLong),
        (format!("GET /{}", "a".repeat(64)), Violation::TargetTooLong),
        (format!("{get}a: {}\r\n\r\n", "b".repeat(512)), Violation::HeadTooLarge),
        (format!("{get}a: \r{}\r\n\r\n", "b".repeat(512)), Violation::HeadTooLarge),
        (format!("{}\r\n", "G".repeat(600)), Violation::MethodTooLong),
        (format!("{} / HTTP/1.1\r\n\r\n", "G".repeat(512 - 14)), Violation::MethodTooLong),
        (format!("{} /{}", "G".repeat(512 - 14), "t".repeat(100)), Violation::MethodTooLong),
        (format!("{} / HTTP/1.1\r\na: b\r\n\r\n", "G".repeat(512 - 15)), Violation::HeadTooLarge),
        (format!("{get}{}\r\n", "a: b\r\n".repeat(9)), Violation::TooManyFields),
    ] {
        assert_eq!(parse(text.as_bytes()).err(), Some(violation), "{text:?}");
    }
}

#[test]
fn a_name_is_known_in_any_case_and_no_other_token_is_taken_for_it() {
    let known = [
        "accept",
        "accept-encoding",
        "access-control-request-headers",
        "access-control-request-method",
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "origin",
        "range",
        "referer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    ];
    for name in known {
        assert_ne!(Name::of(name.as_bytes()), Name::Other, "{name}");
        assert_eq!(Name::of(name.to_ascii_uppercase().as_bytes()), Name::of(name.as_bytes()));
        for at in 0..name.len() {
            for byte in (0..=255).filter(|&byte| is_tchar(byte)) {
                let mut other = name.as_bytes().to_vec();
                other[at] = byte;
                let same = other.eq_ignore_ascii_case(name.as_bytes());
                let told = Name::of(&other) == Name::of(name.as_bytes());
                assert_eq!(told, same, "{}", other.escape_ascii());
            }
        }
    }
}

#[test]
fn the_limits_are_exact() {
    let target = "a".repeat(63);
    assert!(parse(format!("GET /{target} HTTP/1.1\r\n\r\n").as_bytes()).unwrap().is_some());
    let fields = "a: b\r\n".repeat(8);
    assert!(parse(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes()).unwrap().is_some());
    let value = "b".repeat(512 - "GET / HTTP/1.1\r\na: \r\n\r\n".len());
    assert!(parse(format!("GET / HTTP/1.1\r\na: {value}\r\n\r\n").as_bytes()).unwrap().is_some());
    assert!(parse(format!("GET / HTTP/1.1\r\na: {value}b\r\n\r\n").as_bytes()).is_err());
}

/// What is made of the bytes up to each of `ends` in turn.
fn verdict(
    limits: &HeadLimits,
    bytes: &[u8],
    ends: impl IntoIterator<Item = usize>,
) -> Result<Option<usize>, Violation> {
    let (mut head, mut scanned) = (Head::default(), 0);
    for end in ends {
        if head.parse(&bytes[..end], limits, &mut scanned)? {
            return Ok(Some(head.len));
        }
    }
    Ok(None)
}

#[test]
fn at_every_limit_the_answer_is_the_same_however_the_bytes_are_cut() {
    let size = LIMITS.size;
    let mut heads = Vec::new();
    for len in (LIMITS.target - 2..=LIMITS.target + 2).chain(size - 20..=size + 2) {
        heads.push(format!("GET {} HTTP/1.1\r\n\r\n", "t".repeat(len)));
        heads.push(format!("{} / HTTP/1.1\r\n\r\n", "M".repeat(len)));
        // The target crosses the limit of the head before its own.
        heads.push(format!("{} {} HTTP/1.1\r\n\r\n", "M".repeat(len.saturating_sub(30).max(1)), "t".repeat(60)));
        heads.push(format!("GET / HTTP/1.1\r\n{}: b\r\n\r\n", "n".repeat(len)));
        heads.push(format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "v".repeat(len)));
        heads.push(format!("GET / HTTP/1.1\r\na: {}\n\r\n", "v".repeat(len)));
        heads.push(format!("GET / HTTP/1.1\r\n{}\r\n", format!("a: {}\r\n", "v".repeat(len / 9)).repeat(9)));
    }
    heads.push(format!("GET {}", "t".repeat(2 * size)));
    heads.push(format!("GET / {}", "t".repeat(2 * size)));
    // A target that may be longer than the head that it is in, one that may fill it, one that may not.
    for limits in [LIMITS, HeadLimits { target: size, ..LIMITS }, HeadLimits { target: 2 * size, ..LIMITS }] {
        for head in &heads {
            let bytes = head.as_bytes();
            let whole = verdict(&limits, bytes, [bytes.len()]);
            assert_eq!(verdict(&limits, bytes, 1..=bytes.len()), whole, "byte by byte, {limits:?}: {head:?}");
            for cut in (1..bytes.len()).filter(|cut| cut % 8 == 0 || cut.abs_diff(size) <= 2) {
                assert_eq!(verdict(&limits, bytes, [cut, bytes.len()]), whole, "cut at {cut}, {limits:?}: {head:?}");
            }
        }
    }
}

#[test]
fn minor_versions_are_told() {
    for (version, minor) in [("HTTP/1.0", 0), ("HTTP/1.1", 1), ("HTTP/1.9", 9)] {
        let head = parse(format!("GET / {version}\r\n\r\n").as_bytes()).unwrap().unwrap();
        assert_eq!(head.minor, minor);
    }
}
