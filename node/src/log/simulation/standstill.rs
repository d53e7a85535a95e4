//! One course that chance takes once in some ten thousand seeds, step by step: a cluster with a majority alive that once stood
//! still. A leader begins to make a learner a voter, which nobody else sees; the next one's first entry reaches that
//! learner alone, and then it is lost for good.

use super::faults::{self, SITES};
use super::world::{Running, World, sleep};
use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver as _;
use openraft::type_config::TypeConfigExt as _;
use std::collections::BTreeSet;
use std::rc::Rc;

type Config = super::super::types::TypeConfig;

/// The learner's number.
const LEARNER: u64 = 4;
/// Virtual time for one step, µs; and how often it is looked for its end, which is sooner than anything arrives.
const STEP_MAX_US: usize = 60_000_000;
const LOOK_US: usize = 50;

/// What the learner knows when it is to become a voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learner {
    /// That it was taken in.
    Settled,
    /// Its log says so, and nothing has told it that this is committed.
    JustTakenIn,
}

/// Lives through it; an error says that the cluster does not come back, or what was broken.
pub async fn live(world: &Rc<World>, learner: Learner) -> Result<(), String> {
    faults::found_of(world, &SITES).await?;
    let first = world.leaders()[0];
    match learner {
        Learner::Settled => {
            faults::join(world.clone(), SITES[0]).await;
            until(world, "the learner is level", |world| {
                at(world, LEARNER, applied) == at(world, first, applied) && at(world, LEARNER, applied).is_some()
            })
            .await?;
        }
        Learner::JustTakenIn => take_in_unknown(world, first).await?,
    }
    begin_change(world, first).await?;
    let second = next_leader(world, first).await?;
    if learner == Learner::JustTakenIn && learner_is_sure(world).await != Some(false) {
        return Err("the learner knows that it was taken in".to_owned());
    }
    world.nodes.borrow_mut().get_mut(&second).expect("machines stay").gone = true;
    world.crash(second, false);
    faults::heal(world).await?;
    faults::judge(world).await
}

fn at<T>(world: &World, id: u64, what: impl Fn(&Running) -> Option<T>) -> Option<T> {
    world.running(id).as_ref().and_then(what)
}

fn applied(running: &Running) -> Option<u64> {
    running.raft.metrics().borrow_watched().last_applied.map(|id| id.index)
}

fn last(running: &Running) -> Option<u64> {
    running.raft.metrics().borrow_watched().last_log_index
}

async fn until(world: &Rc<World>, what: &str, is_so: impl Fn(&World) -> bool) -> Result<(), String> {
    for _ in 0..STEP_MAX_US / LOOK_US {
        if is_so(world) {
            return Ok(());
        }
        sleep(LOOK_US).await;
    }
    Err(format!("it never came to it that {what}"))
}

fn cut_from(world: &World, from: u64) {
    let to = world.up().into_iter().filter(|id| *id != from);
    world.links.borrow_mut().cut.extend(to.map(|id| (from, id)));
}

/// The entry that takes the learner in reaches everybody; that it is committed reaches nobody but who leads.
async fn take_in_unknown(world: &Rc<World>, leader: u64) -> Result<(), String> {
    let voters = world.up();
    let before = at(world, leader, last);
    let answers = voters.iter().filter(|id| **id != leader).map(|id| (*id, leader));
    world.links.borrow_mut().cut.extend(answers);
    drop(Config::spawn(faults::join(world.clone(), SITES[0])));
    until(world, "the learner has the entry that takes it in", |world| {
        at(world, LEARNER, last) > before
    })
    .await?;
    {
        let mut links = world.links.borrow_mut();
        links.cut.clear();
        links.cut.insert((leader, LEARNER));
    }
    until(world, "it is committed", |world| at(world, leader, applied) > before).await?;
    cut_from(world, leader);
    Ok(())
}

/// Whether the learner knows that it is committed that it is one.
async fn learner_is_sure(world: &Rc<World>) -> Option<bool> {
    let running = world.running(LEARNER)?;
    let ask = async move {
        let asked = running
            .raft
            .with_raft_state(|state| state.membership_state.committed().get_node(&LEARNER).is_some());
        asked.await.ok()
    };
    let process = world.running(LEARNER)?.process;
    process.run(ask).await.flatten()
}

/// Who leads is cut off, and begins to make a voter of the learner.
async fn begin_change(world: &Rc<World>, leader: u64) -> Result<(), String> {
    cut_from(world, leader);
    let before = at(world, leader, last);
    let everybody = ChangeMembers::ReplaceAllVoters(BTreeSet::from([1, 2, 3, LEARNER]));
    let world_of_change = world.clone();
    drop(Config::spawn(async move {
        faults::change(&world_of_change, leader, move |_| Some(everybody.clone())).await;
    }));
    until(world, "the change has begun", |world| {
        at(world, leader, last) > before && at(world, leader, |running| faults::view(running).seen.becoming).is_some()
    })
    .await?;
    let voters = BTreeSet::from([1, 2, 3]);
    let others = world.up().into_iter().filter(|id| *id != leader);
    let alone = others.into_iter().all(|id| {
        let seen = at(world, id, |running| Some(faults::view(running).seen));
        seen.is_some_and(|seen| seen.voters == voters && seen.becoming.is_none())
    });
    alone.then_some(()).ok_or("others have seen the change".to_owned())
}

/// Another one is elected, and its first entry reaches the learner alone.
async fn next_leader(world: &Rc<World>, first: u64) -> Result<u64, String> {
    let others: Vec<u64> = world
        .up()
        .into_iter()
        .filter(|id| *id != first && *id != LEARNER)
        .collect();
    {
        let mut links = world.links.borrow_mut();
        for from in &others {
            links.cut.extend([(*from, first), (LEARNER, first)]);
            links.no_appends.extend(others.iter().map(|to| (*from, *to)));
        }
    }
    let by = |running: &Running| {
        let row = running.snapshots.store.row(last(running)?)?;
        Some(row.leader.node_id)
    };
    until(world, "another one's entry reaches the learner", |world| {
        at(world, LEARNER, by).is_some_and(|leader| others.contains(&leader))
    })
    .await?;
    let second = at(world, LEARNER, by).ok_or("the learner ended")?;
    let third = others.into_iter().find(|id| *id != second).ok_or("nobody is left")?;
    let has_more = at(world, LEARNER, last) > at(world, third, last);
    has_more
        .then_some(second)
        .ok_or("the third one has the entry too".to_owned())
}
