//! What openraft is told about our types. Only this folder names openraft.

use bytes::Bytes;
use openraft::raft::responder::Responder;
use openraft::{EntryPayload, OptionalSend};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// A member as every other one knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name, which its certificate carries.
    pub name: String,
    /// Its data centre.
    pub site: String,
    /// Where its peers reach it, `HOST:PORT`; empty while it has none.
    pub address: String,
    /// Its data folder: made up when that was new. A number whose folder was lost must not come back with another.
    pub incarnation: u128,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} at {}", self.name, self.site, self.address)
    }
}

/// Term and node of a leader; two leaders of one term are told apart by the node.
pub type Leader = openraft::impls::leader_id_adv::LeaderId<u64, u64>;
/// Leader and index of an entry.
pub type LogId = openraft::LogId<Leader>;
/// A vote.
pub type Vote = openraft::Vote<Leader>;
/// What an entry carries.
pub type Payload = EntryPayload<Command, u64, Member>;
/// An entry.
pub type Entry = openraft::Entry<Leader, Payload>;
/// Who belongs to the cluster.
pub type Membership = openraft::Membership<u64, Member>;
/// The same with the entry that says so.
pub type StoredMembership = openraft::StoredMembership<Leader, u64, Member>;
/// What a snapshot covers.
pub type SnapshotMeta = openraft::SnapshotMeta<Leader, u64, Member>;

/// Makes a log id.
pub fn log_id(term: u64, node: u64, index: u64) -> LogId {
    LogId::new(Leader { term, node_id: node }, index)
}

/// A command with the leader's stamp. Cheap to clone. An empty command changes nothing (the deep ping).
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    /// The leader's clock as it queued the command, in milliseconds since 1970.
    pub stamp_ms: u64,
    /// The command.
    pub bytes: Bytes,
}

/// Never shows the bytes: they may be personal.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at {}", self.bytes.len(), self.stamp_ms)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// openraft asks for serde on its types; the journal's format is ours and does not use it.
impl Serialize for Command {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.stamp_ms, self.bytes.as_ref()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Command, D::Error> {
        let (stamp_ms, bytes) = <(u64, Vec<u8>)>::deserialize(deserializer)?;
        let bytes = Bytes::from(bytes);
        Ok(Command { stamp_ms, bytes })
    }
}

/// What applying an entry gave.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// Log time of the entry, in milliseconds since 1970.
    pub time_ms: u64,
    /// What `apply` answered; empty for entries that carry no command.
    pub outcome: Bytes,
}

/// Never shows the outcome: it may be personal.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at {}", self.outcome.len(), self.time_ms)
    }
}

/// As for [`Command`]: asked for by openraft, not used by us.
impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.time_ms, self.outcome.as_ref()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Answer, D::Error> {
        let (time_ms, outcome) = <(u64, Vec<u8>)>::deserialize(deserializer)?;
        let outcome = Bytes::from(outcome);
        Ok(Answer { time_ms, outcome })
    }
}

/// Takes a result straight to whoever waits, on whichever thread: no second channel and no task in between.
/// Dropped uncalled when Raft stops; the waiting side sees that as an unknown outcome.
pub struct Reply<T>(pub Box<dyn FnOnce(T)>);

impl<T: OptionalSend + 'static> Responder<TypeConfig, T> for Reply<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}

/// The types, for openraft.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeConfig;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = Command;
    type R = Answer;
    type NodeId = u64;
    type Node = Member;
    type Term = u64;
    type LeaderId = Leader;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = Entry;
    // openraft names the runtime's own crate as the better path; this one spares a dependency.
    #[cfg(not(test))]
    #[allow(deprecated)]
    type AsyncRuntime = openraft::impls::TokioRuntime;
    /// The same, or a simulated one.
    #[cfg(test)]
    type AsyncRuntime = super::simulation::Runtime;
    type Responder<T>
        = Reply<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}
