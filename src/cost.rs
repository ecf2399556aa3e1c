//! What work costs: one unit for unlike things, so that one budget bounds a turn of the event loop whatever is asked.
//!
//! **One unit is about the time that moving one byte to a socket takes**, a quarter of a nanosecond on the machine where
//! these were measured: 4 KiB are a microsecond, 2 MiB half a millisecond, 40 MiB ten milliseconds. Bytes that a
//! system call moves cost as many units as there are. Everything else that a request can make the server do says its cost:
//! a handler by `Responder::spend`, content by `Pulled::Some`. What reports too little holds up every other client, so
//! a cost is rounded up.
//!
//! The sum decides when a connection gives way to the others ([`SLICE`]) and when a turn ends. It never decides an answer.

/// A request, besides the bytes of its head and its answer: parsing, routing, writing the fields.
pub const REQUEST: usize = 4 * 1024;
/// A byte of a request's head: it is parsed, and a list in it is compared member by member (5 ns a byte for the tags of an
/// If-None-Match, 20 for the shortest members of an Accept), or it is copied to an upstream, an application or the log.
pub const HEAD_BYTE: usize = 40;
/// A byte of a path that is decoded and looked for in other spellings, or of a request that is shown: 40 ns.
pub const DECODED_BYTE: usize = 160;
/// A piece of a request's content, besides its bytes: a client can make chunks of one byte.
pub const PIECE: usize = 256;
/// A path looked up anew: openat2, fstat and close take 4 us.
pub const LOOKUP: usize = 16 * 1024;
/// A system call that asks about one name (statx takes 1.5 us), with what is done about the answer.
pub const STAT: usize = 8 * 1024;
/// A link that the kernel does not resolve beneath the root: it is resolved by name, component by component.
pub const LINK: usize = 128 * 1024;
/// A name that is made, taken or removed in a directory, under its lock: 50 to 100 us on ext4.
pub const NAME: usize = 256 * 1024;
/// An entry of a directory that is read, sorted among its neighbours, or written into a page: half a microsecond each.
pub const ENTRY: usize = 2 * 1024;
/// A byte that is hashed: 1 ns.
pub const HASHED_BYTE: usize = 4;
/// A byte of a page that is written through an escape: 4 ns.
pub const ESCAPED_BYTE: usize = 16;
/// A compression begun and ended, besides its bytes: memory is cleared, a code made for what came (15 us).
pub const COMPRESSION: usize = 64 * 1024;
/// A byte that is compressed at the default level: 13 ns in text, 30 ns in figures and in words without an order. (76 ns at
/// the worst, in four letters without an order: their matches are many and short. A turn full of these stays below 10 ms.)
pub const COMPRESSED_BYTE: usize = 128;
/// A byte of a file that is taken in: read, hashed for its tag, and written to a copy.
pub const LOADED_BYTE: usize = 3;
/// One of several ranges: it is compared with all others, and its head is written twice.
pub const RANGE: usize = 4 * 1024;
/// A connection accepted and registered: 6 us.
pub const ACCEPT: usize = 24 * 1024;

/// What one connection may spend before the others have their turn. Sendfile in pieces of 1 MiB costs a tenth more than in
/// one call; 2 MiB of loopback take a fifth of a millisecond.
pub const SLICE: usize = 2 * 1024 * 1024;
/// What a session may spend without i/o. Compressed zeros fill no output: only this stops them.
pub const ADVANCE: usize = 1024 * 1024;
/// What all connections that move little may spend in one turn, before the clock, signals and new connections are
/// looked at again: 2 ms. With what one connection may exceed its slice by, and the share of those that move much, a
/// turn stays below 10 ms.
pub const TURN: usize = 8 * 1024 * 1024;
