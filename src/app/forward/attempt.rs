//! One attempt to have the request answered, over one connection to one upstream. The next attempt begins with a new
//! value.

use crate::app::forward::protocol::Failure;
use crate::proto::buffer::Buffer;
use std::os::fd::OwnedFd;

#[derive(Debug, Default)]
pub(super) struct Attempt {
    /// Only a new connection is acceptable: an idle one has failed before.
    pub new_only: bool,
    /// The connection has carried other exchanges before.
    pub reused: bool,
    pub progress: Progress,
    pub inbound: Inbound,
    pub outbound: Outbound,
    pub fault: Option<Fault>,
    /// Bytes from the upstream that are not parsed yet, and the descriptors that came with them.
    pub input: Buffer,
    pub files: Vec<OwnedFd>,
}

/// How far the exchange of bytes has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Progress {
    #[default]
    Nothing,
    /// Bytes have been written to the upstream.
    Written,
    /// Bytes have been received from the upstream: from now on the request is not sent again.
    Answered,
}

/// The direction from the upstream.
#[derive(Debug, Default)]
pub(super) enum Inbound {
    #[default]
    Open,
    /// The upstream has closed it in order.
    Ended,
    /// A call failed. The failure is handled when the input has been parsed.
    Broken(Failure),
}

/// The direction to the upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Outbound {
    #[default]
    Open,
    /// The socket is shut down for writing: the client's side of a tunnel has ended.
    ShutDown,
    /// A call failed: the upstream takes no more.
    Failed,
}

/// A fault that decides what is tried next, or how the worker is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The worker ended before it began with the request.
    NotBegun,
    /// The upstream did not answer within its timeout.
    Expired,
    /// The server's shutdown has cut the exchange.
    Cut,
}

impl Attempt {
    /// The next attempt. `new_only`: only a new connection is acceptable.
    pub fn again(new_only: bool) -> Attempt {
        Attempt { new_only, ..Attempt::default() }
    }
}

impl Inbound {
    /// Whether the upstream sends no more.
    pub fn is_closed(&self) -> bool {
        !matches!(self, Inbound::Open)
    }

    pub fn take_failure(&mut self) -> Option<Failure> {
        if !matches!(self, Inbound::Broken(_)) {
            return None;
        }
        match std::mem::replace(self, Inbound::Ended) {
            Inbound::Broken(failure) => Some(failure),
            _ => None,
        }
    }
}
