//! Finds the Python interpreter that runs the applications, and their folder.

use crate::config::wsgi::{AppMount, WsgiRules};
use crate::start_error::StartError;
use crate::wsgi::Spec;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// The path of the interpreter in a virtual environment.
const IN_ENVIRONMENT: &str = "bin/python";

/// The `Spec` of each application, in the order of `apps`.
///
/// # Errors
/// The folder does not exist or cannot be entered.
pub fn specs(apps: &[AppMount], rules: &WsgiRules) -> Result<Vec<Spec>, StartError> {
    let folder = rules.folder.clone().unwrap_or_else(|| ".".into());
    let folder = fs::canonicalize(&folder).map_err(|error| {
        let folder = folder.display();
        StartError::new(format!("cannot enter the folder {folder}: {error}; correct --wsgi-chdir"))
    })?;
    let python = match &rules.python {
        Some(python) => absolute(python),
        None => find(&folder, env::var_os("VIRTUAL_ENV").map(PathBuf::from)),
    };
    let spec = |app: &str| Spec {
        app: app.to_owned(),
        python: python.clone(),
        folder: folder.clone(),
        workers: rules.workers,
        threads: rules.threads,
        timeout: rules.timeout,
        max_requests: (rules.max_requests > 0).then_some(rules.max_requests),
        queue: rules.queue,
        watch: rules.reload,
    };
    Ok(apps.iter().map(|mount| spec(&mount.app)).collect())
}

/// A bare name is looked up in PATH. A relative path is below our own current directory, not the child's.
fn absolute(python: &Path) -> PathBuf {
    match python.components().count() {
        1 => python.to_owned(),
        // Symbolic links are not resolved: Python finds its virtual environment by the path of the link.
        _ => std::path::absolute(python).unwrap_or_else(|_| python.to_owned()),
    }
}

/// The interpreter of the active virtual environment, else of .venv or venv in `folder`, else `python3` from PATH.
fn find(folder: &Path, active: Option<PathBuf>) -> PathBuf {
    let beside = [".venv", "venv"].map(|name| folder.join(name));
    let environments = active.into_iter().chain(beside);
    let mut found = environments.map(|environment| environment.join(IN_ENVIRONMENT)).filter(|python| python.exists());
    found.next().unwrap_or_else(|| "python3".into())
}
