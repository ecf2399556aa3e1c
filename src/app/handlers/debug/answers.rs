//! `status/{code}` answers with any final status. `redirect/{n}` begins a chain of `n` redirections.

use crate::app::body::Reply;
use crate::app::handlers::debug::arguments::{self, BadArgument, DebugData};
use crate::app::reply::page::Format;
use crate::app::reply::text::{self, Compress};
use crate::http::date::Now;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::http::vary::Vary;
use crate::proto::responder::{Fields, Responder};

/// Clients give up after 20 (Chromium, Firefox) or 50 (curl).
const MOST_REDIRECTS: u64 = 100;

pub fn status(tools: &DebugData, argument: &[u8], request: &Request, responder: Responder) -> Reply {
    // 1xx is not a final response. From 600 on a status is not valid (RFC 9110, section 15).
    let code = arguments::number(argument, 599).filter(|code| argument.len() == 3 && *code >= 200);
    let Some(code) = code else {
        return BadArgument("The status is a number of three digits, from 200 to 599.").answer(request, responder);
    };
    let status = Status(code as u16);
    let content = format!("{code} {}\n", status.reason());
    let mut fields = responder.start(status);
    add_required(status, content.len(), tools, &mut fields);
    if status == Status::NOT_MODIFIED {
        fields.without_content(None);
        return Reply::Done;
    }
    if !status.is_bodiless() {
        fields.field("Content-Type", Format::Plain.content_type());
    }
    fields.content(content.as_bytes());
    Reply::Done
}

/// Adds the fields that RFC 9110, section 15, requires of this status, or that a client needs to act on it.
fn add_required(status: Status, length: usize, tools: &DebugData, fields: &mut Fields) {
    match status.0 {
        206 => fields.field("Content-Range", format!("bytes 0-{}/{length}", length - 1)),
        301 | 302 | 303 | 307 | 308 => fields.field("Location", redirect_path(tools, 0)),
        401 => fields.field("WWW-Authenticate", "Basic realm=\"debug\""),
        405 => fields.field("Allow", ""),
        407 => fields.field("Proxy-Authenticate", "Basic realm=\"debug\""),
        426 => {
            fields.field("Upgrade", "HTTP/1.1");
            fields.field("Connection", "upgrade");
        }
        _ => {}
    }
}

pub fn redirect(tools: &DebugData, argument: &[u8], request: &Request, responder: Responder, now: &Now) -> Reply {
    let Some(left) = arguments::number(argument, MOST_REDIRECTS) else {
        return BadArgument("The number of redirections is from 0 to 100.").answer(request, responder);
    };
    if left == 0 {
        let content_type = Format::Plain.content_type();
        let text = b"There are no more redirections.\n";
        return text::answer(
            request,
            responder,
            now,
            content_type,
            Vary::NOTHING,
            Compress::OnlyIfRequired(&tools.coders),
            text,
        );
    }
    arguments::redirect(redirect_path(tools, left - 1).as_bytes(), &[], responder)
}

fn redirect_path(tools: &DebugData, left: u64) -> String {
    format!("{}redirect/{left}", tools.prefix)
}
