//! `bytes/{n}` sends pseudo-random bytes: they do not compress, and a client that knows the seed can check them.
//! `stream/{n}` sends lines of JSON, each in a chunk of its own. Both are generated while they are sent.

use crate::app::body::made::{JsonLines, Noise};
use crate::app::body::{Body, Reply};
use crate::app::handlers::debug::arguments::{self, BadArgument};
use crate::http::escape;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::proto::responder::Responder;

/// 10 GiB: more than a 32-bit counter in a client can hold.
const MOST_BYTES: u64 = 10 << 30;
const MOST_LINES: u64 = 1_000_000;
pub fn bytes(argument: &[u8], request: &Request, responder: Responder) -> Reply {
    let Some(length) = arguments::number(argument, MOST_BYTES) else {
        return BadArgument("The number of bytes is from 0 to 10737418240.").answer(request, responder);
    };
    let mut seed = 0;
    for (name, value) in escape::query_pairs(request.target.query().unwrap_or_default()) {
        match arguments::number(&value, u64::MAX) {
            Some(number) if &name[..] == b"seed" => seed = number,
            _ => {
                return BadArgument("bytes takes a seed, which is a number, and nothing else.")
                    .answer(request, responder);
            }
        }
    }
    let mut fields = responder.start(Status::OK);
    fields.field("Content-Type", "application/octet-stream");
    fields.stream(Some(length));
    Reply::Stream(Body::Noise(Noise::new(seed, length)))
}

pub fn lines(argument: &[u8], request: &Request, responder: Responder) -> Reply {
    let Some(of) = arguments::number(argument, MOST_LINES) else {
        return BadArgument("The number of lines is from 0 to 1000000.").answer(request, responder);
    };
    let mut fields = responder.start(Status::OK);
    fields.field("Content-Type", "application/x-ndjson");
    fields.stream(None);
    Reply::Stream(Body::JsonLines(JsonLines::new(of)))
}
