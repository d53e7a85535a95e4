//! What readers see: the active layer, the frozen one while a checkpoint runs, and the stored tables below.
//!
//! A [`View`] is exchanged whole at three moments: when the overlay is frozen, when a checkpoint has landed, and when
//! a snapshot is installed. A reader takes the view first and its LMDB transaction after, and then looks whether the view
//! is still the current one. So for a view with a frozen layer F over checkpoint N, the transaction shows N or N+1, and F
//! over either gives the same, because N+1 is N with F in it. For a view without one it shows exactly N.
//! Transactions are kept for reuse beside the checkpoint they belong to, and go with it: an idle one never pins pages of
//! an older checkpoint.

use super::merge::{Direction, Range, Stretch, is_void, stretch};
use super::overlay::{Found, Layer};
use super::store::{Record, Slots, Snapshot, Store, open_value, unreadable};
use super::writer::{check_key, exists};
use super::{Opened, Sizes, Table};
use crate::base::{LogIndex, Timestamp};
use crate::journal::Watermarks;
use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex, RwLock, RwLockReadGuard};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::ops::{Bound, Deref};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Read transactions kept for reuse.
const IDLE_SNAPSHOTS_MAX: usize = 64;

/// What readers pin.
pub(super) struct View {
    /// Writes since the last freeze; the only layer that changes.
    pub active: Arc<RwLock<Layer>>,
    /// Writes that the running checkpoint stores; never changes any more.
    pub frozen: Option<Arc<RwLock<Layer>>>,
    /// What is stored.
    pub base: Arc<Base>,
}

/// One durable checkpoint.
pub(super) struct Base {
    pub store: Arc<Store>,
    pub slots: Slots,
    pub record: Record,
    idle: Mutex<Vec<Snapshot>>,
}

/// What the writing side knows.
pub(super) struct Writing {
    /// Position and time that all commits up to now are covered by.
    pub applied: Option<(u64, u64, LogIndex)>,
    pub at: Timestamp,
    /// A command was committed since `applied` was set.
    pub uncovered: bool,
    /// A checkpoint waits for the next `applied` to freeze the overlay.
    pub freeze_wanted: Option<Watermarks>,
    /// What the frozen layer will be once it is stored.
    pub frozen: Option<Record>,
    /// Number of the last freeze.
    pub freezes: u64,
}

/// The state behind all handles.
pub(super) struct Shared {
    pub folder: PathBuf,
    pub map_bytes_max: u64,
    pub generation: AtomicU64,
    pub view: ArcSwap<View>,
    pub writing: Mutex<Writing>,
    pub frozen: Condvar,
    /// Held by whoever checkpoints, copies or installs. Taken before `writing`.
    pub one_at_a_time: Mutex<()>,
}

thread_local! {
    /// How many layer locks this thread holds for reading: a nested read must not queue behind a waiting writer.
    static READING: Cell<u32> = const { Cell::new(0) };
}

/// A layer locked for reading.
struct Reading<'a> {
    layer: RwLockReadGuard<'a, Layer>,
}

impl<'a> Reading<'a> {
    fn of(lock: &'a RwLock<Layer>) -> Reading<'a> {
        let layer = if READING.get() == 0 {
            lock.read()
        } else {
            lock.read_recursive()
        };
        READING.set(READING.get() + 1);
        Reading { layer }
    }
}

impl Deref for Reading<'_> {
    type Target = Layer;
    fn deref(&self) -> &Layer {
        &self.layer
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        READING.set(READING.get() - 1);
    }
}

impl Base {
    pub fn new(store: Arc<Store>, slots: Slots, record: Record) -> Base {
        Base {
            store,
            slots,
            record,
            idle: Mutex::new(Vec::new()),
        }
    }

    fn give_back(&self, snapshot: Snapshot) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_SNAPSHOTS_MAX {
            idle.push(snapshot);
        }
    }
}

impl Shared {
    pub fn open(folder: &Path, map_bytes_max: u64) -> std::io::Result<(Shared, Opened)> {
        let generation = super::checkpoint::current_generation(folder)?;
        let path = super::store::generation_folder(folder, generation);
        let (store, record, slots) = Store::open(&path, map_bytes_max)?;
        let base = Arc::new(Base::new(Arc::new(store), slots, record));
        let shared = Shared {
            folder: folder.to_path_buf(),
            map_bytes_max,
            generation: AtomicU64::new(generation),
            view: ArcSwap::from_pointee(View {
                active: Arc::default(),
                frozen: None,
                base,
            }),
            writing: Mutex::new(Writing {
                applied: record.applied,
                at: record.at,
                uncovered: false,
                freeze_wanted: None,
                frozen: None,
                freezes: record.number,
            }),
            frozen: Condvar::new(),
            one_at_a_time: Mutex::new(()),
        };
        Ok((shared, opened(&record)))
    }

    /// A transaction that fits `view`; `None` when the view is no longer the current one.
    pub fn snapshot(&self, view: &Arc<View>) -> Option<Snapshot> {
        if let Some(snapshot) = view.base.idle.lock().pop() {
            return Some(snapshot);
        }
        let snapshot = view.base.store.snapshot();
        Arc::ptr_eq(view, &self.view.load()).then_some(snapshot)
    }

    pub fn with(&self, own: Option<&Layer>, table: Table, key: &[u8], each: &mut dyn FnMut(&[u8])) -> bool {
        match own.map_or(Found::Below, |own| own.find(table, key)) {
            Found::Value(value) => {
                each(value);
                return true;
            }
            Found::Absent => return false,
            Found::Below => {}
        }
        loop {
            let view = self.view.load();
            for lock in [Some(&view.active), view.frozen.as_ref()].into_iter().flatten() {
                let layer = Reading::of(lock);
                match layer.find(table, key) {
                    Found::Value(value) => {
                        each(value);
                        return true;
                    }
                    Found::Absent => return false,
                    Found::Below => {}
                }
            }
            let Some((_, db)) = view.base.slots.get(&table) else {
                return false;
            };
            let Some(snapshot) = self.snapshot(&view) else { continue };
            let found = match db.get(&snapshot, key) {
                Ok(Some(stored)) => {
                    each(open_value(table, key, stored));
                    true
                }
                Ok(None) => false,
                Err(error) => unreadable(&error),
            };
            view.base.give_back(snapshot);
            return found;
        }
    }

    pub fn scan(
        &self,
        own: Option<&Layer>,
        direction: Direction,
        table: Table,
        range: Range<'_>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) {
        let mut behind: Option<Vec<u8>> = None;
        loop {
            let rest = match (&behind, direction) {
                (None, Direction::Up | Direction::Down) => range,
                (Some(key), Direction::Up) => (Bound::Excluded(&key[..]), range.1),
                (Some(key), Direction::Down) => (range.0, Bound::Excluded(&key[..])),
            };
            if is_void(rest) {
                return;
            }
            match self.scan_stretch(own, direction, table, rest, each) {
                Stretch::Done => return,
                Stretch::Behind(key) => behind = Some(key),
            }
        }
    }

    fn scan_stretch(
        &self,
        own: Option<&Layer>,
        direction: Direction,
        table: Table,
        range: Range<'_>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Stretch {
        loop {
            let view = self.view.load();
            let stored = match view.base.slots.get(&table) {
                Some((_, db)) => match self.snapshot(&view) {
                    Some(snapshot) => Some((db, snapshot)),
                    None => continue,
                },
                None => None,
            };
            let active = Reading::of(&view.active);
            let frozen = view.frozen.as_ref().map(|frozen| Reading::of(frozen));
            let layers = [
                own.and_then(|own| own.table(table)),
                active.table(table),
                frozen.as_ref().and_then(|frozen| frozen.table(table)),
            ];
            let below = stored.as_ref().map(|(db, snapshot)| (*db, snapshot));
            let end = stretch(layers, below, table, direction, range, each);
            if let Some((_, snapshot)) = stored {
                view.base.give_back(snapshot);
            }
            return end;
        }
    }

    pub fn periods(&self, own: Option<&Layer>, id: u8) -> Vec<u32> {
        let view = self.view.load();
        let active = Reading::of(&view.active);
        let frozen = view.frozen.as_ref().map(|frozen| Reading::of(frozen));
        let layers = [own, Some(&*active), frozen.as_deref()];
        let family = Table::of_period(id, 0)..=Table::of_period(id, u32::MAX);
        let mut tables: BTreeSet<Table> = view.base.slots.range(family).map(|(table, _)| *table).collect();
        for layer in layers.into_iter().flatten() {
            tables.extend(layer.family(id).map(|(table, _)| table));
        }
        tables.retain(|table| {
            let writes = layers.map(|layer| layer.and_then(|layer| layer.table(*table)));
            exists(writes, view.base.slots.contains_key(table))
        });
        tables.into_iter().map(|table| table.period).collect()
    }

    pub fn commit(&self, writes: Layer) {
        assert_writable();
        let mut writing = self.writing.lock();
        writing.uncovered = true;
        // Under `writing` the overlay is not frozen, so what the active layer says stays true until it is written.
        let view = self.view.load_full();
        let short_lived: Vec<(Table, Box<[u8]>)> = writes
            .deleted()
            .filter(|(table, key)| matches!(Reading::of(&view.active).find(*table, key), Found::Value(_)))
            .filter(|(table, key)| !self.is_below(&view, *table, key))
            .map(|(table, key)| (table, key.into()))
            .collect();
        let mut active = view.active.write();
        active.absorb(writes);
        // What came and went within this layer leaves nothing behind that a scan would have to step over.
        for (table, key) in short_lived {
            active.forget(table, &key);
        }
    }

    /// Whether anything below the active layer has `key`: the frozen layer or the store. `true` where it is not known.
    fn is_below(&self, view: &Arc<View>, table: Table, key: &[u8]) -> bool {
        if let Some(frozen) = &view.frozen {
            match Reading::of(frozen).find(table, key) {
                Found::Value(_) => return true,
                Found::Absent => return false,
                Found::Below => {}
            }
        }
        let Some((_, db)) = view.base.slots.get(&table) else {
            return false;
        };
        let Some(snapshot) = self.snapshot(view) else {
            return true;
        };
        let found = match db.get(&snapshot, key) {
            Ok(found) => found.is_some(),
            Err(error) => unreadable(&error),
        };
        view.base.give_back(snapshot);
        found
    }

    pub fn put_locals(&self, writes: &[(Table, &[u8], Option<&[u8]>)]) {
        assert_writable();
        for (table, key, _) in writes {
            assert!(
                table.is_local(),
                "table {} is replicated: only commands write to it",
                table.id
            );
            check_key(key);
        }
        // Held so that the overlay is not frozen between two of the writes.
        let _writing = self.writing.lock();
        let view = self.view.load();
        let mut active = view.active.write();
        for (table, key, value) in writes {
            active.write(*table, (*key).into(), value.map(Into::into));
        }
    }

    pub fn dirty_bytes(&self) -> usize {
        let view = self.view.load();
        let active = Reading::of(&view.active);
        active.bytes()
    }

    pub fn checkpoint_next(&self) -> u64 {
        self.writing.lock().freezes + 1
    }

    pub fn checkpoint_landed(&self) -> u64 {
        self.view.load().base.record.number
    }

    pub fn sizes(&self) -> std::io::Result<Sizes> {
        let view = self.view.load();
        let env = &view.base.store.env;
        let info = env.info();
        let page_bytes = u64::from(env.unnamed_database_stat().page_size);
        Ok(Sizes {
            file_bytes: env.real_disk_size().map_err(super::store::LedgerError::from)?,
            map_used_bytes: (info.last_page_number as u64 + 1) * page_bytes,
            map_bytes_max: info.map_size as u64,
            tables: view.base.slots.len() as u64,
            dirty_bytes: self.dirty_bytes() as u64,
            checkpoints: view.base.record.number,
        })
    }
}

/// A write waits for readers; inside a scan's callback it would wait for itself.
fn assert_writable() {
    assert!(
        READING.get() == 0,
        "a write to the ledger from inside a read's callback"
    );
}

/// A checkpoint's record as the log sees it.
pub(super) fn opened(record: &Record) -> Opened {
    Opened {
        applied: record.applied,
        at: record.at,
        watermarks: record.watermarks,
    }
}
