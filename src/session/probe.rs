//! Whether the client is still there while the session waits for an upstream. If it has gone, the answer is useless: the
//! exchange is given up, and the upstream sees its connection close.
//!
//! A reset says that the client has gone. The end of what it sends (FIN) may mean the same, or only that the client has
//! sent everything and waits for the answer, as `nc` does. nginx takes it for leaving, HAProxy for staying. TCP tells the
//! two apart when bytes are sent: a client that has closed its socket answers them with a reset. So such a client is
//! probed: it is sent one byte of the response ahead, one that is the same whatever the answer will be:
//!
//! | the response          | the byte                                                                    |
//! |-----------------------|-----------------------------------------------------------------------------|
//! | has not begun         | `H`, of `HTTP/1.1`                                                          |
//! | is sent in chunks     | `0`, before the size of the next chunk (RFC 9112, section 7.1: 1*HEXDIG)    |
//! | is framed otherwise   | none: the next content from the upstream shows whether the client is there  |
//!
//! Each byte is sent at most once an exchange, and only after a grace period: most answers come earlier.

use crate::app::exchange::Exchange;
use crate::app::forward::{Forward, SentByte};
use crate::proto::conn::{Encoder, Reading, Writing};
use crate::session::{Ready, Session};
use std::time::Instant;

impl Session {
    /// The client's events that end a wait although the client is not read from.
    pub(super) fn client_events(&self, forward: &Forward) -> Ready {
        let may_probe = !forward.probe.is_scheduled() && self.certain_byte(forward).is_some();
        Ready::CLIENT_GONE
            .with_if(may_probe, Ready::CLIENT_EOF)
            .with_if(self.probe_byte().is_some(), Ready::CLIENT_WRITE)
    }

    /// The client sends no more.
    pub fn on_client_ended(&mut self, now: Instant) {
        if let Exchange::Forward(forward) = &mut self.exchange {
            forward.probe.on_client_ended(now);
        }
    }

    /// When the client is to be probed.
    pub(super) fn probe_due(&self) -> Option<Instant> {
        let forward = self.forward()?;
        forward.probe.at().filter(|_| self.certain_byte(forward).is_some())
    }

    /// The byte to probe the client with, when the probe is due.
    pub(super) fn probe_byte(&self) -> Option<&'static [u8]> {
        let forward = self.forward().filter(|forward| forward.probe.is_due())?;
        self.certain_byte(forward)
    }

    /// The next byte of the response, if it is known before the upstream has said anything more.
    fn certain_byte(&self, forward: &Forward) -> Option<&'static [u8]> {
        // While the request's content is read, a read finds out that the client has gone.
        let reads_content = matches!(self.conn.reading, Reading::Body(_));
        if reads_content || !self.output.is_empty() || forward.is_tunnel() || !self.ending.is_open() {
            return None;
        }
        match (&self.conn.writing, forward.probe.sent) {
            (Writing::Idle, SentByte::None) => Some(b"H"),
            (Writing::Body(Encoder::Chunked), SentByte::None | SentByte::StatusLineSkipped) => Some(b"0"),
            _ => None,
        }
    }

    pub(super) fn on_probe_sent(&mut self) {
        let begun = !matches!(self.conn.writing, Writing::Idle);
        if let Exchange::Forward(forward) = &mut self.exchange {
            forward.probe.on_sent(if begun { SentByte::ChunkSize } else { SentByte::StatusLine });
        }
    }

    /// Takes the byte that the client already has off the beginning of the response.
    pub(super) fn skip_sent_byte(&mut self) {
        let Exchange::Forward(forward) = &mut self.exchange else { return };
        if forward.probe.sent == SentByte::StatusLine && !self.output.is_empty() {
            debug_assert!(self.output.filled().starts_with(b"HTTP/1.1 "));
            self.output.consume(1);
            forward.probe.sent = SentByte::StatusLineSkipped;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::App;
    use crate::app::upstreams::{ConnectError, Reuse, Upstream};
    use crate::config::Config;
    use crate::driver::{self, Connected, Transport, Turn};
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
            let ready = if self.answer.is_empty() { Ready::ALL.without(Ready::UPSTREAM_READ) } else { Ready::ALL };
            ready.with(Ready::CLIENT_EOF).with_if(self.gone, Ready::CLIENT_GONE)
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

        fn connect(
            &mut self,
            _to: &Upstream,
            _reuse: Reuse,
            _request: Option<&[u8]>,
        ) -> Result<Connected, ConnectError> {
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
    fn a_client_that_sends_no_more_is_probed_once_with_the_first_byte_of_the_status_line() {
        let mut ends = Ends::new();
        let start = ends.wire.now.instant;
        ends.pass(100);
        assert_eq!(ends.received(), "H");
        let upstream_has = Turn::Wait(Some(start + Duration::from_secs(60)));
        assert_eq!(ends.turn, upstream_has, "the probe is no progress");
        ends.pass(1000);
        assert_eq!((ends.received().as_str(), &ends.turn), ("", &upstream_has));
        let early = ends.answer("HTTP/1.1 103 Early Hints\r\n\r\n");
        assert_eq!(early, "TTP/1.1 103 Early Hints\r\n\r\n");
        let answer = ends.answer("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nx"), "{answer}");
    }

    #[test]
    fn in_the_middle_of_chunks_the_probe_is_a_leading_zero_of_a_size() {
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
    fn a_reset_of_the_client_ends_the_exchange() {
        let mut ends = Ends::new();
        ends.wire.gone = true;
        ends.drive();
        assert_eq!((ends.wire.kept, ends.turn), (Some(false), Turn::Close));
    }
}
