//! The side of libFuzzer: hands the inputs it makes to one check, named by `DUSTDEVIL_FUZZ`. Built by `scripts/fuzz` in
//! a crate of its own; not a part of the package.
#![no_main]

mod checks;

use std::sync::OnceLock;

static CHECK: OnceLock<&checks::Check> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        let name = std::env::var("DUSTDEVIL_FUZZ").expect("DUSTDEVIL_FUZZ names a check");
        let check = CHECK.get_or_init(|| checks::named(&name));
        // The corpus is read after this.
        if let Ok(folder) = std::env::var("DUSTDEVIL_FUZZ_SEEDS") {
            for (number, seed) in check.seeds.iter().enumerate() {
                std::fs::write(format!("{folder}/seed-{number}"), seed).expect("the folder of the corpus");
            }
        }
    },
    |input: &[u8]| {
        if let Some(check) = CHECK.get() {
            (check.check)(input);
        }
    }
);
