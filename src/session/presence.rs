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
        assert_eq!(ends.turn, upstream_has, "the question is no progress");
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
