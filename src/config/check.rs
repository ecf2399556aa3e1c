//! Refuses combinations of settings: those that have no effect without another setting, contradict each other, or set
//! the same thing twice. Warns of those that are allowed, but rarely meant.
//!
//! The rules use the names of settings, not the way in which they were given. So the same rules hold for flags,
//! variables and files, which spell the names differently.

use crate::config::proxy::{Mount, by_prefix};
use crate::config::{Config, Engine};

/// The paths of two routes that this server answers itself.
const ECHO: &str = "/echo/";
const STORE: &str = "/files/";

/// Spells a setting as the user writes it: `port` as `--port`.
pub type Spelling<'a> = &'a dyn Fn(&str) -> String;

/// A combination of settings that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The setting that the error is about.
    pub setting: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

/// In the sentences, `{it}` stands for the setting that the error is about, and `{name}` for another setting.
enum Rule {
    /// Each setting has no effect unless one of the others is given.
    Needs { settings: &'static [&'static str], one_of: &'static [&'static str], sentence: &'static str },
    /// The two settings contradict each other.
    Excludes { one: &'static str, other: &'static str },
    /// Each setting sets a response field that `header` may set too.
    Decides { settings: &'static [&'static str], field: &'static str, sentence: &'static str },
    /// Depends on the values of settings: `find` returns the sentence.
    Clash { setting: &'static str, find: fn(&Config, Spelling) -> Option<String> },
}

const RULES: &[Rule] = &[
    Rule::Needs {
        settings: &["allow-delete"],
        one_of: &["directory"],
        sentence: "{it} has no effect without a store; add {directory}",
    },
    Rule::Needs {
        settings: &["index", "try-html", "spa", "precompressed", "mime", "charset", "cache-control", "immutable"],
        one_of: &["root", "static"],
        sentence: "{it} has no effect without a site; add {root}",
    },
    Rule::Needs {
        settings: &["proxy-path", "proxy-rewrite", "proxy-buffer", "proxy-connect-timeout", "proxy-timeout"],
        one_of: &["proxy"],
        sentence: "{it} has no effect without an upstream; add {proxy}",
    },
    Rule::Needs {
        settings: &[
            "wsgi-workers",
            "wsgi-threads",
            "wsgi-timeout",
            "wsgi-max-requests",
            "wsgi-queue",
            "wsgi-chdir",
            "wsgi-reload",
            "python",
        ],
        one_of: &["wsgi"],
        sentence: "{it} has no effect without an application; add {wsgi}",
    },
    Rule::Needs {
        settings: &["debug-prefix"],
        one_of: &["debug-endpoints"],
        sentence: "{it} has no effect without debug endpoints; add {debug-endpoints}",
    },
    Rule::Excludes { one: "quiet", other: "verbose" },
    Rule::Decides {
        settings: &["cors"],
        field: "Access-Control-Allow-Origin",
        sentence: "{it} and {header} both set Access-Control-Allow-Origin; leave one of them out",
    },
    Rule::Decides {
        settings: &["cache-control", "immutable"],
        field: "Cache-Control",
        sentence: "{header} sets a Cache-Control for every response, which contradicts {it}; write {cache-control} \
                   '**=VALUE' instead",
    },
    Rule::Clash { setting: "proxy", find: upstreams_disagree },
    Rule::Clash { setting: "proxy", find: |config, spelling| shared_prefix("proxy", config, spelling) },
    Rule::Clash { setting: "proxy", find: upstream_takes_all },
    Rule::Clash { setting: "wsgi", find: |config, spelling| shared_prefix("wsgi", config, spelling) },
    Rule::Clash { setting: "static", find: static_at_the_top },
    Rule::Clash { setting: "static", find: |config, spelling| shared_prefix("static", config, spelling) },
    Rule::Clash { setting: "static", find: echo_hides_a_site },
    Rule::Clash { setting: "wsgi", find: application_takes_all },
    Rule::Clash { setting: "debug-prefix", find: debug_prefix_is_taken },
    Rule::Clash { setting: "pool-size", find: pool_size_without_pool },
];

/// All conflicts, in the order of the rules.
pub fn conflicts(config: &Config, spelling: Spelling) -> Vec<Conflict> {
    let given = |setting: &str| config.given.has(setting);
    let mut found = Vec::new();
    for rule in RULES {
        match *rule {
            Rule::Needs { settings, one_of, sentence } if !one_of.iter().any(|other| given(other)) => {
                let idle = settings.iter().filter(|setting| given(setting));
                found.extend(idle.map(|setting| Conflict::of(setting, sentence, spelling)));
            }
            Rule::Excludes { one, other } if given(one) && given(other) => {
                let (one_way, other_way) = (spelling(one), spelling(other));
                let message = format!("{one_way} and {other_way} contradict each other; leave one of them out");
                found.push(Conflict { setting: one, message });
            }
            Rule::Decides { settings, field, sentence } if config.rules.responses.names(field) => {
                let decided = settings.iter().filter(|setting| given(setting));
                found.extend(decided.map(|setting| Conflict::of(setting, sentence, spelling)));
            }
            Rule::Clash { setting, find } => {
                found.extend(find(config, spelling).map(|message| Conflict { setting, message }));
            }
            _ => {}
        }
    }
    found
}

/// Combinations that are allowed, but rarely meant, to be logged at start. An upstream or an application goes before
/// what the server answers itself, so one at the path of the store replaces it.
pub fn warnings(config: &Config, spelling: Spelling) -> Vec<String> {
    let is_at_store = |prefix: &str| prefix.trim_end_matches('/') == STORE.trim_end_matches('/');
    let proxy = config.upstreams.iter().any(|mount| is_at_store(&mount.prefix)).then_some("proxy");
    let wsgi = config.applications.iter().any(|mount| is_at_store(&mount.prefix)).then_some("wsgi");
    let Some(setting) = proxy.or(wsgi).filter(|_| config.directory.is_some()) else { return Vec::new() };
    let (setting, store) = (spelling(setting), spelling("directory"));
    vec![format!(
        "{setting} answers {STORE}, so {store} has no effect; give {setting} another prefix, or leave {store} out"
    )]
}

/// The settings that contradict this one with any value.
pub fn excluded_by(setting: &str) -> impl Iterator<Item = &'static str> {
    RULES.iter().filter_map(move |rule| match rule {
        Rule::Excludes { one, other } if *one == setting => Some(*other),
        Rule::Excludes { one, other } if *other == setting => Some(*one),
        _ => None,
    })
}

impl Conflict {
    fn of(setting: &'static str, sentence: &str, spelling: Spelling) -> Conflict {
        let mut message = String::new();
        for (index, part) in sentence.split(['{', '}']).enumerate() {
            match (index % 2, part) {
                (0, text) => message += text,
                (_, "it") => message += &spelling(setting),
                (_, other) => message += &spelling(other),
            }
        }
        Conflict { setting, message }
    }
}

// ---- conflicts that depend on values

fn upstreams_disagree(config: &Config, _: Spelling) -> Option<String> {
    let differ = |mount: &&Mount| mount.origins.iter().any(|origin| origin.path != mount.origins[0].path);
    let mounts = by_prefix(&config.upstreams);
    let prefix = &mounts.iter().find(differ)?.prefix;
    Some(format!("the URLs of the upstreams of {prefix} have different paths; give all of them the same path"))
}

/// Of two routes with the same prefix, with or without a final slash, one would never be used, or only for the prefix
/// itself. `setting` gives the first of them. An upstream or an application may replace the store: see `warnings`.
fn shared_prefix(setting: &str, config: &Config, spelling: Spelling) -> Option<String> {
    let upstreams = by_prefix(&config.upstreams).into_iter().map(|mount| ("proxy", mount.prefix));
    let applications = config.applications.iter().map(|mount| ("wsgi", mount.prefix.clone()));
    let sites = config.statics.iter().map(|mount| ("static", mount.prefix.clone()));
    let store = config.directory.iter().map(|_| ("directory", STORE.to_owned()));
    let debug = config.debug_prefix.iter().map(|prefix| (debug_setting(config), prefix.clone()));
    let all: Vec<_> = upstreams.chain(applications).chain(sites).chain(store).chain(debug).collect();
    let bare = |prefix: &str| prefix.trim_end_matches('/').to_owned();
    let mut pairs =
        all.iter().enumerate().flat_map(|(index, one)| all[index + 1..].iter().map(move |other| (one, other)));
    let is_same = |(one, other): &(&(&str, String), &(&str, String))| {
        let is_refused = other.0 != "directory" || one.0 == "static";
        one.0 == setting && is_refused && bare(&one.1) == bare(&other.1)
    };
    let (one, other) = pairs.find(is_same)?;
    let (first, second, prefix) = (spelling(one.0), spelling(other.0), &one.1);
    Some(match other.0 {
        "directory" => format!("{first} and {second} are both at {STORE}; give {first} another prefix"),
        "debug-endpoints" => {
            let debug_prefix = spelling("debug-prefix");
            format!("{first} and {second} have the same prefix {prefix}; choose another with {debug_prefix}")
        }
        same if same == one.0 => format!("two of {first} have the prefix {prefix}; give one of them another"),
        _ => format!("{first} and {second} have the same prefix {prefix}; give one of them another"),
    })
}

/// The setting that the prefix of the debug endpoints comes from.
fn debug_setting(config: &Config) -> &'static str {
    if config.given.has("debug-prefix") { "debug-prefix" } else { "debug-endpoints" }
}

fn upstream_takes_all(config: &Config, spelling: Spelling) -> Option<String> {
    if !config.upstreams.iter().any(|mount| mount.prefix == "/") {
        return None;
    }
    let useless = ["root", "directory"].into_iter().find(|setting| config.given.has(setting))?;
    let (proxy, useless) = (spelling("proxy"), spelling(useless));
    Some(format!("{proxy} /=.. answers every path, so {useless} has no effect; leave it out"))
}

fn static_at_the_top(config: &Config, spelling: Spelling) -> Option<String> {
    let is_at_top = config.statics.iter().any(|mount| mount.prefix == "/");
    let (statics, root) = (spelling("static"), spelling("root"));
    is_at_top.then(|| format!("{statics} is for a prefix; give the site at / as {root}"))
}

fn application_takes_all(config: &Config, spelling: Spelling) -> Option<String> {
    let takes_all = config.applications.iter().any(|mount| mount.prefix == "/");
    let root = spelling("root");
    let message = || format!("the application at / answers every path; leave {root} out, or mount it at a prefix");
    (takes_all && config.given.has("root")).then(message)
}

/// Whether there is an endpoint at `ECHO`. An upstream or an application at / answers that path itself.
fn has_echo(config: &Config) -> bool {
    let upstreams = config.upstreams.iter().map(|mount| &mount.prefix);
    let mut all = upstreams.chain(config.applications.iter().map(|mount| &mount.prefix));
    config.endpoints && !all.any(|prefix| prefix == "/")
}

fn echo_hides_a_site(config: &Config, spelling: Spelling) -> Option<String> {
    let is_hidden = has_echo(config) && config.statics.iter().any(|mount| mount.prefix == ECHO);
    let (statics, switch) = (spelling("static"), spelling("no-endpoints"));
    is_hidden.then(|| format!("the endpoint {ECHO} hides {statics} {ECHO}=..; choose another prefix, or add {switch}"))
}

fn debug_prefix_is_taken(config: &Config, spelling: Spelling) -> Option<String> {
    let prefix = config.debug_prefix.as_ref()?;
    let setting = spelling("debug-prefix");
    if has_echo(config) && prefix.starts_with(ECHO) {
        let switch = spelling("no-endpoints");
        return Some(format!(
            "the path {prefix} of {setting} belongs to the endpoint {ECHO}; choose another, or add {switch}"
        ));
    }
    let directory = spelling("directory");
    let is_taken = config.directory.is_some() && prefix.starts_with(STORE);
    is_taken.then(|| format!("the path {prefix} of {setting} belongs to the store of {directory}; choose another"))
}

/// A size from a variable does not contradict an engine on the command line, which overrides the environment.
fn pool_size_without_pool(config: &Config, spelling: Spelling) -> Option<String> {
    let given = &config.given;
    let on_line = |setting: &str| given.has(setting) && !given.is_variable(setting);
    if config.engine == Engine::Pool || !given.has("pool-size") || (on_line("engine") && !on_line("pool-size")) {
        return None;
    }
    let size = spelling("pool-size");
    Some(format!("{size} has no effect without a pool of threads; add --engine pool"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(args: &[&str]) -> String {
        let error = Config::from_args(["dustdevil"].iter().chain(args)).expect_err(&format!("{args:?}"));
        assert_eq!(error.exit_code(), 2, "{args:?}");
        error.to_string()
    }

    #[test]
    fn each_rule_names_what_was_given_and_a_remedy() {
        for (args, words) in [
            (&["--allow-delete"][..], "--allow-delete has no effect without a store; add --directory"),
            (&["--directory=d", "--spa=x"], "--spa has no effect without a site; add ROOT"),
            (&["--proxy-buffer"], "--proxy-buffer has no effect without an upstream; add --proxy"),
            (&["--proxy-timeout=60s"], "--proxy-timeout has no effect"),
            (&["--debug-prefix=/x/"], "add --debug-endpoints"),
            (&["-q", "-v"], "--quiet and --verbose contradict each other; leave one of them out"),
            (&["--cors", "--header=access-control-allow-origin: *"], "--cors and --header both set"),
            (&["--immutable", "--header=Cache-Control: no-store"], "write --cache-control '**=VALUE' instead"),
            (&["--proxy=/a=http://h", "--proxy=/a=http://h/v"], "the upstreams of /a have different paths"),
            (&["--wsgi-threads=2"], "--wsgi-threads has no effect without an application; add --wsgi"),
            (&["--python=/usr/bin/python3"], "--python has no effect without an application"),
            (&["--pool-size=2"], "--pool-size has no effect without a pool of threads; add --engine pool"),
            (&["--pool-size=2", "--engine=event"], "--pool-size has no effect"),
            (&["--proxy=/=http://h", "d"], "so ROOT has no effect"),
            (&["--proxy=/=http://h", "--directory=d"], "so --directory has no effect"),
            (&["--static=/=d"], "--static is for a prefix; give the site at / as ROOT"),
            (&["--wsgi=m:a", "d"], "leave ROOT out"),
            (&["--debug-endpoints", "--debug-prefix=/echo/x/"], "the path /echo/x/ of --debug-prefix belongs to"),
        ] {
            let message = first(args);
            assert!(message.contains(words), "{args:?}: {message}");
        }
    }

    /// Such routes would start, and one of them would answer nothing, or only its own prefix.
    #[test]
    fn two_routes_with_one_prefix_are_refused() {
        let debug = "--debug-endpoints";
        for (args, words) in [
            (&["--proxy=/a/=http://h", "--static=/a=d"][..], "--proxy and --static have the same prefix /a/; give one"),
            (&["--proxy=/a=http://h", "--wsgi=/a=m:a"], "--proxy and --wsgi have the same prefix /a; give one of them"),
            (&["--proxy=/a=http://h", "--proxy=/a/=http://i"], "two of --proxy have the prefix /a; give one of them"),
            (&["--wsgi=/a=m:a", "--wsgi=/a/=m:b"], "two of --wsgi have the prefix /a; give one of them another"),
            (&["--wsgi=/a=m:a", "--static=/a=d"], "--wsgi and --static have the same prefix /a"),
            (&["--static=/s=d", "--static=/s/=e"], "two of --static have the prefix /s/; give one of them another"),
            (&["--static=/files=e", "--directory=d"], "--static and --directory are both at /files/; give --static"),
            (&["--static=/s=d", debug, "--debug-prefix=/s/"], "--static and --debug-prefix have the same prefix /s/"),
            (
                &["--proxy=/p=http://h", debug, "--debug-prefix=/p/"],
                "--proxy and --debug-prefix have the same prefix /p",
            ),
            (&["--proxy=/debug=http://h", debug], "have the same prefix /debug; choose another with --debug-prefix"),
            (&["--static=/echo=d"], "the endpoint /echo/ hides --static /echo/=..; choose another prefix, or add --no"),
            (
                &["--directory=d", debug, "--debug-prefix=/files/"],
                "belongs to the store of --directory; choose another",
            ),
        ] {
            let message = first(args);
            assert!(message.contains(words), "{args:?}: {message}");
        }
        for args in [
            // Upstreams with the same prefix share its requests.
            &["--proxy=/a=http://h", "--proxy=/a=http://i"][..],
            // An upstream or an application goes before an endpoint.
            &["--proxy=/echo=http://h", "--wsgi=/user-agent=m:a"],
            &["--static=/echo=d", "--no-endpoints"],
            &["--static=/echo=d", "--wsgi=m:a"],
            // The longest prefix goes first.
            &["--static=/files/x=e", "--proxy=/files/y=http://h", "--directory=d"],
            &["--static=/s=d", debug, "--debug-prefix=/s/x/"],
            &["--proxy=/s=http://h", "--static=/s/t=d", "--wsgi=/=m:a", debug],
            &["--pool-size=2", "--engine=pool"],
        ] {
            let config = Config::from_args(["dustdevil"].iter().chain(args)).unwrap();
            assert!(config.warnings.is_empty(), "{args:?}: {:?}", config.warnings);
        }
        for (mount, setting) in [("--proxy=/files=http://h", "--proxy"), ("--wsgi=/files/=m:a", "--wsgi")] {
            let config = Config::from_args(["dustdevil", mount, "--directory=d"]).unwrap();
            let words =
                format!("{setting} answers /files/, so --directory has no effect; give {setting} another prefix");
            assert!(config.warnings[0].starts_with(&words), "{:?}", config.warnings);
        }
    }

    #[test]
    fn a_setting_is_spelled_as_it_was_given() {
        let read = |args: &[&str], variables: &[(&str, &str)]| {
            let value = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
            let args = ["dustdevil"].iter().chain(args);
            let error = Config::resolve(args, value, || Ok("/srv".into())).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            error.to_string()
        };
        let message = read(&[], &[("DUSTDEVIL_PROXY_REWRITE", "off")]);
        assert!(
            message.contains("DUSTDEVIL_PROXY_REWRITE has no effect without an upstream; add --proxy"),
            "{message}"
        );
        let message = read(&["d"], &[("DUSTDEVIL_PROXY", "/=http://h")]);
        assert!(message.contains("DUSTDEVIL_PROXY /=.. answers every path, so ROOT has no effect"), "{message}");
        let message = read(&["--cors"], &[("DUSTDEVIL_HEADER", "Access-Control-Allow-Origin: *")]);
        assert!(message.contains("--cors and DUSTDEVIL_HEADER both set"), "{message}");
        let message = read(&[], &[("DUSTDEVIL_POOL_SIZE", "2")]);
        assert!(message.contains("DUSTDEVIL_POOL_SIZE has no effect"), "{message}");
        let message = read(&["--pool-size=2"], &[("DUSTDEVIL_ENGINE", "threads")]);
        assert!(message.contains("--pool-size has no effect"), "{message}");
        // The engine of the command line goes before both variables.
        let both = |name: &str| match name {
            "DUSTDEVIL_POOL_SIZE" => Some("2".into()),
            name => (name == "DUSTDEVIL_ENGINE").then(|| "pool".into()),
        };
        assert!(Config::resolve(["dustdevil", "--engine=event"], both, || Ok("/srv".into())).is_ok());
    }

    #[test]
    fn every_conflict_is_found_and_spelled_as_it_was_given() {
        let mut config = Config::from_args(["dustdevil", "."]).unwrap();
        config.given.add("allow-delete");
        config.given.add("proxy-timeout");
        let found = conflicts(&config, &str::to_owned);
        let settings: Vec<_> = found.iter().map(|conflict| conflict.setting).collect();
        assert_eq!(settings, ["allow-delete", "proxy-timeout"]);
        assert!(found[0].message.ends_with("add directory"), "{}", found[0].message);
    }

    #[test]
    fn every_name_in_the_rules_is_that_of_a_setting() {
        let help = Config::from_args(["dustdevil", "--help"]).unwrap_err().to_string();
        let is_setting = |name: &str| name == "root" || help.contains(&format!("--{name}"));
        for rule in RULES {
            let (names, sentence) = match *rule {
                Rule::Needs { settings, one_of, sentence } => ([settings, one_of].concat(), sentence),
                Rule::Excludes { one, other } => (vec![one, other], ""),
                Rule::Decides { settings, sentence, .. } => (settings.to_vec(), sentence),
                Rule::Clash { setting, .. } => (vec![setting], ""),
            };
            let named = sentence.split(['{', '}']).skip(1).step_by(2).filter(|name| *name != "it");
            for name in names.into_iter().chain(named) {
                assert!(is_setting(name), "{name}");
            }
        }
    }
}
