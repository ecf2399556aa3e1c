//! What must hold for any bytes, one check for each parser of a message: run by `tests/http_mutate.rs` on seeded
//! mutations, by `scripts/fuzz` on inputs that coverage leads to, and by `tests/http_regressions.rs` on inputs that
//! these found.
//!
//! A check panics when something does not hold. Common to all: the result does not depend on how the bytes are cut, no
//! more bytes are consumed than were given, and no range points outside the input.

#![allow(dead_code)] // each of the three uses its own part

use dustdevil::app::App;
use dustdevil::config::{Config, LogTarget};
use dustdevil::driver::{self, Turn};
use dustdevil::http::chars::{is_field_value_byte, is_ows, is_tchar, is_token, quoted_string_len, trim_ows};
use dustdevil::http::chunked::{self, ChunkedDecoder};
use dustdevil::http::date::Now;
use dustdevil::http::framing::{self, ContentLength};
use dustdevil::http::head::{Head, HeadLimits, Name};
use dustdevil::http::method::Method;
use dustdevil::http::response::ResponseHead;
use dustdevil::http::target::{self, Form, Target};
use dustdevil::http::{escape, list};
use dustdevil::proto::client::ResponseContent;
use dustdevil::session::testing::Wire;
use dustdevil::session::{Scratch, Session};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant, UNIX_EPOCH};

/// A check, its name, and inputs that lead into it.
pub struct Check {
    pub name: &'static str,
    pub check: fn(&[u8]),
    pub seeds: &'static [&'static [u8]],
}

pub const CHECKS: &[Check] = &[
    Check { name: "head", check: head, seeds: HEADS },
    Check { name: "chunked", check: chunked, seeds: CHUNKED },
    Check { name: "target", check: target, seeds: TARGETS },
    Check { name: "framing", check: framing, seeds: FRAMINGS },
    Check { name: "response", check: response, seeds: RESPONSES },
    Check { name: "session", check: session, seeds: SESSIONS },
];

/// # Panics
/// When there is no check of this name.
pub fn named(name: &str) -> &'static Check {
    CHECKS.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("there is no check named {name:?}"))
}

/// Small limits, so that inputs reach them.
const LIMITS: HeadLimits = HeadLimits { size: 512, target: 128, fields: 8 };

pub const HEADS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PUT /a?b=c HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\nX:\t y \r\n\r\nhello",
    b"OPTIONS * HTTP/1.9\r\nhost:a\r\nEmpty:\r\nA: \x80\xff\t!\r\n\r\nGET / HTTP/1.1\r\n",
    b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"GET  / HTTP/1.1\r\nA : b\r\n: c\r\n\r\n",
    b"GET / HTTP/2.0\r\n\r\n",
    b"GET / HTTP/1.1\r\nA: b\rc\r\r\n\r\n",
    b"GET / HTTP/1.1\r\na: b\r\na: b\r\na: b\r\na: b\r\na: b\r\na: b\r\na: b\r\na: b\r\na: b\r\n\r\n",
    b"\r\nGET / HTTP/1.1\r\n\r\n",
    b"",
];

/// The outcome of a head, read from `cuts` on as the bytes come.
fn parse_head(input: &[u8], ends: impl Iterator<Item = usize>) -> (String, Option<Head>) {
    let (mut head, mut scanned) = (Head::default(), 0);
    for end in ends.chain([input.len()]) {
        match head.parse(&input[..end], &LIMITS, &mut scanned) {
            Ok(false) => assert!(scanned <= end),
            Ok(true) => return (format!("{} bytes", head.len), Some(head)),
            Err(violation) => return (format!("{violation:?}"), None),
        }
    }
    ("more".to_owned(), None)
}

pub fn head(input: &[u8]) {
    let (outcome, parsed) = parse_head(input, [].into_iter());
    assert_eq!(parse_head(input, 1..input.len()).0, outcome, "byte by byte");
    for cut in [input.len() / 2, input.len().saturating_sub(1), input.len() / 3] {
        assert_eq!(parse_head(input, [cut].into_iter()).0, outcome, "cut at {cut}");
    }
    let behind = [input, b"GET / HTTP/1.1\r\nHost: b\r\n\r\n"].concat();
    if outcome != "more" {
        assert_eq!(parse_head(&behind, [].into_iter()).0, outcome, "with bytes behind");
    }
    let Some(head) = parsed else { return };
    assert!(head.len <= input.len() && head.len <= LIMITS.size && head.fields.len() <= LIMITS.fields);
    let bytes = &input[..head.len];
    assert!(bytes.ends_with(b"\r\n\r\n"));
    assert!(is_token(head.method_token.of(bytes)) && head.target.of(bytes).len() <= LIMITS.target && head.minor <= 9);
    // Written again from its parts, it is the same head.
    let mut again = Vec::new();
    let line: [&[u8]; 4] = [head.method_token.of(bytes), b" ", head.target.of(bytes), b" HTTP/1."];
    again.extend(line.concat());
    again.extend([b'0' + head.minor, b'\r', b'\n']);
    assert!(bytes.starts_with(&again));
    for field in &head.fields {
        let (name, value) = (field.name.of(bytes), field.value.of(bytes));
        assert!(is_token(name) && value.iter().all(|&byte| is_field_value_byte(byte)) && trim_ows(value) == value);
        again.extend([name, b": ", value, b"\r\n"].concat());
    }
    again.extend(b"\r\n");
    let (_, same) = parse_head(&again, [].into_iter());
    // White space that was added may have made it too long.
    let Some(same) = same else { return assert!(again.len() > LIMITS.size) };
    assert_eq!((same.method, same.minor, same.fields.len()), (head.method, head.minor, head.fields.len()));
    for (one, other) in same.fields.iter().zip(&head.fields) {
        assert_eq!((one.known, one.value.of(&again)), (other.known, other.value.of(bytes)));
        assert!(head.has(one.known));
    }
}

pub const CHUNKED: &[&[u8]] = &[
    b"0\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"00a;x\r\n0123456789\r\n1 ; y = z;q=\"a\\\"b;c\"\r\n!\r\n0\r\nA: b\r\nC:\r\n\r\nGET /",
    b"5;a=\"\r\nhello\r\n0\r\n\r\n",
    b"5\nhello\n0\n\n",
    b"10000000000000005\r\nhello\r\n",
    b"ffffffffffffffff\r\nhello\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhelloXX0\r\n\r\n",
    b"0\r\nA : b\r\n\r\n",
    b"0\r\nA: b\r\n c\r\n\r\n",
    b"",
];

/// Content and bytes consumed, or how it ended, fed in pieces of `cut` bytes.
fn decode(input: &[u8], cut: usize) -> Result<Option<(Vec<u8>, usize)>, String> {
    let mut decoder = ChunkedDecoder::default();
    let (mut content, mut at, mut given) = (Vec::new(), 0, 0);
    loop {
        let piece = &input[at..given];
        let decoded = decoder.decode(piece).map_err(|violation| format!("{violation:?}"))?;
        assert!(decoded.consumed <= piece.len() && decoded.data.end <= decoded.consumed);
        content.extend_from_slice(&piece[decoded.data.clone()]);
        at += decoded.consumed;
        if decoded.end {
            let more = decoder.decode(b"5\r\nhello\r\n").map_err(|violation| format!("{violation:?}"))?;
            assert!(more.consumed == 0 && more.end, "nothing is read behind the end");
            return Ok(Some((content, at)));
        }
        if at == given {
            if given == input.len() {
                return Ok(None);
            }
            given = (given + cut).min(input.len());
        } else {
            assert!(decoded.consumed > 0, "it goes on");
        }
    }
}

pub fn chunked(input: &[u8]) {
    let whole = decode(input, input.len().max(1));
    for cut in [1, 2, 7] {
        assert_eq!(decode(input, cut), whole, "in pieces of {cut}");
    }
    // The limits on framing lie far above what is tried here.
    if input.len() < 4096 {
        let expected = reference_chunked(input);
        assert_eq!(whole.clone().ok().flatten(), expected, "not as the grammar reads it");
    }
    // Any content survives being chunked, in chunks of any size.
    let mut encoded = Vec::new();
    for piece in input.chunks(1 + input.first().map_or(0, |&byte| usize::from(byte))) {
        chunked::write_size(piece.len(), &mut encoded);
        encoded.extend([piece, chunked::CHUNK_END].concat());
    }
    encoded.extend_from_slice(chunked::LAST_CHUNK);
    let length = encoded.len();
    encoded.extend_from_slice(input);
    assert_eq!(decode(&encoded, 3), Ok(Some((input.to_vec(), length))));
}

/// The grammar of RFC 9112, section 7.1, read top down from a whole message: content and length, or `None` where it is
/// broken or not complete.
fn reference_chunked(input: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut content, mut at) = (Vec::new(), 0);
    loop {
        let line = line_at(input, at)?;
        at += line.len() + 2;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = usize::from_str_radix(std::str::from_utf8(&line[..digits]).ok()?, 16).ok()?;
        is_extensions(&line[digits..]).then_some(())?;
        if size == 0 {
            break;
        }
        let end = at.checked_add(size)?;
        content.extend_from_slice(input.get(at..end)?);
        (input.get(end..end.checked_add(2)?)? == b"\r\n").then_some(())?;
        at = end + 2;
    }
    loop {
        let line = line_at(input, at)?;
        at += line.len() + 2;
        if line.is_empty() {
            return Some((content, at));
        }
        let colon = line.iter().position(|&byte| byte == b':')?;
        let value = &line[colon + 1..];
        (is_token(&line[..colon]) && value.iter().all(|&byte| is_field_value_byte(byte))).then_some(())?;
    }
}

/// Up to the next CRLF. A lone CR or LF is invalid.
fn line_at(input: &[u8], at: usize) -> Option<&[u8]> {
    let rest = input.get(at..)?;
    let end = rest.windows(2).position(|two| two == b"\r\n")?;
    let line = &rest[..end];
    (!line.contains(&b'\r') && !line.contains(&b'\n')).then_some(line)
}

/// `*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )`
fn is_extensions(mut rest: &[u8]) -> bool {
    let token = |bytes: &[u8]| bytes.iter().take_while(|&&byte| is_tchar(byte)).count();
    while !rest.is_empty() {
        let Some(name) = behind_bws(rest).strip_prefix(b";") else { return false };
        let name = behind_bws(name);
        let after = &name[token(name)..];
        if after.len() == name.len() {
            return false;
        }
        rest = after;
        if let Some(value) = behind_bws(after).strip_prefix(b"=") {
            let value = behind_bws(value);
            let len = quoted_string_len(value).unwrap_or_else(|| token(value));
            if len == 0 {
                return false;
            }
            rest = &value[len..];
        }
    }
    true
}

/// Without spaces and tabs in front. `trim_ascii` would drop form feeds, too.
fn behind_bws(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|&&byte| is_ows(byte)).count()..]
}

pub const TARGETS: &[&[u8]] = &[
    b"/",
    b"/a/./b/../%2e%2E/c?d/../e",
    b"/../%2e%2e/etc/passwd",
    b"//host/..",
    b"http://user@host:80/a",
    b"http://[::1]:4221/a?b",
    b"http://[v1.a:b]/%41%00",
    b"https://host/",
    b"*",
    b"host:443",
    b"/%zz#f",
    b"/\\a|{}\"",
    b"/caf\xc3\xa9/?\xff",
    b"http://[fe80::1%25eth0]:80/",
];

pub fn target(input: &[u8]) {
    for method in [Method::Get, Method::Options, Method::Connect] {
        let Ok(target) = Target::parse(method, input) else { continue };
        assert!(
            !input.is_empty() && input.iter().all(|byte| (byte.is_ascii_graphic() && *byte != b'#') || *byte > 0x7f)
        );
        assert_eq!(target.form == Form::Authority, method == Method::Connect);
        if let Some(authority) = target.authority {
            assert!(!authority.is_empty() && target::is_host_and_port(authority) && !authority.contains(&b'@'));
            assert!(input.windows(authority.len()).any(|window| window == authority));
        }
        if !matches!(target.form, Form::Origin | Form::Absolute) {
            continue;
        }
        assert!(target.path.starts_with(b"/") && !target.path.contains(&b'?'));
        if target.has_dot_dot {
            continue; // such a path names nothing
        }
        assert!(!target.path.split(|&byte| byte == b'/').any(|segment| segment == b"." || segment == b".."));
        let decoded = escape::decode(&target.path).expect("whole escapes");
        assert!(!decoded.contains(&0));
        if let Some(query) = target.query() {
            let mut escaped = Vec::new();
            escape::high_bytes(input, &mut escaped);
            assert!(escaped.ends_with(query) && query.is_ascii());
        }
        // A normal path stays as it is.
        let again = Target::parse(method, &target.path).expect("a normal path is a target");
        assert_eq!((again.form, &again.path, again.has_dot_dot), (Form::Origin, &target.path, false));
    }
    // A host is read the same in an authority and in a Host field.
    let authority = [b"http://", input, b"/"].concat();
    let plain = !input.is_empty() && !input.iter().any(|byte| b"/?#".contains(byte) || !byte.is_ascii_graphic());
    if plain {
        assert_eq!(Target::parse(Method::Get, &authority).is_ok(), target::is_host_and_port(input));
    }
}

pub const FRAMINGS: &[&[u8]] = &[
    b"Host: a\r\nContent-Length: 5\r\n",
    b"Host: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n",
    b"Host: a\r\nTransfer-Encoding: gzip, chunked\r\nContent-Length: 5\r\n",
    b"Host: a\r\nHost: b\r\nExpect: 100-continue\r\n",
    b"host:[::1]:80\r\nconnection:keep-alive, Close\r\nexpect:100-CONTINUE, x\r\n",
    b"Content-Length: 18446744073709551616\r\nContent-Length: +5\r\n",
    b"Transfer-Encoding: , CHUNKED ,\r\nTransfer-Encoding: \"chunked\"\r\n",
];

/// The input stands for the field lines of a head.
pub fn framing(input: &[u8]) {
    let limits = HeadLimits { size: 1 << 20, target: 100, fields: 1000 };
    for version in [b"0", b"1", b"2"] {
        let bytes = [b"PUT / HTTP/1.", &version[..], b"\r\n", input, b"\r\n\r\n"].concat();
        let mut head = Head::default();
        if head.parse(&bytes, &limits, &mut 0) != Ok(true) {
            continue;
        }
        let old = version == b"0";
        let values = |name| head.values(&bytes, name).collect::<Vec<_>>();
        let elements = |name| head.values(&bytes, name).flat_map(list::elements).collect::<Vec<_>>();
        let (lengths, codings, hosts) =
            (values(Name::ContentLength), values(Name::TransferEncoding), values(Name::Host));
        match framing::content_length(&head, &bytes) {
            Ok(ContentLength::Chunked) => {
                assert!(lengths.is_empty() && !old && !codings.is_empty());
                let coding = elements(Name::TransferEncoding);
                assert!(coding.len() == 1 && coding[0].eq_ignore_ascii_case(b"chunked"));
            }
            Ok(ContentLength::Bytes(length)) => {
                assert!(codings.is_empty() && lengths.len() <= 1);
                let told = lengths.first().map_or("0", |value| std::str::from_utf8(value).unwrap());
                assert!(told.bytes().all(|byte| byte.is_ascii_digit()));
                let told = told.trim_start_matches('0');
                assert_eq!(if told.is_empty() { "0" } else { told }, length.to_string());
            }
            Err(_) => assert!(!(lengths.is_empty() && codings.is_empty())),
        }
        match framing::check_host(&head, &bytes) {
            Ok(()) => assert!(hosts.len() == 1 || (old && hosts.is_empty())),
            Err(_) => assert!(hosts.len() != 1 || !target::is_host_and_port(hosts[0])),
        }
        let says = |option: &[u8]| elements(Name::Connection).iter().any(|token| token.eq_ignore_ascii_case(option));
        assert_eq!(
            framing::persists(head.minor, head.values(&bytes, Name::Connection)),
            !says(b"close") && (!old || says(b"keep-alive"))
        );
        let unmet = |expectation: &&&[u8]| !expectation.eq_ignore_ascii_case(b"100-continue");
        let expectations = elements(Name::Expect);
        match framing::expects_continue(&head, &bytes) {
            Ok(expected) => {
                assert!(expectations.iter().find(unmet).is_none());
                assert_eq!(expected, !expectations.is_empty() && !old);
            }
            Err(_) => assert!(expectations.iter().find(unmet).is_some()),
        }
    }
}

pub const RESPONSES: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.0 404 Not Found\r\nConnection: keep-alive\r\n\r\nhello",
    b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
    b"HTTP/1.1 200 OK\nA : b\r\nTransfer-Encoding: chunked\n\r\n5\r\nhello\r\n0\r\nX : y\r\n\r\n",
];

/// How the bytes of an upstream are read when they come in pieces up to `ends`: head, content, and the rest.
fn parse_response(input: &[u8], ends: impl Iterator<Item = usize>) -> Option<(u16, Vec<u8>, usize, bool)> {
    let (mut scanned, mut content, mut at) = (0, None, 0);
    let (mut status, mut data) = (0, Vec::new());
    for end in ends.chain([input.len()]) {
        if content.is_none() {
            let Some(head) = ResponseHead::parse(&input[..end], &LIMITS, &mut scanned).ok()? else { continue };
            assert!(head.len <= end && head.len <= LIMITS.size && (100..=599).contains(&head.status));
            (at, status) = (head.len, head.status);
            content = Some(ResponseContent::of(&head, &input[..end], false).ok()?);
        }
        let Some(content) = &mut content else { continue };
        loop {
            let decoded = content.decode(&input[at..end], false).ok()?;
            data.extend_from_slice(&input[at..end][decoded.data]);
            at += decoded.consumed;
            if decoded.end {
                return Some((status, data, at, true));
            }
            if decoded.consumed == 0 {
                break;
            }
        }
    }
    Some((status, data, at, false))
}

pub fn response(input: &[u8]) {
    let whole = parse_response(input, [].into_iter());
    assert_eq!(parse_response(input, 1..input.len()), whole, "byte by byte");
    for cut in [input.len() / 2, input.len().saturating_sub(1), input.len() / 3] {
        assert_eq!(parse_response(input, [cut].into_iter()), whole, "cut at {cut}");
    }
    if let Some((_, data, at, _)) = whole {
        assert!(at <= input.len() && data.len() <= at);
    }
}

pub const SESSIONS: &[&[u8]] = &[
    b"GET /echo/a HTTP/1.1\r\nHost: x\r\n\r\nGET /echo/b HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\r\nHEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nOPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /echo/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET /echo/b HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;a\r\nhello\r\n0\r\nA: b\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /user-agent HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n",
    b"GET /echo/long HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip;q=0.5, identity;q=0\r\nIf-None-Match: *\r\n\r\n",
    b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\nA : b\r\n\r\n",
];

thread_local! {
    static APP: App = small_app();
}

/// The endpoints alone: no file is read.
fn small_app() -> App {
    let mut config = Config::from_args(["dustdevil", "--max-header-size", "1K", "--max-body-size", "64"])
        .unwrap_or_else(|error| panic!("{error}"));
    config.root = None;
    config.directory = None;
    config.access_log = LogTarget::Off;
    App::new(&config).unwrap_or_else(|error| panic!("{error}"))
}

/// All that a connection answers to these bytes, given up to each of `ends` at a time, and then to their end.
fn transcript(app: &App, input: &[u8], ends: impl IntoIterator<Item = usize>) -> Vec<u8> {
    let now = Now::new(Instant::now(), UNIX_EPOCH + Duration::from_secs(1_795_248_000));
    let mut session = Session::new(IpAddr::V4(Ipv4Addr::LOCALHOST), now.instant);
    let (mut wire, mut scratch) = (Wire::new(now), Scratch::default());
    let mut ends = ends.into_iter().chain([input.len()]);
    let mut sent = 0;
    // Every turn reads a byte, sends a part of an answer, or is the last before the next bytes come.
    for _ in 0..100 + 10 * input.len() {
        wire.window = 1000;
        match driver::drive(&mut session, &mut wire, app, &mut scratch) {
            Turn::Close => return wire.answer,
            // The client had no room, and now it has.
            Turn::Wait(_) if wire.window == 0 => {}
            Turn::Wait(_) => match ends.next() {
                Some(end) if end > sent => {
                    wire.send(&input[sent..end]);
                    sent = end;
                }
                Some(_) => {}
                None => wire.ended = true,
            },
            Turn::Yield => {}
        }
    }
    panic!("the session does not come to its end");
}

/// A whole connection, without its socket.
pub fn session(input: &[u8]) {
    APP.with(|app| {
        // Whether 100 is sent depends on what has arrived, and on nothing else.
        let told = |ends: Vec<usize>| without_interim(&transcript(app, input, ends));
        let whole = told(vec![]);
        assert_eq!(text(&told((1..input.len()).collect())), text(&whole), "byte by byte");
        for cut in [input.len() / 2, input.len().saturating_sub(1), input.len() / 3] {
            assert_eq!(text(&told(vec![cut])), text(&whole), "cut at {cut}");
        }
        // There is at most one answer to a request, and a request is no shorter than this.
        let answers = whole.windows(9).filter(|window| *window == b"HTTP/1.1 ").count();
        let most = 1 + input.len() / b"A / HTTP/1.0\r\n\r\n".len();
        assert!(whole.is_empty() || whole.starts_with(b"HTTP/1.1 "), "{}", text(&whole));
        assert!(answers <= most, "{answers} answers: {}", text(&whole));
    });
}

fn without_interim(answers: &[u8]) -> Vec<u8> {
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut kept = Vec::with_capacity(answers.len());
    let mut rest = answers;
    while let Some((byte, after)) = rest.split_first() {
        match rest.strip_prefix(interim) {
            Some(after) => rest = after,
            None => {
                kept.push(*byte);
                rest = after;
            }
        }
    }
    kept
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
