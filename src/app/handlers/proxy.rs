//! The reverse proxy: which upstream gets a request, and with which head.

use crate::app::body::temporary::SpoolAccount;
use crate::app::client::Clients;
use crate::app::exchange::Next;
use crate::app::forward::fields::{self, Passing};
use crate::app::forward::http::HttpExchange;
use crate::app::forward::paths::Paths;
use crate::app::forward::rewrite::{Mapping, Rewriting};
use crate::app::forward::{Failure, Forward, Protocol};
use crate::app::reply::page::{self, Format};
use crate::app::upstreams::names::Names;
use crate::app::upstreams::{Address, Group, Upstream};
use crate::config::proxy::{Mount, PathRule, ProxyRules, Rewrite, UpstreamPlace, UpstreamUrl, by_prefix};
use crate::http::chars::is_token;
use crate::http::date::Now;
use crate::http::framing::{self, ContentLength};
use crate::http::head::Name;
use crate::http::list;
use crate::http::method::Method;
use crate::http::request::Request;
use crate::http::rest::Rest;
use crate::http::status::Status;
use crate::proto::client::Framing;
use crate::proto::responder::Responder;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// How many servers of this name a request may have passed: more than any real chain has, and few enough to end a loop
/// soon.
const HOPS: usize = 16;

/// A prefix, and the upstreams that answer below it.
#[derive(Debug)]
pub struct Proxy {
    pub prefix: String,
    /// How paths here correspond to paths of the upstreams.
    mapping: Arc<Mapping>,
    group: Arc<Group>,
    /// The upstreams, for people.
    pub shown: String,
    clients: Arc<Clients>,
    /// Whether content is received whole before an upstream gets the request.
    buffer: bool,
    /// Which paths are passed on.
    pub paths: PathRule,
}

impl Proxy {
    /// All proxy routes. `names`: the names of upstreams are added there, and looked up later.
    pub fn all(
        mounts: &[Mount],
        rules: &ProxyRules,
        clients: &Arc<Clients>,
        spool: &Arc<SpoolAccount>,
        names: &Arc<Names>,
    ) -> Vec<Proxy> {
        let mut proxies = Vec::new();
        for Mount { prefix, origins } in by_prefix(mounts) {
            let (mut upstreams, mut hosts) = (Vec::new(), Vec::new());
            for UpstreamUrl { text, place, .. } in &origins {
                let address = match place {
                    UpstreamPlace::Unix(path) => Address::Unix(path.clone()),
                    UpstreamPlace::Tcp(host, port) => match host.parse::<IpAddr>() {
                        Ok(address) => Address::Tcp(SocketAddr::new(address, *port)),
                        Err(_) => {
                            hosts.push(names.add(text, host, *port));
                            continue;
                        }
                    },
                };
                upstreams.push(Arc::new(Upstream::new(names.new_id(), text.clone(), address)));
            }
            // Without its scheme: a URL in the banner is an address where this server listens.
            let bare = |origin: &UpstreamUrl| origin.text.trim_start_matches("http://").to_owned();
            let shown = origins.iter().map(bare).collect::<Vec<_>>().join(", ");
            let replacement = origins.first().and_then(|origin| origin.path.as_deref());
            let paths = Paths::new(&prefix, replacement.unwrap_or(&prefix));
            let authorities = origins.iter().filter_map(UpstreamUrl::authority).collect();
            let mapping = Arc::new(Mapping { paths, upstreams: authorities, rewrites: rules.rewrite == Rewrite::On });
            let group = Group::new(upstreams, rules.connect_timeout, rules.timeout, spool);
            let group = Arc::new(group.with_hosts(hosts));
            let (clients, buffer, paths) = (Arc::clone(clients), rules.buffer, rules.paths);
            proxies.push(Proxy { prefix, mapping, group, shown, clients, buffer, paths });
        }
        proxies
    }

    /// Passes a request on.
    pub fn answer(&self, request: &Request, rest: &Rest, responder: Responder, now: &Now) -> Next {
        let protocol = Protocol::Http(Box::new(self.exchange(request, rest)));
        let gathers = self.buffer && request.has_content;
        if fields::times_passed_here(request) > HOPS {
            let sentence = "The request has come back to this server again and again.";
            return page::error(Format::of(request), responder, Status::LOOP_DETECTED, sentence).into();
        }
        match Forward::new(self.group.clone(), protocol, gathers, now.instant) {
            Some(forward) => Next::Forward(Box::new(forward)),
            None => {
                // No address is known for the upstream's name.
                let failure = Failure::bad_gateway("no address of this name is known");
                log::warn!("upstream {}: {} ({})", self.shown, failure.reason, failure.status.0);
                page::error(Format::of(request), responder, failure.status, failure.sentence()).into()
            }
        }
    }

    fn exchange(&self, request: &Request, rest: &Rest) -> HttpExchange {
        let mut head = Vec::with_capacity(request.head.len + 512);
        head.extend_from_slice(request.head.method_token.of(request.bytes));
        head.push(b' ');
        self.write_target(request, rest, &mut head);
        head.extend_from_slice(b" HTTP/1.1\r\n");
        let upgrade = upgrade(request);
        let trusted = self.clients.trusts(request);
        let prefix = fields::forwarded_prefix(request, trusted, self.mapping.paths.taken_off());
        let passing = Passing { upgrade: upgrade.as_deref(), trusted, prefix: &prefix };
        fields::write_request(request, passing, &mut head);
        // The session has checked the framing before it called the handler.
        let framing = match framing::content_length(request.head, request.bytes) {
            Ok(ContentLength::Chunked) => Framing::Chunked,
            Ok(ContentLength::Bytes(0)) if !request.head.has(Name::ContentLength) => Framing::Nothing,
            Ok(ContentLength::Bytes(length)) => Framing::Length(length),
            Err(_) => Framing::Nothing,
        };
        let mut exchange = HttpExchange::new(head, framing);
        let mut hosts = vec![request.host().to_vec()];
        if trusted {
            hosts.push(fields::forwarded_host(request, trusted));
        }
        hosts.retain(|host| !host.is_empty());
        exchange.rewriting = Some(Rewriting { mapping: Arc::clone(&self.mapping), hosts, told: prefix });
        exchange.is_head = request.method() == Method::Head;
        exchange.is_idempotent = is_idempotent(request);
        exchange.upgrade = upgrade;
        let expects = framing::expects_continue(request.head, request.bytes).unwrap_or(false);
        exchange.expects = expects && request.has_content && !self.buffer;
        exchange
    }

    /// The target in origin-form, with its prefix replaced and the rest unchanged: within what `PathRule` allows, the
    /// upstream decides what an escape means.
    fn write_target(&self, request: &Request, rest: &Rest, out: &mut Vec<u8>) {
        self.mapping.paths.write(rest.raw, out);
        if let Some(query) = request.target.query() {
            out.push(b'?');
            out.extend_from_slice(query);
        }
    }
}

/// RFC 9110, section 9.2.2.
fn is_idempotent(request: &Request) -> bool {
    let token = request.head.method_token.of(request.bytes);
    [&b"GET"[..], b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"].contains(&token)
}

/// The protocols that the client asks to upgrade to. None in HTTP/1.0, and none if the request has content.
fn upgrade(request: &Request) -> Option<Vec<u8>> {
    let mut options = request.values(Name::Connection).flat_map(list::elements);
    if request.head.minor == 0 || request.has_content || !options.any(|one| one.eq_ignore_ascii_case(b"upgrade")) {
        return None;
    }
    let protocols = request.values(Name::Upgrade).flat_map(list::elements);
    let wanted: Vec<&[u8]> = protocols.filter(|protocol| may_be_tunnelled(protocol)).collect();
    (!wanted.is_empty()).then(|| wanted.join(&b", "[..]))
}

/// Whether the upstream may be asked for a protocol. It must be `protocol-name ["/" protocol-version]`, both tokens
/// (RFC 9110, section 7.8): another element is dropped, because an upstream could read it in its own way. It must not
/// be HTTP itself, in a draft or within TLS: requests in such a tunnel would bypass every rule of this server.
fn may_be_tunnelled(protocol: &[u8]) -> bool {
    let mut parts = protocol.splitn(2, |&byte| byte == b'/');
    let name = parts.next().unwrap_or_default();
    let is_http = match name {
        // h2, h2c, h2c-14, h3, h3-29.
        [b'h' | b'H', digit, ..] if digit.is_ascii_digit() => true,
        name => [&b"http"[..], b"tls", b"ssl"]
            .iter()
            .any(|start| name.get(..start.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(start))),
    };
    is_token(name) && parts.next().is_none_or(is_token) && !is_http
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_never_tunnelled_in_any_spelling() {
        for good in ["websocket", "WebSocket", "websocket/13", "SPDY/3.1", "tcp", "IRC/6.9", "x", "he2c"] {
            assert!(may_be_tunnelled(good.as_bytes()), "{good}");
        }
        for http in
            ["h2c", "H2C", "h2c-14", "h2c/1", "h2", "h2-17", "h3", "h3-29", "HTTP/2.0", "http", "https/1", "TLS/1.2"]
        {
            assert!(!may_be_tunnelled(http.as_bytes()), "{http}");
        }
        for malformed in [
            "",
            "\"h2c\"",
            "\"websocket\"",
            "web socket",
            "/1",
            "a/",
            "a/b/c",
            "a;b",
            "a\tb",
            "a=\"h2c",
            "\u{e9}",
            "(h2c)",
        ] {
            assert!(!may_be_tunnelled(malformed.as_bytes()), "{malformed}");
        }
    }
}
