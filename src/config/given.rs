//! Which settings are given, and how: by flag or by variable.

use crate::environment;
use std::collections::BTreeSet;

/// The names of the settings that are given: flags without their dashes, and `root`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    all: BTreeSet<String>,
    /// Those that are given by variables.
    variables: BTreeSet<String>,
}

impl Given {
    pub fn add(&mut self, setting: &str) {
        self.all.insert(setting.to_owned());
    }

    pub fn has(&self, setting: &str) -> bool {
        self.all.contains(setting)
    }

    /// Whether a variable gives the setting, and no flag does.
    pub fn is_variable(&self, setting: &str) -> bool {
        self.variables.contains(setting)
    }

    /// Notes that the settings that the command line does not give come from variables.
    pub fn note_variables(&mut self, on_line: &Given) {
        self.variables = self.all.difference(&on_line.all).cloned().collect();
    }

    /// A setting as the user wrote it, or would write it: `--port`, `DUSTDEVIL_PORT` or `ROOT`.
    pub fn spelled(&self, setting: &str) -> String {
        match setting {
            "root" => "ROOT".into(),
            _ if self.is_variable(setting) => environment::variable(setting),
            _ => format!("--{setting}"),
        }
    }
}
