//! While the session waits for an upstream, checks whether the client has closed its socket. If it has, nobody wants
//! the answer: the exchange is given up, and the upstream sees its connection close.
//!
//! A reset means that the client has closed its socket. A FIN may mean the same, or only that the client has sent
//! everything and waits for the answer, as `nc` does. On a FIN, nginx gives the request up, and HAProxy goes on. TCP
//! tells the two cases apart when bytes are sent: a closed socket answers them with a reset. So after a FIN the client
//! is probed: it is sent the next byte of the response early. That byte must be the same for every possible answer:
//!
//! | the response          | the byte                                                                    |
//! |-----------------------|-----------------------------------------------------------------------------|
//! | has not begun         | `H`, of `HTTP/1.1`                                                          |
//! | is sent in chunks     | `0`, before the size of the next chunk (RFC 9112, section 7.1: 1*HEXDIG)    |
//! | is framed otherwise   | none: sending the next content from the upstream is the probe               |
//!
//! Each of the two bytes is sent at most once per exchange, and only after a short wait: most answers come earlier.

use crate::app::exchange::Exchange;
use crate::app::forward::{Forward, SentByte};
use crate::proto::conn::{Encoder, Reading, Writing};
use crate::session::{Ready, Session};
use std::time::Instant;

impl Session {
    /// The events of the client's socket that end a wait even while the session does not read from the client.
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

    /// If the probe is due, the byte to send.
    pub(super) fn probe_byte(&self) -> Option<&'static [u8]> {
        let forward = self.forward().filter(|forward| forward.probe.is_due())?;
        self.certain_byte(forward)
    }

    /// The next byte of the response, if it is the same for every possible answer of the upstream.
    fn certain_byte(&self, forward: &Forward) -> Option<&'static [u8]> {
        // While the request's content is read, a read shows whether the client has closed its socket.
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

    /// Removes the byte that the client has already received from the beginning of the response.
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
    use crate::app::App;
    use crate::config::Config;
    use crate::driver::Turn;
    use crate::session::testing::Connection;
    use std::time::Duration;

    /// A client that has sent its request and no more, and an upstream that has not answered.
    fn open() -> Connection {
        let config = Config::from_args(["dustdevil", "--proxy", "/=http://127.0.0.1:1"]).unwrap();
        let mut ends = Connection::new(App::new(&config).unwrap());
        ends.wire.upstream = Some(Vec::new());
        ends.wire.ended = true;
        ends.get("/");
        ends
    }

    /// What the client receives when the upstream sends these bytes.
    fn answer(ends: &mut Connection, bytes: &str) -> String {
        ends.wire.upstream = Some(bytes.into());
        ends.drive();
        ends.received()
    }

    #[test]
    fn an_answer_in_time_is_sent_whole() {
        let mut ends = open();
        ends.pass(99);
        assert_eq!(ends.received(), "");
        assert!(answer(&mut ends, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx").starts_with("HTTP/1.1 200 OK\r\n"));
    }

    #[test]
    fn a_half_closed_client_is_probed_once_with_bytes_of_the_answer() {
        let mut ends = open();
        let start = ends.start();
        ends.pass(100);
        assert_eq!(ends.received(), "H");
        let upstream_has = Turn::Wait(Some(start + Duration::from_secs(60)));
        assert_eq!(ends.turn, upstream_has, "the probe does not move the upstream's deadline");
        ends.pass(1000);
        assert_eq!((ends.received().as_str(), &ends.turn), ("", &upstream_has));
        let early = answer(&mut ends, "HTTP/1.1 103 Early Hints\r\n\r\n");
        assert_eq!(early, "TTP/1.1 103 Early Hints\r\n\r\n");
        let answer = answer(&mut ends, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nx"), "{answer}");
    }

    #[test]
    fn in_the_middle_of_chunks_a_size_begins_with_zero() {
        let mut ends = open();
        ends.pass(100);
        assert_eq!(ends.received(), "H");
        let head = answer(&mut ends, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
        assert!(head.starts_with("TTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n2\r\nab\r\n"), "{head}");
        ends.pass(100);
        assert_eq!(ends.received(), "0");
        ends.pass(1000);
        assert_eq!(ends.received(), "");
        assert_eq!(answer(&mut ends, "1\r\nc\r\n0\r\n\r\n"), "1\r\nc\r\n0\r\n\r\n");
    }

    #[test]
    fn a_client_that_has_gone_ends_the_exchange() {
        let mut ends = open();
        ends.wire.broken = true;
        ends.drive();
        assert_eq!((ends.wire.kept, ends.turn), (Some(false), Turn::Close));
    }
}
