//! The deflate coder: RFC 1951 streams with a tight bound on their size, whatever the data.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::error::{Error, Result};

/// The most that one stored block holds, and what it costs on top (RFC 1951, section 3.2.4).
const STORED_BLOCK: usize = 65_535;
const STORED_OVERHEAD: usize = 5;

/// flate2's level. On quantized features (`benches/codec.rs`) level 1 is the fastest, and no higher one writes less; on
/// `f32` level 2 saves 5 % for more than twice the time.
const LEVEL: u32 = 1;

/// A reusable compressor and decompressor for blocks of a known size.
#[derive(Debug)]
pub(super) struct Deflate {
    compress: Compress,
    decompress: Decompress,
    /// One byte longer than the data, so that a stream that goes on past its end shows.
    unpacked: Vec<u8>,
}

impl Deflate {
    /// For data of `raw_bytes`.
    pub(super) fn new(raw_bytes: usize) -> Self {
        Self {
            compress: Compress::new(Compression::new(LEVEL), false),
            decompress: Decompress::new(false),
            unpacked: vec![0; raw_bytes + 1],
        }
    }

    fn raw_bytes(&self) -> usize {
        self.unpacked.len() - 1
    }

    /// The longest stream that [`Deflate::encode`] writes: all of the data in stored blocks.
    pub(super) fn max_bytes(&self) -> usize {
        self.raw_bytes() + STORED_OVERHEAD * self.raw_bytes().div_ceil(STORED_BLOCK).max(1)
    }

    /// Where to put the data that [`Deflate::encode`] is to compress.
    pub(super) fn data_mut(&mut self) -> &mut [u8] {
        let len = self.raw_bytes();
        &mut self.unpacked[..len]
    }

    /// Compresses the data put into [`Deflate::data_mut`] and overwrites `out` with the stream.
    pub(super) fn encode(&mut self, out: &mut Vec<u8>) {
        let limit = self.max_bytes();
        out.resize(limit, 0);
        let data = &self.unpacked[..self.unpacked.len() - 1];
        self.compress.reset();
        match self.compress.compress(data, out, FlushCompress::Finish) {
            // The stream is not longer than `limit`, which is a usize.
            Ok(Status::StreamEnd) => out.truncate(self.compress.total_out() as usize),
            // It would outgrow the limit: the data cannot be compressed.
            _ => store(data, out),
        }
    }

    /// Decompresses one stream that fills its whole `payload` and gives data of exactly the known size.
    pub(super) fn decode(&mut self, payload: &[u8]) -> Result<&[u8]> {
        let (limit, expected) = (self.max_bytes(), self.raw_bytes());
        if payload.len() > limit {
            return Err(Error::peer(format!(
                "expected a deflate payload of at most {limit} bytes, found {}; do both sides run the same plan?",
                payload.len()
            )));
        }
        self.decompress.reset(false);
        let status = self.decompress.decompress(payload, &mut self.unpacked, FlushDecompress::Finish);
        let (read, written) = (self.decompress.total_in(), self.decompress.total_out());
        if status.is_ok_and(|status| status == Status::StreamEnd)
            && (read, written) == (payload.len() as u64, expected as u64)
        {
            return Ok(&self.unpacked[..expected]);
        }
        Err(Error::peer(format!(
            "expected one deflate stream of {expected} bytes in a payload of {} bytes, found it broken, cut short or \
             of another length; do both sides run the same plan?",
            payload.len()
        )))
    }
}

/// Overwrites `out` with `data` in stored blocks.
fn store(data: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut rest = data;
    loop {
        let (block, tail) = rest.split_at(rest.len().min(STORED_BLOCK));
        // A block holds at most STORED_BLOCK bytes, which is the greatest u16.
        let len = block.len() as u16;
        out.push(u8::from(tail.is_empty()));
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&(!len).to_le_bytes());
        out.extend_from_slice(block);
        if tail.is_empty() {
            return;
        }
        rest = tail;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn encoded(deflate: &mut Deflate, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        deflate.data_mut().copy_from_slice(data);
        deflate.encode(&mut out);
        out
    }

    #[test]
    fn every_size_round_trips_within_the_bound() {
        for len in [0, 1, 2, 100, 65_535, 65_536, 200_000] {
            let mut deflate = Deflate::new(len);
            for data in [noise(len), vec![7; len]] {
                let stream = encoded(&mut deflate, &data);
                assert!(stream.len() <= deflate.max_bytes(), "{len}: {}", stream.len());
                assert_eq!(deflate.decode(&stream).unwrap(), data);
            }
        }
    }

    #[test]
    fn stored_blocks_are_a_valid_stream_of_the_bound() {
        for len in [0, 1, 65_535, 65_536, 200_000] {
            let mut deflate = Deflate::new(len);
            let data = noise(len);
            let mut stream = vec![1, 2, 3];
            store(&data, &mut stream);
            assert_eq!(stream.len(), deflate.max_bytes());
            assert_eq!(deflate.decode(&stream).unwrap(), data);
        }
    }

    #[test]
    fn streams_of_another_length_are_refused() {
        let stream = encoded(&mut Deflate::new(100), &[7; 100]);
        assert!(Deflate::new(99).decode(&stream).is_err());
        assert!(Deflate::new(101).decode(&stream).is_err());
        // A bomb: a million zeros in about a thousand bytes.
        let bomb = encoded(&mut Deflate::new(1_000_000), &[0; 1_000_000]);
        assert!(Deflate::new(bomb.len()).decode(&bomb).is_err());
    }

    #[test]
    fn cut_or_extended_streams_are_refused() {
        let mut deflate = Deflate::new(100);
        let stream = encoded(&mut deflate, &[7; 100]);
        for end in 0..stream.len() {
            assert!(deflate.decode(&stream[..end]).is_err(), "cut at {end}");
        }
        assert!(deflate.decode(&[&stream[..], &[0]].concat()).is_err());
        assert!(deflate.decode(&vec![0; deflate.max_bytes() + 1]).is_err());
        assert_eq!(deflate.decode(&stream).unwrap(), [7; 100]);
    }
}
