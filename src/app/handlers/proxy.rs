//! The reverse proxy: how a request goes to an upstream, and with what head.

use crate::app::body::temporary::SpoolAccount;
use crate::app::client::Clients;
use crate::app::exchange::Next;
use crate::app::forward::http::HttpExchange;
use crate::app::forward::{Forward, Protocol, fields};
use crate::app::reply::page::{self, Format};
use crate::app::upstreams::{Address, Group, Upstream};
use crate::config::proxy::{Mount, Origin, PathRule, Place, ProxyRules, by_prefix};
use crate::http::chars::is_token;
use crate::http::date::Now;
use crate::http::framing::{self, ContentLength};
use crate::http::head::Name;
use crate::http::list;
use crate::http::method::Method;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::proto::client::Framing;
use crate::proto::responder::Responder;
use crate::start_error::StartError;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

/// Servers of this name that a request may have passed: more than any chain has, less than a loop makes.
const HOPS: usize = 16;

/// A prefix, and the upstreams that answer below it.
#[derive(Debug)]
pub struct Proxy {
    pub prefix: String,
    /// What the prefix is replaced with; kept when there is none.
    replacement: Option<String>,
    group: Arc<Group>,
    /// What the upstreams are, for people.
    pub shown: String,
    clients: Arc<Clients>,
    /// Whether content is buffered before an upstream sees it.
    buffer: bool,
    /// Which paths pass.
    pub paths: PathRule,
}

impl Proxy {
    /// Every prefix that is proxied. Looks the upstreams' names up: now, and not again.
    ///
    /// # Errors
    /// A name has no address.
    pub fn all(
        mounts: &[Mount],
        rules: &ProxyRules,
        clients: &Arc<Clients>,
        spool: &Arc<SpoolAccount>,
    ) -> Result<Vec<Proxy>, StartError> {
        let mut ids = 0..;
        let mut proxies = Vec::new();
        for Mount { prefix, origins } in by_prefix(mounts) {
            let mut upstreams = Vec::new();
            for origin in &origins {
                let found = resolve(origin)?;
                let is_ipv6 = |address: &Address| matches!(address, Address::Tcp(address) if address.is_ipv6());
                let has_ipv4 = found.iter().any(|(_, address)| !is_ipv6(address));
                for (name, address) in found {
                    let mut upstream = Upstream::new(ids.next().unwrap_or(0), name, address);
                    // One server with addresses of both kinds, as localhost is: most listen on the older.
                    upstream.is_spare = has_ipv4 && is_ipv6(&upstream.address);
                    upstreams.push(Arc::new(upstream));
                }
            }
            // Without its scheme: what the banner shows as a URL is where this server listens.
            let bare = |origin: &Origin| origin.text.trim_start_matches("http://").to_owned();
            let shown = origins.iter().map(bare).collect::<Vec<_>>().join(", ");
            let replacement = origins.first().and_then(|origin| origin.path.clone());
            let group = Arc::new(Group::new(upstreams, rules.connect_timeout, rules.timeout, spool));
            let (clients, buffer, paths) = (Arc::clone(clients), rules.buffer, rules.paths);
            proxies.push(Proxy { prefix, replacement, group, shown, clients, buffer, paths });
        }
        Ok(proxies)
    }

    /// Passes a request on.
    pub fn answer(&self, request: &Request, responder: Responder, now: &Now) -> Next {
        let protocol = Protocol::Http(Box::new(self.exchange(request)));
        let gathers = self.buffer && request.has_content;
        if fields::times_passed_here(request) > HOPS {
            let sentence = "The request has come back to this server again and again.";
            return page::error(Format::of(request), responder, Status::LOOP_DETECTED, sentence).into();
        }
        match Forward::new(self.group.clone(), protocol, gathers, now.instant) {
            Some(forward) => Next::Forward(Box::new(forward)),
            None => {
                let sentence = "There is no server behind this address at the moment.";
                page::error(Format::of(request), responder, Status::SERVICE_UNAVAILABLE, sentence).into()
            }
        }
    }

    fn exchange(&self, request: &Request) -> HttpExchange {
        let mut head = Vec::with_capacity(request.head.len + 512);
        head.extend_from_slice(request.head.method_token.of(request.bytes));
        head.push(b' ');
        self.write_target(request, &mut head);
        head.extend_from_slice(b" HTTP/1.1\r\n");
        let upgrade = upgrade(request);
        fields::write_request(request, upgrade.as_deref(), self.clients.trusts(request), &mut head);
        // The session has checked the framing before it asked.
        let framing = match framing::content_length(request.head, request.bytes) {
            Ok(ContentLength::Chunked) => Framing::Chunked,
            Ok(ContentLength::Bytes(0)) if !request.head.has(Name::ContentLength) => Framing::Nothing,
            Ok(ContentLength::Bytes(length)) => Framing::Length(length),
            Err(_) => Framing::Nothing,
        };
        let mut exchange = HttpExchange::new(head, framing);
        exchange.is_head = request.method() == Method::Head;
        exchange.is_idempotent = is_idempotent(request);
        exchange.upgrade = upgrade;
        let expects = framing::expects_continue(request.head, request.bytes).unwrap_or(false);
        exchange.expects = expects && request.has_content && !self.buffer;
        exchange
    }

    /// The target in origin-form, its prefix replaced, the rest as it came: what an escape stands for is the
    /// upstream's to say, within what `PathRule` allows. Where the prefix itself came in another spelling, the path is the normalised one.
    fn write_target(&self, request: &Request, out: &mut Vec<u8>) {
        let raw = request.target.raw_path;
        let path = if is_below(raw, self.prefix.as_bytes()) { raw } else { request.path() };
        match &self.replacement {
            None => out.extend_from_slice(path),
            Some(replacement) => {
                let rest = &path[self.prefix.len()..];
                let rest = rest.strip_prefix(b"/").unwrap_or(rest);
                out.extend_from_slice(replacement.as_bytes());
                if !rest.is_empty() && !replacement.ends_with('/') {
                    out.push(b'/');
                }
                out.extend_from_slice(rest);
            }
        }
        if let Some(query) = request.target.query {
            out.push(b'?');
            out.extend_from_slice(query);
        }
    }
}

/// Whether a path is the prefix or lies below it: `/api` has `/api` and `/api/x`, and not `/apis`.
fn is_below(path: &[u8], prefix: &[u8]) -> bool {
    let Some(rest) = path.strip_prefix(prefix) else { return false };
    rest.is_empty() || rest[0] == b'/' || prefix.ends_with(b"/")
}

/// RFC 9110, section 9.2.2.
fn is_idempotent(request: &Request) -> bool {
    let token = request.head.method_token.of(request.bytes);
    [&b"GET"[..], b"HEAD", b"OPTIONS", b"PUT", b"DELETE"].contains(&token)
}

/// The protocols that the client asks to change to, where that can be: not in HTTP/1.0, not with content.
fn upgrade(request: &Request) -> Option<Vec<u8>> {
    let mut options = request.values(Name::Connection).flat_map(list::elements);
    if request.head.minor == 0 || request.has_content || !options.any(|one| one.eq_ignore_ascii_case(b"upgrade")) {
        return None;
    }
    let protocols = request.values(Name::Upgrade).flat_map(list::elements);
    let wanted: Vec<&[u8]> = protocols.filter(|protocol| may_be_tunnelled(protocol)).collect();
    (!wanted.is_empty()).then(|| wanted.join(&b", "[..]))
}

/// Whether an upstream may be asked for a protocol: `protocol-name ["/" protocol-version]`, both tokens (RFC 9110, section
/// 7.8), and not HTTP itself, be it a draft of it or within TLS. What went through such a tunnel would pass every
/// rule of this server by. What is no such member is dropped: an upstream could read it in its own way.
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

/// The addresses of an upstream, each with its name for the log.
fn resolve(origin: &Origin) -> Result<Vec<(String, Address)>, StartError> {
    let text = &origin.text;
    let (host, port) = match &origin.place {
        Place::Unix(path) => return Ok(vec![(text.clone(), Address::Unix(path.clone()))]),
        Place::Tcp(host, port) => (host, *port),
    };
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![(text.clone(), Address::Tcp(SocketAddr::new(address, port)))]);
    }
    let remedy = "correct it, or write its address";
    let unknown = |cause: String| StartError::new(format!("cannot find the upstream {text}: {cause}; {remedy}"));
    let mut found: Vec<SocketAddr> =
        (host.as_str(), port).to_socket_addrs().map_err(|error| unknown(error.to_string()))?.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found.dedup();
    if found.is_empty() {
        return Err(unknown("the name has no address".into()));
    }
    Ok(found.into_iter().map(|address| (format!("{text} ({address})"), Address::Tcp(address))).collect())
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

    #[test]
    fn a_prefix_ends_at_a_segment() {
        for (path, prefix, expected) in [
            ("/api", "/api", true),
            ("/api/", "/api", true),
            ("/api/x", "/api", true),
            ("/apis", "/api", false),
            ("/ap", "/api", false),
            ("/api/x", "/api/", true),
            ("/api", "/api/", false),
            ("/x", "/", true),
        ] {
            assert_eq!(is_below(path.as_bytes(), prefix.as_bytes()), expected, "{path} {prefix}");
        }
    }
}
