//! At start, checks whether the system allows as many threads as the flags ask for.
//!
//! Beyond most limits, starting a thread fails, and its client waits. But beyond the limit of memory mappings any
//! allocation may fail, which ends the process. So the number is checked at start. If a given flag asks for too many
//! threads, the start fails; a default is lowered.

use crate::config::{Config, Engine};
use crate::start_error::StartError;
use rustix::process::{Resource, getrlimit, getuid};
use std::fs;
use std::path::{Path, PathBuf};

/// Memory mappings of a thread. Measured: four while it waits (its stack, its signal stack, and a guard page for each),
/// and almost two more while it receives large content.
const MAPPINGS: u64 = 6;
/// Mappings for everything else: some 30 for the program and its libraries, and two for each arena of the allocator.
const OTHER_MAPPINGS: u64 = 1000;
/// Bits of CapEff: CAP_SYS_ADMIN and CAP_SYS_RESOURCE. RLIMIT_NPROC does not apply to their holders (setrlimit(2)).
const EXEMPT: u64 = 1 << 21 | 1 << 24;

/// One limit of the system on the number of threads.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ceiling {
    /// For the message: the limit's name, value and file.
    limit: String,
    /// How many threads this process can have at most.
    threads: u64,
    /// For the message: how to raise the limit.
    remedy: String,
}

impl Config {
    /// If the flag that decides the number of threads has its default, lowers it to what the system allows. Returns a
    /// warning if it was lowered.
    ///
    /// # Errors
    /// The flag was given, and the system does not allow as many threads.
    pub fn fit_threads(&mut self) -> Result<Option<String>, StartError> {
        match self.engine {
            Engine::Threads | Engine::Pool => self.fit(lowest(ceilings())),
            Engine::Event | Engine::Iterative => Ok(None),
        }
    }

    fn fit(&mut self, lowest: Option<Ceiling>) -> Result<Option<String>, StartError> {
        let per_connection = self.engine == Engine::Threads;
        let connections = self.limits.connections;
        let (flag, engine, given, count, others) = match per_connection {
            // Two other threads: main and the acceptor.
            true => {
                ("--max-connections", "threads", self.given.has("max-connections"), &mut self.limits.connections, 2)
            }
            false => ("--pool-size", "pool", self.given.has("pool-size"), &mut self.pool_size, 1),
        };
        // With Python applications, one more thread supervises their workers.
        let others = others + u64::from(!self.applications.is_empty());
        let Some(Ceiling { limit, threads, remedy }) = lowest else { return Ok(None) };
        let most = threads.saturating_sub(others).max(1);
        // A pool has no more threads than connections.
        let wanted = if per_connection { connections } else { connections.min(*count) };
        if wanted as u64 <= most {
            return Ok(None);
        }
        if given {
            return Err(StartError::new(format!(
                "{flag} {count} of --engine {engine} is too much: {limit}, which is enough for {most}; {remedy}, lower \
                 {flag}, or use --engine event, which needs no threads"
            )));
        }
        *count = most as usize;
        Ok(Some(format!(
            "{flag} is lowered to {most} for --engine {engine}: {limit}, which is not enough for more; {remedy}, or \
             use --engine event, which needs no threads"
        )))
    }
}

fn lowest(ceilings: Vec<Ceiling>) -> Option<Ceiling> {
    ceilings.into_iter().min_by_key(|ceiling| ceiling.threads)
}

/// All limits that can be read on this system.
fn ceilings() -> Vec<Ceiling> {
    let sysctl = |name: &str, file: &str, threads: fn(u64) -> u64| {
        let path = Path::new("/proc/sys").join(file);
        let value = read_number(&path)?;
        let limit = format!("{name} is {value} ({})", path.display());
        Some(Ceiling { limit, threads: threads(value), remedy: format!("raise it with `sysctl {name}=NUMBER`") })
    };
    let by_mappings = |value: u64| value.saturating_sub(OTHER_MAPPINGS) / MAPPINGS;
    let found = [
        sysctl("vm.max_map_count", "vm/max_map_count", by_mappings),
        sysctl("kernel.threads-max", "kernel/threads-max", |value| value),
        sysctl("kernel.pid_max", "kernel/pid_max", |value| value),
        of_the_user(),
        of_the_group(),
    ];
    found.into_iter().flatten().collect()
}

/// RLIMIT_NPROC: threads of this user, in all processes.
fn of_the_user() -> Option<Ceiling> {
    let threads = getrlimit(Resource::Nproc).current?;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = capabilities.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0);
    if getuid().is_root() || capabilities & EXEMPT != 0 {
        return None;
    }
    let limit = format!("this user may have {threads} threads (ulimit -u)");
    let remedy = "raise it with `ulimit -u`, or LimitNPROC= in the unit of systemd".into();
    Some(Ceiling { limit, threads, remedy })
}

/// The lowest pids.max of the process's control group and its ancestors. Containers and systemd units set it.
fn of_the_group() -> Option<Ceiling> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let files = groups.lines().flat_map(pids_files);
    let (threads, path) = files.filter_map(|path| Some((read_number(&path)?, path))).min()?;
    let limit = format!("its control group may have {threads} threads ({})", path.display());
    let remedy = "raise TasksMax= of its systemd unit or --pids-limit of its container".into();
    Some(Ceiling { limit, threads, remedy })
}

/// The possible pids.max files for a line of /proc/self/cgroup: `0::/path` in version 2, `8:pids:/path` in version 1.
fn pids_files(line: &str) -> Vec<PathBuf> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { return Vec::new() };
    let root = match controllers {
        "" => "/sys/fs/cgroup",
        names if names.split(',').any(|name| name == "pids") => "/sys/fs/cgroup/pids",
        _ => return Vec::new(),
    };
    // In a container the path may be the one outside of the container. Then only the topmost file exists.
    let group = Path::new(group.trim_start_matches('/'));
    group.ancestors().map(|group| Path::new(root).join(group).join("pids.max")).collect()
}

/// `None` if the file cannot be read, or holds the word `max`.
fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(args: &[&str]) -> Config {
        Config::from_args(["dustdevil", "."].iter().chain(args)).expect("a good command line")
    }

    fn ceiling(threads: u64) -> Option<Ceiling> {
        let low = Ceiling { limit: "x is 9 (/x)".into(), threads, remedy: "raise x".into() };
        let high = Ceiling { limit: "y".into(), threads: threads + 1, remedy: "raise y".into() };
        lowest(vec![high, low])
    }

    #[test]
    fn a_default_that_cannot_be_met_is_lowered() {
        for (args, connections, pool) in [
            (&["--engine=threads"][..], 5, 20),
            (&["--engine=threads", "--wsgi=/a=b:c"], 4, 20),
            (&["--engine=pool"], 10_000, 6),
            // The number of threads that are needed is allowed: nothing is lowered.
            (&["--engine=pool", "--max-connections=6", "--pool-size=50"], 6, 50),
            (&["--engine=threads", "--max-connections=5"], 5, 20),
        ] {
            let mut config = config(args);
            let said = config.fit(ceiling(7)).unwrap();
            assert_eq!((config.limits.connections, config.pool_size), (connections, pool), "{args:?}");
            assert_eq!(said.is_some(), args.len() == 1 || args[1].contains("wsgi"), "{args:?}");
            assert!(said.is_none_or(|words| words.contains("x is 9 (/x)") && words.contains("raise x")));
        }
    }

    #[test]
    fn a_number_that_was_given_and_cannot_be_met_is_refused() {
        for args in [["--engine=threads", "--max-connections=10000"], ["--engine=pool", "--pool-size=20"]] {
            let error = config(&args).fit(ceiling(7)).unwrap_err();
            let flag = args[1].replace('=', " ");
            for words in [&flag, "x is 9 (/x)", "raise x", "--engine event"] {
                assert!(error.message.contains(words), "{words} in {error}");
            }
            assert_eq!(error.code, 1);
        }
    }

    #[test]
    fn other_engines_need_no_threads() {
        for engine in ["event", "iterative"] {
            let mut config = config(&["--max-connections=9999999", "--engine", engine]);
            assert_eq!(config.fit_threads().unwrap(), None);
        }
    }

    #[test]
    fn the_limits_of_a_control_group_are_looked_for_up_to_the_top() {
        let shown = |line| pids_files(line).iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        let unified = ["/sys/fs/cgroup/a/b/pids.max", "/sys/fs/cgroup/a/pids.max", "/sys/fs/cgroup/pids.max"];
        assert_eq!(shown("0::/a/b"), unified);
        assert_eq!(shown("8:cpu,pids:/"), ["/sys/fs/cgroup/pids/pids.max"]);
        assert_eq!(shown("9:name=systemd:/a"), [""; 0]);
    }

    #[test]
    fn the_system_says_how_many_mappings_there_may_be() {
        let found = ceilings();
        assert!(found.iter().any(|ceiling| ceiling.limit.starts_with("vm.max_map_count is ")), "{found:?}");
    }
}
