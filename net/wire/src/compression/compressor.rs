//! Compression in pieces, for whoever has others to look after meanwhile.
//!
//! Promises: the memory that a codec works with follows the bytes that it is told to expect, whatever its level.

use std::io::{self, Write};

use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use super::{Compression, snappy};

/// zlib's own default, and Kafka's.
const GZIP_LEVEL: u32 = 6;
/// zstd's own default, and Kafka's.
const ZSTD_LEVEL: i32 = 3;
/// Windows of zstd: the smallest, and one beyond which batches win nothing, as powers of two. Its tables are as large.
const ZSTD_WINDOW_LOGS: std::ops::RangeInclusive<u32> = 10..=23;

/// Compresses what it is given, piece by piece, as Kafka's own clients do: at the codec's default level, if no other is
/// asked for. Its memory grows with what comes out.
pub struct Compressor(Encoder);

enum Encoder {
    None(Vec<u8>),
    Gzip(Box<GzEncoder<Vec<u8>>>),
    Snappy(Box<snappy::Framer>),
    Lz4(Box<FrameEncoder<Vec<u8>>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
}

const MEMORY: &str = "writing to memory does not fail";

impl Compressor {
    /// With nothing in it.
    pub fn new(codec: Compression) -> Compressor {
        Compressor::with_level(codec, None, usize::MAX)
    }

    /// The same at another level than the codec's default: gzip has 1 to 9, zstd up to 22, the others one. About `bytes`
    /// will be written: more are as well compressed as fits that.
    pub fn with_level(codec: Compression, level: Option<i32>, bytes: usize) -> Compressor {
        Compressor(match codec {
            Compression::None => Encoder::None(Vec::new()),
            Compression::Gzip => {
                let level = level.and_then(|level| u32::try_from(level).ok());
                let level = flate2::Compression::new(level.unwrap_or(GZIP_LEVEL).clamp(1, 9));
                Encoder::Gzip(Box::new(GzEncoder::new(Vec::new(), level)))
            }
            Compression::Snappy => Encoder::Snappy(Box::new(snappy::Framer::new())),
            Compression::Lz4 => {
                // Independent blocks of 64 KiB, as Kafka's readers expect.
                let blocks = FrameInfo::new()
                    .block_mode(BlockMode::Independent)
                    .block_size(BlockSize::Max64KB);
                Encoder::Lz4(Box::new(FrameEncoder::with_frame_info(blocks, Vec::new())))
            }
            Compression::Zstd => {
                let encoder = zstd::stream::write::Encoder::new(Vec::new(), level.unwrap_or(ZSTD_LEVEL));
                let mut encoder = encoder.expect(MEMORY);
                if level.is_some() {
                    // The tables of the highest levels have half a GiB otherwise.
                    let window = bytes.checked_next_power_of_two().map_or(u32::MAX, usize::ilog2);
                    let window = window.clamp(*ZSTD_WINDOW_LOGS.start(), *ZSTD_WINDOW_LOGS.end());
                    encoder.window_log(window).expect("zstd has windows of that size");
                }
                Encoder::Zstd(Box::new(encoder))
            }
        })
    }

    /// Takes more.
    pub fn write(&mut self, input: &[u8]) {
        let written = match &mut self.0 {
            Encoder::None(output) => output.write_all(input),
            Encoder::Gzip(encoder) => encoder.write_all(input),
            Encoder::Snappy(framer) => {
                framer.write(input);
                Ok(())
            }
            Encoder::Lz4(encoder) => encoder.write_all(input),
            Encoder::Zstd(encoder) => encoder.write_all(input),
        };
        written.expect(MEMORY);
    }

    /// How many bytes have come out so far.
    pub fn output_bytes(&self) -> usize {
        match &self.0 {
            Encoder::None(output) => output.len(),
            Encoder::Gzip(encoder) => encoder.get_ref().len(),
            Encoder::Snappy(framer) => framer.output_bytes(),
            Encoder::Lz4(encoder) => encoder.get_ref().len(),
            Encoder::Zstd(encoder) => encoder.get_ref().len(),
        }
    }

    /// All of it, compressed.
    pub fn finish(self) -> Vec<u8> {
        let output = match self.0 {
            Encoder::None(output) => Ok(output),
            Encoder::Gzip(encoder) => encoder.finish(),
            Encoder::Snappy(framer) => Ok(framer.finish()),
            Encoder::Lz4(encoder) => encoder.finish().map_err(io::Error::other),
            Encoder::Zstd(encoder) => encoder.finish(),
        };
        output.expect(MEMORY)
    }
}
