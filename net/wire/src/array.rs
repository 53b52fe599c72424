//! Arrays of requests, as views: nothing is collected.
//!
//! Promises: an array that came from the wire was read once, to its end, when the request was decoded, so that
//! iterating it cannot fail. A client builds the same type over a slice.

use std::fmt;

use crate::error::DecodeError;
use crate::primitive::{Reader, Writer};
use crate::schema::{Decode, DecodeNullable, Encode, EncodeNullable, Version};

/// A borrowed array: a checked stretch of a frame, or a slice of elements to send.
pub struct Array<'a, T> {
    source: Source<'a, T>,
}

enum Source<'a, T> {
    Wire {
        bytes: &'a [u8],
        count: usize,
        version: Version,
    },
    Slice(&'a [T]),
}

impl<'a, T> Array<'a, T> {
    /// An array to send.
    #[inline]
    pub const fn from_slice(elements: &'a [T]) -> Self {
        Self {
            source: Source::Slice(elements),
        }
    }

    /// How many elements there are.
    #[inline]
    pub const fn len(&self) -> usize {
        match self.source {
            Source::Wire { count, .. } => count,
            Source::Slice(elements) => elements.len(),
        }
    }

    /// Whether there are none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a, T: Decode<'a> + Copy> Array<'a, T> {
    /// The elements, in order.
    #[inline]
    pub fn iter(&self) -> ArrayIter<'a, T> {
        ArrayIter {
            source: match self.source {
                Source::Wire {
                    bytes,
                    count,
                    version,
                } => IterSource::Wire {
                    reader: Reader::new(bytes),
                    left: count,
                    version,
                },
                Source::Slice(elements) => IterSource::Slice(elements.iter()),
            },
        }
    }
}

/// The elements of an [`Array`], by value (they are small and borrow from the frame).
pub struct ArrayIter<'a, T> {
    source: IterSource<'a, T>,
}

enum IterSource<'a, T> {
    Wire {
        reader: Reader<'a>,
        left: usize,
        version: Version,
    },
    Slice(std::slice::Iter<'a, T>),
}

impl<'a, T: Decode<'a> + Copy> Iterator for ArrayIter<'a, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        match &mut self.source {
            IterSource::Wire {
                reader,
                left,
                version,
            } => {
                *left = left.checked_sub(1)?;
                let element = T::read(reader, *version);
                debug_assert!(
                    element.is_ok(),
                    "the array was checked when the request was decoded"
                );
                element.ok()
            }
            IterSource::Slice(elements) => elements.next().copied(),
        }
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.source {
            IterSource::Wire { left, .. } => *left,
            IterSource::Slice(elements) => elements.len(),
        };
        (left, Some(left))
    }
}

impl<'a, T: Decode<'a> + Copy> ExactSizeIterator for ArrayIter<'a, T> {}

impl<'a, T: Decode<'a> + Copy> IntoIterator for Array<'a, T> {
    type Item = T;
    type IntoIter = ArrayIter<'a, T>;

    #[inline]
    fn into_iter(self) -> ArrayIter<'a, T> {
        self.iter()
    }
}

impl<'a, T: Decode<'a> + Copy> IntoIterator for &Array<'a, T> {
    type Item = T;
    type IntoIter = ArrayIter<'a, T>;

    #[inline]
    fn into_iter(self) -> ArrayIter<'a, T> {
        self.iter()
    }
}

impl<'a, T: Decode<'a>> DecodeNullable<'a> for Array<'a, T> {
    #[inline]
    fn read_nullable(reader: &mut Reader<'a>, version: Version) -> Result<Option<Self>, DecodeError> {
        let Some(count) = reader.nullable_array_count(version.flexible, T::min_size(version))? else {
            return Ok(None);
        };
        let start = *reader;
        for _ in 0..count {
            T::read(reader, version)?;
        }
        let bytes = &start.rest()[..start.remaining() - reader.remaining()];
        Ok(Some(Self {
            source: Source::Wire {
                bytes,
                count,
                version,
            },
        }))
    }
}

impl<'a, T: Encode + Decode<'a> + Copy> EncodeNullable for Array<'a, T> {
    fn write_nullable(value: Option<&Self>, writer: &mut Writer, version: Version) {
        writer.length(value.map(Self::len), version.flexible);
        for element in value.into_iter().flatten() {
            element.write(writer, version);
        }
    }
}

impl<T> Clone for Array<'_, T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Array<'_, T> {}

impl<T> Clone for Source<'_, T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Source<'_, T> {}

impl<T> Default for Array<'_, T> {
    #[inline]
    fn default() -> Self {
        Self::from_slice(&[])
    }
}

impl<'a, T> From<&'a [T]> for Array<'a, T> {
    #[inline]
    fn from(elements: &'a [T]) -> Self {
        Self::from_slice(elements)
    }
}

impl<'a, T: Decode<'a> + Copy + PartialEq> PartialEq for Array<'a, T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<'a, T: Decode<'a> + Copy + Eq> Eq for Array<'a, T> {}

impl<'a, T: Decode<'a> + Copy + fmt::Debug> fmt::Debug for Array<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
