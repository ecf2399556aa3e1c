//! The flags about all responses.

use crate::config::args::values::error_page;
use crate::config::responses::{AllowedOrigin, ErrorPage, HeaderField, ResponseRules};
use std::ffi::{OsStr, OsString};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What every response says")]
pub(super) struct ResponseArgs {
    /// Field that every response carries, repeatable
    ///
    /// As in --header 'X-Frame-Options: DENY'. Errors and 304 carry it too, and responses of upstreams and
    /// applications: it replaces their own field of that name. Set-Cookie and Link are added instead, since they may be
    /// repeated.
    #[arg(long, value_name = "NAME: VALUE")]
    pub(super) header: Vec<HeaderField>,

    /// Let scripts of other sites read responses [default of ORIGIN: *, any site]
    ///
    /// Sends Access-Control-Allow-Origin with every response and answers the preflights of browsers, those to upstreams
    /// and applications too.
    // With the equals sign only, since `--cors public/` would take the ROOT. `join_origin` joins the two words if the
    // second is an origin.
    #[arg(long, value_name = "ORIGIN", num_args = 0..=1, require_equals = true, default_missing_value = "*")]
    pub(super) cors: Option<AllowedOrigin>,

    /// HTML page of an error status, repeatable
    ///
    /// As in --error-page 404=404.html: a path from the current directory, or else from ROOT, read once at start.
    /// Clients that ask for JSON or plain text still get that.
    #[arg(long, value_name = "CODE=FILE", value_parser = error_page())]
    pub(super) error_page: Vec<ErrorPage>,
}

impl ResponseArgs {
    pub(super) fn rules(self) -> ResponseRules {
        ResponseRules { headers: self.header, cors: self.cors, error_pages: self.error_page }
    }
}

/// The words of a command line, with `--cors` and a following origin joined. In `--cors public/` no origin follows:
/// `public/` is the ROOT.
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
