//! How an exchange with an upstream fails, and what is tried before that: another upstream, or a new connection in place
//! of an idle one that turned out to be closed.

use crate::app::forward::attempt::{Attempt, Fault, Inbound, Outbound};
use crate::app::forward::{CutByShutdown, Failure, Flow, Forward, Stage};
use crate::app::upstreams::ConnectError;
use crate::http::date::Now;
use crate::http::status::Status;
use std::io;
use std::time::Instant;

/// How many workers get a request, if one after another ends before it begins with it: as many as an application may
/// have.
const MOST_TRIED: usize = 1024;

impl Forward {
    /// There is no socket to the upstream.
    pub fn on_connect_failed(&mut self, error: &ConnectError) {
        self.attempt.outbound = Outbound::Failed;
        self.attempt.inbound = Inbound::Broken(Failure::of_connect(error));
    }

    /// A system call on the socket failed; `reading` if it was a read.
    pub fn on_failed(&mut self, reading: bool, error: &io::Error) {
        // The first write shows whether the connection was made.
        let connecting = self.stage == Stage::Connecting;
        self.attempt.outbound = Outbound::Failed;
        let gone = matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset);
        if !reading && !connecting {
            // The upstream may have answered before it closed: its answer is read first.
            self.output.clear();
            return;
        }
        if CutByShutdown::is_cause_of(error) {
            self.attempt.fault = Some(Fault::Cut);
        } else if gone && !self.has_answered() && self.protocol.is_taken_whole() {
            self.attempt.fault = Some(Fault::NotBegun);
        }
        self.attempt.inbound = Inbound::Broken(match connecting {
            true => Failure::of_refusal(error),
            false => Failure::bad_gateway(format!("broke the connection: {error}")),
        });
    }

    /// The deadline has passed: another upstream is tried, or the exchange fails.
    pub fn on_expired(&mut self, now: &Now) -> Flow {
        self.attempt.fault.get_or_insert(Fault::Expired);
        if self.is_tunnel() {
            log::info!("upstream {}: a tunnel was silent for too long and is closed", self.lease.name);
            self.stage = Stage::Over { keep: false };
            return Flow::Complete;
        }
        let (status, reason) = match self.stage {
            Stage::Unconnected | Stage::Connecting => (Status::GATEWAY_TIMEOUT, "did not accept a connection in time"),
            Stage::Queued => (Status::SERVICE_UNAVAILABLE, "had no worker free in time"),
            _ => (Status::GATEWAY_TIMEOUT, "did not answer in time"),
        };
        let failure = Failure { status, reason: reason.into() };
        match self.stage {
            Stage::Unconnected | Stage::Connecting => self.fail(failure, now),
            _ => Flow::Failed(failure),
        }
    }

    /// The upstream gave no answer that could be passed on.
    pub fn on_no_answer(&self, now: Instant) {
        // A healthy upstream may close an idle connection: that is not counted as a failure.
        let expired = self.attempt.fault == Some(Fault::Expired);
        if !self.attempt.reused || self.has_answered() || expired {
            self.lease.on_failed(now);
        }
    }

    /// Tries again if that can do no harm, otherwise fails:
    /// - A worker ended before it began with the request: the request goes to another worker.
    /// - Nothing has been written: the request goes to another upstream.
    /// - The request was written to a connection that had been idle, and nothing was received: most likely the upstream
    ///   closed the connection before the request arrived. A request that may be repeated (RFC 9110, section 9.2.2) is
    ///   sent once more, on a new connection.
    /// - The request was written to a new connection, and the upstream closed it without a byte of an answer: a request
    ///   that may be repeated goes to another upstream. Each upstream is asked once.
    pub(super) fn fail(&mut self, failure: Failure, now: &Now) -> Flow {
        let is_final = self.has_answered() || self.attempt.fault == Some(Fault::Cut);
        if is_final || matches!(self.stage, Stage::Over { .. }) {
            return Flow::Failed(failure);
        }
        let unsent = !self.has_written();
        // Another status says that this machine lacks something: repeating does not help.
        let is_its_fault = failure.status == Status::BAD_GATEWAY;
        let repeats = is_its_fault && self.protocol.may_repeat_now(self.gathered.is_some());
        let Attempt { new_only, reused, fault, .. } = self.attempt;
        if fault == Some(Fault::NotBegun) && self.tried.len() < MOST_TRIED {
            // Other workers may have ended as well. An ended worker is not leased again, so this repeats a limited
            // number of times.
            log::debug!("upstream {}: a worker ended before it took the request, trying another", self.lease.name);
            self.tried.push(self.lease.id);
            self.attempt = Attempt::again(new_only);
        } else if reused && !new_only && (unsent || repeats) {
            log::debug!("upstream {}: an idle connection was closed, trying a new one", self.lease.name);
            self.attempt = Attempt::again(true);
        } else if unsent || repeats {
            // 503: this machine lacks something, or too many requests wait. That is no fault of the upstream.
            if failure.status != Status::SERVICE_UNAVAILABLE {
                self.lease.on_failed(now.instant);
            }
            self.tried.push(self.lease.id);
            let Some(next) = self.group.pick(now.instant, &self.tried) else { return Flow::Failed(failure) };
            log::warn!("upstream {}: {}; trying {}", self.lease.name, failure.reason, next.name);
            self.lease = next;
            self.attempt = Attempt::default();
        } else {
            return Flow::Failed(failure);
        }
        if !unsent {
            self.begin();
            if self.content_ended {
                self.protocol.push_end(&mut self.output);
            }
        }
        self.stage = Stage::Dropping;
        Flow::Moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::body::temporary::SpoolAccount;
    use crate::app::forward::Protocol;
    use crate::app::forward::http::HttpExchange;
    use crate::app::upstreams::names::Names;
    use crate::app::upstreams::{Address, Group, Reuse, Upstream};
    use crate::proto::client::Framing;
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    #[test]
    fn each_upstream_is_tried_once_more_only_after_an_idle_connection_of_its_own() {
        let now = Now::new(Instant::now(), SystemTime::UNIX_EPOCH);
        let upstream = |id: usize| Arc::new(Upstream::new(id, id.to_string(), Address::Unix("/nowhere".into())));
        let second = Duration::from_secs(1);
        let group = Group::new((0..2).map(upstream).collect(), second, second, &SpoolAccount::new(0));
        let protocol = Protocol::Http(Box::new(HttpExchange::new(b"GET / HTTP/1.1\r\n".to_vec(), Framing::Nothing)));
        let mut forward = Forward::new(Arc::new(group), protocol, false, now.instant).unwrap();
        let mut fail = |reused: Option<bool>| {
            if let Some(reused) = reused {
                forward.on_connected(reused);
            }
            let flow = forward.fail(Failure::bad_gateway("refused"), &now);
            forward.on_released();
            (matches!(flow, Flow::Moved), forward.upstream().id, forward.reuse())
        };
        assert_eq!(fail(Some(true)), (true, 0, Reuse::Nothing), "its idle connection was closed");
        assert_eq!(fail(None), (true, 1, Reuse::Recent), "it refuses a new connection");
        assert_eq!(fail(None), (false, 1, Reuse::Recent), "the other one refuses as well, and had no idle connection");
    }

    #[test]
    fn the_addresses_of_a_name_are_tried_in_turn_and_share_the_time_for_connecting() {
        let now = Now::new(Instant::now(), SystemTime::UNIX_EPOCH);
        let names = Arc::new(Names::default());
        let host = names.add("http://a", "a", 80);
        let addresses = (1..=4).map(|last| SocketAddr::from(([10, 0, 0, last], 80))).collect::<Vec<_>>();
        let known = addresses.clone();
        names.start(Box::new(move |_, _| Ok(known.clone())), Instant::now).unwrap();
        let second = Duration::from_secs(1);
        let group = Group::new(Vec::new(), second, second, &SpoolAccount::new(0)).with_hosts(vec![host]);
        let protocol = Protocol::Http(Box::new(HttpExchange::new(b"GET / HTTP/1.1\r\n".to_vec(), Framing::Nothing)));
        let mut forward = Forward::new(Arc::new(group), protocol, false, now.instant).unwrap();
        let mut tried = Vec::new();
        loop {
            tried.push(forward.upstream().address.clone());
            assert_eq!(forward.timeout(), second / 4);
            if !matches!(forward.on_expired(&now), Flow::Moved) {
                break;
            }
            forward.on_released();
        }
        tried.sort_by_key(|address| format!("{address:?}"));
        assert_eq!(tried, addresses.into_iter().map(Address::Tcp).collect::<Vec<_>>());
    }
}
