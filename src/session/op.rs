//! What a session can want done, and what an engine knows can be done now: the words between session,
//! driver and engine.

/// The two ends an exchange can have a socket to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Client,
    /// What a `Forward` speaks to.
    Upstream,
}

/// What the session wants done next.
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
    /// Nothing, before the deadline or before what it `wants`.
    Wait,
    /// Tell `on_client_ended`: the client sends no more.
    NoteEnd,
    /// Tell `on_failed`: the client has reset the connection, though no call on its socket says so.
    GiveUp,
    /// The connection is over.
    Close,
    /// The connection is over in the middle of content whose end only a reset can deny.
    Reset,
}

impl Op {
    /// What must be ready for it.
    pub fn needs(self) -> Ready {
        match self {
            Op::Read(Peer::Client) => Ready::CLIENT_READ,
            Op::Read(Peer::Upstream) => Ready::UPSTREAM_READ,
            Op::Write { peer: Peer::Client, .. } | Op::SendFile => Ready::CLIENT_WRITE,
            Op::Write { peer: Peer::Upstream, .. } => Ready::UPSTREAM_WRITE,
            _ => Ready::NONE,
        }
    }

    /// Whose failure it is when it fails.
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

/// Sides of sockets, as bits: those that are ready, or those that are wanted. And news of the client, for who
/// waits for something else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready(u8);

impl Ready {
    pub const NONE: Ready = Ready(0);
    pub const CLIENT_READ: Ready = Ready(1);
    pub const CLIENT_WRITE: Ready = Ready(2);
    pub const UPSTREAM_READ: Ready = Ready(4);
    pub const UPSTREAM_WRITE: Ready = Ready(8);
    /// Of a transport that waits by itself.
    pub const ALL: Ready = Ready(15);
    /// The client sends no more: behind what is still to be read its stream ends.
    pub const CLIENT_EOF: Ready = Ready(16);
    /// The client has reset the connection.
    pub const CLIENT_GONE: Ready = Ready(32);

    pub fn with(self, other: Ready) -> Ready {
        Ready(self.0 | other.0)
    }

    /// `other` where `when` holds, else unchanged.
    pub fn with_if(self, when: bool, other: Ready) -> Ready {
        if when { self.with(other) } else { self }
    }

    pub fn without(self, other: Ready) -> Ready {
        Ready(self.0 & !other.0)
    }

    /// Whether all of `other` are among them.
    pub fn has(self, other: Ready) -> bool {
        self.0 & other.0 == other.0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}
