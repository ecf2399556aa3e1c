//! Coding, range, entity tag, method and precondition in every combination. A small model of RFC 9110 computes the
//! expected response. It follows the text of sections 12.5.3 (coding), 13.2.2 (the order of preconditions), 13.1.5
//! (If-Range), 14.2 (Range) and 15.4.5 (304).

mod common;

use common::{Client, Response, Setup, TempDir, gunzip, on_every_engine};
use std::fs::File;
use std::time::{Duration, UNIX_EPOCH};

/// A file of the site, and the facts that the model knows about it.
struct Subject {
    path: &'static str,
    content: Vec<u8>,
    /// The codings besides identity that the server can send, in its order of preference.
    codings: &'static [&'static str],
    /// The content of the precompressed file beside it, if there is one.
    stored: Option<(&'static str, Vec<u8>)>,
}

/// The response to one GET for each coding. The model takes the entity tags from it: to a client they are opaque.
struct Known {
    etags: Vec<(&'static str, String)>,
    last_modified: String,
}

const LAST_MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const LATER: &str = "Mon, 07 Nov 1994 08:49:37 GMT";

/// Accept-Encoding values, and the codings that they prefer, best first. Only values for which section 12.5.3 leaves
/// the server no choice.
const ACCEPTED: &[(&str, &[&str])] = &[
    ("", &[]),
    ("gzip", &["gzip"]),
    ("br", &["br"]),
    ("gzip;q=0", &[]),
    ("identity", &[]),
    ("br;q=0.2, gzip;q=0.8", &["gzip", "br"]),
];

/// First and last byte of each part.
type Parts = &'static [(usize, usize)];

/// Range values, and the parts that they name in a file of `LENGTH` bytes. `None`: the field must be ignored.
const LENGTH: usize = 1000;
const RANGES: &[(&str, Option<Parts>)] = &[
    ("", None),
    ("bytes=0-", Some(&[(0, 999)])),
    ("bytes=10-19", Some(&[(10, 19)])),
    ("bytes=990-2000", Some(&[(990, 999)])),
    ("bytes=-5", Some(&[(995, 999)])),
    ("bytes=0-1,5-6", Some(&[(0, 1), (5, 6)])),
    ("bytes=1000-", Some(&[])),
    ("bytes=5-2", None),
    ("lines=0-1", None),
];

/// The kinds of entity tags in conditions.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mention {
    Own,
    OwnWeak,
    /// The tag of the same file in another coding, or of another file.
    Other,
    /// The file's tag in a list, behind a tag that no file has.
    Listed,
    Star,
}

const MENTIONS: &[Option<Mention>] = &[
    None,
    Some(Mention::Own),
    Some(Mention::OwnWeak),
    Some(Mention::Other),
    Some(Mention::Listed),
    Some(Mention::Star),
];
const DATES: &[Option<&str>] = &[None, Some(EARLIER), Some(LAST_MODIFIED), Some(LATER), Some("yesterday")];
const IF_RANGES: &[Option<IfRange>] = &[
    None,
    Some(IfRange::Tag(Mention::Own)),
    Some(IfRange::Tag(Mention::OwnWeak)),
    Some(IfRange::Tag(Mention::Other)),
    Some(IfRange::Date(EARLIER)),
    Some(IfRange::Date(LAST_MODIFIED)),
];

#[derive(Clone, Copy, Debug)]
enum IfRange {
    Tag(Mention),
    Date(&'static str),
}

/// A request of the matrix.
#[derive(Clone, Copy, Debug)]
struct Cell {
    method: &'static str,
    accepted: (&'static str, &'static [&'static str]),
    range: (&'static str, Option<Parts>),
    if_match: Option<Mention>,
    if_none_match: Option<Mention>,
    if_unmodified_since: Option<&'static str>,
    if_modified_since: Option<&'static str>,
    if_range: Option<IfRange>,
}

/// The response that the model expects.
#[derive(Debug, PartialEq)]
enum Expected {
    Whole,
    Parts(Vec<(usize, usize)>),
    Unsatisfiable,
    NotModified,
    Failed,
}

impl Mention {
    fn write(self, own: &str, other: &str) -> String {
        match self {
            Mention::Own => own.to_owned(),
            Mention::OwnWeak => format!("W/{own}"),
            Mention::Other => other.to_owned(),
            Mention::Listed => format!("\"a,b\" , W/\"c\",{own}"),
            Mention::Star => "*".to_owned(),
        }
    }

    /// Section 8.8.3.2, against the tag that is meant by `Own` or by `Other`.
    fn matches_strongly(self, is_own: bool) -> bool {
        match self {
            Mention::Own | Mention::Listed => is_own,
            Mention::OwnWeak => false,
            Mention::Other => !is_own,
            Mention::Star => true,
        }
    }

    fn matches_weakly(self, is_own: bool) -> bool {
        self.matches_strongly(is_own) || (is_own && self == Mention::OwnWeak)
    }
}

/// Whether a date is before the file's date (-1), equal (0) or after it (1). None if it is not a valid date.
fn order(date: &str) -> Option<i8> {
    match date {
        EARLIER => Some(-1),
        LAST_MODIFIED => Some(0),
        LATER => Some(1),
        _ => None,
    }
}

impl Cell {
    /// The coding of the whole by section 12.5.3: the most preferred one that the server can send.
    fn coding(&self, subject: &Subject) -> &'static str {
        self.accepted.1.iter().find(|coding| subject.codings.contains(coding)).copied().unwrap_or("identity")
    }

    /// The coding of the answer, and the answer. Identity is acceptable in every cell, and a part is a part of the file as
    /// it is, unless the conditions speak of the file in the coding of the whole.
    fn expected(&self, subject: &Subject) -> (&'static str, Expected) {
        let coding = self.coding(subject);
        let whole = self.outcome(coding == "identity", true);
        if coding == "identity" || !self.range_applies(false) || whole == Expected::NotModified {
            return (coding, whole);
        }
        match self.outcome(true, false) {
            Expected::Failed => (coding, whole),
            part => ("identity", part),
        }
    }

    /// Whether there is a range, and it counts for the file as it is. Section 13.2.2, step 5: when the method is GET and
    /// both Range and If-Range are present, evaluate If-Range. The file is of 1994: its date is strong.
    fn range_applies(&self, is_own: bool) -> bool {
        let holds = match self.if_range {
            None => true,
            Some(IfRange::Tag(Mention::Own)) => is_own,
            Some(IfRange::Tag(Mention::Other)) => !is_own,
            Some(IfRange::Tag(_)) => false,
            Some(IfRange::Date(date)) => order(date) == Some(0),
        };
        self.method == "GET" && self.range.1.is_some() && holds
    }

    /// Section 13.2.2, step by step. `is_plain`: of the file as it is; `is_own`: of what `Own` means.
    fn outcome(&self, is_plain: bool, is_own: bool) -> Expected {
        // 1. If If-Match is present, evaluate it. 2. Otherwise evaluate If-Unmodified-Since. False: 412.
        let matched = match (self.if_match, self.if_unmodified_since.and_then(order)) {
            (Some(mention), _) => mention.matches_strongly(is_own),
            (None, Some(since)) => since >= 0,
            (None, None) => true,
        };
        if !matched {
            return Expected::Failed;
        }
        // 3. If If-None-Match is present, evaluate it. 4. Otherwise evaluate If-Modified-Since. False: 304.
        let news = match (self.if_none_match, self.if_modified_since.and_then(order)) {
            (Some(mention), _) => !mention.matches_weakly(is_own),
            (None, Some(since)) => since < 0,
            (None, None) => true,
        };
        if !news {
            return Expected::NotModified;
        }
        // 5. The server ignores a range of compressed content. Section 14.2 allows that.
        match self.range.1.filter(|_| is_plain && self.range_applies(is_own)) {
            None => Expected::Whole,
            Some([]) => Expected::Unsatisfiable,
            Some(parts) => Expected::Parts(parts.to_vec()),
        }
    }

    fn request(&self, subject: &Subject, known: &Known) -> String {
        let coding = self.coding(subject);
        let own = known.etag(coding);
        let other = known.etags.iter().find(|(name, _)| *name != coding).map_or("\"other\"", |(_, tag)| tag);
        let mut request = format!("{} {} HTTP/1.1\r\nHost: x\r\n", self.method, subject.path);
        let mut field = |name: &str, value: Option<String>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                request.push_str(&format!("{name}: {value}\r\n"));
            }
        };
        field("Accept-Encoding", Some(self.accepted.0.to_owned()));
        field("Range", Some(self.range.0.to_owned()));
        field("If-Match", self.if_match.map(|mention| mention.write(own, other)));
        field("If-None-Match", self.if_none_match.map(|mention| mention.write(own, other)));
        field("If-Unmodified-Since", self.if_unmodified_since.map(str::to_owned));
        field("If-Modified-Since", self.if_modified_since.map(str::to_owned));
        field(
            "If-Range",
            self.if_range.map(|if_range| match if_range {
                IfRange::Tag(mention) => mention.write(own, other),
                IfRange::Date(date) => date.to_owned(),
            }),
        );
        request + "\r\n"
    }

    #[track_caller]
    fn check(&self, subject: &Subject, known: &Known, answer: &Response) {
        let told = || format!("{}{answer:?}", self.request(subject, known));
        let (coding, expected) = self.expected(subject);
        let (status, is_of_file) = match &expected {
            Expected::Whole => (200, true),
            Expected::Parts(_) => (206, true),
            Expected::NotModified => (304, true),
            Expected::Failed => (412, false),
            Expected::Unsatisfiable => (416, false),
        };
        assert_eq!(answer.status, status, "{}", told());
        assert!(answer.field("Date").is_some(), "{}", told());
        assert_eq!(answer.lists("Vary", "Accept-Encoding"), !subject.codings.is_empty(), "{}", told());
        assert_eq!(answer.field("ETag"), is_of_file.then(|| known.etag(coding)), "{}", told());
        let sent = matches!(status, 200 | 206);
        assert_eq!(
            answer.field("Content-Encoding"),
            Some(coding).filter(|_| sent && coding != "identity"),
            "{}",
            told()
        );
        assert_eq!(answer.field("Last-Modified"), sent.then_some(known.last_modified.as_str()), "{}", told());
        if self.method == "HEAD" {
            assert!(answer.body.is_empty(), "{}", told());
        }
        match &expected {
            Expected::Whole if self.method == "GET" => assert!(subject.is_content(coding, &answer.body), "{}", told()),
            Expected::Whole if coding == "identity" => assert_eq!(answer.content_length(), Some(LENGTH), "{}", told()),
            Expected::Whole => {}
            Expected::Parts(parts) => check_parts(&subject.content, parts, answer),
            Expected::NotModified => {
                assert!(answer.body.is_empty() && answer.field("Content-Type").is_none(), "{}", told())
            }
            Expected::Failed => {}
            Expected::Unsatisfiable => assert_eq!(answer.field("Content-Range"), Some("bytes */1000"), "{}", told()),
        }
        if !matches!(expected, Expected::Parts(_) | Expected::Unsatisfiable) {
            assert_eq!(answer.field("Content-Range"), None, "{}", told());
        }
    }
}

impl Subject {
    /// Whether a body decodes to the file.
    fn is_content(&self, coding: &str, body: &[u8]) -> bool {
        match &self.stored {
            Some((stored, bytes)) if *stored == coding => body == bytes,
            _ if coding == "gzip" => gunzip(body) == self.content,
            _ => body == self.content,
        }
    }
}

impl Known {
    fn etag(&self, coding: &str) -> &str {
        &self.etags.iter().find(|(name, _)| *name == coding).expect("a coding of the subject").1
    }
}

#[track_caller]
fn check_parts(content: &[u8], parts: &[(usize, usize)], answer: &Response) {
    if let [(first, last)] = *parts {
        assert_eq!(answer.field("Content-Range"), Some(format!("bytes {first}-{last}/{LENGTH}").as_str()));
        assert!(answer.body == content[first..=last], "{answer:?}");
        return;
    }
    let content_type = answer.field("Content-Type").unwrap();
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").expect(content_type).trim_matches('"');
    assert_eq!(answer.field("Content-Range"), None);
    let text = answer.text();
    let pieces: Vec<&str> = text.split(&format!("--{boundary}")).collect();
    assert_eq!(
        (pieces.len(), pieces[0].trim(), pieces[parts.len() + 1].trim_end()),
        (parts.len() + 2, "", "--"),
        "{text}"
    );
    for (piece, (first, last)) in pieces[1..].iter().zip(parts) {
        let (head, body) = piece.split_once("\r\n\r\n").expect("a part has a head");
        assert!(head.contains(&format!("Content-Range: bytes {first}-{last}/{LENGTH}")), "{head}");
        assert_eq!(body.strip_suffix("\r\n").unwrap().as_bytes(), &content[*first..=*last]);
    }
}

/// Every combination in which the fields matter. If one condition makes the server ignore another, all pairs of the two
/// are tested. Each of them is combined with every coding and range.
fn cells(each: &mut impl FnMut(Cell)) {
    for method in ["GET", "HEAD"] {
        for &accepted in ACCEPTED {
            for &range in RANGES {
                let plain = Cell {
                    method,
                    accepted,
                    range,
                    if_match: None,
                    if_none_match: None,
                    if_unmodified_since: None,
                    if_modified_since: None,
                    if_range: None,
                };
                for &if_match in MENTIONS {
                    for &if_none_match in MENTIONS {
                        each(Cell { if_match, if_none_match, ..plain });
                    }
                    for &if_unmodified_since in &DATES[1..] {
                        each(Cell { if_match, if_unmodified_since, ..plain });
                    }
                }
                for &if_modified_since in &DATES[1..] {
                    for &if_none_match in MENTIONS {
                        each(Cell { if_modified_since, if_none_match, ..plain });
                    }
                    for &if_unmodified_since in DATES {
                        each(Cell { if_modified_since, if_unmodified_since, ..plain });
                    }
                }
                for &if_range in &IF_RANGES[1..] {
                    for &if_none_match in MENTIONS {
                        each(Cell { if_range, if_none_match, ..plain });
                    }
                    for &if_unmodified_since in &DATES[1..] {
                        each(Cell { if_range, if_unmodified_since, ..plain });
                    }
                }
            }
        }
    }
}

fn subjects() -> Vec<Subject> {
    let words: Vec<u8> = b"0123456789 the words of it \n".iter().copied().cycle().take(LENGTH).collect();
    let subject = |path, codings, stored| Subject { path, content: words.clone(), codings, stored };
    vec![
        subject("/text.css", &["gzip"], None),
        subject("/image.png", &[], None),
        subject("/stored.js", &["br", "gzip"], Some(("br", b"as good as brotli".to_vec()))),
    ]
}

on_every_engine! {
    fn every_cell_is_as_the_rfc_says(engine: Engine) {
        let place = TempDir::new();
        let subjects = subjects();
        let time = UNIX_EPOCH + Duration::from_secs(784_111_777);
        for subject in &subjects {
            let mut files = vec![(subject.path[1..].to_owned(), &subject.content)];
            files.extend(subject.stored.as_ref().map(|(coding, bytes)| (format!("{}.{coding}", &subject.path[1..]), bytes)));
            for (name, content) in files {
                let path = place.write(name, content);
                File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
            }
        }
        let server = Setup::on(engine).arg(place.path()).args(["--precompressed", "--access-log=off"]).start();
        let mut client = Client::connect(&server);
        let mut count = 0;
        for subject in &subjects {
            let mut known = Known { etags: Vec::new(), last_modified: LAST_MODIFIED.to_owned() };
            for coding in ["identity"].iter().chain(subject.codings) {
                client.send(format!("GET {} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: {coding}\r\n\r\n", subject.path));
                let etag = client.read_response().field("ETag").expect("an ETag").to_owned();
                assert!(etag.starts_with('"') && known.etags.iter().all(|(_, other)| *other != etag), "{etag}");
                known.etags.push((coding, etag));
            }
            let mut cells_of_subject = Vec::new();
            cells(&mut |cell| cells_of_subject.push(cell));
            // The requests are pipelined on one connection, so a response with wrong framing fails the next
            // combination.
            for batch in cells_of_subject.chunks(50) {
                let requests: String = batch.iter().map(|cell| cell.request(subject, &known)).collect();
                client.send(requests);
                for cell in batch {
                    let answer = match cell.method {
                        "HEAD" => client.read_response_to_head(),
                        _ => client.read_response(),
                    };
                    cell.check(subject, &known, &answer);
                    count += 1;
                }
            }
        }
        assert!(count > 20_000, "{count} cells");
    }
}
