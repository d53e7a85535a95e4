//! One connection to one peer for one purpose: made when it is used, made anew when it was lost.

use super::frame::{self, FRAME_BYTES_MAX, Frame, Purpose, kind};
use super::tls::{HANDSHAKE_MAX, is_named};
use super::{CONNECT_MAX, Hello, Local, OUTGOING_BYTES_MAX, PeerError, Refusal, SILENCE_MAX};
use crate::log::types::Member;
use bytes::Bytes;
use rustc_hash::FxHashMap;
use rustls_pki_types::ServerName;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_rustls::TlsConnector;

/// Read from the socket at a time.
const READ_BYTES: usize = 64 * 1024;
/// Frames that wait together are written together up to this.
const WRITE_BYTES: usize = 256 * 1024;

/// Whom a connection leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Number and name, when they are known: the peer must be that one.
    pub member: Option<(u64, String)>,
    /// `HOST:PORT`.
    pub address: String,
}

impl Target {
    /// A member.
    pub fn member(id: u64, member: &Member) -> Target {
        Target {
            member: Some((id, member.name.clone())),
            address: member.address.clone(),
        }
    }
}

type Answer = Result<Bytes, PeerError>;

/// A connection that stands.
pub struct Open {
    outgoing: mpsc::UnboundedSender<Frame>,
    waiting: RefCell<FxHashMap<u64, oneshot::Sender<Answer>>>,
    next_call: Cell<u64>,
    heard: Cell<Instant>,
    closed: Cell<bool>,
    room: Arc<Semaphore>,
}

/// An answer on its way; while it is, its request's share of the room is taken.
pub struct Pending {
    answer: oneshot::Receiver<Answer>,
    _room: OwnedSemaphorePermit,
}

impl Pending {
    /// Waits for it.
    pub async fn answer(self) -> Answer {
        self.answer.await.unwrap_or(Err(PeerError::Lost))
    }
}

impl Open {
    /// Sends a request once there is room for it. Requests leave in the order of these calls.
    pub async fn send(&self, kind: u8, stream: u32, payload: Bytes) -> Result<Pending, PeerError> {
        let bytes = payload.len().clamp(1, OUTGOING_BYTES_MAX) as u32;
        let room = self.room.clone().acquire_many_owned(bytes).await;
        let room = room.map_err(|_| PeerError::Lost)?;
        if self.closed.get() {
            return Err(PeerError::Unreachable("the connection was lost".to_owned()));
        }
        let call = self.next_call.get();
        self.next_call.set((call + 1) & u64::from(u32::MAX));
        let call = (u64::from(stream) << 32) | call;
        let (tell, answer) = oneshot::channel();
        self.waiting.borrow_mut().insert(call, tell);
        if self.waiting.borrow().len() == 1 {
            self.heard.set(Instant::now());
        }
        let _gone = self.outgoing.send(Frame { kind, call, payload });
        Ok(Pending { answer, _room: room })
    }

    fn heard(&self, frame: Frame) {
        self.heard.set(Instant::now());
        let answer = match frame.kind {
            kind::ANSWER => Ok(frame.payload),
            kind::REFUSED => {
                Err(frame::decode::<Refusal>(&frame.payload).map_or(PeerError::Malformed, PeerError::Refused))
            }
            // Still working.
            _ => return,
        };
        if let Some(waiting) = self.waiting.borrow_mut().remove(&frame.call) {
            // Who asked may have given up.
            let _gone = waiting.send(answer);
        }
    }

    fn close(&self) {
        self.closed.set(true);
        self.room.close();
        for (_, waiting) in self.waiting.borrow_mut().drain() {
            let _gone = waiting.send(Err(PeerError::Lost));
        }
    }

    fn is_silent(&self) -> bool {
        !self.waiting.borrow().is_empty() && self.heard.get().elapsed() > SILENCE_MAX
    }
}

/// A connection, or the will to make one.
pub struct Link {
    local: Rc<Local>,
    target: Target,
    purpose: Purpose,
    open: tokio::sync::Mutex<Option<Rc<Open>>>,
    streams: Cell<u32>,
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(open) = self.open.get_mut().take() {
            open.close();
        }
    }
}

impl Link {
    /// Not connected yet.
    pub fn new(local: Rc<Local>, target: Target, purpose: Purpose) -> Link {
        Link {
            local,
            target,
            purpose,
            open: tokio::sync::Mutex::default(),
            streams: Cell::new(0),
        }
    }

    /// Where it leads.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// A number for a stream of appends on this link; the peer takes up a new one with each.
    pub fn next_stream(&self) -> u32 {
        self.streams.set(self.streams.get().wrapping_add(1).max(1));
        self.streams.get()
    }

    /// The connection, made now if need be.
    pub async fn open(&self) -> Result<Rc<Open>, PeerError> {
        let mut current = self.open.lock().await;
        if let Some(open) = current.as_ref().filter(|open| !open.closed.get()) {
            return Ok(open.clone());
        }
        let open = match tokio::time::timeout(CONNECT_MAX + HANDSHAKE_MAX, self.connect()).await {
            Ok(open) => open?,
            Err(_) => return Err(PeerError::Unreachable("it does not answer".to_owned())),
        };
        *current = Some(open.clone());
        Ok(open)
    }

    /// Asks and waits at most so long, connecting included.
    pub async fn call(&self, kind: u8, payload: Bytes, limit: Duration) -> Answer {
        let deadline = tokio::time::Instant::now() + limit;
        let open = match tokio::time::timeout_at(deadline, self.open()).await {
            Ok(open) => open?,
            Err(_) => return Err(PeerError::Unreachable("no connection in time".to_owned())),
        };
        let pending = match tokio::time::timeout_at(deadline, open.send(kind, 0, payload)).await {
            Ok(pending) => pending?,
            Err(_) => return Err(PeerError::Unreachable("too much waits for it".to_owned())),
        };
        match tokio::time::timeout_at(deadline, pending.answer()).await {
            Ok(answer) => answer,
            Err(_) => Err(PeerError::TimedOut),
        }
    }

    async fn connect(&self) -> Result<Rc<Open>, PeerError> {
        let unreachable = |cause: io::Error| PeerError::Unreachable(cause.to_string());
        let mut socket = match tokio::time::timeout(CONNECT_MAX, TcpStream::connect(&self.target.address)).await {
            Ok(socket) => socket.map_err(unreachable)?,
            Err(_) => return Err(PeerError::Unreachable("it does not answer".to_owned())),
        };
        super::keep_alive(&socket).map_err(unreachable)?;
        socket
            .write_all(&frame::preamble(self.purpose))
            .await
            .map_err(unreachable)?;
        // The name in the handshake plays no part: whose the certificate is, is compared with the hello.
        let name = ServerName::try_from("vertebra").expect("a DNS name");
        let mut tls = TlsConnector::from(self.local.tls.client())
            .connect(name, socket)
            .await
            .map_err(unreachable)?;
        let certificate = tls.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
        let payload = self.local.hello().encode();
        let (kind, call) = (kind::HELLO, 0);
        send_now(&mut tls, &Frame { kind, call, payload })
            .await
            .map_err(unreachable)?;
        let answer = frame::read(&mut tls, FRAME_BYTES_MAX).await.map_err(unreachable)?;
        let answer = answer.ok_or_else(|| PeerError::Unreachable("it hung up at the hello".to_owned()))?;
        if answer.kind == kind::REFUSED {
            return Err(frame::decode::<Refusal>(&answer.payload).map_or(PeerError::Malformed, PeerError::Refused));
        }
        let peer = Hello::decode(&answer.payload).map_err(|_| PeerError::Malformed)?;
        let named = certificate.is_some_and(|certificate| is_named(&certificate, &peer.name));
        if !named || !self.is_meant(&peer) {
            let what = format!("whoever is at {} is not the member that was meant", self.target.address);
            return Err(PeerError::Refused(Refusal::Said(what)));
        }
        if let Some(why) = self.local.stranger(&peer) {
            return Err(PeerError::Refused(Refusal::Said(why)));
        }
        Ok(start(tls))
    }

    fn is_meant(&self, peer: &Hello) -> bool {
        self.target
            .member
            .as_ref()
            .is_none_or(|(id, name)| *id == peer.node && (name.is_empty() || *name == peer.name))
    }
}

/// Writes one frame and flushes.
pub async fn send_now(to: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> io::Result<()> {
    to.write_all(&frame.header()).await?;
    to.write_all(&frame.payload).await?;
    to.flush().await
}

/// Starts the tasks of a connection that stands.
fn start(tls: tokio_rustls::client::TlsStream<TcpStream>) -> Rc<Open> {
    let (outgoing, frames) = mpsc::unbounded_channel();
    let open = Rc::new(Open {
        outgoing,
        waiting: RefCell::default(),
        next_call: Cell::new(1),
        heard: Cell::new(Instant::now()),
        closed: Cell::new(false),
        room: Arc::new(Semaphore::new(OUTGOING_BYTES_MAX)),
    });
    let (reader, writer) = tokio::io::split(tls);
    let reading = Rc::downgrade(&open);
    tokio::task::spawn_local(async move {
        let mut reader = BufReader::with_capacity(READ_BYTES, reader);
        let writing = tokio::task::spawn_local(write(writer, frames));
        let mut look = tokio::time::interval(SILENCE_MAX / 6);
        loop {
            let next = next_frame(&mut reader, &mut look, &reading).await;
            match (reading.upgrade(), next) {
                (Some(open), Some(frame)) => open.heard(frame),
                (open, _) => {
                    if let Some(open) = open {
                        open.close();
                    }
                    writing.abort();
                    return;
                }
            }
        }
    });
    open
}

/// The next frame; `None` when the connection ended, was silent too long or is no longer wanted.
async fn next_frame(
    reader: &mut (impl AsyncRead + Unpin),
    look: &mut tokio::time::Interval,
    open: &std::rc::Weak<Open>,
) -> Option<Frame> {
    let reading = frame::read(reader, FRAME_BYTES_MAX);
    tokio::pin!(reading);
    loop {
        tokio::select! {
            frame = &mut reading => return frame.ok().flatten(),
            _ = look.tick() => {
                if open.upgrade().is_none_or(|open| open.closed.get() || open.is_silent()) {
                    return None;
                }
            }
        }
    }
}

/// Writes what comes, together what waits together.
pub async fn write(mut to: impl AsyncWrite + Unpin, mut frames: mpsc::UnboundedReceiver<Frame>) -> io::Result<()> {
    let mut gathered = Vec::with_capacity(4096);
    while let Some(frame) = frames.recv().await {
        let mut next = Some(frame);
        while let Some(frame) = next.take() {
            gathered.extend_from_slice(&frame.header());
            if frame.payload.len() < WRITE_BYTES / 4 {
                gathered.extend_from_slice(&frame.payload);
            } else {
                to.write_all(&gathered).await?;
                gathered.clear();
                to.write_all(&frame.payload).await?;
            }
            if gathered.len() < WRITE_BYTES {
                next = frames.try_recv().ok();
            }
        }
        to.write_all(&gathered).await?;
        gathered.clear();
        to.flush().await?;
    }
    to.shutdown().await
}
