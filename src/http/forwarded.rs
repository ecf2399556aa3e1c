//! Fields in which a proxy says who the client is, how it connected, and what it requested: `Forwarded` (RFC 7239) and
//! its many older relatives. Frameworks believe them, so only a trusted proxy may send them: from any other address
//! they reach neither an upstream nor an application.
//!
//! Names are compared as a gateway does that makes variables of them (CGI, RFC 3875, section 4.1.18): there `X_Real_IP`
//! is the same name as `X-Real-IP`. Values are read from the names with hyphens only: an untrusted client may have sent
//! `X_Forwarded_For` through a proxy that does not know this spelling.
//!
//! Proxies add to these lists at the right end, so they are read from there: an element counts if the proxy that added
//! it, whose address is the element to its right, is trusted. Of host, port, scheme and prefix the last element counts:
//! the proxy next to this server wrote it. An invalid value counts as absent. `Forwarded` is passed on and never read:
//! a client's own `Forwarded` could pass through a proxy that writes only the older fields.
//!
//! ```
//! use dustdevil::http::forwarded;
//! assert!(forwarded::speaks_for_a_client(b"X-Forwarded-Port") && forwarded::speaks_for_a_client(b"x_real_ip"));
//! assert!(!forwarded::speaks_for_a_client(b"X-Forward") && !forwarded::speaks_for_a_client(b"User-Agent"));
//! assert_eq!(forwarded::address(b"[2001:db8::1]:443"), "2001:db8::1".parse().ok());
//! ```

use crate::http::chars::trim_ows;
use crate::http::escape;
use crate::http::head::Head;
use crate::http::number;
use crate::http::target::is_host_and_port;
use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

/// Prefixes of such names. Every proxy adds its own names to these families: X-Forwarded-Prefix, X-Original-Host.
const FAMILIES: [&str; 4] = ["x-forwarded", "forwarded", "x-real-", "x-original-"];
/// Names that belong to no family.
const NAMES: [&str; 28] = [
    // The scheme (Microsoft's ISA, TMG and ARR, WebObjects, CloudFront, common nginx configurations).
    "front-end-https",
    "x-front-end-https",
    "x-https",
    "https",
    "x-arr-ssl",
    "cloudfront-forwarded-proto",
    "x-scheme",
    "x-url-scheme",
    // The target and its prefix (IIS, Symfony; Flask behind a prefix).
    "x-rewrite-url",
    "x-script-name",
    "script-name",
    "path-info",
    "x-host",
    // The client's address (Rails, django-ipware; Akamai, Cloudflare, Fastly, Rackspace, Azure).
    "client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "fastly-client-ip",
    "x-azure-clientip",
    "proxy-client-ip",
    "wl-proxy-client-ip",
    "wl-proxy-ssl",
    "x-remote-ip",
    "x-remote-addr",
    "fly-client-ip",
    "x-envoy-external-address",
];

/// Whether a field says which client a request is for, or what the client's original request was.
pub fn speaks_for_a_client(name: &[u8]) -> bool {
    FAMILIES.iter().any(|start| begins_with(name, start)) || is_one_of(&NAMES, name)
}

/// Whether `name` is one of `names` (in lower case), or would become the same variable as one of them.
pub fn is_one_of(names: &[&str], name: &[u8]) -> bool {
    names.iter().any(|one| one.len() == name.len() && begins_with(name, one))
}

/// Compares as names of variables. A byte that is neither letter nor digit becomes `_` there: some gateways convert
/// only the hyphen, PHP the dot too, older versions of Apache every such byte.
fn begins_with(name: &[u8], start: &str) -> bool {
    let same = |(byte, other): (&u8, u8)| match other {
        b'-' => !byte.is_ascii_alphanumeric(),
        other => byte.eq_ignore_ascii_case(&other),
    };
    name.len() >= start.len() && name.iter().zip(start.bytes()).all(same)
}

// ---- what they say

/// The elements of a list over all its field lines, the last first.
pub fn from_right<'a>(head: &'a Head, bytes: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let lines = head.fields.iter().rev().filter(|field| field.name.of(bytes).eq_ignore_ascii_case(name.as_bytes()));
    let all = lines.flat_map(move |field| field.value.of(bytes).rsplit(|&byte| byte == b','));
    all.map(trim_ows).filter(|element| !element.is_empty())
}

/// The address in an element of X-Forwarded-For. Some proxies add a port, and some write an IPv6 address in brackets or
/// with its zone: these are dropped. `None` for `unknown`, `_hidden` and anything else.
pub fn address(element: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(element).ok()?;
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return if is_port { ipv6(address) } else { None };
    }
    match text.split_once(':') {
        None => text.parse().ok().map(IpAddr::V4),
        Some((address, port)) if !port.contains(':') => {
            Some(IpAddr::V4(address.parse().ok().filter(|_| is_port(port))?))
        }
        Some(_) => ipv6(text),
    }
}

fn ipv6(text: &str) -> Option<IpAddr> {
    let is_zone_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte);
    let address = match text.split_once('%') {
        Some((address, zone)) if !zone.is_empty() && zone.bytes().all(is_zone_byte) => address,
        Some(_) => return None,
        None => text,
    };
    let address: Ipv6Addr = address.parse().ok()?;
    Some(IpAddr::V6(address).to_canonical())
}

fn is_port(text: &str) -> bool {
    port(text.as_bytes()).is_some()
}

fn port(text: &[u8]) -> Option<u16> {
    let port = number::parse(text).filter(|_| text.len() <= 5)?;
    u16::try_from(port).ok().filter(|port| *port > 0)
}

/// The client's original request, as a trusted proxy describes it. `None`: the field is absent or invalid.
#[derive(Debug, Default)]
pub struct Told<'a> {
    /// `http` or `https`.
    pub scheme: Option<&'static str>,
    /// A host, and maybe a port.
    pub host: Option<&'a [u8]>,
    pub port: Option<u16>,
    /// The prefix that a proxy has removed from the path: decoded, begins with a slash, does not end in one.
    pub prefix: Option<Cow<'a, [u8]>>,
}

impl<'a> Told<'a> {
    /// Reads X-Forwarded-Proto, -Host, -Port and -Prefix.
    pub fn of(head: &'a Head, bytes: &'a [u8]) -> Told<'a> {
        let last = |name| from_right(head, bytes, name).next();
        Told {
            scheme: last("x-forwarded-proto").and_then(scheme),
            host: last("x-forwarded-host").filter(|host| is_host_and_port(host)),
            port: last("x-forwarded-port").and_then(port),
            prefix: prefix(head, bytes).and_then(decoded_prefix),
        }
    }
}

/// The last element of X-Forwarded-Prefix as it was sent, without a final slash. `None`: it is absent or invalid.
pub fn prefix<'a>(head: &'a Head, bytes: &'a [u8]) -> Option<&'a [u8]> {
    let value = from_right(head, bytes, "x-forwarded-prefix").next()?;
    let value = value.strip_suffix(b"/").unwrap_or(value);
    decoded_prefix(value).map(|_| value)
}

/// `ws` and `wss` count as the schemes that the connection began with.
fn scheme(value: &[u8]) -> Option<&'static str> {
    let is = |name: &str| value.eq_ignore_ascii_case(name.as_bytes());
    if is("https") || is("wss") {
        return Some("https");
    }
    (is("http") || is("ws")).then_some("http")
}

/// Applications put the prefix in front of links: so it must not name another host, climb, or end a line.
fn decoded_prefix(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let is_path = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=:@%/".contains(byte);
    if !value.starts_with(b"/") || !value.iter().all(is_path) {
        return None;
    }
    let path = escape::decode(value).ok()?;
    let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.iter().any(u8::is_ascii_control);
    path[1..].split(|&byte| byte == b'/' || byte == b'\\').all(is_name).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::HeadLimits;

    fn told<T>(fields: &str, test: impl Fn(&Head, &[u8]) -> T) -> T {
        let (text, mut head) = (format!("GET / HTTP/1.1\r\n{fields}\r\n"), Head::default());
        let limits = HeadLimits { size: 4096, target: 1024, fields: 32 };
        assert!(head.parse(text.as_bytes(), &limits, &mut 0).unwrap());
        test(&head, text.as_bytes())
    }

    #[test]
    fn addresses_have_many_spellings() {
        for (element, expected) in [
            ("1.2.3.4", "1.2.3.4"),
            ("1.2.3.4:5678", "1.2.3.4"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:DB8::1]:80", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1"),
            ("[fe80::1%25eth0]:80", "fe80::1"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
            ("::1", "::1"),
        ] {
            assert_eq!(address(element.as_bytes()), expected.parse().ok(), "{element}");
        }
        for element in [
            "",
            "unknown",
            "_hidden",
            "a.example",
            "1.2.3",
            "1.2.3.4.5",
            "01.2.3.4",
            "1.2.3.256",
            "1.2.3.4:",
            "1.2.3.4:0",
            "1.2.3.4:x",
            "1.2.3.4:65536",
            "1.2.3.4:+1",
            "1.2.3.4%eth0",
            "[1.2.3.4]",
            "[::1",
            "::1]",
            "[::1]x",
            "[::1]:",
            "[::1]:x",
            "fe80::1%",
            "fe80::1%a b",
            "1:2:3",
            "\"1.2.3.4\"",
            "for=1.2.3.4",
            "1.2.3.4 5.6.7.8",
            "1.2.3.4\u{e9}",
        ] {
            assert_eq!(address(element.as_bytes()), None, "{element}");
        }
    }

    #[test]
    fn several_lines_are_one_list_that_is_read_from_its_end() {
        let fields = "X-Forwarded-For: a,, b\r\nX_Forwarded_For: z\r\nx-forwarded-for: \r\nX-FORWARDED-FOR:c ,\td\r\n";
        let list = told(fields, |head, bytes| {
            let list: Vec<_> = from_right(head, bytes, "x-forwarded-for").map(<[u8]>::to_vec).collect();
            String::from_utf8(list.join(&b' ')).unwrap()
        });
        assert_eq!(list, "d c b a");
    }

    #[test]
    fn what_is_not_valid_is_not_told() {
        let all = |value: &str| {
            let names = ["Proto", "Host", "Port", "Prefix"];
            told(&names.map(|name| format!("X-Forwarded-{name}: {value}\r\n")).concat(), |head, bytes| {
                let Told { scheme, host, port, prefix } = Told::of(head, bytes);
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                (scheme.map(str::to_owned), host.map(text), port, prefix.map(|prefix| text(&prefix)))
            })
        };
        let is = |text: &str| Some(text.to_owned());
        for (value, scheme, host, port, prefix) in [
            ("", None, None, None, None),
            ("HTTPS", is("https"), is("HTTPS"), None, None),
            ("https, http", is("http"), is("http"), None, None),
            ("wss", is("https"), is("wss"), None, None),
            ("h.example:8443", None, is("h.example:8443"), None, None),
            ("[fe80::1%25eth0]:80", None, is("[fe80::1%25eth0]:80"), None, None),
            ("8443", None, is("8443"), Some(8443), None),
            ("0", None, is("0"), None, None),
            ("65536", None, is("65536"), None, None),
            ("h:x", None, None, None, None),
            ("u@h", None, None, None, None),
            ("h/x", None, None, None, None),
            ("/app", None, None, None, is("/app")),
            ("/a/caf%C3%A9/", None, None, None, is("/a/caf\u{e9}")),
            ("/", None, None, None, None),
            ("/x, /y", None, None, None, is("/y")),
            ("//evil.example", None, None, None, None),
            ("/a//b", None, None, None, None),
            ("/a/../b", None, None, None, None),
            ("/a/%2e%2E/b", None, None, None, None),
            ("/a%2f%2fb", None, None, None, None),
            ("/%5C/evil.example", None, None, None, None),
            ("/a%0d%0aX: y", None, None, None, None),
            ("/a%0d%0a", None, None, None, None),
            ("/a%00", None, None, None, None),
            ("/a%zz", None, None, None, None),
            ("/a?b", None, None, None, None),
            ("/a\"<b>", None, None, None, None),
            ("/\u{e9}", None, None, None, None),
            ("app", None, is("app"), None, None),
        ] {
            assert_eq!(all(value), (scheme, host, port, prefix), "{value}");
        }
    }

    #[test]
    fn what_speaks_for_a_client_does_so_in_any_spelling() {
        for name in [
            "X-Forwarded-For",
            "X-Forwarded-Proto",
            "x-forwarded-anything",
            "X_FORWARDED_FOR",
            "X-Forwarded_Host",
            "X.Forwarded.For",
            "X-Forwarded",
            "X-ForwardedFor",
            "Forwarded",
            "Forwarded-For",
            "X-Real-IP",
            "x_real_ip",
            "Front-End-Https",
            "X-Url-Scheme",
            "X-Scheme",
            "X-Original-URL",
            "X-Rewrite-URL",
            "Client-IP",
            "CF-Connecting-IP",
        ] {
            assert!(speaks_for_a_client(name.as_bytes()), "{name}");
        }
        for name in ["", "X", "X-Forward", "Host", "X-Real", "X-Requested-With", "X-Schemes", "Via", "User-Agent"] {
            assert!(!speaks_for_a_client(name.as_bytes()), "{name}");
        }
        assert!(is_one_of(&["keep-alive"], b"Keep_Alive") && !is_one_of(&["te"], b"Tea"));
    }
}
