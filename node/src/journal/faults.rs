//! One fault at a time, on the simulated disk: what each is told as, and what goes on working. And the format's bytes.

use super::format::*;
use super::stepping::{Life, SIZES};
use super::*;
use crate::base::checksum;
use crate::ring::storage::BLOCK_BYTES;
use crate::ring::storage::simulated::{Dice, Failing};

const LOG_1: SegmentId = SegmentId { stream: 0, number: 1 };

fn record(kind: u8, number: u64, bytes: usize) -> Record {
    Record {
        key: RecordKey { kind, id: 9, number },
        payload: vec![Bytes::from(vec![number as u8; bytes])],
    }
}

/// A closed journal of `count` records of 3,000 bytes in the log.
fn filled(count: u64) -> (Life, Vec<Position>) {
    let mut life = Life::new(1);
    let mut process = life.open().expect("a new journal opens");
    let mut positions = Vec::new();
    for number in 0..count {
        positions.extend(
            life.append(&mut process, Stream::Log, vec![record(1, number, 3000)])
                .expect("there is room"),
        );
    }
    life.close(process);
    (life, positions)
}

#[test]
fn a_flipped_bit_below_the_seal_refuses_to_open_and_is_never_served() {
    let (mut life, positions) = filled(8);
    let at = positions[5].offset as usize + 100;
    let bytes = life.disk.bytes(LOG_1);
    life.disk.overwrite(LOG_1, at, &[bytes[at] ^ 4]);
    match life.open() {
        Err(OpenError::Corrupt {
            stream: Stream::Log,
            segment: 1,
            offset,
            ..
        }) => {
            assert_eq!(
                offset as usize,
                positions[5].offset as usize / BLOCK_BYTES * BLOCK_BYTES
            );
        }
        other => panic!("{:?}", other.map(|_| ())),
    }
}

#[test]
fn a_flipped_bit_below_a_watermark_shows_when_it_is_read() {
    let (mut life, positions) = filled(8);
    let process = life.open().expect("it opens");
    life.watermarks = process.journal.watermarks();
    life.close(process);
    let at = positions[2].offset as usize + 100;
    life.disk.overwrite(LOG_1, at, &[0xff]);
    let process = life
        .open()
        .expect("nothing is scanned below the watermark but the last carry point's reach");
    let read = |number: usize| {
        process
            .journal
            .read_blocking(Stream::Log, positions[number], record(1, number as u64, 0).key)
    };
    assert!(matches!(
        read(2),
        Err(ReadError::Corrupt {
            what: "its checksum does not match",
            ..
        })
    ));
    assert_eq!(read(3).expect("its neighbour is sound"), vec![3; 3000]);
    assert!(matches!(
        process
            .journal
            .read_blocking(Stream::Log, positions[3], record(1, 4, 0).key),
        Err(ReadError::Corrupt {
            what: "another record's key",
            ..
        })
    ));
    let mut each = |_, _, _| {};
    assert!(matches!(
        process.journal.scan_blocking(Stream::Log, 1, &mut each),
        Err(ReadError::Corrupt { .. })
    ));
}

#[test]
fn a_torn_tail_is_cut_off_and_said() {
    let (life, positions) = filled(3);
    let mut life = life;
    // The last batch of a process that was killed: its header is there, its end is not.
    let mut process = life.open().expect("it opens");
    life.append(&mut process, Stream::Log, vec![record(1, 3, 9000)])
        .expect("there is room");
    let end = process.journal.watermarks().from[0];
    life.disk.cut_power();
    life.disk
        .overwrite(LOG_1, end.1 as usize - BLOCK_BYTES, &vec![0; BLOCK_BYTES]);
    let process = life.open().expect("a torn tail is no corruption");
    assert_eq!(life.replayed.len(), 3);
    assert!(process.journal.cut_off_bytes(Stream::Log) >= BLOCK_BYTES as u32);
    assert_eq!(process.journal.cut_off_bytes(Stream::Audit), 0);
    assert!(
        life.disk.bytes(LOG_1)[end.1 as usize - 2 * BLOCK_BYTES..]
            .iter()
            .all(|byte| *byte == 0)
    );
    let read = process
        .journal
        .read_blocking(Stream::Log, positions[2], record(1, 2, 0).key);
    assert_eq!(read.expect("it was acknowledged"), vec![2; 3000]);
}

#[test]
fn a_tail_that_ends_before_the_watermark_is_corruption() {
    let (mut life, _) = filled(4);
    let process = life.open().expect("it opens");
    let end = process.journal.watermarks();
    life.close(process);
    life.watermarks = end;
    life.watermarks.from[0].1 += BLOCK_BYTES as u32;
    assert!(matches!(
        life.open(),
        Err(OpenError::Corrupt {
            stream: Stream::Log,
            ..
        })
    ));
    life.watermarks.from[0] = (9, 0);
    assert!(matches!(
        life.open(),
        Err(OpenError::Corrupt {
            stream: Stream::Log,
            ..
        })
    ));
}

#[test]
fn a_lost_segment_is_corruption_and_a_removed_one_is_not() {
    for remove in [true, false] {
        let (mut life, _) = filled(60);
        let mut process = life.open().expect("it opens");
        let segments = process.journal.segments(Stream::Log);
        assert!(segments.len() >= 3 && segments[0].sealed && !segments[segments.len() - 1].sealed);
        if remove {
            process.journal.remove_segment(Stream::Log, 1);
            process.journal.remove_segment(Stream::Log, 1);
            life.settle(&mut process);
        }
        life.close(process);
        if !remove {
            life.disk.lose_file(LOG_1);
        }
        match life.open() {
            Ok(process) => {
                assert!(remove);
                let gone = Position {
                    segment: 1,
                    offset: 128,
                    bytes: 3000,
                };
                let read = process.journal.read_blocking(Stream::Log, gone, record(1, 0, 0).key);
                assert!(matches!(read, Err(ReadError::Gone { segment: 1, .. })));
            }
            Err(OpenError::Corrupt { segment: 1, .. }) => assert!(!remove),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_file_cut_short_is_corruption_whatever_is_left_of_it() {
    for bytes in [0, 1000, BLOCK_BYTES, 4 * BLOCK_BYTES, 64 * 1024 - 1] {
        let (mut life, _) = filled(6);
        life.disk.truncate(LOG_1, bytes);
        assert!(
            matches!(
                life.open(),
                Err(OpenError::Corrupt {
                    stream: Stream::Log,
                    ..
                })
            ),
            "{bytes}"
        );
    }
}

#[test]
fn another_nodes_journal_and_a_later_format_are_refused() {
    let (mut life, _) = filled(2);
    life.config.node += 1;
    assert!(matches!(life.open(), Err(OpenError::Corrupt { .. })));
    life.config.node -= 1;
    let mut block = life.disk.bytes(LOG_1)[..BLOCK_BYTES].to_vec();
    block[4] = 2;
    let crc = checksum::crc32c(&block[..124]);
    block[124..128].copy_from_slice(&crc.to_le_bytes());
    life.disk.overwrite(LOG_1, 0, &block);
    assert!(matches!(life.open(), Err(OpenError::Newer { found: 2, known: 1, .. })));
}

#[test]
fn a_full_disk_refuses_early_lets_carried_records_through_and_recovers_by_itself() {
    let mut life = Life::new(2);
    let mut process = life.open().expect("a new journal opens");
    life.disk.set_free_bytes(1000);
    life.disk.pass_us(1_000_000);
    life.settle(&mut process);
    assert_eq!(
        life.append(&mut process, Stream::Bodies, vec![record(1, 1, 10)]),
        Err(AppendError::Full)
    );
    assert!(
        life.append(&mut process, Stream::Log, vec![record(0x80, 1, 10)])
            .is_ok()
    );
    life.disk.set_free_bytes(1 << 40);
    life.disk.pass_us(1_000_000);
    life.settle(&mut process);
    assert!(
        life.append(&mut process, Stream::Bodies, vec![record(1, 1, 10)])
            .is_ok()
    );
}

#[test]
fn a_segment_that_cannot_be_made_refuses_what_waits_for_it_and_goes_on_later() {
    let mut life = Life::new(3);
    life.config.reserve_bytes = 0;
    life.disk.set_free_bytes(0);
    let mut process = life.open().expect("a new journal opens");
    let mut refused = 0;
    for number in 0..30 {
        match life.append(&mut process, Stream::Log, vec![record(1, number, 8000)]) {
            Ok(_) => assert_eq!(refused, 0, "an append after a refused one"),
            Err(AppendError::Full) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 0);
    life.disk.set_free_bytes(1 << 40);
    for _ in 0..4 {
        life.disk.pass_us(1_000_000);
        life.settle(&mut process);
    }
    assert!(
        life.append(&mut process, Stream::Log, vec![record(1, 99, 8000)])
            .is_ok()
    );
    life.close(process);
}

#[test]
fn more_than_the_queue_holds_is_refused_at_once() {
    let mut life = Life::new(4);
    life.config.queue_bytes_max = 10_000;
    let process = life.open().expect("a new journal opens");
    let (sender, answers) = std::sync::mpsc::channel();
    for number in 0..4 {
        let sender = sender.clone();
        let done =
            Box::new(move |answer: Result<Vec<Position>, AppendError>| sender.send(answer).expect("it is heard"));
        process
            .journal
            .append_then(Stream::Audit, vec![record(1, number, 4000)], done);
    }
    assert_eq!(
        answers.try_iter().collect::<Vec<_>>(),
        [Err(AppendError::Overloaded), Err(AppendError::Overloaded)]
    );
    assert_eq!(process.journal.stats().queue_records, 2);
}

#[test]
fn the_log_goes_on_while_bodies_fill_the_queue() {
    let mut life = Life::new(4);
    life.config.queue_bytes_max = 10_000;
    let mut process = life.open().expect("a new journal opens");
    let (sender, answers) = std::sync::mpsc::channel();
    for (stream, number) in [
        (Stream::Bodies, 0),
        (Stream::Bodies, 1),
        (Stream::Bodies, 2),
        (Stream::Log, 3),
    ] {
        let sender = sender.clone();
        let done = Box::new(move |answer: Result<Vec<Position>, AppendError>| {
            sender.send((number, answer.map(|_| ()))).expect("it is heard");
        });
        process.journal.append_then(stream, vec![record(1, number, 4000)], done);
    }
    assert_eq!(
        answers.try_iter().collect::<Vec<_>>(),
        [(2, Err(AppendError::Overloaded))]
    );
    life.settle(&mut process);
    let mut later: Vec<_> = answers.try_iter().collect();
    later.sort_unstable_by_key(|answer| answer.0);
    assert_eq!(later, [(0, Ok(())), (1, Ok(())), (3, Ok(()))]);
}

#[test]
fn a_segment_that_is_cut_under_its_readers_is_gone_and_not_corrupt() {
    let (mut life, positions) = filled(60);
    let process = life.open().expect("it opens");
    let read = || {
        process
            .journal
            .read_blocking(Stream::Log, positions[0], record(1, 0, 0).key)
    };
    let scan = || process.journal.scan_blocking(Stream::Log, 1, &mut |_, _, _| {});
    assert_eq!(read().expect("it is there"), vec![0; 3000]);
    life.disk.truncate(LOG_1, 0);
    assert!(matches!(read(), Err(ReadError::Corrupt { .. })), "nobody removed it");
    assert!(matches!(scan(), Err(ReadError::Corrupt { .. })), "nobody removed it");
    process.journal.remove_segment(Stream::Log, 1);
    assert!(matches!(read(), Err(ReadError::Gone { segment: 1, .. })));
    assert!(matches!(scan(), Err(ReadError::Gone { segment: 1, .. })));
}

#[test]
fn a_failed_write_or_fsync_ends_the_process_and_answers_nobody() {
    let write = Failing {
        write_one_in: 1,
        sync_one_in: 0,
    };
    let sync = Failing {
        write_one_in: 0,
        sync_one_in: 1,
    };
    for failing in [write, sync] {
        let mut life = Life::new(5);
        let mut process = life.open().expect("a new journal opens");
        life.disk.set_failing(failing);
        let (sender, answers) = std::sync::mpsc::channel();
        let done =
            Box::new(move |answer: Result<Vec<Position>, AppendError>| sender.send(answer).expect("it is heard"));
        process.journal.append_then(Stream::Log, vec![record(1, 1, 100)], done);
        life.settle(&mut process);
        assert!(
            life.disk.dead().is_some_and(|why| why.contains("Log segment 1")),
            "{:?}",
            life.disk.dead()
        );
        assert!(answers.try_recv().is_err());
    }
}

#[test]
fn an_empty_append_is_a_barrier_behind_what_was_queued_before() {
    let mut life = Life::new(6);
    let mut process = life.open().expect("a new journal opens");
    assert_eq!(life.append(&mut process, Stream::Log, Vec::new()), Ok(Vec::new()));
    assert_eq!(process.journal.stats().batches, 0);
    life.close(process);
}

#[test]
fn opening_reads_no_more_than_a_checkpoint_has_not_taken_over() {
    let (mut life, _) = filled(600);
    let process = life.open().expect("it opens");
    life.watermarks = process.journal.watermarks();
    life.close(process);
    life.disk.take_read_bytes();
    life.open().expect("it opens");
    let read = life.disk.take_read_bytes();
    let piece = u64::from(SIZES.batch_bytes_max);
    let bound = 3 * (u64::from(SIZES.carry_bytes) + 8 * piece);
    assert!(read < bound, "{read} bytes read of 2,400,000, {bound} allowed");
}

#[test]
fn random_bytes_are_never_a_batch_and_never_a_panic() {
    let mut dice = Dice::new(77);
    let identity = Identity { node: 1, journal: 2 };
    for _ in 0..20_000 {
        let mut bytes: Vec<u8> = (0..dice.below(400)).map(|_| dice.bits() as u8).collect();
        if bytes.len() >= HEADER_BYTES {
            // A sound checksum over nonsense must be harmless as well.
            bytes[0..4].copy_from_slice(&MAGIC);
            bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
            bytes[6] = 1 + (dice.bits() % 2) as u8;
            bytes[7] = (dice.bits() % 4) as u8;
            let crc = checksum::crc32c(&bytes[..124]);
            bytes[124..128].copy_from_slice(&crc.to_le_bytes());
        }
        if let Ok((header, _)) = Header::decode(&bytes) {
            let _ = header.matches_records(&bytes);
            let _ = for_each_record(&header, &bytes, |_, _, _| {});
        }
        assert!(Header::decode_at(&bytes, identity, Stream::Log, (1, 0)).is_err());
        let _ = RecordHeader::decode(&bytes);
    }
}

/// The segment of the fixture: a batch of two records and a repeated one, then a seal.
fn golden_segment() -> Vec<u8> {
    let identity = Identity {
        node: 0x0102_0304_0506_0708,
        journal: 0x1112_1314_1516_1718_191a_1b1c_1d1e_1f20,
    };
    let mut segment = vec![0; 2 * BLOCK_BYTES];
    let crc = segment_crc(identity, Stream::Audit, 1);
    let mut writer = BatchWriter::new(&mut segment[..BLOCK_BYTES], crc, 0);
    writer.push(
        RecordKey {
            kind: 0x81,
            id: 5,
            number: 6,
        },
        true,
        &[Bytes::from_static(b"carried")],
    );
    writer.push(
        RecordKey {
            kind: 7,
            id: 1 << 100,
            number: 1 << 40,
        },
        false,
        &[Bytes::from_static(b"first")],
    );
    writer.push(
        RecordKey {
            kind: 8,
            id: 2,
            number: 3,
        },
        false,
        &[Bytes::new()],
    );
    let header = Header {
        kind: BatchKind::Records,
        stream: Stream::Audit,
        identity,
        place: (1, 0),
        bytes: 0,
        records: 0,
        sequence: 1,
        previous_crc: 0,
        carry_offset: 0,
        durable: [(1, 4096), (2, 8192), (1, 0)],
        first: NO_KEY,
        capacity: 64 * 1024,
        records_crc: 0,
    };
    let (_, previous_crc) = writer.finish(header);
    let writer = BatchWriter::new(&mut segment[BLOCK_BYTES..], crc, BLOCK_BYTES as u32);
    let durable = [(1, 0), (1, 0), (1, 4096)];
    let place = (1, BLOCK_BYTES as u32);
    writer.finish(Header {
        kind: BatchKind::Seal,
        place,
        sequence: 2,
        previous_crc,
        durable,
        ..header
    });
    segment
}

#[test]
fn the_bytes_of_version_1_are_those_of_the_fixture() {
    let golden = golden_segment();
    if std::env::var_os("VERTEBRA_WRITE_FIXTURE").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/journal/fixtures/version-1.journal");
        std::fs::write(path, &golden).expect("the fixtures' folder is there");
    }
    let fixture = include_bytes!("fixtures/version-1.journal");
    assert!(
        golden == fixture,
        "the format changed: raise the version, keep the reader and the fixture of the old one"
    );
    let (header, crc) = Header::decode(fixture).expect("a sound header");
    assert_eq!((header.records, header.sequence, header.first.kind), (3, 1, 0x81));
    assert_eq!(crc.to_le_bytes(), fixture[124..128]);
    assert_eq!(&fixture[0..8], b"VTBJ\x01\x00\x01\x02");
    assert_eq!(&fixture[128 + 4..128 + 10], &[7, 0, 0, 0, 0x81, 1]);
    assert_eq!(&fixture[128 + 40..128 + 48], b"carried\0");
}

#[test]
fn a_journal_of_version_1_opens() {
    let mut life = Life::new(8);
    life.config.node = 0x0102_0304_0506_0708;
    let mut segment = include_bytes!("fixtures/version-1.journal").to_vec();
    // As if log and bodies had never been written: take back what the fixture says of them.
    for place in [64..80] {
        segment[place].copy_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    }
    let crc = checksum::crc32c(&segment[..124]);
    segment[124..128].copy_from_slice(&crc.to_le_bytes());
    segment[BLOCK_BYTES + 56..BLOCK_BYTES + 60].copy_from_slice(&crc.to_le_bytes());
    let crc = checksum::crc32c(&segment[BLOCK_BYTES..BLOCK_BYTES + 124]);
    segment[BLOCK_BYTES + 124..BLOCK_BYTES + 128].copy_from_slice(&crc.to_le_bytes());
    segment.resize(64 * 1024, 0);
    life.disk.put(SegmentId { stream: 2, number: 1 }, segment);
    let process = life.open().expect("every release opens it");
    let told: Vec<_> = life
        .replayed
        .iter()
        .map(|(_, key, _, payload)| (key.kind, payload.clone()))
        .collect();
    let wanted = [(0x81, &b"carried"[..]), (7, b"first"), (8, b"")];
    assert_eq!(told, wanted.map(|(kind, payload)| (kind, Bytes::from_static(payload))));
    let (_, key, position, _) = life.replayed[1];
    assert_eq!(
        process
            .journal
            .read_blocking(Stream::Audit, position, key)
            .expect("it is there"),
        "first"
    );
}

#[test]
fn a_header_with_a_fitting_checksum_and_impossible_numbers_is_no_header() {
    let fixture = include_bytes!("fixtures/version-1.journal");
    let forged = |at: usize, value: u32| {
        let mut block = fixture[..BLOCK_BYTES].to_vec();
        block[at..at + 4].copy_from_slice(&value.to_le_bytes());
        let crc = checksum::crc32c(&block[..124]);
        block[124..128].copy_from_slice(&crc.to_le_bytes());
        Header::decode(&block).map(|(header, _)| header.end())
    };
    let (bytes, carry_offset, last_block) = (40, 60, u32::MAX - 4095);
    assert!(forged(bytes, 128).is_ok(), "the smallest batch");
    assert_eq!(forged(bytes, 127), Err(Mismatch::NoHeader), "smaller than its header");
    assert!(forged(bytes, last_block).is_ok(), "ends at the last address");
    assert_eq!(forged(bytes, last_block + 1), Err(Mismatch::NoHeader), "ends behind it");
    assert_eq!(
        forged(carry_offset, 4096),
        Err(Mismatch::NoHeader),
        "carried records behind it"
    );
    assert_eq!(
        forged(carry_offset, 1),
        Err(Mismatch::NoHeader),
        "carried records inside a block"
    );
}
