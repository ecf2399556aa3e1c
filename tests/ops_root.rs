//! The warning of a server that is started as root.

mod common;

use common::{Setup, eventually};

#[test]
fn started_as_root_it_warns_and_says_what_to_do() {
    let is_root = rustix::process::geteuid().is_root();
    let server = Setup::default().start();
    if is_root {
        server.expect_stderr("started as root");
        assert!(
            server.stderr().contains("setpriv --reuid") && server.stderr().contains("User="),
            "{}",
            server.stderr()
        );
    } else {
        eventually("the banner", || server.stderr().contains("http://").then_some(()));
        assert!(!server.stderr().contains("as root"), "{}", server.stderr());
    }
}
