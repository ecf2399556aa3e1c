//! The reasons for which a connection ends, with words for the log.

use crate::http::violation::Violation;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The exchange is over, and one side asked for the connection to be closed.
    Done,
    /// The client closed the connection between two requests.
    ClientClosed,
    /// The client closed or reset the connection in the middle of a message.
    ClientFailed,
    /// No request came within the keep-alive timeout.
    Idle,
    /// The client did not read the response within the timeout.
    WriteTimeout,
    /// The request violated the protocol or a limit, and was refused.
    Refused(Violation),
    /// The source of a response failed (a file or an upstream), so that the rest cannot be sent.
    SourceBroke,
    /// The server is shutting down.
    Shutdown,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CloseReason::Done => "done",
            CloseReason::ClientClosed => "the client closed it",
            CloseReason::ClientFailed => "the client broke off in the middle of a message",
            CloseReason::Idle => "idle for too long",
            CloseReason::WriteTimeout => "the client did not take the response in time",
            CloseReason::Refused(violation) => return write!(f, "refused: {}", violation.sentence()),
            CloseReason::SourceBroke => "the source of the response broke off",
            CloseReason::Shutdown => "the server is shutting down",
        })
    }
}
