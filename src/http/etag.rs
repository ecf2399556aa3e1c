//! Entity tags: parsed from fields, compared, and made from numbers (RFC 9110, section 8.8.3).
//!
//! `conditional` decides what follows from a comparison.

use crate::http::chars::{is_ows, trim_ows};

/// An entity-tag as a peer sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag<'a> {
    pub weak: bool,
    /// The bytes between the quotes.
    pub opaque: &'a [u8],
}

impl<'a> Tag<'a> {
    /// Reads `"..."` or `W/"..."`, the W in upper case, and nothing around it.
    pub fn parse(bytes: &'a [u8]) -> Option<Tag<'a>> {
        let (tag, rest) = Tag::parse_prefix(bytes)?;
        rest.is_empty().then_some(tag)
    }

    /// Reads the tag at the start of `bytes`, and returns it with the rest.
    fn parse_prefix(bytes: &'a [u8]) -> Option<(Tag<'a>, &'a [u8])> {
        let (weak, bytes) = match bytes.strip_prefix(b"W/") {
            Some(rest) => (true, rest),
            None => (false, bytes),
        };
        let bytes = bytes.strip_prefix(b"\"")?;
        let end = bytes.iter().position(|&byte| !is_etagc(byte))?;
        if bytes[end] != b'"' {
            return None;
        }
        Some((Tag { weak, opaque: &bytes[..end] }, &bytes[end + 1..]))
    }

    /// Both strong and equal (section 8.8.3.2): every byte of the representations is the same.
    pub fn strong_eq(&self, other: &Tag) -> bool {
        !self.weak && !other.weak && self.opaque == other.opaque
    }

    /// Equal, weak or not: one representation may replace the other.
    pub fn weak_eq(&self, other: &Tag) -> bool {
        self.opaque == other.opaque
    }
}

/// etagc: VCHAR without the double quote, and obs-text. A backslash escapes nothing and a comma separates nothing: an
/// entity tag is not a quoted-string.
const fn is_etagc(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x7e | 0x80..)
}

/// An element of an `If-Match` or `If-None-Match` value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member<'a> {
    /// `*`
    Any,
    Tag(Tag<'a>),
    /// Neither of them. It matches nothing, and the elements around it still count.
    Malformed,
}

/// The elements of `"*" / #entity-tag`, empty ones skipped.
pub fn members(value: &[u8]) -> Members<'_> {
    Members { rest: value }
}

#[derive(Clone, Debug)]
pub struct Members<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        while let [byte, rest @ ..] = self.rest
            && (*byte == b',' || is_ows(*byte))
        {
            self.rest = rest;
        }
        if self.rest.is_empty() {
            return None;
        }
        // A tag may contain commas, so it is parsed before the next comma is searched.
        let tag = Tag::parse_prefix(self.rest);
        let behind = tag.map_or(self.rest, |(_, behind)| behind);
        let comma = memchr::memchr(b',', behind).unwrap_or(behind.len());
        let (element, rest) = behind.split_at(comma);
        self.rest = rest;
        Some(match (tag, trim_ows(element)) {
            (Some((tag, _)), b"") => Member::Tag(tag),
            (None, b"*") => Member::Any,
            _ => Member::Malformed,
        })
    }
}

/// The longest tag that we make: `W/`, two quotes, three numbers in hex (16, 8 and 16 digits), two dashes, and
/// `-deflate`.
const CAPACITY: usize = 54;

/// The entity tag of one of our representations, quotes included. It can be copied and needs no allocation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ETag {
    bytes: [u8; CAPACITY],
    /// Invariant: at least 2, for the quotes at both ends.
    len: u8,
}

impl ETag {
    /// A strong tag. `numbers` must differ whenever a byte of the representation differs.
    pub fn strong(numbers: &[u64]) -> ETag {
        ETag::of(b"\"", numbers)
    }

    /// A weak tag. `numbers` must be equal for representations that may replace each other.
    pub fn weak(numbers: &[u64]) -> ETag {
        ETag::of(b"W/\"", numbers)
    }

    fn of(start: &[u8], numbers: &[u64]) -> ETag {
        debug_assert!(numbers.len() <= 3, "there is room for three");
        let mut tag = ETag { bytes: [0; CAPACITY], len: 0 };
        start.iter().for_each(|&byte| tag.push(byte));
        for (place, &number) in numbers.iter().enumerate() {
            if place > 0 {
                tag.push(b'-');
            }
            tag.push_hex(number);
        }
        tag.push(b'"');
        tag
    }

    /// The tag of this representation in a content coding. Its bytes differ, so it needs another strong tag (section
    /// 8.8.3.3). `coding` is one of our own names, such as `gzip`.
    pub fn with_coding(&self, coding: &str) -> ETag {
        debug_assert!(coding.bytes().all(is_etagc));
        let mut tag = *self;
        tag.len -= 1;
        // Room for the closing quote is kept, however long the name is.
        let room = CAPACITY - 1 - usize::from(tag.len);
        for byte in [b'-'].into_iter().chain(coding.bytes()).take(room) {
            tag.push(byte);
        }
        tag.push(b'"');
        tag
    }

    /// The value of an `ETag` field.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    pub fn tag(&self) -> Tag<'_> {
        let weak = self.bytes[0] == b'W';
        let start = if weak { 3 } else { 1 };
        Tag { weak, opaque: &self.bytes[start..usize::from(self.len) - 1] }
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(usize::from(self.len)) {
            *place = byte;
            self.len += 1;
        }
    }

    fn push_hex(&mut self, number: u64) {
        let digits = (64 - number.leading_zeros()).div_ceil(4).max(1);
        for digit in (0..digits).rev() {
            let nibble = (number >> (digit * 4)) & 0xf;
            self.push(b"0123456789abcdef"[nibble as usize]);
        }
    }
}

impl std::fmt::Debug for ETag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ETag({})", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strong(opaque: &[u8]) -> Tag<'_> {
        Tag { weak: false, opaque }
    }

    #[test]
    fn tags_are_read_exactly() {
        assert_eq!(Tag::parse(br#""xyzzy""#), Some(strong(b"xyzzy")));
        assert_eq!(Tag::parse(br#"W/"xyzzy""#), Some(Tag { weak: true, opaque: b"xyzzy" }));
        assert_eq!(Tag::parse(br#""""#), Some(strong(b"")));
        assert_eq!(Tag::parse(br#""a\""#), Some(strong(br"a\")));
        assert_eq!(Tag::parse(b"\"\xff,!\""), Some(strong(b"\xff,!")));
        for bad in [
            "", "xyzzy", "\"", "\"x", "x\"", "w/\"x\"", "W\"x\"", "W/ \"x\"", "\"a b\"", "\"a\" ", "\"a\"b\"",
            "\"\x7f\"",
        ] {
            assert_eq!(Tag::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn comparison_follows_the_rfc_table() {
        // RFC 9110, section 8.8.3.2.
        for (one, other, strong, weak) in [
            (r#"W/"1""#, r#"W/"1""#, false, true),
            (r#"W/"1""#, r#"W/"2""#, false, false),
            (r#"W/"1""#, r#""1""#, false, true),
            (r#""1""#, r#""1""#, true, true),
        ] {
            let (Some(one), Some(other)) = (Tag::parse(one.as_bytes()), Tag::parse(other.as_bytes())) else {
                panic!("{one} or {other} is no tag");
            };
            assert_eq!((one.strong_eq(&other), one.weak_eq(&other)), (strong, weak));
        }
    }

    #[test]
    fn a_tag_may_hold_a_comma_and_a_backslash() {
        let found: Vec<_> = members(br#" "a,b" ,, W/"c\","d""#).collect();
        let weak = Tag { weak: true, opaque: br"c\" };
        assert_eq!(found, [Member::Tag(strong(b"a,b")), Member::Tag(weak), Member::Tag(strong(b"d"))]);
    }

    #[test]
    fn a_malformed_member_does_not_hide_the_next() {
        let found: Vec<_> = members(br#"abc, "a"b, "c" "d", **, "x y", "e", *, "f"#).collect();
        use Member::{Any, Malformed};
        let e = Member::Tag(strong(b"e"));
        assert_eq!(found, [Malformed, Malformed, Malformed, Malformed, Malformed, e, Any, Malformed]);
        assert_eq!(members(b" , ,").count(), 0);
    }

    #[test]
    fn a_file_has_one_tag_and_each_coding_its_own() {
        let tag = ETag::strong(&[0xabc, 0, 255]);
        assert_eq!(tag.as_bytes(), br#""abc-0-ff""#);
        let gzip = tag.with_coding("gzip");
        assert_eq!(gzip.as_bytes(), br#""abc-0-ff-gzip""#);
        assert_eq!(Tag::parse(gzip.as_bytes()), Some(gzip.tag()));
        assert_ne!(tag, gzip);
        assert_ne!(tag, ETag::strong(&[0xabc, 1, 255]));
    }

    #[test]
    fn a_weak_tag_is_read_back_as_one() {
        let tag = ETag::weak(&[0x5f]);
        assert_eq!(tag.as_bytes(), br#"W/"5f""#);
        assert_eq!(tag.with_coding("json").as_bytes(), br#"W/"5f-json""#);
        assert_eq!(Tag::parse(tag.as_bytes()), Some(tag.tag()));
        assert!(tag.tag().weak && !tag.tag().strong_eq(&tag.tag()) && tag.tag().weak_eq(&strong(b"5f")));
    }

    #[test]
    fn the_longest_tag_fits() {
        let tag = ETag::weak(&[u64::MAX, u64::from(u32::MAX), u64::MAX]);
        let deflate = tag.with_coding("deflate");
        assert_eq!(deflate.as_bytes().len(), tag.as_bytes().len() + "-deflate".len());
        assert!(deflate.as_bytes().ends_with(b"-deflate\""));
        // A name that is too long is cut, and the quotes stay.
        assert!(Tag::parse(tag.with_coding("a-coding-with-a-long-name").as_bytes()).is_some());
        assert!(Tag::parse(deflate.with_coding("gzip").with_coding("gzip").as_bytes()).is_some());
    }
}
