//! The flags about the whole server: its limits, its timeouts and its engine.

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
    /// Beyond it the request is answered 431.
    // Twice what Apache and nginx take for a single line, so that large cookies pass. Node.js allows the same.
    #[arg(long, value_name = "SIZE", default_value = "16K", value_parser = memory_size)]
    pub(super) max_header_size: usize,

    /// Most header fields in a request
    ///
    /// Beyond it the request is answered 431.
    // A browser sends about 20, a chain of proxies a dozen more. Apache and hyper stop at 100 too.
    #[arg(long, value_name = "COUNT", default_value = "100", value_parser = count)]
    pub(super) max_fields: usize,

    /// Longest request target (path and query)
    ///
    /// Beyond it the request is answered 414.
    // RFC 9112 section 3 asks for 8000 bytes at least.
    #[arg(long, value_name = "SIZE", default_value = "8K", value_parser = memory_size)]
    pub(super) max_target_length: usize,

    /// Largest request body; 0 means no limit
    ///
    /// Beyond it the request is answered 413. An upload goes to disk, not to memory, so this guards the disk.
    // `u64::MAX` means no limit.
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = body_size)]
    pub(super) max_body_size: u64,

    /// Most connections open at once
    ///
    /// Beyond it an idle connection is closed for a new client; while none is idle, the client waits in the system's
    /// queue.
    // With the largest head in every buffer this is 160 MB, which a small machine still has.
    #[arg(long, value_name = "COUNT", default_value = "10000", value_parser = count)]
    pub(super) max_connections: usize,

    /// Memory for files served lately; 0 keeps none
    ///
    /// Small files are kept whole, larger ones open, and both with their compressed form. They are checked against the
    /// disk once in a turn of the loop.
    // A thousand pages of the usual size with their compressed forms; less than one browser tab.
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = cache_size)]
    pub(super) cache_size: usize,

    /// Most bytes in temporary files, of all clients together
    ///
    /// What clients take slowly of upstreams' and applications' answers, and bodies that are gathered for them, go there when
    /// they are large. At the limit an answer waits for its client, and a request is answered 503. With 0 there are no such
    /// files. The files are in TMPDIR, which may be memory. One answer takes 1 GiB at most.
    // Four of the largest answers, or bodies of the largest size.
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = units::size)]
    pub(super) spool_limit: u64,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Timeouts")]
pub(super) struct TimeoutArgs {
    /// Time for a whole request head to arrive
    ///
    /// Counted from its first byte, however steadily the rest arrives. Beyond it the request is answered 408.
    // A head is one or two packets; 10 s covers several retransmissions on a bad line.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = timeout)]
    pub(super) header_timeout: Duration,

    /// How long an idle connection is kept
    // If the server closes an idle connection, a request may be on its way already: the client should close first.
    // Balancers and proxies close after 60 s (AWS ALB, nginx's upstream pool); the server waits a little longer.
    #[arg(long, value_name = "TIME", default_value = "75s", value_parser = timeout)]
    pub(super) keep_alive_timeout: Duration,

    /// How long a request body may make no progress
    ///
    /// Any byte that arrives restarts the time. Beyond it the request is answered 408.
    // Half a minute outlasts a handover between mobile cells, the longest common silence of a live client.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = timeout)]
    pub(super) body_timeout: Duration,

    /// How long a response may make no progress
    ///
    /// Any byte that the client takes restarts the time. Beyond it the connection is closed.
    // As for the body, in the other direction.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = timeout)]
    pub(super) write_timeout: Duration,

    /// Time to finish requests in flight after SIGINT or SIGTERM
    ///
    /// A second signal ends the server at once, and so does a time of 0.
    // Docker kills 10 s after it has asked.
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
