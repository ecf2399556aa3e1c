//! The flags about upstreams, and about the proxies in front of this server.

use crate::config::args::values::choice;
use crate::config::proxy::{Mount, PathRule, ProxyRules, Rewrite, TrustedProxy};
use crate::config::values;
use clap::ValueEnum;
use clap::builder::PossibleValue;
use std::time::Duration;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Proxy")]
pub(super) struct ProxyArgs {
    /// Let other servers answer below a prefix, repeatable
    ///
    /// /api=http://127.0.0.1:8000 passes /api/x on as it is. A path behind the port, even if it is only /, replaces the
    /// prefix: /api=http://127.0.0.1:8000/v1 makes /api/x to /v1/x, /api/ to /v1/ and /api to /v1; with /v1/ at the end of
    /// the URL /api is /v1/, too, and the rest is the same. unix:/run/app.sock is a socket in the file system.
    /// Several upstreams, with commas or by repeating the prefix, share the requests; one that fails is avoided for
    /// five seconds. Each address of a name is an upstream. Names are looked up again every 30 seconds and when an upstream
    /// cannot be reached; while one is not found its addresses from before are used, and without any it is a 502. The rest
    /// of the path passes as it came, and Host too.
    #[arg(long, value_name = "/PREFIX=URL,..", value_delimiter = None)]
    pub(super) proxy: Vec<Mount>,

    /// Which paths reach an upstream
    #[arg(long, value_name = "RULE", value_enum, default_value = "strict")]
    pub(super) proxy_path: PathRule,

    /// Whether an upstream's own places are named as clients find them here
    ///
    /// With on, Location, Content-Location and Refresh lead below the prefix when they are for a path below the one that
    /// replaces it, be it bare, under the request's Host, or under the upstream's own URL. Path of Set-Cookie likewise; all
    /// else comes back as the upstream wrote it. X-Forwarded-Prefix tells the upstream what was taken off the path; what is
    /// below that already is left.
    #[arg(long, value_name = "on|off", value_enum, hide_possible_values = true, default_value = "on")]
    pub(super) proxy_rewrite: Rewrite,

    /// Gather request bodies before an upstream sees them
    ///
    /// In memory, and beyond 1 MiB in a temporary file. Without it they are passed on as they arrive.
    #[arg(long)]
    pub(super) proxy_buffer: bool,

    /// Time to connect to an upstream
    ///
    /// Beyond it the next upstream is tried. If there is none, the request is answered 504. Several addresses of one name
    /// share it.
    // Three retransmissions of a SYN; a server nearby answers in a millisecond.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = values::timeout)]
    pub(super) proxy_connect_timeout: Duration,

    /// How long an upstream, or a tunnel through it, may be silent
    ///
    /// Beyond it the request is answered 504; if the answer has begun already, the connection is closed.
    // The default of nginx and most balancers.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::timeout)]
    pub(super) proxy_timeout: Duration,

    /// Proxy in front of this server, repeatable: an address or a network such as 10.0.0.0/8
    ///
    /// The client's address, in the access log and for Python applications, is then the last in X-Forwarded-For that is
    /// not itself trusted, or the first if all are; the proxy's own, if there is none or something else stands there.
    /// Applications also get the scheme, host, port and prefix of X-Forwarded-Proto, -Host, -Port and -Prefix, each if it is
    /// valid; of several values the last. These fields, Forwarded, X-Real-IP and fields like them reach upstreams, with this
    /// server's own X-Forwarded-* and Forwarded added. From any other address nothing of these fields passes.
    #[arg(long, value_name = "IP|CIDR")]
    pub(super) trusted_proxy: Vec<TrustedProxy>,
}

impl ProxyArgs {
    pub(super) fn rules(&self) -> ProxyRules {
        ProxyRules {
            paths: self.proxy_path,
            rewrite: self.proxy_rewrite,
            buffer: self.proxy_buffer,
            connect_timeout: self.proxy_connect_timeout,
            timeout: self.proxy_timeout,
        }
    }
}

impl ValueEnum for PathRule {
    fn value_variants<'a>() -> &'a [PathRule] {
        &[PathRule::Strict, PathRule::Raw]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        const STRICT: &str = "All but those that some server could read as a .. or as below another prefix, such as \
                              /a/..;/b and /a/..%252fb";
        const RAW: &str = "All without a segment .. as RFC 3986 reads it, for upstreams known to read nothing else";
        Some(match self {
            PathRule::Strict => choice("strict", STRICT),
            PathRule::Raw => choice("raw", RAW),
        })
    }
}

impl ValueEnum for Rewrite {
    fn value_variants<'a>() -> &'a [Rewrite] {
        &[Rewrite::On, Rewrite::Off]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Rewrite::On => "on",
            Rewrite::Off => "off",
        }))
    }
}
