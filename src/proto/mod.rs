//! HTTP/1.1 as state machines over buffers: no sockets and no clock.

pub mod buffer;
pub mod client;
pub mod conn;
pub mod error;
pub mod responder;
pub mod transfer;
