//! Fields in which a proxy says who the client is, how it came, and what it asked for: `Forwarded` (RFC 7239) and its many
//! older relatives. Frameworks believe them, so only a proxy that is trusted may say them: what comes from any other
//! address reaches neither an upstream nor an application.
//!
//! Names are compared as a gateway would that makes variables of them (CGI, RFC 3875, section 4.1.18): there `X_Real_IP`
//! is the same name as `X-Real-IP`.
//!
//! ```
//! use dustdevil::http::forwarded;
//! assert!(forwarded::speaks_for_a_client(b"X-Forwarded-Port") && forwarded::speaks_for_a_client(b"x_real_ip"));
//! assert!(!forwarded::speaks_for_a_client(b"X-Forward") && !forwarded::speaks_for_a_client(b"User-Agent"));
//! ```

/// How such names begin. Whole families, since every proxy adds its own: X-Forwarded-Prefix, X-Original-Host.
const FAMILIES: [&str; 4] = ["x-forwarded", "forwarded", "x-real-", "x-original-"];
/// Such names that belong to no family.
const NAMES: [&str; 28] = [
    // The scheme (Microsoft's ISA, TMG and ARR, WebObjects, CloudFront, nginx's habits).
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

/// Whether a field says for whom the request is made, or as what it began.
pub fn speaks_for_a_client(name: &[u8]) -> bool {
    FAMILIES.iter().any(|start| begins_with(name, start)) || is_one_of(&NAMES, name)
}

/// Whether a name is one of these, which are in lower case, or would become the same variable.
pub fn is_one_of(names: &[&str], name: &[u8]) -> bool {
    names.iter().any(|one| one.len() == name.len() && begins_with(name, one))
}

/// What is neither letter nor digit becomes `_` in a variable; some gateways do so with the hyphen only, PHP with the dot
/// too, Apache's older ones with everything.
fn begins_with(name: &[u8], start: &str) -> bool {
    let same = |(byte, other): (&u8, u8)| match other {
        b'-' => !byte.is_ascii_alphanumeric(),
        other => byte.eq_ignore_ascii_case(&other),
    };
    name.len() >= start.len() && name.iter().zip(start.bytes()).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

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
