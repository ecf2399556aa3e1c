//! The flags about Python applications, and about directories that are served beside them.

use crate::config::values;
use crate::units;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Which applications answer which prefixes, and how they are run.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Python applications")]
pub struct WsgiRules {
    /// Let a Python application answer below a prefix, repeatable
    ///
    /// module:callable is its name, as in myproject.wsgi:application; module:factory() calls a function that returns
    /// it. Without a prefix it answers at /, and no directory is served unless ROOT names one. Each application has
    /// workers of its own.
    #[arg(long = "wsgi", value_name = "[/PREFIX=]MODULE:CALLABLE")]
    pub apps: Vec<AppMount>,

    /// Processes for each application
    // One by default: an application may keep its state in memory. Only its author knows whether several are safe.
    #[arg(long = "wsgi-workers", value_name = "COUNT", default_value = "1", value_parser = workers)]
    pub workers: usize,

    /// Threads of each process; each takes one request at a time
    #[arg(long = "wsgi-threads", value_name = "COUNT", default_value = "1", value_parser = threads)]
    pub threads: usize,

    /// How long a request may make no progress in an application
    ///
    /// Beyond it the request is answered 504, the stacks of the process are logged, and another process takes its place.
    /// The process ends when its other requests have ended.
    // The time that nginx and most balancers wait for an answer.
    #[arg(id = "wsgi-timeout", long = "wsgi-timeout", value_name = "TIME", default_value = "60s", value_parser = values::timeout)]
    pub timeout: Duration,

    /// Replace a process after about this many requests; 0 means never
    ///
    /// For applications that leak memory. The new process is ready before the old one ends.
    #[arg(long = "wsgi-max-requests", value_name = "COUNT", default_value = "0", value_parser = units::number)]
    pub max_requests: u64,

    /// Requests that may wait for a process
    ///
    /// Beyond it a request is answered 503 with Retry-After.
    // The backlog of gunicorn.
    #[arg(long = "wsgi-queue", value_name = "COUNT", default_value = "2048", value_parser = queue)]
    pub queue: usize,

    /// Directory to import applications from, and to run them in [default: the current directory]
    #[arg(long = "wsgi-chdir", value_name = "DIR", value_parser = values::path())]
    pub folder: Option<PathBuf>,

    /// Import applications again when a source changes; SIGHUP does it at any time
    ///
    /// For development: it looks at the sources twice a second. If the import fails, the old processes stay.
    #[arg(long = "wsgi-reload")]
    pub reload: bool,

    /// Interpreter for applications [default: of $VIRTUAL_ENV, .venv, venv, or python3]
    #[arg(long = "python", value_name = "PATH", value_parser = values::path())]
    pub python: Option<PathBuf>,

    /// Directory to serve as a site below a prefix, repeatable
    ///
    /// For the files beside an application, such as /static=staticfiles.
    #[arg(long = "static", value_name = "/PREFIX=DIR")]
    pub sites: Vec<SiteMount>,
}

impl WsgiRules {
    /// Whether an application answers at `/`, so that no site is served there.
    pub fn takes_all(&self) -> bool {
        self.apps.iter().any(|mount| mount.prefix == "/")
    }

    /// A prefix that two applications have.
    pub fn claimed_twice(&self) -> Option<&str> {
        let prefixes = self.apps.iter().map(|mount| &mount.prefix).enumerate();
        let mut twice = prefixes.filter(|(at, prefix)| self.apps[..*at].iter().any(|other| other.prefix == **prefix));
        twice.next().map(|(_, prefix)| prefix.as_str())
    }
}

/// An application and where it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppMount {
    /// `/`, or a path that does not end in a slash.
    pub prefix: String,
    /// `module:callable`
    pub app: String,
}

/// A directory and where it is served.
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

/// A path without its last slash: `/` becomes empty.
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

fn workers(text: &str) -> Result<usize, String> {
    values::count(text).and_then(|count| if count <= 1024 { Ok(count) } else { Err("1024 at most".into()) })
}

fn threads(text: &str) -> Result<usize, String> {
    // Python runs one thread at a time: more would only wait.
    values::count(text).and_then(|count| if count <= 250 { Ok(count) } else { Err("250 at most".into()) })
}

fn queue(text: &str) -> Result<usize, String> {
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
