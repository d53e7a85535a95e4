//! Scans: up to three layers and LMDB merged in key order, newest first, tombstones hiding what is below them.

use super::store::{Db, open_value};
use super::{Table, overlay::Keys, overlay::TableLayer};
use heed::types::Bytes;
use heed::{RoRange, RoRevRange, RoTxn, WithoutTls};
use std::collections::btree_map;
use std::ops::Bound;

/// Entries looked at, tombstones included, before a scan lets go of its locks and its transaction.
pub(super) const STRETCH_ENTRIES: usize = 256;

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// Ascending keys.
    Up,
    /// Descending keys.
    Down,
}

/// From and to, whatever the direction: the first is the lower.
pub(super) type Range<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// How a stretch of a scan ended.
pub(super) enum Stretch {
    /// Nothing left, or the caller has enough.
    Done,
    /// Go on behind this key.
    Behind(Vec<u8>),
}

enum Source<'a> {
    Layer(btree_map::Range<'a, Box<[u8]>, Option<Box<[u8]>>>),
    Up(RoRange<'a, Bytes, Bytes>),
    Down(RoRevRange<'a, Bytes, Bytes>),
}

/// The next entry of a source. A value from LMDB still has its checksum in front.
#[derive(Clone, Copy)]
struct Head<'a> {
    key: &'a [u8],
    value: Option<&'a [u8]>,
    sealed: bool,
}

impl<'a> Source<'a> {
    fn layer(keys: &'a Keys, range: Range<'_>) -> Source<'a> {
        Source::Layer(keys.range::<[u8], _>(range))
    }

    fn stored(db: &Db, txn: &'a RoTxn<'static, WithoutTls>, direction: Direction, range: Range<'_>) -> Source<'a> {
        let source = match direction {
            Direction::Up => db.range(txn, &range).map(Source::Up),
            Direction::Down => db.rev_range(txn, &range).map(Source::Down),
        };
        source.unwrap_or_else(|error| super::store::unreadable(&error))
    }

    fn next(&mut self, direction: Direction) -> Option<Head<'a>> {
        let stored = match self {
            Source::Layer(range) => {
                let next = match direction {
                    Direction::Up => range.next(),
                    Direction::Down => range.next_back(),
                };
                return next.map(|(key, value)| Head {
                    key,
                    value: value.as_deref(),
                    sealed: false,
                });
            }
            Source::Up(range) => range.next(),
            Source::Down(range) => range.next(),
        };
        match stored {
            Some(Ok((key, value))) => Some(Head {
                key,
                value: Some(value),
                sealed: true,
            }),
            Some(Err(error)) => super::store::unreadable(&error),
            None => None,
        }
    }
}

/// Runs one stretch over `layers` (newest first) and what is stored below them.
pub(super) fn stretch(
    layers: [Option<&TableLayer>; 3],
    stored: Option<(&Db, &RoTxn<'static, WithoutTls>)>,
    table: Table,
    direction: Direction,
    range: Range<'_>,
    each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
) -> Stretch {
    let mut sources: [Option<Source<'_>>; 4] = [None, None, None, None];
    let mut hidden = false;
    for (source, layer) in sources.iter_mut().zip(layers) {
        let Some(layer) = layer else { continue };
        if !hidden && !layer.keys.is_empty() {
            *source = Some(Source::layer(&layer.keys, range));
        }
        hidden |= layer.dropped;
    }
    if let Some((db, txn)) = stored.filter(|_| !hidden) {
        sources[3] = Some(Source::stored(db, txn, direction, range));
    }
    let mut heads: [Option<Head<'_>>; 4] = [None; 4];
    for (head, source) in heads.iter_mut().zip(&mut sources) {
        *head = source.as_mut().and_then(|source| source.next(direction));
    }
    let mut last: &[u8] = &[];
    for _ in 0..STRETCH_ENTRIES {
        let Some(first) = nearest(&heads, direction) else {
            return Stretch::Done;
        };
        // Every source that has this key moves on: the first of them, the newest, hid the others.
        for (head, source) in heads.iter_mut().zip(&mut sources) {
            if head.is_some_and(|head| head.key == first.key) {
                *head = source.as_mut().and_then(|source| source.next(direction));
            }
        }
        last = first.key;
        if let Some(value) = first.value {
            let value = if first.sealed {
                open_value(table, first.key, value)
            } else {
                value
            };
            if !each(first.key, value) {
                return Stretch::Done;
            }
        }
    }
    Stretch::Behind(last.to_vec())
}

/// The head that comes next; of equal ones the first, which is the newest.
fn nearest<'a>(heads: &[Option<Head<'a>>; 4], direction: Direction) -> Option<Head<'a>> {
    let mut best: Option<Head<'a>> = None;
    for head in heads.iter().flatten() {
        let nearer = match (&best, direction) {
            (None, Direction::Up | Direction::Down) => true,
            (Some(best), Direction::Up) => head.key < best.key,
            (Some(best), Direction::Down) => head.key > best.key,
        };
        if nearer {
            best = Some(*head);
        }
    }
    best
}

/// Whether no key can be in `range`. The maps' ranges panic on some such bounds, so it is asked first.
pub(super) fn is_void(range: Range<'_>) -> bool {
    match range {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from), Bound::Excluded(to))
        | (Bound::Excluded(from), Bound::Included(to))
        | (Bound::Excluded(from), Bound::Excluded(to)) => from >= to,
    }
}
