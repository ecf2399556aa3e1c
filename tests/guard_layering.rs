//! The layers of the source: imports go down, and only some modules use sockets, the clock and files. The test reads
//! the source files, so new files are checked too. The crate's documentation (src/lib.rs) has the map of the layers.
//!
//! Comments, strings, and code that is compiled only for tests, are not checked.

#[path = "common/source.rs"]
mod source;

use source::{Source, code_of, sources};

/// The layers, the lowest first. A module may use modules of its own layer and of lower ones.
const LAYERS: [(&str, &[&str]); 7] = [
    (
        "L0 words and plain values",
        &["http", "config", "cost", "descriptors", "environment", "poll", "start_error", "sync", "units"],
    ),
    ("L1 protocol", &["proto"]),
    ("L2 application", &["app", "wsgi"]),
    ("L3 session", &["session"]),
    ("L4 driver", &["driver"]),
    ("L5 engines", &["engine", "listener"]),
    ("L6 the program", &["main", "lib", "logging"]),
];

/// For each kind of contact with the system: the words in the source that show it, and the modules or files that may
/// use it.
const CONTACTS: [(&str, &[&str], &[&str]); 3] = [
    (
        "sockets",
        &[
            "mio::",
            "std::net::Tcp",
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "UnixStream",
            "UnixListener",
            "socket2",
            "rustix::net",
        ],
        // A log may be a socket that was inherited.
        &["engine", "listener", "wsgi", "app::observe::sink"],
    ),
    ("the clock", &["Instant::now", "SystemTime::now", ".elapsed("], &["engine", "main", "logging"]),
    (
        "opening files",
        &["File::open", "File::create", "OpenOptions", "fs::read", "fs::write", "openat"],
        // The engines read from /proc which signals the process was started with.
        &["app", "wsgi", "config", "engine::signals"],
    ),
];

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|(_, modules)| modules.contains(&module))
}

/// Every top-level module that the file names, by `crate::` or by enough `super::`, with its position in the code.
fn imports(source: &Source) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (at, _) in source.code.match_indices("crate::") {
        if starts_word(&source.code, at) {
            let names = first_names(&source.code[at + "crate::".len()..]);
            found.extend(names.into_iter().map(|name| (name, at)));
        }
    }
    for (at, _) in source.code.match_indices("super::") {
        if starts_word(&source.code, at) && !source.code[..at].ends_with("super::") {
            let chain = &source.code[at..];
            let rest = chain.trim_start_matches("super::");
            let ups = (chain.len() - rest.len()) / "super::".len();
            // If enough `super::` lead to the root, the path names a top-level module. Otherwise it stays within its
            // own.
            if ups >= source.module.len() {
                found.extend(first_names(rest).into_iter().map(|name| (name, at)));
            }
        }
    }
    found
}

fn starts_word(code: &str, at: usize) -> bool {
    let before = code[..at].chars().next_back();
    !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_' || letter == '$')
}

/// The first name of a path. If the path is in braces, the first name of each branch: `{a, b::{c, d}}` gives a and b.
fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
    };
    let Some(inner) = path.trim_start().strip_prefix('{') else {
        return vec![name(path)];
    };
    let (mut names, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, letter) in inner.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.push(name(&inner[start..at]));
                start = at + 1;
                if letter == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[test]
fn every_module_has_its_layer() {
    for source in sources() {
        assert!(
            layer_of(source.top()).is_some(),
            "{}: say in tests/guard_layering.rs and in the map of src/lib.rs which layer `{}` is in",
            source.path.display(),
            source.top()
        );
    }
}

#[test]
fn imports_go_down() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(own) = layer_of(source.top()) else {
            continue;
        };
        for (name, at) in imports(&source) {
            // A name that is not a module is an item of lib.rs, which is in the top layer.
            let other = layer_of(&name).unwrap_or(LAYERS.len() - 1);
            if other > own {
                wrong.push(format!("{}: {} uses `{name}` of {}", source.place(at), LAYERS[own].0, LAYERS[other].0));
            }
        }
    }
    assert!(wrong.is_empty(), "imports that go up:\n{}", wrong.join("\n"));
}

/// `session::testing` drives a whole session, so it imports from layers above its own.
#[test]
fn nothing_that_serves_uses_what_is_for_tests() {
    for source in sources() {
        let named = source.code.match_indices("testing").filter(|(at, _)| starts_word(&source.code, *at));
        for (at, _) in named {
            assert!(source.code[..at].ends_with("pub mod "), "{}: session::testing is for tests", source.place(at));
        }
    }
}

#[test]
fn the_world_is_met_only_where_it_belongs() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (contact, words, allowed) in CONTACTS {
            if allowed.contains(&source.top()) || allowed.contains(&source.module.join("::").as_str()) {
                continue;
            }
            for word in words {
                let hits = source
                    .code
                    .match_indices(word)
                    .filter(|(at, _)| word.starts_with('.') || starts_word(&source.code, *at));
                wrong.extend(
                    hits.map(|(at, _)| format!("{}: {contact} (`{word}`) is for {allowed:?}", source.place(at))),
                );
            }
        }
    }
    assert!(wrong.is_empty(), "outside their place:\n{}", wrong.join("\n"));
}

#[test]
fn one_file_of_the_engines_knows_python_workers() {
    let mut wrong = Vec::new();
    let engines = sources().into_iter().filter(|source| source.top() == "engine");
    for source in engines.filter(|source| source.module != ["engine", "python"]) {
        let hits = source.code.match_indices("wsgi").filter(|(at, _)| starts_word(&source.code, *at));
        wrong.extend(hits.map(|(at, _)| source.place(at)));
    }
    assert!(wrong.is_empty(), "`wsgi` is for src/engine/python.rs:\n{}", wrong.join("\n"));
}

#[test]
fn one_room_of_the_configuration_knows_clap() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.top() != "environment") {
        if !source.module.join("::").starts_with("config::args") {
            let hits = source.code.match_indices("clap").filter(|(at, _)| starts_word(&source.code, *at));
            wrong.extend(hits.map(|(at, _)| source.place(at)));
        }
    }
    assert!(wrong.is_empty(), "`clap` is for src/config/args and src/environment.rs:\n{}", wrong.join("\n"));
}

#[test]
fn no_unsafe_code_in_either_crate() {
    for source in sources() {
        if source.module == ["main"] || source.module == ["lib"] {
            let at = source.code.find("#![forbid(unsafe_code)]");
            let at = at.unwrap_or_else(|| panic!("{}: no #![forbid(unsafe_code)]", source.path.display()));
            let above = source.code[..at].trim();
            let attributes = above.lines().all(|line| line.trim().is_empty() || line.starts_with("#!["));
            assert!(
                attributes,
                "{}: #![forbid(unsafe_code)] stands at the top, not below {above}",
                source.path.display()
            );
        }
        for (at, _) in source.code.match_indices("unsafe ") {
            assert!(!starts_word(&source.code, at), "{}: unsafe", source.place(at));
        }
    }
}

#[test]
fn prose_and_tests_do_not_count() {
    let text = concat!(
        "// use crate::engine;\n/* crate::main /* nested */ */ use crate::http::Head;\n",
        "const A: &str = \"crate::engine \\\" crate::driver\"; const B: char = '\"'; fn f<'a>(x: &'a str) {}\n",
        "const C: &str = r#\"crate::session \"quoted\" \"#; const D: &[u8] = br\"crate::session\";\n",
        "#[cfg(test)]\nuse crate::engine::Fake;\n#[cfg(test)]\nmod tests {\n    use crate::driver;\n    fn g() { {} }\n}\n",
        "#[cfg(test)]\n#[derive(Debug)]\nstruct S { a: [u8; 4] }\nuse crate::proto;\n",
    );
    let code = code_of(text);
    assert_eq!(code.lines().count(), text.lines().count());
    let source = Source { path: "x.rs".into(), module: vec!["app".into(), "x".into()], code };
    let names: Vec<String> = imports(&source).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["http", "proto"]);
}

#[test]
fn every_way_to_write_an_import_is_seen() {
    let names = |module: &[&str], code: &str| -> Vec<String> {
        let module = module.iter().map(|part| part.to_string()).collect();
        let source = Source { path: "x.rs".into(), module, code: code.into() };
        imports(&source).into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(names(&["http", "head"], "use crate::engine::event;"), ["engine"]);
    assert_eq!(names(&["http"], "use crate::{\n    app::{body, Exchange},\n    driver,\n};"), ["app", "driver"]);
    assert_eq!(names(&["http"], "fn f(x: &crate::session::Session) {}"), ["session"]);
    assert_eq!(names(&["http", "head"], "use super::super::session::X;"), ["session"]);
    assert_eq!(names(&["http"], "use super::{driver, engine::Y};"), ["driver", "engine"]);
    assert_eq!(names(&["http", "head"], "use super::field;"), [""; 0]);
    assert_eq!(names(&["http"], "macro_rules! m { () => { $crate::engine::go() } } mycrate::engine();"), [""; 0]);
}
