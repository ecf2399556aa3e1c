//! Bugs that mutation and fuzzing have found: for each the input, the check that it broke, and the reason.

#[path = "fuzz/checks.rs"]
mod checks;

/// The name of the check, the input, and the reason for the failure.
fn finds() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    vec![
        (
            "chunked",
            b"0;\x0cx\r\n\r\n".to_vec(),
            "the check's own reading took form feed for white space, as `trim_ascii` does; the decoder refuses it",
        ),
        (
            "head",
            [&[b'M'; 410][..], b" /", &[b't'; 110]].concat(),
            "a method so long that the target behind it crosses the limit of the head: 431 when the bytes ended there, 414 \
         when there were more of them",
        ),
        (
            "session",
            [b"GET /".to_vec(), vec![b't'; 2043]].concat(),
            "a target longer than the head may be: 431 when the bytes were cut at exactly the limit of the head, else 414",
        ),
    ]
}

#[test]
fn inputs_that_once_failed_pass() {
    for (name, input, story) in finds() {
        eprintln!("{name}: {story}");
        (checks::named(name).check)(&input);
    }
}

#[test]
fn every_seed_passes_its_check() {
    for check in checks::CHECKS {
        for seed in check.seeds {
            eprintln!("{}: \"{}\"", check.name, seed.escape_ascii());
            (check.check)(seed);
        }
    }
}
