//! Segment files in their folders: names, the lock, making and removing them, and reading through the page cache.
//!
//! `0000000007.seg` is a segment, `.new` one that is still being zeroed (worthless after a crash), `.gone` the mark of
//! one that was removed. Of the marks below the oldest segment only the newest is kept.

use super::{BLOCK_BYTES, BlockBuffer, FoundSegment, RingRead, SegmentId, SegmentReads};
use crate::base::direct;
use bytes::Bytes;
use nix::fcntl::{FallocateFlags, Flock, FlockArg, PosixFadviseAdvice, fallocate, posix_fadvise};
use parking_lot::RwLock;
use rustc_hash::FxHashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Zeros are written, and a full segment is read, in pieces of this size.
const ZERO_BYTES: usize = 1024 * 1024;
/// Pause between two pieces while nobody waits for a segment, so that commits keep the disk to themselves.
const ZERO_PAUSE: Duration = Duration::from_millis(4);

/// Of what the kernel is told that it will be read it takes no more than its read-ahead at a time, and silently leaves out the
/// rest. Where that is least, it is this.
const ADVICE_BYTES: u64 = 128 * 1024;

/// How fast a segment is made.
#[derive(Default)]
pub(super) struct Pace {
    /// Somebody waits: no pauses.
    pub(super) hurry: AtomicBool,
    /// Nobody will: give up.
    pub(super) stop: AtomicBool,
}

/// The folders of one journal.
#[derive(Clone)]
pub(super) struct Folders {
    pub(super) root: PathBuf,
    pub(super) streams: &'static [&'static str],
}

impl Folders {
    pub(super) fn folder(&self, stream: u8) -> PathBuf {
        self.root.join(self.streams[usize::from(stream)])
    }

    pub(super) fn path(&self, id: SegmentId, ending: &str) -> PathBuf {
        self.folder(id.stream).join(format!("{:010}.{ending}", id.number))
    }

    /// Makes the folders, and their names durable.
    pub(super) fn make(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.root)?;
        for stream in 0..self.streams.len() as u8 {
            std::fs::create_dir_all(self.folder(stream))?;
        }
        sync_folder(&self.root)?;
        match self.root.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
            Some(_) | None => Ok(()),
        }
    }

    /// Takes the exclusive lock that keeps a second process away.
    pub(super) fn lock(&self) -> io::Result<Flock<File>> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.root.join("lock"))?;
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            nix::errno::Errno::EWOULDBLOCK => io::Error::new(
                io::ErrorKind::WouldBlock,
                "another process has this journal open; stop it first",
            ),
            other => io::Error::from(other),
        })
    }

    /// Everything there is; unfinished segments are deleted on the way.
    pub(super) fn survey(&self) -> io::Result<Vec<FoundSegment>> {
        let mut found = Vec::new();
        for stream in 0..self.streams.len() as u8 {
            for entry in std::fs::read_dir(self.folder(stream))? {
                let entry = entry?;
                let name = entry.file_name();
                let Some((number, ending)) = name.to_str().and_then(|name| name.split_once('.')) else {
                    continue;
                };
                let Ok(number) = number.parse::<u32>() else { continue };
                let id = SegmentId { stream, number };
                match ending {
                    "seg" => found.push(FoundSegment {
                        id,
                        bytes: entry.metadata()?.len(),
                        removed: false,
                    }),
                    "gone" => found.push(FoundSegment {
                        id,
                        bytes: 0,
                        removed: true,
                    }),
                    "new" => std::fs::remove_file(entry.path())?,
                    _ => {}
                }
            }
        }
        Ok(found)
    }

    /// Opens a segment for direct writing.
    pub(super) fn open_direct(&self, id: SegmentId) -> io::Result<File> {
        OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_DIRECT | libc::O_CLOEXEC)
            .open(self.path(id, "seg"))
    }

    /// Makes a durable segment of zeros. `pace` ends the pauses, or the work.
    ///
    /// Zeros are really written: a block that was only allocated costs its first fdatasync a transaction of the file
    /// system, which quadruples the slowest commits.
    pub(super) fn make_segment(&self, id: SegmentId, bytes: u32, pace: &Pace) -> io::Result<()> {
        assert!(
            (bytes as usize).is_multiple_of(BLOCK_BYTES),
            "a segment is whole blocks"
        );
        let unfinished = self.path(id, "new");
        let made = self.write_zeros(&unfinished, u64::from(bytes), pace);
        if made.is_err() {
            // What is left of it would only take space that is short already.
            let _ = std::fs::remove_file(&unfinished);
        }
        made?;
        let finished = self.path(id, "seg");
        if finished.exists() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "a segment is never made twice",
            ));
        }
        std::fs::rename(&unfinished, finished)?;
        sync_folder(&self.folder(id.stream))
    }

    fn write_zeros(&self, path: &Path, bytes: u64, pace: &Pace) -> io::Result<()> {
        let file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .custom_flags(libc::O_DIRECT | libc::O_CLOEXEC)
            .mode(0o600)
            .open(path)
            .map_err(|error| match error.raw_os_error() {
                Some(libc::EINVAL) => io::Error::new(
                    io::ErrorKind::Unsupported,
                    "this file system takes no direct writes; put the data on ext4 or xfs",
                ),
                Some(_) | None => error,
            })?;
        fallocate(&file, FallocateFlags::empty(), 0, bytes as i64)?;
        let zeros = BlockBuffer::new(ZERO_BYTES.min(bytes as usize));
        let mut offset = 0;
        while offset < bytes {
            let piece = (zeros.len() as u64).min(bytes - offset) as usize;
            file.write_all_at(&zeros[..piece], offset)?;
            offset += piece as u64;
            if pace.stop.load(Ordering::Relaxed) {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "the journal is closing"));
            }
            if offset < bytes && !pace.hurry.load(Ordering::Relaxed) {
                std::thread::sleep(ZERO_PAUSE);
            }
        }
        file.sync_all()
    }

    /// Removes a segment and leaves its mark, then drops the marks that no longer say anything.
    pub(super) fn remove_segment(&self, id: SegmentId) -> io::Result<()> {
        let mark = self.path(id, "gone");
        std::fs::rename(self.path(id, "seg"), &mark)?;
        sync_folder(&self.folder(id.stream))?;
        OpenOptions::new().write(true).open(&mark)?.set_len(0)?;
        let here: Vec<FoundSegment> = self.survey_marks(id.stream)?;
        let oldest_live = here
            .iter()
            .filter(|s| !s.removed)
            .map(|s| s.id.number)
            .min()
            .unwrap_or(u32::MAX);
        let newest_mark_below = here
            .iter()
            .filter(|s| s.removed && s.id.number < oldest_live)
            .map(|s| s.id.number)
            .max()
            .unwrap_or(0);
        for old in here.iter().filter(|s| s.removed && s.id.number < newest_mark_below) {
            std::fs::remove_file(self.path(old.id, "gone"))?;
        }
        Ok(())
    }

    fn survey_marks(&self, stream: u8) -> io::Result<Vec<FoundSegment>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(self.folder(stream))? {
            let name = entry?.file_name();
            let Some((number, ending)) = name.to_str().and_then(|name| name.split_once('.')) else {
                continue;
            };
            if let (Ok(number), "seg" | "gone") = (number.parse::<u32>(), ending) {
                found.push(FoundSegment {
                    id: SegmentId { stream, number },
                    bytes: 0,
                    removed: ending == "gone",
                });
            }
        }
        Ok(found)
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Buffered descriptors of the segments, opened when first read.
pub(super) struct FileReads {
    folders: Folders,
    open: RwLock<FxHashMap<SegmentId, Arc<File>>>,
}

impl FileReads {
    pub(super) fn new(folders: Folders) -> FileReads {
        FileReads {
            folders,
            open: RwLock::new(FxHashMap::default()),
        }
    }

    fn file(&self, id: SegmentId) -> io::Result<Arc<File>> {
        if let Some(file) = self.open.read().get(&id) {
            return Ok(file.clone());
        }
        let file = Arc::new(File::open(self.folders.path(id, "seg"))?);
        // Read-ahead would fill the cache with blocks that are about to be written around it.
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_RANDOM)?;
        Ok(self.open.write().entry(id).or_insert(file).clone())
    }

    /// Has the kernel read a segment into its cache. Direct writes leave nothing there.
    pub(super) fn warm(&self, id: SegmentId, pace: &Pace) -> io::Result<()> {
        let bytes = self.file(id)?.metadata()?.len();
        for offset in (0..bytes).step_by(ZERO_BYTES) {
            self.advise(id, offset, ZERO_BYTES as u64)?;
            if pace.stop.load(Ordering::Relaxed) {
                break;
            }
            std::thread::sleep(ZERO_PAUSE);
        }
        Ok(())
    }

    fn advise(&self, id: SegmentId, offset: u64, bytes: u64) -> io::Result<()> {
        let file = self.file(id)?;
        for offset in (offset..offset + bytes).step_by(ADVICE_BYTES as usize) {
            let (at, piece) = (offset as i64, ADVICE_BYTES as i64);
            posix_fadvise(&*file, at, piece, PosixFadviseAdvice::POSIX_FADV_WILLNEED)?;
        }
        Ok(())
    }
}

impl SegmentReads for FileReads {
    fn read_cached(&self, id: SegmentId, offset: u64, bytes: usize) -> io::Result<Option<Vec<u8>>> {
        let file = self.file(id)?;
        let mut into: Vec<u8> = Vec::with_capacity(bytes);
        while into.len() < bytes {
            // The vector may have been given more room than it was asked for.
            let wanted = bytes - into.len();
            let rest = &mut into.spare_capacity_mut()[..wanted];
            let piece = libc::iovec {
                iov_base: rest.as_mut_ptr().cast(),
                iov_len: rest.len(),
            };
            let at = (offset + into.len() as u64) as libc::off_t;
            // SAFETY: the descriptor is open, and the one iovec describes `rest`, which outlives the call.
            let read = unsafe { libc::preadv2(file.as_raw_fd(), &piece, 1, at, libc::RWF_NOWAIT) };
            match read {
                0 => break,
                1.. => {
                    let done = into.len() + read as usize;
                    // SAFETY: the kernel filled that many bytes behind those that were there, all within `rest`.
                    unsafe { into.set_len(done) };
                }
                _ => {
                    let error = io::Error::last_os_error();
                    match error.raw_os_error() {
                        Some(libc::EAGAIN) | Some(libc::EOPNOTSUPP) => return Ok(None),
                        Some(libc::EINTR) => {}
                        Some(_) | None => return Err(error),
                    }
                }
            }
        }
        Ok(Some(into))
    }

    fn read_blocking(&self, id: SegmentId, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let file = self.file(id)?;
        let mut done = 0;
        while done < into.len() {
            match file.read_at(&mut into[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn read_on_ring(&self, id: SegmentId, offset: u64, bytes: usize) -> RingRead<'_> {
        Box::pin(async move {
            let file = tokio_uring::fs::File::from_std(self.file(id)?.try_clone()?);
            let mut whole = Vec::with_capacity(bytes);
            while whole.len() < bytes {
                let (read, piece) = file
                    .read_at(Vec::with_capacity(bytes - whole.len()), offset + whole.len() as u64)
                    .await;
                if read? == 0 {
                    break;
                }
                if whole.is_empty() {
                    whole = piece;
                } else {
                    whole.extend_from_slice(&piece);
                }
            }
            file.close().await?;
            Ok(whole)
        })
    }

    fn read_run(&self, id: SegmentId, offset: u64, bytes: usize) -> io::Result<Bytes> {
        match self.read_cached(id, offset, bytes)? {
            Some(cached) => Ok(cached.into()),
            None => direct::read_up_to(&self.folders.path(id, "seg"), offset, bytes),
        }
    }

    fn forget(&self, id: SegmentId) {
        self.open.write().remove(&id);
    }
}
