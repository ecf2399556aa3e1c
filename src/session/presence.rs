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
//! Each is sent once an exchange.

use crate::app::exchange::Exchange;
use crate::proto::conn::{Encoder, Writing};
use crate::session::{Ready, Session};

/// How far a client that sends no more has been asked whether it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Asked {
    #[default]
    No,
    /// It has the first byte of the response, which is not to be sent again.
    Ahead,
    /// The same, and the response has begun since.
    Before,
    /// It has the first byte of a chunk.
    Within,
}

impl Session {
    /// What is to be looked out for while the client's side is not read.
    pub(super) fn watched(&self) -> Ready {
        Ready::CLIENT_GONE.with_if(self.question().is_some(), Ready::CLIENT_EOF)
    }

    /// The byte that asks a client that sends no more whether it is there.
    pub(super) fn question(&self) -> Option<&'static [u8]> {
        let Exchange::Forward(forward) = &self.exchange else { return None };
        if !self.output.is_empty() || forward.is_tunnel() || self.closing.is_some() {
            return None;
        }
        match (&self.conn.writing, self.asked) {
            (Writing::Idle, Asked::No) => Some(b"H"),
            (Writing::Body(Encoder::Chunked), Asked::No | Asked::Before) => Some(b"0"),
            _ => None,
        }
    }

    /// The byte is sent.
    pub(super) fn on_asked(&mut self) {
        self.asked = if matches!(self.conn.writing, Writing::Idle) { Asked::Ahead } else { Asked::Within };
    }

    /// Takes the byte off that the client has already, once there is more.
    pub(super) fn drop_foretold(&mut self) {
        if self.asked == Asked::Ahead && !self.output.is_empty() {
            debug_assert!(self.output.filled().starts_with(b"HTTP/1.1 "));
            self.output.consume(1);
            self.asked = Asked::Before;
        }
    }
}
