//! Simulated clients: conditional changes under request identifiers, repeated until they have an answer, and linearizable
//! reads, through any member.

use super::super::planted::{Bug, planted};
use super::super::serve;
use super::super::types::{Command, Reply, TypeConfig};
use super::network::Lost;
use super::state::{self, Change, Did, Held, Outcome, Told};
use super::world::{Running, World, sleep};
use bytes::Bytes;
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::ClientWriteError;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::oneshot;

const KEYS: usize = 4;
const CALL_MAX: Duration = Duration::from_millis(2_000);
/// A client gives up after so many tries; what became of its change is then open.
const TRIES: usize = 12;

/// Works until the world stops.
pub async fn run(world: Rc<World>, number: u64) {
    let mut known: BTreeMap<u8, u64> = BTreeMap::new();
    let mut request = number << 32;
    while !world.stop.get() {
        sleep(world.below(60_000)).await;
        let key = world.below(KEYS) as u8;
        if world.one_in(3) {
            read(&world, key).await;
            continue;
        }
        request += 1;
        let version = known.get(&key).copied().unwrap_or(0);
        let filling = if world.one_in(20) { 3_000 } else { 40 };
        let change = Change {
            request,
            key,
            expected: (!world.one_in(4)).then_some(version),
            value: request,
            filling: vec![7; world.below(filling)],
        };
        if let Some(version) = write(&world, &change).await {
            known.insert(key, version);
            // A client that did not get the answer sends the same again.
            if world.one_in(6) {
                write(&world, &change).await;
            }
        }
    }
}

/// Where to ask: mostly a member that takes itself for the leader.
fn somebody(world: &World) -> Option<u64> {
    let leaders = world.leaders();
    if !leaders.is_empty() && !world.one_in(8) {
        return world.choose(&leaders);
    }
    world.choose(&world.up())
}

/// What a member says to a proposal.
enum Proposed {
    NotLeader,
    /// A planted bug: refused by who proposes, on what it knows.
    Refused,
    Applied(u64, Outcome),
}

/// Sends a change until it has an outcome; gives the version there is then.
async fn write(world: &Rc<World>, change: &Change) -> Option<u64> {
    let called = world.now_ms();
    for _ in 0..TRIES {
        if world.stop.get() {
            return None;
        }
        let Some(id) = somebody(world) else {
            sleep(20_000).await;
            continue;
        };
        let stamp_ms = world.nodes.borrow()[&id].clock_ms + world.now_ms();
        let asked = change.clone();
        let answer = world
            .call((0, id), CALL_MAX, move |running| {
                propose(running, asked.clone(), stamp_ms)
            })
            .await;
        match answer {
            Ok(Proposed::Applied(index, outcome)) => {
                let (Outcome::Stored { version } | Outcome::Mismatch { version }) = outcome;
                world.told.borrow_mut().push(Told {
                    called,
                    answered: world.now_ms(),
                    key: change.key,
                    what: Did::Changed(change.clone(), index, outcome),
                });
                return Some(version);
            }
            Ok(Proposed::Refused) => return None,
            Ok(Proposed::NotLeader) | Err(Lost::Down | Lost::Silent) => sleep(5_000 + world.below(40_000)).await,
        }
    }
    None
}

/// As `serve` does it: into Raft, and the outcome straight from the state machine.
async fn propose(running: Running, mut change: Change, stamp_ms: u64) -> Option<Proposed> {
    if planted(Bug::JudgedByProposer)
        && let Some(expected) = change.expected.take()
        && state::held(&running.store.ledger, change.key).version != expected
    {
        return Some(Proposed::Refused);
    }
    let (tell, told) = oneshot::channel();
    let reply = Reply(Box::new(move |result| {
        // Who asked may have given up.
        let _gone = tell.send(result);
    }));
    let bytes = state::encode(&change);
    let command = Command { stamp_ms, bytes };
    running.raft.client_write_ff(command, Some(reply)).await.ok()?;
    drop(running);
    let result: openraft::raft::ClientWriteResult<TypeConfig> = told.await.ok()?;
    match result {
        Ok(written) => Some(Proposed::Applied(
            written.log_id.index,
            state::decode(&written.data.outcome),
        )),
        Err(ClientWriteError::ForwardToLeader(_)) => Some(Proposed::NotLeader),
        Err(_) => None,
    }
}

async fn read(world: &Rc<World>, key: u8) {
    let Some(id) = somebody(world) else { return };
    let called = world.now_ms();
    let from = Rc::downgrade(world);
    let serve = move |running: Running| {
        let world = from.clone();
        async move { read_at(world.upgrade()?, id, running, key).await }
    };
    if let Ok(found) = world.call((0, id), CALL_MAX, serve).await {
        world.told.borrow_mut().push(Told {
            called,
            answered: world.now_ms(),
            key,
            what: Did::Read(found),
        });
    }
}

/// ReadIndex, from the leader or by asking it, then what is here.
async fn read_at(world: Rc<World>, id: u64, running: Running, key: u8) -> Option<Held> {
    let index = if running.raft.is_leader() {
        serve::confirmed(&running.raft).await?
    } else {
        let leader = running.raft.metrics().borrow_watched().current_leader?;
        let ask = |leader: Running| async move {
            if !leader.raft.is_leader() {
                return None;
            }
            serve::confirmed(&leader.raft).await
        };
        world.call((id, leader), CALL_MAX, ask).await.ok()?
    };
    if !running.seen.wait_applied(index, CALL_MAX).await {
        return None;
    }
    Some(state::held(&running.store.ledger, key))
}

/// What the log holds at an index, as a member reads it back.
pub async fn entry_of(running: &Running, index: u64) -> Result<Option<Bytes>, String> {
    match running.store.entry_here(index).await {
        Ok(Some(entry)) => match entry.payload {
            openraft::EntryPayload::Normal(command) => Ok(Some(command.bytes)),
            _ => Ok(None),
        },
        Ok(None) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}
