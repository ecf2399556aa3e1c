//! Which bytes are allowed in a token, a field value, a quoted-string and optional white space (RFC 9110, section 5.6).
//!
//! Every parser of fields uses these functions, so that no two parsers disagree about a byte. Callers decide what the
//! bytes mean.

const ALPHANUMERIC: &[(u8, u8)] = &[(b'0', b'9'), (b'A', b'Z'), (b'a', b'z')];

/// RFC 9110, section 5.6.2.
const TCHAR: [bool; 256] = class(ALPHANUMERIC, b"!#$%&'*+-.^_`|~");

/// RFC 9110, section 5.5: HTAB, SP, VCHAR and obs-text. Thus no CR, LF, NUL, other control byte or DEL.
const FIELD_VALUE: [bool; 256] = class(&[(b' ', b'~'), (0x80, 0xff)], b"\t");

/// RFC 9110, section 5.6.4: the bytes that are allowed between the quotes without a backslash.
const QDTEXT: [bool; 256] = class(&[(b'#', b'['), (b']', b'~'), (0x80, 0xff)], b"\t !");

/// A table of the bytes in the `ranges` (ends included) and in `single`.
const fn class(ranges: &[(u8, u8)], single: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut i = 0;
    while i < ranges.len() {
        let mut byte = ranges[i].0 as usize;
        while byte <= ranges[i].1 as usize {
            table[byte] = true;
            byte += 1;
        }
        i += 1;
    }
    let mut i = 0;
    while i < single.len() {
        table[single[i] as usize] = true;
        i += 1;
    }
    table
}

pub const fn is_tchar(byte: u8) -> bool {
    TCHAR[byte as usize]
}

/// One tchar or more.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_tchar(byte))
}

pub const fn is_field_value_byte(byte: u8) -> bool {
    FIELD_VALUE[byte as usize]
}

/// The position, from `at` on, of the first byte that is not allowed in a field value. The length if there is none. It
/// checks eight bytes in one step, because most bytes of a head pass through this function.
pub fn field_value_end(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::MAX / 0xff;
    while let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let word = u64::from_le_bytes(*eight);
        // The lowest marked byte is always right: a borrow can mark only bytes above it by mistake.
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let delete = (word ^ (ONES * 0x7f)).wrapping_sub(ONES) & !word;
        let marked = (control | delete) & (ONES * 0x80);
        if marked == 0 {
            at += 8;
            continue;
        }
        at += marked.trailing_zeros() as usize / 8;
        if !is_field_value_byte(bytes[at]) {
            return at;
        }
        // The marked byte is a tab, which is allowed.
        at += 1;
    }
    at + bytes[at..].iter().position(|&byte| !is_field_value_byte(byte)).unwrap_or(bytes.len() - at)
}

/// OWS is space and horizontal tab, nothing else (RFC 9110, section 5.6.3). `[u8]::trim_ascii` would also remove CR, LF
/// and form feed, and so accept invalid fields.
pub const fn is_ows(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

pub fn trim_ows(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_ows(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_ows(*last)
    {
        bytes = rest;
    }
    bytes
}

/// The length, quotes included, of the quoted-string at the start of `bytes` (RFC 9110, section 5.6.4). None if there
/// is no quoted-string, if it holds a forbidden byte, or if its closing quote is missing.
pub fn quoted_string_len(bytes: &[u8]) -> Option<usize> {
    if bytes.first() != Some(&b'"') {
        return None;
    }
    let mut at = 1;
    loop {
        match *bytes.get(at)? {
            b'"' => return Some(at + 1),
            // quoted-pair: HTAB, SP, VCHAR or obs-text may follow, the bytes of a field value.
            b'\\' if is_field_value_byte(*bytes.get(at + 1)?) => at += 2,
            byte if QDTEXT[byte as usize] => at += 1,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tchar_is_the_rfc_set() {
        let expected = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        for byte in 0..=255 {
            assert_eq!(is_tchar(byte), expected.contains(&byte), "{byte:#x}");
        }
    }

    #[test]
    fn a_token_has_at_least_one_byte() {
        assert!(is_token(b"GET"));
        assert!(!is_token(b""));
        assert!(!is_token(b"a b"));
        assert!(!is_token(b"a:"));
        assert!(!is_token("\u{e9}".as_bytes()));
    }

    #[test]
    fn field_values_hold_no_control_byte_but_tab() {
        for byte in 0..=255u8 {
            let control = (byte < 0x20 && byte != b'\t') || byte == 0x7f;
            assert_eq!(is_field_value_byte(byte), !control, "{byte:#x}");
        }
    }

    #[test]
    fn the_end_of_a_field_value_is_its_first_other_byte() {
        for len in 0..20 {
            for at in 0..len {
                for byte in 0..=255u8 {
                    for filling in [b'a', b'\t', b' ', 0x80, 0xff, b'~'] {
                        let mut bytes = vec![filling; len];
                        bytes[at] = byte;
                        let expected = if is_field_value_byte(byte) { len } else { at };
                        assert_eq!(field_value_end(&bytes, 0), expected, "{byte:#x} at {at} of {len}");
                        assert_eq!(field_value_end(&bytes, at), expected);
                    }
                }
            }
        }
    }

    #[test]
    fn only_space_and_tab_are_trimmed() {
        assert_eq!(trim_ows(b" \t a b\t "), b"a b");
        assert_eq!(trim_ows(b" \t "), b"");
        assert_eq!(trim_ows(b""), b"");
        assert_eq!(trim_ows(b"\ra\n"), b"\ra\n");
    }

    #[test]
    fn quoted_strings_are_measured() {
        assert_eq!(quoted_string_len(br#""""#), Some(2));
        assert_eq!(quoted_string_len(br#""a\"b" rest"#), Some(6));
        assert_eq!(quoted_string_len(b"\"\xff\t\""), Some(4));
        for bad in [&b""[..], b"a", b"\"", b"\"a", b"\"a\\", b"\"a\\\"", b"\"\n\"", b"\"\\\n\"", b"\"\x7f\""] {
            assert_eq!(quoted_string_len(bad), None, "{bad:?}");
        }
    }
}
