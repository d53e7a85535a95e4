//! Snapshots: everything a node needs to go on from a position, as files.
//!
//! A snapshot *is* the last checkpoint; its files are made when somebody asks for them, because most snapshots are
//! only taken to purge the log. The folder of one, `snapshot-INDEX`:
//!
//! | file | holds |
//! |---|---|
//! | `ledger.mdb` | the ledger's copy |
//! | `entries` | the records of all held entries: index, term, node, length (8, 8, 8, 4 bytes, little-endian), payload |
//! | `uploads` | the names of all uploads that state holds, 16 bytes each, big-endian; their pieces are fetched from peers |
//! | `manifest.json` | position, membership, and name, length and BLAKE3 of every file; written last |
//!
//! Invariants: nothing is installed before every digest matched; an installation that was cut short is made again at
//! the next start (`installing` names the folder). What was made for a peer is not synced, and gone with the process.

use super::checkpoint::{AppliedState, Checkpoint, Checkpoints};
use super::held::{self, Held};
use super::planted::{Bug, planted};
use super::space::{self, Change, Space};
use super::store::Store;
use super::tables::{self, Row};
use super::types::{Leader, LogId, SnapshotMeta, TypeConfig, log_id};
use crate::base::{Digest, UploadId, blocking, direct};
use crate::bodies::Bodies;
use crate::journal::{AppendError, Record, Stream};
use crate::ledger::{Hold, Ledger, Opened, Read};
use bytes::Bytes;
use futures_util::future;
use openraft::RaftSnapshotBuilder;
use openraft::async_runtime::Instant as _;
use openraft::type_config::TypeConfigExt as _;
use openraft::type_config::alias::{InstantOf, SnapshotOf};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufReader, Write as _};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::sync::OwnedRwLockWriteGuard;

const FORMAT: u32 = 1;
/// The ledger's copy.
pub const LEDGER: &str = "ledger.mdb";
/// The file of held entries.
pub const ENTRIES: &str = "entries";
const UPLOADS: &str = "uploads";
/// What says what the files hold; written last.
pub const MANIFEST: &str = "manifest.json";
/// The files that it names.
pub const FILES: [&str; 3] = [LEDGER, ENTRIES, UPLOADS];
const INCOMING: &str = "incoming";
/// The ledger's copy on its way in.
const STAGED: &str = "staged.mdb";
/// The manifest of a transfer under way.
const INCOMING_MANIFEST: &str = "manifest.wanted";
/// Files made for one peer serve others that ask within this.
const SHARED_MAX: Duration = Duration::from_secs(60);
const INSTALLING: &str = "installing";
const SCRATCH: &str = "scratch";
/// The ledger's copy that a backup is made from, while it is made.
pub(super) const BACKUP: &str = "backup";
/// Rows of held entries that are changed in one step of the ledger.
const ROWS_AT_ONCE: usize = 4_096;
/// An installation that the full disk refused is tried again after this.
const ROOM_RETRY: Duration = Duration::from_millis(250);

/// A snapshot, with its files or able to make them.
pub struct SnapshotData(Source);

enum Source {
    Here(Arc<Snapshots>),
    Files(PathBuf),
    Fetched(PathBuf, Option<Placed>),
}

/// What of a snapshot lies already where this node will have it: the ledger's copy, and its held entries in the journal.
/// No row names these until the snapshot is installed, so that the space reclaim must wait as long.
pub struct Placed {
    rows: Vec<(u64, Row)>,
    _pinned: OwnedRwLockWriteGuard<()>,
}

impl SnapshotData {
    /// A snapshot received from elsewhere; its digests are compared before it is installed.
    pub fn received(folder: PathBuf) -> SnapshotData {
        SnapshotData(Source::Files(folder))
    }

    /// A snapshot that [`finish_incoming`] just found whole, with what was placed as it came.
    pub fn fetched(folder: PathBuf, placed: Option<Placed>) -> SnapshotData {
        SnapshotData(Source::Fetched(folder, placed))
    }

    /// What the files cover and where they are; made now if need be. They may be newer than what openraft asked for:
    /// whoever sends them sends this position with them.
    pub async fn files(&self) -> io::Result<(SnapshotMeta, PathBuf)> {
        match &self.0 {
            Source::Here(snapshots) => snapshots.export().await,
            Source::Files(folder) | Source::Fetched(folder, _) => Ok((Manifest::read(folder)?.meta()?, folder.clone())),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct FileInfo {
    name: String,
    bytes: u64,
    blake3: String,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    format: u32,
    /// Term, node, index.
    applied: Option<(u64, u64, u64)>,
    /// As in the local table, in hexadecimal.
    membership: String,
    /// Hash of all that was applied, in hexadecimal.
    history: String,
    held_entries: u64,
    files: Vec<FileInfo>,
}

fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl Manifest {
    fn read(folder: &Path) -> io::Result<Manifest> {
        let manifest: Manifest = serde_json::from_slice(&fs::read(folder.join(MANIFEST))?).map_err(io::Error::from)?;
        if manifest.format > FORMAT {
            let format = manifest.format;
            return Err(invalid(format!(
                "a snapshot of format {format}, this release reads up to {FORMAT}"
            )));
        }
        Ok(manifest)
    }

    fn meta(&self) -> io::Result<SnapshotMeta> {
        let membership = hex::decode(&self.membership).map_err(|_| invalid("a membership that cannot be read"))?;
        let last_membership = tables::decode_stored_membership(&membership).map_err(invalid)?;
        let last_log_id = self.applied.map(|(term, node, index)| log_id(term, node, index));
        Ok(SnapshotMeta {
            last_log_id,
            last_membership,
        })
    }

    fn history(&self) -> io::Result<[u8; 32]> {
        let mut history = [0; 32];
        hex::decode_to_slice(&self.history, &mut history).map_err(|_| invalid("a history that cannot be read"))?;
        Ok(history)
    }

    /// Every file is there whole and none is missing.
    fn verify(&self, folder: &Path) -> io::Result<()> {
        for name in FILES {
            let Some(file) = self.files.iter().find(|file| file.name == name) else {
                return Err(invalid(format!("the snapshot's manifest lacks {name}")));
            };
            let found = file_info(&folder.join(name), name)?;
            if (found.bytes, &found.blake3) != (file.bytes, &file.blake3) {
                return Err(invalid(format!("{name} of the snapshot is damaged")));
            }
        }
        Ok(())
    }
}

/// What a snapshot's files cover.
pub fn meta_of(folder: &Path) -> io::Result<SnapshotMeta> {
    Manifest::read(folder)?.meta()
}

/// Which snapshot a manifest is of, and its files with their lengths.
pub struct Parts {
    /// Index of its last entry.
    pub index: u64,
    /// Name and bytes of each file.
    pub files: Vec<(String, u64)>,
}

/// Reads them from a manifest.
pub fn parts_of(manifest: &[u8]) -> io::Result<Parts> {
    let manifest: Manifest = serde_json::from_slice(manifest).map_err(io::Error::from)?;
    let files = manifest.files.into_iter().map(|file| (file.name, file.bytes)).collect();
    let index = manifest.applied.map_or(0, |(_, _, index)| index);
    Ok(Parts { index, files })
}

/// Makes a fetched folder a snapshot: every digest is compared, then the manifest is written. `digests` are those of the files
/// as they came, by name. A file that does not fit is removed, so that the next transfer brings it again.
pub fn finish_incoming(folder: &Path, manifest: &[u8], digests: &BTreeMap<String, Digest>) -> io::Result<()> {
    let parsed: Manifest = serde_json::from_slice(manifest).map_err(io::Error::from)?;
    for file in &parsed.files {
        let incoming = File::open(folder.join(&file.name))?;
        incoming.sync_all()?;
        let came = digests.get(&file.name).map(|digest| hex::encode(digest.0));
        if (incoming.metadata()?.len(), came.as_ref()) != (file.bytes, Some(&file.blake3)) {
            fs::remove_file(folder.join(&file.name))?;
            return Err(invalid(format!("{} of the snapshot came damaged", file.name)));
        }
    }
    write_synced(folder, MANIFEST, manifest)
}

fn file_info(path: &Path, name: &str) -> io::Result<FileInfo> {
    let mut file = BufReader::with_capacity(256 * 1024, direct::Reader::open(path)?);
    let mut hasher = blake3::Hasher::new();
    let bytes = io::copy(&mut file, &mut hasher)?;
    let digest = Digest(*hasher.finalize().as_bytes());
    Ok(FileInfo {
        name: name.to_owned(),
        bytes,
        blake3: hex::encode(digest.0),
    })
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

pub(super) fn write_synced(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(folder.join(name))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    sync_folder(folder)
}

pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Removes what was made for peers, but for the folder `keep`.
fn remove_snapshots(folder: &Path, keep: Option<&Path>) -> io::Result<()> {
    for found in fs::read_dir(folder)? {
        let path = found?.path();
        let snapshot = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("snapshot-"));
        if snapshot && Some(path.as_path()) != keep {
            fs::remove_dir_all(path)?;
        }
    }
    Ok(())
}

/// Makes and installs snapshots; one for the node.
pub struct Snapshots {
    /// Folder of all snapshots.
    pub(super) folder: PathBuf,
    pub(super) ledger_map_bytes_max: u64,
    pub(super) store: Arc<Store>,
    pub(super) space: Arc<Space>,
    pub(super) checkpoints: Arc<Checkpoints>,
    pub(super) bodies: Bodies,
    /// Held for reading while files are made: the space reclaim, which takes it for writing, removes nothing meanwhile.
    pub pinned: Arc<tokio::sync::RwLock<()>>,
    /// Held by the one backup that may run.
    pub(super) backing_up: Arc<tokio::sync::Mutex<()>>,
    /// Held while a snapshot is fetched: one at a time.
    pub fetching: tokio::sync::Mutex<()>,
    /// The last export for peers: when it was asked for last, and the first index that its reader needs from the log.
    shared: tokio::sync::Mutex<Option<(InstantOf<TypeConfig>, u64, PathBuf)>>,
}

impl Snapshots {
    /// Uses `folder`, made when absent; clears what was left half made.
    pub fn open(
        folder: PathBuf,
        ledger_map_bytes_max: u64,
        store: Arc<Store>,
        space: Arc<Space>,
        checkpoints: Arc<Checkpoints>,
        bodies: Bodies,
    ) -> io::Result<Snapshots> {
        fs::create_dir_all(&folder)?;
        remove_if_there(&folder.join(SCRATCH))?;
        remove_if_there(&folder.join(BACKUP))?;
        if !folder.join(INSTALLING).exists() {
            remove_snapshots(&folder, None)?;
            match fs::remove_file(folder.join(STAGED)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        let pinned = Arc::default();
        let backing_up = Arc::default();
        Ok(Snapshots {
            folder,
            ledger_map_bytes_max,
            store,
            space,
            checkpoints,
            bodies,
            pinned,
            backing_up,
            fetching: tokio::sync::Mutex::default(),
            shared: tokio::sync::Mutex::default(),
        })
    }

    /// The folder of files for peers that end at `at_least` or later: what was made a moment ago, while the log goes on from
    /// there, or fresh ones.
    pub async fn export_shared(&self, at_least: u64) -> io::Result<PathBuf> {
        let mut shared = self.shared.lock().await;
        if let Some((asked, next, folder)) = shared.as_mut()
            && asked.elapsed() < SHARED_MAX
            && self.store.bounds().1 <= *next
            && (at_least < *next || planted(Bug::SnapshotTooEarly))
            && folder.join(MANIFEST).exists()
        {
            *asked = TypeConfig::now();
            return Ok(folder.clone());
        }
        let (meta, folder) = self.export().await?;
        let next = meta.last_log_id.map_or(0, |id| id.index + 1);
        if next <= at_least {
            let error = format!("the state here ends before {next}, and {at_least} is asked for");
            return Err(io::Error::new(io::ErrorKind::NotFound, error));
        }
        *shared = Some((TypeConfig::now(), next, folder.clone()));
        Ok(folder)
    }

    /// Where the files of the snapshot at `index` are, if they are.
    pub fn folder_of(&self, index: u64) -> PathBuf {
        self.folder.join(format!("snapshot-{index:020}"))
    }

    /// The folder to fetch a peer's snapshot into; what an earlier transfer of the same one left is kept.
    pub fn begin_incoming(&self, manifest: &[u8]) -> io::Result<PathBuf> {
        let folder = self.folder.join(INCOMING);
        let wanted = folder.join(INCOMING_MANIFEST);
        if fs::read(&wanted).is_ok_and(|before| before == manifest) {
            return Ok(folder);
        }
        remove_if_there(&folder)?;
        fs::create_dir_all(&folder)?;
        write_synced(&folder, INCOMING_MANIFEST, manifest)?;
        Ok(folder)
    }

    /// The last checkpoint as a snapshot.
    pub fn current(self: &Arc<Snapshots>) -> Option<SnapshotOf<TypeConfig, SnapshotData>> {
        let meta = self.checkpoints.last()?.meta();
        meta.last_log_id?;
        let snapshot = SnapshotData(Source::Here(self.clone()));
        Some(openraft::Snapshot { meta, snapshot })
    }

    /// Makes the files of a snapshot of now. Applying goes on meanwhile; checkpoints and the space reclaim wait.
    pub async fn export(&self) -> io::Result<(SnapshotMeta, PathBuf)> {
        let _pinned = self.pinned.read().await;
        let running = self.checkpoints.lock().await;
        let began = TypeConfig::now();
        self.checkpoints.run_locked(&running).await?;
        let scratch = self.folder.join(SCRATCH);
        let (store, space, map_bytes_max) = (self.store.clone(), self.space.clone(), self.ledger_map_bytes_max);
        let work = scratch.clone();
        let export = move || export_blocking(&store, &space, map_bytes_max, &work);
        let manifest = blocking::run(export).await??;
        let index = manifest.applied.map_or(0, |(_, _, index)| index);
        let folder = self.folder_of(index);
        remove_if_there(&folder)?;
        fs::rename(&scratch, &folder)?;
        sync_folder(&self.folder)?;
        remove_snapshots(&self.folder, Some(&folder))?;
        let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
        let took_ms = began.elapsed().as_millis() as u64;
        tracing::info!(index, bytes, took_ms, "the files of a snapshot were made");
        Ok((manifest.meta()?, folder))
    }

    /// Replaces the state by a snapshot; while the disk is full it waits for room. On an error before the ledger was exchanged nothing has changed.
    pub async fn install(&self, meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<Opened> {
        let (covers, folder) = snapshot.files().await?;
        if covers.last_log_id != meta.last_log_id {
            return Err(invalid(
                "the snapshot's files are of another position than the snapshot",
            ));
        }
        let mut placed = match snapshot.0 {
            Source::Fetched(_, placed) => placed,
            Source::Here(_) | Source::Files(_) => {
                let checked = folder.clone();
                let check = move || Manifest::read(&checked)?.verify(&checked);
                blocking::run(check).await??;
                None
            }
        };
        let name = folder
            .to_str()
            .ok_or_else(|| invalid("the snapshot's folder has no name in UTF-8"))?;
        write_synced(&self.folder, INSTALLING, name.as_bytes())?;
        let mut told = false;
        let began = TypeConfig::now();
        loop {
            match self.install_files(&covers, &folder, placed.take()).await {
                // From the start, and with nothing locked meanwhile: checkpoints and the space reclaim are what makes room. What
                // was copied is named by no row, so the reclaim takes it too.
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!("a snapshot waits for room on the disk: {error}");
                    }
                    TypeConfig::sleep(ROOM_RETRY).await;
                }
                Ok(installed) => {
                    let took_ms = began.elapsed().as_millis() as u64;
                    tracing::info!(took_ms, "a snapshot was installed");
                    return Ok(installed);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Goes on with an installation that was cut short; `None` when there was none.
    pub async fn install_again(&self) -> io::Result<Option<Opened>> {
        let folder = match fs::read_to_string(self.folder.join(INSTALLING)) {
            Ok(name) => PathBuf::from(name),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        tracing::warn!("going on with the installation of a snapshot that was cut short");
        let meta = Manifest::read(&folder)?.meta()?;
        Ok(Some(self.install(&meta, SnapshotData::received(folder)).await?))
    }

    async fn install_files(&self, covers: &SnapshotMeta, folder: &Path, placed: Option<Placed>) -> io::Result<Opened> {
        let placed = match placed {
            Some(placed) => placed,
            None => self.place(folder).await?,
        };
        let rows = &placed.rows;
        let running = self.checkpoints.lock().await;
        let opened = self.store.ledger.install_moving_blocking(&self.folder.join(STAGED))?;
        self.replace_held(rows);
        self.replace_uploads(&fs::read(folder.join(UPLOADS))?)?;
        tables::put_membership(&self.store.ledger, &covers.last_membership);
        let applied = AppliedState {
            last: covers.last_log_id,
            membership: covers.last_membership.clone(),
            history: Manifest::read(folder)?.history()?,
        };
        *self.checkpoints.applied.lock() = applied;
        self.checkpoints.run_locked(&running).await?;
        fs::remove_file(self.folder.join(INSTALLING))?;
        remove_if_there(&self.folder.join(INCOMING))?;
        sync_folder(&self.folder)?;
        Ok(opened)
    }

    /// Begins to place a snapshot whose files are on their way.
    pub async fn begin_placing(self: &Arc<Snapshots>) -> Placing {
        let placed = Placed {
            rows: Vec::new(),
            _pinned: self.pinned.clone().write_owned().await,
        };
        Placing {
            snapshots: self.clone(),
            pieces: held::Pieces::default(),
            placed,
        }
    }

    /// Places a snapshot whose files are all there; the next entries are read while some are written.
    async fn place(&self, folder: &Path) -> io::Result<Placed> {
        let _pinned = self.pinned.clone().write_owned().await;
        let mut held = held::Reader::new(File::open(folder.join(ENTRIES))?);
        let entries = async {
            let mut rows = Vec::new();
            let mut next = held.some()?;
            while !next.is_empty() {
                let read = move || (held.some(), held);
                let (placed, read) = future::join(self.place_held(next, &mut rows), blocking::run(read)).await;
                placed?;
                let (some, rest) = read?;
                (next, held) = (some?, rest);
            }
            Ok::<_, io::Error>(rows)
        };
        let (rows, staged) = future::join(entries, self.stage(folder)).await;
        staged?;
        let rows = rows?;
        Ok(Placed { rows, _pinned })
    }

    /// Copies the ledger's copy to where it is moved in from: the files stay until all is done, so that an installation which
    /// is cut short can be made again.
    pub async fn stage(&self, folder: &Path) -> io::Result<()> {
        let (from, to) = (folder.join(LEDGER), self.folder.join(STAGED));
        blocking::run(move || {
            let mut copy = direct::Writer::create(&to)?;
            io::copy(&mut direct::Reader::open(&from)?, &mut copy)?;
            copy.finish()?.sync_all()
        })
        .await?
    }

    /// Writes held entries into this node's own log stream; adds their rows.
    pub(super) async fn place_held(&self, held: Vec<Held>, rows: &mut Vec<(u64, Row)>) -> io::Result<()> {
        let mut records: Vec<Record> = Vec::with_capacity(held.len());
        let mut names: Vec<(u64, Leader)> = Vec::with_capacity(held.len());
        for (index, leader, payload) in held {
            records.push(space::copy_of(index, &leader, payload));
            names.push((index, leader));
        }
        let positions = self
            .store
            .journal
            .append(Stream::Log, records)
            .await
            .map_err(|error| match error {
                AppendError::Full => io::Error::new(io::ErrorKind::StorageFull, error),
                AppendError::Overloaded | AppendError::Closed => io::Error::other(error),
            })?;
        for ((index, leader), position) in names.into_iter().zip(positions) {
            rows.push((
                index,
                Row {
                    leader,
                    position,
                    copied: true,
                },
            ));
        }
        Ok(())
    }

    /// Holds what the snapshot's state names, so that pieces which come later are not taken for orphans.
    fn replace_uploads(&self, names: &[u8]) -> io::Result<()> {
        let (names, rest) = names.as_chunks::<16>();
        if !rest.is_empty() {
            return Err(invalid("a list of uploads that cannot be read"));
        }
        let theirs: BTreeSet<u128> = names.iter().map(|name| u128::from_be_bytes(*name)).collect();
        for upload in held_uploads(&self.store.ledger) {
            if !theirs.contains(&upload) {
                self.bodies.hold(Hold::ReleaseUpload(UploadId(upload)));
            }
        }
        for upload in theirs {
            self.bodies.hold(Hold::Upload(UploadId(upload)));
        }
        Ok(())
    }

    fn replace_held(&self, rows: &[(u64, Row)]) {
        let mut before = Vec::new();
        tables::rows(&self.store.ledger, tables::HELD, None, &mut |index, row| {
            before.push((index, row));
            true
        });
        for some in before.chunks(ROWS_AT_ONCE) {
            let gone: Vec<Change> = some.iter().map(|(index, row)| (*index, Some(*row), None)).collect();
            self.space.set_all(&self.store.ledger, &gone);
        }
        for some in rows.chunks(ROWS_AT_ONCE) {
            let new: Vec<Change> = some.iter().map(|(index, row)| (*index, None, Some(*row))).collect();
            self.space.set_all(&self.store.ledger, &new);
        }
    }
}

/// Uploads that state holds.
pub(super) fn held_uploads(ledger: &Ledger) -> Vec<u128> {
    let mut found = Vec::new();
    ledger.scan(
        crate::bodies::HELD_UPLOADS,
        Bound::Unbounded,
        Bound::Unbounded,
        &mut |key, _| {
            found.push(u128::from_be_bytes(
                key.try_into().expect("uploads are keyed by sixteen bytes"),
            ));
            true
        },
    );
    found
}

fn export_blocking(store: &Store, space: &Space, map_bytes_max: u64, scratch: &Path) -> io::Result<Manifest> {
    remove_if_there(scratch)?;
    // The copy is opened as a ledger of its own, to read the local tables as of the copy.
    let generation = scratch.join("copy/generation-1");
    fs::create_dir_all(&generation)?;
    let data = generation.join("data.mdb");
    store.ledger.copy_blocking(&data)?;
    let (copy, opened) = Ledger::open(&scratch.join("copy"), map_bytes_max)?;
    let entries_file = scratch.join(ENTRIES);
    let (written, hashed) = thread::scope(|scope| {
        let hashing = scope.spawn(|| file_info(&data, LEDGER));
        let written = held::write_blocking(store, space, &copy, &entries_file);
        (written, hashing.join().expect("hashing does not panic"))
    });
    let (written, ledger) = (written?, hashed?);
    let uploads: Vec<u8> = held_uploads(&copy).into_iter().flat_map(u128::to_be_bytes).collect();
    fs::write(scratch.join(UPLOADS), &uploads)?;
    let meta = tables::meta(&copy).map_err(invalid)?;
    drop(copy);
    fs::rename(&data, scratch.join(LEDGER))?;
    fs::remove_dir_all(scratch.join("copy"))?;
    let entries = FileInfo {
        name: ENTRIES.to_owned(),
        bytes: written.bytes,
        blake3: hex::encode(written.digest.0),
    };
    let files = vec![ledger, entries, file_info(&scratch.join(UPLOADS), UPLOADS)?];
    let membership = hex::encode(tables::encode_stored_membership(&meta.membership));
    let manifest = Manifest {
        format: FORMAT,
        applied: opened.applied,
        membership,
        history: hex::encode(meta.history),
        held_entries: written.entries,
        files,
    };
    let encoded = serde_json::to_vec_pretty(&manifest).map_err(io::Error::from)?;
    fs::write(scratch.join(MANIFEST), encoded)?;
    Ok(manifest)
}

/// A snapshot that is placed while its files come: what is done here need not wait until they are all there.
pub struct Placing {
    snapshots: Arc<Snapshots>,
    pieces: held::Pieces,
    placed: Placed,
}

impl Placing {
    /// Takes the next pieces of the held entries.
    pub async fn take(&mut self, pieces: impl Iterator<Item = Bytes>) -> io::Result<()> {
        let mut held = Vec::new();
        for piece in pieces {
            held.append(&mut self.pieces.take(piece)?);
        }
        match held.is_empty() {
            true => Ok(()),
            false => self.snapshots.place_held(held, &mut self.placed.rows).await,
        }
    }

    /// All entries came.
    pub fn end(self) -> io::Result<Placed> {
        self.pieces.end()?;
        Ok(self.placed)
    }
}

/// Builds snapshots for openraft.
pub struct SnapshotBuilder(pub Arc<Snapshots>);

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, SnapshotData>, io::Error> {
        let checkpoint: Checkpoint = self.0.checkpoints.for_snapshot().await?;
        let snapshot = SnapshotData(Source::Here(self.0.clone()));
        let meta = checkpoint.meta();
        Ok(openraft::Snapshot { meta, snapshot })
    }
}

/// Where a snapshot ends.
pub fn position(opened: &Opened) -> Option<LogId> {
    opened.applied.map(|(term, node, index)| log_id(term, node, index))
}
