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

pub(super) fn decompress(input: &[u8], limit_bytes: usize) -> Result<Vec<u8>, CompressionError> {
    let mut output = Vec::new();
    let Some(blocks) = input.strip_prefix(&JAVA_MAGIC) else {
        append_block(input, &mut output, limit_bytes)?;
        return Ok(output);
    };
    let mut reader = Reader::new(blocks);
    reader.array::<8>().map_err(|_| CORRUPT)?;
    while reader.remaining() > 0 {
        let length = reader
            .i32()
            .ok()
            .and_then(|length| usize::try_from(length).ok())
            .ok_or(CORRUPT)?;
        append_block(
            reader.take(length).map_err(|_| CORRUPT)?,
            &mut output,
            limit_bytes,
        )?;
    }
    Ok(output)
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

pub(super) fn compress(input: &[u8]) -> Vec<u8> {
    let mut output = [JAVA_MAGIC, JAVA_VERSIONS].concat();
    let mut encoder = Encoder::new();
    for chunk in input.chunks(JAVA_BLOCK_BYTES) {
        let block = encoder
            .compress_vec(chunk)
            .expect("a block of 32 KiB can be compressed");
        output.extend_from_slice(&(block.len() as u32).to_be_bytes());
        output.extend_from_slice(&block);
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;

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
