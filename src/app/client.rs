//! Who sends a request: the peer, or the client behind a trusted proxy. Fields about the client count only if the
//! peer's address is trusted.

use crate::config::proxy::{TrustedProxy, is_trusted};
use crate::http::forwarded;
use crate::http::head::Head;
use crate::http::request::Request;
use std::net::IpAddr;

/// The proxies whose fields about the client are believed.
#[derive(Debug)]
pub struct Clients {
    trusted: Vec<TrustedProxy>,
}

impl Clients {
    pub fn new(trusted: &[TrustedProxy]) -> Clients {
        Clients { trusted: trusted.to_vec() }
    }

    /// Whether a trusted proxy has sent the request.
    pub fn trusts(&self, request: &Request) -> bool {
        is_trusted(&self.trusted, request.peer)
    }

    /// The client behind a trusted proxy: the last address of X-Forwarded-For that is not itself trusted. If all are
    /// trusted it is the first, since the proxies vouch for it. `None`, so that the peer counts as the client, if the
    /// peer is not trusted, if it names no client, or if an element before that address is not an address.
    #[inline]
    pub fn behind(&self, peer: IpAddr, head: &Head, bytes: &[u8]) -> Option<IpAddr> {
        if self.trusted.is_empty() { None } else { self.walk(peer, head, bytes) }
    }

    fn walk(&self, peer: IpAddr, head: &Head, bytes: &[u8]) -> Option<IpAddr> {
        let (mut sender, mut client) = (peer, None);
        let mut elements = forwarded::from_right(head, bytes, "x-forwarded-for");
        while is_trusted(&self.trusted, sender)
            && let Some(element) = elements.next()
        {
            sender = forwarded::address(element)?;
            client = Some(sender);
        }
        client
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::HeadLimits;

    #[test]
    fn the_client_is_the_last_that_is_not_trusted() {
        let clients = Clients::new(&["10.0.0.0/8", "::1", "fd00::/8"].map(|network| network.parse().unwrap()));
        for (peer, told, expected) in [
            ("10.0.0.1", &["1.2.3.4"][..], Some("1.2.3.4")),
            ("10.0.0.1", &["6.6.6.6, 1.2.3.4"], Some("1.2.3.4")),
            ("10.0.0.1", &["6.6.6.6", "1.2.3.4", "10.0.0.2,,10.9.9.9:80"], Some("1.2.3.4")),
            ("::1", &["6.6.6.6, [2001:db8::7]:443, [fd00::1]"], Some("2001:db8::7")),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], Some("10.0.0.3")),
            ("10.0.0.1", &["garbage, 1.2.3.4"], Some("1.2.3.4")),
            ("10.0.0.1", &["::ffff:10.0.0.3, ::1"], Some("10.0.0.3")),
            ("10.0.0.1", &[], None),
            ("10.0.0.1", &[" , "], None),
            ("10.0.0.1", &["1.2.3.4, unknown"], None),
            ("10.0.0.1", &["1.2.3.4, _hidden, 10.0.0.2"], None),
            ("10.0.0.1", &["1.2.3.4", "x"], None),
            ("11.0.0.1", &["1.2.3.4"], None),
            ("11.0.0.1", &["10.0.0.1"], None),
        ] {
            let fields: String = told.iter().map(|told| format!("X-Forwarded-For: {told}\r\n")).collect();
            let others = "Forwarded: for=9.9.9.9\r\nX-Real-IP: 9.9.9.9\r\nX_Forwarded_For: 9.9.9.9\r\n";
            let text = format!("GET / HTTP/1.1\r\n{fields}{others}\r\n");
            let (limits, mut head) = (HeadLimits { size: 4096, target: 1024, fields: 32 }, Head::default());
            assert!(head.parse(text.as_bytes(), &limits, &mut 0).unwrap());
            let found = clients.behind(peer.parse().unwrap(), &head, text.as_bytes());
            assert_eq!(found, expected.map(|address| address.parse().unwrap()), "{peer}: {told:?}");
            assert_eq!(Clients::new(&[]).behind(peer.parse().unwrap(), &head, text.as_bytes()), None);
        }
    }
}
