//! Reading a whole segment, everything checked: for space reclaim, `verify` and the audit.

use super::format::{HEADER_BYTES, Header, Mismatch, for_each_record, segment_crc};
use super::queue::Shared;
use super::{Position, ReadError, RecordKey, Stream, gone_or_io};
use crate::ring::storage::{BLOCK_BYTES, SegmentId};
use bytes::Bytes;

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
            let whole = &batch[start..start + super::format::RECORD_HEADER_BYTES + payload.len()];
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
