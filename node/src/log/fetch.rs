//! Snapshots over the wire: the node that lacks something pulls the files, so that a broken transfer goes on where it ended.
//! What comes is placed at once where the installation will have it.
//!
//! Invariant: what is installed for a leader ends no earlier than where that leader takes this node to be afterwards. It
//! counts this node as having everything up to there, and never sends it again.

use super::cluster::Cluster;
use super::machine::Machine;
use super::peers::frame::{self, Purpose, kind};
use super::peers::link::Link;
use super::peers::{PeerError, Refusal};
use super::planted::{Bug, planted};
use super::snapshot::{self, Placing, SnapshotData, Snapshots};
use super::types::{Member, SnapshotMeta, TypeConfig, Vote};
use crate::base::{Digest, blocking, direct};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, future, stream};
use openraft::Raft;
use openraft::async_runtime::Instant as _;
use openraft::raft::SnapshotResponse;
use openraft::type_config::TypeConfigExt as _;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Bytes asked for at a time…
const CHUNK_BYTES: u64 = 1024 * 1024;
/// … and so many chunks at once.
const CHUNKS: usize = 8;
/// So many chunks are written and hashed together, and placed…
const STEP: usize = 4;
/// … and so many of these steps wait at most.
const STEPS_AHEAD: usize = 2;
/// Making the files of a large state takes its time; whoever makes them says meanwhile that he works.
const OPEN_MAX: Duration = Duration::from_secs(3_600);
const READ_MAX: Duration = Duration::from_secs(30);
/// So often a transfer is taken up again before the leader is told that it failed.
const ATTEMPTS: u32 = 20;
const AGAIN: Duration = Duration::from_millis(500);

/// Which part of which file.
#[derive(Serialize, Deserialize)]
struct Part {
    snapshot: u64,
    file: String,
    offset: u64,
    bytes: u64,
}

/// Whom the files come from.
pub trait Source {
    /// Asks it for something.
    fn ask(&self, kind: u8, payload: Bytes, limit: Duration) -> impl Future<Output = Result<Bytes, PeerError>>;
}

impl Source for Link {
    fn ask(&self, kind: u8, payload: Bytes, limit: Duration) -> impl Future<Output = Result<Bytes, PeerError>> {
        self.call(kind, payload, limit)
    }
}

/// Answers with the manifest of a snapshot whose files can be read from now on. The payload says up to which index it must
/// reach; empty: whatever there is.
pub async fn open(snapshots: &Snapshots, payload: &Bytes) -> Result<Bytes, Refusal> {
    let at_least = match payload.is_empty() {
        true => 0,
        false => frame::decode(payload).map_err(|_| Refusal::Said("a request that cannot be read".to_owned()))?,
    };
    match snapshots.export_shared(at_least).await {
        Ok(folder) => std::fs::read(folder.join(snapshot::MANIFEST))
            .map(Bytes::from)
            .map_err(|_| Refusal::Gone),
        Err(error) => Err(Refusal::Said(format!("the snapshot could not be made: {error}"))),
    }
}

/// Answers with a part of a file.
pub async fn read(snapshots: &Snapshots, payload: &Bytes) -> Result<Bytes, Refusal> {
    let part: Part = frame::decode(payload).map_err(|_| Refusal::Said("a request that cannot be read".to_owned()))?;
    if !snapshot::FILES.contains(&part.file.as_str()) || part.bytes > CHUNK_BYTES {
        return Err(Refusal::Said("no such file in a snapshot".to_owned()));
    }
    let file = snapshots.folder_of(part.snapshot).join(&part.file);
    let read = move || direct::read_at(&file, part.offset, part.bytes as usize);
    let read = blocking::run(read).await.and_then(|read| read);
    read.map_err(|_| Refusal::Gone)
}

/// What a leader says when a member is to fetch its snapshot: its vote and itself. Behind it goes the index that it will
/// take the member to have, which the first releases did not send.
pub type Wanted = (Vote, u64, Member);

/// Fetches the snapshot of the node that leads and installs it; the answer is for that node.
pub async fn install(
    cluster: &Cluster,
    (vote, id, member): Wanted,
    at_least: u64,
) -> Result<SnapshotResponse<TypeConfig>, String> {
    let link = cluster.peers.own_link(id, &member, Purpose::Bulk);
    install_from(&cluster.raft, &cluster.snapshots, &link, vote, at_least).await
}

/// The same from anywhere.
pub async fn install_from(
    raft: &Raft<TypeConfig, Machine>,
    snapshots: &Arc<Snapshots>,
    source: &impl Source,
    vote: Vote,
    at_least: u64,
) -> Result<SnapshotResponse<TypeConfig>, String> {
    let _only = snapshots.fetching.lock().await;
    let began = TypeConfig::now();
    let mut attempt = 0;
    let (meta, snapshot) = loop {
        match pull(snapshots, source, at_least).await {
            Ok(fetched) => break fetched,
            Err(error) if attempt < ATTEMPTS => {
                attempt += 1;
                tracing::warn!(%error, attempt, "the snapshot did not come whole; going on");
                TypeConfig::sleep(AGAIN).await;
            }
            Err(error) => return Err(format!("the snapshot could not be fetched: {error}")),
        }
    };
    if meta.last_log_id.is_some_and(|id| id.leader_id > vote.leader_id) {
        // Who asks has not heard yet that somebody leads after it; Raft takes such a snapshot for a corrupt one and ends.
        return Err("the files are of a leader after the one that asks".to_owned());
    }
    tracing::info!(
        index = meta.last_log_id.map_or(0, |id| id.index),
        took_ms = began.elapsed().as_millis() as u64,
        "a snapshot was fetched; it is installed"
    );
    let snapshot = openraft::Snapshot { meta, snapshot };
    let answer = raft.install_full_snapshot(vote, snapshot).await;
    answer.map_err(|error| error.to_string())
}

/// Fetches what is missing of the peer's snapshot, which must reach `at_least`; gives it once every digest fits.
pub async fn pull(
    snapshots: &Arc<Snapshots>,
    source: &impl Source,
    at_least: u64,
) -> Result<(SnapshotMeta, SnapshotData), String> {
    let failed = |error: PeerError| error.to_string();
    let broken = |error: io::Error| error.to_string();
    let manifest = source
        .ask(kind::SNAPSHOT_OPEN, frame::encode(&at_least), OPEN_MAX)
        .await
        .map_err(failed)?;
    let wanted = snapshot::parts_of(&manifest).map_err(broken)?;
    if wanted.index < at_least && !planted(Bug::SnapshotTooEarly) {
        let index = wanted.index;
        return Err(format!(
            "the peer's snapshot ends at {index}, and {at_least} is the least that will do"
        ));
    }
    let folder = snapshots.begin_incoming(&manifest).map_err(broken)?;
    let mut placing = Some(snapshots.begin_placing().await);
    let mut digests = BTreeMap::new();
    let (ledger, others): (Vec<_>, Vec<_>) = wanted.files.iter().partition(|(name, _)| name == snapshot::LEDGER);
    let mut pull_all = async |files: Vec<&(String, u64)>, placing: &mut Option<Placing>| {
        for (name, bytes) in files {
            if !snapshot::FILES.contains(&name.as_str()) {
                return Err(format!("a snapshot with a file called {name}"));
            }
            let file = (folder.join(name), wanted.index, name.as_str(), *bytes);
            let mut none = None;
            let placing = if name == snapshot::ENTRIES {
                &mut *placing
            } else {
                &mut none
            };
            digests.insert(name.clone(), pull_file(source, file, placing).await?);
        }
        Ok(())
    };
    pull_all(ledger, &mut placing).await?;
    let (staged, pulled) = future::join(snapshots.stage(&folder), pull_all(others, &mut placing)).await;
    pulled?;
    let (own, checked) = (folder.clone(), manifest.clone());
    let finish = move || snapshot::finish_incoming(&own, &checked, &digests);
    blocking::run(finish).await.and_then(|done| done).map_err(broken)?;
    // What could not be placed on the way is placed when all is there, and waits for room then.
    let placed = placing
        .and_then(|placing| placing.end().ok())
        .filter(|_| staged.is_ok());
    let meta = snapshot::meta_of(&folder).map_err(broken)?;
    Ok((meta, SnapshotData::fetched(folder, placed)))
}

/// The next part of a file, and whether it is there already.
type Piece = (Bytes, bool);

/// A file on its way in, and the hash of what is there without a gap.
struct Incoming {
    file: direct::Writer,
    hasher: blake3::Hasher,
}

impl Incoming {
    fn take(&mut self, pieces: &[Piece]) -> io::Result<()> {
        for (bytes, there) in pieces {
            if !there {
                self.file.write_all(bytes)?;
            }
            self.hasher.update(bytes);
        }
        Ok(())
    }

    fn end(self) -> io::Result<Digest> {
        self.file.finish()?;
        Ok(Digest(*self.hasher.finalize().as_bytes()))
    }
}

/// Fetches what is missing of a file: its path here, the snapshot, its name there and its length. Gives the digest of the whole.
async fn pull_file(
    source: &impl Source,
    (path, snapshot, name, bytes): (PathBuf, u64, &str, u64),
    placing: &mut Option<Placing>,
) -> Result<Digest, String> {
    let broken = |error: io::Error| error.to_string();
    // What was written without a gap stays; the digest judges it in the end.
    let there = std::fs::metadata(&path).map_or(0, |meta| meta.len()).min(bytes);
    let start = there / CHUNK_BYTES * CHUNK_BYTES;
    let incoming = Incoming {
        file: direct::Writer::resume(&path, start).map_err(broken)?,
        hasher: blake3::Hasher::new(),
    };
    let incoming = Arc::new(Mutex::new(incoming));
    let step = CHUNK_BYTES as usize;
    let pieces_there = stream::iter((0..start).step_by(step)).then(|offset| {
        let path = path.clone();
        let read = blocking::run(move || direct::read_at(&path, offset, CHUNK_BYTES as usize));
        async {
            read.await
                .and_then(|read| read)
                .map(|bytes| (bytes, true))
                .map_err(broken)
        }
    });
    let coming = stream::iter((start..bytes).step_by(step)).map(|offset| {
        let part = Part {
            snapshot,
            file: name.to_owned(),
            offset,
            bytes: CHUNK_BYTES.min(bytes - offset),
        };
        async move {
            let answer = source.ask(kind::SNAPSHOT_READ, frame::encode(&part), READ_MAX).await;
            let bytes = answer.map_err(|error| error.to_string())?;
            match bytes.len() as u64 == part.bytes {
                true => Ok((bytes, false)),
                false => Err(format!("a part of {name} is of another length than was asked for")),
            }
        }
    });
    let mut steps = pin!(pieces_there.chain(coming.buffered(CHUNKS)).try_chunks(STEP));
    // Each of the three waits for the others only when these are so many steps ahead or behind.
    let (to_take, mut takes) = mpsc::channel::<Vec<Piece>>(STEPS_AHEAD);
    let (to_place, mut places) = mpsc::channel::<Vec<Piece>>(STEPS_AHEAD);
    let receive = async move {
        while let Some(pieces) = steps.next().await {
            let (pieces, cut_short) = match pieces {
                Ok(pieces) => (pieces, None),
                Err(cut) => (cut.0, Some(cut.1)),
            };
            // Who places may have given up; who takes gives its error itself.
            let _given_up = to_place.send(pieces.clone()).await;
            if to_take.send(pieces).await.is_err() {
                break;
            }
            if let Some(error) = cut_short {
                return Err(error);
            }
        }
        Ok(())
    };
    let take = async {
        let mut result = Ok(());
        while let (Some(pieces), true) = (takes.recv().await, result.is_ok()) {
            let incoming = incoming.clone();
            let taken = blocking::run(move || incoming.lock().take(&pieces)).await;
            result = taken.and_then(|taken| taken).map_err(broken);
        }
        takes.close();
        result
    };
    let place = async {
        while let (Some(pieces), Some(under_way)) = (places.recv().await, placing.as_mut()) {
            if let Err(error) = under_way.take(pieces.into_iter().map(|(bytes, _)| bytes)).await {
                tracing::debug!(%error, "the snapshot's entries are placed once all are there");
                *placing = None;
            }
        }
        places.close();
    };
    let (received, taken, ()) = future::join3(receive, take, place).await;
    taken?;
    received?;
    let incoming = Arc::into_inner(incoming)
        .expect("nobody works on it any more")
        .into_inner();
    incoming.end().map_err(broken)
}
