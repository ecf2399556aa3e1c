//! Request smuggling: messages that two servers might read differently, each with a second request behind it on the
//! same connection. Either the first message is valid and the second is answered exactly once, or the first is invalid,
//! the connection closes, and no later byte is answered.
//!
//! Each message is sent whole, byte by byte, and in two segments, cut at the positions where parsers keep state.

mod common;

use common::{Client, Engine, Response, Server, Setup, TempDir, on_every_engine, shown};
use std::fs;
use std::thread;
use std::time::Duration;

/// The request behind every message. It has `Connection: close`, so that the test can read to the end.
const SECOND: &str = "GET /echo/second HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
/// A request that is hidden in a body. If it is answered, the server has read a body as a request.
const HIDDEN: &str = "GET /echo/smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

#[derive(Clone, Copy, Debug)]
enum Expected {
    /// One response with one of these statuses and `Connection: close`. Then the connection ends.
    Refused(&'static [u16]),
    /// A response with this status, then the response to the second request.
    Accepted(u16),
    /// A response with this status. Then the connection ends: the response was sent before the invalid bytes were read,
    /// or the request has `Connection: close`.
    Last(u16),
}

use Expected::{Accepted, Last, Refused};

const BAD: Expected = Refused(&[400]);

struct Case {
    message: Vec<u8>,
    expected: Expected,
    /// The content that an accepted upload leaves in the store.
    stored: Option<&'static str>,
}

fn case(message: impl AsRef<[u8]>, expected: Expected) -> Case {
    Case { message: message.as_ref().to_vec(), expected, stored: None }
}

/// An upload with these field lines (each with its line end) and this body.
fn upload(fields: impl AsRef<[u8]>, body: impl AsRef<[u8]>, expected: Expected) -> Case {
    let head = b"PUT /files/f HTTP/1.1\r\nHost: x\r\n";
    case([head, fields.as_ref(), b"\r\n", body.as_ref()].concat(), expected)
}

fn stored(fields: impl AsRef<[u8]>, body: impl AsRef<[u8]>, content: &'static str) -> Case {
    Case { stored: Some(content), ..upload(fields, body, Accepted(201)) }
}

/// Field lines that are not Transfer-Encoding, although some servers read them as it.
const NO_TRANSFER_ENCODING: &[&[u8]] = &[
    b"Transfer-Encoding : chunked\r\n",
    b"Transfer-Encoding\t: chunked\r\n",
    b"Transfer-Encoding \t : chunked\r\n",
    b"Transfer-Encoding\x0b: chunked\r\n",
    b"Transfer-Encoding\x00: chunked\r\n",
    b"Transfer-Encoding\xa0: chunked\r\n",
    b"Transfer-Encoding\r: chunked\r\n",
    b"Transfer-Encoding\r\n: chunked\r\n",
    b"Transfer-Encoding\n: chunked\r\n",
    b"Transfer-Encoding chunked\r\n",
    b"Transfer-Encoding=chunked\r\n",
    b"Transfer-Encoding\r\n chunked\r\n",
    b"Transfer Encoding: chunked\r\n",
    b"Transfer-\r\nEncoding: chunked\r\n",
    b" Transfer-Encoding: chunked\r\n",
    b"\tTransfer-Encoding: chunked\r\n",
    b"\x00Transfer-Encoding: chunked\r\n",
    b"\x0bTransfer-Encoding: chunked\r\n",
    b"\xef\xbb\xbfTransfer-Encoding: chunked\r\n",
    b":Transfer-Encoding: chunked\r\n",
    b"\"Transfer-Encoding\": chunked\r\n",
    b"(Transfer-Encoding): chunked\r\n",
    b"A: b\rTransfer-Encoding: chunked\r\n",
    b"A: b\nTransfer-Encoding: chunked\r\n",
    b"A: b\n\nTransfer-Encoding: chunked\r\n",
    b"A: b\r\n Transfer-Encoding: chunked\r\n",
    b"A: b\r\n\tTransfer-Encoding: chunked\r\n",
    b"A: b\r\r\nTransfer-Encoding: chunked\r\n",
    b"A: b\n\rTransfer-Encoding: chunked\r\n",
    b"A: b\0\r\nTransfer-Encoding: chunked\r\n",
    b"A\r\nTransfer-Encoding: chunked\r\n",
    b": b\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding:\r\n chunked\r\n",
    b"Transfer-Encoding:\r\n\tchunked\r\n",
    b"Transfer-Encoding:\n chunked\r\n",
    b"Transfer-Encoding:\rchunked\r\n",
    b"Transfer-Encoding: chunked\r\n \r\n",
    b"Transfer-Encoding: chunked\r\n x\r\n",
    b"Transfer-Encoding: chunked\n",
    b"Transfer-Encoding: chunked\r",
    b"Transfer-Encoding: chunked\r\r\n",
    b"Transfer-Encoding: chunked\n\r\n",
    b"Transfer-Encoding: chun\r\n ked\r\n",
];

/// Transfer-Encoding with a value other than `chunked`.
const NO_CHUNKED: &[&[u8]] = &[
    b"",
    b" ",
    b",",
    b"\x0bchunked",
    b"\x0cchunked",
    b" \x0bchunked",
    b" chunked\x0b",
    b"\x00chunked",
    b" chunked\x00",
    b" chunked\x00, x",
    b"\x1fchunked",
    b" \x08chunked",
    b" chunked\x7f",
    b" \x85chunked",
    b" \xa0chunked",
    b" chunked\xa0",
    b" \xef\xbb\xbfchunked",
    b" chun\xe2\x84\xaaed",
    b" chunked\xff",
    b" xchunked",
    b" chunkedx",
    b" chunke",
    b" chunks",
    b" chunk",
    b" x-chunked",
    b" chunked-x",
    b" chun ked",
    b" chunked chunked",
    b" chunked;",
    b" chunked;a=b",
    b" chunked ; q=1",
    b" chunked;q=0",
    b" chunked=1",
    b" chunked:",
    b" \"chunked\"",
    b" 'chunked'",
    b" \"chunked",
    b" chunked\"",
    b" \\chunked",
    b" chu\\nked",
    b" (x)chunked",
    b" [chunked]",
    b" <chunked>",
    b" %63hunked",
    b"= chunked",
    b": chunked",
    b" 0",
    b" true",
    b" identity",
    b" none",
    b" gzip",
    b" deflate, gzip",
    b" chunked, identity",
    b" chunked, gzip",
    b" chunked, x",
    b" chunked, chunked",
    b" chunked,, chunked",
    b" chunked,CHUNKED",
    b" chunked, \"x",
    b" chunked\r\nTransfer-Encoding: chunked",
    b" chunked\r\ntransfer-encoding: identity",
    b" chunked\r\nTransfer-Encoding: x",
    b" chunked\r\nTransfer-Encoding: gzip",
    b" chunked\r\nTransfer-Encoding: \"",
];

/// Chunked is last, so the end of the message is known, but the other coding is not supported.
const UNKNOWN_CODINGS: &[&[u8]] = &[
    b" gzip, chunked",
    b" identity, chunked",
    b" x, chunked",
    b" \"x\", chunked",
    b" x;y=\"chunked, chunked\", chunked",
    b" x\r\nTransfer-Encoding: chunked",
    b" identity\r\nA: b\r\nTransfer-Encoding: chunked",
];

/// Valid spellings of `Transfer-Encoding: chunked`.
const CHUNKED: &[&str] = &[
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding:chunked\r\n",
    "Transfer-Encoding:\tchunked\r\n",
    "Transfer-Encoding: \t chunked \t \r\n",
    "TRANSFER-ENCODING: chunked\r\n",
    "tRANSFER-eNCODING: chunked\r\n",
    "Transfer-Encoding: CHUNKED\r\n",
    "Transfer-Encoding: cHuNkEd\r\n",
    "Transfer-Encoding: ,chunked\r\n",
    "Transfer-Encoding: chunked ,\r\n",
    "Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n",
    "TE: trailers\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n",
    "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n",
];

/// Other fields. They do not change the length of the body, which Content-Length gives.
const OTHER_FIELDS: &[&str] = &[
    "Transfer_Encoding: chunked\r\n",
    "Transfer-Encodin: chunked\r\n",
    "Transfer-Encodings: chunked\r\n",
    "TransferEncoding: chunked\r\n",
    "X-Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding-: chunked\r\n",
    "TE: chunked\r\n",
    "Content-Encoding: chunked\r\n",
    "A: b, Transfer-Encoding: chunked\r\n",
    "A: b\\r\\nTransfer-Encoding: chunked\r\n",
    "A: Transfer-Encoding: chunked\r\n",
    "Content_Length: 0\r\n",
    "Content-Lengt: 0\r\n",
    "X-Content-Length: 0\r\n",
    "Content-Length-: 0\r\n",
    "ContentLength: 0\r\n",
    "A: \\nContent-Length: 0\r\n",
    "Connection: Content-Length\r\n",
    "Connection: keep-alive, Content-Length, Transfer-Encoding\r\n",
    "Keep-Alive: timeout=0, max=0\r\n",
    "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n",
    "X-HTTP-Method-Override: DELETE\r\n",
    "Max-Forwards: 0\r\n",
];

/// Field lines with an invalid Content-Length.
const NO_LENGTHS: &[&[u8]] = &[
    b"Content-Length: +5\r\n",
    b"Content-Length: -5\r\n",
    b"Content-Length: -0\r\n",
    b"Content-Length: 0x5\r\n",
    b"Content-Length: 05h\r\n",
    b"Content-Length: 5 5\r\n",
    b"Content-Length: 5, 5\r\n",
    b"Content-Length: 5,5\r\n",
    b"Content-Length: 5, 6\r\n",
    b"Content-Length: 5,\r\n",
    b"Content-Length: ,5\r\n",
    b"Content-Length: 5;a\r\n",
    b"Content-Length: 5.0\r\n",
    b"Content-Length: 5e0\r\n",
    b"Content-Length: 5_0\r\n",
    b"Content-Length: 0b101\r\n",
    b"Content-Length: 0o5\r\n",
    b"Content-Length: five\r\n",
    b"Content-Length: \"5\"\r\n",
    b"Content-Length: '5'\r\n",
    b"Content-Length: 5\x00\r\n",
    b"Content-Length: \x005\r\n",
    b"Content-Length: \x0b5\r\n",
    b"Content-Length: 5\x0c\r\n",
    b"Content-Length: \xa05\r\n",
    b"Content-Length: \xd9\xa5\r\n",
    b"Content-Length: \xef\xbc\x95\r\n",
    b"Content-Length: \xc2\xb2\r\n",
    b"Content-Length:\r\n",
    b"Content-Length: \t \r\n",
    b"Content-Length: 5\r\nContent-Length: 5\r\n",
    b"Content-Length: 5\r\nContent-Length: 0\r\n",
    b"Content-Length: 0\r\nContent-Length: 5\r\n",
    b"Content-Length: 5\r\nA: b\r\ncontent-length: 6\r\n",
    b"Content-Length: 5\r\nContent-Length:\r\n",
    b"Content-Length : 5\r\n",
    b"Content-Length\t: 5\r\n",
    b"Content-Length\x00: 5\r\n",
    b"Content-Length\r\n: 5\r\n",
    b"Content-Length 5\r\n",
    b"Content-Length:\r\n 5\r\n",
    b"Content-Length: 5\r\n 5\r\n",
    b"Content-Length: 5\r5\r\n",
    b"Content-Length: 5\n",
    b"Content-Length: 0\nContent-Length: 5\r\n",
    b" Content-Length: 5\r\n",
    b"A: b\r\n Content-Length: 5\r\n",
    b"Content-Length: 18446744073709551616\r\n",
    b"Content-Length: 18446744073709551621\r\n",
    b"Content-Length: 340282366920938463463374607431768211461\r\n",
    b"Content-Length: 99999999999999999999999999999999999999999999999999\r\n",
];

const LENGTHS: &[&str] = &[
    "Content-Length: 5\r\n",
    "Content-Length:5\r\n",
    "Content-Length:\t5\t\r\n",
    "CONTENT-LENGTH: 5\r\n",
    "Content-Length: 0005\r\n",
    "Content-Length: 00000000000000000000000000000000000000005\r\n",
];

/// Invalid chunked bodies. A server that reads some of them wrongly finds HIDDEN in them.
fn broken_chunks() -> Vec<Vec<u8>> {
    let hidden = HIDDEN;
    let length = hidden.len();
    let with_hidden = [
        format!("0\n\n{hidden}"),
        format!("0\r\n\n{hidden}"),
        format!("0\n\r\n{hidden}"),
        format!("0\r\r\n\r\n{hidden}"),
        format!("0\r\n\r{hidden}"),
        format!("0\r\nX\n\r\n{hidden}"),
        format!("0\r\nA: b\n\n{hidden}"),
        format!("0\r\nA: b\n\r\n{hidden}"),
        format!("0\r\nA: b\r\r\n{hidden}"),
        format!("0\r\n A: b\r\n\r\n{hidden}"),
        format!("0\r\nA : b\r\n\r\n{hidden}"),
        format!("0\r\n: b\r\n\r\n{hidden}"),
        format!("0\r\nA\0: b\r\n\r\n{hidden}"),
        format!("0\r\nA: \0\r\n\r\n{hidden}"),
        format!("0\r\nno colon\r\n\r\n{hidden}"),
        format!("0\r\nA: b\r\n folded\r\n\r\n{hidden}"),
        format!("0\r\n{hidden}"),
        format!("0;\n\r\n{hidden}"),
        format!("0;a\n\r\n{hidden}"),
        format!("0;a=\"\n\"\r\n\r\n{hidden}"),
        format!("0;a=\"\r\n\r\n{hidden}\"\r\n\r\n"),
        format!("{length:x};\n{hidden}\r\n0\r\n\r\n"),
        format!("2;\n00\r\n{length:x}\r\n{hidden}\r\n0\r\n\r\n"),
        format!("5;a\nhello\r\n{length:x}\r\n{hidden}\r\n0\r\n\r\n"),
        format!("5\r\nhelloXX{length:x}\r\n{hidden}\r\n0\r\n\r\n"),
        format!("5\r\nhello\r\r0\r\n\r\n{hidden}"),
        format!("5\r\nhello\n\r0\r\n\r\n{hidden}"),
        format!("5\r\nhello\n0\r\n\r\n{hidden}"),
        format!("5\r\nhello\r0\r\n\r\n{hidden}"),
        format!("5\r\nhello0\r\n\r\n{hidden}"),
        format!("4\r\nhello\r\n0\r\n\r\n{hidden}"),
        format!("6\r\nhello\r\n0\r\n\r\n{hidden}"),
        format!("00x0\r\n\r\n{hidden}"),
        format!("0x0\r\n\r\n{hidden}"),
        format!("0x\r\n\r\n{hidden}"),
        format!("0 \r\n\r\n{hidden}"),
        format!(" 0\r\n\r\n{hidden}"),
        format!("\t0\r\n\r\n{hidden}"),
        format!("0\t\r\n\r\n{hidden}"),
        format!("-0\r\n\r\n{hidden}"),
        format!("+0\r\n\r\n{hidden}"),
        format!("\r\n0\r\n\r\n{hidden}"),
        format!("\n0\r\n\r\n{hidden}"),
        format!("0,0\r\n\r\n{hidden}"),
        format!("0\0\r\n\r\n{hidden}"),
        format!("0\x0b\r\n\r\n{hidden}"),
        format!("\u{ff10}\r\n\r\n{hidden}"),
        format!("\"0\"\r\n\r\n{hidden}"),
        format!("0.0\r\n\r\n{hidden}"),
        format!("0_0\r\n\r\n{hidden}"),
        format!("0h\r\n\r\n{hidden}"),
        format!("10000000000000000\r\n\r\n{hidden}"),
        format!("100000000000000000000000000000000\r\n\r\n{hidden}"),
        format!("fffffffffffffffff\r\nhello\r\n{hidden}"),
        format!("-1\r\nhello\r\n0\r\n\r\n{hidden}"),
        format!("0x5\r\nhello\r\n0\r\n\r\n{hidden}"),
        format!("5 5\r\nhello\r\n0\r\n\r\n{hidden}"),
        format!("5=5\r\nhello\r\n0\r\n\r\n{hidden}"),
        format!("5:\r\nhello\r\n0\r\n\r\n{hidden}"),
        format!("5;;\r\nhello\r\n0\r\n\r\n{hidden}"),
        format!("5;=a\r\nhello\r\n0\r\n\r\n{hidden}"),
        format!("5;a=\r\nhello\r\n0\r\n\r\n{hidden}"),
        format!("5;a=b=c\r\nhello\r\n0\r\n\r\n{hidden}"),
        format!("5;a b\r\nhello\r\n0\r\n\r\n{hidden}"),
        format!("5;a=b \r\nhello\r\n0\r\n\r\n{hidden}"),
        format!("5;a\0\r\nhello\r\n0\r\n\r\n{hidden}"),
        format!("5;\x7f\r\nhello\r\n0\r\n\r\n{hidden}"),
        format!("5;a=\"b\"c\r\nhello\r\n0\r\n\r\n{hidden}"),
        format!("5;a=\"b\r\nhello\r\n0\r\n\r\n{hidden}"),
        format!("5;a\rb\r\nhello\r\n0\r\n\r\n{hidden}"),
        format!("5\r\r\nhello\r\n0\r\n\r\n{hidden}"),
        format!("5\rhello\r\n0\r\n\r\n{hidden}"),
        format!("5\nhello\n0\n\n{hidden}"),
        format!("hello\r\n{hidden}"),
        format!("g\r\n\r\n{hidden}"),
    ];
    with_hidden.into_iter().map(String::into_bytes).collect()
}

/// Valid chunked bodies, and their content.
const CHUNKS: &[(&str, &str)] = &[
    ("0\r\n\r\n", ""),
    ("000000000\r\n\r\n", ""),
    ("5\r\nhello\r\n0\r\n\r\n", "hello"),
    ("00000000000000000005\r\nhello\r\n0\r\n\r\n", "hello"),
    ("A\r\n0\r\n\r\nGET /\r\n0\r\n\r\n", "0\r\n\r\nGET /"),
    ("a\r\n0\r\n\r\nGET /\r\n0\r\n\r\n", "0\r\n\r\nGET /"),
    ("1\r\n\r\r\n1\r\n\n\r\n0\r\n\r\n", "\r\n"),
    ("5;a\r\nhello\r\n0;b=c\r\n\r\n", "hello"),
    ("5 ;\ta = b ; c\r\nhello\r\n0\r\n\r\n", "hello"),
    ("5;a=\"0\\\"; b, c\"\r\nhello\r\n0\r\n\r\n", "hello"),
    ("5\r\nhello\r\n0\r\nA: b\r\nC:\r\n\r\n", "hello"),
    ("5\r\nhello\r\n0\r\nContent-Length: 500\r\n\r\n", "hello"),
    ("5\r\nhello\r\n0\r\nTransfer-Encoding: gzip\r\n\r\n", "hello"),
    ("5\r\nhello\r\n0\r\nHost: other\r\nHost: more\r\n\r\n", "hello"),
    ("5\r\nhello\r\n0\r\nConnection: close\r\nExpect: x\r\n\r\n", "hello"),
];

/// Invalid heads of a request without a body.
const BROKEN_HEADS: &[&[u8]] = &[
    b"GET\t/echo/x\tHTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /echo/x\tHTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET\x0b/echo/x\x0bHTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET  /echo/x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /echo/x  HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /echo/x HTTP/1.1 \r\nHost: x\r\n\r\n",
    b" GET /echo/x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\0GET /echo/x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /echo/x HTTP/1.1\0\r\nHost: x\r\n\r\n",
    b"GET /echo/x HTTP/1.1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /echo/x HTTP/1.1 GET /echo/x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /echo/x y HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /echo/x\r HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /echo/x\n HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /echo/x\r\n HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\r\nHost: x\r\n\r\n",
    b"GET /echo/x HTTP/1.1\n\rHost: x\r\n\r\n",
    b"GET /echo/x HTTP/1.1\nHost: x\n\n",
    b"GET /echo/x HTTP/1.1\rHost: x\r\r",
    b"GET /echo/x HTTP/1.1\r\nHost: x\r\n\n",
    b"GET /echo/x HTTP/1.1\r\nHost: x\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: x\r\n\rX\r\n\r\n",
    b"\nGET /echo/x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\rGET /echo/x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\r\n\nGET /echo/x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\r\n \r\nGET /echo/x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\xef\xbb\xbfGET /echo/x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\n Host: x\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: x\r\n A: b\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: x\r\nA\0: b\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: x\r\nA: b\0\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: x\r\n\0: b\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: x\r\nA\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: x\r\nGET /echo/smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: x\r\nA: b\rGET /echo/smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /echo/x#GET HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /echo/%00 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET echo/x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET ?x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http:/x/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http:///echo/x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://:80/echo/x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://a@x/echo/x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://x:y/echo/x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://x\\@y/echo/x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://x, y/echo/x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://x,y/echo/x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://x/echo/x HTTP/1.1\r\n\r\n",
    b"GET http://x/echo/x HTTP/1.1\r\nHost: a b\r\n\r\n",
    b"GET http://x/echo/x HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: x\r\nhOST: y\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost:\r\nHost: y\r\n\r\n",
    b"GET /echo/x HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost : x\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: x, y\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: x,y\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: x y\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: x\ty\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: a@x\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: a:b@x\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: http://x\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: x/y\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: x?y\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: x#y\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: x\\y\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: x:1:2\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: x:-1\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: x:+80\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: x:65536\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: :80\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: ::1\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: [::1\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: [::1]x\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: [fe80::1%]\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: [fe80::1%25]\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: [fe80::1%a@b]\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: [x%eth0]\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: fe80::1%eth0\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: [x]\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: \x00x\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: \xc3\xa9\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: %zz\r\n\r\n",
];

const BROKEN_VERSIONS: &[&str] = &[
    "HTTP/2.0",
    "HTTP/9.9",
    "HTTP/0.9",
    "HTTP/1.10",
    "HTTP/1.",
    "HTTP/1",
    "HTTP/.1",
    "HTTP/11",
    "HTTP/01.1",
    "HTTP/1.1x",
    "HTTP/1,1",
    "HTTP/ 1.1",
    "HTTP /1.1",
    "HTTP\\1.1",
    "http/1.1",
    "Http/1.1",
    "HTTP/-1.1",
    "HTTP/1.x",
    "HTP/1.1",
    "ICY/1.1",
    "",
];

/// Sends the message with the second request behind it, in segments that end at `ends`, and checks the responses.
fn check(server: &Server, store: &TempDir, case: &Case, ends: &[usize], pause: Duration) {
    let bytes = [&case.message, SECOND.as_bytes()].concat();
    let _ = fs::remove_file(store.join("f"));
    let mut client = Client::connect(server);
    let mut at = 0;
    for &end in ends.iter().chain([&bytes.len()]) {
        if client.try_send(&bytes[at..end]).is_err() {
            break; // answered and closed before the last byte
        }
        at = end;
        if end < bytes.len() && !pause.is_zero() {
            thread::sleep(pause);
        }
    }
    let place = || format!("{} in segments ending at {ends:?}", shown(&case.message));
    let answers = answers(&mut client, case.message.starts_with(b"HEAD "));
    for answer in &answers {
        assert!(!answer.text().contains("smuggled"), "a body was read as a request: {}: {answers:?}", place());
    }
    let seconds = answers.iter().filter(|answer| answer.text() == "second").count();
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    match case.expected {
        Refused(allowed) => {
            assert!(statuses.len() == 1 && allowed.contains(&statuses[0]), "{statuses:?} for {}", place());
            assert!(answers[0].says_close(), "no Connection: close for {}", place());
        }
        Last(status) => assert_eq!(statuses, [status], "{}", place()),
        Accepted(status) => {
            assert_eq!((&statuses[..], seconds), (&[status, 200][..], 1), "{}", place());
            if let Some(content) = case.stored {
                assert_eq!(fs::read_to_string(store.join("f")).unwrap(), content, "{}", place());
            }
        }
    }
    if !matches!(case.expected, Accepted(_)) {
        assert!(store.entries().is_empty(), "{:?} left by {}", store.entries(), place());
    }
}

/// Every final response up to the close.
fn answers(client: &mut Client, first_to_head: bool) -> Vec<Response> {
    let mut answers = Vec::new();
    if first_to_head {
        answers.push(client.read_response_to_head());
    }
    while let Some(answer) = client.next_response() {
        if answer.status >= 200 {
            answers.push(answer);
        }
    }
    answers
}

fn check_all(engine: Engine, cases: impl IntoIterator<Item = Case>) {
    let store = TempDir::new();
    let server = Setup::on(engine).args(["--directory", store.arg()]).start();
    for case in cases {
        let len = case.message.len();
        check(&server, &store, &case, &[], Duration::ZERO);
        let every: Vec<usize> = (1..len + SECOND.len()).collect();
        check(&server, &store, &case, &every, Duration::ZERO);
        let line = case.message.iter().position(|&byte| byte == b'\n').unwrap_or(len / 2);
        let head = case.message.windows(4).position(|four| four == b"\r\n\r\n").map_or(len, |at| at + 4);
        let mut cuts = vec![line, head - 1, head, (head + len) / 2, len];
        cuts.dedup();
        for cut in cuts {
            check(&server, &store, &case, &[cut], Duration::from_millis(1));
        }
    }
}

on_every_engine! {
    fn a_field_that_only_looks_like_transfer_encoding_is_refused(engine: Engine) {
        let body = format!("0\r\n\r\n{HIDDEN}");
        let length = format!("Content-Length: {}\r\n", body.len());
        check_all(engine, NO_TRANSFER_ENCODING.iter().flat_map(|lines| {
            let before = [length.as_bytes(), lines].concat();
            let behind = [lines, length.as_bytes()].concat();
            [upload(lines, &body, BAD), upload(before, &body, BAD), upload(behind, &body, BAD)]
        }));
    }

    fn a_transfer_coding_other_than_chunked_is_refused(engine: Engine) {
        let body = format!("0\r\n\r\n{HIDDEN}");
        let field = |value: &[u8]| [b"Transfer-Encoding:", value, b"\r\n"].concat();
        let bad = NO_CHUNKED.iter().map(|value| upload(field(value), &body, BAD));
        let unknown = UNKNOWN_CODINGS.iter().map(|value| upload(field(value), &body, Refused(&[501])));
        check_all(engine, bad.chain(unknown));
    }

    fn content_length_beside_transfer_encoding_is_refused(engine: Engine) {
        const REAL: &[&[u8]] = &[b" chunked", b"\tCHUNKED"];
        let values = NO_CHUNKED.iter().chain(UNKNOWN_CODINGS).chain(REAL);
        check_all(engine, values.flat_map(|value| {
            let coding = [b"Transfer-Encoding:", *value, b"\r\n"].concat();
            // CL.TE: read by its length, the body includes HIDDEN; read as chunked, HIDDEN is a second request. TE.CL:
            // the other way round.
            let behind = format!("0\r\n\r\n{HIDDEN}");
            let whole = format!("Content-Length: {}\r\n", behind.len());
            let inside = format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len());
            let short = "Content-Length: 4\r\n";
            [
                upload([whole.as_bytes(), &coding].concat(), &behind, BAD),
                upload([&coding, whole.as_bytes()].concat(), &behind, BAD),
                upload([short.as_bytes(), &coding].concat(), &inside, BAD),
                upload([&coding, short.as_bytes()].concat(), &inside, BAD),
                upload([&coding, &b"Content-Length: 0\r\n"[..]].concat(), &behind, BAD),
            ]
        }));
    }

    fn transfer_encoding_in_an_old_version_is_refused(engine: Engine) {
        let cases = ["", "Connection: keep-alive\r\n", "Content-Length: 5\r\n"].map(|field| {
            let body = format!("0\r\n\r\n{HIDDEN}");
            let head = "PUT /files/f HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n";
            case(format!("{head}{field}\r\n{body}"), BAD)
        });
        check_all(engine, cases);
    }

    fn chunked_in_every_valid_spelling_frames_the_body(engine: Engine) {
        let body = format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len());
        check_all(engine, CHUNKED.iter().map(|lines| stored(lines, &body, HIDDEN)));
    }

    fn other_fields_frame_nothing(engine: Engine) {
        let length = format!("Content-Length: {}\r\n", HIDDEN.len());
        check_all(engine, OTHER_FIELDS.iter().flat_map(|lines| {
            [format!("{length}{lines}"), format!("{lines}{length}")].map(|fields| stored(fields, HIDDEN, HIDDEN))
        }));
    }

    fn a_content_length_in_doubt_is_refused(engine: Engine) {
        check_all(engine, NO_LENGTHS.iter().flat_map(|lines| {
            let get = [b"GET /echo/x HTTP/1.1\r\nHost: x\r\n", *lines, b"\r\n", HIDDEN.as_bytes()].concat();
            [upload(lines, HIDDEN, BAD), case(get, BAD)]
        }));
    }

    fn a_content_length_in_every_valid_spelling_frames_the_body(engine: Engine) {
        check_all(engine, LENGTHS.iter().map(|lines| stored(lines, "hello", "hello")));
    }

    fn a_length_no_server_would_take_is_refused(engine: Engine) {
        let lengths = ["18446744073709551615", "9223372036854775808", "9223372036854775807"];
        let cases = lengths.map(|length| upload(format!("Content-Length: {length}\r\n"), HIDDEN, Refused(&[413])));
        check_all(engine, cases);
    }

    fn a_broken_chunk_ends_the_connection(engine: Engine) {
        let field = "Transfer-Encoding: chunked\r\n";
        check_all(engine, broken_chunks().into_iter().flat_map(|body| {
            // If the server does not want the content, it answers before it reads the invalid chunk.
            let unwanted = [b"POST /echo/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", &body[..]].concat();
            [upload(field, &body, BAD), case(unwanted, Last(405))]
        }));
    }

    fn chunks_in_every_valid_form_are_read_to_their_end(engine: Engine) {
        let field = "Transfer-Encoding: chunked\r\n";
        check_all(engine, CHUNKS.iter().flat_map(|(body, content)| {
            let unwanted = format!("POST /echo/x HTTP/1.1\r\nHost: x\r\n{field}\r\n{body}");
            [stored(field, body, content), case(unwanted, Accepted(405))]
        }));
    }

    fn a_head_out_of_shape_is_refused(engine: Engine) {
        check_all(engine, BROKEN_HEADS.iter().map(|message| case(message, BAD)));
        let versions = BROKEN_VERSIONS.iter().map(|version| {
            case(format!("GET /echo/x {version}\r\nHost: x\r\n\r\n"), Refused(&[400, 505]))
        });
        check_all(engine, versions);
    }

    fn a_body_behind_any_method_is_never_a_request(engine: Engine) {
        let length = HIDDEN.len();
        let framings = [
            format!("Content-Length: {length}\r\n\r\n{HIDDEN}"),
            format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{HIDDEN}\r\n0\r\n\r\n"),
        ];
        let methods = [
            ("GET /echo/x", Accepted(200)),
            ("HEAD /echo/x", Accepted(200)),
            ("OPTIONS /echo/x", Accepted(204)),
            ("OPTIONS *", Accepted(204)),
            ("POST /echo/x", Accepted(405)),
            ("DELETE /echo/x", Accepted(405)),
            ("PATCH /echo/x", Accepted(405)),
            ("TRACE /echo/x", Accepted(405)),
            ("FROB /echo/x", Accepted(501)),
            ("GET /missing", Accepted(404)),
            ("CONNECT x:443", Last(405)),
        ];
        check_all(engine, methods.iter().flat_map(|(line, expected)| {
            framings.each_ref().map(|rest| case(format!("{line} HTTP/1.1\r\nHost: x\r\n{rest}"), *expected))
        }));
    }

    fn an_authority_in_the_target_replaces_host_and_moves_nothing(engine: Engine) {
        let lines = [
            ("GET http://x/echo/x HTTP/1.1\r\nHost: y\r\n\r\n", Accepted(200)),
            ("GET http://x:80/echo/x HTTP/1.1\r\nHost: y:81\r\n\r\n", Accepted(200)),
            ("GET http://[::1]/echo/x HTTP/1.1\r\nHost:\r\n\r\n", Accepted(200)),
            ("GET HTTP://X/echo/x?http://y/ HTTP/1.1\r\nHost: x\r\n\r\n", Accepted(200)),
            ("GET //y/echo/x HTTP/1.1\r\nHost: x\r\n\r\n", Accepted(404)),
            ("GET /http://y/ HTTP/1.1\r\nHost: x\r\n\r\n", Accepted(404)),
            ("GET https://x/echo/x HTTP/1.1\r\nHost: x\r\n\r\n", Refused(&[421])),
            ("OPTIONS http://x HTTP/1.1\r\nHost: x\r\n\r\n", Accepted(204)),
        ];
        check_all(engine, lines.map(|(message, expected)| case(message, expected)));
    }

    fn an_expectation_moves_nothing(engine: Engine) {
        let length = HIDDEN.len();
        let wanted = |fields: &str| stored(format!("{fields}Content-Length: {length}\r\n"), HIDDEN, HIDDEN);
        let unmet = |fields: &str| {
            upload(format!("{fields}Content-Length: {length}\r\n"), HIDDEN, Refused(&[417]))
        };
        check_all(engine, [
            wanted("Expect: 100-continue\r\n"),
            wanted("Expect: 100-CONTINUE\r\n"),
            wanted("Expect:\t100-continue \r\n"),
            wanted("Expect: 100-continue, 100-continue\r\n"),
            wanted("Expect: 100-continue\r\nExpect: 100-Continue\r\n"),
            wanted("Expect:\r\n"),
            unmet("Expect: 100\r\n"),
            unmet("Expect: 100-continue=1\r\n"),
            unmet("Expect: 100-continue; a=b\r\n"),
            unmet("Expect: 100-continue, x\r\n"),
            unmet("Expect: x\r\nExpect: 100-continue\r\n"),
            unmet("Expect: \"100-continue\"\r\n"),
            unmet("Expect: y 100-continue\r\n"),
            upload(format!("Expect:\r\n 100-continue\r\nContent-Length: {length}\r\n"), HIDDEN, BAD),
            upload(format!("Expect: 100-continue\nContent-Length: {length}\r\n"), HIDDEN, BAD),
            // The client got no 100, so it may send the content or not: the server cannot know what follows.
            case(format!("GET /echo/x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n{HIDDEN}"), Last(200)),
            case(format!("POST /echo/x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n{HIDDEN}"), Last(405)),
            case(format!("HEAD /echo/x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n{HIDDEN}"), Last(200)),
            case("GET /echo/x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n", Accepted(200)),
        ]);
    }

    fn a_connection_ends_where_its_request_says(engine: Engine) {
        let get = |version: &str, fields: &str| format!("GET /echo/x {version}\r\nHost: x\r\n{fields}\r\n");
        check_all(engine, [
            case(get("HTTP/1.1", "Connection: close\r\n"), Last(200)),
            case(get("HTTP/1.1", "Connection: x, CLOSE\r\n"), Last(200)),
            case(get("HTTP/1.1", "Connection: keep-alive\r\nConnection: close\r\n"), Last(200)),
            case(get("HTTP/1.1", "Connection: xclose\r\n"), Accepted(200)),
            case(get("HTTP/1.1", "Proxy-Connection: close\r\n"), Accepted(200)),
            case(get("HTTP/1.0", ""), Last(200)),
            case(get("HTTP/1.0", "Connection: keep-alive\r\n"), Accepted(200)),
            case(get("HTTP/1.2", ""), Accepted(200)),
            case(format!("\r\n\r\n{}", get("HTTP/1.1", "")), Accepted(200)),
        ]);
    }

    fn bytes_after_a_body_are_read_as_a_head(engine: Engine) {
        // The length is too short: the rest of the content is read as the next head, and is invalid.
        let short = |rest: &str| format!("POST /echo/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello{rest}");
        let store = TempDir::new();
        let server = Setup::on(engine).args(["--directory", store.arg()]).start();
        for rest in ["X: y\r\n\r\n", " ", "\0", "=1&b=2\r\n"] {
            let mut client = Client::connect(&server);
            client.send(format!("{}{SECOND}", short(rest)));
            let statuses: Vec<u16> = answers(&mut client, false).iter().map(|answer| answer.status).collect();
            assert_eq!(statuses, [405, 400], "{rest:?}");
        }
        // One extra CRLF before a request is skipped.
        let mut client = Client::connect(&server);
        client.send(format!("{}{SECOND}", short("\r\n")));
        let statuses: Vec<u16> = answers(&mut client, false).iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [405, 200]);
    }
}
