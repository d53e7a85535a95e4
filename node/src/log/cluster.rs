//! Members: who they are and how they are; and the answers to peers. How one comes in and goes out is in `membership`.
//!
//! Owns what this node tells its peers and knows of them. Lives on the log's thread.

use super::fetch;
use super::level::Speaks;
use super::machine::Machine;
use super::membership::{self, LastMembership};
use super::peers::frame::{self, Purpose, kind};
use super::peers::{Hello, NotTaken, PeerError, Peers, Refusal};
use super::quarantine::{self, Compared};
use super::snapshot::Snapshots;
use super::space::{Repair, Space};
use super::store::Store;
use super::tables;
use super::types::{Entry, Member, TypeConfig};
use super::{Peering, ProposeError, Shared};
use crate::base::{NodeId, UploadId};
use crate::bodies::Bodies;
use crate::ledger::{Ledger, Read, Table, Writer};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::Raft;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::{TransferLeaderRequest, VoteRequest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often members ask each other how they are.
pub const STATUS_EVERY: Duration = Duration::from_millis(1000);
/// How often a node that has not heard that it is current asks.
const CONTACT_EVERY: Duration = Duration::from_millis(250);
const STATUS_MAX: Duration = Duration::from_millis(800);
/// How often a node that nobody has taken in asks again.
pub const JOIN_EVERY: Duration = Duration::from_millis(500);
/// So long who is asked to change the membership tries.
pub const JOIN_MAX: Duration = Duration::from_secs(10);

/// Every node that ever was a member, with its data folder's number: key 8 bytes big-endian, value 16 bytes
/// big-endian. Part of the replicated state, because who leads must know who must never come back.
const EVER: Table = Table::permanent(62);

/// Notes the members of an applied membership.
pub fn note_members(writer: &mut Writer<'_>, members: &BTreeMap<u64, Member>) {
    for (id, member) in members {
        writer.put(EVER, &id.to_be_bytes(), &member.incarnation.to_be_bytes());
    }
}

/// The folder that a number belonged to, if it ever was a member's.
pub fn ever(ledger: &Ledger, id: u64) -> Option<u128> {
    let bytes = ledger.get(EVER, &id.to_be_bytes())?;
    Some(u128::from_be_bytes(bytes[..].try_into().ok()?))
}

/// What a member says of itself when it is asked. Goes over the wire as it is: what is added goes behind it, as [`Speaks`] does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Last applied index.
    pub applied: u64,
    /// Last index of its log.
    pub last: u64,
    /// Term of that entry.
    pub last_term: u64,
    /// Its clock, ms since 1970.
    pub clock_ms: u64,
    /// Hash of its history at some positions it passed, newest last.
    pub history: Vec<(u64, [u8; 32])>,
    /// What it shows of itself, as JSON.
    pub about: Vec<u8>,
}

/// One member as this node sees it.
#[derive(Clone, Debug)]
pub struct MemberView {
    /// Number.
    pub id: NodeId,
    /// Name, site, address.
    pub member: Member,
    /// It votes.
    pub voter: bool,
    /// It leads, as far as this node knows.
    pub leader: bool,
    /// What it said when it was asked last; `None` when it did not answer.
    pub status: Option<PeerStatus>,
    /// Why it did not; empty when it did.
    pub silent: String,
    /// Its clock less this node's, ms; half the time of the question is its error.
    pub skew_ms: i64,
    /// The format levels that it speaks; `None` when it did not answer.
    pub speaks: Option<Speaks>,
}

/// Who stands against raising the format level, one sentence each.
pub fn against_level(view: &ClusterView, level: u32) -> Vec<String> {
    let against = |other: &MemberView| match other.speaks {
        Some(speaks) if speaks.level(level) => None,
        Some(speaks) => Some(format!(
            "{} runs a release that speaks format level {}: give it the new release first",
            other.member.name,
            speaks.text()
        )),
        None => Some(format!(
            "{} does not answer, so nobody knows which release it runs: bring it back, or `vertebra leave {}` if it is gone \
             for good",
            other.member.name, other.id
        )),
    };
    view.others.iter().filter_map(against).collect()
}

/// All members as this node sees them.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    /// The cluster; none while this node belongs to none.
    pub cluster: Option<u128>,
    /// Its epoch.
    pub epoch: u64,
    /// Every other member, by number; this node is not among them.
    pub others: Vec<MemberView>,
    /// This node votes.
    pub voter: bool,
    /// This node is a member.
    pub member: bool,
}

/// What a new member is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Joined {
    /// Its cluster.
    pub cluster: u128,
    /// That one's epoch.
    pub epoch: u64,
}

/// A member's answer when it was asked how it is.
struct Heard {
    status: PeerStatus,
    speaks: Speaks,
    skew_ms: i64,
}

/// What is asked of the log's thread about the membership.
pub enum Ask {
    /// Takes a member out.
    Leave(NodeId),
    /// Hands leadership to somebody else, if this node has it.
    HandOver,
    /// Whether the format level may be raised: asks every member.
    MayRaise(u32),
}

/// Asks with where their answers go.
pub type Asked = (Ask, tokio::sync::oneshot::Sender<Result<(), String>>);

/// Everything a peer can ask of.
pub struct Cluster {
    pub raft: Raft<TypeConfig, Machine>,
    pub shared: Arc<Shared>,
    pub peers: Rc<Peers>,
    pub store: Arc<Store>,
    pub snapshots: Arc<Snapshots>,
    pub space: Arc<Space>,
    pub bodies: Bodies,
}

impl Cluster {
    /// Takes peers in, and starts what looks after the membership.
    pub fn start(self: &Rc<Cluster>, peering: Peering) -> std::io::Result<()> {
        let (asks, asked) = tokio::sync::mpsc::unbounded_channel();
        *self.shared.asks.lock() = Some(asks);
        let (repairs, wanted) = tokio::sync::mpsc::unbounded_channel();
        self.space.have_repaired(repairs);
        tokio::task::spawn_local(self.clone().run_repairs(wanted));
        super::peers::serve::start(peering.listeners, self.clone())?;
        super::bulk::start(self);
        tokio::task::spawn_local(self.clone().run_asks(asked));
        tokio::task::spawn_local(self.clone().run_leading());
        tokio::task::spawn_local(self.clone().run_status());
        tokio::task::spawn_local(self.clone().run_contact());
        tokio::task::spawn_local(self.clone().run_joining(peering.peers));
        Ok(())
    }

    /// Who leads, if somebody else does.
    pub fn leader(&self) -> Option<(u64, Member)> {
        let id = self.shared.leader_id.load(Ordering::Acquire);
        if id == 0 || id == self.me() {
            return None;
        }
        self.membership().members.remove(&id).map(|member| (id, member))
    }

    /// This node's number.
    pub fn me(&self) -> u64 {
        self.peers.local().identity.lock().node
    }

    /// Answers a peer.
    pub async fn answer(self: Rc<Cluster>, peer: &Hello, what: u8, payload: Bytes) -> Result<Bytes, Refusal> {
        let malformed = |_| Refusal::Said("a request that cannot be read".to_owned());
        let stopping = || Refusal::Said("the node is stopping".to_owned());
        if peer.cluster.is_none() && what != kind::JOIN {
            return Err(Refusal::Said(
                "who belongs to no cluster can only ask to be taken in".to_owned(),
            ));
        }
        match what {
            kind::APPEND_ONE => {
                let request = frame::decode_append(payload).map_err(malformed)?;
                let answer = self.raft.append_entries(request).await.map_err(|_| stopping())?;
                Ok(frame::encode(&answer))
            }
            kind::VOTE | kind::PRE_VOTE => {
                let asked: VoteRequest<TypeConfig> = frame::decode(&payload).map_err(malformed)?;
                let request = membership::as_asked_of(&self.raft, self.me(), asked)
                    .await
                    .map_err(|_| stopping())?;
                let answer = if what == kind::VOTE {
                    self.raft.vote(request).await
                } else {
                    self.raft.pre_vote(request).await
                };
                Ok(frame::encode(&answer.map_err(|_| stopping())?))
            }
            kind::TRANSFER => {
                let request: TransferLeaderRequest<TypeConfig> = frame::decode(&payload).map_err(malformed)?;
                let answer = self.raft.handle_transfer_leader(request).await;
                Ok(frame::encode(&answer.map_err(|_| stopping())?))
            }
            kind::SNAPSHOT => {
                let (wanted, at_least) = frame::decode_with(&payload).map_err(malformed)?;
                let answer = fetch::install(&self, wanted, at_least.unwrap_or(0))
                    .await
                    .map_err(Refusal::Said)?;
                Ok(frame::encode(&answer))
            }
            kind::SNAPSHOT_OPEN => fetch::open(&self.snapshots, &payload).await,
            kind::SNAPSHOT_READ => fetch::read(&self.snapshots, &payload).await,
            kind::PROPOSE => self.propose(payload).await,
            kind::READ_INDEX => self.read_index().await,
            kind::STATUS => Ok(frame::encode_with(&self.status(), &Speaks::this())),
            kind::JOIN => {
                let member: Member = frame::decode(&payload).map_err(malformed)?;
                Ok(frame::encode(&self.join(peer.node, member).await?))
            }
            kind::LEAVE => {
                let id: u64 = frame::decode(&payload).map_err(malformed)?;
                self.leave(id).await?;
                Ok(Bytes::new())
            }
            kind::PIECE_PUT => {
                let (upload, piece, bytes) = frame::decode_piece(payload).map_err(malformed)?;
                let kept = self.bodies.keep(UploadId(upload), piece, bytes).await;
                kept.map_err(|error| Refusal::Said(error.to_string()))?;
                Ok(Bytes::new())
            }
            kind::PIECE_GET => {
                let (upload, piece): (u128, u32) = frame::decode(&payload).map_err(malformed)?;
                let bytes = self.bodies.piece(UploadId(upload), piece).await;
                bytes.map_err(|_| Refusal::Gone)
            }
            kind::PIECES => {
                let upload: u128 = frame::decode(&payload).map_err(malformed)?;
                Ok(frame::encode(&self.bodies.pieces(UploadId(upload))))
            }
            kind::ENTRY_GET => {
                let index: u64 = frame::decode(&payload).map_err(malformed)?;
                match self.store.entry_here(index).await {
                    Ok(Some(entry)) => Ok(encode_entry(&entry)),
                    Ok(None) | Err(_) => Err(Refusal::Gone),
                }
            }
            _ => Err(Refusal::Said("a request of a later release".to_owned())),
        }
    }

    /// A command that another node took from its client.
    async fn propose(&self, command: Bytes) -> Result<Bytes, Refusal> {
        if !self.shared.leader.load(Ordering::Acquire) {
            return Err(Refusal::NotLeader { leader: self.leader() });
        }
        match super::propose_here(&self.shared, command, None).await {
            Ok(applied) => Ok(frame::encode_applied(
                applied.at.index,
                applied.at.time.ms(),
                &applied.outcome,
            )),
            Err(ProposeError::Unknown) => Err(Refusal::Unknown),
            Err(ProposeError::NoLeader) => Err(Refusal::NotLeader { leader: self.leader() }),
            // Who sent it has applied the new level; this node is about to.
            Err(ProposeError::NotYet) => Err(Refusal::NotLeader { leader: self.leader() }),
            Err(ProposeError::Overloaded) => Err(Refusal::NotTaken(NotTaken::Overloaded)),
            Err(ProposeError::DiskFull) => Err(Refusal::NotTaken(NotTaken::DiskFull)),
            Err(ProposeError::ClockJumped) => Err(Refusal::NotTaken(NotTaken::ClockJumped)),
            Err(ProposeError::Closing) => Err(Refusal::NotTaken(NotTaken::Closing)),
        }
    }

    async fn read_index(&self) -> Result<Bytes, Refusal> {
        if !self.shared.leader.load(Ordering::Acquire) {
            return Err(Refusal::NotLeader { leader: self.leader() });
        }
        match super::serve::read_index(&self.shared).await {
            Ok(index) => Ok(frame::encode(&index)),
            Err(_) => Err(Refusal::NotLeader { leader: None }),
        }
    }

    /// What this node says of itself.
    pub fn status(&self) -> PeerStatus {
        let last = self.store.bounds().2;
        PeerStatus {
            applied: self.shared.seen.applied_end.load(Ordering::Acquire).saturating_sub(1),
            last: last.map_or(0, |id| id.index),
            last_term: last.map_or(0, |id| id.leader_id.term),
            clock_ms: self.shared.clock.now().ms(),
            history: self.shared.seen.history.lock().samples(),
            about: self.shared.about(),
        }
    }

    /// Hands leadership to the voter whose log is longest. Returns once this node does not lead.
    pub async fn hand_over(&self) -> Result<(), String> {
        let voters = self.membership().voters;
        let me = self.me();
        let matched = self.raft.metrics().borrow_watched().replication.clone();
        let mut others: Vec<(Option<u64>, u64)> = matched
            .unwrap_or_default()
            .into_iter()
            .filter(|(id, _)| *id != me && voters.contains(id))
            .map(|(id, log_id)| (log_id.map(|id| id.index), id))
            .collect();
        others.sort_unstable();
        for (_, to) in others.into_iter().rev() {
            if !self.shared.leader.load(Ordering::Acquire) {
                return Ok(());
            }
            if self.raft.trigger().transfer_leader(to).await.is_err() {
                return Err("the node is stopping".to_owned());
            }
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(1_500) {
                let leader = self.raft.metrics().borrow_watched().current_leader;
                if leader.is_some_and(|leader| leader != me) {
                    super::serve::note_leadership(&self.raft, &self.shared);
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        if self.shared.leader.load(Ordering::Acquire) {
            return Err("no other voter could take over".to_owned());
        }
        Ok(())
    }

    /// Carries out what operators ask, wherever the leader is.
    pub async fn run_asks(self: Rc<Cluster>, mut asks: tokio::sync::mpsc::UnboundedReceiver<Asked>) {
        while let Some((ask, answer)) = asks.recv().await {
            let this = self.clone();
            tokio::task::spawn_local(async move {
                let result = match ask {
                    Ask::HandOver => this.hand_over().await,
                    Ask::Leave(id) => this.leave_wherever(id).await,
                    Ask::MayRaise(level) => this.may_raise(level).await,
                };
                let _gone = answer.send(result);
            });
        }
    }

    /// Gets entries that are damaged here from other members, and keeps them here again.
    async fn run_repairs(self: Rc<Cluster>, mut wanted: tokio::sync::mpsc::UnboundedReceiver<Repair>) {
        while let Some((index, answer)) = wanted.recv().await {
            let this = self.clone();
            tokio::task::spawn_local(async move {
                if let Some(entry) = this.repair(index).await {
                    let _gone = answer.send(entry);
                }
            });
        }
    }

    async fn repair(&self, index: u64) -> Option<Entry> {
        let row = tables::held(&self.store.ledger, index)?;
        let me = self.me();
        for (id, member) in self.membership().members.iter().filter(|(id, _)| **id != me) {
            let asked = frame::encode(&index);
            let answer = self
                .peers
                .call(*id, member, Purpose::Calls, kind::ENTRY_GET, asked, STATUS_MAX);
            let Some(entry) = answer.await.ok().and_then(decode_entry) else {
                continue;
            };
            if entry.log_id.index != index || entry.log_id.leader_id != row.leader {
                continue;
            }
            match self.space.replace(&self.store, &entry).await {
                Ok(()) => tracing::warn!(index, from = id, "a damaged entry was replaced by another member's"),
                Err(cause) => tracing::warn!(index, %cause, "another member's entry could not be kept here"),
            }
            return Some(entry);
        }
        None
    }

    /// Asks the addresses of the configuration in turn until this node is taken in.
    pub async fn run_joining(self: Rc<Cluster>, addresses: Vec<String>) {
        let mut said = String::new();
        let mut next = addresses.iter().cycle();
        let mut to: Option<String> = None;
        while self.peers.local().identity.lock().cluster.is_none() {
            let Some(address) = to.take().or_else(|| next.next().cloned()) else {
                return;
            };
            let link = self.peers.stranger(&address);
            let payload = frame::encode(&self.peers.local().member);
            let what = match link.call(kind::JOIN, payload, JOIN_MAX).await {
                Ok(answer) => match frame::decode::<Joined>(&answer) {
                    Ok(Joined { cluster, epoch }) => {
                        if let Err(cause) = self.peers.local().identity.lock().enter(cluster, epoch) {
                            super::end(&format!("the data folder's cluster could not be written: {cause}"));
                        }
                        tracing::info!(address, "this node is taken in; it catches up");
                        return;
                    }
                    Err(_) => "an answer that cannot be read".to_owned(),
                },
                Err(PeerError::Refused(Refusal::NotLeader {
                    leader: Some((_, leader)),
                })) => {
                    to = (leader.address != address).then_some(leader.address);
                    "it does not lead".to_owned()
                }
                Err(error) => error.to_string(),
            };
            if what != said && to.is_none() {
                tracing::warn!(address, why = what, "not taken in yet; asking again");
                said = what;
            }
            tokio::time::sleep(JOIN_EVERY).await;
        }
    }

    /// A node that nobody asks for anything still finds out whether a majority stands behind whom it takes for the leader, and
    /// whether its own state follows.
    async fn run_contact(self: Rc<Cluster>) {
        loop {
            tokio::time::sleep(CONTACT_EVERY).await;
            let fresh = self.shared.current_at().is_some_and(|at| at.elapsed() < CONTACT_EVERY);
            if !fresh || !self.shared.has_caught_up() {
                // What comes of it is noted where all such answers come in.
                let _cut_off = super::serve::read_index(&self.shared).await;
            }
        }
    }

    /// Asks every other member how it is, again and again.
    pub async fn run_status(self: Rc<Cluster>) {
        loop {
            let view = self.look().await;
            let before = self.shared.cluster.lock().clone();
            for other in &view.others {
                let was_silent = before
                    .others
                    .iter()
                    .any(|was| was.id == other.id && was.status.is_none());
                let (node, name, why) = (other.id, &other.member.name, &other.silent);
                match (other.status.is_some(), was_silent) {
                    (true, true) => tracing::info!(node, name, "a member answers again"),
                    (false, false) => tracing::warn!(node, name, why, "a member does not answer"),
                    (true, false) | (false, true) => (),
                }
            }
            let answering = view.others.iter().filter(|other| other.status.is_some());
            self.shared
                .look_at_peers(&answering.map(|other| other.skew_ms).collect::<Vec<_>>());
            self.compare_histories(&view.others);
            *self.shared.cluster.lock() = view;
            tokio::time::sleep(STATUS_EVERY).await;
        }
    }

    /// Asks every other member how it is.
    async fn look(&self) -> ClusterView {
        let LastMembership { members, voters, .. } = self.membership();
        let me = self.me();
        let asked = members.iter().filter(|(id, _)| **id != me).map(async |(id, member)| {
            let answer = self.ask_status(*id, member).await;
            let silent = answer.as_ref().err().map(ToString::to_string).unwrap_or_default();
            let heard = answer.ok();
            MemberView {
                id: *id,
                member: member.clone(),
                voter: voters.contains(id),
                leader: *id == self.shared.leader_id.load(Ordering::Acquire),
                skew_ms: heard.as_ref().map_or(0, |heard| heard.skew_ms),
                speaks: heard.as_ref().map(|heard| heard.speaks),
                status: heard.map(|heard| heard.status),
                silent,
            }
        });
        let others = futures_util::future::join_all(asked).await;
        let identity = self.peers.local().identity.lock().clone();
        ClusterView {
            cluster: identity.cluster,
            epoch: identity.epoch,
            others,
            voter: voters.contains(&me),
            member: members.contains_key(&me),
        }
    }

    /// What stands against raising the format level, as the members say it now.
    async fn may_raise(&self, level: u32) -> Result<(), String> {
        let mut view = self.look().await;
        if view.others.iter().any(|other| other.status.is_none()) {
            // Who has just been restarted is reached by a new connection.
            tokio::time::sleep(JOIN_EVERY).await;
            view = self.look().await;
        }
        if view.cluster.is_none() {
            return Err("this node belongs to no cluster yet; try again once it is taken in".to_owned());
        }
        let standing = against_level(&view, level);
        if standing.is_empty() {
            return Ok(());
        }
        Err(standing.join("; "))
    }

    /// Ends the node when its state is not its peers': what it would answer from now on is wrong.
    fn compare_histories(&self, others: &[MemberView]) {
        let own = self.shared.seen.history.lock();
        let compared: Vec<Compared> = others
            .iter()
            .filter_map(|other| {
                let (index, agrees) = own.agrees_with(&other.status.as_ref()?.history)?;
                let leads = other.leader;
                Some(Compared { index, agrees, leads })
            })
            .collect();
        drop(own);
        let leader = self.shared.leader_id.load(Ordering::Acquire);
        let Some(index) = quarantine::is_odd_one(&compared, leader == self.me()) else {
            return;
        };
        match quarantine::mark(&self.shared.folder, index) {
            Ok(()) => super::end(&format!(
                "this node's state differs from its peers' at index {index}: it is in quarantine"
            )),
            Err(cause) => super::end(&format!(
                "this node's state differs from its peers' at index {index}, and that could not be noted: {cause}"
            )),
        }
    }

    /// What it says of itself, and its clock less this node's.
    async fn ask_status(&self, id: u64, member: &Member) -> Result<Heard, PeerError> {
        let sent = self.shared.clock.now().ms() as i64;
        let asked = self
            .peers
            .call(id, member, Purpose::Calls, kind::STATUS, Bytes::new(), STATUS_MAX);
        let (status, speaks): (PeerStatus, Option<Speaks>) =
            frame::decode_with(&asked.await?).map_err(|_| PeerError::Malformed)?;
        let received = self.shared.clock.now().ms() as i64;
        let skew_ms = status.clock_ms as i64 - i64::midpoint(sent, received);
        let speaks = speaks.unwrap_or_default();
        Ok(Heard {
            status,
            speaks,
            skew_ms,
        })
    }
}

/// And back; `None` for what is no entry.
fn decode_entry(mut bytes: Bytes) -> Option<Entry> {
    if bytes.len() < 24 {
        return None;
    }
    let (term, node, index) = (bytes.get_u64_le(), bytes.get_u64_le(), bytes.get_u64_le());
    let id = super::types::log_id(term, node, index);
    let key = super::record::entry_key(super::record::KIND_ENTRY, &id.leader_id, index);
    super::record::decode_entry(&key, &bytes).ok()
}

/// Term, node, index (8 bytes each, little-endian), then the entry's payload as in the journal.
fn encode_entry(entry: &Entry) -> Bytes {
    let mut records = Vec::new();
    super::record::encode_entries(super::record::KIND_ENTRY, std::slice::from_ref(entry), &mut records);
    let mut out = BytesMut::new();
    out.put_u64_le(entry.log_id.leader_id.term);
    out.put_u64_le(entry.log_id.leader_id.node_id);
    out.put_u64_le(entry.log_id.index);
    for part in records.iter().flat_map(|record| &record.payload) {
        out.put_slice(part);
    }
    out.freeze()
}
