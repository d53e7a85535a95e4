//! The log: openraft over the journal, the only write path. It carries commands as bytes and knows no service.
//!
//! One thread owns Raft, the journal's task and every write to the ledger. Others propose through [`Log`], batched per
//! tick. A cluster of one is a group with one voter: the same path, nothing else.
//!
//! A command that comes to a node that does not lead goes to the one that does, one hop, and is answered once this node has
//! applied it too. While no leader is known it waits a moment, because an election is short.
//!
//! A command's way: [`Log::propose`] admits it and puts it into the queue; the log's thread takes the whole queue,
//! stamps it and hands it to Raft, which appends it as one batch; the journal makes the batch durable together with
//! what else waits; Raft commits; the state machine applies each entry and answers straight to whoever waits.
//!
//! Invariants: an answer is given only after the command is durable and applied; entries are applied in order, once;
//! a fatal error of Raft or its storage ends the process, it never serves on.

mod alone;
pub mod backup;
mod bulk;
mod checkpoint;
mod clock;
mod cluster;
mod contact;
mod fetch;
mod held;
mod history;
mod identity;
mod index;
mod keeper;
pub mod level;
mod machine;
mod membership;
mod network;
mod open;
mod peers;
mod planted;
mod quarantine;
mod queue;
mod record;
mod rules;
mod serve;
#[cfg(test)]
mod simulation;
mod snapshot;
mod space;
mod store;
mod tables;
#[cfg(test)]
mod tests;
mod types;

use crate::base::limits::COMMAND_BYTES_MAX;
use crate::base::release;
use crate::base::{Clock, LogIndex, NodeId, Timestamp};
use crate::bodies::Bodies;
use crate::journal::{Journal, Position, ReadError, Stream};
use crate::ledger::{Ledger, Writer};
use bytes::Bytes;
use clock::ClockGuard;
use machine::Seen;
use parking_lot::Mutex;
use queue::{Proposal, Queue};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use store::Store;
use tokio::sync::{Notify, oneshot, watch};
use types::Payload;

pub use cluster::{ClusterView, MemberView, PeerStatus, against_level};
pub use peers::{PeerTls, PeerTlsError, PeerTlsFiles};

/// Where a command stands when it is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Its index.
    pub index: LogIndex,
    /// Its time: the leader's stamp, never before that of an earlier command.
    pub time: Timestamp,
}

/// Judges one command and writes its effects; deterministic. The answer goes to whoever proposed it.
/// Writes and holds are taken over after it returns.
pub type Apply = Box<dyn FnMut(&mut Writer<'_>, At, &[u8]) -> Bytes + Send>;

/// How members reach each other.
pub struct Peering {
    /// Where this node listens, and hears from whom its certificate's authority knows.
    pub listeners: Vec<std::net::TcpListener>,
    /// Where others reach it, `HOST:PORT`.
    pub address: String,
    /// Keys and trust.
    pub tls: Arc<PeerTls>,
    /// Whom a node with an empty folder asks to be taken in; none: it founds a cluster.
    pub peers: Vec<String>,
}

/// How to open the log.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// This node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Its data centre.
    pub site: String,
    /// The release it runs.
    pub release: &'static str,
    /// Folder that holds `ledger/` and `snapshots/`.
    pub folder: PathBuf,
    /// A checkpoint starts when this many bytes wait in the ledger's overlay…
    pub checkpoint_bytes: usize,
    /// … or after this long with anything in it.
    pub checkpoint_ms: u64,
    /// Proposals are refused with `Overloaded` while more bytes than this wait.
    pub queue_bytes_max: usize,
    /// A proposal not applied after this is answered `Unknown`.
    pub propose_timeout_ms: u64,
    /// A cluster of one refuses to stamp when its clock jumped by more than this since the last stamp.
    pub clock_jump_ms_max: u64,
    /// State older than this is too old for what may have been restricted since.
    pub stale_ms_max: u64,
    /// The space reclaim rewrites at most so many live bytes a second, in each stream.
    pub reclaim_bytes_per_second: u64,
    /// The format level that a command needs: below it the command is not proposed.
    pub level_of: LevelOf,
}

/// See [`LogConfig::level_of`].
pub type LevelOf = fn(&[u8]) -> u32;

/// An applied command.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Where it was judged.
    pub at: At,
    /// What `apply` answered.
    pub outcome: Bytes,
}

/// Why there is no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// It may or may not have been applied: retry with the same identifier.
    #[error("the outcome is unknown")]
    Unknown,
    /// Not taken: too much waits (or the command is larger than `COMMAND_BYTES_MAX`, a bug of the proposer that is logged).
    #[error("too many commands wait")]
    Overloaded,
    /// Not taken: the disk's reserve is reached.
    #[error("the disk is full up to its reserve")]
    DiskFull,
    /// Not taken: no leader, or this node is cut off.
    #[error("there is no leader")]
    NoLeader,
    /// Not taken: the clock jumped.
    #[error("the node's clock jumped; fix the time or restart the node to accept it")]
    ClockJumped,
    /// Not taken: shutting down.
    #[error("the node is shutting down")]
    Closing,
    /// Not taken: older releases could not read it, and may still come back.
    #[error("this needs a later format level; run `vertebra upgrade finalize` once every member runs the new release")]
    NotYet,
}

/// What `status`, metrics and the watchdog show.
#[derive(Clone, Debug, Default)]
pub struct LogStatus {
    /// This node leads.
    pub leader: bool,
    /// Who leads; 0 while nobody is known to.
    pub leader_id: NodeId,
    /// It takes writes: it leads or knows who does, and is not cut off.
    pub writable: bool,
    /// Raft term.
    pub term: u64,
    /// Last index in the log.
    pub last: LogIndex,
    /// Last committed index.
    pub committed: LogIndex,
    /// Last applied index.
    pub applied: LogIndex,
    /// Index the last ledger checkpoint includes.
    pub checkpointed: LogIndex,
    /// First index still in the log.
    pub first: LogIndex,
    /// Log time of the last applied command.
    pub time: Timestamp,
    /// Commands that wait.
    pub queue: usize,
}

/// How long each part of a deep ping took, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeepPing {
    /// From the call until the log's thread took it.
    pub queue_us: u64,
    /// Append and fsync.
    pub fsync_us: u64,
    /// Commit and apply.
    pub apply_us: u64,
    /// Reading the entry back.
    pub read_us: u64,
}

/// A handle; cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

/// So long a command waits for a leader to be found.
const PATIENCE: Duration = Duration::from_millis(3_000);

/// What the handles and the log's tasks share.
struct Shared {
    store: Arc<Store>,
    space: Arc<space::Space>,
    seen: Arc<Seen>,
    clock: Clock,
    guard: Mutex<ClockGuard>,
    queue: Queue,
    propose_timeout_ms: u64,
    stale_ms_max: u64,
    level_of: LevelOf,
    /// This node leads.
    leader: AtomicBool,
    /// It leads and is the only voter: its state includes everything that was ever acknowledged.
    alone: AtomicBool,
    /// It has peers or waits for some.
    clustered: bool,
    /// It had no vote when it was opened: it joins, and its state may be none at all.
    joins: AtomicBool,
    /// Who leads; 0 while nobody is known to.
    leader_id: AtomicU64,
    term: AtomicU64,
    disk_full: AtomicBool,
    /// Its clock is too far from its peers'…
    clock_off: AtomicBool,
    /// … and they are more.
    clock_outvoted: AtomicBool,
    checkpointed: AtomicU64,
    closing: AtomicBool,
    close: Notify,
    closed: watch::Sender<bool>,
    began: Instant,
    /// When a majority last stood behind the leader as far as this node was told, ms after `began`, plus one; 0: not yet.
    contact_ms: AtomicU64,
    currency: Mutex<contact::Currency>,
    age_by_log: Mutex<contact::AgeByLog>,
    /// One after the index up to which everything lay that had been acknowledged when this node first heard so after its
    /// start; 0: it did not yet.
    current_from: AtomicU64,
    cluster: Mutex<ClusterView>,
    asks: Mutex<Option<tokio::sync::mpsc::UnboundedSender<cluster::Asked>>>,
    about: Mutex<Option<About>>,
    folder: PathBuf,
    /// Backups that wait for their copy of the ledger.
    backups: backup::Asked,
}

/// What a node shows of itself to its peers, as JSON.
pub type About = Box<dyn Fn() -> Vec<u8> + Send>;

/// What `Shared` is made of.
type Stores = (Arc<Store>, Arc<space::Space>, Arc<Seen>);

impl Shared {
    fn new(config: &LogConfig, clustered: bool, clock: Clock, (store, space, seen): Stores) -> Shared {
        Shared {
            store,
            space,
            seen,
            clock,
            guard: Mutex::new(ClockGuard::new(config.clock_jump_ms_max)),
            queue: Queue::new(config.queue_bytes_max),
            propose_timeout_ms: config.propose_timeout_ms,
            stale_ms_max: config.stale_ms_max,
            level_of: config.level_of,
            leader: AtomicBool::new(false),
            alone: AtomicBool::new(false),
            clustered,
            joins: AtomicBool::new(false),
            leader_id: AtomicU64::new(0),
            term: AtomicU64::new(0),
            disk_full: AtomicBool::new(false),
            clock_off: AtomicBool::new(false),
            clock_outvoted: AtomicBool::new(false),
            checkpointed: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            close: Notify::new(),
            closed: watch::Sender::new(false),
            began: Instant::now(),
            contact_ms: AtomicU64::new(0),
            currency: Mutex::default(),
            age_by_log: Mutex::default(),
            current_from: AtomicU64::new(0),
            cluster: Mutex::default(),
            asks: Mutex::default(),
            about: Mutex::default(),
            folder: config.folder.clone(),
            backups: backup::Asked::default(),
        }
    }

    /// What this node shows of itself.
    fn about(&self) -> Vec<u8> {
        self.about.lock().as_ref().map_or_else(Vec::new, |about| about())
    }

    /// Compares this node's clock with those of its peers.
    fn look_at_peers(&self, skews_ms: &[i64]) {
        let off = clock::is_off(skews_ms);
        if !off && !skews_ms.is_empty() {
            // It may have been wrong when this node started, and set right since.
            self.guard.lock().accept();
        }
        let outvoted = clock::is_outvoted(skews_ms);
        self.clock_outvoted.store(outvoted, Ordering::Release);
        if off != self.clock_off.swap(off, Ordering::AcqRel) {
            if off {
                tracing::error!(
                    ?skews_ms,
                    "this node's clock is not its peers': while it leads, nothing expires; set it right"
                );
            } else {
                tracing::info!("this node's clock is its peers' again");
            }
        }
    }
}

impl Log {
    /// Opens journal, ledger, bodies and Raft in one go on the current thread's `tokio_uring` runtime, replays what the
    /// last checkpoint lacks, and returns when the node may serve. All of it stops when the runtime does.
    pub async fn open(
        config: LogConfig,
        journal: crate::journal::JournalConfig,
        ledger_map_bytes_max: u64,
        clock: Clock,
        peering: Option<Peering>,
        apply: Apply,
    ) -> Result<Opened, OpenError> {
        open::open(config, journal, ledger_map_bytes_max, clock, peering, apply).await
    }

    /// Proposes a command of at most `COMMAND_BYTES_MAX` and waits until it is durable and applied. An empty command
    /// changes nothing and never reaches `apply`.
    ///
    /// # Errors
    /// In the order they are checked: `Closing`, `NoLeader`, `NotYet`, `DiskFull`, `Overloaded`, `ClockJumped`; then `Unknown`
    /// when the outcome did not come in time, or cannot come because this node is cut off.
    pub async fn propose(&self, command: Bytes) -> Result<Applied, ProposeError> {
        self.propose_traced(command, None).await
    }

    async fn propose_traced(
        &self,
        command: Bytes,
        taken: Option<oneshot::Sender<Instant>>,
    ) -> Result<Applied, ProposeError> {
        let shared = &self.shared;
        let led = shared.leader.load(Ordering::Acquire) || shared.clustered;
        if (!led || shared.is_cut_off()) && !shared.closing.load(Ordering::Acquire) {
            return Err(ProposeError::NoLeader);
        }
        propose_here(shared, command, taken).await
    }

    /// Returns once this node's state includes everything acknowledged before the call (ReadIndex; at once on a cluster of one).
    ///
    /// # Errors
    /// `NoLeader` when a majority did not confirm it in time, or this node did not apply it in time.
    pub async fn linearizable(&self) -> Result<(), ProposeError> {
        let shared = &self.shared;
        if shared.alone.load(Ordering::Acquire) {
            return Ok(());
        }
        if shared.is_cut_off() {
            return Err(ProposeError::NoLeader);
        }
        let asked = Instant::now();
        let index = serve::read_index(shared).await?;
        // Who has been further behind than a read waits will not catch up while it waits.
        let patience = match shared.behind_for() < PATIENCE {
            true => PATIENCE,
            false => Duration::ZERO,
        };
        if !shared.seen.wait_applied(index, patience).await {
            return Err(ProposeError::NoLeader);
        }
        shared.note_reaches(index, asked);
        Ok(())
    }

    /// Waits until this node's state includes everything that was acknowledged before. Where it is cut off from the majority, or
    /// cannot follow it: the age of its own state, in seconds.
    ///
    /// # Errors
    /// As [`Log::linearizable`]; `NoLeader` only where there is no state of its own to read from: a node that joins would refuse
    /// whoever it does not know yet.
    pub async fn current(&self) -> Result<Option<u64>, ProposeError> {
        match self.linearizable().await {
            Ok(()) => Ok(None),
            Err(ProposeError::NoLeader) if self.has_caught_up() || !self.shared.joins.load(Ordering::Acquire) => {
                Ok(Some(self.state_age_ms().div_ceil(1000)))
            }
            Err(other) => Err(other),
        }
    }

    /// How old this node's state may be, in ms: 0 while it leads alone, else since everything acknowledged was last known to be
    /// applied here or, when it was not since it started, since the last command it applied. Older than [`Log::is_stale`] allows
    /// when no clock tells.
    pub fn state_age_ms(&self) -> u64 {
        let shared = &self.shared;
        if shared.alone.load(Ordering::Acquire) {
            return 0;
        }
        if let Some(at) = shared.current_at() {
            return at.elapsed().as_millis() as u64;
        }
        shared
            .age_by_log_ms()
            .unwrap_or_else(|| shared.stale_ms_max + 1 + shared.began.elapsed().as_millis() as u64)
    }

    /// Whether this node's state is so old that what may have been restricted since is not shown from it.
    pub fn is_stale(&self) -> bool {
        self.state_age_ms() > self.shared.stale_ms_max
    }

    /// Whether this node has applied everything that was acknowledged before it started. False until it hears from a majority.
    pub fn has_caught_up(&self) -> bool {
        self.shared.has_caught_up()
    }

    /// Raises the format level in force; what is in force already stays. The caller has put it on the record.
    ///
    /// # Errors
    /// One sentence: who does not speak it or does not answer, or why it was not logged.
    pub async fn raise_level(&self, level: u32) -> Result<u32, String> {
        let now = self.shared.seen.level.load(Ordering::Acquire);
        if level <= now {
            return Ok(now);
        }
        let this = release::this();
        if !this.levels.contains(&level) {
            return Err(format!(
                "this release ({}) does not speak format level {level}",
                this.name
            ));
        }
        if self.shared.clustered {
            self.ask(cluster::Ask::MayRaise(level)).await?;
        }
        match self.propose(level::command(level, &this.name)).await {
            Ok(_) => Ok(self.shared.seen.level.load(Ordering::Acquire)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The format level in force.
    pub fn level(&self) -> u32 {
        self.shared.seen.level.load(Ordering::Acquire)
    }

    /// Whether this node's clock is that of its peers: what expires by the clock waits while it is not.
    pub fn clock_agrees(&self) -> bool {
        !self.shared.clock_off.load(Ordering::Acquire)
    }

    /// All members as this node sees them.
    pub fn cluster(&self) -> ClusterView {
        self.shared.cluster.lock().clone()
    }

    /// What this node shows of itself to its peers from now on.
    pub fn show(&self, about: About) {
        *self.shared.about.lock() = Some(about);
    }

    /// Hands leadership to another voter, if this node has it.
    ///
    /// # Errors
    /// One sentence: why nobody took it.
    pub async fn hand_over(&self) -> Result<(), String> {
        self.ask(cluster::Ask::HandOver).await
    }

    /// Takes a member out, wherever the leader is.
    ///
    /// # Errors
    /// One sentence: what stands against it, or who did not answer.
    pub async fn leave(&self, id: NodeId) -> Result<(), String> {
        self.ask(cluster::Ask::Leave(id)).await
    }

    /// Lets this node go on alone: notes the operator's word, for the next start. The caller ends the process.
    ///
    /// # Errors
    /// One sentence: the cluster takes writes, another survivor is further, or the word could not be written.
    pub fn go_alone(&self) -> Result<(), String> {
        let shared = &self.shared;
        let view = self.cluster();
        if view.cluster.is_none() {
            return Err("this node belongs to no cluster".to_owned());
        }
        if self.status().writable {
            return Err("the cluster takes writes; nobody needs to go on alone".to_owned());
        }
        let own = shared
            .store
            .bounds()
            .2
            .map_or((0, 0), |id| (id.leader_id.term, id.index));
        let further = |other: &&MemberView| {
            let status = other.status.as_ref();
            status.is_some_and(|status| (status.last_term, status.last) > own)
        };
        if let Some(other) = view.others.iter().find(further) {
            return Err(format!(
                "{} has more than this node; let that one go on alone, or acknowledged messages would be lost",
                other.member.name
            ));
        }
        alone::mark(&shared.folder, view.epoch + 1).map_err(|cause| format!("the word could not be written: {cause}"))
    }

    async fn ask(&self, ask: cluster::Ask) -> Result<(), String> {
        let (tell, told) = oneshot::channel();
        let sent = match self.shared.asks.lock().as_ref() {
            Some(asks) => asks.send((ask, tell)).is_ok(),
            None => return Err("this node has no peers: there is no [cluster] in its configuration".to_owned()),
        };
        let stopping = || "the node is stopping".to_owned();
        if !sent {
            return Err(stopping());
        }
        told.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// The command at `index`, which state holds or which is still in the log.
    ///
    /// # Errors
    /// `Corrupt` when what is there is no such command, `Gone` when the log has no such entry any more.
    pub async fn command(&self, index: LogIndex) -> Result<Bytes, ReadError> {
        match self.entry(index).await?.map(|entry| entry.payload) {
            Some(Payload::Normal(command)) => Ok(command.bytes),
            Some(Payload::Blank | Payload::Membership(_)) => {
                let position = Position {
                    segment: 0,
                    offset: 0,
                    bytes: 0,
                };
                let what = "the entry carries no command";
                Err(ReadError::Corrupt {
                    stream: Stream::Log,
                    position,
                    what,
                })
            }
            None => Err(ReadError::Gone {
                stream: Stream::Log,
                segment: 0,
            }),
        }
    }

    /// The entry from here or, when it is damaged here, from another member.
    async fn entry(&self, index: LogIndex) -> Result<Option<types::Entry>, ReadError> {
        let error = match self.shared.store.entry_here(index).await {
            Err(error @ (ReadError::Corrupt { .. } | ReadError::Io(_))) => error,
            read => return read,
        };
        match self.shared.space.repair(index) {
            Some(repaired) => repaired.await.map(Some).map_err(|_| error),
            None => Err(error),
        }
    }

    /// Somebody found damage in a segment of the log's stream: what it holds is written anew, from other members where it
    /// cannot be read here, and the segment removed. Does nothing for a segment that goes by itself, or twice.
    pub fn note_damage(&self, segment: u32) {
        self.shared.space.note_damage(segment);
    }

    /// Log time as of the last applied command, or the clock's when that is later.
    pub fn time(&self) -> Timestamp {
        let applied = Timestamp::from_ms(self.shared.seen.time_ms.load(Ordering::Acquire));
        applied.max(self.shared.clock.now())
    }

    /// Refuses writes with `ClockJumped` while the system's clock is further behind the log's time than a jump may be:
    /// a machine that came up with the wrong time would refuse every client's token. For a node whose clock no test moves.
    pub fn hold_clock_to_log(&self) {
        let log_ms = self.shared.seen.time_ms.load(Ordering::Acquire);
        if self.shared.guard.lock().expect_at_least(log_ms) {
            let log_time = Timestamp::from_ms(log_ms);
            tracing::error!(%log_time, "the clock is behind the log; writes are refused until the time is set right");
        }
    }

    /// Status.
    pub fn status(&self) -> LogStatus {
        let shared = &self.shared;
        let (_, first, last) = shared.store.bounds();
        let leader = shared.leader.load(Ordering::Acquire);
        let leader_id = shared.leader_id.load(Ordering::Acquire);
        LogStatus {
            leader,
            leader_id,
            writable: leader_id != 0 && !shared.is_cut_off(),
            term: shared.term.load(Ordering::Acquire),
            last: last.map_or(0, |id| id.index),
            committed: shared.store.committed().map_or(0, |id| id.index),
            applied: shared.seen.applied_end.load(Ordering::Acquire).saturating_sub(1),
            checkpointed: shared.checkpointed.load(Ordering::Acquire),
            first,
            time: Timestamp::from_ms(shared.seen.time_ms.load(Ordering::Acquire)),
            queue: shared.queue.commands(),
        }
    }

    /// Goes through the whole path with a command that changes nothing.
    ///
    /// # Errors
    /// As [`propose`](Self::propose); `Unknown` also when the entry could not be read back.
    pub async fn deep_ping(&self) -> Result<DeepPing, ProposeError> {
        let began = Instant::now();
        let (taken, when_taken) = oneshot::channel();
        let applied = self.propose_traced(Bytes::new(), Some(taken)).await?;
        let answered = Instant::now();
        let us = |from: Instant, to: Instant| to.saturating_duration_since(from).as_micros() as u64;
        let queue_us = when_taken.await.map_or(0, |taken| us(began, taken));
        let trace = self.shared.store.trace(applied.at.index);
        let fsync_us = trace.map_or(0, |trace| us(trace.appended, trace.durable));
        let apply_us = trace.map_or(0, |trace| us(trace.durable, answered));
        let reading = Instant::now();
        let row = self.shared.store.row(applied.at.index).ok_or(ProposeError::Unknown)?;
        let read = self.shared.store.read_row(applied.at.index, row).await;
        if let Err(error) = read {
            tracing::error!(%error, index = applied.at.index, "the deep ping could not read its entry back");
            return Err(ProposeError::Unknown);
        }
        let read_us = us(reading, Instant::now());
        Ok(DeepPing {
            queue_us,
            fsync_us,
            apply_us,
            read_us,
        })
    }

    /// Refuses new proposals, finishes those taken, checkpoints, closes the journal.
    pub async fn close(&self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.shared.close.notify_one();
        let mut closed = self.shared.closed.subscribe();
        // An error means that the log's thread is gone: nothing is left to close.
        let _gone = closed.wait_for(|closed| *closed).await;
    }
}

/// Takes a command into this node's queue and waits for its outcome.
async fn propose_here(
    shared: &Arc<Shared>,
    command: Bytes,
    taken: Option<oneshot::Sender<Instant>>,
) -> Result<Applied, ProposeError> {
    if shared.closing.load(Ordering::Acquire) {
        return Err(ProposeError::Closing);
    }
    // The one place that every command goes through on its way into the log, a forwarded one twice.
    if (shared.level_of)(&command) > shared.seen.level.load(Ordering::Acquire) {
        return Err(ProposeError::NotYet);
    }
    if shared.disk_full.load(Ordering::Acquire) {
        return Err(ProposeError::DiskFull);
    }
    if command.len() > COMMAND_BYTES_MAX {
        tracing::error!(
            bytes = command.len(),
            max = COMMAND_BYTES_MAX,
            "a command is too large: a bug of its proposer"
        );
        return Err(ProposeError::Overloaded);
    }
    let permit = shared.queue.admit(command.len()).ok_or(ProposeError::Overloaded)?;
    // `close` waits for admitted commands: either it sees this one or this one sees that it began.
    if shared.closing.load(Ordering::SeqCst) {
        return Err(ProposeError::Closing);
    }
    let (answered, answer) = oneshot::channel();
    shared.queue.push(Proposal {
        command,
        answered: Some(answered),
        taken,
        _permit: permit,
        since: Instant::now(),
    });
    match tokio::time::timeout(Duration::from_millis(shared.propose_timeout_ms), answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) | Err(_) => Err(ProposeError::Unknown),
    }
}

/// Says in one line why the node cannot go on, and ends the process.
fn end(why: &str) -> ! {
    tracing::error!("{why}; the node stops and recovers at its next start");
    eprintln!("vertebra: {why}; the node stops and recovers at its next start");
    std::process::exit(70);
}

/// What `Log::open` gives.
pub struct Opened {
    /// The log.
    pub log: Log,
    /// The ledger, to read from.
    pub ledger: Ledger,
    /// The journal, for figures and the audit.
    pub journal: Journal,
    /// Large bodies.
    pub bodies: Bodies,
    /// End of the audit chain as replayed.
    pub audit: crate::audit::Head,
    /// This start made the cluster: nobody older takes part.
    pub founded: bool,
}

/// Why the log did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] crate::journal::OpenError),
    /// The ledger.
    #[error("the ledger: {0}")]
    Ledger(std::io::Error),
    /// The data folder is another node's or another cluster's.
    #[error("{0}")]
    Identity(String),
    /// openraft stopped with a fatal error.
    #[error("raft: {0}")]
    Raft(String),
    /// The data folder holds a part of a backup alone.
    #[error("a restore into {0} was cut short; run `vertebra restore` again, which begins by clearing the folder")]
    Restoring(String),
}
