//! dustdevil: a lightweight HTTP/1.1 server. The default engine is one thread with one mio `Poll`, and one state
//! machine per connection.
//!
//! **In one line:** engines wait, the driver does i/o, the session decides, handlers return values, `http` parses.
//! Calls go down, values come up.
//!
//! | module | what it does |
//! |---|---|
//! | [`engine`], [`listener`] | Sockets, readiness, threads and time: how to wait. It knows nothing of HTTP. |
//! | [`driver`] | Turns an `Op` into a system call. |
//! | [`session`] | One client: protocol state and exchange. No socket, no clock. |
//! | [`app`] | Routes, files, uploads, upstreams and logs: what a request means. |
//! | [`proto`] | Framing: where a message begins and ends. |
//! | [`wsgi`] | Python applications: their processes, and the frames to them. |
//! | [`http`] | The syntax and semantics of RFC 9110 and 9112: bytes in, values out. |
//! | [`config`], `environment`, [`units`] | The settings that the user chooses. |
//! | [`cost`] | The cost of work, for the budget of a turn. |
//! | [`descriptors`] | Whether a request has found no descriptor left. |
//! | [`start_error`] | Errors at start. |
//! | [`poll`], [`sync`] | poll(2), and locks that ignore poisoning. |
#![forbid(unsafe_code)]

pub mod app;
pub mod config;
pub mod cost;
pub mod descriptors;
pub mod driver;
pub mod engine;
mod environment;
pub mod http;
pub mod listener;
pub mod poll;
pub mod proto;
pub mod session;
pub mod start_error;
pub mod sync;
pub mod units;
pub mod wsgi;
