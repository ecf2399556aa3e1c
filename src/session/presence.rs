//! Whether the client is still there while an upstream is waited for. An answer that nobody waits for is work
//! for nothing: the exchange is given up, and the upstream sees its connection close.
//!
//! A reset says that the client has gone. The end of what it sends (FIN) may mean that, or only that it is done
//! with sending, as `nc` is, and wants its answer all the same. nginx takes it for leaving, HAProxy for staying;
//! TCP tells the two apart as soon as it is sent something: who has closed answers that by a reset. So such a
//! client is sent the byte that comes next whatever the answer will be:
//!
//! | the response        | that byte                                                           |
//! |---------------------|---------------------------------------------------------------------|
//! | has not begun       | `H`, of `HTTP/1.1`                                                  |
//! | is in chunks        | `0`, before the size of the next (RFC 9112, section 7.1: 1*HEXDIG)  |
//! | is of another kind  | none is certain: what the upstream says next shows it               |
//!
//! Each is sent once an exchange, and only a moment later: most answers come before that.

use crate::app::exchange::Exchange;
use crate::app::forward::{Asked, Forward};
use crate::proto::conn::{Encoder, Reading, Writing};
use crate::session::{Ready, Session};
use std::time::Instant;

impl Session {
    /// What is to be looked out for while the client's side is not read.
    pub(super) fn watched(&self, forward: &Forward) -> Ready {
        let asks_later = !forward.presence.is_noted() && self.next_byte(forward).is_some();
        Ready::CLIENT_GONE
            .with_if(asks_later, Ready::CLIENT_EOF)
            .with_if(self.question().is_some(), Ready::CLIENT_WRITE)
    }

    /// The client sends no more.
    pub fn on_client_ended(&mut self, now: Instant) {
        if let Exchange::Forward(forward) = &mut self.exchange {
            forward.presence.on_ended(now);
        }
    }

    /// When the client is to be asked.
    pub(super) fn question_due(&self) -> Option<Instant> {
        let forward = self.forward()?;
        forward.presence.due().filter(|_| self.next_byte(forward).is_some())
    }

    /// The byte that asks the client whether it is there, when it is time for that.
    pub(super) fn question(&self) -> Option<&'static [u8]> {
        let forward = self.forward().filter(|forward| forward.presence.is_due())?;
        self.next_byte(forward)
    }

    /// The byte that comes next in any case, where there is one and nothing else is to be sent.
    fn next_byte(&self, forward: &Forward) -> Option<&'static [u8]> {
        // Who reads the request's content comes upon the end by itself.
        let reads = matches!(self.conn.reading, Reading::Body(_));
        if reads || !self.output.is_empty() || forward.is_tunnel() || self.closing.is_some() {
            return None;
        }
        match (&self.conn.writing, forward.presence.asked) {
            (Writing::Idle, Asked::Nothing) => Some(b"H"),
            (Writing::Body(Encoder::Chunked), Asked::Nothing | Asked::Before) => Some(b"0"),
            _ => None,
        }
    }

    /// The byte is sent.
    pub(super) fn on_asked(&mut self) {
        let begun = !matches!(self.conn.writing, Writing::Idle);
        if let Exchange::Forward(forward) = &mut self.exchange {
            forward.presence.on_asked(if begun { Asked::Within } else { Asked::Ahead });
        }
    }

    /// Takes the byte off that the client has already, once there is more.
    pub(super) fn drop_foretold(&mut self) {
        let Exchange::Forward(forward) = &mut self.exchange else { return };
        if forward.presence.asked == Asked::Ahead && !self.output.is_empty() {
            debug_assert!(self.output.filled().starts_with(b"HTTP/1.1 "));
            self.output.consume(1);
            forward.presence.asked = Asked::Before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::App;
    use crate::app::upstreams::{Reuse, Upstream};
    use crate::config::Config;
    use crate::driver::{self, Connected, Transport, Turn, UpstreamTransport};
    use crate::http::date::Now;
    use crate::session::Scratch;
    use crate::wsgi::supervisor::Handback;
    use std::fs::File;
    use std::io;
    use std::net::Ipv4Addr;
    use std::os::fd::{BorrowedFd, OwnedFd};
    use std::time::{Duration, SystemTime};

    /// A client that has sent its request and no more, and an upstream that says what it is given to say.
    struct Wire {
        now: Now,
        request: &'static [u8],
        /// The client has reset the connection.
        gone: bool,
        received: Vec<u8>,
        answer: Vec<u8>,
        kept: Option<bool>,
    }

    impl Transport for Wire {
        fn now(&mut self) -> &Now {
            &self.now
        }

        fn is_ending(&self) -> bool {
            false
        }

        fn ready(&self) -> Ready {
            let ready = Ready::CLIENT_READ.with(Ready::CLIENT_WRITE).with(Ready::CLIENT_EOF);
            ready.with_if(self.gone, Ready::CLIENT_GONE)
        }

        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            let request = std::mem::take(&mut self.request);
            room[..request.len()].copy_from_slice(request);
            Ok(request.len())
        }

        fn write(&mut self, parts: [&[u8]; 2], _more: bool) -> io::Result<usize> {
            self.received.extend(parts.concat());
            Ok(parts[0].len() + parts[1].len())
        }

        fn send_file(&mut self, _file: &File, _at: u64, _len: usize) -> io::Result<usize> {
            unreachable!("nothing here is in a file")
        }

        fn shut_down_write(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn reset_on_close(&mut self) {}
    }

    impl UpstreamTransport for Wire {
        fn upstream_ready(&self) -> Ready {
            Ready::UPSTREAM_WRITE.with_if(!self.answer.is_empty(), Ready::UPSTREAM_READ)
        }

        fn connect(&mut self, _to: &Upstream, _reuse: Reuse, _request: Option<&[u8]>) -> io::Result<Connected> {
            Ok(Connected::New)
        }

        fn read_upstream(&mut self, room: &mut [u8], _files: &mut Vec<OwnedFd>) -> io::Result<usize> {
            let answer = std::mem::take(&mut self.answer);
            room[..answer.len()].copy_from_slice(&answer);
            Ok(answer.len())
        }

        fn write_upstream(&mut self, bytes: &[u8], _file: Option<BorrowedFd<'_>>) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn shut_down_upstream(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn release(&mut self, keep: bool, _handback: Option<Handback>) {
            self.kept = Some(keep);
        }
    }

    struct Ends {
        app: App,
        session: Session,
        scratch: Scratch,
        wire: Wire,
        turn: Turn,
    }

    impl Ends {
        fn new() -> Ends {
            let config = Config::from_args(["dustdevil", "--proxy", "/=http://127.0.0.1:1"]).unwrap();
            let now = Now::new(Instant::now(), SystemTime::UNIX_EPOCH);
            let session = Session::new(Ipv4Addr::LOCALHOST.into(), now.instant);
            let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
            let wire = Wire { now, request, gone: false, received: Vec::new(), answer: Vec::new(), kept: None };
            let (app, scratch) = (App::new(&config).unwrap(), Scratch::default());
            let mut ends = Ends { app, session, scratch, wire, turn: Turn::Yield };
            ends.drive();
            ends
        }

        fn drive(&mut self) {
            self.turn = driver::drive(&mut self.session, &mut self.wire, &self.app, &mut self.scratch);
        }

        fn answer(&mut self, bytes: &str) -> String {
            self.wire.answer = bytes.into();
            self.drive();
            self.received()
        }

        fn received(&mut self) -> String {
            String::from_utf8(std::mem::take(&mut self.wire.received)).unwrap()
        }

        fn pass(&mut self, millis: u64) {
            self.wire.now.update(self.wire.now.instant + Duration::from_millis(millis), SystemTime::UNIX_EPOCH);
            self.drive();
        }
    }
    #[test]
    fn an_answer_in_time_is_sent_whole() {
        let mut ends = Ends::new();
        ends.pass(99);
        assert_eq!(ends.received(), "");
        assert!(ends.answer("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx").starts_with("HTTP/1.1 200 OK\r\n"));
    }

    #[test]
    fn who_sends_no_more_is_asked_once_with_what_comes_anyway() {
        let mut ends = Ends::new();
        let start = ends.wire.now.instant;
        ends.pass(100);
        assert_eq!(ends.received(), "H");
        let upstream_has = Turn::Wait(Some(start + Duration::from_secs(60)));
        assert_eq!(ends.turn, upstream_has, "the question is no progress");
        ends.pass(1000);
        assert_eq!((ends.received().as_str(), &ends.turn), ("", &upstream_has));
        let early = ends.answer("HTTP/1.1 103 Early Hints\r\n\r\n");
        assert_eq!(early, "TTP/1.1 103 Early Hints\r\n\r\n");
        let answer = ends.answer("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nx"), "{answer}");
    }

    #[test]
    fn in_the_middle_of_chunks_a_size_begins_with_zero() {
        let mut ends = Ends::new();
        ends.pass(100);
        assert_eq!(ends.received(), "H");
        let head = ends.answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
        assert!(head.starts_with("TTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n2\r\nab\r\n"), "{head}");
        ends.pass(100);
        assert_eq!(ends.received(), "0");
        ends.pass(1000);
        assert_eq!(ends.received(), "");
        assert_eq!(ends.answer("1\r\nc\r\n0\r\n\r\n"), "1\r\nc\r\n0\r\n\r\n");
    }

    #[test]
    fn who_has_gone_takes_the_exchange_along() {
        let mut ends = Ends::new();
        ends.wire.gone = true;
        ends.drive();
        assert_eq!((ends.wire.kept, ends.turn), (Some(false), Turn::Close));
    }
}
