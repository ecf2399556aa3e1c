//! The Cache-Control of files: none, unless the user asked for it.

use crate::config::site::CacheRule;

/// For names whose content never changes (RFC 8246). A year is the longest that caches honour.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// The rules of a site.
#[derive(Debug)]
pub struct CacheControl {
    rules: Vec<CacheRule>,
    /// Whether files with a hash in their name are immutable.
    immutable: bool,
}

impl CacheControl {
    pub fn new(rules: Vec<CacheRule>, immutable: bool) -> CacheControl {
        CacheControl { rules, immutable }
    }

    /// The Cache-Control of the file at `path` below the root. A hash in the name takes precedence over the rules, so
    /// that `--immutable --cache-control '**=no-cache'` does what it seems to.
    pub fn of(&self, path: &[u8]) -> Option<&str> {
        if self.immutable && has_hash(path.rsplit(|&b| b == b'/').next().unwrap_or_default()) {
            return Some(IMMUTABLE);
        }
        self.rules.iter().find(|rule| rule.glob.matches(path)).map(|rule| rule.value.as_str())
    }
}

/// Whether a file's name holds a hash of its content, as bundlers write it.
///
/// The name is split at its dots. The hash is a whole piece, but not the first or the last (the extension), as in
/// `app.3f2a9c1b.js`. Or it follows the last dash of the first piece, as in `index-BdG3kz9a.css`. More pieces may come
/// after it, as in `app.3f2a9c1b.js.map`. A UUID is not taken for a hash.
///
/// A hash that is missed costs a revalidation. A name that is wrongly taken for a hash makes a file stale for a year:
/// so `is_hash` is strict.
fn has_hash(name: &[u8]) -> bool {
    let mut pieces = name.split(|&b| b == b'.');
    let first = pieces.next().unwrap_or_default();
    if pieces.next_back().is_none() {
        return false;
    }
    let dashed = first.iter().rposition(|&b| b == b'-').map(|dash| &first[dash + 1..]);
    pieces.chain(dashed.filter(|_| !ends_in_uuid(first))).any(is_hash)
}

/// Either 8 to 64 hex digits in lower case, or exactly 8 letters and digits, as bundlers cut base64 and base32. Letters
/// and digits must be mixed as in no word, date or version. Hex must change between letters and digits at least twice
/// (`decade20` and `2024beef` do not). The other form must change between upper case, lower case and digits at least
/// four times (`Version2` and `iPhone15` do not).
fn is_hash(piece: &[u8]) -> bool {
    let is_hex = piece.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let has_digit = piece.iter().any(u8::is_ascii_digit);
    let kind = |b: &u8| (b.is_ascii_digit(), b.is_ascii_uppercase());
    let changes = piece.windows(2).filter(|two| kind(&two[0]) != kind(&two[1])).count();
    match piece.len() {
        8..=64 if is_hex => changes >= 2,
        8 => has_digit && changes >= 4 && piece.iter().all(u8::is_ascii_alphanumeric),
        _ => false,
    }
}

fn ends_in_uuid(piece: &[u8]) -> bool {
    let groups = piece.rsplit(|&b| b == b'-').map(<[u8]>::len);
    groups.take(4).eq([12, 4, 4, 4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_bundlers_are_seen() {
        for name in [
            "app.3f2a9c1b.js",
            "index-BdG3kz9a.css",
            "index-BdG3kz9a.js.map",
            "main.3f2a9c1b.chunk.css",
            "787.3f2a9c1b.js",
            "vendor.3f2a9c1b4d5e6f708192.js",
            "logo-3f2a9c1b.svg",
            "my-app-logo.d41d8cd98f00b204e9800998ecf8427e.png",
            "index-B4Z3KQ7X.js",
            "app.3F2A9C1B.js",
        ] {
            assert!(has_hash(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn words_dates_versions_and_identifiers_are_no_hashes() {
        for name in [
            "",
            "index.html",
            "app.js",
            "3f2a9c1b",
            "3f2a9c1b.js",
            "app.3f2a9c1b",
            "app-3f2a9c1b",
            "app.3F2A9C1B2.js",
            "app.3f2a9c1.js",
            "jquery-3.7.1.min.js",
            "bootstrap.bundle.min.js",
            "report-20240131.pdf",
            "report.20240131.pdf",
            "backup-2024-01-31.tar.gz",
            "photo-IMG20240.jpg",
            "photo-12345678.jpg",
            "log.1706745600.txt",
            "story-deadbeef.txt",
            "story-decade20.txt",
            "story-2024beef.txt",
            "Report-Version2.pdf",
            "case-iPhone15.jpg",
            "chapter-Chapter1.html",
            "background.html",
            "the-javascript.html",
            "MyCamelCaseName.js",
            "user-550e8400-e29b-41d4-a716-446655440a00.json",
            "x.component.js",
            "index-BdGakzzz.css",
            "index-BdG3kz9.css",
            "index-BdG3kz9a1.css",
            "index-BdG3kz\u{e9}.css",
        ] {
            assert!(!has_hash(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_hash_goes_before_the_rules_and_the_first_rule_before_the_others() {
        let rule = |glob: &str, value: &str| CacheRule { glob: glob.parse().unwrap(), value: value.into() };
        let rules = || vec![rule("*.css", "max-age=60"), rule("**", "no-cache")];
        let cache_control = CacheControl::new(rules(), true);
        assert_eq!(cache_control.of(b"a/app.3f2a9c1b.css"), Some(IMMUTABLE));
        assert_eq!(cache_control.of(b"3f2a9c1b.x/app.css"), Some("max-age=60"));
        assert_eq!(cache_control.of(b"app.js"), Some("no-cache"));
        assert_eq!(CacheControl::new(rules(), false).of(b"app.3f2a9c1b.js"), Some("no-cache"));
        assert_eq!(CacheControl::new(Vec::new(), false).of(b"app.js"), None);
    }
}
