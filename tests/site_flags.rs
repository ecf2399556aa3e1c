//! The flags of a site: which file a path leads to, and which files are served at all.

mod common;

use common::{Engine, Server, Setup, TempDir, ask, exchange, get, on_every_engine};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

const NAVIGATION: &str = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n";

fn place() -> TempDir {
    let place = TempDir::new();
    place.write("outside/secret.txt", "SECRET");
    place.write("site/index.html", "home");
    place.write("site/about.html", "about");
    place.write("site/note.txt", "note");
    place.write("site/docs/start.htm", "start");
    place.write("site/docs/readme.txt", "readme");
    place
}

fn serve(place: &TempDir, engine: Engine, flags: &[&str]) -> Server {
    Setup::on(engine).arg(place.join("site")).args(flags).start()
}

on_every_engine! {
    fn the_first_index_that_is_there_is_shown(engine: Engine) {
        let place = place();
        place.write("site/docs/second", "second");
        let server = serve(&place, engine, &["--index", "start.htm", "--index", "second"]);
        assert_eq!(get(&server, "/docs/").text(), "start");
        assert_eq!(get(&server, "/docs/").media_type(), "text/html");
        fs::remove_file(place.join("site/docs/start.htm")).unwrap();
        assert_eq!(get(&server, "/docs/").text(), "second");
        // The default is replaced, not added to.
        assert!(get(&server, "/").text().contains("Index of /"));
    }

    fn try_html_finds_the_page_without_its_extension(engine: Engine) {
        let place = place();
        place.write("site/docs.html", "about docs");
        place.write("site/both", "bare");
        place.write("site/both.html", "with");
        fs::create_dir(place.join("site/x.html")).unwrap();
        let server = serve(&place, engine, &["--try-html"]);
        for (path, text) in [
            ("/about", "about"),
            ("/about?x=1", "about"),
            ("/about.html", "about"),
            ("/docs", "about docs"),
            ("/both", "bare"),
            ("/note.txt", "note"),
        ] {
            let answer = get(&server, path);
            assert_eq!((answer.status, answer.text().as_str()), (200, text), "{path}");
        }
        assert_eq!(get(&server, "/about").field("Content-Type"), Some("text/html; charset=utf-8"));
        assert_eq!(ask(&server, "HEAD", "/about", "").status, 200);
        assert!(get(&server, "/docs/").text().contains("readme.txt"));
        for path in ["/about/", "/missing", "/x", "/..%2fsecret", "/abou", "/.html"] {
            assert_eq!(get(&server, path).status, 404, "{path}");
        }
        let without = serve(&place, engine, &[]);
        assert_eq!(get(&without, "/about").status, 404);
    }

    fn a_navigation_to_nothing_is_the_page_of_the_application(engine: Engine) {
        let place = place();
        let server = serve(&place, engine, &["--spa", "index.html"]);
        for path in ["/users", "/users/42", "/users/42/", "/a%2Fb", "/caf%C3%A9?x=y.z"] {
            let answer = ask(&server, "GET", path, NAVIGATION);
            assert_eq!((answer.status, answer.text().as_str()), (200, "home"), "{path}");
            assert_eq!(answer.media_type(), "text/html");
            assert!(answer.lists("Vary", "Accept"), "{answer:?}");
            assert_eq!(ask(&server, "HEAD", path, NAVIGATION).lasting_fields(), answer.lasting_fields());
            // A request whose Accept does not name HTML is for a file, and the file is missing.
            for accept in ["", "Accept: */*\r\n", "Accept: application/json\r\n", "Accept: text/html;q=0, */*\r\n"] {
                let answer = ask(&server, "GET", path, accept);
                assert_eq!(answer.status, 404, "{path} {accept}");
                assert!(answer.lists("Vary", "Accept"), "{answer:?}");
            }
        }
        for path in ["/users.js", "/a/b.png", "/users/42/x.json"] {
            assert_eq!(ask(&server, "GET", path, NAVIGATION).status, 404, "{path}");
        }
        for (path, text) in [("/note.txt", "note"), ("/about.html", "about"), ("/", "home")] {
            assert_eq!(ask(&server, "GET", path, NAVIGATION).text(), text, "{path}");
        }
        assert_eq!(ask(&server, "GET", "/echo/x", NAVIGATION).text(), "x");
        assert_eq!(ask(&server, "POST", "/users", NAVIGATION).status, 405);
        // The page has the same validators as at its own path.
        let etag = ask(&server, "GET", "/users", NAVIGATION).field("ETag").unwrap().to_owned();
        assert_eq!(get(&server, "/index.html").field("ETag"), Some(etag.as_str()));
        let again = ask(&server, "GET", "/users", &format!("{NAVIGATION}If-None-Match: {etag}\r\n"));
        assert_eq!((again.status, again.lists("Vary", "Accept")), (304, true));
        fs::remove_file(place.join("site/index.html")).unwrap();
        assert_eq!(ask(&server, "GET", "/users", NAVIGATION).status, 404);
    }

    fn a_field_of_the_users_own_is_on_every_response(engine: Engine) {
        let place = place();
        let flags = ["--header", "X-Frame-Options: DENY", "--header=Link: </a.css>; rel=preload, </b.js>; rel=preload"];
        let server = serve(&place, engine, &flags);
        let etag = get(&server, "/note.txt").field("ETag").unwrap().to_owned();
        let answers = [
            get(&server, "/note.txt"),
            ask(&server, "HEAD", "/note.txt", ""),
            ask(&server, "GET", "/note.txt", &format!("If-None-Match: {etag}\r\n")),
            ask(&server, "GET", "/note.txt", "If-Match: \"x\"\r\n"),
            ask(&server, "GET", "/note.txt", "Range: bytes=0-1\r\n"),
            ask(&server, "GET", "/note.txt", "Range: bytes=9-\r\n"),
            get(&server, "/missing"),
            get(&server, "/docs"),
            get(&server, "/docs/"),
            get(&server, "/echo/x"),
            ask(&server, "OPTIONS", "/", ""),
            ask(&server, "OPTIONS", "*", ""),
            ask(&server, "PUT", "/x", "Content-Length: 0\r\n"),
            ask(&server, "BREW", "/x", ""),
            exchange(&server, "GET / HTTP/1.1\r\n\r\n"),
            exchange(&server, "GET / HTTP/9.9\r\nHost: x\r\n\r\n"),
        ];
        let statuses = [200, 200, 304, 412, 206, 416, 404, 301, 200, 200, 204, 204, 405, 501, 400, 505];
        for (answer, status) in answers.iter().zip(statuses) {
            assert_eq!(answer.status, status, "{answer:?}");
            assert_eq!(answer.field("X-Frame-Options"), Some("DENY"), "{status}");
            assert_eq!(answer.field("Link"), Some("</a.css>; rel=preload, </b.js>; rel=preload"), "{status}");
        }
    }

    fn a_type_of_the_users_own_goes_before_the_known_ones(engine: Engine) {
        let place = place();
        let flags = ["--mime", "txt=text/x-note", "--mime=.FOO=application/foo; version=2", "--mime=bin=text/css"];
        place.write("site/a.foo", "x");
        place.write("site/a.TXT", "x");
        place.write("site/long.bin", "words ".repeat(500));
        let server = serve(&place, engine, &flags);
        assert_eq!(get(&server, "/note.txt").field("Content-Type"), Some("text/x-note"));
        assert_eq!(get(&server, "/a.TXT").field("Content-Type"), Some("text/x-note"));
        assert_eq!(get(&server, "/a.foo").field("Content-Type"), Some("application/foo; version=2"));
        assert_eq!(get(&server, "/about.html").media_type(), "text/html");
        // Whether a file is compressed follows from its type.
        let coded = ask(&server, "GET", "/long.bin", "Accept-Encoding: gzip\r\n");
        assert_eq!(coded.field("Content-Encoding"), Some("gzip"));
    }

    fn links_are_followed_as_far_as_the_user_says(engine: Engine) {
        let place = place();
        symlink("note.txt", place.join("site/inside")).unwrap();
        symlink("../outside/secret.txt", place.join("site/outside")).unwrap();
        symlink("../outside", place.join("site/directory")).unwrap();
        symlink("note.txt", place.join("site/page.html")).unwrap();
        for (flags, inside, outside) in [
            (&[][..], 200, 404),
            (&["--symlinks", "inside"], 200, 404),
            (&["--symlinks", "none"], 404, 404),
            (&["--symlinks", "all"], 200, 200),
        ] {
            let server = Setup::on(engine).arg(place.join("site")).args(flags).arg("--try-html").start();
            assert_eq!(get(&server, "/inside").status, inside, "{flags:?}");
            assert_eq!(get(&server, "/page").status, inside, "{flags:?}");
            assert_eq!(get(&server, "/outside").status, outside, "{flags:?}");
            assert_eq!(get(&server, "/directory/secret.txt").status, outside, "{flags:?}");
            assert_eq!(get(&server, "/../outside/secret.txt").status, 404, "{flags:?}");
            let listed = Setup::on(engine).arg(place.join("site")).args(flags).arg("--index=none").start();
            let page = get(&listed, "/").text();
            assert_eq!(page.contains("\"inside\""), inside == 200, "{flags:?}");
            assert_eq!(page.contains("\"outside\""), outside == 200, "{flags:?}");
        }
    }

    fn dotfiles_are_served_and_listed_only_on_request(engine: Engine) {
        let place = place();
        place.write("site/.env", "HIDDEN");
        place.write("site/.git/config", "HIDDEN");
        place.write("site/.well-known/acme/token", "token");
        place.write("site/.well-known/.hidden", "HIDDEN");
        let server = serve(&place, engine, &["--index=none"]);
        assert_eq!(get(&server, "/.well-known/acme/token").text(), "token");
        for path in ["/.env", "/.git/config", "/.git/", "/.well-known/.hidden", "/docs/.well-known/x", "/%2eenv"] {
            assert_eq!(get(&server, path).status, 404, "{path}");
        }
        assert!(!get(&server, "/").text().contains(".env"));
        let server = serve(&place, engine, &["--index=none", "--hidden"]);
        for path in ["/.env", "/.git/config", "/.well-known/.hidden", "/.well-known/acme/token", "/%2eenv"] {
            assert_eq!(get(&server, path).status, 200, "{path}");
        }
        let page = get(&server, "/").text();
        assert!(page.contains("\".env\"") && page.contains("\".git/\""), "{page}");
    }

    fn names_of_any_bytes_are_served_by_the_links_of_their_listing(engine: Engine) {
        let place = place();
        let names: &[&[u8]] = &[
            b"a b", b"100%", b"%41", b"%2e%2e", b"#x", b"?x=1", b"new\nline", b"tab\t", b"\"'<>&", b"c:d", b"a;b,c=d+e",
            "gr\u{fc}n.txt".as_bytes(), b"\xff\xfe.txt", b"back\\slash", b"~", b"*", b"\x01\x7f", b"...", b" ", b"a%2Fb",
        ];
        for name in names {
            let directory = place.join("site/odd").join(OsStr::from_bytes(&[b"dir ", *name].concat()));
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("in"), name).unwrap();
            fs::write(place.join("site/odd").join(OsStr::from_bytes(name)), name).unwrap();
        }
        let server = serve(&place, engine, &["--hidden"]);
        for form in ["", "Accept: application/json\r\n"] {
            let page = ask(&server, "GET", "/odd/", form).text();
            let start = if form.is_empty() { "href=\"" } else { "\"href\":\"" };
            let links: Vec<&str> = page.split(start).skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
            let mut served = Vec::new();
            for link in links.iter().filter(|link| **link != "../") {
                let link = link.strip_prefix("./").unwrap_or(link);
                let tail = if link.ends_with('/') { "in" } else { "" };
                let answer = get(&server, &format!("/odd/{link}{tail}"));
                assert_eq!(answer.status, 200, "{link}");
                served.push(answer.body);
            }
            let mut expected: Vec<Vec<u8>> = names.iter().chain(names).map(|name| name.to_vec()).collect();
            served.sort();
            expected.sort();
            assert_eq!(served, expected);
        }
    }

    fn the_charset_of_texts_is_the_users_choice(engine: Engine) {
        let place = place();
        for name in ["old/page.html", "style.css", "feed.xml", "sheet.xsl", "feed.rss", "data.json", "image.png"] {
            place.write(format!("site/{name}"), "x");
        }
        let texts = ["/about.html", "/old/page.html", "/style.css"];
        let others = ["/feed.xml", "/sheet.xsl", "/feed.rss", "/data.json", "/image.png"];
        for (flags, charsets) in [
            (&[][..], [Some("utf-8"); 3]),
            (&["--charset", "off"], [None; 3]),
            (&["--charset", "iso-8859-1"], [Some("iso-8859-1"); 3]),
            (
                &["--charset", "off", "--charset", "old/**=windows-1251", "--charset", "*.html=utf-8"],
                [Some("utf-8"), Some("windows-1251"), None],
            ),
            (&["--charset", "**=koi8-r"], [Some("koi8-r"); 3]),
        ] {
            let server = serve(&place, engine, flags);
            // The other files declare their encoding, have a type with only one, or are not text.
            for (path, charset) in texts.into_iter().zip(charsets).chain(others.map(|path| (path, None))) {
                let answer = get(&server, path);
                let told = answer.field("Content-Type").unwrap().split_once(';').map(|(_, parameters)| parameters);
                let expected = charset.map(|charset| format!(" charset={charset}"));
                assert_eq!((answer.status, told), (200, expected.as_deref()), "{flags:?} {path}");
            }
            // Pages that the server writes are in UTF-8, whatever the charset of files is.
            for path in ["/docs/", "/missing"] {
                let answer = ask(&server, "GET", path, "Accept: text/html\r\n");
                assert_eq!(answer.field("Content-Type"), Some("text/html; charset=utf-8"), "{flags:?} {path}");
            }
        }
    }

    fn a_listing_is_json_on_request(engine: Engine) {
        let place = place();
        let path = place.write("site/docs/\"quoted\"\n.txt", "12345");
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_709_251_199);
        fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        fs::create_dir(place.join("site/docs/sub")).unwrap();
        let server = serve(&place, engine, &[]);
        let html = get(&server, "/docs/");
        assert_eq!(html.media_type(), "text/html");
        let json = ask(&server, "GET", "/docs/", "Accept: application/json\r\n");
        assert_eq!((json.status, json.field("Content-Type")), (200, Some("application/json")));
        for answer in [&html, &json] {
            assert!(answer.lists("Vary", "Accept"), "{answer:?}");
        }
        let text = json.text();
        assert!(text.starts_with("[\n{\"name\":\"sub\",\"type\":\"directory\",\"modified\":\"20"), "{text}");
        let entry = "{\"name\":\"\\\"quoted\\\"\\n.txt\",\"type\":\"file\",\"size\":5,\
                     \"modified\":\"2024-02-29T23:59:59Z\",\"href\":\"%22quoted%22%0A.txt\"}";
        assert!(text.contains(entry), "{text}");
        assert!(text.ends_with("}\n]\n"), "{text}");
        fs::create_dir(place.join("site/empty")).unwrap();
        assert_eq!(ask(&server, "GET", "/empty/", "Accept: application/json\r\n").text(), "[\n]\n");
        let refused = serve(&place, engine, &["--no-listing"]);
        assert_eq!(ask(&refused, "GET", "/docs/", "Accept: application/json\r\n").status, 403);
    }
}

#[test]
fn a_page_that_is_not_there_is_an_error_at_the_start() {
    let place = place();
    place.write("large.html", vec![b' '; 65_537]);
    let site = place.join("site").to_str().unwrap().to_owned();
    let large = format!("--error-page=404={}", place.join("large.html").display());
    symlink("../outside/secret.txt", place.join("site/out.html")).unwrap();
    for flag in [
        "--error-page=404=no/such.html",
        "--error-page=404=docs",
        &large,
        "--spa=no.html",
        "--spa=out.html",
        "--spa=docs",
    ] {
        let outcome = common::run(&[&site, flag, "--port=0"]);
        assert_eq!(outcome.code, Some(1), "{flag}: {}", outcome.stderr);
        let name = flag.split('=').next().unwrap();
        assert!(outcome.stderr.contains(name) && outcome.stderr.lines().count() == 1, "{}", outcome.stderr);
    }
    for flags in
        [&["--header=Content-Length: 5"][..], &["--header=X: a\r\nY: b"], &["--cors=nonsense"], &["--allow-delete"]]
    {
        let outcome = common::run(&[&[site.as_str()], flags].concat());
        assert_eq!(outcome.code, Some(2), "{flags:?}: {}", outcome.stderr);
    }
}
