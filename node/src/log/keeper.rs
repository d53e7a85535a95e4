//! Looks after the log in the background, on its thread: checkpoints by bytes and time, then purge and space reclaim.

use super::checkpoint::Checkpoints;
use super::snapshot::Snapshots;
use super::space::Space;
use super::store::Store;
use super::types::TypeConfig;
use super::{LogConfig, Shared, machine::Machine};
use crate::base::Timestamp;
use crate::bodies::Bodies;
use crate::journal::Stream;
use openraft::Raft;
use openraft::async_runtime::{Instant as _, WatchReceiver};
use openraft::type_config::TypeConfigExt as _;
use openraft::type_config::alias::InstantOf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often it looks.
const TICK_MS: u64 = 50;
/// A checkpoint also starts after this many times `checkpoint_bytes` of entries, so that replay stays short.
const LOG_BYTES_PER_CHECKPOINT_BYTE: u64 = 4;
/// Time between turns of the space reclaim: bounds are by the second.
const RECLAIM_MS: u64 = 1_000;
/// A checkpoint for which there was no room is tried again after this.
const CHECKPOINT_AGAIN_MS: u64 = 5_000;
/// So much of the log is kept for a member that is behind; one that is further gets a snapshot.
const LAGGING_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Proposals are refused this far before the journal itself refuses, so that what was admitted is still written.
const RESERVE_MARGIN_BYTES: u64 = 16 * 1024 * 1024;

/// Everything it needs.
pub struct Keeper {
    pub config: LogConfig,
    pub reserve_bytes: u64,
    pub raft: Raft<TypeConfig, Machine>,
    pub store: Arc<Store>,
    pub space: Arc<Space>,
    pub checkpoints: Arc<Checkpoints>,
    pub snapshots: Arc<Snapshots>,
    pub bodies: Bodies,
    pub shared: Arc<Shared>,
}

impl Keeper {
    /// Runs until the log closes.
    pub async fn run(self) {
        let mut last_checkpoint = TypeConfig::now();
        let mut last_reclaim = TypeConfig::now();
        let mut log_bytes = 0;
        let mut not_before = TypeConfig::now();
        loop {
            TypeConfig::sleep(Duration::from_millis(TICK_MS)).await;
            if self.shared.closing.load(Ordering::Acquire) {
                return;
            }
            self.look_at_disk();
            if TypeConfig::now() >= not_before && self.checkpoint_due(last_checkpoint, log_bytes) {
                log_bytes = self.store.appended_bytes();
                last_checkpoint = TypeConfig::now();
                if !self.checkpoint().await {
                    not_before = TypeConfig::now() + Duration::from_millis(CHECKPOINT_AGAIN_MS);
                }
            }
            if last_reclaim.elapsed() >= Duration::from_millis(RECLAIM_MS) {
                last_reclaim = TypeConfig::now();
                self.reclaim().await;
            }
        }
    }

    fn look_at_disk(&self) {
        let free = self.store.journal.stats().free_bytes;
        let full = free < self.reserve_bytes.saturating_add(RESERVE_MARGIN_BYTES);
        if full != self.shared.disk_full.swap(full, Ordering::AcqRel) {
            if full {
                tracing::warn!(
                    free,
                    reserve = self.reserve_bytes,
                    "the disk is full up to its reserve: writes are refused"
                );
            } else {
                tracing::info!(free, "the disk has room again: writes are accepted");
            }
        }
    }

    fn checkpoint_due(&self, last: InstantOf<TypeConfig>, log_bytes: u64) -> bool {
        let dirty = self.store.ledger.dirty_bytes();
        let written = self.store.appended_bytes() - log_bytes;
        let log_bytes_max = self.config.checkpoint_bytes as u64 * LOG_BYTES_PER_CHECKPOINT_BYTE;
        dirty >= self.config.checkpoint_bytes
            || written >= log_bytes_max
            || ((dirty > 0 || self.space.waits()) && last.elapsed() >= Duration::from_millis(self.config.checkpoint_ms))
    }

    /// One checkpoint; then openraft learns of it as a snapshot and purges below the one before. Says whether there was
    /// room for it.
    async fn checkpoint(&self) -> bool {
        match self.checkpoints.run().await {
            Ok(checkpoint) => {
                let index = checkpoint.applied.last.map_or(0, |id| id.index);
                self.shared.checkpointed.store(index, Ordering::Release);
            }
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                tracing::warn!(%error, "no room for a checkpoint; it is tried again");
                return false;
            }
            Err(error) => super::end(&format!("the ledger's checkpoint failed: {error}")),
        }
        // The order matters: openraft purges only what a snapshot it knows of includes, and it knows of the last one
        // by the next round.
        if let Some(purge_to) = self
            .checkpoints
            .second_last()
            .and_then(|checkpoint| checkpoint.applied.last)
        {
            let purged = self.store.bounds().0.map_or(0, |id| id.index + 1);
            let upto = self
                .needed_by_others()
                .map_or(purge_to.index, |needed| purge_to.index.min(needed.saturating_sub(1)));
            if upto >= purged {
                let _stopped = self.raft.trigger().purge_log(upto).await;
            }
        }
        self.checkpoints.reuse.store(true, Ordering::Release);
        let _stopped = self.raft.trigger().snapshot().await;
        true
    }

    /// The first entry that a member which answers still needs from this leader: it goes on from there, also after a
    /// snapshot that took long, unless it would keep too much.
    fn needed_by_others(&self) -> Option<u64> {
        let segments = self.store.journal.segments(Stream::Log);
        let first = self.store.first_segment().unwrap_or(0);
        let log_bytes: u64 = segments
            .iter()
            .filter(|segment| segment.number >= first)
            .map(|segment| u64::from(segment.used_bytes))
            .sum();
        if log_bytes > LAGGING_BYTES_MAX {
            return None;
        }
        let answering: Vec<u64> = {
            let cluster = self.shared.cluster.lock();
            let others = cluster.others.iter().filter(|other| other.status.is_some());
            others.map(|other| other.id).collect()
        };
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let replication = metrics.replication.as_ref()?;
        let matched = replication.iter().filter(|(id, _)| answering.contains(id));
        matched
            .map(|(_, log_id)| log_id.as_ref().map_or(0, |id| id.index + 1))
            .min()
    }

    /// One turn of the space reclaim of both streams. Nothing goes that a checkpoint or the log may still need.
    async fn reclaim(&self) {
        let now = Timestamp::from_ms(self.shared.seen.time_ms.load(Ordering::Acquire));
        if let Err(error) = self.bodies.reclaim(now, self.config.reclaim_bytes_per_second).await {
            tracing::error!(%error, "a piece of a large body cannot be read; its segment is left alone");
        }
        let Ok(_free) = self.snapshots.pinned.try_write() else {
            return;
        };
        let (Some(before), Some(last)) = (self.checkpoints.second_last(), self.checkpoints.last()) else {
            return;
        };
        let mut bound = before.log_segment.min(last.log_segment);
        if let Some(first) = self.store.first_segment() {
            bound = bound.min(first);
        }
        // Whoever answers keeps it here; nobody waits for it.
        let repair = |index| drop(self.space.repair(index));
        match self
            .space
            .turn(&self.store, bound, self.config.reclaim_bytes_per_second, &repair)
            .await
        {
            Ok(turn) if turn.moved_bytes > 0 || turn.removed > 0 => {
                tracing::debug!(moved_bytes = turn.moved_bytes, removed = turn.removed, stream = ?Stream::Log, "space");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the log's space reclaim stopped early; it is tried again"),
        }
    }
}
