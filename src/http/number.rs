//! Numbers in protocol elements: digits only, as in every grammar of HTTP.
//!
//! ```
//! use dustdevil::http::number;
//! assert_eq!(number::parse(b"0123"), Some(123));
//! // `str::parse` would accept this one.
//! assert_eq!(number::parse(b"+5"), None);
//! assert_eq!(number::parse(b""), None);
//! assert_eq!(number::parse(b"18446744073709551616"), None);
//! ```

/// Whether there is at least one byte, and all bytes are digits.
pub fn is_digits(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit)
}

/// `None` for anything but digits, and for a number that is larger than a u64.
pub fn parse(digits: &[u8]) -> Option<u64> {
    if !is_digits(digits) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}
