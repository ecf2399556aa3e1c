use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::*;
use std::ffi::OsString;
use std::time::Duration;

const NO_ENVIRONMENT: &[(&str, &str)] = &[];

/// Reads `args` in the directory /home/me with `variables` as the environment.
fn read(args: &[&str], variables: &[(&str, &str)]) -> Result<Config, clap::Error> {
    let variable = |name: &str| {
        let (_, value) = variables.iter().find(|(key, _)| *key == name)?;
        Some(OsString::from(value))
    };
    let args = ["dustdevil"].iter().chain(args);
    Config::resolve(args, variable, || Ok(PathBuf::from("/home/me")))
}

fn good(args: &[&str]) -> Config {
    read(args, NO_ENVIRONMENT).unwrap_or_else(|error| panic!("{args:?}: {error}"))
}

/// The message of a usage error.
fn bad(args: &[&str], variables: &[(&str, &str)]) -> String {
    let error = read(args, variables).expect_err(&format!("{args:?} {variables:?}"));
    assert_eq!(error.exit_code(), 2, "{args:?} {variables:?}");
    error.to_string()
}

#[test]
fn no_arguments_give_the_documented_defaults() {
    let config = good(&[]);
    assert_eq!(config.root, Some("/home/me".into()));
    assert_eq!(config.directory, None);
    assert!(config.rules.site.listing && config.endpoints && !config.trace_method);
    assert_eq!(config.debug_prefix, None);
    assert_eq!((config.binds.len(), config.port), (0, 4221));
    assert_eq!(config.access_log, LogTarget::Stdout);
    assert_eq!(config.verbosity, Verbosity::Normal);
    assert_eq!(config.rules.body_size, 1 << 30);
    assert_eq!(
        config.limits,
        Limits { header_size: 16384, fields: 100, target: 8192, connections: 10_000, cache: 64 << 20, spool: 4 << 30 }
    );
    assert_eq!(
        config.timeouts,
        Timeouts {
            header: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
            body: Duration::from_secs(30),
            write: Duration::from_secs(30),
            grace: Duration::from_secs(10),
        }
    );
}

#[test]
fn default_of_limits_and_timeouts_is_that_of_the_flags() {
    assert_eq!(Limits::default(), good(&[]).limits);
    assert_eq!(Timeouts::default(), good(&[]).timeouts);
}

#[test]
fn every_flag_reaches_its_field() {
    let config = good(&[
        "site",
        "--directory=store",
        "--no-listing",
        "--no-endpoints",
        "--debug-endpoints",
        "--debug-prefix=/try/it/",
        "--trace-method",
        "--bind=::1",
        "--bind=10.0.0.1:80",
        "--port=8080",
        "--max-header-size=1K",
        "--max-fields=2",
        "--max-target-length=3",
        "--max-body-size=4M",
        "--max-connections=5",
        "--header-timeout=1s",
        "--keep-alive-timeout=2s",
        "--body-timeout=3s",
        "--write-timeout=4s",
        "--grace-period=0",
        "--access-log=log",
        "-vv",
    ]);
    assert_eq!(config.root, Some("site".into()));
    assert_eq!(config.directory, Some("store".into()));
    assert!(!config.rules.site.listing && !config.endpoints && config.trace_method);
    assert_eq!(config.debug_prefix.as_deref(), Some("/try/it/"));
    assert_eq!(config.binds, ["::1".parse().unwrap(), "10.0.0.1:80".parse().unwrap()]);
    assert_eq!((config.port, good(&["-p", "81"]).port), (8080, 81));
    let limits = config.limits;
    assert_eq!((limits.header_size, limits.fields, limits.target), (1024, 2, 3));
    assert_eq!((config.rules.body_size, limits.connections), (4 << 20, 5));
    let timeouts = config.timeouts;
    assert_eq!(timeouts.header, Duration::from_secs(1));
    assert_eq!(timeouts.keep_alive, Duration::from_secs(2));
    assert_eq!(timeouts.body, Duration::from_secs(3));
    assert_eq!(timeouts.write, Duration::from_secs(4));
    assert_eq!(timeouts.grace, Duration::ZERO);
    assert_eq!(config.access_log, LogTarget::File("log".into()));
    assert_eq!(config.verbosity, Verbosity::Trace);
}

#[test]
fn the_debug_endpoints_have_a_place_of_their_own() {
    assert_eq!(good(&["--debug-endpoints"]).debug_prefix.as_deref(), Some("/debug/"));
    let given = |prefix| format!("--debug-prefix={prefix}");
    for prefix in ["/", "//", "debug/", "/debug", "/a//b/", "/../", "/./", "/a%20b/", "/a b/", "/a?/", "/\u{e9}/"] {
        bad(&["--debug-endpoints", &given(prefix)], NO_ENVIRONMENT);
    }
    let on = "--debug-endpoints";
    assert!(bad(&["--debug-prefix=/x/"], NO_ENVIRONMENT).contains("add --debug-endpoints"));
    assert!(bad(&[on, "--debug-prefix=/echo/"], NO_ENVIRONMENT).contains("the endpoint /echo/"));
    assert!(
        bad(&[on, "--debug-prefix=/files/x/", "--directory=d"], NO_ENVIRONMENT).contains("the store of --directory")
    );
    good(&[on, "--debug-prefix=/echo/", "--no-endpoints"]);
    good(&[on, "--debug-prefix=/files/"]);
}

#[test]
fn every_flag_is_also_a_variable() {
    let config = read(
        &["site"],
        &[
            ("DUSTDEVIL_DIRECTORY", "store"),
            ("DUSTDEVIL_NO_LISTING", "1"),
            ("DUSTDEVIL_NO_ENDPOINTS", "true"),
            ("DUSTDEVIL_DEBUG_ENDPOINTS", "yes"),
            ("DUSTDEVIL_DEBUG_PREFIX", "/try/it/"),
            ("DUSTDEVIL_TRACE_METHOD", "1"),
            ("DUSTDEVIL_BIND", "::1, 10.0.0.1:80"),
            ("DUSTDEVIL_PORT", "8080"),
            ("DUSTDEVIL_MAX_HEADER_SIZE", "1K"),
            ("DUSTDEVIL_MAX_FIELDS", "2"),
            ("DUSTDEVIL_MAX_TARGET_LENGTH", "3"),
            ("DUSTDEVIL_MAX_BODY_SIZE", "4M"),
            ("DUSTDEVIL_MAX_CONNECTIONS", "5"),
            ("DUSTDEVIL_HEADER_TIMEOUT", "1s"),
            ("DUSTDEVIL_KEEP_ALIVE_TIMEOUT", "2s"),
            ("DUSTDEVIL_BODY_TIMEOUT", "3s"),
            ("DUSTDEVIL_WRITE_TIMEOUT", "4s"),
            ("DUSTDEVIL_GRACE_PERIOD", "0"),
            ("DUSTDEVIL_ACCESS_LOG", "-log"),
            ("DUSTDEVIL_VERBOSE", "2"),
        ],
    )
    .unwrap();
    let same = good(&[
        "site",
        "--directory=store",
        "--no-listing",
        "--no-endpoints",
        "--debug-endpoints",
        "--debug-prefix=/try/it/",
        "--trace-method",
        "--bind=::1",
        "--bind=10.0.0.1:80",
        "--port=8080",
        "--max-header-size=1K",
        "--max-fields=2",
        "--max-target-length=3",
        "--max-body-size=4M",
        "--max-connections=5",
        "--header-timeout=1s",
        "--keep-alive-timeout=2s",
        "--body-timeout=3s",
        "--write-timeout=4s",
        "--grace-period=0",
        "--access-log=-log",
        "-vv",
    ]);
    assert!(config.given.is_variable("port") && !config.given.is_variable("root"));
    let config = Config { given: same.given.clone(), ..config };
    assert_eq!(format!("{config:?}"), format!("{same:?}"));
}

#[test]
fn command_line_goes_before_the_environment() {
    let variables = [
        ("DUSTDEVIL_PORT", "1"),
        ("DUSTDEVIL_BIND", "10.0.0.1,10.0.0.2"),
        ("DUSTDEVIL_NO_LISTING", "0"),
        ("DUSTDEVIL_QUIET", "1"),
        ("DUSTDEVIL_MAX_FIELDS", "7"),
    ];
    let config = read(&["--port=2", "--bind=::1", "--no-listing", "-v"], &variables).unwrap();
    assert_eq!(config.port, 2);
    assert_eq!(config.binds, ["::1".parse().unwrap()]); // replaced, not added to
    assert!(!config.rules.site.listing);
    assert_eq!(config.verbosity, Verbosity::Debug); // --verbose contradicts DUSTDEVIL_QUIET
    assert_eq!(config.limits.fields, 7);
}

#[test]
fn an_overruled_variable_is_not_even_read() {
    let config = read(&["--port=2"], &[("DUSTDEVIL_PORT", "nonsense")]).unwrap();
    assert_eq!(config.port, 2);
}

#[test]
fn a_wrong_variable_is_named() {
    for (name, value) in [
        ("DUSTDEVIL_PORT", "http://10.0.0.1:4221"),
        ("DUSTDEVIL_BIND", "127.0.0.1,"),
        ("DUSTDEVIL_NO_LISTING", "maybe"),
        ("DUSTDEVIL_VERBOSE", "-1"),
        ("DUSTDEVIL_HEADER_TIMEOUT", "0"),
    ] {
        let message = bad(&[], &[(name, value)]);
        assert!(message.contains(&format!("'{name}'")), "{message}");
    }
}

/// A variable is parsed alone, but may need a flag that is only on the command line.
#[test]
fn a_variable_may_need_a_flag() {
    let config = read(&["--proxy=/a=http://h"], &[("DUSTDEVIL_PROXY_TIMEOUT", "7s")]).unwrap();
    assert_eq!(config.rules.proxy.timeout, Duration::from_secs(7));
    assert!(bad(&[], &[("DUSTDEVIL_PROXY_TIMEOUT", "7s")]).contains("DUSTDEVIL_PROXY_TIMEOUT has no effect"));
}

/// The variables that Kubernetes sets in every Pod if there are Services named dustdevil and dustdevil-bind.
#[test]
fn the_links_of_a_service_are_ignored() {
    let links = [
        ("DUSTDEVIL_PORT", "tcp://10.43.0.1:4221"),
        ("DUSTDEVIL_SERVICE_HOST", "10.43.0.1"),
        ("DUSTDEVIL_SERVICE_PORT", "4221"),
        ("DUSTDEVIL_SERVICE_PORT_HTTP", "4221"),
        ("DUSTDEVIL_PORT_4221_TCP", "tcp://10.43.0.1:4221"),
        ("DUSTDEVIL_PORT_4221_TCP_PROTO", "tcp"),
        ("DUSTDEVIL_PORT_4221_TCP_PORT", "4221"),
        ("DUSTDEVIL_PORT_4221_TCP_ADDR", "10.43.0.1"),
        ("DUSTDEVIL_BIND_PORT", "tcp://10.43.0.2:80"),
        ("DUSTDEVIL_BIND_SERVICE_HOST", "10.43.0.2"),
        ("DUSTDEVIL_NAME", "/web/dustdevil"),
    ];
    let config = read(&[], &links).unwrap();
    assert_eq!((config.port, config.binds.len()), (4221, 0));
    let [warning] = &config.warnings[..] else { panic!("{:?}", config.warnings) };
    assert!(warning.starts_with("DUSTDEVIL_PORT=tcp://10.43.0.1:4221 is ignored: "), "{warning}");
    assert!(warning.contains("enableServiceLinks: false"), "{warning}");
    // If the port is on the command line, the variable is not read.
    assert!(read(&["-p", "80"], &links).unwrap().warnings.is_empty());
}

#[test]
fn help_needs_no_sound_environment() {
    for flag in ["-h", "--help", "-V", "--version"] {
        let error = read(&[flag], &[("DUSTDEVIL_PORT", "nonsense")]).unwrap_err();
        assert_eq!(error.exit_code(), 0, "{flag}");
    }
    let switches = [("DUSTDEVIL_HELP", "1"), ("DUSTDEVIL_VERSION", "1.2")];
    assert!(read(&[], &switches).is_ok());
}

#[test]
fn paths_and_variables_may_be_of_any_bytes() {
    let name = OsStr::from_bytes(b"caf\xe9");
    let words = [OsString::from("dustdevil"), name.to_owned()];
    let variable = |key: &str| (key == "DUSTDEVIL_DIRECTORY").then(|| name.to_owned());
    let config = Config::resolve(words, variable, || unreachable!()).unwrap();
    assert_eq!(config.root.as_deref(), Some(Path::new(name)));
    assert_eq!(config.directory.as_deref(), Some(Path::new(name)));
}

#[test]
fn an_empty_argument_vector_is_an_empty_command_line() {
    let none: [&str; 0] = [];
    assert!(Config::resolve(none, |_| None, || Ok("/home/me".into())).is_ok());
}

#[test]
fn the_last_of_a_repeated_flag_wins() {
    let config = good(&["--port=1", "--port=2", "--no-listing", "--no-listing"]);
    assert_eq!(config.port, 2);
    assert!(!config.rules.site.listing);
}

#[test]
fn bad_values_say_where_and_what_to_do() {
    for (word, remedy) in [
        ("--port=65536", "65535"),
        ("--port=+80", "65535"),
        ("--port=", "65535"),
        ("--bind=", "127.0.0.1"),
        ("--bind=:80", "--port"),
        ("--bind=8080", "--port"),
        ("--bind=[127.0.0.1]:80", "127.0.0.1"),
        ("--bind=1.2.3.4:65536", "65535"),
        ("--bind=1.2.3", "127.0.0.1"),
        ("--max-header-size=0", "1 or more"),
        ("--max-header-size=lots", "16K"),
        ("--max-fields=0", "1 or more"),
        ("--max-fields=1K", "digits"),
        ("--max-target-length=0", "1 or more"),
        ("--max-connections=0", "1 or more"),
        ("--wsgi-workers=0", ": 0 is too small; give 1 or more"),
        ("--pool-size=0", ": 0 is too small; give 1 or more"),
        ("--max-body-size=-1", "50M"),
        ("--max-body-size=1.5M", "1536K"),
        ("--max-body-size=99999999T", "largest"),
        ("--header-timeout=0", "10s"),
        ("--keep-alive-timeout=0ms", "10s"),
        ("--body-timeout=0h", "10s"),
        ("--write-timeout=0", "10s"),
        ("--grace-period=soon", "10s"),
        ("--grace-period=9999h", "8760h"),
        ("--access-log=", "standard output"),
        ("--directory=", "."),
    ] {
        let message = bad(&[word], NO_ENVIRONMENT);
        let (flag, _) = word.split_once('=').unwrap();
        assert!(message.contains(flag), "{word}: {message}");
        assert!(message.contains(remedy), "{word}: {message}");
    }
    for words in [&[""][..], &["a", "b"], &["--nonsense"], &["--port"], &["-q", "-v"], &["--access-log", "--quiet"]] {
        bad(words, NO_ENVIRONMENT);
    }
}

#[test]
fn zero_body_size_is_no_limit() {
    assert_eq!(good(&["--max-body-size=0"]).rules.body_size, u64::MAX);
}

#[test]
fn access_log_in_every_spelling() {
    assert_eq!(good(&["--access-log", "-"]).access_log, LogTarget::Stdout);
    assert_eq!(good(&["--access-log", "off"]).access_log, LogTarget::Off);
    let file = LogTarget::File("./off".into());
    assert_eq!(good(&["--access-log", "./off"]).access_log, file);
}

#[test]
fn verbosity_counts() {
    for (words, verbosity) in [
        (&["-q"][..], Verbosity::Quiet),
        (&["-v"], Verbosity::Debug),
        (&["-v", "--verbose"], Verbosity::Trace),
        (&["-vvvvv"], Verbosity::Trace),
    ] {
        assert_eq!(good(words).verbosity, verbosity, "{words:?}");
    }
    assert_eq!(Verbosity::Quiet.level(), log::LevelFilter::Error);
}

#[test]
fn the_whole_machine_is_served_only_on_request() {
    let start = |args: &[&str]| Config::resolve(args, |_| None, || Ok("/".into()));
    let error = start(&["dustdevil"]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("name the directory to serve"), "{error}");
    assert_eq!(start(&["dustdevil", "/"]).unwrap().root, Some("/".into()));
    let store = start(&["dustdevil", "--directory", "/"]).unwrap();
    assert_eq!(store.root, None);
}

#[test]
fn a_removed_current_directory_is_refused() {
    let gone = || Err(io::Error::from(io::ErrorKind::NotFound));
    let error = Config::resolve(["dustdevil"], |_| None, gone).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("cannot be read"), "{error}");
}

#[test]
fn check_names_the_path_the_cause_and_a_remedy() {
    let here = env!("CARGO_MANIFEST_DIR");
    assert_eq!(good(&[here, "--directory", here]).check_directories(), Ok(()));

    let missing = format!("{here}/no\nsuch");
    let file = format!("{here}/Cargo.toml");
    let below = format!("{file}/x");
    for (args, cause, remedy) in [
        ([here, "--directory", &missing], "no such directory", "create it"),
        ([here, "--directory", &file], "not a directory", "--directory"),
        ([&below, "--directory", here], "not a directory", "ROOT"),
    ] {
        let error = good(&args).check_directories().unwrap_err();
        assert_eq!(error.code, 1);
        let message = error.to_string();
        assert!(message.starts_with("cannot serve \"/"), "{message}");
        assert!(message.contains(cause), "{message}");
        assert!(message.contains(remedy), "{message}");
        assert!(!message.contains('\n'), "{message}"); // escaped, so that it stays one sentence
    }
}
