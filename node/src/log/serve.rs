//! The log's tasks while it serves: proposals into Raft, reads through ReadIndex, leadership, the end.

use super::keeper::Keeper;
use super::machine::Machine;
use super::queue::{Proposal, Reader};
use super::types::{Command, Reply, TypeConfig};
use super::{Applied, At, ProposeError, Shared};
use crate::base::Timestamp;
use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use openraft::{Raft, ReadPolicy, ServerState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Starts the tasks on the current thread; returns when leadership is known to the handles.
pub fn start(keeper: Keeper) {
    let (raft, shared) = (keeper.raft.clone(), keeper.shared.clone());
    note_leadership(&raft, &shared);
    tokio::task::spawn_local(watch_leadership(raft.clone(), shared.clone()));
    let proposing = tokio::task::spawn_local(propose(raft, shared.clone()));
    tokio::task::spawn_local(close_when_asked(&keeper, proposing));
    let snapshots = keeper.snapshots.clone();
    tokio::task::spawn_local(super::backup::copy_when_asked(snapshots, shared, keeper.reserve_bytes));
    tokio::task::spawn_local(keeper.run());
}

/// What the handles may decide without asking the log's thread.
fn note_leadership(raft: &Raft<TypeConfig, Machine>, shared: &Shared) {
    use openraft::async_runtime::WatchReceiver;
    let metrics = raft.server_metrics();
    let now = metrics.borrow_watched();
    let leader = now.state == ServerState::Leader;
    let voters = now.membership_config.membership().voter_ids().count();
    shared.leader.store(leader, Ordering::Release);
    shared.alone.store(leader && voters == 1, Ordering::Release);
    shared.term.store(now.vote.leader_id.term, Ordering::Release);
}

async fn watch_leadership(raft: Raft<TypeConfig, Machine>, shared: Arc<Shared>) {
    use openraft::async_runtime::WatchReceiver;
    let mut metrics = raft.server_metrics();
    while metrics.changed().await.is_ok() {
        note_leadership(&raft, &shared);
    }
    shared.alone.store(false, Ordering::Release);
    shared.leader.store(false, Ordering::Release);
    if !shared.closing.load(Ordering::Acquire) {
        super::end("raft stopped after a storage error");
    }
}

/// Takes what waits, once per tick, and hands it to Raft, which appends it as one batch.
async fn propose(raft: Raft<TypeConfig, Machine>, shared: Arc<Shared>) {
    loop {
        let (proposals, readers) = shared.queue.take().await;
        if !readers.is_empty() {
            tokio::task::spawn_local(read(raft.clone(), readers));
        }
        if proposals.is_empty() {
            continue;
        }
        if !shared.guard.lock().in_order() {
            refuse(proposals, ProposeError::ClockJumped);
            continue;
        }
        let stamp_ms = shared.clock.now().ms();
        for proposal in proposals {
            let Proposal {
                command,
                answered,
                taken,
                permit,
            } = proposal;
            if let Some(taken) = taken {
                // Who pings may have given up.
                let _gone = taken.send(Instant::now());
            }
            let reply = Reply(Box::new(move |result: ClientWriteResult<TypeConfig>| {
                let _gone = answered.send(outcome(result));
                drop(permit);
            }));
            let command = Command {
                stamp_ms,
                bytes: command,
            };
            if raft.client_write_ff(command, Some(reply)).await.is_err() && !shared.closing.load(Ordering::Acquire) {
                super::end("raft stopped after a storage error");
            }
        }
    }
}

fn refuse(proposals: Vec<Proposal>, why: ProposeError) {
    for proposal in proposals {
        let _gone = proposal.answered.send(Err(why));
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

/// One round for all reads that waited together.
async fn read(raft: Raft<TypeConfig, Machine>, readers: Vec<Reader>) {
    let confirmed = raft.ensure_linearizable(ReadPolicy::ReadIndex).await;
    let answer = confirmed.map(|_| ()).map_err(|_| ProposeError::NoLeader);
    for reader in readers {
        let _gone = reader.send(answer);
    }
}

/// Finishes what was taken, checkpoints, closes the journal.
fn close_when_asked(keeper: &Keeper, proposing: JoinHandle<()>) -> impl Future<Output = ()> + 'static {
    let (raft, shared) = (keeper.raft.clone(), keeper.shared.clone());
    let (store, checkpoints) = (keeper.store.clone(), keeper.checkpoints.clone());
    // What a full disk does not let finish stays unknown to its proposer.
    let limit = Duration::from_millis(shared.propose_timeout_ms);
    async move {
        shared.close.notified().await;
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

/// Asks the log's thread to confirm that this node leads.
pub async fn linearizable(shared: &Shared) -> Result<(), ProposeError> {
    let (reader, confirmed) = oneshot::channel();
    shared.queue.push_reader(reader);
    let limit = Duration::from_millis(shared.propose_timeout_ms);
    match tokio::time::timeout(limit, confirmed).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) | Err(_) => Err(ProposeError::NoLeader),
    }
}
