//! The cache never serves old content: an answer is one whole version of the file, and that version had not been
//! replaced yet when the request was sent.
//!
//! Files are kept only once they have been unchanged for a while (`SETTLED`), so these tests wait first: a file that
//! has just been written would be read again for each request, and the test would prove nothing.

mod common;

use common::{Client, Engine, SETTLED, Server, Setup, TempDir, on_every_engine};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::{self, File, FileTimes};
use std::io::{BufRead, BufReader, Write};
use std::ops::RangeInclusive;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

/// The sizes of a file that is kept in memory, and of one that is kept open.
const SIZES: [usize; 2] = [3_000, 300_000];
/// How many versions are prepared. Change number n installs version n % VERSIONS.
const VERSIONS: usize = 64;

/// The size of a test: largest on the event engine, smaller on the others, which run the same code.
struct Extent {
    files: usize,
    changes: usize,
    readers: usize,
}

fn extent(engine: Engine) -> Extent {
    match engine {
        Engine::Event => Extent { files: 250, changes: 4000, readers: 8 },
        Engine::Threads | Engine::Pool => Extent { files: 60, changes: 400, readers: 4 },
        Engine::Iterative => Extent { files: 60, changes: 400, readers: 1 },
    }
}

/// A version's bytes: its number, repeated, so that any mixture of two shows.
fn content(version: usize, size: usize) -> Vec<u8> {
    format!("version {version:07}\n").into_bytes().repeat(size / 16 + 1)[..size].to_vec()
}

/// The version that an answer is. Fails if the answer mixes two.
fn version(body: &[u8]) -> usize {
    let number = std::str::from_utf8(&body[8..15]).ok().and_then(|digits| digits.parse().ok());
    let number: usize = number.unwrap_or_else(|| panic!("a version, not {}", common::shown(body)));
    assert!(body == content(number, body.len()), "a mixture that begins with version {number}");
    number
}

fn serve(place: &TempDir, engine: Engine) -> Server {
    Setup::on(engine).arg(place.join("site")).args(["--access-log", "off"]).start()
}

fn ask(client: &mut Client, path: &str) -> Vec<u8> {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    client.read_response().expect_status(&[200]).body.clone()
}

/// Changes the file in one of several ways, to other content of the same size, and with its old mtime if possible: a
/// cache that looked only at size and mtime would notice nothing.
fn change(path: &Path, way: usize, bytes: &[u8]) {
    let before = fs::metadata(path).unwrap();
    let times = FileTimes::new().set_modified(before.modified().unwrap()).set_accessed(before.accessed().unwrap());
    let beside = path.with_extension("new");
    match way % 5 {
        // Overwritten in place.
        0 => File::options().write(true).open(path).unwrap().write_all(bytes).unwrap(),
        // Truncated, then written.
        1 => fs::write(path, bytes).unwrap(),
        // Replaced by a new file.
        2 => {
            fs::write(&beside, bytes).unwrap();
            fs::rename(&beside, path).unwrap();
        }
        // Removed, then made again: it may get the same inode.
        3 => {
            fs::remove_file(path).unwrap();
            fs::write(path, bytes).unwrap();
        }
        // Replaced by a symbolic link to another file.
        _ => {
            fs::write(path.with_extension("target"), bytes).unwrap();
            symlink(path.with_extension("target").file_name().unwrap(), &beside).unwrap();
            fs::rename(&beside, path).unwrap();
        }
    }
    File::options().write(true).open(path).unwrap().set_times(times).unwrap();
}

/// One thread changes the file, others read it over kept connections. `swap` makes change number n.
fn read_while_changing(server: &Server, path: &str, extent: &Extent, split: bool, mut swap: impl FnMut(usize)) {
    let (begun, completed, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let read = || {
        let mut client = Client::connect(server);
        let mut answers = 0;
        while !over.load(SeqCst) || answers == 0 {
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let early = if split { request.len() / 2 } else { 0 };
            client.send(&request[..early]);
            let oldest = completed.load(SeqCst);
            client.send(&request[early..]);
            let body = client.read_response().expect_status(&[200]).body.clone();
            check(version(&body), oldest..=begun.load(SeqCst));
            answers += 1;
        }
        answers
    };
    thread::scope(|scope| {
        let readers: Vec<_> = (0..extent.readers).map(|_| scope.spawn(read)).collect();
        let until = Instant::now() + Duration::from_secs(8);
        for number in 1..=extent.changes {
            begun.store(number, SeqCst);
            swap(number);
            completed.store(number, SeqCst);
            // Every eighth version stays long enough to get into the cache and be served from it.
            thread::sleep(Duration::from_micros(if number % 8 == 0 { 1000 } else { 50 }));
            if Instant::now() > until || readers.iter().any(|reader| reader.is_finished()) {
                break;
            }
        }
        over.store(true, SeqCst);
        let answers: usize = readers.into_iter().map(|reader| reader.join().expect("a reader without complaint")).sum();
        assert!(answers > extent.readers, "only {answers} answers: nothing was shown");
    });
}

fn check(answered: usize, allowed: RangeInclusive<usize>) {
    let versions: Vec<usize> = allowed.clone().take(VERSIONS).map(|number| number % VERSIONS).collect();
    assert!(versions.contains(&answered), "version {answered}, where changes {allowed:?} were possible");
}

on_every_engine! {
    fn a_change_shows_in_the_next_answer_however_it_was_made(engine: Engine) {
        let extent = extent(engine);
        let place = TempDir::new();
        let name = |number: usize| format!("{number}.txt");
        for number in 0..extent.files {
            place.write(format!("site/{}", name(number)), content(0, SIZES[usize::from(number % 10 == 9)]));
        }
        let server = serve(&place, engine);
        let mut client = Client::connect(&server);
        for round in 1..=2 {
            thread::sleep(SETTLED);
            for number in 0..extent.files {
                let path = format!("/{}", name(number));
                // Twice: the first request may put it into the cache, the second finds it there.
                for _ in 0..2 {
                    assert_eq!(version(&ask(&mut client, &path)), (round - 1) * 2, "{path}");
                }
            }
            for number in 0..extent.files {
                let path = format!("/{}", name(number));
                let (file, size) = (place.join("site").join(name(number)), SIZES[usize::from(number % 10 == 9)]);
                // And changed again at once, within the same tick of the file system's clock.
                for version_now in [round * 2 - 1, round * 2] {
                    let way = number / 10 + number + version_now;
                    change(&file, way, &content(version_now, size));
                    assert_eq!(version(&ask(&mut client, &path)), version_now, "{path}, changed by way {}", way % 5);
                }
            }
        }
    }

    fn a_link_that_is_swapped_never_leads_to_where_it_led(engine: Engine) {
        let extent = extent(engine);
        for size in SIZES {
            let place = TempDir::new();
            for number in 0..VERSIONS {
                place.write(format!("site/versions/{number}"), content(number, size));
            }
            symlink("versions/0", place.join("site/now")).unwrap();
            thread::sleep(SETTLED);
            let server = serve(&place, engine);
            read_while_changing(&server, "/now", &extent, false, |number| {
                let _ = fs::remove_file(place.join("new"));
                symlink(format!("versions/{}", number % VERSIONS), place.join("new")).unwrap();
                fs::rename(place.join("new"), place.join("site/now")).unwrap();
            });
        }
    }

    /// The files do not change: only the path to them does.
    fn a_directory_that_is_exchanged_takes_its_files_along(engine: Engine) {
        let extent = extent(engine);
        let place = TempDir::new();
        place.write("site/now/file", content(0, SIZES[0]));
        for number in 1..VERSIONS {
            place.write(format!("{number}/file"), content(number, SIZES[0]));
        }
        thread::sleep(SETTLED);
        let server = serve(&place, engine);
        let mut away: Vec<String> = (0..VERSIONS).map(|number| number.to_string()).collect();
        read_while_changing(&server, "/now/file", &extent, false, |number| {
            // The old directory gets the path that the new one had.
            let (comes, goes) = (number % VERSIONS, (number - 1) % VERSIONS);
            let (from, to) = (place.join(&away[comes]), place.join("site/now"));
            renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE).unwrap();
            away[goes] = away[comes].clone();
        });
    }

    /// A request sees what the request before it has changed, even if both arrived in one packet (RFC 9112, section
    /// 9.3.2).
    fn a_request_sees_what_the_one_before_has_changed(engine: Engine) {
        let place = TempDir::new();
        place.write("site/file", "old");
        thread::sleep(SETTLED);
        let server = Setup::on(engine).arg(place.join("site")).arg("--directory").arg(place.join("site")).start();
        let mut client = Client::connect(&server);
        assert_eq!(ask(&mut client, "/file"), b"old");
        assert_eq!(ask(&mut client, "/file"), b"old");
        for (name, before) in [("file", 200), ("missing", 404)] {
            let get = format!("GET /{name} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let put = format!("PUT /files/{name} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nnew");
            client.send([&get[..], &put, &get].concat());
            client.read_response().expect_status(&[before]);
            client.read_response().expect_status(&[201, 204]);
            assert_eq!(client.read_response().expect_status(&[200]).text(), "new", "{name}");
        }
    }

    /// So many changes come before it in one write that the connection is treated as a bulk transfer by then.
    fn the_last_of_many_requests_sees_what_those_before_it_have_changed(engine: Engine) {
        let place = TempDir::new();
        place.write("site/kept", "kept");
        thread::sleep(SETTLED);
        let site = place.join("site");
        let server = Setup::on(engine).arg(&site).arg("--directory").arg(&site).args(["--allow-delete"]).start();
        let mut client = Client::connect(&server);
        for _ in 0..3 {
            ask(&mut client, "/kept");
        }
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let put = |path: &str| format!("PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nnew");
        let delete = "DELETE /files/other HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned();
        let changes = [put("/files/other"), get("/other"), put("/files/other"), get("/other"), delete];
        let all = [&changes[..], &[get("/kept"), put("/files/kept"), get("/kept")]].concat();
        client.send(all.concat());
        let last = all.iter().map(|_| client.read_response()).last().unwrap();
        assert_eq!(last.text(), "new");
    }

    fn a_file_that_is_replaced_is_one_version_or_the_next(engine: Engine) {
        let extent = extent(engine);
        for size in SIZES {
            let place = TempDir::new();
            place.write("site/file", content(0, size));
            let server = serve(&place, engine);
            read_while_changing(&server, "/file", &extent, false, |number| {
                place.write("new", content(number % VERSIONS, size));
                fs::rename(place.join("new"), place.join("site/file")).unwrap();
            });
        }
    }

    /// The end of the head counts as the moment of sending, however long before its beginning arrived.
    fn a_request_is_as_young_as_its_last_byte(engine: Engine) {
        let extent = Extent { readers: extent(engine).readers * 4, ..extent(engine) };
        let extent = if engine == Engine::Iterative { Extent { readers: 1, ..extent } } else { extent };
        let place = TempDir::new();
        for number in 0..VERSIONS {
            place.write(format!("site/versions/{number}"), content(number, SIZES[0]));
        }
        symlink("versions/0", place.join("site/now")).unwrap();
        thread::sleep(SETTLED);
        let server = serve(&place, engine);
        read_while_changing(&server, "/now", &extent, true, |number| {
            let _ = fs::remove_file(place.join("new"));
            symlink(format!("versions/{}", number % VERSIONS), place.join("new")).unwrap();
            fs::rename(place.join("new"), place.join("site/now")).unwrap();
        });
    }

    /// Such a store may change no time of the file: on tmpfs it never does, elsewhere only the first store to a page
    /// does.
    fn what_is_stored_through_a_mapping_shows_soon(engine: Engine) {
        if !common::python::has_python() {
            return;
        }
        let place = TempDir::new();
        let memory = Path::new("/dev/shm").join(place.path().file_name().unwrap());
        place.write("site/file", "");
        let has_memory = symlink(&memory, place.join("site/memory")).and_then(|()| fs::create_dir(&memory)).is_ok();
        let _memory = has_memory.then(|| Removed(memory.clone()));
        let folders = [place.join("site"), memory];
        let folders = &folders[..1 + usize::from(has_memory)];
        for (folder, size) in folders.iter().flat_map(|folder| [(folder, 3_000), (folder, 100_000)]) {
            fs::write(folder.join(size.to_string()), content(0, size)).unwrap();
        }
        let script = "import mmap, sys\n\
                      files = [open(name, 'r+b') for name in sys.argv[1:]]\n\
                      maps = [mmap.mmap(file.fileno(), 0) for file in files]\n\
                      for number in [0, 1]:\n\
                      \x20   for map in maps:\n\
                      \x20       map[:] = (b'version %07d\\n' % number * len(map))[:len(map)]\n\
                      \x20   print(number, flush=True)\n\
                      \x20   input()\n";
        let names = folders.iter().flat_map(|folder| ["3000", "100000"].map(|name| folder.join(name)));
        let mut python = Command::new("python3");
        python.args(["-c", script]).args(names).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut python = python.spawn().unwrap();
        let (mut input, mut output) = (python.stdin.take().unwrap(), BufReader::new(python.stdout.take().unwrap()));
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        thread::sleep(SETTLED);
        let server = Setup::on(engine).arg(place.join("site")).args(["--symlinks", "all"]).start();
        let mut client = Client::connect(&server);
        let paths = ["/3000", "/100000", "/memory/3000", "/memory/100000"];
        let paths = &paths[..2 * folders.len()];
        for path in paths.iter().cycle().take(3 * paths.len()) {
            assert_eq!(version(&ask(&mut client, path)), 0);
        }
        input.write_all(b"\n").unwrap();
        output.read_line(&mut line).unwrap();
        for path in paths {
            common::eventually(path, || (version(&ask(&mut client, path)) == 1).then_some(()));
        }
        drop(input);
        python.wait().unwrap();
    }
}

/// A directory that is removed when the test ends.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
