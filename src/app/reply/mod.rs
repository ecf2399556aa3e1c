//! Whole answers that wait for nothing.

pub mod coding;
pub mod cors;
pub mod file;
pub mod page;
pub mod refusal;
pub mod text;
pub mod timed;
