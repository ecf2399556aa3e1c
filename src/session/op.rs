//! The values that pass between session, driver and engine: the operation that a session wants next, and what the
//! sockets are ready for.

/// The two ends an exchange can have a socket to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Client,
    /// The upstream of a `Forward`.
    Upstream,
}

/// The operation that the session wants next. Each says what to call with its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Get a socket to `forward().upstream()`, tell `on_connected`, `on_queued` or `on_connect_failed`.
    Connect,
    /// Read into `room`, tell `on_read`; of the upstream, `forward_mut().room()` and `on_upstream_read`.
    Read(Peer),
    /// Write `unsent`, tell `on_written`; of the upstream, `forward().unsent()` and `on_upstream_written`.
    /// `more` when something follows at once.
    Write { peer: Peer, more: bool },
    /// Send `file_range` past the buffers, tell `on_file_sent`.
    SendFile,
    /// Shut the socket down for writing, tell `on_shut_down`.
    ShutdownWrite(Peer),
    /// Give the upstream's socket back, to be used again if `keep`, tell `on_released`.
    Release { keep: bool },
    /// Nothing, until the deadline, or until something that it `wants` is ready.
    Wait,
    /// Tell `on_client_ended`: the client sends no more.
    NoteEnd,
    /// Tell `on_failed`: the client has reset the connection, though no call on its socket says so.
    GiveUp,
    /// The connection is over.
    Close,
    /// The connection is over in the middle of content. Closing would mark its end, so a reset has to tell the client
    /// that it is cut.
    Reset,
}

impl Op {
    /// What must be ready before it can be done.
    pub fn needs(self) -> Ready {
        match self {
            Op::Read(Peer::Client) => Ready::CLIENT_READ,
            Op::Read(Peer::Upstream) => Ready::UPSTREAM_READ,
            Op::Write { peer: Peer::Client, .. } | Op::SendFile => Ready::CLIENT_WRITE,
            Op::Write { peer: Peer::Upstream, .. } => Ready::UPSTREAM_WRITE,
            _ => Ready::NONE,
        }
    }

    /// The peer that a failure of it is blamed on.
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

/// What sockets are ready for, or what is wanted of them, as bits. Two more bits are events of the client's socket, which
/// count although the client is not read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready(u8);

impl Ready {
    pub const NONE: Ready = Ready(0);
    pub const CLIENT_READ: Ready = Ready(1);
    pub const CLIENT_WRITE: Ready = Ready(2);
    pub const UPSTREAM_READ: Ready = Ready(4);
    pub const UPSTREAM_WRITE: Ready = Ready(8);
    /// For a transport whose calls wait by themselves.
    pub const ALL: Ready = Ready(15);
    /// The client sends no more. Bytes that arrived before are still to be read.
    pub const CLIENT_EOF: Ready = Ready(16);
    /// The client has reset the connection.
    pub const CLIENT_GONE: Ready = Ready(32);

    pub fn with(self, other: Ready) -> Ready {
        Ready(self.0 | other.0)
    }

    /// With `other` if `when` holds, else unchanged.
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
