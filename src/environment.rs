//! Turns the environment into words of a command line: `DUSTDEVIL_MAX_FIELDS=50` becomes `--max-fields=50`.
//!
//! This module names no flag: names and kinds come from the clap `Command`, and clap parses the values.
//! `config` puts the words in front of the real command line. clap's own `env` would have to be repeated for each flag,
//! doesn't name the variable in its errors, and can't be tested without changing the process's environment.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};

/// The flags that are set in the environment.
#[derive(Debug, Default)]
pub struct Environment {
    /// The flags, as words of a command line.
    pub words: Vec<OsString>,
    /// One sentence for each variable that is ignored although it has the name of a flag.
    pub ignored: Vec<String>,
}

/// Reads the variables for the flags of `command`, without those that the command line gives or contradicts.
///
/// `is_overruled` gets a flag's name without dashes, and returns whether the command line gives or contradicts it.
/// `variable` returns the value of a variable. An empty value counts as unset. `command` expects no program name
/// (`no_binary_name`).
///
/// # Errors
/// The flag refuses the value. The error names the variable.
pub fn read(
    command: &Command,
    is_overruled: impl Fn(&str) -> bool,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Environment, clap::Error> {
    let mut environment = Environment::default();
    for flag in command.get_arguments() {
        // ROOT is a positional argument, so it has no variable.
        let Some(long) = flag.get_long() else {
            continue;
        };
        if is_overruled(long) {
            continue;
        }
        let name = self::variable(long);
        // In unit files and compose files, an empty value means "not set".
        let Some(value) = variable(&name).filter(|value| !value.is_empty()) else {
            continue;
        };
        if let Some(service) = linked_service(&name, &value) {
            environment.ignored.push(format!(
                "{name}={} is ignored: Kubernetes sets it for a Service named {service}, and it is not a value for --{long}; \
                 write enableServiceLinks: false in the Pod, or give --{long} on the command line",
                value.display()
            ));
            continue;
        }
        let new = flag_words(flag, long, &value).map_err(|remedy| {
            let message = format!("invalid value {value:?} for '{name}': write {remedy}");
            command.clone().error(ErrorKind::InvalidValue, message)
        })?;
        // Each variable is parsed alone, so that an error names the variable and not a flag that the user did not
        // write.
        if let Err(mut error) = command.clone().try_get_matches_from(&new) {
            error.insert(ContextKind::InvalidArg, ContextValue::String(name));
            return Err(error);
        }
        environment.words.extend(new);
    }
    Ok(environment)
}

/// The name of a flag's variable. The flag's name has no dashes in front.
pub fn variable(flag: &str) -> String {
    format!("DUSTDEVIL_{}", flag.to_ascii_uppercase().replace('-', "_"))
}

/// If Kubernetes has set this variable for a Service, the name of that Service. Kubernetes sets variables for each
/// Service in every Pod, as Docker's links do in containers. For a Service named web they are
/// `WEB_PORT=tcp://10.0.0.1:80`, `WEB_PORT_80_TCP` with the same value, and others, such as `WEB_SERVICE_HOST`, which
/// are not the variable of any flag.
fn linked_service(name: &str, value: &OsStr) -> Option<String> {
    let (scheme, address) = value.to_str()?.split_once("://")?;
    let (host, port) = address.rsplit_once(':')?;
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_host = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
    if !["tcp", "udp", "sctp"].contains(&scheme) || !is_host || !is_port(port) {
        return None;
    }
    let of_one_port = format!("_PORT_{port}_{}", scheme.to_ascii_uppercase());
    let service = name.strip_suffix("_PORT").or_else(|| name.strip_suffix(&of_one_port))?;
    Some(service.to_ascii_lowercase().replace('_', "-"))
}

/// One variable as words of a command line. The error says what to write instead.
fn flag_words(flag: &Arg, long: &str, value: &OsStr) -> Result<Vec<OsString>, &'static str> {
    let with = |value: &[u8]| {
        let mut word = format!("--{long}=").into_bytes();
        word.extend_from_slice(value);
        OsString::from_vec(word)
    };
    let times = |count| vec![OsString::from(format!("--{long}")); count];
    let words = match flag.get_action() {
        ArgAction::Set => vec![with(value.as_bytes())],
        ArgAction::Append => {
            let separator = if takes_pairs(flag) { b'\n' } else { b',' };
            let items = value.as_bytes().split(|&byte| byte == separator).map(<[u8]>::trim_ascii);
            // A newline at the end is allowed. A comma at the end is not: it leaves an empty item, which is refused.
            items.filter(|item| separator == b',' || !item.is_empty()).map(with).collect()
        }
        ArgAction::SetTrue => times(match value.to_str() {
            Some("1" | "true" | "yes" | "on") => 1,
            Some("0" | "false" | "no" | "off") => 0,
            _ => return Err("1 (on) or 0 (off)"),
        }),
        ArgAction::Count => times(match value.to_str() {
            Some("0") => 0,
            Some("1") => 1,
            Some("2") => 2,
            _ => return Err("0, 1 or 2"),
        }),
        // --help and --version have no variable.
        _ => Vec::new(),
    };
    Ok(words)
}

/// Whether a value is a pair such as `NAME: VALUE`. Its second half is free text that may contain commas, but no
/// newline. So pairs are separated by newlines.
fn takes_pairs(flag: &Arg) -> bool {
    let names = flag.get_value_names().unwrap_or_default();
    names.iter().any(|name| name.contains(['=', ':']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        let flag = |name: &'static str| Arg::new(name).long(name);
        Command::new("test").no_binary_name(true).args([
            flag("the-port").value_parser(clap::value_parser!(u16)),
            flag("path").value_parser(clap::value_parser!(OsString)),
            flag("item").action(ArgAction::Append),
            flag("pair").action(ArgAction::Append).value_name("KEY=VALUE"),
            flag("quiet").action(ArgAction::SetTrue),
            flag("loud").action(ArgAction::Count),
            Arg::new("root"),
        ])
    }

    fn read(given: &[&str], variables: &[(&str, &[u8])]) -> Result<Vec<OsString>, clap::Error> {
        let variable = |name: &str| {
            let (_, value) = variables.iter().find(|(key, _)| *key == name)?;
            Some(OsStr::from_bytes(value).to_owned())
        };
        super::read(&command(), |name| given.contains(&name), variable).map(|environment| environment.words)
    }

    #[test]
    fn the_link_of_a_service_is_told_from_a_value() {
        for (name, value, service) in [
            ("DUSTDEVIL_PORT", "tcp://10.43.0.1:4221", Some("dustdevil")),
            ("DUSTDEVIL_PORT", "udp://[fd00::1]:53", Some("dustdevil")),
            ("DUSTDEVIL_THE_PORT", "sctp://10.43.0.1:1", Some("dustdevil-the")),
            ("DUSTDEVIL_PORT_80_TCP", "tcp://10.43.0.1:80", Some("dustdevil")),
            ("DUSTDEVIL_PORT_80_TCP", "tcp://10.43.0.1:81", None),
            ("DUSTDEVIL_PATH", "tcp://10.43.0.1:80", None),
            ("DUSTDEVIL_PORT", "4221", None),
            ("DUSTDEVIL_PORT", "tcp://10.43.0.1", None),
            ("DUSTDEVIL_PORT", "tcp://10.43.0.1:http", None),
            ("DUSTDEVIL_PORT", "tcp://:80", None),
            ("DUSTDEVIL_PORT", "http://10.43.0.1:80", None),
        ] {
            assert_eq!(linked_service(name, OsStr::new(value)).as_deref(), service, "{name}={value}");
        }
    }

    #[test]
    fn each_kind_of_flag_becomes_words() {
        let cases: [(&str, &[u8], &str); 15] = [
            ("THE_PORT", b"80", "--the-port=80"),
            ("PATH", b"-a,b\xff", "--path=-a,b\u{fffd}"),
            ("ITEM", b"a", "--item=a"),
            ("ITEM", b"a, b", "--item=a --item=b"),
            ("PAIR", b"a=b, c", "--pair=a=b, c"),
            ("PAIR", b"a=b, c\n d=e\n", "--pair=a=b, c --pair=d=e"),
            ("QUIET", b"1", "--quiet"),
            ("QUIET", b"yes", "--quiet"),
            ("QUIET", b"off", ""),
            ("LOUD", b"0", ""),
            ("LOUD", b"2", "--loud --loud"),
            ("THE_PORT", b"", ""),
            ("QUIET", b"", ""),
            ("ROOT", b"/srv", ""),
            ("HELP", b"1", ""),
        ];
        for (name, value, expected) in cases {
            let name = format!("DUSTDEVIL_{name}");
            let words = read(&[], &[(&name, value)]).unwrap();
            let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
            assert_eq!(words.join(" "), expected, "{name}");
        }
    }

    #[test]
    fn a_refused_value_names_the_variable() {
        let cases: [(&str, &[u8]); 5] = [
            ("DUSTDEVIL_THE_PORT", b"http"),
            ("DUSTDEVIL_ITEM", b"\xff"),
            ("DUSTDEVIL_QUIET", b"maybe"),
            ("DUSTDEVIL_QUIET", b"\xff"),
            ("DUSTDEVIL_LOUD", b"-1"),
        ];
        for (name, value) in cases {
            let error = read(&[], &[(name, value)]).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{name}");
            // If the value is not UTF-8, clap's error names no flag.
            if error.kind() != ErrorKind::InvalidUtf8 {
                assert!(error.to_string().contains(name), "{error}");
            }
        }
    }

    #[test]
    fn what_the_command_line_overrules_is_left_alone() {
        let nonsense: &[(&str, &[u8])] = &[("DUSTDEVIL_THE_PORT", b"nonsense"), ("DUSTDEVIL_LOUD", b"nonsense")];
        assert!(read(&["the-port", "loud"], nonsense).unwrap().is_empty());
    }
}
