//! The pulse of a connection: what it waits for and since when. One sweeper a reactor looks at all of them, so that
//! an idle connection needs no timer of its own.
//!
//! ```text
//!          request begins                last request ended
//! Head ──────────────────────▶ Busy ─────────────────────────▶ Idle
//!  ▲                             ▲        request begins         │ (HTTP/1.1) first byte of the next request
//!  │                             └───────────────────────────────┤
//!  └─────────────────────────────────────────────────────────────┘
//! ```

use super::limits::Limits;
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Headers are awaited.
    Head,
    /// At least one request is being answered.
    Busy,
    /// Between requests.
    Idle,
}

/// Why the sweeper ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Headers did not arrive in time.
    SlowHead,
    /// The client does not take what it asked for.
    SlowReader,
    /// No request for too long.
    Idle,
    /// Shutdown's deadline has passed.
    Shutdown,
}

/// Time spent waiting for a reader, and what it took meanwhile. Time in which nothing waited does not count.
#[derive(Clone, Copy, Default)]
struct Blocked {
    since: Option<Instant>,
    waited: Duration,
    bytes: u64,
}

/// The pulse of one connection.
pub(super) struct Pulse {
    /// HTTP/2: bytes between requests are no sign of a request, and stalls show per stream.
    multiplexed: bool,
    phase: Cell<Phase>,
    since: Cell<Instant>,
    active: Cell<u32>,
    head_bytes: Cell<bool>,
    blocked: Cell<Blocked>,
    streams: RefCell<Vec<Weak<StreamPulse>>>,
    verdict: Cell<Option<Verdict>>,
    draining: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    bytes_in: Cell<u64>,
}

impl Pulse {
    pub(super) fn new(multiplexed: bool) -> Rc<Pulse> {
        Rc::new(Pulse {
            multiplexed,
            phase: Cell::new(if multiplexed { Phase::Idle } else { Phase::Head }),
            since: Cell::new(Instant::now()),
            active: Cell::new(0),
            head_bytes: Cell::new(false),
            blocked: Cell::default(),
            streams: RefCell::default(),
            verdict: Cell::new(None),
            draining: Cell::new(false),
            waker: RefCell::new(None),
            bytes_in: Cell::new(0),
        })
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(Instant::now());
    }

    /// A request's headers have arrived.
    pub(super) fn request_began(&self) {
        self.active.set(self.active.get() + 1);
        self.head_bytes.set(false);
        self.enter(Phase::Busy);
    }

    /// A request's answer has left, or the request was given up.
    pub(super) fn request_ended(&self) {
        self.active.set(self.active.get() - 1);
        if self.active.get() == 0 {
            self.enter(Phase::Idle);
        }
        if self.draining.get() {
            self.wake();
        }
    }

    /// Watches the reader of one HTTP/2 stream.
    pub(super) fn watch_stream(&self) -> Rc<StreamPulse> {
        let stream = Rc::new(StreamPulse {
            waiting: Cell::new(None),
        });
        let mut streams = self.streams.borrow_mut();
        streams.retain(|known| known.strong_count() > 0);
        streams.push(Rc::downgrade(&stream));
        stream
    }

    fn read(&self, bytes: u64) {
        self.bytes_in.set(self.bytes_in.get() + bytes);
        if self.multiplexed {
            return;
        }
        match self.phase.get() {
            Phase::Head => self.head_bytes.set(true),
            Phase::Idle => {
                self.head_bytes.set(true);
                self.enter(Phase::Head);
            }
            Phase::Busy => {}
        }
    }

    fn wrote(&self, bytes: u64, progress_bytes_min: u64) {
        self.write_free();
        let mut blocked = self.blocked.get();
        if !blocked.waited.is_zero() {
            blocked.bytes += bytes;
            let enough = blocked.bytes >= progress_bytes_min;
            self.blocked.set(if enough { Blocked::default() } else { blocked });
        }
        // The tail of an answer is still on its way. On HTTP/2 it may as well be a ping, which is no sign of use.
        if self.phase.get() == Phase::Idle && !self.multiplexed {
            self.since.set(Instant::now());
        }
    }

    fn write_blocked(&self) {
        let mut blocked = self.blocked.get();
        if blocked.since.is_none() {
            blocked.since = Some(Instant::now());
            self.blocked.set(blocked);
        }
    }

    /// Nothing waits for the reader any more.
    fn write_free(&self) {
        let mut blocked = self.blocked.get();
        if let Some(since) = blocked.since.take() {
            blocked.waited += since.elapsed();
            self.blocked.set(blocked);
        }
    }

    /// Whether headers began to arrive and did not end.
    pub(super) fn has_partial_head(&self) -> bool {
        self.head_bytes.get()
    }

    /// Bytes read since the last call.
    pub(super) fn take_bytes_in(&self) -> u64 {
        self.bytes_in.take()
    }

    /// Not a byte of a request has come yet.
    pub(super) fn is_untouched(&self) -> bool {
        self.phase.get() == Phase::Head && !self.head_bytes.get()
    }

    /// A request is being answered.
    pub(super) fn is_busy(&self) -> bool {
        self.phase.get() == Phase::Busy
    }

    /// Asks the connection to end after what runs.
    pub(super) fn drain(&self) {
        self.draining.set(true);
        self.wake();
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Ends the connection.
    pub(super) fn condemn(&self, verdict: Verdict) {
        self.verdict.set(Some(verdict));
        self.wake();
    }

    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.verdict.get()
    }

    /// Remembers the connection's task.
    pub(super) fn listen(&self, context: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Judges the connection at `now`.
    pub(super) fn sweep(&self, limits: &Limits, now: Instant) {
        let waited = now.saturating_duration_since(self.since.get());
        let over = |ms: u64| waited > Duration::from_millis(ms);
        let verdict = match self.phase.get() {
            Phase::Head if over(limits.header_ms_max) => Some(Verdict::SlowHead),
            Phase::Idle if over(limits.idle_ms_max) => Some(Verdict::Idle),
            Phase::Head | Phase::Busy | Phase::Idle => None,
        };
        if let Some(verdict) = verdict.or_else(|| self.sweep_readers(limits, now)) {
            self.condemn(verdict);
        }
    }

    fn sweep_readers(&self, limits: &Limits, now: Instant) -> Option<Verdict> {
        let window = Duration::from_millis(limits.write_progress_ms_max);
        let blocked = self.blocked.get();
        if let Some(since) = blocked.since
            && blocked.waited + now.saturating_duration_since(since) > window
        {
            return Some(Verdict::SlowReader);
        }
        let streams = self.streams.borrow();
        let stalled = |stream: &Weak<StreamPulse>| {
            let waiting = stream.upgrade().and_then(|stream| stream.waiting.get());
            waiting.is_some_and(|since| now.saturating_duration_since(since) > window)
        };
        streams.iter().any(stalled).then_some(Verdict::SlowReader)
    }
}

/// The reader of one HTTP/2 stream: since when it has not asked for more.
pub(super) struct StreamPulse {
    waiting: Cell<Option<Instant>>,
}

impl StreamPulse {
    /// A piece was handed over; the next move is the client's.
    pub(super) fn handed_over(&self) {
        self.waiting.set(Some(Instant::now()));
    }

    /// There is room for more; the next move is ours.
    pub(super) fn asked(&self) {
        self.waiting.set(None);
    }
}

/// A stream that tells the pulse what passes through it.
pub(super) struct Watched<S> {
    stream: S,
    pulse: Rc<Pulse>,
    progress_bytes_min: u64,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, pulse: Rc<Pulse>, progress_bytes_min: u64) -> Watched<S> {
        Watched {
            stream,
            pulse,
            progress_bytes_min,
        }
    }

    fn note(&self, written: &Poll<std::io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(bytes)) => self.pulse.wrote(*bytes as u64, self.progress_bytes_min),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.pulse.write_blocked(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        let bytes = into.filled().len() - before;
        if bytes > 0 {
            self.pulse.read(bytes as u64);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        match &flushed {
            Poll::Ready(Ok(())) => self.pulse.write_free(),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.pulse.write_blocked(),
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        if shut.is_pending() {
            self.pulse.write_blocked();
        }
        shut
    }
}
