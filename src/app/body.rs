//! The content of a response that does not fit in the output buffer at once: pulled piece by piece while
//! the client takes it. The only user of flate2.

use crate::app::debug::delay::Drip;
use crate::app::debug::stream::{Lines, Noise};
use crate::app::files::cache::{Content, Stored};
use crate::app::files::listing::pages::Pages;
use crate::app::spool::Spool;
use crate::cost;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;

/// Bytes that are read from a source for one pull. Compressing these takes about half a millisecond,
/// which is as long as one connection may hold up the others.
pub const SLICE: usize = 32 * 1024;
/// Compressed content is kept of files up to here.
const KEPT: u64 = 4 * 1024 * 1024;
/// flate2's default. Level 9 gains a percent for twice the time.
const LEVEL: Compression = Compression::new(6);

/// Where the rest of a response's content comes from.
#[derive(Debug)]
pub enum Body {
    /// A range of a file, sent by sendfile.
    File(FileRange),
    /// A range of what is in memory.
    Shared {
        bytes: Arc<[u8]>,
        at: usize,
        end: usize,
    },
    /// What was compressed earlier, in chunks as when it was made.
    Made {
        bytes: Arc<[u8]>,
        at: usize,
    },
    /// Bytes and file ranges in turn: the parts of multipart/byteranges.
    Pieces {
        file: Option<Arc<File>>,
        pieces: VecDeque<Piece>,
    },
    /// Compressed while it is sent.
    Coded(Box<Coded>),
    /// Pieces that each have their time.
    Drip(Drip),
    Noise(Noise),
    Lines(Lines),
    /// What an upstream has said and the client has yet to take.
    Spool(Box<Spool>),
    /// The names of a directory.
    Listing(Box<Pages>),
}

#[derive(Debug)]
pub struct FileRange {
    pub file: Arc<File>,
    pub at: u64,
    pub end: u64,
}

#[derive(Debug)]
pub enum Piece {
    Bytes(Vec<u8>),
    Range { at: u64, end: u64 },
}

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

impl Body {
    /// Writes the next piece of content to `out`. A piece that has a time is pulled only when it is due.
    pub fn pull(&mut self, out: &mut Vec<u8>) -> io::Result<Pulled> {
        match self {
            Body::File(range) if range.at < range.end => Ok(Pulled::InPlace),
            Body::File(_) => Ok(Pulled::End),
            Body::Pieces { pieces, .. } => loop {
                match pieces.front() {
                    None => return Ok(Pulled::End),
                    Some(Piece::Range { at, end }) if at < end => return Ok(Pulled::InPlace),
                    Some(Piece::Range { .. }) => drop(pieces.pop_front()),
                    Some(Piece::Bytes(bytes)) => {
                        out.extend_from_slice(bytes);
                        let cost = bytes.len();
                        pieces.pop_front();
                        return Ok(Pulled::Some { cost });
                    }
                }
            },
            Body::Shared { at, end, .. } if *at < *end => Ok(Pulled::InPlace),
            Body::Shared { .. } => Ok(Pulled::End),
            Body::Made { bytes, at } => {
                let piece = &bytes[*at..bytes.len().min(*at + SLICE)];
                if piece.is_empty() {
                    return Ok(Pulled::End);
                }
                out.extend_from_slice(piece);
                *at += piece.len();
                Ok(Pulled::Some { cost: piece.len() })
            }
            Body::Coded(coded) => coded.pull(out),
            Body::Spool(spool) => match spool.pull(out)? {
                0 => Ok(Pulled::End),
                cost => Ok(Pulled::Some { cost }),
            },
            Body::Listing(pages) => Ok(pages.pull(out)?.map_or(Pulled::End, |cost| Pulled::Some { cost })),
            Body::Drip(drip) => Ok(drip.pull(out)),
            Body::Noise(noise) => Ok(noise.pull(out)),
            Body::Lines(lines) => Ok(lines.pull(out)),
        }
    }

    /// When the next piece may be pulled; `None` for at once.
    pub fn due(&self) -> Option<Instant> {
        match self {
            Body::Drip(drip) => drip.due(),
            _ => None,
        }
    }

    /// The file range that is to be sent next, if that is what comes next.
    pub fn file_range(&self) -> Option<(&File, u64, u64)> {
        match self {
            Body::File(range) if range.at < range.end => Some((&range.file, range.at, range.end - range.at)),
            Body::Pieces { file: Some(file), pieces } => match pieces.front() {
                Some(Piece::Range { at, end }) if at < end => Some((file, *at, end - at)),
                _ => None,
            },
            _ => None,
        }
    }

    /// The bytes in memory that are to be sent next, if that is what comes next.
    pub fn memory_range(&self) -> Option<&[u8]> {
        match self {
            Body::Shared { bytes, at, end } if at < end => Some(&bytes[*at..*end]),
            _ => None,
        }
    }

    /// Counts what went out in place.
    pub fn on_sent(&mut self, count: u64) {
        match self {
            Body::File(range) => range.at += count,
            // No more than the range goes out of it.
            Body::Shared { at, .. } => *at += count as usize,
            Body::Pieces { pieces, .. } => {
                if let Some(Piece::Range { at, .. }) = pieces.front_mut() {
                    *at += count;
                }
            }
            _ => {}
        }
    }
}

/// A content coding that can be made on the fly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compressor {
    Gzip,
    Deflate,
}

/// A compressor at work. What it has made is taken from `output`.
#[derive(Debug)]
pub enum Coder {
    Gzip(GzEncoder<Vec<u8>>),
    /// RFC 9110, section 8.4.1.2: "deflate" is the zlib format.
    Deflate(ZlibEncoder<Vec<u8>>),
}

impl Coder {
    pub fn new(compressor: Compressor) -> Coder {
        match compressor {
            Compressor::Gzip => Coder::Gzip(GzEncoder::new(Vec::new(), LEVEL)),
            Compressor::Deflate => Coder::Deflate(ZlibEncoder::new(Vec::new(), LEVEL)),
        }
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Coder::Gzip(coder) => coder.write_all(bytes),
            Coder::Deflate(coder) => coder.write_all(bytes),
        }
    }

    pub fn finish(&mut self) -> io::Result<()> {
        match self {
            Coder::Gzip(coder) => coder.try_finish(),
            Coder::Deflate(coder) => coder.try_finish(),
        }
    }

    pub fn output(&mut self) -> &mut Vec<u8> {
        match self {
            Coder::Gzip(coder) => coder.get_mut(),
            Coder::Deflate(coder) => coder.get_mut(),
        }
    }
}

/// Content that is compressed while it is sent, and kept for the next who wants it when it is not too much.
#[derive(Debug)]
pub struct Coded {
    stored: Arc<Stored>,
    at: u64,
    compressor: Compressor,
    coder: Coder,
    /// What has been made so far; `None` when it is not to be kept.
    made: Option<Vec<u8>>,
    finished: bool,
}

impl Coded {
    pub fn new(compressor: Compressor, stored: Arc<Stored>) -> Coded {
        let made = (stored.meta.size <= KEPT).then(Vec::new);
        Coded { stored, at: 0, compressor, coder: Coder::new(compressor), made, finished: false }
    }

    fn pull(&mut self, out: &mut Vec<u8>) -> io::Result<Pulled> {
        let mut cost = 0;
        // The coder keeps much before it gives something: go on until it does, or the slice is used up.
        while !self.finished && self.coder.output().is_empty() && cost < cost::ADVANCE {
            let want = (self.stored.meta.size - self.at).min(SLICE as u64) as usize;
            if want == 0 {
                self.coder.finish()?;
                self.finished = true;
                break;
            }
            let count = self.feed(want)?;
            self.at += count as u64;
            cost += cost::COMPRESSED_BYTE * count;
        }
        let output = self.coder.output();
        if output.is_empty() && self.finished {
            if let Some(made) = self.made.take() {
                self.stored.keep_variant(self.compressor, made.into());
            }
            return Ok(Pulled::End);
        }
        if let Some(made) = &mut self.made {
            made.extend_from_slice(output);
        }
        out.append(output);
        Ok(Pulled::Some { cost })
    }

    /// Gives the coder up to `want` of the bytes that come next.
    fn feed(&mut self, want: usize) -> io::Result<usize> {
        match &self.stored.content {
            Content::Memory(bytes) => {
                let at = self.at as usize;
                self.coder.write(&bytes[at..at + want])?;
                Ok(want)
            }
            Content::Copy(file) | Content::Open(file) => {
                let mut slice = vec![0; want];
                let count = file.read_at(&mut slice, self.at)?;
                if count == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.coder.write(&slice[..count])?;
                Ok(count)
            }
        }
    }
}

/// Compresses small content at once.
pub fn compress(compressor: Compressor, content: &[u8]) -> io::Result<Vec<u8>> {
    let mut coder = Coder::new(compressor);
    coder.write(content)?;
    coder.finish()?;
    Ok(std::mem::take(coder.output()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn small_content_is_compressed_at_once() {
        let content = b"hello hello hello";
        let mut gzip = Vec::new();
        let coded = compress(Compressor::Gzip, content).unwrap();
        flate2::read::GzDecoder::new(&coded[..]).read_to_end(&mut gzip).unwrap();
        assert_eq!(gzip, content);
        let mut deflate = Vec::new();
        let coded = compress(Compressor::Deflate, content).unwrap();
        flate2::read::ZlibDecoder::new(&coded[..]).read_to_end(&mut deflate).unwrap();
        assert_eq!(deflate, content);
    }

    #[test]
    fn pieces_come_in_their_order() {
        let file = Arc::new(File::open("/dev/null").unwrap());
        let pieces = [Piece::Bytes(b"a".to_vec()), Piece::Range { at: 3, end: 5 }, Piece::Bytes(b"b".to_vec())];
        let mut body = Body::Pieces { file: Some(file), pieces: pieces.into() };
        let mut out = Vec::new();
        assert_eq!(body.pull(&mut out).unwrap(), Pulled::Some { cost: 1 });
        assert_eq!(body.pull(&mut out).unwrap(), Pulled::InPlace);
        assert_eq!(body.file_range().map(|(_, at, len)| (at, len)), Some((3, 2)));
        body.on_sent(2);
        assert!(body.file_range().is_none());
        assert_eq!(body.pull(&mut out).unwrap(), Pulled::Some { cost: 1 });
        assert_eq!(body.pull(&mut out).unwrap(), Pulled::End);
        assert_eq!(out, b"ab");
    }
}
