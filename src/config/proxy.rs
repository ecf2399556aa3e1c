//! Settings for upstreams: their prefixes, and how requests are passed to them. Also the proxies in front of this
//! server that are trusted.

use crate::units;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// How requests are passed to upstreams. A route may have its own rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyRules {
    pub paths: PathRule,
    /// Whether an upstream's paths in its responses are rewritten to those of this server.
    pub rewrite: Rewrite,
    /// Whether the whole content of a request is received before the request is passed on.
    pub buffer: bool,
    /// The time to connect to an upstream. All addresses of one name share this time.
    pub connect_timeout: Duration,
    /// How long an upstream, or a tunnel through it, may be silent.
    pub timeout: Duration,
}

/// Which paths are passed to an upstream. The prefix is matched against the normalised path. A path with a `..` segment
/// is never passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathRule {
    /// All except those that some servers would read as containing `..` or as below another prefix.
    #[default]
    Strict,
    /// All without a `..` segment as defined by RFC 3986.
    Raw,
}

/// Whether fields of a response that hold a path of the upstream are rewritten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rewrite {
    #[default]
    On,
    Off,
}

/// Each prefix with all its upstreams, in the order in which they were given.
pub fn by_prefix(mounts: &[Mount]) -> Vec<Mount> {
    let mut joined: Vec<Mount> = Vec::new();
    for mount in mounts {
        match joined.iter_mut().find(|other| other.prefix == mount.prefix) {
            Some(other) => other.origins.extend(mount.origins.iter().cloned()),
            None => joined.push(mount.clone()),
        }
    }
    joined
}

/// A prefix and its upstreams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub prefix: String,
    /// At least one.
    pub origins: Vec<UpstreamUrl>,
}

/// An upstream as the user wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamUrl {
    pub text: String,
    pub place: UpstreamPlace,
    /// The path that replaces the prefix. `None`: the path of the request stays as it is.
    pub path: Option<String>,
}

impl UpstreamUrl {
    /// The host and port of the upstream's URL. An IPv6 address is in brackets.
    pub fn authority(&self) -> Option<String> {
        match &self.place {
            UpstreamPlace::Unix(_) => None,
            UpstreamPlace::Tcp(host, port) if host.contains(':') => Some(format!("[{host}]:{port}")),
            UpstreamPlace::Tcp(host, port) => Some(format!("{host}:{port}")),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamPlace {
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

impl FromStr for UpstreamUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<UpstreamUrl, String> {
        let origin = |place, path| UpstreamUrl { text: text.to_owned(), place, path };
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.starts_with('/') {
                true => Ok(origin(UpstreamPlace::Unix(path.into()), None)),
                false => Err("a socket in the file system is written unix:/path".into()),
            };
        }
        if text.starts_with("https://") {
            return Err("TLS to upstreams is not supported; write http://host:port".into());
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
        Ok(origin(UpstreamPlace::Tcp(bare.to_owned(), port), path.map(str::to_owned)))
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
        let tcp = |host: &str, port| UpstreamPlace::Tcp(host.into(), port);
        let expected = [
            (tcp("localhost", 8000), None),
            (tcp("::1", 81), Some("/v1")),
            (UpstreamPlace::Unix("/run/a.sock".into()), None),
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
