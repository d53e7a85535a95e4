//! A seeded life of a journal on a disk that fails: appends, crashes at any point, every fault of the simulated disk,
//! reopening, and a ledger of what was acknowledged that is held against what comes back.
//!
//! What must hold: a record that was acknowledged, or given by a replay, comes back at every later opening, unaltered
//! and in the order of the appends, or the opening says that the journal is corrupt; what was cut off once never comes
//! back; a read gives the right bytes or an error; after a failed write or fsync nothing is acknowledged; the newest
//! record of each carried kind is always told.
//!
//! `VERTEBRA_SIM_SEEDS` says how many seeds (300), `VERTEBRA_SIM_SEED` replays one.

use super::planted::{ACTIVE, Bug};
use super::stepping::{Process, Replayed, SIZES, config};
use super::*;
use crate::ring::storage::simulated::{Damage, Dice, Failing, SimDisk, SimStorage};
use crate::ring::storage::{BLOCK_BYTES, SegmentId};
use parking_lot::Mutex;
use std::collections::BTreeSet;

const RECORD_BYTES_SIM_MAX: usize = 12 * 1024;
/// Drawn from with equal chance.
const DAMAGES: [Damage; 12] = [
    Damage::Flip,
    Damage::Flip,
    Damage::Flip,
    Damage::Stale,
    Damage::Stale,
    Damage::Stale,
    Damage::Misdirected,
    Damage::Misdirected,
    Damage::Misdirected,
    Damage::Lost,
    Damage::Truncated,
    Damage::FileLost,
];
const CARRIED_KINDS: [u8; 2] = [0x80, 0x91];

/// What is known of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Appended, not answered.
    Unknown,
    /// Acknowledged or replayed: must come back.
    Durable,
    /// Refused or cut off: must never come back.
    Never,
}

#[derive(Clone)]
struct Known {
    key: RecordKey,
    payload: Bytes,
    call: usize,
    fate: Fate,
    position: Option<Position>,
}

type Answers = Arc<Mutex<Vec<(Stream, usize, Result<Vec<Position>, AppendError>)>>>;

struct World {
    dice: Dice,
    disk: SimDisk,
    known: [Vec<Known>; 3],
    calls: usize,
    next_number: u64,
    versions: u64,
    saved: Watermarks,
    removed: BTreeSet<(Stream, u32)>,
    answers: Answers,
    /// The medium was damaged: errors are allowed, wrong answers are not.
    damaged: bool,
}

macro_rules! require {
    ($holds:expr, $($why:tt)*) => {
        if !$holds {
            return Err(format!($($why)*));
        }
    };
}

impl World {
    fn new(seed: u64) -> World {
        World {
            dice: Dice::new(seed),
            disk: SimDisk::new(seed ^ 0xd15c),
            known: Default::default(),
            calls: 0,
            next_number: 0,
            versions: 0,
            saved: Watermarks::default(),
            removed: BTreeSet::new(),
            answers: Arc::default(),
            damaged: false,
        }
    }

    fn stream(&mut self) -> Stream {
        Stream::ALL[self.dice.below(3)]
    }

    /// Opens the journal, with power cuts on the way, and holds the replay against what is known.
    fn open(&mut self) -> Result<Option<Process>, String> {
        for _ in 0..self.dice.below(3) {
            let operations = self.dice.below(10);
            self.disk.cut_power_after(Some(operations));
            let attempt = self.start();
            self.disk.cut_power();
            self.disk.cut_power_after(None);
            match attempt {
                // What was replayed counts only once the opening has succeeded; then it counts although the power went.
                Ok((_, replayed)) => self.judge(replayed)?,
                Err(OpenError::Io(_)) => {}
                Err(OpenError::Corrupt { .. }) if self.damaged => return Ok(None),
                Err(error) => return Err(format!("refused to open: {error}")),
            }
        }
        match self.start() {
            Ok((process, replayed)) => {
                self.judge(replayed)?;
                Ok(Some(process))
            }
            Err(OpenError::Corrupt { .. }) if self.damaged => Ok(None),
            Err(error) => Err(format!("refused to open: {error}")),
        }
    }

    fn start(&mut self) -> Result<(Process, Replayed), OpenError> {
        let mut replayed = Vec::new();
        let storage: SimStorage = self.disk.storage(SIZES.batch_bytes_max as usize);
        let fresh = u128::from(self.dice.bits());
        let mut each = |stream, key, position, payload| replayed.push((stream, key, position, payload));
        let (journal, task) = Journal::start(storage, &config(), SIZES, fresh, self.saved, &mut each)?;
        Ok((Process::start(journal, task), replayed))
    }

    /// Holds a replay against what is known, and takes over what it decided about records whose fate was open.
    fn judge(&mut self, replayed: Replayed) -> Result<(), String> {
        for stream in Stream::ALL {
            let mine = || replayed.iter().filter(|one| one.0 == stream);
            let plain: Vec<_> = mine().filter(|one| one.1.kind < 0x80).collect();
            self.judge_order(stream, &plain)?;
            for kind in CARRIED_KINDS {
                let versions: Vec<_> = mine().filter(|one| one.1.kind == kind).collect();
                self.judge_carried(stream, kind, &versions)?;
            }
        }
        Ok(())
    }

    fn judge_order(
        &mut self,
        stream: Stream,
        replayed: &[&(Stream, RecordKey, Position, Bytes)],
    ) -> Result<(), String> {
        let from = self.saved.from[stream.index()];
        let mut found = replayed.iter();
        let mut ended = false;
        let mut next = found.next();
        let removed = self.removed.clone();
        for record in self.known[stream.index()]
            .iter_mut()
            .filter(|record| record.key.kind < 0x80)
        {
            let below = record.position.is_some_and(|at| (at.segment, at.offset) < from);
            if below || record.fate == Fate::Never {
                continue;
            }
            if record
                .position
                .is_some_and(|at| removed.contains(&(stream, at.segment)))
            {
                continue;
            }
            match next {
                Some((_, key, position, payload)) if *key == record.key => {
                    require!(!ended, "{stream:?} {key:?} came back behind a record that did not");
                    require!(*payload == record.payload, "{stream:?} {key:?} came back altered");
                    require!(
                        record.position.is_none_or(|at| at == *position),
                        "{stream:?} {key:?} moved from {:?} to {position:?}",
                        record.position
                    );
                    record.position = Some(*position);
                    record.fate = Fate::Durable;
                    next = found.next();
                }
                Some(_) | None => {
                    require!(
                        record.fate != Fate::Durable,
                        "{stream:?} {:?} is lost, it was durable",
                        record.key
                    );
                    record.fate = Fate::Never;
                    ended = true;
                }
            }
        }
        require!(
            next.is_none(),
            "{stream:?} {:?} came back though it cannot",
            next.map(|one| one.1)
        );
        Ok(())
    }

    fn judge_carried(
        &mut self,
        stream: Stream,
        kind: u8,
        replayed: &[&(Stream, RecordKey, Position, Bytes)],
    ) -> Result<(), String> {
        let known = &mut self.known[stream.index()];
        let mut newest_told = None;
        for (_, key, _, payload) in replayed {
            let version = known.iter().position(|one| one.key == *key && one.payload == *payload);
            let Some(version) = version else {
                return Err(format!("{stream:?} {key:?}: a carried record never written"));
            };
            require!(
                known[version].fate != Fate::Never,
                "{stream:?} {key:?}: a carried record that was cut off"
            );
            require!(
                newest_told.is_none_or(|told| told <= version),
                "{stream:?} kind {kind}: an older one came last"
            );
            newest_told = Some(version);
        }
        let newest_durable = known
            .iter()
            .rposition(|one| one.key.kind == kind && one.fate == Fate::Durable);
        require!(
            newest_told >= newest_durable,
            "{stream:?} kind {kind}: the newest carried record was not told"
        );
        for (index, one) in known.iter_mut().enumerate().filter(|(_, one)| one.key.kind == kind) {
            if Some(index) == newest_told {
                one.fate = Fate::Durable;
                one.position = replayed.last().map(|one| one.2);
            } else if Some(index) > newest_told {
                one.fate = Fate::Never;
            } else if one.fate == Fate::Unknown {
                // An older version may or may not be there: nobody can tell.
                one.position = None;
            }
        }
        Ok(())
    }

    fn payload(&mut self, stream: Stream) -> Bytes {
        let bytes = match self.dice.below(20) {
            0 => self.dice.below(RECORD_BYTES_SIM_MAX),
            1..=4 => self.dice.below(4096),
            _ => self.dice.below(400),
        };
        if self.dice.one_in(25) {
            // A payload that looks like a piece of a journal.
            let segments = self.disk.segments();
            if let Some((id, _)) = segments.iter().find(|(id, _)| id.stream == stream.number()) {
                let mut copy = vec![0; 80];
                copy.extend_from_slice(&self.disk.bytes(*id)[..2 * BLOCK_BYTES]);
                return copy.into();
            }
        }
        let mut payload = vec![0; bytes];
        payload
            .chunks_mut(8)
            .for_each(|piece| piece.copy_from_slice(&self.dice.bits().to_le_bytes()[..piece.len()]));
        payload.into()
    }

    fn append(&mut self, process: &mut Process) {
        let stream = self.stream();
        let call = self.calls;
        self.calls += 1;
        let mut records = Vec::new();
        for _ in 0..self.dice.below(4) {
            let (key, payload) = if self.dice.one_in(8) {
                let kind = CARRIED_KINDS[self.dice.below(CARRIED_KINDS.len())];
                self.versions += 1;
                // Always the same key and length: only checksum and place tell one version from another.
                (
                    RecordKey { kind, id: 0, number: 0 },
                    Bytes::copy_from_slice(&self.versions.to_le_bytes()),
                )
            } else {
                self.next_number += 1;
                let key = RecordKey {
                    kind: 1,
                    id: u128::from(self.dice.bits()),
                    number: self.next_number,
                };
                (key, self.payload(stream))
            };
            self.known[stream.index()].push(Known {
                key,
                payload: payload.clone(),
                call,
                fate: Fate::Unknown,
                position: None,
            });
            let cut = self.dice.below(payload.len() + 1);
            records.push(Record {
                key,
                payload: vec![payload.slice(..cut), payload.slice(cut..)],
            });
        }
        let answers = self.answers.clone();
        let done = Box::new(move |result| answers.lock().push((stream, call, result)));
        process.journal.append_then(stream, records, done);
    }

    /// Takes over what was answered since the last time.
    fn hear(&mut self) -> Result<(), String> {
        for (stream, call, result) in std::mem::take(&mut *self.answers.lock()) {
            let records: Vec<&mut Known> = self.known[stream.index()]
                .iter_mut()
                .filter(|record| record.call == call)
                .collect();
            match result {
                Ok(positions) => {
                    require!(
                        positions.len() == records.len(),
                        "{} positions for {} records",
                        positions.len(),
                        records.len()
                    );
                    for (record, position) in records.into_iter().zip(positions) {
                        record.fate = Fate::Durable;
                        record.position = Some(position);
                    }
                }
                Err(_) => records.into_iter().for_each(|record| record.fate = Fate::Never),
            }
        }
        Ok(())
    }

    fn read_one(&mut self, journal: &Journal) -> Result<(), String> {
        let stream = self.stream();
        let known = &self.known[stream.index()];
        if known.is_empty() {
            return Ok(());
        }
        let chosen = self.dice.below(known.len());
        self.read(journal, stream, chosen)
    }

    fn read(&self, journal: &Journal, stream: Stream, chosen: usize) -> Result<(), String> {
        let record = &self.known[stream.index()][chosen];
        let (Some(position), Fate::Durable) = (record.position, record.fate) else {
            return Ok(());
        };
        match journal.read_blocking(stream, position, record.key) {
            Ok(payload) => require!(
                payload == record.payload,
                "{stream:?} {:?} was served altered",
                record.key
            ),
            Err(ReadError::Gone { segment, .. }) if self.removed.contains(&(stream, segment)) => {}
            Err(_) if self.damaged => {}
            Err(error) => return Err(format!("{stream:?} {:?} cannot be read: {error}", record.key)),
        }
        Ok(())
    }

    /// Saves watermarks, as a checkpoint does, and removes segments below them.
    fn checkpoint(&mut self, journal: &Journal) {
        self.saved = journal.watermarks();
        if self.dice.one_in(2) {
            return;
        }
        let stream = self.stream();
        let below = self.saved.from[stream.index()].0;
        let removable: Vec<u32> = journal
            .segments(stream)
            .iter()
            .map(|one| one.number)
            .filter(|number| *number < below)
            .collect();
        if !removable.is_empty() {
            let number = removable[self.dice.below(removable.len())];
            journal.remove_segment(stream, number);
            self.removed.insert((stream, number));
        }
    }

    /// One process's life: random steps until it dies, is killed or closes. Says whether it closed.
    fn live(&mut self, mut process: Process) -> Result<bool, String> {
        let steps = 20 + self.dice.below(150);
        let eager = 1 + self.dice.below(4);
        for _ in 0..steps {
            match self.dice.below(12) {
                0..=3 => self.append(&mut process),
                4..=7 => {
                    for _ in 0..eager {
                        self.disk.step();
                    }
                }
                8 => self.disk.pass_us(100_000 << self.dice.below(4)),
                9 => self.read_one(&process.journal)?,
                10 if self.dice.one_in(3) => self.checkpoint(&process.journal),
                10 if self.dice.one_in(6) => self.disk.set_free_bytes(1 << (10 + 10 * self.dice.below(3))),
                10 => self.disk.set_free_bytes(1 << 40),
                _ => process.turn(),
            }
            if self.dice.one_in(2) {
                process.settle();
            }
            if self.disk.dead().is_some() {
                // Whatever the disk still does, the process says nothing any more.
                let before = self.answers.lock().len();
                process.settle();
                require!(process.ended, "the process goes on after its storage failed");
                require!(
                    self.answers.lock().len() == before,
                    "an answer after the storage failed"
                );
                break;
            }
        }
        self.hear()?;
        if process.ended || self.dice.one_in(2) {
            return Ok(false);
        }
        self.close(process)
    }

    fn close(&mut self, mut process: Process) -> Result<bool, String> {
        self.disk.set_free_bytes(1 << 40);
        process.journal.shared.start_closing();
        for _ in 0..4000 {
            process.settle();
            if process.ended {
                break;
            }
            if !self.disk.step() {
                self.disk.pass_us(300_000);
            }
        }
        self.hear()?;
        if self.disk.dead().is_some() {
            return Ok(false);
        }
        require!(process.ended, "the journal does not close");
        let open = self.known.iter().flatten().any(|record| record.fate == Fate::Unknown);
        // A version of a carried record that a replay could not tell stays open for ever.
        let carried_open = self
            .known
            .iter()
            .flatten()
            .all(|record| record.fate != Fate::Unknown || record.key.kind >= 0x80);
        require!(
            !open || carried_open,
            "the journal closed without an answer to everybody"
        );
        let overloaded = process.journal.shared.queued();
        require!(
            overloaded == (0, 0),
            "the closed journal still counts {overloaded:?} in its queue"
        );
        Ok(true)
    }

    /// Written blocks of a stream that later batches or a seal say were durable.
    fn protected_blocks(&self, stream: Stream, end: (u32, u32)) -> Vec<(SegmentId, usize)> {
        let mut places = Vec::new();
        for (id, bytes) in self.disk.segments() {
            if id.stream != stream.number() {
                continue;
            }
            let protected = match id.number.cmp(&end.0) {
                std::cmp::Ordering::Less => bytes,
                std::cmp::Ordering::Equal => (end.1 as usize).saturating_sub(SIZES.batch_bytes_max as usize),
                std::cmp::Ordering::Greater => 0,
            };
            let content = self.disk.bytes(id);
            let blocks = content[..protected].chunks(BLOCK_BYTES).enumerate();
            places.extend(
                blocks
                    .filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0))
                    .map(|(block, _)| (id, block)),
            );
        }
        places
    }

    /// Damages the medium below what is known to be durable; `None` when there is nothing to damage.
    fn damage(&mut self, ends: &Watermarks) -> Option<Damage> {
        let stream = self.stream();
        let end = ends.from[stream.index()];
        let places = self.protected_blocks(stream, end);
        if places.is_empty() {
            return None;
        }
        let (id, block) = places[self.dice.below(places.len())];
        let at = block * BLOCK_BYTES;
        let damage = DAMAGES[self.dice.below(DAMAGES.len())];
        self.damaged = true;
        match damage {
            Damage::Flip => {
                let mut bytes = self.disk.bytes(id)[at..at + BLOCK_BYTES].to_vec();
                let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
                bytes[self.dice.below(used)] ^= 1 << self.dice.below(8);
                self.disk.overwrite(id, at, &bytes);
            }
            Damage::Stale => {
                let history = self.disk.history(id);
                let stale: Vec<_> = history.iter().filter(|(old, _)| places.contains(&(id, *old))).collect();
                if !stale.is_empty() {
                    let (old, bytes) = stale[self.dice.below(stale.len())];
                    self.disk.overwrite(id, old * BLOCK_BYTES, bytes);
                }
            }
            Damage::Misdirected => self.misdirect(id, at, places.contains(&(id, 0))),
            Damage::Lost => self.disk.overwrite(id, at, &[0; BLOCK_BYTES]),
            Damage::Truncated => {
                let rest = self.dice.below(BLOCK_BYTES);
                self.disk.truncate(id, at + rest);
            }
            // Of the last segment only another stream or a watermark can tell that it is missing.
            Damage::FileLost if id.number < end.0 => self.disk.lose_file(id),
            Damage::FileLost => self.disk.truncate(id, at),
        }
        Some(damage)
    }

    /// Writes a block of another segment over one: mostly from the right offset of the wrong file, and mostly over the
    /// head, where carried records of one key and length lie alike.
    fn misdirect(&mut self, id: SegmentId, at: usize, head_is_protected: bool) {
        let segments = self.disk.segments();
        let others: Vec<SegmentId> = segments
            .iter()
            .map(|(other, _)| *other)
            .filter(|other| *other != id)
            .collect();
        let other = others[self.dice.below(others.len())];
        let target = if self.dice.one_in(2) && head_is_protected {
            0
        } else {
            at
        };
        let from = if self.dice.one_in(4) {
            self.dice.below(8) * BLOCK_BYTES
        } else {
            target
        };
        if let Some(wrong) = self.disk.bytes(other).get(from..from + BLOCK_BYTES) {
            self.disk.overwrite(id, target, wrong);
        }
    }

    fn read_all(&self, journal: &Journal) -> Result<(), String> {
        for stream in Stream::ALL {
            for chosen in 0..self.known[stream.index()].len() {
                self.read(journal, stream, chosen)?;
            }
        }
        Ok(())
    }
}

/// One seed. An error says what was broken.
fn run(seed: u64) -> Result<(), String> {
    let mut world = World::new(seed);
    let lives = 2 + world.dice.below(6);
    for _ in 0..lives {
        let failing = match world.dice.below(4) {
            0 => Failing {
                write_one_in: 30,
                sync_one_in: 0,
            },
            1 => Failing {
                write_one_in: 0,
                sync_one_in: 20,
            },
            _ => Failing::default(),
        };
        let process = world.open()?.ok_or("corrupt without damage")?;
        world.disk.set_failing(failing);
        world.live(process)?;
        world.disk.set_failing(Failing::default());
        if world.dice.one_in(2) {
            world.disk.kill();
        } else {
            world.disk.cut_power();
        }
    }
    let process = world.open()?.ok_or("corrupt without damage")?;
    world.read_all(&process.journal)?;
    let journal = process.journal.clone();
    let closed = world.close(process)?;
    require!(closed, "a sound disk failed");
    let ends = journal.watermarks();
    if world.damage(&ends).is_some() {
        world.read_all(&journal)?;
        if let Some(process) = world.open()? {
            world.read_all(&process.journal)?;
        }
    }
    Ok(())
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

#[test]
fn no_acknowledged_record_is_lost_altered_or_reordered_whatever_the_disk_does() {
    let seeds = match number_from("VERTEBRA_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number_from("VERTEBRA_SIM_SEEDS").unwrap_or(300),
    };
    for seed in seeds {
        if let Err(broken) = run(seed) {
            panic!("{broken}; replay with VERTEBRA_SIM_SEED={seed}");
        }
    }
}

/// Whether the simulation finds `bug` within `seeds` seeds.
fn finds(bug: Bug, seeds: u64) -> bool {
    ACTIVE.with(|active| active.set(Some(bug)));
    let found = (0..seeds).find_map(|seed| match std::panic::catch_unwind(|| run(seed)) {
        Ok(Ok(())) => None,
        Ok(Err(broken)) => Some((seed, broken)),
        Err(_) => Some((seed, "an assertion of the journal".to_owned())),
    });
    ACTIVE.with(|active| active.set(None));
    println!("{bug:?} found with {found:?}");
    found.is_some()
}

#[test]
fn the_simulation_finds_an_acknowledgement_before_the_fsync() {
    assert!(finds(Bug::AcknowledgeBeforeSync, 300));
}

#[test]
fn the_simulation_finds_an_ignored_write_or_fsync_failure() {
    assert!(finds(Bug::IgnoreFailedSync, 300));
}

#[test]
fn the_simulation_finds_a_skipped_batch_checksum() {
    assert!(finds(Bug::SkipBatchChecksum, 300));
}

#[test]
fn the_simulation_finds_a_skipped_record_checksum() {
    assert!(finds(Bug::SkipRecordChecksum, 1000));
}

#[test]
fn the_simulation_finds_a_block_taken_in_the_wrong_place() {
    assert!(finds(Bug::IgnorePlace, 3000));
}

#[test]
fn the_simulation_finds_corruption_taken_for_a_torn_tail() {
    assert!(finds(Bug::CorruptionIsATornTail, 1000));
}

#[test]
fn the_simulation_finds_a_broken_chain_that_is_followed() {
    assert!(finds(Bug::IgnoreChain, 3000));
}

#[test]
fn the_simulation_finds_a_tail_that_was_not_rewritten() {
    assert!(finds(Bug::TailNotRewritten, 1000));
}

#[test]
fn the_simulation_finds_carried_records_left_behind() {
    assert!(finds(Bug::ForgetCarried, 300));
}

#[test]
fn the_simulation_finds_a_lost_segment_taken_for_a_removed_one() {
    assert!(finds(Bug::LostIsRemoved, 3000));
}
