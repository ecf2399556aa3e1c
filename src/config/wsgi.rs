//! Settings for Python applications, and for directories that are served beside them.

use crate::config::values;
use crate::units;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// The settings for the processes of all applications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WsgiRules {
    /// Processes for each application.
    pub workers: usize,
    /// Threads of each process; each takes one request at a time.
    pub threads: usize,
    /// The timeout: how long a request may make no progress in an application.
    pub timeout: Duration,
    /// A process is replaced after about this many requests; 0 means never.
    pub max_requests: u64,
    /// Requests that may wait for a process.
    pub queue: usize,
    /// The directory in which applications are imported and run. `None`: the current directory.
    pub folder: Option<PathBuf>,
    /// Whether applications are imported again when a source changes.
    pub reload: bool,
    /// The interpreter. `None`: that of a virtual environment, if one is found.
    pub python: Option<PathBuf>,
}

/// An application and its prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppMount {
    /// `/`, or a path that does not end in a slash.
    pub prefix: String,
    /// `module:callable`
    pub app: String,
}

/// A directory and its prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteMount {
    /// Begins and ends with a slash.
    pub prefix: String,
    pub directory: PathBuf,
}

impl FromStr for AppMount {
    type Err = String;

    fn from_str(text: &str) -> Result<AppMount, String> {
        let (prefix, app) = match text.split_once('=') {
            Some((prefix, app)) => (plain_prefix(prefix)?, app),
            None => (String::new(), text),
        };
        let usage = "an application is written module:callable or module:factory()";
        let (module, callable) = app.split_once(':').ok_or(usage)?;
        let dotted = |name: &str| name.split('.').all(is_identifier);
        if !dotted(module) || !dotted(callable.strip_suffix("()").unwrap_or(callable)) {
            return Err(usage.into());
        }
        let prefix = if prefix.is_empty() { "/".to_owned() } else { prefix };
        Ok(AppMount { prefix, app: app.to_owned() })
    }
}

impl FromStr for SiteMount {
    type Err = String;

    fn from_str(text: &str) -> Result<SiteMount, String> {
        let (prefix, directory) = text.split_once('=').ok_or("write /prefix=DIR")?;
        if directory.is_empty() {
            return Err("the directory is empty; write . for the current one".into());
        }
        Ok(SiteMount { prefix: plain_prefix(prefix)? + "/", directory: directory.into() })
    }
}

/// A prefix without its last slash. `/` becomes empty.
fn plain_prefix(prefix: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#%\\\"".contains(&byte);
    let climbs = prefix.split('/').any(|segment| matches!(segment, "." | ".."));
    if !prefix.starts_with('/') || !prefix.bytes().all(plain) || prefix.contains("//") || climbs {
        return Err("the prefix is a plain path such as /app".into());
    }
    Ok(prefix.trim_end_matches('/').to_owned())
}

fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|first| first.is_alphabetic() || first == '_')
        && chars.all(|char| char.is_alphanumeric() || char == '_')
}

pub(super) fn workers(text: &str) -> Result<usize, String> {
    values::count(text).and_then(|count| if count <= 1024 { Ok(count) } else { Err("1024 at most".into()) })
}

pub(super) fn threads(text: &str) -> Result<usize, String> {
    // CPython runs one thread at a time, so more threads would only wait.
    values::count(text).and_then(|count| if count <= 250 { Ok(count) } else { Err("250 at most".into()) })
}

pub(super) fn queue(text: &str) -> Result<usize, String> {
    usize::try_from(units::number(text)?).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read() {
        for (text, prefix, app) in [
            ("app:app", "/", "app:app"),
            ("/=app:app", "/", "app:app"),
            ("/a/b/=pkg.mod:make()", "/a/b", "pkg.mod:make()"),
            ("/x=m:site.app", "/x", "m:site.app"),
        ] {
            let mount = AppMount { prefix: prefix.into(), app: app.into() };
            assert_eq!(text.parse(), Ok(mount), "{text}");
        }
        for bad in ["", "app", "app:", ":app", "a=app:app", "/a=", "/a//b=m:a", "/../a=m:a", "m:a()()", "m:a b", "m:1"]
        {
            assert!(bad.parse::<AppMount>().is_err(), "{bad}");
        }
        let site = SiteMount { prefix: "/static/".into(), directory: "files".into() };
        assert_eq!("/static=files".parse(), Ok(site));
        for bad in ["", "/static", "/static=", "static=files"] {
            assert!(bad.parse::<SiteMount>().is_err(), "{bad}");
        }
    }
}
