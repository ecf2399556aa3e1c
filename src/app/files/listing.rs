//! A directory as an HTML page, or as JSON for programs: read and sorted in steps, sent in pieces, and shared by the
//! requests that come within a second of each other.
//!
//! | file | what it knows |
//! |---|---|
//! | [`entries`] | names and the facts shown about them, in little memory |
//! | [`scan`] | from an open directory to sorted entries, in steps |
//! | [`render`] | from sorted entries to HTML or JSON, in pieces |
//! | [`shared`] | a listing that several requests use, and how much memory all of them take |
//! | [`shelf`] | which listing of a directory a request may share |
//! | [`pages`] | one client's way through a listing, compressed if it must be |
//!
//! A listing shows what the resolver would serve and nothing else: regular files, directories, and links that lead to
//! these by the root's rules. The caller must see to it that the page's path ends in a slash (otherwise every relative
//! link would be wrong), and write the header fields. Its one rule: **no step costs more than `cost::ADVANCE`**,
//! however many entries there are and however long their names.

pub mod entries;
pub mod pages;
pub mod render;
pub mod scan;
pub mod shared;
pub mod shelf;

#[cfg(test)]
mod tests;
