//! The flags for the whole server: limits, timeouts and the engine.

use crate::config::args::values::{choice, defaults};
use crate::config::server::{Engine, Limits, Timeouts};
use crate::config::values::{body_size, cache_size, count, memory_size, timeout};
use crate::units;
use clap::ValueEnum;
use clap::builder::PossibleValue;
use std::time::Duration;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitArgs {
    /// Largest request head (line and fields)
    ///
    /// A request with a larger head gets 431.
    // Twice what Apache and nginx accept for a single line, so that large cookies fit. Node.js has the same limit.
    #[arg(long, value_name = "SIZE", default_value = "16K", value_parser = memory_size)]
    pub(super) max_header_size: usize,

    /// Most header fields in a request
    ///
    /// A request with more fields gets 431.
    // A browser sends about 20, and a chain of proxies adds a dozen. Apache and hyper have the same limit.
    #[arg(long, value_name = "COUNT", default_value = "100", value_parser = count)]
    pub(super) max_fields: usize,

    /// Longest request target (path and query)
    ///
    /// A request with a longer target gets 414.
    // RFC 9112, section 3, recommends 8000 bytes at least.
    #[arg(long, value_name = "SIZE", default_value = "8K", value_parser = memory_size)]
    pub(super) max_target_length: usize,

    /// Largest request body; 0 means no limit
    ///
    /// A request with a larger body gets 413. Uploads go to disk, not to memory, so this guards the disk.
    // `u64::MAX` means no limit.
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = body_size)]
    pub(super) max_body_size: u64,

    /// Most connections open at once
    ///
    /// At the limit, an idle connection is closed for each new client. While none is idle, the client waits in the
    /// system's queue.
    // If every connection holds a head of the largest size, this takes 160 MB, which a small machine still has.
    #[arg(long, value_name = "COUNT", default_value = "10000", value_parser = count)]
    pub(super) max_connections: usize,

    /// Memory for recently served files; 0 keeps none
    ///
    /// The content of small files is kept. Larger files are kept open. Compressed forms are kept for both. Before a
    /// file is used, it is checked for changes, at most once per turn of the event loop.
    // Enough for a thousand pages of the usual size with their compressed forms, and less than one browser tab takes.
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = cache_size)]
    pub(super) cache_size: usize,

    /// Most bytes in temporary files, for all clients together
    ///
    /// If an upstream or application sends a large response faster than the client reads it, the rest waits in a
    /// temporary file, up to 1 GiB for one response. So do large request bodies that are gathered for upstreams and
    /// applications. At the limit, a response is received only as fast as its client reads it, and a request whose body
    /// needs a file gets
    /// 503. With 0 there are no temporary files. They are in TMPDIR, which may be in memory.
    // Room for four responses or four request bodies of the largest size.
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = units::size)]
    pub(super) spool_limit: u64,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Timeouts")]
pub(super) struct TimeoutArgs {
    /// Time for a whole request head to arrive
    ///
    /// It counts from the first byte of the head, even if more bytes keep arriving. After that time the request gets
    /// 408.
    // A head is one or two packets, and 10 s are enough for several retransmissions on a bad line.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = timeout)]
    pub(super) header_timeout: Duration,

    /// How long an idle connection is kept
    // If the server closes an idle connection, a request may be on its way already. So the client should close first.
    // Load balancers and proxies close after 60 s (AWS ALB, nginx's upstream pool), so the server waits a little
    // longer.
    #[arg(long, value_name = "TIME", default_value = "75s", value_parser = timeout)]
    pub(super) keep_alive_timeout: Duration,

    /// How long a request body may make no progress
    ///
    /// Every byte that arrives restarts the time. After that time the request gets 408.
    // Longer than a handover between mobile cells, the longest common pause of a client that is still there.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = timeout)]
    pub(super) body_timeout: Duration,

    /// How long a response may make no progress
    ///
    /// Every byte that the client takes restarts the time. After that time the connection is closed.
    // The same time as for the body, for the same reason.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = timeout)]
    pub(super) write_timeout: Duration,

    /// Time to finish requests in flight after SIGINT or SIGTERM
    ///
    /// A second signal ends the server at once. With 0, the first signal does.
    // Docker sends SIGKILL 10 s after SIGTERM.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    pub(super) grace_period: Duration,
}

impl LimitArgs {
    pub(super) fn limits(&self) -> Limits {
        Limits {
            header_size: self.max_header_size,
            fields: self.max_fields,
            target: self.max_target_length,
            connections: self.max_connections,
            cache: self.cache_size,
            spool: self.spool_limit,
        }
    }
}

impl TimeoutArgs {
    pub(super) fn timeouts(&self) -> Timeouts {
        Timeouts {
            header: self.header_timeout,
            keep_alive: self.keep_alive_timeout,
            body: self.body_timeout,
            write: self.write_timeout,
            grace: self.grace_period,
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        defaults::<LimitArgs>().limits()
    }
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        defaults::<TimeoutArgs>().timeouts()
    }
}

impl ValueEnum for Engine {
    fn value_variants<'a>() -> &'a [Engine] {
        &[Engine::Event, Engine::Threads, Engine::Pool, Engine::Iterative]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Engine::Event => choice("event", "One thread and one event loop for all connections"),
            Engine::Threads => choice("threads", "A thread for each connection"),
            Engine::Pool => choice("pool", "A fixed number of threads, each with one connection at a time"),
            Engine::Iterative => choice("iterative", "One connection at a time"),
        })
    }
}
