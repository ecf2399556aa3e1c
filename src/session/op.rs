//! The values that pass between session, driver and engine: the operation that a session wants next, and what the
//! sockets are ready for.

/// The other end of a socket: an exchange has one to the client, and may have one to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Client,
    /// The upstream of a `Forward`.
    Upstream,
}

/// The operation that the session wants next. Each variant names the method of `Session` to call with the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Get a socket to `forward().upstream()`. Then call `on_connected`, `on_queued` or `on_connect_failed`.
    Connect,
    /// Read from the client into `room`, then call `on_read`. Or read from the upstream into `forward_mut().room()`,
    /// then call `on_upstream_read`.
    Read(Peer),
    /// Write `unsent` to the client, then call `on_written`. Or write `forward().unsent()` to the upstream, then call
    /// `on_upstream_written`. `more`: more bytes follow at once.
    Write { peer: Peer, more: bool },
    /// Send `file_range` to the client by sendfile(2), then call `on_file_sent`.
    SendFile,
    /// Shut the socket down for writing, then call `on_shut_down`.
    ShutdownWrite(Peer),
    /// Give the upstream's socket back, then call `on_released`. `keep`: the socket can be used again.
    Release { keep: bool },
    /// Do nothing until the deadline, or until something that the session `wants` is ready.
    Wait,
    /// The client sends no more: call `on_client_ended`.
    NoteEnd,
    /// The client has reset the connection, although no call on its socket has failed yet: call `on_failed`.
    GiveUp,
    /// The connection is over: close it.
    Close,
    /// The connection is over in the middle of content whose end is marked by the close. Send a reset instead, to show
    /// the client that the content is truncated.
    Reset,
}

impl Op {
    /// What must be ready before the operation is possible.
    pub fn needs(self) -> Ready {
        match self {
            Op::Read(Peer::Client) => Ready::CLIENT_READ,
            Op::Read(Peer::Upstream) => Ready::UPSTREAM_READ,
            Op::Write { peer: Peer::Client, .. } | Op::SendFile => Ready::CLIENT_WRITE,
            Op::Write { peer: Peer::Upstream, .. } => Ready::UPSTREAM_WRITE,
            _ => Ready::NONE,
        }
    }

    /// The peer whose connection is broken if the operation fails.
    pub fn peer(self) -> Peer {
        match self {
            Op::Connect
            | Op::Read(Peer::Upstream)
            | Op::Write { peer: Peer::Upstream, .. }
            | Op::ShutdownWrite(Peer::Upstream)
            | Op::Release { .. } => Peer::Upstream,
            _ => Peer::Client,
        }
    }
}

/// Bits that say what the sockets are ready for, or what the session wants to do with them. Two more bits are events of
/// the client's socket. They are reported even while the session does not read from the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready(u8);

impl Ready {
    pub const NONE: Ready = Ready(0);
    pub const CLIENT_READ: Ready = Ready(1);
    pub const CLIENT_WRITE: Ready = Ready(2);
    pub const UPSTREAM_READ: Ready = Ready(4);
    pub const UPSTREAM_WRITE: Ready = Ready(8);
    /// For a transport whose calls block until they are done.
    pub const ALL: Ready = Ready(15);
    /// The client sends no more. Earlier bytes may still have to be read.
    pub const CLIENT_EOF: Ready = Ready(16);
    /// The client has reset the connection.
    pub const CLIENT_GONE: Ready = Ready(32);

    pub fn with(self, other: Ready) -> Ready {
        Ready(self.0 | other.0)
    }

    /// Adds `other` if `when` is true.
    pub fn with_if(self, when: bool, other: Ready) -> Ready {
        if when { self.with(other) } else { self }
    }

    pub fn without(self, other: Ready) -> Ready {
        Ready(self.0 & !other.0)
    }

    /// Whether all bits of `other` are set.
    pub fn has(self, other: Ready) -> bool {
        self.0 & other.0 == other.0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}
