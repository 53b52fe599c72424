//! Compression in pieces, for whoever has others to look after meanwhile.

use std::io::{self, Write};

use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use super::{Compression, snappy};

/// zlib's own default, and Kafka's.
const GZIP_LEVEL: u32 = 6;
/// zstd's own default, and Kafka's.
const ZSTD_LEVEL: i32 = 3;

/// Compresses what it is given, piece by piece, as Kafka's own clients do: at the codec's default level. Its memory grows
/// with what comes out.
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
        Compressor(match codec {
            Compression::None => Encoder::None(Vec::new()),
            Compression::Gzip => {
                let level = flate2::Compression::new(GZIP_LEVEL);
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
                let encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL);
                Encoder::Zstd(Box::new(encoder.expect(MEMORY)))
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
