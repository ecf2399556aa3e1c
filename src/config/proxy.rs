//! The flags about upstreams.

use crate::config::values;
use crate::units;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Which prefixes other servers answer, and how.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Proxy")]
pub struct ProxyRules {
    /// Let other servers answer below a prefix, repeatable
    ///
    /// /api=http://127.0.0.1:8000 passes /api/x on as it is. A path behind the port, even if it is only /, replaces the
    /// prefix: /api=http://127.0.0.1:8000/v1 makes /api/x to /v1/x, /api/ to /v1/ and /api to /v1; with /v1/ at the end of
    /// the URL /api is /v1/, too, and the rest is the same. unix:/run/app.sock is a socket in the file system.
    /// Several upstreams, with commas or by repeating the prefix, share the requests; one that fails is avoided for
    /// five seconds. Each address of a name is an upstream. Names are looked up again every 30 seconds and when an upstream
    /// cannot be reached; while one is not found its addresses from before are used, and without any it is a 502. The rest
    /// of the path passes as it came, and Host too.
    #[arg(long = "proxy", value_name = "/PREFIX=URL,..", value_delimiter = None)]
    pub proxy: Vec<Mount>,

    /// Which paths reach an upstream
    #[arg(long = "proxy-path", value_name = "RULE", value_enum, default_value = "strict", requires = "proxy")]
    pub paths: PathRule,

    /// Whether an upstream's own places are named as clients find them here
    ///
    /// With on, Location, Content-Location and Refresh lead below the prefix when they are for a path below the one that
    /// replaces it, be it bare, under the request's Host, or under the upstream's own URL. Path of Set-Cookie likewise; all
    /// else comes back as the upstream wrote it. X-Forwarded-Prefix tells the upstream what was taken off the path; what is
    /// below that already is left.
    #[arg(
        long = "proxy-rewrite",
        value_name = "on|off",
        value_enum,
        hide_possible_values = true,
        default_value = "on",
        requires = "proxy"
    )]
    pub rewrite: Rewrite,

    /// Gather request bodies before an upstream sees them
    ///
    /// In memory, and beyond 1 MiB in a temporary file. Without it they are passed on as they arrive.
    #[arg(long = "proxy-buffer", requires = "proxy")]
    pub buffer: bool,

    /// Time to connect to an upstream
    ///
    /// Beyond it the next upstream is tried. If there is none, the request is answered 504. Several addresses of one name
    /// share it.
    // Three retransmissions of a SYN; a server nearby answers in a millisecond.
    #[arg(long = "proxy-connect-timeout", value_name = "TIME", default_value = "5s", requires = "proxy",
          value_parser = values::timeout)]
    pub connect_timeout: Duration,

    /// How long an upstream, or a tunnel through it, may be silent
    ///
    /// Beyond it the request is answered 504; if the answer has begun already, the connection is closed.
    // The default of nginx and most balancers.
    #[arg(long = "proxy-timeout", value_name = "TIME", default_value = "60s", requires = "proxy",
          value_parser = values::timeout)]
    pub timeout: Duration,

    /// Proxy in front of this server, repeatable: an address or a network such as 10.0.0.0/8
    ///
    /// The client's address, in the access log and for Python applications, is then the last in X-Forwarded-For that is
    /// not itself trusted, or the first if all are; the proxy's own, if there is none or something else stands there.
    /// Applications also get the scheme, host, port and prefix of X-Forwarded-Proto, -Host, -Port and -Prefix, each if it is
    /// valid; of several values the last. These fields, Forwarded, X-Real-IP and fields like them reach upstreams, with this
    /// server's own X-Forwarded-* and Forwarded added. From any other address nothing of these fields passes.
    #[arg(long = "trusted-proxy", value_name = "IP|CIDR")]
    pub trusted: Vec<TrustedProxy>,
}

/// Which paths reach an upstream. The prefix is found on the normalised path; a path with a segment `..` never passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum PathRule {
    /// All but those that some server could read as a .. or as below another prefix, such as /a/..;/b and /a/..%252fb
    #[default]
    Strict,
    /// All without a segment .. as RFC 3986 reads it, for upstreams known to read nothing else
    Raw,
}

/// Whether fields in which an upstream names its own places are rewritten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Rewrite {
    #[default]
    On,
    Off,
}

impl ProxyRules {
    /// Each prefix with all its upstreams, in the order in which they were named.
    pub fn mounts(&self) -> Vec<(String, Vec<Origin>)> {
        let mut mounts: Vec<(String, Vec<Origin>)> = Vec::new();
        for mount in &self.proxy {
            match mounts.iter_mut().find(|(prefix, _)| *prefix == mount.prefix) {
                Some((_, origins)) => origins.extend(mount.origins.iter().cloned()),
                None => mounts.push((mount.prefix.clone(), mount.origins.clone())),
            }
        }
        mounts
    }

    /// A prefix whose upstreams have different paths to replace it.
    pub fn disagreement(&self) -> Option<String> {
        let differs = |origins: &Vec<Origin>| origins.iter().any(|origin| origin.path != origins[0].path);
        self.mounts().into_iter().find(|(_, origins)| differs(origins)).map(|(prefix, _)| prefix)
    }

    /// Whether upstreams answer every path, so that no site is served.
    pub fn takes_all(&self) -> bool {
        self.proxy.iter().any(|mount| mount.prefix == "/")
    }
}

/// A prefix and upstreams behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub prefix: String,
    /// At least one.
    pub origins: Vec<Origin>,
}

/// An upstream as the user wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub text: String,
    pub place: Place,
    /// What replaces the prefix.
    pub path: Option<String>,
}

impl Origin {
    /// The host of its URL, in brackets if it is an IPv6 address, and its port.
    pub fn authority(&self) -> Option<String> {
        match &self.place {
            Place::Unix(_) => None,
            Place::Tcp(host, port) if host.contains(':') => Some(format!("[{host}]:{port}")),
            Place::Tcp(host, port) => Some(format!("{host}:{port}")),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A name or an address, and a port.
    Tcp(String, u16),
    Unix(PathBuf),
}

impl FromStr for Mount {
    type Err = String;

    fn from_str(text: &str) -> Result<Mount, String> {
        let usage = "write /prefix=http://host:port or /prefix=unix:/path";
        let (prefix, origins) = text.split_once('=').ok_or(usage)?;
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#%\\\"".contains(&byte);
        if !prefix.starts_with('/') || !prefix.bytes().all(plain) || prefix.contains("//") || climbs(prefix) {
            return Err(format!("the prefix must be a plain path such as /api; {usage}"));
        }
        let origins = origins.split(',').map(|origin| origin.trim().parse()).collect::<Result<_, _>>()?;
        Ok(Mount { prefix: prefix.to_owned(), origins })
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Origin, String> {
        let origin = |place, path| Origin { text: text.to_owned(), place, path };
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.starts_with('/') {
                true => Ok(origin(Place::Unix(path.into()), None)),
                false => Err("a socket in the file system is written unix:/path".into()),
            };
        }
        if text.starts_with("https://") {
            return Err("upstreams are spoken to without TLS; write http://host:port".into());
        }
        let rest = text.strip_prefix("http://").ok_or("an upstream is written http://host:port or unix:/path")?;
        let (authority, path) = match rest.find('/') {
            Some(at) => (&rest[..at], Some(&rest[at..])),
            None => (rest, None),
        };
        let graphic = |path: &&str| path.bytes().all(|byte| byte.is_ascii_graphic()) && !path.contains(['?', '#']);
        if path.is_some_and(|path| !graphic(&path) || climbs(path)) {
            return Err("the path of an upstream is a plain one, without query and fragment".into());
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                let port = units::number(port).ok().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
                (host, port.ok_or("the port of an upstream is a number from 1 to 65535")?)
            }
            _ => (authority, 80),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let named = bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        if bare.is_empty() || !(named || bare.parse::<IpAddr>().is_ok()) {
            return Err("the host of an upstream is a name or an address, IPv6 in brackets".into());
        }
        Ok(origin(Place::Tcp(bare.to_owned(), port), path.map(str::to_owned)))
    }
}

fn climbs(path: &str) -> bool {
    path.split('/').any(|segment| matches!(segment, "." | ".."))
}

/// A proxy whose X-Forwarded-* fields are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustedProxy {
    network: IpAddr,
    /// The length of the network's prefix in bits.
    prefix: u8,
}

/// Whether a peer is a trusted proxy.
pub fn is_trusted(trusted: &[TrustedProxy], peer: IpAddr) -> bool {
    trusted.iter().any(|trusted| trusted.holds(peer))
}

impl TrustedProxy {
    pub fn holds(&self, peer: IpAddr) -> bool {
        match (self.network, peer.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(peer)) => {
                let shift = 32 - u32::from(self.prefix);
                network.to_bits().checked_shr(shift) == peer.to_bits().checked_shr(shift)
            }
            (IpAddr::V6(network), IpAddr::V6(peer)) => {
                let shift = 128 - u32::from(self.prefix);
                network.to_bits().checked_shr(shift) == peer.to_bits().checked_shr(shift)
            }
            _ => false,
        }
    }
}

impl FromStr for TrustedProxy {
    type Err = String;

    fn from_str(text: &str) -> Result<TrustedProxy, String> {
        let usage = "write an address such as 10.0.0.1 or a network such as 10.0.0.0/8";
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let network: IpAddr = address.parse().map_err(|_| usage)?;
        let most = if network.is_ipv4() { 32 } else { 128 };
        let prefix = match bits {
            None => most,
            Some(bits) => units::number(bits).ok().filter(|bits| *bits <= most).ok_or(usage)?,
        };
        Ok(TrustedProxy { network, prefix: prefix as u8 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read() {
        let mount: Mount = "/api=http://localhost:8000,http://[::1]:81/v1,unix:/run/a.sock,http://h".parse().unwrap();
        assert_eq!(mount.prefix, "/api");
        let places: Vec<_> =
            mount.origins.iter().map(|origin| (origin.place.clone(), origin.path.as_deref())).collect();
        let tcp = |host: &str, port| Place::Tcp(host.into(), port);
        let expected = [
            (tcp("localhost", 8000), None),
            (tcp("::1", 81), Some("/v1")),
            (Place::Unix("/run/a.sock".into()), None),
            (tcp("h", 80), None),
        ];
        assert_eq!(places, expected);
        for bad in [
            "http://a",
            "api=http://a",
            "/a",
            "/a=",
            "/a=a:80",
            "/a=https://a",
            "/a=http://",
            "/a=http://a:0",
            "/a=http://a:+1",
            "/a=http://a:65536",
            "/a=http://a/?x",
            "/a=http://a/../b",
            "/a=unix:x",
            "/a/../b=http://a",
            "/a%2e=http://a",
            "/a=http://a b",
            "/a=http://u@a",
            "/a=http://a,",
        ] {
            assert!(bad.parse::<Mount>().is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_hold_their_addresses() {
        for (network, peer, expected) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "::1", false),
            ("127.0.0.1", "::ffff:127.0.0.1", true),
            ("fe80::/10", "febf::1", true),
            ("::/0", "::1", true),
        ] {
            let trusted: TrustedProxy = network.parse().unwrap();
            assert_eq!(trusted.holds(peer.parse().unwrap()), expected, "{network} {peer}");
        }
        for bad in ["", "x", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/", "::/129"] {
            assert!(bad.parse::<TrustedProxy>().is_err(), "{bad}");
        }
    }
}
