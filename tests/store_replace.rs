//! What a file takes over from the file that it replaces, and the answers if an upload cannot be kept.

mod common;

use common::{Client, Engine, Server, Setup, TempDir, exchange, get, on_every_engine};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

fn serve(place: &TempDir, engine: Engine, wrapper: &[&str]) -> Server {
    Setup::on(engine).through(wrapper).args(["--directory", place.join("store").to_str().unwrap()]).start()
}

fn put(server: &Server, name: &str, fields: &str) -> u16 {
    let head = format!("PUT /files/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n{fields}\r\nnew");
    exchange(server, head).status
}

/// A store with a file of this mode.
fn place(mode: u32) -> TempDir {
    let place = TempDir::new();
    let path = place.write("store/file", "old");
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    place
}

/// Owner, group and mode of the file.
fn rights(place: &TempDir) -> (u32, u32, u32) {
    let meta = place.join("store/file").symlink_metadata().unwrap();
    (meta.uid(), meta.gid(), meta.mode() & 0o7777)
}

on_every_engine! {
    fn a_file_keeps_its_permissions_when_it_is_replaced(engine: Engine) {
        // A file that nobody may write is replaced too: only its directory has to be writable.
        for (before, after) in [(0o640, 0o640), (0o600, 0o600), (0o444, 0o444), (0o664, 0o664), (0o4755, 0o755)] {
            let place = place(before);
            let server = serve(&place, engine, &[]);
            assert_eq!(put(&server, "file", ""), 204, "{before:o}");
            assert_eq!(rights(&place).2, after, "{before:o}");
            let etag = get(&server, "/files/file").field("ETag").map(str::to_owned).unwrap();
            assert_eq!(put(&server, "file", &format!("If-Match: {etag}\r\n")), 204, "{before:o}");
            assert_eq!(rights(&place).2, after, "{before:o}");
            assert_eq!(fs::read(place.join("store/file")).unwrap(), b"new");
        }
    }

    fn a_new_file_has_what_the_umask_leaves(engine: Engine) {
        let place = place(0o600);
        let server = serve(&place, engine, &["sh", "-c", "umask 027 && exec \"$@\"", "sh"]);
        assert_eq!(put(&server, "new", ""), 201);
        assert_eq!(fs::metadata(place.join("store/new")).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(put(&server, "file", ""), 204);
        assert_eq!(rights(&place).2, 0o600);
    }

    fn owner_and_group_are_kept_where_the_server_may_and_else_no_group_gains(engine: Engine) {
        if chown(place(0o640).join("store/file"), Some(1001), Some(1002)).is_err() {
            eprintln!("skipped: no right to change the owner of a file here");
            return;
        }
        let own = |place: &TempDir| {
            let path = place.join("store/file");
            chown(&path, Some(1001), Some(1002)).unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o6754)).unwrap();
        };
        let kept = place(0o640);
        own(&kept);
        assert_eq!(put(&serve(&kept, engine, &[]), "file", ""), 204);
        assert_eq!(rights(&kept), (1001, 1002, 0o754));
        // A server of another user, in a directory of that user.
        for (groups, after) in [("--clear-groups", (1003, 1003, 0o744)), ("--groups=1002", (1003, 1002, 0o754))] {
            let place = place(0o640);
            own(&place);
            chown(place.join("store"), Some(1003), Some(1003)).unwrap();
            let user = ["setpriv", "--reuid=1003", "--regid=1003", groups];
            assert_eq!(put(&serve(&place, engine, &user), "file", ""), 204);
            assert_eq!(rights(&place), after);
        }
    }

    fn a_file_larger_than_the_server_may_write_is_507_and_leaves_nothing(engine: Engine) {
        let place = place(0o640);
        let server = serve(&place, engine, &["prlimit", "--fsize=100000", "--"]);
        for name in ["new", "file"] {
            let mut client = Client::connect(&server);
            client.send(format!("PUT /files/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n"));
            let _ = client.try_send(vec![b'x'; 200_000]);
            let answer = client.read_response();
            assert_eq!(answer.status, 507);
            assert!(answer.text().contains("no room"), "{}", answer.text());
        }
        let names: Vec<_> = fs::read_dir(place.join("store")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["file"]);
        assert_eq!((fs::read(place.join("store/file")).unwrap(), rights(&place).2), (b"old".to_vec(), 0o640));
    }

    fn a_directory_that_goes_during_an_upload_is_404_and_leaves_nothing(engine: Engine) {
        let place = place(0o640);
        place.write("store/sub/file", "old");
        let server = serve(&place, engine, &[]);
        for name in ["sub/new", "sub/file"] {
            fs::create_dir_all(place.join("store/sub")).unwrap();
            let mut client = Client::connect(&server);
            let head = format!("PUT /files/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
            client.send(head);
            assert_eq!(client.read_response().status, 100);
            fs::remove_dir_all(place.join("store/sub")).unwrap();
            client.send("new");
            assert_eq!(client.read_response().status, 404, "{name}");
            assert!(!place.join("store/sub").exists());
        }
    }
}
