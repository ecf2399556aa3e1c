//! Every flag of `--help` is set by a black-box test. The test fails if a new flag has no test. It does not show that a
//! test is good.

mod common;

use common::run;
use std::fs;
use std::path::Path;

/// The flags of a help text, each with all its spellings: `["-p", "--port"]`.
fn flags(help: &str) -> Vec<Vec<&str>> {
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let ways = lines.map(|line| line.split([' ', ',', '=', '[']).filter(|word| word.starts_with('-')).collect());
    ways.filter(|ways: &Vec<&str>| ways.iter().any(|way| way.starts_with("--"))).collect()
}

/// Whether a text has the flag as an argument: a string that begins with the whole word.
fn names(text: &str, flag: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '-');
    let begins = |before: &str| before.ends_with('"');
    text.match_indices(flag).any(|(at, _)| begins(&text[..at]) && ends(&text[at + flag.len()..]))
}

#[test]
fn every_flag_is_named_by_a_test() {
    let mut tests = String::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")).unwrap().flatten() {
        let name = entry.file_name();
        if name != "guard_flags.rs" && name.to_string_lossy().ends_with(".rs") {
            tests += &fs::read_to_string(entry.path()).unwrap();
        }
    }
    let outcome = run(&["--help"]);
    let flags = flags(&outcome.stdout);
    assert!(flags.len() > 40, "{flags:?}");
    let unnamed: Vec<_> = flags.iter().filter(|ways| !ways.iter().any(|way| names(&tests, way))).collect();
    assert!(unnamed.is_empty(), "no test in tests/ sets {unnamed:?}");
}

#[test]
fn a_flag_is_named_by_its_whole_word_only() {
    let text = r#"["--proxy-timeout", "1s"] "--cors=https://a.example" see --port"#;
    for (flag, named) in [("--proxy-timeout", true), ("--proxy", false), ("--cors", true), ("--port", false)] {
        assert_eq!(names(text, flag), named, "{flag}");
    }
    let help = "Options:\n  -p, --port <PORT>\n          Words --not-this\n      --cors[=<ORIGIN>]\n      --no-x\n";
    assert_eq!(flags(help), [vec!["-p", "--port"], vec!["--cors"], vec!["--no-x"]]);
}
