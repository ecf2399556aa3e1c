//! Settings for all responses: the user's fields, CORS, and error pages.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::http::chars::{is_field_value_byte, is_token, trim_ows};

/// The rules for all responses. A route or a host may have its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseRules {
    /// Fields that every response carries.
    pub headers: Vec<HeaderField>,
    /// The sites whose scripts may read responses. `None`: no CORS fields are sent.
    pub cors: Option<AllowedOrigin>,
    /// Of two pages for one status, the last is used.
    pub error_pages: Vec<ErrorPage>,
}

/// `Name: Value`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderField {
    pub name: String,
    pub value: String,
}

/// The value of Access-Control-Allow-Origin: `*`, `null`, or `https://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedOrigin(pub String);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorPage {
    pub code: u16,
    pub path: PathBuf,
}

/// Fields that frame the message, or that this server computes for each response. The user cannot set them: two fields
/// would contradict each other.
const OURS: [&str; 21] = [
    "Accept-Ranges",
    "Age",
    "Allow",
    "Connection",
    "Content-Encoding",
    "Content-Length",
    "Content-Location",
    "Content-Range",
    "Content-Type",
    "Date",
    "ETag",
    "Keep-Alive",
    "Last-Modified",
    "Location",
    "Proxy-Connection",
    "Server",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
    "Vary",
];

impl ResponseRules {
    /// Whether one of the user's fields has this name.
    pub fn names(&self, name: &str) -> bool {
        self.headers.iter().any(|field| field.name.eq_ignore_ascii_case(name))
    }
}

impl FromStr for HeaderField {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<HeaderField, &'static str> {
        let (name, value) = text.split_once(':').ok_or("write a name, a colon and a value: X-Frame-Options: DENY")?;
        if !is_token(name.as_bytes()) {
            return Err("not a field name; it has letters, digits and -, and no space before the colon");
        }
        if OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name)) {
            return Err("the server sends this field itself, computed for each response; leave it out");
        }
        Ok(HeaderField { name: name.to_owned(), value: field_value(value)? })
    }
}

impl FromStr for AllowedOrigin {
    type Err = &'static str;

    /// RFC 6454, section 7: a scheme, a host and maybe a port, without a path, not even a slash.
    fn from_str(text: &str) -> Result<AllowedOrigin, &'static str> {
        let is_origin = matches!(text, "*" | "null")
            || text.split_once("://").is_some_and(|(scheme, host)| {
                let host_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
                scheme.starts_with(|first: char| first.is_ascii_alphabetic())
                    && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
                    && !host.is_empty()
                    && host.bytes().all(host_byte)
            });
        match is_origin {
            true => Ok(AllowedOrigin(text.to_owned())),
            false => Err("not an origin; write * or a scheme and a host without a path: https://example.com"),
        }
    }
}

/// A valid field value: not empty, no control characters. White space around it is removed.
pub(super) fn field_value(text: &str) -> Result<String, &'static str> {
    if !text.bytes().all(is_field_value_byte) {
        return Err("the value holds a control character; a field is one line");
    }
    match str::from_utf8(trim_ows(text.as_bytes())) {
        Ok("") | Err(_) => Err("the value is empty"),
        Ok(value) => Ok(value.to_owned()),
    }
}

/// `CODE=FILE`
pub(super) fn error_page(text: &[u8]) -> Result<ErrorPage, &'static str> {
    const REMEDY: &str = "write an error status and a file: 404=404.html (400 to 599)";
    let (code, path) = text.split_at_checked(4).ok_or(REMEDY)?;
    let [hundreds @ b'4'..=b'5', tens @ b'0'..=b'9', ones @ b'0'..=b'9', b'='] = *code else {
        return Err(REMEDY);
    };
    if path.is_empty() {
        return Err(REMEDY);
    }
    let digit = |byte: u8| u16::from(byte - b'0');
    let code = digit(hundreds) * 100 + digit(tens) * 10 + digit(ones);
    Ok(ErrorPage { code, path: PathBuf::from(OsStr::from_bytes(path)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_checked_before_they_can_split_a_response() {
        let field: HeaderField = "X-Frame-Options:  DENY ".parse().unwrap();
        assert_eq!((field.name.as_str(), field.value.as_str()), ("X-Frame-Options", "DENY"));
        assert!("Link: </a>; rel=\"x\", <b>".parse::<HeaderField>().is_ok());
        for bad in [
            "",
            "X",
            "X:",
            "X: ",
            ": x",
            "X Y: z",
            "X : y",
            "X: a\r\nY: b",
            "X: a\nb",
            "X\r: a",
            "X: \x7f",
            "content-length: 5",
            "Transfer-Encoding: chunked",
            "CONNECTION: close",
            "Date: now",
            "Vary: *",
        ] {
            assert!(bad.parse::<HeaderField>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn origins_have_no_path() {
        for good in ["*", "null", "https://example.com", "http://[::1]:8080", "http://localhost:3000", "app://x"] {
            assert!(good.parse::<AllowedOrigin>().is_ok(), "{good}");
        }
        for bad in
            ["", "example.com", "https://", "https://a/", "https://a b", "https://a\r\nb", "://a", "public/", "1"]
        {
            assert!(bad.parse::<AllowedOrigin>().is_err(), "{bad:?}");
        }
    }
}
