//! Proposals on their way from any thread to the log's: a queue that is emptied whole, once per tick.
//!
//! Invariants: bytes are counted from admission until the outcome is known, whoever still waits for it; the order of
//! the queue is the order in the log.

use super::{Applied, ProposeError};
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tokio::sync::{Notify, oneshot};

/// What one command costs in the queue beside its bytes.
const COMMAND_BYTES: usize = 256;

/// Where the answer goes.
pub type Answered = oneshot::Sender<Result<Applied, ProposeError>>;

/// A command that was admitted.
pub struct Proposal {
    /// The command.
    pub command: Bytes,
    /// Where the answer goes; `None` once it was given.
    pub answered: Option<Answered>,
    /// When the log's thread took it; for the deep ping.
    pub taken: Option<oneshot::Sender<Instant>>,
    /// Released when the outcome is known.
    pub _permit: Permit,
    /// When it was admitted.
    pub since: Instant,
}

impl Proposal {
    /// Answers, if that was not done before.
    pub fn answer(&mut self, answer: Result<Applied, ProposeError>) {
        if let Some(answered) = self.answered.take() {
            // Who asked may have given up.
            let _gone = answered.send(answer);
        }
    }
}

/// A read that waits for the index up to which the state must include everything.
pub type Reader = oneshot::Sender<Result<u64, ProposeError>>;

/// Something that waits to be taken whole.
struct Waiting<T> {
    all: Mutex<Vec<T>>,
    wake: Notify,
}

impl<T> Waiting<T> {
    fn new() -> Waiting<T> {
        Waiting {
            all: Mutex::default(),
            wake: Notify::new(),
        }
    }

    fn push(&self, one: T) {
        let mut all = self.all.lock();
        let first = all.is_empty();
        all.push(one);
        drop(all);
        if first {
            self.wake.notify_one();
        }
    }

    /// Waits until there is something and takes all of it.
    async fn take(&self) -> Vec<T> {
        loop {
            let all = std::mem::take(&mut *self.all.lock());
            if !all.is_empty() {
                return all;
            }
            self.wake.notified().await;
        }
    }
}

/// The queue; one for the node.
pub struct Queue {
    proposals: Waiting<Proposal>,
    readers: Waiting<Reader>,
    counts: Arc<Counts>,
    bytes_max: usize,
}

#[derive(Default)]
struct Counts {
    bytes: AtomicUsize,
    commands: AtomicUsize,
    /// Told whenever the last command is done.
    idle: Notify,
}

/// A command's share of the queue.
pub struct Permit {
    counts: Arc<Counts>,
    bytes: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.counts.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        if self.counts.commands.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.counts.idle.notify_waiters();
        }
    }
}

impl Queue {
    /// An empty queue that takes at most about `bytes_max`.
    pub fn new(bytes_max: usize) -> Queue {
        Queue {
            proposals: Waiting::new(),
            readers: Waiting::new(),
            counts: Arc::default(),
            bytes_max,
        }
    }

    /// Admits a command of this many bytes, or not: too much waits.
    pub fn admit(&self, bytes: usize) -> Option<Permit> {
        let bytes = bytes + COMMAND_BYTES;
        let before = self.counts.bytes.fetch_add(bytes, Ordering::AcqRel);
        // With the check of `closing` behind it: of closing and admitting, one sees the other.
        self.counts.commands.fetch_add(1, Ordering::SeqCst);
        let permit = Permit {
            counts: self.counts.clone(),
            bytes,
        };
        (before + bytes <= self.bytes_max).then_some(permit)
    }

    /// Adds a command.
    pub fn push(&self, proposal: Proposal) {
        self.proposals.push(proposal);
    }

    /// Adds a read.
    pub fn push_reader(&self, reader: Reader) {
        self.readers.push(reader);
    }

    /// Waits until there are commands and takes all of them.
    pub async fn take(&self) -> Vec<Proposal> {
        self.proposals.take().await
    }

    /// Waits until there are reads and takes all of them.
    pub async fn take_readers(&self) -> Vec<Reader> {
        self.readers.take().await
    }

    /// Commands whose outcome is not known yet.
    pub fn commands(&self) -> usize {
        self.counts.commands.load(Ordering::SeqCst)
    }

    /// Waits until there is none.
    pub async fn idle(&self) {
        loop {
            let mut idle = std::pin::pin!(self.counts.idle.notified());
            idle.as_mut().enable();
            if self.commands() == 0 {
                return;
            }
            idle.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_given_back_when_a_permit_goes_also_a_refused_one() {
        let queue = Queue::new(1_000);
        let first = queue.admit(500).expect("there is room");
        assert!(queue.admit(500).is_none());
        assert_eq!(queue.commands(), 1);
        drop(first);
        assert_eq!(queue.commands(), 0);
        assert!(queue.admit(1_000 - COMMAND_BYTES).is_some());
        assert!(queue.admit(1_000 - COMMAND_BYTES + 1).is_none());
    }
}
