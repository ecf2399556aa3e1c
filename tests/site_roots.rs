//! The path of the root is followed: if the directory is removed and made again, or a link is switched to another
//! release, the next answer is from the new directory.

mod common;

use common::{Client, Engine, Response, SETTLED, Server, Setup, TempDir, on_every_engine};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;

/// The link always exists, and leads to the old or the new target.
fn switch(target: &Path, link: &Path) {
    let new = link.with_extension("new");
    let _ = fs::remove_file(&new);
    symlink(target, &new).unwrap();
    fs::rename(&new, link).unwrap();
}

fn ask(client: &mut Client, method: &str, path: &str, fields: &str, body: &str) -> Response {
    let length = body.len();
    client.send(format!("{method} {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n{fields}\r\n{body}"));
    client.read_response()
}

#[track_caller]
fn reads(client: &mut Client, path: &str, content: &str) {
    assert_eq!(ask(client, "GET", path, "", "").expect_status(&[200]).text(), content, "{path}");
}

/// A server of the directory `dist` as a site, a store, and a further site, by its relative name.
fn serve(place: &TempDir, engine: Engine, more: &[&str]) -> Server {
    let setup = Setup::on(engine).folder(place.path()).arg("dist").args(["--directory", "dist"]).args(more);
    setup.start()
}

on_every_engine! {
    fn a_directory_that_is_made_anew_is_served(engine: Engine) {
        let place = TempDir::new();
        let dist = place.join("dist");
        for (settled, more) in [(true, &[][..]), (false, &["--cache-size", "0"])] {
            place.write("dist/a", "old");
            if settled {
                // Then it is kept and watched.
                thread::sleep(SETTLED);
            }
            let server = serve(&place, engine, more);
            let mut client = Client::connect(&server);
            for path in ["/a", "/files/a", "/a", "/files/a"] {
                reads(&mut client, path, "old");
            }
            for round in 0..3 {
                fs::remove_dir_all(&dist).unwrap();
                for path in ["/a", "/files/a", "/missing", "/"] {
                    let gone = ask(&mut client, "GET", path, "", "");
                    assert_eq!((gone.status, gone.field("Retry-After")), (503, Some("1")), "{path}");
                }
                assert_eq!(ask(&mut client, "PUT", "/files/b", "", "content").status, 503);
                let content = format!("new {round}");
                place.write("dist/a", &content);
                for path in ["/a", "/files/a", "/a", "/files/a"] {
                    reads(&mut client, path, &content);
                }
                assert_eq!(ask(&mut client, "PUT", "/files/b", "", "content").status, 201);
                reads(&mut client, "/b", "content");
                assert!(ask(&mut client, "GET", "/", "", "").text().contains("\"b\""), "a listing of what is there now");
            }
            // Two routes serve the directory; each logs the change once.
            server.expect_stderr("is there again");
            assert_eq!(server.stderr().matches("cannot be opened any more").count(), 6, "{}", server.stderr());
            drop(server);
            fs::remove_dir_all(&dist).unwrap();
        }
    }

    /// As deployments do it: every answer is from one release, none is older than its request, and no file is missing.
    fn a_link_that_is_switched_leads_to_the_other_release_at_once(engine: Engine) {
        let place = TempDir::new();
        for release in 0..2 {
            place.write(format!("releases/{release}/name.txt"), format!("{release}"));
            place.write(format!("releases/{release}/name.txt.gz"), format!("{release}"));
            place.write(format!("releases/{release}/only.{release}"), "");
            place.write(format!("releases/{release}/sub/index.html"), format!("{release}"));
        }
        switch(&place.join("releases/0"), &place.join("dist"));
        thread::sleep(SETTLED);
        let server = serve(&place, engine, &["--precompressed"]);
        let (begun, done, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            let readers = if engine == Engine::Iterative { 1 } else { 4 };
            let read = |number: usize| {
                let mut client = Client::connect(&server);
                let mut answers = 0;
                while !over.load(SeqCst) {
                    for path in ["/name.txt", "/sub/", "/files/name.txt"] {
                        let coding = ["identity", "gzip"][number % 2];
                        let oldest = done.load(SeqCst);
                        let answer = ask(&mut client, "GET", path, &format!("Accept-Encoding: {coding}\r\n"), "");
                        let newest = begun.load(SeqCst);
                        let text = answer.expect_status(&[200]).text();
                        let possible = (oldest..=newest).any(|switch| text == (switch % 2).to_string());
                        assert!(possible, "{path}: {text} between switch {oldest} and {newest}");
                        answers += 1;
                    }
                }
                answers
            };
            let readers: Vec<_> = (0..readers).map(|number| scope.spawn(move || read(number))).collect();
            for number in 1..=200 {
                begun.store(number, SeqCst);
                switch(&place.join(format!("releases/{}", number % 2)), &place.join("dist"));
                done.store(number, SeqCst);
                thread::sleep(std::time::Duration::from_millis(if number % 16 == 0 { 20 } else { 1 }));
                if readers.iter().any(|reader| reader.is_finished()) {
                    break;
                }
            }
            over.store(true, SeqCst);
            let answers: usize = readers.into_iter().map(|reader| reader.join().expect("no complaint")).sum();
            assert!(answers > 100, "only {answers} answers: nothing was shown");
        });
        let mut client = Client::connect(&server);
        assert!(ask(&mut client, "GET", "/", "", "").text().contains("only.0"));
        switch(&place.join("releases/1"), &place.join("dist"));
        let listing = ask(&mut client, "GET", "/", "", "").text();
        assert!(listing.contains("only.1") && !listing.contains("only.0"), "{listing}");
    }

    fn a_further_site_is_followed_through_the_directory_above_it(engine: Engine) {
        let place = TempDir::new();
        place.write("dist/index.html", "home");
        place.write("app/static/a", "old");
        let server = serve(&place, engine, &["--static", "/static=app/static"]);
        let mut client = Client::connect(&server);
        reads(&mut client, "/static/a", "old");
        fs::rename(place.join("app"), place.join("app.old")).unwrap();
        place.write("app/static/a", "new");
        reads(&mut client, "/static/a", "new");
        reads(&mut client, "/", "home");
    }

    /// In the directory where the upload began, no later request would find the file.
    #[skip(Iterative, "serves one client at a time")]
    fn an_upload_that_began_in_another_directory_is_refused(engine: Engine) {
        let place = TempDir::new();
        place.write("releases/0/a", "0");
        place.write("releases/1/a", "1");
        switch(&place.join("releases/0"), &place.join("dist"));
        let server = serve(&place, engine, &[]);
        let mut client = Client::connect(&server);
        let mut other = Client::connect(&server);
        client.send("PUT /files/a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(client.read_response().status, 100);
        switch(&place.join("releases/1"), &place.join("dist"));
        reads(&mut other, "/a", "1");
        client.send("lost");
        let answer = client.read_response();
        assert_eq!((answer.status, answer.field("Retry-After")), (503, Some("1")));
        for release in ["0", "1"] {
            let folder = place.join("releases").join(release);
            assert_eq!(fs::read_to_string(folder.join("a")).unwrap(), release);
            assert_eq!(fs::read_dir(folder).unwrap().count(), 1, "nothing is left of it");
        }
        reads(&mut other, "/files/a", "1");
    }
}
