//! The values of `--bind`. The module `listener` looks names up, once, at start.

use crate::units;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Addresses to listen on, with or without their own port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// As the user wrote it.
    pub text: String,
    pub place: Place,
    /// `None`: the port of `--port`. With 0 the system picks a free port.
    pub port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An address, with its zone if it has one. The port in it is always 0.
    Address(SocketAddr),
    /// `*`: every address of the machine, IPv4 and IPv6.
    Every,
    /// A host name, or an IPv6 address with the name of an interface: all addresses that the system finds for it.
    Name(String),
}

const USAGE: &str = "not an address to listen on; write an IP address or a name, with or without a port: 127.0.0.1, \
                     0.0.0.0:8080, [::1]:8080, localhost, * for all (a port alone goes to --port)";

const NO_ZONE: &str =
    "only a link-local address (fe80::..) is written with an interface; leave out the % and what follows";

impl FromStr for Bind {
    type Err = &'static str;

    /// Takes `127.0.0.1`, `127.0.0.1:80`, `::1`, `[::1]`, `[::1]:80`, a zone as in `fe80::1%2`, `fe80::1%eth0` and
    /// `[fe80::1%25eth0]` (RFC 6874), `localhost`, `localhost:80`, `*` and `*:80`.
    fn from_str(text: &str) -> Result<Bind, &'static str> {
        // `IpAddr` parses neither brackets nor a zone. `SocketAddr` parses both, with a port.
        let whole = [format!("{text}:0"), format!("[{text}]:0")].iter().find_map(|lent| lent.parse().ok());
        if let Some(address) = whole {
            let place = Place::Address(canonical(address));
            return Ok(Bind { text: text.to_owned(), place, port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            // If a port follows, an IPv6 address is in brackets.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                let port = units::number(port).ok().and_then(|port| u16::try_from(port).ok());
                (host, Some(port.ok_or("the port is a number from 0 to 65535")?))
            }
            _ => (text, None),
        };
        let place = match host {
            "*" => Place::Every,
            _ => match format!("{host}:0").parse() {
                Ok(address) => Place::Address(canonical(address)),
                Err(_) => Place::Name(name(host)?),
            },
        };
        Ok(Bind { text: text.to_owned(), place, port })
    }
}

/// `::ffff:127.0.0.1` means the IPv4 address: a socket that is only for IPv6 cannot be bound to it.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    }
}

/// A name that can be looked up, without its brackets.
fn name(host: &str) -> Result<String, &'static str> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if let Some((address, zone)) = bare.unwrap_or(host).split_once('%') {
        // In URLs the percent sign is written %25. A zone of digits is a number, and has been parsed before.
        let zone = zone.strip_prefix("25").filter(|zone| !zone.is_empty()).unwrap_or(zone);
        let is_interface = !zone.is_empty() && zone.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
        let address: Ipv6Addr = address.parse().ok().filter(|_| is_interface).ok_or(USAGE)?;
        // The resolver refuses others.
        let is_local = address.is_unicast_link_local() || address.is_multicast();
        return if is_local { Ok(format!("{address}%{zone}")) } else { Err(NO_ZONE) };
    }
    let is_label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        matches!(label.len(), 1..=63) && label.bytes().all(plain) && !label.starts_with('-') && !label.ends_with('-')
    };
    let mut labels = host.strip_suffix('.').unwrap_or(host).split('.');
    // The resolver takes 127.1, 0x7f.1 and 8080 as IPv4 addresses, which are hardly the ones that the user means.
    let last = labels.clone().next_back().unwrap_or_default();
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X");
    (host.len() <= 253 && labels.all(is_label) && !is_number).then(|| host.to_owned()).ok_or(USAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_in_every_spelling() {
        for (text, address, port) in [
            ("127.0.0.1", "127.0.0.1:0", None),
            ("127.0.0.1:80", "127.0.0.1:0", Some(80)),
            ("127.0.0.1:0", "127.0.0.1:0", Some(0)),
            ("0.0.0.0", "0.0.0.0:0", None),
            ("::", "[::]:0", None),
            ("::1", "[::1]:0", None),
            ("[::1]", "[::1]:0", None),
            ("[::1]:80", "[::1]:0", Some(80)),
            ("fe80::1%2", "[fe80::1%2]:0", None),
            ("[fe80::1%2]:80", "[fe80::1%2]:0", Some(80)),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:0", Some(80)),
            ("::ffff:7f00:1", "127.0.0.1:0", None),
            ("::ffff:0.0.0.0", "0.0.0.0:0", None),
            // Not an IPv4-mapped address.
            ("::127.0.0.1", "[::127.0.0.1]:0", None),
        ] {
            let place = Place::Address(address.parse().unwrap());
            assert_eq!(text.parse(), Ok(Bind { text: text.into(), place, port }), "{text}");
        }
        for (text, port) in [("*", None), ("*:8080", Some(8080)), ("*:0", Some(0))] {
            assert_eq!(text.parse(), Ok(Bind { text: text.into(), place: Place::Every, port }), "{text}");
        }
        for (text, name, port) in [
            ("localhost", "localhost", None),
            ("localhost:0", "localhost", Some(0)),
            ("my-host_1.example.", "my-host_1.example.", None),
            ("1.example:80", "1.example", Some(80)),
            ("fe80::1%eth0", "fe80::1%eth0", None),
            ("[fe80::1%eth0]:80", "fe80::1%eth0", Some(80)),
            ("[fe80::1%25eth0]:80", "fe80::1%eth0", Some(80)),
            ("[fe80::1%2525eth]", "fe80::1%25eth", None),
        ] {
            assert_eq!(text.parse(), Ok(Bind { text: text.into(), place: Place::Name(name.into()), port }), "{text}");
        }
    }

    #[test]
    fn what_is_neither_an_address_nor_a_name_is_refused() {
        for text in [
            "",
            ":",
            ":80",
            "8080",
            "127.1",
            "1.2.3",
            "1.2.3.4.5",
            "0x7f.1",
            "0x7f000001",
            "256.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:65536",
            "127.0.0.1:+80",
            "[127.0.0.1]:80",
            "[localhost]",
            "[::1]80",
            "::1:80:90:1:1:1:1:1:1",
            "[::1",
            "*.example",
            "**",
            "a b",
            "a..b",
            ".a",
            "-a",
            "a-",
            "http://localhost",
            "localhost/",
            "localhost:http",
            "b\u{fc}cher",
            "fe80::1%",
            "%eth0",
            "a%eth0",
            "[::1%lo]:0",
            "2001:db8::1%25eth0",
            "127.0.0.1,::1",
        ] {
            assert!(text.parse::<Bind>().is_err(), "{text:?}");
        }
        let long = "a".repeat(64);
        assert!(long.parse::<Bind>().is_err());
        assert!([long[..60].to_owned() + ".", "a.".repeat(120)].concat().parse::<Bind>().is_err());
    }
}
