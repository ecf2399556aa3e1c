//! Patterns of paths: `*.css`, `assets/**`, `/docs/v?/*.html`.
//!
//! | in a pattern | matches                                        |
//! |--------------|------------------------------------------------|
//! | `*`          | any number of bytes of one name, even none     |
//! | `?`          | one byte of a name                             |
//! | `**`         | as a whole segment: any number of directories  |
//! | anything else| itself; there are no escapes and no classes    |
//!
//! A pattern without a slash matches the name alone, in any directory. A pattern with a slash matches the whole path
//! below the root. A slash at the beginning has no other meaning.

use std::str::FromStr;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    /// Without the slash at the beginning.
    pattern: Vec<u8>,
    /// The pattern is matched against the last segment alone.
    of_name: bool,
}

impl FromStr for Glob {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Glob, &'static str> {
        let pattern = text.strip_prefix('/').unwrap_or(text);
        if pattern.is_empty() || pattern.ends_with('/') {
            return Err("the pattern names no file; write *.css, assets/** or /index.html");
        }
        Ok(Glob { pattern: pattern.into(), of_name: !text.contains('/') })
    }
}

impl Glob {
    /// Whether the pattern matches `path`, a path below the root without a slash at the beginning.
    pub fn matches(&self, path: &[u8]) -> bool {
        let slash = |byte: &u8| *byte == b'/';
        if self.of_name {
            return name_matches(&self.pattern, path.rsplit(slash).next().unwrap_or_default());
        }
        let is_any = |segment: &[u8]| segment == b"**";
        sequence_matches(self.pattern.split(slash), path.split(slash), is_any, name_matches)
    }
}

fn name_matches(pattern: &[u8], name: &[u8]) -> bool {
    let fits = |wanted: &u8, byte: &u8| wanted == byte || *wanted == b'?';
    sequence_matches(pattern.iter(), name.iter(), |wanted| *wanted == b'*', fits)
}

/// Whether the items (bytes of a name, or segments of a path) match the pattern. Some members of the pattern (`is_any`)
/// match any number of items. At a mismatch, the last of these members takes one more item. Those before it need not be
/// tried again. So the time is at most the product of the two lengths.
fn sequence_matches<P: Copy, T: Copy>(
    mut pattern: impl Iterator<Item = P> + Clone,
    mut items: impl Iterator<Item = T> + Clone,
    is_any: impl Fn(P) -> bool,
    fits: impl Fn(P, T) -> bool,
) -> bool {
    let mut retry = None;
    loop {
        let rest = items.clone();
        match (pattern.next(), items.next()) {
            (Some(wanted), _) if is_any(wanted) => {
                retry = Some((pattern.clone(), rest.clone()));
                items = rest;
                continue;
            }
            (None, None) => return true,
            (Some(wanted), Some(item)) if fits(wanted, item) => continue,
            _ => {}
        }
        let Some((behind, from)) = &mut retry else { return false };
        if from.next().is_none() {
            return false;
        }
        (pattern, items) = (behind.clone(), from.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names_and_paths() {
        for (pattern, good, bad) in [
            ("*.css", &["a.css", "sub/dir/a.css", ".css"][..], &["a.css.map", "css", "a.css/x"][..]),
            ("/*.css", &["a.css"], &["sub/a.css"]),
            ("*", &["a", "a/b"], &[]),
            ("**", &["a", "a/b/c", ""], &[]),
            ("index.html", &["index.html", "sub/index.html"], &["xindex.html", "index.htm"]),
            ("/index.html", &["index.html"], &["sub/index.html"]),
            ("a?c", &["abc", "x/a?c"], &["ac", "abbc", "a/c"]),
            ("assets/**", &["assets/a", "assets/b/c.js"], &["asset/a", "x/assets/a"]),
            ("**/fonts/*", &["fonts/a", "x/fonts/a", "x/y/fonts/a"], &["fonts/x/a", "fonts"]),
            ("a/**/z", &["a/z", "a/b/z", "a/b/c/z", "a/z/z"], &["a/b/c", "az", "b/a/z"]),
            ("a/**/b/**/c", &["a/b/c", "a/x/b/b/y/c"], &["a/c", "a/b/x"]),
            ("docs/v?/*.html", &["docs/v1/a.html"], &["docs/v1/x/a.html", "docs/v/a.html", "docs/v10/a.html"]),
            ("a/b**", &["a/b", "a/bc"], &["a/b/c"]),
            ("*a*b*", &["ab", "xaxbx", "aab"], &["ba", "b"]),
            ("[a]", &["[a]"], &["a"]),
        ] {
            let glob: Glob = pattern.parse().unwrap();
            for path in good {
                assert!(glob.matches(path.as_bytes()), "{pattern} {path}");
            }
            for path in bad {
                assert!(!glob.matches(path.as_bytes()), "{pattern} {path}");
            }
        }
        for bad in ["", "/", "a/", "assets//"] {
            assert!(bad.parse::<Glob>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_bytes() {
        assert!("caf?.txt".parse::<Glob>().unwrap().matches(b"caf\xe9.txt"));
        assert!("*.txt".parse::<Glob>().unwrap().matches(b"\xff\n.txt"));
    }

    #[test]
    fn a_hostile_path_costs_no_exponential_time() {
        let glob: Glob = "**/a*a*a*a*a*a*a*a*b/**/x".parse().unwrap();
        assert!(!glob.matches(&b"a".repeat(8000)));
        assert!(!glob.matches(&b"a/".repeat(4000)));
    }
}
