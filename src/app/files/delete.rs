//! Removing a file of the store.

use crate::app::files::lookup::{Refused, Root};
use rustix::fs::{AtFlags, FileType};
use std::os::fd::OwnedFd;

/// What stands at a path, before it is removed.
#[derive(Debug)]
pub enum Standing {
    File,
    Directory,
}

/// What DELETE would remove: what GET would find.
pub fn look(root: &Root, path: &[u8]) -> Result<Standing, Refused> {
    let (kind, _) = root.status(path, &mut 0)?;
    Ok(if kind == FileType::Directory { Standing::Directory } else { Standing::File })
}

/// Removes the name from its directory; a symbolic link, not what it leads to. Who is reading the file reads
/// on to its end.
pub fn remove(dir: OwnedFd, name: &[u8]) -> Result<(), Refused> {
    Ok(rustix::fs::unlinkat(dir, name, AtFlags::empty())?)
}
