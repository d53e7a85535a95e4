//! Reading a large part of a stream, for a copy of it: where one record follows the other, much is read at once.

use super::{Journal, Position, ReadError, RecordKey, SegmentId, Stream, gone_or_io};
use bytes::Bytes;

/// Read at a time; records further apart are read one by one.
const WINDOW_BYTES: usize = 1024 * 1024;

/// Records of one stream, most of which lie one behind the other.
pub struct Run<'a> {
    journal: &'a Journal,
    stream: Stream,
    segment: u32,
    from: usize,
    window: Bytes,
}

impl Journal {
    /// Reads many records of a stream, most of which lie one behind the other.
    pub fn run(&self, stream: Stream) -> Run<'_> {
        Run {
            journal: self,
            stream,
            segment: 0,
            from: 0,
            window: Bytes::new(),
        }
    }
}

impl Run<'_> {
    /// As [`Journal::read_blocking`].
    pub fn read_blocking(&mut self, position: Position, key: RecordKey) -> Result<Bytes, ReadError> {
        let wanted = self.journal.record_bytes(self.stream, position)?;
        let offset = position.offset as usize;
        let end = self.from + self.window.len();
        let same = position.segment == self.segment && offset >= self.from;
        if !(same && offset + wanted <= end) {
            if !(same && offset < end + WINDOW_BYTES) {
                // The next one may lie behind it.
                (self.segment, self.from, self.window) = (position.segment, offset, Bytes::new());
                return self.journal.read_blocking(self.stream, position, key);
            }
            let id = SegmentId {
                stream: self.stream.number(),
                number: position.segment,
            };
            let gone = |error| gone_or_io(error, self.stream, position.segment);
            let bytes = WINDOW_BYTES.max(wanted);
            let reads = &self.journal.shared.reads;
            self.window = reads.read_run(id, u64::from(position.offset), bytes).map_err(gone)?;
            self.from = offset;
        }
        let start = (offset - self.from).min(self.window.len());
        let record = self.window.slice(start..(start + wanted).min(self.window.len()));
        self.journal.check(self.stream, position, key, record)
    }
}
