//! Which clients are trusted proxies: their fields about the client behind them are believed.

use crate::config::proxy::{TrustedProxy, is_trusted};
use crate::http::request::Request;

/// The proxies whose fields about the client are believed.
#[derive(Debug)]
pub struct Clients {
    trusted: Vec<TrustedProxy>,
}

impl Clients {
    pub fn new(trusted: &[TrustedProxy]) -> Clients {
        Clients { trusted: trusted.to_vec() }
    }

    /// Whether the client of a request is a trusted proxy.
    pub fn trusts(&self, request: &Request) -> bool {
        is_trusted(&self.trusted, request.peer)
    }

    /// The server speaks no TLS itself: only a proxy in front of it knows that the client came by https.
    pub fn scheme(&self, request: &Request) -> &'static str {
        let is_https = |(name, value): (&[u8], &[u8])| {
            name.eq_ignore_ascii_case(b"x-forwarded-proto") && value.eq_ignore_ascii_case(b"https")
        };
        if self.trusts(request) && request.fields().any(is_https) { "https" } else { "http" }
    }
}
