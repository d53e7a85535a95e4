//! The real storage: direct writes into zeroed segment files, through a ring of its own.
//!
//! The ring belongs to the thread that opened it and is submitted by the journal's task itself, so no other task can
//! starve it. Completions reach the runtime through the ring's own descriptor. Making and removing files is left to one
//! thread, because both wait for the disk.
//!
//! A batch is one write with `RWF_DSYNC`: the kernel syncs it before it reports it, and a failed sync is the write's
//! failure. A write linked to an fsync does the same, but wakes this thread in between only to hand the fsync to a worker:
//! 10 to 20 µs of the disk's time and twice the processor time for each batch.

use super::files::{FileReads, Folders, Pace};
use super::{BLOCK_BYTES, BatchWrite, BlockBuffer, Event, FoundSegment, SegmentId, SegmentReads, Storage};
use io_uring::{IoUring, opcode, types};
use nix::fcntl::Flock;
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, ready};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Sleep;

/// Room for a write of every stream, twice.
const RING_ENTRIES: u32 = 8;

/// How long a ring that the kernel refuses for lack of locked memory is asked for again: after a kill the memory of the
/// process before stays charged until the kernel has taken that process apart.
const RING_AGAIN: Duration = Duration::from_secs(3);
/// Pause between two such attempts.
const RING_AGAIN_PAUSE: Duration = Duration::from_millis(20);

/// How often a submission that the kernel has no memory for is tried again, 1 ms apart.
const SUBMIT_AGAIN_MAX: u32 = 1000;

/// What the file thread is asked to do.
enum FileJob {
    Prepare(SegmentId, u32),
    Remove(SegmentId),
}

/// The ring's descriptor, as the runtime watches it.
struct RingFd(RawFd);

impl AsRawFd for RingFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

/// A stream's file and buffer, and what its batch in flight came to.
struct Lane {
    segment: SegmentId,
    file: Option<File>,
    buffer: BlockBuffer,
    expected_bytes: usize,
}

/// Segments on a real disk. Opened once the `ring` field's thread is known: it must stay on it.
pub struct RingStorage {
    // Dropped before the ring, whose descriptor it watches.
    watched: AsyncFd<RingFd>,
    ring: IoUring,
    lanes: Vec<Lane>,
    in_flight: usize,
    buffers_registered: bool,
    files_registered: bool,
    folders: Folders,
    reads: Arc<FileReads>,
    jobs: Option<Sender<FileJob>>,
    /// Full segments to bring into the page cache: a thread of its own, so that no new segment waits behind one.
    cold: Option<Sender<SegmentId>>,
    threads: Vec<JoinHandle<()>>,
    prepared: UnboundedReceiver<(SegmentId, io::Result<()>)>,
    pace: Arc<Pace>,
    started: Instant,
    timer: Pin<Box<Sleep>>,
    timer_us: u64,
    // Held for as long as the storage lives.
    _lock: Flock<File>,
}

impl RingStorage {
    /// Opens the storage in `root`, one folder for each name in `streams`, with a buffer of `batch_bytes_max` each.
    /// Errors: the folder cannot be made; another process holds its lock (`WouldBlock`); no ring. Must be called in a
    /// tokio runtime, on the thread that will use it.
    pub fn open(root: PathBuf, streams: &'static [&'static str], batch_bytes_max: usize) -> io::Result<RingStorage> {
        let folders = Folders { root, streams };
        folders.make()?;
        let lock = folders.lock()?;
        let ring = build_ring()?;
        let lanes: Vec<Lane> = (0..streams.len() as u8)
            .map(|stream| Lane {
                segment: SegmentId { stream, number: 0 },
                file: None,
                buffer: BlockBuffer::new(batch_bytes_max),
                expected_bytes: 0,
            })
            .collect();
        let buffers_registered = register_buffers(&ring, &lanes);
        let files_registered = match ring.submitter().register_files_sparse(streams.len() as u32) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "the journal's files are not registered: each write costs a little more");
                false
            }
        };
        // SAFETY: the ring's descriptor stays open for as long as the ring, which is dropped after `watched`; the
        // wrapper always returns the same one.
        let watched = unsafe { AsyncFd::register_with_interest(RingFd(ring.as_raw_fd()), Interest::READABLE) }
            .map_err(io::Error::from)?;
        let (jobs, job_queue) = channel();
        let (report, prepared) = unbounded_channel();
        let pace = Arc::new(Pace::default());
        let reads = Arc::new(FileReads::new(folders.clone()));
        let (thread_folders, thread_pace, thread_reads) = (folders.clone(), pace.clone(), reads.clone());
        let files = std::thread::Builder::new()
            .name("journal-files".into())
            .spawn(move || run_file_jobs(thread_folders, job_queue, report, thread_pace, thread_reads))?;
        let (cold, cold_queue) = channel();
        let (thread_pace, thread_reads) = (pace.clone(), reads.clone());
        let warmer = std::thread::Builder::new()
            .name("journal-warm".into())
            .spawn(move || warm_all(cold_queue, &thread_pace, &thread_reads))?;
        Ok(RingStorage {
            watched,
            ring,
            lanes,
            in_flight: 0,
            buffers_registered,
            files_registered,
            reads,
            folders,
            jobs: Some(jobs),
            cold: Some(cold),
            threads: vec![files, warmer],
            prepared,
            pace,
            started: Instant::now(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            timer_us: 0,
            _lock: lock,
        })
    }

    fn ask(&self, job: FileJob) {
        let jobs = self.jobs.as_ref().expect("taken only when the storage is dropped");
        jobs.send(job).expect("the file thread ends only after this sender");
    }

    /// Gives the kernel what is queued. It may be short of memory for a moment; it may not stay so.
    fn hand_over(&mut self) -> io::Result<()> {
        let mut refusals = 0;
        while !self.ring.submission().is_empty() {
            match self.ring.submit() {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && refusals < SUBMIT_AGAIN_MAX => {
                    refusals += 1;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn reap(&mut self) -> Option<Event> {
        let entry = self.ring.completion().next()?;
        self.in_flight -= 1;
        let stream = entry.user_data() as u8;
        Some(Event::Written {
            stream,
            result: judge(entry.result(), self.lanes[usize::from(stream)].expected_bytes),
        })
    }
}

fn build_ring() -> io::Result<IoUring> {
    let started = Instant::now();
    loop {
        let tuned = IoUring::builder()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_single_issuer()
            .build(RING_ENTRIES);
        match tuned.or_else(|_| IoUring::new(RING_ENTRIES)) {
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && started.elapsed() < RING_AGAIN => {
                std::thread::sleep(RING_AGAIN_PAUSE);
            }
            ring => return ring,
        }
    }
}

/// Registers the batch buffers where RLIMIT_MEMLOCK allows it.
fn register_buffers(ring: &IoUring, lanes: &[Lane]) -> bool {
    let pieces: Vec<libc::iovec> = lanes
        .iter()
        .map(|lane| libc::iovec {
            iov_base: lane.buffer.as_ptr() as *mut _,
            iov_len: lane.buffer.len(),
        })
        .collect();
    // SAFETY: the buffers are owned by the storage, never grow or move, and are freed only after the ring is closed.
    match unsafe { ring.submitter().register_buffers(&pieces) } {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "the journal's buffers are not registered (LimitMEMLOCK): commits cost a little more");
            false
        }
    }
}

fn judge(written: i32, expected_bytes: usize) -> io::Result<()> {
    if written < 0 {
        return Err(io::Error::from_raw_os_error(-written));
    }
    if written as usize != expected_bytes {
        return Err(io::Error::new(
            io::ErrorKind::WriteZero,
            format!("wrote {written} of {expected_bytes} bytes"),
        ));
    }
    Ok(())
}

fn run_file_jobs(
    folders: Folders,
    jobs: Receiver<FileJob>,
    report: UnboundedSender<(SegmentId, io::Result<()>)>,
    pace: Arc<Pace>,
    reads: Arc<FileReads>,
) {
    for job in jobs {
        match job {
            FileJob::Prepare(id, bytes) => {
                let result = folders.make_segment(id, bytes, &pace);
                pace.hurry.store(false, Ordering::Relaxed);
                if report.send((id, result)).is_err() {
                    return;
                }
            }
            FileJob::Remove(id) => {
                if let Err(error) = folders.remove_segment(id) {
                    tracing::warn!(%error, segment = id.number, "a journal segment could not be removed; its space is not free yet");
                }
                // A read that was under way when it was first forgotten may have opened it again.
                reads.forget(id);
            }
        }
    }
}

fn warm_all(cold: Receiver<SegmentId>, pace: &Pace, reads: &FileReads) {
    for id in cold {
        if let Err(error) = reads.warm(id, pace) {
            tracing::debug!(%error, segment = id.number, "a full journal segment is read from the disk");
        }
    }
}

impl Storage for RingStorage {
    fn survey(&mut self) -> io::Result<Vec<FoundSegment>> {
        self.folders.survey()
    }

    fn read_blocks(&mut self, id: SegmentId, offset: u32, into: &mut [u8]) -> io::Result<usize> {
        self.reads.read_blocking(id, u64::from(offset), into)
    }

    fn write_synced(&mut self, id: SegmentId, offset: u32, blocks: &BlockBuffer) -> io::Result<()> {
        let file = self.folders.open_direct(id)?;
        file.write_all_at(blocks, u64::from(offset))?;
        file.sync_all()
    }

    fn create(&mut self, id: SegmentId, bytes: u32) -> io::Result<()> {
        let pace = Pace::default();
        pace.hurry.store(true, Ordering::Relaxed);
        self.folders.make_segment(id, bytes, &pace)
    }

    fn prepare(&mut self, id: SegmentId, bytes: u32) {
        self.ask(FileJob::Prepare(id, bytes));
    }

    fn hurry(&mut self) {
        self.pace.hurry.store(true, Ordering::Relaxed);
    }

    fn warm(&mut self, id: SegmentId) {
        let cold = self.cold.as_ref().expect("taken only when the storage is dropped");
        cold.send(id).expect("the thread ends only after this sender");
    }

    fn remove(&mut self, id: SegmentId) {
        self.reads.forget(id);
        self.ask(FileJob::Remove(id));
    }

    fn buffer(&mut self, stream: u8) -> &mut BlockBuffer {
        &mut self.lanes[usize::from(stream)].buffer
    }

    fn submit(&mut self, writes: &[BatchWrite]) -> io::Result<()> {
        for write in writes {
            let slot = write.id.stream;
            let lane = &mut self.lanes[usize::from(slot)];
            assert!(
                write.bytes.is_multiple_of(BLOCK_BYTES) && write.bytes <= lane.buffer.len(),
                "whole blocks"
            );
            if lane.file.is_none() || lane.segment != write.id {
                let file = self.folders.open_direct(write.id)?;
                if self.files_registered {
                    self.ring
                        .submitter()
                        .register_files_update(u32::from(slot), &[file.as_raw_fd()])?;
                }
                lane.segment = write.id;
                lane.file = Some(file);
            }
            lane.expected_bytes = write.bytes;
            let fd = lane.file.as_ref().expect("opened above").as_raw_fd();
            let (buffer, bytes, offset) = (lane.buffer.as_ptr(), write.bytes as u32, u64::from(write.offset));
            let (fixed, fd) = (types::Fixed(slot.into()), types::Fd(fd));
            let entry = match (self.files_registered, self.buffers_registered) {
                (true, true) => opcode::WriteFixed::new(fixed, buffer, bytes, slot.into())
                    .offset(offset)
                    .rw_flags(libc::RWF_DSYNC)
                    .build(),
                (true, false) => opcode::Write::new(fixed, buffer, bytes)
                    .offset(offset)
                    .rw_flags(libc::RWF_DSYNC)
                    .build(),
                (false, true) => opcode::WriteFixed::new(fd, buffer, bytes, slot.into())
                    .offset(offset)
                    .rw_flags(libc::RWF_DSYNC)
                    .build(),
                (false, false) => opcode::Write::new(fd, buffer, bytes)
                    .offset(offset)
                    .rw_flags(libc::RWF_DSYNC)
                    .build(),
            };
            // SAFETY: file and buffer belong to the lane and are neither closed, moved nor touched until the write has
            // completed; dropping the storage waits for what is in flight.
            unsafe { self.ring.submission().push(&entry.user_data(slot.into())) }
                .expect("the ring has room for every stream");
            self.in_flight += 1;
        }
        self.hand_over()
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Poll::Ready(Some((id, result))) = self.prepared.poll_recv(cx) {
            return Poll::Ready(Event::Prepared { id, result });
        }
        loop {
            if let Some(event) = self.reap() {
                return Poll::Ready(event);
            }
            if self.in_flight == 0 {
                return Poll::Pending;
            }
            match ready!(self.watched.poll_read_ready(cx)) {
                Ok(mut ready) => ready.clear_ready(),
                Err(error) => {
                    self.die(&format!("the runtime no longer watches the journal's ring: {error}"));
                    return Poll::Pending;
                }
            }
            // Completions that arrived before the readiness was cleared would not make it ready again.
            if let Some(event) = self.reap() {
                return Poll::Ready(event);
            }
        }
    }

    fn free_bytes(&mut self) -> io::Result<u64> {
        let figures = nix::sys::statvfs::statvfs(&self.folders.root)?;
        Ok(figures.blocks_available() as u64 * figures.fragment_size() as u64)
    }

    fn now_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    fn poll_until(&mut self, deadline_us: u64, cx: &mut Context<'_>) -> Poll<()> {
        if self.timer_us != deadline_us {
            self.timer_us = deadline_us;
            self.timer
                .as_mut()
                .reset((self.started + Duration::from_micros(deadline_us)).into());
        }
        self.timer.as_mut().poll(cx)
    }

    fn die(&mut self, why: &str) {
        tracing::error!(
            why,
            "the journal cannot be relied on any more: ending the process; look at the disk, then start the node"
        );
        std::process::abort();
    }

    fn reads(&self) -> Arc<dyn SegmentReads> {
        self.reads.clone()
    }
}

impl Drop for RingStorage {
    fn drop(&mut self) {
        // The kernel still reads the buffers of what is in flight.
        while self.in_flight > 0 {
            match self.ring.submit_and_wait(1) {
                Ok(_) => while self.reap().is_some() {},
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::error!(%error, "the journal's ring is lost with writes in flight: ending the process");
                    std::process::abort();
                }
            }
        }
        // A thread that outlived the lock could write zeros over another storage's segments.
        self.pace.stop.store(true, Ordering::Relaxed);
        drop((self.jobs.take(), self.cold.take()));
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the journal's files panicked");
            }
        }
    }
}
