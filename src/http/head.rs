//! The head of a request: request line and field section (RFC 9112, sections 3 and 5). It is parsed once, when its
//! CRLFCRLF has arrived, into spans over the bytes: nothing is copied, and no field needs an allocation.
//!
//! Before that, each time one more line is complete, the complete lines are checked. So bytes that are not HTTP are
//! answered at the first bad line and not at a timeout. Lines are judged in the order of their bytes, and limits by
//! position, so the answer does not depend on how the bytes were split into reads.
//!
//! Lines end in CRLF. RFC 9112 allows a recipient to accept a lone LF as well. In a request we refuse it everywhere
//! (start line, fields, chunks, trailers), because a proxy in front may not accept it: request smuggling needs two
//! readings of where a line ends.

use crate::http::chars::{field_value_end, is_field_value_byte, is_ows, is_tchar};
use crate::http::method::Method;
use crate::http::violation::Violation;
use memchr::memchr;
use std::ops::Range;

/// The limits of a head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes, from the first of the request line to the last of CRLFCRLF.
    pub size: usize,
    /// Bytes of the request target.
    pub target: usize,
    /// Fields.
    pub fields: usize,
}

/// The position of a part of the head in its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    pub(super) fn new(range: Range<usize>) -> Span {
        // A head is limited by HeadLimits::size, far below 4 GiB.
        Span { start: range.start as u32, end: range.end as u32 }
    }

    pub fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }
}

/// The field names that the server itself uses. They are recognised once, during the scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Name {
    Accept,
    AcceptEncoding,
    AccessControlRequestHeaders,
    AccessControlRequestMethod,
    Authorization,
    Connection,
    ContentLength,
    ContentType,
    Cookie,
    Expect,
    Host,
    IfMatch,
    IfModifiedSince,
    IfNoneMatch,
    IfRange,
    IfUnmodifiedSince,
    Origin,
    Range,
    Referer,
    TransferEncoding,
    Upgrade,
    UserAgent,
    Other,
}

impl Name {
    /// `name` is a token.
    pub(super) fn of(name: &[u8]) -> Name {
        let (text, known) = match name.len() {
            4 => ("host", Name::Host),
            5 => ("range", Name::Range),
            6 => match name[0] | 0x20 {
                b'a' => ("accept", Name::Accept),
                b'c' => ("cookie", Name::Cookie),
                b'e' => ("expect", Name::Expect),
                _ => ("origin", Name::Origin),
            },
            7 => match name[0] | 0x20 {
                b'r' => ("referer", Name::Referer),
                _ => ("upgrade", Name::Upgrade),
            },
            8 => match name[3] | 0x20 {
                b'm' => ("if-match", Name::IfMatch),
                _ => ("if-range", Name::IfRange),
            },
            10 => match name[0] | 0x20 {
                b'c' => ("connection", Name::Connection),
                _ => ("user-agent", Name::UserAgent),
            },
            12 => ("content-type", Name::ContentType),
            13 => match name[0] | 0x20 {
                b'i' => ("if-none-match", Name::IfNoneMatch),
                _ => ("authorization", Name::Authorization),
            },
            14 => ("content-length", Name::ContentLength),
            15 => ("accept-encoding", Name::AcceptEncoding),
            17 => match name[0] | 0x20 {
                b'i' => ("if-modified-since", Name::IfModifiedSince),
                _ => ("transfer-encoding", Name::TransferEncoding),
            },
            19 => ("if-unmodified-since", Name::IfUnmodifiedSince),
            29 => ("access-control-request-method", Name::AccessControlRequestMethod),
            30 => ("access-control-request-headers", Name::AccessControlRequestHeaders),
            _ => return Name::Other,
        };
        // `| 0x20` is safe here: of the bytes of a token, only the two cases of a letter map to that letter, and only a
        // dash to a dash.
        let is_it = name.iter().zip(text.as_bytes()).all(|(&byte, &letter)| byte | 0x20 == letter);
        if is_it { known } else { Name::Other }
    }
}

/// A set of names.
#[derive(Clone, Copy, Debug)]
pub struct NameSet(u32);

impl NameSet {
    pub const fn of(names: &[Name]) -> NameSet {
        let (mut bits, mut at) = (0, 0);
        while at < names.len() {
            bits |= 1 << names[at] as u32;
            at += 1;
        }
        NameSet(bits)
    }
}

/// A field line.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub known: Name,
    pub name: Span,
    /// Without the white space around it.
    pub value: Span,
}

/// A parsed head. It is reused for every request, so that its vector keeps its memory.
#[derive(Debug)]
pub struct Head {
    pub method: Method,
    pub method_token: Span,
    pub target: Span,
    /// The y of HTTP/1.y.
    pub minor: u8,
    pub fields: Vec<Field>,
    /// One bit for each `Name` that occurs.
    present: u32,
    /// The length of the head, CRLFCRLF included.
    pub len: usize,
}

impl Default for Head {
    fn default() -> Head {
        Head {
            method: Method::Unknown,
            method_token: Span::default(),
            target: Span::default(),
            minor: 1,
            fields: Vec::new(),
            present: 0,
            len: 0,
        }
    }
}

impl Head {
    /// Parses the head at the start of `bytes` into `self`; `false` if its end has not arrived. The caller skips the
    /// empty lines that may come before a request line. `scanned`: how many bytes an earlier call has seen; the caller
    /// keeps it between calls.
    pub fn parse(&mut self, bytes: &[u8], limits: &HeadLimits, scanned: &mut usize) -> Result<bool, Violation> {
        check_first_bytes(bytes)?;
        // Lines are checked when one more is complete, not again at every byte.
        let news = *scanned == 0 || memchr(b'\n', &bytes[*scanned..]).is_some();
        let end = if news { self.parse_lines(bytes, limits)? } else { None };
        *scanned = if end.is_some() { 0 } else { bytes.len() };
        match end {
            Some(end) => self.len = end,
            None => check_unfinished(bytes, limits)?,
        }
        Ok(end.is_some())
    }

    /// Whether the head has a field of this name.
    pub fn has(&self, name: Name) -> bool {
        self.present & (1 << name as u32) != 0
    }

    /// Whether the head has a field of any of these names.
    pub fn has_any(&self, names: NameSet) -> bool {
        self.present & names.0 != 0
    }

    /// The values of all fields of a name, in their order.
    pub fn values<'a>(&'a self, bytes: &'a [u8], name: Name) -> impl Iterator<Item = &'a [u8]> + Clone {
        let fields = if self.has(name) { &self.fields[..] } else { &[] };
        fields.iter().filter(move |field| field.known == name).map(|field| field.value.of(bytes))
    }

    /// Parses the complete lines. Returns where the head ends, if its end is among them.
    fn parse_lines(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Violation> {
        self.fields.clear();
        self.present = 0;
        let Some(lf) = memchr(b'\n', bytes) else { return Ok(None) };
        check_target_length(&bytes[..lf], limits)?;
        let line = line_before(lf, bytes, 0, limits)?;
        self.parse_request_line(bytes, line)?;
        let mut at = lf + 1;
        loop {
            let (name, value, next) = match plain_field(bytes, at) {
                Some(field) if field.2 <= limits.size && self.fields.len() < limits.fields => field,
                // The empty line, a line that is malformed or exceeds a limit, or one that is incomplete.
                _ => {
                    let Some(lf) = memchr(b'\n', &bytes[at..]).map(|found| at + found) else { return Ok(None) };
                    let line = line_before(lf, bytes, at, limits)?;
                    if line.is_empty() {
                        return Ok(Some(lf + 1));
                    }
                    if self.fields.len() == limits.fields {
                        return Err(Violation::TooManyFields);
                    }
                    let (name, value) = parse_field(bytes, line, self.fields.is_empty())?;
                    (name, value, lf + 1)
                }
            };
            let known = Name::of(name.of(bytes));
            self.present |= 1 << known as u32;
            self.fields.push(Field { known, name, value });
            at = next;
        }
    }

    fn parse_request_line(&mut self, bytes: &[u8], line: Range<usize>) -> Result<(), Violation> {
        let text = &bytes[line.clone()];
        let method_end = text.iter().position(|&byte| !is_tchar(byte)).unwrap_or(text.len());
        let (method, rest) = match text.split_at(method_end) {
            ([], _) => return Err(Violation::NotHttp),
            (_, []) => return Err(Violation::RequestLine),
            (method, [b' ', rest @ ..]) => (method, rest),
            _ => return Err(Violation::NotHttp),
        };
        let target_end = memchr(b' ', rest).ok_or(Violation::Version)?;
        let (target, version) = (&rest[..target_end], &rest[target_end + 1..]);
        if target.is_empty() || (version != b"HTTP/1.1" && memchr(b' ', version).is_some()) {
            return Err(Violation::RequestLine);
        }
        self.minor = parse_version(version)?;
        self.method = Method::from_token(method);
        self.method_token = Span::new(line.start..line.start + method_end);
        let target_start = line.start + method_end + 1;
        self.target = Span::new(target_start..target_start + target_end);
        Ok(())
    }
}

fn check_first_bytes(bytes: &[u8]) -> Result<(), Violation> {
    match bytes {
        [] | [b'\r'] => Ok(()),
        [b'\n', ..] => Err(Violation::BareLf),
        [b'\r', ..] => Err(Violation::BareCr),
        [first, ..] if !is_tchar(*first) => Err(Violation::NotHttp),
        _ => Ok(()),
    }
}

/// Checks the limits for a head whose end has not arrived.
fn check_unfinished(bytes: &[u8], limits: &HeadLimits) -> Result<(), Violation> {
    if memchr(b'\n', bytes).is_none() {
        check_target_length(bytes, limits)?;
    }
    if bytes.len() >= limits.size { Err(too_large(bytes, limits)) } else { Ok(()) }
}

/// The violation for a head that is larger than the limit. If the method alone leaves no room for the shortest rest of
/// a head, the method is too long: longer than any that this server knows, which is 501 (RFC 9112, section 3).
fn too_large(bytes: &[u8], limits: &HeadLimits) -> Violation {
    let most = limits.size.saturating_sub(b" / HTTP/1.1\r\n\r\n".len());
    let is_method = bytes.iter().take(most + 1).all(|&byte| is_tchar(byte));
    if is_method { Violation::MethodTooLong } else { Violation::HeadTooLarge }
}

/// 414 as soon as the target, complete or not, is longer than the limit or than the whole head may be.
fn check_target_length(line: &[u8], limits: &HeadLimits) -> Result<(), Violation> {
    // A target that reaches the limit of the head does not end within it.
    if line.len() <= limits.target && line.len() < limits.size {
        return Ok(());
    }
    let Some(method_end) = memchr(b' ', &line[..line.len().min(limits.size)]) else { return Ok(()) };
    let rest = &line[method_end + 1..];
    let len = memchr(b' ', rest).unwrap_or(rest.len());
    // Only the bytes up to the limit decide, so that later bytes cannot change the answer.
    if len > limits.target || method_end + 1 + len >= limits.size {
        return Err(match too_large(line, limits) {
            Violation::MethodTooLong => Violation::MethodTooLong,
            _ => Violation::TargetTooLong,
        });
    }
    Ok(())
}

/// The line that begins at `at`, without its CRLF.
pub(super) fn next_line(bytes: &[u8], at: usize, limits: &HeadLimits) -> Result<Range<usize>, Violation> {
    let lf = memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |found| at + found);
    line_before(lf, bytes, at, limits)
}

/// The line from `at` to its LF, without its CRLF.
fn line_before(lf: usize, bytes: &[u8], at: usize, limits: &HeadLimits) -> Result<Range<usize>, Violation> {
    if lf >= limits.size {
        return Err(too_large(bytes, limits));
    }
    match memchr(b'\r', &bytes[at..lf]) {
        Some(cr) if at + cr + 1 == lf => Ok(at..lf - 1),
        Some(_) => Err(Violation::BareCr),
        None => Err(Violation::BareLf),
    }
}

/// A valid field line, as nearly all are, in one pass: name, value, and where the next line begins.
fn plain_field(bytes: &[u8], at: usize) -> Option<(Span, Span, usize)> {
    let colon = at + bytes[at..].iter().position(|&byte| !is_tchar(byte))?;
    if colon == at || bytes[colon] != b':' {
        return None;
    }
    let end = field_value_end(bytes, colon + 1);
    if !bytes[end..].starts_with(b"\r\n") {
        return None;
    }
    Some((Span::new(at..colon), trimmed(bytes, colon + 1, end), end + 2))
}

/// The span from `start` to `end` without the white space at its ends.
pub(super) fn trimmed(bytes: &[u8], mut start: usize, mut end: usize) -> Span {
    while start < end && is_ows(bytes[start]) {
        start += 1;
    }
    while start < end && is_ows(bytes[end - 1]) {
        end -= 1;
    }
    Span::new(start..end)
}

/// A field line (RFC 9112, section 5): the spans of its name and of its trimmed value.
pub(super) fn parse_field(bytes: &[u8], line: Range<usize>, first: bool) -> Result<(Span, Span), Violation> {
    let text = &bytes[line.clone()];
    if matches!(text[0], b' ' | b'\t') {
        return Err(if first { Violation::SpaceBeforeFields } else { Violation::ObsFold });
    }
    let name_len = text.iter().position(|&byte| !is_tchar(byte)).unwrap_or(text.len());
    match text.get(name_len) {
        Some(b':') if name_len > 0 => {}
        Some(b' ' | b'\t') if is_space_then_colon(&text[name_len..]) => return Err(Violation::SpaceBeforeColon),
        _ => return Err(Violation::FieldName),
    }
    let colon = line.start + name_len;
    if !bytes[colon + 1..line.end].iter().copied().all(is_field_value_byte) {
        return Err(Violation::FieldValue);
    }
    Ok((Span::new(line.start..colon), trimmed(bytes, colon + 1, line.end)))
}

fn is_space_then_colon(rest: &[u8]) -> bool {
    rest.iter().find(|b| !matches!(b, b' ' | b'\t')) == Some(&b':')
}

/// The y of HTTP/1.y. The version must be as in RFC 9112, section 2.3: one digit, a dot, one digit.
pub(super) fn parse_version(version: &[u8]) -> Result<u8, Violation> {
    match version {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            match major {
                b'1' => Ok(minor - b'0'),
                // HTTP/0.9 has no version in its request line, so 0.x is never valid.
                b'0' => Err(Violation::Version),
                _ => Err(Violation::MajorVersion),
            }
        }
        _ => Err(Violation::Version),
    }
}

#[cfg(test)]
mod tests;
