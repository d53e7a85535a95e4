//! One reactor's side of a front door: accept, carry, sweep, and end in good order.

use super::connection::{Shared, carry};
use super::pulse::{Pulse, Verdict};
use super::{Door, Handler, TlsShared};
use crate::ring::socket::{Listener, Socket};
use slab::Slab;
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// Triggers a graceful shutdown of every `serve` that holds its [`Shutdown`]. Dropping it triggers too.
#[derive(Debug)]
pub struct ShutdownTrigger {
    sender: watch::Sender<bool>,
}

/// Tells when to shut down; clone one for each reactor.
#[derive(Clone, Debug)]
pub struct Shutdown {
    receiver: watch::Receiver<bool>,
}

impl ShutdownTrigger {
    /// A trigger and what it triggers.
    pub fn new() -> (ShutdownTrigger, Shutdown) {
        let (sender, receiver) = watch::channel(false);
        (ShutdownTrigger { sender }, Shutdown { receiver })
    }

    /// Starts the shutdown.
    pub fn trigger(&self) {
        self.sender.send_replace(true);
    }
}

impl Shutdown {
    /// Waits for the trigger.
    pub async fn wait(&mut self) {
        // An error means that the trigger is gone, which counts as triggered.
        let _ = self.receiver.wait_for(|triggered| *triggered).await;
    }
}

/// The open connections of one reactor and listener.
pub(super) struct Registry {
    pulses: RefCell<Slab<Rc<Pulse>>>,
    tasks: RefCell<usize>,
    ended: Notify,
    draining: std::cell::Cell<bool>,
}

/// A connection's place in the registry, until it is dropped.
pub(super) struct Entry {
    registry: Rc<Registry>,
    key: usize,
}

impl Registry {
    fn new() -> Rc<Registry> {
        Rc::new(Registry {
            pulses: RefCell::default(),
            tasks: RefCell::default(),
            ended: Notify::new(),
            draining: std::cell::Cell::new(false),
        })
    }

    /// Has the sweeper look after a connection.
    pub(super) fn enter(self: &Rc<Self>, pulse: &Rc<Pulse>) -> Entry {
        if self.draining.get() {
            pulse.drain();
        }
        Entry {
            registry: Rc::clone(self),
            key: self.pulses.borrow_mut().insert(Rc::clone(pulse)),
        }
    }

    fn for_each(&self, act: impl Fn(&Pulse)) {
        for (_, pulse) in &*self.pulses.borrow() {
            act(pulse);
        }
    }

    fn drain(&self) {
        self.draining.set(true);
        self.for_each(Pulse::drain);
    }

    async fn all_ended(&self) {
        loop {
            let ended = self.ended.notified();
            if *self.tasks.borrow() == 0 {
                return;
            }
            ended.await;
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.registry.pulses.borrow_mut().remove(self.key);
    }
}

/// Counts a connection's task.
struct Task(Rc<Registry>);

impl Task {
    fn new(registry: &Rc<Registry>) -> Task {
        *registry.tasks.borrow_mut() += 1;
        Task(Rc::clone(registry))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        *self.0.tasks.borrow_mut() -= 1;
        self.0.ended.notify_waiters();
    }
}

/// Ends a task with its owner.
struct Aborting(tokio::task::JoinHandle<()>);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Serves a listener on this reactor until `shutdown`: plain HTTP/1.1 without `tls`, else HTTP/1.1 or HTTP/2 as the
/// client chooses. Then it accepts no more, lets running requests and those of clients that were let in finish, and
/// returns at the latest after `limits.shutdown_ms_max`. Run it as a local task on each reactor, inside a `LocalSet`.
///
/// # Errors
/// Only when the listening descriptor fails for good.
pub async fn serve(
    listener: Listener,
    tls: Option<Arc<TlsShared>>,
    door: Arc<Door>,
    handler: Handler,
    mut shutdown: Shutdown,
) -> io::Result<()> {
    let registry = Registry::new();
    let shared = Rc::new(Shared {
        door: Arc::clone(&door),
        tls,
        handler,
        registry: Rc::clone(&registry),
    });
    let _sweeper = Aborting(tokio::task::spawn_local(sweep(Arc::clone(&door), Rc::clone(&registry))));
    let failed = loop {
        tokio::select! {
            biased;
            () = shutdown.wait() => break None,
            accepted = listener.accept() => match accepted {
                Ok((socket, address)) => admit(&shared, socket, address),
                Err(error) => break Some(error),
            },
        }
    };
    // The ring accepts ahead. Those clients were let in, so they are served; who comes later waits for the successor.
    listener.finish();
    while let Some((socket, address)) = listener.rest().await {
        admit(&shared, socket, address);
    }
    drop(listener);
    registry.drain();
    let patience = Duration::from_millis(door.limits().shutdown_ms_max);
    if tokio::time::timeout(patience, registry.all_ended()).await.is_err() {
        registry.for_each(|pulse| pulse.condemn(Verdict::Shutdown));
        let at_once = Duration::from_millis(door.limits().handshake_ms_max);
        let _ = tokio::time::timeout(at_once, registry.all_ended()).await;
    }
    failed.map_or(Ok(()), Err)
}

/// Carries a connection on a task of its own, where the limits allow it.
fn admit(shared: &Rc<Shared>, mut socket: Socket, address: SocketAddr) {
    let Some(permit) = shared.door.admit_connection(address.ip()) else {
        socket.aborter().abort();
        return;
    };
    // Until the descriptor is closed, not only until the connection is done with.
    socket.hold(Box::new(permit));
    let task = Task::new(&shared.registry);
    let shared = Rc::clone(shared);
    tokio::task::spawn_local(async move {
        let _task = task;
        carry(shared, socket, address).await;
    });
}

/// Looks at every connection's deadlines, again and again.
async fn sweep(door: Arc<Door>, registry: Rc<Registry>) {
    let interval = door.limits().sweep_interval();
    loop {
        tokio::time::sleep(interval).await;
        let now = Instant::now();
        registry.for_each(|pulse| pulse.sweep(door.limits(), now));
    }
}
