//! A journal on the simulated disk as a fuzz target sees it: write, damage, open again. Built for fuzzing alone.
//!
//! It opens nothing that a release has: the steps are those of the journal's own tests.

use super::stepping::{Life, Process, Replayed};
use super::{AppendError, Journal, OpenError, Position, Record, Stream, Watermarks};
use crate::ring::storage::simulated::SimDisk;

/// A disk and what a process on it may know from before: the watermarks of its last checkpoint.
pub struct Bench {
    life: Life,
}

/// A process that has the journal open.
pub struct Opened {
    process: Process,
    /// What opening told, in its order.
    pub replayed: Replayed,
}

impl Opened {
    /// The handle, to read with.
    pub fn journal(&self) -> &Journal {
        &self.process.journal
    }
}

impl Bench {
    /// An empty disk.
    pub fn new(seed: u64) -> Bench {
        Bench { life: Life::new(seed) }
    }

    /// The disk, to look at and to damage.
    pub fn disk(&self) -> SimDisk {
        self.life.disk.clone()
    }

    /// Sets what the next opening replays from.
    pub fn set_watermarks(&mut self, watermarks: Watermarks) {
        self.life.watermarks = watermarks;
    }

    /// Opens; the process before it was closed or is taken for killed.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open(&mut self) -> Result<Opened, OpenError> {
        let process = self.life.open()?;
        let replayed = std::mem::take(&mut self.life.replayed);
        Ok(Opened { process, replayed })
    }

    /// Appends and waits until the records are durable or refused.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn append(
        &mut self,
        opened: &mut Opened,
        stream: Stream,
        records: Vec<Record>,
    ) -> Result<Vec<Position>, AppendError> {
        self.life.append(&mut opened.process, stream, records)
    }

    /// Closes in good order.
    pub fn close(&mut self, opened: Opened) {
        self.life.close(opened.process);
    }
}
