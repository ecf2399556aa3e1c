//! The content of a response that does not fit in the output buffer at once: pulled piece by piece while
//! the client takes it.

pub mod buffered;
pub mod coded;
pub mod drip;
pub mod made;
pub mod pulled;
pub mod shown;
pub mod spool;
pub mod temporary;

use crate::app::body::buffered::Returned;
use crate::app::body::coded::Coded;
use crate::app::body::drip::Drip;
use crate::app::body::made::{Lines, Noise};
use crate::app::body::pulled::{Pulled, SLICE};
use crate::app::body::shown::Shown;
use crate::app::body::spool::Spool;
use crate::app::files::content::Content;
use crate::app::files::listing::pages::Pages;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// What a response leaves to be done once its head is written.
#[derive(Debug)]
pub enum Reply {
    /// Nothing: the response is written.
    Done,
    /// Its content is pulled from here.
    Stream(Body),
}

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
    /// Bytes and ranges of a content in turn: the parts of multipart/byteranges.
    Pieces {
        content: Box<Content>,
        pieces: VecDeque<Piece>,
    },
    /// Compressed while it is sent.
    Coded(Box<Coded>),
    /// Pieces that each have their time.
    Drip(Drip),
    Noise(Noise),
    Lines(Lines),
    /// A request's content, on its way back.
    Returned(Box<Returned>),
    /// A request as JSON.
    Shown(Box<Shown>),
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

impl Body {
    /// Writes the next piece of content to `out`. A piece that has a time is pulled only when it is due.
    pub fn pull(&mut self, out: &mut Vec<u8>) -> io::Result<Pulled> {
        match self {
            Body::File(range) if range.at < range.end => Ok(Pulled::InPlace),
            Body::File(_) => Ok(Pulled::End),
            Body::Pieces { content, pieces } => loop {
                match pieces.front_mut() {
                    None => return Ok(Pulled::End),
                    Some(Piece::Range { at, end }) if *at < *end && content.file().is_some() => {
                        return Ok(Pulled::InPlace);
                    }
                    Some(Piece::Range { at, end }) if *at < *end => {
                        let want = (*end - *at).min(SLICE as u64) as usize;
                        content.read(*at, want, |piece| {
                            out.extend_from_slice(piece);
                            Ok(())
                        })?;
                        *at += want as u64;
                        return Ok(Pulled::Some { cost: want });
                    }
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
            Body::Returned(returned) => returned.pull(out),
            Body::Shown(shown) => shown.pull(out),
        }
    }

    /// When the next piece may be pulled; `None` for at once.
    #[inline]
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
            Body::Pieces { content, pieces } => match pieces.front() {
                Some(Piece::Range { at, end }) if at < end => Some((content.file()?, *at, end - at)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_in_their_order() {
        let file = Content::Open(Arc::new(File::open("/dev/null").unwrap()));
        for content in [file, Content::Memory(b"0123456789"[..].into())] {
            let is_file = content.file().is_some();
            let pieces = [Piece::Bytes(b"a".to_vec()), Piece::Range { at: 3, end: 5 }, Piece::Bytes(b"b".to_vec())];
            let mut body = Body::Pieces { content: Box::new(content), pieces: pieces.into() };
            let mut out = Vec::new();
            assert_eq!(body.pull(&mut out).unwrap(), Pulled::Some { cost: 1 });
            if is_file {
                assert_eq!(body.pull(&mut out).unwrap(), Pulled::InPlace);
                assert_eq!(body.file_range().map(|(_, at, len)| (at, len)), Some((3, 2)));
                body.on_sent(2);
            } else {
                assert!(body.file_range().is_none());
                assert_eq!(body.pull(&mut out).unwrap(), Pulled::Some { cost: 2 });
            }
            assert!(body.file_range().is_none());
            assert_eq!(body.pull(&mut out).unwrap(), Pulled::Some { cost: 1 });
            assert_eq!(body.pull(&mut out).unwrap(), Pulled::End);
            assert_eq!(out, if is_file { &b"ab"[..] } else { b"a34b" });
        }
    }
}
