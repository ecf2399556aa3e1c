//! Turns the addresses of a `Config` into listening sockets, or into one sentence that says what is in the way.
//!
//! It accepts nothing and knows no engine: the sockets come out blocking, and an engine that polls makes them
//! nonblocking itself. It is also where the addresses become the URLs of the banner.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::{Bind, Config, Timeouts};
use crate::start_error::StartError;

/// Connections that may wait to be accepted. Linux cuts it to net.core.somaxconn, 4096 itself since Linux 5.4; more
/// would only be cut.
const BACKLOG: i32 = 4096;

/// With port 0, how often a new port is picked when a later address finds it taken. On a machine whose programs hold half
/// of the 28,000 ephemeral ports, connections just closed included, every second attempt fails.
const ATTEMPTS: u32 = 100;

/// Opens every address the configuration asks for, in its order.
///
/// With no `--bind` this is loopback: 127.0.0.1, and ::1 where the machine has IPv6. With port 0 the first address
/// picks the port and the others take the same one. The sockets are blocking, and closed on exec.
///
/// # Errors
/// One address that cannot be had fails the whole: a server that listens on half of what was asked looks healthy.
pub fn bind_all(config: &Config) -> Result<Vec<TcpListener>, StartError> {
    let candidates = candidates(config);
    let mut attempt = 1;
    loop {
        match bind_each(&candidates, config) {
            Ok(listeners) => return Ok(listeners),
            Err(failure) if config.port == 0 && failure.is_busy() && attempt < ATTEMPTS => {
                attempt += 1;
            }
            Err(failure) => return Err(failure.explain()),
        }
    }
}

/// The URLs at which the listeners answer, in their order.
///
/// An unspecified address (0.0.0.0, ::) stands for all; it is shown as it is, so that nobody takes a server open to the
/// network for a private one.
pub fn urls(listeners: &[TcpListener]) -> Vec<String> {
    listeners
        .iter()
        .filter_map(|listener| listener.local_addr().ok())
        .map(|address| format!("http://{address}/"))
        .collect()
}

/// An address to try.
struct Candidate {
    bind: Bind,
    /// Nobody asked for it by name: do without where the machine lacks it.
    optional: bool,
}

fn candidates(config: &Config) -> Vec<Candidate> {
    if config.binds.is_empty() {
        let candidate = |ip: IpAddr, optional| Candidate { bind: Bind::from(ip), optional };
        return vec![candidate(Ipv4Addr::LOCALHOST.into(), false), candidate(Ipv6Addr::LOCALHOST.into(), true)];
    }
    config.binds.iter().map(|&bind| Candidate { bind, optional: false }).collect()
}

/// Opens the candidates once. The configuration's port serves those that name none; while it is 0, the first of them
/// settles it.
fn bind_each(candidates: &[Candidate], config: &Config) -> Result<Vec<TcpListener>, Failure> {
    let mut port = config.port;
    let mut listeners = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let address = candidate.bind.address(port);
        match listen(address, &config.timeouts) {
            Ok((listener, bound)) => {
                if !candidate.bind.has_port() {
                    port = bound.port();
                }
                listeners.push(listener);
            }
            // Busy is not missing: with ::1 left to another program, http://localhost:4221/ would show that program.
            Err(error) if candidate.optional && is_missing(&error) => {}
            Err(error) => {
                let earlier = listeners
                    .iter()
                    .filter_map(|listener| listener.local_addr().ok())
                    .find(|earlier| covers(earlier, &address));
                return Err(Failure { address, error, earlier });
            }
        }
    }
    Ok(listeners)
}

/// Opens one listening socket; also returns its address, where port 0 has become a port.
///
/// On Linux an accepted socket inherits the options of its listener: a few calls at start in place of some a connection.
/// They are copied when the handshake ends, not when the connection is accepted. So all of them are set before
/// `listen`: a client may connect from then on, however long the engine takes to come.
fn listen(address: SocketAddr, timeouts: &Timeouts) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart would otherwise wait a minute for the old connections in TIME_WAIT. On Linux this doesn't let two
    // programs listen on one port (socket(7)).
    socket.set_reuse_address(true)?;
    // Without it Nagle's algorithm holds back the tail of a response until the client acknowledges the rest.
    socket.set_tcp_nodelay(true)?;
    // For the engines whose calls wait. A new connection must send its head within `header`.
    socket.set_read_timeout(Some(timeouts.header))?;
    socket.set_write_timeout(Some(timeouts.write))?;
    if address.is_ipv6() {
        // [::] would take the IPv4 port too, and 0.0.0.0 beside it fail, unless a sysctl (bindv6only) says otherwise.
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

/// Whether a listener on `earlier` leaves no room for `later`.
fn covers(earlier: &SocketAddr, later: &SocketAddr) -> bool {
    earlier.port() == later.port()
        && earlier.is_ipv4() == later.is_ipv4()
        && (earlier.ip() == later.ip() || earlier.ip().is_unspecified() || later.ip().is_unspecified())
}

/// An address that could not be had.
struct Failure {
    address: SocketAddr,
    error: io::Error,
    /// A listener of ours on the same port, when it may be what is in the way.
    earlier: Option<SocketAddr>,
}

impl Failure {
    fn is_busy(&self) -> bool {
        self.error.kind() == io::ErrorKind::AddrInUse
    }

    fn explain(&self) -> StartError {
        let address = self.address;
        let reason = match (Errno::from_io_error(&self.error), self.earlier) {
            (Some(Errno::ADDRINUSE), Some(earlier)) => {
                format!("--bind {earlier} already covers it; leave out one of the two")
            }
            (Some(Errno::ADDRINUSE), None) => {
                "the address is in use by another program; stop it or choose another port with --port".into()
            }
            (Some(Errno::ACCESS), _) => {
                "this port needs a privilege; choose a port from 1024 up with --port, or give the program the \
                 capability CAP_NET_BIND_SERVICE"
                    .into()
            }
            (Some(Errno::ADDRNOTAVAIL), _) => {
                "this machine has no such address; `ip address` lists those it has, and 0.0.0.0 or :: stands for all"
                    .into()
            }
            (Some(Errno::AFNOSUPPORT), _) => "this machine has no IPv6; choose an IPv4 address with --bind".into(),
            (Some(Errno::MFILE | Errno::NFILE), _) => "no file descriptor is left; raise the limit (ulimit -n)".into(),
            // A link-local address without its interface.
            (Some(Errno::INVAL), _) if address.is_ipv6() => {
                "a link-local address needs the number of its interface, as in [fe80::1%2]:4221; `ip link` shows it"
                    .into()
            }
            _ => format!("{}; choose another address with --bind", self.error),
        };
        StartError::new(format!("cannot listen on {address}: {reason}"))
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
        assert!(message.contains("--bind 0.0.0.0:"), "{message}");
        assert!(message.contains("already covers it"), "{message}");
    }

    #[test]
    fn foreign_address_is_explained() {
        // TEST-NET-1 (RFC 5737) belongs to nobody.
        let error = bind_all(&config(&["--port=0", "--bind=192.0.2.1"])).unwrap_err();
        assert!(error.to_string().contains("no such address"), "{}", error.to_string());
    }

    #[test]
    fn each_errno_has_its_remedy() {
        for (errno, remedy) in [
            (Errno::ADDRINUSE, "--port"),
            (Errno::ACCESS, "CAP_NET_BIND_SERVICE"),
            (Errno::ADDRNOTAVAIL, "ip address"),
            (Errno::AFNOSUPPORT, "IPv4"),
            (Errno::MFILE, "ulimit -n"),
            (Errno::INVAL, "interface"),
            (Errno::NOBUFS, "--bind"),
        ] {
            let failure = Failure { address: "[fe80::1]:80".parse().unwrap(), error: errno.into(), earlier: None };
            let message = failure.explain().to_string();
            assert!(message.starts_with("cannot listen on [fe80::1]:80: "), "{message}");
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

    /// As soon as a client can connect: nothing comes between `bind_all` and its connection here.
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
