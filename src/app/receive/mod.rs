//! What a response waits for: the request's content, a time, or work that is done in steps.

pub mod change;
pub mod delay;
pub mod gather;
pub mod prepare;
