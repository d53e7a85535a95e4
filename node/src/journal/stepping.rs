//! A journal on a simulated disk, turned by hand: nothing happens but what the test asks for.

use super::recover::Sizes;
use super::*;
use crate::ring::storage::simulated::{SimDisk, SimStorage};
#[cfg(test)]
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Wake, Waker};

/// Small, so that a short life meets every edge.
pub(super) const SIZES: Sizes = Sizes {
    batch_bytes_max: 32 * 1024,
    carry_bytes: 24 * 1024,
    first_segment_bytes: 64 * 1024,
    segment_bytes: [96 * 1024, 128 * 1024, 64 * 1024],
};

/// Says that the task was woken.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A process that has the journal open.
pub(super) struct Process {
    pub(super) journal: Journal,
    task: Pin<Box<dyn Future<Output = ()>>>,
    flag: Arc<Flag>,
    /// The task has ended.
    pub(super) ended: bool,
}

impl Process {
    pub(super) fn start(journal: Journal, task: super::task::Task<SimStorage>) -> Process {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        Process {
            journal,
            task: Box::pin(task.run()),
            flag,
            ended: false,
        }
    }

    pub(super) fn turn(&mut self) {
        let waker = Waker::from(self.flag.clone());
        let mut cx = Context::from_waker(&waker);
        if !self.ended {
            self.flag.0.store(false, Ordering::Relaxed);
            self.ended = self.task.as_mut().poll(&mut cx).is_ready();
        }
    }

    /// Turns until the task waits for the disk, the clock or a call.
    pub(super) fn settle(&mut self) {
        for _ in 0..64 {
            self.turn();
            if self.ended || !self.flag.0.load(Ordering::Relaxed) {
                return;
            }
        }
        panic!("the task never rests");
    }
}

pub(super) fn config() -> JournalConfig {
    JournalConfig {
        folder: PathBuf::new(),
        node: 3,
        segment_bytes: SIZES.segment_bytes,
        reserve_bytes: 1 << 20,
        queue_bytes_max: 256 * 1024,
    }
}

/// A journal of `node` on a simulated disk, and the task that its process must run.
#[cfg(test)]
pub(crate) fn open_simulated(
    disk: &SimDisk,
    node: u64,
    fresh: u128,
    watermarks: Watermarks,
    replay: Replay<'_>,
) -> Result<(Journal, impl Future<Output = ()> + use<>), OpenError> {
    let storage = disk.storage(SIZES.batch_bytes_max as usize);
    let config = JournalConfig { node, ..config() };
    let (journal, task) = Journal::start(storage, &config, SIZES, fresh, watermarks, replay)?;
    Ok((journal, task.run()))
}

/// Lets go of what waits for a process that has ended where it stood: its answers hold the journal.
#[cfg(test)]
pub(crate) fn abandon(journal: &Journal) {
    let mut waiting: [VecDeque<super::queue::Entry>; 3] = Default::default();
    journal.shared.take(waiting.iter_mut());
}

/// Bytes of the largest batch there: so much before its durable end may be the last one, which nothing proves yet.
#[cfg(test)]
pub(crate) const SIMULATED_BATCH_BYTES_MAX: u32 = SIZES.batch_bytes_max;

/// What an opening told, in its order.
pub(super) type Replayed = Vec<(Stream, RecordKey, Position, Bytes)>;

/// A journal on a simulated disk, step by step: for tests of one fault each.
pub(super) struct Life {
    pub(super) disk: SimDisk,
    pub(super) config: JournalConfig,
    pub(super) watermarks: Watermarks,
    /// What the last opening told.
    pub(super) replayed: Replayed,
}

impl Life {
    pub(super) fn new(seed: u64) -> Life {
        let disk = SimDisk::new(seed);
        Life {
            disk,
            config: config(),
            watermarks: Watermarks::default(),
            replayed: Vec::new(),
        }
    }

    pub(super) fn open(&mut self) -> Result<Process, OpenError> {
        let storage = self.disk.storage(SIZES.batch_bytes_max as usize);
        let mut replayed = Vec::new();
        let mut each = |stream, key, position, payload| replayed.push((stream, key, position, payload));
        let (journal, task) = Journal::start(storage, &self.config, SIZES, 77, self.watermarks, &mut each)?;
        self.replayed = replayed;
        Ok(Process::start(journal, task))
    }

    /// Does everything that is in flight.
    pub(super) fn settle(&mut self, process: &mut Process) {
        process.settle();
        while self.disk.step() {
            process.settle();
        }
    }

    pub(super) fn append(
        &mut self,
        process: &mut Process,
        stream: Stream,
        records: Vec<Record>,
    ) -> Result<Vec<Position>, AppendError> {
        let (sender, answer) = std::sync::mpsc::channel();
        let done =
            Box::new(move |result: Result<Vec<Position>, AppendError>| sender.send(result).expect("it is heard"));
        process.journal.append_then(stream, records, done);
        for _ in 0..10 {
            self.settle(process);
            if let Ok(answer) = answer.try_recv() {
                return answer;
            }
            self.disk.pass_us(400_000);
        }
        panic!("an append without an answer");
    }

    pub(super) fn close(&mut self, mut process: Process) {
        process.journal.shared.start_closing();
        for _ in 0..10 {
            self.settle(&mut process);
            if process.ended {
                return;
            }
            self.disk.pass_us(400_000);
        }
        panic!("the journal does not close");
    }
}
