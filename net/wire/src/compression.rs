//! The codecs of record batches.
//!
//! Promises: decompression stops at the caller's limit, and the memory that it takes follows the bytes that really
//! come out, whatever the input claims. Must never: size a buffer by a number from the input.

mod compressor;
mod decompressor;
mod snappy;

use std::borrow::Cow;

pub use compressor::Compressor;
pub use decompressor::Decompressor;

/// How a batch's records are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(i16)]
#[allow(missing_docs, reason = "Kafka's own names")]
pub enum Compression {
    #[default]
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

/// Why compressed records cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// More would come out than the caller allows.
    #[error("{codec:?} data inflates to more than {limit_bytes} bytes")]
    TooLarge {
        /// The codec.
        codec: Compression,
        /// The caller's limit.
        limit_bytes: usize,
    },
    /// The codec cannot make sense of the bytes.
    #[error("{codec:?} data is corrupt")]
    Corrupt {
        /// The codec.
        codec: Compression,
    },
}

impl Compression {
    /// All the codecs.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec with this number in a batch's attributes.
    #[inline]
    pub const fn from_code(code: i16) -> Option<Self> {
        match code {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The name in configs: `compression.type`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The codec with this name in configs.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }

    /// What `input` was before it was compressed, refused beyond `limit_bytes`.
    pub fn decompress(self, input: &[u8], limit_bytes: usize) -> Result<Cow<'_, [u8]>, CompressionError> {
        if self == Self::None && input.len() <= limit_bytes {
            return Ok(Cow::Borrowed(input));
        }
        let mut decompressor = Decompressor::new(self, input, limit_bytes)?;
        while !decompressor.step(usize::MAX)? {}
        Ok(Cow::Owned(decompressor.into_output()))
    }

    /// Compresses `input` as Kafka's own clients do, at the codec's default level.
    pub fn compress(self, input: &[u8]) -> Vec<u8> {
        let mut compressor = Compressor::new(self);
        compressor.write(input);
        compressor.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: usize) -> Vec<u8> {
        (0..)
            .flat_map(|line: u32| format!("line {line} of a text\n").into_bytes())
            .take(bytes)
            .collect()
    }

    #[test]
    fn every_codec_gives_back_what_it_took() {
        for codec in Compression::ALL {
            for size in [0, 1, 100, 32 << 10, (32 << 10) + 1, 300_000] {
                let input = text(size);
                let compressed = codec.compress(&input);
                assert_eq!(
                    codec.decompress(&compressed, size).as_deref(),
                    Ok(&input[..]),
                    "{codec:?} {size}"
                );
                if size > 1_000 && codec != Compression::None {
                    assert!(compressed.len() < size, "{codec:?} does compress");
                }
            }
            assert_eq!(Compression::from_name(codec.name()), Some(codec));
            assert_eq!(Compression::from_code(codec as i16), Some(codec));
        }
    }

    #[test]
    fn pieces_of_any_size_make_a_whole() {
        let input = text(200_000);
        for codec in Compression::ALL {
            for piece in [7, 1_000, 32 << 10, (32 << 10) + 1, 150_000] {
                let mut compressor = Compressor::new(codec);
                for bytes in input.chunks(piece) {
                    compressor.write(bytes);
                }
                let compressed = compressor.finish();
                let again = codec.decompress(&compressed, input.len());
                assert_eq!(again.as_deref(), Ok(&input[..]), "{codec:?} {piece}");
            }
        }
    }

    #[test]
    fn a_level_is_taken_by_the_codecs_that_have_some() {
        let input = text(300_000);
        for (codec, levels) in [
            (Compression::Gzip, &[-1, 0, 1, 9, 100][..]),
            (Compression::Zstd, &[-131_072, -1, 1, 22, 1_000]),
            (Compression::Lz4, &[1, 17]),
            (Compression::Snappy, &[5]),
            (Compression::None, &[5]),
        ] {
            let sizes = levels.iter().map(|level| {
                // More than was said is taken all the same.
                let mut compressor = Compressor::with_level(codec, Some(*level), input.len() / 8);
                let mut came = 0;
                for piece in input.chunks(10_000) {
                    compressor.write(piece);
                    assert!(compressor.output_bytes() >= came);
                    came = compressor.output_bytes();
                }
                let compressed = compressor.finish();
                assert!(compressed.len() >= came);
                let again = codec.decompress(&compressed, input.len());
                assert_eq!(again.as_deref(), Ok(&input[..]), "{codec:?} {level}");
                compressed.len()
            });
            let sizes: Vec<usize> = sizes.collect();
            let has_levels = matches!(codec, Compression::Gzip | Compression::Zstd);
            let differ = sizes.iter().max() > sizes.iter().min();
            assert_eq!(
                differ, has_levels,
                "{codec:?}: {sizes:?} bytes at levels {levels:?}"
            );
        }
    }

    #[test]
    fn bombs_are_refused_at_the_limit() {
        let zeroes = vec![0; 32 << 20];
        for codec in Compression::ALL {
            let bomb = codec.compress(&zeroes);
            let limit_bytes = 1 << 20;
            let refused = Err(CompressionError::TooLarge { codec, limit_bytes });
            assert_eq!(codec.decompress(&bomb, limit_bytes), refused);
        }
    }

    #[test]
    fn one_byte_over_the_limit_is_over_the_limit() {
        let input = text(70_000);
        for codec in Compression::ALL {
            let compressed = codec.compress(&input);
            assert!(codec.decompress(&compressed, 70_000).is_ok());
            assert!(codec.decompress(&compressed, 69_999).is_err());
        }
    }

    #[test]
    fn a_step_gives_as_much_as_it_was_asked_for() {
        let input = text(1 << 20);
        for codec in Compression::ALL {
            let compressed = codec.compress(&input);
            let mut decompressor = Decompressor::new(codec, &compressed, input.len()).unwrap();
            let mut steps = 0;
            loop {
                let before = decompressor.output_bytes();
                let is_done = decompressor.step(100_000).unwrap();
                let came = decompressor.output_bytes() - before;
                // Snappy comes in blocks, of 32 KiB here.
                assert!(came <= 100_000 + (32 << 10), "{codec:?}: {came} bytes in a step");
                steps += 1;
                if is_done {
                    break;
                }
            }
            assert!(steps > 7, "{codec:?}: {steps} steps");
            assert_eq!(decompressor.into_output(), input, "{codec:?}");
        }
    }

    #[test]
    fn cut_data_is_corrupt() {
        let input = text(100_000);
        for codec in [
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ] {
            let compressed = codec.compress(&input);
            for keep in (0..compressed.len()).step_by(7).chain([compressed.len() - 1]) {
                let cut = codec.decompress(&compressed[..keep], 1 << 20);
                let between_blocks = codec == Compression::Snappy && cut.is_ok();
                assert!(cut.is_err() || between_blocks, "{codec:?} cut to {keep}");
            }
        }
    }
}
