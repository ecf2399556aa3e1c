//! The cost of every kind of work, in one unit. So one budget limits a turn of the event loop, whatever clients ask
//! for.
//!
//! **One unit is about the time that moving one byte to a socket takes**: a quarter of a nanosecond on the machine
//! where these costs were measured. 4 KiB are a microsecond, 2 MiB half a millisecond, 40 MiB ten milliseconds. A byte
//! that a system call moves costs one unit. All other work that a request can cause is reported: a handler calls
//! `Responder::spend`, content returns `Pulled::Some`. Costs are rounded up, because work that reports too little
//! delays every other client.
//!
//! The sum decides when a connection gives way to others ([`SLICE`]) and when a turn ends. It never changes an answer.

/// One request: parsing, routing and writing the fields. The bytes of its head and of its response come on top.
pub const REQUEST: usize = 4 * 1024;
/// A byte of a request's head: it is parsed, and may be copied to an upstream, an application or the log. Lists are
/// compared member by member: 5 ns a byte for the entity tags of If-None-Match, 20 ns for the shortest members of
/// Accept.
pub const HEAD_BYTE: usize = 40;
/// A byte of a path that is decoded and compared in other spellings, or of a request that the debug endpoints show: 40
/// ns.
pub const DECODED_BYTE: usize = 160;
/// A piece of a request's content. Its bytes come on top: a client can send chunks of one byte.
pub const PIECE: usize = 256;
/// The lookup of a path that is not in the cache: openat2, fstat and close take 4 us.
pub const LOOKUP: usize = 16 * 1024;
/// A system call about one name (statx takes 1.5 us), and the handling of its result.
pub const STAT: usize = 8 * 1024;
/// A symbolic link that the kernel does not resolve beneath the root. The server resolves it component by component.
pub const LINK: usize = 128 * 1024;
/// Creating, replacing or removing a name in a directory, under the directory's lock: 50 to 100 us on ext4.
pub const NAME: usize = 256 * 1024;
/// One step for one entry of a directory (reading it, sorting it, or writing it into a page): half a microsecond each.
pub const ENTRY: usize = 2 * 1024;
/// A byte that is hashed: 1 ns.
pub const HASHED_BYTE: usize = 4;
/// A byte of a page that is written through an escape: 4 ns.
pub const ESCAPED_BYTE: usize = 16;
/// The beginning and end of a compression: memory is cleared, and a Huffman code is made (15 us). Bytes come on top.
pub const COMPRESSION: usize = 64 * 1024;
/// A byte that is compressed at the default level: 13 ns in text, 30 ns in random digits or random words. The worst
/// case is 76 ns, in a random sequence of four letters, where matches are many and short. A turn full of these stays
/// below 10 ms.
pub const COMPRESSED_BYTE: usize = 128;
/// A byte of a file that is loaded into the cache: it is read, hashed for its tag, and may be written to a copy.
pub const LOADED_BYTE: usize = 3;
/// One of several ranges: it is compared with all others, and the head of its part is written twice.
pub const RANGE: usize = 4 * 1024;
/// Accepting and registering a connection: 6 us.
pub const ACCEPT: usize = 24 * 1024;

/// The budget of one connection before the others have their turn. 2 MiB over loopback take a fifth of a millisecond.
/// Sendfile in pieces of 1 MiB would cost a tenth more than in one call.
pub const SLICE: usize = 2 * 1024 * 1024;
/// The budget of a session in one `advance`, without i/o. Zeros compress to almost no output, so the output's
/// high-water mark does not stop such a session, but this limit does.
pub const ADVANCE: usize = 1024 * 1024;
/// The budget of all connections without a bulk transfer in one turn: 2 ms. Then the clock, signals and new connections
/// are checked again. Even if one connection exceeds its slice, and with the share of bulk transfers, a turn stays
/// below 10 ms.
pub const TURN: usize = 8 * 1024 * 1024;
