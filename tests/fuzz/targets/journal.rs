//! The journal's opening, reads and scans over damaged segments, on the simulated disk. What must hold: opening
//! neither panics nor hangs; what it tells is, stream by stream, a prefix of what was written, or it refuses; a
//! read and a scan give the written bytes or an error; an undamaged journal gives everything back.
//!
//! Damage is laid with XOR, zeros, copies and cuts. Bytes that the input names itself could be given a checksum that
//! fits, and then nobody could tell them from written ones; a case that forges headers, or lays raw bytes, therefore
//! asks for less: no panic, no hang, and a journal that opens takes an append.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use vertebra::journal::fuzzing::{Bench, Opened};
use vertebra::journal::{Journal, OpenError, Position, Record, RecordKey, Stream, Watermarks};
use vertebra::ring::storage::simulated::SimDisk;
use vertebra::ring::storage::{BLOCK_BYTES, SegmentId};
use vertebra_fuzz::Choices;

/// Large enough that some appends roll to the next segment.
const PAYLOAD_BYTES_MAX: usize = 9_000;
const CARRIED_BYTES_MAX: usize = 200;
const APPENDS_MAX: usize = 24;
const DAMAGES_MAX: usize = 8;
const HEADER_BYTES: usize = 128;
const HEADER_CRC_AT: usize = 124;
/// Where a header says how long its batch is, and the checksum of what lies behind the header.
const LENGTH_AT: usize = 40;
const RECORDS_CRC_AT: usize = 120;

struct Written {
    stream: Stream,
    key: RecordKey,
    payload: Bytes,
    position: Position,
}

fuzz_target!(|input: &[u8]| {
    let mut choices = Choices::new(input);
    let kind = choices.byte();
    match kind % 4 {
        0 | 1 => damaged(&mut choices, kind & 4 != 0, kind & 8 != 0),
        2 => forged(&mut choices, kind & 8 != 0),
        _ => raw(choices),
    }
});

/// Writes what the input chooses; gives what was acknowledged, and a checkpoint's watermarks from half-way.
fn write(bench: &mut Bench, choices: &mut Choices<'_>, close: bool) -> (Vec<Written>, Watermarks) {
    let mut opened = bench.open().expect("an empty disk opens");
    let mut written = Vec::new();
    let mut checkpoint = Watermarks::default();
    let appends = 1 + choices.below(APPENDS_MAX);
    for append in 0..appends {
        let stream = Stream::ALL[choices.below(3)];
        let shape = choices.byte();
        let records: Vec<Record> = (0..1 + shape % 3)
            .map(|part| record(choices, (append * 4) as u64 + u64::from(part), shape & 64 != 0))
            .collect();
        let positions = bench
            .append(&mut opened, stream, records.clone())
            .expect("the disk is sound");
        written.extend(records.into_iter().zip(positions).map(|(record, position)| Written {
            stream,
            key: record.key,
            payload: record.payload[0].clone(),
            position,
        }));
        if append == appends / 2 {
            checkpoint = opened.journal().watermarks();
        }
    }
    if close {
        bench.close(opened);
    }
    (written, checkpoint)
}

fn record(choices: &mut Choices<'_>, number: u64, carried: bool) -> Record {
    let bytes_max = if carried { CARRIED_BYTES_MAX } else { PAYLOAD_BYTES_MAX };
    let payload: Vec<u8> = {
        let bytes = usize::from(choices.short()) % bytes_max;
        let fill = choices.byte();
        (0..bytes).map(|at| fill.wrapping_add((at / 7) as u8)).collect()
    };
    let key = RecordKey {
        kind: if carried { 0x80 } else { 1 },
        id: 5,
        number,
    };
    Record {
        key,
        payload: vec![Bytes::from(payload)],
    }
}

/// Every segment's bytes, to see whether damage changed anything.
fn image(disk: &SimDisk) -> Vec<(SegmentId, Vec<u8>)> {
    disk.segments()
        .into_iter()
        .map(|(id, _)| (id, disk.bytes(id)))
        .collect()
}

fn damaged(choices: &mut Choices<'_>, close: bool, with_watermarks: bool) {
    let mut bench = Bench::new(1);
    let (written, checkpoint) = write(&mut bench, choices, close);
    let from = if with_watermarks {
        checkpoint
    } else {
        Watermarks::default()
    };
    bench.set_watermarks(from);
    let disk = bench.disk();
    let before = image(&disk);
    for _ in 0..choices.below(DAMAGES_MAX) {
        damage(&disk, choices);
    }
    let unchanged = image(&disk) == before;
    let opened = match bench.open() {
        Ok(opened) => opened,
        Err(OpenError::Corrupt { .. }) if !unchanged => return,
        Err(refused) => panic!("refused: {refused}"),
    };
    let told = is_prefix(&opened, &written, &from, unchanged);
    reads_are_written(opened.journal(), &written, unchanged);
    scans_are_written(opened.journal(), &written);
    // What was cut off once stays away, and what was told once is told again.
    drop(opened);
    let again = bench.open().expect("what was opened is sound");
    assert_eq!(is_prefix(&again, &written, &from, unchanged), told);
    bench.close(again);
}

/// Changes the medium behind the journal's back.
fn damage(disk: &SimDisk, choices: &mut Choices<'_>) {
    let segments = disk.segments();
    if segments.is_empty() {
        return;
    }
    let (id, bytes) = segments[choices.below(segments.len())];
    if bytes < 2 * BLOCK_BYTES {
        return;
    }
    let content = disk.bytes(id);
    // Mostly where something is: the first blocks of a segment.
    let used = content.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
    let at = choices.below(used);
    let block = at / BLOCK_BYTES * BLOCK_BYTES;
    match choices.byte() % 8 {
        0..=2 => {
            let flip = choices.byte().max(1);
            disk.overwrite(id, at, &[content[at] ^ flip]);
        }
        3 => {
            let flip = choices.word();
            let flipped: Vec<u8> = content[at..(at + 4).min(bytes)]
                .iter()
                .zip(flip.to_le_bytes())
                .map(|(byte, flip)| byte ^ flip)
                .collect();
            disk.overwrite(id, at, &flipped);
        }
        4 => disk.overwrite(id, block, &vec![0; BLOCK_BYTES.min(bytes - block)]),
        5 => {
            let (other, other_bytes) = segments[choices.below(segments.len())];
            let from = choices.below(other_bytes.max(1)) / BLOCK_BYTES * BLOCK_BYTES;
            if let Some(wrong) = disk.bytes(other).get(from..from + BLOCK_BYTES) {
                disk.overwrite(id, block, &wrong[..BLOCK_BYTES.min(bytes - block)]);
            }
        }
        6 => disk.truncate(id, at),
        _ => disk.lose_file(id),
    }
}

/// Holds the replay against what was written; gives how many plain records each stream told.
fn is_prefix(opened: &Opened, written: &[Written], from: &Watermarks, whole: bool) -> [usize; 3] {
    let mut counts = [0; 3];
    for (index, stream) in Stream::ALL.into_iter().enumerate() {
        let expected = written.iter().filter(|one| {
            one.stream == stream
                && one.key.kind < 0x80
                && (one.position.segment, one.position.offset) >= from.from[index]
        });
        let expected: Vec<_> = expected.map(|one| (one.key, one.position, &one.payload)).collect();
        let told = opened.replayed.iter().filter(|one| one.0 == stream);
        let plain: Vec<_> = told
            .clone()
            .filter(|one| one.1.kind < 0x80)
            .map(|one| (one.1, one.2, &one.3))
            .collect();
        assert!(
            expected.starts_with(&plain),
            "{stream:?}: told what is no prefix of what was written"
        );
        assert!(
            !whole || plain.len() == expected.len(),
            "{stream:?}: records are lost without damage"
        );
        for (_, key, _, payload) in told.filter(|one| one.1.kind >= 0x80) {
            let known = written
                .iter()
                .any(|one| one.stream == stream && one.key == *key && one.payload == *payload);
            assert!(known, "{stream:?}: a carried record that was never written");
        }
        counts[index] = plain.len();
    }
    counts
}

fn reads_are_written(journal: &Journal, written: &[Written], whole: bool) {
    for one in written {
        match journal.read_blocking(one.stream, one.position, one.key) {
            Ok(payload) => assert_eq!(payload, one.payload, "served altered"),
            Err(refused) => assert!(!whole, "refused without damage: {refused}"),
        }
        let longer = Position {
            bytes: one.position.bytes.wrapping_add(1),
            ..one.position
        };
        journal
            .read_blocking(one.stream, longer, one.key)
            .expect_err("no record has this position");
    }
}

fn scans_are_written(journal: &Journal, written: &[Written]) {
    for stream in Stream::ALL {
        for info in journal.segments(stream) {
            let mut each = |key, position, payload: Bytes| {
                let known = written.iter().any(|one| {
                    (one.stream, one.key, one.position) == (stream, key, position) && one.payload == payload
                });
                assert!(known, "{stream:?}: scanned {key:?}, which was never written");
            };
            // An error is an answer; which one is the business of the journal's own tests.
            let _ = journal.scan_blocking(stream, info.number, &mut each);
        }
    }
}

/// Headers whose fields make no sense under a checksum that fits: no panic, no hang.
fn forged(choices: &mut Choices<'_>, with_watermarks: bool) {
    let mut bench = Bench::new(2);
    let (_, checkpoint) = write(&mut bench, choices, true);
    if with_watermarks {
        bench.set_watermarks(checkpoint);
    }
    let disk = bench.disk();
    for _ in 0..1 + choices.below(DAMAGES_MAX) {
        forge(&disk, choices);
    }
    goes_on_if_it_opens(&mut bench);
}

fn forge(disk: &SimDisk, choices: &mut Choices<'_>) {
    let segments = disk.segments();
    let (id, _) = segments[choices.below(segments.len())];
    let content = disk.bytes(id);
    let heads: Vec<usize> = (0..content.len())
        .step_by(BLOCK_BYTES)
        .filter(|at| content[*at..].starts_with(b"VTBJ"))
        .collect();
    if heads.is_empty() {
        return;
    }
    let head = heads[choices.below(heads.len())];
    let mut batch = content[head..].to_vec();
    let flip = choices.word().to_le_bytes();
    // The header, or the first records behind it.
    let at = choices.below(HEADER_BYTES * 2);
    batch[at..at + 4]
        .iter_mut()
        .zip(flip)
        .for_each(|(byte, flip)| *byte ^= flip);
    let length = u32::from_le_bytes(batch[LENGTH_AT..LENGTH_AT + 4].try_into().expect("four bytes"));
    if let Some(records) = batch.get(HEADER_BYTES..length as usize) {
        let crc = crc32c::crc32c(records);
        batch[RECORDS_CRC_AT..RECORDS_CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    }
    let crc = crc32c::crc32c(&batch[..HEADER_CRC_AT]);
    batch[HEADER_CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    disk.overwrite(id, head, &batch);
}

/// Segments that hold the input's own bytes.
fn raw(mut choices: Choices<'_>) {
    let mut bench = Bench::new(3);
    let disk = bench.disk();
    for stream in 0..3 {
        let bytes = choices.below(4) * 64 * 1024 + choices.below(2) * 100;
        if bytes > 0 {
            disk.put(
                SegmentId {
                    stream,
                    number: 1 + choices.below(2) as u32,
                },
                vec![0; bytes],
            );
        }
    }
    let rest = choices.rest();
    for (part, (id, bytes)) in rest.chunks(BLOCK_BYTES).zip(disk.segments()) {
        let part = &part[..part.len().min(bytes)];
        disk.overwrite(id, 0, part);
    }
    goes_on_if_it_opens(&mut bench);
}

fn goes_on_if_it_opens(bench: &mut Bench) {
    let Ok(mut opened) = bench.open() else { return };
    for stream in Stream::ALL {
        let key = RecordKey {
            kind: 1,
            id: 9,
            number: 9,
        };
        let payload = Bytes::from_static(b"after all");
        let record = Record {
            key,
            payload: vec![payload.clone()],
        };
        let positions = bench
            .append(&mut opened, stream, vec![record])
            .expect("the disk is sound");
        let read = opened.journal().read_blocking(stream, positions[0], key);
        assert_eq!(read.expect("just written"), payload);
        for info in opened.journal().segments(stream) {
            let _ = opened.journal().scan_blocking(stream, info.number, &mut |_, _, _| {});
        }
    }
    bench.close(opened);
}
