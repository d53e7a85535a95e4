//! A disk that fails on demand, for tests. Time and order are the test's: nothing happens until it says so.
//!
//! The fault model, in words. A write lands in the cache, block by block; only a finished fsync carries it to the
//! medium. A killed process leaves the cache as it is, with writes in flight landed in part. A power cut empties the
//! cache: each block that was not synced keeps its old bytes, has the new ones, or is torn between two sectors. A
//! failed write lands in part. A failed fsync leaves blocks that can be read, that no later fsync carries to the medium,
//! and that a power cut takes away. Making and removing segments is atomic. On top of this a test flips bits, puts back
//! older bytes of a block, writes one block's bytes over another, cuts a file short, loses it, or fills the disk.

use super::{BLOCK_BYTES, BatchWrite, BlockBuffer, Event, FoundSegment, RingRead, SegmentId, SegmentReads, Storage};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

const SECTOR_BYTES: usize = 512;

/// A seeded source of chance (splitmix64), the same in every release.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Starts from `seed`.
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which is above 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

#[derive(Clone, Default)]
struct SimFile {
    /// What a power cut leaves.
    medium: Vec<u8>,
    /// What a read sees.
    cache: Vec<u8>,
    /// Blocks in the cache that the next fsync carries to the medium.
    dirty: BTreeSet<usize>,
    /// Blocks in the cache that no fsync will carry any more.
    orphaned: BTreeSet<usize>,
    /// Older bytes of blocks that were overwritten.
    history: Vec<(usize, Vec<u8>)>,
}

enum Pending {
    Write { write: BatchWrite, bytes: Vec<u8> },
    Sync { id: SegmentId },
    Prepare { id: SegmentId, bytes: u32 },
    Remove { id: SegmentId },
}

/// Which faults the running disk makes by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Failing {
    /// One write in so many fails or is short; 0 for none.
    pub write_one_in: usize,
    /// One fsync in so many fails; 0 for none.
    pub sync_one_in: usize,
}

struct State {
    dice: Dice,
    files: BTreeMap<SegmentId, SimFile>,
    marks: BTreeSet<SegmentId>,
    pending: Vec<Pending>,
    events: VecDeque<Event>,
    now_us: u64,
    free_bytes: u64,
    failing: Failing,
    dead: Option<String>,
    /// Blocking operations that still succeed; then the power goes.
    power_left: Option<usize>,
    /// Bytes that openings have read.
    read_bytes: u64,
    /// The journal's task, which waits for an event or a time.
    task: Option<Waker>,
    /// Whoever moves the disk on, and waits for something to do.
    mover: Option<Waker>,
}

/// The disk. Clones share it, and it outlives the storages that open it.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

/// What may be done to the medium behind the journal's back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// One bit changes.
    Flip,
    /// A block has older bytes again.
    Stale,
    /// A block's bytes are those of another one.
    Misdirected,
    /// A block is zeros.
    Lost,
    /// The file ends early.
    Truncated,
    /// The file is gone.
    FileLost,
}

impl SimDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(State {
            dice: Dice::new(seed),
            files: BTreeMap::new(),
            marks: BTreeSet::new(),
            pending: Vec::new(),
            events: VecDeque::new(),
            now_us: 0,
            free_bytes: 1 << 40,
            failing: Failing::default(),
            dead: None,
            power_left: None,
            read_bytes: 0,
            task: None,
            mover: None,
        })))
    }

    /// The storage of a process that starts now.
    pub fn storage(&self, batch_bytes_max: usize) -> SimStorage {
        SimStorage {
            disk: self.clone(),
            buffers: std::array::from_fn(|_| BlockBuffer::new(batch_bytes_max)),
        }
    }

    /// Sets what fails by itself.
    pub fn set_failing(&self, failing: Failing) {
        self.0.lock().failing = failing;
    }

    /// Sets the free space.
    pub fn set_free_bytes(&self, free_bytes: u64) {
        self.0.lock().free_bytes = free_bytes;
    }

    /// Lets the power fail after `operations` more blocking operations of an opening.
    pub fn cut_power_after(&self, operations: Option<usize>) {
        self.0.lock().power_left = operations;
    }

    /// Moves the clock.
    pub fn pass_us(&self, us: u64) {
        let mut state = self.0.lock();
        state.now_us += us;
        state.wake_task();
    }

    /// Resolves while something is in flight.
    pub fn poll_busy(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.pending.is_empty() {
            state.mover = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Why the process ended itself, if it did.
    pub fn dead(&self) -> Option<String> {
        self.0.lock().dead.clone()
    }

    /// Does one thing that is in flight; `false` when nothing is.
    pub fn step(&self) -> bool {
        let mut state = self.0.lock();
        let did = state.step();
        state.wake_task();
        did
    }

    /// The process is killed: the cache stays, what is in flight lands in part.
    pub fn kill(&self) {
        self.0.lock().kill();
    }

    /// The power fails.
    pub fn cut_power(&self) {
        let mut state = self.0.lock();
        state.kill();
        state.lose_cache();
    }

    /// Segments there are, with the lengths of their files.
    pub fn segments(&self) -> Vec<(SegmentId, usize)> {
        self.0
            .lock()
            .files
            .iter()
            .map(|(id, file)| (*id, file.cache.len()))
            .collect()
    }

    /// Puts `bytes` over a place in cache and medium alike.
    pub fn overwrite(&self, id: SegmentId, offset: usize, bytes: &[u8]) {
        let mut state = self.0.lock();
        let file = state.files.get_mut(&id).expect("the test names a segment that exists");
        file.cache[offset..offset + bytes.len()].copy_from_slice(bytes);
        file.medium[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// The bytes of a segment as a reader sees them.
    pub fn bytes(&self, id: SegmentId) -> Vec<u8> {
        self.0
            .lock()
            .files
            .get(&id)
            .map(|file| file.cache.clone())
            .unwrap_or_default()
    }

    /// Older bytes of a segment's blocks: block number and bytes.
    pub fn history(&self, id: SegmentId) -> Vec<(usize, Vec<u8>)> {
        self.0
            .lock()
            .files
            .get(&id)
            .map(|file| file.history.clone())
            .unwrap_or_default()
    }

    /// Cuts a file short.
    pub fn truncate(&self, id: SegmentId, bytes: usize) {
        let mut state = self.0.lock();
        let file = state.files.get_mut(&id).expect("the test names a segment that exists");
        file.cache.truncate(bytes);
        file.medium.truncate(bytes);
    }

    /// Makes a segment with these bytes.
    pub fn put(&self, id: SegmentId, bytes: Vec<u8>) {
        self.0.lock().files.insert(
            id,
            SimFile {
                medium: bytes.clone(),
                cache: bytes,
                ..SimFile::default()
            },
        );
    }

    /// Bytes that openings have read since the last call.
    pub fn take_read_bytes(&self) -> u64 {
        std::mem::take(&mut self.0.lock().read_bytes)
    }

    /// Loses a file without a mark.
    pub fn lose_file(&self, id: SegmentId) {
        self.0.lock().files.remove(&id);
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the power went")
}

impl SimFile {
    fn zeros(bytes: usize) -> SimFile {
        SimFile {
            medium: vec![0; bytes],
            cache: vec![0; bytes],
            ..SimFile::default()
        }
    }

    /// A block lands in the cache.
    fn land(&mut self, block: usize, bytes: &[u8]) {
        let at = block * BLOCK_BYTES;
        if at + BLOCK_BYTES > self.cache.len() {
            let end = at + BLOCK_BYTES;
            self.cache.resize(end, 0);
            self.medium.resize(end, 0);
        }
        let old = &self.cache[at..at + BLOCK_BYTES];
        if old != bytes && old.iter().any(|byte| *byte != 0) {
            self.history.push((block, old.to_vec()));
        }
        self.cache[at..at + BLOCK_BYTES].copy_from_slice(bytes);
        self.dirty.insert(block);
        self.orphaned.remove(&block);
    }

    fn sync(&mut self) {
        for block in std::mem::take(&mut self.dirty) {
            let at = block * BLOCK_BYTES;
            self.medium[at..at + BLOCK_BYTES].copy_from_slice(&self.cache[at..at + BLOCK_BYTES]);
        }
    }
}

impl State {
    fn wake_task(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    fn begin(&mut self, pending: Pending) {
        self.pending.push(pending);
        if let Some(mover) = self.mover.take() {
            mover.wake();
        }
    }

    /// Lands the blocks of a write in part: each whole, torn between two sectors, or not at all.
    fn land_in_part(&mut self, id: SegmentId, offset: usize, bytes: &[u8]) {
        let Some(file) = self.files.get_mut(&id) else { return };
        for (number, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
            let target = offset / BLOCK_BYTES + number;
            match self.dice.below(3) {
                0 => file.land(target, block),
                1 => {
                    let torn = tear(
                        &mut self.dice,
                        &file.cache[target * BLOCK_BYTES..][..BLOCK_BYTES],
                        block,
                    );
                    file.land(target, &torn);
                }
                _ => {}
            }
        }
    }

    fn kill(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            match pending {
                Pending::Write { write, bytes } => match self.dice.below(3) {
                    0 => {}
                    1 => self.land(write.id, write.offset as usize, &bytes),
                    _ => self.land_in_part(write.id, write.offset as usize, &bytes),
                },
                Pending::Sync { .. } => {}
                Pending::Prepare { id, bytes } => {
                    if self.dice.one_in(2) {
                        self.files.insert(id, SimFile::zeros(bytes as usize));
                    }
                }
                Pending::Remove { id } => {
                    if self.dice.one_in(2) {
                        self.remove(id);
                    }
                }
            }
        }
        self.events.clear();
        self.task = None;
        self.dead = None;
        self.power_left = None;
    }

    fn lose_cache(&mut self) {
        for file in self.files.values_mut() {
            let mut after = file.medium.clone();
            for block in std::mem::take(&mut file.dirty) {
                let range = block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES;
                match self.dice.below(4) {
                    0 => after[range.clone()].copy_from_slice(&file.cache[range]),
                    1 => {
                        let torn = tear(&mut self.dice, &file.medium[range.clone()], &file.cache[range.clone()]);
                        after[range].copy_from_slice(&torn);
                    }
                    _ => {}
                }
            }
            file.orphaned.clear();
            file.cache.clone_from(&after);
            file.medium = after;
        }
    }

    fn land(&mut self, id: SegmentId, offset: usize, bytes: &[u8]) {
        if let Some(file) = self.files.get_mut(&id) {
            for (number, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
                file.land(offset / BLOCK_BYTES + number, block);
            }
        }
    }

    fn remove(&mut self, id: SegmentId) {
        if self.files.remove(&id).is_none() {
            return;
        }
        self.marks.insert(id);
        let oldest_live = self
            .files
            .keys()
            .filter(|other| other.stream == id.stream)
            .map(|other| other.number)
            .min();
        let below = |mark: &&SegmentId| mark.stream == id.stream && oldest_live.is_none_or(|live| mark.number < live);
        let newest = self.marks.iter().filter(below).max().copied();
        self.marks.retain(|mark| !below(&mark) || Some(*mark) == newest);
    }

    fn step(&mut self) -> bool {
        if self.pending.is_empty() {
            return false;
        }
        let chosen = self.dice.below(self.pending.len());
        match self.pending.swap_remove(chosen) {
            Pending::Write { write, bytes } => {
                let fails = self.failing.write_one_in > 0 && self.dice.one_in(self.failing.write_one_in);
                if fails {
                    self.land_in_part(write.id, write.offset as usize, &bytes);
                    let error = if self.dice.one_in(2) {
                        io::ErrorKind::WriteZero
                    } else {
                        io::ErrorKind::Other
                    };
                    self.events.push_back(Event::Written {
                        stream: write.id.stream,
                        result: Err(error.into()),
                    });
                } else {
                    self.land(write.id, write.offset as usize, &bytes);
                    self.pending.push(Pending::Sync { id: write.id });
                }
            }
            Pending::Sync { id } => {
                let fails = self.failing.sync_one_in > 0 && self.dice.one_in(self.failing.sync_one_in);
                let file = self
                    .files
                    .get_mut(&id)
                    .expect("a segment that is written is not removed");
                if fails {
                    let dirty = std::mem::take(&mut file.dirty);
                    file.orphaned.extend(dirty);
                } else {
                    file.sync();
                }
                let result = if fails {
                    Err(io::Error::other("fsync failed"))
                } else {
                    Ok(())
                };
                self.events.push_back(Event::Written {
                    stream: id.stream,
                    result,
                });
            }
            Pending::Prepare { id, bytes } => {
                let result = if self.free_bytes < u64::from(bytes) {
                    Err(io::ErrorKind::StorageFull.into())
                } else {
                    self.files.insert(id, SimFile::zeros(bytes as usize));
                    Ok(())
                };
                self.events.push_back(Event::Prepared { id, result });
            }
            Pending::Remove { id } => self.remove(id),
        }
        true
    }

    /// Counts a blocking operation; an error when the power goes with it.
    fn spend_power(&mut self) -> io::Result<()> {
        match &mut self.power_left {
            Some(0) => Err(power_is_off()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// A block whose sectors are partly old, partly new.
fn tear(dice: &mut Dice, old: &[u8], new: &[u8]) -> Vec<u8> {
    let cut = SECTOR_BYTES * (1 + dice.below(BLOCK_BYTES / SECTOR_BYTES - 1));
    let (first, second) = if dice.one_in(2) { (old, new) } else { (new, old) };
    [&first[..cut], &second[cut..]].concat()
}

/// One process's view of the disk.
pub struct SimStorage {
    disk: SimDisk,
    buffers: [BlockBuffer; 3],
}

impl Storage for SimStorage {
    fn survey(&mut self) -> io::Result<Vec<FoundSegment>> {
        let state = self.disk.0.lock();
        let live = state
            .files
            .iter()
            .map(|(id, file)| (*id, file.cache.len() as u64, false));
        let marks = state.marks.iter().map(|id| (*id, 0, true));
        Ok(live
            .chain(marks)
            .map(|(id, bytes, removed)| FoundSegment { id, bytes, removed })
            .collect())
    }

    fn read_blocks(&mut self, id: SegmentId, offset: u32, into: &mut [u8]) -> io::Result<usize> {
        let read = self.disk.read_blocking(id, u64::from(offset), into)?;
        self.disk.0.lock().read_bytes += read as u64;
        Ok(read)
    }

    fn write_synced(&mut self, id: SegmentId, offset: u32, blocks: &BlockBuffer) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        if let Err(error) = state.spend_power() {
            state.land_in_part(id, offset as usize, blocks);
            return Err(error);
        }
        state.land(id, offset as usize, blocks);
        state
            .files
            .get_mut(&id)
            .expect("the journal names a segment it surveyed")
            .sync();
        Ok(())
    }

    fn create(&mut self, id: SegmentId, bytes: u32) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.spend_power()?;
        state.files.insert(id, SimFile::zeros(bytes as usize));
        Ok(())
    }

    fn prepare(&mut self, id: SegmentId, bytes: u32) {
        self.disk.0.lock().begin(Pending::Prepare { id, bytes });
    }

    fn hurry(&mut self) {}

    fn warm(&mut self, _: SegmentId) {}

    fn remove(&mut self, id: SegmentId) {
        self.disk.0.lock().begin(Pending::Remove { id });
    }

    fn buffer(&mut self, stream: u8) -> &mut BlockBuffer {
        &mut self.buffers[usize::from(stream)]
    }

    fn submit(&mut self, writes: &[BatchWrite]) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        for write in writes {
            assert!(write.bytes.is_multiple_of(BLOCK_BYTES) && (write.offset as usize).is_multiple_of(BLOCK_BYTES));
            let file = state.files.get(&write.id).ok_or(io::ErrorKind::NotFound)?;
            assert!(
                write.offset as usize + write.bytes <= file.cache.len(),
                "a batch stays within its segment"
            );
            let bytes = self.buffers[usize::from(write.id.stream)][..write.bytes].to_vec();
            state.begin(Pending::Write { write: *write, bytes });
        }
        Ok(())
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let mut state = self.disk.0.lock();
        state.task = Some(cx.waker().clone());
        state.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    fn free_bytes(&mut self) -> io::Result<u64> {
        Ok(self.disk.0.lock().free_bytes)
    }

    fn now_us(&self) -> u64 {
        self.disk.0.lock().now_us
    }

    fn poll_until(&mut self, deadline_us: u64, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.disk.0.lock();
        if state.now_us >= deadline_us {
            return Poll::Ready(());
        }
        state.task = Some(cx.waker().clone());
        Poll::Pending
    }

    fn die(&mut self, why: &str) {
        self.disk.0.lock().dead = Some(why.to_owned());
    }

    fn reads(&self) -> Arc<dyn SegmentReads> {
        Arc::new(self.disk.clone())
    }
}

impl SegmentReads for SimDisk {
    fn read_cached(&self, id: SegmentId, offset: u64, bytes: usize) -> io::Result<Option<Vec<u8>>> {
        let mut into = vec![0; bytes];
        let read = self.read_blocking(id, offset, &mut into)?;
        into.truncate(read);
        Ok(Some(into))
    }

    fn read_blocking(&self, id: SegmentId, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let state = self.0.lock();
        let file = state.files.get(&id).ok_or(io::ErrorKind::NotFound)?;
        let from = file.cache.get(offset as usize..).unwrap_or_default();
        let bytes = from.len().min(into.len());
        into[..bytes].copy_from_slice(&from[..bytes]);
        Ok(bytes)
    }

    fn read_on_ring(&self, id: SegmentId, offset: u64, bytes: usize) -> RingRead<'_> {
        Box::pin(async move {
            let mut into = vec![0; bytes];
            let read = self.read_blocking(id, offset, &mut into)?;
            into.truncate(read);
            Ok(into)
        })
    }

    fn read_run(&self, id: SegmentId, offset: u64, bytes: usize) -> io::Result<Bytes> {
        let mut into = vec![0; bytes];
        let read = self.read_blocking(id, offset, &mut into)?;
        into.truncate(read);
        Ok(into.into())
    }

    fn forget(&self, _id: SegmentId) {}
}
