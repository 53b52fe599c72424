//! Writes Kafka's primitive types.
//!
//! Owns: the bytes of a frame that are ours. Promises: record data is never copied by a vectored writer; it leaves a
//! gap, to be filled by [`crate::frame`] with a handle; and nothing grows beyond the writer's bound: what would is left
//! out, and the writer says so. Must never: write a length that differs from what follows it in a frame that is sent.

use crate::primitive::{MAX_STRING_BYTES, Uuid};

/// Room for the head of a frame without growing: a response to a few partitions is smaller than this.
const INITIAL_CAPACITY: usize = 256;

/// The most that a length can say, in bytes.
pub(crate) const FRAME_BYTES_MAX: usize = i32::MAX as usize;

/// A place in a vectored frame where record data belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap {
    /// How many of the writer's own bytes precede it.
    pub(crate) position: usize,
    /// How many bytes of record data belong here.
    pub(crate) length: usize,
}

/// A growing frame.
#[derive(Debug)]
pub struct Writer {
    bytes: Vec<u8>,
    gaps: Vec<Gap>,
    vectored: bool,
    /// Of its own bytes.
    bytes_max: usize,
    is_beyond: bool,
}

impl Writer {
    /// A writer that copies everything into one buffer.
    pub fn flat() -> Self {
        Self::within(FRAME_BYTES_MAX)
    }

    /// The same, of at most so many bytes.
    pub(crate) fn within(bytes_max: usize) -> Self {
        Self::reusing(Vec::new(), bytes_max)
    }

    /// The same, in memory that was used before: what was in it is gone.
    pub(crate) fn reusing(mut bytes: Vec<u8>, bytes_max: usize) -> Self {
        bytes.clear();
        bytes.reserve(INITIAL_CAPACITY);
        Self {
            bytes,
            gaps: Vec::new(),
            vectored: false,
            bytes_max: bytes_max.min(FRAME_BYTES_MAX),
            is_beyond: false,
        }
    }

    /// A writer that leaves gaps for record data, and has at most so many bytes beside them.
    pub(crate) fn vectored(bytes_max: usize) -> Self {
        Self {
            vectored: true,
            ..Self::within(bytes_max)
        }
    }

    /// Whether there was more than it may have: then it does not have all, and is no frame.
    #[inline]
    pub(crate) fn is_beyond(&self) -> bool {
        self.is_beyond
    }

    /// Nothing more is taken: what is written from here on would only cost time and memory.
    #[cold]
    fn go_beyond(&mut self) {
        self.is_beyond = true;
        self.bytes_max = 0;
    }

    /// What was written so far.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes written so far.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Forgets what was written and keeps the memory.
    #[inline]
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.gaps.clear();
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        debug_assert!(self.gaps.is_empty(), "a vectored frame has gaps to fill");
        self.bytes
    }

    pub(crate) fn into_parts(self) -> (Vec<u8>, Vec<Gap>) {
        (self.bytes, self.gaps)
    }

    /// Appends bytes as they are.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        if bytes.len() > self.bytes_max.saturating_sub(self.bytes.len()) {
            return self.go_beyond();
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self, value: u8) {
        self.raw(&[value]);
    }

    /// A big-endian `i8`.
    #[inline]
    pub fn i8(&mut self, value: i8) {
        self.raw(&value.to_be_bytes());
    }

    /// A big-endian `i16`.
    #[inline]
    pub fn i16(&mut self, value: i16) {
        self.raw(&value.to_be_bytes());
    }

    /// A big-endian `i32`.
    #[inline]
    pub fn i32(&mut self, value: i32) {
        self.raw(&value.to_be_bytes());
    }

    /// A big-endian `i64`.
    #[inline]
    pub fn i64(&mut self, value: i64) {
        self.raw(&value.to_be_bytes());
    }

    /// A big-endian `u32`.
    #[inline]
    pub fn u32(&mut self, value: u32) {
        self.raw(&value.to_be_bytes());
    }

    /// One byte: 1 for true.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    /// Sixteen bytes.
    #[inline]
    pub fn uuid(&mut self, value: Uuid) {
        self.raw(&value.0);
    }

    /// An unsigned varint.
    #[inline]
    pub fn unsigned_varint(&mut self, value: u32) {
        self.unsigned_varlong(u64::from(value));
    }

    /// A zigzag varint.
    #[inline]
    pub fn varint(&mut self, value: i32) {
        self.unsigned_varint(((value << 1) ^ (value >> 31)) as u32);
    }

    /// A zigzag varint of 64 bits.
    #[inline]
    pub fn varlong(&mut self, value: i64) {
        self.unsigned_varlong(((value << 1) ^ (value >> 63)) as u64);
    }

    #[inline]
    fn unsigned_varlong(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.u8((value as u8) | 0x80);
            value >>= 7;
        }
        self.u8(value as u8);
    }

    /// The length of an array or byte field, `None` for null: a varint of length plus one when `flexible`, else an
    /// `i32`. A frame cannot hold more than `i32::MAX` of anything.
    #[inline]
    pub fn length(&mut self, length: Option<usize>, flexible: bool) {
        let Ok(length) = length.map(i32::try_from).transpose() else {
            return self.go_beyond();
        };
        match (length, flexible) {
            (Some(length), true) => self.unsigned_varint(length as u32 + 1),
            (None, true) => self.unsigned_varint(0),
            (length, false) => self.i32(length.unwrap_or(-1)),
        }
    }

    /// A string that may be null. One longer than [`MAX_STRING_BYTES`] is cut at a character's edge, so that the
    /// frame stays whole (only a message of ours for people could be that long).
    #[inline]
    pub fn nullable_string(&mut self, value: Option<&str>, flexible: bool) {
        let value = value.map(|text| &text[..text.floor_char_boundary(MAX_STRING_BYTES)]);
        match (value, flexible) {
            (value, true) => self.length(value.map(str::len), true),
            (Some(text), false) => self.i16(text.len() as i16),
            (None, false) => self.i16(-1),
        }
        self.raw(value.unwrap_or_default().as_bytes());
    }

    /// A byte field that may be null. A vectored writer leaves a gap for the bytes.
    #[inline]
    pub fn nullable_bytes(&mut self, value: Option<&[u8]>, flexible: bool) {
        self.length(value.map(<[u8]>::len), flexible);
        self.slice(value.unwrap_or_default());
    }

    /// Bytes whose length was written before. A vectored writer leaves a gap for them, unless they are none.
    #[inline]
    pub(crate) fn slice(&mut self, bytes: &[u8]) {
        if !self.vectored {
            self.raw(bytes);
        } else if !bytes.is_empty() {
            self.gaps.push(Gap {
                position: self.bytes.len(),
                length: bytes.len(),
            });
        }
    }
}

/// Collects a struct's tagged fields, which are counted before they are written.
#[derive(Debug)]
pub(crate) struct TaggedFields {
    count: u32,
    fields: Option<Writer>,
    bytes_max: usize,
}

impl TaggedFields {
    /// Of a struct that `writer` writes, none yet: what it may not have they may not have either.
    #[inline]
    pub(crate) fn of(writer: &Writer) -> TaggedFields {
        TaggedFields {
            count: 0,
            fields: None,
            bytes_max: writer.bytes_max,
        }
    }

    /// Adds one field. Tags must be given in ascending order.
    pub(crate) fn put(&mut self, tag: u32, write: impl FnOnce(&mut Writer)) {
        let bytes_max = self.bytes_max;
        let mut value = Writer::within(bytes_max);
        write(&mut value);
        let fields = self.fields.get_or_insert_with(|| Writer::within(bytes_max));
        fields.unsigned_varint(tag);
        fields.unsigned_varint(value.bytes.len() as u32);
        fields.raw(&value.bytes);
        fields.is_beyond |= value.is_beyond;
        self.count += 1;
    }

    /// Writes the section: one zero byte when there was nothing to say.
    #[inline]
    pub(crate) fn finish(self, writer: &mut Writer) {
        writer.unsigned_varint(self.count);
        if let Some(fields) = self.fields {
            writer.raw(&fields.bytes);
            if fields.is_beyond {
                writer.go_beyond();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_takes_its_bound_and_nothing_beyond_it() {
        let mut writer = Writer::within(8);
        writer.i64(7);
        assert!(!writer.is_beyond());
        writer.u8(1);
        assert!(writer.is_beyond());
        writer.raw(&[]);
        assert_eq!(writer.len(), 8, "what is beyond is left out");
        let mut writer = Writer::within(1_000_000);
        writer.raw(&[0; 600_000]);
        for _ in 0..1_000 {
            writer.raw(&[0; 600_000]);
            writer.u8(1);
        }
        assert_eq!(writer.len(), 600_000, "and so is all that follows it");
    }

    #[test]
    fn a_length_that_cannot_be_said_is_beyond_any_bound() {
        for flexible in [false, true] {
            let mut writer = Writer::flat();
            writer.length(Some(FRAME_BYTES_MAX), flexible);
            assert!(!writer.is_beyond());
            writer.length(Some(FRAME_BYTES_MAX + 1), flexible);
            assert!(writer.is_beyond());
        }
    }

    #[test]
    fn tagged_fields_have_the_bound_of_their_writer() {
        for (length, is_beyond) in [(90, false), (98, true), (1_000, true)] {
            let mut writer = Writer::within(100);
            let mut tags = TaggedFields::of(&writer);
            tags.put(0, |writer| writer.raw(&vec![1; length]));
            tags.finish(&mut writer);
            assert_eq!(writer.is_beyond(), is_beyond, "{length}");
        }
    }
}
