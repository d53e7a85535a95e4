//! One connection on the ring: bytes received and not yet read, bytes written and not yet sent, and how it ends.
//!
//! Owns the descriptor. It is closed when the last owner lets go: the socket, or the last operation in flight.
//!
//! Receiving:
//!
//! ```text
//!        arm                 reader behind              final completion
//! Idle ───────▶ Armed ─────────────────────▶ Stopping ──────────────────▶ Idle
//!   ▲            │  │ no buffer free                                       │
//!   │            │  └───────────────▶ Starved ──▶ Armed (a buffer is free) │ end of stream, error
//!   └────────────┘ kernel ended it                                         ▼
//!                └──────────────────── end of stream, error ───────────▶ Ended
//! ```

use super::driver::{Completion, Driver};
use super::figures;
use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::io::ReadBuf;

/// Received and unread bytes at which receiving stops. The kernel may deliver up to 32 buffers more before it does.
const UNREAD_BYTES_MAX: usize = 64 * 1024;
/// Received and unread bytes below which receiving starts again.
const UNREAD_BYTES_RESUME: usize = 16 * 1024;
/// Bytes written and not yet taken by the kernel, over which a writer waits.
const UNSENT_BYTES_MAX: usize = 64 * 1024;
/// How long a dropped connection goes on delivering output and reading what the peer still sends: closing while
/// input is unread would reset the connection and could destroy the answer on its way.
const LINGER_MS_MAX: u64 = 2_000;

/// Where receiving stands; the diagram is above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiving {
    Idle,
    Armed(usize),
    Stopping,
    Starved,
    Ended,
}

/// How the owner let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    /// The socket is held.
    Open,
    /// Dropped: deliver what is unsent, read and discard until the peer ends.
    Lingering,
    /// Dropped or aborted: nothing more goes either way.
    Over,
}

/// A piece of received bytes, from `start` on unread.
enum Piece {
    Provided { id: u16, start: usize, end: usize },
    Copied { bytes: Box<[u8]>, start: usize },
}

impl Piece {
    fn remaining(&self) -> usize {
        match self {
            Piece::Provided { start, end, .. } => end - start,
            Piece::Copied { bytes, start } => bytes.len() - start,
        }
    }
}

struct State {
    receiving: Receiving,
    pieces: VecDeque<Piece>,
    unread_bytes: usize,
    receive_error: Option<i32>,
    reader: Option<Waker>,
    /// In the kernel's hands while `sending` is true: not touched until the completion.
    outgoing: Vec<u8>,
    outgoing_sent: usize,
    sending: bool,
    queued: Vec<u8>,
    send_error: Option<i32>,
    write_shut: bool,
    writer: Option<Waker>,
    closing: Closing,
    held: Option<Box<dyn Any>>,
}

/// A connection on the ring.
pub(super) struct Connection {
    fd: OwnedFd,
    driver: Rc<Driver>,
    state: RefCell<State>,
}

impl Connection {
    /// Takes over a connected, blocking descriptor and starts to receive.
    pub(super) fn start(driver: Rc<Driver>, fd: OwnedFd) -> Rc<Connection> {
        figures::add(&driver.figures().sockets_now, 1);
        let connection = Rc::new(Connection {
            fd,
            driver,
            state: RefCell::new(State {
                receiving: Receiving::Idle,
                pieces: VecDeque::new(),
                unread_bytes: 0,
                receive_error: None,
                reader: None,
                outgoing: Vec::new(),
                outgoing_sent: 0,
                sending: false,
                queued: Vec::new(),
                send_error: None,
                write_shut: false,
                writer: None,
                closing: Closing::Open,
                held: None,
            }),
        });
        connection.settle(&mut connection.state.borrow_mut());
        connection
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Keeps `what` until the descriptor is closed.
    pub(super) fn hold(&self, what: Box<dyn Any>) {
        self.state.borrow_mut().held = Some(what);
    }

    /// Arms or stops receiving, as the unread bytes demand.
    fn settle(self: &Rc<Self>, state: &mut State) {
        if self.driver.is_closed() {
            return;
        }
        match state.receiving {
            Receiving::Idle if state.unread_bytes < UNREAD_BYTES_RESUME && state.closing != Closing::Over => {
                state.receiving = Receiving::Armed(self.driver.receive(self));
            }
            Receiving::Armed(key) if state.unread_bytes >= UNREAD_BYTES_MAX => {
                figures::add(&self.driver.figures().receives_stopped, 1);
                self.driver.cancel(key);
                state.receiving = Receiving::Stopping;
            }
            Receiving::Idle | Receiving::Armed(_) | Receiving::Stopping | Receiving::Starved | Receiving::Ended => {}
        }
    }

    /// A buffer is free again.
    pub(super) fn fed(self: &Rc<Self>) {
        let state = &mut *self.state.borrow_mut();
        if state.receiving == Receiving::Starved {
            state.receiving = Receiving::Idle;
            self.settle(state);
        }
    }

    /// A receive completed.
    pub(super) fn received(self: &Rc<Self>, completion: Completion) {
        let state = &mut *self.state.borrow_mut();
        if let Some(id) = completion.buffer {
            let bytes = usize::try_from(completion.result).unwrap_or(0);
            self.keep(state, id, bytes);
        }
        if !completion.more {
            state.receiving = Receiving::Idle;
        }
        match completion.result {
            0 => state.receiving = Receiving::Ended,
            result if result > 0 => {}
            result => match -result {
                libc::ENOBUFS => {
                    state.receiving = Receiving::Starved;
                    if !self.driver.is_closed() {
                        self.driver.starve(Rc::clone(self));
                    }
                }
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
                errno => {
                    state.receive_error = Some(errno);
                    state.receiving = Receiving::Ended;
                }
            },
        }
        self.settle(state);
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    fn keep(&self, state: &mut State, id: u16, bytes: usize) {
        let scarce = self.driver.buffer_taken();
        if bytes == 0 || state.closing != Closing::Open {
            self.driver.give_back(id);
            return;
        }
        state.unread_bytes += bytes;
        // When buffers run short, slow readers must not keep them from the others.
        let piece = if scarce {
            let copy = self.driver.with_buffer(id, bytes, |filled| Box::<[u8]>::from(filled));
            self.driver.give_back(id);
            Piece::Copied { bytes: copy, start: 0 }
        } else {
            Piece::Provided {
                id,
                start: 0,
                end: bytes,
            }
        };
        state.pieces.push_back(piece);
    }

    /// A send completed.
    pub(super) fn sent(self: &Rc<Self>, completion: Completion) {
        let state = &mut *self.state.borrow_mut();
        state.sending = false;
        match completion.result {
            result if result >= 0 => state.outgoing_sent += result as usize,
            result if [libc::EINTR, libc::EAGAIN].contains(&-result) => {}
            result => state.send_error = Some(-result),
        }
        self.push(state);
        if let Some(writer) = state.writer.take() {
            writer.wake();
        }
        if state.closing == Closing::Lingering && !state.sending {
            self.finish_output(state);
        }
    }

    /// Sends what waits, when no send is in flight.
    fn push(self: &Rc<Self>, state: &mut State) {
        if state.sending {
            return;
        }
        if self.driver.is_closed() {
            state.send_error.get_or_insert(libc::ESHUTDOWN);
        }
        if state.send_error.is_some() {
            state.queued = Vec::new();
        }
        if state.outgoing_sent >= state.outgoing.len() || state.send_error.is_some() {
            state.outgoing_sent = 0;
            // The empty buffer is freed, so that an idle connection stays small.
            state.outgoing = std::mem::take(&mut state.queued);
        }
        if state.outgoing.is_empty() {
            return;
        }
        let rest = &state.outgoing[state.outgoing_sent..];
        self.driver.send(self, rest.as_ptr(), rest.len());
        state.sending = true;
    }

    /// Ends a connection that has lingered long enough.
    pub(super) fn end(&self) {
        let state = &mut *self.state.borrow_mut();
        self.end_now(state);
    }

    fn end_now(&self, state: &mut State) {
        if state.closing == Closing::Over {
            return;
        }
        state.closing = Closing::Over;
        // Every operation in flight completes at once, and its completion lets go of the descriptor.
        self.shut(libc::SHUT_RDWR);
    }

    fn shut(&self, how: i32) {
        let how = if how == libc::SHUT_WR {
            nix::sys::socket::Shutdown::Write
        } else {
            nix::sys::socket::Shutdown::Both
        };
        // It fails only where the peer has already gone, which is what is wanted.
        let _ = nix::sys::socket::shutdown(self.raw_fd(), how);
    }

    /// All output is with the kernel: say so to the peer, and wait for its end.
    fn finish_output(&self, state: &mut State) {
        if state.send_error.is_some() || state.receiving == Receiving::Ended {
            self.end_now(state);
        } else if !state.write_shut {
            state.write_shut = true;
            self.shut(libc::SHUT_WR);
        }
    }

    /// Reads into `into`. Ready with nothing at the end of the stream.
    pub(super) fn poll_read(self: &Rc<Self>, context: &Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.state.borrow_mut();
        if into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = into.remaining();
        while into.remaining() > 0
            && let Some(piece) = state.pieces.front_mut()
        {
            let bytes = piece.remaining().min(into.remaining());
            match piece {
                Piece::Provided { id, start, .. } => {
                    let from = *start;
                    self.driver
                        .with_buffer(*id, from + bytes, |filled| into.put_slice(&filled[from..]));
                    *start += bytes;
                }
                Piece::Copied { bytes: copy, start } => {
                    into.put_slice(&copy[*start..*start + bytes]);
                    *start += bytes;
                }
            }
            if piece.remaining() == 0
                && let Some(Piece::Provided { id, .. }) = state.pieces.pop_front()
            {
                self.driver.give_back(id);
            }
        }
        let read = before - into.remaining();
        if read > 0 {
            state.unread_bytes -= read;
            if state.pieces.is_empty() && state.pieces.capacity() > 8 {
                state.pieces = VecDeque::new();
            }
            self.settle(state);
            return Poll::Ready(Ok(()));
        }
        if let Some(errno) = state.receive_error {
            return Poll::Ready(Err(io::Error::from_raw_os_error(errno)));
        }
        if state.receiving == Receiving::Ended {
            return Poll::Ready(Ok(()));
        }
        if self.driver.is_closed() {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        }
        remember(&mut state.reader, context);
        Poll::Pending
    }

    /// Takes bytes of `parts` to send; waits while too much is unsent.
    pub(super) fn poll_write(
        self: &Rc<Self>,
        context: &Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let state = &mut *self.state.borrow_mut();
        if let Some(error) = self.write_error(state) {
            return Poll::Ready(Err(error));
        }
        let unsent = state.outgoing.len() - state.outgoing_sent + state.queued.len();
        let room = UNSENT_BYTES_MAX.saturating_sub(unsent);
        if room == 0 {
            remember(&mut state.writer, context);
            return Poll::Pending;
        }
        let total = parts.iter().map(|part| part.len()).sum::<usize>().min(room);
        let target = if state.sending {
            &mut state.queued
        } else {
            &mut state.outgoing
        };
        target.reserve(total);
        let mut left = total;
        for part in parts {
            let bytes = part.len().min(left);
            target.extend_from_slice(&part[..bytes]);
            left -= bytes;
        }
        self.push(state);
        Poll::Ready(Ok(total))
    }

    /// Ready at once, or with the error that met earlier output: the kernel takes what was written without more ado.
    pub(super) fn poll_flush(&self) -> Poll<io::Result<()>> {
        let state = self.state.borrow();
        Poll::Ready(
            state
                .send_error
                .map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno))),
        )
    }

    /// Waits until all output is with the kernel, then ends our direction.
    pub(super) fn poll_shutdown(&self, context: &Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.state.borrow_mut();
        if let Some(errno) = state.send_error {
            return Poll::Ready(Err(io::Error::from_raw_os_error(errno)));
        }
        if state.sending {
            remember(&mut state.writer, context);
            return Poll::Pending;
        }
        if !state.write_shut {
            state.write_shut = true;
            self.shut(libc::SHUT_WR);
        }
        Poll::Ready(Ok(()))
    }

    fn write_error(&self, state: &State) -> Option<io::Error> {
        if let Some(errno) = state.send_error {
            return Some(io::Error::from_raw_os_error(errno));
        }
        (state.write_shut || state.closing == Closing::Over || self.driver.is_closed())
            .then(|| io::ErrorKind::BrokenPipe.into())
    }

    /// Breaks the connection off: the peer sees a reset, unsent output is discarded.
    pub(super) fn abort(&self) {
        let state = &mut *self.state.borrow_mut();
        // With a zero linger time the close discards what the kernel still holds, so a peer that never reads
        // cannot keep kernel memory.
        let at_once = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        let _ = nix::sys::socket::setsockopt(&self.fd, nix::sys::socket::sockopt::Linger, &at_once);
        self.end_now(state);
        for waker in [state.reader.take(), state.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    /// The owner lets go.
    pub(super) fn release(self: &Rc<Self>) {
        let state = &mut *self.state.borrow_mut();
        state.reader = None;
        state.writer = None;
        self.discard_unread(state);
        if state.closing == Closing::Over {
            return;
        }
        let output_owed = state.sending && state.send_error.is_none();
        let peer_open = state.receiving != Receiving::Ended;
        if self.driver.is_closed() || !(output_owed || state.write_shut) || !(output_owed || peer_open) {
            self.end_now(state);
            return;
        }
        state.closing = Closing::Lingering;
        self.driver
            .linger(self, Instant::now() + Duration::from_millis(LINGER_MS_MAX));
        self.settle(state);
    }

    fn discard_unread(&self, state: &mut State) {
        for piece in state.pieces.drain(..) {
            if let Piece::Provided { id, .. } = piece {
                self.driver.give_back(id);
            }
        }
        state.unread_bytes = 0;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        figures::subtract(&self.driver.figures().sockets_now, 1);
    }
}

/// Keeps the waker of the task that waits.
fn remember(slot: &mut Option<Waker>, context: &Context<'_>) {
    if !slot.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
        *slot = Some(context.waker().clone());
    }
}
