//! A number of threads that the system does not allow is refused at the start, before clients connect.

mod common;

use common::run;

#[test]
fn a_number_of_threads_that_cannot_be_had_is_refused_at_start() {
    // A thread needs several memory mappings, and the system limits their number.
    let mappings = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
    for (engine, flag) in [("threads", "--max-connections"), ("pool", "--pool-size")] {
        let number = mappings.trim();
        let mut args = vec!["--engine", engine, "--max-connections", number, "--port", "0"];
        if engine == "pool" {
            args.extend(["--pool-size", number]);
        }
        let outcome = run(&args);
        assert_eq!(outcome.code, Some(1), "{engine}: {}", outcome.stderr);
        let words = format!("{flag} {number} of --engine {engine} is too much: ");
        assert!(outcome.stderr.contains(&words), "{}", outcome.stderr);
        for words in [" is enough for ", "raise ", "--engine event"] {
            assert!(outcome.stderr.contains(words), "{words} in {}", outcome.stderr);
        }
    }
}
