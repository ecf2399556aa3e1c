//! One client's position in a listing, and the coder if the content is compressed.

use super::render::{Cursor, ListingFormat};
use super::shared::Listing;
use crate::app::compress::Coder;
use crate::cost;
use std::io;
use std::sync::Arc;

/// Bytes that are compressed in one go.
const FED: usize = 8 * 1024;

#[derive(Debug)]
pub struct Pages {
    listing: Arc<Listing>,
    form: ListingFormat,
    place: Cursor,
    coded: Option<Coded>,
}

#[derive(Debug)]
struct Coded {
    coder: Coder,
    /// A piece of the page, and how many bytes of it the coder has taken.
    piece: Vec<u8>,
    fed: usize,
    finished: bool,
}

impl Pages {
    /// The content of a finished listing, from its beginning.
    pub fn new(listing: Arc<Listing>, form: ListingFormat, coder: Option<Coder>) -> Pages {
        let coded = coder.map(|coder| Coded { coder, piece: Vec::new(), fed: 0, finished: false });
        Pages { listing, form, place: Cursor::default(), coded }
    }

    /// Appends the next bytes to `out` (sometimes none), and returns the cost; `None` at the end.
    pub fn pull(&mut self, out: &mut Vec<u8>) -> io::Result<Option<usize>> {
        let Pages { listing, form, place, coded } = self;
        let Some(coded) = coded else { return listing.pull(*form, place, out) };
        let Coded { coder, piece, fed, finished } = coded;
        if *finished {
            return Ok(None);
        }
        let mut cost = 0;
        // The coder takes much input before it gives output: continue until it does, or the slice is used up.
        while coder.output().is_empty() && cost < cost::ADVANCE / 4 {
            if *fed == piece.len() {
                piece.clear();
                *fed = 0;
                match listing.pull(*form, place, piece)? {
                    Some(of_piece) => cost += of_piece,
                    None => {
                        coder.finish()?;
                        *finished = true;
                        break;
                    }
                }
            }
            let end = piece.len().min(*fed + FED);
            coder.write(&piece[*fed..end])?;
            cost += cost::COMPRESSED_BYTE * (end - *fed);
            *fed = end;
        }
        out.append(coder.output());
        Ok(Some(cost))
    }
}
