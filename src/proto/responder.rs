//! Writes a response's status line, fields and small content straight into the output buffer, and chooses the framing
//! (RFC 9112, section 6.3). Answering consumes the `Responder`, so that a request gets one response.

use crate::http::status::Status;
use crate::http::vary::Vary;
use crate::proto::buffer::Buffer;
use crate::proto::conn::{Conn, DRAIN_LIMIT, Encoder, Reading, Writing};

/// The value of the `Server` field.
pub const SERVER: &str = concat!("dustdevil/", env!("CARGO_PKG_VERSION"));

/// The fields and pages that all responses of a server have in common. Made once, at start.
#[derive(Debug)]
pub struct Common {
    /// Whole field lines that every response carries, `Server` first.
    pub lines: Vec<u8>,
    /// The beginning of every 200 response: its status line, `lines`, and `Date: `.
    ok: Vec<u8>,
    /// Names, in lower case, of those fields of the user in `lines` that replace the fields of an upstream or an
    /// application.
    pub replaced: Vec<String>,
    /// The request fields that `lines` depend on, for `Vary`.
    pub vary: Vary,
    /// The user's own error pages, in HTML, by status.
    pub error_pages: Vec<(Status, Vec<u8>)>,
}

/// Fields that may be repeated: the user's own field is added to those of an upstream or an application, and does not
/// replace them.
const ADDED_TO: [&str; 2] = ["set-cookie", "link"];

impl Common {
    pub fn new(server: &str) -> Common {
        let lines = format!("Server: {server}\r\n").into_bytes();
        let ok = Vec::new();
        let mut common = Common { lines, ok, replaced: Vec::new(), vary: Vary::NOTHING, error_pages: Vec::new() };
        common.render();
        common
    }

    fn render(&mut self) {
        self.ok = [b"HTTP/1.1 200 OK\r\n", &self.lines[..], b"Date: "].concat();
    }

    /// Adds a field of the user's own.
    pub fn add(&mut self, name: &str, value: &str) {
        self.lines.extend(format!("{name}: {value}\r\n").bytes());
        let name = name.to_ascii_lowercase();
        if !ADDED_TO.contains(&name.as_str()) {
            self.replaced.push(name);
        }
        self.render();
    }

    /// Whether the user's own field of that name replaces that of an upstream or an application.
    pub fn replaces(&self, name: &[u8]) -> bool {
        self.replaced.iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
    }

    /// All lines except the first, which is `Server`.
    fn own_lines(&self) -> &[u8] {
        let end = self.lines.iter().position(|&byte| byte == b'\n').map_or(self.lines.len(), |end| end + 1);
        &self.lines[end..]
    }
}

/// The right to answer the current request.
pub struct Responder<'a> {
    conn: &'a mut Conn,
    out: &'a mut Buffer,
    /// The Date field's value.
    date: &'a [u8],
    common: &'a Common,
}

/// A response whose status line is written. Fields follow, then content.
#[must_use = "a response ends with content(), empty() or stream()"]
pub struct Fields<'a> {
    conn: &'a mut Conn,
    out: &'a mut Buffer,
    common: &'a Common,
    vary: Vary,
    /// Whether no Content-Length must be added: it is written already, or is left out on purpose.
    has_length: bool,
}

impl<'a> Responder<'a> {
    pub fn new(conn: &'a mut Conn, out: &'a mut Buffer, date: &'a [u8], common: &'a Common) -> Responder<'a> {
        Responder { conn, out, date, common }
    }

    /// Whether the client speaks HTTP/1.0 and cannot read chunks.
    pub fn is_http_1_0(&self) -> bool {
        self.conn.minor == 0
    }

    /// Adds to the cost of finding or making the answer, in the units of `cost`. The more a connection spends, the
    /// sooner it gives way to others.
    pub fn spend(&mut self, cost: usize) {
        self.conn.work += cost;
    }

    /// Makes this the last response of the connection.
    pub fn close_after(&mut self) {
        self.conn.persist = false;
    }

    /// Writes the status line and the fields that every response has.
    pub fn start(self, status: Status) -> Fields<'a> {
        let Responder { conn, out, date, common } = self;
        begin(conn, status);
        if status == Status::OK {
            out.push(&common.ok);
        } else {
            write_status_line(status, status.reason().as_bytes(), out);
            out.push(&common.lines);
            out.push(b"Date: ");
        }
        out.push(date);
        out.push(b"\r\n");
        Fields { conn, out, common, vary: common.vary, has_length: false }
    }

    /// Writes the status line of a response from an upstream or an application, and the user's own fields. The caller
    /// then adds the fields of that response, `Date` included, except those for which `Common::replaces` is true.
    /// `anonymous`: that response has no `Server` field, so this server adds its own.
    pub fn relay(self, status: Status, reason: &[u8], anonymous: bool) -> Fields<'a> {
        let Responder { conn, out, common, .. } = self;
        begin(conn, status);
        write_status_line(status, reason, out);
        out.push(if anonymous { &common.lines } else { common.own_lines() });
        Fields { conn, out, common, vary: common.vary, has_length: false }
    }
}

/// Stores the status, and decides whether the connection persists after this response.
fn begin(conn: &mut Conn, status: Status) {
    if let Reading::Body(_) = conn.reading {
        // If the client got no 100 (Continue), it may send its content or not: the next bytes would be ambiguous.
        // If much unwanted content is left, closing is cheaper than reading it.
        if conn.wants_continue || conn.unread().is_some_and(|left| left > DRAIN_LIMIT) {
            conn.persist = false;
        }
    }
    conn.status = status.0;
}

fn write_status_line(status: Status, reason: &[u8], out: &mut Buffer) {
    out.push(b"HTTP/1.1 ");
    if reason == status.reason().as_bytes() && !reason.is_empty() {
        out.push(status.text().as_bytes());
    } else {
        out.push(decimal(u64::from(status.0)).digits());
        out.push(b" ");
        out.push(reason);
    }
    out.push(b"\r\n");
}

impl<'a> Fields<'a> {
    /// The user's own page for this response's status.
    pub fn error_page(&self) -> Option<&'a [u8]> {
        let pages = &self.common.error_pages;
        pages.iter().find(|(status, _)| status.0 == self.conn.status).map(|(_, page)| page.as_slice())
    }

    /// Adds request fields that this response depends on. The `Vary` field is written once, after the other fields.
    pub fn vary(&mut self, on: Vary) {
        self.vary = self.vary.and(on);
    }

    /// Writes a field. The value must not hold CR or LF, which would begin another field: pass only our own or checked
    /// values.
    pub fn field(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        debug_assert!(!value.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)), "{name} would be split");
        debug_assert!(!name.eq_ignore_ascii_case("vary"), "vary() says it once");
        self.out.push(name.as_bytes());
        self.out.push(b": ");
        self.out.push(value);
        self.out.push(b"\r\n");
    }

    fn write_vary(&mut self) {
        if self.vary == Vary::ACCEPT_ENCODING {
            return self.out.push(b"Vary: Accept-Encoding\r\n");
        }
        let mut separator = "Vary: ";
        for name in self.vary.names() {
            self.out.push(separator.as_bytes());
            self.out.push(name.as_bytes());
            separator = ", ";
        }
        if self.vary != Vary::NOTHING {
            self.out.push(b"\r\n");
        }
    }

    /// Writes whole field lines, each with its CRLF.
    pub fn lines(&mut self, lines: &[u8]) {
        self.out.push(lines);
    }

    /// Writes whole field lines that include a Content-Length. Content of that length must follow.
    pub fn lines_with_length(&mut self, lines: &[u8]) {
        self.out.push(lines);
        self.has_length = true;
    }

    /// Ends the response with this content.
    pub fn content(self, content: &[u8]) {
        self.pieces(&[content]);
    }

    /// Ends the response with these pieces of content, one after the other.
    pub fn pieces(self, pieces: &[&[u8]]) {
        // RFC 9110, section 15.3.6: 205 has no content. Content-Length: 0 says so.
        let pieces = if self.conn.status == 205 { &[] } else { pieces };
        let omitted = self.omits_content();
        let len = pieces.iter().map(|piece| piece.len() as u64).sum();
        let Fields { conn, out, .. } = self.end_fields(Some(len));
        if !omitted {
            for piece in pieces {
                out.push(piece);
            }
            conn.sent += len;
        }
        conn.writing = Writing::Done;
    }

    /// Ends the response without content. It has `Content-Length: 0`, unless its status forbids content.
    pub fn empty(self) {
        self.content(b"");
    }

    /// Ends a response to HEAD, or a 304. `length` is the length of the content that GET would get, if it is known.
    /// (RFC 9110, section 9.3.2: a response to HEAD may leave out fields that are known only once the content is
    /// generated.)
    pub fn without_content(mut self, length: Option<u64>) {
        // Without a length no Transfer-Encoding is written either: a GET may know the length.
        self.has_length |= length.is_none();
        let Fields { conn, .. } = self.end_fields(length);
        conn.writing = Writing::Done;
    }

    /// Ends the fields. The content follows as a stream, of this length if it is known.
    pub fn stream(self, length: Option<u64>) {
        let omitted = self.omits_content();
        let Fields { conn, .. } = self.end_fields(length);
        conn.writing = match length {
            _ if omitted => Writing::Done,
            Some(0) => Writing::Done,
            Some(length) => Writing::Body(Encoder::Length(length)),
            None if conn.minor == 0 => Writing::Body(Encoder::UntilClose),
            None => Writing::Body(Encoder::Chunked),
        };
    }

    fn omits_content(&self) -> bool {
        self.conn.head_only || Status(self.conn.status).is_bodiless()
    }

    fn end_fields(mut self, length: Option<u64>) -> Self {
        self.write_vary();
        match length {
            _ if self.has_length || Status(self.conn.status).is_bodiless() => {}
            Some(length) => self.field("Content-Length", decimal(length).digits()),
            None if self.conn.minor == 0 => self.conn.persist = false,
            None => self.field("Transfer-Encoding", "chunked"),
        }
        match (self.conn.persist, self.conn.minor) {
            (false, _) => self.field("Connection", "close"),
            (true, 0) => self.field("Connection", "keep-alive"),
            (true, _) => {}
        }
        self.out.push(b"\r\n");
        self
    }
}

/// Formats a number in decimal digits without an allocation.
pub fn decimal(number: u64) -> Decimal {
    let mut decimal = Decimal { digits: [b'0'; 20], start: 20 };
    let mut rest = number;
    loop {
        decimal.start -= 1;
        decimal.digits[decimal.start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return decimal;
        }
    }
}

/// The digits of a u64.
pub struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    pub fn digits(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn respond(conn: &mut Conn, write: impl FnOnce(Responder)) -> String {
        let mut out = Buffer::default();
        let common = Common::new("test");
        write(Responder::new(conn, &mut out, b"now", &common));
        String::from_utf8(out.filled().to_vec()).unwrap()
    }

    #[test]
    fn small_content_has_its_exact_length() {
        let text = respond(&mut Conn::default(), |responder| {
            let mut fields = responder.start(Status::OK);
            fields.field("Content-Type", "text/plain");
            fields.content(b"hello");
        });
        let expected = "HTTP/1.1 200 OK\r\nServer: test\r\nDate: now\r\nContent-Type: text/plain\r\n\
                        Content-Length: 5\r\n\r\nhello";
        assert_eq!(text, expected);
    }

    #[test]
    fn head_tells_the_same_and_sends_nothing() {
        let mut conn = Conn { head_only: true, ..Conn::default() };
        let text = respond(&mut conn, |responder| responder.start(Status(404)).content(b"hello"));
        assert!(text.ends_with("Content-Length: 5\r\n\r\n"), "{text}");
        assert!(matches!(conn.writing, Writing::Done));
    }

    #[test]
    fn vary_is_one_field_however_often_it_is_said() {
        let text = respond(&mut Conn::default(), |responder| {
            let mut fields = responder.start(Status::OK);
            fields.vary(Vary::ORIGIN);
            fields.vary(Vary::ACCEPT_ENCODING);
            fields.vary(Vary::ORIGIN);
            fields.empty();
        });
        assert_eq!(text.matches("Vary").count(), 1, "{text}");
        assert!(text.contains("\r\nVary: Accept-Encoding, Origin\r\n"), "{text}");
    }

    #[test]
    fn what_others_say_gives_way_to_the_users_own_fields() {
        let mut common = Common::new("test");
        common.add("X-Frame-Options", "DENY");
        common.add("Set-Cookie", "a=b");
        assert!(common.replaces(b"x-frame-OPTIONS") && !common.replaces(b"Set-Cookie") && !common.replaces(b"X"));
        assert_eq!(common.own_lines(), b"X-Frame-Options: DENY\r\nSet-Cookie: a=b\r\n");
    }

    #[test]
    fn no_length_where_the_status_forbids_content() {
        let text = respond(&mut Conn::default(), |responder| responder.start(Status::NO_CONTENT).empty());
        assert!(text.ends_with("Date: now\r\n\r\n"), "{text}");
    }

    #[test]
    fn a_205_has_no_content_and_says_so() {
        let text = respond(&mut Conn::default(), |responder| responder.start(Status(205)).content(b"gone"));
        assert!(text.ends_with("Content-Length: 0\r\n\r\n"), "{text}");
    }

    #[test]
    fn an_unknown_length_is_chunked_or_ends_with_the_connection() {
        let mut conn = Conn::default();
        let text = respond(&mut conn, |responder| responder.start(Status::OK).stream(None));
        assert!(text.contains("Transfer-Encoding: chunked") && matches!(conn.writing, Writing::Body(Encoder::Chunked)));
        let mut old = Conn { minor: 0, ..Conn::default() };
        let text = respond(&mut old, |responder| responder.start(Status::OK).stream(None));
        assert!(text.contains("Connection: close") && !text.contains("chunked"));
        assert!(matches!(old.writing, Writing::Body(Encoder::UntilClose)));
    }

    #[test]
    fn decimals() {
        for number in [0, 7, 10, 65_536, u64::MAX] {
            assert_eq!(decimal(number).digits(), number.to_string().as_bytes());
        }
    }
}
