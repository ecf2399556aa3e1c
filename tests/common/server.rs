//! The server under test. It is started as a user starts it, its output is collected, and it is killed in Drop.

use super::{Engine, PATIENCE, TempDir};
use std::ffi::OsString;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// The output of a child so far. A thread reads it, so that a full pipe never stops the child.
type Collected = Arc<Mutex<Vec<u8>>>;

pub struct Server {
    child: Child,
    out: Collected,
    err: Collected,
    addresses: Vec<SocketAddr>,
    exited: Option<ExitStatus>,
    _folder: TempDir,
}

/// How to start a server: arguments, folder, standard streams.
#[derive(Default)]
pub struct Setup {
    args: Vec<OsString>,
    wrapper: Vec<OsString>,
    folder: Option<PathBuf>,
    env: Vec<(String, String)>,
    address: Option<SocketAddr>,
    closed_stdout: bool,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

/// The exit code and the output of a run that has ended.
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Setup {
    pub fn on(engine: Engine) -> Setup {
        let setup = Setup::default();
        // The default engine is tested without the flag.
        if engine == Engine::Event { setup } else { setup.args(["--engine", engine.name()]) }
    }

    pub fn args<I, A>(mut self, args: I) -> Setup
    where
        I: IntoIterator<Item = A>,
        A: Into<OsString>,
    {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub fn arg(self, arg: impl Into<OsString>) -> Setup {
        self.args([arg.into()])
    }

    /// Sets the current directory. The default is a new and empty folder.
    pub fn folder(mut self, folder: impl AsRef<Path>) -> Setup {
        self.folder = Some(folder.as_ref().to_owned());
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Setup {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Starts the server through a command that replaces itself with the rest of its arguments (exec).
    pub fn through(mut self, wrapper: &[&str]) -> Setup {
        self.wrapper = wrapper.iter().map(Into::into).collect();
        self
    }

    /// The address at which the server will listen, if no banner can be read.
    pub fn silent_at(mut self, address: SocketAddr) -> Setup {
        self.address = Some(address);
        self
    }

    /// Makes standard output a pipe whose reading end is closed.
    pub fn closed_stdout(mut self) -> Setup {
        self.closed_stdout = true;
        self
    }

    /// Sends standard output to this file. It is not collected.
    pub fn stdout_to(mut self, file: impl Into<OwnedFd>) -> Setup {
        self.stdout = Some(file.into());
        self
    }

    /// Sends standard error to this file. The banner cannot be read then: use `silent_at` too.
    pub fn stderr_to(mut self, file: impl Into<OwnedFd>) -> Setup {
        self.stderr = Some(file.into());
        self
    }

    fn spawn(&self, fresh: &TempDir) -> Child {
        let binary = OsString::from(env!("CARGO_BIN_EXE_dustdevil"));
        // Under nohup the tests' own SIGHUP is ignored, and a server would inherit that.
        let reset: Vec<OsString> =
            ignores_sighup().then_some(["env", "--default-signal=HUP"]).into_iter().flatten().map(Into::into).collect();
        let mut words = reset.iter().chain(&self.wrapper).chain([&binary]).chain(&self.args);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).current_dir(self.folder.as_deref().unwrap_or(fresh.path()));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("DUSTDEVIL_") {
                command.env_remove(name);
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let output = |file: &Option<OwnedFd>| match file {
            Some(file) => Stdio::from(file.try_clone().unwrap()),
            None => Stdio::piped(),
        };
        command.stdin(Stdio::null()).stdout(output(&self.stdout)).stderr(output(&self.stderr));
        command.spawn().expect("the binary starts")
    }

    fn names(&self, flag: &str) -> bool {
        self.args.iter().any(|arg| arg.to_string_lossy().starts_with(flag))
    }

    /// Starts the server, on a free loopback port unless the arguments name another, and waits for the banner.
    pub fn start(mut self) -> Server {
        if !self.names("--bind") {
            self = self.args(["--bind", "127.0.0.1"]);
        }
        self.start_where_it_likes()
    }

    /// As `start`, but without `--bind`, to test its default.
    pub fn start_where_it_likes(mut self) -> Server {
        if !self.names("--port") {
            self = self.args(["--port", "0"]);
        }
        let fresh = TempDir::new();
        let mut child = self.spawn(&fresh);
        let stdout = child.stdout.take().filter(|_| !self.closed_stdout);
        let out = stdout.map_or_else(Collected::default, collect);
        let err = child.stderr.take().map_or_else(Collected::default, collect);
        let addresses = self.address.into_iter().collect();
        let mut server = Server { child, out, err, addresses, exited: None, _folder: fresh };
        server.await_listening();
        server
    }

    /// Runs the server to its end, for tests in which the start fails. If it serves instead, it is killed and has no
    /// exit code.
    pub fn run(self) -> Outcome {
        let fresh = TempDir::new();
        let mut child = self.spawn(&fresh);
        let out = collect(child.stdout.take().unwrap());
        let err = collect(child.stderr.take().unwrap());
        let status = await_exit(&mut child, PATIENCE);
        if status.is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
        Outcome { code: status.and_then(|status| status.code()), stdout: finished(out), stderr: finished(err) }
    }
}

impl Outcome {
    /// Checks that the server has refused to start, with one of these exit codes and these words on standard error.
    #[track_caller]
    pub fn expect_refusal(&self, codes: &[i32], words: &[&str]) {
        let Outcome { code, stdout, stderr } = self;
        assert!(code.is_some_and(|code| codes.contains(&code)), "exit {code:?}, not one of {codes:?}: {stderr}");
        for word in words {
            assert!(stderr.contains(word), "{word:?} in {stderr:?}");
        }
        for debris in ["panicked", "RUST_BACKTRACE", "Os {", "kind:", "Error {", "http://"] {
            assert!(!stderr.contains(debris), "{debris:?} in {stderr:?}");
        }
        assert!(stdout.is_empty(), "{stdout}");
    }
}

/// A server with a store and no site, so that `/` is the list of routes.
pub fn store_server(engine: Engine, more: &[&str]) -> (Server, TempDir) {
    let store = TempDir::new();
    let server = Setup::on(engine).args(["--directory", store.arg()]).args(more).start();
    (server, store)
}

/// A port that was free a moment ago, for servers that cannot print which port they chose. Another program may have
/// taken it before the server binds it.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Runs the binary to its end with exactly these arguments.
pub fn run(args: &[&str]) -> Outcome {
    Setup::default().args(args).run()
}

impl Server {
    pub fn start(args: &[&str]) -> Server {
        Setup::default().args(args).start()
    }

    pub fn start_on(engine: Engine, args: &[&str]) -> Server {
        Setup::on(engine).args(args).start()
    }

    /// The first address of the banner.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub fn port(&self) -> u16 {
        self.address().port()
    }

    /// Every address in the banner so far.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        banner_addresses(&self.stderr())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for words on standard error. A line may be written after the response that it is about.
    #[track_caller]
    pub fn expect_stderr(&self, words: &str) {
        eventually(words, || self.stderr().contains(words).then_some(()));
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.err.lock().unwrap()).into_owned()
    }

    /// The bytes of standard output so far: the access log, unless it goes to a file.
    pub fn stdout(&self) -> Vec<u8> {
        self.out.lock().unwrap().clone()
    }

    /// Waits until the access log has `count` whole lines.
    pub fn log_lines(&self, count: usize) -> Vec<String> {
        eventually(&format!("{count} lines in the access log"), || {
            let text = String::from_utf8_lossy(&self.stdout()).into_owned();
            let lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
            let whole = lines.iter().filter(|line| line.ends_with('\n')).count();
            (whole >= count).then(|| lines.iter().map(|line| line.trim_end_matches('\n').to_owned()).collect())
        })
    }

    /// Sends a signal by its short name: TERM, INT.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        // Uses the shell's builtin `kill`: a small system may have no program of that name.
        let status = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &pid]).status().expect("a shell");
        assert!(status.success(), "kill -s {name} {pid} failed");
    }

    /// Waits for the end of the process.
    pub fn await_exit(&mut self, patience: Duration) -> ExitStatus {
        let status = await_exit(&mut self.child, patience);
        self.exited = status;
        status.unwrap_or_else(|| panic!("still running after {patience:?}"))
    }

    /// The pids of the server's running child processes: the workers of Python applications.
    pub fn children(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap().flatten();
        let children = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        children.flat_map(|pids| pids.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    /// How many sockets the process has open: listeners and connections.
    pub fn sockets(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.pid());
        let links = std::fs::read_dir(folder).unwrap().flatten();
        links.filter_map(|entry| std::fs::read_link(entry.path()).ok()).filter(|link| is_socket(link)).count()
    }

    /// How many files below a folder the process has open. An upload has one, which has no name until it is whole.
    pub fn open_below(&self, folder: &TempDir) -> usize {
        let links = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().flatten();
        let targets = links.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        targets.filter(|target| target.starts_with(folder.path()) && target != folder.path()).count()
    }

    /// Waits until an upload has written so many bytes.
    pub fn await_upload_of(&self, store: &TempDir, bytes: u64) {
        let folder = format!("/proc/{}/fd", self.pid());
        let is_of_upload = |path: &std::path::Path| {
            std::fs::read_link(path).is_ok_and(|target| target.starts_with(store.path()) && target != store.path())
        };
        eventually("the content of the upload", || {
            let entries = std::fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path());
            let mut sizes = entries.filter(|path| is_of_upload(path)).filter_map(|path| std::fs::metadata(path).ok());
            sizes.any(|metadata| metadata.len() == bytes && metadata.is_file()).then_some(())
        });
    }

    pub fn await_upload(&self, store: &TempDir) {
        eventually("the upload to have begun", || (self.open_below(store) > 0).then_some(()));
    }

    /// The processor time that the process has used, in ticks of 10 ms (proc(5)).
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let (_, behind_name) = stat.rsplit_once(')').unwrap();
        behind_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }

    /// A memory figure of /proc/PID/status in KiB: VmRSS is the current value, VmHWM the highest.
    pub fn memory(&self, figure: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(figure)).expect("a figure the kernel keeps");
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn await_listening(&mut self) {
        let until = Instant::now() + PATIENCE;
        let silent = !self.addresses.is_empty();
        loop {
            if !silent {
                self.addresses = banner_addresses(&self.stderr());
            }
            // If there is a banner, the address is bound. Otherwise a connection has to show that it is bound.
            if self.addresses.first().is_some_and(|address| !silent || TcpStream::connect(address).is_ok()) {
                return;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                self.exited = Some(status);
                panic!("the server ended at its start: {status}: {}", self.stderr());
            }
            assert!(Instant::now() < until, "no banner with a URL: {}", self.stderr());
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let early = match self.exited {
            Some(_) => None,
            None => self.child.try_wait().ok().flatten(),
        };
        let _ = self.child.kill();
        let _ = self.child.wait();
        let words = self.stderr();
        if thread::panicking() {
            eprintln!("--- the server's standard error:\n{words}---");
            return;
        }
        // Every test checks that the server has neither ended by itself nor panicked.
        assert!(early.is_none(), "the server ended by itself: {early:?}: {words}");
        assert!(!words.contains("panicked"), "the server panicked: {words}");
    }
}

/// Calls `attempt` until it returns a value. Fails after `PATIENCE`. `what` names the value in the failure.
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < until, "waited {PATIENCE:?} in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The addresses in all complete lines that hold a URL. The server writes the banner in one call, but a read of the
/// pipe may get only a part.
fn banner_addresses(text: &str) -> Vec<SocketAddr> {
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let urls = whole.lines().filter_map(|line| line.split_once("http://"));
    urls.filter_map(|(_, rest)| rest.split('/').next()?.trim().parse().ok()).collect()
}

fn is_socket(link: &Path) -> bool {
    link.to_string_lossy().starts_with("socket:")
}

fn collect(mut from: impl Read + Send + 'static) -> Collected {
    let collected = Collected::default();
    let into = collected.clone();
    thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut chunk) {
            into.lock().unwrap().extend_from_slice(&chunk[..read]);
        }
    });
    collected
}

/// Waits until the thread that reads the output has ended, which is soon after the end of the process. Returns the
/// text.
fn finished(collected: Collected) -> String {
    let until = Instant::now() + PATIENCE;
    while Arc::strong_count(&collected) > 1 && Instant::now() < until {
        thread::sleep(Duration::from_millis(2));
    }
    String::from_utf8_lossy(&collected.lock().unwrap()).into_owned()
}

fn await_exit(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let until = Instant::now() + patience;
    while Instant::now() < until {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(5));
    }
    None
}

/// Whether this process ignores SIGHUP (proc(5): the mask of ignored signals).
fn ignores_sighup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() & 1 != 0
}
