//! Sockets to upstreams: opening them, the calls on them, and keeping them for the next exchange.
//!
//! The event engine has all of them in `links`. The threaded engines share the idle ones in `shared_pool`.
//! On every engine, a separate thread looks up the names of upstreams (`lookups`).

pub mod links;
pub mod lookups;
pub mod pool;
pub mod shared_pool;
pub mod socket;
