//! DELETE /files/{name}, if a flag allows it.

mod common;

use common::{Engine, Response, Server, Setup, TempDir, exchange, get, on_every_engine};
use std::fs;
use std::os::unix::fs::symlink;

fn place() -> TempDir {
    let place = TempDir::new();
    place.write("secret", "SECRET");
    place.write("store/old", "old");
    place.write("store/kept", "kept");
    place.write("store/.hidden", "hidden");
    place.write("store/sub/inner", "inner");
    place
}

fn serve(place: &TempDir, engine: Engine, flags: &[&str]) -> Server {
    Setup::on(engine).arg("--directory").arg(place.join("store")).args(flags).start()
}

fn delete(server: &Server, path: &str, fields: &str) -> Response {
    exchange(server, format!("DELETE {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n"))
}

on_every_engine! {
    fn delete_is_off_by_default(engine: Engine) {
        let place = place();
        let server = serve(&place, engine, &[]);
        let answer = delete(&server, "/files/old", "");
        assert_eq!((answer.status, answer.lists("Allow", "PUT"), answer.lists("Allow", "DELETE")), (405, true, false));
        assert!(place.join("store/old").exists());
    }

    fn a_file_is_removed_once(engine: Engine) {
        let place = place();
        let server = serve(&place, engine, &["--allow-delete"]);
        let allow = exchange(&server, "OPTIONS /files/old HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert_eq!((allow.status, allow.lists("Allow", "DELETE")), (204, true));
        let answer = delete(&server, "/files/old", "");
        assert_eq!((answer.status, answer.body.len()), (204, 0));
        assert!(!place.join("store/old").exists());
        assert_eq!(get(&server, "/files/old").status, 404);
        assert_eq!(delete(&server, "/files/old", "").status, 404);
        assert_eq!(delete(&server, "/files/sub/inner", "").status, 204);
        // Content has no meaning in a DELETE. It is read and ignored.
        assert_eq!(delete(&server, "/files/kept", "Content-Length: 5\r\n\r\nhello").status, 204);
        let elsewhere = delete(&server, "/echo/x", "");
        assert_eq!((elsewhere.status, elsewhere.lists("Allow", "DELETE")), (405, false));
    }

    fn only_what_is_read_can_be_removed(engine: Engine) {
        let place = place();
        symlink("../secret", place.join("store/out")).unwrap();
        symlink("..", place.join("store/up")).unwrap();
        symlink("nothing", place.join("store/dangling")).unwrap();
        symlink("kept", place.join("store/link")).unwrap();
        let server = serve(&place, engine, &["--allow-delete"]);
        let before = place.entries();
        for name in [
            "", ".hidden", "../secret", "..%2fsecret", "%2e%2e/secret", "out", "up/secret", "dangling", "missing", "old/",
            "old%00", ".", "..", "no/such/directory",
        ] {
            delete(&server, &format!("/files/{name}"), "").expect_status(&[400, 404, 405, 409]);
        }
        for name in ["sub", "sub/"] {
            assert_eq!(delete(&server, &format!("/files/{name}"), "").status, 409, "{name}");
        }
        assert_eq!(place.entries(), before);
        // The link is removed, and its target stays.
        assert_eq!(delete(&server, "/files/link", "").status, 204);
        assert!(fs::symlink_metadata(place.join("store/link")).is_err());
        assert!(place.join("store/kept").exists());
    }

    fn a_precondition_that_fails_keeps_the_file(engine: Engine) {
        let place = place();
        let server = serve(&place, engine, &["--allow-delete"]);
        let seen = get(&server, "/files/old");
        let (etag, modified) = (seen.field("ETag").unwrap(), seen.field("Last-Modified").unwrap());
        for fields in [
            "If-Match: \"x\"\r\n".to_owned(),
            format!("If-Match: W/{etag}\r\n"),
            format!("If-None-Match: {etag}\r\n"),
            "If-None-Match: *\r\n".to_owned(),
            "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n".to_owned(),
        ] {
            assert_eq!(delete(&server, "/files/old", &fields).status, 412, "{fields}");
            assert!(place.join("store/old").exists());
        }
        // There is no file that the condition could be compared with.
        assert_eq!(delete(&server, "/files/missing", "If-Match: *\r\n").status, 404);
        assert_eq!(delete(&server, "/files/old", &format!("If-Match: {etag}\r\n")).status, 204);
        assert_eq!(delete(&server, "/files/kept", &format!("If-Unmodified-Since: {modified}\r\n")).status, 204);
    }
}
