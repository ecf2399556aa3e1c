//! What a killed server leaves of its uploads: a file without a name leaves nothing, and a file with a temporary name
//! is removed by the next server, or by the next upload into the directory. A server never removes what another one is
//! writing.

mod common;

use common::{Client, Response, Server, Setup, TempDir, ask, eventually, exchange, get, on_every_engine};
use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;

/// Without /proc, files have a temporary name from the beginning. Hiding it needs the right to mount.
const WITHOUT_PROC: [&str; 6] = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /proc && exec \"$@\"", "sh"];
const LEFT: &str = ".dustdevil-1-0123456789abcdef.tmp";

fn place() -> TempDir {
    let place = TempDir::new();
    for name in ["file", "sub/file", "sub/line\nfeed/file", "other/file"] {
        place.write(name, "old");
    }
    place
}

fn serve(place: &TempDir, engine: common::Engine, wrapper: &[&str]) -> Server {
    Setup::on(engine).through(wrapper).args(["--hidden", "--allow-delete", "--directory", place.arg()]).start()
}

/// Whether a server can be started without /proc.
fn can_hide_proc() -> bool {
    let tried = std::process::Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/proc"]).output();
    let can = tried.is_ok_and(|outcome| outcome.status.success());
    if !can {
        eprintln!("skipped: no right to mount something over /proc here");
    }
    can
}

fn put(server: &Server, name: &str) -> Response {
    exchange(server, format!("PUT /files/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nnew"))
}

/// A running upload of ten bytes, half of which have been sent.
fn begin(server: &Server, name: &str) -> Client {
    let mut client = Client::connect(server);
    client.send(format!("PUT /files/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"));
    assert_eq!(client.read_response().status, 100);
    client.send("01234");
    client
}

/// All temporary files, in any directory.
fn left(place: &TempDir) -> Vec<PathBuf> {
    let is_temporary = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with(".dustdevil-") && name != ".dustdevil-journal"
    };
    place.entries().into_iter().filter(is_temporary).collect()
}

fn expect_nothing_left(place: &TempDir) {
    eventually("temporary files to be removed", || left(place).is_empty().then_some(()));
}

on_every_engine! {
    fn an_upload_under_way_has_no_name_and_a_killed_server_leaves_nothing(engine: Engine) {
        let place = place();
        for name in ["new", "file", "sub/file"] {
            let mut server = serve(&place, engine, &[]);
            let client = begin(&server, name);
            assert!(left(&place).is_empty(), "{name}: {:?}", left(&place));
            server.signal("KILL");
            server.await_exit(common::PATIENCE);
            assert!(left(&place).is_empty(), "{name}: {:?}", left(&place));
            drop(client);
        }
        assert!(!place.join("new").exists());
        assert_eq!(fs::read(place.join("file")).unwrap(), b"old");
    }

    fn where_files_need_a_name_the_next_server_removes_what_a_killed_one_left(engine: Engine) {
        if !can_hide_proc() {
            return;
        }
        let place = place();
        for name in ["new", "file", "sub/new", "sub/line%0Afeed/file"] {
            let mut server = serve(&place, engine, &WITHOUT_PROC);
            let client = begin(&server, name);
            assert_eq!(left(&place).len(), 1, "{name}");
            server.signal("KILL");
            server.await_exit(common::PATIENCE);
            drop(client);
            assert_eq!(left(&place).len(), 1, "{name}: the test shows nothing");
            let next = serve(&place, engine, &[]);
            expect_nothing_left(&place);
            // The journal is removed once its directories have been scanned.
            eventually("no journal", || (!place.join(".dustdevil-journal").exists()).then_some(()));
            drop(next);
        }
    }

    fn a_second_server_removes_nothing_of_what_the_first_is_writing(engine: Engine) {
        for wrapper in [&[][..], &WITHOUT_PROC] {
            if !wrapper.is_empty() && !can_hide_proc() {
                return;
            }
            let place = place();
            let first = serve(&place, engine, wrapper);
            for (name, status) in [("new", 201), ("sub/new", 201), ("sub/file", 204)] {
                let mut client = begin(&first, name);
                let before = left(&place);
                assert_eq!(before.len(), usize::from(!wrapper.is_empty()));
                // The leftover is removed: this shows that the second server has scanned the directory.
                place.write(PathBuf::from(name).with_file_name(LEFT), "dead");
                let second = serve(&place, engine, &[]);
                eventually("the dead to be removed", || (left(&place) == before).then_some(()));
                assert_eq!(put(&second, "sub/beside").status / 100, 2);
                drop(second);
                client.send("56789");
                assert_eq!(client.read_response().status, status, "{name}");
                assert_eq!(fs::read(place.join(name)).unwrap(), b"0123456789");
                assert!(left(&place).is_empty());
            }
        }
    }

    /// Killed between the link to the temporary name and the rename: a whole file without a lock.
    fn what_was_left_before_its_rename_is_removed_in_the_directories_that_were_written_to(engine: Engine) {
        let place = place();
        let mut server = serve(&place, engine, &[]);
        for name in ["file", "sub/file", "sub/line%0Afeed/file"] {
            assert_eq!(put(&server, name).status, 204);
        }
        server.signal("KILL");
        server.await_exit(common::PATIENCE);
        for folder in ["", "sub", "sub/line\nfeed", "other"] {
            place.write(PathBuf::from(folder).join(LEFT), "whole");
        }
        let server = serve(&place, engine, &[]);
        eventually("three of four to be removed", || (left(&place) == [PathBuf::from("other").join(LEFT)]).then_some(()));
        // Another directory is scanned when the next upload enters it.
        assert_eq!(put(&server, "other/new").status, 201);
        expect_nothing_left(&place);
        // Also by a running server that has scanned the directory before.
        for folder in ["", "other"] {
            place.write(PathBuf::from(folder).join(LEFT), "whole");
            assert_eq!(put(&server, PathBuf::from(folder).join("new").to_str().unwrap()).status / 100, 2);
        }
        expect_nothing_left(&place);
        assert_eq!(fs::read(place.join("sub/file")).unwrap(), b"new");
    }

    fn no_request_reaches_the_journal_or_a_temporary_file(engine: Engine) {
        let place = place();
        let server = serve(&place, engine, &[]);
        assert_eq!(put(&server, "sub/new").status, 201);
        let journal = fs::read(place.join(".dustdevil-journal")).unwrap();
        for name in [".dustdevil-journal", "%2edustdevil-journal", ".dustdevil-1-00.tmp", "sub/.dustdevil-1-00.tmp", ".dustdevil-"] {
            let target = format!("/files/{name}");
            assert_eq!(get(&server, &target).status, 404, "{name}");
            assert_eq!(ask(&server, "DELETE", &target, "").status, 404, "{name}");
            assert_eq!(put(&server, name).status, 404, "{name}");
        }
        assert_eq!(fs::read(place.join(".dustdevil-journal")).unwrap(), journal);
        let site = Setup::on(engine).args(["--hidden", place.arg()]).start();
        assert!(!get(&site, "/").text().contains("dustdevil-journal"));
        assert_eq!(get(&site, "/.dustdevil-journal").status, 404);
    }

    fn a_journal_that_cannot_be_written_is_told_once_and_stops_no_upload(engine: Engine) {
        let place = place();
        let is_root = chown(place.join("sub"), Some(1003), Some(1003)).is_ok();
        if !is_root {
            eprintln!("skipped: no right to be another user here");
            return;
        }
        // Files of another user: this server can write neither the journal nor the store's own directory.
        let journal = place.write(".dustdevil-journal", "\0other\0");
        place.write(PathBuf::from("sub").join(LEFT), "whole");
        let server = serve(&place, engine, &["setpriv", "--reuid=1003", "--regid=1003", "--clear-groups"]);
        for (name, status) in [("sub/a", 201), ("sub/b", 201), ("sub/a", 204), ("a", 403), ("other/a", 403)] {
            assert_eq!(put(&server, name).status, status, "{name}");
        }
        // The leftover belongs to another user, but its directory to this server.
        expect_nothing_left(&place);
        server.expect_stderr("cannot be written");
        assert_eq!(server.stderr().matches("dustdevil-journal").count(), 1);
        assert_eq!(fs::read(journal).unwrap(), b"\0other\0");
    }
}
