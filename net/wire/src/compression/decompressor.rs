//! Decompression in steps, for whoever has others to look after meanwhile.

use std::io::{self, Read};

use super::snappy::Blocks;
use super::{Compression, CompressionError};

/// The largest window that zstd's own tools accept without being asked, 128 MiB, and what its level 22 writes. The
/// library reserves a window but touches only what the data fills.
const ZSTD_MAX_WINDOW_LOG: u32 = 27;

/// Opens one piece of compressed data, a step at a time. Its memory grows with what comes out.
pub struct Decompressor<'a> {
    codec: Compression,
    source: Source<'a>,
    output: Vec<u8>,
    limit_bytes: usize,
}

enum Source<'a> {
    Stream(Box<dyn Read + 'a>),
    Snappy(Blocks<'a>),
}

impl<'a> Decompressor<'a> {
    /// Refuses what has more than `limit_bytes` when it is open.
    ///
    /// # Errors
    /// If the codec cannot begin with it.
    pub fn new(
        codec: Compression,
        input: &'a [u8],
        limit_bytes: usize,
    ) -> Result<Decompressor<'a>, CompressionError> {
        let corrupt = |_| CompressionError::Corrupt { codec };
        let source = match codec {
            Compression::None => Source::Stream(Box::new(input)),
            Compression::Gzip => Source::Stream(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
            Compression::Snappy => Source::Snappy(Blocks::of(input)?),
            Compression::Lz4 => Source::Stream(Box::new(lz4_flex::frame::FrameDecoder::new(Whole(input)))),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(corrupt)?;
                decoder.window_log_max(ZSTD_MAX_WINDOW_LOG).map_err(corrupt)?;
                Source::Stream(Box::new(decoder))
            }
        };
        Ok(Decompressor {
            codec,
            source,
            output: Vec::new(),
            limit_bytes,
        })
    }

    /// Goes on for about `bytes` of output: up to that, but for Snappy, which comes in whole blocks. Gives whether all is
    /// out.
    ///
    /// # Errors
    /// [`CompressionError::TooLarge`] at the first byte or block beyond the limit; the decompressor is of no use then.
    pub fn step(&mut self, bytes: usize) -> Result<bool, CompressionError> {
        let codec = self.codec;
        match &mut self.source {
            Source::Stream(decoder) => {
                // One byte past the limit, to see that there is one.
                let left = (self.limit_bytes - self.output.len()).saturating_add(1);
                let most = left.min(bytes) as u64;
                match decoder.take(most).read_to_end(&mut self.output) {
                    Ok(_) if self.output.len() > self.limit_bytes => Err(CompressionError::TooLarge {
                        codec,
                        limit_bytes: self.limit_bytes,
                    }),
                    Ok(came) => Ok((came as u64) < most),
                    Err(_) => Err(CompressionError::Corrupt { codec }),
                }
            }
            Source::Snappy(blocks) => {
                let enough = self.output.len().saturating_add(bytes);
                while self.output.len() < enough {
                    if !blocks.append_next(&mut self.output, self.limit_bytes)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    /// How much is out.
    pub fn output_bytes(&self) -> usize {
        self.output.len()
    }

    /// What is out.
    pub fn into_output(self) -> Vec<u8> {
        self.output
    }
}

/// Input whose end is an error: the LZ4 decoder would take an end between two blocks for the frame's.
struct Whole<'a>(&'a [u8]);

impl Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 if !buffer.is_empty() => Err(io::ErrorKind::InvalidData.into()),
            count => Ok(count),
        }
    }
}
