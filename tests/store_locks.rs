//! Lost updates: if several clients change one state of a file, one succeeds and the others get an error, on every
//! engine and with two servers on one store.

mod common;

use common::{Client, Engine, PATIENCE, Response, Server, Setup, TempDir, exchange, get, on_every_engine};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::time::{Duration, Instant, SystemTime};

const TRIES: usize = 150;

fn serve(place: &TempDir, engine: Engine) -> Server {
    let setup = Setup::on(engine).args(["--allow-delete", "--directory"]).arg(place.join("store"));
    setup.start()
}

/// A store with one file, old enough for its date to differ from that of a new one.
fn place() -> TempDir {
    let place = TempDir::new();
    renew(&place);
    place
}

fn renew(place: &TempDir) {
    let path = place.write("store/file", "old");
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
}

fn put(fields: &str) -> String {
    format!(
        "PUT /files/file HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 5\r\n{fields}\r\nhello"
    )
}

fn delete(fields: &str) -> String {
    format!("DELETE /files/file HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n")
}

fn if_match(server: &Server) -> String {
    format!("If-Match: {}\r\n", get(server, "/files/file").field("ETag").unwrap())
}

/// Sends requests up to their last byte, then all last bytes one after the other: so they end at the same time. A
/// request that was answered 503 was not carried out: on a busy machine the holder of the lock may not run for a
/// second. It is sent again, as a client would do.
fn at_once<'a>(requests: impl IntoIterator<Item = (&'a Server, String)>) -> Vec<Response> {
    let mut clients: Vec<_> = requests
        .into_iter()
        .map(|(server, request)| {
            let mut client = Client::connect(server);
            let (last, first) = request.as_bytes().split_last().unwrap();
            client.send(first);
            (client, *last, server, request)
        })
        .collect();
    for (client, last, ..) in &mut clients {
        // If the request has been refused already, this fails.
        let _ = client.try_send([*last]);
    }
    // Each client closes when it has its answer: if a request was refused early, the server waits for the rest of it.
    let answers = clients.into_iter().map(|(mut client, _, server, request)| {
        let mut answer = client.read_response();
        // A minute of refusals is a fault, however busy the machine is.
        for _ in 0..60 {
            if answer.status != 503 {
                break;
            }
            assert!(answer.field("Retry-After").is_some());
            answer = exchange(server, &request);
        }
        answer
    });
    answers.collect()
}

fn statuses(answers: &[Response]) -> Vec<u16> {
    let mut statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    statuses
}

/// Two clients change one state, `TRIES` times, in turn by the same server and by two servers.
fn one_of_two_wins(engine: Engine, requests: impl Fn(&str) -> [String; 2], condition: impl Fn(&Server) -> String) {
    let place = place();
    let servers = [serve(&place, engine), serve(&place, engine)];
    for turn in 0..TRIES {
        renew(&place);
        let condition = condition(&servers[0]);
        let [one, other] = requests(&condition);
        let answers = at_once([(&servers[0], one), (&servers[turn % 2], other)]);
        assert_eq!(statuses(&answers), [204, 412], "try {turn}: {condition}");
        let left: Vec<_> = fs::read_dir(place.join("store")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| name == "file"), "{left:?}");
    }
}

on_every_engine! {
    fn of_two_puts_that_replace_one_state_one_succeeds(engine: Engine) {
        one_of_two_wins(engine, |condition| [put(condition), put(condition)], if_match);
    }

    fn of_two_puts_that_name_a_date_one_succeeds(engine: Engine) {
        let date = |_: &Server| "If-Unmodified-Since: Sun, 09 Sep 2001 01:46:40 GMT\r\n".to_owned();
        one_of_two_wins(engine, |condition| [put(condition), put(condition)], date);
    }

    fn of_a_put_and_a_delete_of_one_state_one_succeeds(engine: Engine) {
        let place = place();
        let servers = [serve(&place, engine), serve(&place, engine)];
        for turn in 0..TRIES {
            renew(&place);
            let condition = if_match(&servers[0]);
            let answers = at_once([(&servers[0], put(&condition)), (&servers[turn % 2], delete(&condition))]);
            let answers: Vec<_> = answers.iter().map(|answer| answer.status).collect();
            let content = fs::read_to_string(place.join("store/file")).ok();
            match answers[..] {
                [204, 412] => assert_eq!(content.as_deref(), Some("hello")),
                [412, 204] => assert_eq!(content, None),
                _ => panic!("try {turn}: {answers:?}, {content:?}"),
            }
        }
    }

    fn of_a_hundred_at_once_one_succeeds(engine: Engine) {
        let place = place();
        let servers = [serve(&place, engine), serve(&place, engine)];
        for _ in 0..3 {
            renew(&place);
            let condition = if_match(&servers[0]);
            let answers = at_once((0..100).map(|client| (&servers[client % 2], put(&condition))));
            assert_eq!(statuses(&answers), [&[204][..], &[412; 99]].concat());
        }
        fs::remove_file(place.join("store/file")).unwrap();
        let answers = at_once((0..100).map(|client| (&servers[client % 2], put("If-None-Match: *\r\n"))));
        assert_eq!(statuses(&answers), [&[201][..], &[412; 99]].concat());
    }

    fn changes_without_a_condition_all_succeed(engine: Engine) {
        let place = place();
        let servers = [serve(&place, engine), serve(&place, engine)];
        let answers = at_once((0..100).map(|client| (&servers[client % 2], put(""))));
        assert_eq!(statuses(&answers), [204; 100]);
    }

    fn a_store_that_another_program_holds_answers_503_after_a_second(engine: Engine) {
        let place = place();
        let server = serve(&place, engine);
        let held = File::open(place.join("store")).unwrap();
        flock(&held, FlockOperation::LockExclusive).unwrap();
        for request in [put(""), put("If-Match: *\r\n"), put("").replace("PUT", "POST"), delete("")] {
            let began = Instant::now();
            let mut waiting = Client::connect(&server);
            waiting.send(&request);
            if engine != Engine::Iterative {
                assert_eq!(get(&server, "/files/file").text(), "old");
            }
            let answer = waiting.read_response();
            assert_eq!((answer.status, answer.field("Retry-After")), (503, Some("1")), "{request}");
            assert!((Duration::from_millis(900)..PATIENCE).contains(&began.elapsed()), "{:?}", began.elapsed());
        }
        assert_eq!(get(&server, "/files/file").text(), "old");
        assert_eq!(place.entries().len(), 2, "{:?}", place.entries());
        drop(held);
        assert_eq!(exchange(&server, put("")).status, 204);
        assert_eq!(exchange(&server, delete("")).status, 204);
    }

    fn a_change_is_made_once_the_store_is_let_go(engine: Engine) {
        let place = place();
        let server = serve(&place, engine);
        for request in [put(""), delete("")] {
            // On a machine that stops for a second, the server may rightly give up.
            let is_made = (0..10).any(|_| {
                let held = File::open(place.join("store")).unwrap();
                flock(&held, FlockOperation::LockExclusive).unwrap();
                let mut client = Client::connect(&server);
                client.send(&request);
                std::thread::sleep(Duration::from_millis(100));
                assert!(!client.is_answered(), "{request}");
                drop(held);
                client.read_response().status == 204
            });
            assert!(is_made, "{request}");
        }
    }

    fn a_server_that_is_killed_leaves_no_lock(engine: Engine) {
        let place = place();
        let survivor = serve(&place, engine);
        let mut other = serve(&place, engine);
        let mut clients: Vec<_> = (0..20).map(|_| Client::connect(&other)).collect();
        clients.iter_mut().for_each(|client| client.send(put("")));
        other.signal("KILL");
        other.await_exit(PATIENCE);
        assert_eq!(exchange(&survivor, put("")).status, 204);
    }
}
