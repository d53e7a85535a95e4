//! Connections that come in: who it is, then one task for each request, appends in their order.

use super::super::cluster::Cluster;
use super::super::types::TypeConfig;
use super::frame::{self, FRAME_BYTES_MAX, Frame, Purpose, kind};
use super::link::{send_now, write};
use super::tls::{HANDSHAKE_MAX, is_named};
use super::{CALLS_MAX, Hello, Refusal, WORKING_EVERY};
use bytes::Bytes;
use futures_util::StreamExt;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;

/// Appends of one stream that wait for Raft; the connection is not read while more come.
const APPENDS_MAX: usize = 64;
/// Connections in their handshake at once: strangers can hold no more.
const HANDSHAKES_MAX: usize = 64;
/// After a failed accept: descriptors may come back.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
const READ_BYTES: usize = 64 * 1024;

/// Takes connections until the log's thread ends.
pub fn start(listeners: Vec<std::net::TcpListener>, cluster: Rc<Cluster>) -> io::Result<()> {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    for listener in listeners {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let (cluster, handshakes) = (cluster.clone(), handshakes.clone());
        tokio::task::spawn_local(async move {
            loop {
                let Ok(permit) = handshakes.clone().acquire_owned().await else {
                    return;
                };
                let socket = match listener.accept().await {
                    Ok((socket, _)) => socket,
                    Err(cause) => {
                        tracing::warn!(%cause, "a peer's connection was lost before it was taken");
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                        continue;
                    }
                };
                let cluster = cluster.clone();
                tokio::task::spawn_local(async move {
                    let entered = tokio::time::timeout(HANDSHAKE_MAX, enter(&cluster, socket)).await;
                    drop(permit);
                    match entered {
                        Ok(Ok(connection)) => connection.serve(cluster).await,
                        Ok(Err(cause)) => tracing::debug!(%cause, "a caller on the peers' port was let go"),
                        Err(_) => tracing::debug!("a caller on the peers' port did not finish its handshake"),
                    }
                });
            }
        });
    }
    Ok(())
}

/// A peer that showed who it is.
struct Connection {
    tls: tokio_rustls::server::TlsStream<TcpStream>,
    purpose: Purpose,
    peer: Hello,
}

/// Preamble, TLS, hello.
async fn enter(cluster: &Cluster, mut socket: TcpStream) -> io::Result<Connection> {
    super::keep_alive(&socket)?;
    let mut preamble = [0; 8];
    socket.read_exact(&mut preamble).await?;
    let purpose = frame::purpose_of(&preamble).ok_or_else(|| frame::invalid("no peer of this format"))?;
    let local = cluster.peers.local();
    let mut tls = TlsAcceptor::from(local.tls.server()).accept(socket).await?;
    let hello = frame::read(&mut tls, FRAME_BYTES_MAX).await?;
    let hello = hello.filter(|hello| hello.kind == kind::HELLO);
    let hello = hello.ok_or_else(|| frame::invalid("no hello"))?;
    let peer = Hello::decode(&hello.payload)?;
    let certificate = tls.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
    let refused = if certificate.is_some_and(|certificate| is_named(&certificate, &peer.name)) {
        local.stranger(&peer)
    } else {
        Some(format!("the certificate does not name {}", peer.name))
    };
    if let Some(why) = refused {
        local.note_refused(&peer, &why);
        let payload = frame::encode(&Refusal::Said(why));
        let (kind, call) = (kind::REFUSED, hello.call);
        send_now(&mut tls, &Frame { kind, call, payload }).await?;
        return Err(frame::invalid("refused"));
    }
    local.note_taken(&peer);
    let payload = local.hello().encode();
    let (kind, call) = (kind::ANSWER, hello.call);
    send_now(&mut tls, &Frame { kind, call, payload }).await?;
    Ok(Connection { tls, purpose, peer })
}

/// Where the answers of one connection go.
#[derive(Clone)]
struct Answers {
    outgoing: mpsc::UnboundedSender<Frame>,
    /// Requests in work.
    working: Rc<Cell<usize>>,
}

impl Answers {
    fn send(&self, call: u64, answer: Result<Bytes, Refusal>) {
        let (kind, payload) = match answer {
            Ok(payload) => (kind::ANSWER, payload),
            Err(refusal) => (kind::REFUSED, frame::encode(&refusal)),
        };
        // The peer may have gone.
        let _gone = self.outgoing.send(Frame { kind, call, payload });
    }

    fn begin(&self) {
        self.working.set(self.working.get() + 1);
    }

    fn end(&self) {
        self.working.set(self.working.get() - 1);
    }
}

impl Connection {
    async fn serve(self, cluster: Rc<Cluster>) {
        let Connection { tls, purpose, peer } = self;
        let (reader, writer) = tokio::io::split(tls);
        let mut reader = BufReader::with_capacity(READ_BYTES, reader);
        let (outgoing, frames) = mpsc::unbounded_channel();
        let answers = Answers {
            outgoing,
            working: Rc::default(),
        };
        let writing = tokio::task::spawn_local(write(writer, frames));
        let pulse = tokio::task::spawn_local(say_working(answers.clone()));
        let room = Arc::new(Semaphore::new(CALLS_MAX));
        let mut appends: Option<(u32, mpsc::Sender<(u64, AppendEntriesRequest<TypeConfig>)>)> = None;
        tracing::debug!(peer = peer.node, ?purpose, "a peer is connected");
        loop {
            let frame = match frame::read(&mut reader, FRAME_BYTES_MAX).await {
                Ok(Some(frame)) => frame,
                Ok(None) | Err(_) => break,
            };
            if frame.kind == kind::APPEND {
                let Ok(request) = frame::decode_append(frame.payload) else {
                    break;
                };
                let stream = (frame.call >> 32) as u32;
                if appends.as_ref().is_none_or(|(current, _)| *current != stream) {
                    appends = Some((stream, append(cluster.clone(), answers.clone())));
                }
                if let Some((_, requests)) = &appends
                    && requests.send((frame.call, request)).await.is_err()
                {
                    // The stream ended with a refusal, which was answered; what was sent behind it comes again.
                    answers.send(frame.call, Err(Refusal::Said("the stream has ended".to_owned())));
                }
                continue;
            }
            let Ok(permit) = room.clone().acquire_owned().await else {
                break;
            };
            let (cluster, answers, peer) = (cluster.clone(), answers.clone(), peer.clone());
            tokio::task::spawn_local(async move {
                answers.begin();
                let answer = cluster.answer(&peer, frame.kind, frame.payload).await;
                answers.end();
                answers.send(frame.call, answer);
                drop(permit);
            });
        }
        pulse.abort();
        drop(answers);
        drop(appends);
        let _ended = writing.await;
        tracing::debug!(peer = peer.node, ?purpose, "a peer is disconnected");
    }
}

/// Says that answers are on their way, so that the peer does not take long work for a dead connection.
async fn say_working(answers: Answers) {
    let mut every = tokio::time::interval(WORKING_EVERY);
    loop {
        every.tick().await;
        if answers.working.get() > 0 {
            let (kind, call, payload) = (kind::WORKING, 0, Bytes::new());
            if answers.outgoing.send(Frame { kind, call, payload }).is_err() {
                return;
            }
        }
    }
}

/// One stream of appends: requests go in as they come, answers leave in the same order.
fn append(cluster: Rc<Cluster>, answers: Answers) -> mpsc::Sender<(u64, AppendEntriesRequest<TypeConfig>)> {
    let (requests, incoming) = mpsc::channel(APPENDS_MAX);
    let calls: Rc<RefCell<VecDeque<u64>>> = Rc::default();
    let noted = calls.clone();
    let working = answers.clone();
    let input = futures_util::stream::unfold(incoming, move |mut incoming: mpsc::Receiver<_>| {
        let (noted, working) = (noted.clone(), working.clone());
        async move {
            let (call, request) = incoming.recv().await?;
            noted.borrow_mut().push_back(call);
            working.begin();
            Some((request, incoming))
        }
    });
    tokio::task::spawn_local(async move {
        let mut output = Box::pin(cluster.raft.stream_append(input));
        while let Some(result) = output.next().await {
            let Some(call) = calls.borrow_mut().pop_front() else {
                break;
            };
            answers.end();
            match result {
                Ok(result) => {
                    let result: StreamAppendResult<TypeConfig> = result;
                    answers.send(call, Ok(frame::encode(&result)));
                }
                Err(_) => answers.send(call, Err(Refusal::Said("the node is stopping".to_owned()))),
            }
        }
        for call in calls.borrow_mut().drain(..) {
            answers.end();
            answers.send(call, Err(Refusal::Said("the stream has ended".to_owned())));
        }
    });
    requests
}
