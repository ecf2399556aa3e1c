//! The protocols spoken with upstreams: write a request, read a response. `Protocol` hides every difference between an
//! HTTP server and a worker of our own.

use crate::app::body::buffered::Buffered;
use crate::app::forward::http::HttpExchange;
use crate::app::forward::protocol::{Failure, ROOM, ResponseSink, Step, UpstreamInput};
use crate::app::forward::wsgi::WsgiExchange;
use crate::proto::buffer::Buffer;
use crate::wsgi::frames;

/// The protocol spoken with the upstream.
#[derive(Debug)]
pub enum Protocol {
    Http(Box<HttpExchange>),
    Wsgi(Box<WsgiExchange>),
}

/// What a protocol must do: each method answers for all protocols.
impl Protocol {
    /// Writes the request up to its content. `gathered`: the content, if it was received in full.
    pub(super) fn begin(&mut self, gathered: Option<&Buffered>, output: &mut Buffer) {
        match self {
            Protocol::Http(http) => http.begin(gathered.map(Buffered::len), output),
            Protocol::Wsgi(wsgi) => wsgi.begin(gathered, output),
        }
    }

    /// Frames a piece of content that is not gathered.
    pub(super) fn push(&mut self, data: &[u8], output: &mut Buffer) {
        match self {
            Protocol::Http(http) => http.push(data, output),
            // A worker's content is always gathered.
            Protocol::Wsgi(_) => {}
        }
    }

    /// Frames the end of content that is not gathered.
    pub(super) fn push_end(&mut self, output: &mut Buffer) {
        match self {
            Protocol::Http(http) => http.push_end(output),
            Protocol::Wsgi(_) => {}
        }
    }

    /// Whether gathered content in a file is passed as a descriptor, with the first byte of the request.
    pub(super) fn passes_files(&self) -> bool {
        match self {
            Protocol::Http(_) => false,
            Protocol::Wsgi(_) => true,
        }
    }

    /// How many bytes may wait to be decoded: a whole head must fit.
    pub(super) fn largest_head(&self) -> usize {
        match self {
            Protocol::Http(_) => ROOM,
            Protocol::Wsgi(_) => frames::LARGEST_HEAD,
        }
    }

    /// Whether the upstream begins only when it has read the whole request, and is connected by a Unix socket. Such a
    /// socket is reset, not just closed, when the other end closes it with unread bytes (unix(7)): then the request has
    /// not begun.
    pub(super) fn is_taken_whole(&self) -> bool {
        match self {
            Protocol::Http(_) => false,
            Protocol::Wsgi(_) => true,
        }
    }

    /// Whether the request may be sent again after some or all of it was sent. `gathered`: its content is kept.
    pub(super) fn may_repeat(&self, gathered: bool) -> bool {
        match self {
            Protocol::Http(http) => http.may_repeat(gathered),
            Protocol::Wsgi(_) => false,
        }
    }

    /// Whether the request may be sent again now: everything that was sent is kept.
    pub(super) fn may_repeat_now(&self, gathered: bool) -> bool {
        match self {
            Protocol::Http(http) => http.may_repeat_now(gathered),
            Protocol::Wsgi(_) => false,
        }
    }

    /// Takes the next piece of input and writes the response.
    pub(super) fn step(&mut self, source: &mut UpstreamInput, sink: &mut ResponseSink) -> Result<Step, Failure> {
        match self {
            Protocol::Http(http) => http.step(source, sink),
            Protocol::Wsgi(wsgi) => wsgi.step(source, sink),
        }
    }
}
