//! `status/{code}` answers with any final status, `redirect/{n}` leads through a chain of redirections.

use crate::app::App;
use crate::app::body::Reply;
use crate::app::handlers::debug::{self, Bad};
use crate::app::reply::page::Format;
use crate::app::reply::text::{self, Compress};
use crate::http::date::Now;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::http::vary::Vary;
use crate::proto::responder::{Fields, Responder};

/// Clients give up after 20 (Chromium, Firefox) or 50 (curl).
const MOST_REDIRECTS: u64 = 100;

pub fn status(app: &App, request: &Request, responder: Responder, _now: &Now) -> Reply {
    // 1xx is no final response, and 600 on is no status at all (RFC 9110, section 15).
    let text = debug::argument(app, request, "status/");
    let code = debug::number(text, 599).filter(|code| text.len() == 3 && *code >= 200);
    let Some(code) = code else {
        return Bad("The status is a number of three digits, from 200 to 599.").answer(request, responder);
    };
    let status = Status(code as u16);
    let content = format!("{code} {}\n", status.reason());
    let mut fields = responder.start(status);
    add_required(status, content.len(), app, &mut fields);
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

/// The fields without which a response of this status would break RFC 9110, section 15, or be of no use.
fn add_required(status: Status, length: usize, app: &App, fields: &mut Fields) {
    match status.0 {
        206 => fields.field("Content-Range", format!("bytes 0-{}/{length}", length - 1)),
        301 | 302 | 303 | 307 | 308 => fields.field("Location", redirect_path(app, 0)),
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

pub fn redirect(app: &App, request: &Request, responder: Responder, now: &Now) -> Reply {
    let Some(left) = debug::number(debug::argument(app, request, "redirect/"), MOST_REDIRECTS) else {
        return Bad("The number of redirections is from 0 to 100.").answer(request, responder);
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
            Compress::WhenNeeded(&app.coders),
            text,
        );
    }
    debug::redirect(redirect_path(app, left - 1).as_bytes(), &[], responder)
}

fn redirect_path(app: &App, left: u64) -> String {
    format!("{}redirect/{left}", app.debug_prefix.as_deref().unwrap_or_default())
}
