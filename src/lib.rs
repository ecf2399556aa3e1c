//! dustdevil: a lightweight HTTP/1.1 server. One thread, one mio Poll, a state machine a connection.
//!
//! **In one line:** engines wait, the driver does i/o, the session decides, handlers answer with values,
//! `http` knows words. Calls go down, values come up.
//!
//! | module | what it knows |
//! |---|---|
//! | [`engine`], [`listener`] | sockets, readiness, threads, time: how to wait. Nothing of HTTP. |
//! | [`driver`] | turns an `Op` into a system call. |
//! | [`session`] | one client: protocol and exchange. No socket, no clock. |
//! | [`app`] | routes, files, uploads, upstreams, logs: what a request means. |
//! | [`proto`] | framing: where a message begins and ends. |
//! | [`wsgi`] | Python applications: their processes and the frames to them. |
//! | [`http`] | the words of RFC 9110 and 9112: bytes in, values out. |
//! | [`config`], `environment`, [`units`] | what the user decides. |
//! | [`cost`] | what work costs, for the budget of a turn. |
//! | [`start_error`] | why the server does not start. |
//! | [`poll`], [`sync`] | poll(2), and locks without poisoning. |
#![forbid(unsafe_code)]

pub mod app;
pub mod config;
pub mod cost;
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
