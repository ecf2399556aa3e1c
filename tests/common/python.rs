//! A server with the applications of tests/wsgi_apps, where there is a Python to run them.

use super::{Engine, Server, Setup, TempDir};
use std::path::PathBuf;
use std::process::{Command, Stdio};

pub fn apps() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/wsgi_apps")
}

/// Whether the machine has the Python that applications need. Says so where it has not: the test is then skipped.
pub fn has_python() -> bool {
    let question = "import sys; sys.exit(sys.version_info < (3, 8))";
    let asked = Command::new("python3").args(["-c", question]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = asked.is_ok_and(|status| status.success());
    if !found {
        eprintln!("skipped: it needs python3, 3.8 or later, in PATH");
    }
    found
}

/// A server with `apps:app` at `/`; `None` where the test has to be skipped.
pub fn serve(engine: Engine, args: &[&str]) -> Option<Server> {
    serve_app(engine, "apps:app", args)
}

pub fn serve_app(engine: Engine, app: &str, args: &[&str]) -> Option<Server> {
    let folder = apps();
    has_python().then(|| {
        let setup = Setup::on(engine).args(["--wsgi", app, "--wsgi-chdir", folder.to_str().unwrap()]);
        setup.env("PYTHONDONTWRITEBYTECODE", "1").args(args).start()
    })
}

/// A server for an application that the test writes itself.
pub fn serve_source(engine: Engine, folder: &TempDir, source: &str, args: &[&str]) -> Option<Server> {
    has_python().then(|| {
        folder.write("fresh.py", source);
        let setup = Setup::on(engine).args(["--wsgi", "fresh:app", "--wsgi-chdir", folder.arg()]);
        setup.env("PYTHONDONTWRITEBYTECODE", "1").args(args).start()
    })
}
