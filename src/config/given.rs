//! Which settings are given, by flag or by variable.

use std::collections::BTreeSet;

/// The names of the settings that are given: flags without their dashes, and `root`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given(BTreeSet<String>);

impl Given {
    pub fn add(&mut self, setting: &str) {
        self.0.insert(setting.to_owned());
    }

    pub fn has(&self, setting: &str) -> bool {
        self.0.contains(setting)
    }
}
