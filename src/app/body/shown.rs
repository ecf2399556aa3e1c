//! A request as JSON, content included. The JSON is made while it is sent.
//!
//! Content that is not UTF-8 is shown as base64.

use crate::app::body::buffered::Buffered;
use crate::app::body::pulled::{Pulled, SLICE};
use crate::http::escape;
use std::io::{self, Write};

/// Checks whether content that arrives in pieces is UTF-8.
#[derive(Debug, Default)]
pub struct TextCheck {
    is_broken: bool,
    /// The first bytes of a character that ends in the next piece: at most three.
    begun: Vec<u8>,
}

impl TextCheck {
    pub fn see(&mut self, mut piece: &[u8]) {
        while !self.is_broken && !self.begun.is_empty() {
            let Some((&first, rest)) = piece.split_first() else { return };
            piece = rest;
            self.begun.push(first);
            match std::str::from_utf8(&self.begun) {
                Ok(_) => self.begun.clear(),
                Err(error) => self.is_broken = error.error_len().is_some(),
            }
        }
        match std::str::from_utf8(piece) {
            _ if self.is_broken => {}
            Ok(_) => {}
            Err(error) if error.error_len().is_some() => self.is_broken = true,
            Err(error) => self.begun.extend_from_slice(&piece[error.valid_up_to()..]),
        }
    }

    /// Whether all pieces together are UTF-8.
    pub fn is_text(&self) -> bool {
        !self.is_broken && self.begun.is_empty()
    }
}

/// One pull shows this many bytes of content. Escaped, they are at most 54 KiB. The number is a multiple of three, so
/// that the base64 of a slice has no padding.
const SHOWN: usize = 9 * 1024;
/// Showing a byte of content costs about as much as moving this many.
const SHOWN_WEIGHT: usize = 8;
/// If the content is at most this long, the whole JSON is made at once and sent with a Content-Length, for clients that
/// cannot read chunks.
const AT_ONCE: u64 = SHOWN as u64;

/// A request as JSON. `json` holds everything before the content; the content and what follows it are written by
/// `pull`.
#[derive(Debug)]
pub struct Shown {
    json: Vec<u8>,
    /// How many bytes of `json` have been pulled. `at` is the same for `content`.
    json_at: usize,
    at: u64,
    content: Buffered,
    is_text: bool,
    is_closed: bool,
}

impl Shown {
    /// `json`: everything before the content. `is_text`: whether all of the content is UTF-8.
    pub fn new(mut json: Vec<u8>, content: Buffered, is_text: bool) -> Shown {
        json.extend_from_slice(b"\n  \"body\": \"");
        Shown { json, json_at: 0, at: 0, content, is_text, is_closed: false }
    }

    /// The whole JSON if it is short, else `None`.
    pub fn whole(&mut self) -> Option<Vec<u8>> {
        let is_small = self.content.file().is_none() && self.content.len() <= AT_ONCE;
        if !is_small || self.json.len() > SLICE {
            return None;
        }
        let mut json = Vec::new();
        while matches!(self.pull(&mut json), Ok(Pulled::Some { .. })) {}
        Some(json)
    }

    pub fn pull(&mut self, out: &mut Vec<u8>) -> io::Result<Pulled> {
        let rest = &self.json[self.json_at..];
        if !rest.is_empty() {
            let piece = &rest[..rest.len().min(SLICE)];
            out.extend_from_slice(piece);
            self.json_at += piece.len();
            return Ok(Pulled::Some { cost: piece.len() });
        }
        if self.at < self.content.len() {
            return self.pull_content(out);
        }
        if self.is_closed {
            return Ok(Pulled::End);
        }
        self.is_closed = true;
        let encoding = if self.is_text { "text" } else { "base64" };
        // Writing to a Vec cannot fail.
        let _ =
            write!(out, "\",\n  \"body_encoding\": \"{encoding}\",\n  \"body_length\": {}\n}}\n", self.content.len());
        Ok(Pulled::Some { cost: encoding.len() })
    }

    fn pull_content(&mut self, out: &mut Vec<u8>) -> io::Result<Pulled> {
        let mut slice = Vec::with_capacity(SHOWN);
        let mut count = self.content.append_slice(self.at, SHOWN, &mut slice)?;
        if self.is_text {
            // A character that the end of the slice cuts is left to the next slice.
            count = std::str::from_utf8(&slice).map_or_else(|error| error.valid_up_to(), str::len);
            escape::json_text(&slice[..count], out);
        } else {
            base64(&slice, out);
        }
        if count == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.at += count as u64;
        Ok(Pulled::Some { cost: SHOWN_WEIGHT * count })
    }
}

/// Base64 (RFC 4648, section 4).
fn base64(bytes: &[u8], text: &mut Vec<u8>) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let [first, second, third] = [0, 1, 2].map(|at| u32::from(group.get(at).copied().unwrap_or(0)));
        let bits = first << 16 | second << 8 | third;
        let sextet = |shift: u32| ALPHABET[(bits >> shift & 63) as usize];
        text.extend([sextet(18), sextet(12)]);
        text.push(if group.len() > 1 { sextet(6) } else { b'=' });
        text.push(if group.len() > 2 { sextet(0) } else { b'=' });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::body::temporary::SpoolAccount;
    use crate::proto::conn::HIGH_WATER;

    #[test]
    fn base64_as_the_rfc_has_it() {
        let coded = |plain: &[u8]| {
            let mut text = Vec::new();
            base64(plain, &mut text);
            String::from_utf8(text).unwrap()
        };
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")];
        for (plain, expected) in cases {
            assert_eq!(coded(plain.as_bytes()), expected);
        }
        assert_eq!(coded(&[0xff, 0xfe, 0xfb]), "//77");
    }

    /// The JSON of content that came in pieces of this size, and the largest piece of it.
    fn shown(content: &[u8], piece: usize) -> (String, usize) {
        let (mut gathered, mut text) = (Buffered::new(&SpoolAccount::new(0)), TextCheck::default());
        for piece in content.chunks(piece) {
            text.see(piece);
            gathered.write(piece).unwrap();
        }
        let mut shown = Shown::new(b"{".to_vec(), gathered, text.is_text());
        let (mut json, mut largest, mut out) = (Vec::new(), 0, Vec::new());
        while shown.pull(&mut out).unwrap() != Pulled::End {
            largest = largest.max(out.len());
            json.append(&mut out);
        }
        (String::from_utf8(json).unwrap(), largest)
    }

    #[test]
    fn content_is_shown_as_text_or_as_base64() {
        let text = "{\n  \"body\": \"\u{e9}\\n\",\n  \"body_encoding\": \"text\",\n  \"body_length\": 3\n}\n";
        assert_eq!(shown("\u{e9}\n".as_bytes(), 8).0, text);
        assert!(shown(b"\xff", 1).0.contains("\"body\": \"/w==\",\n  \"body_encoding\": \"base64\""));
        assert!(shown(b"", 1).0.contains("\"body\": \"\",\n  \"body_encoding\": \"text\""));
    }

    #[test]
    fn characters_are_whole_however_the_content_is_cut() {
        let content = "a\u{e9}\u{20ac}\u{1f600}<".repeat(3000);
        let expected = shown(content.as_bytes(), usize::MAX).0;
        assert!(expected.contains("a\u{e9}\u{20ac}\u{1f600}\\u003Ca") && !expected.contains('\u{fffd}'));
        for piece in [1, 2, 3, 5, 7, SHOWN - 1, SHOWN] {
            assert!(shown(content.as_bytes(), piece).0 == expected, "pieces of {piece}");
            // Cut within its last character, or broken in the middle, it is no text.
            for broken in
                [&content.as_bytes()[..content.len() - 2], &[content.as_bytes(), b"\xc3(", content.as_bytes()].concat()]
            {
                assert!(shown(broken, piece).0.contains("\"base64\""), "pieces of {piece}");
            }
        }
        let bytes: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
        let mut coded = Vec::new();
        base64(&bytes, &mut coded);
        assert!(shown(&bytes, 1000).0.contains(std::str::from_utf8(&coded).unwrap()));
    }

    #[test]
    fn no_piece_is_larger_than_the_high_water_mark() {
        for content in [vec![b'<'; 500_000], vec![0xff; 500_000], vec![b'a'; 500_000]] {
            let (json, largest) = shown(&content, 70_000);
            assert!(json.ends_with("\"body_length\": 500000\n}\n") && largest <= 2 * HIGH_WATER, "{largest}");
        }
    }
}
