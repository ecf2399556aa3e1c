//! An answer that is prepared in steps before its head can be written: a directory listing. The session runs the steps
//! and serves other clients between them. What the answer needs of the request is kept until then.

use crate::app::body::{Body, Reply};
use crate::app::compress::{Coder, Coders};
use crate::app::files::listing::pages::Pages;
use crate::app::files::listing::render::ListingFormat;
use crate::app::files::listing::shared::{Listing, ListingFailure};
use crate::app::files::listing::shelf::Shelf;
use crate::app::files::lookup::Refused;
use crate::app::reply::coding;
use crate::app::reply::page::{self, Format};
use crate::app::reply::refusal;
use crate::cost;
use crate::http::accept::{self, Choice, Coding};
use crate::http::conditional::{Conditions, Outcome, Validators};
use crate::http::date::Now;
use crate::http::head::Name;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::http::vary::Vary;
use crate::proto::responder::Responder;
use std::sync::Arc;

/// The request fields that select a form of the listing.
const VARY: Vary = Vary::ACCEPT.and(Vary::ACCEPT_ENCODING);

/// A listing that is being made, and what the answer to one client needs.
#[derive(Debug)]
pub struct Preparation {
    listing: Arc<Listing>,
    shelf: Arc<Shelf>,
    coders: Arc<Coders>,
    form: ListingFormat,
    coding: Coding,
    /// The values of the request's fields.
    if_match: Vec<Box<[u8]>>,
    if_none_match: Vec<Box<[u8]>>,
}

/// The answer, or a listing that has to be finished first.
#[derive(Debug)]
pub enum Listed {
    Reply(Reply),
    Unmade(Box<Preparation>),
}

/// Answers with a listing, or returns it if it has to be finished first.
pub fn listing(
    listing: Result<Arc<Listing>, ListingFailure>,
    shelf: &Arc<Shelf>,
    coders: &Arc<Coders>,
    request: &Request,
    responder: Responder,
    now: &Now,
) -> Listed {
    let format = Format::of(request);
    let listing = match listing {
        Ok(listing) => listing,
        Err(failure) => return Listed::Reply(fail(failure, format, responder)),
    };
    let form = match format {
        Format::Json => ListingFormat::Json,
        Format::Html | Format::Plain => ListingFormat::Html,
    };
    let Some(coding) = negotiate(request) else { return Listed::Reply(coding::not_acceptable(request, responder)) };
    let values = |name| request.values(name).map(Into::into).collect();
    let preparation = Preparation {
        listing,
        shelf: Arc::clone(shelf),
        coders: Arc::clone(coders),
        form,
        coding,
        if_match: values(Name::IfMatch),
        if_none_match: values(Name::IfNoneMatch),
    };
    match preparation.listing.outcome() {
        Some(_) => Listed::Reply(preparation.finish(format, responder, now)),
        None => Listed::Unmade(Box::new(preparation)),
    }
}

/// Identity coding, unless the client excludes it.
fn negotiate(request: &Request) -> Option<Coding> {
    let offers: [&[Coding]; 2] = [&[Coding::Identity], &[Coding::Gzip, Coding::Deflate]];
    offers.into_iter().find_map(|offered| match accept::negotiate(request.values(Name::AcceptEncoding), offered) {
        Choice::Use(coding) => Some(coding),
        Choice::NotAcceptable => None,
    })
}

impl Preparation {
    /// Does a step, and returns its cost. `true`: the answer can be written.
    pub fn step(&mut self, now: &Now) -> (usize, bool) {
        let cost = self.listing.step(now);
        (cost, self.listing.outcome().is_some())
    }

    /// Answers 200 with the listing, unless a precondition fails (RFC 9110, section 13). The answer to HEAD has no
    /// length: to know it, the whole page would have to be rendered.
    pub fn finish(self, format: Format, mut responder: Responder, now: &Now) -> Reply {
        let Some(etag) = self.listing.etag(self.form) else {
            let failure = self.listing.outcome().and_then(Result::err);
            return fail(failure.unwrap_or(ListingFailure::Full), format, responder);
        };
        self.shelf.keep(&self.listing);
        let compressor = coding::compressor(self.coding);
        let etag = compressor.map_or(etag, |_| etag.with_coding(self.coding.name()));
        match self.evaluate(&Validators { etag: Some(etag), last_modified: None }, now) {
            Outcome::Proceed => {}
            Outcome::NotModified => {
                let mut fields = responder.start(Status::NOT_MODIFIED);
                fields.field("ETag", etag.as_bytes());
                fields.vary(VARY);
                fields.without_content(None);
                return Reply::Done;
            }
            Outcome::PreconditionFailed => {
                let sentence = "What is at this address has no strong entity tag that the request could match.";
                return page::error(format, responder, Status::PRECONDITION_FAILED, sentence);
            }
        }
        let coder = match compressor.map(|compressor| (compressor, self.coders.permit())) {
            None => None,
            Some((compressor, Some(permit))) => Some(Coder::new(compressor, permit)),
            Some((_, None)) => return coding::no_coder(format, responder),
        };
        responder.spend(if coder.is_some() { cost::COMPRESSION } else { 0 });
        let mut fields = responder.start(Status::OK);
        fields.field("ETag", etag.as_bytes());
        fields.field("Content-Type", self.form.content_type());
        // In a field and not in the JSON: that is an array, in which clients would not ignore an extra element.
        if self.listing.is_cut() {
            fields.field("Listing-Truncated", "?1");
        }
        if coder.is_some() {
            fields.field("Content-Encoding", self.coding.name());
        }
        fields.vary(VARY);
        fields.stream(None);
        Reply::Stream(Body::Listing(Box::new(Pages::new(self.listing, self.form, coder))))
    }

    fn evaluate(&self, validators: &Validators, now: &Now) -> Outcome {
        fn lines(values: &[Box<[u8]>]) -> impl Iterator<Item = &[u8]> + Clone {
            values.iter().map(|value| &**value)
        }
        // A listing has no Last-Modified and no ranges.
        let conditions = Conditions {
            if_match: lines(&self.if_match),
            if_none_match: lines(&self.if_none_match),
            if_modified_since: lines(&[]),
            if_unmodified_since: lines(&[]),
            if_range: lines(&[]),
        };
        conditions.evaluate(true, Some(validators), now.unix)
    }
}

fn fail(failure: ListingFailure, format: Format, responder: Responder) -> Reply {
    match failure {
        ListingFailure::Unreadable(errno) => {
            let (status, sentence) = refusal::refusal(&Refused::from(errno));
            page::error(format, responder, status, sentence)
        }
        ListingFailure::Full => {
            let mut fields = responder.start(Status::SERVICE_UNAVAILABLE);
            fields.field("Retry-After", "1");
            let sentence = "The server is sending too many listings at the moment; try again soon.";
            page::finish_error(format, fields, Status::SERVICE_UNAVAILABLE, sentence)
        }
    }
}
