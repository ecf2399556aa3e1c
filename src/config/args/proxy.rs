//! The flags for upstreams, and for the proxies in front of this server.

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
    /// With /api=http://127.0.0.1:8000 the upstream gets /api/x unchanged. If the URL has a path, even only /, that
    /// path replaces the prefix: with /api=http://127.0.0.1:8000/v1, /api/x becomes /v1/x, /api/ becomes /v1/ and /api
    /// becomes /v1. If the URL ends in /v1/, /api becomes /v1/ too. The rest of the path and Host are passed on
    /// unchanged. unix:/run/app.sock is a socket in the file system.
    ///
    /// Several upstreams share the requests. Separate them by commas, or repeat the prefix. An upstream that fails is
    /// avoided for five seconds.
    ///
    /// If the host is a name, each of its addresses is an upstream. The name is looked up again every 30 seconds, and
    /// when an upstream cannot be reached. While it cannot be found, its last addresses are used. Without any, requests
    /// get 502.
    #[arg(long, value_name = "/PREFIX=URL,..", value_delimiter = None)]
    pub(super) proxy: Vec<Mount>,

    /// Which paths are passed to an upstream
    #[arg(long, value_name = "RULE", value_enum, default_value = "strict")]
    pub(super) proxy_path: PathRule,

    /// Whether an upstream's paths in its responses are rewritten to those of this server
    ///
    /// If the path of the URL has replaced the prefix, on puts the prefix back in Location, Content-Location and
    /// Refresh: in a bare path, in a URL with the request's Host, and in one with the upstream's own host. Also in the
    /// Path of Set-Cookie. Nothing else is changed. X-Forwarded-Prefix tells the upstream which prefix was removed.
    /// Paths that begin with the prefix already are left as they are: most upstreams that write them have read
    /// X-Forwarded-Prefix. So if the upstream has a path of its own that begins like the prefix, such as /api/x behind
    /// /api, a redirect to it leads to /x of the upstream.
    #[arg(long, value_name = "on|off", value_enum, hide_possible_values = true, default_value = "on")]
    pub(super) proxy_rewrite: Rewrite,

    /// Receive whole request bodies before an upstream sees them
    ///
    /// Up to 1 MiB is kept in memory, more in a temporary file. Without this flag, bodies are passed on as they arrive.
    #[arg(long)]
    pub(super) proxy_buffer: bool,

    /// Time to connect to an upstream
    ///
    /// After that time the next upstream is tried. If there is none, the request gets 504. All addresses of one name
    /// share this time.
    // Enough for at least two retransmissions of a SYN (after 1 s and 3 s). A server nearby answers in a millisecond.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = values::timeout)]
    pub(super) proxy_connect_timeout: Duration,

    /// How long an upstream, or a tunnel through it, may send nothing
    ///
    /// After that time the request gets 504. If the response has begun already, the connection is closed.
    // The default of nginx and most load balancers.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::timeout)]
    pub(super) proxy_timeout: Duration,

    /// Proxy in front of this server, repeatable: an address or a network such as 10.0.0.0/8
    ///
    /// If a request comes from such a proxy, the client's address (in the access log and for Python applications) is
    /// the last one in X-Forwarded-For that is not a trusted proxy, or the first if all are. If that field is missing
    /// or invalid, it is the proxy's own address.
    ///
    /// Applications also get the scheme, host, port and prefix from X-Forwarded-Proto, -Host, -Port and -Prefix, each
    /// if it is valid. Of several values the last is used. Upstreams get these fields, Forwarded, X-Real-IP and similar
    /// ones, and this server's own X-Forwarded-* and Forwarded are added. For X-Forwarded-Prefix, they too get only the
    /// last value, only if it is a valid path, and joined with the prefix that this server removes. From any other
    /// address, none of these fields is passed on.
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
        const STRICT: &str = "All except those that some servers would read as containing .. or as below another prefix, such \
                              as /a/..;/b and /a/..%252fb";
        const RAW: &str =
            "All without a .. segment as defined by RFC 3986. Only for upstreams that read paths in no other way";
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
