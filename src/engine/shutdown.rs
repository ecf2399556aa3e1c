//! How serving ended, and the log lines of a shutdown.

/// How serving ended.
#[derive(Clone, Copy, Debug)]
pub enum Ended {
    /// Every request was answered.
    Drained,
    /// A second signal, or the end of the grace period, cut requests off.
    Cut,
}

/// Logs that a signal has begun the shutdown.
pub fn log_begun() {
    log::info!("shutting down: finishing what is under way; a second signal ends at once");
}

/// Logs that the grace period has ended before the requests.
pub fn log_cut(connections: usize) {
    log::warn!("the grace period is over: {connections} connections are cut");
}
