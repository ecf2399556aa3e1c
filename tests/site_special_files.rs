//! FIFOs, devices and sockets among the files: none is found, and none is opened. To open a FIFO would let its writer
//! continue and lose what it writes; to open a device can have any side effect.

mod common;

use common::{Engine, Server, Setup, TempDir, eventually, exchange, get, on_every_engine};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::io::Errno;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

fn mkfifo(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
}

fn serve(place: &TempDir, engine: Engine) -> Server {
    let setup = Setup::on(engine).args(["--try-html", "--precompressed", "--allow-delete", "--cache-size", "0"]);
    setup.arg("--directory").arg(place.join("site")).arg(place.join("site")).start()
}

/// Requests a path in every way. None may find it.
fn ask_for(server: &Server, path: &str) {
    for (method, fields) in [
        ("GET", ""),
        ("HEAD", ""),
        ("GET", "Range: bytes=0-9\r\n"),
        ("GET", "Accept-Encoding: gzip, br\r\n"),
        ("GET", "If-None-Match: *\r\n"),
        ("HEAD", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
    ] {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n");
        exchange(server, request).expect_status(&[404]);
    }
}

/// Counts how often files have been opened or read.
struct Opens(OwnedFd);

impl Opens {
    fn of(paths: &[&Path]) -> Opens {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        for path in paths {
            inotify::add_watch(&inotify, *path, WatchFlags::OPEN | WatchFlags::ACCESS).unwrap();
        }
        Opens(inotify)
    }

    fn count(&self) -> usize {
        let mut room = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.0, &mut room);
        let mut count = 0;
        loop {
            match reader.next() {
                Ok(event) => count += usize::from(event.events().intersects(ReadFlags::OPEN | ReadFlags::ACCESS)),
                Err(Errno::AGAIN) => return count,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

on_every_engine! {
    fn the_writer_of_a_fifo_keeps_waiting_and_loses_nothing(engine: Engine) {
        let place = TempDir::new();
        place.write("site/file.css", "a{}");
        let fifos = ["fifo", "dir/index.html", "page.html", "file.css.gz", "file.css.br"].map(|name| place.join("site").join(name));
        fifos.iter().for_each(|fifo| mkfifo(fifo));
        std::os::unix::fs::symlink(&fifos[0], place.join("site/link")).unwrap();
        let opens = Opens::of(&fifos.each_ref().map(|fifo| fifo.as_path()));
        let writers = fifos.clone().map(|fifo| {
            // The open waits for a reader. If a reader leaves without reading, the write fails.
            thread::spawn(move || OpenOptions::new().write(true).open(fifo)?.write_all(b"data"))
        });
        let server = serve(&place, engine);
        for path in ["/fifo", "/link", "/page", "/page.html", "/dir/index.html", "/file.css.gz", "/files/fifo"] {
            ask_for(&server, path);
        }
        let listing = get(&server, "/");
        assert_eq!((listing.status, listing.text().contains("fifo"), listing.text().contains("file.css")), (200, false, true));
        assert_eq!(get(&server, "/dir/").status, 200, "a listing, as if there were no index");
        let answer = exchange(
            &server,
            "GET /file.css HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip, br\r\nConnection: close\r\n\r\n",
        );
        assert_eq!((answer.status, answer.field("Content-Encoding"), answer.text().as_str()), (200, None, "a{}"));
        let delete = "DELETE /files/fifo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        assert_eq!(exchange(&server, delete).status, 404);
        assert_eq!(opens.count(), 0, "FIFOs were opened");
        for (fifo, writer) in fifos.iter().zip(writers) {
            let mut reader = OpenOptions::new().read(true).custom_flags(0o4000).open(fifo).unwrap(); // O_NONBLOCK
            let mut room = [0; 16];
            let count = eventually("what was written", || reader.read(&mut room).ok().filter(|&count| count > 0));
            assert_eq!(&room[..count], b"data");
            writer.join().unwrap().unwrap();
        }
    }

    fn a_device_and_a_socket_are_never_opened(engine: Engine) {
        let place = TempDir::new();
        place.write("site/file", "text");
        let (device, socket) = (place.join("site/zero"), place.join("site/socket"));
        let _listener = UnixListener::bind(&socket).unwrap();
        // The device number of /dev/zero. Only root may make a device, and not in every container.
        let made = mknodat(CWD, &device, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 5));
        if let Err(error) = made {
            eprintln!("skipped: a device cannot be made here: {error}");
            return;
        }
        let opens = Opens::of(&[&device, &socket]);
        let server = serve(&place, engine);
        for path in ["/zero", "/socket", "/files/zero", "/files/socket"] {
            ask_for(&server, path);
        }
        let listing = get(&server, "/").text();
        assert!(listing.contains("file") && !listing.contains("zero") && !listing.contains("socket"), "{listing}");
        assert_eq!(opens.count(), 0, "the device or the socket was opened");
        assert_eq!(get(&server, "/file").text(), "text");
    }

    /// Files that the kernel generates when they are read have a size of 0 or of a page: an answer would be empty or
    /// cut off.
    fn a_file_that_the_kernel_makes_is_not_found_and_said_once(engine: Engine) {
        let place = TempDir::new();
        place.write("site/file", "text");
        for (name, target) in [("version", "/proc/version"), ("proc", "/proc"), ("ostype", "/proc/sys/kernel/ostype")] {
            std::os::unix::fs::symlink(target, place.join("site").join(name)).unwrap();
        }
        let site = place.join("site");
        let server = Setup::on(engine).args(["--symlinks", "all", site.to_str().unwrap()]).start();
        let kernel = Setup::on(engine).arg("/proc/sys/kernel").start();
        for _ in 0..3 {
            for path in ["/version", "/proc/version", "/proc/self/environ", "/ostype"] {
                assert_eq!(get(&server, path).status, 404, "{path}");
                let range = format!("GET {path} HTTP/1.1\r\nHost: h\r\nRange: bytes=0-9\r\nConnection: close\r\n\r\n");
                assert_eq!(exchange(&server, range).status, 404, "{path}");
            }
            assert_eq!(get(&kernel, "/ostype").status, 404);
            assert_eq!(get(&server, "/file").text(), "text");
        }
        for server in [&server, &kernel] {
            server.expect_stderr("procfs");
            assert_eq!(server.stderr().matches("procfs").count(), 1, "{}", server.stderr());
        }
    }
}
