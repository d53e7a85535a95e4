//! The simulated network in place of peers' TLS: messages take time, get lost in silence, come twice or much later, and go
//! one way where the other is cut. Appends of one stream keep their order, as they do on a connection.

use super::super::fetch::{self, Source};
use super::super::membership::as_asked_of;
use super::super::peers::PeerError;
use super::super::peers::frame::kind;
use super::super::snapshot::SnapshotData;
use super::super::types::{Member, TypeConfig, Vote};
use super::world::{Running, World, sleep};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::async_runtime::Select2;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult};
use openraft::raft::{TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse};
use openraft::type_config::TypeConfigExt as _;
use openraft::type_config::alias::SnapshotOf;
use openraft::{RaftNetworkFactory, RaftNetworkV2};
use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// As long as the real one waits.
const PULSE_MAX: Duration = Duration::from_millis(1_000);
const SNAPSHOT_MAX: Duration = Duration::from_secs(60);

/// How it is between whom.
#[derive(Default)]
pub struct Links {
    /// From whom to whom nothing comes through.
    pub cut: BTreeSet<(u64, u64)>,
    /// From whom to whom no appends come through, and all else.
    pub no_appends: BTreeSet<(u64, u64)>,
    /// One message in so many is lost; 0 for none.
    pub lost_one_in: usize,
    /// One message in so many takes long; 0 for none.
    pub slow_one_in: usize,
    /// One request in so many comes twice; 0 for none.
    pub twice_one_in: usize,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Nobody listens there, or stopped doing so.
    Down,
    /// None came in time.
    Silent,
}

impl World {
    fn luck(&self, one_in: usize) -> bool {
        one_in > 0 && self.one_in(one_in)
    }

    /// One way from one to another; says whether it arrived. 0 is a client.
    pub async fn hop(&self, from: u64, to: u64) -> bool {
        let (lost, slow) = {
            let links = self.links.borrow();
            (links.lost_one_in, links.slow_one_in)
        };
        let us = if self.luck(slow) {
            self.below(400_000)
        } else {
            100 + self.below(3_000)
        };
        sleep(us).await;
        !self.luck(lost) && !self.links.borrow().cut.contains(&(from, to))
    }

    /// Asks a process; `serve` runs in it, perhaps twice.
    pub async fn call<T: 'static, F>(
        self: &Rc<World>,
        (from, to): (u64, u64),
        limit: Duration,
        serve: impl Fn(Running) -> F + 'static,
    ) -> Result<T, Lost>
    where
        F: Future<Output = Option<T>> + 'static,
    {
        let work = async {
            if !self.hop(from, to).await {
                return std::future::pending().await;
            }
            let running = self.running(to).ok_or(Lost::Down)?;
            let process = running.process.clone();
            let twice = self.links.borrow().twice_one_in;
            if self.luck(twice) {
                let (late, again) = (self.below(1_500_000), serve(running.clone()));
                process.spawn(async move {
                    sleep(late).await;
                    drop(again.await);
                });
            }
            let answer = process.run(serve(running)).await.flatten().ok_or(Lost::Down)?;
            if !self.hop(to, from).await {
                return std::future::pending().await;
            }
            Ok(answer)
        };
        TypeConfig::timeout(limit, work).await.unwrap_or(Err(Lost::Silent))
    }

    /// Others know of a vote of this node.
    fn promise(&self, id: u64, vote: Vote) {
        let mut nodes = self.nodes.borrow_mut();
        let node = nodes.get_mut(&id).expect("machines stay");
        if node.promised.is_none_or(|before| vote > before) {
            node.promised = Some(vote);
        }
    }
}

/// Gives clients.
pub struct SimNetwork {
    pub world: Rc<World>,
    pub from: u64,
}

/// A client for one member.
pub struct Client {
    world: Rc<World>,
    from: u64,
    to: u64,
}

impl RaftNetworkFactory<TypeConfig> for SimNetwork {
    type Network = Client;

    async fn new_client(&mut self, target: u64, _member: &Member) -> Client {
        Client {
            world: self.world.clone(),
            from: self.from,
            to: target,
        }
    }
}

fn unreachable() -> Unreachable<TypeConfig> {
    Unreachable::from_string("nobody listens")
}

fn rpc_error(lost: Lost) -> RPCError<TypeConfig> {
    match lost {
        Lost::Down => RPCError::Unreachable(unreachable()),
        Lost::Silent => RPCError::Network(NetworkError::from_string("no answer in time")),
    }
}

type Appended = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;
type Request = (
    AppendEntriesRequest<TypeConfig>,
    oneshot::Sender<StreamAppendResult<TypeConfig>>,
);

/// The serving end of a stream of appends, as `peers::serve` has it.
fn serve_appends(running: Running) -> mpsc::UnboundedSender<Request> {
    let (requests, incoming) = mpsc::unbounded_channel::<Request>();
    let tells: Rc<RefCell<VecDeque<oneshot::Sender<_>>>> = Rc::default();
    let noted = tells.clone();
    let input = futures_util::stream::unfold(incoming, move |mut incoming| {
        let noted = noted.clone();
        async move {
            let (request, tell) = incoming.recv().await?;
            noted.borrow_mut().push_back(tell);
            Some((request, incoming))
        }
    });
    let process = running.process.clone();
    process.spawn(async move {
        let mut output = Box::pin(running.raft.stream_append(input));
        while let Some(Ok(result)) = output.next().await {
            let Some(tell) = tells.borrow_mut().pop_front() else {
                return;
            };
            // Who asked may have given up.
            let _gone = tell.send(result);
        }
        tells.borrow_mut().clear();
    });
    requests
}

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let serve = move |to: Running| {
            let rpc = rpc.clone();
            async move { to.raft.append_entries(rpc).await.ok() }
        };
        if self.world.links.borrow().no_appends.contains(&(self.from, self.to)) {
            return Err(rpc_error(Lost::Silent));
        }
        self.world
            .call((self.from, self.to), PULSE_MAX, serve)
            .await
            .map_err(rpc_error)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Appended>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin + 'static,
    {
        let (world, from, to) = (self.world.clone(), self.from, self.to);
        let connection: Rc<RefCell<Option<mpsc::UnboundedSender<Request>>>> = Rc::default();
        let sent = input.then(move |request| {
            let (world, connection) = (world.clone(), connection.clone());
            // The first await sends, in order; what it gives is awaited behind, many at once.
            async move {
                let arrived = world.hop(from, to).await && !world.links.borrow().no_appends.contains(&(from, to));
                let (tell, told) = oneshot::channel();
                let mut connection = connection.borrow_mut();
                if connection.is_none() {
                    *connection = world.running(to).map(serve_appends);
                }
                let sent = match connection.as_ref() {
                    None => Err(Lost::Down),
                    Some(_) if !arrived => Err(Lost::Silent),
                    Some(requests) => requests.send((request, tell)).map_err(|_| Lost::Down),
                };
                drop(connection);
                let world = world.clone();
                async move {
                    let answer = async {
                        match sent {
                            Ok(()) => {}
                            Err(Lost::Silent) => return std::future::pending().await,
                            Err(lost) => return Err(lost),
                        }
                        let answer = told.await.map_err(|_| Lost::Down)?;
                        if !world.hop(to, from).await {
                            return std::future::pending().await;
                        }
                        Ok(answer)
                    };
                    let answer = TypeConfig::timeout(PULSE_MAX, answer).await;
                    answer.unwrap_or(Err(Lost::Silent)).map_err(rpc_error)
                }
            }
        });
        let answers = sent.buffered(64).scan(false, |ended, result: Appended| {
            let go_on = !std::mem::replace(ended, !matches!(result, Ok(Ok(_))));
            std::future::ready(go_on.then_some(result))
        });
        let answers: BoxStream<'s, Appended> = Box::pin(answers);
        Box::pin(std::future::ready(Ok(answers)))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let to = self.to;
        let world = Rc::downgrade(&self.world);
        let serve = move |running: Running| {
            let (rpc, world) = (rpc.clone(), world.clone());
            async move {
                let vote = rpc.vote;
                let rpc = as_asked_of(&running.raft, to, rpc).await.ok()?;
                let answer = running.raft.vote(rpc).await.ok()?;
                if answer.vote_granted {
                    world.upgrade()?.promise(to, vote);
                }
                Some(answer)
            }
        };
        self.world
            .call((self.from, self.to), PULSE_MAX, serve)
            .await
            .map_err(rpc_error)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let to = self.to;
        let serve = move |running: Running| {
            let rpc = rpc.clone();
            async move {
                let rpc = as_asked_of(&running.raft, to, rpc).await.ok()?;
                running.raft.pre_vote(rpc).await.ok()
            }
        };
        self.world
            .call((self.from, self.to), PULSE_MAX, serve)
            .await
            .map_err(rpc_error)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let at_least = snapshot.meta.last_log_id.map_or(0, |id| id.index);
        let (world, leader, me) = (self.world.clone(), self.from, self.to);
        let serve = move |to: Running| {
            let files = Files {
                world: world.clone(),
                leader,
                me,
            };
            async move {
                let answer = fetch::install_from(&to.raft, &to.snapshots, &files, vote, at_least).await;
                answer.ok()
            }
        };
        let answer = self.world.call((self.from, self.to), SNAPSHOT_MAX, serve);
        match TypeConfig::select2(Box::pin(cancel), Box::pin(answer)).await {
            Select2::First(closed) => Err(StreamingError::Closed(closed)),
            Select2::Second(Ok(answer)) => Ok(answer),
            Select2::Second(Err(_)) => Err(StreamingError::Unreachable(unreachable())),
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let serve = move |to: Running| {
            let req = req.clone();
            async move { to.raft.handle_transfer_leader(req).await.ok() }
        };
        self.world
            .call((self.from, self.to), PULSE_MAX, serve)
            .await
            .map_err(rpc_error)
    }
}

/// The files of the leader's snapshot, for the member that fetches them.
struct Files {
    world: Rc<World>,
    leader: u64,
    me: u64,
}

impl Source for Files {
    async fn ask(&self, what: u8, payload: Bytes, _limit: Duration) -> Result<Bytes, PeerError> {
        let serve = move |leader: Running| {
            let payload = payload.clone();
            async move {
                if what == kind::SNAPSHOT_OPEN {
                    fetch::open(&leader.snapshots, &payload).await.ok()
                } else {
                    fetch::read(&leader.snapshots, &payload).await.ok()
                }
            }
        };
        let answer = self
            .world
            .call((self.me, self.leader), Duration::from_secs(5), serve)
            .await;
        answer.map_err(|_| PeerError::Lost)
    }
}
