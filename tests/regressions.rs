//! What mutation and fuzzing have found, each with its story: the input, the check that it broke, and why.

#[path = "fuzz/checks.rs"]
mod checks;

/// Check, input, story.
const FINDS: &[(&str, &[u8], &str)] = &[];

#[test]
fn what_was_found_once_is_found_no_more() {
    for (name, input, story) in FINDS {
        eprintln!("{name}: {story}");
        (checks::named(name).check)(input);
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
