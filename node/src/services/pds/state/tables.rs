//! The tables of PDS in the ledger, and how their keys are built. Numbers 70 to 99; never used again.
//!
//! `nhs` is an NHS number as five bytes, big-endian. An index key is the text that matching made, then `nhs`; its value
//! is the version byte and the flags.

use super::super::command::{Index, IndexKey};
use crate::base::{LogIndex, NHS_NUMBER_KEY_BYTES, NhsNumber, Timestamp};
use crate::ledger::Table;

/// nhs → [`Record`](super::Record), the current version.
pub(super) const RECORDS: Table = Table::permanent(70);
/// nhs → [`Matched`](super::Matched): what matching compares, and the record's keys in the indexes.
pub(super) const MATCHED: Table = Table::permanent(71);
/// nhs, version (4 bytes) → [`Record`](super::Record), every version before the current one.
pub(super) const VERSIONS: Table = Table::permanent(72);
const BIRTH: Table = Table::permanent(73);
const FAMILY: Table = Table::permanent(74);
const POSTCODE: Table = Table::permanent(75);
const PRACTICE: Table = Table::permanent(76);
const CONTACT: Table = Table::permanent(77);
/// Family by [`ONCE_PERIOD_MS`] of log time: key of the request → [`Answered`](super::Answered).
pub(super) const ONCE: u8 = 78;
/// A word → a number: how many records there are.
pub(super) const COUNTS: Table = Table::permanent(79);

/// nhs, entry (8 bytes) → [`Part`](super::Part): related people that others took the place of.
pub(super) const RELATED_BEFORE: Table = Table::permanent(80);

/// Key of the number of records.
pub(super) const COUNT_RECORDS: &[u8] = b"records";

/// Milliseconds of one table of answered requests.
pub(super) const ONCE_PERIOD_MS: u64 = 6 * 3600 * 1000;
/// How many tables of answered requests count: the current one and four before, so at least 24 hours.
pub(super) const ONCE_PERIODS: u32 = 5;

/// The table of an index.
pub(super) const fn table(index: Index) -> Table {
    match index {
        Index::Birth => BIRTH,
        Index::Family => FAMILY,
        Index::Postcode => POSTCODE,
        Index::Practice => PRACTICE,
        Index::Contact => CONTACT,
    }
}

/// The whole key of an index entry.
pub(super) fn index_key(key: &IndexKey, number: NhsNumber) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.text.len() + NHS_NUMBER_KEY_BYTES);
    bytes.extend_from_slice(&key.text);
    bytes.extend_from_slice(&number.key());
    bytes
}

/// The key of a version.
pub(super) fn version_key(number: NhsNumber, version: u32) -> [u8; NHS_NUMBER_KEY_BYTES + 4] {
    let mut key = [0; NHS_NUMBER_KEY_BYTES + 4];
    key[..NHS_NUMBER_KEY_BYTES].copy_from_slice(&number.key());
    key[NHS_NUMBER_KEY_BYTES..].copy_from_slice(&version.to_be_bytes());
    key
}

/// The key of related people that were replaced.
pub(super) fn related_key(number: NhsNumber, entry: LogIndex) -> [u8; NHS_NUMBER_KEY_BYTES + 8] {
    let mut key = [0; NHS_NUMBER_KEY_BYTES + 8];
    key[..NHS_NUMBER_KEY_BYTES].copy_from_slice(&number.key());
    key[NHS_NUMBER_KEY_BYTES..].copy_from_slice(&entry.to_be_bytes());
    key
}

/// Which table of answered requests a time belongs to.
pub(super) fn once_period(at: Timestamp) -> u32 {
    u32::try_from(at.ms() / ONCE_PERIOD_MS).expect("log time is within some hundred thousand years")
}
