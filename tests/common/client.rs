//! A client that sends bytes as given, and reads responses strictly by RFC 9112: a response that only a lenient client
//! would accept fails the test.

use super::{PATIENCE, Server, shown};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A request to send behind another one. Its answer, the text `second`, shows that the server found the end of the
/// first.
pub const SECOND: &str = "GET /echo/second HTTP/1.1\r\nHost: x\r\n\r\n";

pub struct Client {
    stream: TcpStream,
    /// Bytes that have been read and belong to no response yet.
    buffer: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    pub version: String,
    pub status: u16,
    pub reason: String,
    pub fields: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    pub framing: Framing,
}

/// How the end of the body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body by the method or the status, whatever the fields say.
    None,
    Length,
    Chunked,
    Close,
}

/// Sends one GET on a new connection.
pub fn get(server: &Server, path: &str) -> Response {
    exchange(server, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
}

/// Sends one request on a new connection. A HEAD request is recognised by its first bytes.
pub fn exchange(server: &Server, request: impl AsRef<[u8]>) -> Response {
    let request = request.as_ref();
    let mut client = Client::connect(server);
    client.send(request);
    if request.starts_with(b"HEAD ") { client.read_response_to_head() } else { client.read_response() }
}

/// Sends one request without content on a new connection. Each line of `fields` ends in CRLF.
pub fn ask(server: &Server, method: &str, path: &str, fields: &str) -> Response {
    exchange(server, format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n"))
}

impl Client {
    pub fn connect(server: &Server) -> Client {
        Client::connect_to(server.address())
    }

    pub fn connect_to(address: SocketAddr) -> Client {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, buffer: Vec::new() }
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The client's address, as the server sees it.
    pub fn address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the server takes the bytes");
    }

    /// Sends bytes that the server may refuse, because it has already answered and closed.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Shuts the connection down for writing. Responses can still be read.
    pub fn finish_sending(&self) {
        self.stream.shutdown(Shutdown::Write).expect("a connection that is still there");
    }

    /// Resets the connection, like a client that crashed or was killed.
    pub fn abort(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Whether a byte or the end of the stream has arrived. Does not wait.
    pub fn is_answered(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Reads one response. An interim response (1xx) counts as one.
    pub fn read_response(&mut self) -> Response {
        self.read_message(false).expect("an answer, but the connection closed")
    }

    pub fn read_response_to_head(&mut self) -> Response {
        self.read_message(true).expect("an answer, but the connection closed")
    }

    /// Reads one response. None if the connection closes instead.
    pub fn next_response(&mut self) -> Option<Response> {
        self.read_message(false)
    }

    /// Reads the next response that is not interim.
    pub fn read_final_response(&mut self) -> Response {
        loop {
            let response = self.read_response();
            if response.status >= 200 {
                return response;
            }
        }
    }

    /// Reads all bytes until the server closes or resets the connection.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let until = Instant::now() + PATIENCE * 3;
        while self.fill() > 0 {
            assert!(Instant::now() < until, "bytes without an end: {}", shown(&self.buffer));
        }
        std::mem::take(&mut self.buffer)
    }

    /// Checks that the server closes without sending another byte.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        let rest = self.read_to_end();
        assert!(rest.is_empty(), "more bytes before the close: {}", shown(&rest));
    }

    /// Reads the bytes that have arrived, or waits for some. Returns 0 at the end.
    pub fn read_some(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.buffer.is_empty() {
            return self.stream.read(into);
        }
        let count = into.len().min(self.buffer.len());
        into[..count].copy_from_slice(&self.buffer[..count]);
        self.buffer.drain(..count);
        Ok(count)
    }

    /// Reads a head only. Read the body with `read_some`, if it is too large to keep.
    pub fn read_head(&mut self) -> Response {
        self.next_head().expect("an answer, but the connection closed")
    }

    fn read_message(&mut self, to_head: bool) -> Option<Response> {
        let mut response = self.next_head()?;
        response.framing = response.body_framing(to_head);
        response.body = match response.framing {
            Framing::None => Vec::new(),
            Framing::Length => {
                let length = response.content_length().unwrap();
                self.take(length, &response)
            }
            Framing::Chunked => self.take_chunks(&response),
            Framing::Close => self.read_to_end(),
        };
        Some(response)
    }

    fn next_head(&mut self) -> Option<Response> {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            if self.fill() == 0 {
                assert!(self.buffer.is_empty(), "closed within a head: {}", shown(&self.buffer));
                return None;
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        Some(parse_head(&head))
    }

    fn take(&mut self, length: usize, response: &Response) -> Vec<u8> {
        while self.buffer.len() < length {
            let read = self.fill();
            assert!(read > 0, "closed after {} of {length} body bytes of {response:?}", self.buffer.len());
        }
        self.buffer.drain(..length).collect()
    }

    fn take_chunks(&mut self, response: &Response) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = self.take_line(response);
            let digits = line.split(|byte| *byte == b';').next().unwrap();
            let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
            assert!(plain, "a chunk size of hexadecimal digits, not {}", shown(&line));
            let size = usize::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
            if size == 0 {
                break;
            }
            body.extend(self.take(size, response));
            assert_eq!(self.take(2, response), b"\r\n", "CRLF behind the data of a chunk");
        }
        while !self.take_line(response).is_empty() {} // trailers
        body
    }

    fn take_line(&mut self, response: &Response) -> Vec<u8> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line = self.buffer[..end].to_vec();
                self.buffer.drain(..end + 2);
                return line;
            }
            assert!(self.fill() > 0, "closed within a chunked body of {response:?}");
        }
    }

    /// Reads once. Returns 0 at the end of the stream, which may be a close or a reset.
    fn fill(&mut self) -> usize {
        let mut chunk = [0; 65536];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(read) => {
                    self.buffer.extend_from_slice(&chunk[..read]);
                    return read;
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => return 0,
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                        panic!("silence for {PATIENCE:?}; so far: {}", shown(&self.buffer))
                    }
                    _ => panic!("reading: {error}"),
                },
            }
        }
    }
}

impl Response {
    /// The value of a field that must not occur twice.
    #[track_caller]
    pub fn field(&self, name: &str) -> Option<&str> {
        let values = self.values(name);
        assert!(values.len() < 2, "{name} stands twice in {self:?}");
        let value = *values.first()?;
        Some(std::str::from_utf8(value).expect("a field value of ASCII or UTF-8"))
    }

    /// Every value of a field, in order.
    pub fn values(&self, name: &str) -> Vec<&[u8]> {
        let named = self.fields.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_slice()).collect()
    }

    /// Whether a comma-separated field has this token. Case does not matter.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        let lists = self.values(name).into_iter().map(String::from_utf8_lossy);
        lists.into_iter().any(|list| list.split(',').any(|item| item.trim().eq_ignore_ascii_case(token)))
    }

    pub fn says_close(&self) -> bool {
        self.lists("Connection", "close")
    }

    pub fn content_length(&self) -> Option<usize> {
        let value = self.field("Content-Length")?;
        assert!(value.bytes().all(|byte| byte.is_ascii_digit()), "Content-Length: {value}");
        Some(value.parse().unwrap())
    }

    /// The methods of Allow, sorted.
    #[track_caller]
    pub fn allowed(&self) -> Vec<String> {
        let list = self.field("Allow").unwrap_or_else(|| panic!("no Allow in {self:?}"));
        let mut methods: Vec<String> = list.split(',').map(|method| method.trim().to_owned()).collect();
        methods.sort();
        methods
    }

    /// The media type without its parameters, in lower case.
    pub fn media_type(&self) -> String {
        let value = self.field("Content-Type").unwrap_or_default();
        value.split(';').next().unwrap().trim().to_ascii_lowercase()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The fields that stay the same from one response to the next: all except Date, in a fixed order.
    pub fn lasting_fields(&self) -> Vec<(String, String)> {
        let lower = |(key, value): &(String, Vec<u8>)| (key.to_ascii_lowercase(), value.escape_ascii().to_string());
        let mut fields: Vec<_> = self.fields.iter().map(lower).filter(|(key, _)| key != "date").collect();
        fields.sort();
        fields
    }

    #[track_caller]
    pub fn expect_status(&self, allowed: &[u16]) -> &Response {
        assert!(allowed.contains(&self.status), "one of {allowed:?}, not {} ({})", self.status, self.text());
        self
    }

    /// RFC 9112 section 6.3, and the rules for senders in 6.1 and 6.2.
    fn body_framing(&self, to_head: bool) -> Framing {
        let length = self.content_length();
        let coding = self.field("Transfer-Encoding");
        assert!(length.is_none() || coding.is_none(), "both framings in {self:?}");
        let bare = self.status < 200 || self.status == 204;
        assert!(!bare || (length.is_none() && coding.is_none()), "framing fields in a {}: {self:?}", self.status);
        if to_head || bare || self.status == 304 {
            return Framing::None;
        }
        match (length, coding) {
            (Some(_), _) => Framing::Length,
            (None, Some(coding)) => {
                assert!(coding.eq_ignore_ascii_case("chunked"), "Transfer-Encoding: {coding}");
                Framing::Chunked
            }
            (None, None) => Framing::Close,
        }
    }
}

fn parse_head(head: &[u8]) -> Response {
    let text = &head[..head.len() - 4];
    let mut lines = split_lines(text).into_iter();
    let first = String::from_utf8(lines.next().unwrap().to_vec()).expect("a status line of ASCII");
    let (version, rest) = first.split_once(' ').unwrap_or_else(|| panic!("a status line, not {first:?}"));
    let (status, reason) = rest.split_once(' ').unwrap_or_else(|| panic!("a status line, not {first:?}"));
    assert_eq!(version, "HTTP/1.1", "in {first:?}");
    let three_digits = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
    assert!(three_digits, "a status code in {first:?}");
    Response {
        version: version.to_owned(),
        status: status.parse().unwrap(),
        reason: reason.to_owned(),
        fields: lines.map(parse_field).collect(),
        body: Vec::new(),
        framing: Framing::None,
    }
}

fn parse_field(line: &[u8]) -> (String, Vec<u8>) {
    let colon = line.iter().position(|byte| *byte == b':').unwrap_or_else(|| panic!("a field, not {}", shown(line)));
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    assert!(!name.is_empty() && name.iter().all(token), "a field name in {}", shown(line));
    assert!(!value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t'), "a field value in {}", shown(line));
    (String::from_utf8(name.to_vec()).unwrap(), value.to_vec())
}

fn split_lines(text: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = find(rest, b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    lines
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
