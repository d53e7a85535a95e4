//! Checkpoints: the ledger made durable together with where the journal's replay then starts.
//!
//! Invariants: one at a time; the watermark is taken on the log's thread, after the rows of everything durable were
//! written and before the overlay is frozen; the log is purged below the last but one.

use super::store::Store;
use super::tables;
use super::types::{LogId, SnapshotMeta, StoredMembership};
use crate::base::blocking;
use crate::journal::Stream;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the state machine has applied.
#[derive(Clone, Debug, Default)]
pub struct AppliedState {
    /// The last entry.
    pub last: Option<LogId>,
    /// The last membership.
    pub membership: StoredMembership,
    /// Hash of all that was applied.
    pub history: [u8; 32],
}

/// A checkpoint that is durable.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// It includes at least everything up to here.
    pub applied: AppliedState,
    /// Segment of the log stream in which replay starts.
    pub log_segment: u32,
}

impl Checkpoint {
    /// As openraft names it.
    pub fn meta(&self) -> SnapshotMeta {
        let last_membership = self.applied.membership.clone();
        SnapshotMeta {
            last_log_id: self.applied.last,
            last_membership,
        }
    }
}

/// The last two checkpoints and how to make another.
pub struct Checkpoints {
    store: Arc<Store>,
    /// Written by the state machine.
    pub applied: Mutex<AppliedState>,
    running: tokio::sync::Mutex<()>,
    history: Mutex<(Option<Checkpoint>, Option<Checkpoint>)>,
    /// The next snapshot may be the last checkpoint as it is.
    pub reuse: AtomicBool,
}

impl Checkpoints {
    /// Starts with what the ledger's checkpoint held at open.
    pub fn new(store: Arc<Store>, opened: Option<Checkpoint>, applied: AppliedState) -> Checkpoints {
        Checkpoints {
            store,
            applied: Mutex::new(applied),
            running: tokio::sync::Mutex::new(()),
            history: Mutex::new((None, opened)),
            reuse: AtomicBool::new(false),
        }
    }

    /// Makes a checkpoint of everything applied so far; call it on the log's thread.
    pub async fn run(&self) -> io::Result<Checkpoint> {
        let running = self.running.lock().await;
        self.run_locked(&running).await
    }

    /// Keeps others from making checkpoints.
    pub async fn lock(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.running.lock().await
    }

    /// As [`run`](Self::run) for the holder of the lock.
    pub async fn run_locked(&self, _running: &tokio::sync::MutexGuard<'_, ()>) -> io::Result<Checkpoint> {
        // No await between these four: what is below the watermark is in the tables.
        let watermarks = self.store.journal.watermarks();
        self.store.settle_all();
        let applied = self.applied.lock().clone();
        tables::put_history(&self.store.ledger, &applied.history);
        let ledger = self.store.ledger.clone();
        blocking::run(move || ledger.checkpoint_blocking(watermarks)).await??;
        let log_segment = watermarks.from[Stream::Log as usize].0;
        let checkpoint = Checkpoint { applied, log_segment };
        self.note(checkpoint.clone());
        Ok(checkpoint)
    }

    fn note(&self, checkpoint: Checkpoint) {
        let mut history = self.history.lock();
        history.0 = history.1.replace(checkpoint);
    }

    /// The last one.
    pub fn last(&self) -> Option<Checkpoint> {
        self.history.lock().1.clone()
    }

    /// The one before: nothing it needs is purged or removed.
    pub fn second_last(&self) -> Option<Checkpoint> {
        self.history.lock().0.clone()
    }

    /// The checkpoint a snapshot stands for: the last one when that was asked for, else a new one.
    pub async fn for_snapshot(&self) -> io::Result<Checkpoint> {
        let last = self.last();
        match last {
            Some(last) if self.reuse.swap(false, Ordering::AcqRel) => Ok(last),
            Some(_) | None => self.run().await,
        }
    }
}
