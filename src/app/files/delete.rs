//! Removing a file of the store.

use crate::app::files::lookup::{Refused, Root};
use rustix::fs::{AtFlags, FileType};
use std::os::fd::OwnedFd;

/// What a path leads to, before it is removed.
#[derive(Debug)]
pub enum Standing {
    File,
    Directory,
}

/// What DELETE would remove. The path resolves as it does for GET.
pub fn look(root: &Root, path: &[u8]) -> Result<Standing, Refused> {
    let (kind, _) = root.status(path, &mut 0)?;
    Ok(if kind == FileType::Directory { Standing::Directory } else { Standing::File })
}

/// Removes the name from its directory. If it is a symbolic link, the link is removed and not its target. A client that
/// is receiving the file gets the rest of it.
pub fn remove(dir: OwnedFd, name: &[u8]) -> Result<(), Refused> {
    Ok(rustix::fs::unlinkat(dir, name, AtFlags::empty())?)
}
