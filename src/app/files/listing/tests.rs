//! Listings of real directories.

use super::render::{ListingFormat, PIECE};
use super::scan::MAX_ENTRIES;
use super::shared::{Listing, ListingFailure, SHARED};
use super::shelf::Shelf;
use super::*;
use crate::app::files::lookup::{Located, Meta, Root, Symlinks};
use crate::app::files::scratch::Scratch;
use crate::cost;
use crate::http::date::Now;
use rustix::fs::{FileType, Mode};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

fn root(dir: &Scratch, symlinks: Symlinks, hidden: bool) -> Arc<Root> {
    Arc::new(Root::open(&dir.root(), symlinks, hidden).unwrap())
}

fn open(root: &Root, path: &str) -> (OwnedFd, Meta) {
    let Ok(Located::Directory { dir, meta }) = root.find(path.as_bytes()) else { panic!("no directory {path}") };
    (dir, meta)
}

/// Long after the directories were made.
fn later() -> Now {
    Now::new(Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000))
}

fn find(shelf: &Shelf, root: &Arc<Root>, path: &str, now: &Now) -> Arc<Listing> {
    let (dir, meta) = open(root, path);
    shelf.find(root, path.as_bytes(), (dir, &meta), now).unwrap()
}

/// Runs all steps, checks the cost of each, and returns their number.
fn make(listing: &Listing, now: &Now) -> usize {
    for step in 1..100_000 {
        let cost = listing.step(now);
        assert!(cost <= cost::ADVANCE, "{cost}");
        if listing.outcome().is_some() {
            return step;
        }
    }
    panic!("it is never made");
}

/// The whole content. Checks the cost and the length of each piece.
fn content(listing: &Arc<Listing>, form: ListingFormat) -> Vec<u8> {
    let mut pages = pages::Pages::new(Arc::clone(listing), form, None);
    let mut all = Vec::new();
    let mut piece = Vec::new();
    while let Some(cost) = pages.pull(&mut piece).unwrap() {
        assert!(cost <= cost::ADVANCE && piece.len() < PIECE + 4096, "{cost} for {} bytes", piece.len());
        all.append(&mut piece);
    }
    all
}

fn page(dir: &Scratch, path: &str, symlinks: Symlinks, hidden: bool) -> String {
    let listing = find(&Shelf::new(0), &root(dir, symlinks, hidden), path, &later());
    make(&listing, &later());
    let page =
        String::from_utf8(content(&listing, ListingFormat::Html)).expect("a page is UTF-8 whatever the names are");
    assert!(page.starts_with("<!doctype html>"));
    page
}

fn links(page: &str) -> Vec<&str> {
    page.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

/// The name that a browser asks for when it follows such a link.
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
fn a_directory_is_cut_only_where_it_holds_more_than_fit() {
    let dir = Scratch::new();
    for n in 0..MAX_ENTRIES {
        dir.link("/", format!("{n}"));
    }
    let rows = |page: &str| page.matches("<tr><td>").count();
    let fits = page(&dir, "", Symlinks::All, false);
    assert_eq!(rows(&fits), MAX_ENTRIES);
    assert!(!fits.contains("The list was cut"));
    dir.link("/", "one more");
    let cut = page(&dir, "", Symlinks::All, false);
    assert_eq!(rows(&cut), MAX_ENTRIES);
    assert!(cut.contains(&format!("The list was cut: {MAX_ENTRIES} entries are shown")));
    // None of these entries leads to anything that is served.
    let nothing = page(&dir, "", Symlinks::None, false);
    assert_eq!(rows(&nothing), 0);
    assert!(nothing.contains("The list was cut") && !nothing.contains("is empty"));
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
    let root = root(&dir, Symlinks::Inside, false);
    let listing = find(&Shelf::new(0), &root, "passable", &later());
    make(&listing, &later());
    mode(0o755);
    assert!(matches!(listing.outcome(), Some(Err(ListingFailure::Unreadable(Errno::ACCESS)))));
}

#[test]
fn no_step_costs_much_whatever_the_entries_are() {
    let name = |n: usize| format!("{n:0>255}");
    let dir = Scratch::new();
    let target = dir.root().join("target");
    dir.file("target", "hello");
    for place in ["files", "absolute", "dangling"] {
        std::fs::create_dir(dir.root().join(place)).unwrap();
    }
    for n in 0..MAX_ENTRIES {
        match n {
            0..5_000 => dir.link(&target, format!("absolute/{}", name(n))),
            _ => dir.link(target.with_file_name("nothing"), format!("dangling/{}", name(n))),
        }
        std::fs::hard_link(&target, dir.root().join("files").join(name(n))).unwrap();
    }
    let root = root(&dir, Symlinks::Inside, false);
    for (path, shown) in [("files", MAX_ENTRIES), ("absolute", 5_000), ("dangling", 0)] {
        let listing = find(&Shelf::new(0), &root, path, &later());
        assert!(make(&listing, &later()) > 100, "{path}");
        let page = String::from_utf8(content(&listing, ListingFormat::Html)).unwrap();
        assert!(!page.contains("The list was cut"));
        let names = page.split("</a>").filter_map(|row| row.rsplit('>').next()).filter(|name| name.len() == 255);
        assert!(names.clone().is_sorted(), "{path}");
        assert_eq!(names.count(), shown, "{path}");
        let json = String::from_utf8(content(&listing, ListingFormat::Json)).unwrap();
        assert_eq!(json.matches("{\"name\":\"0").count(), shown, "{path}");
    }
}

#[test]
fn a_listing_that_is_made_is_shared_for_a_second() {
    let dir = Scratch::new();
    dir.file("a", "");
    let (shelf, root, mut now) = (Shelf::new(1 << 20), root(&dir, Symlinks::Inside, false), later());
    let first = find(&shelf, &root, "", &now);
    assert!(Arc::ptr_eq(&first, &find(&shelf, &root, "", &now)), "before it begins");
    first.step(&now);
    assert!(Arc::ptr_eq(&first, &find(&shelf, &root, "", &now)), "while it is made");
    make(&first, &now);
    let unix = SystemTime::UNIX_EPOCH + Duration::from_secs(now.unix);
    now.update(now.instant + SHARED - Duration::from_millis(1), unix);
    assert!(Arc::ptr_eq(&first, &find(&shelf, &root, "", &now)));
    now.update(now.instant + Duration::from_millis(1), unix);
    assert!(!Arc::ptr_eq(&first, &find(&shelf, &root, "", &now)));
}

#[test]
fn a_name_that_comes_or_goes_shows_in_the_next_listing() {
    let dir = Scratch::new();
    dir.file("a", "");
    let (shelf, root, now) = (Shelf::new(1 << 20), root(&dir, Symlinks::Inside, false), later());
    let changes: [fn(&Scratch); 3] = [
        |dir| dir.file("b", ""),
        |dir| std::fs::rename(dir.root().join("b"), dir.root().join("c")).unwrap(),
        |dir| std::fs::remove_file(dir.root().join("c")).unwrap(),
    ];
    let mut before = find(&shelf, &root, "", &now);
    make(&before, &now);
    for change in changes {
        change(&dir);
        let after = find(&shelf, &root, "", &now);
        assert!(!Arc::ptr_eq(&before, &after));
        make(&after, &now);
        assert_ne!(
            after.etag(ListingFormat::Html).unwrap().as_bytes(),
            before.etag(ListingFormat::Html).unwrap().as_bytes()
        );
        before = after;
    }
}

/// A name that came within the same tick of the clock would not change the directory's times.
#[test]
fn of_a_directory_that_has_just_changed_one_scan_is_under_way_and_one_waits() {
    let dir = Scratch::new();
    for n in 0..200 {
        dir.file(format!("{n}"), "");
    }
    let (shelf, root) = (Shelf::new(1 << 20), root(&dir, Symlinks::Inside, false));
    let now = Now::new(Instant::now(), SystemTime::now());
    let first = find(&shelf, &root, "", &now);
    first.step(&now);
    first.step(&now);
    let second = find(&shelf, &root, "", &now);
    assert!(!Arc::ptr_eq(&first, &second));
    dir.file("new", "");
    for _ in 0..10 {
        assert!(Arc::ptr_eq(&second, &find(&shelf, &root, "", &now)));
    }
    make(&second, &now);
    assert!(matches!(first.outcome(), Some(Ok(_))), "it went first");
    assert!(String::from_utf8(content(&second, ListingFormat::Html)).unwrap().contains("\"new\""));
    assert!(!Arc::ptr_eq(&second, &find(&shelf, &root, "", &now)));
}

#[test]
fn what_nobody_uses_is_kept_as_far_as_there_is_room() {
    let dir = Scratch::new();
    for n in 0..1000 {
        dir.file(format!("{n}"), "");
    }
    let (root, now) = (root(&dir, Symlinks::Inside, false), later());
    let mut pages = Vec::new();
    for (keep, is_kept) in [(0, false), (10_000, false), (1 << 20, true)] {
        let shelf = Shelf::new(keep);
        let listing = find(&shelf, &root, "", &now);
        make(&listing, &now);
        shelf.keep(&listing);
        shelf.keep(&listing);
        for form in [ListingFormat::Html, ListingFormat::Json, ListingFormat::Html, ListingFormat::Json] {
            pages.push(content(&listing, form));
        }
        let weak = Arc::downgrade(&listing);
        drop(listing);
        assert_eq!(weak.upgrade().is_some(), is_kept, "{keep}");
        assert!(shelf.bytes() <= keep && (shelf.bytes() > 0) == is_kept, "{} of {keep}", shelf.bytes());
    }
    assert_eq!(pages.len(), 12);
    assert!(pages.iter().step_by(2).all(|page| *page == pages[0]), "kept or not, it is the same page");
    assert!(pages.iter().skip(1).step_by(2).all(|page| *page == pages[1]));
}

#[test]
fn of_more_listings_than_memory_is_for_the_oldest_are_given_up() {
    const MOST: usize = 2 << 20;
    let dir = Scratch::new();
    for n in 0..100 {
        dir.file(format!("{n:0>255}"), "");
    }
    let (shelf, root) = (Shelf::with_room(0, MOST), root(&dir, Symlinks::Inside, false));
    // The directory has just changed, so each later request gets a listing of its own.
    let now = Now::new(Instant::now(), SystemTime::now());
    let mut held = Vec::new();
    let mut filled = 0;
    while held.len() < filled + 10 {
        let listing = find(&shelf, &root, "", &now);
        make(&listing, &now);
        shelf.keep(&listing);
        assert!(shelf.bytes() <= MOST, "{}", shelf.bytes());
        held.push(listing);
        if pull(&held[0]).is_ok() {
            filled = held.len();
        }
    }
    assert!(filled > 50, "{filled}");
    let sent: Vec<bool> = held.iter().map(|listing| pull(listing).is_ok()).collect();
    assert!(sent.is_sorted() && sent.iter().filter(|sent| !**sent).count() == 10, "{sent:?}");
    held.clear();
    assert_eq!(shelf.bytes(), 0);
}

fn pull(listing: &Arc<Listing>) -> std::io::Result<Option<usize>> {
    pages::Pages::new(Arc::clone(listing), ListingFormat::Html, None).pull(&mut Vec::new())
}

#[test]
fn a_listing_that_finds_no_memory_fails_and_is_not_shared() {
    let dir = Scratch::new();
    dir.file("a", "");
    let (shelf, root, now) = (Shelf::with_room(0, 0), root(&dir, Symlinks::Inside, false), later());
    let listing = find(&shelf, &root, "", &now);
    make(&listing, &now);
    assert!(matches!(listing.outcome(), Some(Err(ListingFailure::Full))));
    assert_eq!(shelf.bytes(), 0);
    assert!(!Arc::ptr_eq(&listing, &find(&shelf, &root, "", &now)));
}
