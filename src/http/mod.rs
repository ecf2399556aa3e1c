//! The words of HTTP/1.1: bytes in, values out. No i/o, no state that outlives a message, no clock.

pub mod accept;
pub mod chars;
pub mod chunked;
pub mod conditional;
pub mod cookie;
pub mod date;
pub mod escape;
pub mod etag;
pub mod field;
pub mod forwarded;
pub mod framing;
pub mod head;
pub mod list;
pub mod method;
pub mod number;
pub mod range;
pub mod request;
pub mod response;
pub mod rest;
pub mod spelling;
pub mod status;
pub mod target;
pub mod vary;
pub mod violation;
