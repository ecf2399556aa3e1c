//! Field lines as they are written, and the names of those that never leave a connection.

/// Fields of a single connection (RFC 9110, section 7.6.1): the next connection has its own. The two of proxy
/// authentication are about a proxy that the client has chosen, which this server is not. In lower case.
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
