//! Changes of the membership: who comes in, who goes out, which learners become voters.
//!
//! Owns the rule that every change is judged: on the membership this node saw last, and made only while that one is still
//! the last. Raft refuses it otherwise, and it is judged anew.

use super::cluster::{Cluster, JOIN_EVERY, JOIN_MAX, Joined, STATUS_EVERY, ever};
use super::peers::frame::{self, Purpose, kind};
use super::peers::{PeerError, Refusal};
use super::planted::{Bug, planted};
use super::rules;
use super::types::{LogId, Member, Membership, TypeConfig};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, Fatal};
use openraft::raft::{Precondition, VoteRequest};
use openraft::storage::RaftStateMachine;
use openraft::{ChangeMembers, Raft};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often the leader looks for learners that have caught up.
const PROMOTE_EVERY: Duration = Duration::from_millis(300);
/// A learner this close to the log's end has caught up.
const CAUGHT_UP_ENTRIES: u64 = 1_000;
/// So long learners that have caught up wait for those that have not, because they become voters together.
const BATCH_MAX: Duration = Duration::from_secs(30);
/// A leader whose disk is full or whose clock jumped looks so often for somebody better: when all are like it, leadership stays
/// put between.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// A change whose leader was lost between its two entries is finished by the next leader after so long.
const FINISH_AFTER: Duration = Duration::from_secs(2);
/// After so long a change that another one was ahead of is judged again.
const JUDGE_AGAIN: Duration = Duration::from_millis(50);

/// The membership as last written to this node's log.
#[derive(Clone, Debug)]
pub struct LastMembership {
    /// The entry that holds it.
    pub log_id: Option<LogId>,
    /// Every member.
    pub members: BTreeMap<u64, Member>,
    /// Who votes; while a change is under way, those before and those after it.
    pub voters: BTreeSet<u64>,
    /// Who votes once the change that is under way is complete; `None` when none is.
    pub becoming: Option<BTreeSet<u64>>,
}

impl LastMembership {
    /// As Raft last published it, which may be behind what it has written: [`change`] finds out.
    pub fn of<M: RaftStateMachine<TypeConfig>>(raft: &Raft<TypeConfig, M>) -> LastMembership {
        let metrics = raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let stored = &metrics.membership_config;
        let configs = stored.membership().get_joint_config();
        LastMembership {
            log_id: *stored.log_id(),
            members: stored.nodes().map(|(id, member)| (*id, member.clone())).collect(),
            voters: stored.voter_ids().collect(),
            becoming: configs
                .last()
                .filter(|_| configs.len() > 1 && !planted(Bug::HalfMadeIsWhole))
                .cloned(),
        }
    }
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is made.
    Made,
    /// Another one was ahead of it, or is under way: it must be judged anew.
    JudgeAnew,
}

type Refused = openraft::errors::RaftError<TypeConfig, ClientWriteError<TypeConfig>>;

/// Makes a change that was judged on `seen`, if that is still the last membership and no change of it is under way: what
/// that one leads to is who votes next, and not who votes now.
///
/// # Errors
/// What Raft says to it.
pub async fn change<M: RaftStateMachine<TypeConfig>>(
    raft: &Raft<TypeConfig, M>,
    seen: &LastMembership,
    change: ChangeMembers<u64, Member>,
) -> Result<Change, Refused> {
    if seen.becoming.is_some() {
        return Ok(Change::JudgeAnew);
    }
    change_if(raft, seen, change).await
}

/// Finishes a change whose leader was lost in the middle of it; there is nothing to do where none is under way.
///
/// # Errors
/// What Raft says to it.
pub async fn finish<M: RaftStateMachine<TypeConfig>>(
    raft: &Raft<TypeConfig, M>,
    seen: &LastMembership,
) -> Result<Change, Refused> {
    match &seen.becoming {
        Some(voters) => change_if(raft, seen, ChangeMembers::ReplaceAllVoters(voters.clone())).await,
        None => Ok(Change::Made),
    }
}

async fn change_if<M: RaftStateMachine<TypeConfig>>(
    raft: &Raft<TypeConfig, M>,
    seen: &LastMembership,
    change: ChangeMembers<u64, Member>,
) -> Result<Change, Refused> {
    let last_membership_log_id = seen.log_id;
    let unchanged = Precondition::LastMembershipLogId { last_membership_log_id };
    let result = raft.change_membership_if(change, false, [unchanged]).await;
    match result {
        Ok(_) => Ok(Change::Made),
        Err(error) => match error.api_error() {
            Some(
                ClientWriteError::PreconditionFailed(_)
                | ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_)),
            ) => Ok(Change::JudgeAnew),
            _ => Err(error),
        },
    }
}

/// A candidate's question as member `me` has to answer it. A learner has no say about logs, so what it has counts as no more
/// than what the candidate has: nothing that is committed depends on it. Where a leader counts it for an entry, either the
/// change that makes it a voter is in its own log, and it is no learner by that, or the entry is before that change, and a
/// majority of the voters before has it as well. A candidate with such a change needs its vote, and may have less than it:
/// a leader that was lost had begun to send it more. It does not stand itself, so each would wait for the other for good.
///
/// Two steps: if more comes to the learner in between, it is counted by who sends it only once it has an entry of that
/// leader's own, which is more than what is given here.
///
/// # Errors
/// Raft is stopping.
pub async fn as_asked_of<M: RaftStateMachine<TypeConfig>>(
    raft: &Raft<TypeConfig, M>,
    me: u64,
    mut asked: VoteRequest<TypeConfig>,
) -> Result<VoteRequest<TypeConfig>, Fatal<TypeConfig>> {
    let as_learner = raft.with_raft_state(move |state| {
        let known = &state.membership_state;
        let learner = is_learner(me, known.effective().membership(), known.committed().membership());
        learner.then(|| state.log_ids.last().copied()).flatten()
    });
    let as_learner = as_learner.await?.filter(|_| !planted(Bug::LearnerHasASay));
    asked.last_log_id = asked.last_log_id.max(as_learner);
    Ok(asked)
}

/// Whether a node is a member and no voter by all it knows. Raft lets all other members stand. A node that was just taken in
/// may not know yet that it is, so that it is a member is known from its log's end alone.
fn is_learner(me: u64, effective: &Membership, committed: &Membership) -> bool {
    let votes = |known: &Membership| known.voter_ids().any(|id| id == me);
    effective.get_node(&me).is_some() && !votes(effective) && !votes(committed)
}

impl Cluster {
    /// The membership as last written to this node's log.
    pub fn membership(&self) -> LastMembership {
        LastMembership::of(&self.raft)
    }

    /// Takes a node in as a learner. Asked again it says the same.
    pub async fn join(&self, id: u64, member: Member) -> Result<Joined, Refusal> {
        let began = Instant::now();
        loop {
            if !self.shared.leader.load(Ordering::Acquire) {
                return Err(Refusal::NotLeader { leader: self.leader() });
            }
            let seen = self.membership();
            let known = seen.members.get(&id);
            let before = known
                .map(|known| known.incarnation)
                .or_else(|| ever(&self.store.ledger, id));
            if let Some(why) = rules::cannot_enter(&seen.members, &seen.voters, before, id, &member) {
                return Err(Refusal::Said(why));
            }
            if known == Some(&member) {
                break;
            }
            tracing::info!(
                node = id,
                name = member.name,
                site = member.site,
                "a node is taken in as a learner"
            );
            let nodes = BTreeMap::from([(id, member.clone())]);
            let wanted = match known {
                Some(_) => ChangeMembers::SetNodes(nodes),
                None => ChangeMembers::AddNodes(nodes),
            };
            if self.change(&seen, wanted, began).await? == Change::Made {
                break;
            }
        }
        let identity = self.peers.local().identity.lock();
        let cluster = identity.cluster.ok_or(Refusal::NotLeader { leader: None })?;
        Ok(Joined {
            cluster,
            epoch: identity.epoch,
        })
    }

    /// As [`change`], with its errors as a peer is told them. What is to be judged anew waits a moment first, and no longer
    /// than [`JOIN_MAX`] from `began`.
    async fn change(
        &self,
        seen: &LastMembership,
        wanted: ChangeMembers<u64, Member>,
        began: Instant,
    ) -> Result<Change, Refusal> {
        match tokio::time::timeout(JOIN_MAX, change(&self.raft, seen, wanted)).await {
            Ok(Ok(Change::JudgeAnew)) if began.elapsed() >= JOIN_MAX => Err(Refusal::Said(
                "another change of the members is under way; try again in a moment".to_owned(),
            )),
            Ok(Ok(Change::JudgeAnew)) => {
                tokio::time::sleep(JUDGE_AGAIN).await;
                Ok(Change::JudgeAnew)
            }
            Ok(Ok(Change::Made)) => Ok(Change::Made),
            Ok(Err(error)) => match error.api_error() {
                Some(ClientWriteError::ForwardToLeader(_)) => Err(Refusal::NotLeader { leader: self.leader() }),
                Some(other) => Err(Refusal::Said(format!("{other}; try again in a moment"))),
                None => Err(Refusal::Said("the node is stopping".to_owned())),
            },
            Err(_) => Err(Refusal::Unknown),
        }
    }

    /// Takes a member out.
    pub async fn leave(&self, id: u64) -> Result<(), Refusal> {
        let began = Instant::now();
        let mut tried = false;
        loop {
            if !self.shared.leader.load(Ordering::Acquire) {
                return Err(Refusal::NotLeader { leader: self.leader() });
            }
            let seen = self.membership();
            if tried && !seen.members.contains_key(&id) {
                return Ok(());
            }
            if let Some(why) = rules::cannot_leave(&seen.members, &seen.voters, id) {
                return Err(Refusal::Said(why));
            }
            if id == self.me() {
                // Who leads hands over first, so that the members left never wait for an election.
                self.hand_over().await.map_err(Refusal::Said)?;
                return Err(Refusal::NotLeader { leader: self.leader() });
            }
            tracing::info!(node = id, "a member is taken out");
            let gone = BTreeSet::from([id]);
            let wanted = match seen.voters.contains(&id) {
                true => ChangeMembers::RemoveVoters(gone),
                false => ChangeMembers::RemoveNodes(gone),
            };
            if self.change(&seen, wanted, began).await? == Change::Made {
                return Ok(());
            }
            tried = true;
        }
    }

    /// Takes a member out, wherever the leader is.
    pub async fn leave_wherever(&self, id: u64) -> Result<(), String> {
        let began = Instant::now();
        loop {
            let answer = match self.leader() {
                None => self.leave(id).await.map_err(PeerError::Refused),
                Some((leader, member)) => {
                    let payload = frame::encode(&id);
                    let asked = self
                        .peers
                        .call(leader, &member, Purpose::Calls, kind::LEAVE, payload, JOIN_MAX);
                    asked.await.map(|_| ())
                }
            };
            match answer {
                Ok(()) => return Ok(()),
                Err(PeerError::Refused(Refusal::NotLeader { .. }) | PeerError::Unreachable(_) | PeerError::Lost)
                    if began.elapsed() < JOIN_MAX =>
                {
                    tokio::time::sleep(JOIN_EVERY).await;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Keeps this node's own line in the membership true, finishes what a leader before began, and makes voters of learners
    /// that have caught up.
    pub async fn run_leading(self: Rc<Cluster>) {
        let mut ready_since: Option<Instant> = None;
        let mut unfinished: Option<(LogId, Instant)> = None;
        let mut asked: Option<Instant> = None;
        loop {
            tokio::time::sleep(PROMOTE_EVERY).await;
            if !self.shared.leader.load(Ordering::Acquire) || self.shared.is_cut_off() {
                ready_since = None;
                continue;
            }
            let seen = self.membership();
            if seen.voters.len() > 1 && self.leads_badly(&mut asked).await {
                continue;
            }
            if let (Some(wanted), Some(log_id)) = (&seen.becoming, seen.log_id) {
                let (noticed, since) = *unfinished.get_or_insert_with(|| (log_id, Instant::now()));
                if noticed != log_id {
                    unfinished = None;
                } else if since.elapsed() >= FINISH_AFTER {
                    tracing::info!(?wanted, "a change of the members that was cut short is finished");
                    let finished = tokio::time::timeout(JOIN_MAX, finish(&self.raft, &seen)).await;
                    if let Ok(Err(why)) = finished {
                        tracing::warn!(%why, "it is not finished yet");
                    }
                    unfinished = None;
                }
                continue;
            }
            unfinished = None;
            let (me, own) = (self.me(), &self.peers.local().member);
            if seen.members.get(&me).is_some_and(|member| member != own) {
                if let Some(why) = rules::cannot_enter(&seen.members, &seen.voters, None, me, own) {
                    tracing::warn!(why, "the membership does not say where this node is");
                    tokio::time::sleep(STATUS_EVERY).await;
                } else {
                    self.try_change(&seen, ChangeMembers::SetNodes(BTreeMap::from([(me, own.clone())])))
                        .await;
                }
                continue;
            }
            let learners: BTreeSet<u64> = seen
                .members
                .keys()
                .filter(|id| !seen.voters.contains(id))
                .copied()
                .collect();
            let ready = self.caught_up(&learners);
            let Some(wanted) = rules::promoted(&seen.members, &seen.voters, &ready) else {
                ready_since = None;
                continue;
            };
            let since = *ready_since.get_or_insert_with(Instant::now);
            if ready.len() < learners.len() && since.elapsed() < BATCH_MAX {
                continue;
            }
            tracing::info!(?wanted, "learners that have caught up become voters");
            self.try_change(&seen, ChangeMembers::ReplaceAllVoters(wanted)).await;
            ready_since = None;
        }
    }

    /// Whether this node should not lead: it then hands over, or says why nobody takes it.
    async fn leads_badly(&self, asked: &mut Option<Instant>) -> bool {
        if self.shared.clock_outvoted.load(Ordering::Acquire) {
            // Commands are stamped by the leader's clock: let somebody else do it.
            if let Err(why) = self.hand_over().await {
                tracing::warn!(why, "a node whose clock is off goes on leading");
                tokio::time::sleep(STATUS_EVERY).await;
            }
            return true;
        }
        let what = if self.shared.disk_full.load(Ordering::Acquire) {
            "this node's disk is full"
        } else if !self.shared.guard.lock().in_order() {
            "this node's clock jumped"
        } else {
            *asked = None;
            return false;
        };
        // It refuses every write of the cluster, which others may take.
        if asked.is_none_or(|at| at.elapsed() > ASK_AGAIN) {
            *asked = Some(Instant::now());
            match self.hand_over().await {
                Ok(()) => tracing::warn!("{what}: it no longer leads"),
                Err(why) => tracing::warn!(why, "{what}, and it goes on leading"),
            }
            return true;
        }
        false
    }

    /// A change of the leader's own, which it tries again by itself.
    async fn try_change(&self, seen: &LastMembership, wanted: ChangeMembers<u64, Member>) {
        if let Err(refused) = self.change(seen, wanted, Instant::now()).await {
            tracing::warn!(%refused, "a change of the members is not made yet");
        }
    }

    fn caught_up(&self, learners: &BTreeSet<u64>) -> BTreeSet<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let last = metrics.last_log_index.unwrap_or(0);
        let Some(replication) = &metrics.replication else {
            return BTreeSet::new();
        };
        let close = |id: &&u64| {
            let matched = replication.get(id).and_then(|log_id| log_id.as_ref());
            matched.is_some_and(|log_id| log_id.index + CAUGHT_UP_ENTRIES >= last)
        };
        learners.iter().filter(close).copied().collect()
    }
}
