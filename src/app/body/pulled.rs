//! The result of pulling a piece of content from its source.

/// Most bytes that one pull copies.
pub const SLICE: usize = 32 * 1024;

/// The result of one pull.
#[derive(Debug, PartialEq, Eq)]
pub enum Pulled {
    /// Content was written. `cost` is in the units of `cost`.
    Some {
        cost: usize,
    },
    /// The next piece is sent straight from its file or memory: see `Body::file_range` and `Body::memory_range`.
    InPlace,
    End,
}
