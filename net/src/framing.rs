//! Where frames begin and end in a stream of bytes, and how much room to give them. Pure.
//!
//! A frame is its length (4 bytes, big-endian, signed, not counting itself) and then so many bytes.

use std::ops::Range;

use ring::buffer::PAGE_SIZE;
use wire::LENGTH_PREFIX_BYTES;

/// The largest buffer that is shared by small frames, in bytes. A longer frame has one of its own.
pub(crate) const RECEIVE_BUFFER_BYTES_MAX: usize = 64 << 10;

/// Why the bytes are no frame. Kafka closes the connection on either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of negative length ({length})")]
    Negative { length: i32 },
    #[error("a frame of {length} bytes, longer than the limit of {max} (socket.request.max.bytes)")]
    TooLong { length: usize, max: usize },
}

/// What a stretch of the stream begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Head {
    /// A whole frame: where it is, its length prefix left out.
    Whole(Range<usize>),
    /// A part of a frame that takes so many bytes, its prefix among them; or a part of the prefix alone, which takes
    /// [`LENGTH_PREFIX_BYTES`].
    Part(usize),
}

/// Looks at the bytes from `at` on; ranges are of `bytes`.
pub(crate) fn head(bytes: &[u8], at: usize, frame_bytes_max: usize) -> Result<Head, FrameError> {
    let Some(prefix) = bytes[at..].first_chunk::<LENGTH_PREFIX_BYTES>() else {
        return Ok(Head::Part(LENGTH_PREFIX_BYTES));
    };
    let length = i32::from_be_bytes(*prefix);
    let length = usize::try_from(length).map_err(|_| FrameError::Negative { length })?;
    if length > frame_bytes_max {
        return Err(FrameError::TooLong {
            length,
            max: frame_bytes_max,
        });
    }
    let start = at + LENGTH_PREFIX_BYTES;
    if bytes.len() - start < length {
        return Ok(Head::Part(LENGTH_PREFIX_BYTES + length));
    }
    Ok(Head::Whole(start..start + length))
}

/// How large a connection's next receive buffer should be: as large as what came into the last one, and twice that
/// while it is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizing {
    bytes: usize,
}

impl Sizing {
    pub(crate) fn new() -> Sizing {
        Sizing { bytes: PAGE_SIZE }
    }

    /// In bytes: whole pages, at least one, at most [`RECEIVE_BUFFER_BYTES_MAX`].
    pub(crate) fn next(self) -> usize {
        self.bytes
    }

    /// A buffer of `capacity` bytes got `filled`.
    pub(crate) fn observe(&mut self, capacity: usize, filled: usize) {
        let bytes = if filled == capacity {
            capacity.saturating_mul(2)
        } else {
            filled.next_multiple_of(PAGE_SIZE)
        };
        self.bytes = bytes.clamp(PAGE_SIZE, RECEIVE_BUFFER_BYTES_MAX);
    }

    /// A frame longer than any receive buffer is on its way: what follows it is read a little at first.
    pub(crate) fn long_frame(&mut self) {
        self.bytes = PAGE_SIZE;
    }
}

/// The size to take for a long frame's buffer: at most a quarter more than asked for, so that few sizes are in use and
/// memory that comes back fits the next frame; never more than `most`, which is at least `bytes`.
pub(crate) fn long_frame_capacity(bytes: usize, most: usize) -> usize {
    let step = (bytes.next_power_of_two() / 8).max(PAGE_SIZE);
    bytes.next_multiple_of(step).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 100;

    fn frame(length: i32, have: usize) -> Vec<u8> {
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.resize(bytes.len() + have, 7);
        bytes
    }

    #[test]
    fn a_frame_is_whole_when_its_last_byte_is_there() {
        let bytes = frame(10, 10);
        for have in 0..4 {
            assert_eq!(head(&bytes[..have], 0, MAX), Ok(Head::Part(4)));
        }
        for have in 4..14 {
            assert_eq!(head(&bytes[..have], 0, MAX), Ok(Head::Part(14)));
        }
        assert_eq!(head(&bytes, 0, MAX), Ok(Head::Whole(4..14)));
        assert_eq!(head(&frame(10, 50), 0, MAX), Ok(Head::Whole(4..14)));
    }

    #[test]
    fn frames_follow_each_other() {
        let bytes = [frame(3, 3), frame(0, 0), frame(2, 1)].concat();
        assert_eq!(head(&bytes, 0, MAX), Ok(Head::Whole(4..7)));
        assert_eq!(head(&bytes, 7, MAX), Ok(Head::Whole(11..11)));
        assert_eq!(head(&bytes, 11, MAX), Ok(Head::Part(6)));
        assert_eq!(head(&bytes, bytes.len(), MAX), Ok(Head::Part(4)));
    }

    #[test]
    fn a_length_is_refused_before_its_bytes_come() {
        assert_eq!(head(&frame(100, 0), 0, MAX), Ok(Head::Part(104)));
        let too_long = FrameError::TooLong {
            length: 101,
            max: 100,
        };
        assert_eq!(head(&frame(101, 0), 0, MAX), Err(too_long));
        for length in [-1, i32::MIN] {
            assert_eq!(
                head(&frame(length, 9), 0, MAX),
                Err(FrameError::Negative { length })
            );
        }
        assert!(head(&frame(i32::MAX, 9), 0, MAX).is_err());
        assert!(head(&frame(i32::MAX, 9), 0, usize::MAX).is_ok());
    }

    #[test]
    fn buffers_grow_while_they_are_filled_and_shrink_to_what_comes() {
        let mut sizing = Sizing::new();
        assert_eq!(sizing.next(), PAGE_SIZE);
        for _ in 0..10 {
            sizing.observe(sizing.next(), sizing.next());
        }
        assert_eq!(sizing.next(), RECEIVE_BUFFER_BYTES_MAX);
        sizing.observe(RECEIVE_BUFFER_BYTES_MAX, 16_400);
        assert_eq!(sizing.next(), 5 * PAGE_SIZE);
        sizing.observe(5 * PAGE_SIZE, 16_400);
        assert_eq!(sizing.next(), 5 * PAGE_SIZE);
        sizing.observe(5 * PAGE_SIZE, 100);
        assert_eq!(sizing.next(), PAGE_SIZE);
        sizing.observe(PAGE_SIZE, PAGE_SIZE);
        sizing.long_frame();
        assert_eq!(sizing.next(), PAGE_SIZE);
    }

    #[test]
    fn long_frames_get_few_sizes_little_larger_than_they_are() {
        let mut sizes = std::collections::BTreeSet::new();
        for bytes in (RECEIVE_BUFFER_BYTES_MAX..(1 << 20)).step_by(777) {
            let capacity = long_frame_capacity(bytes, 1 << 30);
            assert!(bytes <= capacity && capacity <= bytes + bytes / 4 + PAGE_SIZE);
            assert_eq!(capacity % PAGE_SIZE, 0);
            sizes.insert(capacity);
        }
        assert!(sizes.len() <= 17, "{sizes:?}");
        assert_eq!(long_frame_capacity(1_000_000, 1_003_520), 1_003_520);
    }
}
