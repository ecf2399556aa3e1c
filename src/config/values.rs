//! Parsers for the values of settings. Their errors say what to write instead.

use crate::units;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

/// A size in memory. 0 is refused.
pub(super) fn memory_size(text: &str) -> Result<usize, String> {
    positive(units::size(text)?)
}

pub(super) fn cache_size(text: &str) -> Result<usize, String> {
    match units::size(text)? {
        0 => Ok(0),
        size => positive(size),
    }
}

pub(super) fn count(text: &str) -> Result<usize, String> {
    positive(units::number(text)?)
}

pub(super) fn positive(value: u64) -> Result<usize, String> {
    match usize::try_from(value) {
        Ok(0) => Err("0 is too small; give 1 or more".into()),
        Ok(value) => Ok(value),
        Err(_) => Err(format!("too large; this machine holds {} at most", usize::MAX)),
    }
}

pub(super) fn body_size(text: &str) -> Result<u64, String> {
    match units::size(text)? {
        0 => Ok(u64::MAX),
        size => Ok(size),
    }
}

pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    match units::duration(text)? {
        Duration::ZERO => Err("0 would cut every client off at once; give a time such as 10s".into()),
        duration => Ok(duration),
    }
}

/// Unreserved bytes only (RFC 3986, section 2.3), so that normalising does not change the path.
pub(super) fn prefix(text: &str) -> Result<String, String> {
    let segments = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
    let is_plain = |segment: &str| {
        let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        !matches!(segment, "" | "." | "..") && segment.bytes().all(unreserved)
    };
    match segments {
        Some(segments) if segments.split('/').all(is_plain) => Ok(text.into()),
        _ => Err("not a prefix; write a path between slashes, of letters, digits and -._~, such as /debug/".into()),
    }
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    units::number(text)
        .ok()
        .and_then(|number| u16::try_from(number).ok())
        .ok_or_else(|| "not a port; write a number from 0 to 65535 (0 picks a free one)".into())
}

/// Any path except an empty one, which a script with an unset variable may pass.
pub(super) fn path(text: &OsStr) -> Result<PathBuf, &'static str> {
    if text.is_empty() {
        return Err("the path is empty; write . for the current directory");
    }
    Ok(PathBuf::from(text))
}
