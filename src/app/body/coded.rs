//! A file that is compressed while it is sent.

use crate::app::body::pulled::Pulled;
use crate::app::compress::{Coder, Coders, Compressor};
use crate::app::files::cache::Stored;
use crate::app::files::variant::{Compressing, Joined};
use std::io;
use std::sync::Arc;

/// Content that is compressed while it is sent. If the result is kept in the cache, all clients share one compression;
/// otherwise each client has its own.
#[derive(Debug)]
pub struct Coded {
    stored: Arc<Stored>,
    compressor: Compressor,
    source: CoderSource,
}

#[derive(Debug)]
enum CoderSource {
    /// The variant that all clients share. This client has taken its first `at` bytes.
    Shared {
        at: usize,
        coders: Arc<Coders>,
    },
    Own(Box<Compressing>),
}

impl Coded {
    /// `None` if all coders are in use.
    pub fn new(compressor: Compressor, stored: Arc<Stored>, coders: &Arc<Coders>) -> Option<Coded> {
        let begin = || Some(Compressing::new(Coder::new(compressor, coders.permit()?), stored.meta.size));
        let source = match stored.join(compressor, begin) {
            Joined::Shared => CoderSource::Shared { at: 0, coders: Arc::clone(coders) },
            Joined::Alone => CoderSource::Own(Box::new(begin()?)),
            Joined::Busy => return None,
        };
        Some(Coded { stored, compressor, source })
    }

    pub fn pull(&mut self, out: &mut Vec<u8>) -> io::Result<Pulled> {
        let before = out.len();
        let (cost, complete) = match &mut self.source {
            CoderSource::Shared { at, .. } => self.stored.pull(self.compressor, at, out)?,
            CoderSource::Own(compressing) => {
                let cost = compressing.step(&self.stored.content)?;
                out.append(compressing.output());
                (cost, compressing.is_finished())
            }
        };
        Ok(if complete && out.len() == before { Pulled::End } else { Pulled::Some { cost } })
    }
}

impl Drop for Coded {
    fn drop(&mut self) {
        if let CoderSource::Shared { coders, .. } = &self.source {
            self.stored.leave(self.compressor, !coders.are_scarce());
        }
    }
}
