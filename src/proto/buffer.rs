//! A queue of bytes: filled at its end, consumed at its front.
//!
//! Its whole memory is initialised once, so that room for a read is not cleared again. An empty buffer that is parked
//! holds no memory: an idle connection holds its state only.

/// Most unused bytes of a parked buffer. If there are more, the content is moved to smaller memory.
const PARKED_SLACK: usize = 4096;

#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    /// `start <= end <= bytes.len()`.
    end: usize,
}

impl Buffer {
    pub fn with_capacity(capacity: usize) -> Buffer {
        Buffer { bytes: vec![0; capacity].into(), start: 0, end: 0 }
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether the buffer holds no memory.
    #[inline]
    pub fn is_unallocated(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The memory that the buffer holds, in bytes.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Drops `count` bytes from the front.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.len());
        self.start += count;
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Room for `size` bytes at the end, to read into. Call `fill` with the number of bytes that were read.
    #[inline]
    pub fn room(&mut self, size: usize) -> &mut [u8] {
        if self.bytes.len() - self.end < size {
            self.make_room(size);
        }
        &mut self.bytes[self.end..self.end + size]
    }

    pub fn fill(&mut self, count: usize) {
        debug_assert!(self.end + count <= self.bytes.len());
        self.end += count;
    }

    #[inline]
    pub fn push(&mut self, bytes: &[u8]) {
        if self.bytes.len() - self.end < bytes.len() {
            self.make_room(bytes.len());
        }
        let end = self.end + bytes.len();
        self.bytes[self.end..end].copy_from_slice(bytes);
        self.end = end;
    }

    /// Drops bytes from the end, down to `len`.
    pub fn truncate(&mut self, len: usize) {
        debug_assert!(len <= self.len());
        self.end = self.start + len;
    }

    /// Overwrites bytes of the queue, beginning `at` bytes behind its front.
    pub fn overwrite(&mut self, at: usize, bytes: &[u8]) {
        let from = self.start + at;
        debug_assert!(from + bytes.len() <= self.end);
        self.bytes[from..from + bytes.len()].copy_from_slice(bytes);
    }

    /// Gives back memory that the content does not need. Call it before the connection waits.
    #[inline]
    pub fn park(&mut self) {
        if self.is_empty() {
            *self = Buffer::default();
        } else if self.bytes.len() > self.len() + PARKED_SLACK {
            let bytes: Box<[u8]> = self.filled().into();
            *self = Buffer { end: bytes.len(), start: 0, bytes };
        }
    }

    #[cold]
    fn make_room(&mut self, size: usize) {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        // Moving the content to the front may have made enough room.
        let needed = self.end + size;
        if self.bytes.len() < needed {
            // The system maps zeroed memory page by page when it is first written: a small head costs a page, not
            // the whole room.
            let mut bytes: Box<[u8]> = vec![0; needed.next_power_of_two()].into();
            bytes[..self.end].copy_from_slice(&self.bytes[..self.end]);
            self.bytes = bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let mut buffer = Buffer::default();
        assert!(buffer.is_unallocated());
        buffer.push(b"hello");
        buffer.push(b" world");
        buffer.consume(6);
        buffer.room(3).copy_from_slice(b"ly!");
        buffer.fill(2);
        assert_eq!(buffer.filled(), b"worldly");
        buffer.truncate(5);
        buffer.overwrite(0, b"W");
        assert_eq!(buffer.filled(), b"World");
        buffer.consume(5);
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_parked_buffer_holds_what_it_needs() {
        let mut buffer = Buffer::with_capacity(65_536);
        buffer.push(b"rest");
        buffer.park();
        assert_eq!(buffer.filled(), b"rest");
        assert!(buffer.bytes.len() < 100);
        buffer.consume(4);
        buffer.park();
        assert!(buffer.is_unallocated());
    }
}
