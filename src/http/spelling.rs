//! How else a path could be read: by a server behind this one that decodes once more, drops path parameters, takes a
//! backslash for a slash, or is lenient in another known way. This reading is never passed on. It only shows whether
//! some server would find a `..` in the path, or match the path with another prefix.
//!
//! | spelling | which software reads it so |
//! |---|---|
//! | `..;x`, `;x` | Tomcat, Jetty and others drop the parameters of a segment (RFC 3986, section 3.3) |
//! | `%252e`, `%25252f` | software that decodes again what another part has already decoded |
//! | `\`, `%5C` | Windows, and frameworks that have files there |
//! | `%C0%AE`, `%E0%80%AF` | decoders of UTF-8 that allow overlong forms |
//! | `%EF%BC%8F`, `%25u002e` | Windows, where a code page has the nearest character only; IIS's own escapes |
//! | `..%20`, `..%09`, `x.` | Windows, `trim`, and URL parsers that remove control characters |
//! | `..%253F`, `..%2500`, `..:` | software that finds the query, the end of a C string or a stream only after decoding |
//!
//! ```
//! use dustdevil::http::spelling::read_leniently;
//! assert_eq!(read_leniently(b"/a/..;/b"), None);
//! assert_eq!(read_leniently(b"//a;x/./b%252Fc"), Some(b"/a/b/c".to_vec()));
//! ```

use crate::http::target::hex;
use memchr::{memchr2, memmem};

/// UTF-8 sequences that compatibility forms or code pages convert to ASCII: full-width and other stops and slashes.
const LOOKALIKES: [(&[u8], &[u8]); 10] = [
    (b"\xe2\x80\xa4", b"."),
    (b"\xe2\x80\xa5", b".."),
    (b"\xef\xbc\x8e", b"."),
    (b"\xef\xb9\x92", b"."),
    (b"\xe2\x81\x84", b"/"),
    (b"\xe2\x88\x95", b"/"),
    (b"\xef\xbc\x8f", b"/"),
    (b"\xe2\x88\x96", b"\\"),
    (b"\xef\xbc\xbc", b"\\"),
    (b"\xef\xb9\xa8", b"\\"),
];

/// Whether the path could be read in more than one way. `plain`: as in `Target`, it has no escape, no empty segment and
/// none that begins with a dot.
pub fn is_ambiguous(path: &[u8], plain: bool) -> bool {
    !plain || memchr2(b';', b'\\', path).is_some() || path.ends_with(b".") || memmem::find(path, b"./").is_some()
}

/// The path as the most lenient server reads it: decoded until nothing is left to decode, without parameters, control
/// characters, and segments that are empty or `.`. `None`: it has a `..`.
pub fn read_leniently(path: &[u8]) -> Option<Vec<u8>> {
    let decoded = decode_all(path);
    let mut read = Vec::with_capacity(decoded.len());
    let mut ends_in_slash = true;
    for segment in decoded.split(|byte| matches!(byte, b'/' | b'\\')) {
        if climbs(segment) {
            return None;
        }
        let from = read.len();
        read.push(b'/');
        let name = segment.split(|byte| b";?#\0".contains(byte)).next().unwrap_or_default();
        read.extend(name.iter().skip_while(|byte| **byte == b' '));
        while read.len() > from + 1 && matches!(read.last(), Some(b'.' | b' ')) {
            read.pop();
        }
        ends_in_slash = read.len() == from + 1;
        if ends_in_slash {
            read.truncate(from);
        }
    }
    if ends_in_slash {
        read.push(b'/');
    }
    Some(read)
}

/// Whether some server takes a decoded segment for `..`. Three dots and nothing else are an ordinary name.
fn climbs(segment: &[u8]) -> bool {
    let name = segment.split(|byte| b";?#:\0".contains(byte)).next().unwrap_or_default();
    let mut visible = name.iter().filter(|byte| byte.is_ascii_graphic());
    let dots = visible.clone().count();
    visible.all(|byte| *byte == b'.') && (dots == 2 || (dots > 2 && dots < name.len()))
}

/// Decodes escapes, and those that decoding produces, and drops control characters except NUL. One pass is enough: each
/// time a byte is added, only an escape that ends with this byte can be new.
fn decode_all(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for &byte in path {
        out.push(byte);
        // Each round makes `out` shorter.
        while decode_end(&mut out) {}
    }
    out
}

/// Replaces an escape at the end of `out` by what it stands for. Returns whether there was one.
fn decode_end(out: &mut Vec<u8>) -> bool {
    let value = |digits: &[u8]| digits.iter().try_fold(0, |value, digit| Some(value << 4 | u32::from(hex(*digit)?)));
    let (mut room, len) = ([0; 4], out.len());
    let (start, bytes) = if len >= 3
        && out[len - 3] == b'%'
        && let Some(byte) = value(&out[len - 2..])
    {
        room[0] = byte as u8;
        (len - 3, &room[..1])
    } else if len >= 6
        && matches!(&out[len - 6..len - 4], b"%u" | b"%U")
        && let Some(code) = value(&out[len - 4..])
    {
        let letter = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        (len - 6, letter.encode_utf8(&mut room).as_bytes())
    } else if let Some((sequence, byte)) = overlong(out) {
        room[0] = byte;
        (len - sequence, &room[..1])
    } else if let Some((sequence, bytes)) = LOOKALIKES.iter().find(|(sequence, _)| out.ends_with(sequence)) {
        (len - sequence.len(), *bytes)
    } else if out.last().is_some_and(|byte| byte.is_ascii_control() && *byte != 0) {
        (len - 1, &b""[..])
    } else {
        return false;
    };
    out.truncate(start);
    out.extend_from_slice(bytes);
    true
}

/// If `out` ends in an overlong sequence: its length, and the ASCII byte that it stands for. After C0 and C1 some
/// decoders accept control characters too, by their last six bits.
fn overlong(out: &[u8]) -> Option<(usize, u8)> {
    const LEADS: [&[u8]; 4] = [b"\xe0", b"\xf0\x80", b"\xf8\x80\x80", b"\xfc\x80\x80\x80"];
    let [before @ .., high, low] = out else { return None };
    let byte = (high & 1) << 6 | (low & 0x3f);
    match (high, low) {
        (0xc0 | 0xc1, 0..=0x1f | 0x80..=0xbf) => Some((2, byte)),
        (0x80 | 0x81, 0x80..=0xbf) => {
            LEADS.iter().find(|lead| before.ends_with(lead)).map(|lead| (lead.len() + 2, byte))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_climb_is_found_in_every_spelling() {
        for path in [
            "/a/..",
            "/a/..;/b",
            "/a/..;x=y",
            "/a/;/../b",
            "/a/..%3bx/b",
            "/a/..%2Fb",
            "/a%2F..%2Fb",
            "/a%5C../b",
            "/a/..\\b",
            "/a/..%255Cb",
            "/a/%252e%252e/b",
            "/a/%25252E./b",
            "/a/%25%32%65%25%32%65/b",
            "/a/%c0%ae%c0%ae/b",
            "/a/..%c0%afb",
            "/a/..%c1%9cb",
            "/a/..%c1%1cb",
            "/a/.%e0%80%ae/b",
            "/a/..%f0%80%80%afb",
            "/a/..%f8%80%80%80%afb",
            "/a/..%ef%bc%8fb",
            "/a/%e2%80%a5/b",
            "/a/%25u002e%25u002e/b",
            "/a/..%25u2215b",
            "/a/..%09/b",
            "/a/..%20/b",
            "/a/%20..%0a/b",
            "/a/%25%0a2e%252%09e/b",
            "/a/.%20./b",
            "/a/..%20.%20/b",
            "/a/..%2500x",
            "/a/..%253fx",
            "/a/..%23",
            "/a/..%ff/b",
            "/a/..:$i30/b",
            "/x..y/a..%2F/..%5C",
        ] {
            assert_eq!(read_leniently(path.as_bytes()), None, "{path}");
        }
    }

    #[test]
    fn what_climbs_nowhere_is_read() {
        for (path, read) in [
            ("/", "/"),
            ("//", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("/a/.;x", "/a/"),
            ("/...", "/"),
            ("/a..%2Fb", "/a/b"),
            ("/v1..v2/x...y/..z", "/v1..v2/x...y/..z"),
            ("/a;b/c;d=e", "/a/c"),
            ("/;x/a//b", "/a/b"),
            ("/%61%2562", "/ab"),
            ("/a%2Fb\\c", "/a/b/c"),
            ("/a%09b./c%20", "/ab/c"),
            ("/caf%C3%A9/%E4%BD%A0", "/caf\u{e9}/\u{4f60}"),
            ("/100%25", "/100%"),
            ("/a%253fb", "/a"),
        ] {
            let found = read_leniently(path.as_bytes()).expect(path);
            assert_eq!(String::from_utf8(found).unwrap(), read, "{path}");
        }
    }

    #[test]
    fn what_was_read_cannot_be_read_in_another_way() {
        let pieces = [
            "/", "..", ".", "%", "2", "5", "e", "f", "\\", ";", "a", "%2e", "%c0", "%ae", "%0a", "u00", " ", ":", "?",
            "%00",
        ];
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut read = 0;
        for _ in 0..20_000 {
            let mut path = String::from("/");
            for _ in 0..8 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                path.push_str(pieces[(state >> 33) as usize % pieces.len()]);
            }
            let Some(once) = read_leniently(path.as_bytes()) else { continue };
            let shown = once.escape_ascii();
            assert!(!once.split(|byte| *byte == b'/').any(|segment| matches!(segment, b"." | b"..")), "{path} {shown}");
            assert_eq!(read_leniently(&once).as_ref(), Some(&once), "{path} {shown}");
            read += 1;
        }
        assert!(read > 5_000, "{read}");
    }

    #[test]
    fn a_flood_of_escapes_is_read_in_one_pass() {
        let path = [b"/".to_vec(), b"%25".repeat(100_000), b"2e".to_vec()].concat();
        assert_eq!(read_leniently(&path), Some([b"/".to_vec(), b"%".repeat(99_999)].concat()));
    }

    #[test]
    fn a_plain_path_is_not_looked_at_again() {
        assert!(!is_ambiguous(b"/a/b.c", true));
        assert!(is_ambiguous(b"/a;b", true) && is_ambiguous(b"/a\\b", true) && is_ambiguous(b"/%61", false));
        assert!(is_ambiguous(b"/a./b", true) && is_ambiguous(b"/a.", true));
    }
}
