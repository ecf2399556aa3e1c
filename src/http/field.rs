//! Writes field lines, and lists the hop-by-hop fields.

/// Names, in lower case, of fields that belong to one connection and are not forwarded (RFC 9110, section 7.6.1). The
/// two fields of proxy authentication are for a proxy that the client has chosen, which this server is not.
pub const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Appends `Name: value` and CRLF.
pub fn push_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}
