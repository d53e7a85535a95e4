//! Bodies being read, as they are or decompressed on the way, in bounded memory.
//!
//! An answer announces its length, so a body is decompressed twice: once to measure it, once to send it. Few clients
//! need that: nearly all take gzip.

use crate::bodies::Download;
use crate::http::{PieceStream, ResponseBody};
use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use std::future::Future;
use std::io::{self, Write};
use std::pin::Pin;

/// Compressed bytes handed to the decoder at once: at gzip's highest ratio (1:1032) they make about 1 MiB.
const FEED_BYTES: usize = 1024;
/// Decompressed bytes collected before they are sent.
const PIECE_BYTES: usize = 64 * 1024;
/// A chunk that decompresses to more than this is sent compressed, whatever the client takes: it is a mistake or an attack.
const GUNZIP_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Stored bytes, piece by piece.
pub(super) struct Source {
    head: Option<Bytes>,
    rest: Option<Box<Download>>,
}

impl Source {
    /// All bytes at once.
    pub(super) fn whole(bytes: Bytes) -> Source {
        Source {
            head: Some(bytes).filter(|bytes| !bytes.is_empty()),
            rest: None,
        }
    }

    /// The first piece, and where the others come from.
    pub(super) fn pieces(first: Bytes, rest: Download) -> Source {
        Source {
            head: Some(first),
            rest: Some(Box::new(rest)),
        }
    }

    /// As an answer of `bytes` bytes.
    pub(super) fn into_body(self, bytes: u64) -> ResponseBody {
        match self {
            Source {
                head: Some(all),
                rest: None,
            } => ResponseBody::Full(all),
            Source { head: None, rest: None } => ResponseBody::Empty,
            pieces @ Source { rest: Some(_), .. } => ResponseBody::Stream {
                bytes,
                pieces: Box::pin(pieces),
            },
        }
    }

    async fn piece(&mut self) -> Option<io::Result<Bytes>> {
        if let Some(head) = self.head.take() {
            return Some(Ok(head));
        }
        Some(self.rest.as_mut()?.next().await?.map_err(io::Error::other))
    }
}

impl PieceStream for Source {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Option<io::Result<Bytes>>> + '_>> {
        Box::pin(self.piece())
    }
}

/// Stored gzip members, decompressed piece by piece.
pub(super) struct Gunzip {
    source: Source,
    pending: Bytes,
    decoder: MultiGzDecoder<Vec<u8>>,
    ended: bool,
}

impl Gunzip {
    /// Decompresses `source`.
    pub(super) fn new(source: Source) -> Gunzip {
        let decoder = MultiGzDecoder::new(Vec::with_capacity(PIECE_BYTES));
        Gunzip {
            source,
            pending: Bytes::new(),
            decoder,
            ended: false,
        }
    }

    /// As an answer of `bytes` bytes, as measured.
    pub(super) fn into_body(self, bytes: u64) -> ResponseBody {
        ResponseBody::Stream {
            bytes,
            pieces: Box::pin(self),
        }
    }

    async fn piece(&mut self) -> Option<io::Result<Bytes>> {
        while !self.ended && self.decoder.get_ref().len() < PIECE_BYTES {
            if let Err(error) = self.feed().await {
                self.ended = true;
                self.decoder.get_mut().clear();
                return Some(Err(error));
            }
        }
        let out = std::mem::take(self.decoder.get_mut());
        (!out.is_empty()).then(|| Ok(Bytes::from(out)))
    }

    async fn feed(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            match self.source.piece().await {
                Some(piece) => self.pending = piece?,
                None => {
                    self.ended = true;
                    return self.decoder.try_finish();
                }
            }
        }
        let bytes = self.pending.split_to(self.pending.len().min(FEED_BYTES));
        self.decoder.write_all(&bytes)
    }
}

impl PieceStream for Gunzip {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Option<io::Result<Bytes>>> + '_>> {
        Box::pin(self.piece())
    }
}

/// Bytes that `source` decompresses to; `None` when it is not gzip, is cut off, or is beyond the bound.
pub(super) async fn measure(source: Source) -> Option<u64> {
    let mut gunzip = Gunzip::new(source);
    let mut bytes = 0;
    while let Some(piece) = gunzip.piece().await {
        bytes += piece.ok()?.len() as u64;
        if bytes > GUNZIP_BYTES_MAX {
            return None;
        }
        // Other requests of this core go on in between.
        tokio::task::yield_now().await;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).expect("into memory");
        encoder.finish().expect("into memory")
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime")
            .block_on(future)
    }

    fn inflate(compressed: Vec<u8>) -> (Option<u64>, io::Result<Vec<u8>>) {
        block_on(async {
            let bytes = Bytes::from(compressed);
            let measured = measure(Source::whole(bytes.clone())).await;
            let mut gunzip = Gunzip::new(Source::whole(bytes));
            let mut all = Vec::new();
            while let Some(piece) = gunzip.next().await {
                match piece {
                    Ok(piece) => {
                        assert!(piece.len() <= PIECE_BYTES + FEED_BYTES * 1100);
                        all.extend_from_slice(&piece);
                    }
                    Err(error) => return (measured, Err(error)),
                }
            }
            (measured, Ok(all))
        })
    }

    #[test]
    fn what_was_compressed_comes_back_and_is_measured() {
        for length in [0, 1, 1000, 65_535, 65_536, 3_000_000] {
            let bytes: Vec<u8> = (0..length).map(|n: u32| (n / 7 % 251) as u8).collect();
            let (measured, inflated) = inflate(gzip(&bytes));
            assert_eq!(measured, Some(u64::from(length)));
            assert_eq!(inflated.expect("good"), bytes);
        }
    }

    #[test]
    fn several_members_are_one_body() {
        let both = [gzip(b"first "), gzip(b"second")].concat();
        let (measured, inflated) = inflate(both);
        assert_eq!(
            (measured, inflated.expect("good").as_slice()),
            (Some(12), b"first second".as_slice())
        );
    }

    #[test]
    fn what_is_no_gzip_or_cut_off_is_not_measured() {
        let whole = gzip(&[7; 10_000]);
        for bad in [
            b"plain text".to_vec(),
            whole[..whole.len() - 1].to_vec(),
            whole[..8].to_vec(),
            Vec::new(),
        ] {
            assert_eq!(inflate(bad).0, None);
        }
        let mut flipped = whole;
        let last = flipped.len() - 6;
        flipped[last] ^= 1;
        assert_eq!(inflate(flipped).0, None);
    }

    #[test]
    fn a_bomb_stays_compressed() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let zeros = vec![0; 1024 * 1024];
        for _ in 0..=GUNZIP_BYTES_MAX / zeros.len() as u64 {
            encoder.write_all(&zeros).expect("into memory");
        }
        let bomb = Bytes::from(encoder.finish().expect("into memory"));
        assert_eq!(block_on(measure(Source::whole(bomb))), None);
    }
}
