//! The coders that take a whole payload as one stream of bytes: each with a bound on what it writes, whatever the data,
//! and on what it unpacks, whatever comes in.

mod deflate;

use lz4_flex::block::{self, CompressTable};
use zstd::bulk::{Compressor, Decompressor};

use self::deflate::Deflate;
use super::Coder;
use crate::error::{Error, Result};

/// A reusable compressor and decompressor for data of a known size.
pub(super) struct Stream {
    format: Format,
    /// One byte longer than the data, so that a stream that goes on past its end shows.
    unpacked: Vec<u8>,
}

enum Format {
    Deflate(Deflate),
    Lz4(CompressTable),
    Zstd(Box<(Compressor<'static>, Decompressor<'static>)>),
}

impl Stream {
    /// For data of `raw_bytes`; none if the coder is none of these.
    pub(super) fn new(coder: Coder, raw_bytes: usize) -> Result<Option<Self>> {
        let format = match coder {
            Coder::Raw | Coder::Zero | Coder::Huffman | Coder::Png => return Ok(None),
            Coder::Deflate(level) => Format::Deflate(Deflate::new(level)),
            Coder::Lz4 => Format::Lz4(CompressTable::small()),
            Coder::Zstd(level) => {
                let contexts = Compressor::new(i32::from(level))
                    .and_then(|compressor| Ok(Box::new((compressor, Decompressor::new()?))));
                Format::Zstd(contexts.map_err(|error| Error::failed(format!("cannot start zstd: {error}")))?)
            }
        };
        Ok(Some(Self { format, unpacked: vec![0; raw_bytes + 1] }))
    }

    fn raw_bytes(&self) -> usize {
        self.unpacked.len() - 1
    }

    /// The longest stream that [`Stream::encode`] writes.
    pub(super) fn max_bytes(&self) -> usize {
        match &self.format {
            Format::Deflate(_) => deflate::max_bytes(self.raw_bytes()),
            Format::Lz4(_) => block::get_maximum_output_size(self.raw_bytes()),
            Format::Zstd(_) => zstd::zstd_safe::compress_bound(self.raw_bytes()),
        }
    }

    /// Where to put the data that [`Stream::encode`] is to compress.
    pub(super) fn data_mut(&mut self) -> &mut [u8] {
        let len = self.raw_bytes();
        &mut self.unpacked[..len]
    }

    /// Compresses the data put into [`Stream::data_mut`] and overwrites `out` with the stream. Fails where the coder's
    /// library does, out of memory for one.
    pub(super) fn encode(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let data = &self.unpacked[..self.unpacked.len() - 1];
        out.resize(self.max_bytes(), 0);
        let written = match &mut self.format {
            Format::Deflate(deflate) => deflate.encode(data, out),
            Format::Lz4(table) => block::compress_into_with_table(data, out, table).ok(),
            Format::Zstd(contexts) => contexts.0.compress_to_buffer(data, &mut out[..]).ok(),
        };
        let raw_bytes = data.len();
        out.truncate(written.ok_or_else(|| {
            Error::failed(format!("{raw_bytes} bytes could not be compressed; is there memory left?"))
        })?);
        Ok(())
    }

    /// Decompresses one stream that fills its whole `payload` and gives data of exactly the known size.
    pub(super) fn decode(&mut self, payload: &[u8]) -> Result<&[u8]> {
        let (limit, expected) = (self.max_bytes(), self.raw_bytes());
        if payload.len() > limit {
            return Err(Error::peer(format!(
                "expected a compressed payload of at most {limit} bytes, found {}; do both sides run the same plan?",
                payload.len()
            )));
        }
        let written = match &mut self.format {
            Format::Deflate(deflate) => deflate.decode(payload, &mut self.unpacked),
            Format::Lz4(_) => block::decompress_into(payload, &mut self.unpacked).ok(),
            Format::Zstd(contexts) => contexts.1.decompress_to_buffer(payload, &mut self.unpacked[..]).ok(),
        };
        if written == Some(expected) {
            return Ok(&self.unpacked[..expected]);
        }
        Err(Error::peer(format!(
            "expected one compressed stream of {expected} bytes in a payload of {} bytes, found it broken, cut short or \
             of another length; do both sides run the same plan?",
            payload.len()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODERS: [Coder; 5] =
        [Coder::Deflate(1), Coder::Deflate(9), Coder::Lz4, Coder::Zstd(1), Coder::Zstd(19)];

    fn stream(coder: Coder, len: usize) -> Stream {
        Stream::new(coder, len).unwrap().unwrap()
    }

    /// Bytes without any structure: a xorshift generator's.
    fn noise(len: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 56) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    fn encoded(stream: &mut Stream, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        stream.data_mut().copy_from_slice(data);
        stream.encode(&mut out).unwrap();
        out
    }

    #[test]
    fn every_size_round_trips_within_the_bound() {
        for coder in CODERS {
            for len in [0, 1, 2, 100, 65_535, 65_536, 200_000] {
                let mut stream = stream(coder, len);
                for data in [noise(len), vec![7; len]] {
                    let payload = encoded(&mut stream, &data);
                    assert!(payload.len() <= stream.max_bytes(), "{coder:?} {len}: {}", payload.len());
                    assert_eq!(stream.decode(&payload).unwrap(), data);
                }
            }
        }
    }

    #[test]
    fn streams_of_another_length_and_bombs_are_refused() {
        for coder in CODERS {
            let payload = encoded(&mut stream(coder, 100), &[7; 100]);
            assert!(stream(coder, 99).decode(&payload).is_err());
            assert!(stream(coder, 101).decode(&payload).is_err());
            // A million zeros in few bytes.
            let bomb = encoded(&mut stream(coder, 1_000_000), &[0; 1_000_000]);
            assert!(bomb.len() < 6000);
            let mut small = stream(coder, bomb.len());
            assert!(small.decode(&bomb).is_err());
            assert!(small.unpacked.capacity() <= bomb.len() + 1);
        }
    }

    #[test]
    fn cut_or_extended_streams_are_refused() {
        for coder in CODERS {
            let mut stream = stream(coder, 100);
            let payload = encoded(&mut stream, &[7; 100]);
            for end in 0..payload.len() {
                assert!(stream.decode(&payload[..end]).is_err(), "{coder:?} cut at {end}");
            }
            assert!(stream.decode(&[&payload[..], &[0]].concat()).is_err());
            assert!(stream.decode(&vec![0; stream.max_bytes() + 1]).is_err());
            assert_eq!(stream.decode(&payload).unwrap(), [7; 100]);
        }
    }
}
