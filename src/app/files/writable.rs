//! A directory that requests may change: its root, and the lock under which each change is made.

use crate::app::files::lock::Lock;
use crate::app::files::lookup::Root;
use std::sync::Arc;

#[derive(Debug)]
pub struct Writable {
    pub root: Arc<Root>,
    pub lock: Lock,
}

impl Writable {
    pub fn new(root: Root) -> Writable {
        Writable { root: Arc::new(root), lock: Lock::default() }
    }
}
