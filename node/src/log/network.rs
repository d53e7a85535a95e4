//! openraft's way to peers. A cluster of one has none, so every call says "unreachable": nothing is granted by a peer
//! that is not there, pre-votes included (openraft's own default would grant them).

use super::fetch::Wanted;
use super::peers::frame::{self, Purpose, kind};
use super::peers::link::{Link, Pending};
use super::peers::{PeerError, Peers};
use super::snapshot::SnapshotData;
use super::types::{Member, TypeConfig, Vote};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult};
use openraft::raft::{TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse};
use openraft::type_config::alias::SnapshotOf;
use openraft::{RaftNetworkFactory, RaftNetworkV2};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

/// Appends of one stream on their way.
const APPENDS_MAX: usize = 64;
/// Votes and heartbeats are answered within this or not at all.
const PULSE_MAX: Duration = Duration::from_millis(1_000);
/// A snapshot may take long; whoever works on it says so.
const SNAPSHOT_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Gives clients; without peers, clients that refuse.
pub struct Network(pub Option<Rc<Peers>>);

/// A client for one member.
pub struct Client {
    peers: Option<Rc<Peers>>,
    target: u64,
    member: Member,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, member: &Member) -> Client {
        Client {
            peers: self.0.clone(),
            target,
            member: member.clone(),
        }
    }

    async fn new_heartbeat_client(&mut self, target: u64, member: &Member) -> Client {
        self.new_client(target, member).await
    }

    async fn new_snapshot_client(&mut self, target: u64, member: &Member) -> Client {
        self.new_client(target, member).await
    }
}

fn unreachable(what: &str) -> Unreachable<TypeConfig> {
    Unreachable::from_string(what)
}

fn rpc_error(error: &PeerError) -> RPCError<TypeConfig> {
    match error {
        PeerError::Lost | PeerError::TimedOut => RPCError::Network(NetworkError::from_string(error.to_string())),
        PeerError::Unreachable(_) | PeerError::Refused(_) | PeerError::Malformed => {
            RPCError::Unreachable(unreachable(&error.to_string()))
        }
    }
}

impl Client {
    fn link(&self, purpose: Purpose) -> Result<Rc<Link>, PeerError> {
        let none = || PeerError::Unreachable(format!("node {}: this node has no peers", self.target));
        let peers = self.peers.as_ref().ok_or_else(none)?;
        Ok(peers.link(self.target, &self.member, purpose))
    }

    async fn pulse<A: serde::de::DeserializeOwned>(&self, kind: u8, payload: Bytes) -> Result<A, RPCError<TypeConfig>> {
        let link = self.link(Purpose::Pulse).map_err(|error| rpc_error(&error))?;
        let answer = link.call(kind, payload, PULSE_MAX).await;
        let answer = answer.map_err(|error| rpc_error(&error))?;
        frame::decode(&answer).map_err(|_| rpc_error(&PeerError::Malformed))
    }
}

type Appended = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

async fn appended(pending: Result<Pending, PeerError>) -> Appended {
    let answer = match pending {
        Ok(pending) => pending.answer().await,
        Err(error) => Err(error),
    };
    let answer = answer.map_err(|error| rpc_error(&error))?;
    frame::decode(&answer).map_err(|_| rpc_error(&PeerError::Malformed))
}

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.pulse(kind::APPEND_ONE, frame::encode_append(&rpc)).await
    }

    /// Requests leave as they come, without waiting for answers; a stream ends with its first refusal.
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Appended>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin + 'static,
    {
        Box::pin(async move {
            let link = self.link(Purpose::Log).map_err(|error| rpc_error(&error))?;
            let stream = link.next_stream();
            // Connected with the first request and not before: openraft waits between requests after a failure, never
            // between streams.
            let sent = input.then(move |request| {
                let link = link.clone();
                // The first await sends, in order; what it gives is awaited behind, many at once.
                async move {
                    let sent = match link.open().await {
                        Ok(open) => open.send(kind::APPEND, stream, frame::encode_append(&request)).await,
                        Err(error) => Err(error),
                    };
                    appended(sent)
                }
            });
            let answers = sent.buffered(APPENDS_MAX).scan(false, |ended, result| {
                let go_on = !std::mem::replace(ended, !matches!(result, Ok(Ok(_))));
                std::future::ready(go_on.then_some(result))
            });
            let answers: BoxStream<'s, Appended> = Box::pin(answers);
            Ok(answers)
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.pulse(kind::VOTE, frame::encode(&rpc)).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.pulse(kind::PRE_VOTE, frame::encode(&rpc)).await
    }

    /// Tells the peer to fetch the snapshot from here; it answers once it has installed it. It may get a newer one, never an
    /// older: openraft takes it to have what `snapshot` covers.
    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let failed = |error: PeerError| match error {
            PeerError::Lost | PeerError::TimedOut => {
                StreamingError::Network(NetworkError::from_string(error.to_string()))
            }
            PeerError::Unreachable(_) | PeerError::Refused(_) | PeerError::Malformed => {
                StreamingError::Unreachable(unreachable(&error.to_string()))
            }
        };
        let link = self.link(Purpose::Calls).map_err(failed)?;
        let peers = self.peers.as_ref().expect("a link was just made");
        let local = peers.local();
        let id = local.identity.lock().node;
        let at_least = snapshot.meta.last_log_id.map_or(0, |id| id.index);
        let wanted: Wanted = (vote, id, local.member.clone());
        let payload = frame::encode_with(&wanted, &at_least);
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            answer = link.call(kind::SNAPSHOT, payload, SNAPSHOT_MAX) => {
                frame::decode(&answer.map_err(failed)?).map_err(|_| failed(PeerError::Malformed))
            }
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.pulse(kind::TRANSFER, frame::encode(&req)).await
    }
}
