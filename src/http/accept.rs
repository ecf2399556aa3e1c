//! Proactive negotiation: chooses the content coding or the media type that a request prefers among those offered (RFC
//! 9110, sections 12.4 and 12.5).
//!
//! The caller decides what to offer, and writes the Vary field.
//!
//! One rule: a malformed element, or one with a malformed weight, is ignored. If its meaning were guessed, a client
//! could get content that it cannot read. For the same reason, if a name is given twice, its lowest weight counts.

use crate::http::chars::{is_token, quoted_string_len, trim_ows};
use crate::http::list;

/// A content coding we can send (RFC 9110, section 8.4.1; RFC 7932; RFC 8878).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Identity,
    Gzip,
    /// The zlib format (RFC 1950), in spite of the name.
    Deflate,
    Br,
    Zstd,
}

impl Coding {
    const ALL: [Coding; 5] = [Coding::Identity, Coding::Gzip, Coding::Deflate, Coding::Br, Coding::Zstd];

    /// The name in Content-Encoding. Identity is never written there.
    pub const fn name(self) -> &'static str {
        match self {
            Coding::Identity => "identity",
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
            Coding::Br => "br",
            Coding::Zstd => "zstd",
        }
    }

    /// The extension of files in this coding. `None` for deflate, for which no extension is in use.
    pub const fn suffix(self) -> Option<&'static str> {
        match self {
            Coding::Identity | Coding::Deflate => None,
            Coding::Gzip => Some(".gz"),
            Coding::Br => Some(".br"),
            Coding::Zstd => Some(".zst"),
        }
    }

    /// Names are case-insensitive; `x-gzip` is an alias (section 8.4.1.3).
    pub fn parse(name: &[u8]) -> Option<Coding> {
        if name.eq_ignore_ascii_case(b"x-gzip") {
            return Some(Coding::Gzip);
        }
        Coding::ALL.into_iter().find(|coding| name.eq_ignore_ascii_case(coding.name().as_bytes()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Use(Coding),
    /// Answer 406: the client refuses every coding that is offered.
    NotAcceptable,
}

/// A weight in thousandths (section 12.4.2).
type Weight = u16;
const FULL: Weight = 1000;

/// Chooses by the Accept-Encoding lines of a request among the codings offered, which stand in the server's order of
/// preference (section 12.5.3).
///
/// The highest weight wins. If weights are equal, the server's order decides. Identity is acceptable unless it has the
/// weight 0, by `identity;q=0`, or by `*;q=0` if identity is not named. If identity is not named, it comes after every
/// coding that the client accepts. Without the field every coding is acceptable, but identity is preferred.
pub fn negotiate<'a>(fields: impl Iterator<Item = &'a [u8]>, offered: &[Coding]) -> Choice {
    let mut named: [Option<Weight>; Coding::ALL.len()] = [None; Coding::ALL.len()];
    let mut star = None;
    let mut is_present = false;
    for line in fields {
        is_present = true;
        for element in list::elements(line) {
            let Some((name, weight)) = weighted_coding(element) else {
                continue;
            };
            let place = match Coding::parse(name) {
                Some(coding) => &mut named[coding as usize],
                None if name == b"*" => &mut star,
                None => continue,
            };
            *place = Some(place.map_or(weight, |other| weight.min(other)));
        }
    }

    // None if the coding is refused. 0 for identity without a weight of its own: it ranks below every named coding.
    let rank = |coding: Coding| match (coding, named[coding as usize]) {
        (_, Some(weight)) => Some(weight).filter(|&weight| weight > 0),
        (Coding::Identity, None) => (star != Some(0)).then_some(0),
        (_, None) => star.filter(|&weight| weight > 0),
    };

    let mut best = None;
    for &coding in offered {
        if let Some(rank) = rank(coding)
            && best.is_none_or(|(highest, _)| rank > highest)
        {
            best = Some((rank, coding));
        }
    }
    match (best, offered.first()) {
        (Some((_, coding)), _) => Choice::Use(coding),
        // Without the field, every offered coding is acceptable.
        (None, Some(&coding)) if !is_present => Choice::Use(coding),
        (None, _) => Choice::NotAcceptable,
    }
}

/// `codings [ weight ]`, and no other parameter.
fn weighted_coding(element: &[u8]) -> Option<(&[u8], Weight)> {
    let mut parts = list::parameters(element);
    let name = parts.next().filter(|name| is_token(name))?;
    let weight = match parts.next() {
        Some(parameter) => weight(parameter)?,
        None => FULL,
    };
    parts.next().is_none().then_some((name, weight))
}

/// Parses `q=0.5`, without white space around the `=`. None if it is another parameter or the weight is not a qvalue.
fn weight(parameter: &[u8]) -> Option<Weight> {
    match parameter {
        [b'q' | b'Q', b'=', value @ ..] => qvalue(value),
        _ => None,
    }
}

/// Parses `0` or `1` with at most three decimals, which must be zero after `1` (section 12.4.2).
fn qvalue(value: &[u8]) -> Option<Weight> {
    let (one, decimals) = match value {
        [b'0'] => return Some(0),
        [b'1'] => return Some(FULL),
        [b'0', b'.', decimals @ ..] => (false, decimals),
        [b'1', b'.', decimals @ ..] => (true, decimals),
        _ => return None,
    };
    if decimals.len() > 3 || !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| decimals.get(at).map_or(0, |byte| Weight::from(byte - b'0'));
    let thousandths = digit(0) * 100 + digit(1) * 10 + digit(2);
    match (one, thousandths) {
        (true, 0) => Some(FULL),
        (true, _) => None,
        (false, thousandths) => Some(thousandths),
    }
}

/// Chooses by the Accept lines of a request among the media types offered (`text/html`, in lower case and without
/// parameters), which stand in the server's order of preference; gives an index into them (section 12.5.1).
///
/// Each offer has the weight of the most specific range that matches it. The highest weight wins. If weights are equal,
/// the server's order decides. Without the field, or if it holds no valid range, every offer is acceptable. None if no
/// offer is acceptable.
pub fn media<'a>(fields: impl Iterator<Item = &'a [u8]> + Clone, offered: &[&str]) -> Option<usize> {
    let ranges = fields.flat_map(list::elements).filter_map(MediaRange::parse);
    if ranges.clone().next().is_none() {
        return (!offered.is_empty()).then_some(0);
    }
    let mut best = None;
    for (index, offer) in offered.iter().enumerate() {
        let mut fit: Option<(u8, Weight)> = None;
        for range in ranges.clone() {
            let Some(specificity) = range.specificity(offer) else {
                continue;
            };
            fit = match fit {
                Some((more, _)) if more > specificity => fit,
                Some((same, other)) if same == specificity => Some((same, range.weight.min(other))),
                _ => Some((specificity, range.weight)),
            };
        }
        if let Some((_, weight @ 1..)) = fit
            && best.is_none_or(|(highest, _)| weight > highest)
        {
            best = Some((weight, index));
        }
    }
    best.map(|(_, index)| index)
}

/// Whether Accept names HTML with a weight above 0, as browsers do when a person follows a link. `*/*` alone, which
/// scripts, images and curl send, is not enough.
pub fn accepts_html_explicitly<'a>(fields: impl Iterator<Item = &'a [u8]> + Clone) -> bool {
    fields.flat_map(list::elements).filter_map(MediaRange::parse).any(|range| {
        range.weight > 0
            && ["text/html", "application/xhtml+xml"]
                .iter()
                .any(|html| range.specificity(html) == Some(MediaRange::EXACT))
    })
}

#[derive(Clone, Copy, Debug)]
struct MediaRange<'a> {
    kind: &'a [u8],
    subtype: &'a [u8],
    /// Whether a parameter narrows the type. `charset` does not count: `application/json;charset=utf-8` is common, and
    /// generated content is UTF-8.
    is_narrowed: bool,
    weight: Weight,
}

impl<'a> MediaRange<'a> {
    const EXACT: u8 = 2;

    fn parse(element: &'a [u8]) -> Option<MediaRange<'a>> {
        let mut parts = list::parameters(element);
        let range = parts.next()?;
        let slash = memchr::memchr(b'/', range)?;
        let (kind, subtype) = (&range[..slash], &range[slash + 1..]);
        if !is_token(kind) || !is_token(subtype) || (kind == b"*" && subtype != b"*") {
            return None;
        }
        let mut media_range = MediaRange { kind, subtype, is_narrowed: false, weight: FULL };
        for parameter in parts {
            if matches!(parameter, [b'q' | b'Q', b'=', ..]) {
                media_range.weight = weight(parameter)?;
                // Parameters behind the weight were accept-ext in RFC 7231. RFC 9110 has removed them: they are
                // ignored.
                break;
            }
            let name = parameter_name(parameter)?;
            media_range.is_narrowed |= !name.eq_ignore_ascii_case(b"charset");
        }
        Some(media_range)
    }

    /// How specifically this range matches a type. None if it does not match.
    fn specificity(&self, offer: &str) -> Option<u8> {
        let (kind, subtype) = offer.split_once('/')?;
        if self.is_narrowed {
            None
        } else if self.kind == b"*" {
            Some(0)
        } else if !self.kind.eq_ignore_ascii_case(kind.as_bytes()) {
            None
        } else if self.subtype == b"*" {
            Some(1)
        } else {
            self.subtype.eq_ignore_ascii_case(subtype.as_bytes()).then_some(MediaRange::EXACT)
        }
    }
}

/// The name in `name=value`, the value being a token or a quoted-string (section 5.6.6).
fn parameter_name(parameter: &[u8]) -> Option<&[u8]> {
    let equals = memchr::memchr(b'=', parameter)?;
    let (name, value) = (&parameter[..equals], trim_ows(&parameter[equals + 1..]));
    let is_valid = is_token(value) || quoted_string_len(value) == Some(value.len());
    (is_token(name) && is_valid).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::Coding::{Br, Deflate, Gzip, Identity, Zstd};
    use super::*;

    const OFFERED: [Coding; 3] = [Gzip, Deflate, Identity];

    fn choose(lines: &[&str]) -> Choice {
        negotiate(lines.iter().map(|line| line.as_bytes()), &OFFERED)
    }

    #[test]
    fn without_the_field_bytes_are_plain() {
        assert_eq!(choose(&[]), Choice::Use(Identity));
        assert_eq!(choose(&[""]), Choice::Use(Identity));
        assert_eq!(negotiate([].into_iter(), &[Gzip]), Choice::Use(Gzip));
        assert_eq!(negotiate([&b""[..]].into_iter(), &[Gzip]), Choice::NotAcceptable);
        assert_eq!(negotiate([].into_iter(), &[]), Choice::NotAcceptable);
    }

    #[test]
    fn codings_are_chosen_by_weight_then_by_our_order() {
        for (value, coding) in [
            ("gzip", Gzip),
            ("GZip", Gzip),
            ("x-gzip", Gzip),
            ("deflate", Deflate),
            ("deflate, gzip", Gzip),
            ("gzip;q=0.5, deflate;q=0.8", Deflate),
            ("gzip ; Q=0.001", Gzip),
            ("gzip;q=1.000", Gzip),
            ("gzip;q=0.", Identity),
            ("gzip;q=1.", Gzip),
            ("compress, br", Identity),
            ("*", Gzip),
            ("gzip;q=0, *", Deflate),
            ("gzip;q=0.4, *;q=0.3", Gzip),
            ("*;q=0.3", Gzip),
            ("gzip;q=0", Identity),
            ("gzip;q=0.000, deflate;q=0", Identity),
            ("identity", Identity),
            ("identity, gzip", Gzip),
            ("identity, gzip;q=0.9", Identity),
            ("identity;q=0.5, gzip;q=0.5", Gzip),
            ("identity;q=0, gzip;q=0.001", Gzip),
            ("identity;q=0.5, *;q=0", Identity),
            ("*;q=0, gzip", Gzip),
            (" ,gzip,, ", Gzip),
        ] {
            assert_eq!(choose(&[value]), Choice::Use(coding), "{value:?}");
        }
        assert_eq!(choose(&["br", "gzip"]), Choice::Use(Gzip));
        let lines = [&b"gzip, br, zstd"[..]];
        assert_eq!(negotiate(lines.into_iter(), &[Br, Zstd, Gzip, Identity]), Choice::Use(Br));
    }

    #[test]
    fn only_a_refusal_of_everything_is_not_acceptable() {
        for value in ["identity;q=0", "*;q=0", "identity;q=0, gzip;q=0, br", "identity;q=0, gzip;q=0, deflate;q=0, *"] {
            assert_eq!(choose(&[value]), Choice::NotAcceptable, "{value:?}");
        }
        assert_eq!(choose(&["identity;q=0, *"]), Choice::Use(Gzip));
    }

    #[test]
    fn a_malformed_element_is_absent() {
        for bad in [
            "gzip;q=2",
            "gzip;q=1.001",
            "gzip;q=0.1234",
            "gzip;q=-1",
            "gzip;q=",
            "gzip;q= 1",
            "gzip;q =1",
            "gzip;q=.5",
            "gzip;q=+1",
            "gzip;x=1",
            "gzip;q=1;q=1",
            "gzip q=1",
            "gz ip",
            "\"gzip\"",
            "q=1",
            ";q=1",
        ] {
            assert_eq!(choose(&[bad, "deflate;q=0.1"]), Choice::Use(Deflate), "{bad:?}");
            assert_eq!(choose(&[bad, "*;q=0.1"]), Choice::Use(Gzip), "{bad:?}");
        }
        // A decimal comma makes two elements: `gzip;q=0`, and a coding named 5.
        assert_eq!(choose(&["gzip;q=0,5", "*;q=0.1"]), Choice::Use(Deflate));
    }

    #[test]
    fn the_lowest_of_two_weights_counts() {
        assert_eq!(choose(&["gzip;q=0, gzip"]), Choice::Use(Identity));
        assert_eq!(choose(&["x-gzip, gzip;q=0"]), Choice::Use(Identity));
    }

    #[test]
    fn codings_have_names_and_suffixes() {
        for coding in Coding::ALL {
            assert_eq!(Coding::parse(coding.name().as_bytes()), Some(coding));
        }
        assert_eq!(Zstd.suffix(), Some(".zst"));
        assert_eq!(Deflate.suffix(), None);
    }

    const TYPES: [&str; 3] = ["text/html", "application/json", "text/plain"];

    fn pick(value: &str) -> Option<&'static str> {
        media([value.as_bytes()].into_iter(), &TYPES).map(|index| TYPES[index])
    }

    #[test]
    fn media_types_are_chosen_by_weight_of_the_closest_range() {
        for (value, expected) in [
            ("*/*", Some("text/html")),
            ("", Some("text/html")),
            ("garbage", Some("text/html")),
            ("application/json", Some("application/json")),
            ("APPLICATION/Json;charset=\"utf-8\"", Some("application/json")),
            ("text/*", Some("text/html")),
            ("text/*, text/html;q=0", Some("text/plain")),
            ("text/html;q=0.5, */*;q=0.1, text/plain", Some("text/plain")),
            ("application/json, */*;q=0.9", Some("application/json")),
            ("text/html;level=1", None),
            ("text/html;level=1;q=0, text/html;q=0.3", Some("text/html")),
            ("image/png", None),
            ("*/*;q=0", None),
            ("text/html;q=9, text/plain", Some("text/plain")),
            ("*/html, text/plain;q=0.1", Some("text/plain")),
            ("text/plain;q=0.5;ext=\"a,b\"", Some("text/plain")),
        ] {
            assert_eq!(pick(value), expected, "{value:?}");
        }
        assert_eq!(media([].into_iter(), &TYPES), Some(0));
        assert_eq!(media([].into_iter(), &[]), None);
    }

    #[test]
    fn html_is_explicit_when_named() {
        let explicit = |value: &str| accepts_html_explicitly([value.as_bytes()].into_iter());
        assert!(explicit("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"));
        assert!(explicit("application/xhtml+xml"));
        for not in ["*/*", "text/*", "text/html;q=0", "application/json", ""] {
            assert!(!explicit(not), "{not:?}");
        }
    }
}
