use super::super::scratch::Scratch;
use super::super::symlinks::tests::READS;
use super::*;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// The same root with everything that the kernel offers, without openat2, and without /proc: each test must pass for
/// all three.
fn each_way(dir: &Scratch, symlinks: Symlinks, hidden: bool) -> [Root; 3] {
    let open = || Root::open(&dir.root(), symlinks, hidden).unwrap();
    [open(), Root { openat2: false, ..open() }, Root { descriptors: None, ..open() }]
}

fn every(dir: &Scratch, hidden: bool) -> impl Iterator<Item = Root> {
    [Symlinks::Inside, Symlinks::None, Symlinks::All].into_iter().flat_map(move |policy| each_way(dir, policy, hidden))
}

fn read(root: &Root, path: impl AsRef<[u8]>) -> Result<String, Refused> {
    match root.find(path.as_ref())? {
        Located::File { mut file, meta } => {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(meta.size, text.len() as u64);
            assert_eq!(root.stat(path.as_ref()).unwrap(), meta);
            assert!(root.unchanged(path.as_ref(), &meta));
            Ok(text)
        }
        Located::Directory { .. } => Ok("a directory".to_owned()),
    }
}

#[track_caller]
fn refused(root: &Root, path: impl AsRef<[u8]>) {
    let path = path.as_ref();
    let shown = path.escape_ascii();
    assert!(matches!(root.find(path), Err(Refused::NotFound)), "find {shown} {root:?}");
    assert!(matches!(root.stat(path), Err(Refused::NotFound)), "stat {shown} {root:?}");
}

#[test]
fn this_kernel_has_openat2_and_proc() {
    let dir = Scratch::new();
    let root = Root::open(&dir.root(), Symlinks::Inside, false).unwrap();
    assert!(root.openat2, "the tests of openat2 show nothing here");
    assert!(root.descriptors.is_some(), "the tests of /proc/self/fd show nothing here");
}

#[test]
fn files_and_directories_are_found() {
    let dir = Scratch::new();
    dir.file("sub/dir/a b.txt", "hello");
    dir.file("empty", "");
    for root in every(&dir, false) {
        assert_eq!(read(&root, "sub/dir/a b.txt").unwrap(), "hello");
        assert_eq!(read(&root, "empty").unwrap(), "");
        for path in ["", "sub", "sub/", "sub/dir", "sub/dir/"] {
            assert!(matches!(root.find(path.as_bytes()), Ok(Located::Directory { .. })), "{path}");
            assert!(root.stat(path.as_bytes()).is_ok(), "{path}");
        }
        for path in ["nothing", "sub/nothing", "empty/", "empty/below", "sub/dir/a b.txt/"] {
            refused(&root, path);
        }
    }
}

#[test]
fn a_root_must_be_a_directory() {
    let dir = Scratch::new();
    dir.file("file", "");
    let open = |name| Root::open(&dir.root().join(name), Symlinks::Inside, false).unwrap_err();
    assert_eq!(open("file").kind(), io::ErrorKind::NotADirectory);
    assert_eq!(open("nothing").kind(), io::ErrorKind::NotFound);
}

#[test]
fn names_that_could_leave_the_root_are_refused_by_every_policy() {
    let dir = Scratch::new();
    dir.file("sub/a", "");
    dir.file("a", "");
    let long = "x".repeat(256);
    let deep = "sub/".repeat(2000);
    let absolute = dir.outside().join("secret.txt");
    for root in every(&dir, false).chain(every(&dir, true)) {
        let leaving = ".. ../ ../outside/secret.txt sub/../../outside/secret.txt sub/.. sub/../a . \
            ./a sub/./a / // /a //a sub//a a// /etc/passwd %2e%2e/outside/secret.txt";
        let nul = ["a\0", "a\0.txt", "\0", "sub/\0/a", "..\0"];
        for path in words(leaving).into_iter().chain(nul).chain([&*long, &*deep]) {
            refused(&root, path);
            assert!(matches!(root.parent(path.as_bytes()), Err(Refused::NotFound)), "{path}");
        }
        // Ordinary names that do not exist.
        refused(&root, "...");
        refused(&root, "..\\outside\\secret.txt");
        refused(&root, absolute.as_os_str().as_bytes());
    }
}

#[test]
fn links_inside_are_followed_and_links_outside_are_not() {
    let dir = Scratch::new();
    dir.file("real/file", "inside");
    dir.link("real/file", "relative");
    dir.link("real", "directory");
    dir.link("../real/file", "real/up");
    dir.link(dir.root().join("real/file"), "absolute");
    dir.link(dir.root().join("real"), "absolute-directory");
    dir.link("absolute-directory/up", "chain");
    dir.link("../root/real/file", "out-and-in");
    dir.link(dir.root(), "self");
    let inside = words(
        "relative directory/file real/up absolute absolute-directory/file chain \
            out-and-in self/self/chain",
    );
    dir.link("../outside/secret.txt", "out");
    dir.link("../outside", "out-directory");
    dir.link(dir.outside().join("secret.txt"), "absolute-out");
    dir.link(dir.outside(), "absolute-out-directory");
    dir.link("out", "out-by-chain");
    symlink(dir.root().join("real/file"), dir.outside().join("back")).unwrap();
    let outside =
        ["out", "out-directory/secret.txt", "absolute-out", "absolute-out-directory/secret.txt", "out-by-chain"];
    for root in each_way(&dir, Symlinks::Inside, false) {
        for path in &inside {
            assert_eq!(read(&root, path).unwrap(), "inside", "{path} {root:?}");
        }
        assert!(matches!(root.find(b"absolute-directory/"), Ok(Located::Directory { .. })));
        refused(&root, "absolute/");
        for path in outside.iter().chain(&["out-directory", "out-directory/", "absolute-out-directory/"]) {
            refused(&root, path);
        }
        // A chain of links that goes outside and ends inside leads to a file inside.
        assert_eq!(read(&root, "out-directory/back").unwrap(), "inside");
    }
    for root in each_way(&dir, Symlinks::None, false) {
        for path in inside.iter().chain(&outside).chain(&["directory", "directory/"]) {
            refused(&root, path);
        }
    }
    for root in each_way(&dir, Symlinks::All, false) {
        for path in &inside {
            assert_eq!(read(&root, path).unwrap(), "inside", "{path}");
        }
        for path in &outside {
            assert_eq!(read(&root, path).unwrap(), "secret", "{path}");
        }
    }
}

#[test]
fn loops_dangling_links_and_magic_links_are_not_found() {
    let dir = Scratch::new();
    dir.link("loop", "loop");
    dir.link("b", "a");
    dir.link("a", "b");
    dir.link(dir.root().join("absolute-loop"), "absolute-loop");
    dir.link("nothing", "dangling");
    dir.link(dir.root().join("nothing"), "absolute-dangling");
    dir.link("/proc/self/cwd", "magic");
    dir.link("/proc/self/root", "magic-root");
    for root in [Symlinks::Inside, Symlinks::None].iter().flat_map(|&policy| each_way(&dir, policy, false)) {
        for path in words(
            "loop loop/ loop/x a a/x absolute-loop absolute-loop/x dangling dangling/x \
            absolute-dangling magic/Cargo.toml magic magic-root/etc/passwd",
        ) {
            refused(&root, path);
        }
    }
}

#[test]
fn a_root_reached_by_a_link_and_the_root_of_the_machine_serve_absolute_links() {
    let dir = Scratch::new();
    dir.file("real", "inside");
    let alias = dir.outside().join("alias");
    symlink(dir.root(), &alias).unwrap();
    symlink(alias.join("real"), dir.root().join("by-alias")).unwrap();
    let root = Root::open(&alias, Symlinks::Inside, false).unwrap();
    assert_eq!(read(&root, "by-alias").unwrap(), "inside");
    let machine = Root::open(Path::new("/"), Symlinks::Inside, false).unwrap();
    let path = dir.root().join("by-alias");
    assert_eq!(read(&machine, &path.as_os_str().as_bytes()[1..]).unwrap(), "inside");
}

#[test]
fn a_root_moved_away_is_still_served() {
    let dir = Scratch::new();
    dir.file("a", "hello");
    dir.link(dir.root().join("a"), "absolute");
    let roots = each_way(&dir, Symlinks::Inside, false);
    std::fs::rename(dir.root(), dir.outside().join("moved")).unwrap();
    dir.file("a", "another root");
    for root in roots {
        assert_eq!(read(&root, "a").unwrap(), "hello");
        assert_ne!(read(&root, "absolute").ok().as_deref(), Some("another root"));
    }
}

#[test]
fn a_fifo_a_socket_and_a_device_are_not_found_and_block_nobody() {
    let dir = Scratch::new();
    let fifo = dir.root().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.root().join("socket")).unwrap();
    for root in every(&dir, false) {
        refused(&root, "fifo");
        refused(&root, "socket");
    }
    let dev = Root::open(Path::new("/dev"), Symlinks::All, false).unwrap();
    refused(&dev, "null");
    refused(&dev, "tty");
}

#[test]
fn what_may_not_be_read_is_forbidden() {
    let dir = Scratch::new();
    dir.file("unreadable", "");
    dir.file("passable/index.html", "index");
    dir.file("closed/file", "");
    let mode = |path, mode| {
        let path = dir.root().join(path);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    if rustix::process::geteuid().is_root() {
        return; // root reads everything
    }
    mode("unreadable", 0);
    mode("passable", 0o311);
    mode("closed", 0);
    for root in every(&dir, false) {
        for path in ["unreadable", "closed/file"] {
            assert!(matches!(root.find(path.as_bytes()), Err(Refused::Forbidden)), "{path}");
        }
        assert!(matches!(root.find(b"passable/"), Ok(Located::Directory { .. })));
        assert_eq!(read(&root, "passable/index.html").unwrap(), "index");
    }
    mode("passable", 0o755);
    mode("closed", 0o755);
}

#[test]
fn names_of_any_bytes_are_found() {
    let dir = Scratch::new();
    let most = "n".repeat(255);
    let names: [&[u8]; 14] = [
        b"a b",
        b"100%",
        b"%41",
        b"#",
        b"?",
        b"new\nline",
        b"\"'",
        b"<script>",
        "gr\u{fc}n \u{2192}".as_bytes(),
        b"\xff\xfe",
        b"back\\slash",
        b"..a",
        b"a..",
        most.as_bytes(),
    ];
    for name in names {
        dir.file(OsStr::from_bytes(name), "found");
    }
    for root in every(&dir, true) {
        for name in names {
            assert_eq!(read(&root, name).unwrap(), "found", "{}", name.escape_ascii());
        }
    }
}

#[test]
fn dotfiles_need_hidden_but_well_known_does_not() {
    let dir = Scratch::new();
    let open = [".well-known/security.txt", ".well-known/acme/token"];
    let dotted = words(
        ".env .git/config sub/.htaccess .well-known/.secret sub/.well-known/x \
            .well-knownx",
    );
    let temporary = [".dustdevil-1-ab.tmp", "sub/.dustdevil-1-ab.tmp"];
    for path in open.iter().chain(&dotted).chain(&temporary) {
        dir.file(path, "dot");
    }
    dir.link(".env", "env");
    for root in each_way(&dir, Symlinks::Inside, false) {
        for path in open {
            assert_eq!(read(&root, path).unwrap(), "dot");
        }
        assert!(matches!(root.find(b".well-known/"), Ok(Located::Directory { .. })));
        for path in dotted.iter().chain(&temporary) {
            refused(&root, path);
        }
        assert_eq!(read(&root, "env").unwrap(), "dot", "the link's name has no dot");
    }
    for root in each_way(&dir, Symlinks::Inside, true) {
        for path in open.iter().chain(&dotted) {
            assert_eq!(read(&root, path).unwrap(), "dot");
        }
        for path in temporary {
            refused(&root, path);
        }
    }
}

#[test]
fn a_parent_is_confined_like_a_file() {
    let dir = Scratch::new();
    dir.file("sub/a", "");
    dir.link("sub", "link");
    dir.link("../outside", "out");
    dir.link(dir.outside(), "absolute-out");
    for root in each_way(&dir, Symlinks::Inside, false) {
        for (path, name) in [("a", "a"), ("sub/new", "new"), ("link/new", "new")] {
            assert_eq!(root.parent(path.as_bytes()).unwrap().1, name.as_bytes());
        }
        let long = format!("sub/{}", "n".repeat(256));
        let refused = "/ sub/ sub/. sub/.. sub/.env .well-known out/x absolute-out/x nothing/x \
            sub/a/x ../x .dustdevil-1-ab.tmp";
        for path in words(refused).into_iter().chain(["", "a\0", &long]) {
            assert!(matches!(root.parent(path.as_bytes()), Err(Refused::NotFound)), "{path}");
        }
    }
    for root in each_way(&dir, Symlinks::Inside, true) {
        assert_eq!(root.parent(b"sub/.env").unwrap().1, b".env");
        assert!(root.parent(b".dustdevil-1-ab.tmp").is_err());
    }
    for root in each_way(&dir, Symlinks::None, false) {
        assert!(root.parent(b"link/new").is_err());
        assert!(root.parent(b"sub/new").is_ok());
    }
}

#[test]
fn a_change_is_seen() {
    let dir = Scratch::new();
    dir.file("a", "one");
    dir.file("b", "one");
    for root in each_way(&dir, Symlinks::Inside, false) {
        let seen = root.stat(b"a").unwrap();
        assert!(root.unchanged(b"a", &seen));
        assert!(!root.unchanged(b"b", &seen));
        assert!(!root.unchanged(b"nothing", &seen));
        assert!(!root.unchanged(b"../root/a", &seen));
        dir.file("a", "longer");
        assert!(!root.unchanged(b"a", &seen));
        dir.file("a", "one");
    }
}

/// A thread that changes the tree until this value is dropped.
struct Meanwhile(std::sync::Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

impl Meanwhile {
    fn run(mut act: impl FnMut() + Send + 'static) -> Meanwhile {
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let work = move || {
            while !seen.load(Ordering::Relaxed) {
                act();
            }
        };
        Meanwhile(stop, Some(std::thread::spawn(work)))
    }
}

impl Drop for Meanwhile {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        let _ = self.1.take().map(std::thread::JoinHandle::join);
    }
}

#[test]
fn a_link_swapped_while_we_look_never_shows_the_outside() {
    let dir = Scratch::new();
    dir.file("real/secret.txt", "inside");
    dir.link("real", "door");
    let root = dir.root();
    let targets = [dir.root().join("real"), "real".into(), dir.outside(), "../outside".into()];
    let mut turn = 0;
    let swap = Meanwhile::run(move || {
        turn += 1;
        symlink(&targets[turn % 4], root.join("next")).unwrap();
        std::fs::rename(root.join("next"), root.join("door")).unwrap();
    });
    for root in each_way(&dir, Symlinks::Inside, false) {
        // Until both results were seen often: under load a thread may run for long at a time.
        let (mut found, mut refused) = (0, 0);
        while found < 500 || refused < 500 {
            match root.find(b"door/secret.txt") {
                Ok(Located::File { mut file, .. }) => {
                    let mut text = String::new();
                    file.read_to_string(&mut text).unwrap();
                    assert_eq!(text, "inside");
                    found += 1;
                }
                Err(Refused::NotFound) => refused += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    drop(swap);
}

#[test]
fn renames_elsewhere_never_hide_a_file() {
    // Any rename on the system makes openat2 return EAGAIN for a path that contains `..` at that moment.
    let dir = Scratch::new();
    dir.file("real/a", "hello");
    dir.link("../../root/../root/real/a", "real/out-and-in");
    dir.link("../real/../real/../real/a", "real/up");
    let outside = dir.outside();
    let renames = Meanwhile::run(move || {
        std::fs::rename(outside.join("secret.txt"), outside.join("moved")).unwrap();
        std::fs::rename(outside.join("moved"), outside.join("secret.txt")).unwrap();
    });
    for root in each_way(&dir, Symlinks::Inside, false) {
        for _ in 0..3000 {
            for path in ["real/up", "real/out-and-in"] {
                assert!(root.find(path.as_bytes()).is_ok(), "{path}");
            }
        }
    }
    drop(renames);
}

#[test]
fn a_link_that_leads_nowhere_is_followed_once() {
    let dir = Scratch::new();
    dir.file("file", "");
    dir.link(dir.root().join("nothing"), "dangling");
    dir.link(dir.root().join("file/x"), "through-a-file");
    dir.link(dir.root().join("loop"), "loop");
    for root in each_way(&dir, Symlinks::Inside, false) {
        // At most: the link, its target, and the link once more.
        for (path, most) in [("dangling", 3), ("through-a-file", 4), ("loop", 3), ("file", 0), ("nothing", 0)] {
            let before = READS.get();
            let _ = root.status(path.as_bytes(), &mut 0);
            assert!(READS.get() - before <= most, "{path}: {} {root:?}", READS.get() - before);
        }
    }
}

#[test]
fn a_target_replaced_by_an_absolute_link_is_never_missing() {
    let dir = Scratch::new();
    dir.file("v0", "version");
    dir.link(dir.root().join("v0"), "current");
    let root = dir.root();
    let mut version = 0;
    let deploy = Meanwhile::run(move || {
        version += 1;
        std::fs::write(root.join(format!("v{version}")), "version").unwrap();
        symlink(root.join(format!("v{version}")), root.join("next")).unwrap();
        std::fs::rename(root.join("next"), root.join("current")).unwrap();
        std::fs::remove_file(root.join(format!("v{}", version - 1))).unwrap();
        std::thread::sleep(std::time::Duration::from_micros(200));
    });
    for root in each_way(&dir, Symlinks::Inside, false) {
        for _ in 0..3000 {
            assert!(root.find(b"current").is_ok());
        }
    }
    drop(deploy);
}

#[test]
fn a_fifo_put_in_a_files_place_is_never_opened() {
    let dir = Scratch::new();
    dir.file("file", "text");
    let fifo = dir.outside().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    let inotify = inotify::init(CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&inotify, &fifo, WatchFlags::OPEN).unwrap();
    let (root, mut turn, kinds) = (dir.root(), 0, [fifo, dir.root().join("file")]);
    let swap = Meanwhile::run(move || {
        turn += 1;
        std::fs::hard_link(&kinds[turn % 2], root.join("next")).unwrap();
        std::fs::rename(root.join("next"), root.join("door")).unwrap();
        // rename(2) does nothing if both names belong to the same file, so the new name may be left.
        let _ = std::fs::remove_file(root.join("next"));
    });
    let [root, walked, _] = each_way(&dir, Symlinks::Inside, false);
    for root in [root, walked] {
        let (mut found, mut refused) = (0, 0);
        while found < 500 || refused < 500 {
            match root.find(b"door") {
                Ok(Located::File { .. }) => found += 1,
                Err(Refused::NotFound) => refused += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    drop(swap);
    assert_eq!(rustix::io::read(&inotify, &mut [0; 512]), Err(Errno::AGAIN), "the FIFO was opened");
}
