//! Splits the output of a worker into lines for the log: bytes in, lines out. Memory is bounded for any output.

use std::time::{Duration, Instant};

/// A longer line is split.
const LONGEST: usize = 8 * 1024;
/// How long an unfinished line is held before it is shown. A prompt has no line end and should still be seen. If the
/// pipe has only split a line, its rest arrives within this time.
const HOLD: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub struct OutputLines {
    rest: Vec<u8>,
    since: Option<Instant>,
}

impl OutputLines {
    /// Adds bytes and shows the lines that they complete.
    pub fn push(&mut self, bytes: &[u8], now: Instant, mut show: impl FnMut(&str)) {
        self.rest.extend_from_slice(bytes);
        let mut start = 0;
        loop {
            let rest = &self.rest[start..];
            let (line, taken) = match memchr::memchr(b'\n', &rest[..rest.len().min(LONGEST)]) {
                Some(end) => (&rest[..end], end + 1),
                None if rest.len() >= LONGEST => (&rest[..LONGEST], LONGEST),
                None => break,
            };
            show(&readable(line));
            start += taken;
        }
        self.rest.drain(..start);
        self.since = match self.rest.is_empty() {
            true => None,
            false if start > 0 => Some(now),
            false => self.since.or(Some(now)),
        };
    }

    /// When `flush` is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.since.map(|since| since + HOLD)
    }

    /// Shows what is left without a line end.
    pub fn flush(&mut self, mut show: impl FnMut(&str)) {
        if !self.rest.is_empty() {
            show(&readable(&self.rest));
            self.rest.clear();
        }
        self.since = None;
    }
}

/// The line with control characters escaped: it may hold bytes from a client, which must not control the terminal.
fn readable(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = String::from_utf8_lossy(line);
    if !text.chars().any(|char| char.is_control() && char != '\t') {
        return text.into_owned();
    }
    let escaped = text.chars().map(|char| match char {
        '\t' => "\t".to_owned(),
        char if char.is_control() => char.escape_default().to_string(),
        char => char.to_string(),
    });
    escaped.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_shown_when_they_end_or_when_they_have_waited() {
        let (mut lines, mut shown, now) = (OutputLines::default(), Vec::new(), Instant::now());
        lines.push(b"a\nb", now, |line| shown.push(line.to_owned()));
        lines.push(b"c\r\n\x1b[31m\td", now, |line| shown.push(line.to_owned()));
        assert_eq!(shown, ["a", "bc"]);
        assert_eq!(lines.deadline(), Some(now + HOLD));
        lines.flush(|line| shown.push(line.to_owned()));
        assert_eq!(shown[2], "\\u{1b}[31m\td");
        assert_eq!(lines.deadline(), None);
    }

    #[test]
    fn a_flood_without_a_line_end_is_cut() {
        let (mut lines, mut count) = (OutputLines::default(), 0);
        lines.push(&vec![b'x'; 3 * LONGEST + 1], Instant::now(), |line| {
            assert_eq!(line.len(), LONGEST);
            count += 1;
        });
        assert_eq!((count, lines.rest.len()), (3, 1));
    }
}
