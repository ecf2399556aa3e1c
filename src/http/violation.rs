//! The rules that a message can break: one value per rule, with its status and a sentence for the client.
//!
//! "Not enough bytes yet" is not here, because it is not an error.

use crate::http::status::Status;

/// The rule of RFC 9110 or 9112, or the limit of this server, that a request or an upstream's response broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    // Request line (RFC 9112, section 3)
    NotHttp,
    RequestLine,
    /// The method alone fills the limit of a head.
    MethodTooLong,
    /// In a response of an upstream.
    StatusLine,
    Version,
    MajorVersion,
    Target,
    TargetEscape,
    TargetNul,
    TargetFragment,
    TargetForm,
    TargetTooLong,
    Misdirected,
    // Lines and fields (RFC 9112, sections 2.2 and 5)
    BareLf,
    BareCr,
    SpaceBeforeFields,
    ObsFold,
    FieldName,
    SpaceBeforeColon,
    FieldValue,
    HeadTooLarge,
    TooManyFields,
    // Host (RFC 9112, section 3.2)
    HostMissing,
    HostTwice,
    HostInvalid,
    // Framing (RFC 9112, section 6)
    LengthInvalid,
    LengthTwice,
    LengthWithCoding,
    CodingUnknown,
    CodingNotLast,
    CodingInOldVersion,
    BodyTooLarge,
    // Chunked (RFC 9112, section 7.1)
    ChunkSize,
    ChunkExtension,
    ChunkExtensionTooLong,
    ChunkEnd,
    Trailer,
    TrailerTooLarge,
    // Expect (RFC 9110, section 10.1.1)
    Expectation,
    /// The sender closed the connection in the middle of the message.
    Truncated,
    // Timeouts
    HeadTooSlow,
    BodyTooSlow,
}

impl Violation {
    /// The status to answer a request with.
    pub fn status(self) -> Status {
        use Violation::*;
        Status(match self {
            MajorVersion => 505,
            TargetTooLong => 414,
            Misdirected => 421,
            HeadTooLarge | TooManyFields | TrailerTooLarge => 431,
            MethodTooLong | CodingUnknown => 501,
            BodyTooLarge => 413,
            Expectation => 417,
            HeadTooSlow | BodyTooSlow => 408,
            _ => 400,
        })
    }

    /// One sentence that names the rule. It never holds a byte of the request.
    pub fn sentence(self) -> &'static str {
        use Violation::*;
        match self {
            NotHttp => "These bytes do not begin like an HTTP request.",
            RequestLine => "A request line is a method, one space, a target, one space and the HTTP version.",
            MethodTooLong => "This server does not know the request's method.",
            StatusLine => "A status line is the HTTP version, one space and a status of three digits.",
            Version => "The request line must end in an HTTP version such as HTTP/1.1.",
            MajorVersion => "This server speaks HTTP/1.1 and HTTP/1.0.",
            Target => "The request target holds a byte that a URI cannot hold; percent-encode it.",
            TargetEscape => "A percent sign in the request target must be followed by two hexadecimal digits.",
            TargetNul => "The request target must not hold an encoded NUL.",
            TargetFragment => "A request target must not have a fragment.",
            TargetForm => "The form of the request target does not fit the method.",
            Misdirected => "An https resource is not available over a connection without TLS.",
            TargetTooLong => "The request target is longer than this server reads.",
            BareLf => "Lines end in CRLF; a lone LF is not accepted.",
            BareCr => "A CR must be followed by LF.",
            SpaceBeforeFields => "The first header field must not begin with white space.",
            ObsFold => "Folded header fields are obsolete and not accepted.",
            FieldName => "A header field has no valid name.",
            SpaceBeforeColon => "There must be no white space between a field name and its colon.",
            FieldValue => "A header field value holds a control byte.",
            HeadTooLarge => "The request's header section is larger than this server reads.",
            TooManyFields => "The request has more header fields than this server reads.",
            HostMissing => "An HTTP/1.1 request must have a Host field.",
            HostTwice => "A request must have one Host field only.",
            HostInvalid => "The Host field must be a host name or address, with an optional port.",
            LengthInvalid => "Content-Length must be a decimal number of bytes.",
            LengthTwice => "A request must have one Content-Length only.",
            LengthWithCoding => "Content-Length and Transfer-Encoding must not be used together.",
            CodingUnknown => "The only transfer coding this server knows is chunked.",
            CodingNotLast => "The transfer coding chunked must be named once and last.",
            CodingInOldVersion => "Transfer-Encoding needs HTTP/1.1.",
            BodyTooLarge => "The request's content is larger than this server accepts.",
            ChunkSize => "A chunk must begin with its size in hexadecimal digits.",
            ChunkExtension => "A chunk extension is malformed.",
            ChunkExtensionTooLong => "A chunk's size line is longer than this server reads.",
            ChunkEnd => "A chunk must end in CRLF after the number of bytes that its size line announces.",
            Trailer => "A trailer field is malformed.",
            TrailerTooLarge => "The trailer section is larger than this server reads.",
            Expectation => "The only expectation this server meets is 100-continue.",
            Truncated => "The request ended before it was complete.",
            HeadTooSlow => "The request did not arrive in time.",
            BodyTooSlow => "The request's content stopped arriving.",
        }
    }
}
