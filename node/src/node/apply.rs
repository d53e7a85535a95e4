//! The one `apply`: tells by a command's first byte whose it is, and keeps the audit heads itself.
//!
//! First bytes are given out once and never again: below 0xF0 to services and their formats, from 0xF0 to the node.
//! A first byte nobody knows comes from a later release: the process ends, because a skipped command would make
//! this node's state another than its peers'.

use crate::audit::Head;
use crate::base::NodeId;
use crate::ledger::{Ledger, Read, Table, Writer};
use crate::log::{At, level};
use crate::outbox;
use crate::services::{identity, mesh, pds};
use bytes::Bytes;
use std::ops::Bound;

/// First byte of a command that enters the head of a node's audit chain.
pub const AUDIT_HEAD: u8 = 0xF0;

/// Audit heads by node and sequence number: key 8 + 8 bytes big-endian, value log time in ms (8 bytes) and hash (32).
const HEADS: Table = Table::permanent(60);

const _: () = assert!(outbox::command::COMMAND_VERSION != AUDIT_HEAD && AUDIT_HEAD != level::COMMAND);

/// Commands of format level 1: first byte, and how many kinds of commands stood behind it then. What was added since is
/// of a later level, also where nobody thought of it.
const OF_LEVEL_1: [(u8, u8); 4] = [
    (mesh::command::COMMAND_VERSION, 7),
    (identity::command::COMMAND_VERSION, 2),
    (pds::command::COMMAND_VERSION, 3),
    (outbox::command::COMMAND_VERSION, 5),
];

/// The format level that a command needs: it is not proposed before that one is in force.
pub fn level_of(command: &[u8]) -> u32 {
    let (Some(&first), kind) = (command.first(), command.get(1)) else {
        // The deep ping.
        return level::FIRST;
    };
    // The one raises the level, so it cannot wait for it; see there who makes sure that all can read it.
    if first == AUDIT_HEAD || first == level::COMMAND {
        return level::FIRST;
    }
    let known = OF_LEVEL_1.iter().find(|(version, _)| *version == first);
    match (known, kind) {
        (Some((_, kinds)), Some(kind)) if kind < kinds => level::FIRST,
        (Some(_) | None, _) => level::FIRST + 1,
    }
}
const _: () = assert!(mesh::command::COMMAND_VERSION != identity::command::COMMAND_VERSION);

const HOUR_MS: u64 = 3600 * 1000;

/// Judges one command.
pub fn apply(writer: &mut Writer<'_>, at: At, command: &[u8]) -> Bytes {
    match command.first() {
        Some(&mesh::command::COMMAND_VERSION) => judged(at, mesh::state::apply_encoded(writer, at, command)),
        Some(&identity::command::COMMAND_VERSION) => judged(at, identity::state::apply_encoded(writer, at, command)),
        Some(&pds::command::COMMAND_VERSION) => judged(at, pds::state::apply_encoded(writer, at, command)),
        Some(&outbox::command::COMMAND_VERSION) => judged(at, outbox::state::apply_encoded(writer, at, command)),
        Some(&level::COMMAND) => judged(at, level::apply(writer, at, command)),
        Some(&AUDIT_HEAD) => match decode_head(command) {
            Some((node, head)) => {
                enter_head(writer, at, node, head);
                Bytes::new()
            }
            None => stop(at, "an audit head of another length"),
        },
        Some(_) | None => stop(at, "a command of a later release"),
    }
}

fn judged<E: std::fmt::Display>(at: At, outcome: Result<Bytes, E>) -> Bytes {
    outcome.unwrap_or_else(|cause| stop(at, &cause.to_string()))
}

fn stop(at: At, why: &str) -> ! {
    tracing::error!(
        index = at.index,
        why,
        "the log holds a command that this release cannot apply; start the newer release"
    );
    eprintln!(
        "vertebra: log index {}: {why}; this release cannot apply it, start the newer release",
        at.index
    );
    std::process::exit(70);
}

/// The command that enters `head` of `node`.
pub fn head_command(node: NodeId, head: Head) -> Bytes {
    let mut command = Vec::with_capacity(49);
    command.push(AUDIT_HEAD);
    command.extend_from_slice(&node.to_be_bytes());
    command.extend_from_slice(&head.sequence.to_be_bytes());
    command.extend_from_slice(&head.hash);
    Bytes::from(command)
}

fn decode_head(command: &[u8]) -> Option<(NodeId, Head)> {
    let rest = &command[1..];
    let (node, rest) = rest.split_first_chunk::<8>()?;
    let (sequence, rest) = rest.split_first_chunk::<8>()?;
    let hash = <[u8; 32]>::try_from(rest).ok()?;
    Some((
        NodeId::from_be_bytes(*node),
        Head {
            sequence: u64::from_be_bytes(*sequence),
            hash,
        },
    ))
}

fn head_key(node: NodeId, sequence: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&node.to_be_bytes());
    key[8..].copy_from_slice(&sequence.to_be_bytes());
    key
}

/// Keeps the newest head and the first of each hour, so that the table grows by 24 a day and a cut tail shows at once.
fn enter_head(writer: &mut Writer<'_>, at: At, node: NodeId, head: Head) {
    let hour = |key: &[u8], value: &[u8]| {
        let time = value.first_chunk::<8>().map_or(0, |ms| u64::from_be_bytes(*ms));
        (key.to_vec(), time / HOUR_MS)
    };
    let mut newest = Vec::new();
    let (from, to) = (head_key(node, 0), head_key(node, u64::MAX));
    writer.scan_down(
        HEADS,
        Bound::Included(&from),
        Bound::Included(&to),
        &mut |key, value| {
            newest.push(hour(key, value));
            newest.len() < 2
        },
    );
    // The last head goes when an older one of its hour stays.
    if let [(last, last_hour), (_, before_hour)] = &newest[..]
        && last_hour == before_hour
    {
        let last = last.clone();
        writer.delete(HEADS, &last);
    }
    let mut value = Vec::with_capacity(40);
    value.extend_from_slice(&at.time.ms().to_be_bytes());
    value.extend_from_slice(&head.hash);
    writer.put(HEADS, &head_key(node, head.sequence), &value);
}

/// The heads of `node` that the log holds, oldest first.
pub fn logged_heads(ledger: &Ledger, node: NodeId) -> Vec<Head> {
    let mut heads = Vec::new();
    let (from, to) = (head_key(node, 0), head_key(node, u64::MAX));
    ledger.scan(
        HEADS,
        Bound::Included(&from),
        Bound::Included(&to),
        &mut |key, value| {
            let sequence = key.get(8..).and_then(|k| <[u8; 8]>::try_from(k).ok());
            let hash = value.get(8..).and_then(|v| <[u8; 32]>::try_from(v).ok());
            if let (Some(sequence), Some(hash)) = (sequence, hash) {
                heads.push(Head {
                    sequence: u64::from_be_bytes(sequence),
                    hash,
                });
            }
            true
        },
    );
    heads
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;

    #[test]
    fn what_was_added_behind_level_1_is_not_proposed_before_it_is_raised() {
        let on = outbox::command::Command::Off.encode();
        let raise = level::command(2, "r");
        let head = head_command(1, Head::default());
        for known in [&b""[..], &on, &raise, &head, &[mesh::command::COMMAND_VERSION, 6]] {
            assert_eq!(level_of(known), level::FIRST, "{known:?}");
        }
        for (version, kinds) in OF_LEVEL_1 {
            assert_eq!(level_of(&[version, kinds - 1]), level::FIRST);
            assert_eq!(level_of(&[version, kinds]), level::FIRST + 1, "a kind that was added");
        }
        assert_eq!(
            level_of(&[0x40]),
            level::FIRST + 1,
            "a first byte that was given out later"
        );
    }

    #[test]
    fn a_head_survives_its_command() {
        let head = Head {
            sequence: 7,
            hash: [9; 32],
        };
        assert_eq!(decode_head(&head_command(3, head)), Some((3, head)));
        assert_eq!(decode_head(&head_command(3, head)[..48]), None);
    }

    #[test]
    fn the_log_keeps_the_newest_head_and_the_first_of_each_hour() {
        let folder = std::env::temp_dir().join(format!("vertebra-heads-{}", std::process::id()));
        let (ledger, _) = Ledger::open(&folder, 64 * 1024 * 1024).expect("a fresh folder");
        let minutes = 60 * 1000;
        for (sequence, minute) in [(1, 0), (2, 1), (3, 2), (4, 59), (5, 60), (6, 61), (7, 62), (8, 200)] {
            let mut writer = ledger.writer();
            let at = At {
                index: sequence,
                time: Timestamp::from_ms(minute * minutes),
            };
            apply(
                &mut writer,
                at,
                &head_command(
                    1,
                    Head {
                        sequence,
                        hash: [sequence as u8; 32],
                    },
                ),
            );
            writer.commit();
        }
        let kept: Vec<u64> = logged_heads(&ledger, 1).iter().map(|head| head.sequence).collect();
        assert_eq!(kept, [1, 5, 8]);
        drop(ledger);
        let _ = std::fs::remove_dir_all(&folder);
    }
}
