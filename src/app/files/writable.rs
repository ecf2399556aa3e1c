//! A directory that requests may change: its root, and the lock under which each change is made.

use crate::app::files::lock::Lock;
use crate::app::files::root_path::RootPath;

#[derive(Debug)]
pub struct Writable {
    pub root: RootPath,
    pub lock: Lock,
}

impl Writable {
    pub fn new(root: RootPath) -> Writable {
        Writable { root, lock: Lock::default() }
    }
}
