//! Sockets to upstreams: opening them, the calls on them, and keeping them for the next exchange.
//!
//! The event engine has all of them in `links`. The threaded engines share the idle ones in `shared_pool`.
//! Names of upstreams are looked up by a thread of their own, on every engine (`lookups`).

pub mod links;
pub mod lookups;
pub mod pool;
pub mod shared_pool;
pub mod socket;
