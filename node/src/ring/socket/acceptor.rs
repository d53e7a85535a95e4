//! A listening descriptor on the ring: one multishot accept, and the connections it has brought.
//!
//! Invariant: running out of descriptors or memory pauses accepting, it never ends it.

use super::driver::{Completion, Driver};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Accepted connections that nobody has asked for, at which accepting stops; the kernel's own queue holds the rest.
const ACCEPTED_MAX: usize = 256;
/// Accepted connections below which accepting starts again.
const ACCEPTED_RESUME: usize = 64;

/// Idle → Armed → (Stopping | Paused | Failed) → Idle → …; from each of them → Ending → Ended; `Closed` is the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    Idle,
    Armed(usize),
    /// Cancelled because too many wait.
    Stopping,
    /// Out of descriptors or memory: the driver resumes it.
    Paused,
    /// The descriptor cannot accept: an errno.
    Failed(i32),
    /// Cancelled for good; what the kernel accepted before it saw that is still on its way.
    Ending,
    /// Nothing more comes.
    Ended,
    /// The listener was dropped.
    Closed,
}

struct State {
    accepting: Accepting,
    accepted: VecDeque<OwnedFd>,
    waker: Option<Waker>,
}

/// A listening descriptor on the ring.
pub(super) struct Acceptor {
    fd: OwnedFd,
    driver: Rc<Driver>,
    state: RefCell<State>,
}

impl Acceptor {
    /// Takes over a listening, blocking descriptor and starts to accept.
    pub(super) fn start(driver: Rc<Driver>, fd: OwnedFd) -> Rc<Acceptor> {
        let acceptor = Rc::new(Acceptor {
            fd,
            driver,
            state: RefCell::new(State {
                accepting: Accepting::Idle,
                accepted: VecDeque::new(),
                waker: None,
            }),
        });
        acceptor.settle(&mut acceptor.state.borrow_mut());
        acceptor
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    pub(super) fn driver(&self) -> &Rc<Driver> {
        &self.driver
    }

    fn settle(self: &Rc<Self>, state: &mut State) {
        if self.driver.is_closed() {
            return;
        }
        match state.accepting {
            Accepting::Idle if state.accepted.len() < ACCEPTED_RESUME => {
                state.accepting = Accepting::Armed(self.driver.accept(self));
            }
            Accepting::Armed(key) if state.accepted.len() >= ACCEPTED_MAX => {
                self.driver.cancel(key);
                state.accepting = Accepting::Stopping;
            }
            Accepting::Idle
            | Accepting::Armed(_)
            | Accepting::Stopping
            | Accepting::Paused
            | Accepting::Failed(_)
            | Accepting::Ending
            | Accepting::Ended
            | Accepting::Closed => {}
        }
    }

    /// An accept completed.
    pub(super) fn accepted(self: &Rc<Self>, completion: Completion) {
        let state = &mut *self.state.borrow_mut();
        let closed = state.accepting == Accepting::Closed;
        if completion.result >= 0 {
            // SAFETY: a successful accept hands over a new descriptor that nothing else owns.
            let fd = unsafe { OwnedFd::from_raw_fd(completion.result) };
            if !closed {
                state.accepted.push_back(fd);
            }
        }
        if closed {
            return;
        }
        if !completion.more && state.accepting == Accepting::Ending {
            state.accepting = Accepting::Ended;
        } else if !completion.more {
            state.accepting = Accepting::Idle;
            match -completion.result {
                libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => {
                    state.accepting = Accepting::Paused;
                    if !self.driver.is_closed() {
                        self.driver.pause(Rc::clone(self));
                    }
                }
                errno @ (libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP | libc::EFAULT) => {
                    state.accepting = Accepting::Failed(errno);
                }
                // The others concern the one connection, or are a cancel: go on.
                _ => {}
            }
        }
        self.settle(state);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// The pause is over.
    pub(super) fn resume(self: &Rc<Self>) {
        let state = &mut *self.state.borrow_mut();
        if state.accepting == Accepting::Paused {
            state.accepting = Accepting::Idle;
            self.settle(state);
        }
    }

    /// The next connection's descriptor.
    pub(super) fn poll_accept(self: &Rc<Self>, context: &Context<'_>) -> Poll<io::Result<OwnedFd>> {
        let state = &mut *self.state.borrow_mut();
        if let Some(fd) = state.accepted.pop_front() {
            self.settle(state);
            return Poll::Ready(Ok(fd));
        }
        if let Accepting::Failed(errno) = state.accepting {
            return Poll::Ready(Err(io::Error::from_raw_os_error(errno)));
        }
        if self.driver.is_closed() {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Stops accepting for good; what was accepted is still given out by [`poll_rest`](Self::poll_rest).
    pub(super) fn finish(&self) {
        let state = &mut *self.state.borrow_mut();
        state.accepting = match state.accepting {
            Accepting::Armed(key) => {
                self.driver.cancel(key);
                Accepting::Ending
            }
            Accepting::Stopping | Accepting::Ending => Accepting::Ending,
            Accepting::Idle | Accepting::Paused | Accepting::Failed(_) | Accepting::Ended => Accepting::Ended,
            Accepting::Closed => Accepting::Closed,
        };
    }

    /// The next of the connections that were accepted before [`finish`](Self::finish); `None` after the last.
    pub(super) fn poll_rest(&self, context: &Context<'_>) -> Poll<Option<OwnedFd>> {
        let state = &mut *self.state.borrow_mut();
        if let Some(fd) = state.accepted.pop_front() {
            return Poll::Ready(Some(fd));
        }
        if state.accepting != Accepting::Ending || self.driver.is_closed() {
            return Poll::Ready(None);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Stops accepting for good; connections that nobody asked for are closed.
    pub(super) fn close(&self) {
        let state = &mut *self.state.borrow_mut();
        if let Accepting::Armed(key) = state.accepting
            && !self.driver.is_closed()
        {
            self.driver.cancel(key);
        }
        state.accepting = Accepting::Closed;
        state.accepted.clear();
        state.waker = None;
    }
}
