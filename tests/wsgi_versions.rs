//! The worker runs on every supported version of Python that this machine has, as `python3.x` in PATH or from pyenv. A
//! missing version is skipped, and the test prints its name.

mod common;

use common::python::apps;
use common::{Engine, Setup, TempDir, exchange, get};
use std::path::PathBuf;
use std::process::Command;

/// The interpreter of version 3.`minor`.
fn python(minor: u32) -> Option<PathBuf> {
    let name = format!("python3.{minor}");
    let versions = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pyenv/versions"));
    let installed = versions.and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let candidates =
        [PathBuf::from(&name)].into_iter().chain(installed.map(|entry| entry.path().join("bin").join(&name)));
    let answers = |python: &PathBuf| {
        let asked = Command::new(python).args(["-c", "import sys; print(sys.version_info[1])"]).output();
        asked.is_ok_and(|output| output.stdout == format!("{minor}\n").as_bytes())
    };
    candidates.into_iter().find(answers)
}

fn check(minor: u32) {
    let Some(python) = python(minor) else { return eprintln!("skipped: there is no Python 3.{minor}") };
    let folder = apps();
    let setup = Setup::on(Engine::Event).args(["--wsgi", "apps:app", "--wsgi-chdir", folder.to_str().unwrap()]);
    let setup = setup.args(["--wsgi", "/odd=odd:app", "--wsgi-timeout", "8s", "--python", python.to_str().unwrap()]);
    let server = setup.env("PYTHONDONTWRITEBYTECODE", "1").start();
    let pid = get(&server, "/pid").text();
    assert!(get(&server, "/environ").text().starts_with("type=dict\n"));
    let body = exchange(&server, "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello").body;
    assert_eq!(body, b"hello");
    assert_eq!(get(&server, "/write").body, b"abcd");
    assert_eq!(get(&server, "/large").body.len(), 50 * 1024 * 1024);
    assert_eq!(get(&server, "/memory_file").body, b"from memory");
    let folder = TempDir::new();
    let file = folder.write("file", "from a file");
    let sent = exchange(&server, format!("GET /file?5 HTTP/1.1\r\nHost: h\r\nX-File: {}\r\n\r\n", file.display()));
    assert_eq!(sent.body, b"a file");
    for failing in ["/raises", "/exits", "/interrupts", "/none", "/strings", "/bad_head?1"] {
        assert_eq!(get(&server, failing).status, 500, "{failing}");
    }
    for (path, text) in [("child_output", "''\n"), ("loop", "later"), ("pool", "[1, 2]"), ("late_start", "late")] {
        assert_eq!(get(&server, &format!("/odd/{path}")).text(), text, "{path}");
    }
    assert_eq!(get(&server, "/pid").text(), pid);
    assert_eq!(get(&server, "/crash").status, 502);
    assert_eq!(get(&server, "/hang").status, 504);
    server.expect_stderr("place_where_it_hangs");
    assert_eq!(get(&server, "/hello").body, b"hello\n");
}

#[test]
fn python_3_8() {
    check(8);
}

#[test]
fn python_3_9() {
    check(9);
}

#[test]
fn python_3_10() {
    check(10);
}

#[test]
fn python_3_11() {
    check(11);
}

#[test]
fn python_3_12() {
    check(12);
}

#[test]
fn python_3_13() {
    check(13);
}
