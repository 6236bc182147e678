//! RFC 1951 streams with a tight bound on their size, whatever the data.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The most that one stored block holds, and what it costs on top (RFC 1951, section 3.2.4).
const STORED_BLOCK: usize = 65_535;
const STORED_OVERHEAD: usize = 5;

/// A reusable compressor and decompressor.
pub(super) struct Deflate {
    compress: Compress,
    decompress: Decompress,
}

/// The longest stream for so much data: all of it in stored blocks.
pub(super) fn max_bytes(raw_bytes: usize) -> usize {
    raw_bytes + STORED_OVERHEAD * raw_bytes.div_ceil(STORED_BLOCK).max(1)
}

impl Deflate {
    pub(super) fn new(level: u8) -> Self {
        let level = Compression::new(u32::from(level));
        Self { compress: Compress::new(level, false), decompress: Decompress::new(false) }
    }

    /// Writes the stream into `out`, which is [`max_bytes`] long, and says how long it is.
    pub(super) fn encode(&mut self, data: &[u8], out: &mut [u8]) -> Option<usize> {
        self.compress.reset();
        match self.compress.compress(data, out, FlushCompress::Finish) {
            // The stream is not longer than `out`, whose length is a usize.
            Ok(Status::StreamEnd) => Some(self.compress.total_out() as usize),
            // It would outgrow the bound: the data cannot be compressed.
            _ => Some(store(data, out)),
        }
    }

    /// Decompresses one stream that fills its whole `payload`, and says how much came out.
    pub(super) fn decode(&mut self, payload: &[u8], unpacked: &mut [u8]) -> Option<usize> {
        self.decompress.reset(false);
        let status = self.decompress.decompress(payload, unpacked, FlushDecompress::Finish);
        let whole = self.decompress.total_in() == payload.len() as u64;
        (matches!(status, Ok(Status::StreamEnd)) && whole).then(|| self.decompress.total_out() as usize)
    }
}

/// Writes `data` in stored blocks.
fn store(data: &[u8], out: &mut [u8]) -> usize {
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    let mut rest = data;
    loop {
        let (block, tail) = rest.split_at(rest.len().min(STORED_BLOCK));
        // A block holds at most STORED_BLOCK bytes, which is the greatest u16.
        let len = block.len() as u16;
        put(&[u8::from(tail.is_empty())]);
        put(&len.to_le_bytes());
        put(&(!len).to_le_bytes());
        put(block);
        if tail.is_empty() {
            return at;
        }
        rest = tail;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_blocks_are_a_valid_stream_of_the_bound() {
        for len in [0, 1, 65_535, 65_536, 200_000] {
            let mut deflate = Deflate::new(1);
            let data: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
            let mut stream = vec![9; max_bytes(len)];
            assert_eq!(store(&data, &mut stream), stream.len());
            let mut back = vec![0; len + 1];
            assert_eq!(deflate.decode(&stream, &mut back), Some(len));
            assert_eq!(back[..len], data);
        }
    }
}
