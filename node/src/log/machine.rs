//! The state machine: entries in order through the one `apply`, then the holds, then the answer.
//!
//! Invariants: an entry is applied only when it is durable here; the log time never goes back; between a command's
//! commit and [`Ledger::applied`](crate::ledger::Ledger::applied) nothing waits, so that no checkpoint sees half of it.

use super::checkpoint::Checkpoints;
use super::history::History;
use super::identity::Identity;
use super::level;
use super::snapshot::{SnapshotBuilder, SnapshotData, Snapshots};
use super::space::Space;
use super::store::Store;
use super::tables;
use super::types::{Answer, Command, Entry, LogId, Payload, SnapshotMeta, StoredMembership, TypeConfig};
use super::{Apply, At};
use crate::base::Timestamp;
use crate::base::checksum;
use crate::base::release;
use crate::bodies::Bodies;
use crate::ledger::Hold;
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::type_config::alias::SnapshotOf;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// What the log's handles see of the state machine.
#[derive(Default)]
pub struct Seen {
    /// One after the last applied index.
    pub applied_end: AtomicU64,
    /// Log time of the last applied command, in milliseconds since 1970.
    pub time_ms: AtomicU64,
    /// Hash of all that was applied.
    pub history: Mutex<History>,
    /// Told after entries were applied.
    pub applied: Notify,
    /// The format level in force.
    pub level: AtomicU32,
}

impl Seen {
    /// Waits until the entry at `index` is applied here; says whether it was in time.
    pub async fn wait_applied(&self, index: u64, limit: Duration) -> bool {
        let there = || self.applied_end.load(Ordering::Acquire) > index;
        if there() {
            return true;
        }
        let wait = async {
            loop {
                let mut told = std::pin::pin!(self.applied.notified());
                told.as_mut().enable();
                if there() {
                    return;
                }
                told.await;
            }
        };
        tokio::time::timeout(limit, wait).await.is_ok()
    }
}

/// The state machine.
pub struct Machine {
    /// The log's storage.
    pub store: Arc<Store>,
    /// Judges commands.
    pub apply: Apply,
    /// Large bodies.
    pub bodies: Bodies,
    /// Who holds what.
    pub space: Arc<Space>,
    /// Checkpoints, which also know what was applied.
    pub checkpoints: Arc<Checkpoints>,
    /// Snapshots.
    pub snapshots: Arc<Snapshots>,
    /// For the handles.
    pub seen: Arc<Seen>,
    /// Where the format level is kept beside the state; `None` while nothing is applied, as in a restore.
    pub identity: Option<Arc<Mutex<Identity>>>,
}

impl Machine {
    fn apply_one(&mut self, entry: Entry) -> Answer {
        let Entry { log_id, payload } = entry;
        let mut written = 0;
        let before = Timestamp::from_ms(self.seen.time_ms.load(Ordering::Relaxed));
        let (time, outcome) = match payload {
            Payload::Normal(command) => {
                let (time, outcome, checksum) = self.apply_command(&log_id, before, &command);
                written = checksum;
                (time, outcome)
            }
            Payload::Membership(membership) => {
                let members = membership.nodes().map(|(id, member)| (*id, member.clone())).collect();
                let mut writer = self.store.ledger.writer();
                super::cluster::note_members(&mut writer, &members);
                writer.commit();
                let stored = StoredMembership::new(Some(log_id), membership);
                tables::put_membership(&self.store.ledger, &stored);
                self.checkpoints.applied.lock().membership = stored;
                (before, Bytes::new())
            }
            Payload::Blank => (before, Bytes::new()),
        };
        let position = (log_id.leader_id.term, log_id.leader_id.node_id, log_id.index);
        let answer = checksum::crc32c(&outcome);
        let mut history = self.seen.history.lock();
        history.add(&log_id, time.ms(), answer, written);
        let mut applied = self.checkpoints.applied.lock();
        applied.last = Some(log_id);
        applied.history = history.hash();
        drop((history, applied));
        self.store.ledger.applied(position, time);
        self.seen.time_ms.store(time.ms(), Ordering::Release);
        self.seen.applied_end.store(log_id.index + 1, Ordering::Release);
        let time_ms = time.ms();
        Answer { time_ms, outcome }
    }

    fn apply_command(&mut self, log_id: &LogId, before: Timestamp, command: &Command) -> (Timestamp, Bytes, u32) {
        let time = before.max(Timestamp::from_ms(command.stamp_ms));
        if command.bytes.is_empty() {
            return (time, Bytes::new(), 0);
        }
        let mut writer = self.store.ledger.writer();
        let index = log_id.index;
        let outcome = (self.apply)(&mut writer, At { index, time }, &command.bytes);
        let written = writer.checksum();
        for hold in writer.commit() {
            self.carry_out(hold);
        }
        if command.bytes.first() == Some(&level::COMMAND) {
            self.note_level();
        }
        (time, outcome, written)
    }

    /// Takes over the format level that the state says. A release that does not speak it ends here, after the file says so
    /// to its next start.
    fn note_level(&self) {
        let now = level::in_force(&self.store.ledger);
        if let Some(identity) = &self.identity
            && let Err(cause) = identity.lock().raise(now.level, &now.release)
        {
            super::end(&format!("the format level {} could not be written: {cause}", now.level));
        }
        if let Some(why) = level::cannot_open(release::this(), now.level, &now.release) {
            super::end(&why);
        }
        // Last: from now on commands of this level are proposed.
        if self.seen.level.swap(now.level, Ordering::AcqRel) != now.level {
            tracing::warn!(
                level = now.level,
                release = now.release,
                "a later format level is in force"
            );
        }
    }

    fn carry_out(&self, hold: Hold) {
        match hold {
            Hold::Entry(index) => {
                let there = self.space.hold(&self.store, index);
                assert!(
                    there,
                    "state holds entry {index}, which is neither in the log nor held already"
                );
            }
            Hold::ReleaseEntry(index) => self.space.release(&self.store, index),
            Hold::Upload(_) | Hold::ReleaseUpload(_) => self.bodies.hold(hold),
        }
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let applied = self.checkpoints.applied.lock();
        Ok((applied.last, applied.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            self.store.wait_durable(entry.log_id.index).await;
            let answer = self.apply_one(entry);
            if let Some(responder) = responder {
                responder.send(answer);
            }
        }
        self.seen.applied.notify_waiters();
        self.store.settle(self.seen.applied_end.load(Ordering::Relaxed));
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<SnapshotBuilder> {
        Some(SnapshotBuilder(self.snapshots.clone()))
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder(self.snapshots.clone())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> Result<(), io::Error> {
        let opened = self.snapshots.install(meta, snapshot).await?;
        *self.seen.history.lock() = History::from_hash(self.checkpoints.applied.lock().history);
        self.seen.time_ms.store(opened.at.ms(), Ordering::Release);
        self.seen
            .applied_end
            .store(opened.applied.map_or(0, |(_, _, index)| index + 1), Ordering::Release);
        self.note_level();
        self.seen.applied.notify_waiters();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<TypeConfig, SnapshotData>>, io::Error> {
        Ok(self.snapshots.current())
    }
}
