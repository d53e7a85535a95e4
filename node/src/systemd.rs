//! What the node says to systemd and takes from it: readiness, watchdog, sockets, and the rights it gives up.
//!
//! Owns: the notification protocol, the watchdog's judgement, the drop of privileges, log output. Must never know: what
//! the threads do. Invariant: the watchdog is fed by the liveness of reactors and journal alone, so that a full disk or
//! a lost majority never becomes a restart loop; without systemd every call here does nothing and succeeds.

mod logging;
mod privileges;
#[cfg(test)]
mod tests;

pub use logging::{Format, LoggingError, lines_dropped, start_logging};
pub use privileges::{PrivilegeError, drop_privileges};

use sd_notify::NotifyState;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Blocks SIGTERM, SIGINT and SIGHUP in this thread and in all that it starts, so that they wait for the one thread that
/// takes them. Call it before any thread starts: one thread that does not block them would end the process.
pub fn block_signals() -> io::Result<()> {
    use nix::sys::signal::{SigSet, Signal};
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        set.add(signal);
    }
    Ok(set.thread_block()?)
}

/// Sends to systemd; a failure is logged and changes nothing: the service runs all the same.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(cause) = sd_notify::notify(states) {
        tracing::warn!(%cause, "systemd did not take a notification");
    }
}

/// The node serves; `status` is what `systemctl status` shows.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Configuration or certificates are being read again; follow with [`ready`].
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(cause) => tracing::warn!(%cause, "no monotonic clock: systemd is not told of the reload"),
    }
}

/// The node has begun to stop.
pub fn stopping() {
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("finishing requests, then a checkpoint"),
    ]);
}

/// What `systemctl status` shows from now on.
pub fn status(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

/// Asks systemd for more time before the start or stop counts as failed.
pub fn extend_timeout(by: Duration) {
    tell(&[NotifyState::ExtendTimeoutUsec(
        u32::try_from(by.as_micros()).unwrap_or(u32::MAX),
    )]);
}

/// Name of the front door's sockets: `FileDescriptorName=` of their unit.
pub const HTTP: &str = "http";
/// Name of the peers' sockets.
pub const PEER: &str = "peer";
/// Name of a front door's socket that the node bound itself and left in systemd's store.
const HTTP_OWN: &str = "http-own";

/// The listening TCP sockets that systemd passed in.
#[derive(Debug, Default)]
pub struct Passed {
    /// The front door's, in the order of the unit's `ListenStream=` lines.
    pub http: Vec<TcpListener>,
    /// The peers'.
    pub peer: Vec<TcpListener>,
    /// The front door's of the process before this one, which had bound it itself.
    pub http_own: Option<TcpListener>,
}

/// The sockets passed in by socket activation and from the descriptor store, told apart by their names; none without
/// systemd. Call once, before any thread starts.
///
/// # Errors
/// A name that is neither [`HTTP`] nor [`PEER`], or a descriptor that is no listening TCP socket.
pub fn listen_sockets() -> io::Result<Passed> {
    let mut passed = Passed::default();
    for (fd, name) in sd_notify::listen_fds_with_names()? {
        let listener = systemd::daemon::tcp_listener(fd).map_err(|e| io::Error::other(e.to_string()))?;
        listener.set_nonblocking(true)?;
        passed.take(listener, &name)?;
    }
    Ok(passed)
}

impl Passed {
    fn take(&mut self, listener: TcpListener, name: &str) -> io::Result<()> {
        match name {
            HTTP => self.http.push(listener),
            PEER => self.peer.push(listener),
            HTTP_OWN => self.http_own = Some(listener),
            _ => {
                let what = format!(
                    "systemd passed a socket named {name:?}; write FileDescriptorName={HTTP} or {PEER} into its unit"
                );
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
        }
        Ok(())
    }
}

/// Whether systemd started this process and listens to it.
pub fn is_supervised() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Leaves the front door's socket, which the node bound itself, with systemd: it goes on taking connections until the
/// next process serves them. A manager that keeps no descriptors (`FileDescriptorStoreMax=0`) drops it.
pub fn keep_socket(listener: &TcpListener) {
    store(systemd::daemon::STATE_FDSTORE, &[listener.as_raw_fd()]);
}

/// Takes the kept socket back out of the store: the configuration names another address now.
pub fn forget_socket() {
    store(systemd::daemon::STATE_FDSTOREREMOVE, &[]);
}

fn store(what: &'static str, sockets: &[RawFd]) {
    let states = [(what, "1"), (systemd::daemon::STATE_FDNAME, HTTP_OWN)];
    if let Err(cause) = systemd::daemon::pid_notify_with_fds(0, states.iter(), sockets) {
        tracing::warn!(%cause, "systemd's store did not take a listening socket; a restart may refuse connections");
    }
}

/// One watched thread.
#[derive(Debug)]
struct Beat {
    turns: Arc<AtomicU64>,
    seen: u64,
    since: Instant,
}

/// Judges whether every watched thread still turns, and feeds systemd while they do.
///
/// Each thread adds one to its counter at least once a second (a timer on its own runtime). A counter that did not
/// change for the patience means a stuck thread: systemd is no longer fed and restarts the node when its
/// `WatchdogSec=` is over.
#[derive(Debug)]
pub struct Watchdog {
    beats: Vec<Beat>,
    patience: Duration,
    interval: Duration,
    alive: Arc<AtomicBool>,
}

/// How long a thread may stand still where systemd sets no `WatchdogSec=`.
pub const PATIENCE_DEFAULT: Duration = Duration::from_secs(10);

impl Watchdog {
    /// Watches `beats`. The patience is half of systemd's `WatchdogSec=`, at most [`PATIENCE_DEFAULT`].
    pub fn new(beats: Vec<Arc<AtomicU64>>) -> Watchdog {
        let patience = sd_notify::watchdog_enabled().map_or(PATIENCE_DEFAULT, |w| (w / 2).min(PATIENCE_DEFAULT));
        Watchdog::with_patience(beats, patience, Instant::now())
    }

    /// As [`new`](Self::new) with a patience of one's own, starting at `now`.
    pub fn with_patience(beats: Vec<Arc<AtomicU64>>, patience: Duration, now: Instant) -> Watchdog {
        let beats = beats
            .into_iter()
            .map(|turns| Beat {
                seen: turns.load(Ordering::Relaxed),
                turns,
                since: now,
            })
            .collect();
        Watchdog {
            beats,
            patience,
            interval: patience / 4,
            alive: Arc::new(AtomicBool::new(true)),
        }
    }

    /// Whether all threads turned at the last look; for `/health/live`.
    pub fn alive(&self) -> Arc<AtomicBool> {
        self.alive.clone()
    }

    /// Looks at every counter; gives the numbers of the threads that have stood still for longer than the patience.
    pub fn look(&mut self, now: Instant) -> Vec<usize> {
        let mut stuck = Vec::new();
        for (n, beat) in self.beats.iter_mut().enumerate() {
            let turns = beat.turns.load(Ordering::Relaxed);
            if turns != beat.seen {
                beat.seen = turns;
                beat.since = now;
            } else if now.saturating_duration_since(beat.since) > self.patience {
                stuck.push(n);
            }
        }
        self.alive.store(stuck.is_empty(), Ordering::Relaxed);
        stuck
    }

    /// Looks and feeds until `stop`; blocking, on a thread of its own so that no reactor's trouble can hide itself.
    pub fn run(mut self, stop: &std::sync::mpsc::Receiver<()>) {
        loop {
            let stuck = self.look(Instant::now());
            if stuck.is_empty() {
                tell(&[NotifyState::Watchdog]);
            } else {
                tracing::error!(threads = ?stuck, "threads stand still; systemd is not fed");
            }
            match stop.recv_timeout(self.interval) {
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}
