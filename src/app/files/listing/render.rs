//! From sorted entries to HTML or JSON, in pieces.
//!
//! Its one rule: **a name is untrusted bytes**: it is written through `http::escape` only, both as text and as a link.

use super::entries::Entry;
use super::scan::Made;
use crate::cost;
use crate::http::escape;
use std::io::{self, Write};

/// A piece ends after the row that reaches this size.
pub const PIECE: usize = 8 * 1024;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{margin:2rem auto;max-width:60rem;padding:0 1rem;\
font:1rem/1.5 system-ui,sans-serif;color:#222;background:#fff}\
h1{font-size:1.25rem;overflow-wrap:anywhere}\
table{width:100%;border-collapse:collapse}\
th{text-align:left}\
th,td{padding:.2rem .5rem;border-bottom:1px solid #ddd}\
td:first-child{overflow-wrap:anywhere}\
th:nth-child(2),td:nth-child(2){text-align:right;white-space:nowrap}\
td:nth-child(3){white-space:nowrap;font-variant-numeric:tabular-nums}\
a{color:#05a;text-decoration:none;unicode-bidi:isolate}\
a:hover,a:focus{text-decoration:underline}\
@media(prefers-color-scheme:dark){\
body{color:#ddd;background:#181818}th,td{border-color:#333}a{color:#8bf}}";

/// The format of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListingFormat {
    Html,
    /// An array of objects: `name`, `type` (`file` or `directory`), `size` in bytes (files only), `modified` (RFC
    /// 3339), and `href`, as in the page. `href` is needed because JSON cannot hold a name that is not UTF-8.
    Json,
}

impl ListingFormat {
    pub fn content_type(self) -> &'static str {
        match self {
            ListingFormat::Html => "text/html; charset=utf-8",
            ListingFormat::Json => "application/json",
        }
    }
}

/// A position in a rendered listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The number of pieces before it.
    pub piece: usize,
    /// The number of entries before it.
    entry: usize,
    /// Whether the last piece is before it.
    pub ended: bool,
}

/// Appends the piece of `made` that begins at `place` to `out`, and moves `place` behind it. Returns the cost, with
/// that of the bytes. Pieces end at the same places for every client. `path` is as for `Root::find`, empty for the
/// root.
pub fn piece(
    made: &Made,
    path: &[u8],
    form: ListingFormat,
    place: &mut Cursor,
    out: &mut Vec<u8>,
) -> io::Result<usize> {
    let start = out.len();
    let first_entry = place.entry;
    if place.piece == 0 {
        match form {
            ListingFormat::Html => page_start(path, out),
            ListingFormat::Json => out.push(b'['),
        }
    }
    let order = &made.entries.order;
    while out.len() - start < PIECE
        && let Some(&at) = order.get(place.entry)
        && let Some((name, entry)) = made.entries.get(at)
    {
        match form {
            ListingFormat::Html => row(name, entry, out)?,
            ListingFormat::Json => object(name, entry, place.entry == 0, out)?,
        }
        place.entry += 1;
    }
    if place.entry == order.len() {
        place.ended = true;
        match form {
            ListingFormat::Html => page_end(order.len(), made.cut, out)?,
            ListingFormat::Json => out.extend_from_slice(b"\n]\n"),
        }
    }
    place.piece += 1;
    Ok(cost::ENTRY * (place.entry - first_entry) + cost::ESCAPED_BYTE * (out.len() - start))
}

fn object(name: &[u8], entry: &Entry, is_first: bool, out: &mut Vec<u8>) -> io::Result<()> {
    out.extend_from_slice(if is_first { b"\n" } else { b",\n" });
    out.extend_from_slice(b"{\"name\":");
    escape::json_string(name, out);
    match entry.directory {
        true => out.extend_from_slice(b",\"type\":\"directory\""),
        false => write!(out, ",\"type\":\"file\",\"size\":{}", entry.size)?,
    }
    out.extend_from_slice(b",\"modified\":\"");
    let (date, clock) = civil(entry.mtime);
    write!(out, "{date}T{clock}:{:02}Z\",\"href\":\"", entry.mtime.rem_euclid(60))?;
    href(name, entry, out);
    out.extend_from_slice(b"\"}");
    Ok(())
}

fn page_start(path: &[u8], out: &mut Vec<u8>) {
    let slash: &[u8] = if path.is_empty() || path.ends_with(b"/") { b"" } else { b"/" };
    let shown = &[b"/", path, slash].concat();
    out.extend_from_slice(b"<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n");
    out.extend_from_slice(b"<meta name=\"viewport\" content=\"width=device-width\">\n");
    out.extend_from_slice(b"<title>Index of ");
    escape::html(shown, out);
    out.extend_from_slice(b"</title>\n<style>");
    out.extend_from_slice(STYLE.as_bytes());
    out.extend_from_slice(b"</style>\n<main>\n<h1>Index of ");
    escape::html(shown, out);
    out.extend_from_slice(b"</h1>\n<table>\n<thead><tr><th scope=\"col\">Name");
    out.extend_from_slice(b"<th scope=\"col\">Size<th scope=\"col\">Modified (UTC)\n<tbody>\n");
    if !path.is_empty() {
        out.extend_from_slice(b"<tr><td><a href=\"../\">../</a><td><td>\n");
    }
}

fn page_end(shown: usize, cut: bool, out: &mut Vec<u8>) -> io::Result<()> {
    out.extend_from_slice(b"</table>\n");
    match shown {
        0 if cut => out.extend_from_slice(b"<p>The list was cut: the directory holds more names than are looked at.\n"),
        0 => out.extend_from_slice(b"<p>This directory is empty.\n"),
        shown if cut => writeln!(out, "<p>The list was cut: {shown} entries are shown, the directory holds more.")?,
        _ => {}
    }
    out.extend_from_slice(b"</main>\n</html>\n");
    Ok(())
}

fn row(name: &[u8], entry: &Entry, out: &mut Vec<u8>) -> io::Result<()> {
    let slash: &[u8] = if entry.directory { b"/" } else { b"" };
    out.extend_from_slice(b"<tr><td><a href=\"");
    href(name, entry, out);
    out.extend_from_slice(b"\">");
    escape::html(name, out);
    out.extend_from_slice(slash);
    out.extend_from_slice(b"</a><td");
    if !entry.directory {
        write!(out, " title=\"{} bytes\"", entry.size)?;
    }
    out.push(b'>');
    if !entry.directory {
        size(entry.size, out)?;
    }
    out.extend_from_slice(b"<td><time>");
    time(entry.mtime, out)?;
    out.extend_from_slice(b"</time>\n");
    Ok(())
}

/// The relative reference from the page to the entry.
fn href(name: &[u8], entry: &Entry, out: &mut Vec<u8>) {
    if name.contains(&b':') {
        out.extend_from_slice(b"./"); // else `a:b` were the scheme `a` (RFC 3986 section 4.2)
    }
    escape::path_segment(name, out);
    if entry.directory {
        out.push(b'/');
    }
}

/// `17 B`, `1.5 KiB`, `3.0 GiB`; rounded down, so that 1023.99 KiB does not read 1024.0.
fn size(bytes: u64, out: &mut Vec<u8>) -> io::Result<()> {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return write!(out, "{bytes} B");
    }
    let power = bytes.ilog2() / 10;
    let whole = bytes >> (10 * power);
    let tenth = ((bytes >> (10 * (power - 1))) & 1023) * 10 / 1024;
    write!(out, "{whole}.{tenth} {}", UNITS[power as usize - 1])
}

/// `2024-02-29 23:59Z`, a format that the `time` element accepts. A time outside the years 1 to 9999, which only a
/// broken file system or `touch -d` sets, is shown as the nearest time inside.
fn time(seconds: i64, out: &mut Vec<u8>) -> io::Result<()> {
    let (date, clock) = civil(seconds);
    write!(out, "{date} {clock}Z")
}

/// `2024-02-29` and `23:59`.
fn civil(seconds: i64) -> (String, String) {
    let seconds = seconds.clamp(-62_135_596_800, 253_402_300_799);
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days to civil date by Hinnant's algorithm: years begin on 1 March, so that the leap day is last; eras have 400
    // years.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + i64::from(month <= 2);
    (format!("{year:04}-{month:02}-{day:02}"), format!("{:02}:{:02}", rest / 3_600, rest / 60 % 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_style_is_small() {
        assert!(STYLE.len() < 1024, "{}", STYLE.len());
    }

    #[test]
    fn sizes() {
        for (bytes, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1535, "1.4 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (1 << 20, "1.0 MiB"),
            (3 << 30, "3.0 GiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            let mut out = Vec::new();
            size(bytes, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn times() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00Z"),
            (-1, "1969-12-31 23:59Z"),
            (951_782_400, "2000-02-29 00:00Z"),
            (1_709_251_199, "2024-02-29 23:59Z"),
            (1_709_251_200, "2024-03-01 00:00Z"),
            (4_107_542_400, "2100-03-01 00:00Z"),
            (1_735_689_599, "2024-12-31 23:59Z"),
            (i64::MIN, "0001-01-01 00:00Z"),
            (i64::MAX, "9999-12-31 23:59Z"),
        ] {
            let mut out = Vec::new();
            time(seconds, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
