//! Bulk loads: lines of NDJSON become commands in the log, many at a time, and each line gets an answer.
//!
//! Owns what a load may do to the node: how many proposals are in flight, and how many lines are worked on at once. Must
//! never know a file or a progress bar. Invariants: a record that is there is never changed; the same lines again change
//! nothing; a line's answer says what the ledger holds, not what was sent; a refusal names elements, never values.

mod attach;
mod prepare;
mod tally;
#[cfg(test)]
mod tests;
mod unload;

pub use prepare::Issue;
pub use tally::{DigestSum, Kind, Tallies, Tally};
pub use unload::{UnloadError, Unloaded};

use super::command::{Outcome, Refusal};
use super::state;
use crate::base::{Digest, NhsNumber, Timestamp};
use crate::ledger::Ledger;
use crate::log::{Log, ProposeError};
use bytes::Bytes;
use prepare::{Attached, Prepared, issue, prepare};
use std::collections::HashSet;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Semaphore};

/// Largest batch, bytes.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most lines of a batch.
pub const BATCH_LINES_MAX: usize = 4_096;
/// Proposals in flight over all batches.
const PROPOSALS_MAX: usize = 512;
/// How long a proposal is tried again when the log is busy or its outcome is not known.
const PATIENCE: Duration = Duration::from_secs(20);
/// Lines that are parsed in one go on the blocking pool.
const SLICE_LINES: usize = 64;

/// What became of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineResult {
    /// It is stored now.
    Loaded {
        /// What it is.
        kind: Kind,
        /// Digest of the line.
        source: Digest,
        /// Digest of what the ledger holds.
        stored: Digest,
    },
    /// The same was there.
    AlreadyThere {
        /// What it is.
        kind: Kind,
        /// Digest of it.
        digest: Digest,
    },
    /// It was not taken.
    Rejected(Issue),
}

/// Loads and unloads; one for a node.
pub struct Loader {
    log: Log,
    ledger: Ledger,
    /// One batch is parsed at a time, so that loads take at most one core from live clients.
    parsing: Semaphore,
    proposals: Semaphore,
    /// Related people are merged by one batch at a time: a merge reads what is there and replaces it.
    attaching: Mutex<()>,
}

impl Loader {
    /// On this log and its ledger.
    pub fn new(log: Log, ledger: Ledger) -> Loader {
        Loader {
            log,
            ledger,
            parsing: Semaphore::new(1),
            proposals: Semaphore::new(PROPOSALS_MAX),
            attaching: Mutex::new(()),
        }
    }

    /// Log time now: what a load that begins now gives as `since` when it sends a batch again.
    pub fn time(&self) -> Timestamp {
        self.log.time()
    }

    /// Loads a batch; an answer for each line, in their order. `since`: the batch may have been sent before, by a load
    /// that began then; what was stored by it counts as loaded now.
    ///
    /// # Errors
    /// [`ProposeError`]: the log does not take it. Some lines may be stored: send the batch again with `since`.
    pub async fn load(&self, batch: Bytes, since: Option<Timestamp>) -> Result<Vec<LineResult>, ProposeError> {
        self.log.linearizable().await?;
        let prepared = self.prepare(batch).await?;
        let mut results: Vec<Option<LineResult>> = Vec::with_capacity(prepared.len());
        let mut patients = Vec::new();
        let mut attached: Vec<(usize, Attached)> = Vec::new();
        for (at, line) in prepared.into_iter().enumerate() {
            results.push(None);
            match line {
                Err(issue) => results[at] = Some(LineResult::Rejected(issue)),
                Ok(Prepared::Patient {
                    number,
                    digest,
                    command,
                }) => patients.push((at, number, digest, command)),
                Ok(Prepared::Attached(line)) => attached.push((at, line)),
            }
        }
        let mut seen = HashSet::new();
        let mut rest = &patients[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(self.window().await.min(rest.len()));
            rest = later;
            let proposed = now.iter().map(|(_, number, digest, command)| {
                let first = seen.insert(*number);
                self.put_patient(*number, *digest, command, since.filter(|_| first))
            });
            let answers = together(proposed.collect()).await;
            for ((at, ..), answer) in now.iter().zip(answers) {
                results[*at] = Some(answer?);
            }
        }
        for (at, result) in self.attach(attached, since).await? {
            results[at] = Some(result);
        }
        Ok(results
            .into_iter()
            .map(|result| result.expect("every line has its answer"))
            .collect())
    }

    /// Parses all lines away from the threads that serve.
    async fn prepare(&self, batch: Bytes) -> Result<Vec<Result<Prepared, Issue>>, ProposeError> {
        let _turn = self.parsing.acquire().await.map_err(|_| ProposeError::Closing)?;
        let today = super::today(self.log.time());
        let mut prepared = Vec::new();
        let mut at = 0;
        while at < batch.len() {
            let rest = batch.slice(at..);
            let work = move || {
                let mut done = Vec::with_capacity(SLICE_LINES);
                let mut taken = 0;
                while done.len() < SLICE_LINES && taken < rest.len() {
                    let line = &rest[taken..];
                    let end = memchr::memchr(b'\n', line).unwrap_or(line.len());
                    done.push(prepare(&line[..end], today));
                    taken = rest.len().min(taken + end + 1);
                }
                (done, taken)
            };
            let (done, taken) = tokio::task::spawn_blocking(work)
                .await
                .map_err(|_| ProposeError::Closing)?;
            prepared.extend(done);
            at += taken;
        }
        Ok(prepared)
    }

    /// How many commands to propose together: fewer while others wait in the log's queue, so that loads yield to clients.
    async fn window(&self) -> usize {
        let own = PROPOSALS_MAX - self.proposals.available_permits();
        let others = self.log.status().queue.saturating_sub(own);
        match others {
            0..32 => 128,
            32..128 => 32,
            _ => {
                tokio::time::sleep(Duration::from_millis(5)).await;
                8
            }
        }
    }

    /// Proposes until there is an outcome. `true`: an earlier try may have been the one that was stored.
    async fn propose(&self, command: &Bytes) -> Result<(Outcome, bool), ProposeError> {
        let _turn = self.proposals.acquire().await.map_err(|_| ProposeError::Closing)?;
        let began = Instant::now();
        let mut unknown = false;
        let mut pause = Duration::from_millis(2);
        loop {
            let refused = match self.log.propose(command.clone()).await {
                Ok(applied) => {
                    let outcome = Outcome::decode(&applied.outcome).expect("apply answers with an outcome of ours");
                    return Ok((outcome, unknown));
                }
                Err(refused) => refused,
            };
            match refused {
                ProposeError::Unknown => unknown = true,
                ProposeError::Overloaded => {}
                ProposeError::NoLeader
                | ProposeError::DiskFull
                | ProposeError::ClockJumped
                | ProposeError::Closing
                | ProposeError::NotYet => {
                    return Err(refused);
                }
            }
            if began.elapsed() > PATIENCE {
                return Err(refused);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    async fn put_patient(
        &self,
        number: NhsNumber,
        source: Digest,
        command: &Bytes,
        since: Option<Timestamp>,
    ) -> Result<LineResult, ProposeError> {
        let kind = Kind::Patient;
        // A record is never removed, so what is there needs no proposal to be found there.
        if let Some(there) = self.judge_existing(number, source, since) {
            return Ok(there);
        }
        let (outcome, unknown) = self.propose(command).await?;
        let stored_by_this = since.or(unknown.then_some(Timestamp::default()));
        Ok(match outcome {
            Outcome::Stored { .. } => match self.first_version(number) {
                Some((stored, _)) => LineResult::Loaded { kind, source, stored },
                None => not_stored(),
            },
            Outcome::Refused(Refusal::Exists { .. }) => self
                .judge_existing(number, source, stored_by_this)
                .unwrap_or_else(not_stored),
            Outcome::Refused(
                Refusal::VersionMismatch { .. } | Refusal::Unknown | Refusal::Raced | Refusal::RequestReused,
            ) => LineResult::Rejected(issue("refused", "the record was refused as it was applied")),
        })
    }

    /// What a line is when its record exists. A record that clients changed after it was loaded is the one that was
    /// loaded: its first version tells.
    fn judge_existing(&self, number: NhsNumber, source: Digest, since: Option<Timestamp>) -> Option<LineResult> {
        let kind = Kind::Patient;
        let (first, at) = self.first_version(number)?;
        let current = state::record(&self.ledger, number)?.patient.digest;
        Some(if first == source && since.is_some_and(|since| at >= since) {
            LineResult::Loaded {
                kind,
                source,
                stored: first,
            }
        } else if first == source || current == source {
            LineResult::AlreadyThere { kind, digest: source }
        } else {
            LineResult::Rejected(issue("exists", "there is a record with this id and other content"))
        })
    }

    /// Digest and time of a record's first version.
    fn first_version(&self, number: NhsNumber) -> Option<(Digest, Timestamp)> {
        let first = state::version(&self.ledger, number, 1)?;
        Some((first.patient.digest, first.at))
    }
}

fn not_stored() -> LineResult {
    LineResult::Rejected(issue("not_stored", "the ledger does not hold what was applied"))
}

/// Runs futures together, in one task; their results in their order.
async fn together<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.into_iter().map(|future| Some(Box::pin(future))).collect();
    let mut results: Vec<Option<F::Output>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        let mut ready = true;
        for (future, result) in waiting.iter_mut().zip(&mut results) {
            if let Some(running) = future {
                match running.as_mut().poll(context) {
                    std::task::Poll::Ready(output) => {
                        *result = Some(output);
                        *future = None;
                    }
                    std::task::Poll::Pending => ready = false,
                }
            }
        }
        if ready {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    results.into_iter().flatten().collect()
}
