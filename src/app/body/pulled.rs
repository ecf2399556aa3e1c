//! What a source of content says of a piece.

/// Bytes that are copied for one pull.
pub const SLICE: usize = 32 * 1024;

/// What a pull found.
#[derive(Debug, PartialEq, Eq)]
pub enum Pulled {
    /// Content was written; `cost` in bytes of the loop's budget.
    Some {
        cost: usize,
    },
    /// The next piece goes out from where it lies, a file or memory, and not through here.
    InPlace,
    End,
}
