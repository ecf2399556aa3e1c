//! What the server tells of the requests that it has answered.

pub mod access_log;
pub mod sink;
