//! Snappy, in both forms that Kafka's clients write: one raw block (librdkafka), and the blocks of the Java library:
//! 16 bytes of magic and versions, then each block after its length as an `i32`.

use snap::raw::{Decoder, Encoder, decompress_len};

use super::{Compression, CompressionError};
use crate::primitive::Reader;

const JAVA_MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
/// The version of the framing and the oldest version that can read it, each an `i32`.
const JAVA_VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// What the Java library puts in a block.
const JAVA_BLOCK_BYTES: usize = 32 << 10;

/// Three bytes of snappy are at most a copy of 64: a block that claims more than this times its size is lying.
const MAX_RATIO: usize = 22;

/// The blocks of an input that are still to be opened.
pub(super) enum Blocks<'a> {
    Raw(&'a [u8]),
    Java(Reader<'a>),
}

impl<'a> Blocks<'a> {
    pub(super) fn of(input: &'a [u8]) -> Result<Blocks<'a>, CompressionError> {
        let Some(blocks) = input.strip_prefix(&JAVA_MAGIC) else {
            return Ok(Blocks::Raw(input));
        };
        let mut reader = Reader::new(blocks);
        reader.array::<8>().map_err(|_| CORRUPT)?;
        Ok(Blocks::Java(reader))
    }

    /// Opens the next one, and gives whether there was one.
    pub(super) fn append_next(
        &mut self,
        output: &mut Vec<u8>,
        limit_bytes: usize,
    ) -> Result<bool, CompressionError> {
        let block = match self {
            &mut Blocks::Raw(block) => {
                *self = Blocks::Java(Reader::new(&[]));
                block
            }
            Blocks::Java(reader) if reader.remaining() == 0 => return Ok(false),
            Blocks::Java(reader) => {
                let length = reader
                    .i32()
                    .ok()
                    .and_then(|length| usize::try_from(length).ok())
                    .ok_or(CORRUPT)?;
                reader.take(length).map_err(|_| CORRUPT)?
            }
        };
        append_block(block, output, limit_bytes)?;
        Ok(true)
    }
}

const CORRUPT: CompressionError = CompressionError::Corrupt {
    codec: Compression::Snappy,
};

fn append_block(block: &[u8], output: &mut Vec<u8>, limit_bytes: usize) -> Result<(), CompressionError> {
    let length = decompress_len(block).map_err(|_| CORRUPT)?;
    if length > block.len().saturating_mul(MAX_RATIO) {
        return Err(CORRUPT);
    }
    let start = output.len();
    if length > limit_bytes.saturating_sub(start) {
        return Err(CompressionError::TooLarge {
            codec: Compression::Snappy,
            limit_bytes,
        });
    }
    output.resize(start + length, 0);
    let written = Decoder::new()
        .decompress(block, &mut output[start..])
        .map_err(|_| CORRUPT)?;
    output.truncate(start + written);
    Ok(())
}

/// Writes the Java library's blocks.
pub(super) struct Framer {
    output: Vec<u8>,
    encoder: Encoder,
    /// The next block, as far as it has come.
    block: Vec<u8>,
}

impl Framer {
    pub(super) fn new() -> Framer {
        Framer {
            output: [JAVA_MAGIC, JAVA_VERSIONS].concat(),
            encoder: Encoder::new(),
            block: Vec::new(),
        }
    }

    pub(super) fn write(&mut self, mut input: &[u8]) {
        while !input.is_empty() {
            let (now, later) = input.split_at(input.len().min(JAVA_BLOCK_BYTES - self.block.len()));
            self.block.extend_from_slice(now);
            input = later;
            if self.block.len() == JAVA_BLOCK_BYTES {
                self.close_block();
            }
        }
    }

    pub(super) fn output_bytes(&self) -> usize {
        self.output.len()
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        if !self.block.is_empty() {
            self.close_block();
        }
        self.output
    }

    fn close_block(&mut self) {
        let block = self.encoder.compress_vec(&self.block);
        let block = block.expect("a block of 32 KiB can be compressed");
        self.output.extend_from_slice(&(block.len() as u32).to_be_bytes());
        self.output.extend_from_slice(&block);
        self.block.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decompress(input: &[u8], limit_bytes: usize) -> Result<Vec<u8>, CompressionError> {
        let mut output = Vec::new();
        let mut blocks = Blocks::of(input)?;
        while blocks.append_next(&mut output, limit_bytes)? {}
        Ok(output)
    }

    #[test]
    fn a_raw_block_is_read_as_well() {
        let text = b"the same words, the same words, the same words".repeat(100);
        let raw = Encoder::new().compress_vec(&text).unwrap();
        assert_eq!(decompress(&raw, text.len()), Ok(text));
    }

    #[test]
    fn a_claimed_size_alone_allocates_nothing() {
        // A varint that says 2^32 - 1, and nothing else.
        assert_eq!(
            decompress(&[0xff, 0xff, 0xff, 0xff, 0x0f], usize::MAX),
            Err(CORRUPT)
        );
        let framed = [&JAVA_MAGIC[..], &JAVA_VERSIONS, &[0x7f, 0xff, 0xff, 0xff, 1]].concat();
        assert_eq!(decompress(&framed, usize::MAX), Err(CORRUPT));
    }

    #[test]
    fn the_greatest_ratio_is_not_refused() {
        let zeroes = vec![0; 1 << 20];
        let raw = Encoder::new().compress_vec(&zeroes).unwrap();
        assert_eq!(decompress(&raw, zeroes.len()), Ok(zeroes));
    }
}
