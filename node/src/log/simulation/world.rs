//! The simulated machines: each a disk that fails, a folder for the ledger, a clock, and while it runs a process with the
//! real storage, state machine, keeper and openraft.
//!
//! The journal's bytes are on the simulated disk, where what was not synced is lost, torn or landed. The ledger is LMDB in a
//! folder of memory: a checkpoint is there or not, at any moment at which a process can end.

use super::super::keeper::Keeper;
use super::super::level;
use super::super::machine::Machine;
use super::super::open::{open_parts_on, raft_config};
use super::super::snapshot::Snapshots;
use super::super::store::{LogStore, Store};
use super::super::types::{Member, TypeConfig, Vote};
use super::super::{LogConfig, OpenError, Shared};
use super::network::{Links, SimNetwork};
use super::runtime::Process;
use super::state::{self, Seen, Told};
use crate::base::Clock;
use crate::base::blocking::simulated;
use crate::journal::{self, OpenError as JournalError, Replay, Stream, Watermarks};
use crate::journal::{Dice, Failing, SimDisk};
use openraft::async_runtime::WatchReceiver as _;
use openraft::type_config::TypeConfigExt as _;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub type Raft = openraft::Raft<TypeConfig, Machine>;

const MAP_BYTES: u64 = 64 * 1024 * 1024;
pub const FREE_BYTES: u64 = 1 << 40;

/// What others need of a process. Never kept over a wait: it holds the ledger open.
#[derive(Clone)]
pub struct Running {
    pub process: Rc<Process>,
    pub raft: Raft,
    pub store: Arc<Store>,
    pub snapshots: Arc<Snapshots>,
    pub seen: Arc<super::super::machine::Seen>,
}

/// One machine.
pub struct Node {
    pub member: Member,
    pub disk: SimDisk,
    folder: PathBuf,
    pub running: Option<Running>,
    /// Starts, ends or waits to be started again.
    pub busy: bool,
    /// Its clock less the virtual time, ms.
    pub clock_ms: u64,
    /// Longest time of a disk operation, µs.
    pub slow_us: usize,
    /// A bit of its journal was flipped.
    pub damaged: bool,
    /// Never starts again.
    pub gone: bool,
    /// The highest vote that others were told of.
    pub promised: Option<Vote>,
}

/// Everything.
pub struct World {
    pub dice: RefCell<Dice>,
    pub nodes: RefCell<BTreeMap<u64, Node>>,
    pub links: RefCell<Links>,
    pub seen: Seen,
    pub told: RefCell<Vec<Told>>,
    pub stop: Cell<bool>,
    broken: RefCell<Option<String>>,
    folder: PathBuf,
}

/// Goes with the world.
impl Drop for World {
    fn drop(&mut self) {
        simulated::set(None);
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

fn scratch() -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let memory = PathBuf::from("/dev/shm");
    let base = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    base.join(format!("vertebra-simulation-{}-{next}", std::process::id()))
}

impl World {
    pub fn new(seed: u64) -> Rc<World> {
        let world = Rc::new(World {
            dice: RefCell::new(Dice::new(seed)),
            nodes: RefCell::default(),
            links: RefCell::default(),
            seen: Seen::default(),
            told: RefCell::default(),
            stop: Cell::new(false),
            broken: RefCell::default(),
            folder: scratch(),
        });
        let pool = Rc::downgrade(&world);
        simulated::set(Some(Rc::new(move || {
            let us = pool.upgrade().map_or(0, |world| world.below(4_000));
            Box::pin(sleep(us))
        })));
        world
    }

    pub fn below(&self, end: usize) -> usize {
        self.dice.borrow_mut().below(end)
    }

    pub fn one_in(&self, n: usize) -> bool {
        self.dice.borrow_mut().one_in(n)
    }

    /// One of them by chance.
    pub fn choose<T: Copy>(&self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.below(from.len())])
    }

    pub fn now_ms(&self) -> u64 {
        TypeConfig::now().virtual_time().as_millis() as u64
    }

    /// Notes what was broken; the first counts.
    pub fn fail(&self, what: String) {
        self.broken.borrow_mut().get_or_insert(what);
    }

    pub fn broken(&self) -> Option<String> {
        self.broken.borrow().clone().or_else(|| self.seen.broken())
    }

    pub fn running(&self, id: u64) -> Option<Running> {
        self.nodes.borrow().get(&id)?.running.clone()
    }

    /// Machines whose processes run.
    pub fn up(&self) -> Vec<u64> {
        let nodes = self.nodes.borrow();
        nodes
            .iter()
            .filter(|(_, node)| node.running.is_some())
            .map(|(id, _)| *id)
            .collect()
    }

    /// Who takes itself for the leader.
    pub fn leaders(&self) -> Vec<u64> {
        let nodes = self.nodes.borrow();
        let running = nodes
            .iter()
            .filter_map(|(id, node)| Some((*id, node.running.as_ref()?)));
        running
            .filter(|(_, running)| running.raft.is_leader())
            .map(|(id, _)| id)
            .collect()
    }

    /// A new machine with an empty disk. Numbers are never used again.
    pub fn add(self: &Rc<World>, site: &str) -> u64 {
        let mut nodes = self.nodes.borrow_mut();
        let id = nodes.len() as u64 + 1;
        let member = Member {
            name: format!("n{id}"),
            site: site.to_owned(),
            address: format!("n{id}:1"),
            incarnation: u128::from(id),
        };
        let disk = SimDisk::new(self.dice.borrow_mut().bits());
        nodes.insert(
            id,
            Node {
                member,
                disk: disk.clone(),
                folder: self.folder.join(format!("n{id}")),
                running: None,
                busy: false,
                clock_ms: 1_700_000_000_000,
                slow_us: 400,
                damaged: false,
                gone: false,
                promised: None,
            },
        );
        drop(nodes);
        drop(TypeConfig::spawn(self.clone().move_disk(id, disk)));
        id
    }

    /// Moves a disk on, one thing at a time, and ends a process whose disk has failed.
    async fn move_disk(self: Rc<World>, id: u64, disk: SimDisk) {
        let mut before = TypeConfig::now();
        loop {
            let busy = std::future::poll_fn(|cx| disk.poll_busy(cx));
            let busy = TypeConfig::timeout(Duration::from_millis(100), busy).await.is_ok();
            if busy {
                let slow_us = self.nodes.borrow().get(&id).map_or(1, |node| node.slow_us);
                let us = 20 + self.below(slow_us);
                sleep(us).await;
            }
            let now = TypeConfig::now();
            disk.pass_us((now - before).as_micros() as u64);
            before = now;
            disk.step();
            if disk.dead().is_some() {
                self.crash(id, false);
            }
        }
    }

    /// Starts a process. An error is a broken promise; a journal that says it is corrupt takes a damaged machine away.
    pub async fn start(self: &Rc<World>, id: u64, found: Option<BTreeMap<u64, Member>>) {
        let disk = self.nodes.borrow()[&id].disk.clone();
        disk.set_failing(Failing::default());
        for _ in 0..3 {
            let cut = self.one_in(4).then(|| self.below(10));
            disk.cut_power_after(cut);
            let process = Rc::new(Process::default());
            let opened = process
                .run(open(self.clone(), process.clone(), id, found.clone()))
                .await;
            if opened.is_some() {
                disk.cut_power_after(None);
            }
            match opened {
                Some(Ok(running)) => {
                    self.hold_to_promise(id, &running);
                    let mut nodes = self.nodes.borrow_mut();
                    let node = nodes.get_mut(&id).expect("machines stay");
                    node.running = Some(running);
                    return;
                }
                Some(Err(error)) => {
                    process.end();
                    match error {
                        OpenError::Journal(JournalError::Io(_)) if cut.is_some() => disk.cut_power(),
                        // Found as the journal is opened, or as Raft reads the log behind its state.
                        OpenError::Journal(JournalError::Corrupt { .. }) | OpenError::Raft(_)
                            if self.nodes.borrow()[&id].damaged =>
                        {
                            self.nodes.borrow_mut().get_mut(&id).expect("machines stay").gone = true;
                            return;
                        }
                        error => return self.fail(format!("node {id} does not open: {error}")),
                    }
                }
                None => {
                    let why = process.panicked().unwrap_or_default();
                    process.end();
                    return self.fail(format!("node {id} panicked as it opened: {why}"));
                }
            }
        }
        // The power went again and again; whoever starts it tries once more.
    }

    /// A vote that others were told of is there after every restart.
    fn hold_to_promise(&self, id: u64, running: &Running) {
        let promised = self.nodes.borrow()[&id].promised;
        let (found, promised) = (running.store.vote(), promised.filter(|vote| vote.leader_id.term > 0));
        if promised.is_some_and(|promised| found.is_none_or(|found| !(found >= promised))) {
            self.fail(format!(
                "node {id} promised vote {promised:?} and came back with {found:?}"
            ));
        }
    }

    /// Ends a process where it stands: killed, or with its power.
    pub fn crash(&self, id: u64, power: bool) {
        let (running, disk) = {
            let mut nodes = self.nodes.borrow_mut();
            let node = nodes.get_mut(&id).expect("machines stay");
            (node.running.take(), node.disk.clone())
        };
        if let Some(running) = running {
            let process = running.process.clone();
            process.end();
            journal::abandon(&running.store.journal);
        }
        if power {
            disk.cut_power();
        } else {
            disk.kill();
        }
    }

    /// Looks at every process: one that panicked is a broken promise; one whose Raft stopped over its storage ends as the
    /// daemon would.
    pub fn look(&self) {
        for id in self.up() {
            let Some(running) = self.running(id) else { continue };
            if self.nodes.borrow()[&id].disk.dead().is_some() {
                // The daemon would have ended there and then.
                drop(running);
                self.crash(id, false);
                continue;
            }
            if let Some(why) = running.process.panicked() {
                self.fail(format!("node {id} panicked: {why}"));
            }
            let metrics = running.raft.metrics().borrow_watched().clone();
            let stopped = metrics.running_state;
            let membership = metrics.membership_config.membership();
            if membership.get_joint_config().len() == 1 {
                self.look_at_sites(&membership.voter_ids().collect());
            }
            drop(running);
            if let Err(why) = stopped {
                let damaged = self.nodes.borrow()[&id].damaged;
                if !damaged {
                    self.fail(format!("node {id} stopped: {why}"));
                }
                self.crash(id, false);
            }
        }
    }

    /// Of voters in two or more sites none holds a majority.
    fn look_at_sites(&self, voters: &BTreeSet<u64>) {
        let nodes = self.nodes.borrow();
        let mut sites: BTreeMap<&str, usize> = BTreeMap::new();
        for id in voters {
            *sites.entry(nodes[id].member.site.as_str()).or_default() += 1;
        }
        if sites.len() > 1
            && let Some((site, count)) = sites.iter().find(|(_, count)| **count > voters.len() / 2)
        {
            self.fail(format!("site {site} holds {count} of the voters {voters:?}"));
        }
    }

    /// Flips a bit in a block of a running node's log that later batches prove; a byte that is not zero, so that it counts.
    pub fn flip(&self, id: u64) {
        let Some(running) = self.running(id) else { return };
        let (segment, offset) = running.store.journal.watermarks().from[Stream::Log as usize];
        let mut nodes = self.nodes.borrow_mut();
        let node = nodes.get_mut(&id).expect("machines stay");
        let proved = |number: u32, bytes: usize| match number.cmp(&segment) {
            std::cmp::Ordering::Less => bytes,
            std::cmp::Ordering::Equal => offset.saturating_sub(journal::SIMULATED_BATCH_BYTES_MAX) as usize,
            std::cmp::Ordering::Greater => 0,
        };
        let mut places = Vec::new();
        for (segment, bytes) in node.disk.segments() {
            if segment.stream == Stream::Log as u8 {
                let end = proved(segment.number, bytes);
                let content = node.disk.bytes(segment);
                let used = (0..end).filter(|at| content[*at] != 0);
                places.extend(used.map(|at| (segment, at, content[at])));
            }
        }
        if let Some((segment, at, byte)) = self.choose(&places) {
            node.disk.overwrite(segment, at, &[byte ^ 1 << self.below(8)]);
            node.damaged = true;
        }
    }
}

pub fn sleep(us: usize) -> impl Future<Output = ()> {
    TypeConfig::sleep(Duration::from_micros(us as u64))
}

/// Opens a process's parts as the daemon does, in its order, and lets them run.
async fn open(
    world: Rc<World>,
    process: Rc<Process>,
    id: u64,
    found: Option<BTreeMap<u64, Member>>,
) -> Result<Running, OpenError> {
    let (disk, folder) = {
        let nodes = world.nodes.borrow();
        (nodes[&id].disk.clone(), nodes[&id].folder.clone())
    };
    let config = LogConfig {
        node: id,
        name: format!("n{id}"),
        site: String::new(),
        release: "simulated",
        folder,
        checkpoint_bytes: 8 * 1024,
        checkpoint_ms: 300 + world.below(700) as u64,
        queue_bytes_max: 1 << 20,
        propose_timeout_ms: 3_000,
        clock_jump_ms_max: 60_000,
        stale_ms_max: 60_000,
        reclaim_bytes_per_second: 1 << 20,
        level_of: |_| level::FIRST,
    };
    let fresh = u128::from(world.dice.borrow_mut().bits());
    let journal = async |watermarks: Watermarks, replay: Replay<'_>| {
        let opened = journal::open_simulated(&disk, id, fresh, watermarks, replay);
        opened.map(|(journal, task)| {
            drop(TypeConfig::spawn(task));
            journal
        })
    };
    let apply = state::apply(id, world.seen.clone());
    let parts = open_parts_on(journal, &config, MAP_BYTES, apply).await?;
    let store = parts.store.clone();
    drop(TypeConfig::spawn(store.clone().drive()));
    drop(TypeConfig::spawn(store.clone().drive_committed()));
    let raft_error = |error: &dyn std::fmt::Display| OpenError::Raft(error.to_string());
    let raft_config = raft_config(false).validate().map_err(|error| raft_error(&error))?;
    let network = SimNetwork { world, from: id };
    let raft = Raft::new(
        id,
        Arc::new(raft_config),
        network,
        LogStore(store.clone()),
        parts.machine,
    )
    .await;
    let raft = raft.map_err(|error| raft_error(&error))?;
    if let Some(members) = found
        && !raft.is_initialized().await.map_err(|error| raft_error(&error))?
    {
        raft.initialize(members).await.map_err(|error| raft_error(&error))?;
    }
    let clock = Clock::default();
    let stores = (store.clone(), parts.space.clone(), parts.seen.clone());
    let shared = Arc::new(Shared::new(&config, true, clock, stores));
    let running = Running {
        process,
        raft: raft.clone(),
        store: store.clone(),
        snapshots: parts.snapshots.clone(),
        seen: parts.seen,
    };
    let keeper = Keeper {
        config,
        reserve_bytes: 1 << 20,
        raft,
        store,
        space: parts.space,
        checkpoints: parts.checkpoints,
        snapshots: parts.snapshots,
        bodies: parts.bodies,
        shared,
    };
    drop(TypeConfig::spawn(keeper.run()));
    Ok(running)
}
