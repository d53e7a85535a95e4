//! Records of the log stream, byte by byte as drawn in `FORMAT.md`.
//!
//! Owns the encoding. Knows nothing of where records are. Decoding never panics: what does not fit is a sentence.

use super::types::{Command, Entry, Leader, LogId, Member, Membership, Payload, Vote};
use crate::journal::{Record, RecordKey};
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// An entry of the log.
pub const KIND_ENTRY: u8 = 1;
/// A copy of an entry that state still holds, written by the space reclaim or a snapshot's install. Not part of the log.
pub const KIND_HELD: u8 = 2;
/// Entries after the named one are no longer part of the log.
pub const KIND_TRUNCATE: u8 = 3;
/// The vote; carried.
pub const KIND_VOTE: u8 = 0x80;
/// The committed position; carried.
pub const KIND_COMMITTED: u8 = 0x81;
/// The purge point; carried.
pub const KIND_PURGED: u8 = 0x82;

/// Version of every payload in this file.
const VERSION: u8 = 1;
/// Version, type, stamp.
pub const ENTRY_HEADER_BYTES: usize = 10;
const TYPE_BLANK: u8 = 0;
const TYPE_COMMAND: u8 = 1;
const TYPE_MEMBERSHIP: u8 = 2;

/// First byte of a membership that says more of a member than its address. Smaller ones count the sets of voters of the
/// form before, which began with that.
const MEMBERS_VERSION: u8 = 0x10;

/// Membership as stored: voters (two sets while it changes), then the members by number, learners included.
#[derive(Serialize, Deserialize)]
struct StoredMembers<M> {
    configs: Vec<BTreeSet<u64>>,
    nodes: BTreeMap<u64, M>,
}

/// What a leader's part of a key is: term in the upper half, node in the lower.
pub fn leader_key(leader: &Leader) -> u128 {
    (u128::from(leader.term) << 64) | u128::from(leader.node_id)
}

fn leader_of(id: u128) -> Leader {
    let (term, node_id) = ((id >> 64) as u64, id as u64);
    Leader { term, node_id }
}

/// Key of an entry's record.
pub fn entry_key(kind: u8, leader: &Leader, index: u64) -> RecordKey {
    let id = leader_key(leader);
    RecordKey {
        kind,
        id,
        number: index,
    }
}

/// Log id that an entry's key names.
pub fn log_id_of(key: &RecordKey) -> LogId {
    LogId::new(leader_of(key.id), key.number)
}

/// Adds the records of `entries` to `records`. The headers share one buffer and the commands are not copied.
pub fn encode_entries(kind: u8, entries: &[Entry], records: &mut Vec<Record>) {
    let mut headers = BytesMut::with_capacity(entries.len() * ENTRY_HEADER_BYTES);
    records.reserve(entries.len());
    for entry in entries {
        let (tag, stamp_ms, body) = match &entry.payload {
            Payload::Blank => (TYPE_BLANK, 0, Bytes::new()),
            Payload::Normal(command) => (TYPE_COMMAND, command.stamp_ms, command.bytes.clone()),
            Payload::Membership(membership) => (TYPE_MEMBERSHIP, 0, encode_membership(membership)),
        };
        headers.put_u8(VERSION);
        headers.put_u8(tag);
        headers.put_u64_le(stamp_ms);
        let header = headers.split().freeze();
        let key = entry_key(kind, &entry.log_id.leader_id, entry.log_id.index);
        records.push(Record {
            key,
            payload: vec![header, body],
        });
    }
}

/// The entry in a record of kind [`KIND_ENTRY`] or [`KIND_HELD`].
pub fn decode_entry(key: &RecordKey, payload: &Bytes) -> Result<Entry, &'static str> {
    if payload.len() < ENTRY_HEADER_BYTES {
        return Err("an entry shorter than its header");
    }
    if payload[0] != VERSION {
        return Err("an entry of a later release");
    }
    let stamp_ms = u64::from_le_bytes(payload[2..10].try_into().expect("eight bytes"));
    let body = payload.slice(ENTRY_HEADER_BYTES..);
    let payload = match payload[1] {
        TYPE_BLANK if body.is_empty() => Payload::Blank,
        TYPE_COMMAND => Payload::Normal(Command { stamp_ms, bytes: body }),
        TYPE_MEMBERSHIP => Payload::Membership(decode_membership(&body)?),
        TYPE_BLANK => return Err("a blank entry with a body"),
        3.. => return Err("an entry of unknown type"),
    };
    let log_id = log_id_of(key);
    Ok(Entry { log_id, payload })
}

/// Membership as bytes; the same in entries and in the ledger's local table.
pub fn encode_membership(membership: &Membership) -> Bytes {
    let configs = membership.get_joint_config().clone();
    let nodes = membership.nodes().map(|(id, node)| (*id, node)).collect();
    let stored = StoredMembers { configs, nodes };
    let bytes = postcard::to_extend(&stored, vec![MEMBERS_VERSION]);
    Bytes::from(bytes.expect("sets and maps of numbers and text are serialisable"))
}

/// And back, also the form of the first release, which knew addresses alone.
pub fn decode_membership(bytes: &[u8]) -> Result<Membership, &'static str> {
    let unreadable = |_| "a membership that cannot be read";
    let stored: StoredMembers<Member> = match bytes.split_first() {
        Some((&MEMBERS_VERSION, rest)) => postcard::from_bytes(rest).map_err(unreadable)?,
        Some(_) | None => {
            let StoredMembers { configs, nodes } =
                postcard::from_bytes::<StoredMembers<String>>(bytes).map_err(unreadable)?;
            let known = |address| Member {
                address,
                ..Member::default()
            };
            let nodes = nodes.into_iter().map(|(id, address)| (id, known(address))).collect();
            StoredMembers { configs, nodes }
        }
    };
    if stored.configs.is_empty() {
        // What a node knows before it belongs to a cluster.
        return Ok(Membership::default());
    }
    Membership::new(stored.configs, stored.nodes).map_err(|_| "a membership that breaks its own rules")
}

/// A vote: version, committed, term, node.
pub fn encode_vote(vote: &Vote) -> Bytes {
    let mut bytes = BytesMut::with_capacity(18);
    bytes.put_u8(VERSION);
    bytes.put_u8(u8::from(vote.committed));
    bytes.put_u64_le(vote.leader_id.term);
    bytes.put_u64_le(vote.leader_id.node_id);
    bytes.freeze()
}

/// And back.
pub fn decode_vote(bytes: &[u8]) -> Result<Vote, &'static str> {
    if bytes.len() != 18 || bytes[0] != VERSION || bytes[1] > 1 {
        return Err("a vote that cannot be read");
    }
    let (term, node_id) = (read_u64(bytes, 2), read_u64(bytes, 10));
    let leader_id = Leader { term, node_id };
    let committed = bytes[1] == 1;
    Ok(Vote { leader_id, committed })
}

/// A position in the log or none: version, present, term, node, index.
pub fn encode_log_id(log_id: Option<&LogId>) -> Bytes {
    let mut bytes = BytesMut::with_capacity(26);
    bytes.put_u8(VERSION);
    bytes.put_u8(u8::from(log_id.is_some()));
    bytes.put_u64_le(log_id.map_or(0, |id| id.leader_id.term));
    bytes.put_u64_le(log_id.map_or(0, |id| id.leader_id.node_id));
    bytes.put_u64_le(log_id.map_or(0, |id| id.index));
    bytes.freeze()
}

/// And back.
pub fn decode_log_id(bytes: &[u8]) -> Result<Option<LogId>, &'static str> {
    if bytes.len() != 26 || bytes[0] != VERSION || bytes[1] > 1 {
        return Err("a log position that cannot be read");
    }
    let id = super::types::log_id(read_u64(bytes, 2), read_u64(bytes, 10), read_u64(bytes, 18));
    Ok((bytes[1] == 1).then_some(id))
}

/// A small record with a fixed key: vote, committed position, purge point, truncation.
pub fn small_record(kind: u8, payload: Bytes) -> Record {
    let key = RecordKey { kind, id: 0, number: 0 };
    let payload = vec![payload];
    Record { key, payload }
}

fn read_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("the length was checked"))
}

#[cfg(test)]
mod tests {
    use super::super::types::log_id;
    use super::*;

    fn flat(record: &Record) -> Vec<u8> {
        record.payload.concat()
    }

    fn encoded(payload: Payload) -> Record {
        let log_id = log_id(3, 1, 7);
        let mut records = Vec::new();
        encode_entries(KIND_ENTRY, &[Entry { log_id, payload }], &mut records);
        records.remove(0)
    }

    fn member(address: &str) -> Member {
        Member {
            name: "n".to_owned(),
            site: "s".to_owned(),
            address: address.to_owned(),
            incarnation: 300,
        }
    }

    fn two_members() -> Membership {
        let nodes = BTreeMap::from([(1, member("a:1")), (2, member("b:2"))]);
        Membership::new(vec![BTreeSet::from([1])], nodes).expect("one voter, one learner")
    }

    #[test]
    fn a_command_entry_has_its_golden_bytes() {
        let bytes = Bytes::from_static(b"abc");
        let record = encoded(Payload::Normal(Command {
            stamp_ms: 0x0102,
            bytes,
        }));
        assert_eq!(hex::encode(flat(&record)), "01010201000000000000616263");
        assert_eq!(record.key.kind, 1);
        assert_eq!(record.key.id, (3u128 << 64) | 1);
        assert_eq!(record.key.number, 7);
    }

    #[test]
    fn a_blank_entry_has_its_golden_bytes() {
        assert_eq!(hex::encode(flat(&encoded(Payload::Blank))), "01000000000000000000");
    }

    #[test]
    fn a_membership_entry_has_its_golden_bytes() {
        let record = encoded(Payload::Membership(two_members()));
        assert_eq!(
            hex::encode(flat(&record)),
            "01020000000000000000100101010201016e017303613a31ac0202016e017303623a32ac02"
        );
    }

    #[test]
    fn a_membership_of_the_first_release_is_still_read() {
        let old = hex::decode("010101020103613a310203623a32").expect("test data");
        let membership = decode_membership(&old).expect("readable");
        let addresses: Vec<_> = membership
            .nodes()
            .map(|(id, member)| (*id, member.address.as_str()))
            .collect();
        assert_eq!(addresses, [(1, "a:1"), (2, "b:2")]);
        assert_eq!(membership.voter_ids().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn votes_and_positions_have_their_golden_bytes() {
        let vote = Vote::new_committed(5, 1);
        assert_eq!(hex::encode(encode_vote(&vote)), "010105000000000000000100000000000000");
        assert_eq!(decode_vote(&encode_vote(&vote)), Ok(vote));
        let id = log_id(5, 1, 9);
        let golden = "0101050000000000000001000000000000000900000000000000";
        assert_eq!(hex::encode(encode_log_id(Some(&id))), golden);
        assert_eq!(decode_log_id(&encode_log_id(Some(&id))), Ok(Some(id)));
        assert_eq!(decode_log_id(&encode_log_id(None)), Ok(None));
    }

    #[test]
    fn every_kind_of_entry_comes_back_as_written() {
        let bytes = Bytes::from_static(b"x");
        for payload in [
            Payload::Blank,
            Payload::Normal(Command { stamp_ms: 1, bytes }),
            Payload::Membership(two_members()),
        ] {
            let record = encoded(payload.clone());
            let entry = decode_entry(&record.key, &Bytes::from(flat(&record))).expect("just written");
            assert_eq!(entry.payload, payload);
            assert_eq!(entry.log_id, log_id(3, 1, 7));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_a_sentence() {
        let key = entry_key(KIND_ENTRY, &log_id(1, 1, 1).leader_id, 1);
        for bad in [
            "",
            "0101",
            "02010000000000000000",
            "01030000000000000000",
            "0100000000000000000000",
            "010200000000000000000101",
        ] {
            let payload = Bytes::from(hex::decode(bad).expect("test data"));
            assert!(decode_entry(&key, &payload).is_err(), "{bad}");
        }
        assert!(decode_vote(&[1; 17]).is_err());
        assert!(decode_vote(&[1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
        assert!(decode_log_id(&[2; 26]).is_err());
    }
}
