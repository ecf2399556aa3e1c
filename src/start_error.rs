//! An error at start: one sentence for the person at the terminal, and the exit code.
//!
//! The code that finds the error writes the sentence (what, where, why, what to do). Only `main` prints it and exits.
//! A wrong command line is not a `StartError`: clap reports it and exits with 2.

use std::fmt;

/// An error at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError {
    /// Names the address or path, the cause and a remedy; no newline and no full stop at the end.
    pub message: String,
    /// The exit code of the process.
    pub code: u8,
}

impl StartError {
    /// An error that the state of the machine causes, not the command line: exit code 1.
    pub fn new(message: impl Into<String>) -> StartError {
        StartError { message: message.into(), code: 1 }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StartError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_its_sentence_and_exits_with_one() {
        let error = StartError::new("cannot serve \"x\": no such directory");
        assert_eq!(error.to_string(), "cannot serve \"x\": no such directory");
        assert_eq!(error.code, 1);
    }
}
