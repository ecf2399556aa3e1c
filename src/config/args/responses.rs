//! The flags for all responses.

use crate::config::args::values::error_page;
use crate::config::responses::{AllowedOrigin, ErrorPage, HeaderField, ResponseRules};
use std::ffi::{OsStr, OsString};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "All responses")]
pub(super) struct ResponseArgs {
    /// Field to add to every response, repeatable
    ///
    /// As in --header 'X-Frame-Options: DENY'. Errors and 304 get it too, and so do responses of upstreams and
    /// applications: it replaces their own field of that name. But Set-Cookie and Link are added, since they may be
    /// repeated.
    #[arg(long, value_name = "NAME: VALUE")]
    pub(super) header: Vec<HeaderField>,

    /// Let scripts of other sites read responses [ORIGIN is * if left out: any site]
    ///
    /// Sends Access-Control-Allow-Origin with every response, and answers the preflight requests of browsers, even for
    /// upstreams and applications.
    // clap accepts the value only after an equals sign: in `--cors public/` it would take the ROOT as the value. If the
    // next word is an origin, `join_origin` joins the two.
    #[arg(long, value_name = "ORIGIN", num_args = 0..=1, require_equals = true, default_missing_value = "*")]
    pub(super) cors: Option<AllowedOrigin>,

    /// HTML page for an error status, repeatable
    ///
    /// As in --error-page 404=404.html. The file is looked for in the current directory, then in ROOT, and read once,
    /// at start. Clients that ask for JSON or plain text get that instead.
    #[arg(long, value_name = "CODE=FILE", value_parser = error_page())]
    pub(super) error_page: Vec<ErrorPage>,
}

impl ResponseArgs {
    pub(super) fn rules(self) -> ResponseRules {
        ResponseRules { headers: self.header, cors: self.cors, error_pages: self.error_page }
    }
}

/// Joins `--cors` and the next word if that is an origin. In `--cors public/` it is not: `public/` is the ROOT.
pub(super) fn join_origin(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words = words.peekable();
    let mut joined = Vec::new();
    while let Some(word) = words.next() {
        let is_origin = |next: &OsString| next.to_str().is_some_and(|text| text.parse::<AllowedOrigin>().is_ok());
        match (word == "--cors", words.next_if(|next| word == "--cors" && is_origin(next))) {
            (true, Some(origin)) => joined.push([word, origin].join(OsStr::new("="))),
            _ => joined.push(word),
        }
    }
    joined
}
