//! A server with the applications of tests/wsgi_apps, if the machine has a Python to run them.

use super::{Client, Engine, Response, Server, Setup, TempDir, eventually};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

pub fn apps() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/wsgi_apps")
}

/// Whether the machine has the Python that the applications need. If not, prints that the test is skipped.
pub fn has_python() -> bool {
    let question = "import sys; sys.exit(sys.version_info < (3, 8))";
    let asked = Command::new("python3").args(["-c", question]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = asked.is_ok_and(|status| status.success());
    if !found {
        eprintln!("skipped: it needs python3, 3.8 or later, in PATH");
    }
    found
}

/// Whether a process runs. A zombie does not run.
pub fn is_running(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    !status.is_empty() && !status.contains("State:\tZ")
}

/// A server with `apps:app` at `/`. `None` if the test has to be skipped.
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

/// A request that an application holds until the test releases it. The application is `held` of apps.py, or the test's
/// own. It makes the file NAME.begun when it begins, and answers when the file NAME exists.
pub struct Held {
    pub client: Client,
    name: PathBuf,
}

impl Held {
    /// Sends the request. It may have to wait for a worker.
    pub fn send(server: &Server, name: PathBuf) -> Held {
        let mut client = Client::connect(server);
        client.send(format!("GET /held?{} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", name.display()));
        Held { client, name }
    }

    /// Sends the request, and waits until a worker has begun it.
    pub fn begin(server: &Server, name: PathBuf) -> Held {
        let held = Held::send(server, name);
        let begun = held.name.with_extension("begun");
        eventually("a worker to begin with the request", || begun.exists().then_some(()));
        held
    }

    pub fn release(mut self) -> Response {
        fs::write(&self.name, "").unwrap();
        self.client.read_response()
    }
}
