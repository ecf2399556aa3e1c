//! What answers a route.

pub mod debug;
pub mod echo;
pub mod index;
pub mod proxy;
pub mod python;
pub mod site;
pub mod store;
pub mod trace;
pub mod user_agent;
