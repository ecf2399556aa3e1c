//! The source files of the server, for the tests that check their paths and words. Comments, the content of strings, and
//! code that is compiled only for tests, are blanked.

#![allow(dead_code)] // each test uses its own part of this

use std::fs;
use std::path::{Path, PathBuf};

pub struct Source {
    pub path: PathBuf,
    /// From the crate's root: `["app", "files", "lookup"]`; main.rs is `["main"]`, lib.rs `["lib"]`.
    pub module: Vec<String>,
    /// The code without comments, the content of strings, and items for tests. It has as many lines as the file.
    pub code: String,
}

impl Source {
    /// The top-level module.
    pub fn top(&self) -> &str {
        &self.module[0]
    }

    /// The file and line of a position in the code.
    pub fn place(&self, at: usize) -> String {
        format!("{}:{}", self.path.display(), 1 + self.code[..at].matches('\n').count())
    }
}

/// Every source file that is compiled into the server.
pub fn sources() -> Vec<Source> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&top, &mut files);
    // `tests.rs` and the files below `tests/` are compiled only for tests. `testing.rs` is for tests too, and may
    // import from higher layers.
    files.retain(|path| {
        let inner = path.strip_prefix(&top).unwrap();
        !inner.iter().any(|part| ["tests", "tests.rs", "testing.rs"].iter().any(|name| part == *name))
    });
    files.sort();
    assert!(!files.is_empty(), "no source in {}", top.display());
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let module = module_of(path.strip_prefix(&top).unwrap());
        Source { code: code_of(&text), path, module }
    };
    files.into_iter().map(read).collect()
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn module_of(relative: &Path) -> Vec<String> {
    let mut module: Vec<String> =
        relative.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

/// The code without comments, the content of strings, and items under `#[cfg(test)]`. All are replaced by spaces, so
/// positions and line numbers stay the same.
pub fn code_of(text: &str) -> String {
    without_tests(&without_prose(text))
}

/// Replaces comments and the content of strings and characters by spaces. Line ends stay, so that line numbers are
/// right.
fn without_prose(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = prose_end(text, at);
        if end == at {
            code.push(bytes[at]);
            at += 1;
        } else {
            code.extend(bytes[at..end].iter().map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }));
            at = end;
        }
    }
    String::from_utf8(code).expect("whole characters were blanked")
}

/// The end of the comment or literal that starts at `at`. Returns `at` if none starts there.
fn prose_end(text: &str, at: usize) -> usize {
    let bytes = text.as_bytes();
    let rest = &text.as_bytes()[at..];
    let end_of = |found: Option<usize>| found.map_or(text.len(), |offset| at + offset);
    if rest.starts_with(b"//") {
        return end_of(rest.iter().position(|byte| *byte == b'\n'));
    }
    if rest.starts_with(b"/*") {
        return block_comment_end(bytes, at);
    }
    let in_name = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if !in_name && let Some(end) = raw_string_end(bytes, at) {
        return end;
    }
    match rest[0] {
        b'"' => quoted_end(bytes, at, b'"'),
        // A lifetime has no quote behind its first letter.
        b'\'' if rest.get(1) == Some(&b'\\') => quoted_end(bytes, at, b'\''),
        b'\'' => match text[at + 1..].chars().next() {
            Some(letter) if rest.get(1 + letter.len_utf8()) == Some(&b'\'') => at + 2 + letter.len_utf8(),
            _ => at,
        },
        _ => at,
    }
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at.min(bytes.len())
}

fn raw_string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    while matches!(bytes.get(at), Some(b'b' | b'c')) && at == start {
        at += 1;
    }
    if bytes.get(at) != Some(&b'r') {
        return None;
    }
    let hashes = bytes[at + 1..].iter().take_while(|byte| **byte == b'#').count();
    let open = at + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let inner = bytes[open + 1..].windows(close.len()).position(|window| window == close)?;
    Some(open + 1 + inner + close.len())
}

fn quoted_end(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// Replaces every item under `#[cfg(test)]` by spaces, up to its closing brace or semicolon.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut kept = code.to_owned();
    while let Some(start) = kept.find(MARK) {
        let end = item_end(kept.as_bytes(), start + MARK.len());
        let blank: String = kept[start..end].chars().map(|letter| if letter == '\n' { '\n' } else { ' ' }).collect();
        kept.replace_range(start..end, &blank);
    }
    kept
}

fn item_end(code: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.iter().enumerate().skip(start) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => {
                depth = depth.saturating_sub(1);
                // The bracket of an attribute or of a list of parameters does not end the item.
                if depth == 0 && *byte == b'}' {
                    return at + 1;
                }
            }
            b';' | b',' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}
