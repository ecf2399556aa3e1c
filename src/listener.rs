//! Opens a listening socket for each address of a `Config`. If one cannot be opened, returns one sentence with the
//! cause and a remedy. Also makes the URLs of the banner.
//!
//! It accepts no connections and knows no engine. The sockets are blocking; an engine that polls makes them
//! nonblocking.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::bind::{Bind, Place};
use crate::config::{Config, Timeouts};
use crate::start_error::StartError;

/// Connections that may wait to be accepted. Linux lowers this to net.core.somaxconn, which is 4096 by default since
/// Linux 5.4.
const BACKLOG: i32 = 4096;

/// With port 0: how many times another port is picked if the picked port is in use on a later address. If half of the
/// 28,000 ephemeral ports are in use, or were until lately (TIME_WAIT), every second attempt fails.
const ATTEMPTS: u32 = 100;

/// Opens every address of the configuration, in its order. Names are looked up once, here.
///
/// Without `--bind` these are the loopback addresses: 127.0.0.1, and ::1 if the machine has IPv6. With port 0, the
/// system picks a port for the first address, and the others use the same port; `localhost:0` and `*:0` pick another
/// one for their own addresses. The sockets are blocking, and closed on exec.
///
/// # Errors
/// An address cannot be opened, or a name has no address. Then no socket stays open: a server that listens on half of
/// its addresses would look healthy.
pub fn bind_all(config: &Config) -> Result<Vec<TcpListener>, StartError> {
    let groups = groups(config)?;
    let mut attempt = 1;
    loop {
        match bind_each(&groups, config) {
            Ok(listeners) => return Ok(listeners),
            Err(failure) if failure.is_unlucky() && attempt < ATTEMPTS => attempt += 1,
            Err(failure) => return Err(failure.explain()),
        }
    }
}

/// The URLs at which the listeners answer, in their order.
///
/// An unspecified address (0.0.0.0, ::) means all addresses. It is shown unchanged, to make clear that the server is
/// open to the network.
pub fn urls(listeners: &[TcpListener]) -> Vec<String> {
    listeners
        .iter()
        .filter_map(|listener| listener.local_addr().ok())
        .map(|address| format!("http://{address}/"))
        .collect()
}

/// The addresses of one `--bind`.
struct Group {
    /// The value of `--bind`; empty for the default addresses.
    text: String,
    /// `None`: the port of `--port`.
    port: Option<u16>,
    candidates: Vec<Candidate>,
}

/// An address to try.
struct Candidate {
    /// The port in it is not used.
    address: SocketAddr,
    /// The user did not ask for this very address. If the machine lacks its address family, it is left out.
    optional: bool,
    /// The name whose lookup returned this address, or `*`.
    name: Option<String>,
}

impl Candidate {
    fn of(ip: impl Into<IpAddr>, optional: bool) -> Candidate {
        Candidate { address: SocketAddr::new(ip.into(), 0), optional, name: None }
    }
}

fn groups(config: &Config) -> Result<Vec<Group>, StartError> {
    if config.binds.is_empty() {
        let candidates = vec![Candidate::of(Ipv4Addr::LOCALHOST, false), Candidate::of(Ipv6Addr::LOCALHOST, true)];
        return Ok(vec![Group { text: String::new(), port: None, candidates }]);
    }
    let group = |bind: &Bind| {
        let candidates = match &bind.place {
            Place::Address(address) => vec![Candidate { address: *address, optional: false, name: None }],
            Place::Every => {
                let all = [Candidate::of(Ipv4Addr::UNSPECIFIED, false), Candidate::of(Ipv6Addr::UNSPECIFIED, true)];
                all.map(|candidate| Candidate { name: Some("*".to_owned()), ..candidate }).into()
            }
            Place::Name(name) => look_up(name)?,
        };
        Ok(Group { text: bind.text.clone(), port: bind.port, candidates })
    };
    config.binds.iter().map(group).collect()
}

/// All addresses of a name, IPv4 first. If it has both kinds, those of IPv6 are optional.
fn look_up(name: &str) -> Result<Vec<Candidate>, StartError> {
    let unknown = |cause: String| {
        let remedy = "correct the name, or give its address with --bind";
        StartError::new(format!("cannot listen on {name}: {cause}; {remedy}"))
    };
    let found = (name, 0).to_socket_addrs().map_err(|error| match name.split_once('%') {
        Some((_, zone)) => {
            let reason = format!("there is no interface {zone}; `ip link` shows the interfaces");
            StartError::new(format!("cannot listen on {name}: {reason}"))
        }
        None => unknown(error.to_string()),
    })?;
    let mut addresses: Vec<SocketAddr> = found.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.dedup();
    let Some(first) = addresses.first() else { return Err(unknown("the name has no address".into())) };
    let has_ipv4 = first.is_ipv4();
    let candidate = |address: SocketAddr| Candidate {
        address,
        optional: has_ipv4 && address.is_ipv6(),
        name: Some(name.to_owned()),
    };
    Ok(addresses.into_iter().map(candidate).collect())
}

/// Tries once to open all candidates. Groups without a port use the configuration's. If a port is 0, the first address
/// that uses it decides which port it becomes.
fn bind_each(groups: &[Group], config: &Config) -> Result<Vec<TcpListener>, BindFailure> {
    let mut shared = config.port;
    let mut listeners: Vec<TcpListener> = Vec::new();
    // For each listener: its address, and the --bind that it is for.
    let mut opened: Vec<(SocketAddr, &str)> = Vec::new();
    for group in groups {
        let mut own = group.port.unwrap_or_default();
        let (port, given) = match group.port {
            Some(given) => (&mut own, given),
            None => (&mut shared, config.port),
        };
        for candidate in &group.candidates {
            let mut address = candidate.address;
            address.set_port(*port);
            match listen(address, &config.timeouts) {
                Ok((listener, bound)) => {
                    *port = bound.port();
                    listeners.push(listener);
                    opened.push((bound, &group.text));
                }
                // An optional address that is in use is an error: if another program has ::1, http://localhost:4221/
                // would show that program.
                Err(error) if candidate.optional && is_missing(&error) => {}
                Err(error) => {
                    let earlier = opened.iter().find(|(earlier, _)| covers(earlier, &address));
                    let earlier = earlier.map(|(_, text)| format!("{} {text}", config.given.spelled("bind")));
                    let name = candidate.name.clone();
                    return Err(BindFailure { address, name, error, earlier, is_picked: given == 0 });
                }
            }
        }
    }
    Ok(listeners)
}

/// Opens one listening socket. Also returns its address, in which port 0 has become a real port.
///
/// On Linux an accepted socket inherits the options of its listener, which saves system calls for each connection. The
/// options are copied when the handshake ends, not when the connection is accepted. So all of them are set before
/// `listen`: from then on clients may connect, even before the engine runs.
fn listen(address: SocketAddr, timeouts: &Timeouts) -> io::Result<(TcpListener, SocketAddr)> {
    // Linux refuses a multicast address of IPv6, but not these.
    if matches!(address.ip(), IpAddr::V4(ip) if ip.is_multicast() || ip.is_broadcast()) {
        return Err(Errno::INVAL.into());
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Without this, a restart fails for a minute, while old connections are in TIME_WAIT. On Linux it does not let two
    // programs listen on one port (socket(7)).
    socket.set_reuse_address(true)?;
    // Without this, Nagle's algorithm delays the end of a response until the client has acknowledged the rest.
    socket.set_tcp_nodelay(true)?;
    // For the engines with blocking sockets. A new connection must send its head within `header`.
    socket.set_read_timeout(Some(timeouts.header))?;
    socket.set_write_timeout(Some(timeouts.write))?;
    if address.is_ipv6() {
        // Without this, [::] would take the IPv4 port too (unless the sysctl bindv6only is set), and 0.0.0.0 would
        // fail.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from(socket);
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// Whether the machine lacks IPv6: booted without it (EAFNOSUPPORT), or switched off on loopback (EADDRNOTAVAIL).
fn is_missing(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

/// Whether the listener on `earlier` makes it impossible to listen on `later`.
fn covers(earlier: &SocketAddr, later: &SocketAddr) -> bool {
    earlier.port() == later.port()
        && earlier.is_ipv4() == later.is_ipv4()
        && (earlier.ip() == later.ip() || earlier.ip().is_unspecified() || later.ip().is_unspecified())
}

/// An address that could not be opened.
struct BindFailure {
    address: SocketAddr,
    /// The name whose lookup returned the address, or `*`.
    name: Option<String>,
    error: io::Error,
    /// The setting of one of our own listeners that may be the cause, as the user wrote it: `--bind *`.
    earlier: Option<String>,
    /// The system picked the port, for an earlier address.
    is_picked: bool,
}

impl BindFailure {
    /// Whether to try again: another picked port may be free on all addresses.
    fn is_unlucky(&self) -> bool {
        self.is_picked && self.earlier.is_none() && self.error.kind() == io::ErrorKind::AddrInUse
    }

    fn explain(&self) -> StartError {
        let of = self.name.as_ref().map_or(String::new(), |name| format!(", an address of {name}"));
        StartError::new(format!("cannot listen on {}{of}: {}", self.address, self.reason()))
    }

    /// The cause and the remedy.
    fn reason(&self) -> String {
        let errno = Errno::from_io_error(&self.error).unwrap_or(Errno::IO);
        let reason = match (errno, &self.earlier, self.address) {
            (Errno::ADDRINUSE, Some(earlier), _) => {
                return format!("{earlier} already covers it; leave out one of the two");
            }
            (Errno::ADDRINUSE, None, _) => {
                "the address is in use by another program; stop it or choose another port with --port"
            }
            (Errno::ACCESS, ..) if self.address.port() < 1024 => {
                "this port needs a privilege; choose a port from 1024 up with --port, or give the program the \
                 capability CAP_NET_BIND_SERVICE"
            }
            (Errno::ADDRNOTAVAIL, ..) => {
                "this machine has no such address; `ip address` lists those it has, and * means all"
            }
            (Errno::AFNOSUPPORT, _, SocketAddr::V6(_)) => {
                "this machine has no IPv6; choose an IPv4 address with --bind"
            }
            (Errno::AFNOSUPPORT, _, SocketAddr::V4(_)) => {
                "this machine has no IPv4; choose an IPv6 address with --bind"
            }
            (Errno::MFILE | Errno::NFILE, ..) => "no file descriptor is left; raise the limit (ulimit -n)",
            (Errno::INVAL, _, SocketAddr::V6(address))
                if address.ip().is_unicast_link_local() && address.scope_id() == 0 =>
            {
                "a link-local address needs its interface, as in [fe80::1%eth0]:4221; `ip link` shows the interfaces"
            }
            (Errno::INVAL, ..) if self.address.ip().is_multicast() => {
                "a multicast address takes no connections; choose an address of this machine with --bind"
            }
            (Errno::INVAL, _, SocketAddr::V4(address)) if address.ip().is_broadcast() => {
                "a broadcast address takes no connections; choose an address of this machine with --bind"
            }
            (Errno::NODEV, _, SocketAddr::V6(address)) if address.scope_id() != 0 => {
                let scope = address.scope_id();
                return format!("there is no interface with the number {scope}; `ip link` shows the interfaces");
            }
            _ => return format!("{}; choose another address with --bind, or another port with --port", self.error),
        };
        reason.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(args: &[&str]) -> Config {
        let args = ["dustdevil", "."].iter().chain(args);
        Config::from_args(args).expect("a good command line")
    }

    fn port(listener: &TcpListener) -> u16 {
        listener.local_addr().unwrap().port()
    }

    fn has_ipv6() -> bool {
        TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
    }

    #[test]
    fn default_is_loopback_on_one_port() {
        let listeners = bind_all(&config(&["--port", "0"])).unwrap();
        assert_eq!(listeners.len(), if has_ipv6() { 2 } else { 1 });
        let port = port(&listeners[0]);
        let urls = urls(&listeners);
        assert_eq!(urls[0], format!("http://127.0.0.1:{port}/"));
        if has_ipv6() {
            assert_eq!(urls[1], format!("http://[::1]:{port}/"));
        }
    }

    #[test]
    fn port_zero_picks_another_port_each_time() {
        let config = config(&["--port", "0"]);
        let first = bind_all(&config).unwrap();
        let second = bind_all(&config).unwrap();
        assert_ne!(port(&first[0]), port(&second[0]));
    }

    #[test]
    fn explicit_addresses_share_a_picked_port_unless_they_name_one() {
        let binds = config(&["--port=0", "--bind=127.0.0.1", "--bind=127.0.0.2"]);
        let listeners = bind_all(&binds).unwrap();
        assert_eq!(port(&listeners[0]), port(&listeners[1]));

        let binds = config(&["--port=0", "--bind=127.0.0.1", "--bind=127.0.0.1:0"]);
        let listeners = bind_all(&binds).unwrap();
        assert_ne!(port(&listeners[0]), port(&listeners[1]));
    }

    #[test]
    fn ipv4_and_ipv6_wildcards_stand_side_by_side() {
        if !has_ipv6() {
            return;
        }
        let listeners = bind_all(&config(&["--port=0", "--bind", "::", "--bind", "0.0.0.0"])).unwrap();
        assert_eq!(port(&listeners[0]), port(&listeners[1]));
    }

    #[test]
    fn every_address_stands_for_both_families_on_one_port() {
        for args in [&["--bind=*:0"][..], &["--bind=*", "--port=0"]] {
            let listeners = bind_all(&config(args)).unwrap();
            assert!(listeners[0].local_addr().unwrap().ip().is_unspecified());
            assert_eq!(listeners.len(), if has_ipv6() { 2 } else { 1 });
            assert!(listeners.iter().all(|listener| port(listener) == port(&listeners[0])));
        }
        // An address with its own port 0 gets another port.
        let listeners = bind_all(&config(&["--port=0", "--bind=127.0.0.1", "--bind=localhost:0"])).unwrap();
        assert_ne!(port(&listeners[0]), port(&listeners[1]));
        assert!(listeners[1..].iter().all(|listener| port(listener) == port(&listeners[1])));
    }

    #[test]
    fn a_name_stands_for_all_its_addresses() {
        let listeners = bind_all(&config(&["--port=0", "--bind=localhost"])).unwrap();
        assert!(listeners.iter().all(|listener| listener.local_addr().unwrap().ip().is_loopback()));
        assert!(listeners.iter().all(|listener| port(listener) == port(&listeners[0])));
        let busy = port(&listeners[0]);
        let message = bind_all(&config(&[&format!("--bind=localhost:{busy}")])).unwrap_err().to_string();
        assert!(message.contains("an address of localhost: the address is in use"), "{message}");
        // RFC 6761: names in .invalid never exist.
        let error = bind_all(&config(&["--port=0", "--bind=nothing.invalid"])).unwrap_err();
        assert_eq!(error.code, 1);
        assert!(error.message.starts_with("cannot listen on nothing.invalid: "), "{error}");
        assert!(error.message.ends_with("correct the name, or give its address with --bind"), "{error}");
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        let listeners = bind_all(&config(&["--bind=[::ffff:127.0.0.1]:0"])).unwrap();
        assert_eq!(listeners[0].local_addr().unwrap().ip(), IpAddr::from(Ipv4Addr::LOCALHOST));
    }

    #[test]
    fn busy_port_is_one_sentence_with_a_remedy() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = port(&holder);
        for args in [
            vec![format!("--port={port}")],
            vec![format!("--bind=127.0.0.1:{port}")],
            vec!["--port=0".into(), format!("--bind=127.0.0.1:{port}")],
        ] {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let error = bind_all(&config(&args)).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "cannot listen on 127.0.0.1:{port}: the address is in use by another program; stop it or choose \
                     another port with --port"
                )
            );
            assert_eq!(error.code, 1);
        }
    }

    #[test]
    fn our_own_earlier_bind_is_not_blamed_on_another_program() {
        let binds = config(&["--port=0", "--bind=0.0.0.0", "--bind=127.0.0.1"]);
        let message = bind_all(&binds).unwrap_err().to_string();
        assert!(message.ends_with(": --bind 0.0.0.0 already covers it; leave out one of the two"), "{message}");
        for (one, other) in
            [("localhost", "127.0.0.1"), ("*", "127.0.0.1"), ("127.0.0.1", "localhost"), ("127.0.0.1", "*")]
        {
            let binds = config(&["--port=0", "--bind", one, "--bind", other]);
            let message = bind_all(&binds).unwrap_err().to_string();
            assert!(message.contains(&format!(": --bind {one} already covers it; leave out")), "{message}");
        }
    }

    #[test]
    fn an_address_for_many_machines_is_refused() {
        for (address, kind) in
            [("224.0.0.1", "multicast"), ("239.1.2.3", "multicast"), ("255.255.255.255", "broadcast")]
        {
            let message = bind_all(&config(&["--port=0", "--bind", address])).unwrap_err().to_string();
            assert!(message.contains(&format!("a {kind} address takes no connections; choose")), "{message}");
        }
    }

    #[test]
    fn a_missing_interface_is_named() {
        let message = bind_all(&config(&["--bind=[fe80::1%25none0]:0"])).unwrap_err().to_string();
        assert!(
            message.starts_with("cannot listen on fe80::1%none0: there is no interface none0; `ip link`"),
            "{message}"
        );
    }

    #[test]
    fn foreign_address_is_explained() {
        // TEST-NET-1 (RFC 5737) belongs to nobody.
        let error = bind_all(&config(&["--port=0", "--bind=192.0.2.1"])).unwrap_err();
        assert!(error.to_string().contains("no such address"), "{}", error.to_string());
    }

    #[test]
    fn each_errno_has_its_remedy() {
        for (errno, address, remedy) in [
            (Errno::ADDRINUSE, "[fe80::1]:80", "--port"),
            (Errno::ACCESS, "127.0.0.1:80", "CAP_NET_BIND_SERVICE"),
            (Errno::ACCESS, "127.0.0.1:8080", "Permission denied"),
            (Errno::ADDRNOTAVAIL, "192.0.2.1:80", "ip address"),
            (Errno::AFNOSUPPORT, "[::1]:80", "no IPv6"),
            (Errno::AFNOSUPPORT, "127.0.0.1:80", "no IPv4"),
            (Errno::MFILE, "[::1]:80", "ulimit -n"),
            (Errno::INVAL, "[fe80::1]:80", "interface"),
            (Errno::INVAL, "[ff02::1]:80", "multicast"),
            (Errno::INVAL, "255.255.255.255:80", "a broadcast address"),
            // The address has its interface, so something else is invalid.
            (Errno::INVAL, "[fe80::1%2]:80", "Invalid argument"),
            (Errno::INVAL, "[2001:db8::1]:80", "Invalid argument"),
            (Errno::INVAL, "127.0.0.1:80", "Invalid argument"),
            (Errno::NODEV, "[fe80::1%99]:80", "no interface with the number 99"),
            (Errno::NOBUFS, "[::1]:80", "--bind"),
        ] {
            let address = address.parse().unwrap();
            let failure = BindFailure { address, name: None, error: errno.into(), earlier: None, is_picked: false };
            let message = failure.explain().to_string();
            assert!(message.starts_with(&format!("cannot listen on {address}: ")), "{message}");
            assert!(message.contains(remedy), "{message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn only_a_missing_address_family_is_forgiven() {
        assert!(is_missing(&Errno::AFNOSUPPORT.into()));
        assert!(is_missing(&Errno::ADDRNOTAVAIL.into()));
        assert!(!is_missing(&Errno::ADDRINUSE.into()));
        assert!(!is_missing(&Errno::ACCESS.into()));
    }

    /// They do so from the moment when a client can connect: here it connects right after `bind_all`.
    #[test]
    fn accepted_sockets_inherit_their_options() {
        let config = config(&["--port=0", "--header-timeout=7s", "--write-timeout=11s"]);
        let listeners = bind_all(&config).unwrap();
        let _client = std::net::TcpStream::connect(listeners[0].local_addr().unwrap()).unwrap();
        let (accepted, _) = listeners[0].accept().unwrap();
        assert!(accepted.nodelay().unwrap());
        assert_eq!(accepted.read_timeout().unwrap(), Some(config.timeouts.header));
        assert_eq!(accepted.write_timeout().unwrap(), Some(config.timeouts.write));
    }
}
