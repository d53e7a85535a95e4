//! The log's tasks while it serves: commands into Raft or on to the leader, reads through ReadIndex, leadership, the end.

use super::cluster::Cluster;
use super::keeper::Keeper;
use super::machine::Machine;
use super::peers::frame::{self, Purpose, kind};
use super::peers::{NotTaken, PeerError, Refusal};
use super::planted::{Bug, planted};
use super::queue::Proposal;
use super::types::{Command, Member, Reply, TypeConfig};
use super::{Applied, At, PATIENCE, ProposeError, Shared};
use crate::base::Timestamp;
use bytes::Bytes;
use openraft::async_runtime::{Instant as _, WatchReceiver};
use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use openraft::{Raft, ReadPolicy, ServerState};
use rustc_hash::FxHashMap;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How often what waits for a leader looks again.
const AGAIN: Duration = Duration::from_millis(10);
/// How often a leader looks when a majority last answered it.
const CONTACT_EVERY: Duration = Duration::from_millis(100);
/// A round of reads takes no longer; the next one may find another leader.
const ROUND_MAX: Duration = Duration::from_millis(1_000);
/// Rounds of reads under way at once: the second gathers while the first is out.
const ROUNDS: usize = 2;

/// Starts the tasks on the current thread; returns when leadership is known to the handles.
pub fn start(keeper: Keeper, cluster: Option<Rc<Cluster>>) {
    let (raft, shared) = (keeper.raft.clone(), keeper.shared.clone());
    note_leadership(&raft, &shared);
    tokio::task::spawn_local(watch_leadership(raft.clone(), shared.clone()));
    tokio::task::spawn_local(watch_contact(raft.clone(), shared.clone()));
    let proposing = Proposing {
        raft: raft.clone(),
        shared: shared.clone(),
        cluster: cluster.clone(),
        taken: RefCell::default(),
        next: Cell::new(0),
    };
    let proposing = Rc::new(proposing);
    tokio::task::spawn_local(proposing.clone().give_up_when_cut_off());
    let proposing = tokio::task::spawn_local(proposing.run());
    for _ in 0..ROUNDS {
        tokio::task::spawn_local(read(raft.clone(), shared.clone(), cluster.clone()));
    }
    tokio::task::spawn_local(close_when_asked(&keeper, cluster, proposing));
    let snapshots = keeper.snapshots.clone();
    tokio::task::spawn_local(super::backup::copy_when_asked(snapshots, shared, keeper.reserve_bytes));
    tokio::task::spawn_local(keeper.run());
}

/// What the handles may decide without asking the log's thread.
pub fn note_leadership(raft: &Raft<TypeConfig, Machine>, shared: &Shared) {
    let metrics = raft.server_metrics();
    let now = metrics.borrow_watched();
    let leader = now.state == ServerState::Leader;
    let voters = now.membership_config.membership().voter_ids().count();
    shared.leader.store(leader, Ordering::Release);
    shared
        .leader_id
        .store(now.current_leader.unwrap_or(0), Ordering::Release);
    shared.alone.store(leader && voters == 1, Ordering::Release);
    shared.term.store(now.vote.leader_id.term, Ordering::Release);
}

async fn watch_leadership(raft: Raft<TypeConfig, Machine>, shared: Arc<Shared>) {
    let mut metrics = raft.server_metrics();
    let mut said = 0;
    while metrics.changed().await.is_ok() {
        note_leadership(&raft, &shared);
        let leader = shared.leader_id.load(Ordering::Acquire);
        if leader != said && leader != 0 {
            tracing::info!(
                node = leader,
                term = shared.term.load(Ordering::Acquire),
                "a leader is known"
            );
            said = leader;
        }
    }
    shared.alone.store(false, Ordering::Release);
    shared.leader.store(false, Ordering::Release);
    shared.leader_id.store(0, Ordering::Release);
    if !shared.closing.load(Ordering::Acquire) {
        super::end("raft stopped after a storage error");
    }
}

/// A leader is in contact while a majority answers it.
async fn watch_contact(raft: Raft<TypeConfig, Machine>, shared: Arc<Shared>) {
    let metrics = raft.data_metrics();
    loop {
        tokio::time::sleep(CONTACT_EVERY).await;
        if shared.leader.load(Ordering::Acquire)
            && let (Some(acked), last) = {
                let seen = metrics.borrow_watched();
                (seen.last_quorum_acked, seen.last_log.as_ref().map(|id| id.index))
            }
        {
            let acked = Instant::now() - acked.elapsed();
            shared.note_contact_at(acked);
            // Nothing was acknowledged that a leader's log lacks.
            if let Some(last) = last {
                shared.note_reaches(last, acked);
            }
        }
    }
}

/// The way of commands.
struct Proposing {
    raft: Raft<TypeConfig, Machine>,
    shared: Arc<Shared>,
    cluster: Option<Rc<Cluster>>,
    /// Those that this node's Raft has taken, by a number of their own.
    taken: RefCell<FxHashMap<u64, Proposal>>,
    next: Cell<u64>,
}

impl Proposing {
    /// Raft keeps what a leader took until somebody's log decides it, which for one that is cut off may be never. Whoever
    /// waits for it is told that nobody knows, as soon as this node knows that.
    async fn give_up_when_cut_off(self: Rc<Proposing>) {
        loop {
            tokio::time::sleep(CONTACT_EVERY).await;
            if self.taken.borrow().is_empty() || !self.shared.is_cut_off() {
                continue;
            }
            for proposal in self.taken.borrow_mut().values_mut() {
                proposal.answer(Err(ProposeError::Unknown));
            }
        }
    }

    /// What Raft said of a command that it took.
    fn decided(&self, number: u64, result: ClientWriteResult<TypeConfig>) {
        let Some(mut proposal) = self.taken.borrow_mut().remove(&number) else {
            return;
        };
        match outcome(result) {
            // Not appended: somebody else leads by now.
            Err(ProposeError::NoLeader) if self.shared.clustered && proposal.answered.is_some() => {
                self.shared.queue.push(proposal);
            }
            outcome => proposal.answer(outcome),
        }
    }

    /// Takes what waits, once per tick, and hands it to Raft, which appends it as one batch, or to the leader.
    async fn run(self: Rc<Proposing>) {
        let mut held: Vec<Proposal> = Vec::new();
        loop {
            if held.is_empty() {
                held = self.shared.queue.take().await;
            } else if let Ok(more) = tokio::time::timeout(AGAIN, self.shared.queue.take()).await {
                held.extend(more);
            }
            if self.shared.leader.load(Ordering::Acquire) {
                self.write(std::mem::take(&mut held)).await;
            } else if let Some((id, member)) = self.cluster.as_ref().and_then(|cluster| cluster.leader()) {
                for proposal in std::mem::take(&mut held) {
                    tokio::task::spawn_local(self.clone().forward(id, member.clone(), proposal));
                }
            } else {
                let (late, waiting) = held.into_iter().partition(|one| one.since.elapsed() > PATIENCE);
                held = waiting;
                refuse(late, ProposeError::NoLeader);
            }
        }
    }

    async fn write(self: &Rc<Proposing>, proposals: Vec<Proposal>) {
        let shared = &self.shared;
        if !shared.guard.lock().in_order() {
            refuse(proposals, ProposeError::ClockJumped);
            return;
        }
        let stamp_ms = shared.clock.now().ms();
        for mut proposal in proposals {
            if let Some(taken) = proposal.taken.take() {
                // Who pings may have given up.
                let _gone = taken.send(Instant::now());
            }
            let command = Command {
                stamp_ms,
                bytes: proposal.command.clone(),
            };
            let number = self.next.get();
            self.next.set(number + 1);
            self.taken.borrow_mut().insert(number, proposal);
            let reply = Taken {
                number,
                proposing: self.clone(),
            };
            let reply = Reply(Box::new(move |result: ClientWriteResult<TypeConfig>| {
                reply.proposing.decided(reply.number, result)
            }));
            if self.raft.client_write_ff(command, Some(reply)).await.is_err() && !shared.closing.load(Ordering::Acquire)
            {
                super::end("raft stopped after a storage error");
            }
        }
    }

    /// Asks the leader. What was surely not taken waits for the next one; what may have been is answered as unknown.
    async fn forward(self: Rc<Proposing>, id: u64, member: Member, mut proposal: Proposal) {
        let Some(cluster) = &self.cluster else {
            return;
        };
        let limit = Duration::from_millis(self.shared.propose_timeout_ms);
        let command = proposal.command.clone();
        let asked = cluster
            .peers
            .call(id, &member, Purpose::Calls, kind::PROPOSE, command, limit);
        let answer = match asked.await {
            Ok(applied) => self.applied_there(applied).await,
            // A leader that is asked to stop takes nothing more, and another one leads in a moment.
            Err(
                PeerError::Refused(Refusal::NotLeader { .. } | Refusal::NotTaken(NotTaken::Closing))
                | PeerError::Unreachable(_),
            ) => {
                if proposal.since.elapsed() < PATIENCE {
                    tokio::time::sleep(AGAIN).await;
                    self.shared.queue.push(proposal);
                    return;
                }
                Err(ProposeError::NoLeader)
            }
            Err(PeerError::Refused(Refusal::NotTaken(why))) => Err(match why {
                NotTaken::Overloaded => ProposeError::Overloaded,
                NotTaken::DiskFull => ProposeError::DiskFull,
                NotTaken::ClockJumped => ProposeError::ClockJumped,
                NotTaken::Closing => ProposeError::Closing,
            }),
            Err(_) => Err(ProposeError::Unknown),
        };
        proposal.answer(answer);
    }

    /// The leader applied it; the client is told once this node has too, because it asks here next.
    async fn applied_there(&self, answer: Bytes) -> Result<Applied, ProposeError> {
        let (index, time_ms, outcome) = frame::decode_applied(answer).map_err(|_| ProposeError::Unknown)?;
        self.shared.seen.wait_applied(index, PATIENCE).await;
        let time = Timestamp::from_ms(time_ms);
        let at = At { index, time };
        Ok(Applied { at, outcome })
    }
}

/// Raft's promise to say what became of a command. When it ends without a word nobody knows.
struct Taken {
    number: u64,
    proposing: Rc<Proposing>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.proposing.taken.borrow_mut().remove(&self.number);
    }
}

fn refuse(proposals: Vec<Proposal>, why: ProposeError) {
    for mut proposal in proposals {
        proposal.answer(Err(why));
    }
}

fn outcome(result: ClientWriteResult<TypeConfig>) -> Result<Applied, ProposeError> {
    match result {
        Ok(written) => {
            let time = Timestamp::from_ms(written.data.time_ms);
            let at = At {
                index: written.log_id.index,
                time,
            };
            Ok(Applied {
                at,
                outcome: written.data.outcome,
            })
        }
        Err(ClientWriteError::ForwardToLeader(_)) => Err(ProposeError::NoLeader),
        Err(
            ClientWriteError::LogEntryDiscarded(_)
            | ClientWriteError::ChangeMembershipError(_)
            | ClientWriteError::PreconditionFailed(_),
        ) => Err(ProposeError::Unknown),
    }
}

/// One round after the other for all reads that waited together.
async fn read(raft: Raft<TypeConfig, Machine>, shared: Arc<Shared>, cluster: Option<Rc<Cluster>>) {
    loop {
        let readers = shared.queue.take_readers().await;
        let began = Instant::now();
        let answer = loop {
            let asked = Instant::now();
            let confirmed = tokio::time::timeout(ROUND_MAX, round(&raft, &shared, cluster.as_deref())).await;
            match confirmed {
                Ok(Some(index)) => {
                    // A majority stood behind the leader after it was asked: what this node knows from it is current.
                    shared.note_contact_at(asked);
                    shared.note_confirmed(index, asked);
                    break Ok(index);
                }
                Ok(None) | Err(_) if began.elapsed() < PATIENCE && !shared.is_cut_off() => {
                    tokio::time::sleep(AGAIN).await;
                }
                Ok(None) | Err(_) => break Err(ProposeError::NoLeader),
            }
        };
        for reader in readers {
            let _gone = reader.send(answer);
        }
    }
}

/// The index up to which everything acknowledged so far lies, as a leader knows it once a majority has told it that it leads.
pub async fn confirmed(raft: &Raft<TypeConfig, Machine>) -> Option<u64> {
    if planted(Bug::StaleRead) {
        return raft.metrics().borrow_watched().last_applied.map(|id| id.index);
    }
    let confirmed = raft.get_read_log_id(ReadPolicy::ReadIndex).await.ok()?;
    Some(confirmed.0.index())
}

/// The same from wherever the leader is.
async fn round(raft: &Raft<TypeConfig, Machine>, shared: &Shared, cluster: Option<&Cluster>) -> Option<u64> {
    if shared.leader.load(Ordering::Acquire) {
        return confirmed(raft).await;
    }
    let cluster = cluster?;
    let (id, member) = cluster.leader()?;
    let asked = cluster
        .peers
        .call(id, &member, Purpose::Calls, kind::READ_INDEX, Bytes::new(), ROUND_MAX);
    frame::decode(&asked.await.ok()?).ok()
}

/// Finishes what was taken, checkpoints, closes the journal.
fn close_when_asked(
    keeper: &Keeper,
    cluster: Option<Rc<Cluster>>,
    proposing: JoinHandle<()>,
) -> impl Future<Output = ()> + 'static {
    let (raft, shared) = (keeper.raft.clone(), keeper.shared.clone());
    let (store, checkpoints) = (keeper.store.clone(), keeper.checkpoints.clone());
    // What a full disk does not let finish stays unknown to its proposer.
    let limit = Duration::from_millis(shared.propose_timeout_ms);
    async move {
        shared.close.notified().await;
        if let Some(cluster) = cluster
            && shared.leader.load(Ordering::Acquire)
            && !shared.alone.load(Ordering::Acquire)
            && let Err(why) = cluster.hand_over().await
        {
            tracing::warn!(why, "stopping as leader: the others elect a new one");
        }
        if tokio::time::timeout(limit, shared.queue.idle()).await.is_err() {
            tracing::warn!(
                left = shared.queue.commands(),
                "closing with commands whose outcome is not known"
            );
        }
        match tokio::time::timeout(limit, store.flush_committed()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the committed position was not written; the next start finds it again")
            }
            Err(_) => tracing::warn!("the committed position was not written in time; the next start finds it again"),
        }
        if raft.shutdown().await.is_err() {
            tracing::warn!("raft did not stop in order");
        }
        proposing.abort();
        if let Err(error) = checkpoints.run().await {
            tracing::warn!(%error, "no last checkpoint; the next start replays more");
        }
        store.stop();
        store.journal.close().await;
        shared.closed.send_replace(true);
    }
}

/// Asks the log's thread up to where everything acknowledged so far lies.
pub async fn read_index(shared: &Shared) -> Result<u64, ProposeError> {
    let (reader, confirmed) = oneshot::channel();
    shared.queue.push_reader(reader);
    match tokio::time::timeout(PATIENCE + ROUND_MAX, confirmed).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) | Err(_) => Err(ProposeError::NoLeader),
    }
}
