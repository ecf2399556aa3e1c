//! The framing that a request's head announces: the length of the content (RFC 9112, section 6), whether the connection
//! persists (section 9.3), and whether the client waits for 100 (RFC 9110, section 10.1.1). It also checks that there
//! is one valid Host (RFC 9112, section 3.2).
//!
//! If the RFC allows both to repair a message and to refuse it, the message is refused: if two servers repair a message
//! in different ways, a request can be smuggled past one of them.

use crate::http::head::{Head, Name};
use crate::http::list;
use crate::http::number;
use crate::http::target::is_host_and_port;
use crate::http::violation::Violation;

/// How the end of a request's content is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentLength {
    /// A known number of bytes: 0 if the head has neither Content-Length nor Transfer-Encoding.
    Bytes(u64),
    Chunked,
}

pub fn content_length(head: &Head, bytes: &[u8]) -> Result<ContentLength, Violation> {
    if head.has(Name::TransferEncoding) {
        return transfer_coding(head, bytes).map(|()| ContentLength::Chunked);
    }
    let mut values = head.values(bytes, Name::ContentLength);
    let Some(value) = values.next() else { return Ok(ContentLength::Bytes(0)) };
    if values.next().is_some() || value.contains(&b',') {
        return Err(Violation::LengthTwice);
    }
    number::parse(value).map(ContentLength::Bytes).ok_or(Violation::LengthInvalid)
}

/// Accepts `chunked`, once, in HTTP/1.1, without a Content-Length, and nothing else.
fn transfer_coding(head: &Head, bytes: &[u8]) -> Result<(), Violation> {
    if head.has(Name::ContentLength) {
        return Err(Violation::LengthWithCoding);
    }
    if head.minor == 0 {
        return Err(Violation::CodingInOldVersion);
    }
    let codings: Vec<&[u8]> = head.values(bytes, Name::TransferEncoding).flat_map(list::elements).collect();
    let is_chunked = |coding: &&[u8]| coding.eq_ignore_ascii_case(b"chunked");
    match &codings[..] {
        [only] if is_chunked(only) => Ok(()),
        // The end of the message is known, but its content cannot be decoded: 501 (section 6.1).
        [before @ .., last] if is_chunked(last) && !before.iter().any(is_chunked) => Err(Violation::CodingUnknown),
        // The end of the message is unknown: 400 (section 6.3, case 4).
        _ => Err(Violation::CodingNotLast),
    }
}

/// Whether the connection persists after a message of HTTP/1.`minor` (RFC 9112, section 9.3). `connection`: the values
/// of its `Connection` fields.
pub fn persists<'a>(minor: u8, connection: impl Iterator<Item = &'a [u8]> + Clone) -> bool {
    let has =
        |option: &[u8]| connection.clone().flat_map(list::elements).any(|element| element.eq_ignore_ascii_case(option));
    !has(b"close") && (minor >= 1 || has(b"keep-alive"))
}

/// Whether the client waits for 100 before it sends its content. In HTTP/1.0 there is no 100. Expectations other than
/// 100-continue are refused.
pub fn expects_continue(head: &Head, bytes: &[u8]) -> Result<bool, Violation> {
    if !head.has(Name::Expect) {
        return Ok(false);
    }
    let mut expected = false;
    for expectation in head.values(bytes, Name::Expect).flat_map(list::elements) {
        if !expectation.eq_ignore_ascii_case(b"100-continue") {
            return Err(Violation::Expectation);
        }
        expected = true;
    }
    Ok(expected && head.minor >= 1)
}

/// Checks that there is one valid Host in HTTP/1.1, and at most one in HTTP/1.0. The check also applies to a target in
/// absolute-form, whose authority replaces the Host.
pub fn check_host(head: &Head, bytes: &[u8]) -> Result<(), Violation> {
    let mut values = head.values(bytes, Name::Host);
    let host = values.next();
    if values.next().is_some() {
        return Err(Violation::HostTwice);
    }
    match host {
        None if head.minor == 0 => Ok(()),
        None => Err(Violation::HostMissing),
        Some(host) if !is_host_and_port(host) => Err(Violation::HostInvalid),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::HeadLimits;

    fn head(minor: u8, fields: &str) -> (Head, Vec<u8>) {
        let bytes = format!("GET / HTTP/1.{minor}\r\n{fields}\r\n").into_bytes();
        let mut head = Head::default();
        let limits = HeadLimits { size: 4096, target: 100, fields: 20 };
        assert_eq!(head.parse(&bytes, &limits, &mut 0), Ok(true));
        (head, bytes)
    }

    #[test]
    fn content_is_framed_one_way_or_refused() {
        use ContentLength::*;
        for (fields, expected) in [
            ("", Ok(Bytes(0))),
            ("Content-Length: 0\r\n", Ok(Bytes(0))),
            ("Content-Length: 18446744073709551615\r\n", Ok(Bytes(u64::MAX))),
            ("Content-Length: 18446744073709551616\r\n", Err(Violation::LengthInvalid)),
            ("Content-Length: +5\r\n", Err(Violation::LengthInvalid)),
            ("Content-Length: -5\r\n", Err(Violation::LengthInvalid)),
            ("Content-Length: 0x5\r\n", Err(Violation::LengthInvalid)),
            ("Content-Length: 5 5\r\n", Err(Violation::LengthInvalid)),
            ("Content-Length:\r\n", Err(Violation::LengthInvalid)),
            ("Content-Length: 5,5\r\n", Err(Violation::LengthTwice)),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Err(Violation::LengthTwice)),
            ("Transfer-Encoding: chunked\r\n", Ok(Chunked)),
            ("Transfer-Encoding: CHUNKED\r\n", Ok(Chunked)),
            ("Transfer-Encoding: , chunked ,\r\n", Ok(Chunked)),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(Violation::LengthWithCoding)),
            ("Transfer-Encoding: gzip, chunked\r\n", Err(Violation::CodingUnknown)),
            ("Transfer-Encoding: identity\r\n", Err(Violation::CodingNotLast)),
            ("Transfer-Encoding: xchunked\r\n", Err(Violation::CodingNotLast)),
            ("Transfer-Encoding: chunked;a=b\r\n", Err(Violation::CodingNotLast)),
            ("Transfer-Encoding: \"chunked\"\r\n", Err(Violation::CodingNotLast)),
            ("Transfer-Encoding: chunked, gzip\r\n", Err(Violation::CodingNotLast)),
            ("Transfer-Encoding: chunked, chunked\r\n", Err(Violation::CodingNotLast)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(Violation::CodingNotLast)),
            ("Transfer-Encoding:\r\n", Err(Violation::CodingNotLast)),
        ] {
            let (head, bytes) = head(1, fields);
            assert_eq!(content_length(&head, &bytes), expected, "{fields:?}");
        }
        let (head, bytes) = head(0, "Transfer-Encoding: chunked\r\n");
        assert_eq!(content_length(&head, &bytes), Err(Violation::CodingInOldVersion));
    }

    #[test]
    fn persistence_follows_version_and_connection() {
        for (minor, fields, expected) in [
            (1, "", true),
            (1, "Connection: close\r\n", false),
            (1, "Connection: CLOSE\r\n", false),
            (1, "Connection: x, Close\r\n", false),
            (1, "Connection: x\r\nConnection: close\r\n", false),
            (1, "Connection: closed\r\n", true),
            (1, "Connection: keep-alive, close\r\n", false),
            (0, "", false),
            (0, "Connection: Keep-Alive\r\n", true),
            (0, "Connection: x\r\n", false),
        ] {
            let (head, bytes) = head(minor, fields);
            assert_eq!(persists(head.minor, head.values(&bytes, Name::Connection)), expected, "{minor} {fields:?}");
        }
    }

    #[test]
    fn expectations() {
        for (minor, fields, expected) in [
            (1, "", Ok(false)),
            (1, "Expect: 100-Continue\r\n", Ok(true)),
            (0, "Expect: 100-continue\r\n", Ok(false)),
            (1, "Expect: 200-ok\r\n", Err(Violation::Expectation)),
            (1, "Expect: 100-continue, x\r\n", Err(Violation::Expectation)),
        ] {
            let (head, bytes) = head(minor, fields);
            assert_eq!(expects_continue(&head, &bytes), expected, "{fields:?}");
        }
    }

    #[test]
    fn one_valid_host() {
        for (minor, fields, expected) in [
            (1, "Host: a\r\n", Ok(())),
            (1, "Host:\r\n", Ok(())),
            (0, "", Ok(())),
            (1, "", Err(Violation::HostMissing)),
            (1, "Host: a\r\nHost: a\r\n", Err(Violation::HostTwice)),
            (0, "Host: a\r\nHost: b\r\n", Err(Violation::HostTwice)),
            (1, "Host: a b\r\n", Err(Violation::HostInvalid)),
            (1, "Host: a/b\r\n", Err(Violation::HostInvalid)),
        ] {
            let (head, bytes) = head(minor, fields);
            assert_eq!(check_host(&head, &bytes), expected, "{fields:?}");
        }
    }
}
