//! The records inside a batch, once they are decompressed: a bounded iterator that borrows everything.
//!
//! A record is a zigzag varint of its length, then: `i8` attributes (unused), varlong timestamp delta, varint offset
//! delta, key and value each after a varint of its length (-1: null), and the headers: a varint of their count, then
//! key and value of each. Promises: no allocation, no panic; the first error is the last item.

use crate::error::{DecodeError, malformed};
use crate::primitive::{Reader, Writer};

/// The fewest bytes of a record: its length, attributes, two deltas, two null lengths and a count.
const RECORD_MIN_BYTES: usize = 7;
/// The fewest bytes of a record header: two lengths.
const HEADER_MIN_BYTES: usize = 2;

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// To be added to the batch's base timestamp (unless the batch has LogAppendTime).
    pub timestamp_delta_ms: i64,
    /// To be added to the batch's base offset.
    pub offset_delta: i32,
    /// The key, if any.
    pub key: Option<&'a [u8]>,
    /// The value; null is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: RecordHeaders<'a>,
}

/// A record's headers, as a view that was checked when the record was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeaders<'a> {
    count: usize,
    bytes: &'a [u8],
}

/// One header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader<'a> {
    /// Its name. Names may repeat.
    pub key: &'a str,
    /// Its value.
    pub value: Option<&'a [u8]>,
}

/// The records of a section that was decompressed. `record_count` is the batch header's: more or fewer records than
/// that are an error, as are bytes after the last.
pub fn records(section: &[u8], record_count: i32) -> RecordIter<'_> {
    RecordIter {
        reader: Reader::new(section),
        left: usize::try_from(record_count).ok(),
        failed: false,
    }
}

/// See [`records`].
#[derive(Debug, Clone)]
pub struct RecordIter<'a> {
    reader: Reader<'a>,
    /// `None` when the count was negative.
    left: Option<usize>,
    failed: bool,
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, DecodeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let result = self.step().transpose()?;
        self.failed = result.is_err();
        Some(result)
    }
}

impl<'a> RecordIter<'a> {
    #[inline]
    fn step(&mut self) -> Result<Option<Record<'a>>, DecodeError> {
        let Some(left) = self.left else {
            return malformed("a batch has a negative record count");
        };
        if left == 0 {
            self.reader.expect_end()?;
            return Ok(None);
        }
        self.reader.bounded_count(left, RECORD_MIN_BYTES)?;
        self.left = Some(left - 1);
        let Some(length) = length(&mut self.reader)? else {
            return malformed("a record has no length");
        };
        Record::read(Reader::new(self.reader.take(length)?)).map(Some)
    }
}

impl<'a> Record<'a> {
    fn read(mut reader: Reader<'a>) -> Result<Self, DecodeError> {
        let _attributes = reader.i8()?;
        let timestamp_delta_ms = reader.varlong()?;
        let offset_delta = reader.varint()?;
        let key = nullable_bytes(&mut reader)?;
        let value = nullable_bytes(&mut reader)?;
        let Some(count) = length(&mut reader)? else {
            return malformed("a record's header count is negative");
        };
        let count = reader.bounded_count(count, HEADER_MIN_BYTES)?;
        let bytes = reader.rest();
        for _ in 0..count {
            RecordHeader::read(&mut reader)?;
        }
        reader.expect_end()?;
        let headers = RecordHeaders { count, bytes };
        Ok(Self {
            timestamp_delta_ms,
            offset_delta,
            key,
            value,
            headers,
        })
    }
}

impl<'a> RecordHeaders<'a> {
    /// How many there are.
    #[inline]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The headers, in order.
    pub fn iter(&self) -> impl Iterator<Item = RecordHeader<'a>> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        (0..self.count).map_while(move |_| RecordHeader::read(&mut reader).ok())
    }
}

impl<'a> RecordHeader<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let Some(key) = nullable_bytes(reader)? else {
            return malformed("a record header's key is null");
        };
        let Ok(key) = std::str::from_utf8(key) else {
            return malformed("a record header's key is not UTF-8");
        };
        Ok(Self {
            key,
            value: nullable_bytes(reader)?,
        })
    }
}

/// A length: `None` for -1.
#[inline]
fn length(reader: &mut Reader<'_>) -> Result<Option<usize>, DecodeError> {
    match reader.varint()? {
        -1 => Ok(None),
        length => match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) => malformed("a length in a record is negative"),
        },
    }
}

#[inline]
fn nullable_bytes<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, DecodeError> {
    length(reader)?.map(|length| reader.take(length)).transpose()
}

/// A record to write: its headers as a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NewRecord<'a> {
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The key, if any.
    pub key: Option<&'a [u8]>,
    /// The value; null is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: &'a [RecordHeader<'a>],
}

impl NewRecord<'_> {
    /// Appends all but the length. The deltas are against the batch.
    pub(crate) fn write(&self, writer: &mut Writer, timestamp_delta_ms: i64, offset_delta: i32) {
        writer.i8(0);
        writer.varlong(timestamp_delta_ms);
        writer.varint(offset_delta);
        write_bytes(writer, self.key);
        write_bytes(writer, self.value);
        write_length(writer, self.headers.len());
        for header in self.headers {
            write_bytes(writer, Some(header.key.as_bytes()));
            write_bytes(writer, header.value);
        }
    }
}

fn write_bytes(writer: &mut Writer, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            write_length(writer, bytes.len());
            writer.raw(bytes);
        }
        None => writer.varint(-1),
    }
}

pub(crate) fn write_length(writer: &mut Writer, length: usize) {
    writer.varint(i32::try_from(length).expect("a batch is smaller than 2 GiB"));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Length 8, no deltas, key null, value "v", no headers.
    const ONE: [u8; 9] = [16, 0, 0, 0, 1, 2, b'v', 0, 0];

    #[test]
    fn a_count_that_differs_from_the_records_is_an_error() {
        let one = [14, 0, 0, 0, 1, 2, b'v', 0];
        let read: Vec<_> = records(&one, 1).collect();
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].unwrap().value, Some(&b"v"[..]));
        for wrong in [-1, 0, 2, i32::MAX, i32::MIN] {
            assert!(records(&one, wrong).last().unwrap().is_err(), "{wrong}");
        }
        assert!(records(&[], 0).next().is_none());
    }

    #[test]
    fn a_record_must_fill_its_length() {
        assert!(records(&ONE, 1).last().unwrap().is_err());
    }

    #[test]
    fn hostile_lengths_are_refused() {
        let headers = [20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f];
        assert!(records(&headers, 1).next().unwrap().is_err());
        let value = [20, 0, 0, 0, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0];
        assert!(records(&value, 1).next().unwrap().is_err());
        let length = [0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0];
        assert!(records(&length, 1).next().unwrap().is_err());
        let mut failed = records(&length, 1);
        failed.next();
        assert!(failed.next().is_none(), "the first error is the last item");
    }
}
