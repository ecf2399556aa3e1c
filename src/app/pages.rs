//! The small pages of the server's own: errors, and the list of routes. An error says its status and one
//! sentence, as HTML unless the client asks for JSON or plain text. Nothing the client sent is in it.

use crate::app::exchange::Next;
use crate::http::accept;
use crate::http::escape;
use crate::http::head::{Head, Name};
use crate::http::request::Request;
use crate::http::status::Status;
use crate::proto::responder::{Fields, Responder};

/// How the client wants to be told.
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
pub fn error(format: Format, responder: Responder, status: Status, sentence: &str) -> Next {
    finish_error(format, responder.start(status), status, sentence)
}

/// Ends a response whose fields have begun with an error page.
pub fn finish_error(format: Format, mut fields: Fields, status: Status, sentence: &str) -> Next {
    fields.field("Content-Type", format.content_type());
    fields.content(&render(format, status, sentence));
    Next::Done
}

fn render(format: Format, status: Status, sentence: &str) -> Vec<u8> {
    let (code, reason) = (status.0, status.reason());
    let mut page = Vec::with_capacity(512);
    match format {
        Format::Plain => page.extend(format!("{code} {reason}\n{sentence}\n").bytes()),
        Format::Json => {
            page.extend(format!("{{\"status\":{code},\"error\":").bytes());
            escape::json_string(reason.as_bytes(), &mut page);
            page.extend(b",\"message\":");
            escape::json_string(sentence.as_bytes(), &mut page);
            page.extend(b"}\n");
        }
        Format::Html => {
            let mut text = Vec::new();
            escape::html(sentence.as_bytes(), &mut text);
            page.extend(
                format!(
                    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
                     <meta name=\"viewport\" content=\"width=device-width\"><title>{code} {reason}</title>\
                     <style>:root{{color-scheme:light dark}}body{{font:1.1em/1.5 system-ui,sans-serif;\
                     max-width:36em;margin:4em auto;padding:0 1em}}</style></head>\n\
                     <body><h1>{code} {reason}</h1>\n<p>"
                )
                .bytes(),
            );
            page.extend(text);
            page.extend(b"</p></body></html>\n");
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_its_status_and_its_sentence_in_three_formats() {
        let page = |format| String::from_utf8(render(format, Status::NOT_FOUND, "There's <nothing>.")).unwrap();
        assert_eq!(page(Format::Plain), "404 Not Found\nThere's <nothing>.\n");
        assert!(page(Format::Json).starts_with("{\"status\":404,\"error\":\"Not Found\",\"message\":\"There's "));
        assert!(page(Format::Html).contains("<title>404 Not Found</title>"));
        assert!(!page(Format::Html).contains("<nothing>"));
    }
}
