//! The chunked transfer coding (RFC 9112, section 7.1): a decoder that takes bytes as they arrive, and the framing that
//! an encoder adds.
//!
//! The decoder reads the framing byte by byte, and returns the data as ranges of its input. It is strict: lines end in
//! CRLF only, and white space is allowed only where the grammar has it. Extensions are parsed and ignored. Trailers are
//! parsed and dropped; they are never merged into the header section.
//!
//! ```text
//!  Size ─► Bws ─► ExtName.. ─► ExtValue.. | Quoted ─┐
//!   └──────────────────────────────────────────► SizeLf ─► Data ─► DataCr ─► DataLf ─► Size
//!                                                  └─ size 0 ─► TrailerStart ─► TrailerName ─► TrailerValue ─► TrailerLf ─┐
//!                                                                  └─► EndLf ─► End      ◄──────────────── TrailerStart ◄┘
//! ```

use crate::http::chars::{is_field_value_byte, is_tchar};
use crate::http::violation::Violation;
use std::ops::Range;

/// Most bytes of a chunk's size line, extensions included. Signatures that real clients send take about 100.
const SIZE_LINE: u32 = 4096;
/// Most bytes of the trailer section.
const TRAILERS: u32 = 8192;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    SizeStart,
    Size,
    /// White space that only a semicolon may follow.
    Bws,
    ExtNameStart,
    ExtName,
    ExtAfterName,
    ExtValueStart,
    ExtValue,
    Quoted,
    QuotedPair,
    QuotedEnd,
    /// White space that only a semicolon may follow.
    ExtAfterValue,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    /// White space that only a colon may follow.
    TrailerBws,
    TrailerValue,
    TrailerLf,
    EndLf,
    End,
}

#[derive(Clone, Debug)]
pub struct ChunkedDecoder {
    state: State,
    /// While the size is read: the size so far. In the data: the bytes that have not arrived.
    left: u64,
    /// Bytes read so far of the size line, or of the trailer section.
    spent: u32,
    of_response: bool,
}

/// The result of one call of `decode`.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of the input that were consumed, `data` included.
    pub consumed: usize,
    /// The range of the input that is content. It may be empty.
    pub data: Range<usize>,
    /// Whether the last byte of the body was consumed.
    pub end: bool,
}

impl Default for ChunkedDecoder {
    fn default() -> ChunkedDecoder {
        ChunkedDecoder { state: State::SizeStart, left: 0, spent: 0, of_response: false }
    }
}

impl ChunkedDecoder {
    /// For a response: white space between the name of a trailer field and its colon is dropped (RFC 9112, section 5.1).
    pub fn of_response() -> ChunkedDecoder {
        ChunkedDecoder { of_response: true, ..ChunkedDecoder::default() }
    }

    /// Decodes up to the end of the first piece of data, or to the end of `input`. Call again with the bytes behind
    /// `consumed` until nothing is consumed or `end` is true.
    pub fn decode(&mut self, input: &[u8]) -> Result<Decoded, Violation> {
        let mut at = 0;
        while at < input.len() && self.state != State::End {
            if self.state == State::Data {
                let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len() - at);
                self.left -= len as u64;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                return Ok(Decoded { consumed: at + len, data: at..at + len, end: false });
            }
            self.state = self.step(input[at])?;
            at += 1;
        }
        Ok(Decoded { consumed: at, data: at..at, end: self.state == State::End })
    }

    /// Bytes of the current chunk's data that have not arrived.
    pub fn announced(&self) -> u64 {
        if self.state == State::Data { self.left } else { 0 }
    }

    fn step(&mut self, byte: u8) -> Result<State, Violation> {
        use State::*;
        self.spend()?;
        Ok(match (self.state, byte) {
            (SizeStart | Size, _) if byte.is_ascii_hexdigit() => {
                let digit = (byte as char).to_digit(16).unwrap_or(0);
                self.left = self.left.checked_mul(16).ok_or(Violation::ChunkSize)? | u64::from(digit);
                Size
            }
            (Size | Bws, b';') => ExtNameStart,
            (Size | Bws, b' ' | b'\t') => Bws,
            (Size | ExtName | ExtValue | QuotedEnd, b'\r') => SizeLf,
            (SizeStart | Size | Bws, _) => return Err(Violation::ChunkSize),

            (ExtNameStart | ExtValueStart, b' ' | b'\t') => self.state,
            (ExtNameStart | ExtName, _) if is_tchar(byte) => ExtName,
            (ExtName | ExtAfterName, b'=') => ExtValueStart,
            (ExtName | ExtAfterName | ExtValue | QuotedEnd | ExtAfterValue, b';') => ExtNameStart,
            (ExtName | ExtAfterName, b' ' | b'\t') => ExtAfterName,
            (ExtValueStart, b'"') => Quoted,
            (ExtValueStart | ExtValue, _) if is_tchar(byte) => ExtValue,
            (ExtValue | QuotedEnd | ExtAfterValue, b' ' | b'\t') => ExtAfterValue,
            (Quoted, b'"') => QuotedEnd,
            (Quoted, b'\\') => QuotedPair,
            (Quoted | QuotedPair, _) if is_field_value_byte(byte) => Quoted,
            (
                ExtNameStart | ExtName | ExtAfterName | ExtValueStart | ExtValue | Quoted | QuotedPair | QuotedEnd
                | ExtAfterValue,
                _,
            ) => {
                return Err(Violation::ChunkExtension);
            }

            (SizeLf, b'\n') => {
                self.spent = 0;
                if self.left == 0 { TrailerStart } else { Data }
            }
            (SizeLf, _) => return Err(Violation::ChunkSize),
            (DataCr, b'\r') => DataLf,
            (DataLf, b'\n') => {
                (self.left, self.spent) = (0, 0);
                SizeStart
            }
            (Data | DataCr | DataLf, _) => return Err(Violation::ChunkEnd),

            (TrailerStart, b'\r') => EndLf,
            (TrailerStart | TrailerName, _) if is_tchar(byte) => TrailerName,
            (TrailerName | TrailerBws, b':') => TrailerValue,
            (TrailerName | TrailerBws, b' ' | b'\t') if self.of_response => TrailerBws,
            (TrailerValue, b'\r') => TrailerLf,
            (TrailerValue, _) if is_field_value_byte(byte) => TrailerValue,
            (TrailerLf, b'\n') => TrailerStart,
            (EndLf, b'\n') => End,
            (TrailerStart | TrailerName | TrailerBws | TrailerValue | TrailerLf | EndLf | End, _) => {
                return Err(Violation::Trailer);
            }
        })
    }

    /// Counts a byte of framing against the limit of the line or section it belongs to.
    fn spend(&mut self) -> Result<(), Violation> {
        use State::*;
        self.spent += 1;
        match self.state {
            TrailerStart | TrailerName | TrailerBws | TrailerValue | TrailerLf | EndLf if self.spent > TRAILERS => {
                Err(Violation::TrailerTooLarge)
            }
            _ if self.spent > SIZE_LINE
                && !matches!(
                    self.state,
                    TrailerStart | TrailerName | TrailerBws | TrailerValue | TrailerLf | EndLf
                ) =>
            {
                Err(Violation::ChunkExtensionTooLong)
            }
            _ => Ok(()),
        }
    }
}

/// Writes the line before a chunk of `len` bytes: its size in hexadecimal, and CRLF.
pub fn write_size(len: usize, out: &mut Vec<u8>) {
    use std::io::Write;
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{len:x}\r\n");
}

/// The end of a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";
/// The end of chunked content: the last chunk, and an empty trailer section.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes the input in pieces of `cut` bytes. Returns the content and the number of bytes consumed.
    fn decode(input: &[u8], cut: usize) -> Result<Option<(Vec<u8>, usize)>, Violation> {
        let mut decoder = ChunkedDecoder::default();
        let (mut data, mut at, mut end) = (Vec::new(), 0, 0);
        loop {
            let decoded = decoder.decode(&input[at..end])?;
            data.extend_from_slice(&input[at..end][decoded.data]);
            at += decoded.consumed;
            if decoded.end {
                return Ok(Some((data, at)));
            }
            if at == end {
                if end == input.len() {
                    return Ok(None);
                }
                end = (end + cut).min(input.len());
            }
        }
    }

    fn decode_any_cut(input: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Violation> {
        let whole = decode(input, input.len().max(1));
        for cut in [1, 2, 3] {
            assert_eq!(decode(input, cut), whole, "{} cut {cut}", input.escape_ascii());
        }
        whole
    }

    #[test]
    fn bodies_are_decoded_however_they_are_cut() {
        for (input, data) in [
            ("0\r\n\r\n", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "hello"),
            ("00005\r\nhello\r\n000\r\n\r\n", "hello"),
            ("1\r\na\r\nA\r\n0123456789\r\n0\r\n\r\n", "a0123456789"),
            ("5;a\r\nhello\r\n0;b=c;d=\"e\\\"\\\\;\r\"\r\n", "!"),
            ("5 ; a = b ;c\r\nhello\r\n0\r\nX: y\r\nZ:\r\n\r\n", "hello"),
            ("5;a=\"q;\\\"r\"\r\nhello\r\n0\r\n\r\n", "hello"),
        ] {
            match data {
                "!" => assert_eq!(decode_any_cut(input.as_bytes()), Err(Violation::ChunkExtension)),
                _ => {
                    let behind = format!("{input}GET / HTTP/1.1\r\n");
                    let expected = Ok(Some((data.as_bytes().to_vec(), input.len())));
                    assert_eq!(decode_any_cut(behind.as_bytes()), expected, "{input:?}");
                }
            }
        }
    }

    #[test]
    fn every_broken_body_names_its_rule() {
        for (input, violation) in [
            ("\r\n", Violation::ChunkSize),
            ("x\r\n", Violation::ChunkSize),
            ("+5\r\nhello", Violation::ChunkSize),
            ("-1\r\n", Violation::ChunkSize),
            ("0x5\r\nhello", Violation::ChunkSize),
            (" 5\r\nhello", Violation::ChunkSize),
            ("5 \r\nhello", Violation::ChunkSize),
            ("5\nhello\n", Violation::ChunkSize),
            ("5\r\r\n", Violation::ChunkSize),
            ("10000000000000000\r\n", Violation::ChunkSize),
            ("5;\r\n", Violation::ChunkExtension),
            ("5;a=\r\n", Violation::ChunkExtension),
            ("5;a b\r\n", Violation::ChunkExtension),
            ("5;a \r\n", Violation::ChunkExtension),
            ("5;a=b \r\n", Violation::ChunkExtension),
            ("5;a=\"b\"c\r\n", Violation::ChunkExtension),
            ("5;a=\"b\" \r\n", Violation::ChunkExtension),
            ("5;a\n", Violation::ChunkExtension),
            ("5;a=\"b\n\"\r\n", Violation::ChunkExtension),
            ("5\r\nhello0\r\n", Violation::ChunkEnd),
            ("5\r\nhello\n0\r\n", Violation::ChunkEnd),
            ("5\r\nhello\r0", Violation::ChunkEnd),
            ("0\r\n\n", Violation::Trailer),
            ("0\r\nX y: z\r\n", Violation::Trailer),
            ("0\r\n: z\r\n", Violation::Trailer),
            ("0\r\nX : z\r\n", Violation::Trailer),
            ("0\r\nX: z\n", Violation::Trailer),
            ("0\r\nX: z\r\n folded\r\n", Violation::Trailer),
        ] {
            assert_eq!(decode_any_cut(input.as_bytes()), Err(violation), "{input:?}");
        }
    }

    #[test]
    fn white_space_before_the_colon_of_a_trailer_is_for_responses_only() {
        let decode = |mut decoder: ChunkedDecoder, input: &[u8]| decoder.decode(input).map(|decoded| decoded.end);
        for (input, valid) in
            [("0\r\nX \t: y\r\n\r\n", true), ("0\r\nX y: z\r\n\r\n", false), ("0\r\nX \r\n\r\n", false)]
        {
            let expected = if valid { Ok(true) } else { Err(Violation::Trailer) };
            assert_eq!(decode(ChunkedDecoder::of_response(), input.as_bytes()), expected, "{input:?}");
            assert_eq!(decode(ChunkedDecoder::default(), input.as_bytes()), Err(Violation::Trailer), "{input:?}");
        }
    }

    #[test]
    fn framing_has_its_limits() {
        let extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(5000));
        assert_eq!(decode(extension.as_bytes(), 7), Err(Violation::ChunkExtensionTooLong));
        let trailers = format!("0\r\n{}\r\n", "a: b\r\n".repeat(2000));
        assert_eq!(decode(trailers.as_bytes(), 7), Err(Violation::TrailerTooLarge));
    }
}
