//! Opening: ledger, then the journal's replay into the log's index, then bodies, then Raft, then ready.

use super::checkpoint::{AppliedState, Checkpoint, Checkpoints};
use super::cluster::Cluster;
use super::history::History;
use super::identity::Identity;
use super::index::{Index, TAIL_BYTES_MAX};
use super::keeper::Keeper;
use super::level;
use super::machine::{Machine, Seen};
use super::network::Network;
use super::peers::{Local, Peers};
use super::record::{self, KIND_COMMITTED, KIND_ENTRY, KIND_HELD, KIND_PURGED, KIND_TRUNCATE, KIND_VOTE};
use super::snapshot::{self, Snapshots};
use super::space::Space;
use super::store::{LogStore, Store};
use super::tables::{self, Meta};
use super::types::{Entry, Member, Membership, Payload, TypeConfig};
use super::{Apply, LogConfig, OpenError, Opened, Peering, Shared};
use super::{alone, quarantine};
use crate::audit;
use crate::base::Clock;
use crate::base::release;
use crate::bodies::{self, Bodies};
use crate::journal::{
    Journal, JournalConfig, OpenError as JournalOpenError, Position, RecordKey, Replay, Stream, Watermarks,
};
use crate::ledger::{self, Ledger};
use bytes::Bytes;
use openraft::{Raft, RaftLogReader, SnapshotPolicy};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const ELECTION_MS: (u64, u64) = (300, 600);
const HEARTBEAT_MS: u64 = 100;

/// What the replay of the journal builds up.
struct Replayed {
    index: Index,
    meta: Meta,
    /// First entry met: from it on rows are missing or may be.
    first_entry: Option<u64>,
    bodies: Vec<(RecordKey, Position)>,
    audit: audit::Head,
    damage: Option<(Position, &'static str)>,
}

impl Replayed {
    /// Starts from the rows of the last checkpoint.
    fn new(ledger: &Ledger) -> Result<Replayed, OpenError> {
        let meta = tables::meta(ledger).map_err(|what| OpenError::Ledger(std::io::Error::other(what)))?;
        let mut index = Index::new(meta.purged);
        tables::rows(
            ledger,
            tables::ENTRIES,
            meta.purged.map(|id| id.index),
            &mut |at, row| {
                index.push_stored(openraft::LogId::new(row.leader, at), row.position);
                true
            },
        );
        let audit = audit::Head::default();
        Ok(Replayed {
            index,
            meta,
            first_entry: None,
            bodies: Vec::new(),
            audit,
            damage: None,
        })
    }

    fn record(&mut self, stream: Stream, key: RecordKey, position: Position, payload: Bytes) {
        match stream {
            Stream::Log => {
                if let Err(what) = self.log_record(&key, position, &payload) {
                    self.damage.get_or_insert((position, what));
                }
            }
            Stream::Bodies if key.kind == bodies::KIND_PIECE => self.bodies.push((key, position)),
            Stream::Bodies => {
                self.damage
                    .get_or_insert((position, "a record of unknown kind in the bodies stream"));
            }
            Stream::Audit => self.audit = audit::Audit::head_of(key.number, &payload),
        }
    }

    fn log_record(&mut self, key: &RecordKey, position: Position, payload: &Bytes) -> Result<(), &'static str> {
        match key.kind {
            KIND_ENTRY => self.entry(record::decode_entry(key, payload)?, position),
            // Its row is in the ledger or it was never used.
            KIND_HELD => Ok(()),
            KIND_TRUNCATE => {
                self.index.truncate_after(record::decode_log_id(payload)?);
                Ok(())
            }
            KIND_VOTE => {
                self.meta.vote = Some(record::decode_vote(payload)?);
                Ok(())
            }
            KIND_COMMITTED => {
                self.meta.committed = self.meta.committed.max(record::decode_log_id(payload)?);
                Ok(())
            }
            KIND_PURGED => {
                if let Some(upto) = record::decode_log_id(payload)? {
                    self.index.purge(upto);
                    self.meta.purged = self.index.purged();
                }
                Ok(())
            }
            _ => Err("a record of unknown kind in the log stream"),
        }
    }

    /// Replay starts before the rows' end, so entries that are known may come again; in the same place or, where the
    /// log was truncated in between, before the truncation does.
    fn entry(&mut self, entry: Entry, position: Position) -> Result<(), &'static str> {
        let at = entry.log_id.index;
        if self.index.purged().is_some_and(|purged| at <= purged.index) {
            return Ok(());
        }
        self.first_entry = Some(self.first_entry.map_or(at, |first| first.min(at)));
        let empty = self.index.first() == self.index.end();
        if !empty && at > self.index.end() {
            return Err("a hole in the log");
        }
        if !empty && at < self.index.end() {
            let before = at.checked_sub(1).and_then(|before| {
                let leader = self.index.slot(before)?.leader;
                Some(openraft::LogId::new(leader, before))
            });
            if at == self.index.first() {
                self.index = Index::new(self.index.purged());
            } else {
                self.index.truncate_after(before);
            }
        }
        self.index.push(entry.log_id, entry.payload, Some(position));
        self.index.shrink(at, TAIL_BYTES_MAX);
        Ok(())
    }

    /// What replay found cannot be served.
    fn damage(&self) -> Option<OpenError> {
        self.damage.map(|(position, what)| {
            let Position { segment, offset, .. } = position;
            let what = what.to_owned();
            OpenError::Journal(JournalOpenError::Corrupt {
                stream: Stream::Log,
                segment,
                offset,
                what,
            })
        })
    }
}

/// The parts that openraft and the keeper share.
pub(super) struct Parts {
    pub store: Arc<Store>,
    pub machine: Machine,
    pub space: Arc<Space>,
    pub checkpoints: Arc<Checkpoints>,
    pub snapshots: Arc<Snapshots>,
    pub seen: Arc<Seen>,
    pub bodies: Bodies,
    pub audit: audit::Head,
}

/// Opens everything below Raft.
pub(super) async fn open_parts(
    config: &LogConfig,
    journal: JournalConfig,
    ledger_map_bytes_max: u64,
    apply: Apply,
) -> Result<Parts, OpenError> {
    let open = async |watermarks, replay: Replay<'_>| Journal::open(journal, watermarks, replay).await;
    open_parts_on(open, config, ledger_map_bytes_max, apply).await
}

/// The same on any journal.
pub(super) async fn open_parts_on(
    open_journal: impl AsyncFnOnce(Watermarks, Replay<'_>) -> Result<Journal, JournalOpenError>,
    config: &LogConfig,
    ledger_map_bytes_max: u64,
    apply: Apply,
) -> Result<Parts, OpenError> {
    let folder = config.folder.join("ledger");
    let (ledger, opened) = Ledger::open(&folder, ledger_map_bytes_max).map_err(OpenError::Ledger)?;
    let mut replayed = Replayed::new(&ledger)?;
    let checkpointed = checkpoint_of(&opened, &replayed.meta);
    let applied = AppliedState {
        last: snapshot::position(&opened),
        membership: replayed.meta.membership.clone(),
        history: replayed.meta.history,
    };
    let mut each = |stream, key, position, payload| replayed.record(stream, key, position, payload);
    let journal = open_journal(opened.watermarks, &mut each).await?;
    if let Some(damage) = replayed.damage() {
        return Err(damage);
    }
    for stream in [Stream::Log, Stream::Bodies, Stream::Audit] {
        let cut_off = journal.cut_off_bytes(stream);
        if cut_off > 0 {
            tracing::warn!(?stream, cut_off, "a torn tail was cut off: it was never acknowledged");
        }
    }
    let bodies = open_bodies(&journal, &ledger, &replayed.bodies);
    let rows_end = replayed.first_entry.unwrap_or(replayed.index.end());
    // A committed position may be known before its entries were durable; openraft must not look for those.
    replayed.meta.committed = replayed.meta.committed.min(replayed.index.last());
    let space = Arc::new(Space::new(&ledger));
    let store = Arc::new(Store::new(journal, ledger, replayed.index, replayed.meta, rows_end));
    let checkpoints = Arc::new(Checkpoints::new(store.clone(), checkpointed, applied));
    let snapshots = config.folder.join("snapshots");
    let snapshots = Snapshots::open(
        snapshots,
        ledger_map_bytes_max,
        store.clone(),
        space.clone(),
        checkpoints.clone(),
        bodies.clone(),
    );
    let snapshots = Arc::new(snapshots.map_err(OpenError::Ledger)?);
    let installed = snapshots.install_again().await.map_err(OpenError::Ledger)?;
    let opened = installed.unwrap_or(opened);
    let seen = Arc::new(Seen::default());
    *seen.history.lock() = History::from_hash(checkpoints.applied.lock().history);
    seen.time_ms.store(opened.at.ms(), Ordering::Release);
    seen.applied_end
        .store(opened.applied.map_or(0, |(_, _, index)| index + 1), Ordering::Release);
    let machine = Machine {
        store: store.clone(),
        apply,
        bodies: bodies.clone(),
        space: space.clone(),
        checkpoints: checkpoints.clone(),
        snapshots: snapshots.clone(),
        seen: seen.clone(),
        identity: None,
    };
    let audit = replayed.audit;
    Ok(Parts {
        store,
        machine,
        space,
        checkpoints,
        snapshots,
        seen,
        bodies,
        audit,
    })
}

/// The newest membership: of the log where it goes on behind what is applied, else the applied one.
async fn last_membership(parts: &Parts) -> std::io::Result<Membership> {
    let (applied, mut membership) = {
        let applied = parts.checkpoints.applied.lock();
        (applied.last, applied.membership.membership().clone())
    };
    let mut log = LogStore(parts.store.clone());
    let mut at = applied.map_or(0, |id| id.index + 1).max(parts.store.bounds().1);
    loop {
        let entries = log.limited_get_log_entries(at, u64::MAX).await?;
        let Some(last) = entries.last() else {
            return Ok(membership);
        };
        at = last.log_id.index + 1;
        for entry in entries {
            if let Payload::Membership(newer) = entry.payload {
                membership = newer;
            }
        }
    }
}

impl Parts {
    /// A node that is marked as one whose state differs takes its peers' before it does anything.
    async fn leave_quarantine(
        &mut self,
        folder: &Path,
        peers: Option<&Peers>,
        membership: &Membership,
    ) -> Result<(), OpenError> {
        if let Some(peers) = peers.filter(|_| quarantine::is_marked(folder)) {
            let members = membership.nodes().map(|(id, member)| (*id, member.clone())).collect();
            let healed = quarantine::heal(folder, peers, &members, &self.snapshots).await;
            self.note_installed(&healed.map_err(OpenError::Ledger)?);
        }
        Ok(())
    }

    /// The state is another one than was opened.
    fn note_installed(&mut self, opened: &ledger::Opened) {
        self.seen.time_ms.store(opened.at.ms(), Ordering::Release);
        let end = opened.applied.map_or(0, |(_, _, index)| index + 1);
        self.seen.applied_end.store(end, Ordering::Release);
        *self.seen.history.lock() = History::from_hash(self.checkpoints.applied.lock().history);
    }

    /// The folder says the format level that the state has, before anything is done by it; a state that this release does
    /// not speak is not served. A new one has none yet, and gets its cluster's.
    fn settle_level(&mut self, identity: &Arc<Mutex<Identity>>) -> Result<(), OpenError> {
        let now = level::in_force(&self.store.ledger);
        let is_new = self.checkpoints.applied.lock().last.is_none();
        identity
            .lock()
            .raise(now.level, &now.release)
            .map_err(OpenError::Ledger)?;
        if !is_new && let Some(why) = level::cannot_open(release::this(), now.level, &now.release) {
            return Err(OpenError::Identity(why));
        }
        self.seen.level.store(now.level, Ordering::Release);
        self.machine.identity = Some(identity.clone());
        Ok(())
    }
}

fn checkpoint_of(opened: &ledger::Opened, meta: &Meta) -> Option<Checkpoint> {
    let last = snapshot::position(opened)?;
    let applied = AppliedState {
        last: Some(last),
        membership: meta.membership.clone(),
        history: meta.history,
    };
    let log_segment = opened.watermarks.from[Stream::Log as usize].0;
    Some(Checkpoint { applied, log_segment })
}

fn open_bodies(journal: &Journal, ledger: &Ledger, replayed: &[(RecordKey, Position)]) -> Bodies {
    let bodies = Bodies::open(journal.clone(), ledger.clone());
    for (key, position) in replayed {
        bodies.replayed(crate::base::UploadId(key.id), key.number, *position);
    }
    bodies
}

pub(super) fn raft_config(alone: bool) -> openraft::Config {
    openraft::Config {
        cluster_name: "vertebra".to_owned(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MS.0,
        election_timeout_max: ELECTION_MS.1,
        // Snapshots and purges are driven by checkpoints, not by counts of entries.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        enable_pre_vote: Some(true),
        // The only voter's own durable log is the majority's, so it may go on leading at once. With others the saved
        // committed position may lag, so leadership is won again.
        enable_leader_restore: Some(alone),
        ..openraft::Config::default()
    }
}

/// This node's line in the membership.
fn own_line(config: &LogConfig, peering: Option<&Peering>, identity: &Identity) -> Member {
    Member {
        name: config.name.clone(),
        site: config.site.clone(),
        address: peering.map(|peering| peering.address.clone()).unwrap_or_default(),
        incarnation: identity.incarnation,
    }
}

/// What the threads that serve must know of the opened state.
fn note_opened(shared: &Shared, checkpoints: &Checkpoints, votes: bool) {
    let checkpointed = checkpoints.last().and_then(|checkpoint| checkpoint.applied.last);
    let index = checkpointed.map_or(0, |id| id.index);
    shared.checkpointed.store(index, Ordering::Release);
    shared.joins.store(!votes, Ordering::Release);
}

/// Makes this node the only member of a new cluster.
async fn found(raft: &Raft<TypeConfig, Machine>, node: u64, member: Member, has_room: bool) -> Result<(), OpenError> {
    if !has_room {
        return Err(OpenError::Raft(
            "the disk is full up to its reserve; free some space to make a new node".to_owned(),
        ));
    }
    let members = BTreeMap::from([(node, member)]);
    let initialized = raft.initialize(members).await;
    initialized.map_err(|error| OpenError::Raft(error.to_string()))
}

/// Opens everything and returns when the node may serve.
pub(super) async fn open(
    config: LogConfig,
    journal: JournalConfig,
    ledger_map_bytes_max: u64,
    clock: Clock,
    peering: Option<Peering>,
    apply: Apply,
) -> Result<Opened, OpenError> {
    super::backup::refuse_half_restored(&config.folder)?;
    let raft_error = |error: &dyn std::fmt::Display| OpenError::Raft(error.to_string());
    let reserve_bytes = journal.reserve_bytes;
    let mut identity = Identity::open(&config.folder, config.node)?;
    let mut parts = open_parts(&config, journal, ledger_map_bytes_max, apply).await?;
    let store = parts.store.clone();
    tokio::task::spawn_local(store.clone().drive());
    tokio::task::spawn_local(store.clone().drive_committed());
    let member = own_line(&config, peering.as_ref(), &identity);
    let membership = last_membership(&parts).await.map_err(OpenError::Ledger)?;
    let is_member = membership.voter_ids().next().is_some();
    let mut alone = membership.voter_ids().all(|voter| voter == config.node);
    let founds = !is_member && peering.as_ref().is_none_or(|peering| peering.peers.is_empty());
    if identity.cluster.is_none() && (founds || is_member) {
        identity.enter(rand::random(), 1).map_err(OpenError::Ledger)?;
    }
    if let Some(epoch) = alone::marked(&config.folder).map_err(OpenError::Ledger)? {
        let gone = alone::go(&store, &config.folder, &mut identity, member.clone(), epoch).await;
        gone.map_err(OpenError::Ledger)?;
        alone = true;
    }
    let joins = identity.cluster.is_none();
    let identity = Arc::new(Mutex::new(identity));
    let local = |peering: &Peering| Local {
        identity: identity.clone(),
        member: member.clone(),
        release: config.release,
        tls: peering.tls.clone(),
        refused: Mutex::default(),
    };
    let peers = peering
        .as_ref()
        .map(|peering| Rc::new(Peers::new(Rc::new(local(peering)))));
    parts
        .leave_quarantine(&config.folder, peers.as_deref(), &membership)
        .await?;
    parts.settle_level(&identity)?;
    let raft_config = raft_config(alone).validate().map_err(|error| raft_error(&error))?;
    let (network, storage) = (Network(peers.clone()), LogStore(store.clone()));
    let raft = Raft::new(config.node, Arc::new(raft_config), network, storage, parts.machine).await;
    let raft = raft.map_err(|error| raft_error(&error))?;
    let founded = founds && !raft.is_initialized().await.map_err(|error| raft_error(&error))?;
    if founded {
        let has_room = store.journal.stats().free_bytes >= reserve_bytes;
        found(&raft, config.node, member, has_room).await?;
    }
    if alone && !joins {
        // The only voter always gets there, however long the tail. One of several serves reads from what it has.
        let recovered = raft.wait_for_recovery(None).await;
        recovered.map_err(|error| raft_error(&error))?;
    }
    let stores = (store.clone(), parts.space.clone(), parts.seen);
    let shared = Arc::new(Shared::new(&config, peers.is_some(), clock, stores));
    let votes = membership.voter_ids().any(|voter| voter == config.node);
    note_opened(&shared, &parts.checkpoints, votes);
    let cluster = peers.map(|peers| Cluster {
        raft: raft.clone(),
        shared: shared.clone(),
        peers,
        store: store.clone(),
        snapshots: parts.snapshots.clone(),
        space: parts.space.clone(),
        bodies: parts.bodies.clone(),
    });
    let cluster = cluster.map(Rc::new);
    if let (Some(cluster), Some(peering)) = (&cluster, peering) {
        cluster.start(peering).map_err(|error| raft_error(&error))?;
    }
    let (ledger, journal, bodies) = (store.ledger.clone(), store.journal.clone(), parts.bodies.clone());
    let keeper = Keeper {
        config,
        reserve_bytes,
        raft,
        store,
        space: parts.space,
        checkpoints: parts.checkpoints,
        snapshots: parts.snapshots,
        bodies: parts.bodies,
        shared: shared.clone(),
    };
    super::serve::start(keeper, cluster);
    Ok(Opened {
        log: super::Log { shared },
        ledger,
        journal,
        bodies,
        audit: parts.audit,
        founded,
    })
}
