//! A directory that requests may change: its root, and the lock under which each change is made.

use crate::app::files::lock::Lock;
use crate::app::files::lookup::Root;

#[derive(Debug)]
pub struct Writable {
    pub root: Root,
    pub lock: Lock,
}

impl Writable {
    pub fn new(root: Root) -> Writable {
        Writable { root, lock: Lock::default() }
    }
}
