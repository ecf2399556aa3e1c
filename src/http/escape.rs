//! Escapes untrusted bytes for the format they are written to: HTML, JSON, a log line or a URI. Decodes percent
//! escapes.
//!
//! File names and request targets are bytes, not text. If the format requires text, each sequence of bytes that is not
//! UTF-8 becomes one U+FFFD. In links, where the same bytes must come back, such bytes are percent-encoded.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

const REPLACEMENT: &str = "\u{fffd}";

/// Escapes for HTML text, and for attribute values in single or double quotes.
///
/// Tab, LF and CR become character references, because a parser would change them in attributes and in `<pre>`. The
/// other control characters are not allowed in HTML, not even as references, and become U+FFFD.
pub fn html(bytes: &[u8], out: &mut Vec<u8>) {
    for_each_char(bytes, |char| match char {
        '&' => out.extend_from_slice(b"&amp;"),
        '<' => out.extend_from_slice(b"&lt;"),
        '>' => out.extend_from_slice(b"&gt;"),
        '"' => out.extend_from_slice(b"&quot;"),
        '\'' => out.extend_from_slice(b"&#39;"),
        '\t' => out.extend_from_slice(b"&#9;"),
        '\n' => out.extend_from_slice(b"&#10;"),
        '\r' => out.extend_from_slice(b"&#13;"),
        _ if char.is_control() => out.extend_from_slice(REPLACEMENT.as_bytes()),
        _ => push_char(char, out),
    });
}

/// As `html`, but text that needs no escape is borrowed. Most text needs none.
pub fn html_text(text: &[u8]) -> Cow<'_, [u8]> {
    let is_safe = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'&' | b'<' | b'>' | b'"' | b'\'');
    if text.iter().all(is_safe) {
        return Cow::Borrowed(text);
    }
    let mut escaped = Vec::new();
    html(text, &mut escaped);
    Cow::Owned(escaped)
}

/// Writes a JSON string with its quotes (RFC 8259, section 7).
///
/// `<`, `>` and `&` are escaped too, so that the JSON can be put into a `<script>` element. U+2028 and U+2029 are
/// escaped, because they end a line in older JavaScript.
pub fn json_string(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    json_text(bytes, out);
    out.push(b'"');
}

/// Writes text between the quotes of a JSON string: the whole text or a part of it.
pub fn json_text(bytes: &[u8], out: &mut Vec<u8>) {
    for_each_char(bytes, |char| match char {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => push_u_escape(char, out),
        _ if char.is_control() => push_u_escape(char, out),
        _ => push_char(char, out),
    });
}

/// Escapes for a quoted part of a log line, as nginx does: control bytes, `"`, `\` and the bytes from 0x7f on become
/// `\xHH`. So a log line stays one line of ASCII, and no client can send control sequences to a terminal.
pub fn log(bytes: &[u8], out: &mut Vec<u8>) {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20 | 0x7f..)) {
        let byte = rest[at];
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(&[b'\\', b'x', hex_digit(byte >> 4), hex_digit(byte & 0xf)]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// The bytes that `path_segment` escapes. Not escaped are the unreserved characters (RFC 3986, section 2.3), and those
/// sub-delims that have no meaning in HTML, in a shell's quotes or in a field. A colon is escaped although it is a
/// pchar: it is not allowed in the first segment of a relative reference (section 4.2), where it would end a scheme, as
/// in `javascript:`.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b'=')
    .remove(b'@');

/// Escapes one segment of a path for a link or a Location: a file name, in which a slash is escaped too. A client that
/// follows the link sends the same bytes back. The output needs no further escape in HTML or in a field. Do not pass
/// `.` and `..`: escapes do not protect them (RFC 3986, section 6.2.2.2).
pub fn path_segment(bytes: &[u8], out: &mut Vec<u8>) {
    for piece in percent_encode(bytes, SEGMENT) {
        out.extend_from_slice(piece.as_bytes());
    }
}

/// The text of a URI, its bytes above 0x7F percent-encoded. All others stay as they are, escapes included.
pub fn high_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| !byte.is_ascii()) {
        let byte = rest[at];
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(&[b'%', hex_digit(byte >> 4), hex_digit(byte & 0xf)]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// A `%` without two hex digits behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadEscape;

impl std::fmt::Display for BadEscape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a percent sign is followed by two hex digits")
    }
}

impl std::error::Error for BadEscape {}

/// Percent-decodes once (RFC 3986, section 2.1). A `+` stays a plus: only queries use it for a space.
pub fn decode(bytes: &[u8]) -> Result<Cow<'_, [u8]>, BadEscape> {
    for at in memchr::memchr_iter(b'%', bytes) {
        match bytes[at + 1..] {
            [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {}
            _ => return Err(BadEscape),
        }
    }
    Ok(percent_decode(bytes).into())
}

/// Percent-decodes every valid escape; a `%` without two hex digits stays as it is.
pub fn decode_lenient(bytes: &[u8]) -> Cow<'_, [u8]> {
    percent_decode(bytes).into()
}

/// As `decode_lenient`, but `+` becomes a space (application/x-www-form-urlencoded).
pub fn decode_form(bytes: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'+', bytes).is_none() {
        return decode_lenient(bytes);
    }
    // This comes before the escapes are decoded, because %2B is a plus.
    let spaced: Vec<u8> = bytes.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    Cow::Owned(decode_lenient(&spaced).into_owned())
}

/// The names and values of a query, decoded: `a=1&b` gives `(a, 1)` and `(b, )`. Empty pairs are skipped.
pub fn query_pairs(query: &[u8]) -> impl Iterator<Item = (Cow<'_, [u8]>, Cow<'_, [u8]>)> + Clone {
    query.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = match memchr::memchr(b'=', pair) {
            Some(equals) => (&pair[..equals], &pair[equals + 1..]),
            None => (pair, &b""[..]),
        };
        (decode_form(name), decode_form(value))
    })
}

fn for_each_char(bytes: &[u8], mut act: impl FnMut(char)) {
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(&mut act);
        if !chunk.invalid().is_empty() {
            act(char::REPLACEMENT_CHARACTER);
        }
    }
}

fn push_char(char: char, out: &mut Vec<u8>) {
    out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Writes `\uHHHH`. The character must be of the basic multilingual plane: others would need two escapes.
fn push_u_escape(char: char, out: &mut Vec<u8>) {
    let [.., high, low] = u32::from(char).to_be_bytes();
    out.extend_from_slice(b"\\u");
    out.extend([high >> 4, high & 0xf, low >> 4, low & 0xf].map(hex_digit));
}

const fn hex_digit(nibble: u8) -> u8 {
    b"0123456789ABCDEF"[(nibble & 0xf) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: fn(&[u8], &mut Vec<u8>), bytes: &[u8]) -> String {
        let mut out = Vec::new();
        write(bytes, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn html_holds_no_markup() {
        assert_eq!(text(html, b"<a href=\"x\" id='y'>&"), "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;");
        assert_eq!(text(html, b"a\0b\x1b\x7f\n\t\r"), "a\u{fffd}b\u{fffd}\u{fffd}&#10;&#9;&#13;");
        assert_eq!(text(html, "é\u{85}".as_bytes()), "é\u{fffd}");
        assert_eq!(text(html, b"a\xff\xfeb\xe2\x82"), "a\u{fffd}\u{fffd}b\u{fffd}");
    }

    #[test]
    fn json_strings_are_closed_only_by_us() {
        assert_eq!(text(json_string, b""), "\"\"");
        assert_eq!(text(json_string, b"a\"b\\c\n\0"), r#""a\"b\\c\n\u0000""#);
        assert_eq!(text(json_string, b"</script>&"), r#""\u003C/script\u003E\u0026""#);
        assert_eq!(text(json_string, "é\u{2028}\u{1f600}".as_bytes()), "\"é\\u2028\u{1f600}\"");
        assert_eq!(text(json_string, b"\xff"), "\"\u{fffd}\"");
    }

    #[test]
    fn a_log_line_is_printable_ascii() {
        assert_eq!(text(log, b"GET /\" \\\r\n\x7f\xe9 x"), r"GET /\x22 \x5C\x0D\x0A\x7F\xE9 x");
    }

    #[test]
    fn a_segment_keeps_its_delimiters_to_itself() {
        assert_eq!(
            text(path_segment, b"a/b%c?d#e\\f\"g'h:i;j&k l<m>"),
            "a%2Fb%25c%3Fd%23e%5Cf%22g%27h%3Ai%3Bj%26k%20l%3Cm%3E"
        );
        assert_eq!(text(path_segment, b"Az09-._~!$()*+,=@"), "Az09-._~!$()*+,=@");
        assert_eq!(text(path_segment, b"\n\xff\xc3\xa9\0"), "%0A%FF%C3%A9%00");
    }

    #[test]
    fn escapes_are_decoded_once_and_strictly() {
        assert_eq!(decode(b"a%2fb%2F%25+").as_deref(), Ok(&b"a/b/%+"[..]));
        assert!(matches!(decode(b"plain"), Ok(Cow::Borrowed(b"plain"))));
        assert_eq!(decode(b"%2541").as_deref(), Ok(&b"%41"[..]));
        for bad in ["%", "%4", "%zz", "%4g", "a%", "%%41", "%+1", "%u0041"] {
            assert_eq!(decode(bad.as_bytes()), Err(BadEscape), "{bad:?}");
        }
    }

    #[test]
    fn lenient_decoding_keeps_what_it_cannot_read() {
        assert_eq!(*decode_lenient(b"%zz%41%"), b"%zzA%"[..]);
        assert_eq!(*decode_form(b"a+b%2Bc"), b"a b+c"[..]);
    }

    #[test]
    fn queries_fall_into_pairs() {
        let pairs: Vec<_> = query_pairs(b"a=1&&b&c=x=y&=z&d=%26+").collect();
        let expected: [(&[u8], &[u8]); 5] = [(b"a", b"1"), (b"b", b""), (b"c", b"x=y"), (b"", b"z"), (b"d", b"& ")];
        assert_eq!(pairs.len(), expected.len());
        for ((name, value), expected) in pairs.iter().zip(expected) {
            assert_eq!((&**name, &**value), expected);
        }
    }
}
