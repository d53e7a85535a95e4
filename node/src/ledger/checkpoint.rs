//! Checkpoints: freeze the overlay, store it in one synced LMDB transaction, let the layer go. Also copies and installs,
//! which hold the same lock.

use super::merge::Direction;
use super::overlay::{Layer, TableLayer};
use super::store::{
    Db, KEY_CHECKPOINT, LedgerError, META, Record, SEAL_BYTES, Slots, Store, end, generation_folder, seal, sealed,
    sync_folder, table_key,
};
use super::view::{Base, Shared, View, Writing, opened};
use super::{DERIVED_TABLES_FROM, LOCAL_TABLES_FROM, Opened, Table};
use crate::base::{LogIndex, Timestamp, direct};
use crate::journal::Watermarks;
use heed::{CompactionOption, RwTxn};
use parking_lot::RwLock;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A checkpoint shares the disk and the page cache with the journal: it takes keys over at this rate at most.
const BYTES_PER_SECOND_MAX: u64 = 128 << 20;
/// The rate is looked at after this many bytes.
const PACE_BYTES: u64 = 1 << 20;
/// How long a checkpoint waits for the log to cover what it committed.
const FREEZE_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long a frozen layer waits for its last reader, so that it is freed here and not on a reactor.
const RELEASE_WAIT_MAX: Duration = Duration::from_millis(500);
/// Local entries carried over by an install in one transaction.
const INSTALL_BATCH_BYTES: usize = 16 << 20;
/// Names the generation in use.
const CURRENT: &str = "CURRENT";

impl Shared {
    pub fn applied(&self, position: (u64, u64, LogIndex), at: Timestamp, local: Option<(Table, &[u8], &[u8])>) {
        let mut writing = self.writing.lock();
        if let Some((table, key, value)) = local {
            let view = self.view.load();
            view.active.write().write(table, key.into(), Some(value.into()));
        }
        writing.applied = Some(position);
        writing.at = at;
        writing.uncovered = false;
        if let Some(watermarks) = writing.freeze_wanted.take() {
            self.freeze(&mut writing, watermarks);
            self.frozen.notify_all();
        }
    }

    pub fn checkpoint(&self, watermarks: Watermarks) -> io::Result<()> {
        let _alone = self.one_at_a_time.lock();
        let left_over = self.writing.lock().frozen.is_some();
        if left_over {
            // An earlier one found the disk full. Its layer is stored first, with the position that it has.
            self.land()?;
        }
        self.freeze_or_wait(watermarks)?;
        self.land()
    }

    fn freeze_or_wait(&self, watermarks: Watermarks) -> io::Result<()> {
        let mut writing = self.writing.lock();
        if !writing.uncovered {
            self.freeze(&mut writing, watermarks);
            return Ok(());
        }
        writing.freeze_wanted = Some(watermarks);
        let deadline = Instant::now() + FREEZE_WAIT_MAX;
        while writing.freeze_wanted.is_some() {
            if self.frozen.wait_until(&mut writing, deadline).timed_out() && writing.freeze_wanted.take().is_some() {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "a committed command was never noted as applied",
                ));
            }
        }
        Ok(())
    }

    /// Exchanges the active layer for an empty one. The caller holds the writing side, and everything is covered.
    fn freeze(&self, writing: &mut Writing, watermarks: Watermarks) {
        assert!(
            !writing.uncovered && writing.frozen.is_none(),
            "the overlay was frozen out of turn"
        );
        let view = self.view.load_full();
        writing.freezes += 1;
        writing.frozen = Some(Record {
            number: writing.freezes,
            applied: writing.applied,
            at: writing.at,
            watermarks,
        });
        self.view.store(Arc::new(View {
            active: Arc::default(),
            frozen: Some(view.active.clone()),
            base: view.base.clone(),
        }));
    }

    /// Stores the frozen layer and lets it go.
    fn land(&self) -> io::Result<()> {
        let view = self.view.load_full();
        let record = self.writing.lock().frozen.expect("a layer was frozen before");
        let frozen = view.frozen.clone().expect("a layer was frozen before");
        let slots = match view.base.store.store(&frozen.read(), &record, &view.base.slots) {
            Ok(slots) => slots,
            Err(error @ (LedgerError::Full | LedgerError::Tables { .. })) => return Err(error.into()),
            // What a failed write or sync left in the page cache is unknown; it is never tried again over it.
            Err(error) => end(&format!("the ledger's checkpoint failed: {error}")),
        };
        let base = Arc::new(Base::new(view.base.store.clone(), slots, record));
        drop(view);
        {
            let mut writing = self.writing.lock();
            writing.frozen = None;
            let active = self.view.load().active.clone();
            self.view.store(Arc::new(View {
                active,
                frozen: None,
                base,
            }));
        }
        release(frozen);
        Ok(())
    }

    pub fn copy(&self, to: &Path) -> io::Result<()> {
        let _alone = self.one_at_a_time.lock();
        let store = self.view.load().base.store.clone();
        // LMDB writes whole pages out of memory that begins with one.
        drop(File::create_new(to)?);
        let mut file = direct::open(File::options().write(true), to)?;
        let mut copied = store.env.copy_to_file(&mut file, CompactionOption::Enabled);
        if let Err(heed::Error::Mdb(error)) = &copied {
            // LMDB leaves out free pages only when it can account for every page.
            tracing::warn!(%error, "copying the ledger with its free pages");
            file.set_len(0)?;
            file.rewind()?;
            copied = store.env.copy_to_file(&mut file, CompactionOption::Disabled);
        }
        if let Err(error) = copied {
            std::fs::remove_file(to)?;
            return Err(LedgerError::from(error).into());
        }
        Ok(())
    }

    pub fn install(&self, from: &Path, moves: bool) -> io::Result<Opened> {
        let _alone = self.one_at_a_time.lock();
        // Held to the end: what other threads write to local tables meanwhile would be lost with the old view.
        let mut writing = self.writing.lock();
        assert!(
            writing.freeze_wanted.is_none(),
            "a checkpoint waits while this thread installs"
        );
        let generation = current_generation(&self.folder)? + 1;
        let folder = generation_folder(&self.folder, generation);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        let installed = self.fill((from, moves), &folder, writing.freezes + 1);
        let (store, slots, record) = match installed {
            Ok(installed) => installed,
            Err(error) => {
                std::fs::remove_dir_all(&folder)?;
                return Err(error.into());
            }
        };
        set_generation(&self.folder, generation)?;
        writing.applied = record.applied;
        writing.at = record.at;
        writing.uncovered = false;
        writing.frozen = None;
        writing.freezes = record.number;
        let base = Arc::new(Base::new(Arc::new(store), slots, record));
        self.view.store(Arc::new(View {
            active: Arc::default(),
            frozen: None,
            base,
        }));
        self.generation.store(generation, Ordering::Release);
        // Readers that are still in the old one keep its file open until they are through.
        std::fs::remove_dir_all(generation_folder(&self.folder, generation - 1))?;
        Ok(opened(&record))
    }

    /// Makes a store in `folder` out of the copy, with this node's local tables in place of those in it.
    fn fill(
        &self,
        (from, moves): (&Path, bool),
        folder: &Path,
        number: u64,
    ) -> Result<(Store, Slots, Record), LedgerError> {
        let data = folder.join("data.mdb");
        if moves {
            std::fs::rename(from, &data)?;
        } else {
            std::fs::copy(from, &data)?;
        }
        File::open(&data)?.sync_all()?;
        let (store, theirs, mut slots) = Store::open(folder, self.map_bytes_max)?;
        let watermarks = self.view.load().base.record.watermarks;
        let record = Record {
            number,
            applied: theirs.applied,
            at: theirs.at,
            watermarks,
        };
        let replaced = LOCAL_TABLES_FROM..DERIVED_TABLES_FROM;
        let mut batch = Layer::default();
        for table in slots.keys().filter(|table| replaced.contains(&table.id)) {
            batch.drop_table(*table);
        }
        let mut failed = None;
        for id in replaced {
            for period in self.periods(None, id) {
                let table = Table::of_period(id, period);
                let all = (Bound::Unbounded, Bound::Unbounded);
                self.scan(None, Direction::Up, table, all, &mut |key, value| {
                    batch.write(table, key.into(), Some(value.into()));
                    if batch.bytes() < INSTALL_BATCH_BYTES {
                        return true;
                    }
                    match store.store(&std::mem::take(&mut batch), &record, &slots) {
                        Ok(stored) => slots = stored,
                        Err(error) => failed = Some(error),
                    }
                    failed.is_none()
                });
                if let Some(error) = failed {
                    return Err(error);
                }
            }
        }
        let slots = store.store(&batch, &record, &slots)?;
        sync_folder(folder)?;
        Ok((store, slots, record))
    }
}

impl Store {
    /// One synced transaction with all of `layer` and `record`; gives where the tables are from then on.
    fn store(&self, layer: &Layer, record: &Record, slots: &Slots) -> Result<Slots, LedgerError> {
        self.try_store(layer, record, slots)
            .map_err(|error| self.full_or(error))
    }

    fn try_store(&self, layer: &Layer, record: &Record, slots: &Slots) -> Result<Slots, LedgerError> {
        let mut free: Vec<u16> = self.free_slots(layer, slots)?;
        let mut slots = slots.clone();
        let mut txn = self.env.write_txn()?;
        let mut pace = Pace::new();
        for (table, writes) in layer.tables() {
            let held = slots.get(&table).copied();
            if writes.dropped
                && let Some((_, db)) = held
            {
                db.clear(&mut txn)?;
            }
            let slot = match held {
                Some((_, db)) if !writes.dropped || writes.created => Some((db, writes.dropped)),
                Some(_) => {
                    self.meta.delete(&mut txn, &table_key(table))?;
                    slots.remove(&table);
                    None
                }
                None if writes.created => {
                    let slot = free.pop().expect("as many slots were made as tables are new");
                    let db = self.handles.lock()[usize::from(slot)];
                    let key = table_key(table);
                    self.meta
                        .put(&mut txn, &key, &sealed(META, &key, &slot.to_le_bytes()))?;
                    slots.insert(table, (slot, db));
                    Some((db, true))
                }
                None => None,
            };
            if let Some((db, empty)) = slot {
                store_table(&mut txn, table, &db, empty, writes, &mut pace)?;
            }
        }
        let note = postcard::to_stdvec(record).expect("a record of plain numbers encodes");
        self.meta
            .put(&mut txn, KEY_CHECKPOINT, &sealed(META, KEY_CHECKPOINT, &note))?;
        txn.commit()?;
        Ok(slots)
    }

    /// Slots that hold nothing, as many as `layer` needs for new tables.
    fn free_slots(&self, layer: &Layer, slots: &Slots) -> Result<Vec<u16>, LedgerError> {
        let new = layer
            .tables()
            .filter(|(table, writes)| writes.created && !slots.contains_key(table))
            .count();
        self.make_slots(slots.len() + new)?;
        let mut taken = vec![false; self.handles.lock().len()];
        for (slot, _) in slots.values() {
            taken[usize::from(*slot)] = true;
        }
        let free = taken
            .iter()
            .enumerate()
            .filter(|(_, taken)| !**taken)
            .map(|(slot, _)| slot as u16);
        Ok(free.collect())
    }
}

fn store_table(
    txn: &mut RwTxn<'_>,
    table: Table,
    db: &Db,
    empty: bool,
    writes: &TableLayer,
    pace: &mut Pace,
) -> Result<(), LedgerError> {
    for (key, value) in &writes.keys {
        match value {
            Some(value) => {
                let crc = seal(table, key, value);
                db.put_reserved(txn, key, SEAL_BYTES + value.len(), |space| {
                    space.write_all(&crc)?;
                    space.write_all(value)
                })?;
                pace.took(key.len() + value.len());
            }
            None if empty => {}
            None => {
                db.delete(txn, key)?;
                pace.took(key.len());
            }
        }
    }
    Ok(())
}

/// Keeps a checkpoint to its rate.
struct Pace {
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn new() -> Pace {
        Pace {
            since: Instant::now(),
            bytes: 0,
        }
    }

    fn took(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.bytes < PACE_BYTES {
            return;
        }
        let due = Duration::from_micros(self.bytes * 1_000_000 / BYTES_PER_SECOND_MAX);
        std::thread::sleep(due.saturating_sub(self.since.elapsed()));
        *self = Pace::new();
    }
}

/// Frees a layer here, on the blocking pool, and not on the reactor that happens to be its last reader.
fn release(layer: Arc<RwLock<Layer>>) {
    let deadline = Instant::now() + RELEASE_WAIT_MAX;
    while Arc::strong_count(&layer) > 1 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The generation in use; makes the first. Removes what an interrupted install left.
pub(super) fn current_generation(folder: &Path) -> io::Result<u64> {
    std::fs::create_dir_all(folder)?;
    let generation = match std::fs::read_to_string(folder.join(CURRENT)) {
        Ok(text) => text.trim().parse().map_err(|_| LedgerError::Damaged {
            what: "CURRENT holds no number",
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            set_generation(folder, 1)?;
            1
        }
        Err(error) => return Err(error),
    };
    let used = generation_folder(folder, generation);
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && path != used {
            std::fs::remove_dir_all(path)?;
        }
    }
    Ok(generation)
}

fn set_generation(folder: &Path, generation: u64) -> io::Result<()> {
    sync_folder(folder)?;
    let new = folder.join("CURRENT.new");
    let mut file = File::create(&new)?;
    writeln!(file, "{generation}")?;
    file.sync_all()?;
    std::fs::rename(&new, folder.join(CURRENT))?;
    sync_folder(folder)
}
