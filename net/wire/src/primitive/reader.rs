//! A bounded cursor over bytes from a peer.
//!
//! Owns: where we are in a frame. Promises: no read past the end, no panic, no allocation; a length is compared with
//! what remains before it is used. Must never: believe a number from the wire.

use crate::error::{DecodeError, malformed};
use crate::primitive::Uuid;

/// The longest string, in bytes. Kafka writes string lengths as `i16` in the older versions and keeps the bound in
/// the compact form.
pub const MAX_STRING_BYTES: usize = i16::MAX as usize;

/// The most tagged fields in one struct. Kafka's fullest struct has four; the bound leaves room for newer peers and
/// keeps a hostile one from making us walk a frame of empty tags.
pub const MAX_TAGGED_FIELDS: u32 = 64;

/// A cursor over a borrowed slice. Copying it remembers a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the front of `bytes`.
    #[inline]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Bytes not read yet.
    #[inline]
    pub const fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes not read yet.
    #[inline]
    pub const fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// Refuses bytes after the end of a value.
    #[inline]
    pub fn expect_end(&self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            malformed("bytes follow the end of the body")
        }
    }

    /// The next `count` bytes.
    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        match self.bytes.split_at_checked(count) {
            Some((head, tail)) => {
                self.bytes = tail;
                Ok(head)
            }
            None => Err(DecodeError::Short {
                needed: count,
                remaining: self.bytes.len(),
            }),
        }
    }

    /// The next `N` bytes, as an array.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.bytes.split_first_chunk::<N>() {
            Some((head, tail)) => {
                self.bytes = tail;
                Ok(*head)
            }
            None => Err(DecodeError::Short {
                needed: N,
                remaining: self.bytes.len(),
            }),
        }
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A big-endian `i8`.
    #[inline]
    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        self.array().map(i8::from_be_bytes)
    }

    /// A big-endian `i16`.
    #[inline]
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        self.array().map(i16::from_be_bytes)
    }

    /// A big-endian `i32`.
    #[inline]
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_be_bytes)
    }

    /// A big-endian `i64`.
    #[inline]
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_be_bytes)
    }

    /// A big-endian `u16`.
    #[inline]
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    /// A big-endian `u32`.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A byte that is zero for false. Kafka reads any other value as true.
    #[inline]
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        self.u8().map(|byte| byte != 0)
    }

    /// Sixteen bytes.
    #[inline]
    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        self.array().map(Uuid)
    }

    /// An unsigned varint of at most 32 bits, in its shortest form.
    #[inline]
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        match self.bytes {
            [byte, tail @ ..] if *byte < 0x80 => {
                self.bytes = tail;
                Ok(u32::from(*byte))
            }
            _ => match u32::try_from(self.long_varint(5)?) {
                Ok(value) => Ok(value),
                Err(_) => malformed("a varint has more than 32 bits"),
            },
        }
    }

    /// A zigzag varint of at most 32 bits, in its shortest form.
    #[inline]
    pub fn varint(&mut self) -> Result<i32, DecodeError> {
        let raw = self.unsigned_varint()?;
        Ok(((raw >> 1) as i32) ^ -((raw & 1) as i32))
    }

    /// A zigzag varint of at most 64 bits, in its shortest form.
    #[inline]
    pub fn varlong(&mut self) -> Result<i64, DecodeError> {
        let raw = self.long_varint(10)?;
        Ok(((raw >> 1) as i64) ^ -((raw & 1) as i64))
    }

    fn long_varint(&mut self, max_bytes: usize) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for index in 0..max_bytes {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            let shifted = bits << (7 * index);
            if shifted >> (7 * index) != bits {
                return malformed("a varint has more bits than its type");
            }
            value |= shifted;
            if byte < 0x80 {
                if byte == 0 && index > 0 {
                    return malformed("a varint is longer than it needs to be");
                }
                return Ok(value);
            }
        }
        malformed("a varint does not end")
    }

    /// The length of a string or array or byte field: `None` for null. `flexible` chooses the compact form, a varint
    /// of length plus one. The length is not yet compared with anything: callers go on to [`Self::take`] or
    /// [`Self::bounded_count`].
    #[inline]
    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        Ok((self.unsigned_varint()? as usize).checked_sub(1))
    }

    #[inline]
    fn int_length(&mut self) -> Result<Option<usize>, DecodeError> {
        match self.i32()? {
            -1 => Ok(None),
            length => match usize::try_from(length) {
                Ok(length) => Ok(Some(length)),
                Err(_) => malformed("a length is negative"),
            },
        }
    }

    /// A string that may be null, checked to be UTF-8 and at most [`MAX_STRING_BYTES`] long.
    #[inline]
    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<&'a str>, DecodeError> {
        let length = if flexible {
            self.compact_length()?
        } else {
            match self.i16()? {
                -1 => None,
                length => match usize::try_from(length) {
                    Ok(length) => Some(length),
                    Err(_) => return malformed("a string's length is negative"),
                },
            }
        };
        let Some(length) = length else { return Ok(None) };
        if length > MAX_STRING_BYTES {
            return malformed("a string is longer than 32767 bytes");
        }
        match std::str::from_utf8(self.take(length)?) {
            Ok(text) => Ok(Some(text)),
            Err(_) => malformed("a string is not UTF-8"),
        }
    }

    /// A byte field (or a records field) that may be null.
    #[inline]
    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<&'a [u8]>, DecodeError> {
        let length = if flexible {
            self.compact_length()?
        } else {
            self.int_length()?
        };
        length.map(|length| self.take(length)).transpose()
    }

    /// The count of an array that may be null, refused when the bytes that remain cannot hold that many elements of
    /// at least `element_min_size` bytes.
    #[inline]
    pub fn nullable_array_count(
        &mut self,
        flexible: bool,
        element_min_size: usize,
    ) -> Result<Option<usize>, DecodeError> {
        let count = if flexible {
            self.compact_length()?
        } else {
            self.int_length()?
        };
        count
            .map(|count| self.bounded_count(count, element_min_size))
            .transpose()
    }

    /// `count`, when that many elements of at least `element_min_size` bytes can be in the bytes that remain.
    #[inline]
    pub fn bounded_count(&self, count: usize, element_min_size: usize) -> Result<usize, DecodeError> {
        let element_min_size = element_min_size.max(1);
        if count > self.bytes.len() / element_min_size {
            let needed = count.saturating_mul(element_min_size);
            return Err(DecodeError::Short {
                needed,
                remaining: self.bytes.len(),
            });
        }
        Ok(count)
    }

    /// How many tagged fields follow.
    #[inline]
    pub fn tagged_field_count(&mut self) -> Result<u32, DecodeError> {
        let count = self.unsigned_varint()?;
        if count > MAX_TAGGED_FIELDS {
            malformed("a struct has more than 64 tagged fields")
        } else {
            Ok(count)
        }
    }

    /// One tagged field: its number, and a reader over exactly its value.
    #[inline]
    pub fn tagged_field(&mut self) -> Result<(u32, Reader<'a>), DecodeError> {
        let tag = self.unsigned_varint()?;
        let size = self.unsigned_varint()? as usize;
        Ok((tag, Reader::new(self.take(size)?)))
    }

    /// Steps over a whole section of tagged fields.
    #[inline]
    pub fn skip_tagged_fields(&mut self) -> Result<(), DecodeError> {
        for _ in 0..self.tagged_field_count()? {
            self.tagged_field()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitive::Writer;

    #[test]
    fn varints_survive_the_round_trip() {
        for value in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, 1 << 21, u32::MAX - 1, u32::MAX] {
            let mut writer = Writer::flat();
            writer.unsigned_varint(value);
            let bytes = writer.into_bytes();
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.unsigned_varint(), Ok(value));
            assert_eq!(reader.expect_end(), Ok(()));
        }
        for value in [
            0,
            -1,
            1,
            63,
            64,
            -64,
            -65,
            i64::from(i32::MIN),
            i64::MAX,
            i64::MIN,
        ] {
            let mut writer = Writer::flat();
            writer.varlong(value);
            let bytes = writer.into_bytes();
            assert_eq!(Reader::new(&bytes).varlong(), Ok(value));
            if let Ok(small) = i32::try_from(value) {
                assert_eq!(Reader::new(&bytes).varint(), Ok(small));
            }
        }
    }

    #[test]
    fn overlong_and_overwide_varints_are_refused() {
        let refused: [&[u8]; 6] = [
            &[0x80, 0x00],
            &[0x81, 0x80, 0x00],
            &[0xff, 0xff, 0xff, 0xff, 0x1f],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80],
            &[0xff, 0xff, 0xff, 0xff, 0x10],
        ];
        for bytes in refused {
            let error = Reader::new(bytes).unsigned_varint().unwrap_err();
            assert!(
                matches!(error, DecodeError::Malformed { .. }),
                "{bytes:x?}: {error}"
            );
        }
        let wide = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert!(matches!(
            Reader::new(&wide).varlong(),
            Err(DecodeError::Malformed { .. })
        ));
        assert!(matches!(
            Reader::new(&[0x80]).unsigned_varint(),
            Err(DecodeError::Short { .. })
        ));
    }

    #[test]
    fn hostile_counts_are_refused_before_anything_is_sized_by_them() {
        let mut reader = Reader::new(&[0x7f, 0xff, 0xff, 0xff, 0, 0]);
        assert!(matches!(
            reader.nullable_array_count(false, 1),
            Err(DecodeError::Short { .. })
        ));
        let mut reader = Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0]);
        assert!(matches!(
            reader.nullable_array_count(true, 8),
            Err(DecodeError::Short { .. })
        ));
        let mut reader = Reader::new(&[0xff, 0xff, 0xff, 0xfe]);
        assert!(matches!(
            reader.nullable_array_count(false, 1),
            Err(DecodeError::Malformed { .. })
        ));
        let mut reader = Reader::new(&[0, 0, 0, 2, 0, 0, 0]);
        assert!(matches!(
            reader.nullable_array_count(false, 2),
            Err(DecodeError::Short { .. })
        ));
    }

    #[test]
    fn strings_are_bounded_and_utf8() {
        assert_eq!(
            Reader::new(&[0, 2, b'o', b'k']).nullable_string(false),
            Ok(Some("ok"))
        );
        assert_eq!(
            Reader::new(&[3, b'o', b'k']).nullable_string(true),
            Ok(Some("ok"))
        );
        assert_eq!(Reader::new(&[0xff, 0xff]).nullable_string(false), Ok(None));
        assert_eq!(Reader::new(&[0]).nullable_string(true), Ok(None));
        assert!(Reader::new(&[0xff, 0xfe]).nullable_string(false).is_err());
        assert!(Reader::new(&[0, 1, 0xff]).nullable_string(false).is_err());
        assert!(Reader::new(&[0, 3, b'o', b'k']).nullable_string(false).is_err());
        let mut long = vec![0x81, 0x80, 0x02];
        long.resize(40_000, b'a');
        assert!(matches!(
            Reader::new(&long).nullable_string(true),
            Err(DecodeError::Malformed { .. })
        ));
    }

    #[test]
    fn tagged_fields_are_capped_and_unknown_ones_skipped() {
        let mut reader = Reader::new(&[2, 0, 1, 9, 200, 1, 0, 7]);
        assert_eq!(reader.skip_tagged_fields(), Ok(()));
        assert_eq!(reader.rest(), &[7]);
        assert!(matches!(
            Reader::new(&[65]).skip_tagged_fields(),
            Err(DecodeError::Malformed { .. })
        ));
        assert!(matches!(
            Reader::new(&[1, 0, 5, 1]).skip_tagged_fields(),
            Err(DecodeError::Short { .. })
        ));
    }
}
