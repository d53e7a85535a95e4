//! Reading a whole segment, everything checked: for space reclaim, `verify` and the audit.

use super::format::{
    HEADER_BYTES, Header, Identity, Mismatch, Place, RECORD_HEADER_BYTES, for_each_record, segment_crc,
};
use super::queue::Shared;
use super::{BATCH_BYTES_MAX, Position, ReadError, RecordKey, Stream, gone_or_io};
use crate::ring::storage::{BLOCK_BYTES, SegmentId};
use bytes::Bytes;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Calls `each` for every record of `segment` that is not a repeated copy.
pub(super) fn scan(
    shared: &Shared,
    stream: Stream,
    segment: u32,
    each: &mut dyn FnMut(RecordKey, Position, Bytes),
) -> Result<(), ReadError> {
    let Some(end) = known_end(shared, stream, segment)? else {
        return Err(ReadError::Gone { stream, segment });
    };
    let crc_start = segment_crc(shared.identity, stream, segment);
    let mut offset = 0;
    let mut expected = None;
    while offset < end.offset {
        let place = Position {
            segment,
            offset,
            bytes: 0,
        };
        let corrupt = |what| ReadError::Corrupt {
            stream,
            position: place,
            what,
        };
        let head = read(shared, stream, segment, offset, BLOCK_BYTES)?;
        let (header, crc) = match Header::decode_at(&head, shared.identity, stream, (segment, offset)) {
            Ok(sound) => sound,
            // Where batches end is not known of an old segment whose neighbour is gone: zeros are the end.
            Err(_) if !end.exact && head.iter().all(|byte| *byte == 0) => return Ok(()),
            Err(Mismatch::NoHeader) => return Err(corrupt("no batch header")),
            Err(Mismatch::Newer(_)) => return Err(corrupt("a batch of a later format")),
            Err(Mismatch::Foreign(what)) => return Err(corrupt(what)),
        };
        if expected.is_some_and(|expected| expected != (header.sequence, header.previous_crc)) {
            return Err(corrupt("a batch that does not follow from the one before"));
        }
        let batch = if header.bytes as usize > BLOCK_BYTES {
            read(shared, stream, segment, offset, header.bytes as usize)?
        } else {
            head
        };
        if batch.len() < HEADER_BYTES || !header.matches_records(&batch) {
            return Err(corrupt("a batch whose checksum does not match"));
        }
        let batch = Bytes::from(batch);
        let mut damaged = None;
        for_each_record(&header, &batch, |record, at, payload| {
            let position = Position {
                segment,
                offset: at,
                bytes: record.bytes,
            };
            let start = (at - offset) as usize;
            let whole = &batch[start..start + RECORD_HEADER_BYTES + payload.len()];
            if !record.matches(crc_start, at, whole) {
                damaged.get_or_insert(position);
            } else if !record.repeat && damaged.is_none() {
                each(record.key, position, Bytes::copy_from_slice(payload));
            }
        })
        .map_err(corrupt)?;
        if let Some(position) = damaged {
            return Err(ReadError::Corrupt {
                stream,
                position,
                what: "its checksum does not match",
            });
        }
        expected = Some((header.sequence + 1, crc));
        offset += header.disk_bytes();
    }
    Ok(())
}

/// The first record of the first batch, a repeated copy as well; `None` when that is a seal, or not there yet.
pub(super) fn first(shared: &Shared, stream: Stream, segment: u32) -> Result<Option<(RecordKey, Bytes)>, ReadError> {
    let corrupt = |what| ReadError::Corrupt {
        stream,
        position: Position {
            segment,
            offset: 0,
            bytes: 0,
        },
        what,
    };
    let head = read(shared, stream, segment, 0, BLOCK_BYTES)?;
    if head.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let (header, _) =
        Header::decode_at(&head, shared.identity, stream, (segment, 0)).map_err(|_| corrupt("no batch header"))?;
    let batch = read(shared, stream, segment, 0, header.bytes as usize)?;
    if !header.matches_records(&batch) {
        return Err(corrupt("a batch whose checksum does not match"));
    }
    let mut first = None;
    for_each_record(&header, &batch, |record, _, payload| {
        first.get_or_insert_with(|| (record.key, Bytes::copy_from_slice(payload)));
    })
    .map_err(corrupt)?;
    Ok(first)
}

/// Reads a stream's folder of a journal that cannot be opened, up to the first batch that is not sound; repeated copies
/// are left out. Segments before the first that exists are passed over. The bytes are evidence: nothing is written.
pub(super) fn read_damaged(
    folder: &Path,
    stream: Stream,
    each: &mut dyn FnMut(RecordKey, &[u8]),
) -> std::io::Result<()> {
    let mut segments: Vec<(u32, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        if let Some(number) = number.filter(|_| path.extension().is_some_and(|ending| ending == "seg")) {
            segments.push((number, path));
        }
    }
    segments.sort();
    let mut follows = None;
    for (number, path) in segments {
        let file = std::fs::File::open(path)?;
        while read_batch(&file, stream, number, &mut follows, each)? {}
        // The next segment goes on where this one ended, or what it holds is not sound either.
        if let Some(follows) = &mut follows {
            follows.place = (number + 1, 0);
        }
    }
    Ok(())
}

/// What the next sound batch has to be.
struct Follows {
    identity: Identity,
    place: Place,
    sequence: u64,
    previous_crc: u32,
}

/// Reads one batch; `false` when there is no sound one.
fn read_batch(
    file: &std::fs::File,
    stream: Stream,
    segment: u32,
    follows: &mut Option<Follows>,
    each: &mut dyn FnMut(RecordKey, &[u8]),
) -> std::io::Result<bool> {
    let place = follows.as_ref().map_or((segment, 0), |follows| follows.place);
    let mut head = [0; HEADER_BYTES];
    if place.0 != segment || file.read_at(&mut head, u64::from(place.1))? < HEADER_BYTES {
        return Ok(false);
    }
    let Ok((header, crc)) = Header::decode(&head) else {
        return Ok(false);
    };
    let fits = follows.as_ref().is_none_or(|follows| {
        follows.identity == header.identity
            && (follows.sequence, follows.previous_crc) == (header.sequence, header.previous_crc)
    });
    if !fits || header.stream != stream || header.place != place || header.bytes > BATCH_BYTES_MAX {
        return Ok(false);
    }
    let mut batch = vec![0; header.bytes as usize];
    let read = file.read_at(&mut batch, u64::from(place.1))?;
    batch.truncate(read);
    if !header.matches_records(&batch) {
        return Ok(false);
    }
    let whole = for_each_record(&header, &batch, |record, _, payload| {
        if !record.repeat {
            each(record.key, payload);
        }
    });
    *follows = Some(Follows {
        identity: header.identity,
        place: header.end(),
        sequence: header.sequence + 1,
        previous_crc: crc,
    });
    Ok(whole.is_ok())
}

/// Where the batches of a segment end.
struct End {
    offset: u32,
    exact: bool,
}

fn known_end(shared: &Shared, stream: Stream, segment: u32) -> Result<Option<End>, ReadError> {
    let (info, next) = {
        let ends = shared.ends.lock();
        let segments = &ends.segments[stream.index()];
        let Some(info) = segments.get(&segment).copied() else {
            return Ok(None);
        };
        (info, segments.contains_key(&(segment + 1)))
    };
    if !info.sealed {
        return Ok(Some(End {
            offset: info.used_bytes,
            exact: true,
        }));
    }
    // The first batch of the next segment says where this one ended.
    if next {
        let head = read(shared, stream, segment + 1, 0, BLOCK_BYTES)?;
        if let Ok((header, _)) = Header::decode_at(&head, shared.identity, stream, (segment + 1, 0))
            && header.durable[stream.index()].0 == segment
        {
            return Ok(Some(End {
                offset: header.durable[stream.index()].1,
                exact: true,
            }));
        }
    }
    Ok(Some(End {
        offset: info.used_bytes,
        exact: false,
    }))
}

fn read(shared: &Shared, stream: Stream, segment: u32, offset: u32, bytes: usize) -> Result<Vec<u8>, ReadError> {
    let mut into = vec![0; bytes];
    let id = SegmentId {
        stream: stream.number(),
        number: segment,
    };
    let read = shared
        .reads
        .read_blocking(id, u64::from(offset), &mut into)
        .map_err(|error| gone_or_io(error, stream, segment))?;
    if read < bytes {
        shared.still_there(stream, segment)?;
    }
    into.truncate(read);
    Ok(into)
}
