//! The state of a file that a conditional change refers to: checked before the change begins, and again under the lock.

use crate::app::files::cache::Stored;
use crate::app::files::lookup::{Located, Meta, Refused, Root};
use crate::app::files::tags;
use crate::cost;
use crate::http::etag::ETag;
use std::sync::Arc;

#[derive(Clone, Copy, Debug)]
pub struct State {
    pub meta: Meta,
    /// Only if the tag was asked for and the file has one.
    pub etag: Option<ETag>,
    /// Whether equal times mean equal content.
    is_settled: bool,
}

impl State {
    /// Looks at the file that `path` leads to. A tag may need the file's content, so it is computed only if
    /// `is_tag_asked`. Adds the cost to `cost`.
    pub fn look(
        root: &Arc<Root>,
        path: &[u8],
        is_tag_asked: bool,
        now_unix: u64,
        cost: &mut usize,
    ) -> Result<State, Refused> {
        let state = |meta, etag| State { meta, etag, is_settled: tags::is_settled(&meta, now_unix) };
        if !is_tag_asked {
            *cost += cost::LOOKUP;
            return Ok(state(root.stat(path)?, None));
        }
        Ok(match root.find_at_cost(path, cost)? {
            Located::Directory { meta, .. } => state(meta, None),
            Located::File { file, meta } => {
                let stored = Stored::load(root, path, (file, meta), ("", None), now_unix);
                *cost += stored.load_cost();
                state(stored.meta, stored.etag)
            }
        })
    }

    /// Whether `path` still leads to the same file in the same state. If the file had only just changed, its times are
    /// not enough: then its content is hashed again.
    pub fn still_holds(&self, root: &Arc<Root>, path: &[u8], now_unix: u64, cost: &mut usize) -> bool {
        let has_to_tell = !self.is_settled && self.etag.is_some();
        State::look(root, path, has_to_tell, now_unix, cost)
            .is_ok_and(|now| now.meta == self.meta && (!has_to_tell || now.etag == self.etag))
    }
}
