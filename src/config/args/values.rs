//! Value parsers that need clap's own traits. The parsing functions themselves are in `config`.

use crate::config::responses::ErrorPage;
use crate::config::server::LogTarget;
use crate::config::{responses, server, site, values};
use clap::Command;
use clap::builder::{OsStringValueParser, PossibleValue, TypedValueParser};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A group of flags with its defaults, as parsed from an empty command line.
pub(super) fn defaults<A: clap::Args>() -> A {
    let command = A::augment_args(Command::new("defaults").no_binary_name(true));
    command
        .try_get_matches_from(Vec::<OsString>::new())
        .and_then(|matches| A::from_arg_matches(&matches))
        .expect("the defaults are constants, which a test has parsed")
}

/// One of the possible values of a flag, with its help.
pub(super) fn choice(name: &'static str, help: &'static str) -> PossibleValue {
    PossibleValue::new(name).help(help)
}

pub(super) fn path() -> impl TypedValueParser<Value = PathBuf> {
    parsed(values::path)
}

pub(super) fn access_log() -> impl TypedValueParser<Value = LogTarget> {
    parsed(server::access_log)
}

pub(super) fn error_page() -> impl TypedValueParser<Value = ErrorPage> {
    parsed(|text| responses::error_page(text.as_bytes()))
}

pub(super) fn file_name() -> impl TypedValueParser<Value = Vec<u8>> {
    parsed(|text| site::file_name(text.as_bytes()))
}

pub(super) fn path_in_root() -> impl TypedValueParser<Value = Vec<u8>> {
    parsed(|text| site::path_in_root(text.as_bytes()))
}

/// A parser for values that need not be UTF-8.
fn parsed<T: Clone + Send + Sync + 'static>(
    parse: fn(&OsStr) -> Result<T, &'static str>,
) -> impl TypedValueParser<Value = T> {
    OsStringValueParser::new().try_map(move |text| parse(&text))
}
