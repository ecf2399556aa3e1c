//! Byte ranges: from a Range value and a length to the parts to send, and the framing of these parts (RFC 9110, section
//! 14).
//!
//! The caller must apply ranges to GET only, evaluate If-Range (see `conditional`), choose the status, and send the
//! bytes.

use std::io::Write;

use crate::http::list;
use crate::http::number;

/// Limit of ranges in one field: more than any client needs, by a guess and not a measurement. It bounds the quadratic
/// work below.
const MAX_RANGES: usize = 64;
/// From this number on, ranges out of order are treated as an attack. Also a guess: section 17.15 says "many".
const MAX_UNORDERED: usize = 16;
/// Ranges with at most this many bytes between them are joined. A part's own head has about 80 bytes (section
/// 15.3.7.2), so joining over such a gap could save bytes. With 0, only ranges that overlap or touch are joined.
pub const COALESCE_GAP: u64 = 0;

/// What the caller sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// The caller ignores the field: 200 with the whole representation.
    Whole,
    /// The caller answers 416.
    Unsatisfiable,
    /// 206 with one range, both ends included.
    One { first: u64, last: u64 },
    /// 206 with multipart/byteranges: at least two `(first, last)`, which neither overlap nor are close to each other,
    /// in the order of the request.
    Many(Vec<(u64, u64)>),
}

/// Which bytes of a representation of `len` bytes a Range value asks for.
///
/// An unknown unit must be ignored (section 14.2). A malformed value may be ignored, and so may what section 17.15
/// calls an attack: more than two overlapping ranges, or many out of order. All of these are ignored here, because
/// every client understands the whole representation, and it costs no more than an ordinary GET. The field is also
/// ignored if the representation is empty: players and downloaders send `0-` for every file, and treat 416 as a
/// failure.
pub fn resolve(value: &[u8], len: u64) -> Ranges {
    let Some(set) = byte_range_set(value).filter(|_| len > 0) else {
        return Ranges::Whole;
    };
    let mut asked = 0;
    let mut found = Vec::new();
    for element in list::elements(set) {
        asked += 1;
        let Some(spec) = RangeSpec::parse(element) else {
            return Ranges::Whole;
        };
        if asked > MAX_RANGES {
            return Ranges::Whole;
        }
        found.extend(spec.within(len));
    }
    // A range-set has at least one element: `bytes=` and `bytes=,` are malformed.
    if asked == 0 || is_abusive(&found) {
        return Ranges::Whole;
    }
    let parts = coalesce(found);
    match parts[..] {
        [] => Ranges::Unsatisfiable,
        [(first, last)] => Ranges::One { first, last },
        _ => Ranges::Many(parts),
    }
}

/// What follows `bytes=`. Range units are case-insensitive (section 14.1).
fn byte_range_set(value: &[u8]) -> Option<&[u8]> {
    let (unit, rest) = value.split_at_checked(b"bytes".len())?;
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    rest.strip_prefix(b"=")
}

#[derive(Clone, Copy, Debug)]
enum RangeSpec {
    /// `first-` or `first-last`
    Int { first: u64, last: Option<u64> },
    /// `-length`: the last bytes.
    Suffix { length: u64 },
}

impl RangeSpec {
    fn parse(element: &[u8]) -> Option<RangeSpec> {
        let dash = memchr::memchr(b'-', element)?;
        let (before, after) = (&element[..dash], &element[dash + 1..]);
        if before.is_empty() {
            return Some(RangeSpec::Suffix { length: position(after)? });
        }
        let first = position(before)?;
        if after.is_empty() {
            return Some(RangeSpec::Int { first, last: None });
        }
        let last = position(after)?;
        // "An int-range is invalid if the last-pos value is present and less than first-pos." (section 14.1.1)
        (first <= last).then_some(RangeSpec::Int { first, last: Some(last) })
    }

    /// The bytes of the range that exist; None if it is unsatisfiable.
    fn within(self, len: u64) -> Option<(u64, u64)> {
        let end = len.checked_sub(1)?;
        match self {
            RangeSpec::Int { first, last } => (first <= end).then_some((first, last.unwrap_or(end).min(end))),
            RangeSpec::Suffix { length: 0 } => None,
            RangeSpec::Suffix { length } => Some((len.saturating_sub(length), end)),
        }
    }
}

/// Only digits, at least one. A number above u64::MAX saturates: it is past every length as well.
fn position(digits: &[u8]) -> Option<u64> {
    if !number::is_digits(digits) {
        return None;
    }
    let add = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(digits.iter().fold(0, add))
}

fn is_abusive(ranges: &[(u64, u64)]) -> bool {
    let overlaps = |one: &(u64, u64), other: &(u64, u64)| one.0 <= other.1 && other.0 <= one.1;
    // Each range overlaps itself.
    let overlapping = ranges.iter().filter(|one| ranges.iter().filter(|other| overlaps(one, other)).count() > 1);
    overlapping.count() > 2 || (ranges.len() > MAX_UNORDERED && !ranges.is_sorted())
}

/// Joins ranges that overlap or nearly touch. A joined range takes the place of the first of its members in the
/// request.
fn coalesce(ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    let is_near = |one: (u64, u64), other: (u64, u64)| {
        let distance = one.0.saturating_sub(other.1).max(other.0.saturating_sub(one.1));
        distance <= COALESCE_GAP + 1
    };
    let mut parts: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for mut range in ranges {
        let mut place = parts.len();
        // A range that has grown may reach another one: search until none is near.
        while let Some(found) = parts.iter().position(|&part| is_near(part, range)) {
            let part = parts.remove(found);
            range = (range.0.min(part.0), range.1.max(part.1));
            place = place.min(found);
        }
        parts.insert(place, range);
    }
    parts
}

/// Writes the value of Content-Range for a 206: `bytes 0-4/10`.
pub fn write_content_range(first: u64, last: u64, total: u64, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "bytes {first}-{last}/{total}");
}

/// Writes the value of Content-Range for a 416: `bytes */10`.
pub fn write_unsatisfied_range(total: u64, out: &mut Vec<u8>) {
    let _ = write!(out, "bytes */{total}");
}

/// The framing of a multipart/byteranges body (RFC 9110, section 14.6; RFC 2046, section 5.1.1).
///
/// For each range `write_part_head` and its bytes, then `write_end`; `content_length` is the sum in advance. Each
/// delimiter begins with CRLF. Before the first one this makes an empty preamble.
#[derive(Clone, Copy, Debug)]
pub struct Multipart<'a> {
    /// 1 to 70 characters that need no quotes (letters and digits), which are unlikely in the content.
    pub boundary: &'a str,
    /// The representation's media type; left out if empty.
    pub content_type: &'a str,
    /// The length of the whole representation.
    pub total: u64,
}

impl Multipart<'_> {
    /// The type of the whole body: the value of the response's Content-Type.
    pub fn write_content_type(&self, out: &mut Vec<u8>) {
        let _ = write!(out, "multipart/byteranges; boundary={}", self.boundary);
    }

    pub fn write_part_head(&self, first: u64, last: u64, out: &mut Vec<u8>) {
        let _ = write!(out, "\r\n--{}\r\n", self.boundary);
        if !self.content_type.is_empty() {
            let _ = write!(out, "Content-Type: {}\r\n", self.content_type);
        }
        let _ = write!(out, "Content-Range: bytes {first}-{last}/{}\r\n\r\n", self.total);
    }

    pub fn write_end(&self, out: &mut Vec<u8>) {
        let _ = write!(out, "\r\n--{}--\r\n", self.boundary);
    }

    /// The exact length of the body that carries these ranges.
    pub fn content_length(&self, ranges: &[(u64, u64)]) -> u64 {
        // The heads are short and few: writing them is simpler than counting digits, and always gives the right length.
        let mut scratch = Vec::with_capacity(256);
        self.write_end(&mut scratch);
        let mut length = scratch.len() as u64;
        for &(first, last) in ranges {
            scratch.clear();
            self.write_part_head(first, last, &mut scratch);
            let content = last.saturating_sub(first).saturating_add(1);
            length = length.saturating_add(scratch.len() as u64).saturating_add(content);
        }
        length
    }
}

#[cfg(test)]
mod tests {
    use super::Ranges::{Many, One, Unsatisfiable, Whole};
    use super::*;

    fn of(value: &str, len: u64) -> Ranges {
        resolve(value.as_bytes(), len)
    }

    fn one(first: u64, last: u64) -> Ranges {
        One { first, last }
    }

    #[test]
    fn the_rfc_examples_resolve() {
        // RFC 9110, section 14.1.2.
        assert_eq!(of("bytes=0-499", 10_000), one(0, 499));
        assert_eq!(of("bytes=500-999", 10_000), one(500, 999));
        assert_eq!(of("bytes=-500", 10_000), one(9_500, 9_999));
        assert_eq!(of("bytes=9500-", 10_000), one(9_500, 9_999));
        assert_eq!(of("bytes=0-0,-1", 10_000), Many(vec![(0, 0), (9_999, 9_999)]));
        assert_eq!(of("bytes= 0-999, 4500-5499, -1000", 10_000), Many(vec![(0, 999), (4_500, 5_499), (9_000, 9_999)]));
        assert_eq!(of("bytes=500-600,601-999", 10_000), one(500, 999));
        assert_eq!(of("bytes=500-700,601-999", 10_000), one(500, 999));
    }

    #[test]
    fn ends_are_clamped() {
        assert_eq!(of("bytes=0-", 5), one(0, 4));
        assert_eq!(of("BYTES=0-5", 5), one(0, 4));
        assert_eq!(of("bytes=-9", 5), one(0, 4));
        assert_eq!(of("bytes=0-99999999999999999999", 5), one(0, 4));
        assert_eq!(of("bytes=-99999999999999999999", 5), one(0, 4));
        assert_eq!(of("bytes=0-", u64::MAX), one(0, u64::MAX - 1));
        assert_eq!(of("bytes=00-0004", 9), one(0, 4));
    }

    #[test]
    fn what_begins_past_the_end_is_unsatisfiable() {
        assert_eq!(of("bytes=5-", 5), Unsatisfiable);
        assert_eq!(of("bytes=5-9,7-", 5), Unsatisfiable);
        assert_eq!(of("bytes=-0", 5), Unsatisfiable);
        assert_eq!(of("bytes=99999999999999999999-", u64::MAX), Unsatisfiable);
        assert_eq!(of("bytes=9-,0-1", 5), one(0, 1));
    }

    #[test]
    fn an_empty_representation_is_never_divided() {
        for value in ["bytes=0-", "bytes=0-0", "bytes=-0", "bytes=-5", "bytes=5-", "bytes=0-0,-5", "bytes=1-2,3-4"] {
            assert_eq!(of(value, 0), Whole, "{value}");
        }
    }

    #[test]
    fn malformed_values_and_other_units_are_ignored() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes 0-4",
            "bytes =0-4",
            "bytes:0-4",
            "items=0-4",
            "bytesx=0-4",
            "bytes=-",
            "bytes=--1",
            "bytes=1",
            "bytes=a-b",
            "bytes=0-4x",
            "bytes=+0-4",
            "bytes=0-+4",
            "bytes=0 - 4",
            "bytes=0x0-4",
            "bytes=4-0",
            "bytes=0-1,4-3",
            "bytes=0-1;2-3",
            "bytes=0-1-2",
            "bytes=0-4, items=1-2",
            "bytes=\"0-4\"",
            "=0-4",
        ] {
            assert_eq!(of(value, 10), Whole, "{value:?}");
        }
        assert_eq!(resolve(b"bytes=\xff-1", 10), Whole);
    }

    #[test]
    fn lists_may_have_white_space_and_empty_elements() {
        assert_eq!(of("bytes=0-1 ,\t,,1000-1001,", 2_000), Many(vec![(0, 1), (1_000, 1_001)]));
    }

    #[test]
    fn near_ranges_coalesce_where_the_first_was() {
        let second = 11 + COALESCE_GAP;
        assert_eq!(of(&format!("bytes=0-9,{second}-5000"), 9_000), Many(vec![(0, 9), (second, 5_000)]));
        assert_eq!(of(&format!("bytes=0-9,{}-5000", second - 1), 9_000), one(0, 5_000));
        assert_eq!(of("bytes=5000-5099,0-9,5100-", 9_000), Many(vec![(5_000, 8_999), (0, 9)]));
        // The third range closes the gap between the first two.
        assert_eq!(of("bytes=0-99,300-399,100-299", 9_000), one(0, 399));
    }

    #[test]
    fn order_is_kept() {
        assert_eq!(of("bytes=-1,0-0", 9_000), Many(vec![(8_999, 8_999), (0, 0)]));
    }

    #[test]
    fn abusive_sets_get_the_whole() {
        assert_eq!(of("bytes=0-,0-,0-", 9_000), Whole);
        assert_eq!(of("bytes=0-10,5-15,8-20", 9_000), Whole);
        assert_eq!(of("bytes=0-10,5-15", 9_000), one(0, 15));
        let set = |ranges: &[u64]| {
            let specs: Vec<_> = ranges.iter().map(|at| format!("{}-{}", at * 1_000, at * 1_000)).collect();
            of(&format!("bytes={}", specs.join(",")), 1_000_000)
        };
        let up: Vec<u64> = (0..100).collect();
        let down: Vec<u64> = (0..100).rev().collect();
        assert!(matches!(set(&up[..MAX_RANGES]), Many(parts) if parts.len() == MAX_RANGES));
        assert_eq!(set(&up[..MAX_RANGES + 1]), Whole);
        assert!(matches!(set(&down[..MAX_UNORDERED]), Many(_)));
        assert_eq!(set(&down[..MAX_UNORDERED + 1]), Whole);
    }

    #[test]
    fn content_range_has_two_forms() {
        let mut out = Vec::new();
        write_content_range(0, 4, 10, &mut out);
        out.push(b' ');
        write_unsatisfied_range(10, &mut out);
        assert_eq!(out, b"bytes 0-4/10 bytes */10");
    }

    #[test]
    fn the_length_of_a_multipart_is_foretold() {
        let content = vec![b'x'; 2_000];
        let ranges = [(0, 9), (1_000, 1_999)];
        for content_type in ["text/plain", ""] {
            let multipart = Multipart { boundary: "B", content_type, total: 2_000 };
            let mut body = Vec::new();
            for (first, last) in ranges {
                multipart.write_part_head(first, last, &mut body);
                body.extend_from_slice(&content[first as usize..=last as usize]);
            }
            multipart.write_end(&mut body);
            assert_eq!(multipart.content_length(&ranges), body.len() as u64);
        }
        let multipart = Multipart { boundary: "B", content_type: "text/plain", total: 20 };
        let mut head = Vec::new();
        multipart.write_part_head(0, 9, &mut head);
        assert_eq!(head, b"\r\n--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-9/20\r\n\r\n");
    }
}
