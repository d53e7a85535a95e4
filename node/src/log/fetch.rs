//! Snapshots over the wire: the node that lacks something pulls the files, so that a broken transfer goes on where it ended.

use super::cluster::Cluster;
use super::peers::frame::{self, Purpose, kind};
use super::peers::link::Link;
use super::peers::{PeerError, Refusal};
use super::snapshot::{self, SnapshotData, Snapshots};
use super::types::{Member, TypeConfig, Vote};
use bytes::Bytes;
use futures_util::StreamExt;
use openraft::raft::SnapshotResponse;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Bytes asked for at a time…
const CHUNK_BYTES: u64 = 1024 * 1024;
/// … and so many chunks at once.
const CHUNKS: usize = 4;
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

/// Answers with the manifest of a snapshot whose files can be read from now on.
pub async fn open(cluster: &Cluster) -> Result<Bytes, Refusal> {
    match cluster.snapshots.export_shared().await {
        Ok(folder) => std::fs::read(folder.join(snapshot::MANIFEST))
            .map(Bytes::from)
            .map_err(|_| Refusal::Gone),
        Err(error) => Err(Refusal::Said(format!("the snapshot could not be made: {error}"))),
    }
}

/// Answers with a part of a file.
pub async fn read(cluster: &Cluster, payload: Bytes) -> Result<Bytes, Refusal> {
    let part: Part = frame::decode(&payload).map_err(|_| Refusal::Said("a request that cannot be read".to_owned()))?;
    if !snapshot::FILES.contains(&part.file.as_str()) || part.bytes > CHUNK_BYTES {
        return Err(Refusal::Said("no such file in a snapshot".to_owned()));
    }
    let file = cluster.snapshots.folder_of(part.snapshot).join(&part.file);
    let read = move || {
        let mut bytes = vec![0; part.bytes as usize];
        File::open(file)?.read_exact_at(&mut bytes, part.offset)?;
        Ok::<_, io::Error>(Bytes::from(bytes))
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) | Err(_) => Err(Refusal::Gone),
    }
}

/// Fetches the snapshot of the node that leads and installs it; the answer is for that node.
pub async fn install(
    cluster: &Cluster,
    vote: Vote,
    id: u64,
    member: &Member,
) -> Result<SnapshotResponse<TypeConfig>, String> {
    let link = cluster.peers.own_link(id, member, Purpose::Bulk);
    let _only = cluster.snapshots.fetching.lock().await;
    let mut attempt = 0;
    let folder = loop {
        match pull(&cluster.snapshots, &link).await {
            Ok(folder) => break folder,
            Err(error) if attempt < ATTEMPTS => {
                attempt += 1;
                tracing::warn!(%error, attempt, "the snapshot did not come whole; going on");
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => return Err(format!("the snapshot could not be fetched: {error}")),
        }
    };
    let meta = snapshot::meta_of(&folder).map_err(|error| error.to_string())?;
    tracing::info!(
        index = meta.last_log_id.map_or(0, |id| id.index),
        "a snapshot was fetched; it is installed"
    );
    let snapshot = SnapshotData::received(folder);
    let snapshot = openraft::Snapshot { meta, snapshot };
    let answer = cluster.raft.install_full_snapshot(vote, snapshot).await;
    answer.map_err(|error| error.to_string())
}

/// Fetches what is missing of the peer's snapshot; gives the folder once every digest fits.
pub async fn pull(snapshots: &Snapshots, link: &Link) -> Result<PathBuf, String> {
    let failed = |error: PeerError| error.to_string();
    let broken = |error: io::Error| error.to_string();
    let manifest = link
        .call(kind::SNAPSHOT_OPEN, Bytes::new(), OPEN_MAX)
        .await
        .map_err(failed)?;
    let wanted = snapshot::parts_of(&manifest).map_err(broken)?;
    let folder = snapshots.begin_incoming(&manifest).map_err(broken)?;
    for (name, bytes) in &wanted.files {
        if !snapshot::FILES.contains(&name.as_str()) {
            return Err(format!("a snapshot with a file called {name}"));
        }
        pull_file(link, &folder.join(name), wanted.index, name, *bytes).await?;
    }
    let (own, checked) = (folder.clone(), manifest.clone());
    let finish = move || snapshot::finish_incoming(&own, &checked);
    match tokio::task::spawn_blocking(finish).await {
        Ok(Ok(())) => Ok(folder),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

async fn pull_file(link: &Link, path: &Path, snapshot: u64, name: &str, bytes: u64) -> Result<(), String> {
    let broken = |error: io::Error| error.to_string();
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(broken)?;
    // What was written without a gap stays; the digest judges it in the end.
    let there = file.metadata().map_err(broken)?.len().min(bytes);
    let start = there / CHUNK_BYTES * CHUNK_BYTES;
    let file = Arc::new(file);
    let offsets = (start..bytes).step_by(CHUNK_BYTES as usize);
    let parts = offsets.map(|offset| {
        let part = Part {
            snapshot,
            file: name.to_owned(),
            offset,
            bytes: CHUNK_BYTES.min(bytes - offset),
        };
        async move {
            let answer = link.call(kind::SNAPSHOT_READ, frame::encode(&part), READ_MAX).await;
            answer.map(|bytes| (part.offset, bytes))
        }
    });
    let mut parts = futures_util::stream::iter(parts).buffered(CHUNKS);
    while let Some(part) = parts.next().await {
        let (offset, bytes) = part.map_err(|error| error.to_string())?;
        let file = file.clone();
        let write = move || file.write_all_at(&bytes, offset);
        let written = tokio::task::spawn_blocking(write).await;
        written.map_err(|error| error.to_string())?.map_err(broken)?;
    }
    Ok(())
}
