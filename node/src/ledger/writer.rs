//! The writes of one command.

use super::merge::Direction;
use super::overlay::{Layer, TableLayer};
use super::view::Shared;
use super::{Hold, KEY_BYTES_MAX, Read, Table};
use crate::base::checksum;
use std::ops::Bound;

/// The writes of one command, seen by its own reads; kept whole by [`Writer::commit`] or dropped whole.
pub struct Writer<'a> {
    shared: &'a Shared,
    writes: Layer,
    holds: Vec<Hold>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(shared: &'a Shared) -> Writer<'a> {
        Writer {
            shared,
            writes: Layer::default(),
            holds: Vec::new(),
        }
    }
}

impl Writer<'_> {
    /// Sets `key` to `value`. Keys are 1 to 511 bytes: the caller has bounded what clients send.
    pub fn put(&mut self, table: Table, key: &[u8], value: &[u8]) {
        check(table, key);
        self.writes.write(table, key.into(), Some(value.into()));
    }

    /// Removes `key`.
    pub fn delete(&mut self, table: Table, key: &[u8]) {
        check(table, key);
        self.writes.write(table, key.into(), None);
    }

    /// Drops the whole table.
    pub fn drop_table(&mut self, table: Table) {
        assert!(!table.is_local(), "a command wrote to the local table {}", table.id);
        self.writes.drop_table(table);
    }

    /// Notes a hold or a release.
    pub fn hold(&mut self, hold: Hold) {
        self.holds.push(hold);
    }

    /// CRC-32C of all writes in the order of tables and keys: the same commands on the same state give the same.
    pub fn checksum(&self) -> u32 {
        let mut crc = 0;
        for (table, layer) in self.writes.tables() {
            let head = [&[table.id, u8::from(layer.dropped)][..], &table.period.to_le_bytes()].concat();
            crc = checksum::crc32c_append(crc, &head);
            for (key, value) in &layer.keys {
                crc = checksum::crc32c_append(crc, &(key.len() as u32).to_le_bytes());
                crc = checksum::crc32c_append(crc, key);
                let length = value.as_ref().map_or(u32::MAX, |value| value.len() as u32);
                crc = checksum::crc32c_append(crc, &length.to_le_bytes());
                crc = checksum::crc32c_append(crc, value.as_deref().unwrap_or_default());
            }
        }
        crc
    }

    /// Takes all writes over into the overlay at once; gives the holds. The log carries these out and then calls
    /// `Ledger::applied`: no checkpoint starts in between.
    pub fn commit(self) -> Vec<Hold> {
        self.shared.commit(self.writes);
        self.holds
    }

    fn own(&self) -> Option<&Layer> {
        (!self.writes.is_empty()).then_some(&self.writes)
    }
}

/// What every write must keep to; a breach is a bug of state code.
pub(super) fn check(table: Table, key: &[u8]) {
    assert!(!table.is_local(), "a command wrote to the local table {}", table.id);
    check_key(key);
}

/// Keys of 1 to 511 bytes.
pub(super) fn check_key(key: &[u8]) {
    assert!(
        (1..=KEY_BYTES_MAX).contains(&key.len()),
        "a ledger key of {} bytes",
        key.len()
    );
}

impl Read for Writer<'_> {
    fn with(&self, table: Table, key: &[u8], each: &mut dyn FnMut(&[u8])) -> bool {
        self.shared.with(self.own(), table, key, each)
    }
    fn scan(&self, table: Table, from: Bound<&[u8]>, to: Bound<&[u8]>, each: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
        self.shared.scan(self.own(), Direction::Up, table, (from, to), each);
    }
    fn scan_down(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) {
        self.shared.scan(self.own(), Direction::Down, table, (from, to), each);
    }
    fn periods(&self, id: u8) -> Vec<u32> {
        self.shared.periods(self.own(), id)
    }
}

/// Whether `table` exists, given what the layers (newest first) and the store say.
pub(super) fn exists(layers: [Option<&TableLayer>; 3], stored: bool) -> bool {
    for layer in layers.into_iter().flatten() {
        if layer.created || layer.dropped {
            return layer.created;
        }
    }
    stored
}
