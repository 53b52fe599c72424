//! Writes Kafka's primitive types.
//!
//! Owns: the bytes of a frame that are ours. Promises: record data is never copied by a vectored writer; it leaves a
//! gap, to be filled by [`crate::frame`] with a handle. Must never: write a length that differs from what follows it.

use crate::primitive::{MAX_STRING_BYTES, Uuid};

/// Room for the head of a frame without growing: a response to a few partitions is smaller than this.
const INITIAL_CAPACITY: usize = 256;

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
}

impl Writer {
    /// A writer that copies everything into one buffer.
    pub fn flat() -> Self {
        Self {
            bytes: Vec::with_capacity(INITIAL_CAPACITY),
            gaps: Vec::new(),
            vectored: false,
        }
    }

    /// A writer that leaves gaps for record data.
    pub(crate) fn vectored() -> Self {
        Self {
            vectored: true,
            ..Self::flat()
        }
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
        self.bytes.extend_from_slice(bytes);
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
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
        let length = length.map(|length| i32::try_from(length).expect("a frame is smaller than 2 GiB"));
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
#[derive(Debug, Default)]
pub(crate) struct TaggedFields {
    count: u32,
    bytes: Vec<u8>,
}

impl TaggedFields {
    /// Adds one field. Tags must be given in ascending order.
    pub(crate) fn put(&mut self, tag: u32, write: impl FnOnce(&mut Writer)) {
        let mut value = Writer::flat();
        write(&mut value);
        let mut field = Writer {
            bytes: std::mem::take(&mut self.bytes),
            gaps: Vec::new(),
            vectored: false,
        };
        field.unsigned_varint(tag);
        field.unsigned_varint(value.bytes.len() as u32);
        field.raw(&value.bytes);
        self.bytes = field.bytes;
        self.count += 1;
    }

    /// Writes the section: one zero byte when there was nothing to say.
    #[inline]
    pub(crate) fn finish(self, writer: &mut Writer) {
        writer.unsigned_varint(self.count);
        writer.raw(&self.bytes);
    }
}
