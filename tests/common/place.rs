//! A site and a store in one server. The tables of several tests know the contents, times and entity tags of their
//! files.

use super::{Engine, Response, Server, Setup, TempDir, exchange};
use std::fs;
use std::time::{Duration, UNIX_EPOCH};

pub const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz";
/// The modification time of every file, in seconds since 1970: Sun, 06 Nov 1994 08:49:37 GMT.
pub const MODIFIED: u64 = 784_111_777;
const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

/// Targets of every route, and some that belong to no route.
pub const ROUTES: &[&str] = &[
    "/",
    "/letters",
    "/note.txt",
    "/long.html",
    "/big.html",
    "/empty",
    "/sub",
    "/sub?a=b",
    "/sub/",
    "/plain/",
    "/missing",
    "/echo/x",
    "/echo/",
    "/user-agent",
    "/files/kept",
    "/files/missing",
    "/../x",
];

/// A site and a store in one server.
pub struct Place {
    pub folder: TempDir,
    pub server: Server,
}

impl Place {
    pub fn new(engine: Engine) -> Place {
        Place::with(engine, &[])
    }

    pub fn with(engine: Engine, more: &[&str]) -> Place {
        let folder = TempDir::new();
        let words = "the same words again and again ";
        for (name, content) in [
            ("site/index.html", "<h1>home</h1>"),
            ("site/letters", LETTERS),
            ("site/note.txt", "a note"),
            ("site/empty", ""),
            ("site/long.html", &words.repeat(30)),
            ("site/big.html", &words.repeat(4_000)),
            ("site/sub/index.html", "<h1>sub</h1>"),
            ("site/example.com/index.html", "<h1>no other host</h1>"),
            ("site/plain/one.txt", "one"),
            ("store/kept", "kept"),
        ] {
            let path = folder.write(name, content);
            let time = UNIX_EPOCH + Duration::from_secs(MODIFIED);
            fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        }
        let store = folder.join("store");
        let arguments = ["--directory", store.to_str().unwrap()];
        let server = Setup::on(engine).arg(folder.join("site")).args(arguments).args(more).start();
        Place { folder, server }
    }

    /// Each line of `fields` ends in CRLF.
    pub fn ask(&self, method: &str, target: &str, fields: &str) -> Response {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: test\r\n");
        exchange(&self.server, format!("{head}Connection: close\r\n{fields}\r\n"))
    }

    pub fn etag(&self, path: &str) -> String {
        self.ask("GET", path, "").field("ETag").expect("an ETag").to_owned()
    }

    pub fn upload(&self, method: &str, fields: &str, content: &str) -> Response {
        self.ask_with_content(method, "/files/kept", fields, content)
    }

    pub fn ask_with_content(&self, method: &str, target: &str, fields: &str, content: &str) -> Response {
        let length = content.len();
        let head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}");
        exchange(&self.server, format!("{head}Content-Length: {length}\r\n\r\n{content}"))
    }

    pub fn stored(&self) -> String {
        fs::read_to_string(self.folder.join("store/kept")).unwrap_or_default()
    }
}

pub fn filled(fields: &str, etag: &str) -> String {
    // Only the word E is replaced, not every letter E.
    let words = fields.replace("BEFORE", BEFORE).replace("AFTER", AFTER);
    let mut lines = String::new();
    for line in words.split("\r\n").filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap();
        let value = value.replace(" E", &format!(" {etag}")).replace(",E", &format!(",{etag}"));
        let value = value.replace("/E", &format!("/{etag}"));
        lines.push_str(&format!("{name}:{value}\r\n"));
    }
    lines
}
