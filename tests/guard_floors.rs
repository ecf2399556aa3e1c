//! The floors inside `app`, and circular imports anywhere in src. Both are checked by reading the paths in the source.
//! A file may import from floors below its own, and from its own folder. A folder's mod.rs may import the files of the
//! folder (its rooms), and they may not import mod.rs: that would be a circle.
//!
//! Comments, strings, and code that is compiled only for tests, are not checked.

#[path = "common/source.rs"]
mod source;

use source::{code_of, sources};
use std::collections::{BTreeMap, BTreeSet};

/// The floors of `app`, the lowest first. A name is that of a file or of a whole folder.
const FLOORS: [&[&str]; 10] = [
    &["compress", "client"],
    &["files"],
    &["body", "observe"],
    &["upstreams"],
    &["reply", "forward"],
    &["receive", "rules"],
    &["exchange"],
    &["handlers"],
    &["routes"],
    &[""],
];

/// Modules whose files count as one file, because they implement one type: the files of `session/` implement `Session`.
const ONE_ROOM: [&str; 1] = ["session"];

/// Files that are part of a circle, as exceptions. The list may only become shorter.
const IN_A_CIRCLE: &[&str] = &[];

/// Imports inside `app` that go up, `from -> to`, as exceptions. The list may only become shorter.
const UPWARD: &[&str] = &[];

/// For each module, the other modules that it names, by path: `app::files::lookup`.
type Graph = BTreeMap<String, BTreeSet<String>>;

fn graph() -> Graph {
    let sources = sources().into_iter().map(|source| (source.module.join("::"), source.code));
    let sources: BTreeMap<String, String> = sources.filter(|(module, _)| module != "lib" && module != "main").collect();
    assert!(sources.len() > 100, "only {} files", sources.len());
    let modules: BTreeSet<String> = sources.keys().cloned().collect();
    let imports = |module: &String, code: &String| {
        let paths = paths_of(module, code, &modules).into_iter();
        paths.filter_map(|path| file_of(&path, &modules)).filter(|other| other != module).collect()
    };
    sources.iter().map(|(module, code)| (module.clone(), imports(module, code))).collect()
}

/// The position behind the brace that closes the brace at `open`.
fn closing_brace(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at + 1,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// Every path that the code names, made absolute from the crate's root.
fn paths_of(module: &str, code: &str, modules: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("use ") {
        if at > 0 && !code[..at].ends_with(['\n', ' ', ')']) {
            continue;
        }
        let statement = &code[at + 4..code[at..].find(';').map_or(code.len(), |end| at + end)];
        expand("", statement, &mut found);
    }
    for (at, start) in code.match_indices("crate::").chain(code.match_indices("super::")) {
        let is_inner = code[..at].ends_with(|letter: char| letter.is_alphanumeric() || "_:$".contains(letter));
        let path = code[at..].split(|letter: char| !(letter.is_alphanumeric() || "_:".contains(letter))).next();
        found.extend(path.filter(|path| !is_inner && path.len() > start.len()).map(str::to_owned));
    }
    found.into_iter().filter_map(|path| absolute(module, &path, modules)).collect()
}

/// `a::{b, c::{d}}` is `a::b` and `a::c::d`.
fn expand(before: &str, tree: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        found.push(format!("{before}{}", tree.split(" as ").next().unwrap_or_default().trim()));
        return;
    };
    let before = format!("{before}{}", tree[..open].trim());
    let inner = &tree[open + 1..closing_brace(tree, open).saturating_sub(1)];
    let (mut depth, mut start) = (0, 0);
    for (at, letter) in inner.char_indices().chain([(inner.len(), ',')]) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inner[start..at].trim().is_empty() {
                    expand(&before, &inner[start..at], found);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// The path from the crate's root. `None` if it leads to another crate.
fn absolute(module: &str, path: &str, modules: &BTreeSet<String>) -> Option<String> {
    if let Some(rest) = path.strip_prefix("crate::") {
        return Some(rest.to_owned());
    }
    let (mut base, mut rest) = (module, path);
    if let Some(own) = rest.strip_prefix("self::") {
        rest = own;
    } else if rest.starts_with("super::") {
        while let Some(above) = rest.strip_prefix("super::") {
            rest = above;
            base = base.rsplit_once("::").map_or("", |(parent, _)| parent);
        }
    } else if !modules.contains(&format!("{module}::{}", rest.split("::").next()?)) {
        return None;
    }
    Some(if base.is_empty() { rest.to_owned() } else { format!("{base}::{rest}") })
}

/// The module that a path leads into: its longest prefix that is a module.
fn file_of(path: &str, modules: &BTreeSet<String>) -> Option<String> {
    let mut path = path.trim_end_matches("::self");
    while !modules.contains(path) {
        path = path.rsplit_once("::")?.0;
    }
    let room = ONE_ROOM.iter().find(|room| path.starts_with(&format!("{room}::")));
    Some(room.map_or(path, |room| room).to_owned())
}

/// Every module that a module imports, directly or through others.
fn reach(graph: &Graph, from: &str) -> BTreeSet<String> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(module) = open.pop() {
        for next in graph.get(&module).into_iter().flatten() {
            if seen.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    seen
}

/// The graph with the files of each module of `ONE_ROOM` joined into one.
fn with_rooms_joined(graph: &Graph) -> Graph {
    let mut joined = Graph::new();
    for (module, imports) in graph {
        let room = ONE_ROOM.iter().find(|room| module.starts_with(&format!("{room}::")));
        let module = room.map_or(module.as_str(), |room| room);
        joined.entry(module.to_owned()).or_default().extend(imports.iter().filter(|other| *other != module).cloned());
    }
    joined
}

fn floor_of(module: &str) -> usize {
    let name = module.split("::").nth(1).unwrap_or_default();
    let floor = FLOORS.iter().position(|floor| floor.contains(&name));
    floor.unwrap_or_else(|| panic!("{module}: say in {} on which floor `{name}` is", file!()))
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let graph = with_rooms_joined(&graph());
    let in_a_circle: Vec<&String> = graph.keys().filter(|module| reach(&graph, module).contains(*module)).collect();
    let new: Vec<_> = in_a_circle.iter().filter(|module| !IN_A_CIRCLE.contains(&module.as_str())).collect();
    let described = |module: &String| {
        let back = graph[module].iter().filter(|other| reach(&graph, other).contains(module));
        format!("{module} -> {}", back.cloned().collect::<Vec<_>>().join(", "))
    };
    let described: Vec<_> = new.into_iter().map(|module| described(module)).collect();
    assert!(described.is_empty(), "circles:\n{}", described.join("\n"));
    let gone: Vec<_> = IN_A_CIRCLE.iter().filter(|known| !in_a_circle.iter().any(|module| module == *known)).collect();
    assert!(gone.is_empty(), "no longer in a circle, so take them out of the list: {gone:?}");
}

#[test]
fn imports_inside_the_application_go_down() {
    let mut upward = BTreeSet::new();
    for (module, imports) in graph().iter().filter(|(module, _)| *module == "app" || module.starts_with("app::")) {
        for other in imports.iter().filter(|other| *other == "app" || other.starts_with("app::")) {
            let is_own_folder = module.split("::").nth(1) == other.split("::").nth(1);
            if !is_own_folder && floor_of(other) >= floor_of(module) {
                upward.insert(format!("{module} -> {other}"));
            }
        }
    }
    let new: Vec<_> = upward.iter().filter(|import| !UPWARD.contains(&import.as_str())).cloned().collect();
    assert!(new.is_empty(), "imports that go up or stay on a floor:\n{}", new.join("\n"));
    let gone: Vec<_> = UPWARD.iter().filter(|known| !upward.contains(**known)).collect();
    assert!(gone.is_empty(), "no longer upward, so take them out of the list: {gone:?}");
}

#[test]
fn every_way_to_write_a_path_is_seen() {
    let modules: BTreeSet<String> =
        ["a", "a::b", "a::b::c", "a::d", "x"].iter().map(|module| module.to_string()).collect();
    let seen = |module: &str, code: &str| -> BTreeSet<String> {
        let paths = paths_of(module, &code_of(code), &modules);
        paths.iter().filter_map(|path| file_of(path, &modules)).collect()
    };
    let all = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<BTreeSet<_>>();
    assert_eq!(seen("x", "use crate::a::{self, b::{c::T, S}, d as e};"), all(&["a", "a::b", "a::b::c", "a::d"]));
    assert_eq!(seen("a::b::c", "use super::S;\nuse super::super::d::T;\n"), all(&["a::b", "a::d"]));
    assert_eq!(seen("a", "mod b;\npub use b::c::T;\nuse std::io;"), all(&["a::b::c"]));
    assert_eq!(seen("a::b", "fn f() { super::d::go(); super::super::x::go(); }"), all(&["a::d", "x"]));
    assert_eq!(seen("x", "fn f(t: &crate::a::d::T) {} // crate::a::b\n"), all(&["a::d"]));
    assert_eq!(seen("x", "#[cfg(test)]\nmod tests {\n    use crate::a::d;\n    fn f() { {} }\n}\n"), all(&[]));
}
