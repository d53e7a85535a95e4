//! One seed's course: a cluster is founded, clients work, whatever can fail fails, members come and go; then everything heals
//! and must be whole.

use super::super::membership::{self, Change, LastMembership};
use super::super::rules;
use super::super::types::Member;
use super::clients;
use super::state::Model;
use super::world::{FREE_BYTES, Running, World, sleep};
use crate::journal::Failing;
use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver as _;
use openraft::type_config::TypeConfigExt as _;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

type Config = super::super::types::TypeConfig;

const CLIENTS: u64 = 3;
const CHANGE_MAX: Duration = Duration::from_secs(3);
const MEMBERS_MAX: usize = 7;
/// Virtual time, ms: to find the first leader, and to be whole again.
const FOUND_MAX_MS: u64 = 30_000;
const HEAL_MAX_MS: u64 = 120_000;
pub const SITES: [&str; 3] = ["north", "south", "witness"];

/// Lives one seed.
pub async fn live(world: &Rc<World>) -> Result<(), String> {
    found(world).await?;
    for number in 1..=CLIENTS {
        drop(Config::spawn(clients::run(world.clone(), number)));
    }
    drop(Config::spawn(operate(world.clone())));
    for _ in 0..10 + world.below(25) {
        sleep(20_000 + world.below(450_000)).await;
        world.look();
        if let Some(broken) = world.broken() {
            return Err(broken);
        }
        revive(world, 2);
        fault(world);
    }
    heal(world).await?;
    judge(world).await
}

async fn found(world: &Rc<World>) -> Result<(), String> {
    let sites: &[&str] = if world.one_in(3) {
        &["north", "south", "witness", "north", "south"]
    } else {
        &SITES
    };
    found_of(world, sites).await
}

/// A cluster with one voter in each of `sites`.
pub async fn found_of(world: &Rc<World>, sites: &[&str]) -> Result<(), String> {
    let ids: Vec<u64> = sites.iter().map(|site| world.add(site)).collect();
    let members: BTreeMap<u64, Member> = {
        let nodes = world.nodes.borrow();
        ids.iter().map(|id| (*id, nodes[id].member.clone())).collect()
    };
    for id in ids {
        while world.running(id).is_none() && world.broken().is_none() {
            world.start(id, (id == 1).then(|| members.clone())).await;
        }
    }
    while world.leaders().is_empty() {
        if world.now_ms() > FOUND_MAX_MS {
            return Err("nobody leads the new cluster".to_owned());
        }
        sleep(50_000).await;
    }
    world.broken().map_or(Ok(()), Err)
}

/// Starts processes that ended by themselves, each once in `one_in` looks.
fn revive(world: &Rc<World>, one_in: usize) {
    let down: Vec<u64> = {
        let nodes = world.nodes.borrow();
        let down = nodes
            .iter()
            .filter(|(_, node)| node.running.is_none() && !node.busy && !node.gone);
        down.map(|(id, _)| *id).collect()
    };
    for id in down {
        if world.one_in(one_in) {
            start_later(world, id, 0);
        }
    }
}

fn start_later(world: &Rc<World>, id: u64, us: usize) {
    world.nodes.borrow_mut().get_mut(&id).expect("machines stay").busy = true;
    let world = world.clone();
    drop(Config::spawn(async move {
        sleep(us).await;
        if !world.nodes.borrow()[&id].gone {
            world.start(id, None).await;
        }
        world.nodes.borrow_mut().get_mut(&id).expect("machines stay").busy = false;
        let taken_away = world.nodes.borrow()[&id].gone;
        if taken_away {
            // While it started, perhaps.
            world.crash(id, false);
        }
    }));
}

fn crash(world: &Rc<World>, id: u64, power: bool) {
    world.crash(id, power);
    start_later(world, id, world.below(2_500_000));
}

/// Undoes something after a while.
fn later(world: &Rc<World>, us: usize, undo: impl FnOnce(&World) + 'static) {
    let world = world.clone();
    drop(Config::spawn(async move {
        sleep(us).await;
        undo(&world);
    }));
}

fn fault(world: &Rc<World>) {
    let Some(id) = world.choose(&world.up()) else { return };
    let leader = world.choose(&world.leaders()).unwrap_or(id);
    let disk = world.nodes.borrow()[&id].disk.clone();
    match world.below(24) {
        0 | 1 => crash(world, id, false),
        2 | 3 => crash(world, id, true),
        4 => crash(world, leader, world.one_in(2)),
        5 | 6 => world.up().into_iter().for_each(|id| crash(world, id, true)),
        7..=11 => cut(world, leader),
        12 | 13 => drop(Config::spawn(hand_over(world.clone(), leader))),
        14 => jump(world, id),
        15 | 16 => {
            let some = [0, 0, 30, 8];
            let mut links = world.links.borrow_mut();
            links.lost_one_in = some[world.below(4)];
            links.slow_one_in = some[world.below(4)];
            links.twice_one_in = some[world.below(4)];
        }
        17 => disk.set_failing(Failing {
            write_one_in: 10 * world.below(2),
            sync_one_in: 10,
        }),
        18 => {
            disk.set_free_bytes(1 << (10 + world.below(10)));
            later(world, world.below(1_500_000), move |_| disk.set_free_bytes(FREE_BYTES));
        }
        19 => {
            let slow_us = [200, 4_000, 60_000][world.below(3)];
            world.nodes.borrow_mut().get_mut(&id).expect("machines stay").slow_us = slow_us;
        }
        20 => {
            // One at a time: what a majority had must be somewhere.
            if !world.nodes.borrow().values().any(|node| node.damaged) {
                world.flip(id);
            }
        }
        21 | 22 => drop(Config::spawn(join(world.clone(), SITES[world.below(3)]))),
        _ => drop(Config::spawn(leave(world.clone(), id))),
    }
}

/// Cuts the leader off, both ways or one, or everybody into two parts; mends it later.
fn cut(world: &Rc<World>, leader: u64) {
    let all: Vec<u64> = world.nodes.borrow().keys().copied().collect();
    let part: BTreeSet<u64> = if world.one_in(2) {
        BTreeSet::from([leader])
    } else {
        all.iter().copied().filter(|_| world.one_in(2)).collect()
    };
    let (out, back) = [(true, true), (true, true), (true, false), (false, true)][world.below(4)];
    let mut pairs = BTreeSet::new();
    for inner in &part {
        for outer in all.iter().filter(|id| !part.contains(id)) {
            pairs.extend(out.then_some((*inner, *outer)));
            pairs.extend(back.then_some((*outer, *inner)));
        }
    }
    world.links.borrow_mut().cut.extend(pairs.iter().copied());
    later(world, 200_000 + world.below(3_000_000), move |world| {
        world.links.borrow_mut().cut.retain(|pair| !pairs.contains(pair));
    });
}

fn jump(world: &Rc<World>, id: u64) {
    let by = [500, 10_000, 3_600_000][world.below(3)];
    let forward = world.one_in(2);
    let mut nodes = world.nodes.borrow_mut();
    let clock = &mut nodes.get_mut(&id).expect("machines stay").clock_ms;
    *clock = if forward { *clock + by } else { *clock - by };
}

async fn hand_over(world: Rc<World>, leader: u64) {
    let to = world.choose(&world.up());
    let Some(to) = to.filter(|to| *to != leader) else {
        return;
    };
    let trigger = move |running: Running| async move { running.raft.trigger().transfer_leader(to).await.ok() };
    // Whoever leads then is seen by everybody.
    let _outcome = world.call((0, leader), CHANGE_MAX, trigger).await;
}

/// The membership as a leader sees it, and the learners that have caught up.
pub struct View {
    pub seen: LastMembership,
    ready: BTreeSet<u64>,
}

pub fn view(running: &Running) -> View {
    let seen = LastMembership::of(&running.raft);
    let metrics = running.raft.metrics().borrow_watched().clone();
    let last = metrics.last_log_index.unwrap_or(0);
    let close = |id: &u64| {
        let matched = metrics
            .replication
            .as_ref()
            .and_then(|all| all.get(id).copied().flatten());
        matched.is_some_and(|log_id| log_id.index + 20 >= last)
    };
    let ready = seen
        .members
        .keys()
        .filter(|id| !seen.voters.contains(id) && close(id))
        .copied()
        .collect();
    View { seen, ready }
}

fn leader_s_view(world: &World) -> Option<(u64, View)> {
    let leader = world.choose(&world.leaders())?;
    let running = world.running(leader)?;
    Some((leader, view(&running)))
}

/// Judged where and when it arrives, as the leader does it.
pub async fn change(
    world: &Rc<World>,
    leader: u64,
    judge: impl Fn(&View) -> Option<ChangeMembers<u64, Member>> + Clone + 'static,
) -> bool {
    let ask = move |running: Running| {
        let judge = judge.clone();
        async move {
            let view = view(&running);
            let wanted = judge(&view)?;
            let made = membership::change(&running.raft, &view.seen, wanted).await;
            matches!(made, Ok(Change::Made)).then_some(())
        }
    };
    world.call((0, leader), CHANGE_MAX, ask).await.is_ok()
}

/// How a member leaves, where it may.
fn leaving(view: &View, id: u64) -> Option<ChangeMembers<u64, Member>> {
    let LastMembership { members, voters, .. } = &view.seen;
    let votes = voters.contains(&id);
    if rules::cannot_leave(members, voters, id).is_some() || voters.len() <= 3 && votes {
        return None;
    }
    let out = BTreeSet::from([id]);
    Some(if votes {
        ChangeMembers::RemoveVoters(out)
    } else {
        ChangeMembers::RemoveNodes(out)
    })
}

/// A new machine asks to be taken in.
pub async fn join(world: Rc<World>, site: &'static str) {
    let Some((leader, View { seen, .. })) = leader_s_view(&world) else {
        return;
    };
    let members = seen.members;
    let waiting = world.nodes.borrow().len() - members.len();
    if members.len() + waiting >= MEMBERS_MAX {
        return;
    }
    let id = world.add(site);
    world.nodes.borrow_mut().get_mut(&id).expect("machines stay").busy = true;
    while world.running(id).is_none() && world.broken().is_none() {
        world.start(id, None).await;
    }
    let member = {
        let mut nodes = world.nodes.borrow_mut();
        let node = nodes.get_mut(&id).expect("machines stay");
        node.busy = false;
        node.member.clone()
    };
    let add = ChangeMembers::AddNodes(BTreeMap::from([(id, member)]));
    change(&world, leader, move |_| Some(add.clone())).await;
}

/// A member is taken out, where the site rule lets it.
async fn leave(world: Rc<World>, id: u64) {
    let Some((leader, _)) = leader_s_view(&world) else {
        return;
    };
    if leader != id && change(&world, leader, move |view| leaving(view, id)).await {
        world.crash(id, false);
        world.nodes.borrow_mut().get_mut(&id).expect("machines stay").gone = true;
    }
}

/// What leaders and operators do all the time: learners that have caught up become voters together, and who is gone for good
/// is replaced and taken out.
async fn operate(world: Rc<World>) {
    let mut waited = 0;
    loop {
        sleep(300_000).await;
        let Some((leader, View { seen, ready })) = leader_s_view(&world) else {
            continue;
        };
        if seen.becoming.is_some() {
            let ask =
                |running: Running| async move { membership::finish(&running.raft, &view(&running).seen).await.ok() };
            let _another_round = world.call((0, leader), CHANGE_MAX, ask).await;
            continue;
        }
        let LastMembership { members, voters, .. } = seen;
        if rules::promoted(&members, &voters, &ready).is_some() {
            let learners = members.len() - voters.len();
            waited += 1;
            if ready.len() == learners || waited > 5 {
                waited = 0;
                let promote = |View { seen, ready }: &View| {
                    rules::promoted(&seen.members, &seen.voters, ready).map(ChangeMembers::ReplaceAllVoters)
                };
                change(&world, leader, promote).await;
            }
            continue;
        }
        let gone = members.keys().find(|id| world.nodes.borrow()[id].gone).copied();
        let Some(gone) = gone else { continue };
        if rules::cannot_leave(&members, &voters, gone).is_none() && (voters.len() > 3 || !voters.contains(&gone)) {
            leave(world.clone(), gone).await;
        } else if members.len() == voters.len() {
            let site = SITES.into_iter().find(|site| members[&gone].site == *site);
            join(world.clone(), site.expect("machines are in the sites there are")).await;
        }
    }
}

/// Nothing fails any more: everybody starts, catches up and agrees.
pub async fn heal(world: &Rc<World>) -> Result<(), String> {
    *world.links.borrow_mut() = Default::default();
    for node in world.nodes.borrow_mut().values_mut() {
        node.disk.set_free_bytes(FREE_BYTES);
        node.disk.set_failing(Failing::default());
        node.slow_us = 400;
    }
    // Whoever is damaged is taken away: it may keep what it cannot read from those that need it.
    let damaged: Vec<u64> = {
        let mut nodes = world.nodes.borrow_mut();
        let damaged = nodes.iter_mut().filter(|(_, node)| node.damaged);
        damaged
            .map(|(id, node)| (*id, std::mem::replace(&mut node.gone, true)).0)
            .collect()
    };
    damaged.into_iter().for_each(|id| world.crash(id, false));
    // Clients go on for a moment, so that there is something to agree on.
    sleep(1_500_000).await;
    world.stop.set(true);
    let until = world.now_ms() + HEAL_MAX_MS;
    loop {
        world.links.borrow_mut().cut.clear();
        revive(world, 1);
        world.look();
        if let Some(broken) = world.broken() {
            return Err(broken);
        }
        if whole(world) {
            return Ok(());
        }
        if world.now_ms() > until {
            return Err(format!("the cluster does not come back: {}", describe(world)));
        }
        sleep(200_000).await;
    }
}

/// One leads, and every member that can has applied all it has.
fn whole(world: &World) -> bool {
    let [leader] = world.leaders()[..] else { return false };
    let Some(running) = world.running(leader) else {
        return false;
    };
    let metrics = running.raft.metrics().borrow_watched().clone();
    let members = view(&running).seen.members;
    members.keys().all(|id| {
        let nodes = world.nodes.borrow();
        let node = &nodes[id];
        let there = node.running.as_ref().is_some_and(|running| {
            let own = running.raft.metrics().borrow_watched().clone();
            own.current_leader == Some(leader)
                && own.last_applied.map(|id| id.index) == metrics.last_log_index
                && own.last_log_index == metrics.last_log_index
        });
        there || node.gone
    })
}

fn describe(world: &World) -> String {
    let nodes = world.nodes.borrow();
    let one = |(id, node): (&u64, &super::world::Node)| {
        let state = node.running.as_ref().map(|running| {
            let metrics = running.raft.metrics().borrow_watched().clone();
            let members = &metrics.membership_config;
            let last = metrics.last_log_index;
            let by = last
                .and_then(|index| running.snapshots.store.row(index))
                .map(|row| row.leader);
            format!(
                "{:?} term {} leader {:?} last {last:?} by {by:?} applied {:?} voters {:?} since {:?}",
                metrics.state,
                metrics.current_term,
                metrics.current_leader,
                metrics.last_applied,
                members.membership().get_joint_config(),
                members.log_id()
            )
        });
        let (busy, gone, damaged) = (node.busy, node.gone, node.damaged);
        format!("n{id} {state:?} busy {busy} gone {gone} damaged {damaged}")
    };
    nodes.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// What everybody has is held against the log and against what clients were told.
pub async fn judge(world: &Rc<World>) -> Result<(), String> {
    let log = world.seen.all();
    let model = Model::of(&log)?;
    model.judge(&log, &world.told.borrow())?;
    let leader = world.leaders()[0];
    let members = world
        .running(leader)
        .map(|running| view(&running).seen.members)
        .ok_or("the leader ended")?;
    let mut histories = BTreeMap::new();
    for id in members.into_keys() {
        let Some(running) = world.running(id) else { continue };
        if world.nodes.borrow()[&id].damaged {
            continue;
        }
        model
            .is(&running.store.ledger)
            .map_err(|what| format!("node {id}: {what}"))?;
        let hash = running.seen.history.lock().hash();
        histories.entry(hash).or_insert(id);
        for held in model.held() {
            let found = clients::entry_of(&running, held.index).await;
            let right = &log[&held.index].0;
            if found.as_ref().ok().and_then(Option::as_ref) != Some(right) {
                return Err(format!(
                    "node {id} cannot read entry {} that its state holds: {found:?}",
                    held.index
                ));
            }
        }
    }
    if histories.len() != 1 {
        let apart: Vec<u64> = histories.into_values().collect();
        return Err(format!("the histories of nodes {apart:?} differ"));
    }
    Ok(())
}
