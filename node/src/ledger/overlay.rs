//! One layer of the overlay: writes by table and key, deletions as tombstones. A writer's buffer is such a layer too.

use super::Table;
use std::collections::BTreeMap;

/// What an entry costs in memory beside its bytes: two boxes and its share of a tree node.
const ENTRY_OVERHEAD_BYTES: usize = 80;

/// Keys in order; `None` is a tombstone.
pub(super) type Keys = BTreeMap<Box<[u8]>, Option<Box<[u8]>>>;

/// The writes to one table.
#[derive(Default)]
pub(super) struct TableLayer {
    /// The table was dropped in this layer before `keys` were written: nothing below is to be seen.
    pub dropped: bool,
    /// Something was put since (a table exists from its first put on).
    pub created: bool,
    /// The writes.
    pub keys: Keys,
}

/// Writes to all tables.
#[derive(Default)]
pub(super) struct Layer {
    tables: BTreeMap<Table, TableLayer>,
    bytes: usize,
}

/// What a layer says of a key.
pub(super) enum Found<'a> {
    /// It is here.
    Value(&'a [u8]),
    /// It is certainly not there, whatever the layers below say.
    Absent,
    /// Ask below.
    Below,
}

impl Layer {
    /// About how much memory it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Nothing was written, not even a drop.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// The writes to `table`.
    pub fn table(&self, table: Table) -> Option<&TableLayer> {
        self.tables.get(&table)
    }

    /// All tables with writes, in order.
    pub fn tables(&self) -> impl Iterator<Item = (Table, &TableLayer)> {
        self.tables.iter().map(|(table, layer)| (*table, layer))
    }

    /// The tables of a family with writes, in order.
    pub fn family(&self, id: u8) -> impl Iterator<Item = (Table, &TableLayer)> {
        let family = Table::of_period(id, 0)..=Table::of_period(id, u32::MAX);
        self.tables.range(family).map(|(table, layer)| (*table, layer))
    }

    /// What this layer says of `key`.
    pub fn find(&self, table: Table, key: &[u8]) -> Found<'_> {
        let Some(layer) = self.tables.get(&table) else {
            return Found::Below;
        };
        match layer.keys.get(key) {
            Some(Some(value)) => Found::Value(value),
            Some(None) => Found::Absent,
            None if layer.dropped => Found::Absent,
            None => Found::Below,
        }
    }

    /// Puts a value, or with `None` a tombstone.
    pub fn write(&mut self, table: Table, key: Box<[u8]>, value: Option<Box<[u8]>>) {
        let layer = self.tables.entry(table).or_default();
        layer.created |= value.is_some();
        let key_bytes = key.len();
        self.bytes += cost(key_bytes, value.as_deref());
        if let Some(old) = layer.keys.insert(key, value) {
            self.bytes -= cost(key_bytes, old.as_deref());
        }
    }

    /// Keys with a tombstone.
    pub fn deleted(&self) -> impl Iterator<Item = (Table, &[u8])> {
        self.tables.iter().flat_map(|(table, layer)| {
            let tombstones = layer.keys.iter().filter(|(_, value)| value.is_none());
            tombstones.map(|(key, _)| (*table, &**key))
        })
    }

    /// Removes what this layer says of `key`: its tombstone hides nothing.
    pub fn forget(&mut self, table: Table, key: &[u8]) {
        if let Some(layer) = self.tables.get_mut(&table)
            && let Some(old) = layer.keys.remove(key)
        {
            self.bytes -= cost(key.len(), old.as_deref());
        }
    }

    /// Drops the table: earlier writes here and everything below.
    pub fn drop_table(&mut self, table: Table) {
        let dropped = TableLayer {
            dropped: true,
            ..TableLayer::default()
        };
        if let Some(old) = self.tables.insert(table, dropped) {
            self.bytes -= cost_all(&old);
        } else {
            self.bytes += ENTRY_OVERHEAD_BYTES;
        }
    }

    /// Takes over the writes of `newer`.
    pub fn absorb(&mut self, newer: Layer) {
        for (table, writes) in newer.tables {
            if writes.dropped {
                self.drop_table(table);
            }
            for (key, value) in writes.keys {
                self.write(table, key, value);
            }
            if writes.created {
                // A put may have been followed by a delete of the same key: the table exists none the less.
                self.tables.entry(table).or_default().created = true;
            }
        }
    }
}

fn cost(key_bytes: usize, value: Option<&[u8]>) -> usize {
    key_bytes + value.map_or(0, <[u8]>::len) + ENTRY_OVERHEAD_BYTES
}

fn cost_all(layer: &TableLayer) -> usize {
    layer
        .keys
        .iter()
        .map(|(key, value)| cost(key.len(), value.as_deref()))
        .sum()
}
