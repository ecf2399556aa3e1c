//! How content of known length, or in chunks, is framed (RFC 9112, sections 6 and 7): the same for `conn`, the server's
//! side of a connection, and `client`, the other side.

use crate::http::chunked::{self, ChunkedDecoder, Decoded};
use crate::http::violation::Violation;
use crate::proto::buffer::Buffer;

/// Finds the end of content that is received.
#[derive(Debug)]
pub enum Decoder {
    /// Bytes still to come.
    Length(u64),
    Chunked(ChunkedDecoder),
}

impl Decoder {
    /// Decodes the next piece.
    pub fn decode(&mut self, input: &[u8]) -> Result<Decoded, Violation> {
        match self {
            Decoder::Length(left) => {
                let len = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= len as u64;
                Ok(Decoded { consumed: len, data: 0..len, end: *left == 0 })
            }
            Decoder::Chunked(chunked) => chunked.decode(input),
        }
    }

    /// Bytes of content that are announced and still to come: of all of it, or of the present chunk.
    pub fn announced(&self) -> u64 {
        match self {
            Decoder::Length(left) => *left,
            Decoder::Chunked(chunked) => chunked.announced(),
        }
    }
}

/// Writes a chunk. Without data nothing is written: a chunk of size 0 would be the last.
pub fn push_chunk(data: &[u8], out: &mut Buffer) {
    if data.is_empty() {
        return;
    }
    let mut size = Vec::new();
    chunked::write_size(data.len(), &mut size);
    out.push(&size);
    out.push(data);
    out.push(chunked::CHUNK_END);
}
