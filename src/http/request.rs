//! A request as handlers see it: borrowed from the input buffer, for as long as the handler runs.

use crate::http::conditional::Conditions;
use crate::http::head::{Field, Head, Name};
use crate::http::method::Method;
use crate::http::target::Target;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A connection's two addresses, without the peer's IP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub peer_port: u16,
    pub local: SocketAddr,
}

impl Default for Ends {
    fn default() -> Ends {
        Ends { peer_port: 0, local: (Ipv4Addr::LOCALHOST, 0).into() }
    }
}

/// The head of a request, with its target parsed, and its sender.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    pub bytes: &'a [u8],
    pub head: &'a Head,
    pub target: Target<'a>,
    /// The address at the other end of the connection: the client's, or a proxy's.
    pub peer: IpAddr,
    /// The client behind a trusted proxy, if the peer is one.
    pub behind: Option<IpAddr>,
    /// The peer's port, and the address that it connected to.
    pub ends: Ends,
    /// Whether content follows, or may follow.
    pub has_content: bool,
}

impl<'a> Request<'a> {
    pub fn method(&self) -> Method {
        self.head.method
    }

    /// The client's address, for logs and decisions.
    pub fn client(&self) -> IpAddr {
        self.behind.unwrap_or(self.peer)
    }

    /// The path, percent-encoded and normalised.
    pub fn path(&self) -> &[u8] {
        &self.target.path
    }

    /// The value of the first field of this name.
    pub fn field(&self, name: Name) -> Option<&'a [u8]> {
        self.values(name).next()
    }

    /// The values of all fields of this name: a list may be spread over several fields (RFC 9110, section 5.3).
    pub fn values(&self, name: Name) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.head.values(self.bytes, name)
    }

    /// Every field as received: name and value.
    pub fn fields(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let bytes = self.bytes;
        self.head.fields.iter().map(move |field: &Field| (field.name.of(bytes), field.value.of(bytes)))
    }

    /// Its preconditions (RFC 9110, section 13).
    pub fn conditions(&self) -> Conditions<impl Iterator<Item = &'a [u8]> + Clone + use<'a>> {
        Conditions {
            if_match: self.values(Name::IfMatch),
            if_none_match: self.values(Name::IfNoneMatch),
            if_modified_since: self.values(Name::IfModifiedSince),
            if_unmodified_since: self.values(Name::IfUnmodifiedSince),
            if_range: self.values(Name::IfRange),
        }
    }

    /// The request line, without its CRLF.
    pub fn line(&self) -> &'a [u8] {
        let end = memchr::memchr(b'\r', self.bytes).unwrap_or(self.bytes.len());
        &self.bytes[..end]
    }

    /// The host that the client meant: the authority of an absolute-form target takes precedence over the Host field.
    pub fn host(&self) -> &[u8] {
        self.target.authority.or_else(|| self.field(Name::Host)).unwrap_or_default()
    }
}
