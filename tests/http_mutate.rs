//! Seeded mutations of inputs to the parsers of `http`, and to a whole connection. No input may cause a panic, and each
//! parser must do what its documentation says.
//!
//! For more inputs than the default: `DUSTDEVIL_MUTATIONS=1000000 cargo test --profile mutate --test http_mutate`. The
//! number is the sum over all parsers. The same number and seed give the same inputs. A failure prints its input.

#[path = "fuzz/checks.rs"]
mod checks;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use dustdevil::http::accept::{self, Choice, Coding};
use dustdevil::http::conditional::{self, Conditions, Outcome, Validators};
use dustdevil::http::etag::{self, ETag, Member, Tag};
use dustdevil::http::range::{self, Multipart, Ranges};
use dustdevil::http::{chars, cookie, date, escape, list};

/// Inputs for all parsers together. They are enough to notice a broken rule, and take a second or two without
/// optimisation.
const DEFAULT_MUTATIONS: u64 = 70_000;
/// The number of tests below. Each gets an equal share of the inputs.
const PARSERS: u64 = 15;
const NOW: u64 = 1_795_248_000;

/// xorshift64*, by Marsaglia and Vigna. Its state is never zero.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end.max(1)
    }

    fn pick<'a>(&mut self, corpus: &[&'a [u8]]) -> &'a [u8] {
        corpus[self.below(corpus.len())]
    }

    /// The length of a file: often 0 or short, sometimes huge.
    fn length(&mut self) -> u64 {
        match self.below(4) {
            0 => 0,
            1 => self.next() % 16,
            2 => self.next() % 100_000,
            _ => u64::MAX - self.next() % 16,
        }
    }
}

/// Bytes that parsers treat specially. They are inserted more often than others.
const SPECIAL: &[u8] = b"\0\t\n\r \"%&'()*+,-./0159:;<=>?@AWZ[\\]_azq~\x7f\x80\xc3\xff";

fn mutate(random: &mut Random, corpus: &[&[u8]]) -> Vec<u8> {
    let mut input = random.pick(corpus).to_vec();
    for _ in 0..random.below(5) {
        let at = random.below(input.len() + 1);
        let end = (at + random.below(8)).min(input.len());
        match random.below(6) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = SPECIAL[random.below(SPECIAL.len())],
            2 => input.insert(at, SPECIAL[random.below(SPECIAL.len())]),
            3 => drop(input.drain(at..end)),
            4 => input.splice(at..at, input[at..end].to_vec()).for_each(drop),
            _ => {
                let other = random.pick(corpus);
                let from = random.below(other.len() + 1);
                input.splice(at.., other[from..].iter().copied()).for_each(drop);
            }
        }
    }
    input
}

/// Runs `check` on every input of the corpus, and then on mutations of them.
fn run(corpus: &[&[u8]], mut check: impl FnMut(&[u8], &mut Random)) {
    let mutations = std::env::var("DUSTDEVIL_MUTATIONS").ok().and_then(|number| number.parse().ok());
    let mut random = Random(0x6475_7374_6465_7669);
    let mut checked = |input: &[u8], random: &mut Random| {
        let result = catch_unwind(AssertUnwindSafe(|| check(input, random)));
        if let Err(panic) = result {
            eprintln!("failing input: \"{}\"", input.escape_ascii());
            resume_unwind(panic);
        }
    };
    for seed in corpus {
        checked(seed, &mut random);
    }
    for _ in 0..mutations.unwrap_or(DEFAULT_MUTATIONS).div_ceil(PARSERS) {
        let input = mutate(&mut random, corpus);
        checked(&input, &mut random);
    }
}

/// Runs a check of a message parser. The fuzzer runs the same checks.
fn run_check(name: &str) {
    let check = checks::named(name);
    run(check.seeds, |input, _| (check.check)(input));
}

#[test]
fn heads() {
    run_check("head");
}

#[test]
fn chunked_bodies() {
    run_check("chunked");
}

#[test]
fn targets() {
    run_check("target");
}

#[test]
fn framings() {
    run_check("framing");
}

#[test]
fn responses() {
    run_check("response");
}

#[test]
fn sessions() {
    run_check("session");
}

const LISTS: &[&[u8]] =
    &[b"a, b", b" ,a ,, b,", br#"a="x, y", "b\",", c"#, b"\"unclosed, a", b"\"\\", b"text/html; q=0.5; a=\"b;c\"", b""];

#[test]
fn lists() {
    run(LISTS, |input, _| {
        let mut rest = input;
        for element in list::elements(input).chain(list::parameters(input)) {
            assert!(!element.is_empty());
            assert_eq!(chars::trim_ows(element), element);
        }
        // Each element is a part of the input, and they are in the order of the input.
        for element in list::elements(input) {
            let at = rest.windows(element.len()).position(|window| window == element);
            let Some(at) = at else { panic!("{element:?} is not in the rest") };
            rest = &rest[at + element.len()..];
        }
        if let Some(len) = chars::quoted_string_len(input) {
            assert!(len >= 2 && input[len - 1] == b'"');
            assert_eq!(list::elements(&input[..len]).count(), 1);
        }
    });
}

const DATES: &[&[u8]] = &[
    b"Sun, 06 Nov 1994 08:49:37 GMT",
    b"Sunday, 06-Nov-94 08:49:37 GMT",
    b"Sun Nov  6 08:49:37 1994",
    b"Sat, 31 Dec 2016 23:59:60 GMT",
    b"Thu, 29 Feb 2024 00:00:00 GMT",
    b"Mon, 01 Jan 0000 00:00:00 GMT",
    b"Fri, 31 Dec 9999 23:59:60 GMT",
    b"Wednesday, 01-Jan-76 00:00:00 GMT",
    b"Thursday, 01-Jan-00 00:00:00 GMT",
    b"0",
];

#[test]
fn dates() {
    run(DATES, |input, random| {
        for now in [0, NOW, u64::MAX] {
            if let Some(unix) = date::parse(input, now) {
                assert!(unix <= 253_402_300_800);
            }
        }
        let unix = random.next() % 253_402_300_800;
        let mut imf = [0; date::IMF_LEN];
        date::write_imf(unix, &mut imf);
        assert_eq!(date::parse(&imf, NOW), Some(unix));
        date::write_clf(random.next(), &mut [0; date::CLF_LEN]);
    });
}

const TAGS: &[&[u8]] = &[
    br#""1-2-3-4-5""#,
    br#"W/"1-2-3-4-5""#,
    br#""a,b" , W/"c\","1-2-3-4-5""#,
    b"*",
    b"*, *",
    b"\"unclosed, \"x\"",
    b"abc, \"\", w/\"x\", \"x\" \"y\"",
    b"\"\xff\"",
    b",",
    b"",
];

#[test]
fn entity_tags() {
    run(TAGS, |input, random| {
        for member in etag::members(input) {
            if let Member::Tag(tag) = member {
                let written = [if tag.weak { &b"W/\""[..] } else { b"\"" }, tag.opaque, b"\""].concat();
                assert_eq!(Tag::parse(&written), Some(tag));
                assert!(tag.weak_eq(&tag) && tag.strong_eq(&tag) != tag.weak);
            }
        }
        let whole = u64::from(u32::MAX);
        let own = ETag::strong(&[random.next(), whole, random.length()]);
        for tag in [own, own.with_coding("gzip"), own.with_coding("deflate").with_coding("zstd")] {
            assert_eq!(Tag::parse(tag.as_bytes()), Some(tag.tag()));
        }
        assert_ne!(own, own.with_coding("br"));
    });
}

#[test]
fn conditions() {
    let corpus = [TAGS, DATES].concat();
    let current = Validators { etag: Some(ETag::strong(&[1, 2, 3])), last_modified: Some(784_111_777) };
    run(&corpus, |input, random| {
        let value = |random: &mut Random| match random.below(3) {
            0 => vec![],
            1 => vec![input.to_vec()],
            _ => vec![mutate(random, &corpus), mutate(random, &corpus)],
        };
        let values = [(); 5].map(|()| value(random));
        let lines = |index: usize| values[index].iter().map(Vec::as_slice);
        let conditions = Conditions {
            if_match: lines(0),
            if_none_match: lines(1),
            if_modified_since: lines(2),
            if_unmodified_since: lines(3),
            if_range: lines(4),
        };
        assert_ne!(conditions.evaluate(false, Some(&current), NOW), Outcome::NotModified);
        assert_ne!(conditions.evaluate(true, None, NOW), Outcome::NotModified);
        // If the file does not exist, only If-Match decides.
        let created = conditions.evaluate(false, None, NOW) == Outcome::Proceed;
        assert_eq!(created, values[0].is_empty());
        // If only the entity tag is known, a condition holds for a GET exactly if it holds for a PUT.
        let undated = Validators { last_modified: None, ..current };
        let get = conditions.evaluate(true, Some(&undated), NOW) == Outcome::Proceed;
        let put = conditions.evaluate(false, Some(&undated), NOW) == Outcome::Proceed;
        assert_eq!(get, put);

        if conditional::if_range_holds(input, &current, NOW) {
            let tag = Tag::parse(input).is_some_and(|tag| !tag.weak);
            assert!(tag || date::parse(input, NOW) == current.last_modified);
        }
        let _ = conditions.range_applies(&current, NOW);
    });
}

const RANGES: &[&[u8]] = &[
    b"bytes=0-4",
    b"bytes=5-",
    b"bytes=-5",
    b"bytes=-0",
    b"BYTES=0-0, -1",
    b"bytes=0-1,\t,1000-2000,90-,5000-6000",
    b"bytes=99999-99999,0-9,500-510",
    b"bytes=0-99999999999999999999",
    b"bytes=18446744073709551615-18446744073709551616",
    b"bytes=0-,0-,0-,0-",
    b"bytes=9-0",
    b"items=0-4",
    b"bytes=0-0,100-100,200-200,300-300,400-400,500-500,600-600,700-700,800-800,900-900,1000-1000,1100-1100,1200-1200,\
      1300-1300,1400-1400,1500-1500,1600-1600,1700-1700",
    b"bytes=+0-4",
    b"",
];

#[test]
fn ranges() {
    run(RANGES, |input, random| {
        let total = random.length();
        let parts = match range::resolve(input, total) {
            Ranges::Whole | Ranges::Unsatisfiable => return,
            Ranges::One { first, last } => vec![(first, last)],
            Ranges::Many(parts) => {
                assert!(parts.len() > 1 && parts.len() <= 64);
                parts
            }
        };
        let mut sorted = parts.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().all(|&(first, last)| first <= last && last < total), "{parts:?}");
        let far = |pair: &[(u64, u64)]| pair[1].0 - pair[0].1 > range::COALESCE_GAP + 1;
        assert!(sorted.windows(2).all(far), "{parts:?}");

        let multipart = Multipart { boundary: "boundary", content_type: "a/b", total };
        let mut framing = Vec::new();
        let mut content = 0u64;
        for &(first, last) in &parts {
            multipart.write_part_head(first, last, &mut framing);
            content = content.saturating_add(last - first + 1);
        }
        multipart.write_end(&mut framing);
        assert_eq!(multipart.content_length(&parts), content.saturating_add(framing.len() as u64));
    });
}

const CODINGS: &[&[u8]] = &[
    b"gzip, deflate, br, zstd",
    b"x-gzip;q=0.5, *;q=0",
    b"identity;q=0, *;q=0.001",
    b"gzip;q=1.000, deflate;q=0.",
    b"*",
    b"gzip;q=2, br;q=0.1234, zstd;q=\"1\"",
    b"identity;q=0",
    b",",
    b"",
];

#[test]
fn accept_encoding() {
    use Coding::{Br, Deflate, Gzip, Identity, Zstd};
    let offers: [&[Coding]; 4] = [&[Gzip, Deflate, Identity], &[Br, Zstd, Gzip, Identity], &[Identity], &[Gzip]];
    run(CODINGS, |input, random| {
        let offered = offers[random.below(offers.len())];
        let other = random.pick(CODINGS);
        if let Choice::Use(coding) = accept::negotiate([input, other].into_iter(), offered) {
            assert!(offered.contains(&coding));
        }
        // A field that refuses identity says so with a weight of zero.
        if accept::negotiate([input].into_iter(), &[Identity]) == Choice::NotAcceptable {
            assert!(input.windows(2).any(|window| window == b"=0"));
        }
    });
}

const MEDIA: &[&[u8]] = &[
    b"text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8",
    b"application/json;charset=\"utf-8\"",
    b"text/*;q=0.3, text/plain;q=0.7, text/plain;format=flowed, */*;q=0.5",
    b"*/*;q=0",
    b"*/html, text/, /html, text",
    b"text/html;a=\"b,c;d\";q=0.1;ext",
    b"",
];

#[test]
fn accept_media() {
    run(MEDIA, |input, _| {
        let offered = ["text/html", "application/json", "text/plain"];
        let choice = accept::media([input].into_iter(), &offered);
        assert!(choice.is_none_or(|index| index < offered.len()));
        if accept::accepts_html_explicitly([input].into_iter()) {
            let named = input.to_ascii_lowercase();
            assert!(named.windows(4).any(|window| window == b"html"));
        }
    });
}

const COOKIES: &[&[u8]] = &[
    b"SID=31d4d96e407aad42; lang=en-US",
    b"a=\"quoted\"; =nameless; noequals; b==;c=",
    b"a=\"x;y\"",
    b"; ; ;",
    b"a\r\n=b\0; \xff=\xfe",
    b"/path",
];

#[test]
fn cookies() {
    run(COOKIES, |input, _| {
        for (name, value) in cookie::parse(input) {
            assert!(!name.is_empty() && !name.contains(&b';') && !name.contains(&b'='));
            // If a cookie can be set, parsing it gives the same name and value.
            let Ok(set) = cookie::SetCookie::new(name, value) else {
                continue;
            };
            let mut out = Vec::new();
            set.write(&mut out);
            assert_eq!(cookie::parse(&out).next(), Some((name, value)));
            if let Ok(set) = set.with_path(input) {
                out.clear();
                set.write(&mut out);
                assert!(out.iter().all(|&byte| (0x20..0x7f).contains(&byte)));
            }
        }
    });
}

const TEXTS: &[&[u8]] = &[
    b"a=1&b=%26+&&c",
    b"/a%2fb/%zz/%4",
    b"<script>alert(\"x\")</script>&amp;'",
    "na\u{ef}ve \u{2028}\u{1f600}".as_bytes(),
    b"\xff\xfe\xe2\x82\xc3",
    b"\0\x1b[31m\r\nSet-Cookie: a=b\x7f",
    b"%%41%2B%00",
    b"javascript:alert(1)//\\",
];

#[test]
fn escapes() {
    run(TEXTS, |input, _| {
        let written = |write: fn(&[u8], &mut Vec<u8>)| {
            let mut out = Vec::new();
            write(input, &mut out);
            out
        };
        let html = written(escape::html);
        assert!(str::from_utf8(&html).is_ok());
        assert!(!html.iter().any(|byte| b"<>\"'".contains(byte) || *byte < b' '));

        let json = written(escape::json_string);
        assert!(str::from_utf8(&json).is_ok());
        assert!(!json.iter().any(|byte| b"<>&".contains(byte) || *byte < b' '));
        assert_eq!(chars::quoted_string_len(&json), Some(json.len()));

        let log = written(escape::log);
        assert!(log.iter().all(|byte| (0x20..0x7f).contains(byte) && *byte != b'"'));

        let segment = written(escape::path_segment);
        assert!(!segment.iter().any(|byte| b"/?#\\\"'<>&:; ".contains(byte) || !byte.is_ascii_graphic()));
        assert_eq!(escape::decode(&segment).as_deref(), Ok(input));

        if let Ok(decoded) = escape::decode(input) {
            assert_eq!(decoded, escape::decode_lenient(input));
        }
        for (name, value) in escape::query_pairs(input) {
            assert!(name.len() + value.len() <= input.len());
        }
    });
}
