//! What state answers. Reads only; the same for `apply` and for the services' reads.

use super::super::command::{INDEX_TEXT_BYTES_MAX, Index};
use super::tables::{self, COUNT_RECORDS, COUNTS, MATCHED, ONCE, RECORDS, VERSIONS};
use super::{Answered, Matched, Record, once};
use crate::base::{NHS_NUMBER_KEY_BYTES, NhsNumber, Timestamp};
use crate::ledger::{Read, Table};
use crate::services::values;
use std::ops::Bound;

/// Keys that [`seen_under`] reads under each prefix; more than that never decide about a create.
const SEEN_KEYS_MAX: usize = 256;

/// An index entry met by [`scan_index`].
pub struct Found<'a> {
    /// What stands before the number in the key.
    pub text: &'a [u8],
    /// Whose.
    pub number: NhsNumber,
    /// As the key was put.
    pub flags: u8,
}

/// The current version of a record.
pub fn record(state: &impl Read, number: NhsNumber) -> Option<Record> {
    values::get(state, RECORDS, &number.key())
}

/// One version of a record, current or not.
pub fn version(state: &impl Read, number: NhsNumber, version: u32) -> Option<Record> {
    match record(state, number) {
        Some(current) if current.version == version => Some(current),
        Some(_) => values::get(state, VERSIONS, &tables::version_key(number, version)),
        None => None,
    }
}

/// All versions of a record, newest first, from `before` (excluded) down; at most `max`.
pub fn versions(state: &impl Read, number: NhsNumber, before: Option<u32>, max: usize) -> Vec<Record> {
    let before = before.unwrap_or(u32::MAX);
    let mut found: Vec<Record> = record(state, number)
        .into_iter()
        .filter(|current| current.version < before)
        .collect();
    let (from, to) = (tables::version_key(number, 0), tables::version_key(number, before));
    state.scan_down(
        VERSIONS,
        Bound::Included(&from),
        Bound::Excluded(&to),
        &mut |_, value| {
            if found.len() < max {
                found.push(values::read(value));
            }
            found.len() < max
        },
    );
    found.truncate(max);
    found
}

/// What matching knows of a record.
pub fn matched(state: &impl Read, number: NhsNumber) -> Option<Matched> {
    values::get(state, MATCHED, &number.key())
}

/// Calls `each` with what matching compares of a record, without decoding or copying it; `false` when there is none.
pub fn with_card(state: &impl Read, number: NhsNumber, each: &mut dyn FnMut(&[u8])) -> bool {
    // The card stands first in `Matched`, as bytes.
    state.with(MATCHED, &number.key(), &mut |value| {
        each(values::read_first::<&[u8]>(value));
    })
}

/// How many records there are, redacted ones included.
pub fn records(state: &impl Read) -> u64 {
    values::get(state, COUNTS, COUNT_RECORDS).unwrap_or(0)
}

/// Calls `each` with the records behind `after` in the order of their numbers, until it says `false`.
pub fn for_each_record(state: &impl Read, after: Option<NhsNumber>, each: &mut dyn FnMut(NhsNumber, Record) -> bool) {
    let after = after.map(NhsNumber::key);
    let from = after.as_ref().map_or(Bound::Unbounded, |key| Bound::Excluded(&key[..]));
    state.scan(RECORDS, from, Bound::Unbounded, &mut |key, value| {
        each(NhsNumber::of_key(key), values::read(value))
    });
}

/// Calls `each` with the entries of an index whose text lies from `from` (included) to `to` (excluded), ascending, until
/// it says `false`. Without `to`: all whose text starts with `from`. Bounds may be prefixes of texts.
pub fn scan_index(
    state: &impl Read,
    index: Index,
    from: &[u8],
    to: Option<&[u8]>,
    each: &mut dyn FnMut(Found<'_>) -> bool,
) {
    let behind;
    let to = match to {
        Some(to) => Bound::Excluded(to),
        None => {
            behind = behind_prefix(from);
            behind.as_deref().map_or(Bound::Unbounded, Bound::Excluded)
        }
    };
    let from = if from.is_empty() {
        Bound::Unbounded
    } else {
        Bound::Included(from)
    };
    state.scan(tables::table(index), from, to, &mut |key, value| {
        let at = key.len() - NHS_NUMBER_KEY_BYTES;
        assert!((1..=INDEX_TEXT_BYTES_MAX).contains(&at), "an index text of {at} bytes");
        each(Found {
            text: &key[..at],
            number: NhsNumber::of_key(key),
            flags: value.get(1).copied().unwrap_or(0),
        })
    });
}

/// The first key that is behind all that start with `prefix`; `None` when nothing is.
fn behind_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xFF)?;
    let mut behind = prefix[..=last].to_vec();
    behind[last] += 1;
    Some(behind)
}

/// A digest of the index entries under these prefixes, the first [`SEEN_KEYS_MAX`] of each: what a create looked at. It
/// is taken by the proposer and again by `apply`; when they differ, somebody came between.
pub fn seen_under(state: &impl Read, prefixes: &[(Index, Vec<u8>)]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for (index, prefix) in prefixes {
        let mut count = 0;
        scan_index(state, *index, prefix, None, &mut |found| {
            hasher.update(&(found.text.len() as u32).to_le_bytes());
            hasher.update(found.text);
            hasher.update(&found.number.key());
            count += 1;
            count < SEEN_KEYS_MAX
        });
        hasher.update(&u32::MAX.to_le_bytes());
    }
    let [digest @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *hasher.finalize().as_bytes();
    digest
}

/// The answer to an earlier request, if it still counts at `now`.
pub fn answered(state: &impl Read, now: Timestamp, key: &[u8; 16]) -> Option<Answered> {
    let period = tables::once_period(now);
    // Log time never goes back, so nothing is in a later period.
    (once::counting(period)..=period)
        .rev()
        .find_map(|period| values::get(state, Table::of_period(ONCE, period), key))
}
