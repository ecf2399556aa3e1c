//! Error pages. A page shows the status and one sentence, as HTML unless the client asks for JSON or plain text. It
//! never holds bytes that the client sent. The user can replace the HTML of a status (`--error-page`).

use crate::app::body::Reply;
use crate::config::responses::ErrorPage;
use crate::http::accept;
use crate::http::escape;
use crate::http::head::{Head, Name};
use crate::http::request::Request;
use crate::http::status::Status;
use crate::http::vary::Vary;
use crate::proto::responder::{Fields, Responder, decimal};
use crate::start_error::StartError;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The largest page of the user's own. It is kept in memory and copied into the output buffer behind the response's
/// head.
const MAX_ERROR_PAGE: u64 = 64 * 1024;

/// The format in which the client wants an error page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Html,
    Json,
    Plain,
}

impl Format {
    pub fn of(request: &Request) -> Format {
        Format::of_head(request.head, request.bytes)
    }

    pub fn of_head(head: &Head, bytes: &[u8]) -> Format {
        const OFFERED: [&str; 3] = ["text/html", "application/json", "text/plain"];
        match accept::media(head.values(bytes, Name::Accept), &OFFERED) {
            Some(1) => Format::Json,
            Some(2) => Format::Plain,
            _ => Format::Html,
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Format::Html => "text/html; charset=utf-8",
            Format::Json => "application/json",
            Format::Plain => "text/plain; charset=utf-8",
        }
    }
}

/// Answers with an error page.
pub fn error(format: Format, responder: Responder, status: Status, sentence: &str) -> Reply {
    finish_error(format, responder.start(status), status, sentence)
}

/// Answers 404.
pub fn not_found(format: Format, responder: Responder) -> Reply {
    error(format, responder, Status::NOT_FOUND, "There is nothing at this address.")
}

/// Ends a response with an error page. Its status and some of its fields are written already.
pub fn finish_error(format: Format, mut fields: Fields, status: Status, sentence: &str) -> Reply {
    fields.field("Content-Type", format.content_type());
    // Caches do not store an error of another status, so they cannot send it to a client that asks for another format.
    if status.is_cacheable_by_default() {
        fields.vary(Vary::ACCEPT);
    }
    match fields.error_page().filter(|_| format == Format::Html) {
        Some(page) => fields.content(page),
        None => render(format, status, sentence, |pieces| fields.pieces(pieces)),
    }
    Reply::Done
}

/// Reads the user's own page for a status. A relative path is looked up in the current directory first, then in the
/// root of the site.
pub fn read_error_page(page: &ErrorPage, root: Option<&Path>) -> Result<(Status, Vec<u8>), StartError> {
    let path = match root.map(|root| root.join(&page.path)) {
        Some(below) if !page.path.exists() && below.exists() => below,
        _ => page.path.clone(),
    };
    let mut content = Vec::new();
    // Reads one byte more than is allowed, to notice a page that is too large.
    let read = File::open(&path).and_then(|file| file.take(MAX_ERROR_PAGE + 1).read_to_end(&mut content));
    let cause = match read {
        Ok(length) if length as u64 <= MAX_ERROR_PAGE => return Ok((Status(page.code), content)),
        Ok(_) => format!("it has more than {MAX_ERROR_PAGE} bytes; make it smaller"),
        Err(error) => format!("{error}; correct the path or its permissions"),
    };
    Err(StartError::new(format!("cannot read {path:?}, the page of --error-page {}: {cause}", page.code)))
}

/// Writes a page as pieces, so that most errors are answered without an allocation.
fn render(format: Format, status: Status, sentence: &str, write: impl FnOnce(&[&[u8]])) {
    let text = status.text().as_bytes();
    match format {
        Format::Plain => write(&[text, b"\n", sentence.as_bytes(), b"\n"]),
        Format::Json => {
            let (mut error, mut message) = (Vec::new(), Vec::new());
            escape::json_string(status.reason().as_bytes(), &mut error);
            escape::json_string(sentence.as_bytes(), &mut message);
            let code = decimal(u64::from(status.0));
            write(&[b"{\"status\":", code.digits(), b",\"error\":", &error, b",\"message\":", &message, b"}\n"]);
        }
        Format::Html => {
            const START: &[u8] = b"<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
                <meta name=\"viewport\" content=\"width=device-width\"><title>";
            const STYLE: &[u8] =
                b"</title><style>:root{color-scheme:light dark}body{font:1.1em/1.5 system-ui,sans-serif;\
                max-width:36em;margin:4em auto;padding:0 1em}</style></head>\n<body><h1>";
            let sentence = escape::html_text(sentence.as_bytes());
            write(&[START, text, STYLE, text, b"</h1>\n<p>", &sentence, b"</p></body></html>\n"]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_its_status_and_its_sentence_in_three_formats() {
        let page = |format| {
            let mut page = Vec::new();
            render(format, Status::NOT_FOUND, "There's <nothing>.", |pieces| page = pieces.concat());
            String::from_utf8(page).unwrap()
        };
        assert_eq!(page(Format::Plain), "404 Not Found\nThere's <nothing>.\n");
        assert!(page(Format::Json).starts_with("{\"status\":404,\"error\":\"Not Found\",\"message\":\"There's "));
        assert!(page(Format::Html).contains("<title>404 Not Found</title>"));
        assert!(!page(Format::Html).contains("<nothing>"));
    }
}
