//! A directory as a page of HTML, or as JSON for programs.
//!
//! Lists what the resolver would serve and nothing else: regular files, directories, and links that
//! lead to such by the root's rules. Leaves to the caller that the page's address ends in a slash,
//! without which every link here would be wrong, and the header fields. Its one rule: **a name is
//! bytes from a stranger**: it is written through `http::escape` only, as text and as a link.

use std::io::{self, Write};
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use super::lookup::{Meta, Root, TEMPORARY};
use crate::http::escape;

/// A listing is made within one turn of the loop, so it has an end. 10,000 entries take 20 ms and
/// 1.3 MB here (release build; half of the time is one stat an entry). Longer directories want an
/// index file.
const MAX_ENTRIES: usize = 10_000;

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

/// How the names are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Html,
    /// An array of objects: `name`, `type` (`file` or `directory`), `size` in bytes (files only), `modified` (RFC
    /// 3339), and `href`, as in the page: a name that is not UTF-8 cannot stand in JSON, a link to it can.
    Json,
}

impl Form {
    pub fn content_type(self) -> &'static str {
        match self {
            Form::Html => "text/html; charset=utf-8",
            Form::Json => "application/json",
        }
    }
}

struct Entry {
    name: Vec<u8>,
    directory: bool,
    meta: Meta,
}

/// Appends the page of `dir`, which `root.find(path)` gave, to `out`. `path` is as for `find`,
/// empty for the root. An entry that cannot be asked about, or is gone by now, is left out; an error means
/// that the directory cannot be read.
pub fn render(root: &Root, dir: impl AsFd, path: &[u8], form: Form, out: &mut Vec<u8>) -> io::Result<()> {
    let (mut entries, cut) = read(root, dir, path)?;
    entries.sort_unstable_by(|a, b| (!a.directory, &a.name).cmp(&(!b.directory, &b.name)));
    match form {
        Form::Html => page(&entries, cut, path, out),
        Form::Json => array(&entries, out),
    }
}

fn array(entries: &[Entry], out: &mut Vec<u8>) -> io::Result<()> {
    out.push(b'[');
    for (at, entry) in entries.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b"\n" } else { b",\n" });
        out.extend_from_slice(b"{\"name\":");
        escape::json_string(&entry.name, out);
        match entry.directory {
            true => out.extend_from_slice(b",\"type\":\"directory\""),
            false => write!(out, ",\"type\":\"file\",\"size\":{}", entry.meta.size)?,
        }
        out.extend_from_slice(b",\"modified\":\"");
        let (date, clock) = civil(entry.meta.mtime.0);
        write!(out, "{date}T{clock}:{:02}Z\",\"href\":\"", entry.meta.mtime.0.rem_euclid(60))?;
        href(entry, out);
        out.extend_from_slice(b"\"}");
    }
    out.extend_from_slice(b"\n]\n");
    Ok(())
}

fn page(entries: &[Entry], cut: bool, path: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
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
    for entry in entries {
        row(entry, out)?;
    }
    out.extend_from_slice(b"</table>\n");
    match entries.len() {
        0 => out.extend_from_slice(b"<p>This directory is empty.\n"),
        shown if cut => writeln!(out, "<p>The list was cut: {shown} entries are shown, the directory holds more.")?,
        _ => {}
    }
    out.extend_from_slice(b"</main>\n</html>\n");
    Ok(())
}

/// The entries that are served, in no order, and whether there are more of them.
fn read(root: &Root, dir: impl AsFd, path: &[u8]) -> io::Result<(Vec<Entry>, bool)> {
    // Opened anew: the descriptor may be O_PATH, and has a position of its own.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = Dir::new(rustix::fs::openat(dir.as_fd(), ".", flags, Mode::empty())?)?;
    let mut entries = Vec::new();
    for (seen, item) in open.enumerate() {
        let item = item?;
        // Entries that are left out cost as much as the others: they count.
        if seen >= MAX_ENTRIES {
            return Ok((entries, true));
        }
        let name = item.file_name().to_bytes();
        if matches!(name, b"." | b"..") || name.starts_with(TEMPORARY) || (name[0] == b'.' && !root.hidden()) {
            continue;
        }
        let Some((kind, meta)) = status(root, dir.as_fd(), path, name) else {
            continue;
        };
        entries.push(Entry { name: name.to_vec(), directory: kind.is_dir(), meta });
    }
    Ok((entries, false))
}

/// What a name in `dir` leads to, if the resolver would serve it.
fn status(root: &Root, dir: impl AsFd, path: &[u8], name: &[u8]) -> Option<(FileType, Meta)> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    match FileType::from_raw_mode(stat.st_mode) {
        kind @ (FileType::RegularFile | FileType::Directory) => Some((kind, Meta::of(&stat))),
        // Only the resolver knows whether it is followed.
        FileType::Symlink => {
            let slash: &[u8] = if path.is_empty() || path.ends_with(b"/") { b"" } else { b"/" };
            root.status(&[path, slash, name].concat(), &mut 0).ok()
        }
        _ => None,
    }
}

fn row(entry: &Entry, out: &mut Vec<u8>) -> io::Result<()> {
    let slash: &[u8] = if entry.directory { b"/" } else { b"" };
    out.extend_from_slice(b"<tr><td><a href=\"");
    href(entry, out);
    out.extend_from_slice(b"\">");
    escape::html(&entry.name, out);
    out.extend_from_slice(slash);
    out.extend_from_slice(b"</a><td");
    if !entry.directory {
        write!(out, " title=\"{} bytes\"", entry.meta.size)?;
    }
    out.push(b'>');
    if !entry.directory {
        size(entry.meta.size, out)?;
    }
    out.extend_from_slice(b"<td><time>");
    time(entry.meta.mtime.0, out)?;
    out.extend_from_slice(b"</time>\n");
    Ok(())
}

/// A reference from the listing to the entry.
fn href(entry: &Entry, out: &mut Vec<u8>) {
    if entry.name.contains(&b':') {
        out.extend_from_slice(b"./"); // else `a:b` were the scheme `a` (RFC 3986 section 4.2)
    }
    escape::path_segment(&entry.name, out);
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

/// `2024-02-29 23:59Z`, a form the `time` element knows. A time outside the years 1 to 9999, which
/// only a broken file system or `touch -d` sets, is shown as the nearest inside.
fn time(seconds: i64, out: &mut Vec<u8>) -> io::Result<()> {
    let (date, clock) = civil(seconds);
    write!(out, "{date} {clock}Z")
}

/// `2024-02-29` and `23:59`.
fn civil(seconds: i64) -> (String, String) {
    let seconds = seconds.clamp(-62_135_596_800, 253_402_300_799);
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days to civil date, Hinnant's way: years from 1 March, so that the leap day comes last; eras
    // of 400 years.
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
    use super::super::lookup::{Found, Symlinks};
    use super::super::scratch::Scratch;
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    fn page(dir: &Scratch, path: &str, symlinks: Symlinks, hidden: bool) -> String {
        let root = Root::open(&dir.root(), symlinks, hidden).unwrap();
        let Ok(Found::Directory { dir, .. }) = root.find(path.as_bytes()) else { panic!("no directory {path}") };
        let mut out = b"before".to_vec();
        render(&root, &dir, path.as_bytes(), Form::Html, &mut out).unwrap();
        assert!(out.starts_with(b"before<!doctype html>"));
        String::from_utf8(out).expect("a page is UTF-8 whatever the names are")
    }

    fn links(page: &str) -> Vec<&str> {
        page.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
    }

    /// What a browser asks for when such a link is followed, without the directory.
    fn followed(link: &str) -> Vec<u8> {
        assert!(!link.contains(['?', '#', ' ', '\n', '<', '"', '\\', '\'']), "{link}");
        let link = link.strip_prefix("./").unwrap_or(link);
        percent_encoding::percent_decode_str(link).collect()
    }

    #[test]
    fn directories_come_first_and_each_kind_is_sorted_by_bytes() {
        let dir = Scratch::new();
        for path in ["b.txt", "B.txt", "a.txt", "z/x", "Z/x", "10", "9"] {
            dir.file(path, "hello");
        }
        let page = page(&dir, "", Symlinks::Inside, false);
        assert_eq!(links(&page), ["Z/", "z/", "10", "9", "B.txt", "a.txt", "b.txt"]);
        assert!(page.contains("<td title=\"5 bytes\">5 B<td><time>20"), "{page}");
        assert!(page.contains("<title>Index of /</title>"));
    }

    #[test]
    fn only_below_the_root_a_link_leads_up() {
        let dir = Scratch::new();
        dir.file("sub dir/a", "");
        for path in ["sub dir", "sub dir/"] {
            assert_eq!(links(&page(&dir, path, Symlinks::Inside, false)), ["../", "a"]);
        }
        assert_eq!(links(&page(&dir, "", Symlinks::Inside, false)), ["sub%20dir/"]);
    }

    #[test]
    fn an_empty_directory_says_so() {
        let dir = Scratch::new();
        assert!(page(&dir, "", Symlinks::Inside, false).contains("This directory is empty."));
    }

    #[test]
    fn names_of_any_bytes_are_shown_escaped_and_their_links_lead_to_them() {
        let dir = Scratch::new();
        let mut names: Vec<&[u8]> = vec![
            b"a b",
            b"100%",
            b"%41",
            b"#x",
            b"?x",
            b"new\nline",
            b"\"'",
            b"<script>alert(1)<",
            b"&amp;",
            b"javascript:x",
            b"http:",
            "gr\u{fc}n \u{2192}".as_bytes(),
            b"\xff\xfe",
            b"back\\slash",
            b"a;b=c+d",
            b"~",
            b"*",
            b"\x01\x7f",
        ];
        for name in &names {
            dir.file(OsStr::from_bytes(name), "");
        }
        let page = page(&dir, "", Symlinks::Inside, false);
        names.sort();
        let links = links(&page);
        assert_eq!(links.iter().map(|link| followed(link)).collect::<Vec<_>>(), names);
        assert!(links.iter().all(|link| !link.contains(':') || link.starts_with("./")), "{links:?}");
        assert!(!page.contains("<script>"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(1)&lt;"), "{page}");
    }

    #[test]
    fn the_path_in_the_title_is_escaped() {
        let dir = Scratch::new();
        dir.file("<b>&/a", "");
        let page = page(&dir, "<b>&/", Symlinks::Inside, false);
        assert_eq!(page.matches("Index of /&lt;b&gt;&amp;/").count(), 2, "{page}");
        assert!(!page.contains("<b>"));
    }

    #[test]
    fn dotfiles_are_listed_when_they_are_served() {
        let dir = Scratch::new();
        for path in ["a", ".env", ".git/config", ".well-known/x", ".dustdevil-1-ab.tmp"] {
            dir.file(path, "");
        }
        assert_eq!(links(&page(&dir, "", Symlinks::Inside, false)), ["a"]);
        assert_eq!(links(&page(&dir, "", Symlinks::Inside, true)), [".git/", ".well-known/", ".env", "a"]);
    }

    #[test]
    fn a_link_is_listed_when_it_is_served_and_nothing_special_is() {
        let dir = Scratch::new();
        dir.file("sub/file", "hello");
        dir.link("sub", "to-directory");
        dir.link("sub/file", "to-file");
        dir.link(dir.root().join("sub/file"), "absolute");
        dir.link("../outside", "out");
        dir.link(dir.outside().join("secret.txt"), "out-file");
        dir.link("nothing", "dangling");
        dir.link("loop", "loop");
        dir.link("../sub/file", "sub/up");
        let fifo = dir.root().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, fifo, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.root().join("socket")).unwrap();
        let page = |path, symlinks| page(&dir, path, symlinks, false);
        assert_eq!(links(&page("", Symlinks::Inside)), ["sub/", "to-directory/", "absolute", "to-file"]);
        assert_eq!(links(&page("sub", Symlinks::Inside)), ["../", "file", "up"]);
        assert_eq!(links(&page("", Symlinks::None)), ["sub/"]);
        let all = ["out/", "sub/", "to-directory/", "absolute", "out-file", "to-file"];
        assert_eq!(links(&page("", Symlinks::All)), all);
        assert_eq!(page("", Symlinks::Inside).matches("title=\"5 bytes\"").count(), 2);
    }

    #[test]
    fn a_long_directory_is_cut_and_says_so() {
        let dir = Scratch::new();
        for n in 0..MAX_ENTRIES + 10 {
            dir.link("/", format!("{n}"));
        }
        let page = page(&dir, "", Symlinks::All, false);
        let rows = page.matches("<tr><td>").count();
        assert!((MAX_ENTRIES - 2..=MAX_ENTRIES).contains(&rows), "{rows}");
        assert!(page.contains(&format!("The list was cut: {rows} entries are shown")));
    }

    #[test]
    fn a_directory_that_may_not_be_listed_is_an_error() {
        use std::os::unix::fs::PermissionsExt;
        if rustix::process::geteuid().is_root() {
            return; // root reads everything
        }
        let dir = Scratch::new();
        dir.file("passable/a", "");
        let mode = |mode| {
            let path = dir.root().join("passable");
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(0o311);
        let root = Root::open(&dir.root(), Symlinks::Inside, false).unwrap();
        let Ok(Found::Directory { dir: fd, .. }) = root.find(b"passable") else { panic!("not passable") };
        let error = render(&root, fd, b"passable", Form::Html, &mut Vec::new()).unwrap_err();
        mode(0o755);
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

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
