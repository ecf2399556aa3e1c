//! The `Transport` of the event engine: a client's nonblocking socket with its ready bits, and the exchange's socket to
//! its upstream. `WouldBlock` or a short read or write clears a ready bit. The next edge sets it again.

use crate::app::upstreams::{Address, ConnectError, Reuse, Upstream};
use crate::driver::{Connected, Handback, Transport, UpstreamTransport};
use crate::engine::python::Workers;
use crate::engine::socket::{HUNG_UP, READ_CLOSED, READABLE, WRITABLE, send, send_file};
use crate::engine::upstream::links::Links;
use crate::http::date::Now;
use crate::session::Ready;
use mio::Registry;
use mio::net::TcpStream;
use std::fs::File;
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

pub struct Evented<'a, 'app> {
    pub stream: &'a mut TcpStream,
    pub ready: &'a mut u8,
    pub now: &'a mut Now,
    pub ending_since: Option<Instant>,
    /// The client's key.
    pub key: usize,
    pub link: &'a mut Option<u32>,
    pub links: &'a mut Links<'app>,
    pub registry: &'a Registry,
    pub workers: Workers<'app>,
    /// The client waits for a Python worker, and one may be free now.
    pub woken: &'a mut bool,
}

/// Clears the ready bit if the call's result shows that nothing is left to read, or that the send buffer is full.
fn note(ready: &mut u8, bit: u8, asked: usize, result: io::Result<usize>) -> io::Result<usize> {
    match &result {
        Ok(count) if *count < asked && (bit == WRITABLE || *ready & READ_CLOSED == 0) => *ready &= !bit,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => *ready &= !bit,
        _ => {}
    }
    result
}

impl Transport for Evented<'_, '_> {
    fn now(&mut self) -> &Now {
        self.now
    }

    fn tick(&mut self) {
        self.now.instant = Instant::now();
    }

    fn ending_since(&self) -> Option<Instant> {
        self.ending_since
    }

    fn ready(&self) -> Ready {
        Ready::NONE
            .with_if(*self.ready & READABLE != 0, Ready::CLIENT_READ)
            .with_if(*self.ready & WRITABLE != 0, Ready::CLIENT_WRITE)
            .with_if(*self.ready & READ_CLOSED != 0, Ready::CLIENT_EOF)
            .with_if(*self.ready & HUNG_UP != 0, Ready::CLIENT_GONE)
    }

    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let result = self.stream.read(room);
        note(self.ready, READABLE, room.len(), result)
    }

    fn write(&mut self, parts: [&[u8]; 2], more: bool) -> io::Result<usize> {
        let result = send(&*self.stream, parts, more);
        note(self.ready, WRITABLE, parts[0].len() + parts[1].len(), result)
    }

    fn send_file(&mut self, file: &File, at: u64, len: usize) -> io::Result<usize> {
        let result = send_file(&*self.stream, file, at, len);
        match &result {
            // A short sendfile may also mean the end of the file: only WouldBlock means that the send buffer is full.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => *self.ready &= !WRITABLE,
            _ => {}
        }
        result
    }

    fn shut_down_write(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    fn reset_on_close(&mut self) {
        // Fails only if the connection is closed already.
        let _ = socket2::SockRef::from(&*self.stream).set_linger(Some(Duration::ZERO));
    }
}

impl UpstreamTransport for Evented<'_, '_> {
    fn upstream_ready(&self) -> Ready {
        // Without a link, UPSTREAM_WRITE tells the session to try again to get a worker.
        let Some(link) = *self.link else { return Ready::NONE.with_if(*self.woken, Ready::UPSTREAM_WRITE) };
        let link = self.links.get(link as usize).ready;
        Ready::NONE
            .with_if(link & READABLE != 0, Ready::UPSTREAM_READ)
            .with_if(link & WRITABLE != 0, Ready::UPSTREAM_WRITE)
    }

    fn connect(&mut self, to: &Upstream, reuse: Reuse, request: Option<&[u8]>) -> Result<Connected, ConnectError> {
        *self.woken = false;
        let (key, connected) = match to.address {
            Address::Worker(pool) => {
                self.links.lease(pool, self.key, request, self.workers, self.registry, self.now.instant)?
            }
            _ => self.links.connect(to, reuse, self.key, self.registry, self.now.instant)?,
        };
        *self.link = Some(key as u32);
        Ok(connected)
    }

    fn read_upstream(&mut self, room: &mut [u8], files: &mut Vec<OwnedFd>) -> io::Result<usize> {
        let Some(key) = *self.link else { return Err(io::ErrorKind::NotConnected.into()) };
        let link = self.links.get_mut(key as usize);
        let before = files.len();
        let result = link.socket.read(room, files);
        // A read ends after the bytes that came with a descriptor (unix(7)), so a short one does not mean that no bytes
        // are left.
        let asked = if files.len() > before { 0 } else { room.len() };
        note(&mut link.ready, READABLE, asked, result)
    }

    fn write_upstream(&mut self, bytes: &[u8], file: Option<BorrowedFd<'_>>) -> io::Result<usize> {
        let Some(key) = *self.link else { return Err(io::ErrorKind::NotConnected.into()) };
        let link = self.links.get_mut(key as usize);
        let result = link.socket.write(bytes, file);
        note(&mut link.ready, WRITABLE, bytes.len(), result)
    }

    fn shut_down_upstream(&mut self) -> io::Result<()> {
        let Some(key) = *self.link else { return Ok(()) };
        self.links.get(key as usize).socket.shut_down_write()
    }

    fn release(&mut self, keep: bool, handback: Option<Handback>) {
        match self.link.take() {
            Some(key) => self.links.release(key as usize, keep, handback, self.registry, self.now.instant),
            // The client may have been waiting for a worker.
            None if handback.is_some() => {
                self.links.leave(self.key, self.workers, self.registry, self.now.instant);
            }
            None => {}
        }
    }
}
