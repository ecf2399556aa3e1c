//! Refuses combinations of settings: those that have no effect without another setting, contradict each other, or set
//! the same thing twice.
//!
//! The rules use the names of settings, not the way in which they were given. So the same rules hold for flags,
//! variables and files, which spell the names differently.

use crate::config::Config;
use crate::config::proxy::{Mount, by_prefix};
use std::collections::BTreeSet;

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
    Rule::Clash { setting: "proxy", find: upstream_beside_another },
    Rule::Clash { setting: "proxy", find: upstream_takes_all },
    Rule::Clash { setting: "wsgi", find: applications_share_a_prefix },
    Rule::Clash { setting: "static", find: static_at_the_top },
    Rule::Clash { setting: "wsgi", find: application_takes_all },
    Rule::Clash { setting: "debug-prefix", find: debug_prefix_is_taken },
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

fn upstream_beside_another(config: &Config, _: Spelling) -> Option<String> {
    let bare = |prefix: &str| prefix.trim_end_matches('/').to_owned();
    let applications = config.applications.iter().map(|mount| &mount.prefix);
    let others: Vec<_> =
        applications.chain(config.statics.iter().map(|mount| &mount.prefix)).map(|it| bare(it)).collect();
    let prefix = &config.upstreams.iter().find(|mount| others.contains(&bare(&mount.prefix)))?.prefix;
    Some(format!("an upstream and another route have the same prefix {prefix}; give one of them another prefix"))
}

fn upstream_takes_all(config: &Config, spelling: Spelling) -> Option<String> {
    if !config.upstreams.iter().any(|mount| mount.prefix == "/") {
        return None;
    }
    let useless = ["root", "directory"].into_iter().find(|setting| config.given.has(setting))?;
    let (proxy, useless) = (spelling("proxy"), spelling(useless));
    Some(format!("{proxy} /=.. answers every path, so {useless} has no effect; leave it out"))
}

fn applications_share_a_prefix(config: &Config, _: Spelling) -> Option<String> {
    let mut seen = BTreeSet::new();
    let prefix = &config.applications.iter().find(|mount| !seen.insert(&mount.prefix))?.prefix;
    Some(format!("two applications have the prefix {prefix}; give one of them another prefix"))
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

/// Of two routes with the same path, one would never be used.
fn debug_prefix_is_taken(config: &Config, spelling: Spelling) -> Option<String> {
    let prefix = config.debug_prefix.as_ref()?;
    let others = [("/echo/", config.endpoints), ("/files/", config.directory.is_some())];
    others.iter().find(|(path, is_used)| *is_used && prefix.starts_with(path))?;
    let setting = spelling("debug-prefix");
    Some(format!("the path {prefix} of {setting} belongs to another route; choose another"))
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
            (&["--proxy=/a/=http://h", "--static=/a=d"], "an upstream and another route have the same prefix /a/"),
            (&["--proxy=/=http://h", "d"], "so ROOT has no effect"),
            (&["--proxy=/=http://h", "--directory=d"], "so --directory has no effect"),
            (&["--wsgi=/a=m:a", "--wsgi=/a/=m:b"], "two applications have the prefix /a"),
            (&["--static=/=d"], "--static is for a prefix; give the site at / as ROOT"),
            (&["--wsgi=m:a", "d"], "leave ROOT out"),
            (&["--debug-endpoints", "--debug-prefix=/echo/x/"], "the path /echo/x/ of --debug-prefix belongs to"),
        ] {
            let message = first(args);
            assert!(message.contains(words), "{args:?}: {message}");
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
