//! The worst cost of every handler. Each row is a request that causes as much work as possible in a handler, and is
//! pipelined as often as fits in a socket's buffers. One drive of a session must stay within its slice, whatever the
//! requests are, so that the loop serves other sessions in between.
//!
//! The test counts costs, not time. The driver runs over a transport in memory; everything else is the code of the
//! server. `DUSTDEVIL_SHOW_COSTS=1 cargo test --release --test guard_costs -- --nocapture` prints a table with the
//! longest time of a drive, and the time of one unit of cost. If the costs in src/cost.rs are right, a unit takes about
//! a quarter of a nanosecond or less. A turn has 8 Mi units: it stays below 10 ms as long as no unit takes more than
//! 0.6 ns.

mod common;

use common::TempDir;
use dustdevil::app::App;
use dustdevil::config::Config;
use dustdevil::cost;
use dustdevil::driver::{self, Turn};
use dustdevil::http::date::Now;
use dustdevil::session::testing::Wire;
use dustdevil::session::{Scratch, Session};
use rustix::time::{ClockId, clock_gettime};
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant, SystemTime};

/// The highest cost of a drive. A drive ends when its slice is spent, and so exceeds it by at most one step. A step is
/// one `advance`, which ends when its own limit is spent, and so exceeds that by at most one piece of work.
const MOST: usize = cost::SLICE + 2 * cost::ADVANCE;
/// Bytes of a pipeline: about as many as the buffers of a socket hold.
const PIPELINE: usize = 64 * 1024;
/// Most drives of one pipeline: enough to show its cost.
const DRIVES: usize = 100;

/// Directories with files that cost as much as possible.
struct Places {
    root: TempDir,
}

impl Places {
    fn new() -> Places {
        let root = TempDir::new();
        let names = 1_500;
        for (folder, length) in [("many", 0), ("long", 240)] {
            std::fs::create_dir(root.join(folder)).unwrap();
            for number in 0..names {
                let name = format!("{folder}/{}{number:06}", "<".repeat(length));
                std::fs::write(root.path().join(name), "").unwrap();
            }
        }
        std::fs::create_dir(root.join("dangling")).unwrap();
        std::fs::create_dir(root.join("absolute")).unwrap();
        for number in 0..names {
            let place = |folder: &str| root.path().join(folder).join(format!("{number:06}"));
            symlink(root.path().join("no/such/file"), place("dangling")).unwrap();
            symlink(root.path().join("many").join(format!("{number:06}")), place("absolute")).unwrap();
        }
        let text: Vec<u8> =
            (0..256 * 1024).map(|at: u32| b"the quick brown fox "[at as usize % 20] ^ (at / 977) as u8 & 1).collect();
        root.write("kept.txt", &text[..1024]);
        root.write("text.txt", &text[..64 * 1024]);
        root.write("large.txt", &text);
        root.write("zeros.txt", vec![0; 8 << 20]);
        for coding in ["br", "gz", "zst"] {
            root.write(format!("kept.txt.{coding}"), "coded");
        }
        Places { root }
    }
}

struct Row {
    name: &'static str,
    flags: &'static [&'static str],
    /// The request, which is repeated for the whole pipeline. `{n}` is replaced by the number of the request.
    request: String,
}

fn get(name: &'static str, flags: &'static [&'static str], path: &str, fields: &str) -> Row {
    asks(name, flags, "GET", path, fields)
}

fn asks(name: &'static str, flags: &'static [&'static str], method: &str, path: &str, fields: &str) -> Row {
    Row { name, flags, request: format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n") }
}

fn rows() -> Vec<Row> {
    const DEBUG: &[&str] = &["--debug-endpoints", "--trace-method"];
    const UPSTREAM: &[&str] = &["--proxy", "/up=http://127.0.0.1:9"];
    const NO_CACHE: &[&str] = &["--cache-size", "0"];
    let long_cookies: String = (0..800).map(|number| format!("c{number}={number:08}; ")).collect();
    let ranges: String = (0..64).map(|number| format!("{}-{},", number * 4_000, number * 4_000 + 3_500)).collect();
    let ranges = ranges.trim_end_matches(',');
    let many_fields: String = (0..90).map(|number| format!("X-Field-{number}: {}\r\n", "v".repeat(100))).collect();
    let tags: String = (0..1_500).map(|number| format!("\"{number}\",")).collect();
    let accept: String = (0..700).map(|number| format!("text/x{number};q=0.5,")).collect();
    let long_path = "/".to_owned() + &"ab".repeat(120);
    vec![
        get("a kept file", &[], "/kept.txt", ""),
        asks("HEAD of a kept file", &[], "HEAD", "/kept.txt", ""),
        get("304 by a long list of tags", &[], "/kept.txt", &format!("If-None-Match: {tags}*\r\n")),
        get("a file that is not kept", NO_CACHE, "/kept.txt", ""),
        asks("HEAD of 256 KiB that are not kept", NO_CACHE, "HEAD", "/large.txt", ""),
        get("nothing, another path each time", &[], "/no/such/{n}", ""),
        get("a directory without its slash", &["--try-html"], "/many", ""),
        get("a page of an application", &["--spa", "kept.txt"], "/x{n}", "Accept: text/html\r\n"),
        get(
            "five index names",
            &["--index", "a", "--index", "b", "--index", "c", "--index", "d", "--index", "e", "--no-listing"],
            "/many/",
            "",
        ),
        get("files made beforehand", &["--precompressed"], "/kept.txt", "Accept-Encoding: br, zstd, gzip\r\n"),
        get(
            "a path against globs",
            &["--cache-control", "*a*b*a*b*a*b*c=no-cache", "--cache-control", "**/x/**/y/*=no-cache"],
            &long_path,
            "",
        ),
        get("gzip at once", &[], "/text.txt", "Accept-Encoding: gzip\r\n"),
        get("gzip at once, not kept", NO_CACHE, "/text.txt", "Accept-Encoding: gzip\r\n"),
        asks("HEAD of gzip, not kept", NO_CACHE, "HEAD", "/text.txt", "Accept-Encoding: gzip\r\n"),
        get("gzip of 8 MiB of zeros", &[], "/zeros.txt", "Accept-Encoding: gzip\r\n"),
        get("64 ranges", &[], "/large.txt", &format!("Range: bytes={ranges}\r\n")),
        get("64 ranges, not kept", NO_CACHE, "/large.txt", &format!("Range: bytes={ranges}\r\n")),
        get("a long Accept", &[], "/no/such/file", &format!("Accept: {accept}*/*\r\n")),
        get("a listing", &[], "/many/", ""),
        asks("HEAD of a listing", &[], "HEAD", "/many/", ""),
        get("304 of a listing", &[], "/many/", "If-None-Match: *\r\n"),
        get("a listing in gzip", &[], "/many/", "Accept-Encoding: gzip, identity;q=0\r\n"),
        get("a listing as JSON", &[], "/many/", "Accept: application/json\r\n"),
        get("a listing of long names", &[], "/long/", ""),
        get("a listing of dangling links", &[], "/dangling/", ""),
        get("a listing of absolute links", &[], "/absolute/", ""),
        get("a listing of links, all followed", &["--symlinks", "all"], "/absolute/", ""),
        get("echo of a long text in gzip", &[], &format!("/echo/{}", "ab".repeat(3_900)), "Accept-Encoding: gzip\r\n"),
        get("a long user agent", &[], "/user-agent", &format!("User-Agent: {}\r\n", "x".repeat(15_000))),
        asks("OPTIONS", &[], "OPTIONS", "*", ""),
        asks(
            "a preflight",
            &["--cors"],
            "OPTIONS",
            "/kept.txt",
            "Origin: http://a\r\nAccess-Control-Request-Method: GET\r\n",
        ),
        asks("TRACE of a large head", DEBUG, "TRACE", "/", &many_fields),
        get("a request shown", DEBUG, "/debug/request?a=1&b=2", &many_fields),
        asks("content shown", DEBUG, "POST", "/debug/request", "Content-Length: 0\r\n"),
        get("cookies shown", DEBUG, "/cookies", &format!("Cookie: {long_cookies}\r\n")),
        get("cookies set", DEBUG, &format!("/cookies/set?{}", "a=b&".repeat(1_900) + "a=b"), ""),
        get("redirections", DEBUG, "/debug/redirect/10", ""),
        get("a status", DEBUG, "/debug/status/418", ""),
        get("bytes", DEBUG, "/debug/bytes/1000000", ""),
        get("lines", DEBUG, "/debug/stream/10000", ""),
        get("a drip that is due", DEBUG, "/debug/drip?bytes=1000&duration=0", ""),
        asks("DELETE of nothing", &["--directory", ".", "--allow-delete"], "DELETE", "/files/no{n}", ""),
        asks("an empty upload", &["--directory", "."], "PUT", "/files/up", "Content-Length: 0\r\n"),
        asks("a chunk of a byte", &[], "POST", "/kept.txt", "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"),
        asks("escapes below an upstream", UPSTREAM, "HEAD", &format!("/up/..%2f{}", "a".repeat(7_900)), ""),
        asks("escapes of escapes", UPSTREAM, "HEAD", &format!("/up/{}", "%2525".repeat(1_500)), ""),
        asks("many pairs shown", DEBUG, "HEAD", &format!("/debug/request?{}", "a&".repeat(4_000)), ""),
        get(
            "the shortest members of Accept",
            &[],
            "/no/such/file",
            &format!("Accept: {}*/*\r\n", "a/b,".repeat(3_500)),
        ),
        get("an upstream that is down", &["--proxy", "/up=http://127.0.0.1:9"], "/up/x", &many_fields),
    ]
}

/// The result of a row.
struct Worst {
    cost: usize,
    time: Duration,
    /// The cost of all drives together.
    total: usize,
    total_time: Duration,
    drives: usize,
}

/// The processor time of this thread. The work of other threads does not count.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn pipeline(request: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0.. {
        bytes.extend_from_slice(request.replace("{n}", &number.to_string()).as_bytes());
        if bytes.len() >= PIPELINE {
            break;
        }
    }
    bytes
}

fn run(row: &Row, places: &Places) -> Worst {
    let root = places.root.path().to_str().unwrap();
    let store = TempDir::new();
    let flags = row.flags.iter().map(|flag| if *flag == "." { store.path().to_str().unwrap() } else { *flag });
    let config = Config::from_args(["dustdevil", root, "--access-log", "off"].into_iter().chain(flags)).unwrap();
    let app = App::new(&config).unwrap();
    // The clock is ahead, because files are cached only some time after they were written.
    let mut now = Now::new(Instant::now(), SystemTime::now() + Duration::from_secs(60));
    let mut session = Session::new(Ipv4Addr::LOCALHOST.into(), now.instant);
    let mut scratch = Scratch::default();
    let request = pipeline(&row.request);
    let mut wire = Wire { unread: request.len(), request, ..Wire::new(now.clone()) };
    let mut worst = Worst { cost: 0, time: Duration::ZERO, total: 0, total_time: Duration::ZERO, drives: 0 };
    while worst.drives < DRIVES {
        now.update(now.instant + Duration::from_micros(100), SystemTime::now() + Duration::from_secs(60));
        wire.now = now.clone();
        wire.answer.clear();
        let began = processor_time();
        let turn = driver::drive(&mut session, &mut wire, &app, &mut scratch);
        let time = processor_time() - began;
        worst.cost = worst.cost.max(scratch.spent);
        worst.time = worst.time.max(time);
        worst.total += scratch.spent;
        worst.total_time += time;
        worst.drives += 1;
        // The session waits: all requests have been answered, and no more bytes come.
        if turn != Turn::Yield {
            return worst;
        }
    }
    worst
}

#[test]
fn no_handler_costs_more_than_a_slice() {
    let places = Places::new();
    let shown = std::env::var_os("DUSTDEVIL_SHOW_COSTS").is_some();
    let mut above = Vec::new();
    for row in rows() {
        let worst = run(&row, &places);
        if shown {
            println!(
                "{:36} {:5} drives, at most {:8} units and {:7.3} ms each, {:5.3} ns a unit",
                row.name,
                worst.drives,
                worst.cost,
                worst.time.as_secs_f64() * 1e3,
                worst.total_time.as_secs_f64() * 1e9 / worst.total as f64
            );
        }
        if worst.cost > MOST {
            above.push(format!("{}: {} units in one drive", row.name, worst.cost));
        }
    }
    assert!(above.is_empty(), "more than {MOST}: {above:#?}");
}
