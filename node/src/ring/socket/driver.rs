//! The ring of one reactor thread: operations in, completions out, one submit a tick.
//!
//! Owns the ring, the provided buffers and the table of operations in flight. Knows bytes and descriptors, never
//! what they mean. Invariants: whatever the kernel may still write to or read from is kept alive by the table until
//! its final completion; a completion is handled with no borrow of the ring held.

use super::acceptor::Acceptor;
use super::buffers::{Buffers, GROUP};
use super::connection::Connection;
use super::figures::{self, RingFigures};
use io_uring::squeue::Entry;
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Submission queue entries; more in one tick are submitted in several calls.
const SUBMISSION_ENTRIES: u32 = 1024;
/// Completion queue entries: a multishot operation yields many completions for one submission.
const COMPLETION_ENTRIES: u32 = 8192;
/// Provided buffers of a ring: a power of two.
const BUFFERS: u16 = 512;
/// Size of one provided buffer.
const BUFFER_BYTES: usize = 8 * 1024;
/// Rounds of submit and reap in one poll before other tasks get their turn.
const ROUNDS_MAX: usize = 4;
/// How often lingering connections and paused listeners are looked at.
const TICK_MS: u64 = 100;
/// How long a runtime that ends waits for its operations to be cancelled.
const SHUT_ROUNDS_MAX: usize = 100;

/// What an operation in flight belongs to, and keeps alive.
enum Operation {
    Accept(Rc<Acceptor>),
    Receive(Rc<Connection>),
    Send(Rc<Connection>),
    Cancel,
}

/// A completion, copied out of the ring.
#[derive(Clone, Copy)]
pub(super) struct Completion {
    /// Result: bytes, a descriptor, or a negated errno.
    pub(super) result: i32,
    /// The provided buffer it filled.
    pub(super) buffer: Option<u16>,
    /// More completions of the same operation follow.
    pub(super) more: bool,
}

/// The ring and what is in flight on it. One a thread, shared by its sockets.
pub(super) struct Driver {
    // Declared first so that it is closed before the buffers are freed.
    ring: RefCell<IoUring>,
    buffers: RefCell<Buffers>,
    operations: RefCell<Slab<Operation>>,
    waiting: RefCell<VecDeque<Entry>>,
    starved: RefCell<VecDeque<Rc<Connection>>>,
    paused: RefCell<Vec<Rc<Acceptor>>>,
    lingering: RefCell<Vec<(Instant, Weak<Connection>)>>,
    scratch: RefCell<Vec<(u64, Completion)>>,
    dirty: Cell<bool>,
    closed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    figures: Arc<RingFigures>,
}

thread_local! {
    static CURRENT: RefCell<Weak<Driver>> = const { RefCell::new(Weak::new()) };
}

impl Driver {
    /// The driver of this thread's running local task set; starts one when there is none.
    ///
    /// # Errors
    /// When the kernel lacks what the driver needs. Must be called inside a `LocalSet` of a current-thread runtime.
    pub(super) fn current() -> io::Result<Rc<Driver>> {
        if let Some(driver) = Driver::running() {
            return Ok(driver);
        }
        let driver = Rc::new(crate::ring::make_patiently(Driver::build)?);
        let ring = RingFd(driver.ring.borrow().as_raw_fd());
        // SAFETY: the descriptor is the ring's own; the task that holds the registration also holds the driver and
        // drops the registration first, so the descriptor stays open and the same while it is registered.
        let readiness =
            unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }.map_err(io::Error::from)?;
        tokio::task::spawn_local(Drive {
            readiness,
            driver: Rc::clone(&driver),
            tick: None,
        });
        CURRENT.with_borrow_mut(|current| *current = Rc::downgrade(&driver));
        Ok(driver)
    }

    /// The driver of this thread, when it has one that works.
    pub(super) fn running() -> Option<Rc<Driver>> {
        CURRENT.with_borrow(Weak::upgrade).filter(|driver| !driver.closed.get())
    }

    fn build() -> io::Result<Driver> {
        let mut builder = IoUring::builder();
        builder
            .setup_cqsize(COMPLETION_ENTRIES)
            .setup_submit_all()
            .setup_coop_taskrun()
            .setup_taskrun_flag();
        let ring: IoUring = builder.build(SUBMISSION_ENTRIES)?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        // Multishot receive cannot be probed; it came with the same kernel as zero-copy send (6.0).
        if !probe.is_supported(opcode::SendZc::CODE) || !ring.params().is_feature_nodrop() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "no multishot receive in this kernel",
            ));
        }
        let buffers = Buffers::register(&ring.submitter(), BUFFERS, BUFFER_BYTES)?;
        Ok(Driver {
            ring: RefCell::new(ring),
            buffers: RefCell::new(buffers),
            operations: RefCell::new(Slab::new()),
            waiting: RefCell::default(),
            starved: RefCell::default(),
            paused: RefCell::default(),
            lingering: RefCell::default(),
            scratch: RefCell::default(),
            dirty: Cell::new(false),
            closed: Cell::new(false),
            waker: RefCell::new(None),
            figures: Arc::default(),
        })
    }

    /// The counters.
    pub(super) fn figures(&self) -> &Arc<RingFigures> {
        &self.figures
    }

    /// The runtime has ended; nothing can be submitted any more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Starts accepting; returns the operation's key.
    pub(super) fn accept(&self, acceptor: &Rc<Acceptor>) -> usize {
        let entry = opcode::AcceptMulti::new(Fd(acceptor.raw_fd()))
            .flags(libc::SOCK_CLOEXEC)
            .build();
        self.start(Operation::Accept(Rc::clone(acceptor)), entry)
    }

    /// Starts receiving; returns the operation's key.
    pub(super) fn receive(&self, connection: &Rc<Connection>) -> usize {
        let entry = opcode::RecvMulti::new(Fd(connection.raw_fd()), GROUP).build();
        self.start(Operation::Receive(Rc::clone(connection)), entry)
    }

    /// Starts sending `bytes` bytes at `from`. The connection keeps the memory in place until the completion.
    pub(super) fn send(&self, connection: &Rc<Connection>, from: *const u8, bytes: usize) -> usize {
        let bytes = u32::try_from(bytes).expect("the send buffer is bounded far below 4 GiB");
        let entry = opcode::Send::new(Fd(connection.raw_fd()), from, bytes)
            .flags(libc::MSG_NOSIGNAL)
            .build();
        self.start(Operation::Send(Rc::clone(connection)), entry)
    }

    /// Asks the kernel to end an operation; its final completion still comes.
    pub(super) fn cancel(&self, key: usize) {
        let entry = opcode::AsyncCancel::new(key as u64).build();
        self.start(Operation::Cancel, entry);
    }

    fn start(&self, operation: Operation, entry: Entry) -> usize {
        let key = self.operations.borrow_mut().insert(operation);
        self.waiting.borrow_mut().push_back(entry.user_data(key as u64));
        self.wake();
        key
    }

    /// Has the driving task run after the tasks that are already waiting for their turn.
    fn wake(&self) {
        if !self.dirty.replace(true)
            && let Some(waker) = &*self.waker.borrow()
        {
            waker.wake_by_ref();
        }
    }

    /// Runs `read` over the bytes of a held buffer.
    pub(super) fn with_buffer<R>(&self, id: u16, bytes: usize, read: impl FnOnce(&[u8]) -> R) -> R {
        read(self.buffers.borrow().bytes(id, bytes))
    }

    /// Notes a filled buffer. `true` when so few are left that its bytes should be copied out at once.
    pub(super) fn buffer_taken(&self) -> bool {
        let mut buffers = self.buffers.borrow_mut();
        buffers.taken();
        figures::set(&self.figures.buffers_held_now, buffers.held() as u64);
        buffers.held() * 4 > buffers.count() * 3
    }

    /// Gives a buffer back, and wakes the driver when a connection waits for one.
    pub(super) fn give_back(&self, id: u16) {
        let mut buffers = self.buffers.borrow_mut();
        buffers.give_back(id);
        figures::set(&self.figures.buffers_held_now, buffers.held() as u64);
        drop(buffers);
        if !self.starved.borrow().is_empty() {
            self.wake();
        }
    }

    /// Receives again for this connection as soon as a buffer is free.
    pub(super) fn starve(&self, connection: Rc<Connection>) {
        figures::add(&self.figures.receives_starved, 1);
        self.starved.borrow_mut().push_back(connection);
        self.wake();
    }

    /// Accepts again for this listener after a pause.
    pub(super) fn pause(&self, acceptor: Rc<Acceptor>) {
        figures::add(&self.figures.accepts_paused, 1);
        self.paused.borrow_mut().push(acceptor);
        self.wake();
    }

    /// Ends a dropped connection at `until` if it has not ended by itself.
    pub(super) fn linger(&self, connection: &Rc<Connection>, until: Instant) {
        figures::add(&self.figures.lingering_now, 1);
        self.lingering.borrow_mut().push((until, Rc::downgrade(connection)));
        self.wake();
    }

    /// Hands everything that waits to the kernel. `true` when there was something.
    fn flush(&self) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            return false;
        }
        let mut ring = self.ring.borrow_mut();
        let mut submitted = 0;
        while !waiting.is_empty() {
            let mut queue = ring.submission();
            while let Some(entry) = waiting.front() {
                // SAFETY: what the entry points to belongs to a connection that the table of operations keeps alive
                // and unmoved until the final completion.
                if unsafe { queue.push(entry) }.is_err() {
                    break;
                }
                waiting.pop_front();
            }
            drop(queue);
            figures::add(&self.figures.enters, 1);
            match ring.submit() {
                Ok(taken) => submitted += taken,
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                // The completion queue is full or memory is short: reap first, the rest goes next round.
                Err(_) => break,
            }
        }
        figures::add(&self.figures.submissions, submitted as u64);
        true
    }

    /// Takes every completion there is and hands each to its owner. `true` when there was one.
    fn reap(&self) -> bool {
        let mut batch = self.scratch.take();
        {
            let mut ring = self.ring.borrow_mut();
            // An overflow is kept by the kernel until it is asked for.
            if ring.submission().cq_overflow() {
                let _ = ring.submit();
            }
            batch.extend(ring.completion().map(|entry| {
                let completion = Completion {
                    result: entry.result(),
                    buffer: cqueue::buffer_select(entry.flags()),
                    more: cqueue::more(entry.flags()),
                };
                (entry.user_data(), completion)
            }));
        }
        let found = !batch.is_empty();
        figures::add(&self.figures.completions, batch.len() as u64);
        for (key, completion) in batch.drain(..) {
            self.complete(key as usize, completion);
        }
        self.scratch.replace(batch);
        self.feed_starved();
        found
    }

    fn complete(&self, key: usize, completion: Completion) {
        let operation = if completion.more {
            match self.operations.borrow().get(key) {
                Some(Operation::Accept(acceptor)) => Operation::Accept(Rc::clone(acceptor)),
                Some(Operation::Receive(connection)) => Operation::Receive(Rc::clone(connection)),
                Some(Operation::Send(_) | Operation::Cancel) | None => panic!("only multishot operations go on"),
            }
        } else {
            self.operations.borrow_mut().remove(key)
        };
        match operation {
            Operation::Accept(acceptor) => acceptor.accepted(completion),
            Operation::Receive(connection) => connection.received(completion),
            Operation::Send(connection) => connection.sent(completion),
            Operation::Cancel => {}
        }
    }

    /// Re-arms as many starved connections as there are free buffers, so that a re-arm is never in vain.
    fn feed_starved(&self) {
        let free = {
            let buffers = self.buffers.borrow();
            buffers.count() - buffers.held()
        };
        for _ in 0..free {
            let Some(connection) = self.starved.borrow_mut().pop_front() else {
                break;
            };
            connection.fed();
        }
    }

    fn wants_tick(&self) -> bool {
        !self.lingering.borrow().is_empty() || !self.paused.borrow().is_empty()
    }

    fn tick(&self) {
        let now = Instant::now();
        let mut late = Vec::new();
        self.lingering.borrow_mut().retain(|(until, connection)| {
            let Some(connection) = connection.upgrade() else {
                figures::subtract(&self.figures.lingering_now, 1);
                return false;
            };
            if *until > now {
                return true;
            }
            figures::subtract(&self.figures.lingering_now, 1);
            late.push(connection);
            false
        });
        for connection in late {
            connection.end();
        }
        for acceptor in self.paused.take() {
            acceptor.resume();
        }
    }

    /// Cancels what is in flight and waits for it, so that no memory is freed under the kernel.
    fn shut(&self) {
        self.closed.set(true);
        self.lingering.take();
        self.starved.take();
        self.paused.take();
        self.flush();
        for _ in 0..SHUT_ROUNDS_MAX {
            self.reap();
            if self.operations.borrow().is_empty() {
                return;
            }
            let ring = self.ring.borrow();
            let submitter = ring.submitter();
            let _ = submitter.register_sync_cancel(Some(Timespec::new().nsec(10_000_000)), CancelBuilder::any().all());
            let wait = Timespec::new().nsec(10_000_000);
            let _ = submitter.submit_with_args(1, &SubmitArgs::new().timespec(&wait));
        }
        // The kernel holds on to something: better a leak at the end of a runtime than memory freed under it.
        for operation in self.operations.borrow_mut().drain() {
            std::mem::forget(operation);
        }
    }
}

/// The ring's descriptor, for readiness alone.
struct RingFd(RawFd);

impl AsRawFd for RingFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

/// The task that drives a ring: reap, submit, reap what completed at once, sleep until readiness or the next entry.
struct Drive {
    readiness: AsyncFd<RingFd>,
    driver: Rc<Driver>,
    tick: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Drive {
    fn poll_tick(&mut self, context: &mut Context<'_>) {
        while self.driver.wants_tick() {
            let tick = self
                .tick
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::from_millis(TICK_MS))));
            if tick.as_mut().poll(context).is_pending() {
                return;
            }
            self.tick = None;
            self.driver.tick();
        }
        self.tick = None;
    }
}

impl Future for Drive {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        {
            let mut waker = this.driver.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
                *waker = Some(context.waker().clone());
            }
        }
        // Readiness is an edge: clear it before reaping, so that a completion in between raises it again.
        while let Poll::Ready(ready) = this.readiness.poll_read_ready(context) {
            match ready {
                Ok(mut guard) => guard.clear_ready(),
                Err(_) => return Poll::Ready(()),
            }
        }
        // While this runs it needs no waking: what is added meanwhile is seen below.
        this.driver.dirty.set(true);
        this.driver.reap();
        for _ in 0..ROUNDS_MAX {
            // Many operations complete inside the submit itself; taking them now saves a trip through epoll.
            if !this.driver.flush() || !this.driver.reap() {
                break;
            }
        }
        this.poll_tick(context);
        if this.driver.waiting.borrow().is_empty() {
            this.driver.dirty.set(false);
        } else {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        self.driver.shut();
    }
}
