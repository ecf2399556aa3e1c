//! The flags about all responses: fields of the user's own, CORS, error pages.

use std::path::PathBuf;
use std::str::FromStr;

use crate::http::chars::{is_field_value_byte, is_token, trim_ows};

#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "What every response says")]
pub struct ResponseRules {
    /// Field that every response carries, repeatable
    ///
    /// As in --header 'X-Frame-Options: DENY'. Errors and 304 carry it too, and responses of upstreams and
    /// applications: it replaces their own field of that name. Set-Cookie and Link are added instead, since they may be
    /// repeated.
    #[arg(long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<HeaderField>,

    /// Let scripts of other sites read responses [default of ORIGIN: *, any site]
    ///
    /// Sends Access-Control-Allow-Origin with every response and answers the preflights of browsers, those to upstreams
    /// and applications too.
    // With the equals sign only, since `--cors public/` would take the ROOT. `Args::read` joins the two words if the
    // second is an origin.
    #[arg(long, value_name = "ORIGIN", num_args = 0..=1, require_equals = true, default_missing_value = "*")]
    pub cors: Option<Origin>,

    /// HTML page of an error status, repeatable
    ///
    /// As in --error-page 404=404.html: a path from the current directory, or else from ROOT, read once at start.
    /// Clients that ask for JSON or plain text still get that.
    #[arg(long = "error-page", value_name = "CODE=FILE", value_parser = error_page())]
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
pub struct Origin(pub String);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorPage {
    pub code: u16,
    pub path: PathBuf,
}

/// Fields that frame the message, or that this server computes for each response: a second one would contradict the
/// first.
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
    /// Whether one of the user's own fields has this name.
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

impl FromStr for Origin {
    type Err = &'static str;

    /// RFC 6454, section 7: scheme, host, perhaps a port, and no path, not even a slash.
    fn from_str(text: &str) -> Result<Origin, &'static str> {
        let is_origin = matches!(text, "*" | "null")
            || text.split_once("://").is_some_and(|(scheme, host)| {
                let host_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
                scheme.starts_with(|first: char| first.is_ascii_alphabetic())
                    && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
                    && !host.is_empty()
                    && host.bytes().all(host_byte)
            });
        match is_origin {
            true => Ok(Origin(text.to_owned())),
            false => Err("not an origin; write * or a scheme and a host without a path: https://example.com"),
        }
    }
}

/// A valid value of a field: not empty, without control bytes, without white space around it.
pub(super) fn field_value(text: &str) -> Result<String, &'static str> {
    if !text.bytes().all(is_field_value_byte) {
        return Err("the value holds a control character; a field is one line");
    }
    match str::from_utf8(trim_ows(text.as_bytes())) {
        Ok("") | Err(_) => Err("the value is empty"),
        Ok(value) => Ok(value.to_owned()),
    }
}

fn error_page() -> impl clap::builder::TypedValueParser<Value = ErrorPage> {
    use clap::builder::{OsStringValueParser, TypedValueParser};
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    const REMEDY: &str = "write an error status and a file: 404=404.html (400 to 599)";
    OsStringValueParser::new().try_map(|text| {
        let (code, path) = text.as_bytes().split_at_checked(4).ok_or(REMEDY)?;
        let [hundreds @ b'4'..=b'5', tens @ b'0'..=b'9', ones @ b'0'..=b'9', b'='] = *code else {
            return Err(REMEDY);
        };
        if path.is_empty() {
            return Err(REMEDY);
        }
        let digit = |byte: u8| u16::from(byte - b'0');
        let code = digit(hundreds) * 100 + digit(tens) * 10 + digit(ones);
        Ok(ErrorPage { code, path: PathBuf::from(std::ffi::OsString::from_vec(path.to_vec())) })
    })
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
            assert!(good.parse::<Origin>().is_ok(), "{good}");
        }
        for bad in
            ["", "example.com", "https://", "https://a/", "https://a b", "https://a\r\nb", "://a", "public/", "1"]
        {
            assert!(bad.parse::<Origin>().is_err(), "{bad:?}");
        }
    }
}
