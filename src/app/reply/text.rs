//! Small content that is generated for one request. It has no validators, and ranges of it are not served.
//! Preconditions and content codings apply to it as to any representation.

use crate::app::body::Reply;
use crate::app::compress::Coders;
use crate::app::reply::coding;
use crate::app::reply::page::{self, Format};
use crate::cost;
use crate::http::accept::{self, Choice, Coding};
use crate::http::conditional::{Outcome, Validators};
use crate::http::date::Now;
use crate::http::head::Name;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::http::vary::Vary;
use crate::proto::responder::Responder;
use std::borrow::Cow;

/// When to compress content, and the limits on compression.
#[derive(Clone, Copy, Debug)]
pub enum Compress<'a> {
    /// Whenever the client accepts a coding, however short the content is.
    Preferred(&'a Coders),
    /// Only if the client excludes identity.
    OnlyIfRequired(&'a Coders),
}

/// Answers 200 with `content`, unless a precondition fails (RFC 9110, section 13).
///
/// `vary` names the fields besides Accept-Encoding that the content depends on.
pub fn answer(
    request: &Request,
    mut responder: Responder,
    now: &Now,
    content_type: &str,
    vary: Vary,
    compress: Compress,
    content: &[u8],
) -> Reply {
    let length = content.len();
    let Some((coding, content)) = code(request, compress, content, &mut responder) else {
        return coding::not_acceptable(request, responder);
    };
    // The cost of making the content: callers leave it to this function.
    responder.spend(length);
    let Ok(content) = content else {
        let sentence = "The content could not be compressed.";
        return page::error(Format::of(request), responder, Status::INTERNAL_SERVER_ERROR, sentence);
    };
    let vary = vary.and(Vary::ACCEPT_ENCODING);
    // There is a representation, so `*` matches it. It has no entity tag and no date, so no other condition does.
    match request.conditions().evaluate(true, Some(&Validators::default()), now.unix) {
        Outcome::Proceed => {}
        Outcome::NotModified => {
            let mut fields = responder.start(Status::NOT_MODIFIED);
            fields.vary(vary);
            fields.without_content(None);
            return Reply::Done;
        }
        Outcome::PreconditionFailed => {
            let sentence = "The resource at this address has no entity tag that the request could match.";
            return page::error(Format::of(request), responder, Status::PRECONDITION_FAILED, sentence);
        }
    }
    let mut fields = responder.start(Status::OK);
    fields.field("Content-Type", content_type);
    if coding != Coding::Identity {
        fields.field("Content-Encoding", coding.name());
    }
    fields.vary(vary);
    fields.content(&content);
    Reply::Done
}

/// The content in a coding that the client accepts. `None` if the client accepts none.
fn code<'a>(
    request: &Request,
    compress: Compress,
    content: &'a [u8],
    responder: &mut Responder,
) -> Option<(Coding, std::io::Result<Cow<'a, [u8]>>)> {
    let (offers, coders): ([&[Coding]; 2], _) = match compress {
        Compress::Preferred(coders) => ([&[Coding::Gzip, Coding::Deflate, Coding::Identity], &[]], coders),
        Compress::OnlyIfRequired(coders) => ([&[Coding::Identity], &[Coding::Gzip, Coding::Deflate]], coders),
    };
    let coding = offers.into_iter().find_map(|offered| {
        match accept::negotiate(request.values(Name::AcceptEncoding), offered) {
            Choice::Use(coding) => Some(coding),
            Choice::NotAcceptable => None,
        }
    })?;
    if coding != Coding::Identity {
        responder.spend(cost::COMPRESSION + cost::COMPRESSED_BYTE * content.len());
    }
    Some((coding, coding::code(coding, content, coders)))
}
