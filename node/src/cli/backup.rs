//! `vertebra backup`: takes everything of one position out of the running node and writes it as files, each with its digest.
//!
//! The files are written into `FOLDER.part`, closed to others; the manifest comes last, and then the folder gets its name.
//! So whatever breaks off, nothing is left that looks whole. One thread reads from the node, this one writes and digests,
//! one syncs what was written.

use super::client::{Answering, Target};
use super::progress::Progress;
use super::synth::sync_folder_of;
use super::table::grouped;
use super::{CliError, print};
use crate::log::backup::{AUDIT, BODIES, ENTRIES, FORMAT, FileInfo, LEDGER, MANIFEST, Manifest, is_file_name};
use nix::sys::statvfs::statvfs;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The node copies its ledger before it answers, and is as slow as it was asked to be.
const PATIENCE: Duration = Duration::from_secs(24 * 3_600);
/// Longest manifest, bytes.
const MANIFEST_BYTES_MAX: u32 = 256 * 1024 * 1024;
/// Bytes read from the node at a time, and how many of these may wait to be written.
const CHUNK_BYTES: usize = 512 * 1024;
const CHUNKS_AHEAD: usize = 16;
/// Bytes written between two syncs: one at the end alone would make the disk busy for long, and the node wait.
const SYNC_BYTES: u64 = 64 * 1024 * 1024;
const MIB: u64 = 1024 * 1024;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Folder to make for the backup; it must not be there yet
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    #[command(flatten)]
    target: Target,
    /// MiB a second at most, so that clients do not feel it; 0: as fast as it goes
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    rate: u64,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<u8, CliError> {
    if args.folder.exists() {
        let what = "it is there already; a backup never writes over anything, so give another name";
        return Err(CliError::Usage(format!("{}: {what}", args.folder.display())));
    }
    let began = Instant::now();
    let path = format!("/admin/backup?bytes_per_second={}", args.rate.saturating_mul(MIB));
    let door = args.target.door()?;
    let mut answer = door.begin("POST", &path, PATIENCE)?;
    let manifest = read_manifest(&mut answer)?;
    let part = Part::make(&args.folder, &manifest)?;
    let bytes = manifest.bytes;
    let manifest = part.fill(manifest, answer)?;
    part.finish(&manifest, &args.folder)?;
    report(args, &manifest, bytes, began.elapsed());
    Ok(0)
}

fn broken(cause: &io::Error) -> CliError {
    CliError::Failed(format!(
        "the node broke the backup off ({cause}); its log says why, and nothing was kept"
    ))
}

fn read_manifest(answer: &mut Answering) -> Result<Manifest, CliError> {
    let unreadable = |what: &str| CliError::Failed(format!("the node's answer cannot be read ({what})"));
    let mut length = [0; 4];
    answer.read_exact(&mut length).map_err(|cause| broken(&cause))?;
    let length = u32::from_le_bytes(length);
    if length > MANIFEST_BYTES_MAX {
        return Err(unreadable("its manifest is too long"));
    }
    let mut bytes = vec![0; length as usize];
    answer.read_exact(&mut bytes).map_err(|cause| broken(&cause))?;
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|cause| unreadable(&cause.to_string()))?;
    let sum: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    let sound = (1..=FORMAT).contains(&manifest.format) && sum == manifest.bytes;
    match sound && manifest.files.iter().all(|file| is_file_name(&file.name)) {
        true => Ok(manifest),
        false => Err(unreadable("is it of another release?")),
    }
}

/// The folder that is being filled. Removed when it is dropped before it was finished.
struct Part {
    folder: PathBuf,
    finished: std::cell::Cell<bool>,
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.finished.get()
            && let Err(cause) = fs::remove_dir_all(&self.folder)
        {
            eprintln!(
                "vertebra: {} could not be removed ({cause}); it is no backup: remove it",
                self.folder.display()
            );
        }
    }
}

impl Part {
    /// Makes the folder, in place of what an earlier attempt left, when there is room for everything.
    fn make(named: &Path, manifest: &Manifest) -> Result<Part, CliError> {
        let folder = named.with_added_extension("part");
        let failed = |cause: io::Error| CliError::Failed(format!("{}: {cause}", folder.display()));
        if folder.exists() {
            remove_leavings(&folder).map_err(failed)?;
        }
        DirBuilder::new().mode(0o700).create(&folder).map_err(failed)?;
        let part = Part {
            folder,
            finished: std::cell::Cell::new(false),
        };
        let failed = |cause: io::Error| CliError::Failed(format!("{}: {cause}", part.folder.display()));
        for inner in [ENTRIES, BODIES, AUDIT] {
            DirBuilder::new()
                .mode(0o700)
                .create(part.folder.join(inner))
                .map_err(failed)?;
        }
        let room = statvfs(&part.folder).map_err(|cause| failed(cause.into()))?;
        let free_bytes = room.blocks_available() * room.fragment_size();
        if free_bytes < manifest.bytes {
            return Err(CliError::Failed(format!(
                "{}: the backup has {} bytes and the disk {} free; nothing was written",
                named.display(),
                grouped(manifest.bytes),
                grouped(free_bytes)
            )));
        }
        Ok(part)
    }

    /// Writes every file; gives the manifest with their digests.
    fn fill(&self, manifest: Manifest, answer: Answering) -> Result<Manifest, CliError> {
        let mut progress = Progress::new("backup", manifest.bytes);
        let mut chunks = Chunks::read(answer);
        let syncing = Syncing::start();
        let mut files = Vec::with_capacity(manifest.files.len());
        let mut written_bytes = 0;
        let mut written = Ok(());
        for file in &manifest.files {
            let digest = self.write(file, &mut chunks, &syncing, &mut |bytes| {
                written_bytes += bytes;
                progress.add(bytes);
            });
            match digest {
                Ok(blake3) => files.push(FileInfo { blake3, ..file.clone() }),
                Err(stopped) => {
                    written = Err(stopped);
                    break;
                }
            }
        }
        // A failed sync is the cause, whatever else failed after it.
        let written = syncing.finish().map_err(Stopped::Disk).and(written);
        written.map_err(|stopped| match stopped {
            Stopped::Node(cause) => broken(&cause),
            Stopped::Disk(cause) => CliError::Failed(format!(
                "{}: {cause}; {} of {} bytes were written, and nothing was kept",
                self.folder.display(),
                grouped(written_bytes),
                grouped(manifest.bytes)
            )),
        })?;
        Ok(Manifest { files, ..manifest })
    }

    fn write(
        &self,
        file: &FileInfo,
        chunks: &mut Chunks,
        syncing: &Syncing,
        done: &mut dyn FnMut(u64),
    ) -> Result<String, Stopped> {
        let path = self.folder.join(&file.name);
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let mut hasher = blake3::Hasher::new();
        let (mut left, mut unsynced) = (file.bytes, 0);
        while left > 0 {
            let chunk = chunks.next(left).map_err(Stopped::Node)?;
            out.write_all(chunk)?;
            hasher.update(chunk);
            let bytes = chunk.len() as u64;
            left -= bytes;
            unsynced += bytes;
            if unsynced >= SYNC_BYTES {
                unsynced = 0;
                syncing.sync(out.try_clone()?)?;
            }
            done(bytes);
        }
        syncing.sync(out)?;
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// The manifest, then the name: each step durable before the next.
    fn finish(&self, manifest: &Manifest, named: &Path) -> Result<(), CliError> {
        let written = || -> io::Result<()> {
            for inner in [ENTRIES, BODIES, AUDIT] {
                File::open(self.folder.join(inner))?.sync_all()?;
            }
            let mut out = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(self.folder.join(MANIFEST))?;
            out.write_all(&manifest.clone().encode())?;
            out.sync_all()?;
            File::open(&self.folder)?.sync_all()?;
            fs::rename(&self.folder, named)?;
            sync_folder_of(named)
        };
        written().map_err(|cause| CliError::Failed(format!("{}: {cause}; nothing was kept", named.display())))?;
        self.finished.set(true);
        Ok(())
    }
}

/// Removes the folder of an attempt that was killed. Anything that is not of a backup stays, and says so.
fn remove_leavings(folder: &Path) -> io::Result<()> {
    for found in fs::read_dir(folder)? {
        let name = found?.file_name();
        if ![LEDGER, ENTRIES, BODIES, AUDIT, MANIFEST]
            .iter()
            .any(|ours| name == *ours)
        {
            let what = format!("it holds {}, which is of no backup; remove it", name.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
    }
    fs::remove_dir_all(folder)
}

enum Stopped {
    Node(io::Error),
    Disk(io::Error),
}

impl From<io::Error> for Stopped {
    fn from(cause: io::Error) -> Stopped {
        Stopped::Disk(cause)
    }
}

/// What comes from the node, read ahead by a thread of its own.
struct Chunks {
    coming: Receiver<io::Result<Vec<u8>>>,
    chunk: Vec<u8>,
    at: usize,
}

impl Chunks {
    fn read(mut answer: Answering) -> Chunks {
        let (sender, coming) = mpsc::sync_channel(CHUNKS_AHEAD);
        std::thread::spawn(move || {
            loop {
                let mut chunk = vec![0; CHUNK_BYTES];
                let read = answer.read(&mut chunk).map(|read| {
                    chunk.truncate(read);
                    chunk
                });
                let last = read.as_ref().map_or(true, |chunk| chunk.is_empty());
                if sender.send(read).is_err() || last {
                    return;
                }
            }
        });
        Chunks {
            coming,
            chunk: Vec::new(),
            at: 0,
        }
    }

    /// The next bytes, at most `max` of them.
    fn next(&mut self, max: u64) -> io::Result<&[u8]> {
        if self.at == self.chunk.len() {
            self.chunk = self.coming.recv().map_err(|_| io::ErrorKind::UnexpectedEof)??;
            self.at = 0;
            if self.chunk.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let from = self.at;
        self.at += usize::try_from(max).unwrap_or(usize::MAX).min(self.chunk.len() - from);
        Ok(&self.chunk[from..self.at])
    }
}

/// Syncs what was written while more is being written.
struct Syncing {
    files: SyncSender<File>,
    thread: JoinHandle<io::Result<()>>,
}

impl Syncing {
    fn start() -> Syncing {
        let (files, coming) = mpsc::sync_channel::<File>(1);
        let thread = std::thread::spawn(move || coming.into_iter().try_for_each(|file| file.sync_all()));
        Syncing { files, thread }
    }

    /// Why it failed is told by [`Syncing::finish`].
    fn sync(&self, file: File) -> io::Result<()> {
        let gone = || io::Error::other("what was written could not be synced");
        self.files.send(file).map_err(|_| gone())
    }

    fn finish(self) -> io::Result<()> {
        drop(self.files);
        let gone = |_| io::Error::other("the thread that syncs ended unexpectedly");
        self.thread.join().map_err(gone)?
    }
}

fn report(args: &Args, manifest: &Manifest, bytes: u64, took: Duration) {
    let seconds = took.as_secs_f64();
    let (_, _, index) = manifest.applied;
    if args.json {
        let told = serde_json::json!({
            "folder": args.folder, "index": index, "time_ms": manifest.time_ms, "files": manifest.files.len(),
            "bytes": bytes, "seconds": seconds, "digest": manifest.digest, "uploads": manifest.uploads,
            "held_entries": manifest.held_entries, "audit": manifest.audit.sequence,
        });
        return print(&format!("{told:#}\n"));
    }
    print(&format!(
        "{}: everything up to log index {index}\n{} files, {} bytes in {seconds:.1} s, {:.0} MB a second\nstate {}\n\
         Prove it: vertebra drill {}\n",
        args.folder.display(),
        grouped(manifest.files.len() as u64),
        grouped(bytes),
        bytes as f64 / seconds / 1e6,
        manifest.digest,
        args.folder.display()
    ));
}
