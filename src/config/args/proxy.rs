//! The flags about upstreams, and about the proxies in front of this server.

use crate::config::args::values::choice;
use crate::config::proxy::{Mount, PathRule, ProxyRules, TrustedProxy};
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
    /// prefix: /api=http://127.0.0.1:8000/v1 makes it /v1/x. unix:/run/app.sock is a socket in the file system.
    /// Several upstreams, with commas or by repeating the prefix, share the requests; one that fails is avoided for
    /// five seconds. Names are looked up once, at start. The rest of the path passes as it came, and Host too; Location
    /// and cookies come back as the upstream wrote them.
    #[arg(long, value_name = "/PREFIX=URL,..", value_delimiter = None)]
    pub(super) proxy: Vec<Mount>,

    /// Which paths reach an upstream
    #[arg(long, value_name = "RULE", value_enum, default_value = "strict")]
    pub(super) proxy_path: PathRule,

    /// Gather request bodies before an upstream sees them
    ///
    /// In memory, and beyond 1 MiB in a temporary file. Without it they are passed on as they arrive.
    #[arg(long)]
    pub(super) proxy_buffer: bool,

    /// Time to connect to an upstream
    ///
    /// Beyond it the next upstream is tried. If there is none, the request is answered 504.
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
    /// What it says of the client in X-Forwarded-*, Forwarded, X-Real-IP and fields like them reaches upstreams, which
    /// find this server's own X-Forwarded-* and Forwarded added to it, and Python applications, to which its
    /// X-Forwarded-Proto says whether the client came by https. From any other address nothing of these fields passes.
    #[arg(long, value_name = "IP|CIDR")]
    pub(super) trusted_proxy: Vec<TrustedProxy>,
}

impl ProxyArgs {
    pub(super) fn rules(&self) -> ProxyRules {
        ProxyRules {
            paths: self.proxy_path,
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
