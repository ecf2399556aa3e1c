//! HTTP/1.1 with an upstream: one request and its response, as `forward::Protocol` asks for it.
//!
//! ```text
//!  Head ──1xx──► Head      passed on, but not to HTTP/1.0
//!   ├────101───► tunnel    only if the request asked for it
//!   └──final───► Content ──► End
//! ```
//! Both messages are framed anew from the parsed parts: no byte of one side's framing is passed to the other.

use crate::app::forward::fields;
use crate::app::forward::protocol::{Failure, ResponseSink, Step, UpstreamInput};
use crate::app::forward::rewrite::Rewriting;
use crate::http::head::{HeadLimits, Name};
use crate::http::list;
use crate::http::response::ResponseHead;
use crate::http::violation::Violation;
use crate::proto::buffer::Buffer;
use crate::proto::client::{self, Framing, ResponseContent};
use crate::proto::conn::{Encoder, Reading, Writing};
use crate::proto::responder::decimal;

/// How many 1xx responses an upstream may send before its answer.
const INTERIM: u8 = 32;
/// The limits of a response head. They are larger than those of a request: servers set cookies and policies.
const LIMITS: HeadLimits = HeadLimits { size: crate::app::forward::protocol::ROOM, target: 0, fields: 256 };

/// The sentence for a violation in a response. Some sentences of `Violation` speak of requests.
fn fault(violation: Violation) -> &'static str {
    match violation {
        Violation::NotHttp => "These bytes do not begin like HTTP/1.",
        Violation::Version => "The status line must begin with an HTTP version such as HTTP/1.1.",
        Violation::HeadTooLarge => "The header section is larger than this server reads.",
        Violation::TooManyFields => "There are more header fields than this server reads.",
        Violation::LengthTwice => "There must be one Content-Length only.",
        other => other.sentence(),
    }
}

fn broke_the_framing(violation: Violation) -> String {
    format!("broke the framing of its answer: {}", fault(violation))
}

#[derive(Debug)]
enum State {
    Head,
    Content(ResponseContent),
}

/// One exchange: the request as it is sent, and how far its response has been read.
#[derive(Debug)]
pub struct HttpExchange {
    /// The request line and the fields, except Expect and those that frame the content.
    pub head: Vec<u8>,
    pub framing: Framing,
    pub is_head: bool,
    /// Whether the method may be repeated (RFC 9110, section 9.2.2).
    pub is_idempotent: bool,
    /// The protocol that the client wants to change to.
    pub upgrade: Option<Vec<u8>>,
    /// Whether the client waits for 100 (Continue).
    pub expects: bool,
    /// How the upstream's places are named for the client.
    pub rewriting: Option<Rewriting>,
    state: State,
    /// Whether content has been written that is not kept, so that it could not be sent again.
    has_pushed: bool,
    scanned: usize,
    interim: u8,
    persists: bool,
}

impl HttpExchange {
    pub fn new(head: Vec<u8>, framing: Framing) -> HttpExchange {
        HttpExchange {
            head,
            framing,
            is_head: false,
            is_idempotent: false,
            upgrade: None,
            expects: false,
            rewriting: None,
            state: State::Head,
            has_pushed: false,
            scanned: 0,
            interim: 0,
            persists: false,
        }
    }

    /// `gathered`: the length of the content, if it was received in full. It is appended by `Forward`.
    pub fn begin(&mut self, gathered: Option<u64>, output: &mut Buffer) {
        output.push(&self.head);
        if let (Some(length), true) = (gathered, self.framing != Framing::Nothing) {
            self.framing = Framing::Length(length);
        }
        match self.framing {
            Framing::Nothing => {}
            Framing::Length(length) => {
                output.push(b"Content-Length: ");
                output.push(decimal(length).digits());
                output.push(b"\r\n");
            }
            Framing::Chunked => output.push(b"Transfer-Encoding: chunked\r\n"),
        }
        if self.expects && gathered.is_none() {
            output.push(b"Expect: 100-continue\r\n");
        }
        output.push(b"\r\n");
    }

    pub fn push(&mut self, data: &[u8], output: &mut Buffer) {
        self.has_pushed = true;
        self.framing.encode(data, output);
    }

    pub fn push_end(&mut self, output: &mut Buffer) {
        self.framing.finish(output);
    }

    /// Whether the request may be sent again, whenever an attempt fails. `gathered`: its content is kept.
    pub fn may_repeat(&self, gathered: bool) -> bool {
        self.is_idempotent && (gathered || matches!(self.framing, Framing::Nothing | Framing::Length(0)))
    }

    /// Whether the request may be sent again now: no content has been written that is not kept.
    pub fn may_repeat_now(&self, gathered: bool) -> bool {
        self.is_idempotent && (gathered || !self.has_pushed)
    }

    pub fn step(&mut self, source: &mut UpstreamInput, sink: &mut ResponseSink) -> Result<Step, Failure> {
        match &mut self.state {
            State::Head => self.read_head(source, sink),
            State::Content(content) => {
                let decoded = content.decode(source.input.filled(), source.closed).map_err(|violation| {
                    Failure::bad_gateway(match violation {
                        Violation::Truncated => "closed in the middle of its answer".into(),
                        _ => broke_the_framing(violation),
                    })
                })?;
                if !decoded.data.is_empty() {
                    sink.content(&source.input.filled()[decoded.data.clone()])?;
                }
                source.input.consume(decoded.consumed);
                Ok(match (decoded.end, decoded.consumed) {
                    (true, _) => Step::End { keep: self.persists, rest: None },
                    (false, 0) => Step::Wait,
                    (false, _) => Step::Moved,
                })
            }
        }
    }

    fn read_head(&mut self, source: &mut UpstreamInput, sink: &mut ResponseSink) -> Result<Step, Failure> {
        let bytes = source.input.filled();
        let head = ResponseHead::parse(bytes, &LIMITS, &mut self.scanned)
            .map_err(|violation| Failure::bad_gateway(format!("gave no valid answer: {}", fault(violation))))?;
        let Some(head) = head else {
            return match (source.closed, bytes.is_empty()) {
                (false, _) => Ok(Step::Wait),
                (true, true) => Err(Failure::bad_gateway("closed the connection without an answer")),
                (true, false) => Err(Failure::bad_gateway("closed in the middle of its answer")),
            };
        };
        let len = head.len;
        let step = match head.status {
            101 => self.switch(&head, bytes, sink)?,
            100..=199 => self.pass_interim(&head, bytes, sink)?,
            _ => self.answer(&head, bytes, sink)?,
        };
        source.input.consume(len);
        Ok(step)
    }

    fn pass_interim(&mut self, head: &ResponseHead, bytes: &[u8], sink: &mut ResponseSink) -> Result<Step, Failure> {
        self.interim += 1;
        if self.interim > INTERIM {
            return Err(Failure::bad_gateway("said 1xx again and again and gave no answer"));
        }
        if sink.conn.minor == 0 {
            return Ok(Step::Moved);
        }
        // RFC 9110, section 15.2: 1xx responses are passed on, unless the proxy itself asked for them. This one never
        // does.
        fields::write_interim(head, bytes, sink.output);
        if head.status == 100 {
            sink.conn.wants_continue = false;
        }
        Ok(Step::Moved)
    }

    fn switch(&mut self, head: &ResponseHead, bytes: &[u8], sink: &mut ResponseSink) -> Result<Step, Failure> {
        let mut chosen = head.values(bytes, Name::Upgrade).flat_map(list::elements);
        let asked = self.upgrade.as_deref().unwrap_or_default();
        let is_asked = |protocol: &[u8]| list::elements(asked).any(|one| one.eq_ignore_ascii_case(protocol));
        if !chosen.next().is_some_and(is_asked) || chosen.next().is_some() {
            return Err(Failure::bad_gateway("switched to a protocol that nobody asked for"));
        }
        fields::write_switch(head, bytes, sink.output);
        sink.conn.status = 101;
        sink.conn.persist = false;
        sink.conn.reading = Reading::Closed;
        sink.conn.writing = Writing::Body(Encoder::UntilClose);
        Ok(Step::Tunnel)
    }

    fn answer(&mut self, head: &ResponseHead, bytes: &[u8], sink: &mut ResponseSink) -> Result<Step, Failure> {
        let content = ResponseContent::of(head, bytes, self.is_head)
            .map_err(|violation| Failure::bad_gateway(format!("framed its answer badly: {}", fault(violation))))?;
        let start = content.check_start(&bytes[head.len..]);
        start.map_err(|violation| Failure::bad_gateway(broke_the_framing(violation)))?;
        self.persists = client::persists(head, bytes);
        fields::relay(head, bytes, &content, self.rewriting.as_ref(), sink);
        self.state = State::Content(content);
        Ok(Step::Moved)
    }
}
