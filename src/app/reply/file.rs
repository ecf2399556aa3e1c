//! A file as a response: in which coding, whether the client has it already, and which part of it (RFC 9110, sections
//! 12 to 14, in the order of section 13.2.2).

use crate::app::body::coded::Coded;
use crate::app::body::{Body, FileRange, Reply, Segment};
use crate::app::compress::{Coders, Compressor};
use crate::app::files::cache::{FieldLines, Stored};
use crate::app::files::content::Content;
use crate::app::files::lookup::Meta;
use crate::app::files::precompressed::Precompressed;
use crate::app::reply::coding;
use crate::app::reply::page::{self, Format};
use crate::cost;
use crate::http::accept::{self, Choice, Coding};
use crate::http::conditional::{Outcome, Validators};
use crate::http::date::{self, IMF_LEN, Now};
use crate::http::etag::ETag;
use crate::http::field;
use crate::http::head::{Name, NameSet};
use crate::http::method::Method;
use crate::http::range::{self, Multipart, Ranges};
use crate::http::request::Request;
use crate::http::status::Status;
use crate::http::vary::Vary;
use crate::proto::responder::{Fields, Responder, decimal};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// Content up to this size is copied into the output behind its head. Above, writing it from its own buffer costs less.
const COPIED: usize = 4 * 1024;
/// Content up to this size is compressed within the turn: its cost is what one connection may spend before others have
/// their turn.
const COMPRESSED_AT_ONCE: usize = cost::SLICE / cost::COMPRESSED_BYTE;
/// Below this size, compressing saves no packet.
const WORTH_COMPRESSING: u64 = 256;

/// The fields of conditional and range requests. Few requests have one.
const SELECTIVE: NameSet =
    NameSet::of(&[Name::IfMatch, Name::IfNoneMatch, Name::IfModifiedSince, Name::IfUnmodifiedSince, Name::Range]);

/// The codings that the server can make while it sends.
const MADE: [Coding; 2] = [Coding::Gzip, Coding::Deflate];

/// A file to send, with what its response depends on.
#[derive(Debug)]
pub struct Representation<'a> {
    stored: Cow<'a, Arc<Stored>>,
    /// The file in identity coding, whichever coding is sent.
    original: &'a Arc<Stored>,
    /// Its precompressed files, if they may be sent.
    pub precompressed: Option<Precompressed<'a>>,
    /// The request fields that the choice of this file depended on, without those for its coding.
    pub vary: Vary,
}

/// The result of content negotiation.
#[derive(Clone, Copy, Debug)]
struct Negotiated {
    coding: Coding,
    /// The coder, if the content is still to be compressed; `None` if the file is sent as it is stored.
    compressor: Option<Compressor>,
}

impl Negotiated {
    const AS_IT_IS: Negotiated = Negotiated { coding: Coding::Identity, compressor: None };

    /// The validators of the selected representation: each coding of a file has an entity tag of its own.
    fn validators(&self, stored: &Stored) -> Validators {
        let etag = match self.coding {
            Coding::Identity => stored.etag,
            coding => stored.etag.map(|etag| etag.with_coding(coding.name())),
        };
        Validators { etag, last_modified: date(&stored.meta) }
    }
}

impl<'a> Representation<'a> {
    pub fn new(stored: &'a Arc<Stored>) -> Representation<'a> {
        Representation { stored: Cow::Borrowed(stored), original: stored, precompressed: None, vary: Vary::NOTHING }
    }

    pub fn answer(mut self, coders: &Arc<Coders>, request: &Request, mut responder: Responder, now: &Now) -> Reply {
        let Some(negotiated) = self.negotiate(request, &mut responder, now) else {
            return coding::not_acceptable(request, responder);
        };
        self.answer_in(negotiated, coders, request, responder, now)
    }

    /// Answers in the negotiated coding. If no coder is free for it, sends the file as it is.
    #[inline(always)] // On every file's way: a call that moves it all costs a fiftieth of the answer.
    fn answer_in(
        mut self,
        mut negotiated: Negotiated,
        coders: &Arc<Coders>,
        request: &Request,
        responder: Responder,
        now: &Now,
    ) -> Reply {
        if !request.head.has_any(SELECTIVE) {
            return Sending { representation: self, negotiated, coders, request, responder, now }.whole();
        }
        if negotiated.coding != Coding::Identity && self.is_divided(&negotiated, request, now) {
            self.stored = Cow::Borrowed(self.original);
            negotiated = Negotiated::AS_IT_IS;
        }
        let validators = negotiated.validators(&self.stored);
        let conditions = request.conditions();
        match conditions.evaluate(true, Some(&validators), now.unix) {
            Outcome::Proceed => {}
            Outcome::NotModified => {
                let mut fields = responder.start(Status::NOT_MODIFIED);
                // Section 15.4.5: these fields as in a 200, and Last-Modified only if there is no ETag.
                match &validators.etag {
                    Some(etag) => fields.field("ETag", etag.as_bytes()),
                    None => write_last_modified(&self.stored.meta, now, &mut fields),
                }
                self.write_shared(&mut fields);
                fields.without_content(None);
                return Reply::Done;
            }
            Outcome::PreconditionFailed => {
                let mut fields = responder.start(Status::PRECONDITION_FAILED);
                fields.vary(self.vary);
                let sentence = "The file is not in the state that the request demands.";
                return page::finish_error(Format::of(request), fields, Status::PRECONDITION_FAILED, sentence);
            }
        }
        // A representation that is compressed while it is sent has no known length, and a range of it is of no use to a
        // client that wants a range of the file.
        let ranges = match negotiated.coding {
            Coding::Identity => ranges(&self.stored, &validators, request, now),
            _ => Ranges::Whole,
        };
        let sending = Sending { representation: self, negotiated, coders, request, responder, now };
        match ranges {
            Ranges::Whole => sending.whole(),
            Ranges::One { first, last } => sending.part(first, last),
            Ranges::Many(ranges) => sending.parts(&ranges),
            Ranges::Unsatisfiable => sending.unsatisfiable(),
        }
    }

    /// Whether the request asks for ranges of the file, and can have them in identity coding, although a 200 would be
    /// in another coding. A client that continues a broken download needs this.
    ///
    /// False if the request's conditions match the coding that was `negotiated` and not the file as it is: then the
    /// client has the file in that coding.
    #[cold]
    fn is_divided(&self, negotiated: &Negotiated, request: &Request, now: &Now) -> bool {
        let validators = Negotiated::AS_IT_IS.validators(self.original);
        if ranges(self.original, &validators, request, now) == Ranges::Whole {
            return false;
        }
        let accepted = accept::negotiate(request.values(Name::AcceptEncoding), &[Coding::Identity]);
        let outcome = |validators: &Validators| request.conditions().evaluate(true, Some(validators), now.unix);
        accepted == Choice::Use(Coding::Identity)
            && outcome(&validators) != Outcome::PreconditionFailed
            && outcome(&negotiated.validators(&self.stored)) != Outcome::NotModified
    }

    /// Chooses the coding. A coding that saves bytes, or a precompressed file, is used if the client accepts it.
    /// Otherwise the file is sent as it is. A coding that saves nothing is used only if the client excludes identity.
    fn negotiate(&mut self, request: &Request, responder: &mut Responder, now: &Now) -> Option<Negotiated> {
        let worth = self.stored.compressible && self.stored.meta.size >= WORTH_COMPRESSING;
        if self.precompressed.is_none() && !request.head.has(Name::AcceptEncoding) {
            // A client without Accept-Encoding gets identity coding.
            self.vary = if worth { self.vary.and(Vary::ACCEPT_ENCODING) } else { self.vary };
            return Some(Negotiated::AS_IT_IS);
        }
        if self.stored.coding.is_some() {
            // There is no other form of the file. A client that does not accept its coding can still save the file.
            return Some(Negotiated::AS_IT_IS);
        }
        if self.precompressed.is_some() {
            responder.spend(Precompressed::MOST * cost::LOOKUP);
        }
        let stored = self.precompressed.iter().flat_map(|precompressed| precompressed.codings());
        let made = MADE.into_iter().filter(|_| worth);
        let mut offered = [Coding::Identity; Precompressed::MOST + MADE.len() + 1];
        let mut others = 0;
        let mut stored_count = 0;
        for (coding, is_stored) in stored.map(|coding| (coding, true)).chain(made.map(|coding| (coding, false))) {
            offered[others] = coding;
            others += 1;
            stored_count += usize::from(is_stored);
        }
        if others > 0 {
            self.vary = self.vary.and(Vary::ACCEPT_ENCODING);
        }
        let values = request.values(Name::AcceptEncoding);
        let mut choice = accept::negotiate(values.clone(), &offered[..=others]);
        if choice == Choice::NotAcceptable {
            self.vary = self.vary.and(Vary::ACCEPT_ENCODING);
            choice = accept::negotiate(values, &MADE);
        }
        let Choice::Use(coding) = choice else { return None };
        if !offered[..stored_count].contains(&coding) {
            return Some(Negotiated { coding, compressor: coding::compressor(coding) });
        }
        match self.precompressed.and_then(|precompressed| precompressed.open(coding)) {
            Some((file, meta)) => {
                let Stored { root, path, content_type, cache_control, .. } = &**self.stored;
                let coded = Stored::load(root, path, (file, meta), (content_type, cache_control.as_deref()), now.unix);
                responder.spend(cost::LOOKUP + coded.load_cost());
                self.stored = Cow::Owned(Arc::new(coded));
                Some(Negotiated { coding, compressor: None })
            }
            None => {
                // The precompressed file was removed after it was found: negotiate again without.
                self.precompressed = None;
                self.negotiate(request, responder, now)
            }
        }
    }

    /// The fields that successful responses and the 304 share.
    fn write_shared(&self, fields: &mut Fields) {
        if let Some(value) = &self.stored.cache_control {
            fields.field("Cache-Control", value.as_bytes());
        }
        fields.vary(self.vary);
    }
}

/// A response with the representation, after the conditions have been evaluated.
struct Sending<'a, 'r> {
    representation: Representation<'a>,
    negotiated: Negotiated,
    coders: &'a Arc<Coders>,
    request: &'a Request<'a>,
    responder: Responder<'r>,
    now: &'a Now,
}

impl<'a, 'r> Sending<'a, 'r> {
    fn whole(self) -> Reply {
        let Some(compressor) = self.negotiated.compressor else {
            let size = self.representation.stored.meta.size;
            return self.send_stored(Status::OK, None, 0, size);
        };
        let stored = Arc::clone(&self.representation.stored);
        let small = stored.meta.size <= COMPRESSED_AT_ONCE as u64;
        match stored.variant(compressor) {
            Some(made) if small => send_memory(self.start(Status::OK, None).1, made, 0, made.len()),
            // Without Content-Length, although the length is known by now: the first response had none, and all
            // responses to GET and HEAD must be the same.
            Some(made) => self.stream(Body::Made { bytes: Arc::clone(made), at: 0 }),
            None => self.make(compressor, &stored, small),
        }
    }

    /// The whole file in a coding that has not been made yet.
    #[cold]
    fn make(mut self, compressor: Compressor, stored: &Arc<Stored>, small: bool) -> Reply {
        if self.request.method() == Method::Head {
            // A large file is always sent without a length in this coding, so HEAD has none either.
            let (_, fields) = self.start(Status::OK, None);
            if small {
                fields.without_content(None)
            } else {
                fields.stream(None)
            }
            return Reply::Done;
        }
        if small {
            self.responder.spend(cost::COMPRESSION + cost::COMPRESSED_BYTE * stored.meta.size as usize);
            return match make(stored, compressor, self.coders) {
                Ok(made) => send_memory(self.start(Status::OK, None).1, &made, 0, made.len()),
                Err(error) => self.unreadable(&error),
            };
        }
        self.responder.spend(cost::COMPRESSION);
        match Coded::new(compressor, Arc::clone(stored), self.coders) {
            Some(coded) => self.stream(Body::Coded(Box::new(coded))),
            None => self.uncoded(),
        }
    }

    fn stream(self, body: Body) -> Reply {
        self.start(Status::OK, None).1.stream(None);
        Reply::Stream(body)
    }

    /// All coders are in use: sends the file as it is, if the client accepts that. It is another representation, so
    /// conditions and ranges are evaluated again.
    #[cold]
    fn uncoded(self) -> Reply {
        let Sending { representation, coders, request, responder, now, .. } = self;
        match accept::negotiate(request.values(Name::AcceptEncoding), &[Coding::Identity]) {
            Choice::Use(coding) => {
                let negotiated = Negotiated { coding, compressor: None };
                representation.answer_in(negotiated, coders, request, responder, now)
            }
            Choice::NotAcceptable => coding::no_coder(Format::of(request), responder),
        }
    }

    fn part(self, first: u64, last: u64) -> Reply {
        let mut content_range = Vec::new();
        range::write_content_range(first, last, self.representation.stored.meta.size, &mut content_range);
        self.send_stored(Status::PARTIAL_CONTENT, Some(&content_range), first, last + 1)
    }

    /// Sends the bytes `at..end` of the stored file as they are stored: of the original, or of a precompressed file.
    fn send_stored(self, status: Status, content_range: Option<&[u8]>, at: u64, end: u64) -> Reply {
        let (stored, mut fields) = self.start(status, None);
        if let Some(value) = content_range {
            fields.field("Content-Range", value);
        }
        match &stored.content {
            // Positions in memory fit into a usize.
            Content::Memory(bytes) => send_memory(fields, bytes, at as usize, end as usize),
            Content::Copy(file) | Content::Open(file) => {
                fields.stream(Some(end - at));
                Reply::Stream(Body::File(FileRange { file: Arc::clone(file), at, end }))
            }
        }
    }

    fn parts(mut self, ranges: &[(u64, u64)]) -> Reply {
        self.responder.spend(cost::RANGE * ranges.len());
        let Meta { ino, mtime, size, .. } = self.representation.stored.meta;
        // The boundary must not occur in the parts by chance. It need not be hard to guess.
        let boundary = format!("dustdevil{:016x}{:08x}", ino ^ self.now.unix.rotate_left(32) ^ size, mtime.1);
        let stored = Arc::clone(&self.representation.stored);
        let multipart = Multipart { boundary: &boundary, content_type: &stored.content_type, total: size };
        let mut content_type = Vec::new();
        multipart.write_content_type(&mut content_type);
        let (_, fields) = self.start(Status::PARTIAL_CONTENT, Some(&content_type));
        fields.stream(Some(multipart.content_length(ranges)));
        let mut pieces = VecDeque::new();
        for &(first, last) in ranges {
            let mut head = Vec::new();
            multipart.write_part_head(first, last, &mut head);
            pieces.push_back(Segment::Bytes(head));
            pieces.push_back(Segment::Range { at: first, end: last + 1 });
        }
        let mut end = Vec::new();
        multipart.write_end(&mut end);
        pieces.push_back(Segment::Bytes(end));
        Reply::Stream(Body::Pieces { content: Box::new(stored.content.clone()), pieces })
    }

    fn unsatisfiable(self) -> Reply {
        let mut content_range = Vec::new();
        range::write_unsatisfied_range(self.representation.stored.meta.size, &mut content_range);
        let format = Format::of(self.request);
        let mut fields = self.responder.start(Status::RANGE_NOT_SATISFIABLE);
        fields.field("Content-Range", content_range);
        fields.vary(self.representation.vary);
        let sentence = "The file does not have the range of bytes that the request asks for.";
        page::finish_error(format, fields, Status::RANGE_NOT_SATISFIABLE, sentence)
    }

    fn unreadable(self, error: &io::Error) -> Reply {
        log::error!("a file cannot be read: {error}");
        let sentence = "The server could not read this.";
        page::error(Format::of(self.request), self.responder, Status::INTERNAL_SERVER_ERROR, sentence)
    }

    /// Writes the status line and the fields that all successful responses share. `content_type`: if it is not the
    /// file's own.
    fn start(self, status: Status, content_type: Option<&[u8]>) -> (Cow<'a, Arc<Stored>>, Fields<'r>) {
        let mut fields = self.responder.start(status);
        // Kept lines hold the file's own date. If its mtime is in the future, Last-Modified is cut to now and changes
        // with every response, so the lines cannot be kept.
        let is_past = self.representation.stored.meta.mtime.0 <= i64::try_from(self.now.unix).unwrap_or(i64::MAX);
        if self.negotiated.coding == Coding::Identity && content_type.is_none() && is_past {
            let stored = self.representation.stored;
            let lines = stored.lines.get_or_init(|| render_lines(&stored, self.now));
            match status {
                Status::OK => fields.lines_with_length(lines.all()),
                _ => fields.lines(lines.without_length()),
            }
            fields.vary(self.representation.vary);
            return (stored, fields);
        }
        let validators = self.negotiated.validators(&self.representation.stored);
        if let Some(etag) = &validators.etag {
            fields.field("ETag", etag.as_bytes());
        }
        write_last_modified(&self.representation.stored.meta, self.now, &mut fields);
        self.representation.write_shared(&mut fields);
        let stored = self.representation.stored;
        let coding = match self.negotiated.coding {
            Coding::Identity => {
                fields.field("Accept-Ranges", "bytes");
                stored.coding
            }
            coding => Some(coding),
        };
        if let Some(coding) = coding {
            fields.field("Content-Encoding", coding.name());
        }
        fields.field("Content-Type", content_type.unwrap_or(stored.content_type.as_bytes()));
        (stored, fields)
    }
}

/// The ranges that a request asks for, in identity coding (RFC 9110, section 14.2): only with GET, and only if If-Range
/// is absent or matches. A second Range field makes the request ambiguous: then both are ignored.
fn ranges(stored: &Stored, validators: &Validators, request: &Request, now: &Now) -> Ranges {
    let mut lines = request.values(Name::Range);
    let (Some(value), None) = (lines.next(), lines.next()) else { return Ranges::Whole };
    if request.method() != Method::Get || !request.conditions().range_applies(validators, now.unix) {
        return Ranges::Whole;
    }
    match range::resolve(value, stored.meta.size) {
        // Content-Encoding would apply to the multipart body, but here its parts are encoded and not the body.
        Ranges::Many(_) if stored.coding.is_some() => Ranges::Whole,
        ranges => ranges,
    }
}

/// The lines that `Sending::start` writes for a file in identity coding.
fn render_lines(stored: &Stored, now: &Now) -> FieldLines {
    let mut lines = Vec::new();
    let mut length_line = Vec::new();
    field::push_line(&mut length_line, b"Content-Length", decimal(stored.meta.size).digits());
    let mut line = |name: &str, value: &[u8]| field::push_line(&mut lines, name.as_bytes(), value);
    if let Some(etag) = &stored.etag {
        line("ETag", etag.as_bytes());
    }
    if let Some(last_modified) = last_modified(&stored.meta, now) {
        let mut date = [0; IMF_LEN];
        date::write_imf(last_modified, &mut date);
        line("Last-Modified", &date);
    }
    if let Some(value) = &stored.cache_control {
        line("Cache-Control", value.as_bytes());
    }
    line("Accept-Ranges", b"bytes");
    if let Some(coding) = stored.coding {
        line("Content-Encoding", coding.name().as_bytes());
    }
    line("Content-Type", stored.content_type.as_bytes());
    FieldLines::new(&lines, &length_line)
}

/// Compresses a small file in one go, and keeps the result in the cache.
fn make(stored: &Stored, compressor: Compressor, coders: &Coders) -> io::Result<Arc<[u8]>> {
    let mut made = Vec::new();
    // The file has at most COMPRESSED_AT_ONCE bytes, so its size fits into a usize.
    stored.content.read(0, stored.meta.size as usize, |content| {
        made = coders.compress(compressor, content)?;
        Ok(())
    })?;
    let made: Arc<[u8]> = made.into();
    stored.keep_variant(compressor, Arc::clone(&made));
    Ok(made)
}

/// Content in memory: copied if it is small, otherwise sent from its own buffer, in one write with its head.
fn send_memory(fields: Fields, bytes: &Arc<[u8]>, at: usize, end: usize) -> Reply {
    if end - at <= COPIED {
        fields.content(&bytes[at..end]);
        return Reply::Done;
    }
    fields.stream(Some((end - at) as u64));
    Reply::Stream(Body::Shared { bytes: Arc::clone(bytes), at, end })
}

/// The validators of a file, for conditions (RFC 9110, section 8.8). The date is not cut to now.
pub fn validators(meta: &Meta, etag: Option<ETag>) -> Validators {
    Validators { etag, last_modified: date(meta) }
}

/// The Last-Modified of a response: the file's mtime, or now if that is in the future. None for a file that is dated a
/// second ahead, as `Staged::date_after` does: the date of now was that of the file before.
fn last_modified(meta: &Meta, now: &Now) -> Option<u64> {
    date(meta).filter(|&secs| secs != now.unix + 1).map(|secs| secs.min(now.unix))
}

/// The mtime as a date. Reproducible builds set it to 0 or 1, which says nothing about the file's age: `None`.
fn date(meta: &Meta) -> Option<u64> {
    u64::try_from(meta.mtime.0).ok().filter(|&secs| secs > 1)
}

fn write_last_modified(meta: &Meta, now: &Now, fields: &mut Fields) {
    if let Some(last_modified) = last_modified(meta, now) {
        let mut date = [0; IMF_LEN];
        date::write_imf(last_modified, &mut date);
        fields.field("Last-Modified", date);
    }
}
