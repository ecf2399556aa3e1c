//! `request` shows a request as the server saw it, as JSON; `POST /` sends its content back.
//!
//! What is no UTF-8 in a field or the target is shown with U+FFFD in its place; content then becomes base64.

use crate::app::App;
use crate::app::debug::gather::{self, Purpose};
use crate::app::exchange::Next;
use crate::http::date::Now;
use crate::http::escape;
use crate::http::head::Name;
use crate::http::request::Request;
use crate::proto::responder::Responder;
use std::io::Write;

pub fn request(_app: &App, request: &Request, responder: Responder, _now: &Now) -> Next {
    gather::begin(Purpose::Inspect { json: open(request) }, request, responder)
}

pub fn echo(_app: &App, request: &Request, responder: Responder, _now: &Now) -> Next {
    // RFC 9110, section 8.3: content without a type may be taken for any; ours to send says so.
    let named = request.field(Name::ContentType).filter(|value| !value.is_empty());
    let content_type = named.unwrap_or(b"application/octet-stream").to_vec();
    gather::begin(Purpose::Echo { content_type }, request, responder)
}

/// All but the content.
fn open(request: &Request) -> Vec<u8> {
    let bytes = request.bytes;
    let mut json = b"{".to_vec();
    member("method", request.head.method_token.of(bytes), &mut json);
    member("target", request.head.target.of(bytes), &mut json);
    member("path", request.path(), &mut json);
    pairs("query", escape::query_pairs(request.target.query.unwrap_or_default()), &mut json);
    member("version", format!("HTTP/1.{}", request.head.minor).as_bytes(), &mut json);
    member("peer", request.peer.to_string().as_bytes(), &mut json);
    pairs("fields", request.fields(), &mut json);
    json
}

/// The content, and the end.
pub fn close(json: &mut Vec<u8>, content: &[u8]) {
    match std::str::from_utf8(content) {
        Ok(_) => {
            member("body", content, json);
            member("body_encoding", b"text", json);
        }
        Err(_) => {
            member("body", &base64(content), json);
            member("body_encoding", b"base64", json);
        }
    }
    // Writing to a Vec cannot fail.
    let _ = write!(json, "\n  \"body_length\": {}\n}}\n", content.len());
}

fn member(name: &str, value: &[u8], json: &mut Vec<u8>) {
    let _ = write!(json, "\n  \"{name}\": ");
    escape::json_string(value, json);
    json.push(b',');
}

/// A list of lists: a name may come twice, and the order counts.
fn pairs<T: AsRef<[u8]>>(name: &str, pairs: impl Iterator<Item = (T, T)>, json: &mut Vec<u8>) {
    let _ = write!(json, "\n  \"{name}\": [");
    for (index, (key, value)) in pairs.enumerate() {
        json.extend_from_slice(if index == 0 { b"\n    [" } else { b",\n    [" });
        escape::json_string(key.as_ref(), json);
        json.extend_from_slice(b", ");
        escape::json_string(value.as_ref(), json);
        json.push(b']');
    }
    json.extend_from_slice(b"],");
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let [first, second, third] = [0, 1, 2].map(|at| u32::from(group.get(at).copied().unwrap_or(0)));
        let bits = first << 16 | second << 8 | third;
        let sextet = |shift: u32| ALPHABET[(bits >> shift & 63) as usize];
        text.extend([sextet(18), sextet(12)]);
        text.push(if group.len() > 1 { sextet(6) } else { b'=' });
        text.push(if group.len() > 2 { sextet(0) } else { b'=' });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_the_rfc_has_it() {
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")];
        for (plain, coded) in cases {
            assert_eq!(base64(plain.as_bytes()), coded.as_bytes());
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfb]), b"//77");
    }

    #[test]
    fn content_is_shown_as_text_or_as_base64() {
        let shown = |content: &[u8]| {
            let mut json = b"{".to_vec();
            close(&mut json, content);
            String::from_utf8(json).unwrap()
        };
        let text = "{\n  \"body\": \"\u{e9}\\n\",\n  \"body_encoding\": \"text\",\n  \"body_length\": 3\n}\n";
        assert_eq!(shown("\u{e9}\n".as_bytes()), text);
        assert!(shown(b"\xff").contains("\"body\": \"/w==\",\n  \"body_encoding\": \"base64\""));
    }
}
