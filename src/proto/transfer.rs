//! The framing of content by its length or in chunks (RFC 9112, sections 6 and 7). It is shared by `conn`, the server's
//! side of a connection, and `client`, the client's side.

use crate::http::chunked::{self, ChunkedDecoder, Decoded};
use crate::http::violation::Violation;
use crate::proto::buffer::Buffer;

/// Finds the end of received content.
#[derive(Debug)]
pub enum Decoder {
    /// Bytes still to come.
    Length(u64),
    Chunked(ChunkedDecoder),
}

impl Decoder {
    /// Decodes the next piece of content.
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

    /// Bytes that are announced and have not arrived: of the whole content, or of the current chunk.
    pub fn announced(&self) -> u64 {
        match self {
            Decoder::Length(left) => *left,
            Decoder::Chunked(chunked) => chunked.announced(),
        }
    }
}

/// Writes a chunk. If there is no data, nothing is written: a chunk of size 0 would end the content.
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
