//! The protocol as a machine: pure state over buffers. Time comes in as an argument, bytes go out as bytes.

pub mod buffer;
pub mod client;
pub mod conn;
pub mod error;
pub mod responder;
pub mod transfer;
