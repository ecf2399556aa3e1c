//! The frames between the server and a worker: bytes in, values out. The docstring of worker.py says what each kind
//! means.
//!
//! ```text
//!  0     1        4                8                       16
//!  │kind │ serial │ length of A    │ length of B           │ A ... │ B ...      little-endian
//! ```
//! Every frame about a request carries that request's serial, so that an answer never goes to another request. A is a
//! head or a short text, and is read whole. B is content of any size, and is read piece by piece.

/// The length of a frame's header: the bytes before A.
pub const HEADER: usize = 16;
/// A serial has three bytes. After the one before this number comes 0.
pub const SERIALS: u32 = 1 << 24;
/// The largest A. No client accepts a response head that large.
const MOST: usize = 1024 * 1024;
/// A buffer of this size can always hold a frame up to the end of A.
pub const LARGEST_HEAD: usize = HEADER + MOST;

/// The kinds of frames to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ToWorker {
    Config = 1,
    Request = 2,
    Spooled = 3,
    Cancel = 4,
}

/// The kinds of frames from a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FromWorker {
    Ready = 16,
    Failed = 17,
    Full = 18,
    Data = 19,
    File = 20,
    End = 21,
    Abort = 22,
    Error = 23,
    Last = 24,
}

impl FromWorker {
    fn of(byte: u8) -> Option<FromWorker> {
        use FromWorker::*;
        [Ready, Failed, Full, Data, File, End, Abort, Error, Last].into_iter().find(|kind| *kind as u8 == byte)
    }

    /// Whether the thread that sent the frame is free after it.
    pub fn frees(self) -> bool {
        matches!(self, FromWorker::Full | FromWorker::End | FromWorker::Abort | FromWorker::Error)
    }
}

/// The header of a frame. `a` and `b` are the lengths of A and B.
pub fn header(kind: ToWorker, serial: u32, a: usize, b: u64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&(serial << 8 | kind as u32).to_le_bytes());
    header[4..8].copy_from_slice(&(a as u32).to_le_bytes());
    header[8..].copy_from_slice(&b.to_le_bytes());
    header
}

/// Names and values in the format of A of CONFIG: `NAME\0VALUE\0...`.
pub fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in pairs {
        out.extend_from_slice(name.as_bytes());
        out.push(0);
        out.extend_from_slice(value);
        out.push(0);
    }
    // A NUL at the end would begin another name.
    out.pop();
    out
}

/// A worker sent something that is not a frame. Do not use its socket any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// A piece of the bytes from a worker.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A frame begins. `b` bytes of content follow; for FILE, `b` is the offset in the file.
    Frame {
        kind: FromWorker,
        a: &'a [u8],
        b: u64,
    },
    Content(&'a [u8]),
}

/// Reads frames from a stream of bytes.
#[derive(Debug, Default)]
pub struct Reader {
    /// The serial that frames must carry. `None`: any serial is accepted.
    serial: Option<u32>,
    /// Bytes of B still to come.
    left: u64,
    /// After the current frame the thread is free.
    frees: bool,
}

impl Reader {
    pub fn of(serial: u32) -> Reader {
        Reader { serial: Some(serial), ..Reader::default() }
    }

    /// The next piece of `input`, and how many bytes it takes. `None`: more bytes are needed.
    pub fn next<'a>(&mut self, input: &'a [u8]) -> Result<Option<(usize, Piece<'a>)>, Broken> {
        if self.left > 0 {
            let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
            self.left -= len as u64;
            return Ok((len > 0).then(|| (len, Piece::Content(&input[..len]))));
        }
        let Some((header, rest)) = input.split_first_chunk::<HEADER>() else { return Ok(None) };
        let kind = FromWorker::of(header[0]).ok_or(Broken)?;
        let serial = u32::from_le_bytes([header[1], header[2], header[3], 0]);
        if self.serial.is_some_and(|asked| asked != serial) {
            return Err(Broken);
        }
        let a = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let b = u64::from_le_bytes([
            header[8], header[9], header[10], header[11], header[12], header[13], header[14], header[15],
        ]);
        if a > MOST {
            return Err(Broken);
        }
        let Some(a) = rest.get(..a) else { return Ok(None) };
        self.left = if kind == FromWorker::File { 0 } else { b };
        self.frees = kind.frees();
        Ok(Some((HEADER + a.len(), Piece::Frame { kind, a, b })))
    }

    /// Whether the last frame of the answer has been read completely.
    pub fn is_free(&self) -> bool {
        self.frees && self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: FromWorker, a: &[u8], b: u64, content: &[u8]) -> Vec<u8> {
        let mut bytes = header(ToWorker::Cancel, 0, a.len(), b).to_vec();
        bytes[0] = kind as u8;
        [&bytes, a, content].concat()
    }

    /// Reads `bytes` in steps of `step` bytes. Returns every piece, with the content joined.
    fn read(bytes: &[u8], step: usize) -> Vec<(Option<FromWorker>, Vec<u8>, u64)> {
        let (mut reader, mut found, mut start) = (Reader::default(), Vec::new(), 0);
        for end in (0..=bytes.len()).filter(|at| at.is_multiple_of(step) || *at == bytes.len()) {
            while let Some((taken, piece)) = reader.next(&bytes[start..end]).unwrap() {
                start += taken;
                match (piece, found.last_mut()) {
                    (Piece::Frame { kind, a, b }, _) => found.push((Some(kind), a.to_vec(), b)),
                    (Piece::Content(content), Some((None, joined, _))) => joined.extend_from_slice(content),
                    (Piece::Content(content), _) => found.push((None, content.to_vec(), 0)),
                }
            }
        }
        assert_eq!(start, bytes.len());
        found
    }

    #[test]
    fn frames_are_read_however_they_are_cut() {
        let bytes = [
            frame(FromWorker::Data, b"200 OK\0", 5, b"hello"),
            frame(FromWorker::File, b"200 OK\0", 7, b""),
            frame(FromWorker::End, b"", 0, b""),
        ]
        .concat();
        let expected = vec![
            (Some(FromWorker::Data), b"200 OK\0".to_vec(), 5),
            (None, b"hello".to_vec(), 0),
            (Some(FromWorker::File), b"200 OK\0".to_vec(), 7),
            (Some(FromWorker::End), Vec::new(), 0),
        ];
        for step in [1, 3, 16, bytes.len()] {
            assert_eq!(read(&bytes, step), expected, "cut after {step}");
        }
    }

    #[test]
    fn a_thread_is_free_with_the_last_byte_of_its_last_frame() {
        let full = frame(FromWorker::Full, b"200 OK\0", 2, b"hi");
        let mut reader = Reader::default();
        let (taken, _) = reader.next(&full).unwrap().unwrap();
        assert!(!reader.is_free());
        reader.next(&full[taken..]).unwrap();
        assert!(reader.is_free());
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert_eq!(Reader::default().next(&[0; 16]), Err(Broken));
        let mut long = header(ToWorker::Cancel, 0, MOST + 1, 0);
        long[0] = FromWorker::Data as u8;
        assert_eq!(Reader::default().next(&long), Err(Broken));
    }

    #[test]
    fn the_answer_to_another_request_is_refused() {
        let mut bytes = header(ToWorker::Cancel, SERIALS - 1, 0, 0);
        bytes[0] = FromWorker::End as u8;
        assert!(Reader::of(SERIALS - 1).next(&bytes).is_ok_and(|found| found.is_some()));
        assert!(Reader::default().next(&bytes).is_ok_and(|found| found.is_some()));
        assert_eq!(Reader::of(1).next(&bytes), Err(Broken));
    }

    #[test]
    fn pairs_end_without_a_nul() {
        assert_eq!(pairs([("a", &b"1"[..]), ("b", b"")]), b"a\x001\0b\0");
    }
}
