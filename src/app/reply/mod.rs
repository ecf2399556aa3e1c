//! Responses that are complete at once: they wait neither for content nor for an upstream.

pub mod coding;
pub mod cors;
pub mod file;
pub mod page;
pub mod refusal;
pub mod text;
pub mod timed;
