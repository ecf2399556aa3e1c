//! The cache over real files, with a clock that moves only when a test moves it.

use super::*;
use crate::app::compress::{Coder, Coders};
use crate::app::files::lookup::{Located, Symlinks};
use crate::app::files::root_path::RootRules;
use crate::app::files::scratch::Scratch;
use crate::config::site::EtagRule;

/// Far in the future, so that every file of a test is settled. (So a changed content must have another length.)
const NOW: u64 = 10_000_000_000;

struct Fixture {
    scratch: Scratch,
    root: RootPath,
    cache: Cache,
    now: Instant,
}

impl Fixture {
    fn new(limit: usize) -> Fixture {
        let scratch = Scratch::new();
        let rules = RootRules { symlinks: Symlinks::Inside, hidden: false, etag: EtagRule::Inode };
        let root = RootPath::open(&scratch.root(), rules).unwrap();
        Fixture { cache: Cache::new(limit, root.inotify()), scratch, root, now: Instant::now() }
    }

    fn load(&self, name: &str) -> Stored {
        let root = self.root.known().unwrap();
        match root.find(name.as_bytes()) {
            Ok(Located::File { file, meta }) => {
                Stored::load(&root, name.as_bytes(), (file, meta), ("text/plain", None), NOW)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Writes a file and puts it in the cache.
    fn keep(&self, name: &str, content: &str) -> Arc<Stored> {
        self.scratch.file(name, content);
        self.cache.keep(name.as_bytes(), self.load(name), self.now, NOW)
    }

    fn find(&self, name: &str) -> Option<Arc<Stored>> {
        self.cache.find(name.as_bytes(), &self.root, self.now, &mut 0)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }
}

#[test]
fn what_was_asked_counts_for_all_that_was_read_before() {
    let mut place = Fixture::new(1 << 20);
    place.keep("a", "one");
    for _ in 0..3 {
        place.scratch.file("a", "another");
        assert!(place.find("a").is_some(), "asked for before it was changed");
        place.pass(Duration::from_millis(1));
        assert!(place.find("a").is_none(), "asked for behind the change");
        assert!(place.find("a").is_none(), "what was false once is gone");
        place.keep("a", "one");
        // An entry is watched from the second time on that it is found.
        for _ in 0..3 {
            place.pass(Duration::from_millis(1));
            assert!(place.find("a").is_some());
        }
    }
}

#[test]
fn a_file_is_found_again_when_others_have_changed() {
    let mut place = Fixture::new(1 << 20);
    place.keep("a", "one");
    place.keep("b", "one");
    for round in 0..5 {
        place.pass(Duration::from_millis(600));
        assert!(place.find("a").is_some() && place.find("b").is_some(), "{round}");
        place.scratch.file("b", "another");
        place.pass(Duration::from_millis(1));
        assert!(place.find("a").is_some() && place.find("b").is_none(), "{round}");
        place.keep("b", "one");
    }
}

#[test]
fn a_file_that_has_just_changed_is_not_kept() {
    let place = Fixture::new(1 << 20);
    place.scratch.file("a", "one");
    let changed = place.load("a").meta.ctime.0 as u64;
    for now in [changed, changed + 1, changed + 2, changed - 9] {
        place.cache.keep(b"a", place.load("a"), place.now, now);
        assert!(place.find("a").is_none(), "{now}");
    }
    place.cache.keep(b"a", place.load("a"), place.now, changed + 3);
    assert!(place.find("a").is_some());
}

#[test]
fn the_least_recently_used_go_first() {
    let mut place = Fixture::new(10 * 1024);
    for name in ["a", "b", "c"] {
        place.keep(name, &"x".repeat(2000));
    }
    place.pass(RECENT + Duration::from_millis(1));
    assert!(place.find("a").is_some());
    place.keep("d", &"x".repeat(2000));
    place.keep("e", &"x".repeat(1000));
    assert!(place.find("b").is_none(), "its room was needed");
    assert!(["a", "c", "d", "e"].iter().all(|name| place.find(name).is_some()));
    place.keep("large", &"x".repeat(3000));
    assert!(place.find("large").is_none(), "a quarter is the most");
}

#[test]
fn variants_count_whether_or_not_their_files_are_asked_for_again() {
    let place = Fixture::new(100_000);
    for number in 0..50 {
        let kept = place.keep(&number.to_string(), "x");
        kept.keep_variant(Compressor::Gzip, vec![0; 20_000].into());
        let kept: usize = place.cache.lock().entries.iter().map(|(_, entry)| entry.stored.cost()).sum();
        assert!(kept < 100_000 + 100_000 / 16 + 2 * 20_000, "{kept} bytes");
    }
    let place = Fixture::new(400_000);
    let kept: Vec<_> = (0..50).map(|number| place.keep(&number.to_string(), "x")).collect();
    for (number, kept) in kept.iter().enumerate() {
        kept.keep_variant(Compressor::Gzip, vec![0; 20_000].into());
        place.find(&number.to_string());
    }
    assert!(place.cache.lock().bytes < 400_000 + 2 * 20_000);
}

#[test]
fn a_variant_in_the_making_counts_and_goes_with_its_file() {
    let coders = Coders::of(8, 1);
    let begin = || Some(Compressing::new(Coder::new(Compressor::Gzip, coders.permit().unwrap()), 2000));
    let place = Fixture::new(1 << 20);
    for number in 0..8 {
        let kept = place.keep(&number.to_string(), &"x".repeat(2000));
        assert_eq!(kept.join(Compressor::Gzip, begin), Joined::Shared);
        let mut taken = Vec::new();
        kept.pull(Compressor::Gzip, &mut 0, &mut taken).unwrap();
        // The next client that asks for the variant continues it.
        kept.leave(Compressor::Gzip, true);
    }
    place.keep("another", "x");
    let kept: usize = place.cache.lock().entries.iter().map(|(_, entry)| entry.stored.cost()).sum();
    assert!(kept < (1 << 20) + (1 << 16), "{kept} bytes");
    let free: Vec<_> = std::iter::from_fn(|| coders.permit()).collect();
    assert!(free.len() >= 5, "{} coders of files that are not kept any more", free.len());
}

#[test]
fn what_is_made_of_a_file_that_is_not_kept_is_not_shared() {
    let place = Fixture::new(1 << 20);
    let begin = || panic!("nothing to be begun");
    place.scratch.file("a", "one");
    assert_eq!(place.load("a").join(Compressor::Gzip, begin), Joined::Alone);
    // Its descriptor is kept. Its variants are not: they would take more than a quarter of the cache.
    let large = place.keep("b", &"x".repeat(300_000));
    assert!(place.find("b").is_some());
    assert_eq!(large.join(Compressor::Gzip, begin), Joined::Alone);
}

#[test]
fn no_more_files_are_held_open_than_may_be() {
    let mut place = Fixture::new(1 << 30);
    place.cache.most_open = 3;
    for name in ["a", "b", "c", "d", "e"] {
        place.keep(name, &"x".repeat(IN_MEMORY + 1));
    }
    let kept = ["a", "b", "c", "d", "e"].map(|name| place.find(name).is_some());
    assert_eq!(kept, [false, false, true, true, true]);
}

#[test]
fn larger_content_is_sent_from_a_copy_that_nobody_changes() {
    let place = Fixture::new(1 << 30);
    for (size, copied) in [(IN_MEMORY, false), (IN_MEMORY + 1, true), (WHOLE as usize, true)] {
        let text = "x".repeat(size);
        let kept = place.keep("a", &text);
        place.scratch.file("a", "changed");
        match &kept.content {
            Content::Memory(bytes) => assert!(!copied && **bytes == *text.as_bytes()),
            Content::Copy(file) => {
                let mut bytes = vec![0; size + 1];
                assert!(copied && file.read_at(&mut bytes, 0).unwrap() == size && bytes[..size] == *text.as_bytes());
            }
            Content::Open(_) => panic!("a file of {size} bytes is taken in whole"),
        }
    }
    assert!(matches!(place.keep("a", &"x".repeat(WHOLE as usize + 1)).content, Content::Open(_)));
}

#[test]
fn what_is_missing_is_missing_for_what_was_read_before() {
    let mut place = Fixture::new(1 << 20);
    place.cache.note_missing(b"a", place.now);
    assert!(place.cache.is_missing(b"a", place.now) && !place.cache.is_missing(b"b", place.now));
    place.pass(Duration::from_millis(1));
    assert!(!place.cache.is_missing(b"a", place.now));
}

#[test]
fn a_cache_of_no_bytes_keeps_nothing() {
    let place = Fixture::new(0);
    place.keep("a", "");
    assert!(place.find("a").is_none());
}

#[test]
fn what_is_below_a_directory_that_is_not_the_root_any_more_is_let_go() {
    let mut place = Fixture::new(1 << 20);
    let names = ["a", "b", "c"];
    names.iter().for_each(|name| drop(place.keep(name, "old")));
    for _ in 0..3 {
        place.pass(Duration::from_millis(1));
        assert!(names.iter().all(|name| place.find(name).is_some()));
    }
    let held = Arc::downgrade(&place.root.known().unwrap());
    std::fs::rename(place.scratch.root(), place.scratch.outside().join("old")).unwrap();
    names.iter().for_each(|name| place.scratch.file(name, "new"));
    place.pass(Duration::from_millis(1));
    assert!(place.find("b").is_none() && place.cache.lock().entries.is_empty());
    assert!(held.upgrade().is_none(), "nothing holds the directory that is not served any more");
    assert_eq!(place.cache.lock().bytes, 0);
}
