//! The threads of a node: how each starts, beats, and ends.

use super::services::Services;
use super::{NodeError, open, upkeep::Upkeep};
use crate::admin::{Admin, Channel};
use crate::base::Clock;
use crate::config::Config;
use crate::http::{Door, Handler, Limits, Request, Shutdown, TlsShared, serve};
use crate::log::{Log, Opened, Peering};
use crate::ring::reactor;
use crate::ring::socket::{Listener, RingFigures, figures};
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// How often a thread shows that it turns.
const BEAT_MS: u64 = 250;
/// The journal's task must have turned within this while records wait, or the log's thread stops beating.
const JOURNAL_STUCK_MS: u64 = 5_000;

/// A thread with a name and an end that can fail.
pub(super) struct Thread {
    name: String,
    handle: std::thread::JoinHandle<io::Result<()>>,
}

impl Thread {
    pub(super) fn spawn(
        name: &str,
        body: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> Result<Thread, NodeError> {
        let thread = name.to_owned();
        let handle = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let ended = body();
                if let Err(cause) = &ended {
                    // A node without one of its threads is no node: it stops in good order and its supervisor starts it.
                    tracing::error!(thread, %cause, "a thread ended early; the node stops");
                    let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGTERM);
                }
                ended
            })
            .map_err(|cause| NodeError::Thread {
                thread: name.to_owned(),
                cause,
            })?;
        Ok(Thread {
            name: name.to_owned(),
            handle,
        })
    }

    /// Waits for its end. A panic ends the whole process, so there is none to report.
    pub(super) fn join(self) -> Result<(), NodeError> {
        let ended = self
            .handle
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("ended by a panic")));
        ended.map_err(|cause| NodeError::Thread {
            thread: self.name,
            cause,
        })
    }
}

/// Shows at every beat that the current thread turns.
fn beat(turns: Arc<AtomicU64>) {
    tokio::task::spawn_local(async move {
        loop {
            turns.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(BEAT_MS)).await;
        }
    });
}

/// The log's thread; it lives until the log is closed.
pub(super) struct LogThread {
    thread: Thread,
    end: tokio::sync::oneshot::Sender<()>,
}

impl LogThread {
    /// Closes the log, then ends the thread.
    pub(super) fn close(self, log: &Log) -> Result<(), NodeError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(log.close());
        let _ = self.end.send(());
        self.thread.join()
    }
}

/// Starts the log's thread and waits until the log is open.
pub(super) fn open_log(
    config: Arc<Config>,
    clock: Clock,
    peering: Option<Peering>,
    turns: Arc<AtomicU64>,
) -> Result<(Opened, LogThread), NodeError> {
    let (tell, told) = mpsc::channel();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let thread = Thread::spawn("log", move || {
        let runtime = reactor::runtime()?;
        runtime.block_on(async move {
            match open(&config, clock, peering).await {
                Ok(opened) => {
                    beat_with_journal(turns, opened.journal.clone());
                    let _ = tell.send(Ok(opened));
                    // An error means that the node is gone, which ends the thread as well.
                    let _ = ended.await;
                }
                Err(cause) => {
                    let _ = tell.send(Err(cause));
                }
            }
        });
        Ok(())
    })?;
    match told.recv() {
        Ok(Ok(opened)) => Ok((opened, LogThread { thread, end })),
        Ok(Err(cause)) => Err(cause.into()),
        Err(mpsc::RecvError) => {
            thread.join()?;
            Err(NodeError::Thread {
                thread: "log".to_owned(),
                cause: io::Error::other("ended before the log was open"),
            })
        }
    }
}

/// As [`beat`], but only while the journal's task turns or has nothing to do.
fn beat_with_journal(turns: Arc<AtomicU64>, journal: crate::journal::Journal) {
    tokio::task::spawn_local(async move {
        loop {
            let stats = journal.stats();
            if stats.queue_records == 0 || stats.idle_ms < JOURNAL_STUCK_MS {
                turns.fetch_add(1, Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(BEAT_MS)).await;
        }
    });
}

/// What a reactor serves.
pub(super) struct Serving {
    pub listener: TcpListener,
    pub tls: Arc<TlsShared>,
    pub door: Arc<Door>,
    pub services: Services,
    pub shutdown: Shutdown,
}

/// Starts a reactor; returns once it accepts.
fn reactor(
    name: &str,
    turns: Arc<AtomicU64>,
    serving: Serving,
) -> Result<(Thread, Option<Arc<RingFigures>>), NodeError> {
    let (tell, told) = mpsc::channel();
    let thread = Thread::spawn(name, move || {
        let runtime = reactor::runtime()?;
        runtime.block_on(async move {
            beat(turns);
            let listener = Listener::new(serving.listener)?;
            let _ = tell.send(figures());
            let services = Rc::new(serving.services);
            let handler: Handler = Rc::new(move |request: Request| {
                let services = Rc::clone(&services);
                Box::pin(async move { services.handle(request).await })
            });
            serve(listener, Some(serving.tls), serving.door, handler, serving.shutdown).await
        })
    })?;
    match told.recv() {
        Ok(figures) => Ok((thread, figures)),
        Err(mpsc::RecvError) => {
            let name = thread.name.clone();
            thread.join()?;
            Err(NodeError::Thread {
                thread: name,
                cause: io::Error::other("ended before it served"),
            })
        }
    }
}

/// What `figures` shows of each reactor's ring.
pub(super) type Rings = Vec<(String, Option<Arc<RingFigures>>)>;

/// Starts a reactor for each listener; `serving` says what it serves.
pub(super) fn reactors(
    listeners: Vec<TcpListener>,
    beats: &[(String, Arc<AtomicU64>)],
    serving: impl Fn(TcpListener) -> Serving,
) -> Result<(Vec<Thread>, Rings), NodeError> {
    let (mut threads, mut rings) = (Vec::new(), Rings::new());
    for (listener, (name, beat)) in listeners.into_iter().zip(beats) {
        let (thread, figures) = reactor(name, beat.clone(), serving(listener))?;
        rings.push((name.clone(), figures));
        threads.push(thread);
    }
    Ok((threads, rings))
}

/// A cluster of one has no peers: whoever calls on their port is let go at once, not left waiting.
fn refuse_peers(listeners: Vec<TcpListener>) -> io::Result<()> {
    for listener in listeners {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tokio::task::spawn_local(async move {
            loop {
                if let Err(cause) = listener.accept().await {
                    tracing::debug!(%cause, "a caller on the peers' port was lost before it was let go");
                    tokio::time::sleep(Duration::from_millis(BEAT_MS)).await;
                }
            }
        });
    }
    Ok(())
}

/// Starts the operator's thread: the loopback and Unix doors, the peers' port, and upkeep.
pub(super) fn operator(
    (loopback, socket, peers): (TcpListener, UnixListener, Vec<TcpListener>),
    admin: Admin,
    upkeep: Upkeep,
    shutdown: Shutdown,
) -> Result<Thread, NodeError> {
    Thread::spawn("operator", move || {
        let runtime = reactor::runtime()?;
        runtime.block_on(async move {
            upkeep.start();
            refuse_peers(peers)?;
            let admin = Rc::new(admin);
            let door = Door::new(Limits::default(), None);
            let handler = |channel: Channel| -> Handler {
                let admin = Rc::clone(&admin);
                Rc::new(move |request: Request| {
                    let admin = Rc::clone(&admin);
                    Box::pin(async move { admin.handle(channel, request).await })
                })
            };
            let loopback = serve(
                Listener::new(loopback)?,
                None,
                door.clone(),
                handler(Channel::Loopback),
                shutdown.clone(),
            );
            let socket = serve(Listener::unix(socket)?, None, door, handler(Channel::Socket), shutdown);
            let (first, second) = tokio::join!(loopback, socket);
            first.and(second)
        })
    })
}

/// What an operating system signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
}

/// Blocks the three signals in this thread, so in all that it starts, and hands them over from one that waits for them.
pub(super) fn signals() -> io::Result<mpsc::Receiver<Signal>> {
    use nix::sys::signal::{SigSet, Signal as Number};
    crate::systemd::block_signals()?;
    let set = SigSet::from_iter([Number::SIGTERM, Number::SIGINT, Number::SIGHUP]);
    let (tell, receiver) = mpsc::channel();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        while let Ok(number) = set.wait() {
            let asked = if number == Number::SIGHUP {
                Signal::Reload
            } else {
                Signal::Stop
            };
            if tell.send(asked).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// Waits until a stop is asked for; carries out reloads meanwhile.
pub(super) fn wait_for_stop(asked: &mpsc::Receiver<Signal>, mut reload: impl FnMut()) {
    loop {
        match asked.recv() {
            Ok(Signal::Reload) => reload(),
            Ok(Signal::Stop) | Err(mpsc::RecvError) => return,
        }
    }
}
