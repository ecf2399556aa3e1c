//! Applications that close streams, handle signals, or start children and threads in the worker's process do not harm
//! other requests. The applications are in tests/wsgi_apps/odd.py.

mod common;

use common::python::serve_app;
use common::{Engine, Server, get, on_every_engine};
use std::thread;
use std::time::Duration;

fn serve(engine: Engine) -> Option<Server> {
    serve_app(engine, "odd:app", &[])
}

on_every_engine! {
    fn closed_streams_cost_no_request(engine: Engine) {
        for how in ["objects", "errors", "none", "numbers"] {
            let Some(server) = serve(engine) else { return };
            let pid = get(&server, "/pid").text();
            assert_eq!(get(&server, &format!("/closes_streams?{how}")).text(), "closed", "{how}");
            assert_eq!(get(&server, "/raises?End").status, 500, "{how}");
            assert_eq!(get(&server, "/pid").text(), pid, "{how}");
            if how != "errors" {
                // wsgi.errors does not use sys.stderr, so it still works.
                server.expect_stderr("EOFError: on purpose");
            }
        }
    }

    fn a_closed_socket_costs_one_request(engine: Engine) {
        let Some(server) = serve(engine) else { return };
        assert_eq!(get(&server, "/closes_everything").status, 502);
        assert_eq!(get(&server, "/hello").text(), "hello");
    }

    fn signals_to_a_worker_are_for_the_server_or_the_application(engine: Engine) {
        let Some(server) = serve(engine) else { return };
        let pid = get(&server, "/pid").text();
        assert_eq!(get(&server, "/signalled").text(), "alive hup");
        assert_eq!(get(&server, "/pid").text(), pid);
    }

    fn children_threads_and_loops_work(engine: Engine) {
        let Some(server) = serve(engine) else { return };
        let pid = get(&server, "/pid").text();
        assert_eq!(get(&server, "/child_output").text(), "''\n");
        assert_eq!(get(&server, "/loop").text(), "later");
        assert_eq!(get(&server, "/pool").text(), "[1, 2]");
        assert_eq!(get(&server, "/thread_exits").text(), "ok");
        server.expect_stderr("ZeroDivisionError");
        assert_eq!(get(&server, "/pid").text(), pid);
    }

    /// odd.py sets a default timeout for every socket that is created after its import.
    fn a_default_timeout_is_not_for_the_workers_sockets(engine: Engine) {
        let Some(server) = serve_app(engine, "odd:app", &["--wsgi-threads", "3"]) else { return };
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(300));
            for _ in 0..4 {
                assert_eq!(get(&server, "/hello").text(), "hello");
            }
        }
        assert!(!server.stderr().contains("imeout"), "{}", server.stderr());
    }
}
