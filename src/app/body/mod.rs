//! The content of a response that does not fit in the output buffer at once. It is pulled piece by piece while the
//! client takes it.

pub mod buffered;
pub mod coded;
pub mod drip;
pub mod made;
pub mod pulled;
pub mod shown;
pub mod spool;
pub mod temporary;

use crate::app::body::buffered::EchoedContent;
use crate::app::body::coded::Coded;
use crate::app::body::drip::Drip;
use crate::app::body::made::{JsonLines, Noise};
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

/// What is left to do after the head of a response was written.
#[derive(Debug)]
pub enum Reply {
    /// Nothing: the response is written.
    Done,
    /// The content is pulled from this body.
    Stream(Body),
}

/// Where the rest of a response's content comes from.
#[derive(Debug)]
pub enum Body {
    /// A range of a file, sent by sendfile.
    File(FileRange),
    /// A range of bytes in memory.
    Shared {
        bytes: Arc<[u8]>,
        at: usize,
        end: usize,
    },
    /// A compressed variant from the cache. It is sent in chunks, as it was when it was made.
    Made {
        bytes: Arc<[u8]>,
        at: usize,
    },
    /// The parts of multipart/byteranges: bytes (the head of a part) and ranges of one content, in turn.
    Pieces {
        content: Box<Content>,
        pieces: VecDeque<Segment>,
    },
    /// Compressed while it is sent.
    Coded(Box<Coded>),
    /// Pieces that are spread over a duration.
    Drip(Drip),
    Noise(Noise),
    JsonLines(JsonLines),
    /// A request's content, sent back.
    EchoedContent(Box<EchoedContent>),
    /// A request as JSON.
    Shown(Box<Shown>),
    /// Content that an upstream has sent and the client has not taken yet.
    Spool(Box<Spool>),
    /// The listing of a directory.
    Listing(Box<Pages>),
}

#[derive(Debug)]
pub struct FileRange {
    pub file: Arc<File>,
    pub at: u64,
    pub end: u64,
}

#[derive(Debug)]
pub enum Segment {
    Bytes(Vec<u8>),
    Range { at: u64, end: u64 },
}

impl Body {
    /// Writes the next piece of content to `out`. If `due` names a time, call this only then.
    pub fn pull(&mut self, out: &mut Vec<u8>) -> io::Result<Pulled> {
        match self {
            Body::File(range) if range.at < range.end => Ok(Pulled::InPlace),
            Body::File(_) => Ok(Pulled::End),
            Body::Pieces { content, pieces } => loop {
                match pieces.front_mut() {
                    None => return Ok(Pulled::End),
                    Some(Segment::Range { at, end }) if *at < *end && content.file().is_some() => {
                        return Ok(Pulled::InPlace);
                    }
                    Some(Segment::Range { at, end }) if *at < *end => {
                        let want = (*end - *at).min(SLICE as u64) as usize;
                        content.read(*at, want, |piece| {
                            out.extend_from_slice(piece);
                            Ok(())
                        })?;
                        *at += want as u64;
                        return Ok(Pulled::Some { cost: want });
                    }
                    Some(Segment::Range { .. }) => drop(pieces.pop_front()),
                    Some(Segment::Bytes(bytes)) => {
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
            Body::JsonLines(lines) => Ok(lines.pull(out)),
            Body::EchoedContent(returned) => returned.pull(out),
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

    /// The file, position and length to send next. `None` if the next piece is not in a file.
    pub fn file_range(&self) -> Option<(&File, u64, u64)> {
        match self {
            Body::File(range) if range.at < range.end => Some((&range.file, range.at, range.end - range.at)),
            Body::Pieces { content, pieces } => match pieces.front() {
                Some(Segment::Range { at, end }) if at < end => Some((content.file()?, *at, end - at)),
                _ => None,
            },
            _ => None,
        }
    }

    /// The bytes to send next straight from memory. `None` if the next piece comes from elsewhere.
    pub fn memory_range(&self) -> Option<&[u8]> {
        match self {
            Body::Shared { bytes, at, end } if at < end => Some(&bytes[*at..*end]),
            _ => None,
        }
    }

    /// Counts bytes that were sent from `file_range` or `memory_range`.
    pub fn on_sent(&mut self, count: u64) {
        match self {
            Body::File(range) => range.at += count,
            // The cast is safe: at most the range was sent, and it is in memory.
            Body::Shared { at, .. } => *at += count as usize,
            Body::Pieces { pieces, .. } => {
                if let Some(Segment::Range { at, .. }) = pieces.front_mut() {
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
            let pieces =
                [Segment::Bytes(b"a".to_vec()), Segment::Range { at: 3, end: 5 }, Segment::Bytes(b"b".to_vec())];
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
