//! Opening: finds the durable tail of each stream, tells a torn tail from corruption, and makes the tail durable again.
//!
//! It blocks the thread: nothing is served before it is through. It never looks at what lies below the caller's
//! watermarks except for the carried records, and so takes as long as what a checkpoint has not yet taken over.
//!
//! The rule: a stream ends where the next batch in the chain cannot be read. Every sound header, wherever one is met,
//! says what was durable before it; a stream that ends before the furthest of these, or before the caller's watermark,
//! is corrupt. Otherwise the end is a torn tail: it was never acknowledged, and is cut off.

use super::format::{
    BatchKind, BatchWriter, HEADER_BYTES, Header, Identity, Mismatch, Place, VERSION, blocks, for_each_record,
    segment_crc,
};
use super::planted::{Bug, planted};
use super::{OpenError, Position, RecordKey, Replay, Stream, Watermarks};
use crate::ring::storage::{BLOCK_BYTES, BlockBuffer, SegmentId, Storage};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// The sizes a journal works with; fixed in production, small in the simulation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Largest batch.
    pub(super) batch_bytes_max: u32,
    /// The carried records are repeated after this many bytes of a segment, so that opening never reads more than this
    /// below a watermark.
    pub(super) carry_bytes: u32,
    /// First segment of a new stream; each further one is four times as large, up to `segment_bytes`.
    pub(super) first_segment_bytes: u32,
    /// Size of a segment by stream.
    pub(super) segment_bytes: [u32; 3],
}

impl Sizes {
    /// Size of the segment that follows one of `bytes`.
    pub(super) fn next_segment_bytes(&self, stream: Stream, bytes: u32) -> u32 {
        bytes
            .saturating_mul(4)
            .clamp(self.first_segment_bytes, self.segment_bytes[stream.index()])
    }
}

/// The writing end of one stream.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) stream: Stream,
    /// Where the next batch goes.
    pub(super) place: Place,
    /// Bytes of the segment's file, whole blocks.
    pub(super) capacity: u32,
    /// Number of the next batch.
    pub(super) sequence: u64,
    /// Header checksum of the last batch.
    pub(super) previous_crc: u32,
    /// Newest carry point in this segment.
    pub(super) carry_offset: u32,
    /// The last batch is a seal, or there is none.
    pub(super) sealed: bool,
    /// The newest record of each carried kind.
    pub(super) carried: BTreeMap<u8, (RecordKey, Bytes)>,
    /// A segment of zeros that is ready: number and bytes.
    pub(super) spare: Option<(u32, u32)>,
    /// Segments and where their batches end, as far as known.
    pub(super) segments: BTreeMap<u32, u32>,
}

/// What opening gives.
pub(super) struct Recovered {
    pub(super) identity: Identity,
    pub(super) tails: [Tail; 3],
    /// Bytes of torn tails that were cut off, by stream.
    pub(super) cut_off_bytes: [u32; 3],
}

/// What the folder of one stream holds.
#[derive(Default)]
struct Inventory {
    live: BTreeMap<u32, u32>,
    removed: BTreeSet<u32>,
}

impl Inventory {
    /// Whether the absence of `number` is as it should be.
    fn rightly_absent(&self, number: u32) -> bool {
        let oldest_mark = self.removed.first().copied();
        let oldest_live = self.live.keys().next().copied();
        let below_marks = oldest_mark.is_some_and(|mark| number < mark && oldest_live.is_none_or(|live| mark < live));
        self.removed.contains(&number) || below_marks || planted(Bug::LostIsRemoved)
    }
}

fn corrupt(stream: Stream, place: Place, what: impl Into<String>) -> OpenError {
    OpenError::Corrupt {
        stream,
        segment: place.0,
        offset: place.1,
        what: what.into(),
    }
}

/// Reads segments in large pieces.
struct Window {
    segment: SegmentId,
    start: u32,
    bytes: Vec<u8>,
    piece_bytes: usize,
}

impl Window {
    fn new(piece_bytes: usize) -> Window {
        Window {
            segment: SegmentId { stream: 0, number: 0 },
            start: 0,
            bytes: Vec::new(),
            piece_bytes,
        }
    }

    /// At least `wanted` bytes from `offset`, fewer at the end of the file.
    fn at<S: Storage>(
        &mut self,
        storage: &mut S,
        segment: SegmentId,
        offset: u32,
        wanted: usize,
    ) -> std::io::Result<&[u8]> {
        let have = self.segment == segment
            && offset >= self.start
            && (offset - self.start) as usize + wanted <= self.bytes.len();
        if !have {
            self.bytes.resize(self.piece_bytes.max(wanted), 0);
            let read = storage.read_blocks(segment, offset, &mut self.bytes)?;
            self.bytes.truncate(read);
            self.segment = segment;
            self.start = offset;
        }
        Ok(&self.bytes[(offset - self.start) as usize..])
    }
}

/// A batch in its place, whole and following from the last one.
struct SoundBatch {
    header: Header,
    crc: u32,
    /// Header and records, whole blocks.
    bytes: Vec<u8>,
}

/// The state of one stream's scan.
struct Scan<'s, S: Storage> {
    storage: &'s mut S,
    identity: Identity,
    stream: Stream,
    batch_bytes_max: u32,
    inventory: Inventory,
    window: Window,
    /// Number and previous checksum that the next batch must have; `None` where a chain starts.
    expected: Option<(u64, u32)>,
    place: Place,
    /// Records from here on are replayed.
    replay_from: Place,
    carried: BTreeMap<u8, (RecordKey, Position, Bytes)>,
    carry_offset: u32,
    last: Option<(Header, Vec<u8>)>,
    /// The furthest that any header says was durable, by stream.
    durable: [Place; 3],
    ends: BTreeMap<u32, u32>,
}

impl<S: Storage> Scan<'_, S> {
    fn id(&self, segment: u32) -> SegmentId {
        SegmentId {
            stream: self.stream.number(),
            number: segment,
        }
    }

    fn learn(&mut self, header: &Header) {
        for (known, said) in self.durable.iter_mut().zip(header.durable) {
            *known = (*known).max(said);
        }
    }

    /// The whole batch at `place`, if it is sound and follows from the last one.
    fn batch_at(&mut self, place: Place) -> Result<Result<SoundBatch, String>, OpenError> {
        let Some(&capacity) = self.inventory.live.get(&place.0) else {
            return Ok(Err("no segment".into()));
        };
        if place.1.saturating_add(BLOCK_BYTES as u32) > capacity {
            return Ok(Err("the end of the segment".into()));
        }
        let (id, stream, identity) = (self.id(place.0), self.stream, self.identity);
        let head = self.window.at(self.storage, id, place.1, BLOCK_BYTES)?;
        let (header, crc) = match Header::decode_at(head, identity, stream, place) {
            Ok(sound) => sound,
            Err(Mismatch::Newer(found)) => {
                return Err(OpenError::Newer {
                    stream,
                    segment: place.0,
                    found,
                    known: VERSION,
                });
            }
            Err(Mismatch::NoHeader) => return Ok(Err("no batch header".into())),
            Err(Mismatch::Foreign(what)) => return Ok(Err(what.into())),
        };
        if header.capacity > capacity && !planted(Bug::CorruptionIsATornTail) {
            return Err(corrupt(stream, place, "the file is shorter than it was made"));
        }
        if header.bytes > self.batch_bytes_max.max(capacity) {
            return Ok(Err("a batch longer than its segment".into()));
        }
        let follows = self
            .expected
            .is_none_or(|(sequence, previous_crc)| header.sequence == sequence && header.previous_crc == previous_crc);
        if !follows && !planted(Bug::IgnoreChain) {
            return Ok(Err("a batch that does not follow from the one before".into()));
        }
        let batch = self
            .window
            .at(self.storage, id, place.1, header.disk_bytes() as usize)?;
        if !header.matches_records(batch) {
            return Ok(Err("a batch whose checksum does not match".into()));
        }
        let mut batch = batch[..batch.len().min(header.disk_bytes() as usize)].to_vec();
        batch.resize(header.disk_bytes() as usize, 0);
        Ok(Ok(SoundBatch {
            header,
            crc,
            bytes: batch,
        }))
    }

    /// Where scanning starts for a watermark: the carry point of the batch that ends there.
    fn seek(&mut self, watermark: Place) -> Result<(), OpenError> {
        let reach = watermark.1.min(self.batch_bytes_max);
        let id = self.id(watermark.0);
        let start = watermark.1 - reach;
        let bytes = self.window.at(self.storage, id, start, reach as usize)?.to_vec();
        let mut offset = watermark.1;
        while offset > start {
            offset -= BLOCK_BYTES as u32;
            let Some(block) = bytes.get((offset - start) as usize..) else {
                continue;
            };
            if let Ok((header, _)) = Header::decode_at(block, self.identity, self.stream, (watermark.0, offset))
                && header.end() == watermark
            {
                self.place = (watermark.0, header.carry_offset.min(offset));
                return Ok(());
            }
        }
        Err(corrupt(
            self.stream,
            watermark,
            "the batch before the last checkpoint's position is damaged or missing",
        ))
    }

    /// Takes over batch after batch up to the tail.
    fn run(&mut self, replay: &mut dyn FnMut(Stream, RecordKey, Position, Bytes)) -> Result<(), OpenError> {
        let mut carried_told = self.place >= self.replay_from;
        loop {
            if !carried_told && self.place >= self.replay_from {
                carried_told = true;
                for (key, position, payload) in self.carried.values() {
                    replay(self.stream, *key, *position, payload.clone());
                }
            }
            match self.batch_at(self.place)? {
                Ok(sound) => self.take(sound, replay)?,
                Err(what) => {
                    if self.place < self.replay_from {
                        return Err(corrupt(self.stream, self.place, what));
                    }
                    if !self.next_segment()? {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn take(
        &mut self,
        sound: SoundBatch,
        replay: &mut dyn FnMut(Stream, RecordKey, Position, Bytes),
    ) -> Result<(), OpenError> {
        let SoundBatch {
            header,
            crc,
            bytes: batch,
        } = sound;
        self.learn(&header);
        let replayed = self.place >= self.replay_from;
        let (stream, place) = (self.stream, self.place);
        let carried = &mut self.carried;
        for_each_record(&header, &batch, |record, offset, payload| {
            if !replayed && record.key.kind < 0x80 {
                return;
            }
            let position = Position {
                segment: place.0,
                offset,
                bytes: record.bytes,
            };
            let payload = Bytes::copy_from_slice(payload);
            if record.key.kind >= 0x80 {
                carried.insert(record.key.kind, (record.key, position, payload.clone()));
            }
            if replayed {
                replay(stream, record.key, position, payload);
            }
        })
        .map_err(|what| corrupt(stream, place, what))?;
        self.expected = Some((header.sequence + 1, crc));
        self.carry_offset = header.carry_offset;
        // Under a planted bug the header's own place may be another one.
        self.place = (place.0, place.1 + header.disk_bytes());
        self.ends.insert(self.place.0, self.place.1);
        self.last = Some((Header { place, ..header }, batch));
        Ok(())
    }

    /// Goes on at the head of the next segment if the chain does.
    fn next_segment(&mut self) -> Result<bool, OpenError> {
        let Some((&next, _)) = self.inventory.live.range(self.place.0 + 1..).next() else {
            return Ok(false);
        };
        let missing = (self.place.0 + 1..next).find(|number| !self.inventory.rightly_absent(*number));
        if let Some(number) = missing {
            return Err(corrupt(self.stream, (number, 0), "the segment is missing"));
        }
        let expected = self.expected;
        if next > self.place.0 + 1 {
            // The segments between were removed on purpose, and the chain's link with them.
            self.expected = None;
        }
        match self.batch_at((next, 0))? {
            Ok(_) => {
                self.place = (next, 0);
                Ok(true)
            }
            Err(_) => {
                self.expected = expected;
                Ok(false)
            }
        }
    }

    /// Looks for sound headers behind the tail: each says what was durable before it. Returns the places behind the
    /// tail that are not zero, to be cleaned.
    fn look_behind(&mut self) -> Result<Vec<(Place, u32)>, OpenError> {
        let mut dirty = Vec::new();
        let segments: Vec<(u32, u32)> = self
            .inventory
            .live
            .range(self.place.0..)
            .map(|(n, c)| (*n, *c))
            .collect();
        for (segment, capacity) in segments {
            let mut offset = if segment == self.place.0 { self.place.1 } else { 0 };
            let mut zeros = 0;
            let mut first_dirty = None;
            let mut last_dirty = 0;
            while offset < capacity && zeros < self.batch_bytes_max {
                let id = self.id(segment);
                let (stream, identity) = (self.stream, self.identity);
                let block = self.window.at(self.storage, id, offset, BLOCK_BYTES)?;
                let block = &block[..block.len().min(BLOCK_BYTES)];
                if block.is_empty() {
                    break;
                }
                if block.iter().all(|byte| *byte == 0) {
                    zeros += BLOCK_BYTES as u32;
                } else {
                    zeros = 0;
                    first_dirty.get_or_insert(offset);
                    last_dirty = offset + BLOCK_BYTES as u32;
                    if let Ok((header, _)) = Header::decode_at(block, identity, stream, (segment, offset)) {
                        self.learn(&header);
                    }
                }
                offset += BLOCK_BYTES as u32;
            }
            if let Some(first) = first_dirty {
                dirty.push(((segment, first), last_dirty.min(capacity) - first));
            }
        }
        Ok(dirty)
    }
}

/// The identity of the journal on disk; a new one when nothing on disk names one.
fn find_identity<S: Storage>(
    storage: &mut S,
    inventories: &[Inventory; 3],
    node: u64,
    fresh: u128,
) -> Result<Identity, OpenError> {
    let mut found: Option<Identity> = None;
    let mut block = vec![0; BLOCK_BYTES];
    for stream in Stream::ALL {
        for &number in inventories[stream.index()].live.keys().rev() {
            let id = SegmentId {
                stream: stream.number(),
                number,
            };
            let read = storage.read_blocks(id, 0, &mut block)?;
            match Header::decode(&block[..read]) {
                Ok((header, _)) => {
                    if header.identity.node != node {
                        let what = format!("written by node {}, this is node {node}", header.identity.node);
                        return Err(corrupt(stream, (number, 0), what));
                    }
                    if found.is_some_and(|other| other != header.identity) {
                        return Err(corrupt(
                            stream,
                            (number, 0),
                            "written by another journal than its neighbours",
                        ));
                    }
                    found = Some(header.identity);
                    break;
                }
                Err(Mismatch::Newer(version)) => {
                    return Err(OpenError::Newer {
                        stream,
                        segment: number,
                        found: version,
                        known: VERSION,
                    });
                }
                Err(Mismatch::NoHeader | Mismatch::Foreign(_)) => {}
            }
        }
    }
    Ok(found.unwrap_or(Identity { node, journal: fresh }))
}

fn take_inventory<S: Storage>(storage: &mut S, sizes: &Sizes) -> Result<[Inventory; 3], OpenError> {
    let mut inventories: [Inventory; 3] = Default::default();
    for segment in storage.survey()? {
        let inventory = &mut inventories[usize::from(segment.id.stream)];
        if segment.removed {
            inventory.removed.insert(segment.id.number);
        } else {
            let whole = segment.bytes.min(u64::from(u32::MAX)) as u32 / BLOCK_BYTES as u32 * BLOCK_BYTES as u32;
            if whole < sizes.first_segment_bytes {
                let stream = Stream::ALL[usize::from(segment.id.stream)];
                return Err(corrupt(
                    stream,
                    (segment.id.number, whole),
                    "the file is shorter than any segment is made",
                ));
            }
            inventory.live.insert(segment.id.number, whole);
        }
    }
    Ok(inventories)
}

/// Where the scan of a stream begins: the place, and from where on records are replayed.
fn starting_place(stream: Stream, inventory: &Inventory, watermark: Place) -> Result<(Place, Place), OpenError> {
    let (Some((&first, _)), Some((&last, _))) = (inventory.live.first_key_value(), inventory.live.last_key_value())
    else {
        return Err(corrupt(stream, watermark, "every segment is missing"));
    };
    if watermark == (0, 0) {
        return match first {
            1 => Ok(((first, 0), (first, 0))),
            _ if inventory.rightly_absent(first - 1) => Ok(((first, 0), (first, 0))),
            _ => Err(corrupt(stream, (first - 1, 0), "the segment is missing")),
        };
    }
    if watermark.0 > last {
        return Err(corrupt(
            stream,
            watermark,
            "the segment of the last checkpoint's position is missing",
        ));
    }
    if inventory.live.contains_key(&watermark.0) {
        return Ok((watermark, watermark));
    }
    if !inventory.rightly_absent(watermark.0) {
        return Err(corrupt(
            stream,
            watermark,
            "the segment of the last checkpoint's position is missing",
        ));
    }
    let (&next, _) = inventory
        .live
        .range(watermark.0..)
        .next()
        .expect("the last one is not before the watermark");
    Ok(((next, 0), (next, 0)))
}

/// What the scan of one stream found, before the streams are held against each other.
struct Scanned {
    tail: Tail,
    last: Option<Vec<u8>>,
    last_place: Place,
    dirty: Vec<(Place, u32)>,
    durable: [Place; 3],
}

fn scan_stream<S: Storage>(
    storage: &mut S,
    identity: Identity,
    stream: Stream,
    inventory: Inventory,
    sizes: &Sizes,
    watermark: Place,
    replay: &mut dyn FnMut(Stream, RecordKey, Position, Bytes),
) -> Result<Scanned, OpenError> {
    let (place, replay_from) = starting_place(stream, &inventory, watermark)?;
    let mut ends: BTreeMap<u32, u32> = inventory.live.clone();
    let mut scan = Scan {
        storage,
        identity,
        stream,
        batch_bytes_max: sizes.batch_bytes_max,
        inventory,
        window: Window::new(sizes.batch_bytes_max as usize),
        expected: None,
        place,
        replay_from,
        carried: BTreeMap::new(),
        carry_offset: 0,
        last: None,
        durable: [(0, 0); 3],
        ends: BTreeMap::new(),
    };
    if place == (1, 0) {
        scan.expected = Some((1, 0));
    }
    if place.1 > 0 {
        scan.seek(place)?;
    }
    scan.run(replay)?;
    let dirty = scan.look_behind()?;
    let place = scan.place;
    let spare = scan
        .inventory
        .live
        .range(place.0 + 1..)
        .next()
        .map(|(number, bytes)| (*number, *bytes));
    ends.extend(scan.ends.iter().map(|(number, end)| (*number, *end)));
    ends.retain(|number, _| *number <= place.0);
    ends.insert(place.0, place.1);
    let (sequence, previous_crc) = scan.expected.unwrap_or((1, 0));
    let tail = Tail {
        stream,
        place,
        capacity: scan.inventory.live.get(&place.0).copied().unwrap_or(0),
        sequence,
        previous_crc,
        carry_offset: scan.carry_offset,
        sealed: scan
            .last
            .as_ref()
            .is_some_and(|(header, _)| header.kind == BatchKind::Seal),
        carried: scan
            .carried
            .into_iter()
            .map(|(kind, (key, _, payload))| (kind, (key, payload)))
            .collect(),
        spare,
        segments: ends,
    };
    let last_place = scan.last.as_ref().map_or((0, 0), |(header, _)| header.place);
    Ok(Scanned {
        tail,
        last: scan.last.map(|(_, batch)| batch),
        last_place,
        dirty,
        durable: scan.durable,
    })
}

/// Opens the journal on `storage`. `fresh` is the identity of a journal that does not exist yet.
pub(super) fn recover<S: Storage>(
    storage: &mut S,
    node: u64,
    fresh: u128,
    sizes: &Sizes,
    watermarks: Watermarks,
    replay: Replay<'_>,
) -> Result<Recovered, OpenError> {
    let mut inventories = take_inventory(storage, sizes)?;
    let identity = find_identity(storage, &inventories, node, fresh)?;
    let mut created = false;
    for stream in Stream::ALL {
        let inventory = &mut inventories[stream.index()];
        let never_written = inventory.live.is_empty() && inventory.removed.is_empty();
        if never_written && watermarks.from[stream.index()] == (0, 0) {
            let bytes = sizes.first_segment_bytes;
            storage.create(
                SegmentId {
                    stream: stream.number(),
                    number: 1,
                },
                bytes,
            )?;
            inventory.live.insert(1, bytes);
            created = true;
        }
    }
    if created {
        tracing::info!("a stream of the journal was made");
    }
    let [log, bodies, audit] = inventories;
    let mut scanned = Vec::with_capacity(3);
    for (stream, inventory) in Stream::ALL.into_iter().zip([log, bodies, audit]) {
        let watermark = watermarks.from[stream.index()];
        scanned.push(scan_stream(
            storage,
            identity,
            stream,
            inventory,
            sizes,
            watermark,
            &mut *replay,
        )?);
    }
    for stream in Stream::ALL {
        let said = scanned
            .iter()
            .map(|other| other.durable[stream.index()])
            .max()
            .unwrap_or((0, 0));
        let known = said.max(watermarks.from[stream.index()]);
        let end = scanned[stream.index()].tail.place;
        if end < known && !planted(Bug::CorruptionIsATornTail) {
            let what = format!(
                "damaged, though everything up to segment {} byte {} was durable",
                known.0, known.1
            );
            return Err(corrupt(stream, end, what));
        }
    }
    let cut_off_bytes = std::array::from_fn(|stream| scanned[stream].dirty.iter().map(|(_, bytes)| bytes).sum());
    let tails = scanned
        .into_iter()
        .map(|one| make_durable(storage, identity, one))
        .collect::<Result<Vec<Tail>, OpenError>>()?;
    let mut tails: [Tail; 3] = tails.try_into().expect("one for each stream");
    seal(storage, identity, &mut tails)?;
    Ok(Recovered {
        identity,
        tails,
        cut_off_bytes,
    })
}

/// Rewrites the last batch, which may have been read from a cache and not from the disk, and cleans what is behind it.
fn make_durable<S: Storage>(storage: &mut S, identity: Identity, scanned: Scanned) -> Result<Tail, OpenError> {
    let Scanned {
        tail,
        last,
        last_place,
        dirty,
        durable: _,
    } = scanned;
    let stream = tail.stream.number();
    if let Some(batch) = last
        && !planted(Bug::TailNotRewritten)
    {
        let id = SegmentId {
            stream,
            number: last_place.0,
        };
        storage.write_synced(id, last_place.1, &BlockBuffer::holding(&batch))?;
    }
    for ((segment, offset), bytes) in dirty {
        tracing::warn!(
            stream = ?tail.stream, segment, offset, bytes, node = identity.node,
            "cut off a torn tail that was never acknowledged"
        );
        storage.write_synced(
            SegmentId {
                stream,
                number: segment,
            },
            offset,
            &BlockBuffer::new(bytes as usize),
        )?;
    }
    Ok(tail)
}

/// Seals every stream that does not end in a seal, so that damage below is told from a torn tail from here on.
fn seal<S: Storage>(storage: &mut S, identity: Identity, tails: &mut [Tail; 3]) -> Result<(), OpenError> {
    let durable = [tails[0].place, tails[1].place, tails[2].place];
    for tail in tails {
        if tail.sealed || tail.place.1 + BLOCK_BYTES as u32 > tail.capacity {
            continue;
        }
        let mut block = BlockBuffer::new(BLOCK_BYTES);
        let (header, crc) = seal_batch(tail, identity, durable, &mut block);
        storage.write_synced(
            SegmentId {
                stream: tail.stream.number(),
                number: tail.place.0,
            },
            tail.place.1,
            &block,
        )?;
        tail.advance(&header, crc);
    }
    Ok(())
}

/// Lays a seal for the end of `tail` into `block`.
pub(super) fn seal_batch(tail: &Tail, identity: Identity, durable: [Place; 3], block: &mut [u8]) -> (Header, u32) {
    let crc = segment_crc(identity, tail.stream, tail.place.0);
    let writer = BatchWriter::new(&mut block[..BLOCK_BYTES], crc, tail.place.1);
    writer.finish(tail.header(BatchKind::Seal, identity, durable, tail.carry_offset))
}

impl Tail {
    /// The header of the next batch, without what its records say.
    pub(super) fn header(&self, kind: BatchKind, identity: Identity, durable: [Place; 3], carry_offset: u32) -> Header {
        Header {
            kind,
            stream: self.stream,
            identity,
            place: self.place,
            bytes: HEADER_BYTES as u32,
            records: 0,
            sequence: self.sequence,
            previous_crc: self.previous_crc,
            carry_offset,
            durable,
            first: super::format::NO_KEY,
            capacity: self.capacity,
            records_crc: 0,
        }
    }

    /// Takes over a batch that is durable now.
    pub(super) fn advance(&mut self, header: &Header, crc: u32) {
        assert_eq!(header.place, self.place, "one batch in flight");
        self.place.1 += blocks(header.bytes as usize) as u32;
        self.sequence += 1;
        self.previous_crc = crc;
        self.carry_offset = header.carry_offset;
        self.sealed = header.kind == BatchKind::Seal;
        self.segments.insert(self.place.0, self.place.1);
    }
}
