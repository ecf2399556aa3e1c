//! The entity tag of a file, by the rule of `--etag`.
//!
//! With `inode` **the tag changes whenever the content may have changed**. It is made of device, inode, ctime and size,
//! and of a hash of the content if the file is small enough to be read whole:
//! - ctime and not mtime: programs set mtime as they like (npm, rsync, tar, touch), and no program can set ctime. It
//!   also tells apart two files that had the same inode one after the other: a new file's ctime is no older than the
//!   file. So the birth time is not needed.
//! - The hash, because times alone do not tell for a file that has just changed: the kernel sets the new time before it
//!   writes the bytes, and before Linux 6.13 two changes within one tick (1 to 4 ms) leave the same time.
//! - A large file is not hashed. It gets a tag once its ctime is older than `SETTLED`, or at once if every change is
//!   certain to give another ctime than the one that was read (`Kind::Multigrain`). Until then it has no tag.
//!
//! A new mode, owner or number of links changes the tag of unchanged content, which costs one transfer.
//!
//! With `content` equal files have equal tags on all servers: size and hash. A large file has a weak tag of mtime and
//! size: weak, so that a client never combines parts of two files. With `mtime-size` the tag is like the one of other
//! servers.

use crate::app::files::content::WHOLE;
use crate::app::files::file_system::Kind;
use crate::app::files::lookup::Meta;
use crate::config::site::EtagRule;
use crate::http::etag::ETag;

/// How many seconds a file must be unchanged before its times can be trusted. On FAT times tick every two seconds.
pub const SETTLED: i64 = 2;

/// Odd numbers without a pattern: the fractions of the square roots of 2, 3, 5 and 7.
const KEYS: [u64; 4] = [0x6a09_e667_f3bc_c909, 0xbb67_ae85_84ca_a73b, 0x3c6e_f372_fe94_f82b, 0xa54f_f53a_5f1d_36f1];

/// The tag of a file, if it has one. `content`: its hash, if it was read whole. `tells`: the result of `tells`.
pub fn tag(rule: EtagRule, meta: &Meta, content: Option<u64>, tells: bool) -> Option<ETag> {
    let size = meta.size;
    let modified = [meta.mtime.0.cast_unsigned(), u64::from(meta.mtime.1), size];
    match (rule, content) {
        (EtagRule::MtimeSize, _) => Some(ETag::strong(&modified)),
        (EtagRule::Inode, Some(content)) => Some(ETag::strong(&[size, fold(identity(meta) | 1, content) ^ content])),
        (EtagRule::Content, Some(content)) => Some(ETag::strong(&[size, content])),
        // A small file that could not be read whole is being written to.
        (_, None) if size <= WHOLE || !tells => None,
        (EtagRule::Inode, None) => Some(ETag::strong(&[size, identity(meta)])),
        (EtagRule::Content, None) => Some(ETag::weak(&modified)),
    }
}

/// Whether the next change of a file is certain to leave another ctime.
pub fn tells(meta: &Meta, kind: Kind, now_unix: u64) -> bool {
    kind == Kind::Multigrain || is_settled(meta, now_unix)
}

/// Whether a file has been unchanged for long enough that its next change shows in its times.
pub fn is_settled(meta: &Meta, now_unix: u64) -> bool {
    meta.ctime.0.saturating_add(SETTLED) < i64::try_from(now_unix).unwrap_or(i64::MAX)
}

/// A hash of device, inode, ctime and size.
fn identity(meta: &Meta) -> u64 {
    let numbers = [meta.dev, meta.ino, meta.ctime.0.cast_unsigned(), u64::from(meta.ctime.1)];
    let numbers = numbers.map(u64::to_le_bytes);
    hash(meta.size, numbers.as_flattened())
}

/// The hash of a content.
pub fn hash_of(content: &[u8]) -> u64 {
    hash(0, content)
}

/// A hash of 64 bits, by multiplying and folding as wyhash does, 64 bytes a round. It takes a tenth of the time of
/// SipHash, and is the same on every machine. Two contents do not get the same hash by chance, but somebody can
/// construct them.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut lanes = KEYS.map(|key| seed ^ key);
    let (rounds, rest) = bytes.as_chunks();
    rounds.iter().for_each(|round| mix(&mut lanes, round));
    let mut last = [0; 64];
    last[..rest.len()].copy_from_slice(rest);
    mix(&mut lanes, &last);
    let [a, b, c, d] = lanes;
    let folded = fold(a ^ bytes.len() as u64, b.rotate_left(17)) ^ fold(c, d.rotate_left(41));
    fold(folded ^ KEYS[0], a ^ b ^ c ^ d ^ KEYS[1])
}

fn mix(lanes: &mut [u64; 4], round: &[u8; 64]) {
    let words = round.as_chunks().0;
    for (at, lane) in lanes.iter_mut().enumerate() {
        let (first, second) = (u64::from_le_bytes(words[2 * at]), u64::from_le_bytes(words[2 * at + 1]));
        // If the product is 0, the lane must still depend on the rounds before.
        *lane = fold(first ^ KEYS[at], second ^ *lane) ^ lane.rotate_left(29) ^ first;
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const LARGE: u64 = WHOLE + 1;

    fn meta(size: u64) -> Meta {
        Meta { dev: 1, ino: 2, size, mtime: (499_162_500, 0), ctime: (1_700_000_000, 5) }
    }

    #[test]
    fn every_byte_and_the_length_count_in_the_hash() {
        let mut seen = HashSet::new();
        for length in 0..200 {
            let bytes = vec![0; length];
            assert!(seen.insert(hash(0, &bytes)) && seen.insert(hash(1, &bytes)), "{length} zeros");
            for bit in 0..length * 8 {
                let mut other = bytes.clone();
                other[bit / 8] ^= 1 << (bit % 8);
                assert!(seen.insert(hash(0, &other)), "bit {bit} of {length} bytes");
            }
        }
        // Words that make the product 0.
        let mut bytes = [7; 192];
        let before = hash(0, &bytes);
        for (lane, key) in KEYS.iter().enumerate() {
            bytes[64 + lane * 16..][..8].copy_from_slice(&key.to_le_bytes());
        }
        let after = hash(0, &bytes);
        bytes[0] ^= 1;
        assert!(before != after && after != hash(0, &bytes), "the rounds before still count");
    }

    #[test]
    fn a_change_of_ctime_inode_device_size_or_content_is_another_tag() {
        let base = meta(3);
        let others = [
            Meta { ctime: (base.ctime.0, 6), ..base },
            Meta { ctime: (base.ctime.0 + 1, 5), ..base },
            Meta { ino: 3, ..base },
            Meta { dev: 2, ..base },
        ];
        for tells in [false, true] {
            let small = |meta: &Meta, content: &[u8]| tag(EtagRule::Inode, meta, Some(hash_of(content)), tells);
            let large = |meta: &Meta| tag(EtagRule::Inode, &Meta { size: LARGE, ..*meta }, None, true);
            for other in &others {
                assert_ne!(small(&base, b"one"), small(other, b"one"), "{other:?}");
                assert_ne!(large(&base), large(other), "{other:?}");
            }
            assert_ne!(small(&base, b"one"), small(&base, b"two"), "within one tick");
            assert_ne!(large(&base), tag(EtagRule::Inode, &meta(LARGE + 1), None, true));
        }
    }

    #[test]
    fn a_file_whose_times_do_not_tell_yet_has_no_tag() {
        let (at, later) = (meta(LARGE).ctime.0.cast_unsigned(), meta(LARGE).ctime.0.cast_unsigned() + 3);
        assert!(!tells(&meta(LARGE), Kind::Coarse, at) && tells(&meta(LARGE), Kind::Coarse, later));
        assert!(tells(&meta(LARGE), Kind::Multigrain, at));
        for rule in [EtagRule::Inode, EtagRule::Content] {
            assert!(tag(rule, &meta(LARGE), None, false).is_none() && tag(rule, &meta(LARGE), None, true).is_some());
            assert!(tag(rule, &meta(3), Some(hash_of(b"one")), false).is_some(), "its content tells");
            assert_eq!(tag(rule, &meta(3), None, true), None, "it is being written to");
        }
    }

    #[test]
    fn equal_files_on_two_machines_have_equal_tags_by_content_and_by_mtime_and_size() {
        let (one, other) = (meta(3), Meta { dev: 7, ino: 8, ctime: (1, 1), ..meta(3) });
        let tags = |rule, content| [&one, &other].map(|meta| tag(rule, meta, Some(hash_of(content)), false));
        let [a, b] = tags(EtagRule::Content, b"one");
        assert!(a == b && a != tags(EtagRule::Content, b"two")[0] && a.is_some_and(|tag| !tag.tag().weak));
        let [a, b] = tags(EtagRule::MtimeSize, b"one");
        assert!(a == b && a == tags(EtagRule::MtimeSize, b"two")[0]);
        let [a, b] = tags(EtagRule::Inode, b"one");
        assert_ne!(a, b);
        let large = tag(EtagRule::Content, &meta(LARGE), None, true).unwrap();
        assert!(large.tag().weak, "mtime and size do not tell every content");
    }
}
